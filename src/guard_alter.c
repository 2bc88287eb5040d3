/*
 * guard_alter.c: which forms of ALTER TABLE a protected table allows.
 *
 * What is not known to be harmless is refused, so a form that a later server
 * invents is refused too. A log allows less than a plain protected table:
 * append relies on its columns, constraints and defaults.
 */
#include "guard.h"
#include "projected.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_constraint.h"
#include "compat.h"
#include "miscadmin.h"
#include "parser/parse_type.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

static bool commits_half_way(const AlterTableStmt *command);
static void check_new_columns(Oid relid, const AlterTableStmt *command);
static bool is_unique(Oid relid, const char *name);
static bool is_serial(const TypeName *type);
static void check_forms(Oid relid, bool named, const AlterTableStmt *command);
static bool concerns_named(const AlterTableCmd *form);
static const char *refused_form(Oid relid, bool log, const AlterTableCmd *form);
static const char *refused_trigger_form(Oid relid, const AlterTableCmd *form);
static bool has_default(const ColumnDef *column);
static void check_partner(const AlterTableCmd *form);
static bool changes_row_type(const AlterTableStmt *command);

/* Refuse an ALTER TABLE that reaches a protected table and may harm it. */
void
ie_check_alter_table(Oid relid, const AlterTableStmt *command)
{
	List	   *family = ie_family(relid, command->relation->inh);
	bool		row_type = changes_row_type(command);
	ListCell   *cell;

	if (commits_half_way(command) && ie_relation_ownercheck(relid, GetUserId()))
		LockRelationOid(relid, ShareUpdateExclusiveLock);
	foreach(cell, family)
	{
		Oid			member = lfirst_oid(cell);

		if (ie_is_protected(member))
			check_forms(member, member == relid, command);
		else if (ie_is_read_model(member))
			ie_check_read_model_alter(member, command);
		if (row_type)
			ie_check_type_change(get_rel_type_id(member));
	}
	foreach(cell, command->cmds)
		check_partner(lfirst(cell));
}

/*
 * DETACH CONCURRENTLY commits before it is done: what is refused at its end is
 * done by half. So whoever protects the table is waited for at its beginning.
 */
static bool
commits_half_way(const AlterTableStmt *command)
{
	ListCell   *cell;

	foreach(cell, command->cmds)
	{
		const AlterTableCmd *form = lfirst(cell);

		if (form->subtype == AT_DetachPartition &&
			((PartitionCmd *) form->def)->concurrent)
			return true;
	}
	return false;
}

/* Refuse one that is done, for what it has made a protected table depend on. */
void
ie_check_altered_table(Oid relid, const AlterTableStmt *command)
{
	ListCell   *cell;

	foreach(cell, ie_family(relid, command->relation->inh))
	{
		Oid			member = lfirst_oid(cell);
		Oid			user = ie_protected_user(get_rel_type_id(member));

		if (ie_is_protected(member))
		{
			ie_check_lasting(member);
			check_new_columns(member, command);
		}
		if (OidIsValid(user))
			ie_check_lasting(user);
	}
}

/* A new column must not have a value in the rows that were there before. */
static void
check_new_columns(Oid relid, const AlterTableStmt *command)
{
	ListCell   *cell;

	foreach(cell, command->cmds)
	{
		const AlterTableCmd *form = lfirst(cell);
		HeapTuple	tuple;
		bool		missing;

		if (form->subtype != AT_AddColumn)
			continue;
		tuple = SearchSysCacheAttName(relid, ((ColumnDef *) form->def)->colname);
		if (!HeapTupleIsValid(tuple))
			continue;
		missing = ((Form_pg_attribute) GETSTRUCT(tuple))->atthasmissing;
		ReleaseSysCache(tuple);
		if (missing)
			ie_refuse(relid, "alter", "ADD COLUMN with a default");
	}
}

/*
 * Refuse what one protected table does not allow. Some forms concern the named
 * table alone, and not what is below it.
 */
static void
check_forms(Oid relid, bool named, const AlterTableStmt *command)
{
	bool		log = ie_is_log_oid(relid) || ie_is_version_table_oid(relid);
	ListCell   *cell;

	foreach(cell, command->cmds)
	{
		const AlterTableCmd *form = lfirst(cell);
		const char *refused = named || !concerns_named(form)
			? refused_form(relid, log, form) : NULL;

		if (refused != NULL)
			ie_refuse(relid, "alter", refused);
	}
}

/* Is this a form that does nothing to what is below the named table? */
static bool
concerns_named(const AlterTableCmd *form)
{
	return form->subtype == AT_DetachPartition ||
		form->subtype == AT_DetachPartitionFinalize ||
		form->subtype == AT_AddInherit || form->subtype == AT_DropInherit;
}

/* The name of a form that is refused, or NULL when it is harmless. */
static const char *
refused_form(Oid relid, bool log, const AlterTableCmd *form)
{
	switch (form->subtype)
	{
			/* not the rows, nor what they mean, nor the guards */
		case AT_SetNotNull:
		case AT_SetStatistics:
		case AT_SetOptions:
		case AT_ResetOptions:
		case AT_SetStorage:
		case AT_SetCompression:
		case AT_AddIndex:
		case AT_AddConstraint:
		case AT_AlterConstraint:
		case AT_ValidateConstraint:
		case AT_AddIndexConstraint:
		case AT_ChangeOwner:
		case AT_ClusterOn:
		case AT_DropCluster:
		case AT_SetLogged:
		case AT_DropOids:
		case AT_SetTableSpace:
		case AT_SetRelOptions:
		case AT_ResetRelOptions:
		case AT_ReplicaIdentity:
		case AT_EnableRowSecurity:
		case AT_DisableRowSecurity:
		case AT_ForceRowSecurity:
		case AT_NoForceRowSecurity:
		case AT_AttachPartition:	/* ie_adopt guards it */
			return NULL;

			/* only what later rows are like, which append relies on */
		case AT_ColumnDefault:
		case AT_DropNotNull:
		case AT_DropExpression:
		case AT_AddIdentity:
		case AT_SetIdentity:
		case AT_DropIdentity:
			return log ? ie_form_name(form->subtype) : NULL;

		case AT_DropConstraint:
			return log || is_unique(relid, form->name)
				? ie_form_name(form->subtype) : NULL;

		case AT_AddColumn:
			return has_default((ColumnDef *) form->def)
				? "ADD COLUMN with a default" : NULL;

		case AT_EnableTrig:
		case AT_EnableReplicaTrig:
		case AT_DisableTrig:
			return refused_trigger_form(relid, form);
		case AT_EnableAlwaysTrig:	/* dumps emit it for a guard */
			return NULL;

		default:
			return ie_form_name(form->subtype);
	}
}

