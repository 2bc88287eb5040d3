/*
 * fold.c: immutable.fold, the aggregate that runs a reducer over rows.
 *
 * The reducer is compiled once per query and shared by all groups; a group
 * holds its state and nothing else.
 */
#include "fold.h"

#include "catalog/pg_type.h"
#include "nodes/primnodes.h"
#include "utils/regproc.h"

/* The arguments of the transition function. */
enum
{
	ARG_GROUP,
	ARG_INITIAL,
	ARG_REDUCER,
	ARG_ITEMS
};

typedef struct FoldGroup
{
	IeReducer  *reducer;
	IeState		state;
	MemoryContextCallback gone; /* called when its memory is */
} FoldGroup;

static FoldGroup *new_group(FunctionCallInfo fcinfo, IeReducer *reducer,
							MemoryContext context);
static void group_gone(void *group);

static IeReducer *get_reducer(FunctionCallInfo fcinfo);
static IeReducer *compile(FunctionCallInfo fcinfo);
static bool input_has_no_order(FunctionCallInfo fcinfo);

PG_FUNCTION_INFO_V1(ie_fold_step);
PG_FUNCTION_INFO_V1(ie_fold_result);

/* Fold one row into its group. */
Datum
ie_fold_step(PG_FUNCTION_ARGS)
{
	MemoryContext context;
	IeReducer  *reducer;
	FoldGroup  *group;

	if (!AggCheckCallContext(fcinfo, &context))
		elog(ERROR, "unexpected call outside an aggregate");
	reducer = get_reducer(fcinfo);
	if (PG_ARGISNULL(ARG_GROUP))
		group = new_group(fcinfo, reducer, context);
	else
		group = (FoldGroup *) PG_GETARG_POINTER(ARG_GROUP);
	ie_reduce(reducer, &group->state, &fcinfo->args[ARG_ITEMS]);
	PG_RETURN_POINTER(group);
}

/* A group, in the initial state. */
static FoldGroup *
new_group(FunctionCallInfo fcinfo, IeReducer *reducer, MemoryContext context)
{
	FoldGroup  *group = MemoryContextAlloc(context, sizeof(FoldGroup));

	group->reducer = reducer;
	ie_state_init(reducer, &group->state, PG_GETARG_DATUM(ARG_INITIAL),
				  PG_ARGISNULL(ARG_INITIAL), context);
	group->gone.func = group_gone;
	group->gone.arg = group;
	MemoryContextRegisterResetCallback(context, &group->gone);
	return group;
}

/* The memory of a group goes; the reducer's stands above it, and is there. */
static void
group_gone(void *group)
{
	ie_state_gone(((FoldGroup *) group)->reducer, &((FoldGroup *) group)->state);
}

/* The state of a group; of no rows, NULL. */
Datum
ie_fold_result(PG_FUNCTION_ARGS)
{
	FoldGroup  *group;

	if (PG_ARGISNULL(ARG_GROUP))
		PG_RETURN_NULL();
	group = (FoldGroup *) PG_GETARG_POINTER(ARG_GROUP);
	if (group->state.isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(ie_state_copy(group->reducer, &group->state));
}

/* The compiled reducer; the same one for every row of the query. */
static IeReducer *
get_reducer(FunctionCallInfo fcinfo)
{
	IeReducer  *reducer = fcinfo->flinfo->fn_extra;

	ie_require_arg(fcinfo, ARG_REDUCER, "reducer");
	if (reducer == NULL)
		reducer = compile(fcinfo);
	else if (PG_GETARG_OID(ARG_REDUCER) != ie_reducer_function(reducer))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("reducer must be the same for all rows"),
				 errdetail("It was %s, then %s.",
						   format_procedure(ie_reducer_function(reducer)),
						   format_procedure(PG_GETARG_OID(ARG_REDUCER))),
				 errhint("Write one fold for each reducer, with FILTER to choose its rows.")));
	else if (!ie_reducer_is_current(reducer))
		ie_reducer_check_types(reducer);
	return reducer;
}

/* Compile the reducer for the types of this call. */
static IeReducer *
compile(FunctionCallInfo fcinfo)
{
	FmgrInfo   *flinfo = fcinfo->flinfo;
	Oid			item_types[FUNC_MAX_ARGS];
	int			nitems = PG_NARGS() - ARG_ITEMS;
	IeReducer  *reducer;
	int			i;

	if (nitems < 1 || nitems >= FUNC_MAX_ARGS || get_fn_expr_variadic(flinfo))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("fold needs the items as separate arguments"),
				 errhint("Write fold(initial, reducer, item, ...).")));
	for (i = 0; i < nitems; i++)
	{
		item_types[i] = get_fn_expr_argtype(flinfo, ARG_ITEMS + i);
		if (item_types[i] == UNKNOWNOID)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("the type of an item is unknown"),
					 errhint("Cast it, as in 'x'::text.")));
	}
	reducer = ie_reducer_compile(PG_GETARG_OID(ARG_REDUCER),
								 get_fn_expr_argtype(flinfo, ARG_INITIAL),
								 nitems, item_types, PG_GET_COLLATION(),
								 flinfo->fn_mcxt);
	if (input_has_no_order(fcinfo))
		ie_reducer_check_order(reducer);
	flinfo->fn_extra = reducer;
	return reducer;
}

/*
 * Does the aggregate leave the order to whatever feeds it? Then a hash over
 * the rows of a log is as good as a sort, as long as every event of a group
 * stands above the last. A window has an order of its own.
 */
static bool
input_has_no_order(FunctionCallInfo fcinfo)
{
	Aggref	   *call = AggGetAggref(fcinfo);

	return call != NULL && call->aggorder == NIL && call->aggdistinct == NIL;
}
