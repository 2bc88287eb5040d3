/*
 * patient_lock.c: a strong lock on a table that is in use.
 *
 * Who waits for a lock makes all wait that come after him, for as long as the
 * longest transaction before him lasts. So we wait for a moment, step back to
 * let the others pass, and try again, until it succeeds. A lock_timeout of the
 * user's says that he wants it otherwise.
 */
#include "log.h"
#include "version.h"

#include "access/xact.h"
#include "catalog/pg_inherits.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#define A_MOMENT		"100ms"
#define STEP_BACK_MS	100

static void lock(Oid relid, LOCKMODE lockmode);
static bool lock_within_a_moment(Oid relid, LOCKMODE lockmode);

/* Lock a table and its partitions without holding up those who use them. */
void
ie_lock_patiently(Oid relid, LOCKMODE lockmode)
{
	if (LockTimeout > 0)
	{
		lock(relid, lockmode);
		return;
	}
	while (!lock_within_a_moment(relid, lockmode))
		ie_nap(STEP_BACK_MS);
}

/* Lock a table and its partitions. */
static void
lock(Oid relid, LOCKMODE lockmode)
{
	LockRelationOid(relid, lockmode);
	(void) find_all_inheritors(relid, lockmode, NULL);
}

/* Wait for a lock, but not for long; false: it was not to be had. */
static bool
lock_within_a_moment(Oid relid, LOCKMODE lockmode)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool locked = true;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		int			settings = NewGUCNestLevel();

		(void) set_config_option("lock_timeout", A_MOMENT, PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
		lock(relid, lockmode);
		AtEOXact_GUC(true, settings);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
			PG_RE_THROW();
		FlushErrorState();
		FreeErrorData(error);
		RollbackAndReleaseCurrentSubTransaction();
		locked = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	return locked;
}
