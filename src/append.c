/*
 * append.c: new events to the end of their stream.
 *
 * The order of the steps is the promise: check the arguments, the privilege
 * and the guards; lock the stream for this call; read its head, waiting for a
 * writer in progress; recognise a retry; check the expected version; only then
 * draw positions; write; let others in. So a refused append draws no
 * position, versions have no gaps, positions rise within a stream, and no
 * append is lost. Many events go through the same steps as one.
 */
#include "append.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "compat.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"
#include "utils/uuid.h"

/* expected_version, NULL included */
typedef struct Expectation
{
	bool		any;
	int64		version;
} Expectation;

static void check_batch_arguments(FunctionCallInfo fcinfo,
								  const char *function);
static Datum append_batch(FunctionCallInfo fcinfo, IeNewEvents batch);
static Expectation read_expectation(FunctionCallInfo fcinfo, int argno);
static IeAppended append(Oid log, IeNewEvents *batch, Expectation expected);
static IeAppended append_to_head(IeTarget *target, IeNewEvents *batch,
								 Expectation expected, const IeHead *head,
								 const IeHead *same_id, int which);
static IeAppended write_events(IeTarget *target, IeNewEvents *batch,
							 const IeHead *head);
static void check_fit(const IeTarget *target);
static void check_facts(const IeTarget *target, const IeLog *facts);
static IeHead lock_head(IeTarget *target, const IeNewEvents *batch,
						IeHead *same_id, int *which);
static bool is_retry(const IeTarget *target, const IeNewEvents *batch,
					 Expectation expected, const IeHead *head,
					 const IeHead *same_id, int which, IeHead *last);
pg_noreturn static void refuse_id(const IeTarget *target,
								  const pg_uuid_t *id, const IeHead *same_id);
static void check_expectation(const IeTarget *target, const text *stream,
							  Expectation expected, int64 version);
static void check_seen(const IeTarget *target, const IeHead *head);
static void place(const IeTarget *target, IeEvent *event, const IeHead *head);
static int64 find_floor(Relation log);

PG_FUNCTION_INFO_V1(ie_append);
PG_FUNCTION_INFO_V1(ie_append_batch);
PG_FUNCTION_INFO_V1(ie_append_json);

/* Append one event to a stream. */
Datum
ie_append(PG_FUNCTION_ARGS)
{
	IeNewEvents batch;
	Expectation expected;

	ie_forbid_read_only("immutable.append()");
	ie_require_arg(fcinfo, 0, "log");
	batch = ie_new_event(fcinfo);
	expected = read_expectation(fcinfo, 5);
	PG_RETURN_DATUM(ie_appended_record(fcinfo, append(PG_GETARG_OID(0), &batch, expected)));
}

/* Append the events of an array to a stream, all or none. */
Datum
ie_append_batch(PG_FUNCTION_ARGS)
{
	check_batch_arguments(fcinfo, "immutable.append_batch()");
	return append_batch(fcinfo, ie_new_events_from_array(PG_GETARG_TEXT_PP(1),
														 PG_GETARG_ARRAYTYPE_P(2)));
}

/* Append the events of a JSON array to a stream, all or none. */
Datum
ie_append_json(PG_FUNCTION_ARGS)
{
	check_batch_arguments(fcinfo, "immutable.append_json()");
	return append_batch(fcinfo, ie_new_events_from_json(PG_GETARG_TEXT_PP(1),
														PG_GETARG_JSONB_P(2)));
}

/* The arguments that append_batch and append_json must have. */
static void
check_batch_arguments(FunctionCallInfo fcinfo, const char *function)
{
	ie_forbid_read_only(function);
	ie_require_arg(fcinfo, 0, "log");
	ie_require_arg(fcinfo, 1, "stream");
	ie_require_arg(fcinfo, 2, "events");
}

/* What they do with the events. */
static Datum
append_batch(FunctionCallInfo fcinfo, IeNewEvents batch)
{
	Expectation expected = read_expectation(fcinfo, 3);

	return ie_appended_record(fcinfo, append(PG_GETARG_OID(0), &batch, expected));
}

/* Nothing is written on a standby, in a read-only transaction, by a worker. */
void
ie_forbid_read_only(const char *function)
{
	PreventCommandDuringRecovery(function);
	PreventCommandIfReadOnly(function);
	PreventCommandIfParallelMode(function);
}

/* Take expected_version from the arguments. */
static Expectation
read_expectation(FunctionCallInfo fcinfo, int argno)
{
	Expectation expected = {.any = PG_ARGISNULL(argno)};

	if (expected.any)
		return expected;
	expected.version = PG_GETARG_INT64(argno);
	if (expected.version < 0 && expected.version != IE_STREAM_EXISTS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("expected_version " INT64_FORMAT " has no meaning",
						expected.version),
				 errhint("Pass NULL for any version, 0 for a new stream, %d for an existing one, or the exact version.",
						 IE_STREAM_EXISTS)));
	return expected;
}

