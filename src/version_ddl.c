/*
 * version_ddl.c: DDL on a versioned table.
 *
 * A new or renamed column is carried over to the version table at the end of
 * the command, in its transaction; a dropped one stays there. What would leave
 * history with a hole, or change what it says, is refused.
 */
#include "guard.h"
#include "version.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "commands/defrem.h"
#include "commands/event_trigger.h"
#include "commands/tablecmds.h"
#include "commands/trigger.h"
#include "compat.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

static Oid	versioned_root(Oid relid);
static const char *refused_form(const AlterTableCmd *form, const char **hint);
static void check_partner(Oid relid, const AlterTableCmd *form, bool done);
static bool any_has_rows(Oid relid);
static void release_parts(Oid relid);
static bool is_version_trigger_name(const char *name);
pg_noreturn static void refuse(Oid relid, const char *reason, const char *hint);
pg_noreturn static void refuse_name(Oid relid, const char *name);
static void carry_columns(Relation rel, Relation versions,
						  const AlterTableStmt *command);
static Oid	table_of(Oid trigger);
static bool takes_away(const AlterTableStmt *command);
static bool changes_columns(const AlterTableStmt *command);
static void rename_column(Oid relid, const char *from, const char *to);
static void set_aside(Relation versions, const char *name);

/* Refuse an ALTER TABLE that history could not follow. */
void
ie_check_versioned_alter(Oid relid, const AlterTableStmt *command)
{
	Oid			root = versioned_root(relid);
	ListCell   *cell;

	foreach(cell, command->cmds)
	{
		const AlterTableCmd *form = lfirst(cell);
		const char *hint = NULL;
		const char *refused;

		/* a child shows its rows in the table that it inherits from */
		if (form->subtype == AT_AddInherit &&
			OidIsValid(versioned_root(RangeVarGetRelid((RangeVar *) form->def, NoLock, true))))
			refuse(RangeVarGetRelid((RangeVar *) form->def, NoLock, true), "INHERIT", NULL);
		if (!OidIsValid(root))
			continue;
		refused = refused_form(form, &hint);
		if (refused != NULL)
			refuse(relid, refused, hint);
		check_partner(relid, form, false);
	}
}

/* The versioned table that a relation is, or is a part of; told quickly. */
static Oid
versioned_root(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	bool		triggers;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	triggers = ((Form_pg_class) GETSTRUCT(tuple))->relhastriggers;
	ReleaseSysCache(tuple);
	return triggers && OidIsValid(ie_extension()) ? ie_versioned_root(relid) : InvalidOid;
}

/* The name of a form that is refused, or NULL. */
static const char *
refused_form(const AlterTableCmd *form, const char **hint)
{
	switch (form->subtype)
	{
		case AT_AlterColumnType:
			*hint = "Add a column of the new type, and fill it by UPDATE.";
			return "ALTER COLUMN TYPE";
		case AT_SetUnLogged:
			return "SET UNLOGGED";
		case AT_DisableTrig:
		case AT_EnableTrig:
		case AT_EnableReplicaTrig:
			if (!is_version_trigger_name(form->name))
				return NULL;
			return form->subtype == AT_DisableTrig ? "DISABLE TRIGGER" : "ENABLE TRIGGER";
		case AT_DisableTrigAll:
		case AT_DisableTrigUser:
			return "DISABLE TRIGGER";
		case AT_EnableTrigAll:
		case AT_EnableTrigUser:
			return "ENABLE TRIGGER";
		default:
			return NULL;
	}
}

/* Rows must not come or go with a partition: no trigger would see them. */
static void
check_partner(Oid relid, const AlterTableCmd *form, bool done)
{
	PartitionCmd *command = (PartitionCmd *) form->def;
	Oid			part;

	if (form->subtype != AT_AttachPartition && form->subtype != AT_DetachPartition)
		return;
	if (form->subtype == AT_DetachPartition && command->concurrent)
		refuse(relid, "DETACH PARTITION CONCURRENTLY", NULL);
	part = RangeVarGetRelid(command->name, NoLock, true);
	if (!done || !OidIsValid(part))
		return;
	if (any_has_rows(part))
		refuse(relid, form->subtype == AT_AttachPartition
			   ? "ATTACH PARTITION of a table with rows" : "DETACH PARTITION of a table with rows",
			   "Move the rows by INSERT and DELETE.");
	if (form->subtype == AT_AttachPartition)
		ie_versioned_part(part);
	else
		release_parts(part);
}

/* Has the table or a part of it a row? Nobody can write one after this. */
static bool
any_has_rows(Oid relid)
{
	ListCell   *cell;

	foreach(cell, find_all_inheritors(relid, AccessExclusiveLock, NULL))
		if (ie_has_rows(lfirst_oid(cell)))
			return true;
	return false;
}

