/*
 * guard_read_model.c: the guards of read models.
 *
 * A read model has a statement trigger that refuses whatever does not come
 * from its projection; each part of a partitioned one has it, too. Logical
 * replication fires no statement triggers, so there is a row trigger besides
 * that fires in a replica session only. Like the guards of immutable tables
 * they go with the extension's leave only, and ALTER TABLE may do nothing that
 * the projection could not stand.
 */
#include "guard.h"
#include "projected.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "compat.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

static void guard_member(Oid relid);
static void create_trigger(Oid relid, const char *name, bool row);
static List *guards_of(Oid relid);
static const char *refused_form(Oid relid, const AlterTableCmd *form);
static bool is_primary_key(Oid relid, const char *constraint);

/* Is a table the read model of a projection, or a part of one? */
bool
ie_is_read_model(Oid relid)
{
	return guards_of(relid) != NIL;
}

/* Put the guards on a read model and its parts, which the caller has locked. */
void
ie_guard_read_model(Oid target)
{
	ListCell   *cell;

	foreach(cell, find_all_inheritors(target, ShareRowExclusiveLock, NULL))
		guard_member(lfirst_oid(cell));
}

/* Take them off. */
void
ie_release_read_model(Oid target)
{
	ListCell   *cell;
	ListCell   *guard;

	foreach(cell, find_all_inheritors(target, AccessExclusiveLock, NULL))
		foreach(guard, guards_of(lfirst_oid(cell)))
			ie_release(lfirst_oid(guard));
	CommandCounterIncrement();
}

/* Guard a new part of a read model; a child table would add rows to it. */
void
ie_adopt_into_read_model(Oid relid)
{
	ListCell   *cell;
	Oid			parent;

	if (!OidIsValid(relid) || !has_superclass(relid))
		return;
	if (!get_rel_relispartition(relid))
	{
		foreach(cell, ie_parents(relid))
			if (ie_is_read_model(lfirst_oid(cell)))
				ie_refuse_read_model(lfirst_oid(cell), "inherit from", "INHERITS");
		return;
	}
	parent = get_partition_parent(relid, true);
	if (ie_is_read_model(parent) && !ie_is_read_model(relid))
		ie_guard_read_model(relid);
}

/* The guards of one table. */
static void
guard_member(Oid relid)
{
	create_trigger(relid, IE_READ_MODEL_STATEMENT, false);
	if (get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
		create_trigger(relid, IE_READ_MODEL_ROW, true);
}

/* Create a guard as the extension's owner: its function is not public. */
static void
create_trigger(Oid relid, const char *name, bool row)
{
	CreateTrigStmt *create = makeNode(CreateTrigStmt);
	Oid			user;
	int			security;

	create->trigname = pstrdup(name);
	create->row = row;
	create->timing = TRIGGER_TYPE_BEFORE;
	create->events = TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE;
	if (!row)
		create->events |= TRIGGER_TYPE_TRUNCATE;
	GetUserIdAndSecContext(&user, &security);
	SetUserIdAndSecContext(ie_extension_owner(),
						   security | SECURITY_LOCAL_USERID_CHANGE);
	CreateTriggerFiringOn(create, NULL, relid, InvalidOid, InvalidOid,
						  InvalidOid, ie_own_function("_guard_read_model"),
						  InvalidOid, NULL, false, false,
						  row ? TRIGGER_FIRES_ON_REPLICA : TRIGGER_FIRES_ALWAYS);
	SetUserIdAndSecContext(user, security);
	CommandCounterIncrement();
}

/* The guards that a table has, as OIDs of triggers. */
static List *
guards_of(Oid relid)
{
	Oid			function = OidIsValid(relid) && ie_has_triggers(relid)
		? ie_own_function("_guard_read_model") : InvalidOid;
	List	   *guards = NIL;
	Relation	catalog;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	if (!OidIsValid(function))
		return NIL;
	catalog = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, TriggerRelidNameIndexId, true, NULL,
							  1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		if (((Form_pg_trigger) GETSTRUCT(tuple))->tgfoid == function)
			guards = lappend_oid(guards, ((Form_pg_trigger) GETSTRUCT(tuple))->oid);
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return guards;
}

/* Refuse an ALTER TABLE that the projection of a read model could not stand. */
void
ie_check_read_model_alter(Oid relid, const AlterTableStmt *command)
{
	ListCell   *cell;

	foreach(cell, command->cmds)
	{
		const char *refused = refused_form(relid, lfirst(cell));

		if (refused != NULL)
			ie_refuse_read_model(relid, "alter", refused);
	}
}

/* The name of a form that is refused, or NULL when it is harmless. */
static const char *
refused_form(Oid relid, const AlterTableCmd *form)
{
	switch (form->subtype)
	{
		case AT_AddColumn:
		case AT_ColumnDefault:
		case AT_SetNotNull:
		case AT_DropNotNull:
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
		case AT_ChangeOwner:	/* the projection is the new owner's */
		case AT_ClusterOn:
		case AT_DropCluster:
		case AT_SetLogged:
		case AT_SetTableSpace:
		case AT_SetRelOptions:
		case AT_ResetRelOptions:
		case AT_ReplicaIdentity:
		case AT_EnableRowSecurity:	/* the owner, who projects, is exempt */
		case AT_DisableRowSecurity:
		case AT_NoForceRowSecurity:
		case AT_EnableAlwaysTrig:	/* dumps emit it for a guard, */
			return NULL;

		case AT_EnableReplicaTrig:	/* and this for the other one */
			return strcmp(form->name, IE_READ_MODEL_STATEMENT) == 0
				? ie_form_name(form->subtype) : NULL;
		case AT_EnableTrig:
		case AT_DisableTrig:
			return ie_has_guard_named(relid, form->name)
				? ie_form_name(form->subtype) : NULL;
		case AT_DropConstraint:
			return is_primary_key(relid, form->name)
				? "Dropping the primary key" : NULL;
		default:
			return ie_form_name(form->subtype);
	}
}

/* Is a constraint the primary key? */
static bool
is_primary_key(Oid relid, const char *constraint)
{
	Oid			oid = get_relation_constraint_oid(relid, constraint, true);
	Oid			index = OidIsValid(oid) ? get_constraint_index(oid) : InvalidOid;
	Relation	rel;
	bool		primary;

	if (!OidIsValid(index))
		return false;
	rel = index_open(index, AccessShareLock);
	primary = rel->rd_index->indisprimary;
	index_close(rel, AccessShareLock);
	return primary;
}

/* Refuse a command that would harm a read model. */
void
ie_refuse_read_model(Oid relid, const char *verb, const char *reason)
{
	ereport(ERROR,
			(errcode(ERRCODE_RESTRICT_VIOLATION),
			 errmsg("cannot %s read model \"%s\"", verb, get_rel_name(relid)),
			 errdetail("%s could break its projection, or let others change its rows.", reason),
			 errhint("Call immutable.drop_projection first if that is what you want."),
			 err_generic_string(PG_DIAG_SCHEMA_NAME,
								get_namespace_name(get_rel_namespace(relid))),
			 err_generic_string(PG_DIAG_TABLE_NAME, get_rel_name(relid))));
}
