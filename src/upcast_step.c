/*
 * upcast_step.c: one upcaster, found, compiled, run and held to its rules.
 *
 * An upcaster f(immutable.event) RETURNS immutable.event raises schema_version
 * by exactly one, so that no chain of them can go in a circle. It may change
 * type, data and metadata, never where the event stands. Its call is planned
 * once, which inlines a SQL function's body.
 */
#include "upcast.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

/* What every signature in the registry ends with. */
#define ARGUMENTS	"(immutable.event)"

static void check_allowed(Oid function);
pg_noreturn static void refuse_function(Oid function, const char *detail,
										const char *hint);
static void compile(IeUpcasts *upcasts, IeUpcastStep *step);
static bool is_object(Datum value);
pg_noreturn static void refuse_result(const IeUpcaster *upcaster,
									  const char *detail);

/*
 * The function of an upcaster, by the name it had when it was added. Schemas
 * are not asked for USAGE: nobody has written the name.
 */
Oid
ie_find_upcaster(const IeUpcaster *upcaster, bool missing_ok)
{
	int			length = strlen(upcaster->signature) - strlen(ARGUMENTS);
	Oid			function = InvalidOid;
	Oid			event = ie_event_type();
	List	   *names;

	if (length > 0 &&
		strcmp(upcaster->signature + length, ARGUMENTS) == 0 &&
		SplitIdentifierString(pnstrdup(upcaster->signature, length), '.',
							  &names) &&
		list_length(names) == 2)
	{
		Oid			schema = get_namespace_oid(linitial(names), true);

		function = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
								   CStringGetDatum(lsecond(names)),
								   PointerGetDatum(buildoidvector(&event, 1)),
								   ObjectIdGetDatum(schema));
	}
	if (!OidIsValid(function) && !missing_ok)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("upcaster %s does not exist", upcaster->signature),
				 errdetail("It takes events of type \"%s\" from schema_version %d to %d.",
						   text_to_cstring(upcaster->type),
						   upcaster->schema_version,
						   upcaster->schema_version + 1),
				 errhint("Put the function back under this name, or drop the upcaster and add the function under its new one.")));
	return function;
}

/* Refuse what cannot be an upcaster, or not the caller's. */
void
ie_check_upcaster(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc proc;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", function)));
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	if (proc->prokind != PROKIND_FUNCTION || proc->proretset)
		refuse_function(function,
						"An upcaster is a plain function that returns one value.",
						NULL);
	check_allowed(function);
	if (proc->pronargs != 1 || proc->proargtypes.values[0] != ie_event_type() ||
		proc->prorettype != ie_event_type())
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("function %s cannot be an upcaster",
						format_procedure(function)),
				 errdetail("This one returns %s.", format_type_be(proc->prorettype)),
				 errhint("Declare it as f(immutable.event) RETURNS immutable.event.")));
	if (proc->provolatile == PROVOLATILE_VOLATILE)
		refuse_function(function,
						"It is VOLATILE: the same event could look otherwise each time.",
						"Declare it IMMUTABLE, or STABLE if it calls STABLE functions such as jsonb_build_object or format.");
	if (isAnyTempNamespace(proc->pronamespace))
		refuse_function(function, "It goes when the session ends.", NULL);
	ReleaseSysCache(tuple);
}

/* Refuse a function that the caller may not execute. */
static void
check_allowed(Oid function)
{
	AclResult	acl = ie_function_aclcheck(function, GetUserId());

	if (acl != ACLCHECK_OK)
		aclcheck_error(acl, OBJECT_FUNCTION, get_func_name(function));
}

/* Raise the error for a function that is no upcaster. */
static void
refuse_function(Oid function, const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("function %s cannot be an upcaster",
					format_procedure(function)),
			 errdetail_internal("%s", detail),
			 hint == NULL ? 0 : errhint("%s", hint)));
}

/*
 * Run an upcaster on an event, a value of immutable.event; answers what it
 * returns, whole and taken apart. All of it is in the current context.
 */
Datum
ie_run_upcaster(IeUpcasts *upcasts, IeUpcastStep *step, Datum event,
				IeEventRow *result)
{
	HeapTupleData tuple = {0};
	bool		isnull;
	Datum		value;

	if (step->expression == NULL)
		compile(upcasts, step);
	else if (!step->allowed)
		check_allowed(step->function);
	step->allowed = true;

	upcasts->params->params[0].value = event;
	value = ExecEvalExpr(step->expression, upcasts->econtext, &isnull);
	if (isnull)
		refuse_result(&step->upcaster, "It returned NULL.");

	tuple.t_data = DatumGetHeapTupleHeader(value);
	tuple.t_len = HeapTupleHeaderGetDatumLength(tuple.t_data);
	heap_deform_tuple(&tuple, upcasts->columns, result->values, result->isnull);
	return PointerGetDatum(tuple.t_data);
}