/* A partition has left: it may be truncated. */
static void
release_parts(Oid relid)
{
	ListCell   *cell;

	foreach(cell, find_all_inheritors(relid, NoLock, NULL))
	{
		Oid			trigger = get_trigger_oid(lfirst_oid(cell), IE_TRUNCATE_TRIGGER, true);

		if (OidIsValid(trigger))
			ie_release(trigger);
	}
}

/* Is it one of our two triggers, by name? */
static bool
is_version_trigger_name(const char *name)
{
	return strcmp(name, IE_VERSION_TRIGGER) == 0 ||
		strcmp(name, IE_TRUNCATE_TRIGGER) == 0;
}

/* Refuse a command on one of our triggers. */
void
ie_check_version_trigger(Oid relid, const char *name, const char *command)
{
	if (OidIsValid(relid) && is_version_trigger_name(name) &&
		OidIsValid(versioned_root(relid)) &&
		OidIsValid(get_trigger_oid(relid, name, true)))
		refuse(relid, command, "Call immutable.drop_versioning first if that is what you want.");
}

/* Refuse to give rows new values that no trigger sees. */
void
ie_check_version_rewrite(Oid relid)
{
	int			reason = DatumGetInt32(OidFunctionCall0(F_PG_EVENT_TRIGGER_TABLE_REWRITE_REASON));

	if ((reason & (AT_REWRITE_DEFAULT_VAL | AT_REWRITE_COLUMN_REWRITE)) != 0 &&
		OidIsValid(versioned_root(relid)))
		refuse(relid, "ALTER TABLE with a value of its own for each row",
			   "Add the column without a default, set the default after that, and fill the column by UPDATE.");
}

/*
 * One of our triggers is about to go, alone or with its table. A partition may
 * go when it is empty.
 */
void
ie_check_version_drop(Oid trigger)
{
	Oid			relid = table_of(trigger);
	Oid			root;

	if (!OidIsValid(relid))
		return;
	root = versioned_root(relid);
	if (OidIsValid(root) && (root == relid || ie_has_rows(relid)))
		refuse(relid, "DROP", root == relid
			   ? "Call immutable.drop_versioning first if that is what you want."
			   : "Delete the rows first.");
}

/* The table of a trigger, if it is one of ours. */
static Oid
table_of(Oid trigger)
{
	Relation	catalog = table_open(TriggerRelationId, AccessShareLock);
	Oid			relid = InvalidOid;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(trigger));
	scan = systable_beginscan(catalog, TriggerOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple) &&
		is_version_trigger_name(NameStr(((Form_pg_trigger) GETSTRUCT(tuple))->tgname)))
		relid = ((Form_pg_trigger) GETSTRUCT(tuple))->tgrelid;
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return relid;
}

/* Raise the error for a command that history could not follow. */
static void
refuse(Oid relid, const char *reason, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_RESTRICT_VIOLATION),
			 errmsg("cannot alter versioned table \"%s\"", get_rel_name(relid)),
			 errdetail("%s would leave its history incomplete or change what it says.", reason),
			 hint == NULL ? 0 : errhint("%s", hint),
			 err_generic_string(PG_DIAG_SCHEMA_NAME,
								get_namespace_name(get_rel_namespace(relid))),
			 err_generic_string(PG_DIAG_TABLE_NAME, get_rel_name(relid))));
}

/* Raise the error for a column that has no place in the version table. */
static void
refuse_name(Oid relid, const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_DUPLICATE_COLUMN),
			 errmsg("column name \"%s\" is reserved in versioned table \"%s\"",
					name, get_rel_name(relid)),
			 errdetail("Its history has a column of this name."),
			 errhint("Choose another name.")));
}

/* An ALTER TABLE is done: let the versions follow. */
void
ie_versioned_altered(Oid relid, const AlterTableStmt *command)
{
	Oid			root = versioned_root(relid);
	IeVersioned row;
	Relation	rel;
	Relation	versions;
	ListCell   *cell;

	if (!OidIsValid(root))
		return;
	foreach(cell, command->cmds)
		check_partner(relid, lfirst(cell), true);
	if (!ie_read_versioned(relid, &row))
		return;
	rel = relation_open(relid, NoLock);
	ie_carry_owner(rel, row.versions);
	versions = try_table_open(row.versions, AccessShareLock);
	if (versions != NULL && changes_columns(command))
	{
		carry_columns(rel, versions, command);
		ie_make_version_functions(rel, versions);
	}
	if (versions != NULL)
		table_close(versions, NoLock);
	/* what cannot be recorded any more is refused now, not at the next write */
	if (takes_away(command))
		ie_check_recordable(rel);
	relation_close(rel, NoLock);
}

/* Does the command take away what a version may need, such as the key? */
static bool
takes_away(const AlterTableStmt *command)
{
	ListCell   *cell;

	foreach(cell, command->cmds)
	{
		AlterTableType form = ((AlterTableCmd *) lfirst(cell))->subtype;

		if (form == AT_DropConstraint || form == AT_DropColumn)
			return true;
	}
	return false;
}

