/*
 * shadow.c: the table that a projection is folded into anew.
 *
 * It stands beside the read model, has the same columns and constraints, and
 * belongs to the same role. It depends on the read model: by that it is known
 * when a rebuild has died and left it, and with the read model it goes. A dump
 * of that moment has the table and not the dependency; its comment says of
 * which read model it is.
 */
#include "rebuild.h"

#include "access/heapam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_type.h"
#include "commands/comment.h"
#include "commands/defrem.h"
#include "commands/tablespace.h"
#include "compat.h"
#include "executor/nodeModifyTable.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#define LABEL	"rebuild"		/* in the name of every shadow */
#define ROWS	1000			/* at a time, */
#define BYTES	(1024L * 1024)	/* or less, if they are so large */

/* Rows on their way into a shadow table. */
typedef struct Filling
{
	IeProjection *projection;
	Relation	shadow;
	EState	   *estate;
	ResultRelInfo *info;
	BulkInsertState bulk;
	TupleTableSlot *slots[ROWS];
	MemoryContext context;		/* of what follows */
	HeapTupleHeader rows[ROWS];
	Size		bytes;
	int			count;
} Filling;

static Oid	find_dependent(Oid target);
static Oid	find_restored(Oid target);
static void receive_oid(void *state);
static char *comment_of(Oid target);
static char *create_command(Relation target, const char *name, bool lasting);
static void execute_as(Oid role, const char *command);
static void begin_filling(Filling *filling, Oid shadow);
static void end_filling(Filling *filling);
static void store_rows(Filling *filling);
static TupleTableSlot *fill_slot(Filling *filling, int number);

/* The table that a rebuild of this read model has left, or InvalidOid. */
Oid
ie_find_shadow(Oid target)
{
	Oid			shadow = find_dependent(target);

	return OidIsValid(shadow) ? shadow : find_restored(target);
}

/* One that depends on it. */
static Oid
find_dependent(Oid target)
{
	ListCell   *cell;

	foreach(cell, ie_dependents_of(RelationRelationId, target))
	{
		Form_pg_depend row = lfirst(cell);

		if (row->classid == RelationRelationId && row->objsubid == 0 &&
			row->refobjsubid == 0 && row->deptype == DEPENDENCY_AUTO &&
			get_rel_relkind(row->objid) == RELKIND_RELATION &&
			!get_rel_relispartition(row->objid) &&
			strstr(get_rel_name(row->objid), "_" LABEL) != NULL)
			return row->objid;
	}
	return InvalidOid;
}

/* One that came from a dump: a table of the same owner that says so. */
static Oid
find_restored(Oid target)
{
	Oid			types[] = {OIDOID, TEXTOID};
	Datum		values[] = {ObjectIdGetDatum(target),
	CStringGetTextDatum(comment_of(target))};
	Oid			found = InvalidOid;

	ie_registry_query("SELECT s.oid FROM pg_catalog.pg_class s"
					  " JOIN pg_catalog.pg_class t ON t.oid OPERATOR(pg_catalog.=) $1"
					  " AND t.relowner OPERATOR(pg_catalog.=) s.relowner"
					  " AND t.relnamespace OPERATOR(pg_catalog.=) s.relnamespace"
					  " WHERE s.relkind OPERATOR(pg_catalog.=) 'r' AND s.oid OPERATOR(pg_catalog.<>) $1"
					  " AND pg_catalog.obj_description(s.oid, 'pg_class') OPERATOR(pg_catalog.=) $2",
					  2, types, values, NULL, receive_oid, &found);
	return found;
}

/* Take an OID. */
static void
receive_oid(void *state)
{
	bool		isnull;

	if (SPI_processed > 0)
		*(Oid *) state = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0],
														SPI_tuptable->tupdesc,
														1, &isnull));
}

/* What a shadow says of itself. */
static char *
comment_of(Oid target)
{
	return psprintf("immutable_events: %s is rebuilt here; to be dropped if it is not",
					quote_identifier(get_rel_name(target)));
}

