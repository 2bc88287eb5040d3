/*
 * projection_status.c: how a projection stands.
 *
 * Whoever reads a read model may wait for it; whoever owns it may pass over an
 * event that its reducer cannot fold.
 */
#include "projection.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "consumer.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#define NAP	10				/* milliseconds between two looks */

/* What the registries say of a projection at this moment. */
typedef struct Standing
{
	bool		found;
	bool		is_inline;
	int64		position;
	char	   *error;			/* NULL: it is not halted */
	int64		error_position;
} Standing;

static Standing read_standing(Oid target);
static void receive_standing(void *state);
static void check_may_read(Oid target);
static void check_skip(const IeProjection *projection, int64 position);
static bool is_in_log(const IeProjection *projection, int64 position);

PG_FUNCTION_INFO_V1(ie_wait_for);
PG_FUNCTION_INFO_V1(ie_projection_has_reached);
PG_FUNCTION_INFO_V1(ie_skip_event);

/* Wait until a read model shows the events up to a position. */
Datum
ie_wait_for(PG_FUNCTION_ARGS)
{
	TimestampTz deadline;
	Oid			target;
	int64		upto;

	ie_require_arg(fcinfo, 0, "target");
	ie_require_arg(fcinfo, 1, "upto_position");
	ie_require_arg(fcinfo, 2, "timeout");
	ie_check_interval(PG_GETARG_INTERVAL_P(2), "timeout", false);
	target = PG_GETARG_OID(0);
	upto = PG_GETARG_INT64(1);
	check_may_read(target);
	deadline = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
													   TimestampTzGetDatum(GetCurrentTimestamp()),
													   PG_GETARG_DATUM(2)));
	for (;;)
	{
		Standing	standing = read_standing(target);
		TimestampTz now = GetCurrentTimestamp();

		if (standing.is_inline || standing.position >= upto)
			PG_RETURN_BOOL(true);
		/* a snapshot that stays shows nothing new */
		if (now >= deadline || IsolationUsesXactSnapshot())
			PG_RETURN_BOOL(false);
		ie_nap(Min(NAP, 1 + TimestampDifferenceMilliseconds(now, deadline)));
	}
}

/* Has a projection come to a position? An error when it never will. */
Datum
ie_projection_has_reached(PG_FUNCTION_ARGS)
{
	Standing	standing = read_standing(PG_GETARG_OID(0));

	if (standing.is_inline || standing.position >= PG_GETARG_INT64(1))
		PG_RETURN_BOOL(true);
	if (standing.error != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("projection \"%s\" is halted", get_rel_name(PG_GETARG_OID(0))),
				 standing.error_position == 0
				 ? errdetail("It cannot run: %s.", standing.error)
				 : errdetail("The event at position " INT64_FORMAT " fails: %s.",
							 standing.error_position, standing.error),
				 standing.error_position == 0
				 ? errhint("Mend that, and refresh it.")
				 : errhint("Replace the reducer, or pass over the event by immutable.skip_event.")));
	PG_RETURN_BOOL(false);
}

/* Read the registries, with a snapshot of this moment where there is one. */
static Standing
read_standing(Oid target)
{
	Oid			types[] = {REGCLASSOID};
	Datum		values[] = {ObjectIdGetDatum(target)};
	Standing	standing = {0};

	ie_registry_query("SELECT p.mode OPERATOR(pg_catalog.=) 'inline', s.position,"
					  " s.error, s.error_position FROM immutable.projections p"
					  " JOIN immutable.projection_positions s"
					  " ON s.target::pg_catalog.oid OPERATOR(pg_catalog.=) p.target::pg_catalog.oid"
					  " WHERE p.target OPERATOR(pg_catalog.=) $1::pg_catalog.oid",
					  1, types, values, NULL, receive_standing, &standing);
	if (!standing.found)
		(void) ie_known_projection(target); /* raises the error */
	return standing;
}

