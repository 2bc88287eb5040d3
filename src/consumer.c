/*
 * consumer.c: the registry of consumers.
 *
 * A consumer belongs to the role that made it, and to its members. The right is
 * checked here, before any registry is written.
 */
#include "consumer.h"
#include "log.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#define MAX_SHARDS		1024

/* What is done of the batch of a shard: of a backlog, if it is one. */
#define DONE "coalesce((SELECT b.from_position OPERATOR(pg_catalog.-) 1" \
	" FROM immutable.consumer_streams b" \
	" WHERE b.consumer OPERATOR(pg_catalog.=) s.consumer" \
	" AND b.stream OPERATOR(pg_catalog.=) s.backlog), position)"

static void check_new(text *name, int32 shards, int32 max_deliveries);
static int64 begin_position(const IeTarget *target, bool now, int64 after);
static void receive_consumer(void *state);
static void check_right(const char *owner);
static void receive_shard(void *state);
static Datum column(int number, bool *isnull);
static text *text_column(int number);
static void take_shards(const IeConsumer *consumer);
static void run(const char *query, text *name);

PG_FUNCTION_INFO_V1(ie_create_consumer);
PG_FUNCTION_INFO_V1(ie_drop_consumer);
PG_FUNCTION_INFO_V1(ie_seek);
PG_FUNCTION_INFO_V1(ie_unpark);

/* Create a consumer with its shards. */
Datum
ie_create_consumer(PG_FUNCTION_ARGS)
{
	Oid			types[] = {TEXTOID, REGCLASSOID, NAMEOID, TEXTARRAYOID, TEXTOID,
	INT4OID, INT4OID, INT8OID};
	Datum		values[8];
	char		nulls[] = "        ";
	text	   *name = ie_required_text(fcinfo, 0, "consumer");
	IeTarget	target;
	int64		position;

	ie_require_arg(fcinfo, 1, "log");
	ie_require_arg(fcinfo, 5, "shards");
	ie_require_arg(fcinfo, 6, "max_deliveries");
	check_new(name, PG_GETARG_INT32(5), PG_GETARG_INT32(6));
	target = ie_open_whole_log(PG_GETARG_OID(1), AccessShareLock);
	ie_check_access(target.log, ACL_SELECT);
	position = begin_position(&target, PG_ARGISNULL(4), PG_ARGISNULL(4) ? 0 : PG_GETARG_INT64(4));
	values[0] = PointerGetDatum(name);
	values[1] = PG_GETARG_DATUM(1);
	values[2] = DirectFunctionCall1(namein, CStringGetDatum(GetUserNameFromId(GetUserId(), false)));
	values[3] = PG_GETARG_DATUM(2);
	values[4] = PG_GETARG_DATUM(3);
	values[5] = PG_GETARG_DATUM(5);
	values[6] = PG_GETARG_DATUM(6);
	values[7] = Int64GetDatum(position);
	nulls[3] = PG_ARGISNULL(2) ? 'n' : ' ';
	nulls[4] = PG_ARGISNULL(3) ? 'n' : ' ';
	if (ie_registry_query("INSERT INTO immutable.consumers VALUES ($1, $2, $3, $4, $5, $6, $7)"
						  " ON CONFLICT (consumer) DO NOTHING",
						  7, types, values, nulls, NULL, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("consumer \"%s\" already exists", text_to_cstring(name)),
				 errhint("Give it another name, or call immutable.drop_consumer first.")));
	ie_registry_query("INSERT INTO immutable.consumer_shards (consumer, shard, log, position)"
					  " SELECT $1, shard, $2, $8"
					  " FROM pg_catalog.generate_series(0, $6 OPERATOR(pg_catalog.-) 1) shard",
					  8, types, values, nulls, NULL, NULL);
	ie_close_log(&target);
	PG_RETURN_VOID();
}

/* A text argument that must be given. */
text *
ie_required_text(FunctionCallInfo fcinfo, int argno, const char *name)
{
	ie_require_arg(fcinfo, argno, name);
	return PG_GETARG_TEXT_PP(argno);
}

/* Refuse an interval that is negative, or not positive. */
void
ie_check_interval(const Interval *value, const char *name, bool positive)
{
	Interval	zero = {0};
	int			order = DatumGetInt32(DirectFunctionCall2(interval_cmp,
														  IntervalPGetDatum(value),
														  IntervalPGetDatum(&zero)));

	if (order < 0 || (positive && order == 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must %s", name,
						positive ? "be positive" : "not be negative")));
}

