/*
 * snapshot.c: which reducers have snapshots, of which logs.
 *
 * The registry immutable.snapshots says so, and where they are: in an ordinary
 * table beside the log, which all its reducers share. An epoch, drawn when a
 * log's events may have changed, makes what was kept before count no more. A
 * backend remembers the registry; a log without snapshots costs one look.
 */
#include "snapshot.h"
#include "upcast.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/syscache.h"

/* The columns of immutable.snapshots. */
enum
{
	COLUMN_LOG = 1,
	COLUMN_REDUCER,
	COLUMN_EVERY,
	COLUMN_REDUCER_VERSION,
	COLUMN_STORAGE,
	COLUMN_EPOCH,
};

static IeRegistryWatch watch = {.table = "snapshots"};
static List *kept = NIL;		/* of IeKeeping, while the watch is current */
static bool loaded = false;
static MemoryContext kept_context = NULL;

static IeTarget open_log(FunctionCallInfo fcinfo, const char *function);
static void check_reducer(Oid log, Oid function);
static Oid	storage_of(Relation log);
static Oid	create_storage(Relation log);
static void run(const char *query, Oid log, const char *reducer, int32 every,
				int32 reducer_version, Oid storage);
static void drop_storage(Oid storage);
static char *storage_name(Oid storage);
static const List *read_registry(void);
static IeKeeping *copy_row(HeapTuple row, TupleDesc columns);

PG_FUNCTION_INFO_V1(ie_enable_snapshots);
PG_FUNCTION_INFO_V1(ie_disable_snapshots);

/* Let replay keep snapshots of what a reducer makes of a log's streams. */
Datum
ie_enable_snapshots(PG_FUNCTION_ARGS)
{
	IeTarget	target;
	Oid			storage;

	ie_require_arg(fcinfo, 2, "every");
	ie_require_arg(fcinfo, 3, "reducer_version");
	if (PG_GETARG_INT32(2) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("every must be 1 or more"),
				 errhint("It is the number of events from one snapshot of a stream to the next.")));
	target = open_log(fcinfo, "immutable.enable_snapshots()");
	if (target.root->problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("log \"%s\" is unfit for snapshots",
						RelationGetRelationName(target.log)),
				 errdetail("In \"%s\", %s.",
						   RelationGetRelationName(target.log), target.root->problem),
				 errhint("%s", target.root->remedy),
				 errtable(target.log)));
	check_reducer(RelationGetRelid(target.log), PG_GETARG_OID(1));
	storage = storage_of(target.log);
	if (!OidIsValid(storage))
		storage = create_storage(target.log);
	run("INSERT INTO immutable.snapshots (log, reducer, every, reducer_version, storage)"
		" VALUES ($1, $2, $3, $4, $5) ON CONFLICT (log, reducer) DO UPDATE"
		" SET every = EXCLUDED.every, reducer_version = EXCLUDED.reducer_version,"
		" storage = EXCLUDED.storage",
		RelationGetRelid(target.log), format_procedure_qualified(PG_GETARG_OID(1)),
		PG_GETARG_INT32(2), PG_GETARG_INT32(3), storage);
	ie_close_log(&target);
	PG_RETURN_VOID();
}

