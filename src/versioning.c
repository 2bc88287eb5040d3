/*
 * versioning.c: immutable.add_versioning and drop_versioning.
 *
 * The version table is an ordinary table of the owner's, protected. Nothing is
 * created before it is known that the versions of the table can be kept: each
 * row must have a key that no two rows have at any moment.
 */
#include "guard.h"
#include "version.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "compat.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

static bool is_lazy(const text *backfill);
static void check_target(Relation rel);
static void check_columns(Relation rel);
static void check_parts(Relation rel);
pg_noreturn static void refuse(Relation rel, const char *detail, const char *hint);
static Oid	create_versions(Relation rel, TimestampTz began, bool lazy);
static void copy_rows(Relation rel, Oid versions, TimestampTz began);
static char *key_columns(Relation rel);
static void register_versions(Oid relid, Oid versions, TimestampTz began, bool complete);
static void drop_triggers(Oid relid);

PG_FUNCTION_INFO_V1(ie_add_versioning);
PG_FUNCTION_INFO_V1(ie_drop_versioning);

/* Keep every version of every row of a table from now on. */
Datum
ie_add_versioning(PG_FUNCTION_ARGS)
{
	Relation	rel;
	Relation	table;
	IeVersioned row;
	TimestampTz began;
	bool		lazy;
	ListCell   *cell;

	PreventCommandDuringRecovery("immutable.add_versioning()");
	ie_require_arg(fcinfo, 0, "target");
	ie_require_arg(fcinfo, 1, "backfill");
	lazy = is_lazy(PG_GETARG_TEXT_PP(1));
	/* a writer must not come between what is copied and the trigger */
	rel = ie_open_relation(PG_GETARG_OID(0), AccessShareLock);
	ie_check_owner(rel);
	relation_close(rel, AccessShareLock);
	ie_lock_patiently(PG_GETARG_OID(0), ShareRowExclusiveLock);
	rel = ie_open_relation(PG_GETARG_OID(0), NoLock);
	ie_check_owner(rel);
	if (ie_read_versioned(RelationGetRelid(rel), &row))
	{
		ereport(NOTICE,
				(errmsg("table \"%s\" is already versioned",
						RelationGetRelationName(rel))));
		relation_close(rel, NoLock);
		PG_RETURN_OID(row.versions);
	}
	check_target(rel);
	began = GetCurrentTimestamp();
	row.versions = create_versions(rel, began, lazy);
	register_versions(RelationGetRelid(rel), row.versions, began, !lazy);
	table = table_open(row.versions, AccessShareLock);
	ie_make_version_functions(rel, table);
	table_close(table, NoLock);
	ie_make_version_trigger(RelationGetRelid(rel), false);
	foreach(cell, find_all_inheritors(RelationGetRelid(rel), ShareRowExclusiveLock, NULL))
		ie_make_version_trigger(lfirst_oid(cell), true);
	ie_record_change(rel, "add_versioning");
	relation_close(rel, NoLock);
	PG_RETURN_OID(row.versions);
}

/* Are the rows that exist to be recorded later? */
static bool
is_lazy(const text *backfill)
{
	char	   *mode = text_to_cstring(backfill);

	if (strcmp(mode, "now") != 0 && strcmp(mode, "lazy") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("backfill must be \"now\" or \"lazy\", not \"%s\"", mode)));
	return strcmp(mode, "lazy") == 0;
}

