/*
 * projector.c: a batch of events into a read model.
 *
 * The one engine of all projections. Events are grouped by the key of the row
 * they concern; the rows are loaded, folded in order of position, and written.
 * When others may write to the same rows (an inline projection runs in the
 * transactions of all who append), rows are locked and made in the order of
 * their keys, so that two batches never wait for each other.
 */
#include "projection.h"

#include "catalog/pg_collation.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

/* One batch on its way into a read model. */
typedef struct Batch
{
	IeProjection *projection;
	const IeEvents *events;
	TupleTableSlot *slot;		/* of an event */
	IeKeyGroup *groups;			/* in order of their keys */
	int			count;
} Batch;

static HeapTuple current_event = NULL;	/* being folded, or NULL */

static bool is_wanted(const IeProjection *projection, TupleTableSlot *event);
static bool has_type(ArrayType *types, const text *type);
static void group_events(Batch *batch);
static void project_alone(Batch *batch);
static void project_among_others(Batch *batch);
static void project_directly(Batch *batch, IeDirect *direct);
static void project_existing(Batch *batch, IeKeyGroup *groups, int count,
							 bool exist);
static void project_new(Batch *batch, IeKeyGroup *groups, int count);
static void fold(Batch *batch, IeKeyGroup *group);
static void add_context(void *arg);

/* Remember an event, in the current context. */
void
ie_events_add(IeEvents *events, TupleTableSlot *slot)
{
	if (events->count == events->capacity)
	{
		events->capacity = Max(64, 2 * events->capacity);
		events->tuples = events->tuples == NULL
			? palloc(events->capacity * sizeof(HeapTuple))
			: repalloc_huge(events->tuples, events->capacity * sizeof(HeapTuple));
	}
	events->tuples[events->count++] = ExecCopySlotHeapTuple(slot);
}

/*
 * Fold events, which are in order of position, into a read model. The caller
 * has become the projection's owner. Concurrent: others may do the same.
 */
void
ie_project(IeProjection *projection, const IeEvents *events, bool concurrent)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "immutable_events projector",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	ErrorContextCallback callback = {.callback = add_context,
	.arg = projection, .previous = error_context_stack};
	Batch		batch = {.projection = projection, .events = events};
	HeapTuple	outer_event = current_event;

	error_context_stack = &callback;
	current_event = NULL;
	batch.slot = MakeSingleTupleTableSlot(projection->event_columns, &TTSOpsHeapTuple);
	projection->running = true;
	PG_TRY();
	{
		group_events(&batch);
		if (batch.count > 0)
		{
			IeDirect   *direct = ie_direct_begin(projection);

			if (direct != NULL)
				project_directly(&batch, direct);
			else if (concurrent)
				project_among_others(&batch);
			else
				project_alone(&batch);
		}
	}
	PG_FINALLY();
	{
		projection->running = false;
	}
	PG_END_TRY();
	ExecDropSingleTupleTableSlot(batch.slot);
	current_event = outer_event;
	error_context_stack = callback.previous;
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}

/* The event that was being folded when an error was raised, or NULL. */
HeapTuple
ie_projected_event(void)
{
	return current_event;
}

/* Does the projection take events of this type and stream? */
static bool
is_wanted(const IeProjection *projection, TupleTableSlot *event)
{
	bool		isnull;
	Datum		value;

	if (projection->prefix != NULL)
	{
		value = slot_getattr(event, IE_STREAM, &isnull);
		if (!DatumGetBool(DirectFunctionCall2Coll(text_starts_with,
												  C_COLLATION_OID, value,
												  PointerGetDatum(projection->prefix))))
			return false;
	}
	if (projection->types == NULL)
		return true;
	return has_type(projection->types, DatumGetTextPP(slot_getattr(event, IE_TYPE, &isnull)));
}

/* Is a type among these? */
static bool
has_type(ArrayType *types, const text *type)
{
	ArrayIterator iterator = array_create_iterator(types, 0, NULL);
	Datum		value;
	bool		isnull;
	bool		found = false;

	while (!found && array_iterate(iterator, &value, &isnull))
		found = !isnull && ie_same_text(DatumGetTextPP(value), type);
	array_free_iterator(iterator);
	return found;
}

/* Find out which events concern which rows. */
static void
group_events(Batch *batch)
{
	IeProjection *projection = batch->projection;
	IeConcern  *concerns = NULL;
	Size		capacity = 0;
	Size		count = 0;
	Size		i;

	for (i = 0; i < (Size) batch->events->count; i++)
	{
		ListCell   *cell;

		CHECK_FOR_INTERRUPTS();
		current_event = batch->events->tuples[i];
		ExecStoreHeapTuple(current_event, batch->slot, false);
		if (!is_wanted(projection, batch->slot))
			continue;
		foreach(cell, ie_event_keys(projection, batch->slot))
		{
			if (count == capacity)
			{
				capacity = Max(64, 2 * capacity);
				concerns = concerns == NULL ? palloc(capacity * sizeof(IeConcern))
					: repalloc_huge(concerns, capacity * sizeof(IeConcern));
			}
			concerns[count++] = (IeConcern) {.key = lfirst(cell), .event = (int) i};
		}
	}
	current_event = NULL;
	if (count > 0)
		batch->count = ie_group_by_key(projection, concerns, count, &batch->groups);
}

