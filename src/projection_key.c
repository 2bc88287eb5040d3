/*
 * projection_key.c: expressions that give the key of an event's row.
 *
 * A projection names one expression over the event's columns for each column
 * of the read model's primary key. Where the expression gives an array and the
 * column is none, the event concerns one row for each element; where it gives
 * NULL, the event concerns no row.
 */
#include "projection.h"

#include "access/nbtree.h"
#include "access/table.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_relation.h"
#include "parser/parser.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/typcache.h"

static void describe_key(IeProjection *projection, Relation target);
static ExprState *prepare_expression(IeProjection *projection, IeKeyColumn *key,
									 const char *text, Relation log,
									 const char *column);
static Node *parse_expression(const char *text);
static void check_expression(ParseState *state, Node *expression,
							 const char *text);
static void add_context(void *arg);

/* Make the expressions of a projection ready to run. */
void
ie_prepare_keys(IeProjection *projection, Relation target, Relation log)
{
	Datum	   *texts;
	bool	   *nulls;
	int			count;
	int			fans = 0;
	int			i;

	describe_key(projection, target);
	deconstruct_array(projection->key, TEXTOID, -1, false, TYPALIGN_INT, &texts,
					  &nulls, &count);
	if (count != projection->nkeys)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("key must have one expression for each column of the primary key of \"%s\"",
						RelationGetRelationName(target)),
				 errdetail("The primary key has %d, key has %d.",
						   projection->nkeys, count)));
	for (i = 0; i < count; i++)
	{
		IeKeyColumn *key = &projection->keys[i];

		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("key must not have NULL elements")));
		key->expression = prepare_expression(projection, key,
											 TextDatumGetCString(texts[i]), log,
											 NameStr(TupleDescAttr(projection->columns, key->attnum - 1)->attname));
		fans += key->fan_out;
	}
	if (fans > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("only one expression of a key can be an array"),
				 errhint("Let the others give one value for each event.")));
}

/* Note the columns of the primary key. */
static void
describe_key(IeProjection *projection, Relation target)
{
	Oid			pkey = ie_primary_key(target);
	Relation	index;
	int			i;

	if (!OidIsValid(pkey))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("table \"%s\" has no primary key",
						RelationGetRelationName(target)),
				 errhint("The rows of a read model are found by it.")));
	index = index_open(pkey, AccessShareLock);
	if (index->rd_rel->relam != BTREE_AM_OID)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the primary key of \"%s\" is not a btree",
						RelationGetRelationName(target)),
				 errhint("Make a primary key without WITHOUT OVERLAPS.")));
	projection->nkeys = IndexRelationGetNumberOfKeyAttributes(index);
	projection->keys = palloc0(projection->nkeys * sizeof(IeKeyColumn));
	for (i = 0; i < projection->nkeys; i++)
	{
		IeKeyColumn *key = &projection->keys[i];
		Form_pg_attribute column;
		Oid			equal_image;

		key->attnum = index->rd_index->indkey.values[i];
		column = TupleDescAttr(projection->columns, key->attnum - 1);
		if (column->attgenerated != '\0' || column->attidentity == ATTRIBUTE_IDENTITY_ALWAYS)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("primary key column \"%s\" of \"%s\" is generated",
							NameStr(column->attname), RelationGetRelationName(target)),
					 errdetail("The key of a read model comes from its events."),
					 errhint("Make it a plain column.")));
		if (!OidIsValid(get_array_type(column->atttypid)))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("primary key column \"%s\" of \"%s\" has type %s, of which there are no arrays",
							NameStr(column->attname), RelationGetRelationName(target),
							format_type_be(column->atttypid)),
					 errdetail("Rows are found by arrays of keys."),
					 errhint("Give the column a type that has them, such as text or uuid.")));
		key->type = column->atttypid;
		key->typmod = column->atttypmod;
		key->collation = column->attcollation;
		key->len = column->attlen;
		key->byval = column->attbyval;
		key->align = column->attalign;
		key->equal = get_opfamily_member(index->rd_opfamily[i],
										 index->rd_opcintype[i],
										 index->rd_opcintype[i],
										 BTEqualStrategyNumber);
		fmgr_info_cxt(index_getprocid(index, i + 1, BTORDER_PROC),
					  &key->compare, projection->context);
		equal_image = get_opfamily_proc(index->rd_opfamily[i],
										index->rd_opcintype[i],
										index->rd_opcintype[i],
										BTEQUALIMAGE_PROC);
		key->equal_image = OidIsValid(equal_image) &&
			DatumGetBool(OidFunctionCall1Coll(equal_image, key->collation,
											  ObjectIdGetDatum(index->rd_opcintype[i])));
	}
	index_close(index, AccessShareLock);
}

/* One expression, over the columns of the log. */
static ExprState *
prepare_expression(IeProjection *projection, IeKeyColumn *key,
				   const char *text, Relation log, const char *column)
{
	ErrorContextCallback callback = {.callback = add_context,
	.arg = unconstify(char *, text), .previous = error_context_stack};
	ParseState *state = make_parsestate(NULL);
	Node	   *expression;
	Oid			type;
	Oid			wanted = key->type;

	error_context_stack = &callback;
	state->p_sourcetext = text;
	addNSItemToQuery(state,
					 addRangeTableEntryForRelation(state, log, AccessShareLock,
												   makeAlias("event", NIL),
												   false, true),
					 true, true, true);
	expression = transformExpr(state, parse_expression(text), EXPR_KIND_OTHER);
	check_expression(state, expression, text);
	if (IsA(expression, Var) && ((Var *) expression)->varattno == IE_STREAM)
		projection->by_stream = true;
	type = getBaseType(exprType(expression));
	key->fan_out = OidIsValid(get_element_type(type)) &&
		!OidIsValid(get_element_type(getBaseType(key->type)));
	if (key->fan_out)
		wanted = get_array_type(key->type);
	expression = coerce_to_target_type(state, expression, exprType(expression),
									   wanted, key->typmod,
									   COERCION_ASSIGNMENT,
									   COERCE_IMPLICIT_CAST, -1);
	if (expression == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("key expression \"%s\" does not give column \"%s\"",
						text, column),
				 errdetail("It has type %s, the column has type %s.",
						   format_type_be(type), format_type_be(key->type)),
				 errhint("Cast the expression to the type of the column.")));
	assign_expr_collations(state, expression);
	free_parsestate(state);
	error_context_stack = callback.previous;
	return ExecInitExpr(expression_planner((Expr *) expression), NULL);
}

