/*
 * states.h: states of many keys side by side, and rows sorted by hash value:
 * what folds that do not fit into memory are made of.
 */
#ifndef IMMUTABLE_EVENTS_STATES_H
#define IMMUTABLE_EVENTS_STATES_H

#include "fold.h"

#include "compat.h"


/* Hash values of keys, with one that is above them all. */
typedef uint64 IeHash;

#define IE_HASH_END		(UINT64CONST(1) << 32)

/* states.c: a state for each of many keys, in memory */

/* What keys are: values of so many columns, none of them NULL. */
typedef struct IeKeySpace
{
	int			count;
	bool	   *byval;			/* by column */
	int16	   *len;
	uint32		(*hash) (const void *arg, const Datum *key);
	bool		(*same) (const void *arg, const Datum *a, const Datum *b);
	const void *arg;
} IeKeySpace;

/* The state of a key. */
typedef struct IeKeyState
{
	Datum	   *key;
	int64		last;			/* position or version of the last event */
	bool		seen;			/* for the caller's use */
	HeapTupleHeader initial;	/* the row it began with, or NULL */
	IeState		state;
} IeKeyState;

typedef struct IeStates IeStates;

extern IeStates *ie_states_create(IeReducer *reducer, const IeKeySpace *keys,
								  Size limit);
extern void ie_states_limit(IeStates *states, Size limit);
extern IeKeyState *ie_states_find(IeStates *states, const Datum *key,
								  uint32 hash);
extern IeKeyState *ie_states_add(IeStates *states, const Datum *key,
								 uint32 hash, Datum initial, bool isnull);
extern bool ie_states_full(IeStates *states);
extern void ie_states_rewind(IeStates *states);
extern IeKeyState *ie_states_next(IeStates *states);
extern void ie_states_reset(IeStates *states);
extern void ie_states_free(IeStates *states);

/* hash_sort.c: rows by hash value of their key, and by order for each */

typedef struct IeHashSort
{
	Datum	   *values;			/* of the row that is put, or was got */
	bool	   *nulls;
	IeHash		hash;			/* of the row that was got */
	int64		order;
	struct Tuplesortstate *sort;
	TupleTableSlot *in;
	TupleTableSlot *out;
	TupleDesc	columns;
} IeHashSort;

extern IeHashSort *ie_hash_sort_begin(TupleDesc payload, Size limit);
extern void ie_hash_sort_put(IeHashSort *sort, uint32 hash, int64 order);
extern void ie_hash_sort_run(IeHashSort *sort);
extern bool ie_hash_sort_next(IeHashSort *sort);
extern void ie_hash_sort_end(IeHashSort *sort);

#endif							/* IMMUTABLE_EVENTS_STATES_H */
