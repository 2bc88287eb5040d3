/*
 * relation.c: what the catalogs say of a relation.
 *
 * The catalogs are the registry: a table is a log because it is a typed table
 * OF immutable.event, and a leaf belongs to a log because its root is one.
 */
#include "immutable_events.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/sysattr.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "compat.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

static Oid	type_of_table(Oid relid);

/* Lock and open a relation that may be gone since its name was resolved. */
Relation
ie_open_relation(Oid relid, LOCKMODE lockmode)
{
	Relation	rel = try_relation_open(relid, lockmode);

	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	return rel;
}

/* Refuse a caller who does not own the relation. */
void
ie_check_owner(Relation rel)
{
	if (!ie_relation_ownercheck(RelationGetRelid(rel), GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER,
					   get_relkind_objtype(rel->rd_rel->relkind),
					   RelationGetRelationName(rel));
}

/*
 * The same for its owner, at once and alone: nobody else may queue for a lock
 * that others would have to wait behind.
 */
Relation
ie_open_own_relation(Oid relid, LOCKMODE lockmode)
{
	Relation	rel = ie_open_relation(relid, AccessShareLock);

	ie_check_owner(rel);
	relation_close(rel, AccessShareLock);
	rel = ie_open_relation(relid, lockmode);
	ie_check_owner(rel);
	return rel;
}

/* The OID of type immutable.event. */
Oid
ie_event_type(void)
{
	Oid			schema = get_namespace_oid(IE_SCHEMA, false);

	return GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
						   CStringGetDatum("event"),
						   ObjectIdGetDatum(schema));
}

/* Is this a log, or a leaf of one? */
bool
ie_is_log(Relation rel)
{
	Oid			root = ie_partition_root(rel);
	Oid			oftype = rel->rd_rel->reloftype;

	if (root != RelationGetRelid(rel))
		oftype = type_of_table(root);
	return OidIsValid(oftype) && oftype == ie_event_type();
}

/* The same, of a relation that is not open, and may be gone. */
bool
ie_is_log_oid(Oid relid)
{
	List	   *ancestors = NIL;
	Oid			oftype;

	if (get_rel_relispartition(relid))
		ancestors = get_partition_ancestors(relid);
	oftype = type_of_table(ancestors == NIL ? relid : llast_oid(ancestors));
	return OidIsValid(oftype) && oftype == ie_event_type();
}

/* The type that a table was made OF, or InvalidOid. */
static Oid
type_of_table(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			oftype;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	oftype = ((Form_pg_class) GETSTRUCT(tuple))->reloftype;
	ReleaseSysCache(tuple);
	return oftype;
}

/*
 * Are the columns those of immutable.event, in order, plain and NOT NULL? The
 * columns of a leaf may stand in another order.
 */
bool
ie_has_event_columns(Relation rel)
{
	static const char *const names[] = {
		"position", "recorded_at", "version", "id", "schema_version",
		"stream", "type", "data", "metadata"
	};
	static const Oid types[] = {
		INT8OID, TIMESTAMPTZOID, INT8OID, UUIDOID, INT4OID,
		TEXTOID, TEXTOID, JSONBOID, JSONBOID
	};
	TupleDesc	columns = RelationGetDescr(rel);
	int			i;

	if (columns->natts != IE_NCOLUMNS)
		return false;
	for (i = 0; i < IE_NCOLUMNS; i++)
	{
		Form_pg_attribute column = TupleDescAttr(columns, i);

		if (column->attisdropped || column->attgenerated != '\0' ||
			!column->attnotnull || column->atttypid != types[i] ||
			strcmp(NameStr(column->attname), names[i]) != 0)
			return false;
	}
	return true;
}

/* The columns that every version table begins with. */
static const struct
{
	const char *name;
	Oid			type;
}			version_columns[IE_VERSION_NCOLUMNS] = {
	{"row_position", INT8OID},
	{"row_version", INT8OID},
	{"row_operation", CHAROID},
	{"row_start", TIMESTAMPTZOID},
	{"row_xact", XID8OID},
	{"row_user", NAMEOID},
	{"row_context", JSONBOID}
};

