/*
 * reducer_call.c: the call of a reducer, as the parser would build it.
 *
 * f(state, item ...) over parameters, with the coercions, defaults and
 * polymorphic types of a call in a query; what cannot be a reducer is refused.
 */
#include "reducer.h"

#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_func.h"
#include "parser/parse_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

static void resolve_types(const IeReducer *reducer, Form_pg_proc proc,
						  Oid *actual, Oid *declared);
static bool arrives_as_row(Oid actual, Oid declared);
static bool has_columns_of(Oid actual, Oid declared);
static TupleDesc laid_out_alike(Oid actual, Oid declared);
pg_noreturn static void refuse_signature(const IeReducer *reducer,
										 Form_pg_proc proc,
										 const Oid *actual);
static void describe_row(RowParam *row, Oid type);

/* Refuse what cannot be a reducer, whatever it is called with. */
Form_pg_proc
ie_reducer_check(Oid function, HeapTuple *tuple)
{
	Form_pg_proc proc;
	AclResult	acl;
	const char *hint = NULL;
	const char *problem;

	*tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(*tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", function)));
	proc = (Form_pg_proc) GETSTRUCT(*tuple);
	acl = ie_function_aclcheck(function, GetUserId());
	if (acl != ACLCHECK_OK)
		aclcheck_error(acl, OBJECT_FUNCTION, NameStr(proc->proname));
	problem = ie_reducer_problem(proc, &hint);
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("function %s cannot be a reducer",
						format_procedure(function)),
				 errdetail_internal("%s", problem),
				 hint == NULL ? 0 : errhint("%s", hint)));
	return proc;
}

/* Why a function cannot be a reducer, and what to do about it; or NULL. */
const char *
ie_reducer_problem(Form_pg_proc proc, const char **hint)
{
	if (proc->prokind != PROKIND_FUNCTION || proc->proretset)
		return "A reducer is a plain function that returns one value.";
	if (proc->provolatile != PROVOLATILE_VOLATILE)
		return NULL;
	*hint = "Declare it IMMUTABLE, or STABLE if it calls STABLE functions such as to_jsonb or format.";
	return "It is VOLATILE: the same events could give another state.";
}

/* The call f(state, item ...) over parameters, coerced as the parser would. */
Expr *
ie_reducer_call(IeReducer *reducer, Form_pg_proc proc, const Oid *item_types,
				Oid collation)
{
	int			nargs = reducer->nitems + 1;
	Oid			actual[FUNC_MAX_ARGS];
	Oid			declared[FUNC_MAX_ARGS];
	List	   *args = NIL;
	Oid			result;
	int			i;

	actual[0] = reducer->state_type;
	memcpy(&actual[1], item_types, reducer->nitems * sizeof(Oid));
	if (nargs > proc->pronargs || nargs < proc->pronargs - proc->pronargdefaults)
		refuse_signature(reducer, proc, actual);
	memcpy(declared, proc->proargtypes.values, nargs * sizeof(Oid));
	if (arrives_as_row(actual[1], declared[1]))
	{
		reducer->convert_item = true;
		reducer->item.arriving = laid_out_alike(actual[1], declared[1]);
		actual[1] = declared[1];
	}
	resolve_types(reducer, proc, actual, declared);
	result = enforce_generic_type_consistency(actual, declared, nargs,
											  proc->prorettype, false);
	if (!IsBinaryCoercible(result, reducer->state_type))
		refuse_signature(reducer, proc, actual);

	describe_row(&reducer->state, actual[0]);
	describe_row(&reducer->item, actual[1]);
	for (i = 0; i < nargs; i++)
	{
		Param	   *param = makeNode(Param);

		param->paramkind = PARAM_EXTERN;
		param->paramid = i + 1;
		param->paramtype = actual[i];
		param->paramtypmod = -1;
		param->paramcollid = get_typcollation(actual[i]);
		param->location = -1;
		args = lappend(args, param);
	}
	make_fn_arguments(NULL, args, actual, declared);
	return (Expr *) makeFuncExpr(reducer->function, result, args, InvalidOid,
								 collation, COERCE_EXPLICIT_CALL);
}