/* Plan the call of an upcaster, so that a SQL function is inlined. */
static void
compile(IeUpcasts *upcasts, IeUpcastStep *step)
{
	Param	   *param = makeNode(Param);
	MemoryContext caller;
	Expr	   *call;

	step->function = ie_find_upcaster(&step->upcaster, false);
	ie_check_upcaster(step->function);
	param->paramkind = PARAM_EXTERN;
	param->paramid = 1;
	param->paramtype = upcasts->columns->tdtypeid;
	param->paramtypmod = -1;
	param->location = -1;
	call = (Expr *) makeFuncExpr(step->function, upcasts->columns->tdtypeid,
								 list_make1(param), InvalidOid, InvalidOid,
								 COERCE_EXPLICIT_CALL);
	call = expression_planner(call);
	caller = MemoryContextSwitchTo(upcasts->context);
	step->expression = ExecInitExprWithParams(copyObject(call),
											  upcasts->params);
	MemoryContextSwitchTo(caller);
}

/* Refuse a result that moves the event, or does not raise schema_version. */
void
ie_check_place(const IeUpcaster *upcaster, TupleDesc columns,
			   const IeEventRow *before, const IeEventRow *after)
{
	static const IeColumn fixed[] = {IE_POSITION, IE_RECORDED_AT, IE_VERSION,
	IE_ID, IE_STREAM};
	int32		version = DatumGetInt32(after->values[IE_SCHEMA_VERSION - 1]);
	Size		i;

	if (after->isnull[IE_SCHEMA_VERSION - 1])
		refuse_result(upcaster, "It returned an event whose schema_version is NULL.");
	if (version != upcaster->schema_version + 1)
		refuse_result(upcaster,
					  psprintf(version <= upcaster->schema_version
							   ? "It took schema_version %d to %d, not to %d: a chain of upcasters could go in a circle."
							   : "It took schema_version %d to %d, not to %d: the upcasters in between would be passed over.",
							   upcaster->schema_version, version,
							   upcaster->schema_version + 1));
	for (i = 0; i < lengthof(fixed); i++)
	{
		int			column = fixed[i] - 1;
		Form_pg_attribute attribute = TupleDescAttr(columns, column);

		if (before->isnull[column] != after->isnull[column] ||
			(!before->isnull[column] &&
			 !datum_image_eq(before->values[column], after->values[column],
							 attribute->attbyval, attribute->attlen)))
			refuse_result(upcaster, psprintf("It changed %s.",
											 NameStr(attribute->attname)));
	}
}

/* Refuse a result that could not be an event of a log. */
void
ie_check_content(const IeUpcaster *upcaster, const IeEventRow *before,
				 const IeEventRow *after)
{
	static const IeColumn documents[] = {IE_DATA, IE_METADATA};
	static const char *const names[] = {"data", "metadata"};
	text	   *type;
	Size		i;

	if (after->isnull[IE_TYPE - 1])
		refuse_result(upcaster, "It returned an event whose type is NULL.");
	type = DatumGetTextPP(after->values[IE_TYPE - 1]);
	if (VARSIZE_ANY_EXHDR(type) == 0 || *VARDATA_ANY(type) == '$')
		refuse_result(upcaster, psprintf("It returned an event of type \"%s\".",
										 text_to_cstring(type)));
	for (i = 0; i < lengthof(documents); i++)
	{
		int			column = documents[i] - 1;

		/* an event that was not taken from a log may have had none */
		if (after->isnull[column] ? !before->isnull[column]
			: !is_object(after->values[column]))
			refuse_result(upcaster,
						  psprintf("It returned an event whose %s is %s.",
								   names[i], after->isnull[column]
								   ? "NULL" : "no JSON object"));
	}
}

/* Is a jsonb value an object? Its first bytes tell. */
static bool
is_object(Datum value)
{
	Jsonb	   *head = (Jsonb *) PG_DETOAST_DATUM_SLICE(value, 0, sizeof(uint32));

	return JB_ROOT_IS_OBJECT(head);
}

/* Raise the error for what an upcaster may not return. */
static void
refuse_result(const IeUpcaster *upcaster, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("upcaster %s does not keep the rules",
					upcaster->signature),
			 errdetail_internal("%s", detail),
			 errhint("It must raise schema_version by one, and may change type, data and metadata.")));
}
