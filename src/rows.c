/*
 * rows.c: the rows of a query, one at a time.
 *
 * A function that returns its rows one by one may be called for the next one
 * in another subtransaction, and a portal of SPI's does not live that long.
 * So the executor is run here, as SQL functions run it: what it holds belongs
 * to the query that calls, and goes with it.
 */
#include "replay_all.h"

#include "compat.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

struct IeRows
{
	DestReceiver receiver;		/* must be first */
	QueryDesc  *query;
	TupleTableSlot *slot;		/* the last row, or NULL */
	MemoryContext context;
};

static void start_rows(DestReceiver *self, int operation, TupleDesc columns);
static bool receive_row(TupleTableSlot *slot, DestReceiver *self);
static void ignore(DestReceiver *self);

/* Begin to run a query, which reads only, as a snapshot shows the rows. */
IeRows *
ie_rows_begin(const char *query, Snapshot snapshot)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "immutable_events rows",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	IeRows	   *rows = palloc0(sizeof(IeRows));
	char	   *text = pstrdup(query);
	RawStmt    *statement = linitial_node(RawStmt, pg_parse_query(text));
	List	   *queries;
	PlannedStmt *plan;

	rows->context = context;
	rows->receiver.rStartup = start_rows;
	rows->receiver.receiveSlot = receive_row;
	rows->receiver.rShutdown = ignore;
	rows->receiver.rDestroy = ignore;
	rows->receiver.mydest = DestNone;

	PushActiveSnapshot(snapshot);
	queries = pg_analyze_and_rewrite_fixedparams(statement, text, NULL, 0, NULL);
	plan = pg_plan_query(linitial_node(Query, queries), text, 0, NULL);
	rows->query = CreateQueryDesc(plan, text, snapshot, InvalidSnapshot,
								  &rows->receiver, NULL, NULL, 0);
	ExecutorStart(rows->query, 0);
	PopActiveSnapshot();
	MemoryContextSwitchTo(caller);
	return rows;
}

/* The next row, or NULL after the last; valid until the next call. */
TupleTableSlot *
ie_rows_next(IeRows *rows)
{
	rows->slot = NULL;
	PushActiveSnapshot(rows->query->snapshot);
	ie_executor_run(rows->query, 1);
	PopActiveSnapshot();
	return rows->slot;
}

/* End the query. */
void
ie_rows_end(IeRows *rows)
{
	PushActiveSnapshot(rows->query->snapshot);
	ExecutorFinish(rows->query);
	ExecutorEnd(rows->query);
	PopActiveSnapshot();
	FreeQueryDesc(rows->query);
	MemoryContextDelete(rows->context);
}

/* The executor begins to send rows. */
static void
start_rows(DestReceiver *self pg_attribute_unused(),
		   int operation pg_attribute_unused(),
		   TupleDesc columns pg_attribute_unused())
{
}

/* The executor sends a row. */
static bool
receive_row(TupleTableSlot *slot, DestReceiver *self)
{
	((IeRows *) self)->slot = slot;
	return true;
}

/* The executor has no more to say. */
static void
ignore(DestReceiver *self pg_attribute_unused())
{
}
