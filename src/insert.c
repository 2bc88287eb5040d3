/*
 * insert.c: events into the table of their log.
 *
 * A plain log takes its rows as COPY FROM puts them there: no plan, and where
 * the only triggers are our guards, no trigger machinery either, and several
 * rows at once. A log that is partitioned, or whose row security applies,
 * takes the planner's path. Either way the events of a batch come by one
 * statement, as triggers see it.
 */
#include "append.h"
#include "compat.h"
#include "guard.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/* Rows are formed, stored and then indexed this many at a time. */
#define ROWS_AT_ONCE	64

/* What COPY FROM keeps for one table, for the length of one insert. */
typedef struct DirectInsert
{
	EState	   *estate;
	ResultRelInfo *table;
	TupleTableSlot *slots[ROWS_AT_ONCE];
	TransitionCaptureState *capture;
} DirectInsert;

static const Oid column_types[IE_NCOLUMNS] = {
	INT8OID, TIMESTAMPTZOID, INT8OID, UUIDOID, INT4OID, TEXTOID, TEXTOID,
	JSONBOID, JSONBOID
};

static void insert_bare(IeTarget *target, const IeNewEvents *batch);
static void insert_announced(IeTarget *target, const IeNewEvents *batch,
							 bool plain);
static void insert_with_triggers(IeTarget *target, const IeNewEvents *batch);
static void insert_each(DirectInsert *insert, const IeTarget *target,
						const IeNewEvents *batch);
static void release(IeTarget *target, const IeNewEvents *batch);
static void begin_insert(DirectInsert *insert, const IeTarget *target,
						 int nslots);
static void fill_slot(TupleTableSlot *slot, const IeEvent *event);
static void check_constraints(DirectInsert *insert, TupleTableSlot *slot);
static List *index_row(DirectInsert *insert, TupleTableSlot *slot);
static void insert_all(DirectInsert *insert, const IeNewEvents *batch);
static void insert_rows(DirectInsert *insert, const IeEvent *events, int count);
static void end_insert(DirectInsert *insert);
static void check_untouched(const IeTarget *target, const IeEvent *event,
							TupleTableSlot *slot);
pg_noreturn static void refuse_trigger(const IeTarget *target,
									   const char *what, const char *column);
static void insert_by_plan(IeTarget *target, const IeNewEvents *batch);
static void array_values(const IeNewEvents *batch, Datum *values);
static SPIPlanPtr insert_plan(IeLog *root, Relation log, bool many);
static void check_arrived(const IeTarget *target, const IeEvent *event);

/* Write events whose places are decided, and release the stream's lock. */
void
ie_insert(IeTarget *target, const IeNewEvents *batch)
{
	bool		plain = target->rel == target->log &&
		!ie_row_security(target->log);

	if (plain && target->facts->guards_only)
		insert_bare(target, batch);
	else
		insert_announced(target, batch, plain);
}

/* Insert where no trigger but our guards could fire: they are passed over. */
static void
insert_bare(IeTarget *target, const IeNewEvents *batch)
{
	DirectInsert insert;

	begin_insert(&insert, target, Min(batch->count, ROWS_AT_ONCE));
	insert_all(&insert, batch);
	release(target, batch);
	end_insert(&insert);
}

/*
 * Insert where the guards fire: tell them which rows are coming, or that the
 * statement is but no row that they need to look at.
 */
static void
insert_announced(IeTarget *target, const IeNewEvents *batch, bool plain)
{
	bool		unseen = plain && target->facts->row_guards_only;
	IeAdmission rows = {RelationGetRelid(target->log),
		unseen ? InvalidOid : RelationGetRelid(target->rel),
	batch->events, batch->count};
	IeAdmission before = ie_guard_admit(rows);

	PG_TRY();
	{
		if (plain)
			insert_with_triggers(target, batch);
		else
			insert_by_plan(target, batch);
	}
	PG_FINALLY();
	{
		(void) ie_guard_admit(before);
	}
	PG_END_TRY();
}

/*
 * Insert as COPY FROM does, with all its triggers. Where the guards are the
 * only ones that look at rows, they are passed over here, too: inline
 * projections have a trigger that looks at the statement.
 */
static void
insert_with_triggers(IeTarget *target, const IeNewEvents *batch)
{
	bool		at_once = target->facts->row_guards_only;
	DirectInsert insert;

	begin_insert(&insert, target,
				 at_once ? Min(batch->count, ROWS_AT_ONCE) : 1);
	AfterTriggerBeginQuery();
	insert.capture = MakeTransitionCaptureState(target->rel->trigdesc,
												RelationGetRelid(target->rel),
												CMD_INSERT);
	ExecBSInsertTriggers(insert.estate, insert.table);
	if (at_once)
	{
		insert_all(&insert, batch);
		(void) ie_guard_admit((IeAdmission) {0});
	}
	else
		insert_each(&insert, target, batch);
	release(target, batch);
	ExecASInsertTriggers(insert.estate, insert.table, insert.capture);
	AfterTriggerEndQuery(insert.estate);
	end_insert(&insert);
}

