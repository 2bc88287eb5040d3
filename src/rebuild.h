/*
 * rebuild.h: what the files about folding a projection anew know of each other.
 */
#ifndef IMMUTABLE_EVENTS_REBUILD_H
#define IMMUTABLE_EVENTS_REBUILD_H

#include "projection.h"
#include "replay_all.h"

#include "port/atomics.h"

/* bulk_fold.c: the rows of a read model, folded from the first event on */

/* Processes that share the keys of a fold; in shared memory. */
typedef struct IeShares
{
	int			count;
	pg_atomic_uint64 gone_over;	/* events, by all of them */
} IeShares;

typedef struct IeBulkFold IeBulkFold;

extern IeBulkFold *ie_bulk_fold_begin(IeProjection *projection,
									  Snapshot snapshot, int64 upto,
									  bool keep_initial, IeShares *shares,
									  int share);
extern bool ie_bulk_fold_pass(IeBulkFold *fold);
extern IeKeyState *ie_bulk_fold_next(IeBulkFold *fold);
extern HeapTupleHeader ie_folded_row(const IeBulkFold *fold,
									 const IeKeyState *row);
extern void ie_bulk_fold_range(const IeBulkFold *fold, IeHash *from,
							   IeHash *end);
extern Size ie_bulk_fold_limit(const IeBulkFold *fold);
extern uint32 ie_bulk_fold_hash(const IeBulkFold *fold, const Datum *key);
extern IeKeyState *ie_bulk_fold_find(IeBulkFold *fold, const Datum *key,
									 uint32 hash);
extern void ie_tell_shares(IeShares *shares);
extern void ie_bulk_fold_end(IeBulkFold *fold);

/* parallel_fold.c: the same by several processes */

typedef struct IeFolding IeFolding;

extern IeFolding *ie_folding_begin(IeProjection *projection, Oid reducer,
								   Snapshot snapshot, int64 upto);
extern HeapTupleHeader ie_folding_next(IeFolding *folding);
extern void ie_folding_end(IeFolding *folding);

/* parallel_safety.c: may a projection be folded by several processes? */

extern bool ie_is_parallel_safe(IeProjection *projection);

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
extern void ie_progress_done(int64 events);
extern void ie_progress_add(int64 events);
extern void ie_progress_end(void);

/* shadow.c: the table that a projection is folded into anew */

extern Oid	ie_create_shadow(IeProjection *projection, bool lasting);
extern void ie_shadow_enter(Oid owner, IeCaller *caller);
extern void ie_fill_shadow(IeProjection *projection, Oid shadow,
						   IeFolding *folding);

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
