/*
 * append.h: what the files that write events know of each other.
 */
#ifndef IMMUTABLE_EVENTS_APPEND_H
#define IMMUTABLE_EVENTS_APPEND_H

#include "log.h"

/* stream_lock.c: the lock under which the head of a stream is read */

/* Modes of the lock; each keeps out whoever asks for either. */
#define IE_DECIDING	ShareRowExclusiveLock
#define IE_WRITING	ExclusiveLock

extern void ie_lock_stream(IeTarget *target, const text *stream,
						   LOCKMODE lockmode);
extern void ie_unlock_stream(IeTarget *target, const text *stream);
extern bool ie_is_writing(Oid log, const VirtualTransactionId *writers,
						  int count);

/* head.c: the newest event of a stream */

/* A stream's newest event, or the one with a given id. */
typedef struct IeHead
{
	int64		version;		/* 0: there is none */
	int64		position;
	TimestampTz recorded_at;
	pg_uuid_t	id;
	bool		same_stream;	/* as the one that was asked for */
	bool		unseen;			/* by a serializable transaction's snapshot */
	TransactionId writer;		/* in progress: wait for it, ask again */
} IeHead;

extern int64 ie_highest_position(Relation log);
extern IeHead ie_read_head(const IeTarget *target, const text *stream);
extern bool ie_is_unseen(Relation rel, TupleTableSlot *slot);
extern bool ie_has_unseen(const IeTarget *target, const text *stream);
extern void ie_refuse_unseen(Relation log);
extern const char *ie_stored_difference(const IeTarget *target,
										const IeEvent *event);
extern IeHead ie_find_ids(const IeTarget *target, const IeNewEvents *batch,
						  int *which);
extern IeHead ie_stored_run(const IeTarget *target, const IeNewEvents *batch,
							int64 from_version);

/* own_heads.c: the streams that this transaction has appended to */

extern bool ie_own_head(const IeTarget *target, const text *stream,
						IeHead *head);
extern void ie_forget_own_heads(void);
extern void ie_note_own_head(const IeTarget *target, const text *stream,
							 const IeHead *head);

/* new_events.c: the events that a caller hands in */

extern IeNewEvents ie_new_event(FunctionCallInfo fcinfo);
extern IeNewEvents ie_new_events_from_array(text *stream, ArrayType *array);
extern IeNewEvents ie_new_events_from_json(text *stream, Jsonb *array);

/* insert.c: events into the table, directly or through the planner */

extern void ie_insert(IeTarget *target, const IeNewEvents *batch);

/* append.c: new events to the end of their stream */

/* What append answers: immutable.appended. */
typedef struct IeAppended
{
	int64		version;
	int64		position;
	int32		written;
} IeAppended;

extern void ie_forbid_read_only(const char *function);
extern IeTarget ie_open_to_append(Oid log, const text *stream);
extern IeHead ie_lock_head(IeTarget *target, const text *stream,
						   LOCKMODE lockmode);
extern IeAppended ie_append_decided(IeTarget *target, IeNewEvents *batch,
									const IeHead *head);
extern Datum ie_appended_record(FunctionCallInfo fcinfo, IeAppended result);

#endif							/* IMMUTABLE_EVENTS_APPEND_H */
