/*
 * guard_changes.c: the audit trail of the guards.
 *
 * The table immutable.guard_changes belongs to the extension; whoever changes
 * a guard has been checked already, and only the write of the audit row runs
 * as the extension's owner.
 */
#include "immutable_events.h"

#include "access/htup_details.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

/* Record that somebody did something to a relation's guards. */
void
ie_record_change(Relation rel, const char *action)
{
	Oid			types[] = {TEXTOID, TEXTOID, NAMEOID, NAMEOID};
	Datum		values[4];
	Oid			user;
	int			security;
	int			settings;
	int			result;

	GetUserIdAndSecContext(&user, &security);
	values[0] = CStringGetTextDatum(ie_qualified_name(rel));
	values[1] = CStringGetTextDatum(action);
	values[2] = DirectFunctionCall1(namein, CStringGetDatum(GetUserNameFromId(user, false)));
	values[3] = DirectFunctionCall1(namein, CStringGetDatum(GetUserNameFromId(GetSessionUserId(), false)));

	SPI_connect();
	SetUserIdAndSecContext(ie_extension_owner(),
						   security | SECURITY_LOCAL_USERID_CHANGE);
	settings = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
	result = SPI_execute_with_args("INSERT INTO immutable.guard_changes"
								   " (relation, action, role, session_role)"
								   " VALUES ($1, $2, $3, $4)",
								   4, types, values, NULL, false, 0);
	AtEOXact_GUC(false, settings);
	SetUserIdAndSecContext(user, security);
	if (result != SPI_OK_INSERT || SPI_processed != 1)
		elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(result));
	SPI_finish();
	ereport(LOG,
			(errmsg("%s of \"%s\" by role \"%s\"", action,
					ie_qualified_name(rel), GetUserNameFromId(user, false))));
}

/* Who owns the guard function, and so the extension. */
Oid
ie_extension_owner(void)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID,
										ObjectIdGetDatum(ie_guard_function()));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function immutable._guard");
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	return owner;
}
