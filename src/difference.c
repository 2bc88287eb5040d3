/*
 * difference.c: make a read model equal to its shadow, row by row.
 *
 * Rows that are too many are deleted, those that differ updated, those that
 * miss inserted, in one transaction, by plain SQL: every reader, foreign key,
 * trigger and subscriber sees a change like any other.
 */
#include "rebuild.h"

#include "access/genam.h"
#include "access/relation.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_index.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

typedef struct Tables
{
	const IeProjection *projection;
	const char *target;			/* their names, */
	const char *shadow;
	char	   *match;			/* and that rows t and s have the same key */
} Tables;

static bool must_replace(Relation target);
static bool is_written(const IeProjection *projection, int i);
static bool is_changed(const IeProjection *projection, int i);
static bool is_key(const IeProjection *projection, int attnum);
static const char *column_name(const IeProjection *projection, int i);
static char *match(const IeProjection *projection);
static char *columns(const IeProjection *projection, const char *prefix,
					 bool (*selected) (const IeProjection *, int));
static const char *differs(const Tables *tables);
static int64 delete_rows(const Tables *tables, bool changed_too);
static int64 update_rows(const Tables *tables);
static int64 insert_rows(const Tables *tables);
static int64 execute(Oid target, const char *query);

/*
 * Apply the difference; answers how many rows it concerned. The caller has
 * become the projection's owner.
 */
int64
ie_apply_difference(IeProjection *projection, Oid shadow)
{
	Relation	target = ie_open_relation(projection->target, RowExclusiveLock);
	Relation	source = ie_open_relation(shadow, AccessShareLock);
	bool		replace = must_replace(target);
	Tables		tables = {projection, ie_qualified_name(target),
	ie_qualified_name(source), match(projection)};
	int64		rows;

	relation_close(source, NoLock);
	relation_close(target, NoLock);
	rows = delete_rows(&tables, replace);
	if (!replace)
		rows += update_rows(&tables);
	return rows + insert_rows(&tables);
}

/*
 * Rows may hand each other values that are unique: then those that differ are
 * deleted and inserted, unless foreign keys would notice.
 */
static bool
must_replace(Relation target)
{
	bool		unique = false;
	ListCell   *cell;

	if (ie_is_referenced(RelationGetRelid(target)))
		return false;
	foreach(cell, RelationGetIndexList(target))
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		unique |= (index->rd_index->indisunique || index->rd_index->indisexclusion) &&
			!index->rd_index->indisprimary;
		index_close(index, NoLock);
	}
	return unique;
}

/* Do foreign keys reference a table? */
bool
ie_is_referenced(Oid relid)
{
	bool		found = false;
	ListCell   *cell;

	foreach(cell, ie_dependents_of(RelationRelationId, relid))
	{
		Form_pg_depend row = lfirst(cell);
		HeapTuple	tuple;

		if (row->classid != ConstraintRelationId)
			continue;
		tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(row->objid));
		if (!HeapTupleIsValid(tuple))
			continue;
		found |= ((Form_pg_constraint) GETSTRUCT(tuple))->contype == CONSTRAINT_FOREIGN &&
			((Form_pg_constraint) GETSTRUCT(tuple))->confrelid == relid;
		ReleaseSysCache(tuple);
	}
	return found;
}

/* Does a projection write this column? */
static bool
is_written(const IeProjection *projection, int i)
{
	Form_pg_attribute column = TupleDescAttr(projection->columns, i);

	return !column->attisdropped && column->attgenerated == '\0';
}

/* May it change in a row that stands? */
static bool
is_changed(const IeProjection *projection, int i)
{
	return is_written(projection, i) && !is_key(projection, i + 1) &&
		TupleDescAttr(projection->columns, i)->attidentity != ATTRIBUTE_IDENTITY_ALWAYS;
}

/* Is a column part of the primary key? */
static bool
is_key(const IeProjection *projection, int attnum)
{
	int			k;

	for (k = 0; k < projection->nkeys; k++)
		if (projection->keys[k].attnum == attnum)
			return true;
	return false;
}

