/*
 * position_scan.c: a look at the rows of a log in order of position.
 */
#include "log.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "compat.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

static int64 first_in(Oid relid, int64 after, int64 upto, Snapshot snapshot,
					  IePositionTest test, void *state);

/*
 * The first position between two whose row passes a test, or upto + 1. In a
 * partitioned log each leaf is read up to what the ones before have found.
 */
int64
ie_first_position(Relation log, int64 after, int64 upto, Snapshot snapshot,
				  IePositionTest test, void *state)
{
	ListCell   *cell;

	foreach(cell, find_all_inheritors(RelationGetRelid(log), AccessShareLock, NULL))
		if (get_rel_relkind(lfirst_oid(cell)) == RELKIND_RELATION)
			upto = first_in(lfirst_oid(cell), after, upto, snapshot, test, state) - 1;
	return upto + 1;
}

/* The same, in one table. */
static int64
first_in(Oid relid, int64 after, int64 upto, Snapshot snapshot,
		 IePositionTest test, void *state)
{
	Relation	rel = table_open(relid, NoLock);
	Relation	index = index_open(ie_position_index(rel, false), AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	IndexScanDesc scan = ie_index_beginscan(rel, index, snapshot, 2);
	ScanKeyData keys[2];
	ItemPointer tid;
	int64		found = upto + 1;
	bool		isnull;

	ScanKeyInit(&keys[0], 1, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(after));
	ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(upto));
	index_rescan(scan, keys, 2, NULL, 0);
	while (found > upto &&
		   (tid = index_getnext_tid(scan, ForwardScanDirection)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (test(scan, slot, tid, state))
			found = DatumGetInt64(slot_getattr(slot, IE_POSITION, &isnull));
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	table_close(rel, NoLock);
	return found;
}
