/*
 * project.c: the trigger of inline projections.
 *
 * One statement trigger on a log serves all its inline projections, with the
 * transition table of what the statement has appended, whether by append, by
 * the planner or by COPY. Events of one stream reach a read model in their
 * order: a trigger that appends in between is refused, and so is an import
 * that comes after later events of its streams.
 */
#include "projection.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "upcast.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#define CHUNK	10000			/* events at a time */

/* The logs that are being projected, the innermost first. */
typedef struct Running
{
	Oid			log;
	struct Running *outer;
} Running;

static Running *running = NULL;

static void project_all(Relation log, Tuplestorestate *events);
static void check_not_running(Relation log);
static void check_streams(Relation log, Tuplestorestate *events,
						  List *targets);
static bool are_commutative(List *targets);
static void receive_stream(void *state);
static bool is_in_order(Tuplestorestate *store, TupleTableSlot *slot,
						int64 *first, int64 *last);
static int	compare_positions(const void *a, const void *b, void *columns);

PG_FUNCTION_INFO_V1(ie_project_trigger);

/* Fold what was appended into the read models of the log. */
Datum
ie_project_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	Running		this;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigdata->tg_event) ||
		TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) ||
		trigdata->tg_newtable == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be fired AFTER INSERT FOR EACH STATEMENT with a transition table",
						"immutable._project")));
	check_not_running(trigdata->tg_relation);
	this.log = RelationGetRelid(trigdata->tg_relation);
	this.outer = running;
	running = &this;
	PG_TRY();
	{
		project_all(trigdata->tg_relation, trigdata->tg_newtable);
	}
	PG_FINALLY();
	{
		running = this.outer;
	}
	PG_END_TRY();
	return PointerGetDatum(NULL);
}

/* One projection after the other, in an order that all backends share. */
static void
project_all(Relation log, Tuplestorestate *events)
{
	List	   *targets = list_copy(ie_inline_projections(RelationGetRelid(log)));
	ListCell   *cell;

	if (targets == NIL)
		return;
	(void) tuplestore_alloc_read_pointer(events, EXEC_FLAG_REWIND);
	tuplestore_select_read_pointer(events, 1);
	check_streams(log, events, targets);
	foreach(cell, targets)
		ie_project_inline(lfirst_oid(cell), events, RelationGetDescr(log));
}

/*
 * A trigger on a read model that appends to the log would have its event
 * projected before this one is, in the read models that come next.
 */
static void
check_not_running(Relation log)
{
	const Running *outer;

	for (outer = running; outer != NULL; outer = outer->outer)
		if (outer->log == RelationGetRelid(log))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("cannot append to log \"%s\" while its events are projected",
							RelationGetRelationName(log)),
					 errhint("React to a read model in a consumer, or make the projection asynchronous."),
					 errtable(log)));
}

/*
 * What is above everything that this backend has projected, and was appended,
 * is in order. Of anything else no stream may have later events, beside these.
 */
