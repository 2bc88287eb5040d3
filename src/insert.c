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
	bool		triggers;		/* any beside our guards */
	TransitionCaptureState *capture;
} DirectInsert;

static void insert_directly(IeTarget *target, const IeEvent *event);
static void release(IeTarget *target, const IeEvent *event);
static void begin_insert(DirectInsert *insert, const IeTarget *target);
static List *insert_row(DirectInsert *insert);
static void end_insert(DirectInsert *insert);
static void check_untouched(const IeTarget *target, const IeEvent *event,
							TupleTableSlot *slot);
pg_noreturn static void refuse_trigger(const IeTarget *target, const char *what);
static void insert_by_plan(IeTarget *target, const IeEvent *event);
static SPIPlanPtr insert_plan(IeLog *root, Relation log);
static void check_arrived(const IeTarget *target, const IeEvent *event);

/* Write an event whose place is decided, and release the stream's lock. */
void
ie_insert(IeTarget *target, const IeEvent *event)
{
	IeAdmission row = {RelationGetRelid(target->log),
	RelationGetRelid(target->rel), event->position};
	IeAdmission before = ie_guard_admit(row);

	PG_TRY();
	{
		if (target->rel == target->log && !ie_row_security(target->log))
			insert_directly(target, event);
		else
			insert_by_plan(target, event);
	}
	PG_FINALLY();
	{
		(void) ie_guard_admit(before);
	}
	PG_END_TRY();
}

/* Insert as COPY FROM does. */
static void
insert_directly(IeTarget *target, const IeEvent *event)
{
	DirectInsert insert;
	List	   *recheck;

	begin_insert(&insert, target);
	ie_event_to_slot(event, insert.slot);
	if (insert.triggers)
	{
		ExecBSInsertTriggers(insert.estate, insert.table);
		if (insert.table->ri_TrigDesc->trig_insert_before_row &&
			!ExecBRInsertTriggers(insert.estate, insert.table, insert.slot))
			refuse_trigger(target, "suppressed");
		check_untouched(target, event, insert.slot);
	}
	recheck = insert_row(&insert);
	release(target, event);
	if (insert.triggers)
	{
		ExecARInsertTriggers(insert.estate, insert.table, insert.slot,
							 recheck, insert.capture);
		ExecASInsertTriggers(insert.estate, insert.table, insert.capture);
		AfterTriggerEndQuery(insert.estate);
	}
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

/* Open indexes, and get ready for triggers where there are any. */
static void
begin_insert(DirectInsert *insert, const IeTarget *target)
{
	EState	   *estate = CreateExecutorState();

	insert->estate = estate;
	insert->triggers = !target->facts->guards_only;
	insert->table = makeNode(ResultRelInfo);
	if (insert->triggers)
		InitResultRelInfo(insert->table, target->rel, 0, NULL, 0);
	else
		insert->table->ri_RelationDesc = target->rel;	/* no triggers to copy */
	ExecOpenIndices(insert->table, false);
	estate->es_opened_result_relations = list_make1(insert->table);
	insert->slot = table_slot_create(target->rel, &estate->es_tupleTable);
	insert->slot->tts_tableOid = RelationGetRelid(target->rel);
	insert->capture = NULL;
	if (insert->triggers)
	{
		AfterTriggerBeginQuery();
		insert->capture = MakeTransitionCaptureState(target->rel->trigdesc,
													 RelationGetRelid(target->rel),
													 CMD_INSERT);
	}
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

/* Close what begin_insert opened. */
static void
end_insert(DirectInsert *insert)
{
	ExecResetTupleTable(insert->estate->es_tupleTable, false);
	ExecCloseResultRelations(insert->estate);
	FreeExecutorState(insert->estate);
}

/* A BEFORE trigger may fill in data, but not move the event. */
static void
check_untouched(const IeTarget *target, const IeEvent *event,
				TupleTableSlot *slot)
{
	IeEvent		now;
	bool		isnull;

	slot_getallattrs(slot);
	now.position = DatumGetInt64(slot_getattr(slot, IE_POSITION, &isnull));
	if (isnull || now.position != event->position)
		refuse_trigger(target, "changed the position of");
	now.version = DatumGetInt64(slot_getattr(slot, IE_VERSION, &isnull));
	if (isnull || now.version != event->version)
		refuse_trigger(target, "changed the version of");
	now.stream = DatumGetTextPP(slot_getattr(slot, IE_STREAM, &isnull));
	if (isnull ||
		VARSIZE_ANY_EXHDR(now.stream) != VARSIZE_ANY_EXHDR(event->stream) ||
		memcmp(VARDATA_ANY(now.stream), VARDATA_ANY(event->stream),
			   VARSIZE_ANY_EXHDR(now.stream)) != 0)
		refuse_trigger(target, "changed the stream of");
	now.id = DatumGetUUIDP(slot_getattr(slot, IE_ID, &isnull));
	if (isnull || memcmp(now.id->data, event->id->data, UUID_LEN) != 0)
		refuse_trigger(target, "changed the id of");
}

/* Raise the error for a trigger that meddles with an event. */
static void
refuse_trigger(const IeTarget *target, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
			 errmsg("a trigger on log \"%s\" %s the event",
					RelationGetRelationName(target->log), what),
			 errdetail("Position, version, stream and id of an event are decided by append."),
			 errhint("To reject an event, raise an error in the trigger."),
			 errtable(target->log)));
}

/* Insert through the planner: partitions and policies are its business. */
static void
insert_by_plan(IeTarget *target, const IeEvent *event)
{
	Datum		values[IE_NCOLUMNS];
	int			result;

	values[IE_POSITION - 1] = Int64GetDatum(event->position);
	values[IE_RECORDED_AT - 1] = TimestampTzGetDatum(event->recorded_at);
	values[IE_VERSION - 1] = Int64GetDatum(event->version);
	values[IE_ID - 1] = UUIDPGetDatum(event->id);
	values[IE_SCHEMA_VERSION - 1] = Int32GetDatum(event->schema_version);
	values[IE_STREAM - 1] = PointerGetDatum(event->stream);
	values[IE_TYPE - 1] = PointerGetDatum(event->type);
	values[IE_DATA - 1] = JsonbPGetDatum(event->data);
	values[IE_METADATA - 1] = JsonbPGetDatum(event->metadata);

	SPI_connect();
	result = SPI_execute_plan(insert_plan(target->root, target->log),
							  values, NULL, false, 0);
	if (result != SPI_OK_INSERT)
		elog(ERROR, "SPI_execute_plan failed: %s",
			 SPI_result_code_string(result));
	SPI_finish();
	check_arrived(target, event);
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

/* The stream's head must be our event now, whatever triggers there are. */
static void
check_arrived(const IeTarget *target, const IeEvent *event)
{
	IeHead		head = ie_read_head(target, event->stream);

	if (head.version < event->version)
		refuse_trigger(target, "suppressed or moved");
	if (head.version == event->version &&
		(head.position != event->position ||
		 memcmp(head.id.data, event->id->data, UUID_LEN) != 0))
		refuse_trigger(target, "changed");
	ie_note_own_head(target, event->stream, &head);
}
