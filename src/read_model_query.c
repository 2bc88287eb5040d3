/*
 * read_model_query.c: the queries on a read model.
 *
 * Names and operators are written out, so that no search_path decides what
 * they mean; the plans are kept for as long as the projection is known.
 */
#include "projection.h"

#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/regproc.h"
#include "utils/ruleutils.h"

static const char *column_name(const IeProjection *projection, int attnum);
static void append_keys_from(StringInfo query, const IeProjection *projection);
static void append_match(StringInfo query, const IeProjection *projection);
static void append_row(StringInfo query, const IeProjection *projection,
					   Relation target);
static void append_columns(StringInfo query, const IeProjection *projection,
						   const char *prefix);
static void append_key_columns(StringInfo query,
							   const IeProjection *projection,
							   const char *prefix);
static char *insert_query(const IeProjection *projection, const char *name);
static char *write_query(const IeProjection *projection, const char *name);
static SPIPlanPtr prepare(const char *query, int nargs, Oid *types);
static Oid *key_types(const IeProjection *projection);

/* Prepare the queries on a read model. */
void
ie_prepare_read_model(IeProjection *projection, Relation target)
{
	char	   *name = ie_qualified_name(target);
	Oid		   *types = key_types(projection);
	Oid			rows = get_array_type(projection->columns->tdtypeid);
	StringInfoData load;
	StringInfoData remove;

	initStringInfo(&load);
	appendStringInfoString(&load, "SELECT k.n, ");
	append_row(&load, projection, target);
	appendStringInfoString(&load, " FROM ");
	append_keys_from(&load, projection);
	appendStringInfo(&load, " JOIN %s t ON ", name);
	append_match(&load, projection);
	appendStringInfoString(&load, " ORDER BY k.n");
	initStringInfo(&remove);
	appendStringInfo(&remove, "DELETE FROM %s t USING ", name);
	append_keys_from(&remove, projection);
	appendStringInfoString(&remove, " WHERE ");
	append_match(&remove, projection);

	SPI_connect();
	projection->load = prepare(load.data, projection->nkeys, types);
	appendStringInfoString(&load, " FOR UPDATE OF t");
	projection->lock = prepare(load.data, projection->nkeys, types);
	projection->remove = prepare(remove.data, projection->nkeys, types);
	projection->add = prepare(insert_query(projection, name), 1, &rows);
	projection->write = prepare(write_query(projection, name), 1, &rows);
	SPI_finish();
}

/* Prepare a query, for as long as the projection is known. */
static SPIPlanPtr
prepare(const char *query, int nargs, Oid *types)
{
	SPIPlanPtr	plan = SPI_prepare(query, nargs, types);

	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s",
			 SPI_result_code_string(SPI_result));
	SPI_keepplan(plan);
	return plan;
}

/* A column's name, quoted. */
static const char *
column_name(const IeProjection *projection, int attnum)
{
	return quote_identifier(NameStr(TupleDescAttr(projection->columns,
												  attnum - 1)->attname));
}

/* The keys, as a relation k (k1, k2, ..., n). */
static void
append_keys_from(StringInfo query, const IeProjection *projection)
{
	int			i;

	appendStringInfoString(query, "ROWS FROM (");
	for (i = 0; i < projection->nkeys; i++)
		appendStringInfo(query, "%spg_catalog.unnest($%d)", i > 0 ? ", " : "", i + 1);
	appendStringInfoString(query, ") WITH ORDINALITY k (");
	for (i = 0; i < projection->nkeys; i++)
		appendStringInfo(query, "k%d, ", i + 1);
	appendStringInfoString(query, "n)");
}

/* That a row t has the key k. */
static void
append_match(StringInfo query, const IeProjection *projection)
{
	int			i;

	for (i = 0; i < projection->nkeys; i++)
	{
		IeKeyColumn *key = &projection->keys[i];
		List	   *operator;
		List	   *arguments;

		format_operator_parts(key->equal, &operator, &arguments, false);
		appendStringInfo(query, "%st.%s OPERATOR(%s.%s) k.k%d",
						 i > 0 ? " AND " : "",
						 column_name(projection, key->attnum),
						 quote_identifier(linitial(operator)),
						 (char *) lsecond(operator), i + 1);
		if (OidIsValid(key->collation))
			appendStringInfo(query, " COLLATE %s",
							 generate_collation_name(key->collation));
	}
}

