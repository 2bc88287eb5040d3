/*
 * read_log.c: the events of a log, in order of position.
 *
 * First it is decided up to where the log may be read, then a snapshot is
 * taken that shows all of it, and then a query reads: partitions, policies and
 * the order are the planner's business.
 */
#include "log.h"
#include "read_log.h"
#include "upcast.h"

#include "catalog/pg_type.h"
#include "executor/tstoreReceiver.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "tcop/dest.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

/* Takes the events of a log, and upcasts them if it has upcasters. */
typedef struct EventReceiver
{
	DestReceiver receiver;
	IeUpcasts  *upcasts;		/* NULL: none, the query selects */
	IeTakeEvent take;
	void	   *state;
	int64		left;			/* of max_events */
	const IePositions *as_recorded;
	Datum	   *types;			/* as handed out; NULL: all */
	bool	   *isnull;
	int			ntypes;
} EventReceiver;

static SPIPlanPtr prepare(Relation log, const IeSelection *selection,
						  const IeUpcasts *upcasts, int ntypes, Oid *types);
static void run(Relation log, const IeSelection *selection, Snapshot snapshot,
				IeUpcasts *upcasts, DestReceiver *receiver);
static DestReceiver *make_receiver(IeUpcasts *upcasts,
								   const IeSelection *selection,
								   IeTakeEvent take, void *state);
static void store_event(TupleTableSlot *event, void *store);
static bool receive_event(TupleTableSlot *slot, DestReceiver *self);
static bool is_selected(const EventReceiver *receiver, TupleTableSlot *event);
static void begin_nothing(DestReceiver *self, int operation, TupleDesc columns);
static void end_nothing(DestReceiver *self);

PG_FUNCTION_INFO_V1(ie_read_log);

/* Return the events after a position, up to the safe one. */
Datum
ie_read_log(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	IeSelection selection = {0};
	IeTarget	target;
	Snapshot	snapshot;

	ie_require_arg(fcinfo, 0, "log");
	ie_require_arg(fcinfo, 1, "after_position");
	selection.after = PG_GETARG_INT64(1);
	selection.max_events = PG_ARGISNULL(2) ? PG_INT64_MAX : PG_GETARG_INT64(2);
	selection.types = PG_ARGISNULL(3) ? NULL : PG_GETARG_ARRAYTYPE_P(3);
	selection.prefix = PG_ARGISNULL(4) ? NULL : PG_GETARG_TEXT_PP(4);
	if (selection.after < 0 || selection.max_events < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be negative",
						selection.after < 0 ? "after_position" : "max_events"),
				 errhint("Positions of a log begin at 1; NULL reads without a limit.")));
	InitMaterializedSRF(fcinfo, 0);
	target = ie_open_whole_log(PG_GETARG_OID(0), AccessShareLock);
	selection.upto = ie_readable_position(&target, &snapshot);
	if (!PG_ARGISNULL(5))
		selection.upto = Min(selection.upto, PG_GETARG_INT64(5));
	ie_select_events(target.log, &selection, snapshot, result->setResult);
	UnregisterSnapshot(snapshot);
	ie_close_log(&target);
	return (Datum) 0;
}

/* Put the selected events into a tuple store, as the caller may see them. */
void
ie_select_events(Relation log, const IeSelection *selection, Snapshot snapshot,
				 Tuplestorestate *store)
{
	IeUpcasts  *upcasts = ie_upcasts(RelationGetRelid(log));
	DestReceiver *receiver;

	if (upcasts == NULL)
	{
		receiver = CreateDestReceiver(DestTuplestore);
		SetTuplestoreDestReceiverParams(receiver, store, CurrentMemoryContext,
										false, NULL, NULL);
	}
	else
		receiver = make_receiver(upcasts, selection, store_event, store);
	run(log, selection, snapshot, upcasts, receiver);
}

/* Hand the selected events to a function, one by one. */
void
ie_take_events(Relation log, const IeSelection *selection, Snapshot snapshot,
			   IeTakeEvent take, void *state)
{
	IeUpcasts  *upcasts = ie_upcasts(RelationGetRelid(log));

	run(log, selection, snapshot, upcasts,
		make_receiver(upcasts, selection, take, state));
}

/*
 * Run the query for a selection. Types are those that events are handed out
 * under: where upcasters may rename them, the query gives all that could get
 * such a type, and the receiver selects.
 */
static void
run(Relation log, const IeSelection *selection, Snapshot snapshot,
	IeUpcasts *upcasts, DestReceiver *receiver)
{
	ArrayType  *recorded = upcasts == NULL || selection->types == NULL
		? selection->types : ie_upcast_types(upcasts, selection->types);
	Oid			types[] = {INT8OID, INT8OID, TEXTARRAYOID, TEXTOID, INT8OID,
	INT4OID, INT4OID, TEXTARRAYOID, TEXTOID};
	Datum		values[] = {Int64GetDatum(selection->after),
		Int64GetDatum(selection->upto), PointerGetDatum(recorded),
		PointerGetDatum(selection->prefix), Int64GetDatum(selection->max_events),
		Int32GetDatum(selection->shards), Int32GetDatum(selection->shard),
	PointerGetDatum(selection->without), PointerGetDatum(selection->stream)};
	SPIExecuteOptions options = {.read_only = true};
	ParamListInfo params = makeParamList(lengthof(types));
	SPIPlanPtr	plan;
	int			i;

	for (i = 0; i < (int) lengthof(types); i++)
	{
		params->params[i].value = values[i];
		params->params[i].isnull = values[i] == (Datum) 0 && types[i] != INT8OID && types[i] != INT4OID;
		params->params[i].ptype = types[i];
		params->params[i].pflags = PARAM_FLAG_CONST;
	}
	options.params = params;
	options.dest = receiver;
	PushActiveSnapshot(snapshot);
	SPI_connect();
	plan = prepare(log, selection, upcasts, lengthof(types), types);
	if (SPI_execute_plan_extended(plan, &options) < 0)
		elog(ERROR, "SPI_execute_plan_extended failed: %s",
			 SPI_result_code_string(SPI_result));
	SPI_finish();
	PopActiveSnapshot();
	ie_end_upcasts(upcasts);
}

