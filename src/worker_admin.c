/*
 * worker_admin.c: start and stop the worker of this database; who has one.
 */
#include "log.h"
#include "worker.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#define NAP				10		/* milliseconds */
#define PATIENCE		100		/* naps, before a worker is terminated */

static int	running_pid(void);
static int	started_pid(BackgroundWorkerHandle *handle);
static bool ask_to_stop(int *pid);
static void add_row(ReturnSetInfo *result, const IeWorkerSlot *slot);

PG_FUNCTION_INFO_V1(ie_start_worker);
PG_FUNCTION_INFO_V1(ie_stop_worker);
PG_FUNCTION_INFO_V1(ie_worker_pid);
PG_FUNCTION_INFO_V1(ie_worker_rows);

/* Have this database served; answers the worker's process id. */
Datum
ie_start_worker(PG_FUNCTION_ARGS)
{
	BackgroundWorkerHandle *handle = NULL;

	PreventCommandDuringRecovery("immutable.start_worker()");
	switch (ie_reserve_slot(MyDatabaseId, false))
	{
		case IE_SERVED:
			PG_RETURN_INT32(started_pid(NULL));
		case IE_RESERVED:
			if (ie_register_worker(MyDatabaseId, &handle))
				PG_RETURN_INT32(started_pid(handle));
			ie_free_slot(MyDatabaseId);
			break;
		default:
			break;
	}
	ereport(ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("out of background worker slots"),
			 errhint("You might need to increase max_worker_processes.")));
}

/* Wait until the worker runs. */
static int
started_pid(BackgroundWorkerHandle *handle)
{
	int			pid;
	pid_t		started;

	if (handle != NULL)
		(void) WaitForBackgroundWorkerStartup(handle, &started);
	while ((pid = running_pid()) == 0)
	{
		IeWorkerSlot *slot = ie_slot_of(MyDatabaseId);

		if (slot == NULL || slot->state == IE_WORKER_WANTED ||
			slot->state == IE_WORKER_STOPPED ||
			(handle != NULL && GetBackgroundWorkerPid(handle, &started) != BGWH_STARTED))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the worker has ended"),
					 errhint("The server's log may say why.")));
		ie_nap(NAP);
	}
	return pid;
}

/* End the worker of this database, and wait until it has. */
Datum
ie_stop_worker(PG_FUNCTION_ARGS)
{
	int			naps = 0;
	int			pid;

	while (ask_to_stop(&pid))
	{
		/* it may be waiting for a lock that this transaction holds */
		if (pid != 0 && ++naps == PATIENCE)
			(void) kill(pid, SIGTERM);
		ie_nap(NAP);
	}
	PG_RETURN_VOID();
}

/* Ask; answers whether there is still somebody to wait for. */
static bool
ask_to_stop(int *pid)
{
	IeWorkers  *workers = ie_workers();
	IeWorkerSlot *slot = ie_slot_of(MyDatabaseId);
	Latch	   *latch = NULL;
	bool		runs = false;

	*pid = 0;
	SpinLockAcquire(&workers->mutex);
	if (slot != NULL && slot->database == MyDatabaseId &&
		slot->state != IE_WORKER_STOPPED)
	{
		slot->stop = true;
		runs = slot->state != IE_WORKER_WANTED;
		if (!runs)
			slot->state = IE_WORKER_STOPPED;
		*pid = slot->pid;
		latch = slot->latch;
	}
	SpinLockRelease(&workers->mutex);
	if (latch != NULL)
		SetLatch(latch);
	return runs;
}

/* The process id of this database's worker, or 0. */
static int
running_pid(void)
{
	IeWorkerSlot *slot = ie_slot_of(MyDatabaseId);

	return slot == NULL ? 0 : slot->pid;
}

/* The same, or NULL, for views. */
Datum
ie_worker_pid(PG_FUNCTION_ARGS)
{
	int			pid = running_pid();

	if (pid == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT32(pid);
}

/* All workers of this server. */
Datum
ie_worker_rows(PG_FUNCTION_ARGS)
{
	IeWorkers  *workers = ie_workers();
	IeWorkerSlot *slots = palloc(sizeof(workers->slots));
	int			i;

	InitMaterializedSRF(fcinfo, 0);
	SpinLockAcquire(&workers->mutex);
	memcpy(slots, workers->slots, sizeof(workers->slots));
	SpinLockRelease(&workers->mutex);
	for (i = 0; i < IE_WORKER_SLOTS; i++)
		if (OidIsValid(slots[i].database))
			add_row((ReturnSetInfo *) fcinfo->resultinfo, &slots[i]);
	return (Datum) 0;
}

/* One of them. */
static void
add_row(ReturnSetInfo *result, const IeWorkerSlot *slot)
{
	static const char *const states[] = {
		"waiting to start", "starting", "idle", "busy", "stopped"
	};
	Datum		values[6];
	bool		nulls[6] = {0};

	values[0] = Int32GetDatum(slot->pid);
	values[1] = ObjectIdGetDatum(slot->database);
	values[2] = TimestampTzGetDatum(slot->since);
	values[3] = CStringGetTextDatum(states[slot->state]);
	values[4] = TimestampTzGetDatum(slot->active_at);
	values[5] = Int64GetDatum(slot->events);
	nulls[0] = nulls[2] = nulls[4] = nulls[5] = slot->pid == 0;
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}
