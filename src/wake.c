/*
 * wake.c: tell the background worker that there is something to do.
 *
 * A transaction that appends, or changes a registry, sets the latch of its
 * database's worker when it has ended. The latch is found in a small piece of
 * shared memory. It fits into what the server keeps in reserve, so the library
 * need not be preloaded; where it does not fit, workers cannot run and
 * appends go on as ever.
 */
#include "worker.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

static IeWorkers *workers = NULL;
static bool ended_wakes = false;	/* this transaction's end */
static bool commit_starts = false;	/* a worker, where there is none */

static void prepare(void);
static void attach_if_possible(void);
static void transaction_event(XactEvent event, void *arg);
static void wake(void);

/* When this transaction has ended, the log may be decided further. */
void
ie_wake_at_end(void)
{
	prepare();
	ended_wakes = true;
}

/* When this transaction has committed, there may be a projection to serve. */
void
ie_start_at_commit(void)
{
	prepare();
	commit_starts = true;
}

/* What the processes share; an error when there is no memory for it. */
IeWorkers *
ie_workers(void)
{
	bool		found;

	if (workers != NULL)
		return workers;
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	workers = ShmemInitStruct("immutable_events workers", ie_workers_size(),
							  &found);
	if (!found)
	{
		memset(workers, 0, ie_workers_size());
		SpinLockInit(&workers->mutex);
	}
	LWLockRelease(AddinShmemInitLock);
	return workers;
}

/* How much it takes. */
Size
ie_workers_size(void)
{
	return sizeof(IeWorkers);
}

/* Do what could fail now, while the transaction can. */
static void
prepare(void)
{
	static bool prepared = false;

	if (prepared)
		return;
	attach_if_possible();
	RegisterXactCallback(transaction_event, NULL);
	prepared = true;
}

/* Without shared memory there is nobody to wake. */
static void
attach_if_possible(void)
{
	MemoryContext caller = CurrentMemoryContext;

	PG_TRY();
	{
		(void) ie_workers();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		FlushErrorState();
		workers = NULL;
		if (LWLockHeldByMe(AddinShmemInitLock))
		{
			HOLD_INTERRUPTS();	/* the error has let go of them already */
			LWLockRelease(AddinShmemInitLock);
		}
	}
	PG_END_TRY();
}

/* The transaction has ended: nothing here may fail. */
static void
transaction_event(XactEvent event, void *arg pg_attribute_unused())
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
		event != XACT_EVENT_PREPARE)
		return;
	if (commit_starts && event == XACT_EVENT_COMMIT && workers != NULL)
		(void) ie_want_worker(MyDatabaseId);
	else if (ended_wakes && event != XACT_EVENT_PREPARE && workers != NULL &&
			 workers->running > 0)
		wake();
	ended_wakes = false;
	commit_starts = false;
}

/* A slot that changes while it is looked at does no harm: workers also nap. */
static void
wake(void)
{
	static int	slot = 0;		/* most likely the same as last time */
	int			i;

	for (i = 0; i < IE_WORKER_SLOTS; i++)
	{
		IeWorkerSlot *worker = &workers->slots[slot];
		Latch	   *latch = worker->latch;

		if (worker->database == MyDatabaseId)
		{
			if (latch != NULL)
				SetLatch(latch);
			return;
		}
		slot = (slot + 1) % IE_WORKER_SLOTS;
	}
}