/* Is this a table of row versions? Its columns tell. */
bool
ie_is_version_table(Relation rel)
{
	TupleDesc	columns = RelationGetDescr(rel);
	int			i;

	if (rel->rd_rel->relkind != RELKIND_RELATION ||
		columns->natts <= IE_VERSION_NCOLUMNS)
		return false;
	for (i = 0; i < IE_VERSION_NCOLUMNS; i++)
	{
		Form_pg_attribute column = TupleDescAttr(columns, i);

		if (column->atttypid != version_columns[i].type ||
			column->attnotnull != (i + 1 != IE_ROW_CONTEXT) ||
			strcmp(NameStr(column->attname), version_columns[i].name) != 0)
			return false;
	}
	return true;
}

/* The same, of a relation that is not open, and may be gone. */
bool
ie_is_version_table_oid(Oid relid)
{
	Relation	rel;
	bool		result;

	if (get_rel_relkind(relid) != RELKIND_RELATION ||
		get_attnum(relid, version_columns[0].name) != IE_ROW_POSITION)
		return false;
	rel = try_relation_open(relid, AccessShareLock);
	result = rel != NULL && ie_is_version_table(rel);
	if (rel != NULL)
		relation_close(rel, AccessShareLock);
	return result;
}

/* Is this the name of a column that every version table, or its view, has? */
bool
ie_is_version_column(const char *name)
{
	int			i;

	if (strcmp(name, "row_end") == 0)
		return true;
	for (i = 0; i < IE_VERSION_NCOLUMNS; i++)
		if (strcmp(name, version_columns[i].name) == 0)
			return true;
	return false;
}

/* Is this a table whose rows only our own code writes? */
bool
ie_is_history(Relation rel)
{
	return ie_is_log(rel) || ie_is_version_table(rel);
}

/* The topmost table that the relation is a partition of, or itself. */
Oid
ie_partition_root(Relation rel)
{
	List	   *ancestors;

	if (!rel->rd_rel->relispartition)
		return RelationGetRelid(rel);
	/* none, when the partition is being detached concurrently */
	ancestors = get_partition_ancestors(RelationGetRelid(rel));
	return ancestors == NIL ? RelationGetRelid(rel) : llast_oid(ancestors);
}

/* The sequence that a log's positions come from, or InvalidOid. */
Oid
ie_position_sequence(Oid log)
{
	ListCell   *cell;

	foreach(cell, getOwnedSequences(log))
	{
		Oid			table;
		int32		column;

		if (sequenceIsOwned(lfirst_oid(cell), DEPENDENCY_AUTO,
							&table, &column) && column == IE_POSITION)
			return lfirst_oid(cell);
	}
	return InvalidOid;
}

/*
 * The highest position that a sequence has given; 0 when it gave none. Read
 * with the page locked, not as a table: while nextval writes to the log it has
 * the page say what it would say 32 values later.
 */
int64
ie_last_position(Oid sequence)
{
	Relation	rel = relation_open(sequence, AccessShareLock);
	Buffer		buffer = ReadBuffer(rel, 0);
	Page		page = BufferGetPage(buffer);
	HeapTupleHeader row;
	FormData_pg_sequence_data state;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	row = (HeapTupleHeader) PageGetItem(page, PageGetItemId(page, FirstOffsetNumber));
	memcpy(&state, (char *) row + row->t_hoff, sizeof(state));
	UnlockReleaseBuffer(buffer);
	relation_close(rel, AccessShareLock);
	/* one that was not called gives last_value next */
	return state.is_called ? state.last_value : state.last_value - 1;
}

/* "schema.name", quoted where needed. */
char *
ie_qualified_name(Relation rel)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
									  RelationGetRelationName(rel));
}

/* The privilege on all columns of a log, checked as for a query. */
void
ie_check_access(Relation log, AclMode mode)
{
	static Bitmapset *columns = NULL;

	if (columns == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

		columns = bms_add_range(NULL,
								IE_POSITION - FirstLowInvalidHeapAttributeNumber,
								IE_NCOLUMNS - FirstLowInvalidHeapAttributeNumber);
		MemoryContextSwitchTo(caller);
	}
	ie_check_privileges(log, mode, columns);
}
