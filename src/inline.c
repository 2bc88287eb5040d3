/*
 * inline.c: the body of a SQL function in place of its call.
 *
 * PostgreSQL inlines SQL functions by itself (inline_function in clauses.c),
 * under rules that protect queries in which a call is one term among many. A
 * reducer is the whole expression, and its arguments are parameters, so more
 * can be done here: SELECT a, b becomes ROW(a, b); a STRICT function needs no
 * proof, because NULLs never reach it; and a body may be less stable than its
 * label, because nothing is computed in advance.
 */
#include "fold.h"

#include "access/htup_details.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/functions.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "parser/analyze.h"
#include "parser/parse_coerce.h"
#include "parser/parse_node.h"
#include "parser/parse_type.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

/* What an error in a body is told of. */
typedef struct BodyContext
{
	const char *function;
	const char *source;			/* NULL: analysed when it was created */
} BodyContext;

static const char *label_problem(HeapTuple proc, const FuncExpr *call);
static Query *parse_body(HeapTuple proc, const FuncExpr *call,
						 BodyContext *context);
static const char *body_problem(const Query *body);
static Expr *result_of(const Query *body, Oid type);
static Expr *row_of(List *columns, Oid type);
static Expr *coerce(Expr *value, Oid type, int32 typmod);
static Node *substitute(Node *node, void *args);
static void add_context(void *arg);

/*
 * What the call of a SQL function comes to, or NULL and the reason why the
 * function must be called.
 */
Expr *
ie_inline(FuncExpr *call, const char **problem)
{
	HeapTuple	proc = SearchSysCache1(PROCOID,
									   ObjectIdGetDatum(call->funcid));
	BodyContext context = {.function = format_procedure(call->funcid)};
	ErrorContextCallback callback = {.callback = add_context,
	.arg = &context, .previous = error_context_stack};
	Query	   *body = NULL;
	Expr	   *result = NULL;

	if (!HeapTupleIsValid(proc))
		elog(ERROR, "cache lookup failed for function %u", call->funcid);
	error_context_stack = &callback;
	call->args = expand_function_arguments(call->args, false,
										   call->funcresulttype, proc);
	*problem = label_problem(proc, call);
	if (*problem == NULL)
	{
		body = parse_body(proc, call, &context);
		*problem = body == NULL ? "Its body is not one SELECT." : body_problem(body);
	}
	if (*problem == NULL)
	{
		result = result_of(body, call->funcresulttype);
		if (result == NULL)
			*problem = "What its body selects does not have the type that it returns.";
		else if (contain_volatile_functions((Node *) result))
			*problem = "Its body calls a VOLATILE function.";
	}
	ReleaseSysCache(proc);
	error_context_stack = callback.previous;
	if (*problem != NULL)
		return NULL;
	return (Expr *) substitute((Node *) result, call->args);
}

/* Why a function is called whatever its body is, or NULL. */
static const char *
label_problem(HeapTuple tuple, const FuncExpr *call)
{
	Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(tuple);

	if (proc->prolang != SQLlanguageId)
		return psprintf("A function in language %s is called for each item.",
						get_language_name(proc->prolang, false));
	if (proc->prosecdef)
		return "It is SECURITY DEFINER.";
	if (!heap_attisnull(tuple, Anum_pg_proc_proconfig, NULL))
		return "It has SET clauses, which are in force only in a call.";
	if (proc->prorettype == RECORDOID)
		return "It returns record, whose columns only a call can tell.";
	if (FmgrHookIsNeeded(call->funcid))
		return "A loaded module wants to see it called.";
	if (contain_volatile_functions((Node *) call->args))
		return "The default of an argument is VOLATILE.";
	if (proc->proisstrict && proc->pronargdefaults > 0)
		return "It is STRICT and has defaults.";
	if (proc->proisstrict && contain_nonstrict_functions((Node *) call->args))
		return "It is STRICT, and a cast of its arguments is not.";
	return NULL;
}

