/*
 * refresh.c: an asynchronous projection, a batch at a time.
 *
 * Events after the projection's position are folded into its read model, and
 * the position moves in the same transaction: a crash repeats nothing and
 * skips nothing. One backend at a time works on a projection. An event that
 * the reducer cannot fold, or an upcaster, halts the projection before it, and
 * nothing else; so does a reducer that fits the read model no longer.
 */
#include "projection.h"
#include "upcast.h"

#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

#define LOCK_PROJECTION	11		/* beside those of streams and consumers */

/* A read of events that may fail, or a fold of some. */
typedef struct Batch
{
	IeProjection *projection;
	const IeTarget *log;
	IeSelection *selection;
	Snapshot	snapshot;
	IeEvents	events;
	int			from;			/* of them, those to be folded */
	int			count;
} Batch;

/* Where events that are read go. */
typedef struct Taken
{
	IeEvents   *events;
	MemoryContext context;
} Taken;

static IeProjection *open_projection(Oid target, IeHalt *halt);
static void compile(void *state);
static int64 refresh(IeProjection *projection, int64 max_events);
static void read_batch(Batch *batch, IeHalt *halt);
static void read_some(void *state);
static void read_events(IeProjection *projection, const IeTarget *log,
						IeSelection *selection, Snapshot snapshot,
						IeEvents *events);
static void take_event(TupleTableSlot *event, void *state);
static void fold_batch(Batch *batch, IeHalt *halt);
static void fold_some(void *state);

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
	IeHalt		halt = {0};
	IeProjection *projection = open_projection(target, &halt);

	ie_check_projection_right(projection);
	if (projection->is_inline || !ie_hold_projection(target, false))
		return 0;
	/* a rebuild that has just let go may have brought another reducer */
	AcceptInvalidationMessages();
	projection = open_projection(target, &halt);
	if (projection->is_inline)
		return 0;
	if (halt.error == NULL)
		return refresh(projection, Min(max_events, PG_INT32_MAX / 2));
	ie_projection_halt(target, &halt);
	return 0;
}

/* A projection, ready to run; or as it is known, and what is wrong with it. */
static IeProjection *
open_projection(Oid target, IeHalt *halt)
{
	halt->error = ie_attempt(compile, &target);
	return halt->error == NULL ? ie_projection(target) : ie_known_projection(target);
}

/* Make a projection ready. */
static void
compile(void *state)
{
	(void) ie_projection(*(Oid *) state);
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
	IePositions skipped = ie_skipped_events(projection->target);
	IeSelection selection = {.max_events = max_events, .as_recorded = &skipped};
	Batch		batch = {.projection = projection, .log = &log, .selection = &selection};
	IeHalt		halt = {0};
	int64		begin;
	int64		read;

	ie_lock_registry("projection_positions", RowExclusiveLock);
	begin = selection.after = ie_projection_position(projection->target);
	selection.upto = ie_readable_position(&log, &batch.snapshot);
	if (ie_import_runs(log.root->sequence))
		selection.upto = begin; /* it may still bring events in below */
	if (selection.upto > begin)
		read_batch(&batch, &halt);
	UnregisterSnapshot(batch.snapshot);
	ie_close_log(&log);
	if (selection.upto <= begin && halt.error == NULL)
		return 0;
	read = batch.events.count;
	if (read == max_events)
	{
		selection.upto = ie_event_position(projection, batch.events.tuples[read - 1]);
		halt.error = NULL;
	}
	ie_leave_out_skipped(projection, &batch.events, &skipped);
	fold_batch(&batch, &halt);
	if (begin == 0)
		ie_record_fingerprint(projection);	/* all rows are by this reducer */
	if (halt.error == NULL)
		ie_projection_move_on(projection->target, selection.upto);
	else
		ie_projection_halt(projection->target, &halt);
	return read;
}

/*
 * Read a batch. Where an upcaster fails, what comes before that event is read.
 */
