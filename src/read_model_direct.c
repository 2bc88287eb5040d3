/*
 * read_model_direct.c: rows of a plain read model, without queries.
 *
 * An inline projection mostly changes one row of a table that has nothing but
 * columns, constraints and indexes. Such a row is found by the primary key's
 * index, and written as the executor would write it, without a plan to set up
 * and take down. What needs the executor goes through the queries of
 * read_model.c instead: triggers, foreign keys among them, partitions, policies,
 * rules, generated columns; and so does a transaction whose snapshot stays,
 * where a row that has changed since is an error and not the newer row.
 *
 * A row is read as it is now: committed, or our own. If another transaction has
 * it in hand, that one is waited for; if it changed between reading and
 * writing, nothing is written, and the caller reads and folds again. So rows
 * are taken one by one, in the order of their keys.
 */
#include "projection.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "commands/trigger.h"
#include "compat.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* What it takes to write without a plan, while a batch is projected. */
struct IeDirect
{
	const IeProjection *projection;
	Relation	table;
	Relation	index;
	SnapshotData dirty;			/* sees what others have in hand, and says so */
	IndexScanDesc scan;
	TupleTableSlot *found;
	TupleTableSlot *written;
	EState	   *estate;
	ResultRelInfo *target;
	bool		indexes_open;
};

static bool has_plain_columns(TupleDesc columns);
static bool has_plain_indexes(Relation table);
static bool has_other_triggers(const TriggerDesc *triggers);
static bool wait_for_others(IeDirect *direct);
static bool is_missing(IeDirect *direct);
static bool lock_row(IeDirect *direct);
static bool add_row(IeDirect *direct);
static bool update_row(IeDirect *direct);
static bool delete_row(IeDirect *direct);
static bool is_done(TM_Result result);
static void take_result(IeDirect *direct, HeapTupleHeader row);
static void open_indexes(IeDirect *direct);

/* Is a read model plain? Then note how its rows are found. */
void
ie_prepare_direct(IeProjection *projection, Relation table)
{
	int			i;

	projection->index = InvalidOid;
	if (table->rd_rel->relkind != RELKIND_RELATION ||
		table->rd_rel->relam != HEAP_TABLE_AM_OID ||
		table->rd_rel->reltype != projection->columns->tdtypeid ||
		table->rd_rel->relhassubclass || table->rd_rel->relispartition ||
		table->rd_rel->relrowsecurity || table->rd_rules != NULL ||
		has_other_triggers(table->trigdesc) ||
		!has_plain_columns(RelationGetDescr(table)) ||
		!has_plain_indexes(table) ||
		pg_class_aclmask(RelationGetRelid(table), projection->owner,
						 ACL_SELECT | ACL_INSERT | ACL_UPDATE | ACL_DELETE,
						 ACLMASK_ALL) !=
		(ACL_SELECT | ACL_INSERT | ACL_UPDATE | ACL_DELETE))
		return;
	projection->scan_keys = palloc0(projection->nkeys * sizeof(ScanKeyData));
	for (i = 0; i < projection->nkeys; i++)
	{
		const IeKeyColumn *key = &projection->keys[i];

		ScanKeyEntryInitialize(&projection->scan_keys[i], 0, i + 1,
							   BTEqualStrategyNumber, InvalidOid,
							   key->collation, get_opcode(key->equal), 0);
	}
	projection->index = ie_primary_key(table);
}

/* Is every column written as the reducer gives it? */
static bool
has_plain_columns(TupleDesc columns)
{
	int			i;

	for (i = 0; i < columns->natts; i++)
		if (TupleDescAttr(columns, i)->attgenerated != '\0' ||
			TupleDescAttr(columns, i)->attidentity == ATTRIBUTE_IDENTITY_ALWAYS)
			return false;
	return true;
}

/* Are its indexes all valid, and none of an exclusion constraint? */
static bool
has_plain_indexes(Relation table)
{
	ListCell   *cell;

	foreach(cell, RelationGetIndexList(table))
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);
		bool		plain = !index->rd_index->indisexclusion &&
			index->rd_index->indimmediate && index->rd_index->indisvalid;

		index_close(index, AccessShareLock);
		if (!plain)
			return false;
	}
	return true;
}

