/*
 * rebuild.c: immutable.rebuild, a read model folded anew beside itself.
 *
 * The log is folded into a shadow table, which catches up in rounds with what
 * is appended meanwhile; each is a transaction of its own. The last one keeps
 * the projection where it is for a moment, folds the rest, and makes the read
 * model what its shadow is, with its position and its reducer. Readers and
 * appenders go on throughout; where something fails, nothing has changed.
 */
#include "rebuild.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#define FEW			1000		/* events left for the last round */
#define PAUSE		300			/* milliseconds until the next try */

typedef void (*Step) (IeRebuild *rebuild);

static void check_caller(FunctionCallInfo fcinfo);
static void hold(Oid target, const char *name);
static void release(Oid target);
static void run(IeRebuild *rebuild);
static bool in_transaction(IeRebuild *rebuild, Step step);
static void pause_a_moment(IeRebuild *rebuild);
static void commit(void);

PG_FUNCTION_INFO_V1(ie_rebuild);

/* Rebuild a read model. */
Datum
ie_rebuild(PG_FUNCTION_ARGS)
{
	IeRebuild	rebuild = {0};
	IeProjection *projection;

	check_caller(fcinfo);
	rebuild.target = PG_GETARG_OID(0);
	rebuild.reducer = PG_ARGISNULL(1) ? InvalidOid : PG_GETARG_OID(1);
	if (!PG_ARGISNULL(1) && !OidIsValid(rebuild.reducer))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", rebuild.reducer)));
	rebuild.swap = PG_GETARG_BOOL(2);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	rebuild.context = CurrentMemoryContext;
	PushActiveSnapshot(GetTransactionSnapshot());
	projection = ie_known_projection(rebuild.target);
	ie_check_projection_right(projection);
	rebuild.name = pstrdup(projection->name);
	PopActiveSnapshot();
	hold(rebuild.target, rebuild.name);
	PG_TRY();
	{
		ie_progress_begin(rebuild.target, rebuild.name);
		run(&rebuild);
	}
	PG_FINALLY();
	{
		ie_progress_end();
		release(rebuild.target);
	}
	PG_END_TRY();
	SPI_finish();
	PG_RETURN_VOID();
}

/* Only a CALL of its own may commit. */
static void
check_caller(FunctionCallInfo fcinfo)
{
	ie_require_arg(fcinfo, 0, "target");
	ie_require_arg(fcinfo, 2, "swap");
	PreventCommandDuringRecovery("immutable.rebuild()");
	PreventCommandIfReadOnly("immutable.rebuild()");
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		((CallContext *) fcinfo->context)->atomic || IsSubTransaction())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("immutable.rebuild cannot run inside a transaction block"),
				 errdetail("It commits several times."),
				 errhint("CALL it outside of BEGIN ... COMMIT, functions and exception blocks.")));
}

/* One rebuild of a read model at a time; the lock outlives transactions. */
static void
hold(Oid target, const char *name)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, target, 0, IE_LOCK_REBUILD);
	if (LockAcquire(&tag, ExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("read model \"%s\" is being rebuilt already", name),
				 errhint("immutable.rebuild_progress shows how far that is.")));
}

/* Let others. */
static void
release(Oid target)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, target, 0, IE_LOCK_REBUILD);
	LockRelease(&tag, ExclusiveLock, true);
}

/* All of it. */
static void
run(IeRebuild *rebuild)
{
	bool		done = false;

	commit();
	in_transaction(rebuild, ie_rebuild_begin);
	in_transaction(rebuild, ie_rebuild_fold);
	while (!done)
	{
		ie_progress_phase(IE_REBUILD_CATCHING_UP);
		do
			in_transaction(rebuild, ie_rebuild_catch_up);
		while (rebuild->left >= FEW);
		done = in_transaction(rebuild, ie_rebuild_finish);
		if (!done)
		{
			ie_progress_phase(IE_REBUILD_WAITING);
			in_transaction(rebuild, pause_a_moment);
		}
	}
}

/*
 * Do something in a transaction. False when it could not get a lock in time;
 * after any other error the shadow is dropped.
 */
static bool
in_transaction(IeRebuild *rebuild, Step step)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;
	int64		position = rebuild->position;

	rebuild->locking = false;
	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		step(rebuild);
		ie_rebuild_close(rebuild);
		PopActiveSnapshot();
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(rebuild->context);
		error = CopyErrorData();
		FlushErrorState();
		ie_rebuild_close(rebuild);
		RollbackAndReleaseCurrentSubTransaction();
		rebuild->position = position;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	if (error != NULL && rebuild->locking &&
		(error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		 error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED))
	{
		FreeErrorData(error);
		commit();
		return false;
	}
	if (error != NULL)
	{
		if (OidIsValid(rebuild->shadow))
		{
			PushActiveSnapshot(GetTransactionSnapshot());
			ie_drop_shadow(rebuild->shadow);
			PopActiveSnapshot();
		}
		commit();
		ReThrowError(error);
	}
	commit();
	return true;
}

/* Let others go on. */
static void
pause_a_moment(IeRebuild *rebuild pg_attribute_unused())
{
	ie_nap(PAUSE);
}

/* Commit; what follows sees what others have committed, whatever the default. */
static void
commit(void)
{
	SPI_commit();
	XactIsoLevel = XACT_READ_COMMITTED;
	XactReadOnly = false;
}