static void
read_batch(Batch *batch, IeHalt *halt)
{
	IeSelection *selection = batch->selection;
	IeCaller	caller;

	/* a right that is missing may come back: that halts nothing */
	ie_projection_enter(batch->projection, &caller);
	ie_check_access(batch->log->log, ACL_SELECT);
	ie_projection_leave(&caller);
	ie_forget_upcast();
	halt->error = ie_attempt(read_some, batch);
	if (halt->error == NULL || !ie_last_upcast(&halt->position, &halt->event))
		return;
	selection->upto = halt->position - 1;
	read_some(batch);
}

/* Read the events of a batch. */
static void
read_some(void *state)
{
	Batch	   *batch = state;

	memset(&batch->events, 0, sizeof(batch->events));
	read_events(batch->projection, batch->log, batch->selection,
				batch->snapshot, &batch->events);
}

/* Fold a batch; if that fails, one event after the other to the bad one. */
static void
fold_batch(Batch *batch, IeHalt *halt)
{
	ErrorData  *error;
	bool		isnull;

	batch->count = batch->events.count;
	error = ie_attempt(fold_some, batch);
	if (error == NULL)
		return;
	for (batch->count = 1; batch->from < batch->events.count; batch->from++)
	{
		HeapTuple	event = batch->events.tuples[batch->from];

		if (batch->events.count > 1)
			error = ie_attempt(fold_some, batch);
		if (error == NULL)
			continue;
		halt->error = error;
		halt->position = ie_event_position(batch->projection, event);
		halt->event = *DatumGetUUIDP(heap_getattr(event, IE_ID,
												  batch->projection->event_columns,
												  &isnull));
		return;
	}
}

/* Fold some of the events of a batch. */
static void
fold_some(void *state)
{
	Batch	   *batch = state;
	IeEvents	some = {.tuples = batch->events.tuples + batch->from,
	.count = batch->count};
	IeCaller	caller;

	if (some.count == 0)
		return;
	PushActiveSnapshot(GetTransactionSnapshot());
	ie_projection_enter(batch->projection, &caller);
	ie_project(batch->projection, &some, false);
	ie_projection_leave(&caller);
	PopActiveSnapshot();
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
	IePositions skipped = ie_skipped_events(projection->target);
	IeSelection selection = {.after = ie_projection_position(projection->target),
	.upto = PG_INT64_MAX, .max_events = ie_batch_size, .as_recorded = &skipped};
	bool		more = true;

	while (more)
	{
		IeEvents	events = {0};
		IeCaller	caller;

		CHECK_FOR_INTERRUPTS();
		read_events(projection, &log, &selection, snapshot, &events);
		more = events.count == selection.max_events;
		if (more)
			selection.after = ie_event_position(projection, events.tuples[events.count - 1]);
		ie_leave_out_skipped(projection, &events, &skipped);
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
	IePositions skipped = ie_skipped_events(projection->target);
	bool		more;

	memset(events, 0, sizeof(*events));
	selection->as_recorded = &skipped;
	read_events(projection, log, selection, snapshot, events);
	more = events->count == selection->max_events;
	selection->after = more
		? ie_event_position(projection, events->tuples[events->count - 1])
		: selection->upto;
	ie_leave_out_skipped(projection, events, &skipped);
	selection->as_recorded = NULL;
	return more;
}

/* Read events of a log as the projection's owner sees them. */
static void
read_events(IeProjection *projection, const IeTarget *log,
			IeSelection *selection, Snapshot snapshot, IeEvents *events)
{
	Taken		taken = {events, CurrentMemoryContext};
	IeCaller	caller;

	selection->types = projection->types;
	selection->prefix = projection->prefix;
	ie_projection_enter(projection, &caller);
	ie_check_access(log->log, ACL_SELECT);
	ie_take_events(log->log, selection, snapshot, take_event, &taken);
	ie_projection_leave(&caller);
}

/* Keep an event. */
static void
take_event(TupleTableSlot *event, void *state)
{
	Taken	   *taken = state;
	MemoryContext caller = MemoryContextSwitchTo(taken->context);

	ie_events_add(taken->events, event);
	MemoryContextSwitchTo(caller);
}
