/*
 * log.h: a log, its positions, and how its events are read.
 */
#ifndef IMMUTABLE_EVENTS_LOG_H
#define IMMUTABLE_EVENTS_LOG_H

#include "immutable_events.h"

/* log.c: cached facts of a log */

typedef struct IeLog
{
	Oid			relid;			/* a log, or a leaf of one; the hash key */
	bool		valid;
	bool		is_log;			/* or a leaf of one */
	bool		guards_only;	/* no trigger but our guards */
	bool		row_guards_only;	/* no row trigger but our guards */
	Oid			sequence;		/* draws positions; not set in a leaf */
	int64		floor;			/* no position may be drawn up to here; 0: ask */
	Oid			version_index;	/* unique (stream, version) */
	Oid			id_index;		/* unique (id) or (stream, id), if any */
	bool		id_by_stream;	/* id_index begins with stream */
	const char *problem;		/* why append must refuse, or NULL */
	const char *remedy;			/* what the user can do about it */
	uint32		guard_hash;		/* syscache hash of the guard function */
	SPIPlanPtr	insert_one;		/* for logs the planner must write to */
	SPIPlanPtr	insert_many;
	char	   *insert_name;	/* the log's name when they were prepared */
} IeLog;

/* Where a stream's events are: the log itself, or one leaf of it. */
typedef struct IeTarget
{
	Relation	log;			/* what the user named */
	Relation	rel;			/* where the stream's rows are; may be log */
	IeLog	   *root;
	IeLog	   *facts;			/* of rel */
	LOCKMODE	lockmode;		/* of the stream, by ie_lock_stream */
} IeTarget;

extern IeTarget ie_open_log(Oid relid, const text *stream, LOCKMODE lockmode);
extern IeTarget ie_open_whole_log(Oid relid, LOCKMODE lockmode);
extern IeTarget ie_open_own_log(Oid relid, LOCKMODE lockmode);
extern IeTarget ie_open_ordered(Oid relid, LOCKMODE lockmode);
extern bool ie_is_btree_on(Relation index, int column);
extern Oid	ie_position_index(Relation rel, bool missing_ok);
extern Oid	ie_version_index(Relation log, Relation rel);
extern uint64 ie_log_changes(void);
extern void ie_close_log(IeTarget *target);
extern bool ie_row_security(Relation log);

/* position.c: positions, drawn from a log's sequence */

extern int64 ie_next_position(Oid sequence);
extern void ie_note_own_position(Oid sequence, int64 position);
extern int64 ie_own_first_position(Oid sequence);

/* recorded.c: positions that were recorded as safe to have read up to */

extern int64 ie_recorded_position(Oid log, Snapshot snapshot);
extern int64 ie_persisted_position(Oid log, Snapshot snapshot);
extern void ie_lock_registry(const char *table, LOCKMODE lockmode);
extern void ie_record_position(Oid log, int64 position);
extern void ie_forget_log(Oid log);

/* position_scan.c: a look at the rows of a log in order of position */

typedef bool (*IePositionTest) (struct IndexScanDescData *scan,
								TupleTableSlot *slot, ItemPointer tid,
								void *state);

extern int64 ie_first_position(Relation log, int64 after, int64 upto,
							   Snapshot snapshot, IePositionTest test,
							   void *state);

/* horizon.c: how far a log is decided */

extern int64 ie_decided_position(Relation log, Oid sequence);
extern void ie_nap(int milliseconds);
extern int64 ie_remembered_position(Oid sequence);
extern bool ie_import_runs(Oid sequence);

/* fit.c: how far a given snapshot shows a log without a gap */

extern int64 ie_fit_to_snapshot(Relation log, Oid sequence, int64 decided,
								Snapshot snapshot);

/* safe_position.c: up to which position a log may be read in order */

extern int64 ie_told_position(const IeTarget *target, Snapshot snapshot);
extern int64 ie_readable_position(const IeTarget *target, Snapshot *snapshot);

/* read.c: the events of one stream, in order of version */

typedef struct IeStreamScan IeStreamScan;

extern IeStreamScan *ie_scan_stream(const IeTarget *target,
									const text *stream, int64 from_version,
									int64 to_version, bool backward);
extern TupleTableSlot *ie_scan_next(IeStreamScan *scan);
extern void ie_scan_end(IeStreamScan *scan);

#endif							/* IMMUTABLE_EVENTS_LOG_H */
