/*
 * horizon.c: how far a log is decided.
 *
 * A position is drawn when an event is written and shows when its transaction
 * commits, so later positions can show before earlier ones. Whoever draws a
 * position holds a lock on the sequence from before the drawing to the end of
 * its transaction. So: read the last position S, then ask who holds that lock.
 * Once these have ended, everything up to S is decided: committed and visible
 * to any snapshot taken from now on, or gone for good. (PostgreSQL's
 * WaitForLockers works by the same rule.)
 *
 * While some have not ended, their own rows say how far they hold back: append
 * holds the lock of its stream from before it draws a position until the row
 * and its index entries are there. If none of the holders is at that, all they
 * have drawn up to S is in the table, and the first row in progress is where
 * the decided part ends.
 *
 * Nobody is waited for here, no time is guessed, and writers pay nothing.
 * Looks are remembered, oldest first: a holder that is still there stands in
 * every later look as well, so they are decided in order.
 */
#include "append.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/transam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/procarray.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

#define MAX_LOOKS	32			/* at one log */

/* What was drawn at some moment, and who might not be done with it. */
typedef struct Look
{
	int64		last;
	int			nholders;		/* those that have not been seen to end */
	VirtualTransactionId *holders;
} Look;

typedef struct Horizon
{
	Oid			sequence;		/* the hash key */
	bool		known;
	int64		decided;
	TransactionId blocker;		/* wrote the event after that, if known */
	int			nlooks;
	Look		looks[MAX_LOOKS];	/* undecided, oldest first */
} Horizon;

static MemoryContext context = NULL;
static HTAB *horizons = NULL;

static void find_first_undecided(Horizon *horizon, Relation log);
static bool is_in_progress(IndexScanDesc scan, TupleTableSlot *slot,
						   ItemPointer tid, void *state);
static Horizon *remembered(Relation log, Oid sequence);
static void create_memory(void);
static void decide(Horizon *horizon);
static void forget_decided(Horizon *horizon);
static bool has_ended(Look *look);
static void drop_looks(Horizon *horizon, int count);
static void look_again(Horizon *horizon);
static void forget(Horizon *horizon, int64 decided);
static void sequence_changed(Datum arg, Oid relid);
static void transaction_event(XactEvent event, void *arg);

/*
 * The highest position up to which all that others have drawn is decided. A
 * snapshot that is to show it must be taken afterwards.
 */
int64
ie_decided_position(Relation log, Oid sequence)
{
	Horizon    *horizon = remembered(log, sequence);

	decide(horizon);
	look_again(horizon);
	if (horizon->nlooks > 0)
		find_first_undecided(horizon, log);
	return horizon->decided;
}

/* Decide what stands below the first row in progress, if it can be told. */
static void
find_first_undecided(Horizon *horizon, Relation log)
{
	Look	   *look = &horizon->looks[horizon->nlooks - 1];
	SnapshotData dirty;
	int64		first;

	/* the version trigger takes no lock that shows it at work */
	if (!ie_is_log(log))
		return;
	if (TransactionIdIsValid(horizon->blocker) &&
		TransactionIdIsInProgress(horizon->blocker))
		return;
	horizon->blocker = InvalidTransactionId;
	if (ie_import_runs(horizon->sequence) ||
		ie_is_writing(RelationGetRelid(log), look->holders, look->nholders))
		return;
	InitDirtySnapshot(dirty);
	first = ie_first_position(log, horizon->decided, look->last, &dirty,
							  is_in_progress, &horizon->blocker);
	horizon->decided = Max(horizon->decided, first - 1);
	forget_decided(horizon);
}

/* Is this the row of a transaction, not our own, that has not ended? */
static bool
is_in_progress(IndexScanDesc scan, TupleTableSlot *slot,
			   ItemPointer tid pg_attribute_unused(), void *state)
{
	if (!index_fetch_heap(scan, slot) ||
		!TransactionIdIsValid(scan->xs_snapshot->xmin))
		return false;
	*(TransactionId *) state = scan->xs_snapshot->xmin;
	return true;
}

/* Sleep for some milliseconds, unless something needs attention. */
void
ie_nap(int milliseconds)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 milliseconds, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* What this backend has last found to be decided; 0 when it never asked. */
int64
ie_remembered_position(Oid sequence)
{
	Horizon    *horizon = horizons == NULL ? NULL
		: hash_search(horizons, &sequence, HASH_FIND, NULL);

	return horizon == NULL ? 0 : horizon->decided;
}

/* Does somebody else import into the log of this sequence? */
bool
ie_import_runs(Oid sequence)
{
	LOCKTAG		tag;
	int			count;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, sequence);
	pfree(GetLockConflicts(&tag, RowExclusiveLock, &count));
	return count > 0;
}