/* Refuse what no consumer can be. */
static void
check_new(text *name, int32 shards, int32 max_deliveries)
{
	if (VARSIZE_ANY_EXHDR(name) == 0 || VARSIZE_ANY_EXHDR(name) > IE_MAX_STREAM_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the name of a consumer must have 1 to %d bytes",
						IE_MAX_STREAM_BYTES)));
	if (shards < 1 || shards > MAX_SHARDS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("shards must be between 1 and %d", MAX_SHARDS)));
	if (max_deliveries < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_deliveries must be 1 or more")));
}

/* Where to begin: what is not safe to read yet is still to come. */
static int64
begin_position(const IeTarget *target, bool now, int64 after)
{
	int64		safe = ie_told_position(target, GetActiveSnapshot());

	if (now)
		return safe;
	if (after < 0 || after > safe)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("after_position must be between 0 and the safe position"),
				 errdetail("It is " INT64_FORMAT ", the safe position is " INT64_FORMAT ".",
						   after, safe),
				 errhint("Events that come later may still take positions in between.")));
	return after;
}

/* Find a consumer that the caller may use. */
IeConsumer
ie_find_consumer(text *name)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {PointerGetDatum(name)};
	IeConsumer	consumer = {0};

	if (ie_registry_query("SELECT log, owner, types, stream_prefix, shards, max_deliveries"
						  " FROM immutable.consumers WHERE consumer OPERATOR(pg_catalog.=) $1",
						  1, types, values, NULL, receive_consumer, &consumer) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("consumer \"%s\" does not exist", text_to_cstring(name)),
				 errhint("immutable.create_consumer makes one.")));
	consumer.name = name;
	return consumer;
}

/* Take a consumer from the row that was found, if there is one. */
static void
receive_consumer(void *state)
{
	IeConsumer *consumer = state;
	bool		isnull;
	Datum		value;

	if (SPI_processed == 0)
		return;
	check_right(NameStr(*DatumGetName(column(2, &isnull))));
	consumer->log = DatumGetObjectId(column(1, &isnull));
	value = column(3, &isnull);
	consumer->types = isnull ? NULL
		: ie_keep_varlena(value);
	consumer->prefix = text_column(4);
	consumer->shards = DatumGetInt32(column(5, &isnull));
	consumer->max_deliveries = DatumGetInt32(column(6, &isnull));
}

/* The consumer's owner may use it, and whoever has the owner's rights. */
static void
check_right(const char *owner)
{
	Oid			role = get_role_oid(owner, true);

	if (OidIsValid(role) ? !has_privs_of_role(GetUserId(), role) : !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for consumer of role \"%s\"", owner),
				 errhint("SET ROLE to that role, or to one that is a member of it.")));
}

/* Read a shard: by its number, or by the token of its lease. */
IeShard
ie_read_shard(text *name, int32 shard, const char *token)
{
	Oid			types[] = {TEXTOID, INT4OID, TEXTOID};
	Datum		values[] = {PointerGetDatum(name), Int32GetDatum(shard), (Datum) 0};
	IeShard		found = {0};

	if (token != NULL)
		values[2] = CStringGetTextDatum(token);
	ie_registry_query(token == NULL
					  ? "SELECT shard, position, position, delivered, scanned, backlog,"
					  " CASE WHEN lease_until OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp() THEN lease_token END"
					  " FROM immutable.consumer_shards"
					  " WHERE consumer OPERATOR(pg_catalog.=) $1 AND shard OPERATOR(pg_catalog.=) $2"
					  : "SELECT shard, position, " DONE ", delivered, scanned, backlog, lease_token"
					  " FROM immutable.consumer_shards s"
					  " WHERE consumer OPERATOR(pg_catalog.=) $1 AND lease_token OPERATOR(pg_catalog.=) $3",
					  3, types, values, token == NULL ? "  n" : NULL,
					  receive_shard, &found);
	return found;
}

