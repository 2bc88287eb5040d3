/*
 * explain_reducer.c: is a reducer inlined, and if not, why?
 */
#include "reducer.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/tuplestore.h"

static const char *explain(Oid function);
static Oid	sample_type(Oid declared);

PG_FUNCTION_INFO_V1(ie_explain_reducer);

/* Tell whether a reducer runs without a function call. */
Datum
ie_explain_reducer(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	const char *problem;
	Datum		values[2];
	bool		nulls[2] = {false, false};

	ie_require_arg(fcinfo, 0, "reducer");
	InitMaterializedSRF(fcinfo, 0);
	problem = explain(PG_GETARG_OID(0));
	values[0] = BoolGetDatum(problem == NULL);
	nulls[1] = problem == NULL;
	if (problem != NULL)
		values[1] = CStringGetTextDatum(problem);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	return (Datum) 0;
}

/* Why a function is no reducer, or is called for each item; or NULL. */
static const char *
explain(Oid function)
{
	IeReducer	reducer = {.function = function};
	Oid			types[FUNC_MAX_ARGS];
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	const char *problem;
	const char *hint = NULL;
	Form_pg_proc proc;
	Expr	   *call;
	int			i;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", function)));
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	problem = ie_reducer_problem(proc, &hint);
	if (problem == NULL && proc->pronargs < 2)
		problem = "A reducer takes a state and an item.";
	if (problem == NULL && ie_document_change(function) == NULL)
	{
		for (i = 0; i < proc->pronargs; i++)
			types[i] = sample_type(proc->proargtypes.values[i]);
		reducer.state_type = types[0];
		reducer.nitems = Max(1, proc->pronargs - proc->pronargdefaults - 1);
		call = ie_reducer_call(&reducer, proc, &types[1],
							   get_typcollation(types[0]));
		ie_inline((FuncExpr *) call, &problem);
	}
	ReleaseSysCache(tuple);
	return hint == NULL ? problem : psprintf("%s %s", problem, hint);
}

/* A type that a polymorphic argument may have. */
static Oid
sample_type(Oid declared)
{
	switch (declared)
	{
		case ANYARRAYOID:
		case ANYCOMPATIBLEARRAYOID:
			return INT4ARRAYOID;
		case ANYRANGEOID:
		case ANYCOMPATIBLERANGEOID:
			return INT4RANGEOID;
		case ANYMULTIRANGEOID:
		case ANYCOMPATIBLEMULTIRANGEOID:
			return INT4MULTIRANGEOID;
		case ANYELEMENTOID:
		case ANYNONARRAYOID:
		case ANYCOMPATIBLEOID:
		case ANYCOMPATIBLENONARRAYOID:
			return INT4OID;
		default:
			return declared;
	}
}
