/*
 * consumer.h: what the files about consumers know of each other.
 */
#ifndef IMMUTABLE_EVENTS_CONSUMER_H
#define IMMUTABLE_EVENTS_CONSUMER_H

#include "read_log.h"

/* A row of immutable.consumers. */
typedef struct IeConsumer
{
	text	   *name;
	Oid			log;
	ArrayType  *types;
	text	   *prefix;
	int32		shards;
	int32		max_deliveries;
} IeConsumer;

/* A row of immutable.consumer_shards. */
typedef struct IeShard
{
	bool		found;
	int32		shard;
	int64		position;
	int64		done;			/* of what was handed out or of the backlog */
	int64		delivered;
	int64		scanned;
	text	   *backlog;
	text	   *token;			/* of a lease that is not over, or NULL */
} IeShard;

/* A batch that this backend was handed. */
typedef struct IeBatch
{
	int32		shard;
	bool		leased;
	int64		done;			/* up to here */
	int64		delivered;
	int64		scanned;
	char	   *backlog;		/* the stream it is of, if only one */
	char	   *token;
} IeBatch;

/* consumer.c: the registry of consumers */

extern IeConsumer ie_find_consumer(text *name);
extern IeShard ie_read_shard(text *name, int32 shard, const char *token);
extern void ie_check_interval(const Interval *value, const char *name,
							  bool positive);
extern void *ie_keep_varlena(Datum value);
extern text *ie_required_text(FunctionCallInfo fcinfo, int argno,
							  const char *name);

/* aside.c: streams that are set aside */

extern ArrayType *ie_set_aside(text *name, int32 shard);
extern text *ie_stream_to_take_back(text *name, const IeShard *shard,
									int64 *from);
extern void ie_rejoin(text *name, text *stream);
extern void ie_begin_batch(text *name, int32 shard);

/* lease.c: who holds a shard */

extern bool ie_hold_shard(const IeConsumer *consumer, int32 shard, bool wait);
extern void ie_let_go_shard(const IeConsumer *consumer, int32 shard);
extern char *ie_new_token(void);
extern void ie_keep_batch(text *name, const IeBatch *batch);
extern const IeBatch *ie_kept_batch(text *name);
extern void ie_drop_batch(text *name);
extern const char *ie_kept_token(text *name);

#endif							/* IMMUTABLE_EVENTS_CONSUMER_H */
