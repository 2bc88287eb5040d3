/*
 * read.c: the events of one stream, in order of version.
 *
 * A scan of the (stream, version) index with the caller's snapshot, in either
 * direction. Where row security applies, a query gives the rows instead, so
 * that policies decide; both look the same to whoever asks for the next event.
 */
#include "log.h"
#include "upcast.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/tableam.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/tstoreReceiver.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "tcop/dest.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

struct IeStreamScan
{
	TupleTableSlot *slot;
	ScanDirection direction;
	Relation	index;			/* a scan of the index ... */
	IndexScanDesc scan;
	Tuplestorestate *rows;		/* ... or the answer of a query */
};

static void scan_index(IeStreamScan *scan, const IeTarget *target,
					   const text *stream, int64 from_version,
					   int64 to_version);
static void run_query(IeStreamScan *scan, const IeTarget *target,
					  const text *stream, int64 from_version,
					  int64 to_version);

PG_FUNCTION_INFO_V1(ie_read_stream);
PG_FUNCTION_INFO_V1(ie_stream_version);

/* Return a stream's events, forward or backward. */
Datum
ie_read_stream(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		backward;
	int64		from_version;
	int64		left = PG_INT64_MAX;
	text	   *stream;
	IeTarget	target;
	IeStreamScan *scan;
	IeUpcasts  *upcasts;
	TupleTableSlot *slot;

	ie_require_arg(fcinfo, 0, "log");
	ie_require_arg(fcinfo, 1, "stream");
	ie_require_arg(fcinfo, 4, "backward");
	stream = PG_GETARG_TEXT_PP(1);
	backward = PG_GETARG_BOOL(4);
	from_version = backward ? PG_INT64_MAX : IE_FIRST_VERSION;
	if (!PG_ARGISNULL(2))
		from_version = PG_GETARG_INT64(2);
	if (!PG_ARGISNULL(3))
		left = PG_GETARG_INT64(3);
	if (from_version < IE_FIRST_VERSION || left < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 from_version < IE_FIRST_VERSION
				 ? errmsg("from_version must be 1 or more")
				 : errmsg("max_events must not be negative"),
				 errhint("Versions of a stream begin at 1; NULL reads from its end, and without a limit.")));
	InitMaterializedSRF(fcinfo, 0);

	target = ie_open_log(PG_GETARG_OID(0), stream, AccessShareLock);
	scan = backward
		? ie_scan_stream(&target, stream, IE_FIRST_VERSION, from_version, true)
		: ie_scan_stream(&target, stream, from_version, PG_INT64_MAX, false);
	upcasts = ie_upcasts(PG_GETARG_OID(0));
	while (left-- > 0 && (slot = ie_scan_next(scan)) != NULL)
	{
		slot = ie_upcast_slot(upcasts, slot);
		slot_getallattrs(slot);
		tuplestore_putvalues(result->setResult, result->setDesc,
							 slot->tts_values, slot->tts_isnull);
	}
	ie_end_upcasts(upcasts);
	ie_scan_end(scan);
	ie_close_log(&target);
	return (Datum) 0;
}

/* Return the version of a stream's newest event; 0 when there is none. */
Datum
ie_stream_version(PG_FUNCTION_ARGS)
{
	text	   *stream;
	IeTarget	target;
	IeStreamScan *scan;
	TupleTableSlot *slot;
	bool		isnull;
	int64		version = 0;

	ie_require_arg(fcinfo, 0, "log");
	ie_require_arg(fcinfo, 1, "stream");
	stream = PG_GETARG_TEXT_PP(1);
	target = ie_open_log(PG_GETARG_OID(0), stream, AccessShareLock);
	scan = ie_scan_stream(&target, stream, IE_FIRST_VERSION, PG_INT64_MAX,
						  true);
	slot = ie_scan_next(scan);
	if (slot != NULL)
		version = DatumGetInt64(slot_getattr(slot, IE_VERSION, &isnull));
	ie_scan_end(scan);
	ie_close_log(&target);
	PG_RETURN_INT64(version);
}

