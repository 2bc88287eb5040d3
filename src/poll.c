/*
 * poll.c: the next events of a consumer.
 *
 * A shard is held first, by a lock or a lease, then its cursor is read, then
 * it is decided up to where the log may be read, then the events are read. A
 * poll begins after what was acknowledged: what was handed out and not
 * acknowledged comes again. Events of a stream that is set aside are left
 * out until it is taken back; then they come first, in a batch of their own.
 */
#include "consumer.h"
#include "log.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "tcop/pquery.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#define NAP_MS		2			/* between looks at the log */
#define LOOK_OVER_MS	100		/* after that the shards are tried anyway */

/* What one call of poll wants, and with whom. */
typedef struct Poll
{
	IeConsumer	consumer;
	IeTarget	target;
	int32		max_events;
	Interval   *lease;			/* NULL: none */
	TimestampTz deadline;
	int64		seen;			/* how far the log could be read */
	int64	   *passed;			/* by shard: gone over, none to give; held */
	bool	   *recorded;		/* and the cursor moved there */
	Tuplestorestate *result;
	TupleDesc	columns;
} Poll;

static void read_arguments(Poll *poll, FunctionCallInfo fcinfo);
static void check_held(ReturnSetInfo *result);
static bool try_shards(Poll *poll, int32 only);
static bool try_shard(Poll *poll, int32 number);
static void let_go_others(Poll *poll, int32 number);
static bool take_back(Poll *poll, IeShard *shard);
static bool go_on(Poll *poll, IeShard *shard);
static bool hand_out(Poll *poll, const IeShard *shard, IeSelection *selection,
					 Snapshot snapshot, text *backlog);
static int64 copy_events(Poll *poll, Tuplestorestate *events, int64 *count);
static void record_lease(Poll *poll, IeBatch *batch, text *backlog);
static void record_passed(Poll *poll, int32 shard);
static bool nap(Poll *poll);

PG_FUNCTION_INFO_V1(ie_poll);

/* Return the next events of a consumer. */
Datum
ie_poll(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Poll		poll = {0};
	int32		shard;

	PreventCommandDuringRecovery("immutable.poll()");
	PreventCommandIfReadOnly("immutable.poll()");
	read_arguments(&poll, fcinfo);
	if (poll.lease == NULL)
		check_held(result);
	InitMaterializedSRF(fcinfo, 0);
	poll.result = result->setResult;
	poll.columns = result->setDesc;
	poll.target = ie_open_whole_log(poll.consumer.log, AccessShareLock);
	ie_check_access(poll.target.log, ACL_SELECT);
	ie_lock_registry("consumer_shards", RowExclusiveLock);
	poll.passed = palloc0(sizeof(int64) * poll.consumer.shards);
	poll.recorded = palloc0(sizeof(bool) * poll.consumer.shards);
	while (!try_shards(&poll, PG_ARGISNULL(4) ? -1 : PG_GETARG_INT32(4)))
		if (!nap(&poll))
		{
			for (shard = 0; shard < poll.consumer.shards; shard++)
				record_passed(&poll, shard);
			break;
		}
	ie_close_log(&poll.target);
	return (Datum) 0;
}

/* Take the arguments, and refuse what makes no sense. */
static void
read_arguments(Poll *poll, FunctionCallInfo fcinfo)
{
	text	   *name = ie_required_text(fcinfo, 0, "consumer");

	ie_require_arg(fcinfo, 1, "max_events");
	ie_require_arg(fcinfo, 2, "timeout");
	poll->max_events = PG_GETARG_INT32(1);
	if (poll->max_events < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_events must be 1 or more")));
	ie_check_interval(PG_GETARG_INTERVAL_P(2), "timeout", false);
	poll->deadline = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
															 TimestampTzGetDatum(GetCurrentTimestamp()),
															 PG_GETARG_DATUM(2)));
	poll->lease = PG_ARGISNULL(3) ? NULL : PG_GETARG_INTERVAL_P(3);
	if (poll->lease != NULL)
		ie_check_interval(poll->lease, "lease", true);
	poll->consumer = ie_find_consumer(name);
	if (!PG_ARGISNULL(4) &&
		(PG_GETARG_INT32(4) < 0 || PG_GETARG_INT32(4) >= poll->consumer.shards))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("shard must be between 0 and %d", poll->consumer.shards - 1)));
}

/*
 * Without a lease the shard is held by this transaction: a statement that is a
 * transaction of its own would let go of it at once.
 */
