/*
 * version_known.c: what is not known of the past raises an error.
 *
 * A table of a time before it was versioned would look empty. The functions
 * that look back ask this first, once a query: what they ask depends on no row.
 */
#include "version.h"

#include "utils/builtins.h"
#include "utils/lsyscache.h"

static IeVersioned find(Oid versions);
static void check_time(IeVersioned row, TimestampTz at_time);

PG_FUNCTION_INFO_V1(ie_known_at);
PG_FUNCTION_INFO_V1(ie_known_between);

/* Is it known how rows were at a time? */
Datum
ie_known_at(PG_FUNCTION_ARGS)
{
	ie_require_arg(fcinfo, 0, "versions");
	ie_require_arg(fcinfo, 1, "at_time");
	check_time(find(PG_GETARG_OID(0)), PG_GETARG_TIMESTAMPTZ(1));
	PG_RETURN_BOOL(true);
}

/* Is it known how they were in a period? */
Datum
ie_known_between(PG_FUNCTION_ARGS)
{
	IeVersioned row;

	ie_require_arg(fcinfo, 0, "versions");
	ie_require_arg(fcinfo, 1, "from_time");
	ie_require_arg(fcinfo, 2, "to_time");
	row = find(PG_GETARG_OID(0));
	check_time(row, TIMESTAMP_IS_NOBEGIN(PG_GETARG_TIMESTAMPTZ(1))
			   ? row.known : PG_GETARG_TIMESTAMPTZ(1));
	PG_RETURN_BOOL(true);
}

/* What the registry says of a version table. */
static IeVersioned
find(Oid versions)
{
	IeVersioned row;

	if (!ie_find_versioned(versions, &row))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not the version table of a versioned table",
						get_rel_name(versions) == NULL ? "-" : get_rel_name(versions)),
				 errhint("immutable.versioned_tables shows those there are.")));
	return row;
}

/* Refuse a time before the first that is known. */
static void
check_time(IeVersioned row, TimestampTz at_time)
{
	if (at_time < row.known)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("rows of table \"%s\" are not known as of %s",
						get_rel_name(row.relid), timestamptz_to_str(at_time)),
				 errdetail("Its history begins at %s.", timestamptz_to_str(row.known)),
				 errhint("Ask for that time or a later one.")));
	if (!row.complete)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("rows of table \"%s\" are not all known yet",
						get_rel_name(row.relid)),
				 errdetail("Rows that were there before it was versioned have not been recorded."),
				 errhint("CALL immutable.backfill_versions.")));
}
