/*
 * version_sql.c: the text of what is made for a versioned table.
 *
 * The functions that look back in time have SQL bodies that PostgreSQL parses
 * when they are made: it follows the tables and columns in them by OID through
 * every rename, and takes them into the query that calls them. Versions of a
 * key are numbered without a gap, so the first one stands for the key and the
 * next one tells when a version has ended.
 */
#include "version.h"

#include "access/genam.h"
#include "access/nbtree.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_proc.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

static void append_column(StringInfo text, Form_pg_attribute column);
static char *collation_name(Oid collation);
static char *names(Relation rel, const char *alias, int first);
static char *operator_name(Oid operator);
static bool keys_are_exact(Relation versions);
static bool is_key(Relation versions, const char *name);
static char *as_of_body(Relation rel, Relation versions);
static char *range_body(Relation versions, const char *upto, const char *order);
static void make_function(Relation rel, Relation versions, const char *suffix,
						  const char *parameters, const char *result,
						  const char *body, const char *comment);
static void make_view(Relation rel, Relation versions);
static char *own_name(Relation rel, Oid found, Oid classid, const char *suffix);
static void give_to_owner(Relation rel, const char *kind, const char *name);

PG_FUNCTION_INFO_V1(ie_version_key);
PG_FUNCTION_INFO_V1(ie_version_key_columns);

/* The columns of a version table, as CREATE TABLE takes them. */
char *
ie_version_columns(Relation rel)
{
	TupleDesc	columns = RelationGetDescr(rel);
	StringInfoData text;
	int			i;

	initStringInfo(&text);
	appendStringInfoString(&text, "row_position bigserial NOT NULL,"
						   " row_version pg_catalog.int8 NOT NULL,"
						   " row_operation pg_catalog.\"char\" NOT NULL,"
						   " row_start pg_catalog.timestamptz NOT NULL,"
						   " row_xact pg_catalog.xid8 NOT NULL,"
						   " row_user pg_catalog.name NOT NULL,"
						   " row_context pg_catalog.jsonb");
	for (i = 0; i < columns->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(columns, i);

		if (column->attisdropped)
			continue;
		appendStringInfoString(&text, ", ");
		append_column(&text, column);
	}
	return text.data;
}

