/*
 * command_table.c: commands that are recorded by their ids.
 *
 * <log>_commands is an ordinary table, protected, with a row for each command
 * that was handled under an id: what it was, and what came of it. An id is
 * locked while its command is handled; after that the row itself, committed or
 * not, keeps the command from being handled again. It is read through the
 * primary key with a dirty snapshot, as a unique index looks for duplicates.
 */
#include "command.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/relscan.h"
#include "access/sysattr.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "compat.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#define REGISTRY		"command_tables"

/* Beside STREAM_LOCK of stream_lock.c: the fourth field tells users apart. */
#define COMMAND_LOCK	9

/* The columns of <log>_commands. */
enum
{
	ID = 1,
	RECORDED_AT,
	VERSION,
	POSITION,
	WRITTEN,
	STREAM,
	COMMAND,
	NCOLUMNS = COMMAND
};

static const struct
{
	const char *name;
	Oid			type;
	const char *definition;
}			columns[NCOLUMNS] = {
	{"command_id", UUIDOID, "pg_catalog.uuid PRIMARY KEY"},
	{"recorded_at", TIMESTAMPTZOID, "pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()"},
	{"version", INT8OID, "pg_catalog.int8 NOT NULL"},
	{"position", INT8OID, "pg_catalog.int8 NOT NULL"},
	{"written", INT4OID, "pg_catalog.int4 NOT NULL"},
	{"stream", TEXTOID, "pg_catalog.text COLLATE pg_catalog.\"C\" NOT NULL"},
	{"command", JSONBOID, "pg_catalog.jsonb NOT NULL"}
};

/* What this backend remembers of a log. */
typedef struct Remembered
{
	Oid			log;			/* the hash key */
	bool		known;
	Oid			table;			/* InvalidOid: there is none */
	SPIPlanPtr	insert;
	char	   *insert_name;	/* the table's name when it was prepared */
} Remembered;

static HTAB *memory = NULL;
static IeRegistryWatch watch = {.table = REGISTRY};

static Relation open_table(Oid relid, LOCKMODE lockmode);
static char *definition(void);
static Remembered *remembered(Oid log);
static void create_memory(void);
pg_noreturn static void refuse_table(Relation log, const char *detail,
									 const char *hint);
static bool has_columns(Relation table);
static Oid	id_index(Relation table);
static Bitmapset *all_columns(void);
static LOCKTAG command_tag(const IeCommand *command);
static void read_outcome(const IeCommand *command, TupleTableSlot *slot,
						 IeAppended *outcome);
pg_noreturn static void refuse_id(const IeCommand *command, const char *detail);
static SPIPlanPtr insert_plan(const IeCommand *command);

PG_FUNCTION_INFO_V1(ie_enable_commands);

/* Create <log>_commands. */
Datum
ie_enable_commands(PG_FUNCTION_ARGS)
{
	Oid			types[] = {REGCLASSOID, REGCLASSOID};
	Datum		values[2];
	IeTarget	target;
	Relation	table;
	Oid			relid;

	ie_require_arg(fcinfo, 0, "log");
	/* one at a time, and appends may go on */
	target = ie_open_whole_log(PG_GETARG_OID(0), ShareUpdateExclusiveLock);
	ie_check_owner(target.log);
	relid = ie_side_table(REGISTRY, PG_GETARG_OID(0));
	table = open_table(relid, AccessShareLock);
	if (table != NULL)
	{
		ereport(NOTICE,
				(errmsg("commands of log \"%s\" are already recorded in \"%s\"",
						RelationGetRelationName(target.log),
						RelationGetRelationName(table))));
		relation_close(table, NoLock);
		ie_close_log(&target);
		PG_RETURN_OID(relid);
	}
	relid = ie_create_side_table(target.log, "commands", definition());
	DirectFunctionCall1(ie_protect, ObjectIdGetDatum(relid));
	values[0] = PG_GETARG_DATUM(0);
	values[1] = ObjectIdGetDatum(relid);
	ie_registry_query("INSERT INTO immutable." REGISTRY " VALUES ($1, $2)"
					  " ON CONFLICT (log) DO UPDATE SET relation = EXCLUDED.relation",
					  2, types, values, NULL, NULL, NULL);
	ie_close_log(&target);
	PG_RETURN_OID(relid);
}

/* Open a table that may be gone, or NULL. */
static Relation
open_table(Oid relid, LOCKMODE lockmode)
{
	return OidIsValid(relid) ? try_relation_open(relid, lockmode) : NULL;
}

/* The columns, as CREATE TABLE takes them. */
static char *
definition(void)
{
	StringInfoData text;
	int			i;

	initStringInfo(&text);
	for (i = 0; i < NCOLUMNS; i++)
		appendStringInfo(&text, "%s%s %s", i == 0 ? "" : ", ",
						 quote_identifier(columns[i].name), columns[i].definition);
	return text.data;
}

