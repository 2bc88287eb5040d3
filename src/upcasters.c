/*
 * upcasters.c: add and drop upcasters, and call them by hand.
 *
 * The upcasters of a type form one chain without a gap: a new one goes before
 * the first or after the last, and only these can be dropped. Before it is
 * added it is tried, on an event of the log if there is one.
 */
#include "log.h"
#include "upcast.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/resowner.h"

#define TRIED_EVENTS	10000	/* at each end of the log */

/* The schema_versions that the upcasters of a type take; last < first: none. */
typedef struct Chain
{
	int32		first;
	int32		last;
} Chain;

static IeTarget open_own_log(FunctionCallInfo fcinfo, const char *function);
static Chain chain_of(Oid log, const text *type);
static void check_new(const text *type, int32 schema_version);
static void check_gap(Chain chain, const text *type, int32 schema_version);
static void try_upcaster(Relation log, const IeUpcaster *upcaster);
static bool try_stored(Relation log, IeUpcasts *upcasts);
static void try_synthetic(IeUpcasts *upcasts);
static bool run_ignoring_errors(IeUpcasts *upcasts, Datum event,
								IeEventRow *result);

PG_FUNCTION_INFO_V1(ie_add_upcaster);
PG_FUNCTION_INFO_V1(ie_drop_upcaster);
PG_FUNCTION_INFO_V1(ie_upcast);

/* Add an upcaster for events of a type and schema_version. */
Datum
ie_add_upcaster(PG_FUNCTION_ARGS)
{
	Oid			types[] = {REGCLASSOID, TEXTOID, INT4OID, TEXTOID};
	Datum		values[4];
	IeUpcaster	upcaster;
	IeTarget	target;
	Chain		chain;

	ie_require_arg(fcinfo, 3, "upcaster");
	target = open_own_log(fcinfo, "immutable.add_upcaster()");
	upcaster.log = PG_GETARG_OID(0);
	upcaster.type = PG_GETARG_TEXT_PP(1);
	upcaster.schema_version = PG_GETARG_INT32(2);
	check_new(upcaster.type, upcaster.schema_version);
	ie_check_upcaster(PG_GETARG_OID(3));
	upcaster.signature = format_procedure_qualified(PG_GETARG_OID(3));
	chain = chain_of(upcaster.log, upcaster.type);
	check_gap(chain, upcaster.type, upcaster.schema_version);
	try_upcaster(target.log, &upcaster);
	values[0] = ObjectIdGetDatum(upcaster.log);
	values[1] = PointerGetDatum(upcaster.type);
	values[2] = Int32GetDatum(upcaster.schema_version);
	values[3] = CStringGetTextDatum(upcaster.signature);
	ie_registry_query("INSERT INTO immutable.upcasters VALUES ($1, $2, $3, $4)",
					  4, types, values, NULL, NULL, NULL);
	ie_close_log(&target);
	PG_RETURN_VOID();
}

/*
 * Open a log whose upcasters the caller may change, and keep others from
 * changing any to the end of the transaction.
 */
static IeTarget
open_own_log(FunctionCallInfo fcinfo, const char *function)
{
	IeTarget	target;

	ie_require_arg(fcinfo, 0, "log");
	ie_require_arg(fcinfo, 1, "type");
	ie_require_arg(fcinfo, 2, "schema_version");
	PreventCommandDuringRecovery(function);
	PreventCommandIfReadOnly(function);
	target = ie_open_whole_log(PG_GETARG_OID(0), AccessShareLock);
	ie_check_owner(target.log);
	ie_lock_registry("upcasters", ShareRowExclusiveLock);
	return target;
}

/* The chain of a type's upcasters, by its ends. */
static Chain
chain_of(Oid log, const text *type)
{
	int			count;
	const IeUpcaster *upcasters = ie_upcasters_of(log, &count);
	Chain		chain = {.first = PG_INT32_MAX,.last = 0};
	int			i;

	for (i = 0; i < count; i++)
		if (ie_same_text(upcasters[i].type, type))
		{
			chain.first = Min(chain.first, upcasters[i].schema_version);
			chain.last = Max(chain.last, upcasters[i].schema_version);
		}
	return chain;
}

