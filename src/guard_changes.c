/*
 * guard_changes.c: the audit trail of the guards.
 *
 * The table immutable.guard_changes belongs to the extension; whoever changes
 * a guard has been checked already, and only the write of the audit row runs
 * as the extension's owner.
 */
#include "guard.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"

/* Record that somebody did something to a relation's guards. */
void
ie_record_change(Relation rel, const char *action)
{
	Oid			types[] = {TEXTOID, TEXTOID, NAMEOID, NAMEOID};
	Datum		values[4];

	values[0] = CStringGetTextDatum(ie_qualified_name(rel));
	values[1] = CStringGetTextDatum(action);
	values[2] = DirectFunctionCall1(namein, CStringGetDatum(GetUserNameFromId(GetUserId(), false)));
	values[3] = DirectFunctionCall1(namein, CStringGetDatum(GetUserNameFromId(GetSessionUserId(), false)));
	if (ie_registry_query("INSERT INTO immutable.guard_changes"
						  " (relation, action, role, session_role)"
						  " VALUES ($1, $2, $3, $4)",
						  4, types, values, NULL, NULL, NULL) != 1)
		elog(ERROR, "unexpected: no audit row was written");
	ereport(LOG,
			(errmsg("%s of \"%s\" by role \"%s\"", action,
					ie_qualified_name(rel), GetUserNameFromId(GetUserId(), false))));
}
