/*
 * version_backfill.c: first versions of rows that were there before.
 *
 * A table that was versioned lazily is walked block by block. Each row is
 * locked, so that no writer records it at the same moment; rows that somebody
 * else has locked are left for later, so that nobody waits for us while we
 * wait for him. A row that moves meanwhile is recorded by its own trigger.
 */
#include "version.h"

#include "access/relation.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "tcop/utility.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

static BlockNumber record_rows(Relation rel, BlockNumber from, int batch, bool *skipped);
static bool record_row(Relation rel, Relation versions, IeVersionFacts *facts,
					   IeVersionWriter *writer, TupleTableSlot *found,
					   TupleTableSlot *locked);

static void check_recorded(Relation rel, Oid relid);

PG_FUNCTION_INFO_V1(ie_backfill_versions);
PG_FUNCTION_INFO_V1(ie_finish_backfill);

/*
 * Record the rows of a table or partition from a block on, about a batch of
 * them; answers with the block to go on from, or NULL, and whether rows were
 * left out because they were locked.
 */
Datum
ie_backfill_versions(PG_FUNCTION_ARGS)
{
	Relation	rel = ie_open_relation(PG_GETARG_OID(0), RowShareLock);
	TupleDesc	columns;
	BlockNumber next;
	bool		skipped = false;
	Datum		values[2];
	bool		nulls[2] = {false, false};

	PreventCommandDuringRecovery("immutable.backfill_versions()");
	ie_check_owner(rel);
	if (get_call_result_type(fcinfo, NULL, &columns) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "unexpected result type");
	next = record_rows(rel, (BlockNumber) PG_GETARG_INT64(1), PG_GETARG_INT32(2), &skipped);
	relation_close(rel, NoLock);
	values[0] = Int64GetDatum(next);
	nulls[0] = !BlockNumberIsValid(next);
	values[1] = BoolGetDatum(skipped);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(columns), values, nulls));
}

/* Walk the rows; answers the block to go on from. */
static BlockNumber
record_rows(Relation rel, BlockNumber from, int batch, bool *skipped)
{
	IeVersionFacts *facts;
	Relation	versions = ie_open_versions(rel, &facts);
	IeVersionWriter *writer = ie_version_writer(versions, facts);
	TupleTableSlot *found = table_slot_create(rel, NULL);
	TupleTableSlot *locked = table_slot_create(rel, NULL);
	MemoryContext row = AllocSetContextCreate(CurrentMemoryContext, "row", ALLOCSET_DEFAULT_SIZES);
	ItemPointerData first;
	ItemPointerData last;
	TableScanDesc scan;
	BlockNumber last_block = InvalidBlockNumber;
	BlockNumber next = InvalidBlockNumber;
	int			count = 0;

	facts->uses++;
	ItemPointerSet(&first, from, 0);
	ItemPointerSet(&last, MaxBlockNumber, PG_UINT16_MAX);
	scan = table_beginscan_tidrange(rel, GetActiveSnapshot(), &first, &last);
	while (table_scan_getnextslot_tidrange(scan, ForwardScanDirection, found))
	{
		BlockNumber block = ItemPointerGetBlockNumber(&found->tts_tid);
		MemoryContext caller;

		CHECK_FOR_INTERRUPTS();
		if (count++ >= batch && block != last_block)
		{
			next = block;
			break;
		}
		last_block = block;
		caller = MemoryContextSwitchTo(row);
		*skipped |= !record_row(rel, versions, facts, writer, found, locked);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(row);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(found);
	ExecDropSingleTupleTableSlot(locked);
	ie_version_writer_done(writer);
	facts->uses = Max(facts->uses - 1, 0);
	table_close(versions, NoLock);
	return next;
}

/* Record one row, unless it is recorded; false when somebody has locked it. */
static bool
record_row(Relation rel, Relation versions, IeVersionFacts *facts,
		   IeVersionWriter *writer, TupleTableSlot *found, TupleTableSlot *locked)
{
	TM_FailureData failure;
	IeNewest	newest;
	TM_Result	result = table_tuple_lock(rel, &found->tts_tid, GetActiveSnapshot(), locked,
										  GetCurrentCommandId(true), LockTupleNoKeyExclusive,
										  LockWaitSkip, 0, &failure);

	/* what was changed since is recorded by who changed it */
	if (result == TM_Ok)
		(void) ie_write_baseline(writer, versions, &newest, facts->registered.began, locked);
	ExecClearTuple(locked);
	return result != TM_WouldBlock;
}

/* Every row has its versions now: the owner's word alone is not enough. */
Datum
ie_finish_backfill(PG_FUNCTION_ARGS)
{
	Oid			types[] = {REGCLASSOID};
	Datum		values[] = {PG_GETARG_DATUM(0)};
	Relation	rel = ie_open_relation(PG_GETARG_OID(0), AccessShareLock);
	IeVersioned row;

	ie_check_owner(rel);
	if (ie_read_versioned(RelationGetRelid(rel), &row) && !row.complete)
	{
		check_recorded(rel, row.versions);
		ie_registry_query("UPDATE immutable." IE_VERSION_REGISTRY " SET complete = true"
						  " WHERE relation OPERATOR(pg_catalog.=) $1::pg_catalog.oid",
						  1, types, values, NULL, NULL, NULL);
	}
	relation_close(rel, NoLock);
	PG_RETURN_VOID();
}

/* Refuse to call a history complete that lacks a row. */
static void
check_recorded(Relation rel, Oid relid)
{
	Relation	versions = table_open(relid, AccessShareLock);
	char	   *query = psprintf("SELECT FROM %s b WHERE NOT EXISTS (SELECT FROM %s v WHERE %s) LIMIT 1",
								 ie_qualified_name(rel), ie_qualified_name(versions),
								 ie_same_key(versions, "b.", "v."));

	SPI_connect();
	SPI_execute(query, true, 1);
	if (SPI_processed > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("rows of table \"%s\" are not all recorded",
						RelationGetRelationName(rel)),
				 errhint("CALL immutable.backfill_versions."),
				 errtable(rel)));
	SPI_finish();
	table_close(versions, NoLock);
}