/* Insert row by row, for row triggers to see and to change. */
static void
insert_each(DirectInsert *insert, const IeTarget *target,
			const IeNewEvents *batch)
{
	TupleTableSlot *slot = insert->slots[0];
	int			i;

	for (i = 0; i < batch->count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		ResetPerTupleExprContext(insert->estate);
		fill_slot(slot, &batch->events[i]);
		if (insert->table->ri_TrigDesc->trig_insert_before_row &&
			!ExecBRInsertTriggers(insert->estate, insert->table, slot))
			refuse_trigger(target, "suppressed", "event");
		check_untouched(target, &batch->events[i], slot);
		check_constraints(insert, slot);
		table_tuple_insert(target->rel, slot, GetCurrentCommandId(true), 0, NULL);
		ExecARInsertTriggers(insert->estate, insert->table, slot,
							 index_row(insert, slot), insert->capture);
	}
}

/*
 * The last event itself keeps others waiting now: remember it as the stream's
 * head, and let AFTER triggers run without the lock.
 */
static void
release(IeTarget *target, const IeNewEvents *batch)
{
	const IeEvent *last = &batch->events[batch->count - 1];
	IeHead		head = {.version = last->version, .position = last->position,
	.recorded_at = last->recorded_at, .id = *last->id, .same_stream = true};

	ie_note_own_head(target, batch->stream, &head);
	ie_unlock_stream(target, batch->stream);
}

/* Open the indexes, and make slots for rows. */
static void
begin_insert(DirectInsert *insert, const IeTarget *target, int nslots)
{
	EState	   *estate = CreateExecutorState();
	int			i;

	insert->estate = estate;
	insert->capture = NULL;
	insert->table = makeNode(ResultRelInfo);
	if (target->facts->guards_only)
		insert->table->ri_RelationDesc = target->rel;	/* no triggers to copy */
	else
		InitResultRelInfo(insert->table, target->rel, 0, NULL, 0);
	ExecOpenIndices(insert->table, false);
	estate->es_opened_result_relations = list_make1(insert->table);
	for (i = 0; i < nslots; i++)
	{
		insert->slots[i] = table_slot_create(target->rel, &estate->es_tupleTable);
		insert->slots[i]->tts_tableOid = RelationGetRelid(target->rel);
	}
}

/* Put an event into a slot. */
static void
fill_slot(TupleTableSlot *slot, const IeEvent *event)
{
	ExecClearTuple(slot);
	ie_event_values(event, slot->tts_values);
	memset(slot->tts_isnull, false, IE_NCOLUMNS * sizeof(bool));
	ExecStoreVirtualTuple(slot);
}

/* Insert events where no row trigger is asked. */
static void
insert_all(DirectInsert *insert, const IeNewEvents *batch)
{
	int			done = 0;

	while (done < batch->count)
	{
		int			count = Min(batch->count - done, ROWS_AT_ONCE);

		CHECK_FOR_INTERRUPTS();
		insert_rows(insert, batch->events + done, count);
		done += count;
	}
}

/*
 * Store several rows at once, as COPY does, index them, and keep them for
 * triggers with a transition table.
 */
static void
insert_rows(DirectInsert *insert, const IeEvent *events, int count)
{
	Relation	rel = insert->table->ri_RelationDesc;
	int			i;

	for (i = 0; i < count; i++)
	{
		fill_slot(insert->slots[i], &events[i]);
		check_constraints(insert, insert->slots[i]);
	}
	if (count == 1)
		table_tuple_insert(rel, insert->slots[0], GetCurrentCommandId(true), 0, NULL);
	else
		table_multi_insert(rel, insert->slots, count, GetCurrentCommandId(true), 0, NULL);
	for (i = 0; i < count; i++)
	{
		List	   *again = index_row(insert, insert->slots[i]);

		if (insert->capture != NULL)
			ExecARInsertTriggers(insert->estate, insert->table,
								 insert->slots[i], again, insert->capture);
	}
	ResetPerTupleExprContext(insert->estate);
}

/* The table's constraints; NOT NULL is among them. */
static void
check_constraints(DirectInsert *insert, TupleTableSlot *slot)
{
	if (RelationGetDescr(insert->table->ri_RelationDesc)->constr != NULL)
		ExecConstraints(insert->table, slot, insert->estate);
}

/* Index a row; answers the unique indexes to look at again later. */
static List *
index_row(DirectInsert *insert, TupleTableSlot *slot)
{
	if (insert->table->ri_NumIndices == 0)
		return NIL;
	return ie_insert_index_tuples(insert->table, slot, insert->estate);
}

/*
 * Close what begin_insert opened. The locks on the indexes stay to the end of
 * the transaction, as the one on the table does: the next append finds them.
 */
static void
end_insert(DirectInsert *insert)
{
	int			i;

	ExecResetTupleTable(insert->estate->es_tupleTable, false);
	for (i = 0; i < insert->table->ri_NumIndices; i++)
		ie_close_index(insert->table->ri_IndexRelationDescs[i],
					   insert->table->ri_IndexRelationInfo[i]);
	insert->table->ri_NumIndices = 0;
	ExecCloseResultRelations(insert->estate);
	FreeExecutorState(insert->estate);
}

