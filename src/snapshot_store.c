/*
 * snapshot_store.c: the rows of <log>_snapshots.
 *
 * Rows are read and written without a plan, and so that a replay never waits
 * or fails for their sake: a lock that is not free at once, a table that the
 * owner has changed, a missing privilege mean that there are no snapshots.
 * Nothing in the table is unique, so that two who write the same snapshot at
 * the same time do not meet; the next one to write clears up.
 *
 * A snapshot is never seen by anyone who does not see its events. Events of
 * other transactions had been committed before its writer saw them, so they
 * come before its own commit, in every snapshot and on every replica. Those of
 * its own transaction were written by this subtransaction, a parent of it, or a
 * subtransaction that was released into one of them: whatever takes the events
 * back takes the row with them.
 */
#include "snapshot.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* IE_SNAPSHOT_COLUMNS, as attribute numbers. */
enum
{
	COLUMN_STREAM = 1,
	COLUMN_REDUCER,
	COLUMN_FINGERPRINT,
	COLUMN_SETTINGS,
	COLUMN_VERSION,
	COLUMN_EVENT_ID,
	COLUMN_RECORDED_AT,
	COLUMN_TAKEN_AT,
	COLUMN_STATE,
	NCOLUMNS = COLUMN_STATE
};

/* Snapshots of other settings than ours that a stream may have. */
#define MAX_OTHERS	8

/* The table and its index, open and locked. */
typedef struct Store
{
	Relation	table;
	Relation	index;
} Store;

static bool open_store(Store *store, Oid relid, LOCKMODE lockmode,
					   AclMode needed);
static bool lock_indexes(Relation table, LOCKMODE lockmode);
static bool is_as_made(Relation table);
static Oid	find_index(Relation table);
static bool is_our_index(Relation index);
static void close_store(Store *store);
static IndexScanDesc begin_scan(const Store *store, const IeSnapshotKey *key,
								int64 from_version, int64 to_version,
								Snapshot snapshot);
static void scan_key(ScanKey key, AttrNumber column, const text *value);
static void fill_snapshot(IeSnapshot *snapshot, TupleTableSlot *slot);
static bool lock_toast(Oid relid, LOCKMODE lockmode);
static bool is_there(const Store *store, const IeSnapshotKey *key, int64 version);
static void clear_up(const Store *store, const IeSnapshotKey *key, int64 version);
static bool is_obsolete(TupleTableSlot *slot, const IeSnapshotKey *key,
						int64 version, int *others);
static bool column_is(TupleTableSlot *slot, AttrNumber column, const text *value);
static void insert_row(Relation table, const IeSnapshotKey *key,
					   const IeSnapshot *snapshot);

/*
 * The newest snapshot up to a version and a time, as the caller's own MVCC
 * snapshot shows it: the one that shows him the events.
 */
