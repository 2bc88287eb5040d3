/*
 * parallel_fold.c: a read model folded by several processes.
 *
 * They share the keys: each folds its part of them, and sends the rows to the
 * leader, who folds a part himself and then hands out all rows, one by one.
 * PostgreSQL's parallel workers are used, so they have the leader's snapshot,
 * user and settings, their errors are his, and they end with him.
 */
#include "rebuild.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/backend_status.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

/*
 * Positions from which on workers pay: at so many, two save a sixth of the time
 * with a reducer in PL/pgSQL, and cost 35 ms with one that is inlined.
 */
#define PAYS		50000

#define QUEUE		((Size) 256 * 1024) /* bytes of rows under way */
#define LOOK		500			/* milliseconds between tellings of progress */

#define KEY_SHARED	UINT64CONST(1)
#define KEY_QUEUES	UINT64CONST(2)

/* What the processes have in common. */
typedef struct Shared
{
	Oid			target;
	Oid			reducer;		/* InvalidOid: the projection's own */
	int64		upto;
	ConditionVariable ready;	/* it is known how many share: */
	IeShares	shares;
} Shared;

struct IeFolding
{
	IeBulkFold *fold;			/* our part */
	bool		passing;		/* a pass has rows left */
	ParallelContext *workers;	/* or NULL */
	Shared	   *shared;
	shm_mq_handle **queues;		/* of workers that have not ended */
	int			nqueues;
	int			next;
};

PGDLLEXPORT void ie_fold_share(dsm_segment *segment, shm_toc *toc);

static IeShares *launch(IeFolding *folding);
static void share_memory(IeFolding *folding, const Shared *shared);
static shm_mq *queue_of(shm_toc *toc, int worker);
static HeapTupleHeader own_row(IeFolding *folding);
static HeapTupleHeader received_row(IeFolding *folding);

/*
 * Begin to fold all events up to a position, with whoever can be had. The
 * projection and the snapshot must last; until the end, no command may begin.
 */
IeFolding *
ie_folding_begin(IeProjection *projection, Oid reducer, Snapshot snapshot,
				 int64 upto)
{
	IeFolding  *folding = palloc0(sizeof(IeFolding));
	Shared		shared = {.target = projection->target, .reducer = reducer,
	.upto = upto};
	IeShares   *shares = NULL;

	if (ie_rebuild_workers > 0 && upto >= PAYS && ie_is_parallel_safe(projection))
	{
		EnterParallelMode();
		folding->workers = CreateParallelContext("immutable_events", "ie_fold_share",
												 ie_rebuild_workers);
		PushActiveSnapshot(snapshot);
		share_memory(folding, &shared);
		PopActiveSnapshot();
		shares = launch(folding);
	}
	folding->fold = ie_bulk_fold_begin(projection, snapshot, upto, false, shares, 0);
	return folding;
}

/* The next row, in the current context; NULL after the last. */
HeapTupleHeader
ie_folding_next(IeFolding *folding)
{
	HeapTupleHeader row = own_row(folding);

	return row == NULL && folding->workers != NULL ? received_row(folding) : row;
}

/* Wait until all have ended, and give everything back. */
void
ie_folding_end(IeFolding *folding)
{
	ie_bulk_fold_end(folding->fold);
	if (folding->workers != NULL)
	{
		WaitForParallelWorkersToFinish(folding->workers);
		DestroyParallelContext(folding->workers);
		ExitParallelMode();
	}
	pfree(folding);
}

/* Make the memory that is shared, with a queue for each worker. */
static void
share_memory(IeFolding *folding, const Shared *shared)
{
	ParallelContext *workers = folding->workers;
	char	   *queues;
	int			i;

	shm_toc_estimate_chunk(&workers->estimator, sizeof(Shared));
	shm_toc_estimate_chunk(&workers->estimator, mul_size(QUEUE, workers->nworkers));
	shm_toc_estimate_keys(&workers->estimator, 2);
	InitializeParallelDSM(workers);
	folding->shared = shm_toc_allocate(workers->toc, sizeof(Shared));
	*folding->shared = *shared;
	ConditionVariableInit(&folding->shared->ready);
	pg_atomic_init_u64(&folding->shared->shares.gone_over, 0);
	shm_toc_insert(workers->toc, KEY_SHARED, folding->shared);
	queues = shm_toc_allocate(workers->toc, mul_size(QUEUE, workers->nworkers));
	for (i = 0; i < workers->nworkers; i++)
		shm_mq_set_receiver(shm_mq_create(queues + i * QUEUE, QUEUE), MyProc);
	shm_toc_insert(workers->toc, KEY_QUEUES, queues);
}

