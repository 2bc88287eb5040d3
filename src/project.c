/*
 * project.c: the trigger of inline projections.
 *
 * One statement trigger on a log serves all its inline projections, with the
 * transition table of what the statement has appended, whether by append, by
 * the planner or by COPY.
 */
#include "projection.h"

#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#define CHUNK	10000			/* events at a time */

static bool is_in_order(Tuplestorestate *store, TupleTableSlot *slot);
static int	compare_positions(const void *a, const void *b, void *columns);

PG_FUNCTION_INFO_V1(ie_project_trigger);

/* Fold what was appended into the read models of the log. */
Datum
ie_project_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	Tuplestorestate *store;
	ListCell   *cell;
	int			pointer;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigdata->tg_event) ||
		TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) ||
		trigdata->tg_newtable == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be fired AFTER INSERT FOR EACH STATEMENT with a transition table",
						"immutable._project")));
	store = trigdata->tg_newtable;
	pointer = tuplestore_alloc_read_pointer(store, EXEC_FLAG_REWIND);
	foreach(cell, list_copy(ie_inline_projections(RelationGetRelid(trigdata->tg_relation))))
	{
		tuplestore_select_read_pointer(store, pointer);
		ie_project_inline(lfirst_oid(cell), store,
						  RelationGetDescr(trigdata->tg_relation));
	}
	return PointerGetDatum(NULL);
}

/* Fold a tuple store of events into one read model, chunk by chunk. */
void
ie_project_inline(Oid target, Tuplestorestate *store, TupleDesc columns)
{
	IeProjection *projection = ie_projection(target);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(columns, &TTSOpsMinimalTuple);
	bool		in_order = is_in_order(store, slot);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "immutable_events appended",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller_context = MemoryContextSwitchTo(context);
	IeEvents	events = {0};
	IeCaller	caller;
	bool		more = true;

	ie_projection_enter(projection, &caller);
	while (more)
	{
		more = tuplestore_gettupleslot(store, true, false, slot);
		if (more)
			ie_events_add(&events, slot);
		if (more && (!in_order || events.count < CHUNK))
			continue;
		if (!in_order)
			qsort_arg(events.tuples, events.count, sizeof(HeapTuple),
					  compare_positions, columns);
		ie_project(projection, &events, true);
		memset(&events, 0, sizeof(events));
		MemoryContextReset(context);
	}
	ie_projection_leave(&caller);
	MemoryContextSwitchTo(caller_context);
	MemoryContextDelete(context);
	ExecDropSingleTupleTableSlot(slot);
}

/* Do the positions rise? An import may bring them in any order. */
static bool
is_in_order(Tuplestorestate *store, TupleTableSlot *slot)
{
	int64		last = 0;
	bool		in_order = true;
	bool		isnull;

	tuplestore_rescan(store);
	while (in_order && tuplestore_gettupleslot(store, true, false, slot))
	{
		int64		position = DatumGetInt64(slot_getattr(slot, IE_POSITION, &isnull));

		CHECK_FOR_INTERRUPTS();
		in_order = position > last;
		last = position;
	}
	ExecClearTuple(slot);
	tuplestore_rescan(store);
	return in_order;
}

/* Order tuples by position. */
static int
compare_positions(const void *a, const void *b, void *columns)
{
	bool		isnull;
	int64		x = DatumGetInt64(heap_getattr(*(HeapTuple *) a, IE_POSITION, columns, &isnull));
	int64		y = DatumGetInt64(heap_getattr(*(HeapTuple *) b, IE_POSITION, columns, &isnull));

	return (x > y) - (x < y);
}
