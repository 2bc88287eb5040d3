/*
 * version_registry.c: immutable.versioned_tables, read as catalogs are.
 */
#include "version.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

static bool read_registry(const char *index_name, AttrNumber column, Oid relid,
						  IeVersioned *row);

/* What the registry says of a versioned table; false when it is none. */
bool
ie_read_versioned(Oid relid, IeVersioned *row)
{
	return read_registry(IE_VERSION_REGISTRY "_pkey", 1, relid, row);
}

/* The same, found by its version table. */
bool
ie_find_versioned(Oid versions, IeVersioned *row)
{
	return read_registry(IE_VERSION_REGISTRY "_versions_key", 2, versions, row);
}

/* One row of the registry, as new as there is one. */
static bool
read_registry(const char *index_name, AttrNumber column, Oid relid,
			  IeVersioned *row)
{
	Oid			schema = get_namespace_oid(IE_SCHEMA, false);
	Relation	rel = table_open(get_relname_relid(IE_VERSION_REGISTRY, schema), AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(ie_latest_snapshot());
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found;

	ScanKeyInit(&key, column, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, get_relname_relid(index_name, schema), true,
							  snapshot, 1, &key);
	tuple = systable_getnext(scan);
	found = HeapTupleIsValid(tuple);
	if (found)
	{
		Datum		values[5];
		bool		nulls[5];

		heap_deform_tuple(tuple, RelationGetDescr(rel), values, nulls);
		row->relid = DatumGetObjectId(values[0]);
		row->versions = DatumGetObjectId(values[1]);
		row->began = DatumGetTimestampTz(values[2]);
		row->known = DatumGetTimestampTz(values[3]);
		row->complete = DatumGetBool(values[4]);
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return found;
}

/* The versioned table that a table is, or is a part of; or InvalidOid. */
Oid
ie_versioned_root(Oid relid)
{
	IeVersioned row;
	ListCell   *cell;

	if (ie_read_versioned(relid, &row))
		return relid;
	if (get_rel_relispartition(relid))
		foreach(cell, get_partition_ancestors(relid))
			if (ie_read_versioned(lfirst_oid(cell), &row))
				return lfirst_oid(cell);
	return InvalidOid;
}