/*
 * Make one, empty and without indexes. Only what is to take the read model's
 * place must last through a crash.
 */
Oid
ie_create_shadow(IeProjection *projection, bool lasting)
{
	Relation	target = ie_open_relation(projection->target, AccessShareLock);
	Oid			owner = target->rd_rel->relowner;
	Oid			schema = RelationGetNamespace(target);
	char	   *chosen = ChooseRelationName(RelationGetRelationName(target), NULL,
											LABEL, schema, false);
	char	   *name = quote_qualified_identifier(get_namespace_name(schema), chosen);
	ObjectAddress ours = {.classId = RelationRelationId};
	ObjectAddress theirs = {.classId = RelationRelationId,
	.objectId = projection->target};

	execute_as(owner, create_command(target, name, lasting));
	ours.objectId = get_relname_relid(chosen, schema);
	recordDependencyOn(&ours, &theirs, DEPENDENCY_AUTO);
	CreateComments(ours.objectId, RelationRelationId, 0, comment_of(projection->target));
	if (owner != projection->owner)
		execute_as(owner, psprintf("GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %s",
								   name, quote_identifier(GetUserNameFromId(projection->owner, false))));
	relation_close(target, NoLock);
	CommandCounterIncrement();
	return ours.objectId;
}

/* The command that makes a table like the read model. */
static char *
create_command(Relation target, const char *name, bool lasting)
{
	bool		logged = lasting && target->rd_rel->relpersistence == RELPERSISTENCE_PERMANENT;
	Oid			tablespace = target->rd_rel->reltablespace;
	StringInfoData command;

	initStringInfo(&command);
	appendStringInfo(&command, "CREATE %s TABLE %s (LIKE %s INCLUDING ALL"
					 " EXCLUDING COMMENTS EXCLUDING DEFAULTS EXCLUDING IDENTITY"
					 " EXCLUDING INDEXES EXCLUDING STATISTICS)",
					 logged ? "" : "UNLOGGED", name, ie_qualified_name(target));
	if (target->rd_rel->relkind == RELKIND_RELATION)
		appendStringInfo(&command, " USING %s",
						 quote_identifier(get_am_name(target->rd_rel->relam)));
	/* autovacuum would be in the way of the exchange */
	appendStringInfoString(&command, " WITH (autovacuum_enabled = false)");
	if (OidIsValid(tablespace))
		appendStringInfo(&command, " TABLESPACE %s",
						 quote_identifier(get_tablespace_name(tablespace)));
	return command.data;
}

/* Run a command as the owner of the tables. */
static void
execute_as(Oid role, const char *command)
{
	IeCaller	caller;

	ie_shadow_enter(role, &caller);
	ie_execute(command);
	ie_projection_leave(&caller);
}

