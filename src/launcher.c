/*
 * launcher.c: the process that starts workers.
 *
 * Preloaded, it runs as long as the server does: it tries every database once,
 * starts a worker where one is asked for, and again where one has ended. It is
 * connected to no database. Not preloaded, there is one only while a worker
 * has to be brought back.
 */
#include "log.h"
#include "worker.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
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
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

#define RESTART		5			/* seconds, for a launcher that has failed */
#define DDL_NAP		100			/* milliseconds, while a database is wanted */
#define FULL_NAP	5000		/* no room for another worker */
#define SCAN_NAP	5000		/* between looks for new databases */

static List *tried = NIL;		/* databases, in TopMemoryContext */
static TimestampTz next_scan = 0;
static uint64 scanned_at = 0;

static shmem_request_hook_type next_request = NULL;

static void request_memory(void);
static BackgroundWorker description(bool resident);
static void run(bool resident);
static void try_new_databases(void);
static List *open_databases(bool templates);
static void start(Oid database);
static void complain(void);
static void ended(int code, Datum arg);

/* Preloaded: have a launcher, and the memory that it shares with workers. */
void
ie_install_launcher(void)
{
	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	next_request = shmem_request_hook;
	shmem_request_hook = request_memory;
	ie_register_launcher();
}

/* Ask for the memory. */
static void
request_memory(void)
{
	if (next_request != NULL)
		next_request();
	RequestAddinShmemSpace(MAXALIGN(ie_workers_size()));
}

/* Have the server start it: when it starts itself, or now. */
void
ie_register_launcher(void)
{
	BackgroundWorker worker = description(process_shared_preload_libraries_in_progress);

	if (process_shared_preload_libraries_in_progress)
		RegisterBackgroundWorker(&worker);
	else
		(void) RegisterDynamicBackgroundWorker(&worker, NULL);
}

/* What the postmaster must know of it. */
static BackgroundWorker
description(bool resident)
{
	return (BackgroundWorker)
	{
		.bgw_name = IE_EXTENSION " launcher",
			.bgw_type = IE_EXTENSION " launcher",
			.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
			.bgw_start_time = BgWorkerStart_RecoveryFinished,
			.bgw_restart_time = resident ? RESTART : BGW_NEVER_RESTART,
			.bgw_library_name = IE_EXTENSION,
			.bgw_function_name = "ie_launcher_main",
			.bgw_main_arg = BoolGetDatum(resident)
	};
}

/* The process. */
void
ie_launcher_main(Datum resident)
{
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	(void) ie_workers();
	before_shmem_exit(ended, (Datum) 0);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	SetConfigOption("application_name", IE_EXTENSION " launcher", PGC_SUSET,
					PGC_S_OVERRIDE);
	while (!ie_become_launcher(DatumGetBool(resident)))
	{
		if (!DatumGetBool(resident))
			proc_exit(0);
		ie_nap(RESTART * 1000);
	}
	run(DatumGetBool(resident));
}

/* Start what is wanted, as long as there is anything to wait for. */
static void
run(bool resident)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext,
												  "immutable_events launcher",
												  ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		TimestampTz due;
		TimestampTz now = GetCurrentTimestamp();
		Oid			database;

		MemoryContextSwitchTo(context);
		MemoryContextReset(context);
		ResetLatch(MyLatch);
		if (ProcDiePending)
			proc_exit(1);		/* without a message */
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (resident && now >= next_scan)
			try_new_databases();
		database = ie_next_wanted(now, &due);
		if (OidIsValid(database))
		{
			start(database);
			continue;
		}
		if (!resident && ie_resign_launcher(false))
			proc_exit(0);
		due = Min(due, resident ? next_scan : now + SCAN_NAP * INT64CONST(1000));
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Max(TimestampDifferenceMilliseconds(now, due), 1),
						 PG_WAIT_EXTENSION);
	}
}

/* Have a worker look at each database that was not there last time. */
static void
try_new_databases(void)
{
	uint64		seen = ie_completed_transactions();
	bool		all = true;
	MemoryContext caller = CurrentMemoryContext;
	List	   *databases;
	ListCell   *cell;

	next_scan = GetCurrentTimestamp() + SCAN_NAP * INT64CONST(1000);
	if (tried != NIL && seen == scanned_at)
		return;
	databases = open_databases(false);
	MemoryContextSwitchTo(TopMemoryContext);
	foreach(cell, tried)
		if (!list_member_oid(databases, lfirst_oid(cell)))
			tried = foreach_delete_current(tried, cell);
	foreach(cell, databases)
	{
		Oid			database = lfirst_oid(cell);

		if (list_member_oid(tried, database))
			continue;
		if (ie_want_worker(database))
			tried = lappend_oid(tried, database);
		else
			all = false;
	}
	MemoryContextSwitchTo(caller);
	if (all)
		scanned_at = seen;
	else
		next_scan = GetCurrentTimestamp() + DDL_NAP * INT64CONST(1000);
}

/* The databases that can be connected to. */
static List *
open_databases(bool templates)
{
	MemoryContext caller = CurrentMemoryContext;
	List	   *databases = NIL;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	row;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((row = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(row);
		MemoryContext scanning = MemoryContextSwitchTo(caller);

		if (database->datallowconn && !database_is_invalid_form(database) &&
			(templates || !database->datistemplate))
			databases = lappend_oid(databases, database->oid);
		MemoryContextSwitchTo(scanning);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	return databases;
}

/* Start the worker of a database, or say when to try again. */
static void
start(Oid database)
{
	BackgroundWorkerHandle *handle;
	pid_t		pid;

	if (ie_is_database_wanted(database))
		ie_want_again(database, DDL_NAP);
	else if (!list_member_oid(open_databases(true), database))
		ie_free_slot(database);
	else if (ie_reserve_slot(database, true) != IE_RESERVED)
		return;
	else if (!ie_register_worker(database, &handle))
	{
		complain();
		ie_want_again(database, FULL_NAP);
	}
	else
		(void) WaitForBackgroundWorkerStartup(handle, &pid);
}

/* Say that there is no room, once in a while. */
static void
complain(void)
{
	static TimestampTz last = 0;
	TimestampTz now = GetCurrentTimestamp();

	if (!TimestampDifferenceExceeds(last, now, 60000))
		return;
	last = now;
	ereport(WARNING,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("out of background worker slots"),
			 errdetail("A database with asynchronous projections has no worker."),
			 errhint("You might need to increase max_worker_processes.")));
}

/* The process ends: somebody else may be the launcher. */
static void
ended(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	(void) ie_resign_launcher(true);
}
