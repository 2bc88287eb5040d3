/*
 * projection_reducer.c: the name under which the registry has a reducer.
 */
#include "projection.h"

#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/varlena.h"

/*
 * What the registry calls a reducer: its name, if its arguments are a row of
 * the read model and an event; these may be renamed. Else all of it.
 */
char *
ie_reducer_text(Oid target, Oid function)
{
	return ie_takes_row_and_event(function, target)
		? ie_reducer_name(function) : format_procedure_qualified(function);
}

/* The function that the registry means. */
Oid
ie_find_reducer(const IeProjection *projection, bool missing_ok)
{
	Oid			types[] = {get_rel_type_id(projection->target), ie_event_type()};
	const char *name = projection->reducer_name;
	LOCAL_FCINFO(fcinfo, 1);
	FmgrInfo	flinfo;
	Oid			found;

	if (name[strlen(name) - 1] != ')')
		return LookupFuncName(textToQualifiedNameList(cstring_to_text(name)),
							  lengthof(types), types, missing_ok);
	if (!missing_ok)
		return DatumGetObjectId(DirectFunctionCall1(regprocedurein, CStringGetDatum(name)));
	fmgr_info(F_TO_REGPROCEDURE, &flinfo);
	InitFunctionCallInfoData(*fcinfo, &flinfo, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0] = (NullableDatum) {CStringGetTextDatum(name), false};
	found = DatumGetObjectId(FunctionCallInvoke(fcinfo));
	return fcinfo->isnull ? InvalidOid : found;
}