/* Take the row. */
static void
receive_standing(void *state)
{
	Standing   *standing = state;
	HeapTuple	row;
	TupleDesc	columns;
	bool		isnull;
	char	   *error;

	if (SPI_processed == 0)
		return;
	row = SPI_tuptable->vals[0];
	columns = SPI_tuptable->tupdesc;
	standing->found = true;
	standing->is_inline = DatumGetBool(SPI_getbinval(row, columns, 1, &isnull));
	standing->position = DatumGetInt64(SPI_getbinval(row, columns, 2, &isnull));
	error = SPI_getvalue(row, columns, 3);
	if (error != NULL)
		standing->error = strcpy(SPI_palloc(strlen(error) + 1), error);
	standing->error_position = DatumGetInt64(SPI_getbinval(row, columns, 4, &isnull));
}

/* Who may read the read model may wait for it. */
static void
check_may_read(Oid target)
{
	AclResult	acl;

	relation_close(ie_open_relation(target, AccessShareLock), NoLock);
	acl = pg_class_aclcheck(target, GetUserId(), ACL_SELECT);
	if (acl != ACLCHECK_OK)
		acl = pg_attribute_aclcheck_all(target, GetUserId(), ACL_SELECT, ACLMASK_ANY);
	if (acl != ACLCHECK_OK)
		aclcheck_error(acl, OBJECT_TABLE, get_rel_name(target));
}

/* Pass over an event on purpose, and keep a record of it. */
Datum
ie_skip_event(PG_FUNCTION_ARGS)
{
	Oid			types[] = {REGCLASSOID, INT8OID, TEXTOID, NAMEOID, NAMEOID};
	Datum		values[5];
	IeProjection *projection;

	PreventCommandDuringRecovery("immutable.skip_event()");
	PreventCommandIfReadOnly("immutable.skip_event()");
	ie_require_arg(fcinfo, 0, "target");
	ie_require_arg(fcinfo, 1, "at_position");
	ie_require_arg(fcinfo, 2, "reason");
	if (VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(2)) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("reason must not be empty")));
	projection = ie_known_projection(PG_GETARG_OID(0));
	ie_check_projection_right(projection);
	(void) ie_hold_projection(projection->target, true);
	check_skip(projection, PG_GETARG_INT64(1));
	values[0] = PG_GETARG_DATUM(0);
	values[1] = PG_GETARG_DATUM(1);
	values[2] = PG_GETARG_DATUM(2);
	values[3] = DirectFunctionCall1(namein, CStringGetDatum(GetUserNameFromId(GetUserId(), false)));
	values[4] = DirectFunctionCall1(namein, CStringGetDatum(GetUserNameFromId(GetSessionUserId(), false)));
	ie_registry_query("INSERT INTO immutable.skipped_events"
					  " (target, position, reason, role, session_role)"
					  " VALUES ($1, $2, $3, $4, $5)",
					  5, types, values, NULL, NULL, NULL);
	PG_RETURN_VOID();
}

/* Only an event that is still to be folded can be passed over. */
static void
check_skip(const IeProjection *projection, int64 position)
{
	Standing	standing = read_standing(projection->target);

	if (standing.is_inline)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("projection \"%s\" is inline", projection->name),
				 errdetail("An event that it cannot fold is not appended."),
				 errhint("Correct the reducer, or the events.")));
	if (position <= standing.position)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("projection \"%s\" has passed position " INT64_FORMAT,
						projection->name, position),
				 errdetail("It is at position " INT64_FORMAT ".", standing.position),
				 errhint("Correct the reducer, and CALL immutable.rebuild to fold that event otherwise.")));
	if (!is_in_log(projection, position))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no event at position " INT64_FORMAT, position),
				 errhint("immutable.projection_status shows the position of the event that failed.")));
}

/* Is there an event at this position, for the projection to see? */
static bool
is_in_log(const IeProjection *projection, int64 position)
{
	Relation	log = ie_open_relation(projection->log, AccessShareLock);
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(position)};
	IeCaller	caller;
	bool		found;

	ie_projection_enter(projection, &caller);
	SPI_connect();
	SPI_execute_with_args(psprintf("SELECT 1 FROM %s WHERE position OPERATOR(pg_catalog.=) $1",
								   ie_qualified_name(log)),
						  1, types, values, NULL, false, 1);
	found = SPI_processed > 0;
	SPI_finish();
	ie_projection_leave(&caller);
	relation_close(log, NoLock);
	return found;
}
