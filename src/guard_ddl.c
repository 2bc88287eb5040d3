/*
 * guard_ddl.c: the event triggers.
 *
 * At ddl_command_start the parse tree says what a command is about to do, and
 * guard_command.c refuses it before anything is done. Until the command holds
 * its locks a name can come to mean another table, and while it waits somebody
 * may protect the table; so at ddl_command_end the same rules are asked again,
 * of the OIDs that the command has worked on. New parts of a protected table
 * get their guards there. What is dropped is seen by guard_drop.c.
 */
#include "guard.h"
#include "projected.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_trigger.h"
#include "commands/event_trigger.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "tcop/deparse_utility.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/tuplestore.h"

#define COMMAND_COLUMN 9		/* of pg_event_trigger_ddl_commands() */

static Node *event_command(FunctionCallInfo fcinfo, const char *event);
static bool is_checked_again(const Node *command);
static List *collected_commands(void);
static void check_altered(const CollectedCommand *command);
static void adopt_altered(Oid relid, const AlterTableStmt *command);
static void check_done(Node *command, ObjectAddress object);
static Oid	table_of_rule(Oid rule);

PG_FUNCTION_INFO_V1(ie_guard_ddl_start);
PG_FUNCTION_INFO_V1(ie_guard_ddl_end);
PG_FUNCTION_INFO_V1(ie_guard_rewrite);

/* Before a command: refuse what its parse tree shows. */
Datum
ie_guard_ddl_start(PG_FUNCTION_ARGS)
{
	Node	   *command = event_command(fcinfo, "ddl_command_start");

	if (!ie_own_script())
		ie_check_command(command);
	PG_RETURN_NULL();
}

/* After it: refuse what it turned out to do, and guard what is new. */
Datum
ie_guard_ddl_end(PG_FUNCTION_ARGS)
{
	Node	   *command = event_command(fcinfo, "ddl_command_end");
	ListCell   *cell;

	if (ie_own_script() || !is_checked_again(command))
		PG_RETURN_NULL();
	/* in REFRESH MATERIALIZED VIEW nothing is collected: go by names, too */
	ie_adopt_named(command);
	foreach(cell, collected_commands())
	{
		CollectedCommand *done = lfirst(cell);

		if (done->type == SCT_AlterTable && IsA(done->parsetree, AlterTableStmt))
			check_altered(done);
		else if (done->type == SCT_Simple)
			check_done(done->parsetree, done->d.simple.address);
	}
	PG_RETURN_NULL();
}

/* A command gives all rows of a table new contents. */
Datum
ie_guard_rewrite(PG_FUNCTION_ARGS)
{
	Oid			relid;

	(void) event_command(fcinfo, "table_rewrite");
	relid = DatumGetObjectId(OidFunctionCall0(F_PG_EVENT_TRIGGER_TABLE_REWRITE_OID));
	if (!ie_own_script() && ie_is_protected(relid))
		ie_refuse(relid, "rewrite", "This form of ALTER TABLE");
	ie_check_version_rewrite(relid);
	PG_RETURN_NULL();
}

/* The parse tree of the command that an event trigger fires for. */
static Node *
event_command(FunctionCallInfo fcinfo, const char *event)
{
	EventTriggerData *trigdata = (EventTriggerData *) fcinfo->context;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo) ||
		strcmp(trigdata->event, event) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("not called by an event trigger for %s", event)));
	return trigdata->parsetree;
}

/* Is this a command that check_altered or check_done knows? */
static bool
is_checked_again(const Node *command)
{
	switch (nodeTag(command))
	{
		case T_CreateStmt:
			return ((CreateStmt *) command)->inhRelations != NIL;
		case T_CreateForeignTableStmt:
			return ((CreateForeignTableStmt *) command)->base.inhRelations != NIL;
		case T_CreateSchemaStmt:
			return ((CreateSchemaStmt *) command)->schemaElts != NIL;
		case T_AlterTableStmt:
		case T_RenameStmt:
		case T_RuleStmt:
		case T_CreateTrigStmt:
		case T_AlterEnumStmt:
		case T_AlterSeqStmt:
		case T_CreateSeqStmt:
			return true;
		default:
			return false;
	}
}

