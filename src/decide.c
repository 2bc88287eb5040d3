/*
 * decide.c: compile a decider, and let it decide.
 *
 * A decider is any function f(state, command jsonb) RETURNS
 * immutable.new_event[], in any language. As with a reducer its call is built
 * once over parameters and planned, which inlines a SQL function. It may be
 * VOLATILE: it is called once for each command.
 */
#include "command.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

/* The arguments of a decider. */
enum
{
	STATE,
	COMMAND,
	NARGS
};

struct IeDecider
{
	Oid			function;
	bool		strict;
	ExprState  *expression;
	ExprContext *econtext;
	ParamListInfo params;
};

static Form_pg_proc check_function(Oid function, HeapTuple *tuple);
static Expr *build_call(Oid function, Form_pg_proc proc, const Oid *types,
						Oid collation);
pg_noreturn static void refuse_signature(Oid function, Form_pg_proc proc,
										 Oid state_type);
static Oid	events_type(void);
static void pass(IeDecider *decider, int arg, Datum value, bool isnull);

/* Compile a decider for a state type, into a context. */
IeDecider *
ie_decider_compile(Oid function, Oid state_type, Oid collation,
				   MemoryContext context)
{
	MemoryContext caller = MemoryContextSwitchTo(context);
	IeDecider  *decider = palloc0(sizeof(IeDecider));
	Oid			types[NARGS] = {state_type, JSONBOID};
	HeapTuple	tuple;
	Form_pg_proc proc = check_function(function, &tuple);
	Expr	   *call;
	int			i;

	decider->function = function;
	decider->strict = proc->proisstrict;
	call = build_call(function, proc, types, collation);
	ReleaseSysCache(tuple);
	decider->params = makeParamList(NARGS);
	for (i = 0; i < NARGS; i++)
		decider->params->params[i].ptype = types[i];
	decider->econtext = CreateStandaloneExprContext();
	decider->econtext->ecxt_param_list_info = decider->params;
	decider->expression = ExecInitExprWithParams(expression_planner(call),
												 decider->params);
	MemoryContextSwitchTo(caller);
	return decider;
}

/* The function that a decider was compiled from. */
Oid
ie_decider_function(const IeDecider *decider)
{
	return decider->function;
}

/* Refuse what cannot be a decider, whatever it is called with. */
static Form_pg_proc
check_function(Oid function, HeapTuple *tuple)
{
	Form_pg_proc proc;
	AclResult	acl;

	*tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(*tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", function)));
	proc = (Form_pg_proc) GETSTRUCT(*tuple);
	if (proc->prokind != PROKIND_FUNCTION || proc->proretset)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("function %s cannot be a decider",
						format_procedure(function)),
				 errdetail("A decider is a plain function that returns an array of immutable.new_event."),
				 errhint("Declare it as f(state, command jsonb) RETURNS immutable.new_event[].")));
	acl = ie_function_aclcheck(function, GetUserId());
	if (acl != ACLCHECK_OK)
		aclcheck_error(acl, OBJECT_FUNCTION, NameStr(proc->proname));
	return proc;
}

/* The call f(state, command) over parameters, coerced as the parser would. */
static Expr *
build_call(Oid function, Form_pg_proc proc, const Oid *types, Oid collation)
{
	Oid			declared[NARGS];
	List	   *args = NIL;
	Oid			result;
	int			i;

	if (proc->pronargs < NARGS || proc->pronargs - proc->pronargdefaults > NARGS)
		refuse_signature(function, proc, types[STATE]);
	memcpy(declared, proc->proargtypes.values, sizeof(declared));
	/* the parser casts ROW(...) only where it sees the expression itself */
	if ((types[STATE] == RECORDOID && declared[STATE] != RECORDOID &&
		 type_is_rowtype(declared[STATE])) ||
		!can_coerce_type(NARGS, types, declared, COERCION_IMPLICIT))
		refuse_signature(function, proc, types[STATE]);
	result = enforce_generic_type_consistency(types, declared, NARGS,
											  proc->prorettype, false);
	if (!IsBinaryCoercible(result, events_type()))
		refuse_signature(function, proc, types[STATE]);

	for (i = 0; i < NARGS; i++)
	{
		Param	   *param = makeNode(Param);

		param->paramkind = PARAM_EXTERN;
		param->paramid = i + 1;
		param->paramtype = types[i];
		param->paramtypmod = -1;
		param->paramcollid = get_typcollation(types[i]);
		param->location = -1;
		args = lappend(args, param);
	}
	make_fn_arguments(NULL, args, unconstify(Oid *, types), declared);
	return (Expr *) makeFuncExpr(function, result, args, InvalidOid,
								 collation, COERCE_EXPLICIT_CALL);
}

/* Raise the error for types that do not fit. */
static void
refuse_signature(Oid function, Form_pg_proc proc, Oid state_type)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH),
			 errmsg("function %s cannot be the decider here",
					format_procedure(function)),
			 errdetail("A function (%s, jsonb) returning %s is needed; this one returns %s.",
					   format_type_be(state_type), format_type_be(events_type()),
					   format_type_be(proc->prorettype)),
			 errhint("The type of the initial state decides: cast it, as in NULL::account or 0::bigint.")));
}

/* The type immutable.new_event[]. */
static Oid
events_type(void)
{
	Oid			schema = get_namespace_oid(IE_SCHEMA, false);

	return get_array_type(GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
										  CStringGetDatum("new_event"),
										  ObjectIdGetDatum(schema)));
}

/*
 * The events that follow from a command; they are good until the next call. A
 * strict decider would let a command pass unseen where the state is NULL.
 */
IeNewEvents
ie_decide(IeDecider *decider, Datum state, bool isnull, Jsonb *command,
		  text *stream)
{
	Datum		events;

	if (decider->strict && isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the state that strict decider %s decides on must not be NULL",
						format_procedure(decider->function)),
				 errhint("Give an initial state, or declare the function CALLED ON NULL INPUT.")));
	ResetExprContext(decider->econtext);
	pass(decider, STATE, state, isnull);
	pass(decider, COMMAND, JsonbPGetDatum(command), false);
	events = ExecEvalExprSwitchContext(decider->expression, decider->econtext,
									   &isnull);
	if (isnull)
		return (IeNewEvents) {.stream = stream};
	return ie_new_events_from_array(stream, DatumGetArrayTypeP(events));
}

/* Hand an argument to the expression. */
static void
pass(IeDecider *decider, int arg, Datum value, bool isnull)
{
	decider->params->params[arg].value = value;
	decider->params->params[arg].isnull = isnull;
}
