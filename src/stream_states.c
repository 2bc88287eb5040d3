/*
 * stream_states.c: a state for each of many streams, in limited memory.
 *
 * A hash table by stream, as large as work_mem and hash_mem_multiplier allow.
 * When that is not enough, the streams with the higher hash values are given
 * up, to be read in another pass over the log. What stays is copied to a new
 * memory context: pieces freed in the old one would be too small for states
 * that grow. The copy has its place because only two thirds of the memory are
 * filled.
 */
#include "replay_all.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/memutils.h"

typedef struct StreamEntry
{
	const text *name;
	IeStreamState *stream;
	uint32		hash;
	char		status;
} StreamEntry;

#define SH_PREFIX		streams
#define SH_ELEMENT_TYPE	StreamEntry
#define SH_KEY_TYPE		const text *
#define SH_KEY			name
#define SH_HASH_KEY(tb, a)	hash_bytes((const unsigned char *) VARDATA_ANY(a), VARSIZE_ANY_EXHDR(a))
#define SH_EQUAL(tb, a, b)	ie_same_text(a, b)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a)	(a)->hash
#define SH_SCOPE		static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct IeStreamStates
{
	IeReducer  *reducer;
	Datum		initial;
	bool		isnull;
	MemoryContext parent;
	MemoryContext context;		/* of the table and all states */
	streams_hash *table;
	streams_iterator place;
	Size		limit;			/* of the context's memory, in bytes */
	uint64		calls;			/* of ie_states_fit ... */
	uint64		next_look;		/* ... and at which to look again */
};

#define BLOCK	((Size) 8192)	/* of a context; the largest has 1/16 of all */

static void make_table(IeStreamStates *states);
static IeStreamState *add_stream(IeStreamStates *states, const text *name,
								 uint32 hash);
static IeHash middle_hash(const IeStreamStates *states);
static int	compare_hashes(const void *a, const void *b);
static void keep_below(IeStreamStates *states, IeHash end_hash);

/* Begin without any stream, in a child of the current context. */
IeStreamStates *
ie_states_create(IeReducer *reducer, Datum initial, bool isnull)
{
	IeStreamStates *states = palloc0(sizeof(IeStreamStates));

	states->reducer = reducer;
	states->initial = initial;
	states->isnull = isnull;
	states->parent = CurrentMemoryContext;
	states->limit = get_hash_memory_limit() / 3 * 2;
	make_table(states);
	return states;
}

/* Make the table, empty. */
static void
make_table(IeStreamStates *states)
{
	Size		largest = Min(states->limit / 16 / BLOCK, 128) * BLOCK;

	states->context = AllocSetContextCreate(states->parent,
											"immutable_events states",
											0, BLOCK, Max(BLOCK, largest));
	states->table = streams_create(states->context, 64, NULL);
}

/* The state of a stream, the initial one when the stream is new. */
IeStreamState *
ie_states_find(IeStreamStates *states, const text *stream, IeHash hash)
{
	StreamEntry *entry = streams_lookup_hash(states->table, stream, hash);
	IeStreamState *added;

	if (entry != NULL)
		return entry->stream;
	added = add_stream(states, stream, hash);
	ie_state_init(states->reducer, &added->state, states->initial,
				  states->isnull, states->context);
	return added;
}

/* Add a stream, without a state yet. */
static IeStreamState *
add_stream(IeStreamStates *states, const text *name, uint32 hash)
{
	Size		length = VARSIZE_ANY_EXHDR(name);
	IeStreamState *stream;
	bool		found;

	stream = MemoryContextAlloc(states->context,
								offsetof(IeStreamState, name) + VARHDRSZ + length);
	memset(stream, 0, sizeof(IeStreamState));
	SET_VARSIZE(stream->name, VARHDRSZ + length);
	memcpy(VARDATA(stream->name), VARDATA_ANY(name), length);
	streams_insert_hash(states->table, (text *) stream->name, hash,
						&found)->stream = stream;
	return stream;
}

/*
 * Keep to the memory: give streams up if need be. Answers the hash value that
 * those which stay are below; one stream always stays. Called for each event,
 * it looks now and then: states may be many, and grow.
 */
IeHash
ie_states_fit(IeStreamStates *states, IeHash end_hash)
{
	IeHash		middle;

	if (states->calls++ < states->next_look)
		return end_hash;
	states->next_look = states->calls + states->table->members / 16 + 8;
	if (MemoryContextMemAllocated(states->context, true) <= states->limit)
		return end_hash;
	middle = middle_hash(states);
	if (middle == IE_HASH_END)
		return end_hash;
	keep_below(states, middle);
	return middle;
}

/* A hash value with half of the streams below it, but at least one. */
static IeHash
middle_hash(const IeStreamStates *states)
{
	uint32		count = 0;
	uint32	   *hashes = MemoryContextAllocHuge(CurrentMemoryContext,
												(Size) states->table->members * sizeof(uint32));
	IeHash		middle = IE_HASH_END;
	streams_iterator place;
	StreamEntry *entry;
	uint32		i;

	streams_start_iterate(states->table, &place);
	while ((entry = streams_iterate(states->table, &place)) != NULL)
		hashes[count++] = entry->hash;
	qsort(hashes, count, sizeof(uint32), compare_hashes);
	for (i = count / 2; i < count && middle == IE_HASH_END; i++)
		if (hashes[i] != hashes[0])
			middle = hashes[i];
	pfree(hashes);
	return middle;
}

/* Which of two hash values is higher? */
static int
compare_hashes(const void *a, const void *b)
{
	uint32		left = *(const uint32 *) a;
	uint32		right = *(const uint32 *) b;

	return (left > right) - (left < right);
}

/* Give up all streams but those below a hash value. */
static void
keep_below(IeStreamStates *states, IeHash end_hash)
{
	MemoryContext old = states->context;
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext,
												  "immutable_events state",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(scratch);
	streams_hash *table = states->table;
	streams_iterator place;
	StreamEntry *entry;

	make_table(states);
	streams_start_iterate(table, &place);
	while ((entry = streams_iterate(table, &place)) != NULL)
	{
		const IeState *state = &entry->stream->state;
		IeStreamState *copy;

		CHECK_FOR_INTERRUPTS();
		if (entry->hash >= end_hash)
			continue;
		copy = add_stream(states, entry->name, entry->hash);
		copy->version = entry->stream->version;
		MemoryContextReset(scratch);
		ie_state_init(states->reducer, &copy->state,
					  ie_state_copy(states->reducer, state), state->isnull,
					  states->context);
		/* a strict reducer's state may be NULL and yet have begun */
		copy->state.started = state->started;
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(scratch);
	ie_state_gone(states->reducer, NULL);
	MemoryContextDelete(old);
}

/* Go through the streams from the first on; none may come to them then. */
void
ie_states_rewind(IeStreamStates *states)
{
	streams_start_iterate(states->table, &states->place);
}

/* The next stream; NULL after the last. */
IeStreamState *
ie_states_next(IeStreamStates *states)
{
	StreamEntry *entry = streams_iterate(states->table, &states->place);

	return entry == NULL ? NULL : entry->stream;
}

/* Forget all streams. */
void
ie_states_reset(IeStreamStates *states)
{
	ie_state_gone(states->reducer, NULL);
	MemoryContextDelete(states->context);
	make_table(states);
}
