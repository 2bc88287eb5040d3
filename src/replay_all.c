/*
 * replay_all.c: immutable.replay_all, the state of every stream.
 *
 * Each table of the log is read in order of position, which has every stream
 * in order of version, and all streams are folded side by side. Where they do
 * not fit into memory, events are sorted by the hash value of their stream
 * first, and as many streams are folded at a time as do fit. Imports may have
 * events in another order than that of their versions: they are sorted, too.
 * Rows are returned one by one.
 */
#include "replay_all.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"

typedef struct ReplayAll
{
	MemoryContext context;		/* of all this */
	TupleDesc	columns;		/* of the result */
	IeReducer  *reducer;
	Snapshot	snapshot;
	IeEventFilter filter;
	Oid			table;			/* that is read now */
	List	   *tables;			/* that are to be read, by OID */
	Datum		initial;		/* state of every stream */
	bool		isnull;
	IeStates   *states;			/* of the streams that are folded now */
	IeEventScan *scan;			/* stream by stream; or NULL */
	IeHashSort *sort;			/* by hash value of the stream; or NULL */
	TupleTableSlot *sorted;		/* its event */
	bool		ahead;			/* either is at the next stream's first event */
} ReplayAll;

static ReplayAll *begin(FunctionCallInfo fcinfo, Relation log);
static IeEventFilter make_filter(FunctionCallInfo fcinfo);
static Datum copy_initial(FunctionCallInfo fcinfo, Oid type);
static IeStates *make_states(ReplayAll *replay);
static uint32 hash_stream(const void *arg, const Datum *key);
static bool same_stream(const void *arg, const Datum *a, const Datum *b);
static IeKeyState *next_stream(ReplayAll *replay);
static bool next_pass(ReplayAll *replay);
static bool next_table(ReplayAll *replay);
static bool fold_table(ReplayAll *replay);
static void sort_table(ReplayAll *replay);
static void fold_sorted(ReplayAll *replay);
static TupleTableSlot *sorted_event(ReplayAll *replay);
static void read_by_stream(ReplayAll *replay, IeEventScan *scan);
static IeKeyState *fold_stream(ReplayAll *replay);
static IeKeyState *find_stream(ReplayAll *replay, Datum name, uint32 hash);
static void fold_event(ReplayAll *replay, IeKeyState *stream,
					   TupleTableSlot *event, int64 version);
static Datum make_row(const ReplayAll *replay, const IeKeyState *stream);
static void close_pass(ReplayAll *replay);
static void end(Datum replay);

PG_FUNCTION_INFO_V1(ie_replay_all);

/* Fold every stream; returns one at a time. */
Datum
ie_replay_all(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	FuncCallContext *call;
	ReplayAll  *replay;
	IeKeyState *stream;
	MemoryContext caller;

	if (SRF_IS_FIRSTCALL())
	{
		IeTarget	target;

		ie_require_arg(fcinfo, 0, "log");
		ie_require_arg(fcinfo, 2, "reducer");
		call = SRF_FIRSTCALL_INIT();
		caller = MemoryContextSwitchTo(call->multi_call_memory_ctx);
		target = ie_open_whole_log(PG_GETARG_OID(0), AccessShareLock);
		replay = begin(fcinfo, target.log);
		ie_close_log(&target);
		MemoryContextSwitchTo(caller);
		call->user_fctx = replay;
		RegisterExprContextCallback(result->econtext, end,
									PointerGetDatum(replay));
	}
	call = SRF_PERCALL_SETUP();
	replay = call->user_fctx;
	caller = MemoryContextSwitchTo(replay->context);
	stream = next_stream(replay);
	MemoryContextSwitchTo(caller);
	if (stream != NULL)
		SRF_RETURN_NEXT(call, make_row(replay, stream));
	UnregisterExprContextCallback(result->econtext, end,
								  PointerGetDatum(replay));
	end(PointerGetDatum(replay));
	SRF_RETURN_DONE(call);
}

/* Check everything, and begin, in the current context. */
static ReplayAll *
begin(FunctionCallInfo fcinfo, Relation log)
{
	ReplayAll  *replay = palloc0(sizeof(ReplayAll));
	Oid			event = ie_event_type();
	Oid			state_type = get_fn_expr_argtype(fcinfo->flinfo, 1);

	replay->context = CurrentMemoryContext;
	replay->filter = make_filter(fcinfo);
	ie_check_access(log, ACL_SELECT);
	replay->reducer = ie_reducer_compile(PG_GETARG_OID(2), state_type, 1,
										 &event, PG_GET_COLLATION(),
										 replay->context);
	if (get_call_result_type(fcinfo, NULL, &replay->columns) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "unexpected result type");
	replay->columns = BlessTupleDesc(replay->columns);
	replay->initial = copy_initial(fcinfo, state_type);
	replay->isnull = PG_ARGISNULL(1);
	replay->states = make_states(replay);
	if (!ie_row_security(log))
		replay->tables = ie_event_tables(log);
	/* the last: from here on there is something to close */
	replay->snapshot = RegisterSnapshot(GetActiveSnapshot());
	if (ie_row_security(log))
		read_by_stream(replay, ie_scan_visible(log, &replay->filter,
											   replay->snapshot));
	return replay;
}