/* The steps of an append, in the order that makes the promises hold. */
static IeAppended
append(Oid log, IeNewEvents *batch, Expectation expected)
{
	IeTarget	target = ie_open_to_append(log, batch->stream);
	IeHead		same_id = {0};
	int			which = 0;
	IeHead		head = lock_head(&target, batch, &same_id, &which);
	IeAppended	result = append_to_head(&target, batch, expected, &head,
										&same_id, which);

	ie_close_log(&target);
	return result;
}

/* Open a log that the caller may append to, and that is fit for it. */
IeTarget
ie_open_to_append(Oid log, const text *stream)
{
	IeTarget	target = ie_open_log(log, stream, RowExclusiveLock);

	ie_check_access(target.log, ACL_INSERT);
	check_fit(&target);
	return target;
}

/*
 * Append what was decided on a stream whose head is locked. A given id that
 * belongs to a transaction in progress is waited for under that lock: what was
 * decided stays so.
 */
IeAppended
ie_append_decided(IeTarget *target, IeNewEvents *batch, const IeHead *head)
{
	Expectation any = {.any = true};
	IeHead		same_id = {0};
	int			which = 0;

	for (;;)
	{
		same_id = ie_find_ids(target, batch, &which);
		if (!TransactionIdIsValid(same_id.writer))
			break;
		XactLockTableWait(same_id.writer, target->rel, NULL, XLTW_None);
	}
	if (batch->count > 0)
		ie_lock_stream(target, batch->stream, IE_WRITING);
	return append_to_head(target, batch, any, head, &same_id, which);
}

/* Append to a stream whose head is locked, unless that was done before. */
static IeAppended
append_to_head(IeTarget *target, IeNewEvents *batch, Expectation expected,
			   const IeHead *head, const IeHead *same_id, int which)
{
	IeHead		last;

	if (is_retry(target, batch, expected, head, same_id, which, &last))
	{
		check_seen(target, &last);
		ie_unlock_stream(target, batch->stream);
		return (IeAppended) {last.version, last.position, 0};
	}
	check_expectation(target, batch->stream, expected, head->version);
	check_seen(target, head);
	return write_events(target, batch, head);
}

/* Give the events their places, and write them. */
static IeAppended
write_events(IeTarget *target, IeNewEvents *batch, const IeHead *head)
{
	pg_uuid_t  *generated = palloc(sizeof(pg_uuid_t) * Max(batch->count, 1));
	IeHead		last = *head;
	int			i;

	for (i = 0; i < batch->count; i++)
	{
		IeEvent    *event = &batch->events[i];

		if (event->id == NULL)
		{
			ie_uuid_v7(&generated[i]);
			event->id = &generated[i];
		}
		place(target, event, &last);
		last.version = event->version;
		last.position = event->position;
		last.recorded_at = event->recorded_at;
	}
	if (batch->count > 0)
		ie_insert(target, batch);
	else
		ie_unlock_stream(target, batch->stream);
	return (IeAppended) {last.version, last.position, batch->count};
}

/* Fail closed: never write into a log that anybody could change. */
static void
check_fit(const IeTarget *target)
{
	check_facts(target, target->root);
	if (target->facts != target->root)
		check_facts(target, target->facts);
}

/* Refuse a log, or a leaf of it, that is unfit. */
static void
check_facts(const IeTarget *target, const IeLog *facts)
{
	if (facts->problem == NULL)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("log \"%s\" is unfit for appends",
					RelationGetRelationName(target->log)),
			 errdetail("In \"%s\", %s.",
					   get_rel_name(facts->relid), facts->problem),
			 errhint("%s", facts->remedy),
			 errtable(target->log)));
}

/*
 * Lock the stream and read its head. The head of a stream that this
 * transaction has appended to is known; the lock is needed all the same, or
 * another backend's scan of the index could miss our next event and then find
 * the last one committed. The sequence is locked first, as nextval will do
 * anyway: an import is waited for while no stream is locked.
 */
IeHead
ie_lock_head(IeTarget *target, const text *stream, LOCKMODE lockmode)
{
	IeHead		head;

	LockRelationOid(target->root->sequence, RowExclusiveLock);
	ie_lock_stream(target, stream, lockmode);
	if (!ie_own_head(target, stream, &head))
		head = ie_read_head(target, stream);
	return head;
}

/*
 * The same, and an event that has one of the given ids. If either was written
 * by a transaction in progress, wait for it without the lock and ask again.
 */
