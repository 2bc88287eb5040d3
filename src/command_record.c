/*
 * command_record.c: commands with an id, and what came of them.
 *
 * An id is locked while its command is handled; after that its row in
 * <log>_commands, committed or not, keeps the command from being handled
 * again. The row is read through the unique index with a dirty snapshot, as
 * that index itself looks for duplicates.
 */
#include "command.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "compat.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* Beside STREAM_LOCK of stream_lock.c: the fourth field tells users apart. */
#define COMMAND_LOCK	9

static LOCKTAG command_tag(const IeCommand *command);
static void read_outcome(const IeCommand *command, TupleTableSlot *slot,
						 IeAppended *outcome);
pg_noreturn static void refuse_id(const IeCommand *command, const char *detail);
static SPIPlanPtr insert_plan(const IeCommand *command);

/* Keep others from handling the same command, for the length of this call. */
void
ie_lock_command(IeCommand *command)
{
	LOCKTAG		tag;

	if (command->table == NULL)
		return;
	tag = command_tag(command);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	command->locked = true;
}

/* Let them in again. */
void
ie_unlock_command(IeCommand *command)
{
	LOCKTAG		tag;

	if (!command->locked)
		return;
	tag = command_tag(command);
	LockRelease(&tag, ExclusiveLock, false);
	command->locked = false;
}

/* The lock of a command: its log, and a hash of its id. */
static LOCKTAG
command_tag(const IeCommand *command)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, RelationGetRelid(command->log),
						 hash_bytes(command->id->data, UUID_LEN), COMMAND_LOCK);
	return tag;
}

/*
 * Was the command handled before? Then what came of it. If a transaction in
 * progress has handled it, that is the writer to wait for.
 */
bool
ie_find_command(const IeCommand *command, IeAppended *outcome,
				TransactionId *writer)
{
	SnapshotData dirty;
	ScanKeyData key;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	bool		found;

	*writer = InvalidTransactionId;
	if (command->table == NULL)
		return false;
	InitDirtySnapshot(dirty);
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(command->id));
	index = index_open(command->index, NoLock);
	slot = table_slot_create(command->table, NULL);
	scan = ie_index_beginscan(command->table, index, &dirty, 1);
	index_rescan(scan, &key, 1, NULL, 0);
	found = index_getnext_slot(scan, ForwardScanDirection, slot);
	if (found)
		*writer = dirty.xmin;
	found = found && !TransactionIdIsValid(*writer);
	if (found)
		read_outcome(command, slot, outcome);
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, NoLock);
	return found;
}

/*
 * Take what came of a command from its row, if it is the same command. As with
 * an append that is retried, a serializable transaction must not build on a
 * row that its snapshot does not show.
 */
static void
read_outcome(const IeCommand *command, TupleTableSlot *slot,
			 IeAppended *outcome)
{
	Datum	   *values = slot->tts_values;

	slot_getsomeattrs(slot, IE_COMMAND_NCOLUMNS);
	if (!ie_same_text(DatumGetTextPP(values[IE_COMMAND_STREAM - 1]), command->stream))
		refuse_id(command, "It was handled for another stream.");
	if (compareJsonbContainers(&DatumGetJsonbP(values[IE_COMMAND_BODY - 1])->root,
							   &command->body->root) != 0)
		refuse_id(command, "It was another command.");
	if (ie_is_unseen(command->table, slot))
		ie_refuse_unseen(command->log);
	outcome->version = DatumGetInt64(values[IE_COMMAND_VERSION - 1]);
	outcome->position = DatumGetInt64(values[IE_COMMAND_POSITION - 1]);
	outcome->written = DatumGetInt32(values[IE_COMMAND_WRITTEN - 1]);
}

/* Raise the error for an id that another command has. */
static void
refuse_id(const IeCommand *command, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNIQUE_VIOLATION),
			 errmsg("command id \"%s\" stands already in \"%s\"",
					DatumGetCString(DirectFunctionCall1(uuid_out,
														UUIDPGetDatum(command->id))),
					RelationGetRelationName(command->table)),
			 errdetail_internal("%s", detail),
			 errhint("Give a new command a new id."),
			 errtable(command->table)));
}

/* Record a command, if it has an id, and what came of it. */
void
ie_record_command(const IeCommand *command, IeAppended outcome)
{
	Datum		values[] = {
		UUIDPGetDatum(command->id), Int64GetDatum(outcome.version),
		Int64GetDatum(outcome.position), Int32GetDatum(outcome.written),
		PointerGetDatum(command->stream), JsonbPGetDatum(command->body)
	};
	int			result;

	if (command->table == NULL)
		return;
	SPI_connect();
	result = SPI_execute_plan(insert_plan(command), values, NULL, false, 0);
	if (result != SPI_OK_INSERT)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(result));
	if (SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
				 errmsg("a trigger on \"%s\" suppressed the record of a command",
						RelationGetRelationName(command->table)),
				 errhint("To reject a command, raise an error."),
				 errtable(command->table)));
	SPI_finish();
}

/*
 * The INSERT, prepared once per backend, and again when the table was renamed.
 * An old plan is kept: an outer call may be running it.
 */
static SPIPlanPtr
insert_plan(const IeCommand *command)
{
	Oid			types[] = {UUIDOID, INT8OID, INT8OID, INT4OID, TEXTOID, JSONBOID};
	IeCommandPlan *kept = command->insert;
	char	   *name = ie_qualified_name(command->table);
	SPIPlanPtr	plan;

	if (kept->name != NULL && strcmp(kept->name, name) == 0)
		return kept->plan;
	plan = SPI_prepare(psprintf("INSERT INTO %s (command_id, version, \"position\","
								" written, stream, command)"
								" VALUES ($1, $2, $3, $4, $5, $6)", name),
					   lengthof(types), types);
	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	name = MemoryContextStrdup(CacheMemoryContext, name);
	kept->plan = plan;
	kept->name = name;
	return plan;
}