/* What the arguments select. */
static IeEventFilter
make_filter(FunctionCallInfo fcinfo)
{
	IeEventFilter filter = {.upto_position = PG_INT64_MAX, .as_of = DT_NOEND};

	ie_filter_types(&filter, PG_ARGISNULL(3) ? NULL : PG_GETARG_ARRAYTYPE_P(3));
	if (!PG_ARGISNULL(4))
		filter.prefix = PG_GETARG_TEXT_P_COPY(4);
	if (!PG_ARGISNULL(5))
		filter.upto_position = PG_GETARG_INT64(5);
	if (filter.upto_position < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("upto_position must not be negative"),
				 errhint("Positions of a log begin at 1; NULL reads to its end.")));
	if (!PG_ARGISNULL(6))
		filter.as_of = PG_GETARG_TIMESTAMPTZ(6);
	return filter;
}

/* A copy of the initial state, to begin every stream with. */
static Datum
copy_initial(FunctionCallInfo fcinfo, Oid type)
{
	int16		length;
	bool		byval;

	if (PG_ARGISNULL(1))
		return (Datum) 0;
	get_typlenbyval(type, &length, &byval);
	if (length == -1)
		return PointerGetDatum(PG_DETOAST_DATUM_COPY(PG_GETARG_DATUM(1)));
	return datumCopy(PG_GETARG_DATUM(1), byval, length);
}

/* States by name of the stream, within the memory for hash tables. */
static IeStates *
make_states(ReplayAll *replay)
{
	IeKeySpace	keys = {.count = 1, .hash = hash_stream, .same = same_stream};

	keys.byval = palloc0(sizeof(bool));
	keys.len = palloc(sizeof(int16));
	keys.len[0] = -1;
	return ie_states_create(replay->reducer, &keys, get_hash_memory_limit());
}

/* The hash value of a stream's name, as a scan has it, too. */
static uint32
hash_stream(const void *arg pg_attribute_unused(), const Datum *key)
{
	return ie_hash_stream(DatumGetTextPP(key[0]));
}

/* Are two names the same? */
static bool
same_stream(const void *arg pg_attribute_unused(), const Datum *a,
			const Datum *b)
{
	return ie_same_text(DatumGetTextPP(a[0]), DatumGetTextPP(b[0]));
}

/* The next stream that is folded, or NULL. */
static IeKeyState *
next_stream(ReplayAll *replay)
{
	IeKeyState *stream;

	do
	{
		stream = replay->scan != NULL ? fold_stream(replay)
			: ie_states_next(replay->states);
	} while (stream == NULL && next_pass(replay));
	return stream;
}

/* Fold more streams; false when everything is done. */
static bool
next_pass(ReplayAll *replay)
{
	const IeEventFilter *filter = &replay->filter;

	if (replay->sort != NULL && replay->ahead)
		fold_sorted(replay);
	else if (!next_table(replay))
		return false;
	else if (filter->prefix != NULL &&
			 ie_prefix_is_cheaper(replay->table, filter, replay->snapshot))
		read_by_stream(replay, ie_scan_by_stream(replay->table, filter,
												 replay->snapshot));
	else if (!fold_table(replay))
	{
		sort_table(replay);
		fold_sorted(replay);
	}
	return true;
}

/* Go on to the next table. */
static bool
next_table(ReplayAll *replay)
{
	close_pass(replay);
	if (replay->tables == NIL)
		return false;
	replay->table = linitial_oid(replay->tables);
	replay->tables = list_delete_first(replay->tables);
	return true;
}

/*
 * Fold the events of the table in order of position; false when their streams
 * do not fit into memory, or when that is not the order of versions.
 */
static bool
fold_table(ReplayAll *replay)
{
	IeEventScan *scan = ie_scan_by_position(replay->table, &replay->filter,
											replay->snapshot);
	bool		good = true;

	ie_states_limit(replay->states, get_hash_memory_limit());
	while (good && ie_event_next(scan))
	{
		IeKeyState *stream = find_stream(replay, PointerGetDatum(scan->stream),
										 scan->hash);

		good = scan->version > stream->last && !ie_states_full(replay->states);
		if (good)
			fold_event(replay, stream, scan->slot, scan->version);
	}
	ie_event_scan_end(scan);
	ie_states_rewind(replay->states);
	return good;
}