/* Refuse a table whose versions could not be kept. */
static void
check_target(Relation rel)
{
	if (rel->rd_rel->relkind != RELKIND_RELATION &&
		rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		refuse(rel, "It is not a table.", NULL);
	if (IsSystemRelation(rel) || ie_is_member(RelationRelationId, RelationGetRelid(rel)))
		refuse(rel, "It is a system table.", NULL);
	if (ie_is_protected(RelationGetRelid(rel)))
		refuse(rel, "It is immutable: its rows have one version each.", NULL);
	if (rel->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT)
		refuse(rel, "Temporary and unlogged tables lose their rows.",
			   "Use an ordinary table, or ALTER TABLE ... SET LOGGED.");
	if (rel->rd_rel->relispartition)
		refuse(rel, "It is a partition.", "Version the partitioned table.");
	if (rel->rd_rel->relrowsecurity)
		refuse(rel, "It has row security, which its versions would not have.",
			   "Disable row security, add versioning, give the version table policies and row security of its own, and enable row security again.");
	check_parts(rel);
	check_columns(rel);
	if (!OidIsValid(ie_key_index(rel)))
		refuse(rel, "It has no primary key that is checked at once.",
			   "Add a primary key that is not deferrable.");
}

/* Inheritance has no common key, and foreign tables no triggers of ours. */
static void
check_parts(Relation rel)
{
	bool		partitioned = rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE;
	ListCell   *cell;

	foreach(cell, find_all_inheritors(RelationGetRelid(rel), ShareRowExclusiveLock, NULL))
	{
		Oid			part = lfirst_oid(cell);

		if (part != RelationGetRelid(rel) && !partitioned)
			refuse(rel, "Other tables inherit from it.",
				   "Use declarative partitioning.");
		if (get_rel_relkind(part) == RELKIND_FOREIGN_TABLE)
			refuse(rel, "One of its partitions is a foreign table.", NULL);
	}
}

/* Refuse columns that have no place in a version table. */
static void
check_columns(Relation rel)
{
	TupleDesc	columns = RelationGetDescr(rel);
	int			i;

	for (i = 0; i < columns->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(columns, i);

		if (column->attisdropped)
			continue;
		if (ie_is_version_column(NameStr(column->attname)))
			refuse(rel, psprintf("It has a column \"%s\", as its history has.",
								 NameStr(column->attname)),
				   "Rename the column.");
		if (column->attgenerated != '\0' && column->attgenerated != 's')
			refuse(rel, psprintf("Column \"%s\" is computed when it is read.",
								 NameStr(column->attname)),
				   "Make it STORED, or drop it.");
	}
}

/* Raise the error for a table that cannot be versioned. */
static void
refuse(Relation rel, const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(hint == NULL ? ERRCODE_WRONG_OBJECT_TYPE
					 : ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot version \"%s\"", RelationGetRelationName(rel)),
			 errdetail_internal("%s", detail),
			 hint == NULL ? 0 : errhint("%s", hint),
			 errtable(rel)));
}

/* Create the version table, with a first version of each row unless lazy. */
static Oid
create_versions(Relation rel, TimestampTz began, bool lazy)
{
	Oid			relid = ie_create_side_table(rel, IE_VERSIONS_SUFFIX, ie_version_columns(rel));
	Relation	versions = table_open(relid, AccessShareLock);
	char	   *name = ie_qualified_name(versions);

	table_close(versions, NoLock);
	if (!lazy)
		copy_rows(rel, relid, began);
	ie_execute(psprintf("ALTER TABLE %s ADD PRIMARY KEY (%s, row_start, row_version)", name, key_columns(rel)));
	ie_execute(psprintf("CREATE UNIQUE INDEX ON %s (%s)"
						" WHERE row_version OPERATOR(pg_catalog.=) 1", name, key_columns(rel)));
	ie_execute(psprintf("COMMENT ON TABLE %s IS %s", name,
						quote_literal_cstr(psprintf("every version of every row of table %s",
													RelationGetRelationName(rel)))));
	DirectFunctionCall1(ie_protect, ObjectIdGetDatum(relid));
	return relid;
}

/* Give every row its first version. */
static void
copy_rows(Relation rel, Oid relid, TimestampTz began)
{
	Relation	versions = table_open(relid, AccessShareLock);
	Oid			types[] = {TIMESTAMPTZOID, JSONBOID};
	Datum		values[] = {TimestampTzGetDatum(began), PointerGetDatum(ie_context)};
	char		nulls[] = {' ', ie_context == NULL ? 'n' : ' '};
	char	   *query = ie_version_copy(rel, versions);
	int			result;

	table_close(versions, NoLock);
	SPI_connect();
	result = SPI_execute_with_args(query, 2, types, values, nulls, false, 0);
	if (result != SPI_OK_INSERT)
		elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(result));
	SPI_finish();
}

