/*
 * protected.c: which tables are protected, asked of the catalogs.
 *
 * A table is protected when it has a trigger that calls immutable._guard(),
 * be it enabled or not: a guard that somebody has disabled by surgery on the
 * catalogs does not make the rest of the table free.
 */
#include "guard.h"
#include "projected.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

static bool releasing = false;	/* guards are being taken off, rightly */

static char *trigger_name(Oid trigger);

/* The OID of our extension in this database, or InvalidOid. */
Oid
ie_extension(void)
{
	return get_extension_oid(IE_EXTENSION, true);
}

/* Is this object a member of our extension? */
bool
ie_is_member(Oid classid, Oid objid)
{
	Oid			extension = ie_extension();

	return OidIsValid(extension) &&
		getExtensionOfObject(classid, objid) == extension;
}

/* Does our own script run, or does pg_upgrade put back what there was? */
bool
ie_own_script(void)
{
	return IsBinaryUpgrade ||
		(creating_extension && CurrentExtensionObject == ie_extension());
}

/* The OID of immutable._guard(), or InvalidOid where there is none. */
Oid
ie_guard_function(void)
{
	return ie_own_function("_guard");
}

/* The OID of one of our trigger functions, or InvalidOid. */
Oid
ie_own_function(const char *name)
{
	if (!OidIsValid(ie_extension()))
		return InvalidOid;
	return LookupFuncName(list_make2(makeString(IE_SCHEMA),
									 makeString(pstrdup(name))), 0, NULL, true);
}

/* Does a trigger that calls this function guard its table, or keep it fed? */
bool
ie_is_guard_function(Oid function)
{
	return OidIsValid(function) &&
		(function == ie_guard_function() ||
		 function == ie_own_function("_guard_read_model") ||
		 function == ie_own_function("_project"));
}

/* Is the table protected? */
bool
ie_is_protected(Oid relid)
{
	Oid			guard = ie_has_triggers(relid) ? ie_guard_function() : InvalidOid;
	Relation	catalog;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;

	if (!OidIsValid(guard))
		return false;
	catalog = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, TriggerRelidNameIndexId, true, NULL,
							  1, &key);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
		found = ((Form_pg_trigger) GETSTRUCT(tuple))->tgfoid == guard;
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return found;
}

/* Is this a relation that has, or had, triggers? */
bool
ie_has_triggers(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	bool		result;

	if (!HeapTupleIsValid(tuple))
		return false;
	result = ((Form_pg_class) GETSTRUCT(tuple))->relhastriggers;
	ReleaseSysCache(tuple);
	return result;
}

/*
 * The table that a trigger guards, or a log whose events it projects;
 * InvalidOid when it is another trigger.
 */
Oid
ie_guarded_by(Oid trigger)
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
		ie_is_guard_function(((Form_pg_trigger) GETSTRUCT(tuple))->tgfoid) &&
		(((Form_pg_trigger) GETSTRUCT(tuple))->tgfoid != ie_own_function("_project") ||
		 ie_is_log_oid(((Form_pg_trigger) GETSTRUCT(tuple))->tgrelid)))
		relid = ((Form_pg_trigger) GETSTRUCT(tuple))->tgrelid;
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return relid;
}

/* Is this a name that only guards have? */
bool
ie_is_guard_name(const char *name)
{
	return OidIsValid(ie_extension()) &&
		(strcmp(name, IE_GUARD_ROW) == 0 ||
		 strcmp(name, IE_GUARD_STATEMENT) == 0 ||
		 strcmp(name, IE_READ_MODEL_STATEMENT) == 0 ||
		 strcmp(name, IE_READ_MODEL_ROW) == 0 ||
		 strcmp(name, IE_PROJECTOR) == 0);
}

/*
 * Refuse a trigger that has been made, if it has the name of a guard and is
 * none, or has weakened the one it replaced.
 */
