/*
 * reducer.c: compile a reducer.
 *
 * A reducer is any function f(state, item ...) RETURNS state. Its call is
 * built once over parameters; a SQL function's body takes the place of the
 * call, so that no function call is left for reduce.c to run. Fields of the
 * state and of the first item are read from slots, where a row is taken apart
 * once, instead of from a composite value each time.
 */
#include "reducer.h"

#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "pgstat.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

static void make_params(IeReducer *reducer, const Oid *item_types);
static void make_runnable(IeReducer *reducer, Expr *call, bool inlined);
static void make_expandable(IeReducer *reducer);
static void expanded_gone(void *reducer);
static bool takes_parameters(const IeReducer *reducer, const FuncExpr *call);
static void make_direct(IeReducer *reducer, const FuncExpr *call);
static IeDocumentChange document_change(const IeReducer *reducer);
static void check_row_type(RowParam *row);
static bool is_laid_out_as(TupleDesc columns, TupleDesc others);
static Node *read_slots(Node *node, void *context);
static Node *row_null_test(const NullTest *test, const RowParam *row);
static Var *column_of(const IeReducer *reducer, const RowParam *row,
					  const FieldSelect *field);
static RowParam *row_of_param(IeReducer *reducer, const Node *node);

/* Compile a reducer for a state type and item types, into a context. */
IeReducer *
ie_reducer_compile(Oid function, Oid state_type, int nitems,
				   const Oid *item_types, Oid collation,
				   MemoryContext context)
{
	MemoryContext caller = MemoryContextSwitchTo(context);
	IeReducer  *reducer = palloc0(sizeof(IeReducer));
	HeapTuple	tuple;
	Form_pg_proc proc = ie_reducer_check(function, &tuple);
	const char *problem;
	Expr	   *call;
	Expr	   *body;

	reducer->function = function;
	reducer->generation = ie_catalog_changes();
	reducer->strict = proc->proisstrict;
	reducer->state_type = state_type;
	reducer->nitems = nitems;
	get_typlenbyval(state_type, &reducer->state_len, &reducer->state_byval);
	reducer->first_item_starts = nitems == 1 &&
		IsBinaryCoercible(item_types[0], state_type);

	reducer->collation = collation;
	reducer->search_path = pstrdup(namespace_search_path);
	reducer->user = GetUserId();
	call = ie_reducer_call(reducer, proc, item_types, collation);
	reducer->call = copyObject(call);
	ReleaseSysCache(tuple);
	make_params(reducer, item_types);
	reducer->upcast = ie_upcast_items(reducer->nitems, item_types);
	reducer->change = document_change(reducer);
	if (reducer->change != NULL)
		ie_make_slot(&reducer->item, &TTSOpsHeapTuple);
	body = ie_inline((FuncExpr *) call, &problem);
	make_runnable(reducer, expression_planner(body != NULL ? body : call),
				  body != NULL);
	reducer->econtext->ecxt_innertuple = reducer->state.slot;
	reducer->econtext->ecxt_outertuple = reducer->item.slot;
	MemoryContextSwitchTo(caller);
	return reducer;
}

/* What the expression reads: the state, and the items. */
static void
make_params(IeReducer *reducer, const Oid *item_types)
{
	int			i;

	reducer->params = makeParamList(reducer->nitems + 1);
	for (i = 0; i < reducer->params->numParams; i++)
		reducer->params->params[i].ptype =
			i == 0 ? reducer->state_type : item_types[i - 1];
	if (reducer->item.columns != NULL)
		reducer->params->params[FIRST_ITEM_PARAM - 1].ptype =
			reducer->item.columns->tdtypeid;
	reducer->econtext = CreateStandaloneExprContext();
	reducer->econtext->ecxt_param_list_info = reducer->params;
}

/* Choose the way to run a planned call. */
static void
make_runnable(IeReducer *reducer, Expr *call, bool inlined)
{
	bool		as_is = !inlined && IsA(call, FuncExpr) &&
		takes_parameters(reducer, (FuncExpr *) call);

	if (reducer->change != NULL)
		return;
	if (as_is)
		make_direct(reducer, (FuncExpr *) call);
	if (reducer->direct != NULL)
		(void) ie_read_slots(reducer, call);	/* what is used whole: all */
	else
		reducer->outcome = ie_row_outcome(reducer, call);
	if (reducer->direct == NULL && reducer->outcome == NULL)
		reducer->expression =
			ExecInitExprWithParams(ie_read_slots(reducer, call), reducer->params);
}

/*
 * Let the state stay an expanded object. After an error its memory may go
 * before that of the groups, which must then not touch it.
 */
