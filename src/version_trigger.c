/*
 * version_trigger.c: the triggers of a versioned table.
 *
 * The row trigger writes what a change has made of a row. The events of one
 * row can come out of order: a trigger of the user's that fires for one row may
 * change another, whose own event is still waiting. So the change of a row that
 * this transaction has changed before first sees that what it found has been
 * recorded, and an event whose row has gone on since writes nothing.
 */
#include "version.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "compat.h"
#include "executor/executor.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"

/* One event, on its way into the version table. */
typedef struct Change
{
	IeVersionWriter *writer;
	IeVersionFacts *facts;
	Relation	versions;
	TupleTableSlot *old;		/* NULL for an INSERT */
	TupleTableSlot *new;		/* NULL for a DELETE */
	bool		differs;		/* new is known not to be as old */
	bool		has_gone_on;	/* new has been changed again */
	bool		may_lack;		/* old may not have been recorded */
} Change;

static void check_call(FunctionCallInfo fcinfo);
static Change open_change(FunctionCallInfo fcinfo);
static void close_change(Change *change);
static bool is_own(TupleTableSlot *slot);
static bool has_gone_on(TupleTableSlot *slot);
static void record_insert(Change *change);
static IeNewest see_old(Change *change);
static void record_delete(Change *change);
static void record_update(Change *change);
static bool same_key(const Change *change);

PG_FUNCTION_INFO_V1(ie_version);
PG_FUNCTION_INFO_V1(ie_version_truncate);

/* Write the version that a change of one row has made. */
Datum
ie_version(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	Change		change;
	bool		differs = false;

	check_call(fcinfo);
	/* most changes that change nothing are told without the version table */
	if (TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event) &&
		!is_own(trigdata->tg_trigslot))
	{
		differs = !ie_same_row(trigdata->tg_trigslot, trigdata->tg_newslot);
		if (!differs)
			return PointerGetDatum(NULL);
	}

	change = open_change(fcinfo);
	change.differs = differs;
	change.facts->uses++;
	if (change.old == NULL)
		record_insert(&change);
	else if (change.new == NULL)
		record_delete(&change);
	else
		record_update(&change);
	close_change(&change);
	return PointerGetDatum(NULL);
}

/* Refuse to be called otherwise than as the trigger of a versioned table. */
static void
check_call(FunctionCallInfo fcinfo)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by trigger manager",
						"immutable._version")));
	if (!TRIGGER_FIRED_AFTER(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) ||
		strcmp(trigdata->tg_trigger->tgname, IE_VERSION_TRIGGER) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be fired AFTER ROW by trigger \"%s\"",
						"immutable._version", IE_VERSION_TRIGGER)));
}

/* Open the version table, and see what the event is about. */
static Change
open_change(FunctionCallInfo fcinfo)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	Change		change = {0};

	change.versions = ie_open_versions(trigdata->tg_relation, &change.facts);
	change.writer = ie_version_writer(change.versions, change.facts);
	if (TRIGGER_FIRED_BY_INSERT(trigdata->tg_event))
		change.new = trigdata->tg_trigslot;
	else
		change.old = trigdata->tg_trigslot;
	if (TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event))
		change.new = trigdata->tg_newslot;
	change.has_gone_on = change.new != NULL && has_gone_on(change.new);
	change.may_lack = change.old != NULL &&
		(!change.facts->registered.complete || is_own(change.old));
	return change;
}

/* Close it; its lock stays to the end of the transaction. */
static void
close_change(Change *change)
{
	ie_version_writer_done(change->writer);
	if (change->facts->uses > 0)
		change->facts->uses--;
	table_close(change->versions, NoLock);
}

/* Has this transaction written the row? */
static bool
is_own(TupleTableSlot *slot)
{
	if (!TTS_IS_BUFFERTUPLE(slot))
		return true;			/* nobody knows */
	return TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(((HeapTupleTableSlot *) slot)->tuple->t_data));
}

