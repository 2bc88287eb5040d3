/*
 * worker_serve.c: a round of a worker's work.
 *
 * A round lists the asynchronous projections, asks each of their logs once how
 * far it is decided, and folds one batch for each projection that is behind:
 * all of them move on, however far behind one is. Each step is a transaction
 * of its own. What fails is logged, and left alone for a while; a projection
 * that a poison event has halted is left alone until somebody resumes it. So is
 * what pg_restore has not done with: it makes triggers when rows are loaded.
 */
#include "projection.h"
#include "worker.h"

#include "access/relation.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#define PERSIST_NAP		INT64CONST(1000000)	/* microseconds between records */
#define MAX_FAILURES	6		/* doublings of a second, then no more */

/* A projection, and where it stands. */
typedef struct Served
{
	Oid			target;
	Oid			log;
	int64		position;
	bool		waits;			/* it is halted, or not restored yet */
} Served;

/* What a round is about. */
typedef struct Work
{
	IeRound    *round;
	MemoryContext context;		/* to the end of the round */
	Served	   *items;			/* in order of their logs */
	int			nitems;
	int			current;
	int64		safe;			/* position of the current item's log */
	int64		handled;		/* events, by the last batch */
} Work;

/* What is remembered of a log, or of a projection that has failed. */
typedef struct Memory
{
	Oid			relid;			/* the hash key; 0: listing itself */
	int			failures;		/* in a row */
	TimestampTz retry_at;
	int64		persisted;		/* of a log */
	TimestampTz persist_at;
} Memory;

typedef void (*Step) (Work *work);

static HTAB *memories = NULL;

static Memory *memory_of(Oid relid);
static bool take_step(Work *work, Oid relid, Step step);
static void begin(void);
static void commit(void);
static void note_failure(Memory *memory);
static void list_projections(Work *work);
static bool hold_extension(void);
static void receive_projections(void *state);
static void ask_log(Work *work);
static void persist(Work *work, IeTarget *log);
static void refresh(Work *work);
static void report(const char *verb, Oid relid);

/* Go over all projections once. */
void
ie_serve_round(IeRound *round, IeWorkerSlot *slot)
{
	Work		work = {.round = round, .context = CurrentMemoryContext};
	Oid			log = InvalidOid;
	bool		known = false;

	if (!take_step(&work, InvalidOid, list_projections))
		return;
	slot->failures = 0;
	for (work.current = 0; work.current < work.nitems; work.current++)
	{
		Served	   *item = &work.items[work.current];

		if (item->log != log)
			known = take_step(&work, item->log, ask_log);
		log = item->log;
		if (!known || item->waits || item->position >= work.safe ||
			slot->stop || ie_is_database_wanted(MyDatabaseId))
			continue;
		work.handled = 0;
		if (!take_step(&work, item->target, refresh))
			continue;
		if (work.handled > 0)
			round->progress = true;
		else
			round->left = true;
		slot->events += work.handled;
		slot->active_at = GetCurrentTimestamp();
	}
}

/* What is remembered of a relation. */
static Memory *
memory_of(Oid relid)
{
	Memory	   *memory;
	bool		found;

	if (memories == NULL)
	{
		HASHCTL		control = {.keysize = sizeof(Oid), .entrysize = sizeof(Memory)};

		memories = hash_create("immutable_events worker", 16, &control,
							   HASH_ELEM | HASH_BLOBS);
	}
	memory = hash_search(memories, &relid, HASH_ENTER, &found);
	if (!found)
		memset((char *) memory + sizeof(Oid), 0, sizeof(*memory) - sizeof(Oid));
	return memory;
}

/*
 * Do a step in a transaction of its own, unless it has failed lately. Answers
 * whether it was done; a failure is logged and hurts nothing else.
 */