/* Are there triggers beside the guards of the read model? */
static bool
has_other_triggers(const TriggerDesc *triggers)
{
	int			i;

	for (i = 0; triggers != NULL && i < triggers->numtriggers; i++)
		if (strcmp(triggers->triggers[i].tgname, IE_READ_MODEL_STATEMENT) != 0 &&
			strcmp(triggers->triggers[i].tgname, IE_READ_MODEL_ROW) != 0)
			return true;
	return false;
}

/* Begin to write to a read model; NULL when it takes queries. */
IeDirect *
ie_direct_begin(const IeProjection *projection)
{
	IeDirect   *direct;
	Relation	table;

	if (!OidIsValid(projection->index) || IsolationUsesXactSnapshot())
		return NULL;
	table = table_open(projection->target, RowExclusiveLock);
	if (projection->changes != ie_catalog_changes())
	{
		table_close(table, NoLock);
		return NULL;			/* altered while we waited for the lock */
	}
	direct = palloc0(sizeof(IeDirect));
	direct->projection = projection;
	direct->table = table;
	direct->index = index_open(projection->index, RowExclusiveLock);
	direct->found = table_slot_create(table, NULL);
	InitDirtySnapshot(direct->dirty);
	direct->scan = ie_index_beginscan(table, direct->index, &direct->dirty,
									  projection->nkeys);
	direct->estate = CreateExecutorState();
	direct->target = makeNode(ResultRelInfo);
	InitResultRelInfo(direct->target, table, 0, NULL, 0);
	CheckCmdReplicaIdentity(table, CMD_UPDATE);
	return direct;
}

/* The row of a key as it is now, once nobody else has it in hand. */
void
ie_direct_load(IeDirect *direct, IeKeyGroup *group)
{
	const IeProjection *projection = direct->projection;
	int			i;

	for (i = 0; i < projection->nkeys; i++)
		projection->scan_keys[i].sk_argument = group->key[i];
	group->row = NULL;
	do
	{
		CHECK_FOR_INTERRUPTS();
		index_rescan(direct->scan, projection->scan_keys, projection->nkeys,
					 NULL, 0);
		if (!index_getnext_slot(direct->scan, ForwardScanDirection, direct->found))
			return;
	} while (wait_for_others(direct));
	group->row = DatumGetHeapTupleHeader(ExecFetchSlotHeapTupleDatum(direct->found));
}

/* Is the row found in another transaction's hand? Then wait for that one. */
static bool
wait_for_others(IeDirect *direct)
{
	SnapshotData *dirty = &direct->dirty;
	TransactionId other = TransactionIdIsValid(dirty->xmin) ? dirty->xmin : dirty->xmax;
	ItemPointerData tid = direct->found->tts_tid;

	if (!TransactionIdIsValid(other))
		return false;
	ExecClearTuple(direct->found);
	index_rescan(direct->scan, direct->projection->scan_keys,
				 direct->projection->nkeys, NULL, 0);	/* let go of the pages */
	if (TransactionIdIsValid(dirty->xmin) && dirty->speculativeToken != 0)
		SpeculativeInsertionWait(dirty->xmin, dirty->speculativeToken);
	else
		XactLockTableWait(other, direct->table, &tid, XLTW_Update);
	return true;
}

/*
 * Write the result of the group that was loaded last; false when its row has
 * changed since, and nothing was written. A row that stays is locked.
 */
bool
ie_direct_write(IeDirect *direct, const IeKeyGroup *group)
{
	bool		done;

	if (group->result == NULL && group->row == NULL)
		return is_missing(direct);
	if (group->result == group->row)
		return lock_row(direct);
	if (group->result == NULL)
		done = delete_row(direct);
	else
	{
		take_result(direct, group->result);
		done = group->row == NULL ? add_row(direct) : update_row(direct);
		ResetPerTupleExprContext(direct->estate);
	}
	return done;
}

/*
 * Is there really no row? A scan that sees what is not committed can miss a row
 * that gets its new version in a place that the scan has passed, and its old
 * one ended before the scan comes to it. Who adds a row is told so by the
 * index; where nothing is to be written, a snapshot tells.
 */
static bool
is_missing(IeDirect *direct)
{
	const IeProjection *projection = direct->projection;
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	IndexScanDesc scan = ie_index_beginscan(direct->table, direct->index,
											snapshot, projection->nkeys);
	bool		missing;

	index_rescan(scan, projection->scan_keys, projection->nkeys, NULL, 0);
	missing = !index_getnext_slot(scan, ForwardScanDirection, direct->found);
	index_endscan(scan);
	UnregisterSnapshot(snapshot);
	return missing;
}

