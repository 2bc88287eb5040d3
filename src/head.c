/*
 * head.c: the newest event of a stream.
 *
 * The head is read from the (stream, version) index with a dirty snapshot: it
 * shows events that other transactions have written and not yet committed.
 * Whoever finds such a head waits for its writer.
 */
#include "append.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_inherits.h"
#include "compat.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* A look at the rows that an index leads to. */
typedef struct Probe
{
	SnapshotData dirty;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
} Probe;

/* The events whose ids are looked for, in order of id, and the one found. */
typedef struct IdSearch
{
	const IeEvent **events;
	int			count;
	const IeEvent *found;
} IdSearch;

static void stream_key(ScanKey key, const text *stream);
static IdSearch collect_ids(const IeNewEvents *batch);
static int	compare_ids(const void *a, const void *b);
static IeHead find(const IeTarget *target, Oid index, ScanKey keys, int nkeys,
				   const text *stream, IdSearch *search);
static void begin_probe(Probe *probe, const IeTarget *target, Oid index,
						ScanKey keys, int nkeys);
static bool next_row(Probe *probe);
static void end_probe(Probe *probe);
static bool is_own(TupleTableSlot *slot);
static bool has_some_id(TupleTableSlot *slot, IdSearch *search);
static bool has_id(TupleTableSlot *slot, const pg_uuid_t *id);
static void read_event(IeHead *head, const Probe *probe, const IeTarget *target,
					   const text *stream);

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
 * An event that has one of the given ids, committed or not, and which one it
 * is. An index on ids makes the first given id speak for all: the others stand
 * behind it, or the index refuses them. Without one the stream is searched
 * from its head downward, for each of them.
 */
IeHead
ie_find_ids(const IeTarget *target, const IeNewEvents *batch, int *which)
{
	const IeLog *facts = target->facts;
	IdSearch	search = collect_ids(batch);
	ScanKeyData keys[2];
	int			nkeys = 0;
	IeHead		head;

	if (search.count == 0)
		return (IeHead) {0};
	if (!OidIsValid(facts->id_index))
	{
		stream_key(&keys[0], batch->stream);
		qsort(search.events, search.count, sizeof(*search.events), compare_ids);
		head = find(target, facts->version_index, keys, 1, batch->stream, &search);
	}
	else
	{
		if (facts->id_by_stream)
			stream_key(&keys[nkeys++], batch->stream);
		ScanKeyInit(&keys[nkeys], nkeys + 1, BTEqualStrategyNumber, F_UUID_EQ,
					UUIDPGetDatum(search.events[0]->id));
		search.found = search.events[0];
		head = find(target, facts->id_index, keys, nkeys + 1, batch->stream, NULL);
	}
	if (head.version > 0)
		*which = search.found - batch->events;
	return head;
}

/* The events of a batch that have an id. */
static IdSearch
collect_ids(const IeNewEvents *batch)
{
	IdSearch	search = {palloc(sizeof(IeEvent *) * Max(batch->count, 1)), 0, NULL};
	int			i;

	for (i = 0; i < batch->count; i++)
		if (batch->events[i].id != NULL)
			search.events[search.count++] = &batch->events[i];
	return search;
}

/* Order events by id, for qsort and bsearch. */
static int
compare_ids(const void *a, const void *b)
{
	return memcmp((*(const IeEvent *const *) a)->id->data,
				  (*(const IeEvent *const *) b)->id->data, UUID_LEN);
}

/*
 * The last of as many events as there are in the batch, if they stand in the
 * stream from a version on and have the ids that the batch gives.
 */
IeHead
ie_stored_run(const IeTarget *target, const IeNewEvents *batch,
			  int64 from_version)
{
	IeHead		last = {0};
	ScanKeyData keys[3];
	Probe		probe;
	int			left = batch->count;

	stream_key(&keys[0], batch->stream);
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_INT8GE,
				Int64GetDatum(from_version));
	ScanKeyInit(&keys[2], 2, BTLessStrategyNumber, F_INT8LT,
				Int64GetDatum(from_version + batch->count));
	begin_probe(&probe, target, target->facts->version_index, keys, 3);
	while (left > 0 && next_row(&probe))
	{
		const pg_uuid_t *id = batch->events[--left].id;

		if (id != NULL && !has_id(probe.slot, id))
			break;
		if (left == batch->count - 1)
			read_event(&last, &probe, target, batch->stream);
		if (left == 0)
		{
			end_probe(&probe);
			return last;
		}
	}
	end_probe(&probe);
	return (IeHead) {0};
}