static bool
take_step(Work *work, Oid relid, Step step)
{
	Memory	   *memory = memory_of(relid);
	volatile bool done = false;

	if (memory->failures > 0 && GetCurrentTimestamp() < memory->retry_at)
	{
		work->round->due = Min(work->round->due, memory->retry_at);
		return false;
	}
	PG_TRY();
	{
		begin();
		step(work);
		commit();
		memory->failures = 0;
		done = true;
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(work->context);
		EmitErrorReport();
		AbortCurrentTransaction();
		FlushErrorState();
		debug_query_string = NULL;
		note_failure(memory);
		work->round->due = Min(work->round->due, memory->retry_at);
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(work->context);
	return done;
}

/* Begin a transaction. */
static void
begin(void)
{
	CHECK_FOR_INTERRUPTS();
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

/* Commit it. */
static void
commit(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	debug_query_string = NULL;
	pgstat_report_stat(false);
}

/* Try again later, and later each time. */
static void
note_failure(Memory *memory)
{
	int			doublings = Min(memory->failures, MAX_FAILURES);

	memory->failures++;
	memory->retry_at = GetCurrentTimestamp() + (INT64CONST(1000000) << doublings);
}

/* Step: the asynchronous projections, and where they stand. */
static void
list_projections(Work *work)
{
	pgstat_report_activity(STATE_RUNNING, "list projections");
	if (!hold_extension())
	{
		work->round->gone = true;
		return;
	}
	(void) ie_registry_query("SELECT p.target::pg_catalog.oid, p.log::pg_catalog.oid,"
							 " s.position, s.error IS NOT NULL OR s.target IS NULL"
							 " FROM immutable.projections p LEFT JOIN immutable.projection_positions s"
							 " ON s.target::pg_catalog.oid OPERATOR(pg_catalog.=) p.target::pg_catalog.oid"
							 " WHERE p.mode OPERATOR(pg_catalog.=) 'async'"
							 " ORDER BY 2, 1",
							 0, NULL, NULL, NULL, receive_projections, work);
	work->round->nothing = work->nitems == 0;
}

/* Keep the extension from being dropped; answers whether it is there. */
static bool
hold_extension(void)
{
	Oid			extension = get_extension_oid(IE_EXTENSION, true);

	if (!OidIsValid(extension))
		return false;
	LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
	return get_extension_oid(IE_EXTENSION, true) == extension;
}

/* Take them. */
static void
receive_projections(void *state)
{
	Work	   *work = state;
	TupleDesc	columns = SPI_tuptable->tupdesc;
	bool		isnull;
	uint64		i;

	work->items = MemoryContextAlloc(work->context,
									 Max(SPI_processed, 1) * sizeof(Served));
	work->nitems = SPI_processed;
	for (i = 0; i < SPI_processed; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		Served	   *item = &work->items[i];

		item->target = DatumGetObjectId(SPI_getbinval(row, columns, 1, &isnull));
		item->log = DatumGetObjectId(SPI_getbinval(row, columns, 2, &isnull));
		item->position = DatumGetInt64(SPI_getbinval(row, columns, 3, &isnull));
		item->waits = DatumGetBool(SPI_getbinval(row, columns, 4, &isnull));
	}
}

/* Step: how far the current item's log is decided. */
static void
ask_log(Work *work)
{
	IeTarget	log;
	int64		last;

	report("look at", work->items[work->current].log);
	log = ie_open_whole_log(work->items[work->current].log, AccessShareLock);
	if (log.root->problem != NULL || !OidIsValid(log.root->sequence))
		work->safe = last = 0;	/* a dump is being restored, perhaps */
	else
	{
		last = ie_last_position(log.root->sequence);
		persist(work, &log);
	}
	if (work->safe < last)
		work->round->left = true;
	ie_close_log(&log);
}

/* Decide, and now and then record the position for standbys. */
static void
persist(Work *work, IeTarget *log)
{
	Oid			relid = RelationGetRelid(log->log);
	Memory	   *memory = memory_of(relid);
	TimestampTz now = GetCurrentTimestamp();

	if (now >= memory->persist_at)
		ie_lock_registry("safe_positions", RowExclusiveLock);
	work->safe = ie_decided_position(log->log, log->root->sequence);
	if (!XLogStandbyInfoActive() || work->safe <= memory->persisted ||
		ie_import_runs(log->root->sequence))
		return;
	if (now >= memory->persist_at)
	{
		ie_record_position(relid, work->safe);
		memory->persisted = work->safe;
		memory->persist_at = now + PERSIST_NAP;
	}
	else
		work->round->due = Min(work->round->due, memory->persist_at);
}

/* Step: one batch of the current item, once all of it has been restored. */
static void
refresh(Work *work)
{
	Oid			target = work->items[work->current].target;

	report("refresh", target);
	if (ie_is_read_model(target))
		work->handled = ie_refresh_batch(target, ie_batch_size);
}

/* Say what is done, in pg_stat_activity and in the log of errors. */
static void
report(const char *verb, Oid relid)
{
	char	   *schema = get_namespace_name(get_rel_namespace(relid));
	char	   *name = get_rel_name(relid);
	char	   *text = (schema == NULL || name == NULL)
		? psprintf("%s relation with OID %u", verb, relid)
		: psprintf("%s %s", verb, quote_qualified_identifier(schema, name));

	debug_query_string = text;
	pgstat_report_activity(STATE_RUNNING, text);
}