/* Does the command add or drop a column? */
static bool
changes_columns(const AlterTableStmt *command)
{
	ListCell   *cell;

	foreach(cell, command->cmds)
	{
		AlterTableType form = ((AlterTableCmd *) lfirst(cell))->subtype;

		if (form == AT_AddColumn || form == AT_DropColumn)
			return true;
	}
	return false;
}

/* Add the new columns to the version table; the dropped ones stay there. */
static void
carry_columns(Relation rel, Relation versions, const AlterTableStmt *command)
{
	ListCell   *cell;

	foreach(cell, command->cmds)
	{
		const AlterTableCmd *form = lfirst(cell);
		const char *name;
		AttrNumber	attnum;

		if (form->subtype == AT_DropColumn)
			ie_check_dropped_column(rel, versions, form->name);
		if (form->subtype != AT_AddColumn)
			continue;
		name = ((ColumnDef *) form->def)->colname;
		attnum = get_attnum(RelationGetRelid(rel), name);
		if (attnum <= 0)
			continue;			/* dropped by the same command */
		if (ie_is_version_column(name))
			refuse_name(RelationGetRelid(rel), name);
		/* IF NOT EXISTS may have found it */
		if (form->missing_ok && !ie_is_new_column(RelationGetRelid(rel), attnum))
			continue;
		if (get_attnum(RelationGetRelid(versions), name) > 0)
			set_aside(versions, name);
		ie_carry_column(rel, attnum, versions);
	}
}

/* A column that was dropped gives its name to a new one. */
static void
set_aside(Relation versions, const char *name)
{
	char	   *other = makeObjectName(name, "dropped", NULL);
	int			i;

	for (i = 2; get_attnum(RelationGetRelid(versions), other) != InvalidAttrNumber; i++)
		other = makeObjectName(name, psprintf("dropped%d", i), NULL);
	rename_column(RelationGetRelid(versions), name, other);
	if (OidIsValid(ie_version_view(RelationGetRelid(versions))))
		rename_column(ie_version_view(RelationGetRelid(versions)), name, other);
}

/* Rename a column, if there is one of the name; by us, not by a command. */
static void
rename_column(Oid relid, const char *from, const char *to)
{
	RenameStmt *rename = makeNode(RenameStmt);

	if (get_attnum(relid, from) <= 0)
		return;
	rename->renameType = OBJECT_COLUMN;
	rename->relationType = get_rel_relkind(relid) == RELKIND_VIEW ? OBJECT_VIEW : OBJECT_TABLE;
	rename->relation = makeRangeVar(get_namespace_name(get_rel_namespace(relid)),
									get_rel_name(relid), -1);
	rename->subname = pstrdup(from);
	rename->newname = pstrdup(to);
	rename->behavior = DROP_RESTRICT;
	(void) renameatt(rename);
	CommandCounterIncrement();
}

/* A column was renamed: so it is in the version table. */
void
ie_versioned_renamed(Oid relid, const RenameStmt *command)
{
	IeVersioned row;
	Relation	versions;

	if (command->renameType != OBJECT_COLUMN || !OidIsValid(versioned_root(relid)) ||
		!ie_read_versioned(relid, &row))
		return;
	if (ie_is_version_column(command->newname))
		refuse_name(relid, command->newname);
	versions = try_table_open(row.versions, AccessExclusiveLock);
	if (versions == NULL)
		return;
	if (get_attnum(row.versions, command->newname) > 0)
		set_aside(versions, command->newname);
	table_close(versions, NoLock);
	rename_column(row.versions, command->subname, command->newname);
	if (OidIsValid(ie_version_view(row.versions)))
		rename_column(ie_version_view(row.versions), command->subname, command->newname);
}

/* A table has become a part of a versioned one. */
void
ie_versioned_part(Oid relid)
{
	ListCell   *cell;

	if (!get_rel_relispartition(relid))
	{
		/* a child shows its rows in the table that it inherits from */
		foreach(cell, ie_depends_on(RelationRelationId, relid))
		{
			Form_pg_depend depend = lfirst(cell);

			if (depend->refclassid == RelationRelationId &&
				has_subclass(depend->refobjid) &&
				OidIsValid(versioned_root(depend->refobjid)))
				refuse(depend->refobjid, "INHERITS", "Use declarative partitioning.");
		}
		return;
	}
	if (!OidIsValid(ie_versioned_root(relid)))
		return;
	foreach(cell, find_all_inheritors(relid, NoLock, NULL))
		if (!OidIsValid(get_trigger_oid(lfirst_oid(cell), IE_TRUNCATE_TRIGGER, true)))
			ie_make_version_trigger(lfirst_oid(cell), true);
}