/* What this backend remembers of a log; what is on record, the first time. */
static Horizon *
remembered(Relation log, Oid sequence)
{
	Horizon    *horizon;
	bool		found;

	if (horizons == NULL)
		create_memory();
	horizon = hash_search(horizons, &sequence, HASH_ENTER, &found);
	if (!found)
		MemSet((char *) horizon + sizeof(Oid), 0, sizeof(*horizon) - sizeof(Oid));
	if (!horizon->known)
	{
		Snapshot	latest = RegisterSnapshot(GetLatestSnapshot());

		horizon->decided = Max(0, ie_recorded_position(RelationGetRelid(log), latest));
		horizon->known = true;
		UnregisterSnapshot(latest);
	}
	return horizon;
}

/* Make room to remember, and ask to be told when it must be forgotten. */
static void
create_memory(void)
{
	HASHCTL		ctl = {.keysize = sizeof(Oid), .entrysize = sizeof(Horizon)};

	context = AllocSetContextCreate(CacheMemoryContext,
									"immutable_events horizons",
									ALLOCSET_SMALL_SIZES);
	ctl.hcxt = context;
	horizons = hash_create("immutable_events horizons", 16, &ctl,
						   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	CacheRegisterRelcacheCallback(sequence_changed, (Datum) 0);
	RegisterXactCallback(transaction_event, NULL);
}

/* Take note of the holders that have ended since. */
static void
decide(Horizon *horizon)
{
	int			ended = 0;

	while (ended < horizon->nlooks && has_ended(&horizon->looks[ended]))
		ended++;
	if (ended > 0)
		horizon->decided = Max(horizon->decided, horizon->looks[ended - 1].last);
	forget_decided(horizon);
}

/* Drop the looks at what is decided. */
static void
forget_decided(Horizon *horizon)
{
	int			count = 0;

	while (count < horizon->nlooks &&
		   horizon->looks[count].last <= horizon->decided)
		count++;
	drop_looks(horizon, count);
}

/* Have all holders of a look ended? Prepared transactions have not. */
static bool
has_ended(Look *look)
{
	while (look->nholders > 0 &&
		   VirtualXactLock(look->holders[look->nholders - 1], false))
		look->nholders--;
	return look->nholders == 0;
}

/* Drop the oldest looks. */
static void
drop_looks(Horizon *horizon, int count)
{
	int			i;

	for (i = 0; i < count; i++)
		pfree(horizon->looks[i].holders);
	horizon->nlooks -= count;
	memmove(horizon->looks, horizon->looks + count,
			horizon->nlooks * sizeof(Look));
}

/*
 * Look at the sequence, if more was drawn since: first what was drawn, then who
 * holds it. When there is no room the last look is done over.
 */
static void
look_again(Horizon *horizon)
{
	int64		last = ie_last_position(horizon->sequence);
	VirtualTransactionId *holders;
	Look	   *look;
	LOCKTAG		tag;
	int			count;

	if (last <= (horizon->nlooks > 0
				 ? horizon->looks[horizon->nlooks - 1].last : horizon->decided))
		return;
	SET_LOCKTAG_RELATION(tag, MyDatabaseId, horizon->sequence);
	holders = GetLockConflicts(&tag, ShareLock, &count);
	if (count == 0)
	{
		drop_looks(horizon, horizon->nlooks);
		horizon->decided = last;
		pfree(holders);
		return;
	}
	if (horizon->nlooks == MAX_LOOKS)
		pfree(horizon->looks[--horizon->nlooks].holders);
	look = &horizon->looks[horizon->nlooks];
	look->last = last;
	look->nholders = count;
	look->holders = MemoryContextAlloc(context, count * sizeof(*holders));
	memcpy(look->holders, holders, count * sizeof(*holders));
	horizon->nlooks++;
	pfree(holders);
}

/* Forget the looks, and what was decided above a position. */
static void
forget(Horizon *horizon, int64 decided)
{
	drop_looks(horizon, horizon->nlooks);
	horizon->decided = Min(horizon->decided, decided);
	horizon->blocker = InvalidTransactionId;
}

/* A sequence changed (all of them, when relid is 0): look at it afresh. */
static void
sequence_changed(Datum arg pg_attribute_unused(), Oid relid)
{
	HASH_SEQ_STATUS all;
	Horizon    *horizon;

	hash_seq_init(&all, horizons);
	while ((horizon = hash_seq_search(&all)) != NULL)
		if (!OidIsValid(relid) || relid == horizon->sequence)
		{
			forget(horizon, 0);
			horizon->known = false;
		}
}

/*
 * Looks of our own transaction leave ourselves out. When it is prepared, what
 * it has drawn is undecided for everybody, and for us too.
 */
static void
transaction_event(XactEvent event, void *arg pg_attribute_unused())
{
	HASH_SEQ_STATUS all;
	Horizon    *horizon;

	if (event != XACT_EVENT_PRE_PREPARE)
		return;
	hash_seq_init(&all, horizons);
	while ((horizon = hash_seq_search(&all)) != NULL)
		forget(horizon, ie_own_first_position(horizon->sequence) - 1);
}
