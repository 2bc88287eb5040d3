/*
 * reduce.c: run a compiled reducer over the items of one state.
 *
 * The state lives in one chunk that is overwritten in place; everything else
 * that an item needs is gone when the next one comes.
 */
#include "reducer.h"

#include "access/detoast.h"
#include "funcapi.h"
#include "utils/datum.h"
#include "utils/expandeddatum.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/typcache.h"

static void change_document(IeReducer *reducer, IeState *state,
							TupleTableSlot *event);
static bool must_skip(IeReducer *reducer, IeState *state,
					  const NullableDatum *items);
static void pass_state(IeReducer *reducer, const IeState *state);
static void pass_item(IeReducer *reducer, NullableDatum item);
static void check_order(IeReducer *reducer, IeState *state);
static void fill_row(RowParam *row, HeapTupleHeader header);
static HeapTuple point_at(RowParam *row, HeapTupleHeader header);
static HeapTuple convert_item(IeReducer *reducer, HeapTupleHeader header);
static void evaluate(IeReducer *reducer, IeState *state);
static void store(const IeReducer *reducer, IeState *state, Datum value,
				  bool isnull);
static char *reserve(IeState *state, Size size, char **old);

/* Begin with a copy of the initial state. */
void
ie_state_init(const IeReducer *reducer, IeState *state, Datum initial,
			  bool isnull, MemoryContext context)
{
	memset(state, 0, sizeof(*state));
	state->context = context;
	state->started = !isnull;
	if (reducer->change != NULL)
	{
		state->document = ie_document_read(isnull ? NULL : DatumGetJsonbP(initial),
										   context);
		state->isnull = isnull;
		return;
	}
	store(reducer, state, initial, isnull);
}

/* A copy of the state, in the current context. */
Datum
ie_state_copy(const IeReducer *reducer, const IeState *state)
{
	if (state->isnull)
		return (Datum) 0;
	if (state->document != NULL)
		return JsonbPGetDatum(ie_document_write(state->document));
	return datumCopy(state->value, reducer->state_byval, reducer->state_len);
}

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
	ResetExprContext(reducer->econtext);
	caller = MemoryContextSwitchTo(reducer->econtext->ecxt_per_tuple_memory);
	pass_state(reducer, state);
	pass_item(reducer, items[0]);
	if (reducer->check_order)
		check_order(reducer, state);
	if (reducer->change != NULL)
	{
		if (!items[0].isnull)
			change_document(reducer, state, reducer->item.slot);
		MemoryContextSwitchTo(caller);
		return;
	}
	for (i = 1; i < reducer->nitems; i++)
	{
		reducer->params->params[i + 1].value = items[i].value;
		reducer->params->params[i + 1].isnull = items[i].isnull;
	}
	evaluate(reducer, state);
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
		pass_state(reducer, state);
		reducer->econtext->ecxt_outertuple = event;
		param->value = item.value;
		param->isnull = false;
		evaluate(reducer, state);
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
		store(reducer, state, items[0].value, false);
		return true;
	}
	return state->isnull;
}

/* Hand the state to the expression. */
static void
pass_state(IeReducer *reducer, const IeState *state)
{
	ParamExternData *param = &reducer->params->params[STATE_PARAM - 1];

	param->value = state->value;
	param->isnull = state->isnull;
	if (reducer->state.slot == NULL)
		return;
	if (state->isnull)
		ExecStoreAllNullTuple(reducer->state.slot);
	else
		fill_row(&reducer->state, DatumGetHeapTupleHeader(state->value));
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
	if (reducer->convert_item)
	{
		HeapTuple	tuple = convert_item(reducer, header);

		header = tuple->t_data;
		if (row->whole)
			param->value = heap_copy_tuple_as_datum(tuple, row->columns);
	}
	if (row->slot != NULL)
		fill_row(row, header);
}

/* Refuse an event that stands before the last one. */
static void
check_order(IeReducer *reducer, IeState *state)
{
	bool		isnull;
	int64		position = DatumGetInt64(slot_getattr(reducer->item.slot,
													  IE_POSITION, &isnull));

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

/* Run the expression and keep what it returns. */
static void
evaluate(IeReducer *reducer, IeState *state)
{
	bool		isnull;
	Datum		value = ExecEvalExpr(reducer->expression, reducer->econtext,
									 &isnull);

	store(reducer, state, value, isnull);
}

/*
 * Keep a value as the state: in the state's one chunk, which is overwritten
 * in place and grows by doubling, so that memory stays flat over any number
 * of events.
 */
static void
store(const IeReducer *reducer, IeState *state, Datum value, bool isnull)
{
	char	   *from = DatumGetPointer(value);
	char	   *old = NULL;
	char	   *chunk;
	Size		size;

	state->isnull = isnull;
	if (isnull || reducer->state_byval)
	{
		state->value = value;
		return;
	}
	if (from == state->chunk)
		return;					/* the reducer returned the state unchanged */
	if (reducer->state_len == -1 && VARATT_IS_EXTERNAL_EXPANDED(from))
	{
		ExpandedObjectHeader *expanded = DatumGetEOHP(value);

		size = EOH_get_flat_size(expanded);
		chunk = reserve(state, size, &old);
		EOH_flatten_into(expanded, chunk, size);
	}
	else
	{
		if (reducer->state_len == -1 &&
			(VARATT_IS_EXTERNAL(from) || VARATT_IS_COMPRESSED(from)))
			from = (char *) detoast_attr((struct varlena *) from);
		size = datumGetSize(PointerGetDatum(from), false, reducer->state_len);
		chunk = reserve(state, size, &old);
		memmove(chunk, from, size);
	}
	if (old != NULL)
		pfree(old);				/* only now: the value may have pointed there */
	state->value = PointerGetDatum(chunk);
}

/* Make the chunk large enough; the one it replaces is left to the caller. */
static char *
reserve(IeState *state, Size size, char **old)
{
	if (size > state->capacity)
	{
		*old = state->chunk;
		state->capacity = state->chunk == NULL
			? size : Max(size, 2 * state->capacity);
		state->chunk = MemoryContextAllocHuge(state->context, state->capacity);
	}
	return state->chunk;
}
