/*
 * guard_command.c: what a command may not do, told from its parse tree.
 *
 * Each rule first finds out which relation or member of the extension the
 * command names; guard_ddl.c asks the same rules again with the OIDs that the
 * command has worked on. What does not exist is left to PostgreSQL.
 */
#include "guard.h"
#include "projected.h"

#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "parser/parse_type.h"
#include "utils/lsyscache.h"

static Oid	find(const RangeVar *relation);
static void check_rename(const RenameStmt *command);
static void check_new_schema(const AlterObjectSchemaStmt *command);
static void check_dependence(const AlterObjectDependsStmt *command);
static void check_new_trigger(const CreateTrigStmt *command);
static void check_replacement(const CreateTrigStmt *command, Oid relid);
static void check_drop(const DropStmt *command);
static void check_drop_trigger(List *names);
static bool is_upkeep(const AlterTableStmt *command);
static bool changes_owner_only(const AlterTableStmt *command);
static void check_column_rename(Oid relid, bool inherit);

/* Refuse a command that would harm what is protected. */
void
ie_check_command(Node *command)
{
	switch (nodeTag(command))
	{
		case T_AlterTableStmt:
			ie_check_alter(find(((AlterTableStmt *) command)->relation),
						   (AlterTableStmt *) command);
			ie_versioned_before(find(((AlterTableStmt *) command)->relation));
			break;
		case T_RenameStmt:
			check_rename((RenameStmt *) command);
			break;
		case T_AlterSeqStmt:
			ie_check_sequence(find(((AlterSeqStmt *) command)->sequence),
							  "ALTER SEQUENCE");
			break;
		case T_CreateTrigStmt:
			check_new_trigger((CreateTrigStmt *) command);
			break;
		case T_RuleStmt:
			ie_check_rule(find(((RuleStmt *) command)->relation));
			break;
		case T_DropStmt:
			check_drop((DropStmt *) command);
			break;
		case T_AlterObjectSchemaStmt:
			check_new_schema((AlterObjectSchemaStmt *) command);
			break;
		case T_AlterObjectDependsStmt:
			check_dependence((AlterObjectDependsStmt *) command);
			break;
		case T_AlterOwnerStmt:
			ie_check_member(((AlterOwnerStmt *) command)->objectType,
						 ((AlterOwnerStmt *) command)->object);
			break;
		case T_AlterFunctionStmt:
			ie_check_member(((AlterFunctionStmt *) command)->objtype,
						 (Node *) ((AlterFunctionStmt *) command)->func);
			break;
		case T_CreateFunctionStmt:
			ie_check_new_member(((CreateFunctionStmt *) command)->funcname);
			break;
		case T_DefineStmt:
			if (((DefineStmt *) command)->kind == OBJECT_AGGREGATE)
				ie_check_new_member(((DefineStmt *) command)->defnames);
			break;
		case T_ViewStmt:
			ie_check_new_view(((ViewStmt *) command)->view);
			break;
		case T_AlterEnumStmt:
			if (((AlterEnumStmt *) command)->oldVal != NULL)
				ie_check_type_change(LookupTypeNameOid(NULL,
													   makeTypeNameFromNameList(((AlterEnumStmt *) command)->typeName),
													   true));
			break;
		case T_AlterExtensionContentsStmt:
			if (strcmp(((AlterExtensionContentsStmt *) command)->extname,
					   IE_EXTENSION) == 0)
				ie_refuse_member();
			break;
		default:
			break;
	}
}

/* The relation of that name, or InvalidOid; no lock is kept. */
static Oid
find(const RangeVar *relation)
{
	return RangeVarGetRelid(relation, NoLock, true);
}

/* ALTER TABLE, and whatever else takes its forms. */
void
ie_check_alter(Oid relid, const AlterTableStmt *command)
{
	switch (get_rel_relkind(relid))
	{
		case '\0':
			return;				/* it does not exist */
		case RELKIND_SEQUENCE:
			if (!changes_owner_only(command))
				ie_check_sequence(relid, "ALTER SEQUENCE");
			break;
		default:
			if (get_rel_relkind(relid) != RELKIND_RELATION || !is_upkeep(command))
				ie_check_relation_member(relid);
			ie_check_alter_table(relid, command);
			ie_check_versioned_alter(relid, command);
			break;
	}
}

