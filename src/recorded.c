/*
 * recorded.c: positions that were recorded as safe to have read up to.
 *
 * immutable.safe_positions holds one for each log, written by
 * persist_safe_position; immutable.consumer_shards holds those of consumers,
 * immutable.projection_positions those of projections.
 * Whoever sees such a record sees every event up to it as well: all of them
 * were decided before it was written.
 */
#include "log.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

static int64 highest(const char *table, const char *index, const char *column,
					 Oid log, Snapshot snapshot);

/*
 * Lock a registry. Whoever shows events to a consumer holds RowExclusiveLock
 * on it to the end of its transaction, an import waits for that.
 */
void
ie_lock_registry(const char *table, LOCKMODE lockmode)
{
	LockRelationOid(get_relname_relid(table, get_namespace_oid(IE_SCHEMA, false)),
					lockmode);
}

/* The highest recorded position of a log that a snapshot sees; -1 for none. */
int64
ie_recorded_position(Oid log, Snapshot snapshot)
{
	int64		position = ie_persisted_position(log, snapshot);

	position = Max(position, highest("consumer_shards", "consumer_shards_log_idx",
									 "position", log, snapshot));
	position = Max(position, highest("projection_positions", "projection_positions_log_idx",
									 "position", log, snapshot));
	/* a batch that was handed out under a lease */
	return Max(position, highest("consumer_shards", "consumer_shards_log_idx",
								 "scanned", log, snapshot));
}

/* The persisted safe position that a snapshot sees; -1 for none. */
int64
ie_persisted_position(Oid log, Snapshot snapshot)
{
	return highest("safe_positions", "safe_positions_pkey", "position", log, snapshot);
}

/*
 * Persist a safe position, if it is above the one that stands. Who persists at
 * this moment for another transaction is not waited for.
 */
void
ie_record_position(Oid log, int64 position)
{
	Oid			types[] = {REGCLASSOID, INT8OID};
	Datum		values[] = {ObjectIdGetDatum(log), Int64GetDatum(position)};

	if (ie_registry_query("UPDATE immutable.safe_positions s"
						  " SET position = $2, persisted_at = pg_catalog.clock_timestamp()"
						  " FROM (SELECT log FROM immutable.safe_positions"
						  " WHERE log OPERATOR(pg_catalog.=) $1::pg_catalog.oid FOR UPDATE SKIP LOCKED) f"
						  " WHERE s.log OPERATOR(pg_catalog.=) f.log"
						  " AND s.position OPERATOR(pg_catalog.<) $2",
						  2, types, values, NULL, NULL, NULL) == 0)
		ie_registry_query("INSERT INTO immutable.safe_positions VALUES ($1, $2)"
						  " ON CONFLICT (log) DO NOTHING",
						  2, types, values, NULL, NULL, NULL);
}

/* A log or version table is gone, and its consumers and upcasters with it. */
void
ie_forget_log(Oid log)
{
	static const char *const queries[] = {
		"DELETE FROM immutable.safe_positions WHERE log OPERATOR(pg_catalog.=) $1::pg_catalog.oid",
		"DELETE FROM immutable.command_tables WHERE log OPERATOR(pg_catalog.=) $1::pg_catalog.oid",
		("DELETE FROM immutable.consumer_streams WHERE consumer OPERATOR(pg_catalog.=) ANY"
		 " (SELECT c.consumer FROM immutable.consumers c WHERE c.log OPERATOR(pg_catalog.=) $1::pg_catalog.oid)"),
		"DELETE FROM immutable.consumer_shards WHERE log OPERATOR(pg_catalog.=) $1::pg_catalog.oid",
		"DELETE FROM immutable.consumers WHERE log OPERATOR(pg_catalog.=) $1::pg_catalog.oid",
		"DELETE FROM immutable.upcasters WHERE log OPERATOR(pg_catalog.=) $1::pg_catalog.oid"
	};
	Oid			types[] = {REGCLASSOID};
	Datum		values[] = {ObjectIdGetDatum(log)};
	Size		i;

	for (i = 0; i < lengthof(queries); i++)
		ie_registry_query(queries[i], 1, types, values, NULL, NULL, NULL);
}

/* The highest position that a registry has for a log; -1 for none. */
static int64
highest(const char *table, const char *index, const char *column, Oid log,
		Snapshot snapshot)
{
	Oid			schema = get_namespace_oid(IE_SCHEMA, false);
	Relation	rel = table_open(get_relname_relid(table, schema), AccessShareLock);
	AttrNumber	log_column = get_attnum(RelationGetRelid(rel), "log");
	AttrNumber	position_column = get_attnum(RelationGetRelid(rel), column);
	int64		position = -1;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	row;
	bool		isnull;

	ScanKeyInit(&key, log_column, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(log));
	scan = systable_beginscan(rel, get_relname_relid(index, schema), true,
							  snapshot, 1, &key);
	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		Datum		found = heap_getattr(row, position_column,
										 RelationGetDescr(rel), &isnull);

		if (!isnull)
			position = Max(position, DatumGetInt64(found));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return position;
}
