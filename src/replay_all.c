/*
 * replay_all.c: immutable.replay_all, the state of every stream.
 *
 * Each table of the log is read in order of position, which has every stream
 * in order of version, and all streams are folded side by side; those that
 * find no place in memory have their turn in another pass. Rows are returned
 * one by one as passes end, so a cursor keeps no more than one pass; every
 * pass sees what the first one saw, by the same snapshot.
 */
#include "replay_all.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "partitioning/partdesc.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

typedef struct ReplayAll
{
	MemoryContext context;		/* of all this */
	TupleDesc	columns;		/* of the result */
	IeReducer  *reducer;
	Snapshot	snapshot;
	IeEventFilter filter;		/* its hash values are the pass's */
	Oid			table;			/* that is read now */
	double		events;			/* in it, when it was last read */
	List	   *tables;			/* that are to be read, by OID */
	IeStreamStates *states;		/* of the streams of this pass */
	IeEventScan *scan;			/* stream by stream; or NULL */
	bool		ahead;			/* it stands on the next stream's first event */
} ReplayAll;

static ReplayAll *begin(FunctionCallInfo fcinfo, Relation log);
static IeEventFilter make_filter(FunctionCallInfo fcinfo);
static void set_types(IeEventFilter *filter, ArrayType *types);
static Datum copy_initial(FunctionCallInfo fcinfo, Oid type);
static List *tables_of(Relation log);
static void check_partitioned(Relation log, Relation rel);
static IeStreamState *next_stream(ReplayAll *replay);
static bool next_pass(ReplayAll *replay);
static bool next_table(ReplayAll *replay);
static bool fold_table(ReplayAll *replay);
static void read_by_stream(ReplayAll *replay, IeEventScan *scan);
static IeStreamState *fold_stream(ReplayAll *replay);
static void fold_event(ReplayAll *replay, IeStreamState *stream,
					   const IeEventScan *scan);
static Datum make_row(const ReplayAll *replay, const IeStreamState *stream);
static void end(Datum replay);

PG_FUNCTION_INFO_V1(ie_replay_all);