/* The body, analysed; NULL when it is not one statement. */
static Query *
parse_body(HeapTuple proc, const FuncExpr *call, BodyContext *context)
{
	bool		isnull;
	Datum		body = SysCacheGetAttr(PROCOID, proc, Anum_pg_proc_prosqlbody,
									   &isnull);
	ParseState *state;
	List	   *statements;
	Query	   *query;

	if (!isnull)
	{
		Node	   *node = stringToNode(TextDatumGetCString(body));

		if (!IsA(node, List))
			return (Query *) node;
		statements = linitial_node(List, (List *) node);
		return list_length(statements) == 1 ? linitial(statements) : NULL;
	}
	body = SysCacheGetAttr(PROCOID, proc, Anum_pg_proc_prosrc, &isnull);
	context->source = TextDatumGetCString(body);
	statements = pg_parse_query(context->source);
	if (list_length(statements) != 1)
		return NULL;
	state = make_parsestate(NULL);
	state->p_sourcetext = context->source;
	sql_fn_parser_setup(state, prepare_sql_fn_parse_info(proc, (Node *) call,
														 call->inputcollid));
	query = transformTopLevelStmt(state, linitial(statements));
	free_parsestate(state);
	return query;
}

/* Why a body is more than an expression, or NULL. */
static const char *
body_problem(const Query *body)
{
	if (!IsA(body, Query) || body->commandType != CMD_SELECT ||
		body->utilityStmt != NULL)
		return "Its body is not one SELECT.";
	if (body->rtable != NIL || body->jointree->fromlist != NIL ||
		body->jointree->quals != NULL)
		return "Its body has FROM or WHERE.";
	if (body->hasSubLinks || body->cteList != NIL)
		return "Its body has a subquery.";
	if (body->hasAggs || body->hasWindowFuncs || body->hasTargetSRFs)
		return "Its body has an aggregate, a window function or a function that returns a set.";
	if (body->groupClause != NIL || body->groupingSets != NIL ||
		body->havingQual != NULL || body->windowClause != NIL ||
		body->distinctClause != NIL || body->sortClause != NIL ||
		body->limitOffset != NULL || body->limitCount != NULL ||
		body->setOperations != NULL)
		return "Its body is more than SELECT and expressions.";
	return NULL;
}

/* What a body selects, as a value of the function's result type, or NULL. */
static Expr *
result_of(const Query *body, Oid type)
{
	List	   *columns = NIL;
	ListCell   *cell;
	Expr	   *first;

	foreach(cell, body->targetList)
	{
		TargetEntry *column = lfirst(cell);

		if (!column->resjunk)
			columns = lappend(columns, column->expr);
	}
	if (columns == NIL)
		return NULL;
	first = linitial(columns);
	if (list_length(columns) == 1)
	{
		if (!type_is_rowtype(type) ||
			getBaseType(exprType((Node *) first)) == getBaseType(type))
			return coerce(first, type, -1);
		if (IsA(first, RowExpr) && exprType((Node *) first) == RECORDOID)
			columns = ((RowExpr *) first)->args;
	}
	return get_typtype(type) == TYPTYPE_COMPOSITE ? row_of(columns, type) : NULL;
}

/* ROW(...) of a type, or NULL when the columns are not the type's. */
static Expr *
row_of(List *columns, Oid type)
{
	TupleDesc	tupdesc = lookup_rowtype_tupdesc_copy(type, -1);
	RowExpr    *row = makeNode(RowExpr);
	ListCell   *cell = list_head(columns);
	int			i;

	row->row_typeid = type;
	row->row_format = COERCE_EXPLICIT_CAST;
	row->location = -1;
	for (i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(tupdesc, i);
		Expr	   *value;

		if (column->attisdropped)
			value = (Expr *) makeNullConst(INT4OID, -1, InvalidOid);
		else if (cell == NULL)
			return NULL;
		else
		{
			value = coerce(lfirst(cell), column->atttypid, column->atttypmod);
			if (value == NULL)
				return NULL;
			cell = lnext(columns, cell);
		}
		row->args = lappend(row->args, value);
	}
	return cell == NULL ? (Expr *) row : NULL;
}

/* Coerce as a SQL function coerces its result; NULL when that cannot be. */
static Expr *
coerce(Expr *value, Oid type, int32 typmod)
{
	return (Expr *) coerce_to_target_type(NULL, (Node *) value,
										  exprType((Node *) value), type,
										  typmod, COERCION_ASSIGNMENT,
										  COERCE_IMPLICIT_CAST, -1);
}

/* Put the arguments of the call in place of the body's parameters. */
static Node *
substitute(Node *node, void *args)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXTERN)
		return copyObject(list_nth(args, ((Param *) node)->paramid - 1));
	return expression_tree_mutator(node, substitute, args);
}

/* Say of which function an error is, and where in its body. */
static void
add_context(void *arg)
{
	BodyContext *context = arg;
	int			place = geterrposition();

	if (place > 0 && context->source != NULL)
	{
		errposition(0);
		internalerrposition(place);
		internalerrquery(context->source);
	}
	errcontext("inlining reducer %s", context->function);
}