/* Keep no more snapshots of a reducer, and give up those there are. */
Datum
ie_disable_snapshots(PG_FUNCTION_ARGS)
{
	IeTarget	target = open_log(fcinfo, "immutable.disable_snapshots()");
	Oid			log = RelationGetRelid(target.log);
	char	   *reducer = format_procedure_qualified(PG_GETARG_OID(1));
	Oid			storage = storage_of(target.log);

	if (reducer == NULL || ie_snapshots_kept(log, reducer) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("log \"%s\" has no snapshots of reducer %s",
						RelationGetRelationName(target.log),
						reducer == NULL ? "-" : format_procedure(PG_GETARG_OID(1))),
				 errhint("immutable.enable_snapshots makes them.")));
	/* and those of reducers that are gone */
	run("DELETE FROM immutable.snapshots WHERE log OPERATOR(pg_catalog.=) $1::pg_catalog.oid"
		" AND (reducer OPERATOR(pg_catalog.=) $2 OR pg_catalog.to_regprocedure(reducer) IS NULL)",
		log, reducer, 0, 0, storage);
	CommandCounterIncrement();
	if (!ie_has_snapshots(log))
		drop_storage(storage);
	else if (OidIsValid(storage))
		ie_execute(psprintf("DELETE FROM %s s WHERE NOT EXISTS (SELECT FROM immutable.snapshots r"
							" WHERE r.log OPERATOR(pg_catalog.=) %u::pg_catalog.oid"
							" AND r.reducer OPERATOR(pg_catalog.=) s.reducer)",
							storage_name(storage), log));
	ie_close_log(&target);
	PG_RETURN_VOID();
}

/* The log that an administrator names; others of them are kept out. */
static IeTarget
open_log(FunctionCallInfo fcinfo, const char *function)
{
	ie_require_arg(fcinfo, 0, "log");
	ie_require_arg(fcinfo, 1, "reducer");
	PreventCommandDuringRecovery(function);
	PreventCommandIfReadOnly(function);
	return ie_open_own_log(PG_GETARG_OID(0), ShareUpdateExclusiveLock);
}

/*
 * Refuse what cannot be a reducer of events, or cannot have snapshots. Of a
 * polymorphic function that is not known before it is used.
 */
static void
check_reducer(Oid log, Oid function)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "immutable_events reducer",
												  ALLOCSET_SMALL_SIZES);
	Oid			event = ie_event_type();
	Oid			state = SearchSysCacheExists1(PROCOID, ObjectIdGetDatum(function))
	? get_func_rettype(function) : event;
	IeReducer  *reducer;

	if (IsPolymorphicType(state))
		return;
	reducer = ie_reducer_compile(function, state, 1, &event,
								 get_typcollation(state), context);
	(void) ie_reducer_fingerprint(reducer, ie_upcaster_functions(log));
	MemoryContextDelete(context);
}

/* The table that has the snapshots of a log, or InvalidOid. */
static Oid
storage_of(Relation log)
{
	const IeKeeping *keeping = ie_snapshots_kept(RelationGetRelid(log), NULL);

	if (keeping == NULL ||
		!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(keeping->storage)))
		return InvalidOid;
	return keeping->storage;
}

/*
 * Make the table. Its index is not unique: nobody waits for another who writes
 * the same snapshot. Replicas are told of deleted rows by all their columns.
 */
static Oid
create_storage(Relation log)
{
	Oid			storage = ie_create_side_table(log, "snapshots", IE_SNAPSHOT_COLUMNS);
	char	   *name = storage_name(storage);

	ie_execute(psprintf("CREATE INDEX ON %s (stream, fingerprint, settings, version)", name));
	ie_execute(psprintf("ALTER TABLE %s REPLICA IDENTITY FULL", name));
	/* of other reducers whose table was dropped by hand */
	run("UPDATE immutable.snapshots SET storage = $5 WHERE log OPERATOR(pg_catalog.=) $1::pg_catalog.oid",
		RelationGetRelid(log), NULL, 0, 0, storage);
	return storage;
}

/* Run a query that writes to the registry. */
static void
run(const char *query, Oid log, const char *reducer, int32 every,
	int32 reducer_version, Oid storage)
{
	Oid			types[] = {REGCLASSOID, TEXTOID, INT4OID, INT4OID, REGCLASSOID};
	Datum		values[] = {ObjectIdGetDatum(log),
		reducer == NULL ? (Datum) 0 : CStringGetTextDatum(reducer),
		Int32GetDatum(every), Int32GetDatum(reducer_version),
	ObjectIdGetDatum(storage)};

	ie_registry_query(query, lengthof(types), types, values,
					  reducer == NULL ? " n   " : NULL, NULL, NULL);
}