void
ie_check_made_trigger(Oid trigger, bool replaced)
{
	Oid			relid = ie_guarded_by(trigger);
	Relation	rel;
	const char *problem;

	if (!OidIsValid(relid))
	{
		char	   *name = trigger_name(trigger);

		if (name != NULL && ie_is_guard_name(name))
			ie_refuse_guard_name(name);
		return;
	}
	if (!replaced || !ie_is_protected(relid))
		return;					/* a dump makes one guard after the other */
	rel = relation_open(relid, AccessShareLock);
	problem = ie_guard_problem(rel);
	relation_close(rel, AccessShareLock);
	if (problem != NULL)
		ie_refuse(relid, "alter", "CREATE OR REPLACE TRIGGER");
}

/* The name of a trigger, or NULL. */
static char *
trigger_name(Oid trigger)
{
	Relation	catalog = table_open(TriggerRelationId, AccessShareLock);
	char	   *name = NULL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(trigger));
	scan = systable_beginscan(catalog, TriggerOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		name = pstrdup(NameStr(((Form_pg_trigger) GETSTRUCT(tuple))->tgname));
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return name;
}

/* Raise the error for a trigger that is no guard and would be called one. */
void
ie_refuse_guard_name(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_RESERVED_NAME),
			 errmsg("trigger name \"%s\" is reserved", name),
			 errdetail("Triggers of immutable tables and read models have it."),
			 errhint("Choose another name.")));
}

/* Has the table a guard of this name? */
bool
ie_has_guard_named(Oid relid, const char *name)
{
	Oid			trigger = get_trigger_oid(relid, name, true);

	return OidIsValid(trigger) && OidIsValid(ie_guarded_by(trigger));
}

/*
 * A protected table of a user, or InvalidOid when there is none. Waits for
 * those who are protecting one: they write to guard_changes.
 */
Oid
ie_some_protected_table(void)
{
	Oid			guard = ie_guard_function();
	Oid			schema = get_namespace_oid(IE_SCHEMA, false);
	Oid			relid = InvalidOid;
	Relation	catalog;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	LockRelationOid(get_relname_relid("guard_changes", schema),
					ShareRowExclusiveLock);
	catalog = table_open(DependRelationId, AccessShareLock);
	ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(ProcedureRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(guard));
	scan = systable_beginscan(catalog, DependReferenceIndexId, true, NULL,
							  2, keys);
	while (!OidIsValid(relid) &&
		   HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend depend = (Form_pg_depend) GETSTRUCT(tuple);

		if (depend->classid == TriggerRelationId)
			relid = ie_guarded_by(depend->objid);
		if (OidIsValid(relid) && ie_is_member(RelationRelationId, relid))
			relid = InvalidOid;
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return relid;
}

/* Drop a guard, which nothing but this may do. */
void
ie_release(Oid trigger)
{
	ObjectAddress address;

	ObjectAddressSet(address, TriggerRelationId, trigger);
	releasing = true;
	PG_TRY();
	{
		performDeletion(&address, DROP_RESTRICT, 0);
	}
	PG_FINALLY();
	{
		releasing = false;
	}
	PG_END_TRY();
}

/* Is a guard being dropped by ie_release? */
bool
ie_is_releasing(void)
{
	return releasing;
}

/* Refuse a command that would change what is protected. */
void
ie_refuse(Oid relid, const char *verb, const char *reason)
{
	if (!ie_is_protected(relid) && ie_is_read_model(relid))
		ie_refuse_read_model(relid, verb, reason);
	ereport(ERROR,
			(errcode(ERRCODE_RESTRICT_VIOLATION),
			 errmsg("cannot %s immutable table \"%s\"",
					verb, get_rel_name(relid)),
			 errdetail("%s would change its rows, or what guards them.", reason),
			 errhint("Call immutable.unprotect first if that is what you want."),
			 err_generic_string(PG_DIAG_SCHEMA_NAME,
								get_namespace_name(get_rel_namespace(relid))),
			 err_generic_string(PG_DIAG_TABLE_NAME, get_rel_name(relid))));
}
