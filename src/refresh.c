/*
 * refresh.c: an asynchronous projection, a batch at a time.
 *
 * Events after the projection's position are folded into its read model, and
 * the position moves in the same transaction: a crash repeats nothing and
 * skips nothing. One backend at a time works on a projection. An event that
 * the reducer cannot fold halts the projection before it, and nothing else.
 */
#include "projection.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#define LOCK_PROJECTION	11		/* beside those of streams and consumers */

static int64 refresh(IeProjection *projection, int64 max_events);
static int64 read_position(Oid target);
static void receive_position(void *state);
static void read_events(IeProjection *projection, const IeTarget *log,
						IeSelection *selection, Snapshot snapshot,
						IeEvents *events);
static void leave_out_skipped(Oid target, IeEvents *events,
							  TupleDesc columns);
static void receive_skipped(void *state);
static int64 event_position(const IeProjection *projection, HeapTuple event);
static ErrorData *try_events(IeProjection *projection, const IeEvents *events,
							 int from, int count);
static bool is_passing(const ErrorData *error);
static void move_on(Oid target, int64 position);
static void halt(IeProjection *projection, HeapTuple event, int64 position,
				 const ErrorData *error);

PG_FUNCTION_INFO_V1(ie_refresh);

/* Fold the next batch; answers how many events were gone over. */
Datum
ie_refresh(PG_FUNCTION_ARGS)
{
	int64		max_events = ie_batch_size;

	PreventCommandDuringRecovery("immutable.refresh()");
	PreventCommandIfReadOnly("immutable.refresh()");
	ie_require_arg(fcinfo, 0, "target");
	if (!PG_ARGISNULL(1))
		max_events = PG_GETARG_INT64(1);
	if (max_events < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_events must be 1 or more")));
	PG_RETURN_INT64(ie_refresh_batch(PG_GETARG_OID(0), max_events));
}

/* The same, for who may; 0 when somebody else is at it. */
int64
ie_refresh_batch(Oid target, int64 max_events)
{
	IeProjection *projection = ie_projection(target);

	ie_check_projection_right(projection);
	if (projection->is_inline || !ie_hold_projection(target, false))
		return 0;
	/* a rebuild that has just let go may have brought another reducer */
	AcceptInvalidationMessages();
	projection = ie_projection(target);
	if (projection->is_inline)
		return 0;
	return refresh(projection, Min(max_events, PG_INT32_MAX / 2));
}

/* Work on a projection, alone, to the end of the transaction. */
bool
ie_hold_projection(Oid target, bool wait)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, target, 0, LOCK_PROJECTION);
	return LockAcquire(&tag, ExclusiveLock, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

/* One batch, from the projection's position. */
static int64
refresh(IeProjection *projection, int64 max_events)
{
	IeTarget	log = ie_open_whole_log(projection->log, AccessShareLock);
	IeSelection selection = {.max_events = max_events};
	IeEvents	events = {0};
	ErrorData  *error;
	Snapshot	snapshot;
	int64		read;
	int			done = 0;

	ie_lock_registry("projection_positions", RowExclusiveLock);
	selection.after = read_position(projection->target);
	selection.upto = ie_readable_position(&log, &snapshot);
	if (selection.upto > selection.after && !ie_import_runs(log.root->sequence))
		read_events(projection, &log, &selection, snapshot, &events);
	UnregisterSnapshot(snapshot);
	ie_close_log(&log);
	if (selection.upto <= selection.after)
		return 0;
	read = events.count;
	if (read == max_events)
		selection.upto = event_position(projection, events.tuples[read - 1]);
	leave_out_skipped(projection->target, &events, projection->event_columns);

	error = try_events(projection, &events, 0, events.count);
	if (error != NULL && events.count > 1)
		for (error = NULL; error == NULL && done < events.count;)
		{
			error = try_events(projection, &events, done, 1);
			if (error == NULL)
				done++;
		}
	if (error == NULL)
		move_on(projection->target, selection.upto);
	else
		halt(projection, events.tuples[done],
			 event_position(projection, events.tuples[done]) - 1, error);
	return read;
}

/*
 * Fold whatever the log holds after the projection's position. The caller has
 * locked the log against appends, so all of it is decided.
 */
void
ie_project_rest(IeProjection *projection)
{
	IeTarget	log = ie_open_whole_log(projection->log, NoLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "immutable_events history",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller_context = MemoryContextSwitchTo(context);
	IeSelection selection = {.after = read_position(projection->target),
	.upto = PG_INT64_MAX, .max_events = ie_batch_size};
	bool		more = true;

	while (more)
	{
		IeEvents	events = {0};
		IeCaller	caller;

		CHECK_FOR_INTERRUPTS();
		read_events(projection, &log, &selection, snapshot, &events);
		more = events.count == selection.max_events;
		if (more)
			selection.after = event_position(projection, events.tuples[events.count - 1]);
		leave_out_skipped(projection->target, &events, projection->event_columns);
		ie_projection_enter(projection, &caller);
		ie_project(projection, &events, false);
		ie_projection_leave(&caller);
		MemoryContextReset(context);
	}
	UnregisterSnapshot(snapshot);
	MemoryContextSwitchTo(caller_context);
	MemoryContextDelete(context);
	ie_close_log(&log);
}

/*
 * The next events of a projection, as its owner sees them, without those that
 * are skipped; false after the last. The selection moves on.
 */
bool
ie_next_events(IeProjection *projection, const IeTarget *log,
			   IeSelection *selection, Snapshot snapshot, IeEvents *events)
{
	bool		more;

	memset(events, 0, sizeof(*events));
	read_events(projection, log, selection, snapshot, events);
	more = events->count == selection->max_events;
	selection->after = more
		? event_position(projection, events->tuples[events->count - 1])
		: selection->upto;
	leave_out_skipped(projection->target, events, projection->event_columns);
	return more;
}

/* Where the projection stands; its row is locked. */
static int64
read_position(Oid target)
{
	Oid			types[] = {REGCLASSOID};
	Datum		values[] = {ObjectIdGetDatum(target)};
	int64		position = 0;

	ie_registry_query("SELECT p.position FROM immutable.projection_positions p"
					  " WHERE p.target OPERATOR(pg_catalog.=) $1::pg_catalog.oid FOR UPDATE",
					  1, types, values, NULL, receive_position, &position);
	return position;
}

/* Take the position. */
static void
receive_position(void *state)
{
	bool		isnull;

	if (SPI_processed > 0)
		*(int64 *) state = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
													   SPI_tuptable->tupdesc,
													   1, &isnull));
}

