/*
 * parallel_safety.c: may a projection be folded by several processes?
 *
 * As in a query: all functions that run there must be PARALLEL SAFE, by what
 * they are declared. So must those of the columns and constraints of the read
 * model, which run while the others are at work.
 */
#include "rebuild.h"
#include "reducer.h"

#include "catalog/pg_class.h"
#include "nodes/nodeFuncs.h"
#include "utils/lsyscache.h"

static bool is_log_safe(const IeProjection *projection);
static bool are_columns_unsafe(TupleDesc columns);
static bool is_unsafe(Node *node, void *context);
static bool is_function_unsafe(Oid function, void *context);

/* May it? */
bool
ie_is_parallel_safe(IeProjection *projection)
{
	int			i;

	if (is_unsafe((Node *) projection->reducer->call, NULL) ||
		are_columns_unsafe(projection->columns))
		return false;
	for (i = 0; i < projection->nkeys; i++)
		if (is_unsafe((Node *) projection->keys[i].expression->expr, NULL))
			return false;
	for (i = 0; i < projection->columns->natts; i++)
		if (projection->defaults[i] != NULL &&
			is_unsafe((Node *) projection->defaults[i]->expr, NULL))
			return false;
	return is_log_safe(projection);
}

/* What runs when the log is read: upcasters, and the policies of row security. */
static bool
is_log_safe(const IeProjection *projection)
{
	IeTarget	log = ie_open_whole_log(projection->log, AccessShareLock);
	bool		safe = log.log->rd_rel->relpersistence != RELPERSISTENCE_TEMP;
	ListCell   *cell;
	IeCaller	caller;

	ie_projection_enter(projection, &caller);
	safe = safe && !ie_row_security(log.log);
	ie_projection_leave(&caller);
	ie_close_log(&log);
	foreach(cell, ie_upcaster_functions(projection->log))
		if (is_function_unsafe(lfirst_oid(cell), NULL))
			return false;
	return safe;
}

/* Do generated columns or constraints run what is not safe? */
static bool
are_columns_unsafe(TupleDesc columns)
{
	TupleConstr *constr = columns->constr;
	int			i;

	if (constr == NULL)
		return false;
	for (i = 0; i < constr->num_check; i++)
		if (is_unsafe(stringToNode(constr->check[i].ccbin), NULL))
			return true;
	for (i = 0; i < constr->num_defval; i++)
		if (TupleDescAttr(columns, constr->defval[i].adnum - 1)->attgenerated != '\0' &&
			is_unsafe(stringToNode(constr->defval[i].adbin), NULL))
			return true;
	return false;
}

/* Does an expression run what is not safe? */
static bool
is_unsafe(Node *node, void *context)
{
	if (node == NULL)
		return false;
	/* a sequence, and constraints of which nothing is known */
	if (IsA(node, NextValueExpr) || IsA(node, CoerceToDomain))
		return true;
	return check_functions_in_node(node, is_function_unsafe, context) ||
		expression_tree_walker(node, is_unsafe, context);
}

/* Is a function not safe? */
static bool
is_function_unsafe(Oid function, void *context pg_attribute_unused())
{
	return func_parallel(function) != PROPARALLEL_SAFE;
}
