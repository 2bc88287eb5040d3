/*
 * registry.c: queries on the extension's own tables.
 *
 * The registries belong to the extension's owner, and only its functions write
 * to them. Whoever calls this has checked the caller's right; for the length
 * of one query the user is switched, and the search_path pinned. What a backend
 * remembers of a registry is watched: a trigger on the table tells when it has
 * changed.
 */
#include "guard.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

static uint64 queries = 0;
static IeRegistryWatch *watches = NULL;

static uint64 run(const char *query, int nargs, Oid *types, Datum *values,
				  const char *nulls, IeRegistryReceiver receiver, void *state,
				  bool read_only);
static void registry_changed(Datum arg, Oid relid);

PG_FUNCTION_INFO_V1(ie_registry_changed);

/* Counts the queries of this backend on the registries. */
uint64
ie_registry_queries(void)
{
	return queries;
}

/* Who owns the guard function, and so the extension. */
Oid
ie_extension_owner(void)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID,
										ObjectIdGetDatum(ie_guard_function()));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function immutable._guard");
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * Run a query on the registries; answers how many rows it concerned. The
 * receiver sees its rows in SPI_tuptable, and copies what it keeps out of
 * SPI's memory with SPI_palloc and its like.
 */
uint64
ie_registry_query(const char *query, int nargs, Oid *types, Datum *values,
				  const char *nulls, IeRegistryReceiver receiver, void *state)
{
	return run(query, nargs, types, values, nulls, receiver, state, false);
}

/*
 * The same for a query that only reads, and must not miss what has been
 * committed since a REPEATABLE READ transaction has taken its snapshot: rules
 * hold for everybody from the moment on that they are changed.
 */
uint64
ie_registry_look(const char *query, int nargs, Oid *types, Datum *values,
				 IeRegistryReceiver receiver, void *state)
{
	uint64		rows;

	CommandCounterIncrement();
	PushActiveSnapshot(ie_latest_snapshot());
	rows = run(query, nargs, types, values, NULL, receiver, state, true);
	PopActiveSnapshot();
	return rows;
}

/* What a registry is read with; processes that work together share theirs. */
Snapshot
ie_latest_snapshot(void)
{
	return IsInParallelMode() ? GetActiveSnapshot() : GetLatestSnapshot();
}

/* Run a query as the extension's owner. */
static uint64
run(const char *query, int nargs, Oid *types, Datum *values,
	const char *nulls, IeRegistryReceiver receiver, void *state,
	bool read_only)
{
	Oid			user;
	int			security;
	int			settings;
	int			result;
	uint64		rows;

	queries++;
	GetUserIdAndSecContext(&user, &security);
	SPI_connect();
	SetUserIdAndSecContext(ie_extension_owner(),
						   security | SECURITY_LOCAL_USERID_CHANGE);
	settings = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
	result = SPI_execute_with_args(query, nargs, types, values, nulls, read_only, 0);
	AtEOXact_GUC(false, settings);
	SetUserIdAndSecContext(user, security);
	if (result < 0)
		elog(ERROR, "SPI_execute_with_args failed: %s",
			 SPI_result_code_string(result));
	rows = SPI_processed;
	if (receiver != NULL)
		receiver(state);
	SPI_finish();
	return rows;
}

/*
 * Watch a registry, from before it is read: the watch is current until the
 * registry changes.
 */
void
ie_watch_registry(IeRegistryWatch *watch)
{
	static bool listening = false;

	if (!listening)
		CacheRegisterRelcacheCallback(registry_changed, (Datum) 0);
	listening = true;
	if (!watch->linked)
	{
		watch->next = watches;
		watches = watch;
		watch->linked = true;
	}
	watch->relid = get_relname_relid(watch->table,
									 get_namespace_oid(IE_SCHEMA, false));
	watch->current = true;
}

/* A relation changed: perhaps a registry that is watched. */
static void
registry_changed(Datum arg pg_attribute_unused(), Oid relid)
{
	IeRegistryWatch *watch;

	for (watch = watches; watch != NULL; watch = watch->next)
		if (relid == InvalidOid || relid == watch->relid)
			watch->current = false;
}

/* Trigger on a registry: tell backends, and the worker, that it has changed. */
Datum
ie_registry_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("immutable._registry_changed() must be called as a trigger")));
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	ie_start_at_commit();		/* a worker, for what may be a projection */
	return PointerGetDatum(NULL);
}
