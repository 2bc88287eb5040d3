/*
 * read_log.c: the events of a log, in order of position.
 *
 * First it is decided up to where the log may be read, then a snapshot is
 * taken that shows all of it, and then a query reads: partitions, policies and
 * the order are the planner's business.
 */
#include "immutable_events.h"

#include "catalog/pg_type.h"
#include "executor/tstoreReceiver.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "tcop/dest.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(ie_read_log);

/* Return the events after a position, up to the safe one. */
Datum
ie_read_log(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	IeSelection selection = {0};
	IeTarget	target;
	Snapshot	snapshot;

	ie_require_arg(fcinfo, 0, "log");
	ie_require_arg(fcinfo, 1, "after_position");
	selection.after = PG_GETARG_INT64(1);
	selection.max_events = PG_ARGISNULL(2) ? PG_INT64_MAX : PG_GETARG_INT64(2);
	selection.types = PG_ARGISNULL(3) ? NULL : PG_GETARG_ARRAYTYPE_P(3);
	selection.prefix = PG_ARGISNULL(4) ? NULL : PG_GETARG_TEXT_PP(4);
	if (selection.after < 0 || selection.max_events < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be negative",
						selection.after < 0 ? "after_position" : "max_events"),
				 errhint("Positions of a log begin at 1; NULL reads without a limit.")));
	InitMaterializedSRF(fcinfo, 0);
	target = ie_open_whole_log(PG_GETARG_OID(0), AccessShareLock);
	selection.upto = ie_readable_position(&target, &snapshot);
	if (!PG_ARGISNULL(5))
		selection.upto = Min(selection.upto, PG_GETARG_INT64(5));
	ie_select_events(target.log, &selection, snapshot, result->setResult);
	UnregisterSnapshot(snapshot);
	ie_close_log(&target);
	return (Datum) 0;
}

/* Put the selected events into a tuple store, as the caller may see them. */
void
ie_select_events(Relation log, const IeSelection *selection, Snapshot snapshot,
				 Tuplestorestate *store)
{
	Oid			types[] = {INT8OID, INT8OID, TEXTARRAYOID, TEXTOID, INT8OID,
	INT4OID, INT4OID, TEXTARRAYOID, TEXTOID};
	Datum		values[] = {Int64GetDatum(selection->after),
		Int64GetDatum(selection->upto), PointerGetDatum(selection->types),
		PointerGetDatum(selection->prefix), Int64GetDatum(selection->max_events),
		Int32GetDatum(selection->shards), Int32GetDatum(selection->shard),
	PointerGetDatum(selection->without), PointerGetDatum(selection->stream)};
	SPIExecuteOptions options = {.read_only = true};
	ParamListInfo params = makeParamList(lengthof(types));
	SPIPlanPtr	plan;
	StringInfoData query;
	int			i;

	initStringInfo(&query);
	appendStringInfo(&query, "SELECT * FROM %s%s"
					 " WHERE position OPERATOR(pg_catalog.>) $1"
					 " AND position OPERATOR(pg_catalog.<=) $2",
					 log->rd_rel->relkind == RELKIND_RELATION ? "ONLY " : "",
					 ie_qualified_name(log));
	if (selection->types != NULL)
		appendStringInfoString(&query, " AND type OPERATOR(pg_catalog.=) ANY ($3)");
	if (selection->prefix != NULL)
		appendStringInfoString(&query, " AND pg_catalog.starts_with(stream, $4)");
	if (selection->shards > 1)
		appendStringInfoString(&query, " AND immutable._shard(stream, $6) OPERATOR(pg_catalog.=) $7");
	if (selection->without != NULL)
		appendStringInfoString(&query, " AND stream OPERATOR(pg_catalog.<>) ALL ($8)");
	if (selection->stream != NULL)
		appendStringInfoString(&query, " AND stream OPERATOR(pg_catalog.=) $9");
	appendStringInfoString(&query, " ORDER BY position LIMIT $5");

	for (i = 0; i < (int) lengthof(types); i++)
	{
		params->params[i].value = values[i];
		params->params[i].isnull = values[i] == (Datum) 0 && types[i] != INT8OID && types[i] != INT4OID;
		params->params[i].ptype = types[i];
		params->params[i].pflags = PARAM_FLAG_CONST;
	}
	options.params = params;
	options.dest = CreateDestReceiver(DestTuplestore);
	SetTuplestoreDestReceiverParams(options.dest, store, CurrentMemoryContext,
									false, NULL, NULL);
	PushActiveSnapshot(snapshot);
	SPI_connect();
	plan = SPI_prepare(query.data, lengthof(types), types);
	if (plan == NULL || SPI_execute_plan_extended(plan, &options) < 0)
		elog(ERROR, "SPI_execute_plan_extended failed: %s",
			 SPI_result_code_string(SPI_result));
	SPI_finish();
	PopActiveSnapshot();
}
