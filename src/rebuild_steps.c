/*
 * rebuild_steps.c: what the transactions of a rebuild do.
 *
 * Each compiles the projection for itself, with its rows in the shadow, and
 * checks that it is what it was in the others. Memory of a step ends with it,
 * but for what is kept in the rebuild.
 */
#include "rebuild.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define BATCH		10000		/* events of a round */
#define LOCK_TIMEOUT	"100"	/* milliseconds others may queue behind us */
#define PAUSE		300			/* milliseconds between tries of an import */

static void open_projection(IeRebuild *rebuild);
static void check_shadow(const IeRebuild *rebuild);
static void check_identity(IeRebuild *rebuild);
static void receive_text(void *state);
static int64 decide(IeRebuild *rebuild, Snapshot *snapshot);
static void fold_round(IeRebuild *rebuild, int64 upto, Snapshot snapshot);
static void stop_projection(IeRebuild *rebuild);
static void fold_rest(IeRebuild *rebuild);
static void apply(IeRebuild *rebuild);
static void record(IeRebuild *rebuild);

/* Check what can be checked, and clear away what another rebuild has left. */
void
ie_rebuild_begin(IeRebuild *rebuild)
{
	open_projection(rebuild);
	if (rebuild->swap)
		ie_check_exchange(rebuild->target);
	ie_drop_shadows(rebuild->target);
}

/* Make the shadow, and fold into it all that is decided now. */
void
ie_rebuild_fold(IeRebuild *rebuild)
{
	MemoryContext caller;
	Snapshot	snapshot;
	IeFolding  *folding;
	Oid			shadow;

	open_projection(rebuild);
	rebuild->position = decide(rebuild, &snapshot);
	shadow = ie_create_shadow(rebuild->projection, rebuild->swap);
	ie_progress_phase(IE_REBUILD_FOLDING);
	ie_progress_total(rebuild->position);
	folding = ie_folding_begin(rebuild->projection, rebuild->reducer, snapshot,
							   rebuild->position);
	ie_fill_shadow(rebuild->projection, shadow, folding);
	ie_folding_end(folding);
	UnregisterSnapshot(snapshot);
	CommandCounterIncrement();
	caller = MemoryContextSwitchTo(rebuild->context);
	rebuild->indexes = ie_index_shadow(rebuild->target, shadow, rebuild->swap);
	MemoryContextSwitchTo(caller);
	rebuild->shadow = shadow;
}

/* Fold some of what was appended meanwhile into the shadow. */
void
ie_rebuild_catch_up(IeRebuild *rebuild)
{
	Snapshot	snapshot;
	int64		upto;

	open_projection(rebuild);
	upto = decide(rebuild, &snapshot);
	fold_round(rebuild, upto, snapshot);
	UnregisterSnapshot(snapshot);
}

/* Keep the projection where it is, fold the rest, and change the read model. */
void
ie_rebuild_finish(IeRebuild *rebuild)
{
	stop_projection(rebuild);
	open_projection(rebuild);
	fold_rest(rebuild);
	CommandCounterIncrement();
	apply(rebuild);
	record(rebuild);
}

/* The projection for this transaction, with its rows in the shadow. */
static void
open_projection(IeRebuild *rebuild)
{
	if (OidIsValid(rebuild->function))
		check_identity(rebuild);
	check_shadow(rebuild);
	rebuild->projection =
		ie_projection_onto(rebuild->target,
						   OidIsValid(rebuild->shadow) ? rebuild->shadow : rebuild->target,
						   rebuild->reducer);
	if (OidIsValid(rebuild->function))
		return;
	rebuild->function = rebuild->projection->function;
	check_identity(rebuild);
}

/* Give the projection back. */
void
ie_rebuild_close(IeRebuild *rebuild)
{
	if (rebuild->projection != NULL)
		ie_projection_free(rebuild->projection);
	rebuild->projection = NULL;
}

/* Somebody may have dropped the shadow. */
static void
check_shadow(const IeRebuild *rebuild)
{
	if (OidIsValid(rebuild->shadow) && get_rel_name(rebuild->shadow) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the table that read model \"%s\" was being rebuilt in is gone",
						rebuild->name),
				 errhint("Rebuild it again.")));
}

/*
 * All transactions must fold the same: nobody may have changed the projection
 * (but for its mode), its reducer, or the columns of the read model.
 */
static void
check_identity(IeRebuild *rebuild)
{
	Oid			types[] = {REGCLASSOID, OIDOID};
	Datum		values[] = {ObjectIdGetDatum(rebuild->target),
	ObjectIdGetDatum(rebuild->function)};
	char	   *identity = NULL;

	ie_registry_query("SELECT pg_catalog.concat_ws(' ', p.created_at, p.reducer, f.oid, f.xmin, f.cmin,"
					  " (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.attname, a.atttypid,"
					  " a.atttypmod, a.attisdropped, a.attnotnull, a.attgenerated), ',' ORDER BY a.attnum)"
					  " FROM pg_catalog.pg_attribute a"
					  " WHERE a.attrelid OPERATOR(pg_catalog.=) $1::pg_catalog.oid"
					  " AND a.attnum OPERATOR(pg_catalog.>) 0))"
					  " FROM immutable.projections p"
					  " JOIN pg_catalog.pg_proc f ON f.oid OPERATOR(pg_catalog.=) $2"
					  " WHERE p.target OPERATOR(pg_catalog.=) $1::pg_catalog.oid",
					  2, types, values, NULL, receive_text, &identity);
	if (identity != NULL && rebuild->identity == NULL)
		rebuild->identity = MemoryContextStrdup(rebuild->context, identity);
	if (identity == NULL || strcmp(identity, rebuild->identity) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("projection \"%s\" has changed while it was being rebuilt",
						rebuild->name),
				 errdetail("The projection, its reducer or its columns are not what they were at the beginning."),
				 errhint("Rebuild it again.")));
}