/* The highest position of a log, committed or not; 0 when it is empty. */
int64
ie_highest_position(Relation log)
{
	int64		highest = 0;
	ListCell   *cell;

	foreach(cell, find_all_inheritors(RelationGetRelid(log), AccessShareLock, NULL))
	{
		Relation	rel = table_open(lfirst_oid(cell), NoLock);
		IeTarget	target = {.log = log, .rel = rel};
		Probe		probe;
		bool		isnull;

		if (rel->rd_rel->relkind == RELKIND_RELATION)
		{
			begin_probe(&probe, &target, ie_position_index(rel, false), NULL, 0);
			if (next_row(&probe))
				highest = Max(highest, DatumGetInt64(slot_getattr(probe.slot, IE_POSITION, &isnull)));
			end_probe(&probe);
		}
		table_close(rel, NoLock);
	}
	return highest;
}

/*
 * Does a stream have an event, not our own, that this transaction's snapshot
 * does not show? Only the newest that is not our own can be the first such.
 */
bool
ie_has_unseen(const IeTarget *target, const text *stream)
{
	ScanKeyData key;
	Probe		probe;
	bool		unseen = false;
	bool		own = true;

	stream_key(&key, stream);
	begin_probe(&probe, target, target->facts->version_index, &key, 1);
	while (own && next_row(&probe))
	{
		CHECK_FOR_INTERRUPTS();
		own = is_own(probe.slot);
		unseen = !own &&
			!table_tuple_satisfies_snapshot(target->rel, probe.slot,
											GetTransactionSnapshot());
	}
	end_probe(&probe);
	return unseen;
}

/* Raise the error for a log that has gone on since the snapshot was taken. */
void
ie_refuse_unseen(Relation log)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access due to concurrent update"),
			 errdetail("Log \"%s\" has a newer event than this transaction sees.",
					   RelationGetRelationName(log)),
			 errhint("The transaction might succeed if retried."),
			 errtable(log)));
}

/* A scan key: the first index column equals the stream. */
static void
stream_key(ScanKey key, const text *stream)
{
	ScanKeyEntryInitialize(key, 0, 1, BTEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXTEQ, PointerGetDatum(stream));
}

/* The last row that fits, and has one of the ids if some are given. */
static IeHead
find(const IeTarget *target, Oid index, ScanKey keys, int nkeys,
	 const text *stream, IdSearch *search)
{
	IeHead		head = {0};
	Probe		probe;

	begin_probe(&probe, target, index, keys, nkeys);
	while (next_row(&probe))
	{
		CHECK_FOR_INTERRUPTS();
		if (search != NULL && !has_some_id(probe.slot, search))
			continue;
		read_event(&head, &probe, target, stream);
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
bool
ie_is_unseen(Relation rel, TupleTableSlot *slot)
{
	return IsolationIsSerializable() &&
		!table_tuple_satisfies_snapshot(rel, slot, GetTransactionSnapshot()) &&
		!is_own(slot);
}

/* Has this transaction written the row? */
static bool
is_own(TupleTableSlot *slot)
{
	bool		isnull;
	Datum		writer = slot_getsysattr(slot, MinTransactionIdAttributeNumber,
										 &isnull);

	return TransactionIdIsCurrentTransactionId(DatumGetTransactionId(writer));
}

/* Has the row one of the ids that are looked for? */
static bool
has_some_id(TupleTableSlot *slot, IdSearch *search)
{
	bool		isnull;
	IeEvent		row = {.id = DatumGetUUIDP(slot_getattr(slot, IE_ID, &isnull))};
	const IeEvent *key = &row;
	const IeEvent **found = bsearch(&key, search->events, search->count,
									sizeof(*search->events), compare_ids);

	if (found == NULL)
		return false;
	search->found = *found;
	return true;
}

/* Does the row carry this id? */
static bool
has_id(TupleTableSlot *slot, const pg_uuid_t *id)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, IE_ID, &isnull);

	return !isnull &&
		memcmp(DatumGetUUIDP(value)->data, id->data, UUID_LEN) == 0;
}

/* Take what append needs from the row that a probe stands on. */
static void
read_event(IeHead *head, const Probe *probe, const IeTarget *target,
		   const text *stream)
{
	TupleTableSlot *slot = probe->slot;
	bool		isnull;
	text	   *found;

	head->position = DatumGetInt64(slot_getattr(slot, IE_POSITION, &isnull));
	head->recorded_at =
		DatumGetTimestampTz(slot_getattr(slot, IE_RECORDED_AT, &isnull));
	head->version = DatumGetInt64(slot_getattr(slot, IE_VERSION, &isnull));
	head->id = *DatumGetUUIDP(slot_getattr(slot, IE_ID, &isnull));
	found = DatumGetTextPP(slot_getattr(slot, IE_STREAM, &isnull));
	head->same_stream = ie_same_text(found, stream);
	head->writer = probe->dirty.xmin;
	head->unseen = !TransactionIdIsValid(head->writer) &&
		ie_is_unseen(target->rel, slot);
}