/* A column's name, quoted. */
static const char *
column_name(const IeProjection *projection, int i)
{
	return quote_identifier(NameStr(TupleDescAttr(projection->columns, i)->attname));
}

/* That a row t of the read model and a row s of the shadow have the same key. */
static char *
match(const IeProjection *projection)
{
	StringInfoData text;
	int			k;

	initStringInfo(&text);
	for (k = 0; k < projection->nkeys; k++)
	{
		IeKeyColumn *key = &projection->keys[k];
		const char *name = column_name(projection, key->attnum - 1);
		List	   *operator;
		List	   *arguments;

		format_operator_parts(key->equal, &operator, &arguments, false);
		appendStringInfo(&text, "%st.%s OPERATOR(%s.%s) s.%s",
						 k > 0 ? " AND " : "", name,
						 quote_identifier(linitial(operator)),
						 (char *) lsecond(operator), name);
	}
	return text.data;
}

/* The names of some columns. */
static char *
columns(const IeProjection *projection, const char *prefix,
		bool (*selected) (const IeProjection *, int))
{
	StringInfoData text;
	int			i;

	initStringInfo(&text);
	for (i = 0; i < projection->columns->natts; i++)
		if (selected(projection, i))
			appendStringInfo(&text, "%s%s%s", text.len > 0 ? ", " : "", prefix,
							 column_name(projection, i));
	return text.data;
}

/* That the rows t and s are not the same, bit by bit. */
static const char *
differs(const Tables *tables)
{
	const char *ours = columns(tables->projection, "t.", is_changed);

	if (*ours == '\0')
		return "false";
	return psprintf("ROW(%s)::pg_catalog.record OPERATOR(pg_catalog.*<>)"
					" ROW(%s)::pg_catalog.record", ours,
					columns(tables->projection, "s.", is_changed));
}

/* Delete the rows that should not be there, or are to be inserted anew. */
static int64
delete_rows(const Tables *tables, bool changed_too)
{
	return execute(tables->projection->target,
				   psprintf("DELETE FROM %s t WHERE NOT EXISTS"
										  " (SELECT FROM %s s WHERE %s%s%s%s)",
										  tables->target, tables->shadow,
										  tables->match,
										  changed_too ? " AND NOT (" : "",
										  changed_too ? differs(tables) : "",
										  changed_too ? ")" : ""));
}

/* Update the rows that differ. */
static int64
update_rows(const Tables *tables)
{
	const IeProjection *projection = tables->projection;
	StringInfoData changes;
	int			i;

	initStringInfo(&changes);
	for (i = 0; i < projection->columns->natts; i++)
		if (is_changed(projection, i))
			appendStringInfo(&changes, "%s%s = s.%s", changes.len > 0 ? ", " : "",
							 column_name(projection, i), column_name(projection, i));
	if (changes.len == 0)
		return 0;
	return execute(projection->target,
				   psprintf("UPDATE %s t SET %s FROM %s s WHERE %s AND %s",
										  tables->target, changes.data,
										  tables->shadow, tables->match,
										  differs(tables)));
}

/* Insert the rows that are missing. */
static int64
insert_rows(const Tables *tables)
{
	const IeProjection *projection = tables->projection;

	return execute(projection->target,
				   psprintf("INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE"
										  " SELECT %s FROM %s s WHERE NOT EXISTS"
										  " (SELECT FROM %s t WHERE %s)",
										  tables->target,
										  columns(projection, "", is_written),
										  columns(projection, "s.", is_written),
										  tables->shadow, tables->target,
										  tables->match));
}

/* Run a query that writes to the read model, as the projector; how many rows? */
static int64
execute(Oid target, const char *query)
{
	IeProjecting before;
	volatile int result = 0;
	int64		rows;

	SPI_connect();
	before = ie_begin_projecting(target);
	PG_TRY();
	{
		result = SPI_execute(query, false, 0);
	}
	PG_FINALLY();
	{
		ie_end_projecting(before);
	}
	PG_END_TRY();
	if (result < 0)
		elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(result));
	rows = SPI_processed;
	SPI_finish();
	return rows;
}