/* A row t of the table, as a row of the read model: it may be its shadow. */
static void
append_row(StringInfo query, const IeProjection *projection, Relation target)
{
	const char *separator = "ROW(";
	int			i;

	if (target->rd_rel->reltype == projection->columns->tdtypeid)
	{
		appendStringInfo(query, "(t.*)::%s", ie_qualified_name(target));
		return;
	}
	for (i = 0; i < projection->columns->natts; i++)
	{
		if (TupleDescAttr(projection->columns, i)->attisdropped)
			continue;
		appendStringInfo(query, "%st.%s", separator, column_name(projection, i + 1));
		separator = ", ";
	}
	appendStringInfo(query, ")::%s",
					 format_type_be_qualified(projection->columns->tdtypeid));
}

/* The columns that are written: all but dropped and generated ones. */
static void
append_columns(StringInfo query, const IeProjection *projection,
			   const char *prefix)
{
	const char *separator = "";
	int			i;

	for (i = 0; i < projection->columns->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(projection->columns, i);

		if (column->attisdropped || column->attgenerated != '\0')
			continue;
		appendStringInfo(query, "%s%s%s", separator, prefix,
						 column_name(projection, i + 1));
		separator = ", ";
	}
}

/* The columns of the primary key. */
static void
append_key_columns(StringInfo query, const IeProjection *projection,
				   const char *prefix)
{
	int			i;

	for (i = 0; i < projection->nkeys; i++)
		appendStringInfo(query, "%s%s%s", i > 0 ? ", " : "", prefix,
						 column_name(projection, projection->keys[i].attnum));
}

/*
 * Rows of new keys, in order. A row that somebody else has made meanwhile is
 * waited for and locked at its place in the order, and not changed.
 */
static char *
insert_query(const IeProjection *projection, const char *name)
{
	const char *first = column_name(projection, projection->keys[0].attnum);
	StringInfoData query;

	initStringInfo(&query);
	appendStringInfo(&query, "INSERT INTO %s AS t (", name);
	append_columns(&query, projection, "");
	appendStringInfoString(&query, ") OVERRIDING SYSTEM VALUE SELECT ");
	append_columns(&query, projection, "r.");
	appendStringInfoString(&query, " FROM pg_catalog.unnest($1) r ON CONFLICT (");
	append_key_columns(&query, projection, "");
	appendStringInfo(&query, ") DO UPDATE SET %s = EXCLUDED.%s WHERE false RETURNING ",
					 first, first);
	append_key_columns(&query, projection, "t.");
	return query.data;
}

/* Rows, whether they exist or not. */
static char *
write_query(const IeProjection *projection, const char *name)
{
	const char *separator = "";
	StringInfoData query;
	StringInfoData changes;
	int			i;

	initStringInfo(&query);
	appendStringInfo(&query, "INSERT INTO %s (", name);
	append_columns(&query, projection, "");
	appendStringInfoString(&query, ") OVERRIDING SYSTEM VALUE SELECT ");
	append_columns(&query, projection, "r.");
	appendStringInfoString(&query, " FROM pg_catalog.unnest($1) r ON CONFLICT (");
	append_key_columns(&query, projection, "");
	initStringInfo(&changes);
	for (i = 0; i < projection->columns->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(projection->columns, i);

		if (ie_is_key_column(projection, i + 1) || column->attisdropped || column->attgenerated != '\0' ||
			column->attidentity == ATTRIBUTE_IDENTITY_ALWAYS)
			continue;
		appendStringInfo(&changes, "%s%s = EXCLUDED.%s", separator,
						 column_name(projection, i + 1),
						 column_name(projection, i + 1));
		separator = ", ";
	}
	if (changes.len == 0)
		appendStringInfoString(&query, ") DO NOTHING");
	else
		appendStringInfo(&query, ") DO UPDATE SET %s", changes.data);
	return query.data;
}

/* The types of the queries' parameters. */
static Oid *
key_types(const IeProjection *projection)
{
	Oid		   *types = palloc(projection->nkeys * sizeof(Oid));
	int			i;

	for (i = 0; i < projection->nkeys; i++)
		types[i] = get_array_type(projection->keys[i].type);
	return types;
}
