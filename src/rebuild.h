/*
 * rebuild.h: what the files about folding a projection anew know of each other.
 */
#ifndef IMMUTABLE_EVENTS_REBUILD_H
#define IMMUTABLE_EVENTS_REBUILD_H

#include "projection.h"

/* folded_rows.c: the rows that are being folded, by key, in limited memory */

/* Hash values of keys, with one that is above them all. */
typedef uint64 IeHash;

#define IE_HASH_END		(UINT64CONST(1) << 32)

/* A row, and what it is folded from. */
typedef struct IeFoldedRow
{
	Datum	   *key;
	int64		position;		/* of its last event */
	bool		seen;			/* for the caller's use */
	HeapTupleHeader initial;	/* the row it began with, or NULL */
	IeState		state;			/* NULL: there is no such row */
} IeFoldedRow;

typedef struct IeFoldedRows IeFoldedRows;

extern IeFoldedRows *ie_folded_create(IeProjection *projection,
									  bool keep_initial);
extern uint32 ie_folded_hash(const IeFoldedRows *rows, const Datum *key);
extern IeFoldedRow *ie_folded_find(IeFoldedRows *rows, const Datum *key,
								   uint32 hash);
extern IeFoldedRow *ie_folded_begin(IeFoldedRows *rows, const Datum *key,
									uint32 hash);
extern IeHash ie_folded_fit(IeFoldedRows *rows, IeHash end);
extern void ie_folded_rewind(IeFoldedRows *rows);
extern IeFoldedRow *ie_folded_next(IeFoldedRows *rows);
extern void ie_folded_reset(IeFoldedRows *rows);
extern void ie_folded_free(IeFoldedRows *rows);

/* bulk_fold.c: the rows of a read model, folded from the first event on */

typedef struct IeBulkFold IeBulkFold;

extern IeBulkFold *ie_bulk_fold_begin(IeProjection *projection,
									  Snapshot snapshot, int64 upto,
									  bool keep_initial);
extern bool ie_bulk_fold_pass(IeBulkFold *fold);
extern IeFoldedRow *ie_bulk_fold_next(IeBulkFold *fold);
extern HeapTupleHeader ie_folded_row(const IeBulkFold *fold,
									 const IeFoldedRow *row);
extern bool ie_bulk_fold_find(IeBulkFold *fold, const Datum *key,
							  IeFoldedRow **row);
extern void ie_bulk_fold_end(IeBulkFold *fold);

/* rebuild_progress.c: how far this backend's rebuild has come */

typedef enum IeRebuildPhase
{
	IE_REBUILD_NONE,
	IE_REBUILD_FOLDING,
	IE_REBUILD_INDEXING,
	IE_REBUILD_CATCHING_UP,
	IE_REBUILD_WAITING,
	IE_REBUILD_APPLYING,
	IE_REBUILD_EXCHANGING
} IeRebuildPhase;

#define IE_LOCK_REBUILD	12		/* beside that of projections */

extern void ie_progress_begin(Oid target, const char *name);
extern void ie_progress_phase(IeRebuildPhase phase);
extern void ie_progress_total(double events);
extern void ie_progress_add(int64 events);
extern void ie_progress_end(void);

/* shadow.c: the table that a projection is folded into anew */

extern Oid	ie_find_shadow(Oid target);
extern Oid	ie_create_shadow(IeProjection *projection, bool lasting);
extern void ie_shadow_enter(Oid owner, IeCaller *caller);
extern void ie_drop_shadow(Oid shadow);
extern void ie_fill_shadow(IeProjection *projection, Oid shadow,
						   IeBulkFold *fold);

/* shadow_index.c: the indexes of a shadow table */

/* An index of a read model, and the same index of its shadow. */
typedef struct IeIndexPair
{
	Oid			index;
	Oid			twin;
} IeIndexPair;

extern List *ie_index_shadow(Oid target, Oid shadow, bool all);

/* difference.c: make a read model equal to its shadow, row by row */

extern bool ie_is_referenced(Oid relid);
extern int64 ie_apply_difference(IeProjection *projection, Oid shadow);

/* exchange.c: let a read model and its shadow change storage */

extern void ie_check_exchange(Oid target);
extern void ie_exchange_storage(Oid target, Oid shadow, List *pairs);

/* rebuild_steps.c: what the transactions of a rebuild do */

typedef struct IeRebuild
{
	Oid			target;
	char	   *name;			/* of the read model */
	Oid			reducer;		/* InvalidOid: the one it has */
	Oid			function;		/* the one that is folded with */
	bool		swap;
	Oid			shadow;
	List	   *indexes;		/* IeIndexPairs */
	char	   *identity;		/* what must not change meanwhile */
	int64		position;		/* folded up to here */
	int64		left;			/* events of the last round */
	bool		locking;		/* a lock may not come in time */
	IeProjection *projection;	/* of this transaction */
	MemoryContext context;		/* of all this */
} IeRebuild;

extern void ie_rebuild_begin(IeRebuild *rebuild);
extern void ie_rebuild_fold(IeRebuild *rebuild);
extern void ie_rebuild_catch_up(IeRebuild *rebuild);
extern void ie_rebuild_finish(IeRebuild *rebuild);
extern void ie_rebuild_close(IeRebuild *rebuild);

#endif							/* IMMUTABLE_EVENTS_REBUILD_H */