static void
check_held(ReturnSetInfo *result)
{
	EState	   *estate = result != NULL && result->econtext != NULL
		? result->econtext->ecxt_estate : NULL;

	if (!IsTransactionBlock() && ActivePortal != NULL && estate != NULL &&
		estate->es_sourceText == ActivePortal->sourceText)
		ereport(ERROR,
				(errcode(ERRCODE_NO_ACTIVE_SQL_TRANSACTION),
				 errmsg("poll needs a transaction block or a lease"),
				 errdetail("Another worker would get the same events as soon as this statement ends."),
				 errhint("BEGIN a transaction and ack in it, or pass lease => '30s'.")));
}

/* Try one shard, or all of them from a different one each time. */
static bool
try_shards(Poll *poll, int32 only)
{
	static uint32 turn = 0;
	int32		shards = poll->consumer.shards;
	int32		i;

	if (only >= 0)
		return try_shard(poll, only);
	turn++;
	for (i = 0; i < shards; i++)
		if (try_shard(poll, (turn + i) % shards))
			return true;
	return false;
}

/*
 * Hold a shard and hand out its next events; false when there is nothing. A
 * shard whose cursor is to move on is not let go of before that is recorded.
 */
static bool
try_shard(Poll *poll, int32 number)
{
	const char *own = ie_kept_token(poll->consumer.name);
	IeShard		shard;

	if (poll->passed[number] == 0 &&
		!ie_hold_shard(&poll->consumer, number, false))
		return false;
	shard = ie_read_shard(poll->consumer.name, number, NULL);
	if (shard.found &&
		(shard.token == NULL ||
		 (own != NULL && strcmp(own, text_to_cstring(shard.token)) == 0)))
	{
		shard.position = Max(shard.position, poll->passed[number]);
		if (take_back(poll, &shard) || go_on(poll, &shard) ||
			take_back(poll, &shard))
		{
			let_go_others(poll, number);
			return true;
		}
	}
	if (poll->passed[number] == 0)
		ie_let_go_shard(&poll->consumer, number);
	return false;
}

/* Let go of the shards that were passed over; they are gone over again. */
static void
let_go_others(Poll *poll, int32 number)
{
	int32		shard;

	for (shard = 0; shard < poll->consumer.shards; shard++)
		if (shard != number && poll->passed[shard] > 0 && !poll->recorded[shard])
			ie_let_go_shard(&poll->consumer, shard);
}

/* Hand out events of a stream that was set aside and may go on. */
static bool
take_back(Poll *poll, IeShard *shard)
{
	int64		from;
	text	   *stream;

	while ((stream = ie_stream_to_take_back(poll->consumer.name, shard, &from)) != NULL)
	{
		IeSelection selection = {.after = from - 1, .upto = shard->position,
		.stream = stream};
		Snapshot	snapshot;
		bool		found;

		(void) ie_readable_position(&poll->target, &snapshot);
		found = hand_out(poll, shard, &selection, snapshot, stream);
		UnregisterSnapshot(snapshot);
		if (found)
			return true;
		/* nothing is left of it: from the cursor on it goes with the others */
		record_passed(poll, shard->shard);
		ie_rejoin(poll->consumer.name, stream);
	}
	return false;
}

/* Hand out the next events of all other streams, or pass over them. */
static bool
go_on(Poll *poll, IeShard *shard)
{
	IeSelection selection = {.after = shard->position,
		.shards = poll->consumer.shards, .shard = shard->shard,
	.prefix = poll->consumer.prefix};
	Snapshot	snapshot;
	bool		found = false;

	poll->seen = selection.upto = ie_readable_position(&poll->target, &snapshot);
	if (selection.upto > shard->position &&
		!ie_import_runs(poll->target.root->sequence))
	{
		selection.without = ie_set_aside(poll->consumer.name, shard->shard);
		found = hand_out(poll, shard, &selection, snapshot, NULL);
		if (!found)
			shard->position = poll->passed[shard->shard] = selection.upto;
	}
	UnregisterSnapshot(snapshot);
	return found;
}