/* Does the command nothing but OWNER TO? */
static bool
changes_owner_only(const AlterTableStmt *command)
{
	ListCell   *cell;

	foreach(cell, command->cmds)
		if (((AlterTableCmd *) lfirst(cell))->subtype != AT_ChangeOwner)
			return false;
	return true;
}

/* Is it only about how a table is stored? */
static bool
is_upkeep(const AlterTableStmt *command)
{
	ListCell   *cell;

	foreach(cell, command->cmds)
		switch (((AlterTableCmd *) lfirst(cell))->subtype)
		{
			case AT_SetStatistics:
			case AT_SetOptions:
			case AT_ResetOptions:
			case AT_SetRelOptions:
			case AT_ResetRelOptions:
			case AT_SetTableSpace:
				break;
			default:
				return false;
		}
	return true;
}

/* A sequence may draw the positions of a log or a version table. */
void
ie_check_sequence(Oid sequence, const char *command)
{
	Oid			table;
	int32		column;

	if (OidIsValid(sequence) &&
		sequenceIsOwned(sequence, DEPENDENCY_AUTO, &table, &column) &&
		column == IE_POSITION && ie_is_protected(table) &&
		(ie_is_log_oid(table) || ie_is_version_table_oid(table)))
		ie_refuse(table, "alter the sequence of", command);
}

/* A rule could swallow what is inserted. */
void
ie_check_rule(Oid relid)
{
	ie_check_relation_member(relid);
	if (ie_is_protected(relid) || ie_is_read_model(relid))
		ie_refuse(relid, "create a rule on", "CREATE RULE");
}

/* RENAME of whatever has a name. */
static void
check_rename(const RenameStmt *command)
{
	if (command->renameType == OBJECT_SCHEMA)
	{
		ie_check_member(OBJECT_SCHEMA, (Node *) makeString(command->subname));
		ie_check_schema_rename(command->subname);
	}
	else if (command->relation == NULL)
	{
		ie_check_member(command->renameType, command->object);
		ie_check_named_reducer(command->renameType, command->object, "rename");
	}
	else
		ie_check_relation_rename(find(command->relation), command);
}

/* RENAME of a relation or a part of it. */
void
ie_check_relation_rename(Oid relid, const RenameStmt *command)
{
	if (!OidIsValid(relid))
		return;
	switch (command->renameType)
	{
		case OBJECT_COLUMN:
		case OBJECT_ATTRIBUTE:
			ie_check_relation_member(relid);
			check_column_rename(relid, command->relation->inh);
			break;
		case OBJECT_TRIGGER:
			if (ie_has_guard_named(relid, command->subname))
				ie_refuse(relid, "alter", "ALTER TRIGGER");
			ie_check_version_trigger(relid, command->subname, "ALTER TRIGGER");
			if (ie_is_guard_name(command->newname))
				ie_refuse_guard_name(command->newname);
			break;
		case OBJECT_TABCONSTRAINT:
		case OBJECT_POLICY:
		case OBJECT_RULE:
			break;
		default:
			ie_check_relation_member(relid);
			ie_check_sequence(relid, "ALTER SEQUENCE");
			break;
	}
}

/* RENAME of a column or attribute: what is below has it too. */
static void
check_column_rename(Oid relid, bool inherit)
{
	ListCell   *cell;

	foreach(cell, ie_family(relid, inherit))
	{
		Oid			member = lfirst_oid(cell);

		if (ie_is_protected(member) || ie_is_read_model(member))
			ie_refuse(member, "alter", "RENAME COLUMN");
		ie_check_type_change(get_rel_type_id(member));
	}
}