/* The parse tree of one expression, and no more. */
static Node *
parse_expression(const char *text)
{
	List	   *parsed = raw_parser(text, RAW_PARSE_PLPGSQL_EXPR);
	SelectStmt *select = (SelectStmt *) linitial_node(RawStmt, parsed)->stmt;
	Node	   *expression = NULL;

	if (!IsA(select, SelectStmt) || select->fromClause != NIL ||
		select->whereClause != NULL || select->groupClause != NIL ||
		select->havingClause != NULL || select->windowClause != NIL ||
		select->distinctClause != NIL || select->sortClause != NIL ||
		select->limitCount != NULL || select->limitOffset != NULL ||
		select->lockingClause != NIL || select->op != SETOP_NONE ||
		select->intoClause != NULL || select->withClause != NULL)
		select = NULL;
	if (select != NULL && list_length(select->targetList) == 1)
		expression = linitial_node(ResTarget, select->targetList)->val;
	/* "*" stands for columns; where an expression is wanted, nobody looks */
	if (expression == NULL ||
		(IsA(expression, ColumnRef) &&
		 IsA(linitial(((ColumnRef *) expression)->fields), A_Star)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("key \"%s\" is not an expression", text),
				 errhint("Give one expression over the columns of an event, as in 'stream' or 'data->>''customer'''.")));
	return expression;
}

/* Refuse what is not told from the event alone. */
static void
check_expression(ParseState *state, Node *expression, const char *text)
{
	Bitmapset  *columns = NULL;

	if (state->p_hasSubLinks || state->p_hasAggs || state->p_hasWindowFuncs ||
		state->p_hasTargetSRFs)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("key expression \"%s\" is more than an expression over one event", text),
				 errdetail("Subqueries, aggregates and functions that return sets cannot be used."),
				 errhint("Put what is more into an IMMUTABLE or STABLE function of the event's columns.")));
	pull_varattnos(expression, 1, &columns);
	if (bms_next_member(columns, -1) >= 0 &&
		bms_next_member(columns, -1) < 0 - FirstLowInvalidHeapAttributeNumber)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("key expression \"%s\" uses a system column", text),
				 errdetail("It is no property of the event."),
				 errhint("Use the columns of the event: position, stream, id, data and so on.")));
	if (contain_volatile_functions(expression))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("key expression \"%s\" is VOLATILE", text),
				 errdetail("The same event could concern another row the next time."),
				 errhint("Use functions that are IMMUTABLE or STABLE.")));
}

/* Say of which expression an error is. */
static void
add_context(void *arg)
{
	errcontext("key expression \"%s\"", (char *) arg);
}

/* Is a column part of the key? */
bool
ie_is_key_column(const IeProjection *projection, int attnum)
{
	int			i;

	for (i = 0; i < projection->nkeys; i++)
		if (projection->keys[i].attnum == attnum)
			return true;
	return false;
}

/* Compare two keys, in the order of the primary key. */
int
ie_compare_keys(const IeProjection *projection, const Datum *a, const Datum *b)
{
	int			i;

	for (i = 0; i < projection->nkeys; i++)
	{
		IeKeyColumn *key = &projection->keys[i];
		int			result = DatumGetInt32(FunctionCall2Coll(&key->compare,
															 key->collation,
															 a[i], b[i]));

		if (result != 0)
			return result;
	}
	return 0;
}

/* The keys of the rows that an event concerns, in the current context. */
List *
ie_event_keys(IeProjection *projection, TupleTableSlot *event)
{
	ExprContext *econtext = projection->econtext;
	Datum	   *values = palloc(projection->nkeys * sizeof(Datum));
	List	   *keys = NIL;
	Datum	   *elements = NULL;
	bool	   *nulls = NULL;
	int			count = 1;
	int			fan = -1;
	int			i;

	ResetExprContext(econtext);
	econtext->ecxt_scantuple = event;
	for (i = 0; i < projection->nkeys; i++)
	{
		IeKeyColumn *key = &projection->keys[i];
		bool		isnull;
		Datum		value = ExecEvalExprSwitchContext(key->expression, econtext,
													  &isnull);

		if (isnull)
			return NIL;
		if (key->fan_out)
		{
			fan = i;
			deconstruct_array(DatumGetArrayTypePCopy(value), key->type,
							  key->len, key->byval, key->align,
							  &elements, &nulls, &count);
		}
		else
			values[i] = datumCopy(value, key->byval, key->len);
	}
	for (i = 0; i < count; i++)
	{
		Datum	   *one = palloc(projection->nkeys * sizeof(Datum));

		memcpy(one, values, projection->nkeys * sizeof(Datum));
		if (fan >= 0)
		{
			if (nulls[i])
				continue;
			one[fan] = elements[i];
		}
		keys = lappend(keys, one);
	}
	return keys;
}
