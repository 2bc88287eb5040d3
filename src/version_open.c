/*
 * version_open.c: the locks that every version needs.
 *
 * A version table and its indexes are opened for each row and closed after it,
 * so that nothing that runs between two rows finds them in use. Their locks
 * stay to the end of the transaction, and so only its first row asks for them;
 * unless a subtransaction has asked, and was rolled back.
 */
#include "version.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "compat.h"
#include "storage/proc.h"
#include "utils/rel.h"

static uint64 rollbacks = 0;	/* of subtransactions */

static bool is_held(const IeHeldLock *lock);
static void hold(IeHeldLock *lock);
static void subtransaction_event(SubXactEvent event, SubTransactionId mine,
								 SubTransactionId parent, void *arg);

/* Open a table for writing; NULL when it is gone. */
Relation
ie_open_held_table(Oid relid, IeHeldLock *lock)
{
	Relation	rel;

	if (is_held(lock))
		return table_open(relid, NoLock);
	rel = try_table_open(relid, RowExclusiveLock);
	if (rel != NULL)
		hold(lock);
	return rel;
}

/* Open an index for writing. */
Relation
ie_open_held_index(Oid relid, IeHeldLock *lock)
{
	Relation	index;

	if (is_held(lock))
		return index_open(relid, NoLock);
	index = index_open(relid, RowExclusiveLock);
	hold(lock);
	return index;
}

/* Does this transaction have the lock, from an earlier row? */
static bool
is_held(const IeHeldLock *lock)
{
	return lock->transaction == MyProc->IE_LXID && lock->rollbacks == rollbacks;
}

/* Note that it has the lock from now on. */
static void
hold(IeHeldLock *lock)
{
	static bool registered = false;

	if (!registered)
		RegisterSubXactCallback(subtransaction_event, NULL);
	registered = true;
	lock->transaction = MyProc->IE_LXID;
	lock->rollbacks = rollbacks;
}

/* Locks that a subtransaction has taken are gone when it is rolled back. */
static void
subtransaction_event(SubXactEvent event, SubTransactionId mine pg_attribute_unused(),
					 SubTransactionId parent pg_attribute_unused(),
					 void *arg pg_attribute_unused())
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		rollbacks++;
}
