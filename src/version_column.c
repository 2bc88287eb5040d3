/*
 * version_column.c: one new column of a versioned table, carried over.
 *
 * The versions that stand get the value that the rows of the table got, as a
 * missing value: nothing is rewritten, and rows and newest versions agree. The
 * command is PostgreSQL's own ALTER TABLE, called below the event triggers,
 * which would refuse it.
 */
#include "version.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tupdesc_details.h"
#include "access/xact.h"
#include "catalog/heap.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "commands/event_trigger.h"
#include "commands/tablecmds.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteHandler.h"
#include "utils/array.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

static void add_column(Oid versions, Form_pg_attribute column);
static bool first_value(Relation rel, Form_pg_attribute column, Datum *value);
static void set_missing(Oid versions, Form_pg_attribute column, Datum value);
pg_noreturn static void refuse(Relation rel, const char *detail);

/* The last column of the table that is being altered, before the command. */
static struct
{
	Oid			relid;
	AttrNumber	last;
}			before;

/* Add a column of a table to its version table. */
void
ie_carry_column(Relation rel, AttrNumber attnum, Relation versions)
{
	Form_pg_attribute column = TupleDescAttr(RelationGetDescr(rel), attnum - 1);
	Datum		value;

	if (column->attgenerated != '\0' || column->attidentity != '\0')
		refuse(rel, "A generated column has a value of its own in each row.");
	if (DomainHasConstraints(column->atttypid))
		refuse(rel, "The column's domain has constraints, which older versions may not meet.");
	add_column(RelationGetRelid(versions), column);
	if (first_value(rel, column, &value))
		set_missing(RelationGetRelid(versions), column, value);
	CommandCounterIncrement();
}

/* An ALTER TABLE begins: which columns are not new? */
void
ie_versioned_before(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));

	before.relid = relid;
	before.last = 0;
	if (!HeapTupleIsValid(tuple))
		return;
	before.last = ((Form_pg_class) GETSTRUCT(tuple))->relnatts;
	ReleaseSysCache(tuple);
}

/* Has this command made the column? (Others may have, before it had a lock.) */
bool
ie_is_new_column(Oid relid, AttrNumber attnum)
{
	HeapTuple	tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relid),
										Int16GetDatum(attnum));
	bool		own = TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));

	ReleaseSysCache(tuple);
	return own && before.relid == relid && attnum > before.last;
}

/*
 * Refuse to drop a column that versions could not go without: it stays in the
 * version table, empty, where a domain must not be.
 */
void
ie_check_dropped_column(Relation rel, Relation versions, const char *name)
{
	AttrNumber	attnum = get_attnum(RelationGetRelid(versions), name);
	Oid			type = attnum > 0 ? get_atttype(RelationGetRelid(versions), attnum) : InvalidOid;

	while (OidIsValid(type) && get_typtype(type) == TYPTYPE_DOMAIN)
	{
		HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
		Form_pg_type form = (Form_pg_type) GETSTRUCT(tuple);
		bool		notnull = form->typnotnull;

		type = form->typbasetype;
		ReleaseSysCache(tuple);
		if (notnull)
			ereport(ERROR,
					(errcode(ERRCODE_RESTRICT_VIOLATION),
					 errmsg("cannot drop column \"%s\" of versioned table \"%s\"",
							name, RelationGetRelationName(rel)),
					 errdetail("It stays in the version table, empty, and its domain does not allow NULL."),
					 errhint("ALTER DOMAIN ... DROP NOT NULL, or keep the column."),
					 errtable(rel)));
	}
}

/* ALTER TABLE ADD COLUMN, without a default. */
static void
add_column(Oid versions, Form_pg_attribute column)
{
	AlterTableCmd *add = makeNode(AlterTableCmd);

	add->subtype = AT_AddColumn;
	add->def = (Node *) makeColumnDef(NameStr(column->attname), column->atttypid,
									  column->atttypmod, column->attcollation);
	add->behavior = DROP_RESTRICT;
	EventTriggerInhibitCommandCollection();
	PG_TRY();
	{
		AlterTableInternal(versions, list_make1(add), false);
	}
	PG_FINALLY();
	{
		EventTriggerUndoInhibitCommandCollection();
	}
	PG_END_TRY();
	CommandCounterIncrement();
}

/* The value that rows which stood before have in a new column; false: NULL. */
static bool
first_value(Relation rel, Form_pg_attribute column, Datum *value)
{
	Expr	   *expression;
	EState	   *estate;
	bool		isnull;

	if (column->atthasmissing)
	{
		*value = RelationGetDescr(rel)->constr->missing[column->attnum - 1].am_value;
		return RelationGetDescr(rel)->constr->missing[column->attnum - 1].am_present;
	}
	/* a partitioned table has no rows of its own, and no such values */
	expression = (Expr *) build_column_default(rel, column->attnum);
	if (expression == NULL)
		return false;
	if (contain_volatile_functions((Node *) expression))
		refuse(rel, "A volatile default has a value of its own in each row.");
	estate = CreateExecutorState();
	*value = ExecEvalExpr(ExecPrepareExpr(expression, estate),
						  GetPerTupleExprContext(estate), &isnull);
	return !isnull;
}

/* Let the versions that stand have a value; as text, as pg_upgrade does. */
static void
set_missing(Oid versions, Form_pg_attribute column, Datum value)
{
	int			settings = NewGUCNestLevel();
	int16		length;
	bool		byval;
	char		align;
	char	   *text;

	(void) set_config_option("extra_float_digits", "3", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("datestyle", "ISO", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	get_typlenbyvalalign(column->atttypid, &length, &byval, &align);
	text = OidOutputFunctionCall(F_ARRAY_OUT,
								 PointerGetDatum(construct_array(&value, 1, column->atttypid,
																 length, byval, align)));
	SetAttrMissing(versions, NameStr(column->attname), text);
	AtEOXact_GUC(false, settings);
}

/* Raise the error for a column whose values history could not know. */
static void
refuse(Relation rel, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_RESTRICT_VIOLATION),
			 errmsg("cannot add a column of this kind to versioned table \"%s\"",
					RelationGetRelationName(rel)),
			 errdetail_internal("%s", detail),
			 errhint("Add a plain column, and fill it by UPDATE."),
			 errtable(rel)));
}
