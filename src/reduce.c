/*
 * reduce.c: run a compiled reducer over the items of one state.
 *
 * What an item needs beside the state is gone when the next one comes.
 */
#include "reducer.h"

#include "funcapi.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/typcache.h"

static void change_document(IeReducer *reducer, IeState *state,
							TupleTableSlot *event);
static bool must_skip(IeReducer *reducer, IeState *state,
					  const NullableDatum *items);
static void pass_item(IeReducer *reducer, NullableDatum item);
static void check_order(const IeReducer *reducer, IeState *state,
						HeapTuple event);
static void fill_row(RowParam *row, HeapTupleHeader header);
static HeapTuple point_at(RowParam *row, HeapTupleHeader header);
static HeapTuple convert_item(IeReducer *reducer, HeapTupleHeader header);
static void call_bare(IeReducer *reducer, IeState *state,
					  const NullableDatum *items);
static Datum call(IeReducer *reducer, bool *isnull);
static void step(IeReducer *reducer, IeState *state);

/* Fold items into a state. */
void
ie_reduce(IeReducer *reducer, IeState *state, const NullableDatum *items)
{
	MemoryContext caller;
	int			i;

	if (reducer->upcast != NULL)
		items = ie_next_items(reducer->upcast, items);
	if (reducer->strict && must_skip(reducer, state, items))
		return;
	if (reducer->bare)
	{
		call_bare(reducer, state, items);
		return;
	}
	ResetExprContext(reducer->econtext);
	caller = MemoryContextSwitchTo(reducer->econtext->ecxt_per_tuple_memory);
	pass_item(reducer, items[0]);
	if (reducer->check_order && !items[0].isnull)
		check_order(reducer, state, &reducer->item.tuple);
	for (i = 1; i < reducer->nitems; i++)
	{
		reducer->params->params[i + 1].value = items[i].value;
		reducer->params->params[i + 1].isnull = items[i].isnull;
	}
	if (reducer->change == NULL)
		step(reducer, state);
	else if (!items[0].isnull)
		change_document(reducer, state, reducer->item.slot);
	MemoryContextSwitchTo(caller);
}

/* Fold the row of a log into a state, straight from its slot. */
void
ie_reduce_slot(IeReducer *reducer, IeState *state, TupleTableSlot *event)
{
	ParamExternData *param = &reducer->params->params[FIRST_ITEM_PARAM - 1];
	NullableDatum item = {.isnull = false};
	MemoryContext caller;

	ResetExprContext(reducer->econtext);
	caller = MemoryContextSwitchTo(reducer->econtext->ecxt_per_tuple_memory);
	if (reducer->change != NULL)
	{
		change_document(reducer, state, event);
		MemoryContextSwitchTo(caller);
		return;
	}
	if (reducer->item.whole || reducer->strict)
	{
		slot_getallattrs(event);
		item.value = HeapTupleGetDatum(heap_form_tuple(reducer->item.columns,
													   event->tts_values,
													   event->tts_isnull));
	}
	if (!reducer->strict || !must_skip(reducer, state, &item))
	{
		reducer->econtext->ecxt_outertuple = event;
		param->value = item.value;
		param->isnull = false;
		step(reducer, state);
	}
	MemoryContextSwitchTo(caller);
}

/* Change the document that is the state by an event's data. */
static void
change_document(IeReducer *reducer, IeState *state, TupleTableSlot *event)
{
	bool		isnull;
	Datum		data = slot_getattr(event, IE_DATA, &isnull);

	if (isnull)
		return;
	reducer->change(state->document, DatumGetJsonbP(data));
	state->isnull = ie_document_is_empty(state->document);
}

/*
 * A strict reducer does not see NULLs, as in an aggregate: a NULL item is
 * passed over, a NULL state takes the first item as it is, and a state that
 * became NULL stays so.
 */
static bool
must_skip(IeReducer *reducer, IeState *state, const NullableDatum *items)
{
	int			i;

	for (i = 0; i < reducer->nitems; i++)
		if (items[i].isnull)
			return true;
	if (!state->started)
	{
		if (!reducer->first_item_starts)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("the initial state of strict reducer %s must not be NULL",
							format_procedure(reducer->function)),
					 errhint("Give an initial state, or declare the function CALLED ON NULL INPUT.")));
		state->started = true;
		ie_state_keep(reducer, state, items[0].value, false);
		return true;
	}
	return state->isnull;
}

/* Call one of PostgreSQL's own functions over values that are no pointers. */
static void
call_bare(IeReducer *reducer, IeState *state, const NullableDatum *items)
{
	FunctionCallInfo fcinfo = reducer->direct;
	int			i;

	fcinfo->args[0].value = state->value;
	fcinfo->args[0].isnull = state->isnull;
	for (i = 0; i < reducer->nitems; i++)
		fcinfo->args[i + 1] = items[i];
	fcinfo->isnull = false;
	state->value = FunctionCallInvoke(fcinfo);
	state->isnull = fcinfo->isnull;
}

