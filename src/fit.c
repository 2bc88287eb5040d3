/*
 * fit.c: how far a given snapshot shows a log without a gap.
 *
 * Up to a decided position every event is committed or gone, but a snapshot
 * that was taken before does not see all of them. So the log is read with the
 * latest snapshot, in order of position, up to the first event whose writer
 * the given snapshot counts as running or not yet begun. The reading starts
 * above what is known to be visible: a position that somebody has recorded and
 * the snapshot sees, or one that was decided before the snapshot's oldest
 * transaction began. Pages that are visible to all are passed over.
 */
#include "log.h"

#include "access/htup_details.h"
#include "access/relscan.h"
#include "access/transam.h"
#include "access/visibilitymap.h"
#include "access/xact.h"
#include "compat.h"
#include "storage/bufmgr.h"
#include "storage/proc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* What was found out of one log. */
typedef struct Known
{
	Oid			log;			/* the hash key */
	Oid			sequence;		/* that its positions come from */
	int64		old_position;	/* decided when the next xid was old_xid */
	uint64		old_xid;
	int64		new_position;	/* and a later one */
	uint64		new_xid;
	LocalTransactionId transaction; /* the snapshot that was fitted last */
	TransactionId xmin;
	TransactionId xmax;
	uint32		running;
	int64		fits;			/* it shows everything up to here */
	bool		stopped;		/* and misses the next event */
} Known;

static HTAB *table = NULL;

static Known *known_of(Oid log);
static void sequence_changed(Datum arg, Oid relid);
static uint64 full_xid(TransactionId xid);
static void note_decided(Known *known, int64 decided);
static int64 visible_start(const Known *known, Oid log, Snapshot snapshot);
static int64 first_missing(Relation log, int64 after, int64 upto,
						   Snapshot snapshot);
static bool is_missing(IndexScanDesc scan, TupleTableSlot *slot,
					   ItemPointer tid, void *state);

/* The highest position, up to a decided one, that a snapshot shows gapless. */
int64
ie_fit_to_snapshot(Relation log, Oid sequence, int64 decided,
				   Snapshot snapshot)
{
	Known	   *known = known_of(RelationGetRelid(log));
	int64		missing;

	known->sequence = sequence;
	/* between snapshots with the same bounds, transactions can only end */
	if (known->transaction != MyProc->IE_LXID ||
		known->xmin != snapshot->xmin || known->xmax != snapshot->xmax ||
		known->running != snapshot->xcnt + snapshot->subxcnt)
	{
		known->running = snapshot->xcnt + snapshot->subxcnt;
		known->transaction = MyProc->IE_LXID;
		known->xmin = snapshot->xmin;
		known->xmax = snapshot->xmax;
		known->fits = visible_start(known, RelationGetRelid(log), snapshot);
		known->stopped = false;
	}
	note_decided(known, decided);
	if (known->stopped || known->fits >= decided)
		return Min(known->fits, decided);
	missing = first_missing(log, known->fits, decided, snapshot);
	known->stopped = missing <= decided;
	known->fits = missing - 1;
	return known->fits;
}

/* What was found out of a log; nothing at first. */
static Known *
known_of(Oid log)
{
	Known	   *known;
	bool		found;

	if (table == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(Oid), .entrysize = sizeof(Known)};

		ctl.hcxt = CacheMemoryContext;
		table = hash_create("immutable_events fits", 16, &ctl,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
		CacheRegisterRelcacheCallback(sequence_changed, (Datum) 0);
	}
	known = hash_search(table, &log, HASH_ENTER, &found);
	if (!found)
	{
		MemSet(known, 0, sizeof(*known));
		known->log = log;
	}
	return known;
}

/*
 * A sequence changed (all of them, when relid is 0). An import says so: it may
 * have written below what was decided.
 */
static void
sequence_changed(Datum arg pg_attribute_unused(), Oid relid)
{
	HASH_SEQ_STATUS all;
	Known	   *known;

	hash_seq_init(&all, table);
	while ((known = hash_seq_search(&all)) != NULL)
		if (!OidIsValid(relid) || relid == known->sequence)
		{
			known->old_position = known->new_position = 0;
			known->transaction = InvalidLocalTransactionId;
		}
}

/* An xid of the present, with its epoch. */
static uint64
full_xid(TransactionId xid)
{
	FullTransactionId next = ReadNextFullTransactionId();

	return U64FromFullTransactionId(next) - (XidFromFullTransactionId(next) - xid);
}

/* Everything up to here was written by transactions before the next xid. */
static void
note_decided(Known *known, int64 decided)
{
	uint64		next = U64FromFullTransactionId(ReadNextFullTransactionId());

	if (decided <= known->new_position)
		return;
	/* the older note is for snapshots that the newer one comes too late for */
	if (full_xid(known->xmin) >= known->new_xid)
	{
		known->old_position = known->new_position;
		known->old_xid = known->new_xid;
	}
	known->new_position = decided;
	known->new_xid = next;
}

/* A position up to which a snapshot is known to show everything. */
static int64
visible_start(const Known *known, Oid log, Snapshot snapshot)
{
	int64		start = Max(0, ie_recorded_position(log, snapshot));
	uint64		xmin = full_xid(snapshot->xmin);

	if (known->new_xid <= xmin)
		start = Max(start, known->new_position);
	else if (known->old_xid <= xmin)
		start = Max(start, known->old_position);
	return start;
}

/* The first position that a snapshot misses, or upto + 1. */
static int64
first_missing(Relation log, int64 after, int64 upto, Snapshot snapshot)
{
	Snapshot	latest = RegisterSnapshot(GetLatestSnapshot());
	int64		missing;

	missing = ie_first_position(log, after, upto, latest, is_missing, snapshot);
	UnregisterSnapshot(latest);
	return missing;
}

/* Is there a committed row, of another transaction, that a snapshot misses? */
static bool
is_missing(IndexScanDesc scan, TupleTableSlot *slot, ItemPointer tid,
		   void *state)
{
	Buffer		map = InvalidBuffer;
	bool		all_see = VM_ALL_VISIBLE(scan->heapRelation,
										 ItemPointerGetBlockNumber(tid), &map);
	TransactionId xmin;

	if (BufferIsValid(map))
		ReleaseBuffer(map);
	if (all_see || !index_fetch_heap(scan, slot))
		return false;
	/* the column xmin would show that of a frozen row as well */
	xmin = HeapTupleHeaderGetXmin(ExecFetchSlotHeapTuple(slot, false, NULL)->t_data);
	return TransactionIdIsNormal(xmin) && XidInMVCCSnapshot(xmin, (Snapshot) state) &&
		!TransactionIdIsCurrentTransactionId(xmin);
}
