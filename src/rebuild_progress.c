/*
 * rebuild_progress.c: how far rebuilds have come, for everybody to see.
 *
 * A rebuild writes to no table while it folds, so it tells in shared memory:
 * in the numbers that each backend has for the progress of its command, under
 * no command's name. They mean a rebuild while the backend holds the rebuild's
 * lock. They are the first ones: building an index writes to those from
 * PROGRESS_CREATEIDX_ACCESS_METHOD_OID on. pg_stat_activity shows the phase in place of the query.
 */
#include "rebuild.h"

#include "catalog/pg_type.h"
#include "commands/progress.h"
#include "compat.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/backend_progress.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"

/* The numbers. */
enum
{
	PHASE,
	DONE,
	TOTAL,
	STARTED,
	COUNT
};

static Oid	target = InvalidOid;	/* of this backend's rebuild */
static char *name;
static int64 numbers[COUNT];

static const char *const phases[] = {
	"starting", "folding", "indexing", "catching up", "waiting for locks",
	"applying the difference", "exchanging storage"
};

static void tell(void);
static void add_rebuild(ReturnSetInfo *result, Oid relid, int pid);

PG_FUNCTION_INFO_V1(ie_rebuild_progress);

/* A rebuild begins. */
void
ie_progress_begin(Oid relid, const char *read_model)
{
	target = relid;
	name = MemoryContextStrdup(TopMemoryContext, read_model);
	memset(numbers, 0, sizeof(numbers));
	numbers[STARTED] = GetCurrentTimestamp();
	ie_progress_phase(IE_REBUILD_NONE);
}

/* It goes on with something else. */
void
ie_progress_phase(IeRebuildPhase phase)
{
	numbers[PHASE] = phase;
	pgstat_report_activity(STATE_RUNNING,
						   psprintf("immutable.rebuild of %s: %s", name, phases[phase]));
	tell();
}

/* It has so many events to fold, as far as it is known. */
void
ie_progress_total(double events)
{
	if (!OidIsValid(target))
		return;
	numbers[TOTAL] = (int64) events;
	tell();
}

/* It has folded so many. */
void
ie_progress_done(int64 events)
{
	if (!OidIsValid(target))
		return;
	numbers[DONE] = events;
	tell();
}

/* It has folded so many more. */
void
ie_progress_add(int64 events)
{
	if (!OidIsValid(target))
		return;
	numbers[DONE] += events;
	tell();
}

/* It is over. */
void
ie_progress_end(void)
{
	target = InvalidOid;
	pfree(name);
	pgstat_report_activity(STATE_RUNNING,
						   debug_query_string != NULL ? debug_query_string : "");
	pgstat_progress_start_command(PROGRESS_COMMAND_INVALID, InvalidOid);
}

/* Show the numbers. A command that has run meanwhile may have changed them. */
static void
tell(void)
{
	int			i;

	pgstat_progress_start_command(PROGRESS_COMMAND_INVALID, target);
	for (i = 0; i < COUNT; i++)
		pgstat_progress_update_param(i, numbers[i]);
}

/* The rebuilds that run, and what was left of those that did not end. */
Datum
ie_rebuild_progress(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	LockData   *locks;
	int			i;

	InitMaterializedSRF(fcinfo, 0);
	locks = GetLockStatusData();
	for (i = 0; i < locks->nelements; i++)
	{
		LockInstanceData *lock = &locks->locks[i];

		if (lock->locktag.locktag_type == LOCKTAG_ADVISORY &&
			lock->locktag.locktag_field1 == MyDatabaseId &&
			lock->locktag.locktag_field4 == IE_LOCK_REBUILD &&
			(lock->holdMask & LOCKBIT_ON(ExclusiveLock)) != 0)
			add_rebuild(result, lock->locktag.locktag_field2, lock->pid);
	}
	return (Datum) 0;
}

/* A row for the rebuild that a backend is at. */
static void
add_rebuild(ReturnSetInfo *result, Oid relid, int pid)
{
	int			backends = pgstat_fetch_stat_numbackends();
	Datum		values[7] = {ObjectIdGetDatum(relid), CStringGetTextDatum(phases[0])};
	bool		nulls[7] = {false, false, true, true, true, true, false};
	int			i;

	values[6] = Int32GetDatum(pid);
	for (i = 1; i <= backends; i++)
	{
		LocalPgBackendStatus *local = pgstat_get_local_beentry_by_index(i);
		PgBackendStatus *backend = local == NULL ? NULL : &local->backendStatus;
		const int64 *told;
		double		seconds;

		if (backend == NULL || backend->st_procpid != pid ||
			backend->st_progress_command_target != relid)
			continue;
		told = backend->st_progress_param;
		if (told[PHASE] < 0 || told[PHASE] >= (int64) lengthof(phases) ||
			told[STARTED] == 0)
			continue;
		seconds = (double) (GetCurrentTimestamp() - told[STARTED]) / USECS_PER_SEC;
		values[1] = CStringGetTextDatum(phases[told[PHASE]]);
		values[2] = Int64GetDatum(told[DONE]);
		values[3] = Int64GetDatum(Max(told[TOTAL], told[DONE]));
		values[4] = Float8GetDatum(told[DONE] / Max(seconds, 0.001));
		values[5] = TimestampTzGetDatum(told[STARTED]);
		memset(nulls, false, sizeof(nulls));
	}
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}
