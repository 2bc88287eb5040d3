/*
 * projection.c: make a projection, change its mode, give it up.
 *
 * A projection belongs to the role that made it, and to its members; it is
 * run with that role's rights. The right is checked here, before any registry
 * is written.
 */
#include "guard.h"
#include "projection.h"

#include "access/relation.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "compat.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/varlena.h"

/* The arguments of create_projection. */
enum
{
	ARG_TARGET,
	ARG_LOG,
	ARG_REDUCER,
	ARG_KEY,
	ARG_TYPES,
	ARG_PREFIX,
	ARG_MODE,
	ARG_COMMUTATIVE
};

static void check_writable(const char *function);
static bool is_left_alone(Oid target);
static bool read_mode(FunctionCallInfo fcinfo, int argno);
static void check_target(Oid target);
static bool has_rows(Relation rel);
static void check_log(Oid log, bool is_inline);
static void check_key(const IeProjection *projection);
static void register_projection(FunctionCallInfo fcinfo);
static char *search_path(void);
static void run(const char *query, Oid target);
static void become_inline(IeProjection *projection);
static void become_asynchronous(IeProjection *projection);
static void set_mode(Oid target, const char *mode);
static int64 last_position(Oid log);

PG_FUNCTION_INFO_V1(ie_create_projection);
PG_FUNCTION_INFO_V1(ie_drop_projection);
PG_FUNCTION_INFO_V1(ie_set_projection_mode);

/* Make a table the read model of a projection. */
Datum
ie_create_projection(PG_FUNCTION_ARGS)
{
	Oid			target;
	bool		is_inline;
	IeProjection *projection;

	check_writable("immutable.create_projection()");
	ie_require_arg(fcinfo, ARG_TARGET, "target");
	ie_require_arg(fcinfo, ARG_LOG, "log");
	ie_require_arg(fcinfo, ARG_REDUCER, "reducer");
	ie_require_arg(fcinfo, ARG_KEY, "key");
	ie_require_arg(fcinfo, ARG_COMMUTATIVE, "commutative");
	is_inline = read_mode(fcinfo, ARG_MODE);
	PreventCommandDuringRecovery("immutable.create_projection()");
	target = PG_GETARG_OID(ARG_TARGET);
	check_log(PG_GETARG_OID(ARG_LOG), is_inline);
	check_target(target);
	register_projection(fcinfo);
	projection = ie_projection(target);
	if (is_inline)
		check_key(projection);
	ie_record_fingerprint(projection);
	ie_guard_read_model(target);
	if (is_inline)
		become_inline(ie_projection(target));
	PG_RETURN_VOID();
}

/* Make a read model an ordinary table again. */
Datum
ie_drop_projection(PG_FUNCTION_ARGS)
{
	IeProjection *projection;
	Oid			target;
	Oid			log;

	check_writable("immutable.drop_projection()");
	ie_require_arg(fcinfo, 0, "target");
	PreventCommandDuringRecovery("immutable.drop_projection()");
	target = PG_GETARG_OID(0);
	if (is_left_alone(target))
	{
		ie_release_read_model(target);
		PG_RETURN_VOID();
	}
	projection = ie_known_projection(target);
	ie_check_projection_right(projection);
	log = projection->log;
	ie_hold_projection(target, true);	/* first: refresh locks it later */
	LockRelationOid(log, ShareRowExclusiveLock);
	LockRelationOid(target, AccessExclusiveLock);
	ie_release_read_model(target);
	run("DELETE FROM immutable.projections WHERE target OPERATOR(pg_catalog.=) $1::pg_catalog.oid", target);
	run("DELETE FROM immutable.projection_positions WHERE target OPERATOR(pg_catalog.=) $1::pg_catalog.oid", target);
	CommandCounterIncrement();
	ie_drop_shadows(target);
	if (ie_inline_projections(log) == NIL)
		ie_detach_from_log(log);
	PG_RETURN_VOID();
}

/* A standby, or a transaction that may not write, cannot change projections. */
static void
check_writable(const char *function)
{
	PreventCommandDuringRecovery(function);
	PreventCommandIfReadOnly(function);
}

/* Is it a read model that was restored without the registry? */
static bool
is_left_alone(Oid target)
{
	Oid			types[] = {REGCLASSOID};
	Datum		values[] = {ObjectIdGetDatum(target)};

	if (!ie_is_read_model(target) ||
		ie_registry_query("SELECT 1 FROM immutable.projections p"
						  " WHERE p.target OPERATOR(pg_catalog.=) $1::pg_catalog.oid",
						  1, types, values, NULL, NULL, NULL) > 0)
		return false;
	relation_close(ie_open_own_relation(target, AccessExclusiveLock), NoLock);
	return true;
}

