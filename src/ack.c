/*
 * ack.c: what became of the events that were polled.
 *
 * Who polled in this transaction may acknowledge in it, who holds a lease as
 * long as it stands in the registry: a lease that has expired is lost once
 * another poll has taken the shard over.
 */
#include "consumer.h"
#include "log.h"

#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

/* In nack: an earlier event of the stream has failed in this batch already. */
#define LATER "(s.nacked AND s.position OPERATOR(pg_catalog.<=) excluded.position)"

/* In nack: how often this event has failed now. */
#define COUNTED "(CASE WHEN s.position OPERATOR(pg_catalog.=) excluded.position" \
	" THEN s.deliveries OPERATOR(pg_catalog.+) 1 ELSE 1 END)"

static IeBatch held_batch(const IeConsumer *consumer);
static void check_range(const IeBatch *batch, int64 position, bool event);
static void finish(text *name, const IeBatch *batch, int64 position);
static int64 done_since(text *name, const IeBatch *batch);
static void receive_position(void *state);
static void move_streams(text *name, const IeBatch *batch, int64 position);
static void move_cursor(text *name, const IeBatch *batch, int64 position,
						bool over);
static void touch_shard(text *name, const IeBatch *batch);
static text *stream_at(const IeConsumer *consumer, const IeBatch *batch,
					   int64 position);
pg_noreturn static void refuse_event(int64 position);

PG_FUNCTION_INFO_V1(ie_ack);
PG_FUNCTION_INFO_V1(ie_nack);
PG_FUNCTION_INFO_V1(ie_renew);

/* The events up to a position are done. */
Datum
ie_ack(PG_FUNCTION_ARGS)
{
	text	   *name = ie_required_text(fcinfo, 0, "consumer");
	IeConsumer	consumer;
	IeBatch		batch;

	ie_require_arg(fcinfo, 1, "upto_position");
	consumer = ie_find_consumer(name);
	batch = held_batch(&consumer);
	check_range(&batch, PG_GETARG_INT64(1), false);
	finish(name, &batch, PG_GETARG_INT64(1));
	PG_RETURN_VOID();
}

/*
 * The batch that the caller holds, by his transaction or by a lease. What is
 * done of it stands in the registry, so that a rollback undoes it.
 */
static IeBatch
held_batch(const IeConsumer *consumer)
{
	text	   *name = consumer->name;
	const IeBatch *own = ie_kept_batch(name);
	const char *token = ie_kept_token(name);
	IeShard		shard = {0};
	IeBatch		batch;

	if (own != NULL)
	{
		batch = *own;
		batch.done = Max(batch.done, done_since(name, own));
		return batch;
	}
	if (token != NULL)
		shard = ie_read_shard(name, 0, token);
	if (shard.found)
	{
		/* after whoever has taken the shard over within a transaction */
		(void) ie_hold_shard(consumer, shard.shard, true);
		shard = ie_read_shard(name, 0, token);
	}
	if (!shard.found)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("nothing is held of consumer \"%s\"", text_to_cstring(name)),
				 errdetail("No poll of this transaction or session is open, or its lease was taken over."),
				 errhint("Poll again; behind a pooler, set immutable.lease to the token in immutable.consumer_status.")));
	batch = (IeBatch) {
		.shard = shard.shard, .leased = true, .done = shard.done,
			.delivered = shard.delivered, .scanned = shard.scanned,
			.token = pstrdup(token)
	};
	if (shard.backlog != NULL)
		batch.backlog = text_to_cstring(shard.backlog);
	return batch;
}

/* Up to where a batch without a lease is done, by the registry. */
static int64
done_since(text *name, const IeBatch *batch)
{
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[] = {PointerGetDatum(name), (Datum) 0};
	int64		done = 0;

	if (batch->backlog == NULL)
		return ie_read_shard(name, batch->shard, NULL).position;
	values[1] = CStringGetTextDatum(batch->backlog);
	ie_registry_query("SELECT from_position OPERATOR(pg_catalog.-) 1"
					  " FROM immutable.consumer_streams"
					  " WHERE consumer OPERATOR(pg_catalog.=) $1"
					  " AND stream OPERATOR(pg_catalog.=) $2",
					  2, types, values, NULL, receive_position, &done);
	return done;
}

/* Take a position from the row that was found, if there is one. */
static void
receive_position(void *state)
{
	bool		isnull;

	if (SPI_processed > 0)
		*(int64 *) state = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
													   SPI_tuptable->tupdesc, 1, &isnull));
}

/* Refuse a position that was done with before, or was not polled. */
static void
check_range(const IeBatch *batch, int64 position, bool event)
{
	if (position >= batch->done + (event ? 1 : 0) &&
		position <= (event ? batch->delivered : batch->scanned))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("position " INT64_FORMAT " is not among what was polled", position),
			 errdetail("Everything up to " INT64_FORMAT " is done, and " INT64_FORMAT " is the last event that was handed out.",
					   batch->done, batch->delivered),
			 errhint("Give the position of an event that poll returned and that is not done yet.")));
}

