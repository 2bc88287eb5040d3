/*
 * read_log.h: the events of a log, in order of position.
 */
#ifndef IMMUTABLE_EVENTS_READ_LOG_H
#define IMMUTABLE_EVENTS_READ_LOG_H

#include "immutable_events.h"

/* Positions, rising. */
typedef struct IePositions
{
	int64	   *positions;
	uint64		count;
} IePositions;

extern bool ie_has_position(const IePositions *positions, int64 position);

/* Which events of a log are read. */
typedef struct IeSelection
{
	int64		after;			/* positions, exclusive and inclusive */
	int64		upto;
	int64		max_events;
	ArrayType  *types;			/* NULL: all */
	text	   *prefix;			/* of the stream's name; NULL: any */
	int32		shards;			/* 0: all streams, else those of one shard */
	int32		shard;
	ArrayType  *without;		/* streams that are set aside, or NULL */
	text	   *stream;			/* this one only, or NULL */
	const IePositions *as_recorded; /* not to be upcast; NULL: none */
} IeSelection;

typedef void (*IeTakeEvent) (TupleTableSlot *event, void *state);

extern void ie_select_events(Relation log, const IeSelection *selection,
							 Snapshot snapshot, Tuplestorestate *store);
extern void ie_take_events(Relation log, const IeSelection *selection,
						   Snapshot snapshot, IeTakeEvent take, void *state);

#endif							/* IMMUTABLE_EVENTS_READ_LOG_H */