/* Take a text. */
static void
receive_text(void *state)
{
	if (SPI_processed > 0)
	{
		char	   *text = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);

		*(char **) state = SPI_palloc(strlen(text) + 1);
		strcpy(*(char **) state, text);
	}
}

/*
 * Up to where the log may be folded, and with which snapshot. It is recorded:
 * from then on no import may bring events in below.
 */
static int64
decide(IeRebuild *rebuild, Snapshot *snapshot)
{
	IeTarget	log = ie_open_whole_log(rebuild->projection->log, AccessShareLock);
	int64		upto;

	ie_lock_registry("safe_positions", RowExclusiveLock);
	while (ie_import_runs(log.root->sequence))
		ie_nap(PAUSE);
	upto = ie_readable_position(&log, snapshot);
	ie_record_position(rebuild->projection->log, upto);
	ie_close_log(&log);
	return upto;
}

/* Fold events after the shadow's position into it, as many as a round has. */
static void
fold_round(IeRebuild *rebuild, int64 upto, Snapshot snapshot)
{
	IeProjection *projection = rebuild->projection;
	IeTarget	log = ie_open_whole_log(projection->log, AccessShareLock);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "immutable_events round",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	IeSelection selection = {.after = rebuild->position,
	.upto = Max(upto, rebuild->position), .max_events = BATCH};
	IeEvents	events;
	IeCaller	caller;
	bool		more;

	CHECK_FOR_INTERRUPTS();
	more = ie_next_events(projection, &log, &selection, snapshot, &events);
	ie_projection_enter(projection, &caller);
	ie_project(projection, &events, false);
	ie_projection_leave(&caller);
	ie_progress_add(events.count);
	rebuild->left = more ? BATCH : events.count;
	rebuild->position = selection.after;
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
	ie_close_log(&log);
}

/*
 * From here on nothing moves: no batch of an asynchronous projection, no append
 * to the log of an inline one. Whoever is in the way of a lock is given a
 * moment, so that nobody queues behind us for longer than that.
 */
static void
stop_projection(IeRebuild *rebuild)
{
	IeProjection *projection;

	rebuild->locking = true;
	(void) set_config_option("lock_timeout", LOCK_TIMEOUT, PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	ie_hold_projection(rebuild->target, true);
	projection = ie_known_projection(rebuild->target);
	if (projection->is_inline)
		LockRelationOid(projection->log, ShareRowExclusiveLock);
}

/*
 * Fold all that there is. What an asynchronous projection has shown already it
 * goes on to show, though this backend may know less to be decided.
 */
static void
fold_rest(IeRebuild *rebuild)
{
	Snapshot	snapshot;
	int64		upto = PG_INT64_MAX;

	if (rebuild->projection->is_inline)
		snapshot = RegisterSnapshot(GetLatestSnapshot());
	else
	{
		int64		shown = ie_projection_position(rebuild->target);

		upto = decide(rebuild, &snapshot);
		upto = Max(upto, shown);
	}
	do
		fold_round(rebuild, upto, snapshot);
	while (rebuild->left == BATCH);
	UnregisterSnapshot(snapshot);
	if (rebuild->projection->is_inline)
		rebuild->position = ie_last_position(ie_position_sequence(rebuild->projection->log));
}

/* Make the read model what the shadow is. */
static void
apply(IeRebuild *rebuild)
{
	IeCaller	caller;

	if (rebuild->swap)
	{
		/* the one that others wait for comes last */
		LockRelationOid(rebuild->shadow, AccessExclusiveLock);
		LockRelationOid(rebuild->target, AccessExclusiveLock);
		ie_progress_phase(IE_REBUILD_EXCHANGING);
		ie_exchange_storage(rebuild->target, rebuild->shadow, rebuild->indexes);
		return;
	}
	ie_progress_phase(IE_REBUILD_APPLYING);
	PushActiveSnapshot(GetLatestSnapshot());
	ie_projection_enter(rebuild->projection, &caller);
	ie_apply_difference(rebuild->projection, rebuild->shadow);
	ie_projection_leave(&caller);
	PopActiveSnapshot();
	ie_drop_shadow(rebuild->shadow);
}

/* Record where the projection stands, and by which reducer. */
static void
record(IeRebuild *rebuild)
{
	Oid			types[] = {REGCLASSOID, INT8OID, TEXTOID};
	Datum		values[] = {ObjectIdGetDatum(rebuild->target),
		Int64GetDatum(rebuild->position),
	CStringGetTextDatum(rebuild->projection->reducer_name)};

	ie_registry_query("UPDATE immutable.projection_positions"
					  " SET position = $2, refreshed_at = pg_catalog.clock_timestamp(),"
					  " error = NULL, error_sqlstate = NULL, error_position = NULL,"
					  " error_event = NULL, failed_at = NULL"
					  " WHERE target OPERATOR(pg_catalog.=) $1::pg_catalog.oid",
					  3, types, values, NULL, NULL, NULL);
	ie_registry_query("UPDATE immutable.projections SET reducer = $3"
					  " WHERE target OPERATOR(pg_catalog.=) $1::pg_catalog.oid",
					  3, types, values, NULL, NULL, NULL);
	ie_record_fingerprint(rebuild->projection);
}