/* One trigger by name: the user's own triggers are his. */
static const char *
refused_trigger_form(Oid relid, const AlterTableCmd *form)
{
	return ie_has_guard_named(relid, form->name)
		? ie_form_name(form->subtype) : NULL;
}

/* Does a constraint keep rows from standing twice? */
static bool
is_unique(Oid relid, const char *name)
{
	Oid			constraint = get_relation_constraint_oid(relid, name, true);

	return OidIsValid(constraint) && OidIsValid(get_constraint_index(constraint));
}

/* Would a new column give the rows that exist a value? */
static bool
has_default(const ColumnDef *column)
{
	ListCell   *cell;
	Type		type;
	bool		found = false;

	foreach(cell, column->constraints)
	{
		ConstrType	kind = ((Constraint *) lfirst(cell))->contype;

		if (kind == CONSTR_DEFAULT || kind == CONSTR_GENERATED ||
			kind == CONSTR_IDENTITY)
			return true;
	}
	/* a type may bring one, and serial, which is no type, means one */
	if (is_serial(column->typeName))
		return true;
	type = LookupTypeName(NULL, column->typeName, NULL, true);
	if (type != NULL)
	{
		found = get_typdefault(typeTypeId(type)) != NULL;
		ReleaseSysCache(type);
	}
	return found;
}

/* Is it serial, by one of its names? */
static bool
is_serial(const TypeName *type)
{
	static const char *const names[] = {"serial", "serial2", "serial4",
	"serial8", "smallserial", "bigserial"};
	Size		i;

	if (list_length(type->names) == 1 && !type->pct_type)
		for (i = 0; i < lengthof(names); i++)
			if (strcmp(strVal(linitial(type->names)), names[i]) == 0)
				return true;
	return false;
}

/* What a form is called in SQL. */
const char *
ie_form_name(AlterTableType form)
{
	switch (form)
	{
		case AT_ColumnDefault:
			return "ALTER COLUMN SET or DROP DEFAULT";
		case AT_DropNotNull:
			return "ALTER COLUMN DROP NOT NULL";
		case AT_DropConstraint:
			return "DROP CONSTRAINT";
		case AT_DropColumn:
			return "DROP COLUMN";
		case AT_AlterColumnType:
			return "ALTER COLUMN TYPE";
		case AT_SetUnLogged:
			return "SET UNLOGGED";
		case AT_SetAccessMethod:
			return "SET ACCESS METHOD";
		case AT_ForceRowSecurity:
			return "FORCE ROW LEVEL SECURITY";
		case AT_AttachPartition:
			return "ATTACH PARTITION";
		case AT_EnableTrig:
		case AT_EnableReplicaTrig:
		case AT_EnableTrigAll:
		case AT_EnableTrigUser:
			return "ENABLE TRIGGER";
		case AT_DisableTrig:
		case AT_DisableTrigAll:
		case AT_DisableTrigUser:
			return "DISABLE TRIGGER";
		case AT_AddInherit:
			return "INHERIT";
		case AT_DropInherit:
			return "NO INHERIT";
		case AT_DetachPartition:
		case AT_DetachPartitionFinalize:
			return "DETACH PARTITION";
		case AT_AddOf:
			return "OF";
		case AT_DropOf:
			return "NOT OF";
		default:
			return "This form of ALTER TABLE";
	}
}

/* The other table that some forms name. */
static void
check_partner(const AlterTableCmd *form)
{
	Oid			partner;

	switch (form->subtype)
	{
		case AT_AddInherit:		/* its rows would show in the parent */
			partner = RangeVarGetRelid((RangeVar *) form->def, NoLock, true);
			if (ie_is_protected(partner) || ie_is_read_model(partner))
				ie_refuse(partner, "inherit from", "INHERIT");
			break;
		case AT_AttachPartition:	/* its parent could be changed instead */
			partner = RangeVarGetRelid(((PartitionCmd *) form->def)->name,
									   NoLock, true);
			if (ie_is_read_model(partner))
				ie_refuse(partner, "attach", "ATTACH PARTITION");
			break;
		case AT_DetachPartition:
		case AT_DetachPartitionFinalize:
			partner = RangeVarGetRelid(((PartitionCmd *) form->def)->name,
									   NoLock, true);
			if (ie_is_protected(partner))
				ie_refuse(partner, "detach", "DETACH PARTITION");
			break;
		default:
			break;
	}
}

/* Does the command change what a row of the table, as a value, consists of? */
static bool
changes_row_type(const AlterTableStmt *command)
{
	ListCell   *cell;

	foreach(cell, command->cmds)
	{
		AlterTableType form = ((AlterTableCmd *) lfirst(cell))->subtype;

		if (form == AT_DropColumn || form == AT_AlterColumnType)
			return true;
	}
	return false;
}
