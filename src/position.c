/*
 * position.c: positions, drawn from a log's sequence.
 *
 * The first position that this transaction has drawn from a log is kept until
 * the transaction ends: what it tells others of how far they may read stays
 * below that, because nobody else sees its events yet.
 */
#include "log.h"

#include "access/xact.h"
#include "commands/sequence.h"
#include "utils/memutils.h"
#include "utils/rel.h"

typedef struct OwnPosition
{
	Oid			sequence;
	int64		first;
} OwnPosition;

static List *own = NIL;			/* in TopTransactionContext */
static OwnPosition *latest = NULL;	/* one of them */

static OwnPosition *find(Oid sequence);
static OwnPosition *add(Oid sequence);
static void transaction_event(XactEvent event, void *arg);

/* Draw the next position of a log. */
int64
ie_next_position(Oid sequence)
{
	int64		position = nextval_internal(sequence, false);

	ie_note_own_position(sequence, position);
	return position;
}

/* Remember that this transaction writes at a position, drawn or imported. */
void
ie_note_own_position(Oid sequence, int64 position)
{
	if (latest == NULL || latest->sequence != sequence)
		latest = find(sequence);
	if (latest == NULL)
		latest = add(sequence);
	latest->first = Min(latest->first, position);
}

/* The first position that this transaction writes at, or PG_INT64_MAX. */
int64
ie_own_first_position(Oid sequence)
{
	OwnPosition *entry = find(sequence);

	return entry == NULL ? PG_INT64_MAX : entry->first;
}

/* What is remembered of a log, or NULL. */
static OwnPosition *
find(Oid sequence)
{
	ListCell   *cell;

	foreach(cell, own)
		if (((OwnPosition *) lfirst(cell))->sequence == sequence)
			return lfirst(cell);
	return NULL;
}

/* Begin to remember a log. */
static OwnPosition *
add(Oid sequence)
{
	static bool registered = false;
	MemoryContext caller = MemoryContextSwitchTo(TopTransactionContext);
	OwnPosition *entry = palloc(sizeof(*entry));

	entry->sequence = sequence;
	entry->first = PG_INT64_MAX;
	own = lappend(own, entry);
	MemoryContextSwitchTo(caller);
	if (!registered)
		RegisterXactCallback(transaction_event, NULL);
	registered = true;
	ie_wake_at_end();
	return entry;
}

/* Forget them when the transaction has ended; their memory goes by itself. */
static void
transaction_event(XactEvent event, void *arg pg_attribute_unused())
{
	if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PRE_PREPARE ||
		event == XACT_EVENT_PARALLEL_PRE_COMMIT)
		return;
	own = NIL;
	latest = NULL;
}
