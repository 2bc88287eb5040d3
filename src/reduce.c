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
static void pass_item(IeReducer *reducer, NullableDatum item);
static void check_order(const IeReducer *reducer, IeState *state,
						HeapTuple event);
static void fill_row(RowParam *row, HeapTupleHeader header);
static HeapTuple point_at(RowParam *row, HeapTupleHeader header);
static HeapTuple convert_item(IeReducer *reducer, HeapTupleHeader header);
static void call_directly(IeReducer *reducer, IeState *state,
						  const NullableDatum *items);
static void step(IeReducer *reducer, IeState *state);
static void keep(IeReducer *reducer, IeState *state, Datum value,
				 bool isnull);
static void keep_expanded(IeReducer *reducer, IeState *state, Datum value);
static void flatten(IeReducer *reducer);
static void store(IeReducer *reducer, IeState *state, Datum value);
static char *reserve(IeState *state, Size size, char **old);

/* Begin with a copy of the initial state. */
void
ie_state_init(IeReducer *reducer, IeState *state, Datum initial,
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
	keep(reducer, state, initial, isnull);
}

/* A copy of the state, in the current context. */
Datum
ie_state_copy(const IeReducer *reducer, const IeState *state)
{
	if (state->isnull)
		return (Datum) 0;
	if (state->document != NULL)
		return JsonbPGetDatum(ie_document_write(state->document));
	if (state->columns != NULL)
		return ie_row_copy(reducer, state);
	return datumCopy(state->value, reducer->state_byval, reducer->state_len);
}

/* Give back what a state holds; its context may go on without it. */
void
ie_state_free(IeReducer *reducer, IeState *state)
{
	ie_state_gone(reducer, state);
	if (state->document != NULL)
		ie_document_free(state->document);
	if (state->columns != NULL)
		ie_row_free(reducer, state);
	if (state->chunk != NULL)
		pfree(state->chunk);
}

/* A state is about to vanish with its context, or did in an error: forget it. */
void
ie_state_gone(IeReducer *reducer, const IeState *state)
{
	if (reducer->expanded_state == NULL ||
		(state != NULL && reducer->expanded_state != state))
		return;
	reducer->expanded_state = NULL;
	MemoryContextDeleteChildren(reducer->expanded[0]);
	MemoryContextDeleteChildren(reducer->expanded[1]);
}

/* Fold items into a state. */
void
ie_reduce(IeReducer *reducer, IeState *state, const NullableDatum *items)
{
	MemoryContext caller;
	int			i;

	if (reducer->strict && must_skip(reducer, state, items))
		return;
	if (reducer->direct != NULL)
	{
		call_directly(reducer, state, items);
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
		keep(reducer, state, items[0].value, false);
		return true;
	}
	return state->isnull;
}

/* Call one of PostgreSQL's own functions over values that are no pointers. */
static void
call_directly(IeReducer *reducer, IeState *state, const NullableDatum *items)
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
	if (reducer->expanded_state != NULL && reducer->expanded_state != state)
		flatten(reducer);
	param->value = state->value;
	if (reducer->state.slot != NULL)
	{
		if (state->isnull)
			ExecStoreAllNullTuple(reducer->state.slot);
		else
			fill_row(&reducer->state, DatumGetHeapTupleHeader(state->value));
	}
	value = ExecEvalExpr(reducer->expression, reducer->econtext, &isnull);
	keep(reducer, state, value, isnull);
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

/* Keep a value as the state. */
static void
keep(IeReducer *reducer, IeState *state, Datum value, bool isnull)
{
	if (reducer->outcome != NULL)
	{
		ie_row_keep(reducer, state, value, isnull);
		return;
	}
	state->isnull = isnull;
	if (isnull || reducer->state_byval)
		state->value = value;
	else if (reducer->last_state == state &&
			 VARATT_IS_EXTERNAL_EXPANDED_RW(DatumGetPointer(value)))
	{
		keep_expanded(reducer, state, value);
		return;
	}
	else
		store(reducer, state, value);
	ie_state_gone(reducer, state);
	if (reducer->in_place)
		reducer->last_state = state;
}

/*
 * Keep an expanded object as it is, so that the function can go on with it in
 * place, when it goes on with the same state. One state at a time has that: a
 * memory context for each of 100,000 groups would be too much. The object moves
 * to the other of two contexts; what stays behind in the first was not used
 * again.
 */
static void
keep_expanded(IeReducer *reducer, IeState *state, Datum value)
{
	MemoryContext left = reducer->expanded[0];

	if (reducer->expanded_state != NULL && reducer->expanded_state != state)
		flatten(reducer);
	state->value = TransferExpandedObject(value, reducer->expanded[1]);
	reducer->expanded_state = state;
	reducer->expanded[0] = reducer->expanded[1];
	reducer->expanded[1] = left;
	MemoryContextDeleteChildren(left);
}

/* Make a flat value of the state that is an expanded object. */
static void
flatten(IeReducer *reducer)
{
	IeState    *state = reducer->expanded_state;

	store(reducer, state, state->value);
	ie_state_gone(reducer, state);
}

/*
 * Keep a value in the state's one chunk, which is overwritten in place and
 * grows by doubling, so that memory stays flat over any number of events.
 */
static void
store(IeReducer *reducer, IeState *state, Datum value)
{
	char	   *from = DatumGetPointer(value);
	char	   *old = NULL;
	char	   *chunk;
	Size		size;

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
