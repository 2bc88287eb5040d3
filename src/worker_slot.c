/*
 * worker_slot.c: which databases have a worker, and in which state.
 *
 * One slot a database: wanted, starting, idle or busy, stopped. Whoever starts
 * a worker reserves the slot first, so there is never a second one. All of it
 * is read and changed under one spinlock, and nothing here can fail.
 */
#include "worker.h"

#include "miscadmin.h"

/* A worker that has not come up by then has died on the way. */
#define START_TIMEOUT	10000	/* milliseconds */

static IeWorkerSlot *find(Oid database);
static IeWorkerSlot *find_or_add(Oid database);
static bool is_serving(const IeWorkerSlot *slot);
static void clear(IeWorkerSlot *slot);
static bool want(Oid database, TimestampTz when, Latch **launcher);

/* The slot of a database, or NULL; only to look at. */
IeWorkerSlot *
ie_slot_of(Oid database)
{
	IeWorkers  *workers = ie_workers();
	IeWorkerSlot *slot;

	SpinLockAcquire(&workers->mutex);
	slot = find(database);
	SpinLockRelease(&workers->mutex);
	return slot;
}

/* Ask to be the one who starts a database's worker. */
IeReservation
ie_reserve_slot(Oid database, bool by_launcher)
{
	IeWorkers  *workers = ie_workers();
	TimestampTz now = GetCurrentTimestamp();
	IeReservation answer = IE_RESERVED;
	IeWorkerSlot *slot;

	SpinLockAcquire(&workers->mutex);
	slot = find_or_add(database);
	if (slot != NULL && !by_launcher)
		slot->stays = true;
	if (slot == NULL)
		answer = IE_NO_SLOT;
	else if (is_serving(slot) ||
			 (slot->state == IE_WORKER_STARTING &&
			  now < slot->since + START_TIMEOUT * INT64CONST(1000)))
		answer = IE_SERVED;
	else if (by_launcher && slot->state == IE_WORKER_STOPPED)
		answer = IE_STOPPED;
	else
	{
		slot->state = IE_WORKER_STARTING;
		slot->stop = false;
		slot->since = now;
	}
	SpinLockRelease(&workers->mutex);
	return answer;
}

/*
 * A database may have something to serve: poke its worker, or have the
 * resident launcher start one. Answers whether there was room to say so.
 */
bool
ie_want_worker(Oid database)
{
	IeWorkers  *workers = ie_workers();
	TimestampTz now = GetCurrentTimestamp();
	Latch	   *latch = NULL;
	IeWorkerSlot *slot;
	bool		done = true;

	SpinLockAcquire(&workers->mutex);
	slot = find(database);
	if (slot != NULL && (is_serving(slot) || slot->state == IE_WORKER_STARTING))
	{
		slot->poked = true;
		latch = slot->latch;
	}
	else if (slot == NULL && workers->resident)
		done = want(database, now, &latch);
	SpinLockRelease(&workers->mutex);
	if (latch != NULL)
		SetLatch(latch);
	return done;
}

/* The launcher is to start a worker after a while, if nobody does before. */
void
ie_want_again(Oid database, int milliseconds)
{
	IeWorkers  *workers = ie_workers();
	TimestampTz when = GetCurrentTimestamp() + milliseconds * INT64CONST(1000);
	IeWorkerSlot *slot;

	SpinLockAcquire(&workers->mutex);
	slot = find(database);
	if (slot != NULL && !is_serving(slot) && slot->state != IE_WORKER_STOPPED)
	{
		slot->state = IE_WORKER_WANTED;
		slot->since = when;
	}
	SpinLockRelease(&workers->mutex);
}

/* A worker could not be started, or its database is gone. */
void
ie_free_slot(Oid database)
{
	IeWorkers  *workers = ie_workers();
	IeWorkerSlot *slot;

	SpinLockAcquire(&workers->mutex);
	slot = find(database);
	if (slot != NULL && !is_serving(slot))
		clear(slot);
	SpinLockRelease(&workers->mutex);
}

/* This process is the worker; NULL when it is not to be. */
IeWorkerSlot *
ie_take_slot(Oid database)
{
	IeWorkers  *workers = ie_workers();
	TimestampTz now = GetCurrentTimestamp();
	IeWorkerSlot *slot;
	Latch	   *launcher;

	SpinLockAcquire(&workers->mutex);
	launcher = workers->launcher;
	slot = find(database);
	if (slot != NULL && slot->state == IE_WORKER_STARTING && !slot->stop)
	{
		slot->state = IE_WORKER_IDLE;
		slot->pid = MyProcPid;
		slot->latch = MyLatch;
		slot->since = slot->active_at = now;
		slot->events = 0;
		workers->running++;
	}
	else
		slot = NULL;
	SpinLockRelease(&workers->mutex);
	if (launcher != NULL)
		SetLatch(launcher);		/* it may have nothing else to wait for */
	return slot;
}

