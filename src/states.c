/*
 * states.c: a state for each of many keys, in memory.
 *
 * A hash table that says when it has taken more memory than it should. What
 * then happens is the caller's business: who sorts the events by the hash
 * value of their key needs few states at a time.
 */
#include "states.h"

#include "utils/datum.h"
#include "utils/memutils.h"

#define BLOCK		((Size) 8192)	/* of memory; the largest has 1/16 of all */

typedef struct StateEntry
{
	const Datum *key;
	IeKeyState *state;
	uint32		hash;
	char		status;
} StateEntry;

static bool same_key(const IeStates *states, const Datum *a, const Datum *b);
static uint32 hash_key(const IeStates *states, const Datum *key);

#define SH_PREFIX		entries
#define SH_ELEMENT_TYPE	StateEntry
#define SH_KEY_TYPE		const Datum *
#define SH_KEY			key
#define SH_HASH_KEY(tb, k)	hash_key((tb)->private_data, k)
#define SH_EQUAL(tb, a, b)	same_key((tb)->private_data, a, b)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a)	(a)->hash
#define SH_SCOPE		static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct IeStates
{
	IeReducer  *reducer;
	IeKeySpace	keys;
	MemoryContext parent;
	MemoryContext context;		/* of the table and all states */
	entries_hash *table;
	entries_iterator place;
	Size		limit;			/* of the context's memory, in bytes */
	uint64		calls;			/* of ie_states_full ... */
	uint64		next_look;		/* ... and at which to look again */
};

static void make_table(IeStates *states);

/* Begin without any, in a child of the current context. */
IeStates *
ie_states_create(IeReducer *reducer, const IeKeySpace *keys, Size limit)
{
	IeStates   *states = palloc0(sizeof(IeStates));

	states->reducer = reducer;
	states->keys = *keys;
	states->parent = CurrentMemoryContext;
	states->limit = limit;
	make_table(states);
	return states;
}

/* Make the table, empty. */
static void
make_table(IeStates *states)
{
	Size		largest = Min(states->limit / 16 / BLOCK, 128) * BLOCK;

	states->context = AllocSetContextCreate(states->parent,
											"immutable_events states",
											0, BLOCK, Max(BLOCK, largest));
	states->table = entries_create(states->context, 64, states);
	states->next_look = states->calls;
}

/* Are two keys the same? */
static bool
same_key(const IeStates *states, const Datum *a, const Datum *b)
{
	return states->keys.same(states->keys.arg, a, b);
}

/* The hash value of a key. */
static uint32
hash_key(const IeStates *states, const Datum *key)
{
	return states->keys.hash(states->keys.arg, key);
}

/* From now on, forget all states and keep to so many bytes. */
void
ie_states_limit(IeStates *states, Size limit)
{
	states->limit = limit;
	ie_states_reset(states);
}

/* The state of a key, or NULL. */
IeKeyState *
ie_states_find(IeStates *states, const Datum *key, uint32 hash)
{
	StateEntry *entry = entries_lookup_hash(states->table, key, hash);

	return entry == NULL ? NULL : entry->state;
}

/*
 * Let a key begin with an initial state, or begin again: one that has a state
 * loses it.
 */
IeKeyState *
ie_states_add(IeStates *states, const Datum *key, uint32 hash, Datum initial,
			  bool isnull)
{
	MemoryContext caller = MemoryContextSwitchTo(states->context);
	IeKeyState *state = ie_states_find(states, key, hash);
	bool		found;
	int			i;

	if (state != NULL)
		ie_state_free(states->reducer, &state->state);
	else
	{
		state = palloc0(sizeof(IeKeyState));
		state->key = palloc(states->keys.count * sizeof(Datum));
		for (i = 0; i < states->keys.count; i++)
			state->key[i] = datumCopy(key[i], states->keys.byval[i],
									  states->keys.len[i]);
		entries_insert_hash(states->table, state->key, hash, &found)->state = state;
	}
	MemoryContextSwitchTo(caller);
	ie_state_init(states->reducer, &state->state, initial, isnull,
				  states->context);
	return state;
}

/*
 * Is more memory in use than should be? Called for each event, it looks now
 * and then: states may be many, and grow.
 */
bool
ie_states_full(IeStates *states)
{
	if (states->calls++ < states->next_look)
		return false;
	states->next_look = states->calls + states->table->members / 16 + 8;
	return MemoryContextMemAllocated(states->context, true) > states->limit;
}

/* Go through the states from the first on; none may come to them then. */
void
ie_states_rewind(IeStates *states)
{
	entries_start_iterate(states->table, &states->place);
}

/* The next state; NULL after the last. */
IeKeyState *
ie_states_next(IeStates *states)
{
	StateEntry *entry = entries_iterate(states->table, &states->place);

	return entry == NULL ? NULL : entry->state;
}

/* Forget all states. */
void
ie_states_reset(IeStates *states)
{
	ie_state_gone(states->reducer, NULL);
	MemoryContextDelete(states->context);
	make_table(states);
}

/* Give everything back. */
void
ie_states_free(IeStates *states)
{
	ie_state_gone(states->reducer, NULL);
	MemoryContextDelete(states->context);
	pfree(states);
}
