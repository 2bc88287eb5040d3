/*
 * read_model.c: rows of a read model, by key.
 *
 * Whole batches go through one query: keys as arrays, one for each column of
 * the primary key; rows as an array of the table's row type. Names and
 * operators are written out, plans are kept.
 */
#include "projection.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/regproc.h"

Oid			ie_projecting = InvalidOid;

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
static Datum *key_arrays(const IeProjection *projection,
						 IeKeyGroup **groups, int count);
static Datum row_array(const IeProjection *projection, IeKeyGroup **groups,
					   int count);
static void execute(const IeProjection *projection, SPIPlanPtr plan,
					Datum *values, bool writes);

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
		appendStringInfoChar(query, 't');
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
	appendStringInfoString(&query, " FROM pg_catalog.unnest($1) WITH ORDINALITY r ORDER BY r.ordinality ON CONFLICT (");
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
	int			k;

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
		bool		is_key = false;

		for (k = 0; k < projection->nkeys; k++)
			is_key |= projection->keys[k].attnum == i + 1;
		if (is_key || column->attisdropped || column->attgenerated != '\0' ||
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

/*
 * Load the rows of groups, which are in order of their keys; with lock, they
 * are locked in that order.
 */
void
ie_load_rows(IeProjection *projection, IeKeyGroup *groups, int count,
			 bool lock)
{
	MemoryContext caller = CurrentMemoryContext;
	IeKeyGroup **all = palloc(count * sizeof(IeKeyGroup *));
	uint64		r;
	int			i;

	for (i = 0; i < count; i++)
	{
		all[i] = &groups[i];
		groups[i].row = NULL;
	}
	SPI_connect();
	execute(projection, lock ? projection->lock : projection->load,
			key_arrays(projection, all, count), lock);
	for (r = 0; r < SPI_processed; r++)
	{
		bool		isnull;
		int64		n = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[r],
													SPI_tuptable->tupdesc, 1,
													&isnull));
		Datum		row = SPI_getbinval(SPI_tuptable->vals[r],
										SPI_tuptable->tupdesc, 2, &isnull);
		MemoryContext spi = MemoryContextSwitchTo(caller);

		groups[n - 1].row = DatumGetHeapTupleHeaderCopy(row);
		MemoryContextSwitchTo(spi);
	}
	SPI_finish();
}

/*
 * Insert the results of groups whose keys had no row. Those that have one by
 * now are locked, and marked by a result of NULL.
 */
void
ie_add_rows(IeProjection *projection, IeKeyGroup *groups, int count)
{
	IeKeyGroup **all = palloc(count * sizeof(IeKeyGroup *));
	bool	   *added = palloc0(count * sizeof(bool));
	Datum	   *key = palloc(projection->nkeys * sizeof(Datum));
	Datum		rows;
	uint64		r;
	int			given = 0;
	int			i;

	for (i = 0; i < count; i++)
		if (groups[i].result != NULL)
			all[given++] = &groups[i];
	if (given == 0)
		return;
	SPI_connect();
	rows = row_array(projection, all, given);
	execute(projection, projection->add, &rows, true);
	for (r = 0, i = 0; r < SPI_processed; r++)
	{
		int			k;
		bool		isnull;

		for (k = 0; k < projection->nkeys; k++)
			key[k] = SPI_getbinval(SPI_tuptable->vals[r], SPI_tuptable->tupdesc,
								   k + 1, &isnull);
		while (i < given && ie_compare_keys(projection, all[i]->key, key) != 0)
			i++;
		if (i < given)
			added[i++] = true;
	}
	SPI_finish();
	for (i = 0; i < given; i++)
		if (!added[i])
			all[i]->result = NULL;
}

/* Write the results of groups: rows that changed, and those that are gone. */
void
ie_write_rows(IeProjection *projection, IeKeyGroup *groups, int count)
{
	IeKeyGroup **changed = palloc(count * sizeof(IeKeyGroup *));
	IeKeyGroup **gone = palloc(count * sizeof(IeKeyGroup *));
	int			nchanged = 0;
	int			ngone = 0;
	int			i;

	for (i = 0; i < count; i++)
	{
		IeKeyGroup *group = &groups[i];

		if (group->result != NULL && group->result != group->row)
			changed[nchanged++] = group;
		else if (group->result == NULL && group->row != NULL)
			gone[ngone++] = group;
	}
	SPI_connect();
	if (nchanged > 0)
	{
		Datum		rows = row_array(projection, changed, nchanged);

		execute(projection, projection->write, &rows, true);
	}
	if (ngone > 0)
		execute(projection, projection->remove,
				key_arrays(projection, gone, ngone), true);
	SPI_finish();
}

/* The keys of groups as arrays, one for each column. */
static Datum *
key_arrays(const IeProjection *projection, IeKeyGroup **groups, int count)
{
	Datum	   *arrays = palloc(projection->nkeys * sizeof(Datum));
	Datum	   *elements = palloc(count * sizeof(Datum));
	int			i;
	int			k;

	for (k = 0; k < projection->nkeys; k++)
	{
		const IeKeyColumn *key = &projection->keys[k];

		for (i = 0; i < count; i++)
			elements[i] = groups[i]->key[k];
		arrays[k] = PointerGetDatum(construct_array(elements, count, key->type,
													key->len, key->byval,
													key->align));
	}
	return arrays;
}

/* The results of groups as an array of rows. */
static Datum
row_array(const IeProjection *projection, IeKeyGroup **groups, int count)
{
	Datum	   *elements = palloc(count * sizeof(Datum));
	int			i;

	for (i = 0; i < count; i++)
		elements[i] = HeapTupleHeaderGetDatum(groups[i]->result);
	return PointerGetDatum(construct_array(elements, count,
										   projection->columns->tdtypeid, -1,
										   false, TYPALIGN_DOUBLE));
}

/* Run one of the queries; what it writes is the projector's. */
static void
execute(const IeProjection *projection, SPIPlanPtr plan, Datum *values,
		bool writes)
{
	Oid			before = ie_projecting;
	int			result;

	if (writes)
		ie_projecting = projection->target;
	PG_TRY();
	{
		result = SPI_execute_plan(plan, values, NULL, false, 0);
	}
	PG_FINALLY();
	{
		ie_projecting = before;
	}
	PG_END_TRY();
	if (result < 0)
		elog(ERROR, "SPI_execute_plan failed: %s",
			 SPI_result_code_string(SPI_result));
}

/* Is the projector writing to this read model? */
bool
ie_is_projecting(Oid target)
{
	return ie_projecting == target;
}