/* Move on; when all that was handed out is done, the lease is over. */
static void
finish(text *name, const IeBatch *batch, int64 position)
{
	bool		over = position >= batch->delivered;

	if (over)
		position = batch->scanned;
	move_streams(name, batch, position);
	move_cursor(name, batch, position, over);
}

/*
 * Streams of the batch that are set aside go on from here: the one that the
 * batch is of, and those that have failed in it, which go on from the failed
 * event at the latest.
 */
static void
move_streams(text *name, const IeBatch *batch, int64 position)
{
	Oid			types[] = {TEXTOID, INT4OID, TEXTOID, INT8OID};
	Datum		values[] = {PointerGetDatum(name), Int32GetDatum(batch->shard),
	(Datum) 0, Int64GetDatum(position)};

	if (batch->backlog != NULL)
		values[2] = CStringGetTextDatum(batch->backlog);
	ie_registry_query("UPDATE immutable.consumer_streams SET"
					  " from_position = greatest(from_position, CASE WHEN nacked"
					  " THEN least($4 OPERATOR(pg_catalog.+) 1, position)"
					  " ELSE $4 OPERATOR(pg_catalog.+) 1 END),"
					  " deliveries = CASE WHEN NOT nacked AND position OPERATOR(pg_catalog.<=) $4"
					  " THEN 0 ELSE deliveries END"
					  " WHERE consumer OPERATOR(pg_catalog.=) $1 AND shard OPERATOR(pg_catalog.=) $2"
					  " AND (nacked OR stream OPERATOR(pg_catalog.=) $3)",
					  4, types, values, batch->backlog == NULL ? "  n " : NULL,
					  NULL, NULL);
}

/* The cursor goes on, unless the batch was of what it has passed. */
static void
move_cursor(text *name, const IeBatch *batch, int64 position, bool over)
{
	Oid			types[] = {TEXTOID, INT4OID, INT8OID, BOOLOID};
	Datum		values[] = {PointerGetDatum(name), Int32GetDatum(batch->shard),
		Int64GetDatum(batch->backlog != NULL ? 0 : position),
	BoolGetDatum(over)};

	if (ie_registry_query("UPDATE immutable.consumer_shards SET"
						  " position = greatest(position, $3),"
						  " lease_token = CASE WHEN NOT $4 THEN lease_token END,"
						  " lease_until = CASE WHEN NOT $4 THEN lease_until END,"
						  " holder = CASE WHEN NOT $4 THEN holder END,"
						  " holder_pid = CASE WHEN NOT $4 THEN holder_pid END,"
						  " polled_at = CASE WHEN lease_token IS NULL THEN pg_catalog.clock_timestamp() ELSE polled_at END"
						  " WHERE consumer OPERATOR(pg_catalog.=) $1 AND shard OPERATOR(pg_catalog.=) $2",
						  4, types, values, NULL, NULL, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("consumer \"%s\" does not exist", text_to_cstring(name)),
				 errhint("immutable.create_consumer makes one.")));
}

/* An event has failed: set its stream aside; the others go on. */
Datum
ie_nack(PG_FUNCTION_ARGS)
{
	/*
	 * A stream that has failed in this batch stays as it is set aside, unless
	 * an earlier event of it has failed too. One that was set aside before is
	 * not in the batch, unless the batch is of it.
	 */
	static const char *const set_aside =
		"INSERT INTO immutable.consumer_streams AS s VALUES"
		" ($1, $2, $3, $4, $5, 1, $6,"
		" pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) $7,"
		" $8 OPERATOR(pg_catalog.<=) 1, true)"
		" ON CONFLICT (consumer, stream) DO UPDATE SET"
		" position = least(s.position, excluded.position),"
		" error = CASE WHEN " LATER " THEN s.error ELSE excluded.error END,"
		" retry_at = CASE WHEN " LATER " THEN s.retry_at ELSE excluded.retry_at END,"
		" deliveries = CASE WHEN " LATER " THEN s.deliveries ELSE " COUNTED " END,"
		" parked = CASE WHEN " LATER " THEN s.parked"
		" ELSE $8 OPERATOR(pg_catalog.<=) " COUNTED " END,"
		" nacked = true"
		" WHERE s.nacked OR s.stream OPERATOR(pg_catalog.=) $9";
	Oid			types[] = {TEXTOID, INT4OID, TEXTOID, INT8OID, INT8OID, TEXTOID,
	INTERVALOID, INT4OID, TEXTOID};
	Datum		values[9];
	text	   *name = ie_required_text(fcinfo, 0, "consumer");
	IeConsumer	consumer;
	IeBatch		batch;

	ie_require_arg(fcinfo, 1, "at_position");
	ie_require_arg(fcinfo, 2, "error");
	ie_require_arg(fcinfo, 3, "retry_after");
	ie_check_interval(PG_GETARG_INTERVAL_P(3), "retry_after", false);
	consumer = ie_find_consumer(name);
	batch = held_batch(&consumer);
	check_range(&batch, PG_GETARG_INT64(1), true);
	touch_shard(name, &batch);
	values[0] = PointerGetDatum(name);
	values[1] = Int32GetDatum(batch.shard);
	values[2] = PointerGetDatum(stream_at(&consumer, &batch, PG_GETARG_INT64(1)));
	values[3] = PG_GETARG_DATUM(1);
	values[4] = Int64GetDatum(batch.done + 1);
	values[5] = PG_GETARG_DATUM(2);
	values[6] = PG_GETARG_DATUM(3);
	values[7] = Int32GetDatum(consumer.max_deliveries);
	values[8] = PointerGetDatum(batch.backlog == NULL ? NULL : cstring_to_text(batch.backlog));
	if (ie_registry_query(set_aside, 9, types, values,
						  batch.backlog == NULL ? "        n" : NULL, NULL, NULL) == 0)
		refuse_event(PG_GETARG_INT64(1));
	PG_RETURN_VOID();
}