/* Drop the table, unless that has been done. */
static void
drop_storage(Oid storage)
{
	if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(storage)))
		ie_execute(psprintf("DROP TABLE %s", storage_name(storage)));
}

/* "schema.name", quoted where needed. */
static char *
storage_name(Oid storage)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(storage)),
									  get_rel_name(storage));
}

/* The events of a log may change now: what was kept of it counts no more. */
void
ie_void_snapshots(Oid log)
{
	if (ie_has_snapshots(log))
		run("UPDATE immutable.snapshots SET epoch = pg_catalog.gen_random_uuid()"
			" WHERE log OPERATOR(pg_catalog.=) $1::pg_catalog.oid",
			log, NULL, 0, 0, InvalidOid);
}

/* A log is gone, and its snapshots with it. */
void
ie_drop_snapshots(Oid log)
{
	const IeKeeping *keeping = ie_snapshots_kept(log, NULL);
	Oid			storage;

	if (keeping == NULL)
		return;
	storage = keeping->storage;
	run("DELETE FROM immutable.snapshots WHERE log OPERATOR(pg_catalog.=) $1::pg_catalog.oid",
		log, NULL, 0, 0, InvalidOid);
	drop_storage(storage);
}

/* Has a log snapshots at all? */
bool
ie_has_snapshots(Oid log)
{
	return ie_snapshots_kept(log, NULL) != NULL;
}

/*
 * What the registry says of a log and a reducer, or of any reducer where that
 * is NULL. Holds until the next call.
 */
const IeKeeping *
ie_snapshots_kept(Oid log, const char *reducer)
{
	ListCell   *cell;

	foreach(cell, read_registry())
	{
		const IeKeeping *keeping = lfirst(cell);

		if (keeping->log == log &&
			(reducer == NULL || strcmp(keeping->reducer, reducer) == 0))
			return keeping;
	}
	return NULL;
}

/*
 * The registry as it is now, not as an old snapshot of this transaction shows
 * it: the list outlives the transaction.
 */
static const List *
read_registry(void)
{
	Relation	registry;
	MemoryContext context;
	SysScanDesc scan;
	HeapTuple	row;
	List	   *rows = NIL;

	if (watch.current && loaded)
		return kept;
	loaded = false;
	ie_watch_registry(&watch);
	context = AllocSetContextCreate(CurrentMemoryContext,
									"immutable_events snapshots",
									ALLOCSET_SMALL_SIZES);
	registry = table_open(watch.relid, AccessShareLock);
	scan = systable_beginscan(registry, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		MemoryContext caller = MemoryContextSwitchTo(context);

		rows = lappend(rows, copy_row(row, RelationGetDescr(registry)));
		MemoryContextSwitchTo(caller);
	}
	systable_endscan(scan);
	table_close(registry, AccessShareLock);
	if (kept_context != NULL)
		MemoryContextDelete(kept_context);
	MemoryContextSetParent(context, CacheMemoryContext);
	kept_context = context;
	kept = rows;
	loaded = true;
	return kept;
}

/* A row of the registry. */
static IeKeeping *
copy_row(HeapTuple row, TupleDesc columns)
{
	IeKeeping  *keeping = palloc(sizeof(IeKeeping));
	bool		isnull;

	keeping->log = DatumGetObjectId(heap_getattr(row, COLUMN_LOG, columns, &isnull));
	keeping->reducer = TextDatumGetCString(heap_getattr(row, COLUMN_REDUCER, columns, &isnull));
	keeping->every = DatumGetInt32(heap_getattr(row, COLUMN_EVERY, columns, &isnull));
	keeping->reducer_version =
		DatumGetInt32(heap_getattr(row, COLUMN_REDUCER_VERSION, columns, &isnull));
	keeping->storage = DatumGetObjectId(heap_getattr(row, COLUMN_STORAGE, columns, &isnull));
	keeping->epoch = DatumGetCString(DirectFunctionCall1(uuid_out,
														 heap_getattr(row, COLUMN_EPOCH, columns, &isnull)));
	return keeping;
}