static IeHead
lock_head(IeTarget *target, const IeNewEvents *batch, IeHead *same_id,
		  int *which)
{
	for (;;)
	{
		IeHead		head;
		TransactionId writer;

		head = ie_lock_head(target, batch->stream, IE_WRITING);
		writer = head.writer;
		if (!TransactionIdIsValid(writer))
		{
			*same_id = ie_find_ids(target, batch, which);
			writer = same_id->writer;
		}
		if (!TransactionIdIsValid(writer))
			return head;
		ie_unlock_stream(target, batch->stream);
		XactLockTableWait(writer, target->rel, NULL, XLTW_None);
	}
}

/*
 * Are these events in the stream already, where the caller expects them to go?
 * Then last becomes the last of them. (The table is KurrentDB's: a retry
 * answers as the first call did.)
 */
static bool
is_retry(const IeTarget *target, const IeNewEvents *batch,
		 Expectation expected, const IeHead *head, const IeHead *same_id,
		 int which, IeHead *last)
{
	int64		first = same_id->version - which;

	if (same_id->version == 0)
		return false;
	if (same_id->same_stream &&
		(expected.any || expected.version == IE_STREAM_EXISTS ||
		 expected.version + 1 == first))
	{
		*last = batch->count == 1 ? *same_id
			: ie_stored_run(target, batch, first);
		if (last->version > 0)
			return true;
	}
	check_expectation(target, batch->stream, expected, head->version);
	refuse_id(target, batch->events[which].id, same_id);
}

/* Raise the error for an id that stands elsewhere. */
static void
refuse_id(const IeTarget *target, const pg_uuid_t *given,
		  const IeHead *same_id)
{
	char	   *id = DatumGetCString(DirectFunctionCall1(uuid_out,
														 UUIDPGetDatum(given)));

	ereport(ERROR,
			(errcode(ERRCODE_UNIQUE_VIOLATION),
			 errmsg("event id \"%s\" stands already in log \"%s\"",
					id, RelationGetRelationName(target->log)),
			 same_id->same_stream
			 ? errdetail("It is version " INT64_FORMAT " of this stream.",
						 same_id->version)
			 : errdetail("It is an event of another stream."),
			 errhint("Give a new event a new id."),
			 errtable(target->log)));
}

/* Optimistic concurrency: the stream must be where the caller thinks. */
static void
check_expectation(const IeTarget *target, const text *stream,
				  Expectation expected, int64 version)
{
	char	   *name;

	if (expected.any || expected.version == version ||
		(expected.version == IE_STREAM_EXISTS && version > 0))
		return;
	name = text_to_cstring(stream);
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("cannot append to stream \"%s\"", name),
			 expected.version == IE_STREAM_EXISTS
			 ? errdetail("Stream \"%s\" does not exist.", name)
			 : errdetail("Stream \"%s\" is at version " INT64_FORMAT ", expected " INT64_FORMAT ".",
						 name, version, expected.version),
			 errhint("Read the stream again and decide again."),
			 errtableconstraint(target->log, "expected_version")));
}

/*
 * A serializable transaction must not build on an event that its snapshot does
 * not show: no serial order of the transactions would give that history.
 */
static void
check_seen(const IeTarget *target, const IeHead *head)
{
	if (head->unseen)
		ie_refuse_unseen(target->log);
}

/* Give the event its version, its time, and then its position. */
static void
place(const IeTarget *target, IeEvent *event, const IeHead *head)
{
	event->version = head->version + 1;
	event->recorded_at = Max(GetCurrentTimestamp(), head->recorded_at);
	if (target->root->floor == 0)
		target->root->floor = find_floor(target->log);
	event->position = ie_next_position(target->root->sequence);
	if (event->position <= head->position ||
		event->position <= target->root->floor)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the sequence of log \"%s\" was set back",
						RelationGetRelationName(target->log)),
				 errdetail("It gave position " INT64_FORMAT ", the log has been at " INT64_FORMAT ".",
						   event->position, Max(head->position, target->root->floor)),
				 errhint("Call immutable.sync_position."),
				 errtable(target->log)));
	target->root->floor = event->position;
}

/* No position may be drawn up to here: it was taken, or passed by readers. */
static int64
find_floor(Relation log)
{
	Snapshot	latest = RegisterSnapshot(GetLatestSnapshot());
	int64		recorded = ie_recorded_position(RelationGetRelid(log), latest);

	UnregisterSnapshot(latest);
	return Max(recorded, ie_highest_position(log));
}

/* Build the answer. */
Datum
ie_appended_record(FunctionCallInfo fcinfo, IeAppended result)
{
	Oid			type = get_func_rettype(fcinfo->flinfo->fn_oid);
	TupleDesc	columns = lookup_rowtype_tupdesc(type, -1);
	Datum		values[3];
	bool		nulls[3] = {false, false, false};
	Datum		record;

	values[0] = Int64GetDatum(result.version);
	values[1] = Int64GetDatum(result.position);
	values[2] = Int32GetDatum(result.written);
	record = HeapTupleGetDatum(heap_form_tuple(columns, values, nulls));
	ReleaseTupleDesc(columns);
	return record;
}
