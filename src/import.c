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

#include "access/xact.h"
#include "compat.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"

/* What must be the same for a check, a lock and an audit row to serve again. */
typedef struct ImportKey
{
	LocalTransactionId transaction;
	SubTransactionId subtransaction;
	Oid			user;
	Oid			relid;
} ImportKey;

static struct
{
	ImportKey	key;
	Oid			sequence;
}			current;

static Datum column_value(TupleTableSlot *slot, Relation rel,
						  const char *name);
static void follow_position(Oid sequence, int64 position);

/* A statement that may import: owner only, alone, and on record. */
void
ie_import_begin(Relation rel)
{
	ImportKey	key = {MyProc->IE_LXID, GetCurrentSubTransactionId(),
	GetUserId(), RelationGetRelid(rel)};
	Oid			sequence;

	if (memcmp(&key, &current.key, sizeof(key)) == 0)
		return;
	ie_check_owner(rel);
	sequence = ie_position_sequence(ie_partition_root(rel));
	if (!OidIsValid(sequence))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot import into log \"%s\"",
						RelationGetRelationName(rel)),
				 errdetail("Its column position owns no sequence.")));
	LockRelationOid(sequence, ShareRowExclusiveLock);
	ie_record_change(rel, "import");
	current.sequence = sequence;
	current.key = key;
}

/* One imported row: as valid as an appended one. */
void
ie_import_row(Relation rel, TupleTableSlot *slot)
{
	IeEvent		event;

	ie_import_begin(rel);
	event.position = DatumGetInt64(column_value(slot, rel, "position"));
	event.version = DatumGetInt64(column_value(slot, rel, "version"));
	event.schema_version = DatumGetInt32(column_value(slot, rel,
													  "schema_version"));
	event.stream = DatumGetTextPP(column_value(slot, rel, "stream"));
	event.type = DatumGetTextPP(column_value(slot, rel, "type"));
	event.data = DatumGetJsonbP(column_value(slot, rel, "data"));
	event.metadata = DatumGetJsonbP(column_value(slot, rel, "metadata"));
	ie_check_event(&event);
	if (event.position < 1 || event.version < IE_FIRST_VERSION)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("position and version must be 1 or more")));
	follow_position(current.sequence, event.position);
}

/* A column of an imported row; NULL is refused as the table would. */
static Datum
column_value(TupleTableSlot *slot, Relation rel, const char *name)
{
	int			column = SPI_fnumber(RelationGetDescr(rel), name);
	bool		isnull;
	Datum		value = slot_getattr(slot, column, &isnull);

	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("%s must not be NULL", name),
				 errtablecol(rel, column)));
	return value;
}

/* Move the sequence up to an imported position; never back. */
static void
follow_position(Oid sequence, int64 position)
{
	LOCAL_FCINFO(call, 1);
	FmgrInfo	flinfo;
	Datum		last;

	fmgr_info(F_PG_SEQUENCE_LAST_VALUE, &flinfo);
	InitFunctionCallInfoData(*call, &flinfo, 1, InvalidOid, NULL, NULL);
	call->args[0].value = ObjectIdGetDatum(sequence);
	call->args[0].isnull = false;
	last = FunctionCallInvoke(call);
	if (call->isnull || DatumGetInt64(last) < position)
		DirectFunctionCall2(setval_oid, ObjectIdGetDatum(sequence),
							Int64GetDatum(position));
}