/* What the current command consisted of, as CollectedCommands. */
static List *
collected_commands(void)
{
	LOCAL_FCINFO(fcinfo, 0);
	FmgrInfo	function;
	ReturnSetInfo result = {.type = T_ReturnSetInfo};
	EState	   *estate = CreateExecutorState();
	List	   *commands = NIL;
	TupleTableSlot *slot;
	bool		isnull;

	fmgr_info(F_PG_EVENT_TRIGGER_DDL_COMMANDS, &function);
	result.econtext = CreateExprContext(estate);
	result.allowedModes = SFRM_Materialize;
	InitFunctionCallInfoData(*fcinfo, &function, 0, InvalidOid, NULL,
							 (fmNodePtr) &result);
	(void) FunctionCallInvoke(fcinfo);

	slot = MakeSingleTupleTableSlot(result.setDesc, &TTSOpsMinimalTuple);
	while (tuplestore_gettupleslot(result.setResult, true, false, slot))
		commands = lappend(commands,
						   DatumGetPointer(slot_getattr(slot, COMMAND_COLUMN, &isnull)));
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(result.setResult);
	return commands;
}

/* An ALTER TABLE that is done. */
static void
check_altered(const CollectedCommand *command)
{
	Oid			relid = command->d.alterTable.objectId;
	AlterTableStmt *alter = (AlterTableStmt *) command->parsetree;

	ie_check_alter(relid, alter);
	ie_check_altered_table(relid, alter);
	adopt_altered(relid, alter);
	ie_versioned_altered(relid, alter);
}

/* Guard what an ALTER TABLE has made a part of a table. */
static void
adopt_altered(Oid relid, const AlterTableStmt *command)
{
	ListCell   *cell;

	foreach(cell, command->cmds)
	{
		AlterTableType form = ((AlterTableCmd *) lfirst(cell))->subtype;

		if (form == AT_AttachPartition)
			ie_adopt_parts(relid);
		if (form == AT_AddInherit)
		{
			ie_adopt(relid);
			ie_adopt_into_read_model(relid);
		}
	}
}

/* Guard what a command, by the names in it, has made a part of a table. */
void
ie_adopt_named(Node *command)
{
	if (IsA(command, CreateStmt))
	{
		Oid			made = RangeVarGetRelid(((CreateStmt *) command)->relation, NoLock, true);

		ie_adopt(made);
		ie_adopt_into_read_model(made);
	}
	if (IsA(command, CreateForeignTableStmt))
		ie_adopt(RangeVarGetRelid(((CreateForeignTableStmt *) command)->base.relation, NoLock, true));
	if (IsA(command, AlterTableStmt))
		adopt_altered(RangeVarGetRelid(((AlterTableStmt *) command)->relation, NoLock, true),
					  (AlterTableStmt *) command);
}

/* Another command that is done, and the object it worked on. */
static void
check_done(Node *command, ObjectAddress object)
{
	switch (nodeTag(command))
	{
		case T_CreateStmt:
		case T_CreateForeignTableStmt:
			ie_adopt(object.objectId);
			ie_adopt_into_read_model(object.objectId);
			ie_versioned_part(object.objectId);
			break;
		case T_RenameStmt:
			if (object.classId == RelationRelationId)
			{
				ie_check_relation_rename(object.objectId, (RenameStmt *) command);
				ie_versioned_renamed(object.objectId, (RenameStmt *) command);
			}
			else if (object.classId == TriggerRelationId &&
					 OidIsValid(ie_guarded_by(object.objectId)))
				ie_refuse(ie_guarded_by(object.objectId), "alter", "ALTER TRIGGER");
			break;
		case T_CreateTrigStmt:
			ie_check_made_trigger(object.objectId, ((CreateTrigStmt *) command)->replace);
			break;
		case T_AlterEnumStmt:
			if (((AlterEnumStmt *) command)->oldVal != NULL)
				ie_check_type_change(object.objectId);
			break;
		case T_RuleStmt:
			ie_check_rule(table_of_rule(object.objectId));
			break;
		case T_AlterSeqStmt:
		case T_CreateSeqStmt:	/* OWNED BY a log's position */
			ie_check_sequence(object.objectId, "ALTER SEQUENCE");
			break;
		default:
			break;
	}
}

/* The table that a rule is on. */
static Oid
table_of_rule(Oid rule)
{
	Relation	catalog = table_open(RewriteRelationId, AccessShareLock);
	Oid			relid = InvalidOid;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_rewrite_oid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(rule));
	scan = systable_beginscan(catalog, RewriteOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		relid = ((Form_pg_rewrite) GETSTRUCT(tuple))->ev_class;
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return relid;
}
