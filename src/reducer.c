/*
 * reducer.c: compile a reducer and run it.
 *
 * A reducer is any function f(state, item ...) RETURNS state. Its call is
 * built once over parameters and planned, which inlines a SQL function's body,
 * so that no function call is left; then it runs once for each item. Fields
 * of the state and of the first item are read from slots, where a row is
 * taken apart once, instead of from a composite value each time.
 */
#include "immutable_events.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/tupconvert.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_func.h"
#include "parser/parse_type.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/expandeddatum.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

/* Parameter numbers: the state, then the items. */
#define STATE_PARAM		1
#define FIRST_ITEM_PARAM	2

/* A row-typed parameter whose fields the expression may read from a slot. */
typedef struct RowParam
{
	TupleDesc	columns;		/* NULL: not a row */
	TupleTableSlot *slot;		/* NULL: no field is read */
	bool		whole;			/* the expression uses the value itself */
	HeapTupleData tuple;		/* what the slot holds */
} RowParam;

struct IeReducer
{
	Oid			function;
	uint64		generation;
	bool		strict;
	Oid			state_type;
	int16		state_len;
	bool		state_byval;
	bool		first_item_starts;	/* strict, and item and state are alike */
	int			nitems;
	ExprState  *expression;
	ExprContext *econtext;
	ParamListInfo params;
	RowParam	state;
	RowParam	item;			/* the first */
	bool		convert_item;	/* it arrives as another row type */
	Oid			item_type;		/* the type it arrived as, and the way */
	int32		item_typmod;	/* from there to the declared one */
	TupleConversionMap *item_map;
};

/* Counts what may make a compiled reducer stale. */
static uint64 generation = 0;

static void watch_catalogs(void);
static void relation_changed(Datum arg, Oid relid);
static void catalog_changed(Datum arg, int cacheid, uint32 hash);
static Form_pg_proc check_function(Oid function, HeapTuple *tuple);
static void refuse_function(Oid function, const char *detail,
							const char *hint) pg_attribute_noreturn();
static Expr *build_call(IeReducer *reducer, Form_pg_proc proc,
						const Oid *item_types, Oid collation);
static bool arrives_as_row(Oid actual, Oid declared);
static void refuse_signature(const IeReducer *reducer, Form_pg_proc proc,
							 const Oid *actual) pg_attribute_noreturn();
static void describe_row(RowParam *row, Oid type);
static Node *read_slots(Node *node, void *context);
static RowParam *row_of_param(IeReducer *reducer, const Param *param);
static void make_slot(RowParam *row);
static bool must_skip(IeReducer *reducer, IeState *state,
					  const NullableDatum *items);
static void pass_state(IeReducer *reducer, const IeState *state);
static void pass_item(IeReducer *reducer, NullableDatum item);
static void fill_row(RowParam *row, HeapTupleHeader header);
static HeapTuple convert_item(IeReducer *reducer, HeapTupleHeader header);
static void evaluate(IeReducer *reducer, IeState *state);
static void store(const IeReducer *reducer, IeState *state, Datum value,
				  bool isnull);
static char *reserve(IeState *state, Size size, char **old);

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

	call = build_call(reducer, proc, item_types, collation);
	ReleaseSysCache(tuple);
	call = expression_planner(call);
	call = (Expr *) read_slots((Node *) call, reducer);

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

/* The function that a reducer was compiled from. */
Oid
ie_reducer_function(const IeReducer *reducer)
{
	return reducer->function;
}

/* Has nothing changed in the catalogs since it was compiled? */
bool
ie_reducer_is_current(const IeReducer *reducer)
{
	return reducer->generation == generation;
}

