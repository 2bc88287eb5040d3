/*
 * replay.c: immutable.replay, the state of one stream.
 */
#include "upcast.h"

#include "executor/executor.h"
#include "utils/memutils.h"
#include "utils/rel.h"

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
 * while neither the function nor the catalogs change.
 */
IeReducer *
ie_keep_reducer(IeReducer **kept, Oid function, Oid state_type, Oid collation,
				MemoryContext parent)
{
	Oid			event = ie_event_type();
	IeReducer  *reducer = *kept;
	MemoryContext context;

	if (reducer != NULL)
		ie_state_gone(reducer, NULL);	/* the last state, after an error */
	if (reducer != NULL && ie_reducer_is_current(reducer) &&
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
 * inclusive. Answers the version of the last event; 0 when there is none.
 */
int64
ie_replay_stream(IeReducer *reducer, IeState *state, const IeTarget *target,
				 const text *stream, int64 upto_version, TimestampTz as_of)
{
	IeStreamScan *scan = ie_scan_stream(target, stream, IE_FIRST_VERSION,
										upto_version, false);
	IeUpcasts  *upcasts = ie_upcasts(RelationGetRelid(target->log));
	int64		version = 0;
	TupleTableSlot *slot;
	bool		isnull;

	while ((slot = ie_scan_next(scan)) != NULL)
	{
		version = DatumGetInt64(slot_getattr(slot, IE_VERSION, &isnull));
		/* an import may bring times that run backwards: read to the end */
		if (DatumGetTimestampTz(slot_getattr(slot, IE_RECORDED_AT,
											 &isnull)) <= as_of)
			ie_reduce_slot(reducer, state, ie_upcast_slot(upcasts, slot));
	}
	ie_end_upcasts(upcasts);
	ie_scan_end(scan);
	return version;
}