/* Fail where another has moved the cursor since this snapshot was taken. */
static void
touch_shard(text *name, const IeBatch *batch)
{
	Oid			types[] = {TEXTOID, INT4OID};
	Datum		values[] = {PointerGetDatum(name), Int32GetDatum(batch->shard)};

	ie_registry_query("UPDATE immutable.consumer_shards"
					  " SET polled_at = pg_catalog.clock_timestamp()"
					  " WHERE consumer OPERATOR(pg_catalog.=) $1"
					  " AND shard OPERATOR(pg_catalog.=) $2",
					  2, types, values, NULL, NULL, NULL);
}

/* The stream of an event of the batch, as the caller may read it. */
static text *
stream_at(const IeConsumer *consumer, const IeBatch *batch, int64 position)
{
	IeTarget	target = ie_open_whole_log(consumer->log, AccessShareLock);
	IeSelection selection = {.after = position - 1, .upto = position,
		.max_events = 1, .types = consumer->types, .prefix = consumer->prefix,
	.shards = consumer->shards, .shard = batch->shard};
	Tuplestorestate *events = tuplestore_begin_heap(false, false, work_mem);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(target.log),
													&TTSOpsMinimalTuple);
	Snapshot	snapshot;
	text	   *stream = NULL;
	bool		isnull;

	if (batch->backlog != NULL)
		selection.stream = cstring_to_text(batch->backlog);
	/* what this command has polled may be newer than its own snapshot */
	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	ie_select_events(target.log, &selection, snapshot, events);
	UnregisterSnapshot(snapshot);
	if (tuplestore_gettupleslot(events, true, false, slot))
		stream = DatumGetTextPCopy(slot_getattr(slot, IE_STREAM, &isnull));
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(events);
	ie_close_log(&target);
	if (stream == NULL)
		refuse_event(position);
	return stream;
}

/* Raise the error for an event that was not handed out. */
static void
refuse_event(int64 position)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("position " INT64_FORMAT " is not among what was polled", position),
			 errdetail("It is no event, or one of another shard, type or stream."),
			 errhint("Give the position of an event that poll returned.")));
}

/* Hold a lease for longer. */
Datum
ie_renew(PG_FUNCTION_ARGS)
{
	Oid			types[] = {TEXTOID, TEXTOID, INTERVALOID};
	Datum		values[3];
	text	   *name = ie_required_text(fcinfo, 0, "consumer");
	IeConsumer	consumer;
	IeBatch		batch;

	ie_require_arg(fcinfo, 1, "lease");
	ie_check_interval(PG_GETARG_INTERVAL_P(1), "lease", true);
	consumer = ie_find_consumer(name);
	batch = held_batch(&consumer);
	if (!batch.leased)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("consumer \"%s\" is held by this transaction, not by a lease",
						text_to_cstring(name)),
				 errhint("Pass lease => '30s' to poll for what must outlast the transaction.")));
	values[0] = PointerGetDatum(name);
	values[1] = CStringGetTextDatum(batch.token);
	values[2] = PG_GETARG_DATUM(1);
	ie_registry_query("UPDATE immutable.consumer_shards"
					  " SET lease_until = pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) $3"
					  " WHERE consumer OPERATOR(pg_catalog.=) $1 AND lease_token OPERATOR(pg_catalog.=) $2",
					  3, types, values, NULL, NULL, NULL);
	PG_RETURN_VOID();
}