/* Take a shard from the row that was found, if there is one. */
static void
receive_shard(void *state)
{
	IeShard    *shard = state;
	bool		isnull;

	shard->found = SPI_processed > 0;
	if (!shard->found)
		return;
	shard->shard = DatumGetInt32(column(1, &isnull));
	shard->position = DatumGetInt64(column(2, &isnull));
	shard->done = DatumGetInt64(column(3, &isnull));
	shard->delivered = DatumGetInt64(column(4, &isnull));
	shard->scanned = DatumGetInt64(column(5, &isnull));
	shard->backlog = text_column(6);
	shard->token = text_column(7);
}

/* A column of the first row that SPI has found. */
static Datum
column(int number, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, number, isnull);
}

/* A text column, copied out of SPI's memory; NULL for NULL. */
static text *
text_column(int number)
{
	bool		isnull;
	Datum		value = column(number, &isnull);

	return isnull ? NULL : ie_keep_varlena(value);
}

/* A value, whole and copied out of SPI's memory. */
void *
ie_keep_varlena(Datum value)
{
	struct varlena *whole = PG_DETOAST_DATUM(value);
	void	   *copy = SPI_palloc(VARSIZE(whole));

	return memcpy(copy, whole, VARSIZE(whole));
}

/* Drop a consumer. */
Datum
ie_drop_consumer(PG_FUNCTION_ARGS)
{
	text	   *name = ie_required_text(fcinfo, 0, "consumer");

	(void) ie_find_consumer(name);
	ie_drop_batch(name);
	run("DELETE FROM immutable.consumers WHERE consumer OPERATOR(pg_catalog.=) $1", name);
	run("DELETE FROM immutable.consumer_shards WHERE consumer OPERATOR(pg_catalog.=) $1", name);
	run("DELETE FROM immutable.consumer_streams WHERE consumer OPERATOR(pg_catalog.=) $1", name);
	PG_RETURN_VOID();
}

/* Let a consumer go on after another position. */
Datum
ie_seek(PG_FUNCTION_ARGS)
{
	Oid			types[] = {TEXTOID, INT8OID};
	Datum		values[2];
	text	   *name = ie_required_text(fcinfo, 0, "consumer");
	IeConsumer	consumer;
	IeTarget	target;

	ie_require_arg(fcinfo, 1, "after_position");
	consumer = ie_find_consumer(name);
	take_shards(&consumer);
	target = ie_open_whole_log(consumer.log, AccessShareLock);
	ie_check_access(target.log, ACL_SELECT);
	values[0] = PointerGetDatum(name);
	values[1] = Int64GetDatum(begin_position(&target, false, PG_GETARG_INT64(1)));
	ie_close_log(&target);
	ie_registry_query("UPDATE immutable.consumer_shards SET position = $2,"
					  " lease_token = NULL, lease_until = NULL, holder = NULL, holder_pid = NULL"
					  " WHERE consumer OPERATOR(pg_catalog.=) $1",
					  2, types, values, NULL, NULL, NULL);
	run("DELETE FROM immutable.consumer_streams WHERE consumer OPERATOR(pg_catalog.=) $1", name);
	ie_drop_batch(name);
	PG_RETURN_VOID();
}

/* Wait for those who hold a shard within their transaction. */
static void
take_shards(const IeConsumer *consumer)
{
	int32		shard;

	for (shard = 0; shard < consumer->shards; shard++)
		(void) ie_hold_shard(consumer, shard, true);
}

/* Let a parked stream go on. */
Datum
ie_unpark(PG_FUNCTION_ARGS)
{
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[2];
	text	   *name = ie_required_text(fcinfo, 0, "consumer");

	ie_require_arg(fcinfo, 1, "stream");
	(void) ie_find_consumer(name);
	values[0] = PointerGetDatum(name);
	values[1] = PG_GETARG_DATUM(1);
	if (ie_registry_query("UPDATE immutable.consumer_streams"
						  " SET parked = false, deliveries = 0, retry_at = NULL"
						  " WHERE consumer OPERATOR(pg_catalog.=) $1"
						  " AND stream OPERATOR(pg_catalog.=) $2 AND parked",
						  2, types, values, NULL, NULL, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("stream \"%s\" is not parked for consumer \"%s\"",
						text_to_cstring(PG_GETARG_TEXT_PP(1)), text_to_cstring(name)),
				 errhint("immutable.parked shows what is parked.")));
	PG_RETURN_VOID();
}

/* Run a query that concerns one consumer. */
static void
run(const char *query, text *name)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {PointerGetDatum(name)};

	ie_registry_query(query, 1, types, values, NULL, NULL, NULL);
}