/* Open the table that a command with an id is recorded in. */
void
ie_open_commands(IeCommand *command, Relation log)
{
	Relation	table;

	command->log = log;
	if (command->id == NULL)
		return;
	table = open_table(remembered(RelationGetRelid(log))->table, RowExclusiveLock);
	if (table == NULL)
		refuse_table(log, "There is no table for them.",
					 "Call immutable.enable_commands.");
	command->table = table;
	command->index = id_index(table);
	if (!has_columns(table) || !OidIsValid(command->index))
		refuse_table(log, psprintf("Table \"%s\" is not as immutable.enable_commands made it.",
								   RelationGetRelationName(table)),
					 "Put its columns and its primary key back.");
	if (ie_guard_problem(table) != NULL)
		refuse_table(log, psprintf("In \"%s\", %s.", RelationGetRelationName(table),
								   ie_guard_problem(table)),
					 "Call immutable.protect.");
	ie_check_privileges(table, ACL_SELECT, all_columns());
	ie_check_privileges(table, ACL_INSERT, all_columns());
}

/* What is remembered of a log; asked anew when the registry has changed. */
static Remembered *
remembered(Oid log)
{
	Remembered *entry;
	bool		found;

	if (memory == NULL)
		create_memory();
	if (!watch.current)
	{
		HASH_SEQ_STATUS all;

		hash_seq_init(&all, memory);
		while ((entry = hash_seq_search(&all)) != NULL)
			entry->known = false;
		ie_watch_registry(&watch);
	}
	entry = hash_search(memory, &log, HASH_ENTER, &found);
	if (!found)
		MemSet((char *) entry + sizeof(Oid), 0, sizeof(*entry) - sizeof(Oid));
	if (!entry->known)
	{
		entry->table = ie_side_table(REGISTRY, log);
		entry->known = watch.current;
	}
	return entry;
}

/* Make room to remember. */
static void
create_memory(void)
{
	HASHCTL		ctl = {.keysize = sizeof(Oid), .entrysize = sizeof(Remembered)};

	ctl.hcxt = AllocSetContextCreate(CacheMemoryContext,
									 "immutable_events command tables",
									 ALLOCSET_SMALL_SIZES);
	memory = hash_create("immutable_events command tables", 16, &ctl,
						 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Raise the error for a log that records no commands. */
static void
refuse_table(Relation log, const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("log \"%s\" cannot record commands",
					RelationGetRelationName(log)),
			 errdetail_internal("%s", detail),
			 errhint("%s", hint),
			 errtable(log)));
}

/* Has a table the columns that were made? There may be more. */
static bool
has_columns(Relation table)
{
	TupleDesc	actual = RelationGetDescr(table);
	int			i;

	if (table->rd_rel->relkind != RELKIND_RELATION || actual->natts < NCOLUMNS)
		return false;
	for (i = 0; i < NCOLUMNS; i++)
	{
		Form_pg_attribute column = TupleDescAttr(actual, i);

		if (column->atttypid != columns[i].type || !column->attnotnull ||
			strcmp(NameStr(column->attname), columns[i].name) != 0)
			return false;
	}
	return true;
}

/* The unique index that a command is found by, or InvalidOid. */
static Oid
id_index(Relation table)
{
	ListCell   *cell;

	foreach(cell, RelationGetIndexList(table))
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);
		bool		fits = ie_is_btree_on(index, ID) &&
			index->rd_index->indisunique && index->rd_index->indimmediate &&
			index->rd_index->indnkeyatts == 1;

		index_close(index, NoLock);
		if (fits)
			return lfirst_oid(cell);
	}
	return InvalidOid;
}

/* The columns, for a check of privileges. */
static Bitmapset *
all_columns(void)
{
	return bms_add_range(NULL, ID - FirstLowInvalidHeapAttributeNumber,
						 NCOLUMNS - FirstLowInvalidHeapAttributeNumber);
}

/* Close what ie_open_commands opened; its lock stays. */
void
ie_close_commands(IeCommand *command)
{
	if (command->table != NULL)
		relation_close(command->table, NoLock);
}

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

	slot_getsomeattrs(slot, NCOLUMNS);
	if (!ie_same_text(DatumGetTextPP(values[STREAM - 1]), command->stream))
		refuse_id(command, "It was handled for another stream.");
	if (compareJsonbContainers(&DatumGetJsonbP(values[COMMAND - 1])->root,
							   &command->body->root) != 0)
		refuse_id(command, "It was another command.");
	if (ie_is_unseen(command->table, slot))
		ie_refuse_unseen(command->log);
	outcome->version = DatumGetInt64(values[VERSION - 1]);
	outcome->position = DatumGetInt64(values[POSITION - 1]);
	outcome->written = DatumGetInt32(values[WRITTEN - 1]);
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
	Remembered *entry = remembered(RelationGetRelid(command->log));
	Oid			types[] = {UUIDOID, INT8OID, INT8OID, INT4OID, TEXTOID, JSONBOID};
	char	   *name = ie_qualified_name(command->table);
	SPIPlanPtr	plan;

	if (entry->insert_name != NULL && strcmp(entry->insert_name, name) == 0)
		return entry->insert;
	plan = SPI_prepare(psprintf("INSERT INTO %s (command_id, version, \"position\","
								" written, stream, command)"
								" VALUES ($1, $2, $3, $4, $5, $6)", name),
					   lengthof(types), types);
	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	name = MemoryContextStrdup(CacheMemoryContext, name);
	entry->insert = plan;
	entry->insert_name = name;
	return plan;
}