/* Start workers; answers the shares, or NULL when there are none to be had. */
static IeShares *
launch(IeFolding *folding)
{
	ParallelContext *workers = folding->workers;
	int			count;
	int			i;

	LaunchParallelWorkers(workers);
	count = workers->nworkers_launched;
	if (count == 0)
	{
		DestroyParallelContext(workers);
		ExitParallelMode();
		folding->workers = NULL;
		return NULL;
	}
	folding->queues = palloc(count * sizeof(shm_mq_handle *));
	for (i = 0; i < count; i++)
		folding->queues[i] = shm_mq_attach(queue_of(workers->toc, i), workers->seg,
										   workers->worker[i].bgwhandle);
	folding->nqueues = count;
	/* only now it is known how many there are */
	WaitForParallelWorkersToAttach(workers);
	pg_write_barrier();
	folding->shared->shares.count = count + 1;
	ConditionVariableBroadcast(&folding->shared->ready);
	return &folding->shared->shares;
}

/* The queue of a worker. */
static shm_mq *
queue_of(shm_toc *toc, int worker)
{
	return (shm_mq *) ((char *) shm_toc_lookup(toc, KEY_QUEUES, false) + worker * QUEUE);
}

/* The next row of our part. */
static HeapTupleHeader
own_row(IeFolding *folding)
{
	while (folding->passing || ie_bulk_fold_pass(folding->fold))
	{
		IeKeyState *row = ie_bulk_fold_next(folding->fold);

		CHECK_FOR_INTERRUPTS();
		folding->passing = row != NULL;
		if (row != NULL && !row->state.isnull)
			return ie_folded_row(folding->fold, row);
	}
	return NULL;
}

/* The next row of the others. */
static HeapTupleHeader
received_row(IeFolding *folding)
{
	int			waiting = 0;

	while (folding->nqueues > 0)
	{
		HeapTupleHeader row;
		shm_mq_result result;
		void	   *data;
		Size		size;

		CHECK_FOR_INTERRUPTS();
		folding->next %= folding->nqueues;
		result = shm_mq_receive(folding->queues[folding->next], &size, &data, true);
		if (result == SHM_MQ_SUCCESS)
		{
			row = palloc(size);
			memcpy(row, data, size);
			return row;
		}
		if (result == SHM_MQ_DETACHED)
		{
			folding->queues[folding->next] = folding->queues[--folding->nqueues];
			waiting = 0;
			continue;
		}
		folding->next++;
		if (++waiting < folding->nqueues)
			continue;
		ie_tell_shares(&folding->shared->shares);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 LOOK, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		waiting = 0;
	}
	return NULL;
}

/* What a worker does: fold a part, and send its rows. */
void
ie_fold_share(dsm_segment *segment, shm_toc *toc)
{
	Shared	   *shared = shm_toc_lookup(toc, KEY_SHARED, false);
	shm_mq	   *queue = queue_of(toc, ParallelWorkerNumber);
	shm_mq_handle *handle;
	IeFolding	folding = {0};
	IeProjection *projection;
	MemoryContext context;
	HeapTupleHeader row;

	shm_mq_set_sender(queue, MyProc);
	handle = shm_mq_attach(queue, segment, NULL);
	projection = ie_projection_onto(shared->target, shared->target, shared->reducer);
	pgstat_report_activity(STATE_RUNNING,
						   psprintf("immutable.rebuild of %s: folding", projection->name));
	while (*(volatile int *) &shared->shares.count == 0)
		ConditionVariableSleep(&shared->ready, PG_WAIT_EXTENSION);
	ConditionVariableCancelSleep();
	folding.fold = ie_bulk_fold_begin(projection, GetActiveSnapshot(), shared->upto,
									  false, &shared->shares, ParallelWorkerNumber + 1);
	context = AllocSetContextCreate(CurrentMemoryContext, "immutable_events row",
									ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	while ((row = own_row(&folding)) != NULL)
	{
		if (shm_mq_send(handle, HeapTupleHeaderGetDatumLength(row), row, false,
						false) != SHM_MQ_SUCCESS)
			break;				/* the leader does not want any more */
		MemoryContextReset(context);
	}
	ie_bulk_fold_end(folding.fold);
	shm_mq_detach(handle);
	ie_projection_free(projection);
}