/* SET SCHEMA: a table may move, the extension's own may not, nor join them. */
static void
check_new_schema(const AlterObjectSchemaStmt *command)
{
	if (OidIsValid(ie_extension()) && strcmp(command->newschema, IE_SCHEMA) == 0)
		ie_refuse_member();
	if (command->relation != NULL)
		ie_check_relation_member(find(command->relation));
	else
	{
		ie_check_member(command->objectType, command->object);
		ie_check_named_reducer(command->objectType, command->object, "move");
	}
}

/* DEPENDS ON EXTENSION: dropping that would take a guard with it. */
static void
check_dependence(const AlterObjectDependsStmt *command)
{
	if (command->objectType == OBJECT_TRIGGER)
	{
		Oid			relid = find(command->relation);

		if (OidIsValid(relid) &&
			ie_has_guard_named(relid, strVal(llast((List *) command->object))))
			ie_refuse(relid, "alter", "ALTER TRIGGER");
	}
	else if (command->relation == NULL)
		ie_check_member(command->objectType, command->object);
}

/* CREATE TRIGGER must not take the place, nor the name, of a guard. */
static void
check_new_trigger(const CreateTrigStmt *command)
{
	Oid			relid = find(command->relation);

	ie_check_relation_member(relid);
	if (OidIsValid(relid) && command->replace)
		check_replacement(command, relid);
	if (ie_is_guard_name(command->trigname) &&
		!ie_is_guard_function(LookupFuncName(command->funcname, 0, NULL, true)))
		ie_refuse_guard_name(command->trigname);
}

/* A trigger of a partitioned table is cloned, and replaces, on each part. */
static void
check_replacement(const CreateTrigStmt *command, Oid relid)
{
	ListCell   *cell;

	foreach(cell, find_all_inheritors(relid, NoLock, NULL))
	{
		if (ie_has_guard_named(lfirst_oid(cell), command->trigname))
			ie_refuse(lfirst_oid(cell), "alter", "CREATE OR REPLACE TRIGGER");
		ie_check_version_trigger(lfirst_oid(cell), command->trigname,
								 "CREATE OR REPLACE TRIGGER");
	}
}

/* DROP of what can be told from its name; guard_drop.c sees the rest. */
static void
check_drop(const DropStmt *command)
{
	ListCell   *cell;

	foreach(cell, command->objects)
	{
		Node	   *object = lfirst(cell);
		Oid			relid;

		switch (command->removeType)
		{
			case OBJECT_TABLE:
				relid = find(makeRangeVarFromNameList((List *) object));
				if (ie_is_protected(relid) || ie_is_read_model(relid))
					ie_refuse(relid, "drop", "DROP TABLE");
				break;
			case OBJECT_SEQUENCE:
				relid = find(makeRangeVarFromNameList((List *) object));
				ie_check_sequence(relid, "DROP SEQUENCE");
				break;
			case OBJECT_TRIGGER:
				check_drop_trigger((List *) object);
				break;
			case OBJECT_EXTENSION:
				if (strcmp(strVal(object), IE_EXTENSION) == 0)
					ie_check_extension_drop();
				break;
			default:
				break;
		}
	}
}

/* DROP TRIGGER: the last name is the trigger's, those before its table's. */
static void
check_drop_trigger(List *names)
{
	List	   *table = list_truncate(list_copy(names), list_length(names) - 1);
	Oid			relid = find(makeRangeVarFromNameList(table));

	if (OidIsValid(relid) && ie_has_guard_named(relid, strVal(llast(names))))
		ie_refuse(relid, "alter", "DROP TRIGGER");
	ie_check_version_trigger(relid, strVal(llast(names)), "DROP TRIGGER");
}

/* Refuse to drop the extension from under a protected table. */
void
ie_check_extension_drop(void)
{
	Oid			relid = OidIsValid(ie_guard_function())
		? ie_some_protected_table() : InvalidOid;

	if (OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_RESTRICT_VIOLATION),
				 errmsg("cannot drop extension \"%s\"", IE_EXTENSION),
				 errdetail("It guards immutable tables, \"%s\" among them.",
						   get_rel_name(relid)),
				 errhint("Call immutable.unprotect for each table in immutable.protected_tables first.")));
}