/* A BEFORE trigger may fill in data, but not move the event. */
static void
check_untouched(const IeTarget *target, const IeEvent *event,
				TupleTableSlot *slot)
{
	IeEvent		row;
	const char *difference;

	ie_event_from_slot(slot, &row);
	difference = ie_difference(event, &row);
	if (difference != NULL)
		refuse_trigger(target, "changed", difference);
	ie_check_event(&row);
}

/* Raise the error for a trigger that meddles with an event. */
static void
refuse_trigger(const IeTarget *target, const char *what, const char *column)
{
	ereport(ERROR,
			(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
			 errmsg("a trigger on log \"%s\" %s the %s of an append",
					RelationGetRelationName(target->log), what, column),
			 errdetail("Position, time, version, stream and id of an event are decided by append."),
			 errhint("To reject an event, raise an error in the trigger."),
			 errtable(target->log)));
}

/* Insert through the planner: partitions and policies are its business. */
static void
insert_by_plan(IeTarget *target, const IeNewEvents *batch)
{
	bool		many = batch->count > 1;
	Datum		values[IE_NCOLUMNS];
	int			result;
	int			i;

	if (many)
		array_values(batch, values);
	else
		ie_event_values(batch->events, values);
	SPI_connect();
	result = SPI_execute_plan(insert_plan(target->root, target->log, many),
							  values, NULL, false, 0);
	if (result != SPI_OK_INSERT)
		elog(ERROR, "SPI_execute_plan failed: %s",
			 SPI_result_code_string(result));
	SPI_finish();
	for (i = 0; i < batch->count; i++)
		check_arrived(target, &batch->events[i]);
	if (target->root->guards_only && target->facts->guards_only)
	{
		release(target, batch);
		return;
	}
	ie_forget_own_heads();		/* a trigger may have appended above it */
	ie_unlock_stream(target, batch->stream);
}

/* The columns of a batch, each as an array, for unnest. */
static void
array_values(const IeNewEvents *batch, Datum *values)
{
	Datum	   *rows = palloc(sizeof(Datum) * IE_NCOLUMNS * batch->count);
	Datum	   *column = palloc(sizeof(Datum) * batch->count);
	int			i;
	int			j;

	for (i = 0; i < batch->count; i++)
		ie_event_values(&batch->events[i], rows + (Size) i * IE_NCOLUMNS);
	for (j = 0; j < IE_NCOLUMNS; j++)
	{
		Oid			type = column_types[j];
		int16		length;
		bool		byval;
		char		align;

		get_typlenbyvalalign(type, &length, &byval, &align);
		for (i = 0; i < batch->count; i++)
			column[i] = rows[i * IE_NCOLUMNS + j];
		values[j] = PointerGetDatum(construct_array(column, batch->count, type,
													length, byval, align));
	}
}

/*
 * The INSERT of a log, of one event or of many, prepared once per backend, and
 * again when the log was renamed. The old plan is kept: an outer append may be
 * running it. unnest gives the rows in the order of the arrays.
 */
static SPIPlanPtr
insert_plan(IeLog *root, Relation log, bool many)
{
	char	   *name = ie_qualified_name(log);
	Oid			types[IE_NCOLUMNS];
	SPIPlanPtr	plan;
	int			i;

	if (root->insert_name == NULL || strcmp(root->insert_name, name) != 0)
	{
		root->insert_one = root->insert_many = NULL;
		root->insert_name = MemoryContextStrdup(CacheMemoryContext, name);
	}
	plan = many ? root->insert_many : root->insert_one;
	if (plan != NULL)
		return plan;
	for (i = 0; i < IE_NCOLUMNS; i++)
		types[i] = many ? get_array_type(column_types[i]) : column_types[i];
	plan = SPI_prepare(psprintf(many
								? "INSERT INTO %s SELECT * FROM ROWS FROM ("
								"pg_catalog.unnest($1), pg_catalog.unnest($2),"
								"pg_catalog.unnest($3), pg_catalog.unnest($4),"
								"pg_catalog.unnest($5), pg_catalog.unnest($6),"
								"pg_catalog.unnest($7), pg_catalog.unnest($8),"
								"pg_catalog.unnest($9))"
								: "INSERT INTO %s VALUES"
								" ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
								name), IE_NCOLUMNS, types);
	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "SPI_prepare failed: %s",
			 SPI_result_code_string(SPI_result));
	*(many ? &root->insert_many : &root->insert_one) = plan;
	return plan;
}

/* The event must stand where it was to stand, whatever triggers there are. */
static void
check_arrived(const IeTarget *target, const IeEvent *event)
{
	const char *difference = ie_stored_difference(target, event);

	if (difference != NULL)
		refuse_trigger(target, strcmp(difference, "event") == 0
					   ? "suppressed or moved" : "changed", difference);
}
