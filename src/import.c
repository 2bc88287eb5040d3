/*
 * import.c: rows that the owner brings into a log by INSERT or COPY.
 *
 * Under SET LOCAL immutable.import = on the owner may write positions,
 * versions and times as they were. The lock on the sequence keeps appends
 * out until the import has committed, every row meets the rules that append
 * keeps, the sequence follows the highest position, and the import leaves a
 * row in immutable.guard_changes.
 */
#include "append.h"
#include "compat.h"
#include "guard.h"
#include "projected.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/inval.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* What must be the same for a check, a lock and an audit row to serve again. */
typedef struct ImportKey
{
	LocalTransactionId transaction;
	SubTransactionId subtransaction;
	Oid			user;
	Oid			log;
} ImportKey;

static struct
{
	ImportKey	key;
	Oid			leaf;			/* or the log itself */
	Oid			sequence;
	int64		shown;			/* consumers have been shown all up to this */
	uint64		queries;		/* on the registries, when that was found out */
}			current;

static void begin(Relation log, ImportKey key);
static int64 shown_position(Oid log, Oid sequence);
static void follow_position(int64 position);

PG_FUNCTION_INFO_V1(ie_sync_position);

/* A statement that may import: owner only, alone, and on record. */
void
ie_import_begin(Relation rel)
{
	ImportKey	key = {MyProc->IE_LXID, GetCurrentSubTransactionId(),
	GetUserId(), current.key.log};

	if (RelationGetRelid(rel) != current.leaf)
		key.log = ie_partition_root(rel);
	if (memcmp(&key, &current.key, sizeof(key)) != 0)
	{
		Relation	log;

		key.log = ie_partition_root(rel);
		log = relation_open(key.log, AccessShareLock);
		begin(log, key);
		relation_close(log, NoLock);
	}
	current.leaf = RelationGetRelid(rel);
}

/* Check the right, keep appends out until the end, leave an audit row. */
static void
begin(Relation log, ImportKey key)
{
	Oid			sequence = ie_position_sequence(key.log);

	ie_check_owner(log);
	if (!OidIsValid(sequence) || !ie_has_event_columns(log))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot import into log \"%s\"",
						RelationGetRelationName(log)),
				 errdetail("Its columns are not as create_log made them."),
				 errhint("Import into a log that immutable.create_log made."),
				 errtable(log)));
	if (ie_projector_problem(log) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot import into log \"%s\"",
						RelationGetRelationName(log)),
				 errdetail("%s.", ie_projector_problem(log)),
				 errhint("Call immutable.set_projection_mode(..., 'inline') for its read models to put it back, and compare them with the log."),
				 errtable(log)));
	LockRelationOid(sequence, ShareRowExclusiveLock);
	current.shown = shown_position(key.log, sequence);
	/* what others remember of the log's horizon ends with the import */
	CacheInvalidateRelcacheByRelid(sequence);
	ie_record_change(log, "import");
	current.queries = ie_registry_queries();
	current.sequence = sequence;
	current.key = key;
}

/*
 * How far consumers and projections have been shown the log. Those who show it at this moment
 * are waited for, those who come later see that the sequence is locked.
 */
static int64
shown_position(Oid log, Oid sequence)
{
	Oid			schema = get_namespace_oid(IE_SCHEMA, false);
	Oid			safe = get_relname_relid("safe_positions", schema);
	Oid			shards = get_relname_relid("consumer_shards", schema);
	Oid			projections = get_relname_relid("projection_positions", schema);
	Snapshot	latest;
	int64		shown;

	LockRelationOid(safe, ExclusiveLock);
	LockRelationOid(shards, ExclusiveLock);
	LockRelationOid(projections, ExclusiveLock);
	latest = RegisterSnapshot(GetLatestSnapshot());
	shown = ie_recorded_position(log, latest);
	UnregisterSnapshot(latest);
	/* what this transaction has polled and not acknowledged is not recorded */
	if (ie_holds_relation(shards, RowExclusiveLock))
		shown = Max(shown, ie_remembered_position(sequence));
	UnlockRelationOid(projections, ExclusiveLock);
	UnlockRelationOid(shards, ExclusiveLock);
	UnlockRelationOid(safe, ExclusiveLock);
	return shown;
}

/* One imported row: as valid as an appended one. */
void
ie_import_row(Relation rel, TupleTableSlot *slot)
{
	IeEvent		event;

	ie_import_begin(rel);
	if (!ie_has_event_columns(rel))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot import into \"%s\"",
						RelationGetRelationName(rel)),
				 errdetail("Its columns are not those of its log."),
				 errhint("Import into the log itself."),
				 errtable(rel)));
	ie_event_from_slot(slot, &event);
	ie_check_event(&event);
	if (event.position < 1 || event.position > IE_MAX_POSITION ||
		event.version < IE_FIRST_VERSION)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("position and version must be 1 or more, position at most " INT64_FORMAT,
						IE_MAX_POSITION)));
	if (current.queries != ie_registry_queries())
	{
		/* this transaction has polled or persisted since */
		CommandCounterIncrement();
		current.shown = shown_position(current.key.log, current.sequence);
		current.queries = ie_registry_queries();
	}
	if (event.position <= current.shown)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cannot import position " INT64_FORMAT, event.position),
				 errdetail("Consumers have been shown the log up to position " INT64_FORMAT " and would never see it.",
						   current.shown),
				 errhint("Import before anybody reads, or at higher positions."),
				 errtable(rel)));
	ie_note_own_position(current.sequence, event.position);
	follow_position(event.position);
}

/* Move the sequence up to an imported position; never back. */
static void
follow_position(int64 position)
{
	if (ie_last_position(current.sequence) < position)
		DirectFunctionCall2(setval_oid, ObjectIdGetDatum(current.sequence),
							Int64GetDatum(position));
}

/* Move a log's sequence up to its highest position; answers the last one. */
Datum
ie_sync_position(PG_FUNCTION_ARGS)
{
	IeTarget	target;
	Oid			sequence;
	int64		highest;

	ie_require_arg(fcinfo, 0, "log");
	PreventCommandDuringRecovery("immutable.sync_position()");
	PreventCommandIfReadOnly("immutable.sync_position()");
	target = ie_open_whole_log(PG_GETARG_OID(0), AccessShareLock);
	ie_check_owner(target.log);
	sequence = target.root->sequence;
	if (!OidIsValid(sequence))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("log \"%s\" has no sequence",
						RelationGetRelationName(target.log)),
				 errhint("ALTER SEQUENCE ... OWNED BY the column position, and let its default be nextval of it."),
				 errtable(target.log)));
	LockRelationOid(sequence, ShareRowExclusiveLock);
	highest = ie_highest_position(target.log);
	if (ie_last_position(sequence) < highest)
		DirectFunctionCall2(setval_oid, ObjectIdGetDatum(sequence),
							Int64GetDatum(highest));
	ie_close_log(&target);
	PG_RETURN_INT64(ie_last_position(sequence));
}