/* Fold every stream; returns one at a time. */
Datum
ie_replay_all(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	FuncCallContext *call;
	ReplayAll  *replay;
	IeStreamState *stream;
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
	replay->states = ie_states_create(replay->reducer,
									  copy_initial(fcinfo, state_type),
									  PG_ARGISNULL(1));
	if (!ie_row_security(log))
		replay->tables = tables_of(log);
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

	filter.end_hash = IE_HASH_END;
	filter.all_types = PG_ARGISNULL(3);
	if (!PG_ARGISNULL(3))
		set_types(&filter, PG_GETARG_ARRAYTYPE_P(3));
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

/* The types of events that are selected; NULL is none. */
static void
set_types(IeEventFilter *filter, ArrayType *types)
{
	Datum	   *values;
	bool	   *nulls;
	int			count;
	int			i;

	deconstruct_array(types, TEXTOID, -1, false, TYPALIGN_INT, &values,
					  &nulls, &count);
	filter->types = palloc(sizeof(text *) * Max(count, 1));
	for (i = 0; i < count; i++)
		if (!nulls[i])
			filter->types[filter->ntypes++] = DatumGetTextPCopy(values[i]);
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

/* The tables that hold a log's events: the log itself, or its leaves. */
static List *
tables_of(Relation log)
{
	List	   *tables = NIL;
	List	   *family = list_make1_oid(RelationGetRelid(log));
	ListCell   *cell;

	if (log->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		family = find_all_inheritors(RelationGetRelid(log), AccessShareLock,
									 NULL);
	foreach(cell, family)
	{
		Relation	rel = table_open(lfirst_oid(cell), NoLock);

		if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
			check_partitioned(log, rel);
		else
		{
			(void) ie_version_index(log, rel);
			(void) ie_position_index(rel, false);
			tables = lappend_oid(tables, RelationGetRelid(rel));
		}
		table_close(rel, NoLock);
	}
	return tables;
}

/* Refuse partitions where one stream could be in several. */
static void
check_partitioned(Relation log, Relation rel)
{
	PartitionKey key = RelationGetPartitionKey(rel);

	if (key->strategy != PARTITION_STRATEGY_HASH || key->partnatts != 1 ||
		key->partattrs[0] != IE_STREAM ||
		RelationGetPartitionDesc(rel, true)->nparts == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("log \"%s\" cannot be read by stream",
						RelationGetRelationName(log)),
				 errdetail("A log is partitioned by hash of stream, with a partition for every remainder."),
				 errtable(log)));
}

/* The next stream that is folded, or NULL. */
static IeStreamState *
next_stream(ReplayAll *replay)
{
	IeStreamState *stream;

	do
	{
		stream = replay->scan != NULL ? fold_stream(replay)
			: ie_states_next(replay->states);
	} while (stream == NULL && next_pass(replay));
	return stream;
}

/* Fold what the next pass holds; false when everything is done. */
static bool
next_pass(ReplayAll *replay)
{
	IeEventFilter *filter = &replay->filter;
	bool		by_stream;

	if (filter->end_hash < IE_HASH_END)
	{
		double		done = filter->end_hash - filter->from_hash;

		by_stream = ie_streams_are_cheaper(replay->table, replay->events,
										   (IE_HASH_END - filter->end_hash) / done);
		/* begin with twice as many streams as had their place in the last */
		filter->from_hash = filter->end_hash;
		filter->end_hash = Min(filter->from_hash + 2 * done, IE_HASH_END);
	}
	else
	{
		if (!next_table(replay))
			return false;
		by_stream = filter->prefix != NULL &&
			ie_prefix_is_cheaper(replay->table, filter, replay->snapshot);
	}
	if (by_stream || !fold_table(replay))
	{
		/* this pass, and what would be in later ones */
		filter->end_hash = IE_HASH_END;
		read_by_stream(replay, ie_scan_by_stream(replay->table, filter,
												 replay->snapshot));
	}
	return true;
}

/* Go on to the next table. */
static bool
next_table(ReplayAll *replay)
{
	if (replay->scan != NULL)
		ie_event_scan_end(replay->scan);
	replay->scan = NULL;
	if (replay->tables == NIL)
		return false;
	replay->table = linitial_oid(replay->tables);
	replay->tables = list_delete_first(replay->tables);
	replay->filter.from_hash = 0;
	replay->filter.end_hash = IE_HASH_END;
	return true;
}

/*
 * Fold the events of the table in order of position, as many streams as find
 * a place; false when that is not the order of versions, as imports may have
 * it.
 */
static bool
fold_table(ReplayAll *replay)
{
	IeEventFilter *filter = &replay->filter;
	IeEventScan *scan = ie_scan_by_position(replay->table, filter,
											replay->snapshot);
	bool		in_order = true;

	ie_states_reset(replay->states);
	while (in_order && ie_event_next(scan))
	{
		IeStreamState *stream = ie_states_find(replay->states, scan->stream,
											   scan->hash);

		in_order = scan->version > stream->version;
		if (in_order)
			fold_event(replay, stream, scan);
		filter->end_hash = ie_states_fit(replay->states, filter->end_hash);
	}
	replay->events = scan->rows_read;
	ie_event_scan_end(scan);
	ie_states_rewind(replay->states);
	return in_order;
}

/* Go on stream by stream. */
static void
read_by_stream(ReplayAll *replay, IeEventScan *scan)
{
	replay->scan = scan;
	replay->ahead = ie_event_next(scan);
}

/* Fold the next stream of the scan; NULL when there is none. */
static IeStreamState *
fold_stream(ReplayAll *replay)
{
	IeEventScan *scan = replay->scan;
	IeStreamState *stream;

	if (!replay->ahead)
		return NULL;
	ie_states_reset(replay->states);
	stream = ie_states_find(replay->states, scan->stream, scan->hash);
	do
	{
		fold_event(replay, stream, scan);
		replay->ahead = ie_event_next(scan);
	} while (replay->ahead &&
			 ie_same_text(scan->stream, (text *) stream->name));
	return stream;
}

/* Fold an event into the state of its stream. */
static void
fold_event(ReplayAll *replay, IeStreamState *stream, const IeEventScan *scan)
{
	if (!ie_reducer_is_current(replay->reducer))
		ie_reducer_check_types(replay->reducer);
	ie_reduce_slot(replay->reducer, &stream->state, scan->slot);
	stream->version = scan->version;
}

/* A row of the result. */
static Datum
make_row(const ReplayAll *replay, const IeStreamState *stream)
{
	Datum		values[] = {PointerGetDatum(stream->name),
		Int64GetDatum(stream->version),
	ie_state_copy(replay->reducer, &stream->state)};
	bool		nulls[] = {false, false, stream->state.isnull};

	return HeapTupleGetDatum(heap_form_tuple(replay->columns, values, nulls));
}

/* Close what is open: the caller has had his last row. */
static void
end(Datum replay)
{
	ReplayAll  *done = (ReplayAll *) DatumGetPointer(replay);

	if (done->scan != NULL)
		ie_event_scan_end(done->scan);
	UnregisterSnapshot(done->snapshot);
}
