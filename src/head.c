/*
 * head.c: the newest event of a stream, and the lock under which it is read.
 *
 * The head is read from the (stream, version) index with a dirty snapshot: it
 * shows events that other transactions have written and not yet committed.
 * Whoever finds such a head waits for its writer. So the lock on a stream is
 * needed only from reading the head to writing the next event; after that
 * the uncommitted event itself keeps others waiting, and a transaction holds
 * one such lock at a time however many streams it appends to.
 */
#include "immutable_events.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/sysattr.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "common/hashfn.h"
#include "compat.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/*
 * The fourth field of an advisory lock tag tells apart its users: PostgreSQL's
 * own functions use 1 and 2, so no pg_advisory_lock() can collide with ours.
 */
#define STREAM_LOCK		7

/* A look at the rows that an index leads to. */
typedef struct Probe
{
	SnapshotData dirty;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
} Probe;

static LOCKTAG stream_tag(const IeTarget *target, const text *stream);
static void stream_key(ScanKey key, const text *stream);
static IeHead find(const IeTarget *target, Oid index, ScanKey keys, int nkeys,
				   const text *stream, const pg_uuid_t *id);
static void begin_probe(Probe *probe, const IeTarget *target, Oid index,
						ScanKey keys, int nkeys);
static bool next_row(Probe *probe);
static void end_probe(Probe *probe);
static bool is_unseen(Relation rel, TupleTableSlot *slot);
static bool same_id(TupleTableSlot *slot, const pg_uuid_t *id);
static void read_event(IeHead *head, TupleTableSlot *slot, const text *stream);

/* Keep other appenders of the stream out, for the length of one call. */
void
ie_lock_stream(IeTarget *target, const text *stream)
{
	LOCKTAG		tag = stream_tag(target, stream);

	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	target->locked = true;
}

/* Let them in again, if they were kept out. */
void
ie_unlock_stream(IeTarget *target, const text *stream)
{
	LOCKTAG		tag;

	if (!target->locked)
		return;
	tag = stream_tag(target, stream);
	LockRelease(&tag, ExclusiveLock, false);
	target->locked = false;
}

/* The lock of a stream: its log, and a hash of its name. */
static LOCKTAG
stream_tag(const IeTarget *target, const text *stream)
{
	LOCKTAG		tag;
	uint32		hash = hash_bytes((const unsigned char *) VARDATA_ANY(stream),
								  VARSIZE_ANY_EXHDR(stream));

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, RelationGetRelid(target->log),
						 hash, STREAM_LOCK);
	return tag;
}

/* The newest event of a stream, committed or not. */
IeHead
ie_read_head(const IeTarget *target, const text *stream)
{
	ScanKeyData key;

	stream_key(&key, stream);
	return find(target, target->facts->version_index, &key, 1, stream, NULL);
}

/*
 * What of an event just written is not as it was to be: the name of a column,
 * "event" when it is not there, or NULL. Its content must be valid, too.
 */
const char *
ie_stored_difference(const IeTarget *target, const IeEvent *event)
{
	ScanKeyData keys[2];
	Probe		probe;
	const char *difference = "event";

	stream_key(&keys[0], event->stream);
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(event->version));
	begin_probe(&probe, target, target->facts->version_index, keys, 2);
	if (next_row(&probe))
	{
		IeEvent		row;

		ie_event_from_slot(probe.slot, &row);
		difference = ie_difference(event, &row);
		ie_check_event(&row);
	}
	end_probe(&probe);
	return difference;
}

/*
 * The event with a given id, committed or not. Without an index on ids the
 * stream itself is searched, from its head downward.
 */