/* Begin to read the versions of a stream between two bounds, inclusive. */
IeStreamScan *
ie_scan_stream(const IeTarget *target, const text *stream,
			   int64 from_version, int64 to_version, bool backward)
{
	IeStreamScan *scan = palloc0(sizeof(IeStreamScan));

	ie_check_access(target->log, ACL_SELECT);
	scan->direction = backward ? BackwardScanDirection : ForwardScanDirection;
	if (ie_row_security(target->log))
		run_query(scan, target, stream, from_version, to_version);
	else
		scan_index(scan, target, stream, from_version, to_version);
	return scan;
}

/* Scan the (stream, version) index with the caller's snapshot. */
static void
scan_index(IeStreamScan *scan, const IeTarget *target, const text *stream,
		   int64 from_version, int64 to_version)
{
	ScanKeyData keys[3];
	Oid			index = ie_version_index(target->log, target->rel);

	ScanKeyEntryInitialize(&keys[0], 0, 1, BTEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXTEQ, PointerGetDatum(stream));
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_INT8GE,
				Int64GetDatum(from_version));
	ScanKeyInit(&keys[2], 2, BTLessEqualStrategyNumber, F_INT8LE,
				Int64GetDatum(to_version));
	scan->index = index_open(index, AccessShareLock);
	scan->scan = ie_index_beginscan(target->rel, scan->index,
									GetActiveSnapshot(), lengthof(keys));
	index_rescan(scan->scan, keys, lengthof(keys), NULL, 0);
	scan->slot = table_slot_create(target->rel, NULL);
}

/* Let a query give the rows that the policies show. */
static void
run_query(IeStreamScan *scan, const IeTarget *target, const text *stream,
		  int64 from_version, int64 to_version)
{
	Oid			types[] = {TEXTOID, INT8OID, INT8OID};
	Datum		values[] = {PointerGetDatum(stream),
	Int64GetDatum(from_version), Int64GetDatum(to_version)};
	/* a log has its own rows only; a partitioned one has its leaves' */
	bool		partitioned = target->rel != target->log;
	char	   *query = psprintf("SELECT * FROM %s%s"
								 " WHERE stream OPERATOR(pg_catalog.=) $1"
								 " AND version OPERATOR(pg_catalog.>=) $2"
								 " AND version OPERATOR(pg_catalog.<=) $3"
								 " ORDER BY version %s",
								 partitioned ? "" : "ONLY ",
								 ie_qualified_name(target->log),
								 ScanDirectionIsBackward(scan->direction)
								 ? "DESC" : "ASC");
	SPIExecuteOptions options = {.read_only = true};
	DestReceiver *receiver = CreateDestReceiver(DestTuplestore);
	SPIPlanPtr	plan;
	ParamListInfo params = makeParamList(lengthof(types));
	int			i;

	for (i = 0; i < (int) lengthof(types); i++)
	{
		params->params[i].value = values[i];
		params->params[i].isnull = false;
		params->params[i].ptype = types[i];
		params->params[i].pflags = PARAM_FLAG_CONST;
	}
	scan->rows = tuplestore_begin_heap(false, false, work_mem);
	SetTuplestoreDestReceiverParams(receiver, scan->rows,
									CurrentMemoryContext, false, NULL, NULL);
	options.params = params;
	options.dest = receiver;
	SPI_connect();
	plan = SPI_prepare(query, lengthof(types), types);
	if (plan == NULL || SPI_execute_plan_extended(plan, &options) < 0)
		elog(ERROR, "SPI_execute_plan_extended failed: %s",
			 SPI_result_code_string(SPI_result));
	SPI_finish();
	scan->slot = MakeSingleTupleTableSlot(RelationGetDescr(target->log),
										  &TTSOpsMinimalTuple);
}

/* The next event, or NULL after the last; valid until the next call. */
TupleTableSlot *
ie_scan_next(IeStreamScan *scan)
{
	CHECK_FOR_INTERRUPTS();
	if (scan->rows != NULL
		? tuplestore_gettupleslot(scan->rows, true, false, scan->slot)
		: index_getnext_slot(scan->scan, scan->direction, scan->slot))
		return scan->slot;
	return NULL;
}

/* Close the scan. */
void
ie_scan_end(IeStreamScan *scan)
{
	ExecDropSingleTupleTableSlot(scan->slot);
	if (scan->rows != NULL)
		tuplestore_end(scan->rows);
	else
	{
		index_endscan(scan->scan);
		index_close(scan->index, AccessShareLock);
	}
	pfree(scan);
}