/* Refuse a type or schema_version that no event can have. */
static void
check_new(const text *type, int32 schema_version)
{
	if (VARSIZE_ANY_EXHDR(type) == 0 ||
		VARSIZE_ANY_EXHDR(type) > IE_MAX_STREAM_BYTES ||
		*VARDATA_ANY(type) == '$')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("type must have 1 to %d bytes and not begin with \"$\"",
						IE_MAX_STREAM_BYTES)));
	if (schema_version < 1 || schema_version == PG_INT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("schema_version must be between 1 and %d",
						PG_INT32_MAX - 1)));
}

/* Refuse an upcaster that is there already, or would leave a gap. */
static void
check_gap(Chain chain, const text *type, int32 schema_version)
{
	if (chain.last < chain.first || schema_version == chain.first - 1 ||
		schema_version == chain.last + 1)
		return;
	if (schema_version >= chain.first && schema_version <= chain.last)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("type \"%s\" has an upcaster for schema_version %d already",
						text_to_cstring(type), schema_version),
				 errhint("Replace its function with CREATE OR REPLACE FUNCTION, or call immutable.drop_upcaster first.")));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("upcasters of type \"%s\" would pass over a schema_version",
					text_to_cstring(type)),
			 errdetail("They take schema_version %d to %d so far, and this one %d.",
					   chain.first, chain.last, schema_version),
			 errhint("The next one is for schema_version %d.",
					 schema_version > chain.last ? chain.last + 1
					 : chain.first - 1)));
}

/* Drop the first or the last upcaster of a type. */
Datum
ie_drop_upcaster(PG_FUNCTION_ARGS)
{
	Oid			types[] = {REGCLASSOID, TEXTOID, INT4OID};
	Datum		values[3];
	IeTarget	target = open_own_log(fcinfo, "immutable.drop_upcaster()");
	text	   *type = PG_GETARG_TEXT_PP(1);
	int32		schema_version = PG_GETARG_INT32(2);
	Chain		chain = chain_of(PG_GETARG_OID(0), type);

	if (schema_version < chain.first || schema_version > chain.last)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("type \"%s\" of log \"%s\" has no upcaster for schema_version %d",
						text_to_cstring(type),
						RelationGetRelationName(target.log), schema_version),
				 errhint("immutable.upcasters shows those there are.")));
	if (schema_version != chain.first && schema_version != chain.last)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("upcasters of type \"%s\" would pass over a schema_version",
						text_to_cstring(type)),
				 errdetail("They take schema_version %d to %d.",
						   chain.first, chain.last),
				 errhint("Only the first and the last can be dropped; CREATE OR REPLACE FUNCTION changes one in between.")));
	values[0] = PG_GETARG_DATUM(0);
	values[1] = PointerGetDatum(type);
	values[2] = Int32GetDatum(schema_version);
	if (ie_registry_query("DELETE FROM immutable.upcasters"
						  " WHERE log OPERATOR(pg_catalog.=) $1::pg_catalog.oid"
						  " AND type OPERATOR(pg_catalog.=) $2"
						  " AND schema_version OPERATOR(pg_catalog.=) $3",
						  3, types, values, NULL, NULL, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent changes of upcasters"),
				 errhint("Try again in a new transaction.")));
	ie_close_log(&target);
	PG_RETURN_VOID();
}

/* Upcast one event, as an event of a log. */
Datum
ie_upcast(PG_FUNCTION_ARGS)
{
	HeapTupleHeader event;
	HeapTupleHeader result;
	IeTarget	target;
	IeUpcasts  *upcasts;
	Datum		copy;

	ie_require_arg(fcinfo, 0, "log");
	target = ie_open_whole_log(PG_GETARG_OID(0), AccessShareLock);
	ie_close_log(&target);
	if (PG_ARGISNULL(1))
		PG_RETURN_NULL();
	event = PG_GETARG_HEAPTUPLEHEADER(1);
	upcasts = ie_upcasts(PG_GETARG_OID(0));
	if (upcasts == NULL)
		PG_RETURN_HEAPTUPLEHEADER(event);
	result = ie_upcast_row(upcasts, event, upcasts->columns);
	copy = result == event ? PointerGetDatum(event)
		: datumCopy(PointerGetDatum(result), false, -1);
	ie_end_upcasts(upcasts);
	PG_RETURN_DATUM(copy);
}