/* A column's name, type and collation. */
static void
append_column(StringInfo text, Form_pg_attribute column)
{
	appendStringInfo(text, "%s %s", quote_identifier(NameStr(column->attname)),
					 format_type_extended(column->atttypid, column->atttypmod,
										  FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
	if (OidIsValid(column->attcollation))
		appendStringInfo(text, " COLLATE %s", collation_name(column->attcollation));
}

/* The query that gives every row of a new version table its first version. */
char *
ie_version_copy(Relation rel, Relation versions)
{
	char	   *columns = names(rel, "", 1);

	return psprintf("INSERT INTO %s (row_version, row_operation, row_start, row_xact, row_user, row_context, %s)"
					" SELECT 1, 'I', $1, pg_catalog.pg_current_xact_id(), SESSION_USER, $2, %s FROM %s%s",
					ie_qualified_name(versions), columns, columns,
					rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE ? "" : "ONLY ",
					ie_qualified_name(rel));
}

/* The name of a collation, qualified. */
static char *
collation_name(Oid collation)
{
	HeapTuple	tuple = SearchSysCache1(COLLOID, ObjectIdGetDatum(collation));
	Form_pg_collation form;
	char	   *name;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for collation %u", collation);
	form = (Form_pg_collation) GETSTRUCT(tuple);
	name = quote_qualified_identifier(get_namespace_name(form->collnamespace),
									  NameStr(form->collname));
	ReleaseSysCache(tuple);
	return name;
}

/* The live columns of a relation from one on, with an alias before each. */
static char *
names(Relation rel, const char *alias, int first)
{
	StringInfoData text;
	int			i;

	initStringInfo(&text);
	for (i = first - 1; i < RelationGetDescr(rel)->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(RelationGetDescr(rel), i);

		if (!column->attisdropped)
			appendStringInfo(&text, "%s%s%s", text.len > 0 ? ", " : "", alias,
							 quote_identifier(NameStr(column->attname)));
	}
	return text.data;
}

/* The condition that two rows, one of them versions, have the same key. */
char *
ie_same_key(Relation versions, const char *a, const char *b)
{
	Relation	index = index_open(ie_versions_pkey(versions), AccessShareLock);
	StringInfoData text;
	int			i;

	initStringInfo(&text);
	for (i = 0; i < index->rd_index->indnkeyatts - IE_INDEX_TAIL; i++)
	{
		Form_pg_attribute column = TupleDescAttr(RelationGetDescr(versions),
												 index->rd_index->indkey.values[i] - 1);
		Oid			type = index->rd_opcintype[i];
		const char *name = quote_identifier(NameStr(column->attname));

		appendStringInfo(&text, "%s%s%s OPERATOR(%s) %s%s", i > 0 ? " AND " : "",
						 a, name,
						 operator_name(get_opfamily_member(index->rd_opfamily[i], type, type,
														   BTEqualStrategyNumber)),
						 b, name);
	}
	index_close(index, AccessShareLock);
	return text.data;
}

/* The same, for SQL. */
Datum
ie_version_key(PG_FUNCTION_ARGS)
{
	IeVersioned row;
	Relation	versions;
	char	   *same;

	if (!ie_read_versioned(PG_GETARG_OID(0), &row))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("relation with OID %u is not versioned", PG_GETARG_OID(0)),
				 errhint("Call immutable.add_versioning.")));
	versions = table_open(row.versions, AccessShareLock);
	same = ie_same_key(versions,
					   psprintf("%s.", quote_identifier(text_to_cstring(PG_GETARG_TEXT_PP(1)))),
					   psprintf("%s.", quote_identifier(text_to_cstring(PG_GETARG_TEXT_PP(2)))));
	table_close(versions, AccessShareLock);
	PG_RETURN_TEXT_P(cstring_to_text(same));
}

/* The columns of the key with their types, as jsonb_to_record takes them. */
Datum
ie_version_key_columns(PG_FUNCTION_ARGS)
{
	IeVersioned row;
	Relation	versions;
	Relation	index;
	StringInfoData text;
	int			i;

	if (!ie_read_versioned(PG_GETARG_OID(0), &row))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("relation with OID %u is not versioned", PG_GETARG_OID(0)),
				 errhint("Call immutable.add_versioning.")));
	versions = table_open(row.versions, AccessShareLock);
	index = index_open(ie_versions_pkey(versions), AccessShareLock);
	initStringInfo(&text);
	for (i = 0; i < index->rd_index->indnkeyatts - IE_INDEX_TAIL; i++)
	{
		if (i > 0)
			appendStringInfoString(&text, ", ");
		append_column(&text, TupleDescAttr(RelationGetDescr(versions),
										   index->rd_index->indkey.values[i] - 1));
	}
	index_close(index, AccessShareLock);
	table_close(versions, AccessShareLock);
	PG_RETURN_TEXT_P(cstring_to_text(text.data));
}

/* The name of an operator, qualified. */
static char *
operator_name(Oid operator)
{
	HeapTuple	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	Form_pg_operator form;
	char	   *name;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator %u", operator);
	form = (Form_pg_operator) GETSTRUCT(tuple);
	name = psprintf("%s.%s", quote_identifier(get_namespace_name(form->oprnamespace)),
					NameStr(form->oprname));
	ReleaseSysCache(tuple);
	return name;
}

/* Are equal keys the same, bit by bit? (1.0 and 1.00 are not.) */
static bool
keys_are_exact(Relation versions)
{
	Relation	index = index_open(ie_versions_pkey(versions), AccessShareLock);
	bool		exact = _bt_allequalimage(index, false);

	index_close(index, AccessShareLock);
	return exact;
}

