/*
 * state.c: where a state is kept between two events.
 *
 * A value lives in one chunk that is overwritten in place and grows by
 * doubling, so that memory stays flat over any number of events; a row lives in
 * one for each column (row_state.c), a document in a tree (document.c). An
 * expanded object stays what it is while its function goes on with it.
 */
#include "reducer.h"

#include "access/detoast.h"
#include "utils/datum.h"
#include "utils/expandeddatum.h"
#include "utils/memutils.h"

static void keep_expanded(IeReducer *reducer, IeState *state, Datum value);
static void flatten(IeReducer *reducer);
static void store(IeReducer *reducer, IeState *state, Datum value);
static char *reserve(IeState *state, Size size, char **old);

/* Begin with a copy of the initial state. */
void
ie_state_init(IeReducer *reducer, IeState *state, Datum initial,
			  bool isnull, MemoryContext context)
{
	memset(state, 0, sizeof(*state));
	state->context = context;
	state->started = !isnull;
	if (reducer->change != NULL)
	{
		state->document = ie_document_read(isnull ? NULL : DatumGetJsonbP(initial),
										   context);
		state->isnull = isnull;
		return;
	}
	ie_state_keep(reducer, state, initial, isnull);
}

/* A copy of the state, in the current context. */
Datum
ie_state_copy(const IeReducer *reducer, const IeState *state)
{
	if (state->isnull)
		return (Datum) 0;
	if (state->document != NULL)
		return JsonbPGetDatum(ie_document_write(state->document));
	if (state->columns != NULL)
		return ie_row_copy(reducer, state);
	return datumCopy(state->value, reducer->state_byval, reducer->state_len);
}

/* Give back what a state holds; its context may go on without it. */
void
ie_state_free(IeReducer *reducer, IeState *state)
{
	ie_state_gone(reducer, state);
	if (state->document != NULL)
		ie_document_free(state->document);
	if (state->columns != NULL)
		ie_row_free(reducer, state);
	if (state->chunk != NULL)
		pfree(state->chunk);
}

/* A state is about to vanish with its context, or did in an error: forget it. */
void
ie_state_gone(IeReducer *reducer, const IeState *state)
{
	if (reducer->expanded_state == NULL ||
		(state != NULL && reducer->expanded_state != state))
		return;
	reducer->expanded_state = NULL;
	MemoryContextDeleteChildren(reducer->expanded[0]);
	MemoryContextDeleteChildren(reducer->expanded[1]);
}

/* Keep a value as the state. */
void
ie_state_keep(IeReducer *reducer, IeState *state, Datum value, bool isnull)
{
	if (reducer->outcome != NULL)
	{
		ie_row_keep(reducer, state, value, isnull);
		return;
	}
	state->isnull = isnull;
	if (isnull || reducer->state_byval)
		state->value = value;
	else if (reducer->last_state == state &&
			 VARATT_IS_EXTERNAL_EXPANDED_RW(DatumGetPointer(value)))
	{
		keep_expanded(reducer, state, value);
		return;
	}
	else
		store(reducer, state, value);
	ie_state_gone(reducer, state);
	if (reducer->in_place)
		reducer->last_state = state;
}

/* A state is about to be used: one that is kept for another makes room. */
void
ie_state_begin(IeReducer *reducer, const IeState *state)
{
	if (reducer->expanded_state != NULL && reducer->expanded_state != state)
		flatten(reducer);
}

/*
 * Keep an expanded object as it is, so that the function can go on with it in
 * place, when it goes on with the same state. One state at a time has that: a
 * memory context for each of 100,000 groups would be too much. The object moves
 * to the other of two contexts; what stays behind in the first was not used
 * again.
 */
static void
keep_expanded(IeReducer *reducer, IeState *state, Datum value)
{
	MemoryContext left = reducer->expanded[0];

	ie_state_begin(reducer, state);
	state->value = TransferExpandedObject(value, reducer->expanded[1]);
	reducer->expanded_state = state;
	reducer->expanded[0] = reducer->expanded[1];
	reducer->expanded[1] = left;
	MemoryContextDeleteChildren(left);
}

/* Make a flat value of the state that is an expanded object. */
static void
flatten(IeReducer *reducer)
{
	IeState    *state = reducer->expanded_state;

	store(reducer, state, state->value);
	ie_state_gone(reducer, state);
}

/*
 * Keep a value in the state's one chunk, which is overwritten in place and
 * grows by doubling, so that memory stays flat over any number of events.
 */
static void
store(IeReducer *reducer, IeState *state, Datum value)
{
	char	   *from = DatumGetPointer(value);
	char	   *old = NULL;
	char	   *chunk;
	Size		size;

	if (from == state->chunk)
		return;					/* the reducer returned the state unchanged */
	if (reducer->state_len == -1 && VARATT_IS_EXTERNAL_EXPANDED(from))
	{
		ExpandedObjectHeader *expanded = DatumGetEOHP(value);

		size = EOH_get_flat_size(expanded);
		chunk = reserve(state, size, &old);
		EOH_flatten_into(expanded, chunk, size);
	}
	else
	{
		if (reducer->state_len == -1 &&
			(VARATT_IS_EXTERNAL(from) || VARATT_IS_COMPRESSED(from)))
			from = (char *) detoast_attr((struct varlena *) from);
		size = datumGetSize(PointerGetDatum(from), false, reducer->state_len);
		chunk = reserve(state, size, &old);
		memmove(chunk, from, size);
	}
	if (old != NULL)
		pfree(old);				/* only now: the value may have pointed there */
	state->value = PointerGetDatum(chunk);
}

/* Make the chunk large enough; the one it replaces is left to the caller. */
static char *
reserve(IeState *state, Size size, char **old)
{
	if (size > state->capacity)
	{
		*old = state->chunk;
		state->capacity = state->chunk == NULL
			? size : Max(size, 2 * state->capacity);
		state->chunk = MemoryContextAllocHuge(state->context, state->capacity);
	}
	return state->chunk;
}
