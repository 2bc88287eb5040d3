/*
 * reducer.c: compile a reducer.
 *
 * A reducer is any function f(state, item ...) RETURNS state. Its call is
 * built once over parameters and planned, which inlines a SQL function's body,
 * so that no function call is left for reduce.c to run. Fields of the state
 * and of the first item are read from slots, where a row is taken apart once,
 * instead of from a composite value each time.
 */
#include "reducer.h"

#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_func.h"
#include "parser/parse_type.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

/* Counts what may make a compiled reducer stale. */
static uint64 generation = 0;

static IeDocumentChange document_change(const IeReducer *reducer);
static void check_row_type(const RowParam *row);
static void watch_catalogs(void);
static void relation_changed(Datum arg, Oid relid);
static void catalog_changed(Datum arg, int cacheid, uint32 hash);
static Form_pg_proc check_function(Oid function, HeapTuple *tuple);
pg_noreturn static void refuse_function(Oid function, const char *detail,
										const char *hint);
static Expr *build_call(IeReducer *reducer, Form_pg_proc proc,
						const Oid *item_types, Oid collation);
static bool arrives_as_row(Oid actual, Oid declared);
pg_noreturn static void refuse_signature(const IeReducer *reducer, Form_pg_proc proc,
										 const Oid *actual);
static void describe_row(RowParam *row, Oid type);
static Node *read_slots(Node *node, void *context);
static RowParam *row_of_param(IeReducer *reducer, const Param *param);
static void make_slot(RowParam *row);

/* Compile a reducer for a state type and item types, into a context. */
IeReducer *
ie_reducer_compile(Oid function, Oid state_type, int nitems,
				   const Oid *item_types, Oid collation,
				   MemoryContext context)
{
	MemoryContext caller = MemoryContextSwitchTo(context);
	IeReducer  *reducer = palloc0(sizeof(IeReducer));
	HeapTuple	tuple;
	Form_pg_proc proc = check_function(function, &tuple);
	Expr	   *call;
	int			i;

	watch_catalogs();
	reducer->function = function;
	reducer->generation = generation;
	reducer->strict = proc->proisstrict;
	reducer->state_type = state_type;
	reducer->nitems = nitems;
	get_typlenbyval(state_type, &reducer->state_len, &reducer->state_byval);
	reducer->first_item_starts = nitems == 1 &&
		IsBinaryCoercible(item_types[0], state_type);

	reducer->collation = collation;
	reducer->search_path = pstrdup(namespace_search_path);
	reducer->user = GetUserId();
	call = build_call(reducer, proc, item_types, collation);
	reducer->call = copyObject(call);
	ReleaseSysCache(tuple);
	call = expression_planner(call);
	call = (Expr *) read_slots((Node *) call, reducer);

	reducer->change = document_change(reducer);
	if (reducer->change != NULL)
		make_slot(&reducer->item);

	reducer->params = makeParamList(nitems + 1);
	for (i = 0; i < reducer->params->numParams; i++)
		reducer->params->params[i].ptype =
			i == 0 ? state_type : item_types[i - 1];
	if (reducer->item.columns != NULL)
		reducer->params->params[FIRST_ITEM_PARAM - 1].ptype =
			reducer->item.columns->tdtypeid;
	reducer->econtext = CreateStandaloneExprContext();
	reducer->econtext->ecxt_param_list_info = reducer->params;
	reducer->econtext->ecxt_innertuple = reducer->state.slot;
	reducer->econtext->ecxt_outertuple = reducer->item.slot;
	reducer->expression = ExecInitExprWithParams(call, reducer->params);
	MemoryContextSwitchTo(caller);
	return reducer;
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
	MemoryContext caller;

	if (reducer->item.columns == NULL ||
		reducer->item.columns->tdtypeid != ie_event_type())
		return;
	caller = MemoryContextSwitchTo(GetMemoryChunkContext(reducer));
	make_slot(&reducer->item);
	MemoryContextSwitchTo(caller);
	reducer->check_order = true;
}

/* Has nothing changed in the catalogs since it was compiled? */
bool
ie_reducer_is_current(const IeReducer *reducer)
{
	return reducer->generation == generation;
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

/*
 * Within a query a reducer stays what it was; only a row type that changed
 * under it would have its values misread.
 */
void
ie_reducer_check_types(IeReducer *reducer)
{
	check_row_type(&reducer->state);
	check_row_type(&reducer->item);
	reducer->generation = generation;
}

/* Refuse a row type that is not as it was compiled. */
static void
check_row_type(const RowParam *row)
{
	if (row->columns != NULL &&
		row->identifier != assign_record_type_identifier(row->columns->tdtypeid, -1))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("type %s was changed during the query",
						format_type_be(row->columns->tdtypeid))));
}