bool
ie_read_snapshot(const IeSnapshotKey *key, int64 upto_version,
				 TimestampTz as_of, IeSnapshot *snapshot)
{
	Store		store;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	bool		isnull;
	bool		found = false;

	if (!open_store(&store, key->storage, AccessShareLock, ACL_SELECT))
		return false;
	slot = table_slot_create(store.table, NULL);
	scan = begin_scan(&store, key, IE_FIRST_VERSION, upto_version, GetActiveSnapshot());
	while (!found && index_getnext_slot(scan, BackwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		found = DatumGetTimestampTz(slot_getattr(slot, COLUMN_RECORDED_AT, &isnull)) <= as_of &&
			column_is(slot, COLUMN_REDUCER, key->reducer);
	}
	if (found)
		fill_snapshot(snapshot, slot);
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	close_store(&store);
	return found;
}

/* Copy a row out of its slot. */
static void
fill_snapshot(IeSnapshot *snapshot, TupleTableSlot *slot)
{
	bool		isnull;
	Datum		state;

	snapshot->version = DatumGetInt64(slot_getattr(slot, COLUMN_VERSION, &isnull));
	snapshot->event_id = *DatumGetUUIDP(slot_getattr(slot, COLUMN_EVENT_ID, &isnull));
	snapshot->recorded_at =
		DatumGetTimestampTz(slot_getattr(slot, COLUMN_RECORDED_AT, &isnull));
	state = slot_getattr(slot, COLUMN_STATE, &isnull);
	snapshot->state = isnull ? NULL : TextDatumGetCString(state);
}

/*
 * May a snapshot be written, here and now? By a serializable transaction it is
 * not: others would be told of conflicts that are none.
 */
bool
ie_may_write_snapshot(void)
{
	return !XactReadOnly && !RecoveryInProgress() && !IsInParallelMode() &&
		!IsolationIsSerializable();
}

/* Write a snapshot, and delete those that it replaces; or let it be. */
void
ie_write_snapshot(const IeSnapshotKey *key, const IeSnapshot *snapshot)
{
	Store		store;

	if (!open_store(&store, key->storage, RowExclusiveLock,
					ACL_SELECT | ACL_INSERT | ACL_DELETE))
		return;
	if (lock_toast(store.table->rd_rel->reltoastrelid, RowExclusiveLock) &&
		(key->refuted || !is_there(&store, key, snapshot->version)))
	{
		clear_up(&store, key, snapshot->version);
		insert_row(store.table, key, snapshot);
	}
	close_store(&store);
}

/*
 * Lock and open the table with its indexes, if that can be done at once, the
 * caller has the privileges, and it is still as it was made. The locks stay to
 * the end of the transaction.
 */
static bool
open_store(Store *store, Oid relid, LOCKMODE lockmode, AclMode needed)
{
	Oid			index;

	if (!ConditionalLockRelationOid(relid, lockmode))
		return false;
	store->table = try_relation_open(relid, NoLock);
	if (store->table == NULL)
		return false;
	if (pg_class_aclmask(relid, GetUserId(), needed, ACLMASK_ALL) == needed &&
		lock_indexes(store->table, lockmode) && is_as_made(store->table) &&
		OidIsValid(index = find_index(store->table)))
	{
		store->index = index_open(index, NoLock);
		return true;
	}
	relation_close(store->table, NoLock);
	return false;
}

/* Lock the indexes of a table, if that can be done at once. */
static bool
lock_indexes(Relation table, LOCKMODE lockmode)
{
	ListCell   *cell;

	foreach(cell, RelationGetIndexList(table))
		if (!ConditionalLockRelationOid(lfirst_oid(cell), lockmode))
			return false;
	return true;
}

/*
 * Has the table the columns that it was made with, and nothing that a row put
 * straight into it would pass by: triggers, constraints, policies, children?
 */
static bool
is_as_made(Relation table)
{
	static const struct
	{
		const char *name;
		Oid			type;
		bool		not_null;
	}			made[NCOLUMNS] =
	{
		{"stream", TEXTOID, true}, {"reducer", TEXTOID, true},
		{"fingerprint", TEXTOID, true}, {"settings", TEXTOID, true},
		{"version", INT8OID, true}, {"event_id", UUIDOID, true},
		{"recorded_at", TIMESTAMPTZOID, true},
		{"taken_at", TIMESTAMPTZOID, true}, {"state", TEXTOID, false}
	};
	TupleDesc	columns = RelationGetDescr(table);
	int			i;

	if (table->rd_rel->relkind != RELKIND_RELATION || columns->natts != NCOLUMNS ||
		table->rd_rel->relispartition || table->rd_rel->relhasrules ||
		table->trigdesc != NULL ||
		(columns->constr != NULL && columns->constr->num_check > 0) ||
		(RecoveryInProgress() && !RelationIsPermanent(table)) ||
		ie_row_security(table))
		return false;
	for (i = 0; i < NCOLUMNS; i++)
	{
		Form_pg_attribute column = TupleDescAttr(columns, i);

		if (column->attisdropped || column->attgenerated != '\0' ||
			column->atttypid != made[i].type ||
			column->attnotnull != made[i].not_null ||
			strcmp(NameStr(column->attname), made[i].name) != 0)
			return false;
	}
	return true;
}

/* The index that was made with the table, if no other stands in the way. */
static Oid
find_index(Relation table)
{
	Oid			found = InvalidOid;
	ListCell   *cell;

	foreach(cell, RelationGetIndexList(table))
	{
		Relation	index = index_open(lfirst_oid(cell), NoLock);
		bool		plain = !index->rd_index->indisunique &&
			!index->rd_index->indisexclusion &&
			RelationGetIndexExpressions(index) == NIL &&
			RelationGetIndexPredicate(index) == NIL;

		if (is_our_index(index))
			found = RelationGetRelid(index);
		index_close(index, NoLock);
		if (!plain)
			return InvalidOid;
	}
	return found;
}

/* Is this a valid btree on (stream, fingerprint, settings, version)? */
static bool
is_our_index(Relation index)
{
	static const AttrNumber keys[] = {COLUMN_STREAM, COLUMN_FINGERPRINT,
	COLUMN_SETTINGS, COLUMN_VERSION};
	int			i;

	if (!ie_is_btree_on(index, COLUMN_STREAM) ||
		index->rd_index->indnkeyatts != lengthof(keys))
		return false;
	for (i = 0; i < (int) lengthof(keys); i++)
		if (index->rd_index->indkey.values[i] != keys[i] ||
			index->rd_indoption[i] != 0 ||
			(keys[i] != COLUMN_VERSION && index->rd_indcollation[i] != C_COLLATION_OID))
			return false;
	return true;
}

/* Close what open_store opened. */
static void
close_store(Store *store)
{
	index_close(store->index, NoLock);
	relation_close(store->table, NoLock);
}

/* Begin to read the snapshots of a key between two versions. */
static IndexScanDesc
begin_scan(const Store *store, const IeSnapshotKey *key, int64 from_version,
		   int64 to_version, Snapshot snapshot)
{
	ScanKeyData keys[5];
	IndexScanDesc scan = ie_index_beginscan(store->table, store->index,
											snapshot, lengthof(keys));

	scan_key(&keys[0], 1, key->stream);
	scan_key(&keys[1], 2, key->fingerprint);
	scan_key(&keys[2], 3, key->settings);
	ScanKeyInit(&keys[3], 4, BTGreaterEqualStrategyNumber, F_INT8GE,
				Int64GetDatum(from_version));
	ScanKeyInit(&keys[4], 4, BTLessEqualStrategyNumber, F_INT8LE,
				Int64GetDatum(to_version));
	index_rescan(scan, keys, lengthof(keys), NULL, 0);
	return scan;
}

/* A scan key: an index column of type text equals a value. */
static void
scan_key(ScanKey key, AttrNumber column, const text *value)
{
	ScanKeyEntryInitialize(key, 0, column, BTEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXTEQ, PointerGetDatum(value));
}

/* Lock where long values are kept, if that can be done at once. */
static bool
lock_toast(Oid relid, LOCKMODE lockmode)
{
	Relation	toast;
	bool		locked;

	if (!OidIsValid(relid))
		return true;
	if (!ConditionalLockRelationOid(relid, lockmode))
		return false;
	toast = table_open(relid, NoLock);
	locked = lock_indexes(toast, lockmode);
	table_close(toast, NoLock);
	return locked;
}

/*
 * Has somebody written this snapshot already, or a later one? Also one that is
 * not committed yet, or was written by this very command.
 */
static bool
is_there(const Store *store, const IeSnapshotKey *key, int64 version)
{
	SnapshotData dirty;
	IndexScanDesc scan;
	TupleTableSlot *slot = table_slot_create(store->table, NULL);
	bool		found;

	InitDirtySnapshot(dirty);
	scan = begin_scan(store, key, version, PG_INT64_MAX, &dirty);
	found = index_getnext_slot(scan, BackwardScanDirection, slot);
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return found;
}

/*
 * Delete what a new snapshot replaces. A row that another transaction has its
 * hands on is left to it; the snapshot used is the latest one, so that no row
 * of this very command is among them.
 */
static void
clear_up(const Store *store, const IeSnapshotKey *key, int64 version)
{
	Snapshot	latest = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *slot = table_slot_create(store->table, NULL);
	IndexScanDesc scan = ie_index_beginscan(store->table, store->index, latest, 1);
	ScanKeyData stream;
	int			others = 0;

	scan_key(&stream, 1, key->stream);
	index_rescan(scan, &stream, 1, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		TM_FailureData failure;

		CHECK_FOR_INTERRUPTS();
		if (is_obsolete(slot, key, version, &others))
			(void) table_tuple_delete(store->table, &slot->tts_tid,
									  GetCurrentCommandId(true), latest,
									  InvalidSnapshot, false, &failure, false);
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(latest);
}

/*
 * Does a row of the stream count no more, beside a new one of this version? A
 * few of other settings stay, for those who use them.
 */
static bool
is_obsolete(TupleTableSlot *slot, const IeSnapshotKey *key, int64 version,
			int *others)
{
	bool		isnull;

	if (!column_is(slot, COLUMN_REDUCER, key->reducer))
		return false;
	if (!column_is(slot, COLUMN_FINGERPRINT, key->fingerprint))
		return true;
	if (!column_is(slot, COLUMN_SETTINGS, key->settings))
		return ++*others > MAX_OTHERS;
	return key->refuted ||
		DatumGetInt64(slot_getattr(slot, COLUMN_VERSION, &isnull)) < version;
}

/* Has a column this value? */
static bool
column_is(TupleTableSlot *slot, AttrNumber column, const text *value)
{
	bool		isnull;
	Datum		found = slot_getattr(slot, column, &isnull);

	return !isnull && ie_same_text(DatumGetTextPP(found), value);
}

/* Put a row into the table and its indexes. */
static void
insert_row(Relation table, const IeSnapshotKey *key, const IeSnapshot *snapshot)
{
	EState	   *estate = CreateExecutorState();
	ResultRelInfo *target = makeNode(ResultRelInfo);
	TupleTableSlot *slot = table_slot_create(table, &estate->es_tupleTable);

	target->ri_RelationDesc = table;
	ExecOpenIndices(target, false);
	ExecClearTuple(slot);
	memset(slot->tts_isnull, false, NCOLUMNS * sizeof(bool));
	slot->tts_values[COLUMN_STREAM - 1] = PointerGetDatum(key->stream);
	slot->tts_values[COLUMN_REDUCER - 1] = PointerGetDatum(key->reducer);
	slot->tts_values[COLUMN_FINGERPRINT - 1] = PointerGetDatum(key->fingerprint);
	slot->tts_values[COLUMN_SETTINGS - 1] = PointerGetDatum(key->settings);
	slot->tts_values[COLUMN_VERSION - 1] = Int64GetDatum(snapshot->version);
	slot->tts_values[COLUMN_EVENT_ID - 1] = UUIDPGetDatum(&snapshot->event_id);
	slot->tts_values[COLUMN_RECORDED_AT - 1] = TimestampTzGetDatum(snapshot->recorded_at);
	slot->tts_values[COLUMN_TAKEN_AT - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	slot->tts_isnull[COLUMN_STATE - 1] = snapshot->state == NULL;
	if (snapshot->state != NULL)
		slot->tts_values[COLUMN_STATE - 1] = CStringGetTextDatum(snapshot->state);
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(table);
	table_tuple_insert(table, slot, GetCurrentCommandId(true), 0, NULL);
	(void) ie_insert_index_tuples(target, slot, estate);
	ExecCloseIndices(target);
	ExecResetTupleTable(estate->es_tupleTable, false);
	FreeExecutorState(estate);
}
