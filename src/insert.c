/*
 * insert.c: one event into the table of its log.
 *
 * A plain log takes its rows as COPY FROM puts them there: no plan, and where
 * the only triggers are our guards, no trigger machinery either. A log that is
 * partitioned, or whose row security applies, takes the planner's path.
 */
#include "immutable_events.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "compat.h"
#include "executor/executor.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/* What COPY FROM keeps for one table, for the length of one insert. */
typedef struct DirectInsert
{
	EState	   *estate;
	ResultRelInfo *table;
	TupleTableSlot *slot;
	TransitionCaptureState *capture;
} DirectInsert;

static void insert_bare(IeTarget *target, const IeEvent *event);
static void insert_announced(IeTarget *target, const IeEvent *event,
							 bool plain);
static void insert_with_triggers(IeTarget *target, const IeEvent *event);
static void release(IeTarget *target, const IeEvent *event);
static void begin_insert(DirectInsert *insert, const IeTarget *target,
						 const IeEvent *event);
static List *insert_row(DirectInsert *insert);
static void end_insert(DirectInsert *insert);
static void check_untouched(const IeTarget *target, const IeEvent *event,
							TupleTableSlot *slot);
pg_noreturn static void refuse_trigger(const IeTarget *target,
									   const char *what, const char *column);
static void insert_by_plan(IeTarget *target, const IeEvent *event);
static SPIPlanPtr insert_plan(IeLog *root, Relation log);
static void check_arrived(const IeTarget *target, const IeEvent *event);

/* Write an event whose place is decided, and release the stream's lock. */
void
ie_insert(IeTarget *target, const IeEvent *event)
{
	bool		plain = target->rel == target->log &&
		!ie_row_security(target->log);

	if (plain && target->facts->guards_only)
		insert_bare(target, event);
	else
		insert_announced(target, event, plain);
}

/* Insert where no trigger but our guards could fire: they are passed over. */
static void
insert_bare(IeTarget *target, const IeEvent *event)
{
	DirectInsert insert;

	begin_insert(&insert, target, event);
	insert_row(&insert);
	release(target, event);
	end_insert(&insert);
}

/* Insert where the guards fire: tell them which row is coming. */
static void
insert_announced(IeTarget *target, const IeEvent *event, bool plain)
{
	IeAdmission row = {RelationGetRelid(target->log),
	RelationGetRelid(target->rel), event};
	IeAdmission before = ie_guard_admit(row);

	PG_TRY();
	{
		if (plain)
			insert_with_triggers(target, event);
		else
			insert_by_plan(target, event);
	}
	PG_FINALLY();
	{
		(void) ie_guard_admit(before);
	}
	PG_END_TRY();
}

/* Insert as COPY FROM does, with all its triggers. */
static void
insert_with_triggers(IeTarget *target, const IeEvent *event)
{
	DirectInsert insert;
	List	   *recheck;

	begin_insert(&insert, target, event);
	AfterTriggerBeginQuery();
	insert.capture = MakeTransitionCaptureState(target->rel->trigdesc,
												RelationGetRelid(target->rel),
												CMD_INSERT);
	ExecBSInsertTriggers(insert.estate, insert.table);
	if (insert.table->ri_TrigDesc->trig_insert_before_row &&
		!ExecBRInsertTriggers(insert.estate, insert.table, insert.slot))
		refuse_trigger(target, "suppressed", "event");
	check_untouched(target, event, insert.slot);
	recheck = insert_row(&insert);
	release(target, event);
	ExecARInsertTriggers(insert.estate, insert.table, insert.slot,
						 recheck, insert.capture);
	ExecASInsertTriggers(insert.estate, insert.table, insert.capture);
	AfterTriggerEndQuery(insert.estate);
	end_insert(&insert);
}

/*
 * The event itself keeps others waiting now: remember it as the stream's
 * head, and let AFTER triggers run without the lock.
 */
static void
release(IeTarget *target, const IeEvent *event)
{
	IeHead		head = {.version = event->version, .position = event->position,
	.recorded_at = event->recorded_at, .id = *event->id, .same_stream = true};

	ie_note_own_head(target, event->stream, &head);
	ie_unlock_stream(target, event->stream);
}

/* Open the indexes, and put the event into a slot. */
static void
begin_insert(DirectInsert *insert, const IeTarget *target,
			 const IeEvent *event)
{
	EState	   *estate = CreateExecutorState();

	insert->estate = estate;
	insert->capture = NULL;
	insert->table = makeNode(ResultRelInfo);
	if (target->facts->guards_only)
		insert->table->ri_RelationDesc = target->rel;	/* no triggers to copy */
	else
		InitResultRelInfo(insert->table, target->rel, 0, NULL, 0);
	ExecOpenIndices(insert->table, false);
	estate->es_opened_result_relations = list_make1(insert->table);
	insert->slot = table_slot_create(target->rel, &estate->es_tupleTable);
	insert->slot->tts_tableOid = RelationGetRelid(target->rel);
	ie_event_values(event, insert->slot->tts_values);
	memset(insert->slot->tts_isnull, false, IE_NCOLUMNS * sizeof(bool));
	ExecStoreVirtualTuple(insert->slot);
}

/* Check constraints, store the row, and index it. */
static List *
insert_row(DirectInsert *insert)
{
	Relation	rel = insert->table->ri_RelationDesc;

	if (RelationGetDescr(rel)->constr != NULL)
		ExecConstraints(insert->table, insert->slot, insert->estate);
	table_tuple_insert(rel, insert->slot, GetCurrentCommandId(true), 0, NULL);
	if (insert->table->ri_NumIndices == 0)
		return NIL;
	return ie_insert_index_tuples(insert->table, insert->slot,
								  insert->estate);
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
insert_by_plan(IeTarget *target, const IeEvent *event)
{
	Datum		values[IE_NCOLUMNS];
	int			result;

	ie_event_values(event, values);
	SPI_connect();
	result = SPI_execute_plan(insert_plan(target->root, target->log),
							  values, NULL, false, 0);
	if (result != SPI_OK_INSERT)
		elog(ERROR, "SPI_execute_plan failed: %s",
			 SPI_result_code_string(result));
	SPI_finish();
	check_arrived(target, event);
	if (target->root->guards_only && target->facts->guards_only)
	{
		release(target, event);
		return;
	}
	ie_forget_own_heads();		/* a trigger may have appended above it */
	ie_unlock_stream(target, event->stream);
}

/*
 * The INSERT of a log, prepared once per backend, and again when the log was
 * renamed. The old plan is kept: an outer append may be running it.
 */
static SPIPlanPtr
insert_plan(IeLog *root, Relation log)
{
	static Oid	types[] = {INT8OID, TIMESTAMPTZOID, INT8OID, UUIDOID, INT4OID,
	TEXTOID, TEXTOID, JSONBOID, JSONBOID};
	char	   *name = ie_qualified_name(log);
	SPIPlanPtr	plan;

	if (root->insert_name != NULL && strcmp(root->insert_name, name) == 0)
		return root->insert;
	plan = SPI_prepare(psprintf("INSERT INTO %s VALUES"
								" ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
								name), IE_NCOLUMNS, types);
	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "SPI_prepare failed: %s",
			 SPI_result_code_string(SPI_result));
	root->insert = plan;
	root->insert_name = MemoryContextStrdup(CacheMemoryContext, name);
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