/* Read events of a log as the projection's owner sees them. */
static void
read_events(IeProjection *projection, const IeTarget *log,
			IeSelection *selection, Snapshot snapshot, IeEvents *events)
{
	Tuplestorestate *store = tuplestore_begin_heap(false, false, work_mem);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(projection->event_columns,
													&TTSOpsMinimalTuple);
	IeCaller	caller;

	selection->types = projection->types;
	selection->prefix = projection->prefix;
	ie_projection_enter(projection, &caller);
	ie_check_access(log->log, ACL_SELECT);
	ie_select_events(log->log, selection, snapshot, store);
	ie_projection_leave(&caller);
	while (tuplestore_gettupleslot(store, true, false, slot))
		ie_events_add(events, slot);
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(store);
}

/* Positions that are skipped on purpose. */
typedef struct Skipped
{
	MemoryContext context;
	int64	   *positions;
	uint64		count;
} Skipped;

/* Leave out the events that were skipped on purpose. */
static void
leave_out_skipped(Oid target, IeEvents *events, TupleDesc columns)
{
	Oid			types[] = {REGCLASSOID};
	Datum		values[] = {ObjectIdGetDatum(target)};
	Skipped		skipped = {.context = CurrentMemoryContext};
	int			kept = 0;
	int			i;
	uint64		s;

	if (events->count == 0 ||
		ie_registry_query("SELECT s.position FROM immutable.skipped_events s"
						  " JOIN immutable.projections p ON p.target::pg_catalog.oid OPERATOR(pg_catalog.=) s.target::pg_catalog.oid"
						  " WHERE s.target OPERATOR(pg_catalog.=) $1::pg_catalog.oid"
						  " AND s.skipped_at OPERATOR(pg_catalog.>=) p.created_at",
						  1, types, values, NULL, receive_skipped, &skipped) == 0)
		return;
	for (i = 0; i < events->count; i++)
	{
		bool		isnull;
		int64		position = DatumGetInt64(heap_getattr(events->tuples[i], IE_POSITION,
														  columns, &isnull));

		for (s = 0; s < skipped.count; s++)
			if (skipped.positions[s] == position)
				break;
		if (s == skipped.count)
			events->tuples[kept++] = events->tuples[i];
	}
	events->count = kept;
}