/* Sort the events of the table by stream; half of the memory is for that. */
static void
sort_table(ReplayAll *replay)
{
	IeEventScan *scan = ie_scan_by_position(replay->table, &replay->filter,
											replay->snapshot);
	TupleDesc	columns = lookup_rowtype_tupdesc_copy(ie_event_type(), -1);
	Size		half = get_hash_memory_limit() / 2;

	ie_states_limit(replay->states, half);
	replay->sort = ie_hash_sort_begin(columns, half);
	replay->sorted = MakeSingleTupleTableSlot(columns, &TTSOpsVirtual);
	while (ie_event_next(scan))
	{
		slot_getallattrs(scan->slot);
		memcpy(replay->sort->values, scan->slot->tts_values, IE_NCOLUMNS * sizeof(Datum));
		memcpy(replay->sort->nulls, scan->slot->tts_isnull, IE_NCOLUMNS * sizeof(bool));
		replay->sort->values[IE_STREAM - 1] = PointerGetDatum(scan->stream);
		ie_hash_sort_put(replay->sort, scan->hash, scan->version);
	}
	ie_event_scan_end(scan);
	ie_hash_sort_run(replay->sort);
	replay->ahead = ie_hash_sort_next(replay->sort);
}

/* Fold as many of the sorted streams as there is room for, but at least one. */
static void
fold_sorted(ReplayAll *replay)
{
	IeHashSort *sort = replay->sort;
	IeHash		hash;

	ie_states_reset(replay->states);
	do
	{
		TupleTableSlot *event = sorted_event(replay);

		CHECK_FOR_INTERRUPTS();
		hash = sort->hash;
		fold_event(replay, find_stream(replay, sort->values[IE_STREAM - 1], hash),
				   event, sort->order);
		replay->ahead = ie_hash_sort_next(sort);
	} while (replay->ahead &&
			 (sort->hash == hash || !ie_states_full(replay->states)));
	ie_states_rewind(replay->states);
}

/* The event that the sort stands on. */
static TupleTableSlot *
sorted_event(ReplayAll *replay)
{
	TupleTableSlot *event = ExecClearTuple(replay->sorted);

	memcpy(event->tts_values, replay->sort->values, IE_NCOLUMNS * sizeof(Datum));
	memcpy(event->tts_isnull, replay->sort->nulls, IE_NCOLUMNS * sizeof(bool));
	return ExecStoreVirtualTuple(event);
}

/* Go on stream by stream. */
static void
read_by_stream(ReplayAll *replay, IeEventScan *scan)
{
	replay->scan = scan;
	replay->ahead = ie_event_next(scan);
}

/* Fold the next stream of the scan; NULL when there is none. */
static IeKeyState *
fold_stream(ReplayAll *replay)
{
	IeEventScan *scan = replay->scan;
	IeKeyState *stream;

	if (!replay->ahead)
		return NULL;
	ie_states_reset(replay->states);
	stream = find_stream(replay, PointerGetDatum(scan->stream), scan->hash);
	do
	{
		fold_event(replay, stream, scan->slot, scan->version);
		replay->ahead = ie_event_next(scan);
	} while (replay->ahead &&
			 ie_same_text(scan->stream, DatumGetTextPP(stream->key[0])));
	return stream;
}

/* The state of a stream, the initial one when the stream is new. */
static IeKeyState *
find_stream(ReplayAll *replay, Datum name, uint32 hash)
{
	IeKeyState *stream = ie_states_find(replay->states, &name, hash);

	if (stream == NULL)
		stream = ie_states_add(replay->states, &name, hash, replay->initial,
							   replay->isnull);
	return stream;
}

/* Fold an event into the state of its stream. */
static void
fold_event(ReplayAll *replay, IeKeyState *stream, TupleTableSlot *event,
		   int64 version)
{
	if (!ie_reducer_is_current(replay->reducer))
		ie_reducer_check_types(replay->reducer);
	ie_reduce_slot(replay->reducer, &stream->state, event);
	stream->last = version;
}

/* A row of the result. */
static Datum
make_row(const ReplayAll *replay, const IeKeyState *stream)
{
	Datum		values[] = {stream->key[0], Int64GetDatum(stream->last),
	ie_state_copy(replay->reducer, &stream->state)};
	bool		nulls[] = {false, false, stream->state.isnull};

	return HeapTupleGetDatum(heap_form_tuple(replay->columns, values, nulls));
}

/* Close what a table was read with. */
static void
close_pass(ReplayAll *replay)
{
	if (replay->scan != NULL)
		ie_event_scan_end(replay->scan);
	replay->scan = NULL;
	if (replay->sort != NULL)
	{
		ie_hash_sort_end(replay->sort);
		ExecDropSingleTupleTableSlot(replay->sorted);
	}
	replay->sort = NULL;
}

/* Close what is open: the caller has had his last row. */
static void
end(Datum replay)
{
	ReplayAll  *done = (ReplayAll *) DatumGetPointer(replay);

	close_pass(done);
	UnregisterSnapshot(done->snapshot);
}