/* Move the cursor over what was passed, so that it is read once only. */
static void
record_passed(Poll *poll, int32 shard)
{
	Oid			types[] = {TEXTOID, INT4OID, INT8OID};
	Datum		values[] = {PointerGetDatum(poll->consumer.name),
	Int32GetDatum(shard), Int64GetDatum(poll->passed[shard])};

	if (poll->passed[shard] == 0)
		return;
	poll->recorded[shard] = true;
	ie_registry_query("UPDATE immutable.consumer_shards"
					  " SET position = greatest(position, $3),"
					  " polled_at = pg_catalog.clock_timestamp()"
					  " WHERE consumer OPERATOR(pg_catalog.=) $1"
					  " AND shard OPERATOR(pg_catalog.=) $2",
					  3, types, values, NULL, NULL, NULL);
}

/* Read events, and remember what was handed out; false when there are none. */
static bool
hand_out(Poll *poll, const IeShard *shard, IeSelection *selection,
		 Snapshot snapshot, text *backlog)
{
	Tuplestorestate *events = tuplestore_begin_heap(false, false, work_mem);
	IeBatch		batch = {.shard = shard->shard, .done = selection->after,
	.leased = poll->lease != NULL};
	int64		count = 0;

	selection->max_events = poll->max_events;
	selection->types = poll->consumer.types;
	ie_select_events(poll->target.log, selection, snapshot, events);
	batch.delivered = copy_events(poll, events, &count);
	tuplestore_end(events);
	if (count == 0)
		return false;
	ie_begin_batch(poll->consumer.name, shard->shard);
	batch.scanned = count < poll->max_events ? selection->upto : batch.delivered;
	batch.backlog = backlog == NULL ? NULL : text_to_cstring(backlog);
	if (batch.leased)
		record_lease(poll, &batch, backlog);
	ie_keep_batch(poll->consumer.name, &batch);
	return true;
}

/* Copy events to the result; answers the position of the last. */
static int64
copy_events(Poll *poll, Tuplestorestate *events, int64 *count)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(poll->columns, &TTSOpsMinimalTuple);
	int64		last = 0;
	bool		isnull;

	while (tuplestore_gettupleslot(events, true, false, slot))
	{
		CHECK_FOR_INTERRUPTS();
		last = DatumGetInt64(slot_getattr(slot, IE_POSITION, &isnull));
		tuplestore_puttupleslot(poll->result, slot);
		(*count)++;
	}
	ExecDropSingleTupleTableSlot(slot);
	return last;
}

/* Record a lease, with a new token. */
static void
record_lease(Poll *poll, IeBatch *batch, text *backlog)
{
	Oid			types[] = {TEXTOID, INT4OID, INT8OID, INT8OID, TEXTOID, TEXTOID,
	INTERVALOID, NAMEOID, INT4OID};
	Datum		values[9];
	char		nulls[] = "         ";

	batch->token = ie_new_token();
	values[0] = PointerGetDatum(poll->consumer.name);
	values[1] = Int32GetDatum(batch->shard);
	values[2] = Int64GetDatum(batch->delivered);
	values[3] = Int64GetDatum(batch->scanned);
	values[4] = PointerGetDatum(backlog);
	values[5] = CStringGetTextDatum(batch->token);
	values[6] = IntervalPGetDatum(poll->lease);
	values[7] = DirectFunctionCall1(namein, CStringGetDatum(GetUserNameFromId(GetUserId(), false)));
	values[8] = Int32GetDatum(MyProcPid);
	nulls[4] = backlog == NULL ? 'n' : ' ';
	ie_registry_query("UPDATE immutable.consumer_shards SET delivered = $3, scanned = $4,"
					  " backlog = $5, lease_token = $6,"
					  " lease_until = pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) $7,"
					  " holder = $8, holder_pid = $9, polled_at = pg_catalog.clock_timestamp()"
					  " WHERE consumer OPERATOR(pg_catalog.=) $1 AND shard OPERATOR(pg_catalog.=) $2",
					  9, types, values, nulls, NULL, NULL);
}

/*
 * Wait until more of the log can be read, or for a while; false when the time
 * is up. A snapshot that stays the same will not show more.
 */
static bool
nap(Poll *poll)
{
	TimestampTz look_over = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LOOK_OVER_MS);
	Oid			sequence = poll->target.root->sequence;

	if (IsolationUsesXactSnapshot())
		return false;
	if (poll->seen == 0)		/* no shard was free */
		poll->seen = ie_decided_position(poll->target.log, sequence);
	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();

		if (now >= poll->deadline)
			return false;
		if (now >= look_over || ie_decided_position(poll->target.log, sequence) > poll->seen)
			return true;
		ie_nap(NAP_MS);
	}
}
