/*
 * lease.c: who holds a shard of a consumer.
 *
 * Within a transaction an advisory lock holds it, to the end of the
 * transaction. Beyond it a lease does: a token in the registry that only its
 * holder knows, good until it expires. This backend keeps the last batch it
 * was handed of each consumer; another connection of the same worker, behind a
 * pooler, says which lease it means by setting immutable.lease.
 */
#include "consumer.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "compat.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

/* Beside STREAM_LOCK of stream_lock.c: the fourth field tells users apart. */
#define SHARD_LOCK		8

/*
 * What a poll has handed out, newest first. A poll that is rolled back takes
 * its batch with it, and the one before counts again.
 */
typedef struct Kept
{
	char	   *consumer;
	bool		fresh;			/* from the transaction that runs */
	SubTransactionId subtransaction;
	IeBatch		batch;
} Kept;

static List *kept = NIL;		/* in its own context */
static MemoryContext context = NULL;

static LOCKTAG shard_tag(const IeConsumer *consumer, int32 shard);
static Kept *find(text *name);
static void remove_kept(Kept *entry);
static void subtransaction_event(SubXactEvent event, SubTransactionId mine,
								 SubTransactionId parent, void *arg);
static void transaction_event(XactEvent event, void *arg);

/* Hold a shard to the end of the transaction; false when another does. */
bool
ie_hold_shard(const IeConsumer *consumer, int32 shard, bool wait)
{
	LOCKTAG		tag = shard_tag(consumer, shard);

	return LockAcquire(&tag, ExclusiveLock, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

/* Let go of a shard that has no work. */
void
ie_let_go_shard(const IeConsumer *consumer, int32 shard)
{
	LOCKTAG		tag = shard_tag(consumer, shard);

	(void) LockRelease(&tag, ExclusiveLock, false);
}

/* The lock of a shard: its log, and a hash of the consumer's name and shard. */
static LOCKTAG
shard_tag(const IeConsumer *consumer, int32 shard)
{
	LOCKTAG		tag;
	uint32		hash = hash_bytes((const unsigned char *) VARDATA_ANY(consumer->name),
								  VARSIZE_ANY_EXHDR(consumer->name));

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, consumer->log,
						 hash_combine(hash, (uint32) shard), SHARD_LOCK);
	return tag;
}

/* A token that nobody can guess. */
char *
ie_new_token(void)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out,
											   DirectFunctionCall1(gen_random_uuid, 0)));
}

/* Keep the batch that was handed out last. */
void
ie_keep_batch(text *name, const IeBatch *batch)
{
	Kept	   *entry;
	MemoryContext caller;

	if (context == NULL)
	{
		context = AllocSetContextCreate(TopMemoryContext, "immutable_events leases",
										ALLOCSET_SMALL_SIZES);
		RegisterSubXactCallback(subtransaction_event, NULL);
		RegisterXactCallback(transaction_event, NULL);
	}
	caller = MemoryContextSwitchTo(context);
	entry = palloc(sizeof(*entry));
	entry->consumer = text_to_cstring(name);
	entry->fresh = true;
	entry->subtransaction = GetCurrentSubTransactionId();
	entry->batch = *batch;
	if (batch->backlog != NULL)
		entry->batch.backlog = pstrdup(batch->backlog);
	if (batch->token != NULL)
		entry->batch.token = pstrdup(batch->token);
	kept = lcons(entry, kept);
	MemoryContextSwitchTo(caller);
}

/* The batch that this transaction was handed without a lease, or NULL. */
const IeBatch *
ie_kept_batch(text *name)
{
	Kept	   *entry = find(name);

	if (entry == NULL || entry->batch.leased || !entry->fresh)
		return NULL;
	return &entry->batch;
}

/* The token of a lease, from this backend's last poll or from the setting. */
const char *
ie_kept_token(text *name)
{
	Kept	   *entry = find(name);

	if (ie_lease != NULL && *ie_lease != '\0')
		return ie_lease;
	return entry == NULL ? NULL : entry->batch.token;
}

/* Whatever was handed out of a consumer counts no more. */
void
ie_drop_batch(text *name)
{
	Kept	   *entry;

	while ((entry = find(name)) != NULL)
		remove_kept(entry);
}

/* What is kept for a consumer, or NULL. */
static Kept *
find(text *name)
{
	char	   *consumer = text_to_cstring(name);
	ListCell   *cell;

	foreach(cell, kept)
		if (strcmp(((Kept *) lfirst(cell))->consumer, consumer) == 0)
			return lfirst(cell);
	return NULL;
}

/* Keep it no longer. */
static void
remove_kept(Kept *entry)
{
	kept = list_delete_ptr(kept, entry);
	pfree(entry->consumer);
	if (entry->batch.backlog != NULL)
		pfree(entry->batch.backlog);
	if (entry->batch.token != NULL)
		pfree(entry->batch.token);
	pfree(entry);
}

/* A rolled back subtransaction gives up what it was handed. */
static void
subtransaction_event(SubXactEvent event, SubTransactionId mine,
					 SubTransactionId parent, void *arg pg_attribute_unused())
{
	List	   *entries;
	ListCell   *cell;

	if (kept == NIL ||
		(event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB))
		return;
	entries = list_copy(kept);
	foreach(cell, entries)
	{
		Kept	   *entry = lfirst(cell);

		if (!entry->fresh || entry->subtransaction != mine)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			entry->subtransaction = parent;
		else
			remove_kept(entry);
	}
}

/* At its end a transaction keeps the last lease it was given, if it commits. */
static void
transaction_event(XactEvent event, void *arg pg_attribute_unused())
{
	List	   *entries;
	ListCell   *cell;

	if (kept == NIL || (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
						event != XACT_EVENT_PREPARE))
		return;
	entries = list_copy(kept);
	foreach(cell, entries)
	{
		Kept	   *entry = lfirst(cell);
		bool		newest = find(cstring_to_text(entry->consumer)) == entry;

		if (entry->fresh
			? (event != XACT_EVENT_COMMIT || !entry->batch.leased || !newest)
			: !newest)
			remove_kept(entry);
		else
			entry->fresh = false;
	}
}
