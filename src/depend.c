/*
 * depend.c: the rows of pg_depend that concern an object.
 */
#include "immutable_events.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_depend.h"
#include "utils/fmgroids.h"

static List *matching(AttrNumber class_column, AttrNumber object_column,
					  Oid index, Oid classid, Oid objid);

/* What an object, or a part of it, depends on: a list of Form_pg_depend. */
List *
ie_depends_on(Oid classid, Oid objid)
{
	return matching(Anum_pg_depend_classid, Anum_pg_depend_objid,
					DependDependerIndexId, classid, objid);
}

/* What depends on an object, or on a part of it. */
List *
ie_dependents_of(Oid classid, Oid objid)
{
	return matching(Anum_pg_depend_refclassid, Anum_pg_depend_refobjid,
					DependReferenceIndexId, classid, objid);
}

/* Copies of the rows that an index leads to. */
static List *
matching(AttrNumber class_column, AttrNumber object_column, Oid index,
		 Oid classid, Oid objid)
{
	Relation	catalog = table_open(DependRelationId, AccessShareLock);
	List	   *found = NIL;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], class_column, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(classid));
	ScanKeyInit(&keys[1], object_column, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(objid));
	scan = systable_beginscan(catalog, index, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		FormData_pg_depend *row = palloc(sizeof(*row));

		*row = *(Form_pg_depend) GETSTRUCT(tuple);
		found = lappend(found, row);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return found;
}
