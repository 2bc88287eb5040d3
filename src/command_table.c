/*
 * command_table.c: immutable.enable_commands, and the table that it makes.
 *
 * <log>_commands is an ordinary table of the log's owner, protected. A registry
 * says which table belongs to which log; what a backend has read of it holds
 * until the registry changes.
 */
#include "command.h"
#include "compat.h"
#include "guard.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/sysattr.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#define REGISTRY		"command_tables"

/* The columns of <log>_commands, in their order. */
static const struct
{
	const char *name;
	Oid			type;
	const char *definition;
}			columns[IE_COMMAND_NCOLUMNS] = {
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
	IeCommandPlan insert;
} Remembered;

static HTAB *memory = NULL;
static IeRegistryWatch watch = {.table = REGISTRY};

static Relation open_table(Oid relid, LOCKMODE lockmode);
static Oid	find_unregistered(Relation log);
static char *definition(void);
static Remembered *remembered(Oid log);
static void create_memory(void);
pg_noreturn static void refuse_table(Relation log, const char *detail,
									 const char *hint);
static bool has_columns(Relation table);
static Oid	id_index(Relation table);
static Bitmapset *all_columns(void);

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
	PreventCommandDuringRecovery("immutable.enable_commands()");
	/* one at a time, and appends may go on */
	target = ie_open_own_log(PG_GETARG_OID(0), ShareUpdateExclusiveLock);
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
	relid = find_unregistered(target.log);
	if (!OidIsValid(relid))
	{
		relid = ie_create_side_table(target.log, "commands", definition());
		DirectFunctionCall1(ie_protect, ObjectIdGetDatum(relid));
	}
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

/*
 * A table that was made here, by its name and its shape: a dump of the schema
 * alone has the table, and not its row in the registry.
 */
static Oid
find_unregistered(Relation log)
{
	char	   *name = psprintf("%s_commands", RelationGetRelationName(log));
	Oid			relid = get_relname_relid(name, RelationGetNamespace(log));
	Relation	table = open_table(relid, AccessShareLock);

	if (table == NULL || !has_columns(table) || !OidIsValid(id_index(table)) ||
		ie_guard_problem(table) != NULL ||
		table->rd_rel->relowner != log->rd_rel->relowner)
		relid = InvalidOid;
	if (table != NULL)
		relation_close(table, NoLock);
	return relid;
}

/* The columns, as CREATE TABLE takes them. */
static char *
definition(void)
{
	StringInfoData text;
	int			i;

	initStringInfo(&text);
	for (i = 0; i < IE_COMMAND_NCOLUMNS; i++)
		appendStringInfo(&text, "%s%s %s", i == 0 ? "" : ", ",
						 quote_identifier(columns[i].name), columns[i].definition);
	return text.data;
}

/* Open the table that a command with an id is recorded in. */
void
ie_open_commands(IeCommand *command, Relation log)
{
	Remembered *entry;
	Relation	table;

	command->log = log;
	if (command->id == NULL)
		return;
	entry = remembered(RelationGetRelid(log));
	table = open_table(entry->table, RowExclusiveLock);
	if (table == NULL)
		refuse_table(log, "There is no table for them.",
					 "Call immutable.enable_commands.");
	command->table = table;
	command->insert = &entry->insert;
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

	if (table->rd_rel->relkind != RELKIND_RELATION || actual->natts < IE_COMMAND_NCOLUMNS)
		return false;
	for (i = 0; i < IE_COMMAND_NCOLUMNS; i++)
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
		bool		fits = ie_is_btree_on(index, IE_COMMAND_ID) &&
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
	return bms_add_range(NULL, IE_COMMAND_ID - FirstLowInvalidHeapAttributeNumber,
						 IE_COMMAND_NCOLUMNS - FirstLowInvalidHeapAttributeNumber);
}

/* Close what ie_open_commands opened; its lock stays. */
void
ie_close_commands(IeCommand *command)
{
	if (command->table != NULL)
		relation_close(command->table, NoLock);
}