/* Go on as the owner of the tables, whatever the session has set. */
void
ie_shadow_enter(Oid owner, IeCaller *caller)
{
	static const char *const settings[][2] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"default_tablespace", ""},
	};
	int			i;

	GetUserIdAndSecContext(&caller->user, &caller->security);
	SetUserIdAndSecContext(owner, caller->security | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	caller->settings = NewGUCNestLevel();
	for (i = 0; i < (int) lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/* Drop one. */
void
ie_drop_shadow(Oid shadow)
{
	ObjectAddress object = {.classId = RelationRelationId, .objectId = shadow};

	LockRelationOid(shadow, AccessExclusiveLock);
	if (get_rel_relkind(shadow) != RELKIND_RELATION)
		return;					/* somebody else has */
	performDeletion(&object, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
}

/*
 * Fill the table, which nobody else sees yet, with all rows of a fold. They
 * are frozen at once: whoever sees the table is to see them.
 */
void
ie_fill_shadow(IeProjection *projection, Oid shadow, IeFolding *folding)
{
	Filling    *filling = palloc0(sizeof(Filling));
	MemoryContext caller = CurrentMemoryContext;
	HeapTupleHeader row;

	filling->projection = projection;
	begin_filling(filling, shadow);
	MemoryContextSwitchTo(filling->context);
	while ((row = ie_folding_next(folding)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		filling->rows[filling->count++] = row;
		filling->bytes += HeapTupleHeaderGetDatumLength(row);
		if (filling->count == ROWS || filling->bytes >= BYTES)
			store_rows(filling);
	}
	store_rows(filling);
	MemoryContextSwitchTo(caller);
	end_filling(filling);
}

/* Open what is needed. */
static void
begin_filling(Filling *filling, Oid shadow)
{
	filling->estate = CreateExecutorState();
	filling->shadow = table_open(shadow, RowExclusiveLock);
	filling->info = makeNode(ResultRelInfo);
	InitResultRelInfo(filling->info, filling->shadow, 0, NULL, 0);
	filling->bulk = GetBulkInsertState();
	filling->context = AllocSetContextCreate(CurrentMemoryContext,
											 "immutable_events shadow rows",
											 ALLOCSET_DEFAULT_SIZES);
}

/* Close it. */
static void
end_filling(Filling *filling)
{
	FreeBulkInsertState(filling->bulk);
	table_finish_bulk_insert(filling->shadow, TABLE_INSERT_FROZEN);
	ExecResetTupleTable(filling->estate->es_tupleTable, true);
	FreeExecutorState(filling->estate);
	MemoryContextDelete(filling->context);
	table_close(filling->shadow, NoLock);
	pfree(filling);
}

/* Store some rows; what the columns and constraints run is the owner's. */
static void
store_rows(Filling *filling)
{
	IeCaller	caller;
	int			i;

	if (filling->count == 0)
		return;
	ie_projection_enter(filling->projection, &caller);
	for (i = 0; i < filling->count; i++)
	{
		TupleTableSlot *slot = fill_slot(filling, i);
		TupleConstr *constr = RelationGetDescr(filling->shadow)->constr;

		if (constr == NULL)
			continue;
		if (constr->has_generated_stored)
			ExecComputeStoredGenerated(filling->info, filling->estate, slot, CMD_INSERT);
		ExecConstraints(filling->info, slot, filling->estate);
		ResetPerTupleExprContext(filling->estate);
	}
	ie_projection_leave(&caller);
	table_multi_insert(filling->shadow, filling->slots, filling->count,
					   GetCurrentCommandId(true), TABLE_INSERT_FROZEN,
					   filling->bulk);
	for (i = 0; i < filling->count; i++)
		ExecClearTuple(filling->slots[i]);
	MemoryContextReset(filling->context);
	filling->count = 0;
	filling->bytes = 0;
}

/* A row as a tuple of the shadow, which has no dropped columns. */
static TupleTableSlot *
fill_slot(Filling *filling, int number)
{
	MemoryContext caller = MemoryContextSwitchTo(filling->context);
	TupleDesc	columns = filling->projection->columns;
	HeapTupleHeader row = filling->rows[number];
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(row), .t_data = row};
	Datum	   *values = palloc(columns->natts * sizeof(Datum));
	bool	   *nulls = palloc(columns->natts * sizeof(bool));
	TupleTableSlot *slot = filling->slots[number];
	int			kept = 0;
	int			i;

	if (slot == NULL)
	{
		/* this lasts */
		MemoryContextSwitchTo(filling->estate->es_query_cxt);
		slot = filling->slots[number] =
			table_slot_create(filling->shadow, &filling->estate->es_tupleTable);
		MemoryContextSwitchTo(filling->context);
	}
	ExecClearTuple(slot);
	heap_deform_tuple(&tuple, columns, values, nulls);
	for (i = 0; i < columns->natts; i++)
		if (!TupleDescAttr(columns, i)->attisdropped)
		{
			slot->tts_values[kept] = values[i];
			slot->tts_isnull[kept++] = nulls[i];
		}
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(filling->shadow);
	MemoryContextSwitchTo(caller);
	return slot;
}