IeHead
ie_find_id(const IeTarget *target, const text *stream, const pg_uuid_t *id)
{
	const IeLog *facts = target->facts;
	ScanKeyData keys[2];
	int			nkeys = 0;

	if (!OidIsValid(facts->id_index))
	{
		stream_key(&keys[0], stream);
		return find(target, facts->version_index, keys, 1, stream, id);
	}
	if (facts->id_by_stream)
		stream_key(&keys[nkeys++], stream);
	ScanKeyInit(&keys[nkeys], nkeys + 1, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(id));
	return find(target, facts->id_index, keys, nkeys + 1, stream, id);
}

/* A scan key: the first index column equals the stream. */
static void
stream_key(ScanKey key, const text *stream)
{
	ScanKeyEntryInitialize(key, 0, 1, BTEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXTEQ, PointerGetDatum(stream));
}

/* The last row that fits, and has the id if one is given. */
static IeHead
find(const IeTarget *target, Oid index, ScanKey keys, int nkeys,
	 const text *stream, const pg_uuid_t *id)
{
	IeHead		head = {0};
	Probe		probe;

	begin_probe(&probe, target, index, keys, nkeys);
	while (next_row(&probe))
	{
		CHECK_FOR_INTERRUPTS();
		if (id != NULL && !same_id(probe.slot, id))
			continue;
		read_event(&head, probe.slot, stream);
		head.writer = probe.dirty.xmin;
		head.unseen = !TransactionIdIsValid(head.writer) &&
			is_unseen(target->rel, probe.slot);
		break;
	}
	end_probe(&probe);
	return head;
}

/* Begin to read an index backward, with a dirty snapshot. */
static void
begin_probe(Probe *probe, const IeTarget *target, Oid index, ScanKey keys,
			int nkeys)
{
	InitDirtySnapshot(probe->dirty);
	probe->index = index_open(index, AccessShareLock);
	probe->slot = table_slot_create(target->rel, NULL);
	probe->scan = ie_index_beginscan(target->rel, probe->index, &probe->dirty,
									 nkeys);
	index_rescan(probe->scan, keys, nkeys, NULL, 0);
}

/* The next row, in the probe's slot; its writer in progress, in dirty.xmin. */
static bool
next_row(Probe *probe)
{
	return index_getnext_slot(probe->scan, BackwardScanDirection, probe->slot);
}

/* Close the index; its lock stays to the end of the transaction. */
static void
end_probe(Probe *probe)
{
	index_endscan(probe->scan);
	ExecDropSingleTupleTableSlot(probe->slot);
	index_close(probe->index, NoLock);
}

/*
 * Is this row hidden from a serializable transaction's snapshot, and written by
 * another? Then the transaction must not build on it.
 */
static bool
is_unseen(Relation rel, TupleTableSlot *slot)
{
	bool		isnull;
	Datum		writer;

	if (!IsolationIsSerializable() ||
		table_tuple_satisfies_snapshot(rel, slot, GetTransactionSnapshot()))
		return false;
	writer = slot_getsysattr(slot, MinTransactionIdAttributeNumber, &isnull);
	return !TransactionIdIsCurrentTransactionId(DatumGetTransactionId(writer));
}

/* Does the row carry this id? */
static bool
same_id(TupleTableSlot *slot, const pg_uuid_t *id)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, IE_ID, &isnull);

	return !isnull &&
		memcmp(DatumGetUUIDP(value)->data, id->data, UUID_LEN) == 0;
}

/* Take what append needs from the row. */
static void
read_event(IeHead *head, TupleTableSlot *slot, const text *stream)
{
	bool		isnull;
	text	   *found;

	head->position = DatumGetInt64(slot_getattr(slot, IE_POSITION, &isnull));
	head->recorded_at =
		DatumGetTimestampTz(slot_getattr(slot, IE_RECORDED_AT, &isnull));
	head->version = DatumGetInt64(slot_getattr(slot, IE_VERSION, &isnull));
	head->id = *DatumGetUUIDP(slot_getattr(slot, IE_ID, &isnull));
	found = DatumGetTextPP(slot_getattr(slot, IE_STREAM, &isnull));
	head->same_stream = ie_same_text(found, stream);
}
