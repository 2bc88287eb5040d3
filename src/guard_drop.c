/*
 * guard_drop.c: what must not be dropped, by whatever command or cascade.
 *
 * The hook is called for each object that is about to go, while its catalog
 * row is still there; sql_drop event triggers come after, and not at all when
 * the cascade takes the extension itself (DROP OWNED, DROP LANGUAGE plpgsql
 * CASCADE). A protected table goes with its guards, so refusing to drop a
 * guard keeps the table. No preload is needed: the event trigger at
 * ddl_command_start has loaded the library before anything is dropped.
 */
#include "guard.h"
#include "projected.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_attrdef.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_event_trigger.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "compat.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

static object_access_hook_type next_hook = NULL;

static void object_accessed(ObjectAccessType access, Oid classid, Oid objid,
							int subid, void *arg);
static void check_drop(Oid classid, Oid objid, int subid, bool internal);
static void check_drop_column(Oid relid);
static void check_drop_guard(Oid trigger);
static void check_drop_ourselves(Oid classid, Oid objid);
static void check_drop_part_of_log(Oid relid, bool unique, const char *what);
static Oid	constraint_table(Oid constraint);
static Oid	default_table(Oid attrdef);
static bool is_guarded(void);
static bool fires_always(const char *name);

/* Ask to be told of every object that is dropped. */
void
ie_watch_drops(void)
{
	next_hook = object_access_hook;
	object_access_hook = object_accessed;
}

/* Something happens to an object of the catalogs. */
static void
object_accessed(ObjectAccessType access, Oid classid, Oid objid, int subid,
				void *arg)
{
	if (next_hook != NULL)
		next_hook(access, classid, objid, subid, arg);
	if (access == OAT_DROP && IsTransactionState() && !ie_is_releasing())
		check_drop(classid, objid, subid,
				   (((ObjectAccessDrop *) arg)->dropflags & PERFORM_DELETION_INTERNAL) != 0);
}

/*
 * Refuse to drop what a protected table consists of. PostgreSQL drops and
 * remakes constraints and defaults for reasons of its own.
 */
static void
check_drop(Oid classid, Oid objid, int subid, bool internal)
{
	switch (classid)
	{
		case TriggerRelationId:
			check_drop_guard(objid);
			if (!internal && is_guarded())
				ie_check_version_drop(objid);
			break;
		case ProcedureRelationId:
			if (is_guarded())
				ie_check_reducer(objid, "drop");
			break;
		case RelationRelationId:
			if (subid != 0)
				check_drop_column(objid);
			break;
		case ConstraintRelationId:
			if (!internal)
				check_drop_part_of_log(constraint_table(objid),
									   OidIsValid(get_constraint_index(objid)),
									   "Dropping a constraint");
			break;
		case AttrDefaultRelationId:
			if (!internal)
				check_drop_part_of_log(default_table(objid), false, "Dropping a default");
			break;
		case EventTriggerRelationId:
		case ExtensionRelationId:
			check_drop_ourselves(classid, objid);
			break;
		default:
			break;
	}
}

/* A column of a protected table, or of a row type that one holds values of. */
static void
check_drop_column(Oid relid)
{
	if ((ie_is_protected(relid) || ie_is_read_model(relid)) && is_guarded())
		ie_refuse(relid, "alter", "Dropping a column");
	if (OidIsValid(ie_protected_user(get_rel_type_id(relid))) && is_guarded())
		ie_check_type_change(get_rel_type_id(relid));
}

/* A guard goes only by unprotect, or with the whole extension. */
static void
check_drop_guard(Oid trigger)
{
	Oid			relid = ie_guarded_by(trigger);

	if (!OidIsValid(relid) || !is_guarded())
		return;
	if (ie_is_member(RelationRelationId, relid))
		ie_check_extension_drop();
	else
		ie_refuse(relid, "drop the guards of", "DROP");
}

/* The extension, and first of all what watches over its guards. */
static void
check_drop_ourselves(Oid classid, Oid objid)
{
	bool		ours = classid == ExtensionRelationId
		? objid == ie_extension() : ie_is_member(classid, objid);

	if (ours && is_guarded())
		ie_check_extension_drop();
}

/*
 * Append relies on the constraints and defaults of a log; of other tables, a
 * unique constraint keeps rows from standing twice.
 */
static void
check_drop_part_of_log(Oid relid, bool unique, const char *what)
{
	if (OidIsValid(relid) && ie_is_protected(relid) &&
		(unique || ie_is_log_oid(relid) || ie_is_version_table_oid(relid)) &&
		is_guarded())
		ie_refuse(relid, "alter", what);
}

/* The table of a constraint; InvalidOid for one of a domain. */
static Oid
constraint_table(Oid constraint)
{
	HeapTuple	tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(constraint));
	Oid			relid;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	relid = ((Form_pg_constraint) GETSTRUCT(tuple))->conrelid;
	ReleaseSysCache(tuple);
	return relid;
}

/* The table of a column's default. */
static Oid
default_table(Oid attrdef)
{
	return GetAttrDefaultColumnAddress(attrdef).objectId;
}

/*
 * Is it for us to refuse? A superuser who has silenced our event triggers
 * wants to be let through, unless the library is preloaded.
 */
static bool
is_guarded(void)
{
	return ie_preloaded != NULL || ie_event_triggers_on();
}

/* Are our event triggers in force? */
bool
ie_event_triggers_on(void)
{
	const char *setting = GetConfigOption("event_triggers", true, false);

	return (setting == NULL || strcmp(setting, "off") != 0) &&
		fires_always("immutable_guard_ddl_start") &&
		fires_always("immutable_guard_ddl_end") &&
		fires_always("immutable_guard_rewrite");
}

/* Is an event trigger there, and ENABLE ALWAYS? */
static bool
fires_always(const char *name)
{
	HeapTuple	tuple = SearchSysCache1(EVENTTRIGGERNAME, CStringGetDatum(name));
	bool		always;

	if (!HeapTupleIsValid(tuple))
		return false;
	always = ((Form_pg_event_trigger) GETSTRUCT(tuple))->evtenabled ==
		TRIGGER_FIRES_ALWAYS;
	ReleaseSysCache(tuple);
	return always;
}