/* Call the function with the parameters of the expression. */
static Datum
call(IeReducer *reducer, bool *isnull)
{
	FunctionCallInfo fcinfo = reducer->direct;
	Datum		value;
	int			i;

	for (i = 0; i < fcinfo->nargs; i++)
	{
		fcinfo->args[i].value = reducer->params->params[i].value;
		fcinfo->args[i].isnull = reducer->params->params[i].isnull;
	}
	fcinfo->isnull = false;
	value = FunctionCallInvoke(fcinfo);
	*isnull = fcinfo->isnull;
	return value;
}

/* Compute the next state. */
static void
step(IeReducer *reducer, IeState *state)
{
	ParamExternData *param = &reducer->params->params[STATE_PARAM - 1];
	bool		isnull;
	Datum		value;

	param->isnull = state->isnull;
	if (reducer->outcome != NULL)
	{
		ie_row_step(reducer, state);
		return;
	}
	ie_state_begin(reducer, state);
	param->value = state->value;
	if (reducer->state.slot != NULL)
	{
		if (state->isnull)
			ExecStoreAllNullTuple(reducer->state.slot);
		else
			fill_row(&reducer->state, DatumGetHeapTupleHeader(state->value));
	}
	value = reducer->direct != NULL ? call(reducer, &isnull)
		: ExecEvalExpr(reducer->expression, reducer->econtext, &isnull);
	ie_state_keep(reducer, state, value, isnull);
}

/* Hand the first item to the expression, as the row type it declares. */
static void
pass_item(IeReducer *reducer, NullableDatum item)
{
	ParamExternData *param = &reducer->params->params[FIRST_ITEM_PARAM - 1];
	RowParam   *row = &reducer->item;
	HeapTupleHeader header;

	param->value = item.value;
	param->isnull = item.isnull;
	if (row->columns == NULL)
		return;
	reducer->econtext->ecxt_outertuple = row->slot;
	if (item.isnull)
	{
		if (row->slot != NULL)
			ExecStoreAllNullTuple(row->slot);
		return;
	}
	header = DatumGetHeapTupleHeader(item.value);
	if (reducer->convert_item && (row->arriving == NULL || row->whole))
	{
		HeapTuple	tuple = convert_item(reducer, header);

		header = tuple->t_data;
		if (row->whole)
			param->value = heap_copy_tuple_as_datum(tuple, row->columns);
	}
	point_at(row, header);
	if (row->slot != NULL)
		ExecStoreHeapTuple(&row->tuple, row->slot, false);
}

/* Refuse an event that stands before the last one. */
static void
check_order(const IeReducer *reducer, IeState *state, HeapTuple event)
{
	bool		isnull;
	int64		position = DatumGetInt64(fastgetattr(event, IE_POSITION,
													 reducer->item.columns,
													 &isnull));

	if (isnull)
		return;					/* not from a log */
	if (position <= state->position)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("events must be folded in order"),
				 errdetail("Position " INT64_FORMAT " came after position " INT64_FORMAT ".",
						   position, state->position),
				 errhint("Write fold(... ORDER BY e.position), or read from a subquery with ORDER BY position.")));
	state->position = position;
}

/* Put a row into its slot; the row stays where it is. */
static void
fill_row(RowParam *row, HeapTupleHeader header)
{
	ExecStoreHeapTuple(point_at(row, header), row->slot, false);
}

/* The tuple that begins with a header. */
static HeapTuple
point_at(RowParam *row, HeapTupleHeader header)
{
	row->tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	ItemPointerSetInvalid(&row->tuple.t_self);
	row->tuple.t_tableOid = InvalidOid;
	row->tuple.t_data = header;
	return &row->tuple;
}

/* Match a row of another type to the declared one, column by name. */
static HeapTuple
convert_item(IeReducer *reducer, HeapTupleHeader header)
{
	Oid			type = HeapTupleHeaderGetTypeId(header);
	int32		typmod = HeapTupleHeaderGetTypMod(header);
	HeapTuple	tuple = point_at(&reducer->item, header);

	if (type != reducer->item_type || typmod != reducer->item_typmod)
	{
		MemoryContext caller =
		MemoryContextSwitchTo(GetMemoryChunkContext(reducer));

		reducer->item_map =
			convert_tuples_by_name(lookup_rowtype_tupdesc_copy(type, typmod),
								   reducer->item.columns);
		reducer->item_type = type;
		reducer->item_typmod = typmod;
		MemoryContextSwitchTo(caller);
	}
	if (reducer->item_map == NULL)
		return tuple;
	return execute_attr_map_tuple(tuple, reducer->item_map);
}