/* Take the positions. */
static void
receive_skipped(void *state)
{
	Skipped    *skipped = state;
	bool		isnull;

	skipped->count = SPI_processed;
	skipped->positions = MemoryContextAlloc(skipped->context,
											Max(SPI_processed, 1) * sizeof(int64));
	for (uint64 i = 0; i < SPI_processed; i++)
		skipped->positions[i] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i],
															SPI_tuptable->tupdesc,
															1, &isnull));
}

/* The position of an event. */
static int64
event_position(const IeProjection *projection, HeapTuple event)
{
	bool		isnull;

	return DatumGetInt64(heap_getattr(event, IE_POSITION,
									  projection->event_columns, &isnull));
}

/*
 * Fold some of the events, in a subtransaction. Answers the error, if the
 * events are to blame for it; raises any other.
 */
static ErrorData *
try_events(IeProjection *projection, const IeEvents *events, int from,
		   int count)
{
	IeEvents	some = {.tuples = events->tuples + from, .count = count};
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	if (count == 0)
		return NULL;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		IeCaller	caller;

		PushActiveSnapshot(GetTransactionSnapshot());
		ie_projection_enter(projection, &caller);
		ie_project(projection, &some, false);
		ie_projection_leave(&caller);
		PopActiveSnapshot();
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	if (error != NULL && is_passing(error))
		ReThrowError(error);
	return error;
}

/* Is an error about the server's condition, and not about the events? */
static bool
is_passing(const ErrorData *error)
{
	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case MAKE_SQLSTATE('4', '0', '0', '0', '0'):	/* serialization, deadlock */
		case MAKE_SQLSTATE('5', '3', '0', '0', '0'):	/* resources */
		case MAKE_SQLSTATE('5', '7', '0', '0', '0'):	/* intervention */
		case MAKE_SQLSTATE('5', '8', '0', '0', '0'):	/* system */
		case MAKE_SQLSTATE('2', '5', '0', '0', '0'):	/* transaction state */
			return true;
		default:
			return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
	}
}

/* Record where the projection stands now. */
static void
move_on(Oid target, int64 position)
{
	Oid			types[] = {REGCLASSOID, INT8OID};
	Datum		values[] = {ObjectIdGetDatum(target), Int64GetDatum(position)};

	ie_registry_query("UPDATE immutable.projection_positions"
					  " SET position = $2, refreshed_at = pg_catalog.clock_timestamp(),"
					  " error = NULL, error_sqlstate = NULL, error_position = NULL,"
					  " error_event = NULL, failed_at = NULL"
					  " WHERE target OPERATOR(pg_catalog.=) $1::pg_catalog.oid",
					  2, types, values, NULL, NULL, NULL);
}

/* Record where the projection was halted, and why. */
static void
halt(IeProjection *projection, HeapTuple event, int64 position,
	 const ErrorData *error)
{
	Oid			types[] = {REGCLASSOID, INT8OID, TEXTOID, TEXTOID, INT8OID, UUIDOID};
	bool		isnull;
	Datum		values[] = {ObjectIdGetDatum(projection->target),
		Int64GetDatum(position), CStringGetTextDatum(error->message),
		CStringGetTextDatum(unpack_sql_state(error->sqlerrcode)),
		Int64GetDatum(event_position(projection, event)),
	heap_getattr(event, IE_ID, projection->event_columns, &isnull)};

	ie_registry_query("UPDATE immutable.projection_positions"
					  " SET position = greatest(position, $2), error = $3, error_sqlstate = $4,"
					  " error_position = $5, error_event = $6,"
					  " failed_at = pg_catalog.clock_timestamp()"
					  " WHERE target OPERATOR(pg_catalog.=) $1::pg_catalog.oid",
					  6, types, values, NULL, NULL, NULL);
}
