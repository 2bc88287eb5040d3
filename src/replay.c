/*
 * replay.c: immutable.replay, the state of one stream.
 */
#include "immutable_events.h"

#include "executor/executor.h"
#include "utils/memutils.h"

static IeReducer *get_reducer(FunctionCallInfo fcinfo);
static void fold_stream(IeReducer *reducer, IeState *state, Oid log,
						const text *stream, int64 upto_version,
						TimestampTz as_of);

PG_FUNCTION_INFO_V1(ie_replay);

/* Fold the events of a stream, up to a version or a time. */
Datum
ie_replay(PG_FUNCTION_ARGS)
{
	MemoryContext context;
	IeReducer  *reducer;
	IeState		state;
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

	reducer = get_reducer(fcinfo);
	context = AllocSetContextCreate(CurrentMemoryContext,
									"immutable_events replay",
									ALLOCSET_DEFAULT_SIZES);
	ie_state_init(reducer, &state, PG_GETARG_DATUM(2), PG_ARGISNULL(2),
				  context);
	fold_stream(reducer, &state, PG_GETARG_OID(0), PG_GETARG_TEXT_PP(1),
				upto_version, as_of);
	result = ie_state_copy(reducer, &state);
	fcinfo->isnull = state.isnull;
	MemoryContextDelete(context);
	return result;
}

/* The compiled reducer: kept between calls while nothing has changed. */
static IeReducer *
get_reducer(FunctionCallInfo fcinfo)
{
	FmgrInfo   *flinfo = fcinfo->flinfo;
	IeReducer  *reducer = flinfo->fn_extra;
	Oid			event = ie_event_type();
	MemoryContext context;

	if (reducer != NULL && ie_reducer_is_current(reducer) &&
		ie_reducer_function(reducer) == PG_GETARG_OID(3))
		return reducer;
	flinfo->fn_extra = NULL;
	if (reducer != NULL)
		MemoryContextDelete(GetMemoryChunkContext(reducer));
	context = AllocSetContextCreate(CurrentMemoryContext,
									"immutable_events reducer",
									ALLOCSET_SMALL_SIZES);
	reducer = ie_reducer_compile(PG_GETARG_OID(3),
								 get_fn_expr_argtype(flinfo, 2),
								 1, &event, PG_GET_COLLATION(), context);
	/* kept only now, when nothing can fail any more */
	MemoryContextSetParent(context, flinfo->fn_mcxt);
	flinfo->fn_extra = reducer;
	return reducer;
}

/* Feed the events of the stream to the reducer. */
static void
fold_stream(IeReducer *reducer, IeState *state, Oid log, const text *stream,
			int64 upto_version, TimestampTz as_of)
{
	IeTarget	target = ie_open_log(log, stream, AccessShareLock);
	IeStreamScan *scan = ie_scan_stream(&target, stream, IE_FIRST_VERSION,
										upto_version, false);
	TupleTableSlot *slot;
	bool		isnull;

	while ((slot = ie_scan_next(scan)) != NULL)
	{
		/* an import may bring times that run backwards: read to the end */
		if (DatumGetTimestampTz(slot_getattr(slot, IE_RECORDED_AT,
											 &isnull)) <= as_of)
			ie_reduce_slot(reducer, state, slot);
	}
	ie_scan_end(scan);
	ie_close_log(&target);
}