/* Ask to be told when functions or types change. */
static void
watch_catalogs(void)
{
	static bool watching = false;

	if (watching)
		return;
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(PROCOID, catalog_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(TYPEOID, catalog_changed, (Datum) 0);
	watching = true;
}

/* A relation changed, perhaps one whose row type a reducer uses. */
static void
relation_changed(Datum arg pg_attribute_unused(),
				 Oid relid pg_attribute_unused())
{
	generation++;
}

/* A function or a type changed. */
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
	if (get_typtype(type) == TYPTYPE_COMPOSITE)
		row->columns = lookup_rowtype_tupdesc_copy(type, -1);
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

/* Begin with a copy of the initial state. */
void
ie_state_init(const IeReducer *reducer, IeState *state, Datum initial,
			  bool isnull, MemoryContext context)
{
	memset(state, 0, sizeof(*state));
	state->context = context;
	state->started = !isnull;
	store(reducer, state, initial, isnull);
}

/* A copy of the state, in the current context. */
Datum
ie_state_copy(const IeReducer *reducer, const IeState *state)
{
	if (state->isnull)
		return (Datum) 0;
	return datumCopy(state->value, reducer->state_byval, reducer->state_len);
}

/* Fold items into a state. */
void
ie_reduce(IeReducer *reducer, IeState *state, const NullableDatum *items)
{
	MemoryContext caller;
	int			i;

	if (reducer->strict && must_skip(reducer, state, items))
		return;
	ResetExprContext(reducer->econtext);
	caller = MemoryContextSwitchTo(reducer->econtext->ecxt_per_tuple_memory);
	pass_state(reducer, state);
	pass_item(reducer, items[0]);
	for (i = 1; i < reducer->nitems; i++)
	{
		reducer->params->params[i + 1].value = items[i].value;
		reducer->params->params[i + 1].isnull = items[i].isnull;
	}
	evaluate(reducer, state);
	MemoryContextSwitchTo(caller);
}

/* Fold the row of a log into a state, straight from its slot. */
void
ie_reduce_slot(IeReducer *reducer, IeState *state, TupleTableSlot *event)
{
	ParamExternData *param = &reducer->params->params[FIRST_ITEM_PARAM - 1];
	NullableDatum present = {.isnull = false};
	MemoryContext caller;

	if (reducer->strict && must_skip(reducer, state, &present))
		return;
	ResetExprContext(reducer->econtext);
	caller = MemoryContextSwitchTo(reducer->econtext->ecxt_per_tuple_memory);
	pass_state(reducer, state);
	reducer->econtext->ecxt_outertuple = event;
	param->isnull = false;
	if (reducer->item.whole)
	{
		slot_getallattrs(event);
		param->value =
			HeapTupleGetDatum(heap_form_tuple(reducer->item.columns,
											  event->tts_values,
											  event->tts_isnull));
	}
	evaluate(reducer, state);
	MemoryContextSwitchTo(caller);
}

/*
 * A strict reducer does not see NULLs, as in an aggregate: a NULL item is
 * passed over, a NULL state takes the first item as it is, and a state that
 * became NULL stays so.
 */
static bool
must_skip(IeReducer *reducer, IeState *state, const NullableDatum *items)
{
	int			i;

	for (i = 0; i < reducer->nitems; i++)
		if (items[i].isnull)
			return true;
	if (!state->started)
	{
		if (!reducer->first_item_starts)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("the initial state of strict reducer %s must not be NULL",
							format_procedure(reducer->function)),
					 errhint("Give an initial state, or declare the function CALLED ON NULL INPUT.")));
		state->started = true;
		store(reducer, state, items[0].value, false);
		return true;
	}
	return state->isnull;
}

/* Hand the state to the expression. */
static void
pass_state(IeReducer *reducer, const IeState *state)
{
	ParamExternData *param = &reducer->params->params[STATE_PARAM - 1];

	param->value = state->value;
	param->isnull = state->isnull;
	if (reducer->state.slot == NULL)
		return;
	if (state->isnull)
		ExecStoreAllNullTuple(reducer->state.slot);
	else
		fill_row(&reducer->state, DatumGetHeapTupleHeader(state->value));
}