/* The query for a selection. */
static SPIPlanPtr
prepare(Relation log, const IeSelection *selection, const IeUpcasts *upcasts,
		int ntypes, Oid *types)
{
	bool		selects = upcasts == NULL || selection->types == NULL;
	StringInfoData query;
	SPIPlanPtr	plan;

	initStringInfo(&query);
	appendStringInfo(&query, "SELECT * FROM %s%s"
					 " WHERE position OPERATOR(pg_catalog.>) $1"
					 " AND position OPERATOR(pg_catalog.<=) $2",
					 log->rd_rel->relkind == RELKIND_RELATION ? "ONLY " : "",
					 ie_qualified_name(log));
	if (selection->types != NULL)
		appendStringInfoString(&query, " AND type OPERATOR(pg_catalog.=) ANY ($3)");
	if (selection->prefix != NULL)
		appendStringInfoString(&query, " AND pg_catalog.starts_with(stream, $4)");
	if (selection->shards > 1)
		appendStringInfoString(&query, " AND immutable._shard(stream, $6) OPERATOR(pg_catalog.=) $7");
	if (selection->without != NULL)
		appendStringInfoString(&query, " AND stream OPERATOR(pg_catalog.<>) ALL ($8)");
	if (selection->stream != NULL)
		appendStringInfoString(&query, " AND stream OPERATOR(pg_catalog.=) $9");
	appendStringInfo(&query, " ORDER BY position%s", selects ? " LIMIT $5" : "");
	/* where the receiver counts, the planner is told that it may stop early */
	plan = SPI_prepare_cursor(query.data, ntypes, types,
							  selects || selection->max_events == PG_INT64_MAX
							  ? 0 : CURSOR_OPT_FAST_PLAN);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare_cursor failed: %s",
			 SPI_result_code_string(SPI_result));
	return plan;
}

/* What takes the events that a query gives. */
static DestReceiver *
make_receiver(IeUpcasts *upcasts, const IeSelection *selection,
			  IeTakeEvent take, void *state)
{
	EventReceiver *receiver = palloc0(sizeof(EventReceiver));

	receiver->receiver.receiveSlot = receive_event;
	receiver->receiver.rStartup = begin_nothing;
	receiver->receiver.rShutdown = end_nothing;
	receiver->receiver.rDestroy = end_nothing;
	receiver->receiver.mydest = DestNone;
	receiver->upcasts = upcasts;
	receiver->take = take;
	receiver->state = state;
	receiver->left = selection->max_events;
	receiver->as_recorded = selection->as_recorded;
	if (selection->types != NULL)
		deconstruct_array(selection->types, TEXTOID, -1, false, TYPALIGN_INT,
						  &receiver->types, &receiver->isnull,
						  &receiver->ntypes);
	return &receiver->receiver;
}

/* Put an event into a tuple store. */
static void
store_event(TupleTableSlot *event, void *store)
{
	tuplestore_puttupleslot(store, event);
}

/* Take one event; false when no more are wanted. */
static bool
receive_event(TupleTableSlot *slot, DestReceiver *self)
{
	EventReceiver *receiver = (EventReceiver *) self;
	bool		isnull;
	int64		position;

	if (receiver->left <= 0)
		return false;
	if (receiver->upcasts != NULL)
	{
		position = DatumGetInt64(slot_getattr(slot, IE_POSITION, &isnull));
		if (!ie_has_position(receiver->as_recorded, position))
			slot = ie_upcast_slot(receiver->upcasts, slot);
		if (receiver->types != NULL && !is_selected(receiver, slot))
			return true;
	}
	receiver->take(slot, receiver->state);
	receiver->left--;
	return receiver->left > 0;
}

/* Is an event's type, as it is handed out, among those that are wanted? */
static bool
is_selected(const EventReceiver *receiver, TupleTableSlot *event)
{
	bool		isnull;
	text	   *type = DatumGetTextPP(slot_getattr(event, IE_TYPE, &isnull));
	int			i;

	for (i = 0; i < receiver->ntypes; i++)
		if (!receiver->isnull[i] &&
			ie_same_text(type, DatumGetTextPP(receiver->types[i])))
			return true;
	return false;
}

/* A receiver needs nothing before the first event, ... */
static void
begin_nothing(DestReceiver *self pg_attribute_unused(),
			  int operation pg_attribute_unused(),
			  TupleDesc columns pg_attribute_unused())
{
}

/* ... nor after the last. */
static void
end_nothing(DestReceiver *self pg_attribute_unused())
{
}

/* Is a position among these? NULL: there are none. */
bool
ie_has_position(const IePositions *positions, int64 position)
{
	uint64		low = 0;
	uint64		high = positions == NULL ? 0 : positions->count;

	while (low < high)
	{
		uint64		middle = low + (high - low) / 2;

		if (positions->positions[middle] == position)
			return true;
		if (positions->positions[middle] < position)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}