/* Let a projection run in the transactions of appenders, or beside them. */
Datum
ie_set_projection_mode(PG_FUNCTION_ARGS)
{
	IeProjection *projection;
	bool		is_inline;
	Oid			target;

	check_writable("immutable.set_projection_mode()");
	ie_require_arg(fcinfo, 0, "target");
	target = PG_GETARG_OID(0);
	is_inline = read_mode(fcinfo, 1);
	PreventCommandDuringRecovery("immutable.set_projection_mode()");
	ie_check_projection_right(ie_projection(target));
	ie_check_idle(ie_projection(target));
	ie_hold_projection(target, true);
	/* nobody is appending from here on, and nobody has appended unseen */
	LockRelationOid(ie_projection(target)->log, ShareRowExclusiveLock);
	projection = ie_projection(target);
	if (projection->is_inline == is_inline)
	{
		if (is_inline)
			ie_attach_to_log(projection->log);	/* it may be missing */
	}
	else if (is_inline)
	{
		check_log(projection->log, true);
		check_key(projection);
		become_inline(projection);
	}
	else
		become_asynchronous(projection);
	PG_RETURN_VOID();
}

/* Only the owner of a projection and its members may work with it. */
void
ie_check_projection_right(const IeProjection *projection)
{
	if (!has_privs_of_role(GetUserId(), projection->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for projection \"%s\"",
						projection->name),
				 errhint("SET ROLE to the role that made the projection, or to one that is a member of it.")));
}

/* inline or async? */
static bool
read_mode(FunctionCallInfo fcinfo, int argno)
{
	char	   *mode;

	ie_require_arg(fcinfo, argno, "mode");
	mode = text_to_cstring(PG_GETARG_TEXT_PP(argno));
	if (strcmp(mode, "inline") == 0)
		return true;
	if (strcmp(mode, "async") == 0)
		return false;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("mode \"%s\" has no meaning", mode),
			 errhint("Pass 'inline' or 'async'.")));
}

/* An empty table of the caller's that nothing else feeds. */
static void
check_target(Oid target)
{
	Relation	rel = ie_open_own_relation(target, ShareRowExclusiveLock);

	if ((rel->rd_rel->relkind != RELKIND_RELATION &&
		 rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE) ||
		rel->rd_rel->relispartition || has_superclass(target) ||
		(rel->rd_rel->relkind == RELKIND_RELATION && has_subclass(target)) ||
		rel->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT ||
		rel->rd_rel->relforcerowsecurity ||
		rel->rd_rules != NULL || ie_is_protected(target) ||
		IsSystemRelation(rel) || ie_is_member(RelationRelationId, target))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" cannot be a read model", RelationGetRelationName(rel)),
				 errdetail("A read model is a permanent table, not immutable, not a partition, without inheritance, rules and FORCE ROW LEVEL SECURITY."),
				 errhint("Make an empty table for it.")));
	if (ie_is_read_model(target))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("\"%s\" is the read model of a projection already",
						RelationGetRelationName(rel)),
				 errhint("Call immutable.drop_projection first, or make another table.")));
	if (has_rows(rel))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has rows", RelationGetRelationName(rel)),
				 errdetail("The rows of a read model come from events."),
				 errhint("TRUNCATE it first.")));
	relation_close(rel, NoLock);
}

/* Has a table any row? */
static bool
has_rows(Relation rel)
{
	bool		found;

	CommandCounterIncrement();
	PushActiveSnapshot(GetLatestSnapshot());
	SPI_connect();
	SPI_execute(psprintf("SELECT 1 FROM %s LIMIT 1", ie_qualified_name(rel)),
				true, 1);
	found = SPI_processed > 0;
	SPI_finish();
	PopActiveSnapshot();
	return found;
}

/* A log that the caller may read, and make a trigger on; then it is locked. */
static void
check_log(Oid log, bool is_inline)
{
	IeTarget	target = ie_open_whole_log(log, AccessShareLock);
	AclResult	acl = ACLCHECK_OK;

	ie_check_access(target.log, ACL_SELECT);
	if (is_inline)
		acl = pg_class_aclcheck(log, GetUserId(), ACL_TRIGGER);
	if (acl != ACLCHECK_OK)
		aclcheck_error(acl, OBJECT_TABLE, RelationGetRelationName(target.log));
	ie_close_log(&target);
	if (is_inline)
		LockRelationOid(log, ShareRowExclusiveLock);
}

