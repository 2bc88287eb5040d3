/*
 * replay.c: immutable.replay, the state of one stream.
 */
#include "snapshot.h"
#include "upcast.h"

#include "executor/executor.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/* A larger state is not kept: as text it might not fit into a value. */
#define MAX_STATE	((Size) 64 * 1024 * 1024)

/* How far a replay has come, and from where. */
typedef struct Progress
{
	int64		base;			/* version of the snapshot it began from, or 0 */
	IeSnapshot	last;			/* what there is to say of the last event */
	bool		whole;			/* no version was missing */
} Progress;

static IeStreamScan *continue_scan(Progress *progress, IeSnapshotKey *key,
								   IeReducer *reducer, IeState *state,
								   const IeTarget *target, int64 upto_version,
								   TimestampTz as_of);
static void follow(Progress *progress, TupleTableSlot *slot);
static void keep(Progress *progress, const IeSnapshotKey *key,
				 const IeReducer *reducer, const IeState *state);

PG_FUNCTION_INFO_V1(ie_replay);

/* Fold the events of a stream, up to a version or a time. */
Datum
ie_replay(PG_FUNCTION_ARGS)
{
	FmgrInfo   *flinfo = fcinfo->flinfo;
	MemoryContext context;
	IeReducer  *reducer;
	IeState		state;
	IeTarget	target;
	int64		upto_version = PG_INT64_MAX;
	TimestampTz as_of = DT_NOEND;
	Datum		result;

	ie_require_arg(fcinfo, 0, "log");
	ie_require_arg(fcinfo, 1, "stream");
	ie_require_arg(fcinfo, 3, "reducer");
	if (!PG_ARGISNULL(4))
		upto_version = PG_GETARG_INT64(4);
	if (upto_version < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("upto_version must not be negative"),
				 errhint("0 gives the initial state, NULL the newest one.")));
	if (!PG_ARGISNULL(5))
		as_of = PG_GETARG_TIMESTAMPTZ(5);

	reducer = ie_keep_reducer((IeReducer **) &flinfo->fn_extra,
							  PG_GETARG_OID(3), get_fn_expr_argtype(flinfo, 2),
							  PG_GET_COLLATION(), flinfo->fn_mcxt);
	context = AllocSetContextCreate(CurrentMemoryContext,
									"immutable_events replay",
									ALLOCSET_DEFAULT_SIZES);
	ie_state_init(reducer, &state, PG_GETARG_DATUM(2), PG_ARGISNULL(2),
				  context);
	target = ie_open_log(PG_GETARG_OID(0), PG_GETARG_TEXT_PP(1),
						 AccessShareLock);
	ie_replay_stream(reducer, &state, &target, PG_GETARG_TEXT_PP(1),
					 upto_version, as_of);
	ie_close_log(&target);
	result = ie_state_copy(reducer, &state);
	fcinfo->isnull = state.isnull;
	ie_state_gone(reducer, &state);
	MemoryContextDelete(context);
	return result;
}

/*
 * The compiled reducer of events: kept, in a child of the given context,
 * while neither the function nor the catalogs change, nor where names are
 * looked up.
 */
IeReducer *
ie_keep_reducer(IeReducer **kept, Oid function, Oid state_type, Oid collation,
				MemoryContext parent)
{
	Oid			event = ie_event_type();
	IeReducer  *reducer = *kept;
	MemoryContext context;

	AcceptInvalidationMessages();	/* no lock may be left to take that would */
	if (reducer != NULL)
		ie_state_gone(reducer, NULL);	/* the last state, after an error */
	if (reducer != NULL && ie_reducer_is_current(reducer) &&
		ie_reducer_same_names(reducer) &&
		ie_reducer_function(reducer) == function)
		return reducer;
	*kept = NULL;
	if (reducer != NULL)
		MemoryContextDelete(GetMemoryChunkContext(reducer));
	context = AllocSetContextCreate(CurrentMemoryContext,
									"immutable_events reducer",
									ALLOCSET_SMALL_SIZES);
	reducer = ie_reducer_compile(function, state_type, 1, &event, collation,
								 context);
	/* kept only now, when nothing can fail any more */
	MemoryContextSetParent(context, parent);
	*kept = reducer;
	return reducer;
}

