/*
 * temporary.c: what would go when a session ends.
 *
 * A table may depend on a temporary object: a column on a temporary type, or a
 * partition's parent on a function of pg_temp. When that goes, at the end of
 * its session or by autovacuum long after, it takes the column or the table
 * along, with nobody there to refuse it.
 */
#include "immutable_events.h"

#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"

static bool visit(ObjectAddress object, ObjectAddresses *seen);
static void keep_as_it_is(ObjectAddress object);

/* Does a table depend, by whatever way, on something temporary? */
bool
ie_depends_on_temporary(Oid relid)
{
	ObjectAddress table;

	ObjectAddressSet(table, RelationRelationId, relid);
	return visit(table, new_object_addresses());
}

/* The same, of an object that may have been seen on the way here. */
static bool
visit(ObjectAddress object, ObjectAddresses *seen)
{
	ObjectAddress other;
	Oid			schema;
	ListCell   *cell;

	check_stack_depth();
	if (object_address_present(&object, seen))
		return false;
	add_exact_object_address(&object, seen);
	keep_as_it_is(object);
	schema = is_objectclass_supported(object.classId)
		? get_object_namespace(&object) : InvalidOid;
	if (OidIsValid(schema) && isAnyTempNamespace(schema))
		return true;
	foreach(cell, ie_depends_on(object.classId, object.objectId))
	{
		Form_pg_depend depend = lfirst(cell);

		ObjectAddressSet(other, depend->refclassid, depend->refobjid);
		if (visit(other, seen))
			return true;
	}
	/* it goes, too, when what it consists of goes: attributes, expressions */
	foreach(cell, ie_dependents_of(object.classId, object.objectId))
	{
		Form_pg_depend depend = lfirst(cell);

		ObjectAddressSet(other, depend->classid, depend->objid);
		if (depend->deptype == DEPENDENCY_INTERNAL && visit(other, seen))
			return true;
	}
	return false;
}

/*
 * Wait for those who alter a type or a row type that the table relies on, and
 * keep them out until the table is protected.
 */
static void
keep_as_it_is(ObjectAddress object)
{
	if (object.classId == TypeRelationId)
		LockDatabaseObject(TypeRelationId, object.objectId, 0, RowShareLock);
	else if (object.classId == RelationRelationId)
		LockRelationOid(object.objectId, AccessShareLock);
}

/* Refuse a protected table that something temporary could take along. */
void
ie_check_lasting(Oid relid)
{
	if (ie_depends_on_temporary(relid))
		ereport(ERROR,
				(errcode(ERRCODE_RESTRICT_VIOLATION),
				 errmsg("immutable table \"%s\" must not depend on a temporary object",
						get_rel_name(relid)),
				 errdetail("The end of the session would drop the object, and a column or the table with it."),
				 errhint("Use a type or function of another schema than pg_temp.")));
}