/* Across streams, transactions reach a row in any order. */
static void
check_key(const IeProjection *projection)
{
	if (!projection->by_stream && !projection->commutative)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the key of inline projection \"%s\" does not hold the stream",
						projection->name),
				 errdetail("Transactions that append to different streams would reach a row in another order than that of positions."),
				 errhint("Use mode => 'async', or commutative => true if the order does not matter.")));
}

/* Write the registry. */
static void
register_projection(FunctionCallInfo fcinfo)
{
	Oid			types[] = {REGCLASSOID, REGCLASSOID, TEXTOID, TEXTARRAYOID,
	TEXTARRAYOID, TEXTOID, TEXTOID, BOOLOID, TEXTOID};
	Datum		values[9];
	char		nulls[] = "         ";

	values[0] = PG_GETARG_DATUM(ARG_TARGET);
	values[1] = PG_GETARG_DATUM(ARG_LOG);
	values[2] = CStringGetTextDatum(ie_reducer_text(PG_GETARG_OID(ARG_TARGET),
													PG_GETARG_OID(ARG_REDUCER)));
	values[3] = PG_GETARG_DATUM(ARG_KEY);
	values[4] = PG_GETARG_DATUM(ARG_TYPES);
	values[5] = PG_GETARG_DATUM(ARG_PREFIX);
	values[6] = CStringGetTextDatum("async");
	values[7] = PG_GETARG_DATUM(ARG_COMMUTATIVE);
	values[8] = CStringGetTextDatum(search_path());
	nulls[4] = PG_ARGISNULL(ARG_TYPES) ? 'n' : ' ';
	nulls[5] = PG_ARGISNULL(ARG_PREFIX) ? 'n' : ' ';
	ie_registry_query("INSERT INTO immutable.projections"
					  " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
					  9, types, values, nulls, NULL, NULL);
	ie_registry_query("INSERT INTO immutable.projection_positions VALUES ($1, $2, 0)",
					  2, types, values, NULL, NULL, NULL);
}

/*
 * The search_path to run with: the caller's, but temporary objects, which each
 * who appends may have others of, come last.
 */
static char *
search_path(void)
{
	List	   *schemas = NIL;
	ListCell   *cell;
	StringInfoData path;

	initStringInfo(&path);
	if (SplitIdentifierString(pstrdup(namespace_search_path), ',', &schemas))
		foreach(cell, schemas)
			if (strcmp(lfirst(cell), "pg_temp") != 0)
				appendStringInfo(&path, "%s, ", quote_identifier(lfirst(cell)));
	appendStringInfoString(&path, "pg_temp");
	return path.data;
}

/* Run a registry query about a projection. */
static void
run(const char *query, Oid target)
{
	Oid			types[] = {REGCLASSOID};
	Datum		values[] = {ObjectIdGetDatum(target)};

	ie_registry_query(query, 1, types, values, NULL, NULL, NULL);
}

/* Fold what the log holds, then whatever is appended; the log is locked. */
static void
become_inline(IeProjection *projection)
{
	Oid			target = projection->target;
	Oid			log = projection->log;

	ie_project_rest(projection);
	set_mode(target, "inline");
	ie_attach_to_log(log);
}

/* What was appended is folded; go on from there. The log is locked. */
static void
become_asynchronous(IeProjection *projection)
{
	Oid			types[] = {REGCLASSOID, INT8OID};
	Oid			log = projection->log;
	Datum		values[] = {ObjectIdGetDatum(projection->target),
	Int64GetDatum(last_position(log))};

	ie_registry_query("UPDATE immutable.projection_positions SET position = $2"
					  " WHERE target OPERATOR(pg_catalog.=) $1::pg_catalog.oid",
					  2, types, values, NULL, NULL, NULL);
	set_mode(projection->target, "async");
	if (ie_inline_projections(log) == NIL)
		ie_detach_from_log(log);
}

/* Record the mode. */
static void
set_mode(Oid target, const char *mode)
{
	Oid			types[] = {REGCLASSOID, TEXTOID};
	Datum		values[] = {ObjectIdGetDatum(target), CStringGetTextDatum(mode)};

	ie_registry_query("UPDATE immutable.projections SET mode = $2"
					  " WHERE target OPERATOR(pg_catalog.=) $1::pg_catalog.oid",
					  2, types, values, NULL, NULL, NULL);
	run("UPDATE immutable.projection_positions SET error = NULL, error_sqlstate = NULL,"
		" error_position = NULL, error_event = NULL, failed_at = NULL"
		" WHERE target OPERATOR(pg_catalog.=) $1::pg_catalog.oid", target);
	CommandCounterIncrement();
}

/* The last position that was drawn from a log's sequence. */
static int64
last_position(Oid log)
{
	return ie_last_position(ie_position_sequence(log));
}
