/*
 * stream_lock.c: the lock under which the head of a stream is read.
 *
 * It is needed only from reading the head to writing the next event; after
 * that the uncommitted event itself keeps others waiting (head.c), and a
 * transaction holds one such lock at a time however many streams it appends
 * to. Two modes: who decides what to write keeps others out just as who
 * writes, but readers of the whole log need not wait for him.
 */
#include "append.h"

#include "common/hashfn.h"
#include "compat.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/rel.h"

/*
 * The fourth field of an advisory lock tag tells apart its users: PostgreSQL's
 * own functions use 1 and 2, so no pg_advisory_lock() can collide with ours.
 */
#define STREAM_LOCK		7

static LOCKTAG stream_tag(const IeTarget *target, const text *stream);

/*
 * Keep other appenders of the stream out, for the length of one call: with
 * IE_WRITING while writing, with IE_DECIDING before that. Who decides and then
 * writes goes from one to the other without waiting, for nobody holds either.
 */
void
ie_lock_stream(IeTarget *target, const text *stream, LOCKMODE lockmode)
{
	LOCKTAG		tag = stream_tag(target, stream);

	(void) LockAcquire(&tag, lockmode, false, false);
	ie_unlock_stream(target, stream);
	target->lockmode = lockmode;
}

/* Let them in again, if they were kept out. */
void
ie_unlock_stream(IeTarget *target, const text *stream)
{
	LOCKTAG		tag;

	if (target->lockmode == NoLock)
		return;
	tag = stream_tag(target, stream);
	LockRelease(&tag, target->lockmode, false);
	target->lockmode = NoLock;
}

/*
 * Is one of these transactions between drawing a position of the log and
 * writing its row? It holds the lock of a stream for writing meanwhile.
 */
bool
ie_is_writing(Oid log, const VirtualTransactionId *writers, int count)
{
	bool		found = false;
	int			partition;
	int			i;

	for (partition = 0; partition < NUM_LOCK_PARTITIONS && !found; partition++)
	{
		LWLock	   *lock = LockHashPartitionLockByIndex(partition);

		LWLockAcquire(lock, LW_SHARED);
		for (i = 0; i < count && !found; i++)
		{
			PGPROC	   *process = ie_process_of(writers[i]);

			found = process != NULL &&
				ie_process_holds(process, partition, log, STREAM_LOCK,
								 IE_WRITING);
		}
		LWLockRelease(lock);
	}
	return found;
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