static void
check_streams(Relation log, Tuplestorestate *events, List *targets)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(log),
													&TTSOpsMinimalTuple);
	Oid			types[] = {REGCLASSOID, TEXTARRAYOID, INT8ARRAYOID};
	Datum		values[] = {ObjectIdGetDatum(RelationGetRelid(log)), 0, 0};
	ArrayBuildState *streams = NULL;
	ArrayBuildState *positions = NULL;
	char	   *stream = NULL;
	int64		first;
	int64		last;
	bool		isnull;

	(void) is_in_order(events, slot, &first, &last);
	if (last > 0 && !ie_follows_projected(RelationGetRelid(log), first, last) &&
		!are_commutative(targets))
	{
		while (tuplestore_gettupleslot(events, true, false, slot))
		{
			streams = accumArrayResult(streams, slot_getattr(slot, IE_STREAM, &isnull),
									   false, TEXTOID, CurrentMemoryContext);
			positions = accumArrayResult(positions, slot_getattr(slot, IE_POSITION, &isnull),
										 false, INT8OID, CurrentMemoryContext);
		}
		values[1] = makeArrayResult(streams, CurrentMemoryContext);
		values[2] = makeArrayResult(positions, CurrentMemoryContext);
		ie_registry_query(psprintf("SELECT b.stream FROM (SELECT u.stream, pg_catalog.min(u.position) AS first,"
								   " pg_catalog.count(*) AS events FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) u (stream, position)"
								   " GROUP BY u.stream) b"
								   " WHERE (SELECT pg_catalog.count(*) FROM %s l"
								   " WHERE l.stream OPERATOR(pg_catalog.=) b.stream COLLATE pg_catalog.\"C\""
								   " AND l.position OPERATOR(pg_catalog.>=) b.first)"
								   " OPERATOR(pg_catalog.<>) b.events LIMIT 1",
								   ie_qualified_name(log)),
						  3, types, values, NULL, receive_stream, &stream);
	}
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_rescan(events);
	if (stream != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot project the events of stream \"%s\" in order", stream),
				 errdetail("Later events of the stream have been projected before."),
				 errhint("Import a stream's events in order or in one statement. A row trigger on the log must not append to it."),
				 errtable(log)));
}

/* May the events of these projections come in any order? */
static bool
are_commutative(List *targets)
{
	ListCell   *cell;

	foreach(cell, targets)
		if (!ie_projection(lfirst_oid(cell))->commutative)
			return false;
	return true;
}

/* Take the name of a stream. */
static void
receive_stream(void *state)
{
	if (SPI_processed > 0)
	{
		char	   *found = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
		Size		size = strlen(found) + 1;

		*(char **) state = memcpy(SPI_palloc(size), found, size);
	}
}

/* Fold a tuple store of events into one read model, chunk by chunk. */
void
ie_project_inline(Oid target, Tuplestorestate *store, TupleDesc columns)
{
	IeProjection *projection = ie_projection(target);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(columns, &TTSOpsMinimalTuple);
	int64		first;
	int64		last;
	bool		in_order = is_in_order(store, slot, &first, &last);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "immutable_events appended",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller_context;
	IeEvents	events = {0};
	IeUpcasts  *upcasts;
	IeCaller	caller;
	bool		more = true;

	ie_projection_enter(projection, &caller);
	upcasts = ie_upcasts(projection->log);
	caller_context = MemoryContextSwitchTo(context);
	while (more)
	{
		more = tuplestore_gettupleslot(store, true, false, slot);
		if (more)
			ie_events_add(&events, upcasts == NULL ? slot
						  : ie_upcast_slot(upcasts, slot));
		if (more && (!in_order || events.count < CHUNK))
			continue;
		if (!in_order)
			qsort_arg(events.tuples, events.count, sizeof(HeapTuple),
					  compare_positions, columns);
		ie_project(projection, &events, true);
		memset(&events, 0, sizeof(events));
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(caller_context);
	ie_end_upcasts(upcasts);
	ie_projection_leave(&caller);
	MemoryContextDelete(context);
	ExecDropSingleTupleTableSlot(slot);
}

/*
 * Do the positions rise? An import may bring them in any order. Answers the
 * lowest and the highest, too, or 0 when there are none.
 */
static bool
is_in_order(Tuplestorestate *store, TupleTableSlot *slot, int64 *first,
			int64 *last)
{
	bool		in_order = true;
	bool		isnull;

	*first = *last = 0;
	tuplestore_rescan(store);
	while (tuplestore_gettupleslot(store, true, false, slot))
	{
		int64		position = DatumGetInt64(slot_getattr(slot, IE_POSITION, &isnull));

		CHECK_FOR_INTERRUPTS();
		in_order = in_order && position > *last;
		*first = *last == 0 ? position : Min(*first, position);
		*last = Max(*last, position);
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
