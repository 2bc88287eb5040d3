/*
 * args.c: arguments that every public function checks in the same way.
 */
#include "immutable_events.h"

/* Refuse a NULL where the function needs a value. */
void
ie_require_arg(FunctionCallInfo fcinfo, int argno, const char *name)
{
	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be NULL", name)));
}