/* Lock the row; false when it has changed. */
static bool
lock_row(IeDirect *direct)
{
	ItemPointerData tid = direct->found->tts_tid;
	TM_FailureData failure;

	return is_done(table_tuple_lock(direct->table, &tid, &direct->dirty,
									direct->found, GetCurrentCommandId(false),
									LockTupleExclusive, LockWaitBlock, 0, &failure));
}

/* Make a new row; false when somebody else has made it meanwhile. */
static bool
add_row(IeDirect *direct)
{
	List	   *arbiters = list_make1_oid(direct->projection->index);
	ItemPointerData conflict;
	bool		conflicts = false;
	uint32		token;

	open_indexes(direct);
	if (!ie_check_index_constraints(direct->target, direct->written,
									direct->estate, &conflict, arbiters))
		return false;
	token = SpeculativeInsertionLockAcquire(GetCurrentTransactionId());
	table_tuple_insert_speculative(direct->table, direct->written,
								   GetCurrentCommandId(true), 0, NULL, token);
	ie_insert_index_tuples_unless(direct->target, direct->written,
								  direct->estate, &conflicts, arbiters);
	table_tuple_complete_speculative(direct->table, direct->written, token, !conflicts);
	SpeculativeInsertionLockRelease(GetCurrentTransactionId());
	return !conflicts;
}

/* Write a new version of the row; false when it has changed. */
static bool
update_row(IeDirect *direct)
{
	TM_FailureData failure;
	IeIndexUpdate update;

	if (!is_done(ie_table_update(direct->table, &direct->found->tts_tid,
								 direct->written, GetCurrentCommandId(true),
								 &failure, &update)))
		return false;
	if (ie_must_update_indexes(update))
	{
		open_indexes(direct);
		ie_update_index_tuples(direct->target, direct->written,
							   direct->estate, update);
	}
	return true;
}

/* Delete the row; false when it has changed. */
static bool
delete_row(IeDirect *direct)
{
	TM_FailureData failure;

	return is_done(table_tuple_delete(direct->table, &direct->found->tts_tid,
									  GetCurrentCommandId(true), InvalidSnapshot,
									  InvalidSnapshot, true, &failure, false));
}

/* Was a row written, or was somebody else faster? */
static bool
is_done(TM_Result result)
{
	switch (result)
	{
		case TM_Ok:
			return true;
		case TM_Updated:
		case TM_Deleted:
			return false;
		default:
			elog(ERROR, "unexpected result %d of writing to a read model", result);
	}
}

/* Put a row into the slot that is written, and check its constraints. */
static void
take_result(IeDirect *direct, HeapTupleHeader row)
{
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(row),
	.t_tableOid = RelationGetRelid(direct->table), .t_data = row};

	if (direct->written == NULL)
		direct->written = table_slot_create(direct->table, NULL);
	ItemPointerSetInvalid(&tuple.t_self);
	ExecForceStoreHeapTuple(&tuple, direct->written, false);
	direct->written->tts_tableOid = RelationGetRelid(direct->table);
	ExecConstraints(direct->target, direct->written, direct->estate);
}

/* Open the indexes, when the first row needs them. */
static void
open_indexes(IeDirect *direct)
{
	MemoryContext caller;

	if (direct->indexes_open)
		return;
	caller = MemoryContextSwitchTo(direct->estate->es_query_cxt);
	ExecOpenIndices(direct->target, true);
	MemoryContextSwitchTo(caller);
	direct->indexes_open = true;
}

/*
 * Close what was opened; the locks stay to the end of the transaction. What
 * comes next may change the same rows again.
 */
void
ie_direct_end(IeDirect *direct)
{
	index_endscan(direct->scan);
	ExecDropSingleTupleTableSlot(direct->found);
	if (direct->written != NULL)
		ExecDropSingleTupleTableSlot(direct->written);
	if (direct->indexes_open)
		ExecCloseIndices(direct->target);
	FreeExecutorState(direct->estate);
	index_close(direct->index, NoLock);
	table_close(direct->table, NoLock);
	CommandCounterIncrement();
}
