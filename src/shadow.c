/*
 * shadow.c: the table that a projection is folded into anew.
 *
 * It stands beside the read model, has the same columns and constraints, and
 * belongs to the same role. It depends on the read model, and says so in its
 * comment: see shadow_left.c.
 */
#include "rebuild.h"

#include "access/heapam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
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

static char *create_command(Relation target, const char *name, bool lasting);
static void execute_as(Oid role, const char *command);
static void begin_filling(Filling *filling, Oid shadow);
static void end_filling(Filling *filling);
static void store_rows(Filling *filling);
static TupleTableSlot *fill_slot(Filling *filling, int number);

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
											IE_SHADOW_LABEL, schema, false);
	char	   *name = quote_qualified_identifier(get_namespace_name(schema), chosen);
	ObjectAddress ours = {.classId = RelationRelationId};
	ObjectAddress theirs = {.classId = RelationRelationId,
	.objectId = projection->target};

	execute_as(owner, create_command(target, name, lasting));
	ours.objectId = get_relname_relid(chosen, schema);
	recordDependencyOn(&ours, &theirs, DEPENDENCY_AUTO);
	CreateComments(ours.objectId, RelationRelationId, 0, ie_shadow_comment(projection->target));
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