static void
make_expandable(IeReducer *reducer)
{
	MemoryContext both = AllocSetContextCreate(CurrentMemoryContext,
											   "immutable_events expanded states",
											   ALLOCSET_SMALL_SIZES);

	reducer->in_place = true;
	reducer->expanded[0] = AllocSetContextCreate(both,
												 "immutable_events expanded state",
												 ALLOCSET_SMALL_SIZES);
	reducer->expanded[1] = AllocSetContextCreate(both,
												 "immutable_events next expanded state",
												 ALLOCSET_SMALL_SIZES);
	reducer->gone.func = expanded_gone;
	reducer->gone.arg = reducer;
	MemoryContextRegisterResetCallback(both, &reducer->gone);
}

/* The memory of expanded states is gone. */
static void
expanded_gone(void *reducer)
{
	((IeReducer *) reducer)->expanded_state = NULL;
}

/* Are the arguments of a call the parameters and nothing else, in order? */
static bool
takes_parameters(const IeReducer *reducer, const FuncExpr *call)
{
	ListCell   *cell;

	if (call->funcid != reducer->function)
		return false;
	foreach(cell, call->args)
	{
		Param	   *param = lfirst(cell);

		if (!IsA(param, Param) ||
			param->paramid != foreach_current_index(cell) + 1)
			return false;
	}
	return list_length(call->args) == reducer->nitems + 1;
}

/*
 * Call a function that could not be inlined without an expression around it,
 * unless its calls are to be counted. One of PostgreSQL's own over values that
 * are no pointers needs no memory either. Others may change an expanded state
 * in place.
 */
static void
make_direct(IeReducer *reducer, const FuncExpr *call)
{
	FmgrInfo   *flinfo = palloc0(sizeof(FmgrInfo));
	ListCell   *cell;

	fmgr_info(call->funcid, flinfo);
	if (flinfo->fn_stats < pgstat_track_functions)
		return;
	InvokeFunctionExecuteHook(call->funcid);
	fmgr_info_set_expr((Node *) call, flinfo);
	reducer->direct = palloc0(SizeForFunctionCallInfo(reducer->nitems + 1));
	InitFunctionCallInfoData(*reducer->direct, flinfo, reducer->nitems + 1,
							 call->inputcollid, NULL, NULL);
	reducer->bare = call->funcid < FirstGenbkiObjectId && reducer->state_byval;
	foreach(cell, call->args)
		reducer->bare &= get_typbyval(exprType(lfirst(cell)));
	if (reducer->state_len == -1)
		make_expandable(reducer);
}

/*
 * How a ready-made reducer changes a document, when it folds events into one:
 * then the state is kept as a tree, and no function is called.
 */
static IeDocumentChange
document_change(const IeReducer *reducer)
{
	if (reducer->state_type != JSONBOID || reducer->item.columns == NULL ||
		reducer->item.columns->tdtypeid != ie_event_type())
		return NULL;
	return ie_document_change(reducer->function);
}

/* The function that a reducer was compiled from. */
Oid
ie_reducer_function(const IeReducer *reducer)
{
	return reducer->function;
}

/*
 * Let it refuse events that do not come in order of position, which is the
 * order of versions in each stream. Other items have no order to check.
 */
void
ie_reducer_check_order(IeReducer *reducer)
{
	if (reducer->item.columns == NULL ||
		reducer->item.columns->tdtypeid != ie_event_type())
		return;
	reducer->check_order = true;
}

/* Has nothing changed in the catalogs since it was compiled? */
bool
ie_reducer_is_current(const IeReducer *reducer)
{
	return reducer->generation == ie_catalog_changes();
}

/* Would the names in it be looked up in the same places now? */
bool
ie_reducer_same_names(const IeReducer *reducer)
{
	return reducer->user == GetUserId() &&
		strcmp(reducer->search_path, namespace_search_path) == 0;
}

/*
 * What its result depends on, with functions that prepare its events. Raises
 * an error where it cannot have snapshots.
 */
IeFingerprint
ie_reducer_fingerprint(const IeReducer *reducer, List *upcasters)
{
	return ie_fingerprint(reducer->function, (Node *) copyObject(reducer->call),
						  reducer->state_type, upcasters);
}

/* A hash of its definition, and of all that it is made of. */
char *
ie_reducer_definition(const IeReducer *reducer)
{
	return ie_definition_digest(reducer->function,
								(Node *) copyObject(reducer->call),
								reducer->state_type);
}

/*
 * Within a query a reducer stays what it was; only a row type that changed
 * under it would have its values misread.
 */