/* Has this transaction changed or deleted the row since? */
static bool
has_gone_on(TupleTableSlot *slot)
{
	HeapTupleHeader row;
	Buffer		buffer;
	bool		gone_on;

	if (!TTS_IS_BUFFERTUPLE(slot))
		return false;
	row = ((HeapTupleTableSlot *) slot)->tuple->t_data;
	if ((row->t_infomask & HEAP_XMAX_INVALID) != 0)
		return false;
	/* others may be locking the row at this moment */
	buffer = ((BufferHeapTupleTableSlot *) slot)->buffer;
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	gone_on = (row->t_infomask & HEAP_XMAX_INVALID) == 0 &&
		!HEAP_XMAX_IS_LOCKED_ONLY(row->t_infomask) &&
		TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetUpdateXid(row));
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	return gone_on;
}

/* A new row: the first version of its key, or the one after a tombstone. */
static void
record_insert(Change *change)
{
	IeNewest	newest;

	if (change->has_gone_on)
		return;
	newest = ie_newest_version(change->writer, change->versions, change->new, NULL);
	ie_write_version(change->writer, change->versions, &newest, IE_INSERTED,
					 GetCurrentTransactionStartTimestamp(), change->new);
}

/*
 * The newest version, which has the row as the change has found it. If that
 * was not recorded, by a change whose event comes later or because the row was
 * there before versioning, it is recorded first.
 */
static IeNewest
see_old(Change *change)
{
	bool		own;
	IeNewest	newest;

	if (!change->may_lack)
	{
		newest = ie_newest_version(change->writer, change->versions, change->old, NULL);
		if (newest.version > 0 && !newest.deleted)
			return newest;
	}
	own = is_own(change->old);
	if (ie_write_baseline(change->writer, change->versions, &newest,
						  own ? GetCurrentTransactionStartTimestamp()
						  : change->facts->registered.began, change->old))
		newest.own = own;
	return newest;
}

/* A row that is gone: its last state, as a tombstone. */
static void
record_delete(Change *change)
{
	IeNewest	newest;

	newest = see_old(change);
	ie_write_version(change->writer, change->versions, &newest, IE_DELETED,
					 GetCurrentTransactionStartTimestamp(), change->old);
}

/* A changed row; one whose key has changed is another row. */
static void
record_update(Change *change)
{
	IeNewest	newest;

	if (!same_key(change))
	{
		record_delete(change);
		record_insert(change);
		return;
	}
	newest = see_old(change);
	if (change->has_gone_on ||
		(!change->differs && ie_same_row(change->old, change->new)))
		return;
	ie_write_version(change->writer, change->versions, &newest, IE_UPDATED,
					 GetCurrentTransactionStartTimestamp(), change->new);
}

/* Is the key, to the index that finds it, the same after the change? */
static bool
same_key(const Change *change)
{
	IeVersionFacts *facts = change->facts;
	int			i;

	for (i = 0; i < facts->nkeys; i++)
	{
		ScanKey		key = &facts->scan_keys[i];
		bool		isnull;

		if (!DatumGetBool(FunctionCall2Coll(&key->sk_func, key->sk_collation,
											slot_getattr(change->old, facts->key[i], &isnull),
											slot_getattr(change->new, facts->key[i], &isnull))))
			return false;
	}
	return true;
}

/* Refuse to truncate a versioned table: no row would leave a tombstone. */
Datum
ie_version_truncate(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BY_TRUNCATE(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be fired by TRUNCATE",
						"immutable._version_truncate")));
	ereport(ERROR,
			(errcode(ERRCODE_RESTRICT_VIOLATION),
			 errmsg("cannot truncate versioned table \"%s\"",
					RelationGetRelationName(trigdata->tg_relation)),
			 errdetail("TRUNCATE would leave no trace of its rows in their history."),
			 errhint("Use DELETE."),
			 errtable(trigdata->tg_relation)));
}
