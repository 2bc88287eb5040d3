/*
 * worker.c: the process that keeps a database's asynchronous projections
 * current.
 *
 * It works in rounds, and sleeps when a round has found nothing: until an
 * append sets its latch, or every immutable.naptime, and then without a
 * transaction unless some transaction of the server has written since. It
 * gives its database up when somebody wants to drop, rename or copy it, and
 * is brought back afterwards by the launcher.
 */
#include "worker.h"

#include "access/xact.h"
#include "catalog/pg_database.h"
#include "compat.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#define MAX_NAP		1000		/* milliseconds without looking around */
#define LEFT_FOR_DDL	100		/* milliseconds to stay away */

int			ie_naptime = 200;

static IeWorkerSlot *my_slot = NULL;
static int	away = -1;			/* milliseconds to stay away; -1: as it fails */

static void connect_to(Oid database);
static void set_for_good(const char *setting, const char *value);
static void serve(void);
static void leave_if_asked(void);
static void leave_if_idle(IeRound *round);
static void nap(const IeRound *round, uint64 seen);
static bool is_due(const IeRound *round, uint64 seen, long slept);
static void ended(int code, Datum database);

/* The process. */
void
ie_worker_main(Datum database)
{
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	(void) ie_workers();
	before_shmem_exit(ended, database);
	BackgroundWorkerUnblockSignals();
	connect_to(DatumGetObjectId(database));
	my_slot = ie_take_slot(DatumGetObjectId(database));
	if (my_slot == NULL)
		proc_exit(0);
	my_slot->state = IE_WORKER_BUSY;
	serve();
}

/* Connect as the bootstrap superuser; projections run as their owners. */
static void
connect_to(Oid database)
{
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	set_for_good("application_name", IE_EXTENSION " worker");
	/* what a crash takes of a read model is folded again from the log */
	set_for_good("synchronous_commit", "off");
	set_for_good("default_transaction_isolation", "read committed");
	set_for_good("default_transaction_read_only", "off");
	set_for_good("default_transaction_deferrable", "off");
	set_for_good("session_replication_role", "origin");
	if (GetConfigOption("transaction_timeout", true, false) != NULL)
		set_for_good("transaction_timeout", "0");
}

/* Whatever the database's and the role's own settings are. */
static void
set_for_good(const char *setting, const char *value)
{
	SetConfigOption(setting, value, PGC_SUSET, PGC_S_OVERRIDE);
}

/* Work until somebody wants the worker or its database to go. */
static void
serve(void)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext,
												  "immutable_events round",
												  ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		IeRound		round = {.due = DT_NOEND};
		uint64		seen;

		MemoryContextSwitchTo(context);
		MemoryContextReset(context);
		ResetLatch(MyLatch);
		leave_if_asked();
		seen = ie_completed_transactions();
		my_slot->poked = false;
		ie_serve_round(&round, my_slot);
		leave_if_idle(&round);
		if (!round.progress)
			nap(&round, seen);
	}
}

/* End, if somebody has called stop_worker or wants the database. */
static void
leave_if_asked(void)
{
	QueryCancelPending = false; /* of what has ended already */
	if (ProcDiePending)
		proc_exit(1);			/* without a message */
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
	if (my_slot->stop)
		proc_exit(0);
	if (ie_is_database_wanted(MyDatabaseId))
	{
		away = LEFT_FOR_DDL;
		proc_exit(0);
	}
}

/* Nothing to serve: stay only if somebody has called start_worker. */
static void
leave_if_idle(IeRound *round)
{
	if (!round->gone && (!round->nothing || my_slot->stays))
		return;
	if (ie_leave_slot(my_slot))
	{
		my_slot = NULL;
		proc_exit(0);
	}
	round->progress = true;		/* there may be something by now */
}

/* Sleep until there may be something to do. */
static void
nap(const IeRound *round, uint64 seen)
{
	long		slept = 0;

	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, "waiting for events");
	my_slot->state = IE_WORKER_IDLE;
	do
	{
		long		time;

		if (slept >= ie_naptime)
			slept = 0;
		time = Min(ie_naptime - slept, MAX_NAP);
		if ((WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					   time, PG_WAIT_EXTENSION) & WL_LATCH_SET) != 0)
			break;
		leave_if_asked();
		slept += time;
	} while (!is_due(round, seen, slept));
	my_slot->state = IE_WORKER_BUSY;
}

/*
 * Has the time come for another round? Where nothing was left to do, nothing
 * has come since either, unless some transaction has written.
 */
static bool
is_due(const IeRound *round, uint64 seen, long slept)
{
	if (GetCurrentTimestamp() >= round->due)
		return true;
	return slept >= ie_naptime &&
		(round->left || ie_completed_transactions() != seen);
}

/*
 * Does somebody hold a lock on a database that we would have to wait for? DROP,
 * ALTER ... RENAME, SET TABLESPACE and CREATE ... TEMPLATE do, and give those
 * who are connected five seconds to go away.
 */
bool
ie_is_database_wanted(Oid database)
{
	LOCKTAG		tag;
	int			count;

	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, database, 0);
	pfree(GetLockConflicts(&tag, RowExclusiveLock, &count));
	return count > 0;
}

/* The process ends, its transaction has been rolled back. */
static void
ended(int code pg_attribute_unused(), Datum database)
{
	if (ie_is_database_wanted(DatumGetObjectId(database)))
		away = LEFT_FOR_DDL;
	ie_worker_ended(DatumGetObjectId(database), my_slot, away);
}

/* Have the postmaster start a worker; the slot is reserved. */
bool
ie_register_worker(Oid database, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker = {.bgw_name = IE_EXTENSION " worker",
		.bgw_type = IE_EXTENSION " worker",
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = BGW_NEVER_RESTART,
		.bgw_library_name = IE_EXTENSION,
		.bgw_function_name = "ie_worker_main",
		.bgw_main_arg = ObjectIdGetDatum(database),
		.bgw_notify_pid = MyProcPid};

	return RegisterDynamicBackgroundWorker(&worker, handle);
}