/* Ask to be told when functions change, or what their bodies may mention. */
static void
watch_catalogs(void)
{
	static const int caches[] = {PROCOID, TYPEOID, AGGFNOID, AUTHOID, CASTSOURCETARGET,
	COLLOID, CONSTROID, ENUMOID, NAMESPACEOID, OPEROID, RANGETYPE};
	static bool watching = false;
	int			i;

	if (watching)
		return;
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	for (i = 0; i < (int) lengthof(caches); i++)
		CacheRegisterSyscacheCallback(caches[i], catalog_changed, (Datum) 0);
	watching = true;
}

/* A relation changed, perhaps one whose row type a reducer uses. */
static void
relation_changed(Datum arg pg_attribute_unused(),
				 Oid relid pg_attribute_unused())
{
	generation++;
}

/* A function, a type or the like changed. */
static void
catalog_changed(Datum arg pg_attribute_unused(),
				int cacheid pg_attribute_unused(),
				uint32 hash pg_attribute_unused())
{
	generation++;
}

/* Refuse what cannot be a reducer, whatever it is called with. */
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
		refuse_function(function,
						"A reducer is a plain function that returns one value.",
						NULL);
	acl = ie_function_aclcheck(function, GetUserId());
	if (acl != ACLCHECK_OK)
		aclcheck_error(acl, OBJECT_FUNCTION, NameStr(proc->proname));
	if (proc->provolatile == PROVOLATILE_VOLATILE)
		refuse_function(function, "It is VOLATILE: the same events could give another state.",
						"Declare it IMMUTABLE, or STABLE if it calls STABLE functions such as to_jsonb or format.");
	return proc;
}

/* Raise the error for a function that is no reducer. */
static void
refuse_function(Oid function, const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("function %s cannot be a reducer",
					format_procedure(function)),
			 errdetail_internal("%s", detail),
			 hint == NULL ? 0 : errhint("%s", hint)));
}

/* The call f(state, item ...) over parameters, coerced as the parser would. */
static Expr *
build_call(IeReducer *reducer, Form_pg_proc proc, const Oid *item_types,
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
		actual[1] = declared[1];
	}
	/* the parser casts ROW(...) only where it sees the expression itself */
	for (i = 0; i < nargs; i++)
		if (actual[i] == RECORDOID && declared[i] != RECORDOID &&
			type_is_rowtype(declared[i]))
			refuse_signature(reducer, proc, actual);
	if (!can_coerce_type(nargs, actual, declared, COERCION_IMPLICIT))
		refuse_signature(reducer, proc, actual);
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

/*
 * Does a value of the actual type arrive as a row that has the columns of the
 * declared one? The rows of a log do (a typed table of immutable.event), and a
 * subquery's row, which has no named type, may.
 */
static bool
arrives_as_row(Oid actual, Oid declared)
{
	Oid			relid;
	HeapTuple	tuple;
	bool		typed = false;

	if (actual == declared || get_typtype(declared) != TYPTYPE_COMPOSITE)
		return false;
	if (actual == RECORDOID)
		return true;
	relid = typeidTypeRelid(actual);
	if (!OidIsValid(relid))
		return false;
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	if (HeapTupleIsValid(tuple))
	{
		typed = ((Form_pg_class) GETSTRUCT(tuple))->reloftype == declared;
		ReleaseSysCache(tuple);
	}
	return typed;
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

/* Read fields of row parameters from slots; note what is used whole. */
static Node *
read_slots(Node *node, void *context)
{
	IeReducer  *reducer = context;

	if (node == NULL)
		return NULL;
	if (IsA(node, FieldSelect) && IsA(((FieldSelect *) node)->arg, Param))
	{
		FieldSelect *field = (FieldSelect *) node;
		RowParam   *row = row_of_param(reducer, (Param *) field->arg);

		if (row != NULL && row->columns != NULL)
		{
			make_slot(row);
			return (Node *) makeVar(row == &reducer->state ? INNER_VAR : OUTER_VAR,
									field->fieldnum, field->resulttype,
									field->resulttypmod, field->resultcollid,
									0);
		}
	}
	if (IsA(node, Param))
	{
		RowParam   *row = row_of_param(reducer, (Param *) node);

		if (row != NULL)
			row->whole = true;
	}
	return expression_tree_mutator(node, read_slots, context);
}

/* The state or the first item, or NULL for what has no slot. */
static RowParam *
row_of_param(IeReducer *reducer, const Param *param)
{
	if (param->paramid == STATE_PARAM)
		return &reducer->state;
	if (param->paramid == FIRST_ITEM_PARAM)
		return &reducer->item;
	return NULL;
}

/* Make the slot that a row's fields are read from. */
static void
make_slot(RowParam *row)
{
	if (row->slot == NULL)
		row->slot = MakeSingleTupleTableSlot(row->columns, &TTSOpsHeapTuple);
}