/*
 * Fold the events of a stream into a state, up to a version or a time, both
 * inclusive. Answers the version of the last event; 0 when there is none. Where
 * snapshots are kept it begins from the newest that fits, and may leave another.
 */
int64
ie_replay_stream(IeReducer *reducer, IeState *state, const IeTarget *target,
				 const text *stream, int64 upto_version, TimestampTz as_of)
{
	Progress	progress = {.whole = true};
	IeSnapshotKey key;
	bool		kept = ie_snapshot_key(reducer, state, target, stream, &key);
	IeUpcasts  *upcasts = ie_upcasts(RelationGetRelid(target->log));
	IeStreamScan *scan = NULL;
	TupleTableSlot *slot;
	bool		isnull;

	if (kept)
		scan = continue_scan(&progress, &key, reducer, state, target,
							 upto_version, as_of);
	if (scan == NULL)
		scan = ie_scan_stream(target, stream, IE_FIRST_VERSION, upto_version,
							  false);
	while ((slot = ie_scan_next(scan)) != NULL)
	{
		if (kept)
			follow(&progress, slot);
		else
			progress.last.version = DatumGetInt64(slot_getattr(slot, IE_VERSION, &isnull));
		/* an import may bring times that run backwards: read to the end */
		if (DatumGetTimestampTz(slot_getattr(slot, IE_RECORDED_AT,
											 &isnull)) <= as_of)
			ie_reduce_slot(reducer, state, ie_upcast_slot(upcasts, slot));
	}
	ie_end_upcasts(upcasts);
	ie_scan_end(scan);
	if (kept && upto_version == PG_INT64_MAX && as_of == DT_NOEND)
		keep(&progress, &key, reducer, state);
	return progress.last.version;
}

/*
 * Read on from a snapshot. The event that it ends with must be there, and be the
 * one that it names; else the log is not the one that was folded.
 */
static IeStreamScan *
continue_scan(Progress *progress, IeSnapshotKey *key, IeReducer *reducer,
			  IeState *state, const IeTarget *target, int64 upto_version,
			  TimestampTz as_of)
{
	IeStreamScan *scan;
	TupleTableSlot *slot;
	IeEvent		event;

	if (!ie_read_snapshot(key, upto_version, as_of, &progress->last))
		return NULL;
	scan = ie_scan_stream(target, key->stream, progress->last.version,
						  upto_version, false);
	slot = ie_scan_next(scan);
	if (slot != NULL)
		ie_event_from_slot(slot, &event);
	if (slot != NULL && event.version == progress->last.version &&
		memcmp(event.id->data, progress->last.event_id.data, UUID_LEN) == 0)
	{
		ie_state_from_text(reducer, state, progress->last.state);
		progress->base = progress->last.version;
		return scan;
	}
	ie_scan_end(scan);
	memset(&progress->last, 0, sizeof(progress->last));
	key->refuted = true;
	return NULL;
}

/* Note what a snapshot after this event would have to say. */
static void
follow(Progress *progress, TupleTableSlot *slot)
{
	IeSnapshot *last = &progress->last;
	bool		isnull;
	int64		version = DatumGetInt64(slot_getattr(slot, IE_VERSION, &isnull));
	TimestampTz recorded_at = DatumGetTimestampTz(slot_getattr(slot, IE_RECORDED_AT, &isnull));

	/* an import may still fill a gap */
	if (version != last->version + 1)
		progress->whole = false;
	if (last->version == 0 || recorded_at > last->recorded_at)
		last->recorded_at = recorded_at;
	last->version = version;
	last->event_id = *DatumGetUUIDP(slot_getattr(slot, IE_ID, &isnull));
}

/* Keep a snapshot, when it is worth the while and nothing has changed since. */
static void
keep(Progress *progress, const IeSnapshotKey *key, const IeReducer *reducer,
	 const IeState *state)
{
	if (!progress->whole ||
		progress->last.version - progress->base < key->every ||
		!ie_may_write_snapshot() || !ie_snapshot_key_holds(reducer) ||
		state->capacity > MAX_STATE)
		return;
	progress->last.state = ie_state_to_text(reducer, state);
	if (progress->last.state == NULL || strlen(progress->last.state) <= MAX_STATE)
		ie_write_snapshot(key, &progress->last);
}