/* Leave for good, unless a projection was made at this moment. */
bool
ie_leave_slot(IeWorkerSlot *slot)
{
	IeWorkers  *workers = ie_workers();
	bool		free;

	SpinLockAcquire(&workers->mutex);
	free = !slot->poked;
	if (free)
	{
		workers->running--;
		clear(slot);
	}
	SpinLockRelease(&workers->mutex);
	return free;
}

/*
 * The worker ends, whether it had come up (then this is its slot) or not. If
 * nobody has asked for it, it is wanted again, and a launcher to start it.
 */
void
ie_worker_ended(Oid database, IeWorkerSlot *slot, int milliseconds)
{
	IeWorkers  *workers = ie_workers();
	TimestampTz now = GetCurrentTimestamp();
	Latch	   *launcher = NULL;
	bool		wanted = false;

	SpinLockAcquire(&workers->mutex);
	if (slot == NULL)
		slot = find(database);
	if (slot != NULL && slot->database == database &&
		(slot->pid == MyProcPid || slot->state == IE_WORKER_STARTING))
	{
		if (slot->pid == MyProcPid)
			workers->running--;
		slot->pid = 0;
		slot->latch = NULL;
		wanted = !slot->stop;
		if (milliseconds < 0)
			milliseconds = 1000 << slot->failures;
		slot->failures = Min(slot->failures + 1, 6);
		slot->since = now + milliseconds * INT64CONST(1000);
		slot->state = wanted ? IE_WORKER_WANTED : IE_WORKER_STOPPED;
		launcher = workers->launcher;
	}
	SpinLockRelease(&workers->mutex);
	if (wanted && launcher != NULL)
		SetLatch(launcher);
	else if (wanted)
		ie_register_launcher();
}

/* A database that wants a worker now, or InvalidOid and when to ask again. */
Oid
ie_next_wanted(TimestampTz now, TimestampTz *due)
{
	IeWorkers  *workers = ie_workers();
	Oid			database = InvalidOid;
	int			i;

	*due = DT_NOEND;
	SpinLockAcquire(&workers->mutex);
	for (i = 0; i < IE_WORKER_SLOTS; i++)
	{
		IeWorkerSlot *slot = &workers->slots[i];
		TimestampTz since = slot->since;

		if (!OidIsValid(slot->database))
			continue;
		if (slot->state == IE_WORKER_STARTING)
			since += START_TIMEOUT * INT64CONST(1000);
		else if (slot->state != IE_WORKER_WANTED)
			continue;
		if (since <= now)
			database = slot->database;
		*due = Min(*due, since);
	}
	SpinLockRelease(&workers->mutex);
	return database;
}

/* This process is the launcher, unless there is one. */
bool
ie_become_launcher(bool resident)
{
	IeWorkers  *workers = ie_workers();
	bool		first;

	SpinLockAcquire(&workers->mutex);
	first = workers->launcher == NULL;
	if (first)
	{
		workers->launcher = MyLatch;
		workers->resident |= resident;
	}
	SpinLockRelease(&workers->mutex);
	return first;
}

/* Give it up, if there is nothing left to start, or anyway. */
bool
ie_resign_launcher(bool force)
{
	IeWorkers  *workers = ie_workers();
	bool		done = true;
	int			i;

	SpinLockAcquire(&workers->mutex);
	for (i = 0; i < IE_WORKER_SLOTS && !force; i++)
		if (OidIsValid(workers->slots[i].database) &&
			workers->slots[i].state <= IE_WORKER_STARTING)
			done = false;
	if (done && workers->launcher == MyLatch)
		workers->launcher = NULL;
	SpinLockRelease(&workers->mutex);
	return done;
}

/* The slot of a database, or NULL. The spinlock is held, as in all below. */
static IeWorkerSlot *
find(Oid database)
{
	IeWorkers  *workers = ie_workers();
	int			i;

	for (i = 0; i < IE_WORKER_SLOTS; i++)
		if (workers->slots[i].database == database)
			return &workers->slots[i];
	return NULL;
}

/* The same, in another slot if need be; NULL when there is none. */
static IeWorkerSlot *
find_or_add(Oid database)
{
	IeWorkerSlot *slot = find(database);

	int			i;

	if (slot == NULL)
		slot = find(InvalidOid);
	for (i = 0; i < IE_WORKER_SLOTS && slot == NULL; i++)
		if (ie_workers()->slots[i].state == IE_WORKER_STOPPED)
			slot = &ie_workers()->slots[i];
	if (slot != NULL && slot->database != database)
	{
		clear(slot);
		slot->database = database;
	}
	return slot;
}

/* Does its worker run? */
static bool
is_serving(const IeWorkerSlot *slot)
{
	return slot->state == IE_WORKER_IDLE || slot->state == IE_WORKER_BUSY;
}

/* Free a slot. */
static void
clear(IeWorkerSlot *slot)
{
	memset(slot, 0, sizeof(*slot));
}

/* Have the launcher start a worker; answers whether there was room. */
static bool
want(Oid database, TimestampTz when, Latch **launcher)
{
	IeWorkerSlot *slot = find_or_add(database);

	if (slot == NULL)
		return false;
	slot->state = IE_WORKER_WANTED;
	slot->since = when;
	*launcher = ie_workers()->launcher;
	return true;
}