/* Refuse types that the parser would not coerce to the declared ones. */
static void
resolve_types(const IeReducer *reducer, Form_pg_proc proc, Oid *actual,
			  Oid *declared)
{
	int			nargs = reducer->nitems + 1;
	int			i;

	/* the parser casts ROW(...) only where it sees the expression itself */
	for (i = 0; i < nargs; i++)
		if (actual[i] == RECORDOID && declared[i] != RECORDOID &&
			type_is_rowtype(declared[i]))
			refuse_signature(reducer, proc, actual);
	if (!can_coerce_type(nargs, actual, declared, COERCION_IMPLICIT))
		refuse_signature(reducer, proc, actual);
}

/*
 * Does a value of the actual type arrive as a row that has the columns of the
 * declared one? The rows of a log do, of its leaves and of a view over it; a
 * subquery's row, which has no named type, may.
 */
static bool
arrives_as_row(Oid actual, Oid declared)
{
	if (actual == declared || get_typtype(declared) != TYPTYPE_COMPOSITE)
		return false;
	if (actual == RECORDOID)
		return true;
	return get_typtype(actual) == TYPTYPE_COMPOSITE &&
		has_columns_of(actual, declared);
}

/* Has a row type the columns of another, by name and type? */
static bool
has_columns_of(Oid actual, Oid declared)
{
	TupleDesc	have = lookup_rowtype_tupdesc(actual, -1);
	TupleDesc	need = lookup_rowtype_tupdesc(declared, -1);
	int			columns = 0;
	int			needed = 0;
	int			found = 0;
	int			i;
	int			j;

	for (i = 0; i < have->natts; i++)
		columns += !TupleDescAttr(have, i)->attisdropped;
	for (i = 0; i < need->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(need, i);

		needed += !column->attisdropped;
		for (j = 0; j < have->natts && !column->attisdropped; j++)
		{
			Form_pg_attribute other = TupleDescAttr(have, j);

			found += !other->attisdropped &&
				other->atttypid == column->atttypid &&
				namestrcmp(&other->attname, NameStr(column->attname)) == 0;
		}
	}
	ReleaseTupleDesc(have);
	ReleaseTupleDesc(need);
	return columns == needed && found == needed;
}

/*
 * The columns of a row type, if another has the same in the same places: then
 * its rows can be read as they are. Else NULL.
 */
static TupleDesc
laid_out_alike(Oid actual, Oid declared)
{
	TupleDesc	have;
	TupleDesc	need;
	bool		alike;
	int			i;

	if (actual == RECORDOID)
		return NULL;
	have = lookup_rowtype_tupdesc_copy(actual, -1);
	need = lookup_rowtype_tupdesc(declared, -1);
	alike = have->natts == need->natts;
	for (i = 0; i < have->natts && alike; i++)
		alike = TupleDescAttr(have, i)->atttypid == TupleDescAttr(need, i)->atttypid &&
			strcmp(NameStr(TupleDescAttr(have, i)->attname),
				   NameStr(TupleDescAttr(need, i)->attname)) == 0;
	ReleaseTupleDesc(need);
	return alike ? have : NULL;
}

/* Raise the error for types that do not fit. */
static void
refuse_signature(const IeReducer *reducer, Form_pg_proc proc,
				 const Oid *actual)
{
	StringInfoData items;
	char	   *state = format_type_be(reducer->state_type);
	int			i;

	initStringInfo(&items);
	for (i = 1; i <= reducer->nitems; i++)
		appendStringInfo(&items, ", %s", format_type_be(actual[i]));
	ereport(ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH),
			 errmsg("function %s cannot be the reducer here",
					format_procedure(reducer->function)),
			 errdetail("A function (%s%s) returning %s is needed; this one returns %s.",
					   state, items.data, state,
					   format_type_be(proc->prorettype)),
			 errhint("The type of the initial state decides: cast it, as in NULL::account or 0::bigint.")));
}

/* Note the columns of a parameter, if it is a row. */
static void
describe_row(RowParam *row, Oid type)
{
	if (get_typtype(type) != TYPTYPE_COMPOSITE)
		return;
	row->columns = lookup_rowtype_tupdesc_copy(type, -1);
	row->identifier = assign_record_type_identifier(type, -1);
}

