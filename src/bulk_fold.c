/*
 * bulk_fold.c: the rows of a read model, folded from the first event on.
 *
 * The log is read in order of position, and all rows are folded side by side.
 * Keys that find no place in memory have their turn in another pass.
 */
#include "rebuild.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#define BATCH		5000		/* events at a time */

struct IeBulkFold
{
	IeProjection *projection;
	Snapshot	snapshot;
	int64		upto;
	IeFoldedRows *rows;
	IeHash		from;			/* the keys of this pass */
	IeHash		end;			/* exclusive */
	bool		begun;
	int64		events;			/* in the first pass */
	MemoryContext scratch;		/* of one event */
	TupleTableSlot *slot;
	HeapTuple	event;			/* being folded, or NULL */
};

static void fold_events(IeBulkFold *fold, const IeEvents *events);
static void fold_event(IeBulkFold *fold, const Datum *key, uint32 hash);
static void add_context(void *arg);

/*
 * Get ready to fold all events up to a position. The projection and the
 * snapshot must last.
 */
IeBulkFold *
ie_bulk_fold_begin(IeProjection *projection, Snapshot snapshot, int64 upto,
				   bool keep_initial)
{
	IeBulkFold *fold = palloc0(sizeof(IeBulkFold));

	fold->projection = projection;
	fold->snapshot = snapshot;
	fold->upto = upto;
	fold->rows = ie_folded_create(projection, keep_initial);
	fold->scratch = AllocSetContextCreate(CurrentMemoryContext,
										  "immutable_events event",
										  ALLOCSET_DEFAULT_SIZES);
	fold->slot = MakeSingleTupleTableSlot(projection->event_columns,
										  &TTSOpsHeapTuple);
	return fold;
}

/* Give everything back. */
void
ie_bulk_fold_end(IeBulkFold *fold)
{
	ie_folded_free(fold->rows);
	ExecDropSingleTupleTableSlot(fold->slot);
	MemoryContextDelete(fold->scratch);
	pfree(fold);
}

/* Fold as many rows as there is room for; false when all have had their turn. */
bool
ie_bulk_fold_pass(IeBulkFold *fold)
{
	IeHash		done = fold->end - fold->from;
	IeSelection selection = {.upto = fold->upto, .max_events = BATCH};
	MemoryContext context;
	MemoryContext caller;
	IeTarget	log;
	IeEvents	events;
	bool		more;

	if (fold->begun && fold->end == IE_HASH_END)
		return false;
	/* begin with twice as many keys as had their place in the last */
	fold->from = fold->end;
	fold->end = fold->begun ? Min(fold->from + 2 * done, IE_HASH_END) : IE_HASH_END;
	if (fold->begun)
		ie_progress_total(fold->events * (1 + (double) (IE_HASH_END - fold->from) / done));
	ie_folded_reset(fold->rows);
	log = ie_open_whole_log(fold->projection->log, AccessShareLock);
	context = AllocSetContextCreate(CurrentMemoryContext,
									"immutable_events batch",
									ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(context);
	do
	{
		CHECK_FOR_INTERRUPTS();
		more = ie_next_events(fold->projection, &log, &selection,
							  fold->snapshot, &events);
		fold_events(fold, &events);
		ie_progress_add(events.count);
		if (!fold->begun)
			fold->events += events.count;
		MemoryContextReset(context);
	} while (more);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	ie_close_log(&log);
	fold->begun = true;
	ie_folded_rewind(fold->rows);
	return true;
}

/* The next row of this pass, which may be deleted; NULL after the last. */
IeFoldedRow *
ie_bulk_fold_next(IeBulkFold *fold)
{
	return ie_folded_next(fold->rows);
}

/* A row as it was folded, in the current context; NULL when it is deleted. */
HeapTupleHeader
ie_folded_row(const IeBulkFold *fold, const IeFoldedRow *row)
{
	HeapTupleHeader result;

	if (row->state.isnull)
		return NULL;
	result = DatumGetHeapTupleHeader(ie_state_copy(fold->projection->reducer,
												   &row->state));
	ie_check_result(fold->projection, result, row->key);
	return result;
}

/*
 * Is this a key of this pass? Then its row is found, or NULL where no event
 * concerns it.
 */
bool
ie_bulk_fold_find(IeBulkFold *fold, const Datum *key, IeFoldedRow **row)
{
	uint32		hash = ie_folded_hash(fold->rows, key);

	if (hash < fold->from || hash >= fold->end)
		return false;
	*row = ie_folded_find(fold->rows, key, hash);
	return true;
}

/*
 * Fold a batch of events into the rows they concern. The read model is locked,
 * so its row type stays what the reducer was compiled for.
 */
static void
fold_events(IeBulkFold *fold, const IeEvents *events)
{
	IeProjection *projection = fold->projection;
	ErrorContextCallback callback = {.callback = add_context,
	.arg = fold, .previous = error_context_stack};
	MemoryContext outer = MemoryContextSwitchTo(fold->scratch);
	IeCaller	caller;
	int			i;

	error_context_stack = &callback;
	ie_projection_enter(projection, &caller);
	for (i = 0; i < events->count; i++)
	{
		ListCell   *cell;

		CHECK_FOR_INTERRUPTS();
		fold->event = events->tuples[i];
		ExecStoreHeapTuple(fold->event, fold->slot, false);
		foreach(cell, ie_event_keys(projection, fold->slot))
		{
			uint32		hash = ie_folded_hash(fold->rows, lfirst(cell));

			if (hash >= fold->from && hash < fold->end)
				fold_event(fold, lfirst(cell), hash);
		}
		fold->end = ie_folded_fit(fold->rows, fold->end);
		MemoryContextReset(fold->scratch);
	}
	fold->event = NULL;
	ie_projection_leave(&caller);
	error_context_stack = callback.previous;
	MemoryContextSwitchTo(outer);
}

/* Fold the event into one row. */
static void
fold_event(IeBulkFold *fold, const Datum *key, uint32 hash)
{
	IeFoldedRow *row = ie_folded_find(fold->rows, key, hash);
	bool		isnull;
	int64		position = DatumGetInt64(slot_getattr(fold->slot, IE_POSITION, &isnull));

	if (row != NULL && row->position == position)
		return;					/* an array that names a key twice */
	if (row == NULL || row->state.isnull)
		row = ie_folded_begin(fold->rows, key, hash);
	row->position = position;
	ie_reduce_slot(fold->projection->reducer, &row->state, fold->slot);
}

/* Say which projection and which event an error is about. */
static void
add_context(void *arg)
{
	const IeBulkFold *fold = arg;
	bool		isnull;

	if (fold->event != NULL)
		errcontext("projection \"%s\", event at position " INT64_FORMAT,
				   fold->projection->name,
				   DatumGetInt64(heap_getattr(fold->event, IE_POSITION,
											  fold->projection->event_columns,
											  &isnull)));
}