/* Is this a column of the key? */
static bool
is_key(Relation versions, const char *name)
{
	Relation	index = index_open(ie_versions_pkey(versions), AccessShareLock);
	AttrNumber	attnum = get_attnum(RelationGetRelid(versions), name);
	bool		found = false;
	int			i;

	for (i = 0; i < index->rd_index->indnkeyatts - IE_INDEX_TAIL; i++)
		found |= index->rd_index->indkey.values[i] == attnum;
	index_close(index, AccessShareLock);
	return found;
}

/* Make what looks back in time, or make it anew when columns have changed. */
void
ie_make_version_functions(Relation rel, Relation versions)
{
	char	   *result = psprintf("SETOF %s", ie_qualified_name(versions));

	make_function(rel, versions, IE_AS_OF_SUFFIX, "at_time pg_catalog.timestamptz",
				  psprintf("SETOF %s", ie_qualified_name(rel)), as_of_body(rel, versions),
				  "the rows as they were at a time (22004, 55000)");
	make_function(rel, versions, IE_BETWEEN_SUFFIX,
				  "from_time pg_catalog.timestamptz, to_time pg_catalog.timestamptz",
				  result, range_body(versions, "<=", "<="),
				  "the versions in force at some time of a period, its end included; -infinity: since the beginning (22004, 55000)");
	make_function(rel, versions, IE_FROM_TO_SUFFIX,
				  "from_time pg_catalog.timestamptz, to_time pg_catalog.timestamptz",
				  result, range_body(versions, "<", "<"),
				  "the versions in force at some time of a period, its end excluded; -infinity: since the beginning (22004, 55000)");
	make_view(rel, versions);
}

/*
 * The rows as of a time: for each key, found by its first version, the last
 * version that had begun. Where equal keys may differ the row has the later
 * version's, and the planner is told that it equals the first one's.
 */
static char *
as_of_body(Relation rel, Relation versions)
{
	TupleDesc	columns = RelationGetDescr(rel);
	char	   *table = ie_qualified_name(versions);
	char	   *relid = quote_literal_cstr(table);
	StringInfoData text;
	bool		first = true;
	bool		exact = keys_are_exact(versions);
	int			i;

	initStringInfo(&text);
	appendStringInfoString(&text, "SELECT ");
	for (i = 0; i < columns->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(columns, i);

		if (column->attisdropped)
			continue;
		appendStringInfo(&text, "%s%s.%s", first ? "" : ", ",
						 exact && is_key(versions, NameStr(column->attname)) ? "k" : "v",
						 quote_identifier(NameStr(column->attname)));
		first = false;
	}
	appendStringInfo(&text, " FROM %s k CROSS JOIN LATERAL (SELECT l.* FROM %s l"
					 " WHERE %s AND l.row_start OPERATOR(pg_catalog.<=) $1"
					 " ORDER BY l.row_start DESC, l.row_version DESC LIMIT 1) v"
					 " WHERE k.row_version OPERATOR(pg_catalog.=) 1"
					 " AND v.row_operation OPERATOR(pg_catalog.<>) 'D'"
					 "%s%s AND immutable._known_at(%s::pg_catalog.regclass, $1)",
					 table, table, ie_same_key(versions, "l.", "k."),
					 exact ? "" : " AND ",
					 exact ? "" : ie_same_key(versions, "v.", "k."), relid);
	return text.data;
}

/* The versions that were in force in a period. */
static char *
range_body(Relation versions, const char *upto, const char *order)
{
	char	   *table = ie_qualified_name(versions);

	return psprintf("SELECT v.* FROM %s v LEFT JOIN %s n"
					" ON %s AND n.row_version OPERATOR(pg_catalog.=) (v.row_version OPERATOR(pg_catalog.+) 1)"
					" WHERE v.row_operation OPERATOR(pg_catalog.<>) 'D'"
					" AND v.row_start OPERATOR(pg_catalog.%s) $2"
					" AND (n.row_start IS NULL OR (n.row_start OPERATOR(pg_catalog.>) $1"
					" AND n.row_start OPERATOR(pg_catalog.>) v.row_start))"
					" AND $1 OPERATOR(pg_catalog.%s) $2"
					" AND immutable._known_between(%s::pg_catalog.regclass, $1, $2)",
					table, table, ie_same_key(versions, "n.", "v."), upto, order,
					quote_literal_cstr(table));
}