/* Hand the first item to the expression, as the row type it declares. */
static void
pass_item(IeReducer *reducer, NullableDatum item)
{
	ParamExternData *param = &reducer->params->params[FIRST_ITEM_PARAM - 1];
	RowParam   *row = &reducer->item;
	HeapTupleHeader header;

	param->value = item.value;
	param->isnull = item.isnull;
	if (row->columns == NULL)
		return;
	reducer->econtext->ecxt_outertuple = row->slot;
	if (item.isnull)
	{
		if (row->slot != NULL)
			ExecStoreAllNullTuple(row->slot);
		return;
	}
	header = DatumGetHeapTupleHeader(item.value);
	if (reducer->convert_item)
	{
		HeapTuple	tuple = convert_item(reducer, header);

		header = tuple->t_data;
		if (row->whole)
			param->value = heap_copy_tuple_as_datum(tuple, row->columns);
	}
	if (row->slot != NULL)
		fill_row(row, header);
}

/* Put a row into its slot; the row stays where it is. */
static void
fill_row(RowParam *row, HeapTupleHeader header)
{
	row->tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	ItemPointerSetInvalid(&row->tuple.t_self);
	row->tuple.t_tableOid = InvalidOid;
	row->tuple.t_data = header;
	ExecStoreHeapTuple(&row->tuple, row->slot, false);
}

/* Match a row of another type to the declared one, column by name. */
static HeapTuple
convert_item(IeReducer *reducer, HeapTupleHeader header)
{
	Oid			type = HeapTupleHeaderGetTypeId(header);
	int32		typmod = HeapTupleHeaderGetTypMod(header);
	RowParam   *row = &reducer->item;

	if (type != reducer->item_type || typmod != reducer->item_typmod)
	{
		TupleDesc	from = lookup_rowtype_tupdesc_copy(type, typmod);
		MemoryContext caller =
		MemoryContextSwitchTo(GetMemoryChunkContext(reducer));

		reducer->item_map = convert_tuples_by_name(CreateTupleDescCopy(from),
												   row->columns);
		reducer->item_type = type;
		reducer->item_typmod = typmod;
		MemoryContextSwitchTo(caller);
	}
	row->tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	ItemPointerSetInvalid(&row->tuple.t_self);
	row->tuple.t_tableOid = InvalidOid;
	row->tuple.t_data = header;
	if (reducer->item_map == NULL)
		return &row->tuple;
	return execute_attr_map_tuple(&row->tuple, reducer->item_map);
}

/* Run the expression and keep what it returns. */
static void
evaluate(IeReducer *reducer, IeState *state)
{
	bool		isnull;
	Datum		value = ExecEvalExpr(reducer->expression, reducer->econtext,
									 &isnull);

	store(reducer, state, value, isnull);
}

/*
 * Keep a value as the state: in the state's one chunk, which is overwritten
 * in place and grows by doubling, so that memory stays flat over any number
 * of events.
 */
static void
store(const IeReducer *reducer, IeState *state, Datum value, bool isnull)
{
	char	   *from = DatumGetPointer(value);
	char	   *old = NULL;
	char	   *chunk;
	Size		size;

	state->isnull = isnull;
	if (isnull || reducer->state_byval)
	{
		state->value = value;
		return;
	}
	if (from == state->chunk)
		return;					/* the reducer returned the state unchanged */
	if (reducer->state_len == -1 && VARATT_IS_EXTERNAL_EXPANDED(from))
	{
		ExpandedObjectHeader *expanded = DatumGetEOHP(value);

		size = EOH_get_flat_size(expanded);
		chunk = reserve(state, size, &old);
		EOH_flatten_into(expanded, chunk, size);
	}
	else
	{
		if (reducer->state_len == -1 &&
			(VARATT_IS_EXTERNAL(from) || VARATT_IS_COMPRESSED(from)))
			from = (char *) detoast_attr((struct varlena *) from);
		size = datumGetSize(PointerGetDatum(from), false, reducer->state_len);
		chunk = reserve(state, size, &old);
		memmove(chunk, from, size);
	}
	if (old != NULL)
		pfree(old);				/* only now: the value may have pointed there */
	state->value = PointerGetDatum(chunk);
}

/* Make the chunk large enough; the one it replaces is left to the caller. */
static char *
reserve(IeState *state, Size size, char **old)
{
	if (size > state->capacity)
	{
		*old = state->chunk;
		state->capacity = state->chunk == NULL
			? size : Max(size, 2 * state->capacity);
		state->chunk = MemoryContextAllocHuge(state->context, state->capacity);
	}
	return state->chunk;
}
