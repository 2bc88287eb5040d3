/*
 * import.c: rows that the owner brings into a log by INSERT or COPY.
 *
 * Under SET LOCAL immutable.import = on the owner may write positions,
 * versions and times as they were. The lock on the sequence keeps appends
 * out until the import has committed, every row meets the rules that append
 * keeps, the sequence follows the highest position, and the import leaves a
 * row in immutable.guard_changes.
 */
#include "immutable_events.h"

#include "access/relation.h"
#include "access/xact.h"
#include "compat.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"

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
}			current;

static void begin(Relation log, ImportKey key);
static void follow_position(int64 position);

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
				 errtable(log)));
	LockRelationOid(sequence, ShareRowExclusiveLock);
	ie_record_change(log, "import");
	current.sequence = sequence;
	current.key = key;
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
				 errtable(rel)));
	ie_event_from_slot(slot, &event);
	ie_check_event(&event);
	if (event.position < 1 || event.position > IE_MAX_POSITION ||
		event.version < IE_FIRST_VERSION)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("position and version must be 1 or more, position at most " INT64_FORMAT,
						IE_MAX_POSITION)));
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