/* Make one function, or make it anew. */
static void
make_function(Relation rel, Relation versions, const char *suffix,
			  const char *parameters, const char *result, const char *body,
			  const char *comment)
{
	Oid			found = ie_version_function(RelationGetRelid(versions), suffix);
	char	   *name = own_name(rel, found, ProcedureRelationId, suffix);

	ie_execute(psprintf("CREATE %s FUNCTION %s(%s) RETURNS %s LANGUAGE sql STABLE"
						" PARALLEL SAFE BEGIN ATOMIC %s; END",
						OidIsValid(found) ? "OR REPLACE" : "", name, parameters, result, body));
	if (OidIsValid(found))
		return;
	ie_execute(psprintf("COMMENT ON FUNCTION %s IS %s", name, quote_literal_cstr(comment)));
	give_to_owner(rel, "FUNCTION", name);
}

/* Make the view of all versions, with the time when each has ended. */
static void
make_view(Relation rel, Relation versions)
{
	Oid			found = ie_version_view(RelationGetRelid(versions));
	char	   *name = own_name(rel, found, RelationRelationId, IE_HISTORY_SUFFIX);
	char	   *table = ie_qualified_name(versions);

	ie_execute(psprintf("CREATE %s VIEW %s WITH (security_invoker = true) AS"
						" SELECT v.row_position, v.row_version, v.row_operation, v.row_start,"
						" COALESCE(n.row_start, 'infinity'::pg_catalog.timestamptz) AS row_end,"
						" v.row_xact, v.row_user, v.row_context, %s FROM %s v LEFT JOIN %s n"
						" ON %s AND n.row_version OPERATOR(pg_catalog.=) (v.row_version OPERATOR(pg_catalog.+) 1)",
						OidIsValid(found) ? "OR REPLACE" : "", name,
						names(versions, "v.", IE_VERSION_NCOLUMNS + 1), table, table,
						ie_same_key(versions, "n.", "v.")));
	if (OidIsValid(found))
		return;
	ie_execute(psprintf("COMMENT ON VIEW %s IS %s", name,
						quote_literal_cstr("every version of every row, with the time when it ended")));
	give_to_owner(rel, "VIEW", name);
}

/* The name of an object that is there, or that it is to have. */
static char *
own_name(Relation rel, Oid found, Oid classid, const char *suffix)
{
	if (!OidIsValid(found))
		return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
										  psprintf("%s%s", RelationGetRelationName(rel), suffix));
	if (classid == ProcedureRelationId)
		return quote_qualified_identifier(get_namespace_name(get_func_namespace(found)),
										  get_func_name(found));
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(found)),
									  get_rel_name(found));
}

/* What is made for a table belongs to its owner. */
static void
give_to_owner(Relation rel, const char *kind, const char *name)
{
	if (rel->rd_rel->relowner != GetUserId())
		ie_execute(psprintf("ALTER %s %s OWNER TO %s", kind, name,
							quote_identifier(GetUserNameFromId(rel->rd_rel->relowner, false))));
}

/* Drop what looks back in time. */
void
ie_drop_version_functions(Oid versions)
{
	static const char *const suffixes[] = {IE_AS_OF_SUFFIX, IE_BETWEEN_SUFFIX, IE_FROM_TO_SUFFIX};
	Size		i;
	Oid			found;

	for (i = 0; i < lengthof(suffixes); i++)
	{
		found = ie_version_function(versions, suffixes[i]);
		if (OidIsValid(found))
			ie_execute(psprintf("DROP FUNCTION %s",
								own_name(NULL, found, ProcedureRelationId, NULL)));
	}
	found = ie_version_view(versions);
	if (OidIsValid(found))
		ie_execute(psprintf("DROP VIEW %s", own_name(NULL, found, RelationRelationId, NULL)));
}