/* The columns of a table's primary key. */
static char *
key_columns(Relation rel)
{
	Relation	index = index_open(ie_key_index(rel), AccessShareLock);
	StringInfoData text;
	int			i;

	initStringInfo(&text);
	for (i = 0; i < index->rd_index->indnkeyatts; i++)
		appendStringInfo(&text, "%s%s", i > 0 ? ", " : "",
						 quote_identifier(NameStr(TupleDescAttr(RelationGetDescr(rel),
																index->rd_index->indkey.values[i] - 1)->attname)));
	index_close(index, AccessShareLock);
	return text.data;
}

/* Remember which table has the versions of which. */
static void
register_versions(Oid relid, Oid versions, TimestampTz began, bool complete)
{
	Oid			types[] = {REGCLASSOID, REGCLASSOID, TIMESTAMPTZOID, BOOLOID};
	Datum		values[] = {ObjectIdGetDatum(relid), ObjectIdGetDatum(versions),
	TimestampTzGetDatum(began), BoolGetDatum(complete)};

	ie_registry_query("INSERT INTO immutable." IE_VERSION_REGISTRY
					  " VALUES ($1, $2, $3, $3, $4)",
					  4, types, values, NULL, NULL, NULL);
}

/*
 * Create one of the triggers. By OID and not as a command, as the guards are;
 * the partitions get their row triggers from PostgreSQL.
 */
void
ie_make_version_trigger(Oid relid, bool truncate)
{
	CreateTrigStmt *create = makeNode(CreateTrigStmt);
	Oid			function = LookupFuncName(list_make2(makeString(IE_SCHEMA),
													 makeString(truncate ? "_version_truncate" : "_version")),
										  0, NULL, false);
	Oid			user;
	int			security;

	create->trigname = truncate ? IE_TRUNCATE_TRIGGER : IE_VERSION_TRIGGER;
	create->row = !truncate;
	create->timing = truncate ? TRIGGER_TYPE_BEFORE : TRIGGER_TYPE_AFTER;
	create->events = truncate ? TRIGGER_TYPE_TRUNCATE
		: TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE;
	GetUserIdAndSecContext(&user, &security);
	SetUserIdAndSecContext(ie_extension_owner(),
						   security | SECURITY_LOCAL_USERID_CHANGE);
	CreateTriggerFiringOn(create, NULL, relid, InvalidOid, InvalidOid,
						  InvalidOid, function, InvalidOid, NULL,
						  false, false, TRIGGER_FIRES_ALWAYS);
	SetUserIdAndSecContext(user, security);
	CommandCounterIncrement();
}

/* Stop versioning; the version table stays, protected. */
Datum
ie_drop_versioning(PG_FUNCTION_ARGS)
{
	Oid			types[] = {REGCLASSOID};
	Relation	rel;
	IeVersioned row;

	PreventCommandDuringRecovery("immutable.drop_versioning()");
	ie_require_arg(fcinfo, 0, "target");
	rel = ie_open_own_relation(PG_GETARG_OID(0), ShareRowExclusiveLock);
	if (!ie_read_versioned(RelationGetRelid(rel), &row))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" is not versioned", RelationGetRelationName(rel)),
				 errhint("Call immutable.add_versioning.")));
	ie_record_change(rel, "drop_versioning");
	ie_drop_version_functions(row.versions);
	ie_registry_query("DELETE FROM immutable." IE_VERSION_REGISTRY
					  " WHERE relation OPERATOR(pg_catalog.=) $1::pg_catalog.oid",
					  1, types, &(Datum) {ObjectIdGetDatum(row.relid)}, NULL, NULL, NULL);
	relation_close(rel, NoLock);
	drop_triggers(row.relid);
	PG_RETURN_VOID();
}

/* Drop the triggers of a table and its partitions. */
static void
drop_triggers(Oid relid)
{
	ListCell   *cell;

	foreach(cell, find_all_inheritors(relid, AccessExclusiveLock, NULL))
	{
		Oid			trigger = get_trigger_oid(lfirst_oid(cell), IE_TRUNCATE_TRIGGER, true);

		if (OidIsValid(trigger))
			ie_release(trigger);
	}
	if (OidIsValid(get_trigger_oid(relid, IE_VERSION_TRIGGER, true)))
		ie_release(get_trigger_oid(relid, IE_VERSION_TRIGGER, true));
	CommandCounterIncrement();
}