void
ie_reducer_check_types(IeReducer *reducer)
{
	check_row_type(&reducer->state);
	check_row_type(&reducer->item);
	reducer->generation = ie_catalog_changes();
}

/*
 * Refuse a row type that is not as it was compiled. It may have been read anew
 * from the catalogs for another reason, such as ANALYZE of its table.
 */
static void
check_row_type(RowParam *row)
{
	uint64		identifier;
	TupleDesc	now;
	bool		changed;

	if (row->columns == NULL)
		return;
	identifier = assign_record_type_identifier(row->columns->tdtypeid, -1);
	if (row->identifier == identifier)
		return;
	now = lookup_rowtype_tupdesc(row->columns->tdtypeid, -1);
	changed = !is_laid_out_as(now, row->columns);
	ReleaseTupleDesc(now);
	if (changed)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("type %s was changed during the query",
						format_type_be(row->columns->tdtypeid)),
				 errhint("Run the query again.")));
	row->identifier = identifier;
}

/* Have two row types columns of the same types, in the same places? */
static bool
is_laid_out_as(TupleDesc columns, TupleDesc others)
{
	int			i;

	if (columns->natts != others->natts)
		return false;
	for (i = 0; i < columns->natts; i++)
		if (TupleDescAttr(columns, i)->atttypid != TupleDescAttr(others, i)->atttypid)
			return false;
	return true;
}

/* Read fields of row parameters from slots; note what is used whole. */
Expr *
ie_read_slots(IeReducer *reducer, Expr *expression)
{
	return (Expr *) read_slots((Node *) expression, reducer);
}

/* The same, for each node. */
static Node *
read_slots(Node *node, void *context)
{
	IeReducer  *reducer = context;
	RowParam   *row;

	if (node == NULL)
		return NULL;
	if (IsA(node, FieldSelect))
	{
		row = row_of_param(reducer, (Node *) ((FieldSelect *) node)->arg);
		if (row != NULL && row->columns != NULL)
		{
			ie_make_slot(row, &TTSOpsHeapTuple);
			return (Node *) column_of(reducer, row, (FieldSelect *) node);
		}
	}
	if (IsA(node, NullTest) && reducer->state.slot != NULL &&
		TTS_IS_VIRTUAL(reducer->state.slot) &&
		row_of_param(reducer, (Node *) ((NullTest *) node)->arg) == &reducer->state)
		return ((NullTest *) node)->argisrow
			? row_null_test((NullTest *) node, &reducer->state)
			: (Node *) copyObject(node);
	row = row_of_param(reducer, node);
	if (row != NULL)
		row->whole = true;
	return expression_tree_mutator(node, read_slots, context);
}

/* The column of a slot that a field is read from. */
static Var *
column_of(const IeReducer *reducer, const RowParam *row,
		  const FieldSelect *field)
{
	return makeVar(row == &reducer->state ? INNER_VAR : OUTER_VAR,
				   field->fieldnum, field->resulttype, field->resulttypmod,
				   field->resultcollid, 0);
}

/* row IS [NOT] NULL: so are all its columns, and a row without any is both. */
static Node *
row_null_test(const NullTest *test, const RowParam *row)
{
	List	   *columns = NIL;
	int			i;

	for (i = 0; i < row->columns->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(row->columns, i);
		NullTest   *part;

		if (column->attisdropped)
			continue;
		part = makeNode(NullTest);
		part->arg = (Expr *) makeVar(INNER_VAR, i + 1, column->atttypid,
									 column->atttypmod, column->attcollation,
									 0);
		part->nulltesttype = test->nulltesttype;
		part->location = -1;
		columns = lappend(columns, part);
	}
	if (columns == NIL && test->nulltesttype == IS_NOT_NULL)
	{
		NullTest   *whole = (NullTest *) copyObject(test);

		whole->argisrow = false;
		return (Node *) whole;
	}
	return (Node *) make_ands_explicit(columns);
}

/* The state or the first item, or NULL for what has no slot. */
static RowParam *
row_of_param(IeReducer *reducer, const Node *node)
{
	if (!IsA(node, Param))
		return NULL;
	if (((Param *) node)->paramid == STATE_PARAM)
		return &reducer->state;
	if (((Param *) node)->paramid == FIRST_ITEM_PARAM)
		return &reducer->item;
	return NULL;
}

/* Make the slot that a row's fields are read from. */
void
ie_make_slot(RowParam *row, const TupleTableSlotOps *kind)
{
	if (row->slot == NULL)
		row->slot = MakeSingleTupleTableSlot(row->arriving != NULL
											 ? row->arriving : row->columns,
											 kind);
}