/* Load, fold and write: nobody else writes to this read model. */
static void
project_alone(Batch *batch)
{
	int			i;

	ie_load_rows(batch->projection, batch->groups, batch->count, false);
	for (i = 0; i < batch->count; i++)
		fold(batch, &batch->groups[i]);
	ie_write_rows(batch->projection, batch->groups, batch->count);
}

/*
 * The same beside others: in order of keys, runs of rows that exist are locked,
 * and runs of new ones are made. One key has no order to keep.
 */
static void
project_among_others(Batch *batch)
{
	int			i = 0;

	if (batch->count == 1)
	{
		project_existing(batch, batch->groups, 1, false);
		return;
	}
	ie_load_rows(batch->projection, batch->groups, batch->count, false);
	while (i < batch->count)
	{
		bool		exists = batch->groups[i].row != NULL;
		int			first = i;

		while (i < batch->count && (batch->groups[i].row != NULL) == exists)
			i++;
		if (exists)
			project_existing(batch, &batch->groups[first], i - first, false);
		else
			project_new(batch, &batch->groups[first], i - first);
	}
}

/*
 * Row by row, without queries: again where somebody else has changed a row
 * while it was folded.
 */
static void
project_directly(Batch *batch, IeDirect *direct)
{
	int			i;

	for (i = 0; i < batch->count; i++)
	{
		IeKeyGroup *group = &batch->groups[i];

		do
		{
			ie_direct_load(direct, group);
			fold(batch, group);
		} while (!ie_direct_write(direct, group));
	}
	ie_direct_end(direct);
}

/* Rows that were there a moment ago; exist: no other can have removed them. */
static void
project_existing(Batch *batch, IeKeyGroup *groups, int count, bool exist)
{
	int			i;

	ie_load_rows(batch->projection, groups, count, true);
	if (exist && groups[0].row == NULL)
		ie_refuse_meddling(batch->projection);
	for (i = 0; i < count; i++)
		if (groups[i].row != NULL)
			fold(batch, &groups[i]);
	ie_write_rows(batch->projection, groups, count);
	for (i = 0; i < count; i++)
		if (groups[i].row == NULL)
			project_new(batch, &groups[i], 1);
}

/*
 * Rows that were not there a moment ago. Where somebody was faster, the row is
 * locked by now, and is folded from what it is.
 */
static void
project_new(Batch *batch, IeKeyGroup *groups, int count)
{
	HeapTupleHeader *wanted = palloc(count * sizeof(HeapTupleHeader));
	int			i;

	for (i = 0; i < count; i++)
	{
		fold(batch, &groups[i]);
		wanted[i] = groups[i].result;
	}
	ie_add_rows(batch->projection, groups, count);
	for (i = 0; i < count; i++)
		if (wanted[i] != NULL && groups[i].result == NULL)
			project_existing(batch, &groups[i], 1, true);
}

/* Fold the events of one row. */
static void
fold(Batch *batch, IeKeyGroup *group)
{
	IeProjection *projection = batch->projection;
	IeReducer  *reducer = projection->reducer;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "immutable_events row",
												  ALLOCSET_SMALL_SIZES);
	IeState		state;
	int			i;

	ie_state_gone(reducer, NULL);
	ie_state_init(reducer, &state,
				  group->row != NULL ? HeapTupleHeaderGetDatum(group->row)
				  : ie_initial_row(projection, group->key), false, context);
	for (i = 0; i < group->nevents; i++)
	{
		CHECK_FOR_INTERRUPTS();
		current_event = batch->events->tuples[group->events[i]];
		ExecStoreHeapTuple(current_event, batch->slot, false);
		if (state.isnull)		/* deleted just before: it begins again */
		{
			ie_state_free(reducer, &state);
			ie_state_init(reducer, &state, ie_initial_row(projection, group->key),
						  false, context);
		}
		ie_reduce_slot(reducer, &state, batch->slot);
	}
	group->result = state.isnull ? NULL
		: ie_take_result(projection, group, ie_state_copy(reducer, &state));
	current_event = NULL;
	ie_state_gone(reducer, &state);
	MemoryContextDelete(context);
}

/* Say which projection and which event an error is about. */
static void
add_context(void *arg)
{
	const IeProjection *projection = arg;
	bool		isnull;

	if (current_event == NULL)
		errcontext("projection \"%s\"", projection->name);
	else
		errcontext("projection \"%s\", event at position " INT64_FORMAT,
				   projection->name,
				   DatumGetInt64(heap_getattr(current_event, IE_POSITION,
											  projection->event_columns,
											  &isnull)));
}