/*
 * Try a new upcaster before it is added: on an event of the log, where it must
 * succeed, or else on one without data, which it may refuse.
 */
static void
try_upcaster(Relation log, const IeUpcaster *upcaster)
{
	IeUpcasts  *upcasts = ie_make_upcasts(upcaster->log, upcaster, 1);

	if (!try_stored(log, upcasts))
		try_synthetic(upcasts);
	MemoryContextDelete(upcasts->context);
}

/*
 * Try it on an event of the log. There is no index on types: the oldest events
 * are looked at, then the newest. False when none of them fits.
 */
static bool
try_stored(Relation log, IeUpcasts *upcasts)
{
	const IeUpcaster *upcaster = &upcasts->steps[0].upcaster;
	Oid			types[] = {TEXTOID, INT4OID, INT4OID};
	Datum		values[] = {PointerGetDatum(upcaster->type),
	Int32GetDatum(upcaster->schema_version), Int32GetDatum(TRIED_EVENTS)};
	char	   *name = ie_qualified_name(log);
	char	   *query =
		psprintf("SELECT * FROM ((SELECT * FROM %s ORDER BY position LIMIT $3)"
				 " UNION ALL (SELECT * FROM %s ORDER BY position DESC LIMIT $3)) e"
				 " WHERE type OPERATOR(pg_catalog.=) $1"
				 " AND schema_version OPERATOR(pg_catalog.=) $2 LIMIT 1",
				 name, name);
	bool		found;

	SPI_connect();
	if (SPI_execute_with_args(query, 3, types, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute_with_args failed: %s",
			 SPI_result_code_string(SPI_result));
	found = SPI_processed > 0;
	if (found)
	{
		TupleTableSlot *slot = MakeSingleTupleTableSlot(SPI_tuptable->tupdesc,
														&TTSOpsHeapTuple);

		ExecStoreHeapTuple(SPI_tuptable->vals[0], slot, false);
		(void) ie_upcast_slot(upcasts, slot);
		ExecDropSingleTupleTableSlot(slot);
	}
	SPI_finish();
	return found;
}

/*
 * Try it on an event without data. It may miss something there; but if it
 * returns an event, its schema_version is what it always would be.
 */
static void
try_synthetic(IeUpcasts *upcasts)
{
	const IeUpcaster *upcaster = &upcasts->steps[0].upcaster;
	Jsonb	   *empty = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
														   CStringGetDatum("{}")));
	pg_uuid_t	id = {0};
	IeEvent		event = {.position = 1,.recorded_at = GetCurrentTimestamp(),
		.version = IE_FIRST_VERSION,.id = &id,
		.schema_version = upcaster->schema_version,
		.stream = cstring_to_text("stream"),.type = upcaster->type,
	.data = empty,.metadata = empty};
	IeEventRow	before = {0};
	IeEventRow	after;
	HeapTuple	tuple;

	ie_event_values(&event, before.values);
	tuple = heap_form_tuple(upcasts->columns, before.values, before.isnull);
	if (run_ignoring_errors(upcasts, HeapTupleGetDatum(tuple), &after))
		ie_check_place(upcaster, upcasts->columns, &before, &after);
}

/* Run the only upcaster; false when it fails, of which nothing remains. */
static bool
run_ignoring_errors(IeUpcasts *upcasts, Datum event, IeEventRow *result)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool succeeded = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		(void) ie_run_upcaster(upcasts, &upcasts->steps[0], event, result);
		ReleaseCurrentSubTransaction();
		succeeded = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			ReThrowError(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	return succeeded;
}
