/*
 * replay_all.h: what the files of replay_all know of each other.
 */
#ifndef IMMUTABLE_EVENTS_REPLAY_ALL_H
#define IMMUTABLE_EVENTS_REPLAY_ALL_H

#include "read_log.h"
#include "states.h"

/* Which events are read. */
typedef struct IeEventFilter
{
	int64		upto_position;
	TimestampTz as_of;
	text	   *prefix;			/* of the stream's name; NULL: any */
	bool		all_types;
	int			ntypes;
	text	  **types;
	const IePositions *skipped; /* left out unseen by upcasters; NULL: none */
} IeEventFilter;

/* A scan of a log's events, and the one that it stands on. */
typedef struct IeEventScan
{
	const IeEventFilter *filter;
	Snapshot	snapshot;
	MemoryContext context;		/* of what is made for one event */
	struct IeUpcasts *upcasts;
	TupleTableSlot *slot;		/* the event */
	text	   *stream;			/* of it, valid as long as the slot */
	uint32		hash;
	int64		version;
	Relation	rel;			/* a scan of an index ... */
	Relation	index;
	struct IndexScanDescData *scan;
	TupleTableSlot *row;
	bool		by_stream;
	bool		index_only;
	bool		beyond;			/* the last stream with the prefix */
	uint64		rows_read;
	struct IeRows *rows;		/* ... or a query's rows */
} IeEventScan;

/* event_scan.c: events by position or by stream, from an index or a query */

extern List *ie_event_tables(Relation log);
extern void ie_filter_types(IeEventFilter *filter, ArrayType *types);
extern uint32 ie_hash_stream(const text *stream);
extern IeEventScan *ie_scan_by_position(Oid relid, const IeEventFilter *filter,
										Snapshot snapshot);
extern IeEventScan *ie_scan_by_stream(Oid relid, const IeEventFilter *filter,
									  Snapshot snapshot);
extern IeEventScan *ie_scan_visible(Relation log, const IeEventFilter *filter,
									Snapshot snapshot);
extern IeEventScan *ie_scan_in_order(Relation log, const IeEventFilter *filter,
									 Snapshot snapshot);
extern bool ie_prefix_is_rare(Oid relid, const IeEventFilter *filter,
							  Snapshot snapshot, double most);
extern bool ie_event_next(IeEventScan *scan);
extern void ie_event_scan_end(IeEventScan *scan);

/* scan_cost.c: which way to read a table costs less */

extern bool ie_prefix_is_cheaper(Oid relid, const IeEventFilter *filter,
								 Snapshot snapshot);

/* rows.c: the rows of a query, one at a time, for as long as the caller is */

typedef struct IeRows IeRows;

extern IeRows *ie_rows_begin(const char *query, Snapshot snapshot);
extern TupleTableSlot *ie_rows_next(IeRows *rows);
extern void ie_rows_end(IeRows *rows);

#endif							/* IMMUTABLE_EVENTS_REPLAY_ALL_H */
