/*
 * bulk_fold.c: the rows of a read model, folded from the first event on.
 *
 * The log is read in order of position, and all rows are folded side by side.
 * Where they do not fit into memory, events are sorted by the hash value of
 * their key first, and as many rows are folded at a time, in passes, as do
 * fit. Several processes may share the keys; each reads the whole log, which
 * costs little where an event is somebody else's.
 */
#include "rebuild.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/memutils.h"

#define REPORT		1000		/* events between two looks at the progress */

struct IeBulkFold
{
	IeProjection *projection;
	Snapshot	snapshot;
	bool		keep_initial;
	IeShares   *shares;			/* of the keys, */
	int			share;			/* and the number of this one */
	IeEventFilter filter;
	IePositions skipped;		/* on purpose */
	IeKeySpace	keys;
	Size		limit;			/* of memory, in bytes */
	IeStates   *states;
	IeHashSort *sort;			/* NULL: everything fits */
	IeHash		from;			/* the keys of this pass */
	IeHash		end;			/* exclusive */
	bool		begun;
	int64		unreported;
	MemoryContext scratch;		/* of one event */
	TupleTableSlot *slot;		/* an event from the sort */
	int64		event;			/* position of the one being folded, or 0 */
	IeShares	alone;
};

static bool read_log(IeBulkFold *fold);
static bool take_event(IeBulkFold *fold, TupleTableSlot *event);
static bool is_ours(const IeBulkFold *fold, uint32 hash);
static void begin_sort(IeBulkFold *fold);
static void sort_event(IeBulkFold *fold, const Datum *key, uint32 hash,
					   TupleTableSlot *event);
static void fold_sorted(IeBulkFold *fold);
static void fold_event(IeBulkFold *fold, const Datum *key, uint32 hash,
					   TupleTableSlot *event);
static IeKeyState *begin_row(IeBulkFold *fold, const Datum *key, uint32 hash);
static void tell_progress(IeBulkFold *fold, int64 least);
static void add_context(void *arg);

/*
 * Get ready to fold all events up to a position, of one share of the keys; all
 * of them, if there are no shares. The projection and the snapshot must last.
 */
IeBulkFold *
ie_bulk_fold_begin(IeProjection *projection, Snapshot snapshot, int64 upto,
				   bool keep_initial, IeShares *shares, int share)
{
	IeBulkFold *fold = palloc0(sizeof(IeBulkFold));

	fold->projection = projection;
	fold->snapshot = snapshot;
	fold->keep_initial = keep_initial;
	fold->alone.count = 1;
	pg_atomic_init_u64(&fold->alone.gone_over, 0);
	fold->shares = shares != NULL ? shares : &fold->alone;
	fold->share = share;
	fold->filter.upto_position = upto;
	fold->filter.as_of = DT_NOEND;
	fold->filter.prefix = projection->prefix;
	ie_filter_types(&fold->filter, projection->types);
	fold->skipped = ie_skipped_events(projection->target);
	fold->filter.skipped = &fold->skipped;
	fold->keys = ie_key_space(projection);
	fold->limit = Max(get_hash_memory_limit(), (Size) maintenance_work_mem * 1024) /
		fold->shares->count;
	fold->states = ie_states_create(projection->reducer, &fold->keys, fold->limit);
	fold->scratch = AllocSetContextCreate(CurrentMemoryContext,
										  "immutable_events keys",
										  ALLOCSET_DEFAULT_SIZES);
	fold->slot = MakeSingleTupleTableSlot(projection->event_columns,
										  &TTSOpsVirtual);
	return fold;
}

/* Give everything back. */
void
ie_bulk_fold_end(IeBulkFold *fold)
{
	if (fold->sort != NULL)
		ie_hash_sort_end(fold->sort);
	ie_states_free(fold->states);
	ExecDropSingleTupleTableSlot(fold->slot);
	MemoryContextDelete(fold->scratch);
	pfree(fold);
}

/*
 * Fold as many rows as there is room for; false when all have had their turn.
 * The read model is locked, so its row type stays what the reducer was
 * compiled for.
 */
bool
ie_bulk_fold_pass(IeBulkFold *fold)
{
	ErrorContextCallback callback = {.callback = add_context,
	.arg = fold, .previous = error_context_stack};
	IeCaller	caller;
	bool		more = true;

	if (fold->begun && fold->end == IE_HASH_END)
		return false;
	error_context_stack = &callback;
	ie_projection_enter(fold->projection, &caller);
	fold->from = fold->end;
	fold->end = IE_HASH_END;
	if (!fold->begun && !read_log(fold))
	{
		begin_sort(fold);
		(void) read_log(fold);
		ie_hash_sort_run(fold->sort);
		more = ie_hash_sort_next(fold->sort);
	}
	if (fold->sort != NULL && more)
		fold_sorted(fold);
	tell_progress(fold, 1);
	fold->begun = true;
	fold->event = 0;
	ie_projection_leave(&caller);
	error_context_stack = callback.previous;
	ie_states_rewind(fold->states);
	return true;
}

/* The next row of this pass, which may be deleted; NULL after the last. */
IeKeyState *
ie_bulk_fold_next(IeBulkFold *fold)
{
	return ie_states_next(fold->states);
}

/* A row as it was folded, in the current context; NULL when it is deleted. */
HeapTupleHeader
ie_folded_row(const IeBulkFold *fold, const IeKeyState *row)
{
	HeapTupleHeader result;

	if (row->state.isnull)
		return NULL;
	result = DatumGetHeapTupleHeader(ie_state_copy(fold->projection->reducer,
												   &row->state));
	ie_check_result(fold->projection, result, row->key);
	return result;
}

/* The keys of this pass, by hash value: from the first to before the second. */
void
ie_bulk_fold_range(const IeBulkFold *fold, IeHash *from, IeHash *end)
{
	*from = fold->from;
	*end = fold->end;
}

/* How many bytes are for rows and events. */
Size
ie_bulk_fold_limit(const IeBulkFold *fold)
{
	return fold->limit;
}

/* The row of a key of this pass, or NULL where no event concerns it. */
IeKeyState *
ie_bulk_fold_find(IeBulkFold *fold, const Datum *key, uint32 hash)
{
	return ie_states_find(fold->states, key, hash);
}

/* The hash value of a key. */
uint32
ie_bulk_fold_hash(const IeBulkFold *fold, const Datum *key)
{
	return ie_hash_key(fold->keys.arg, key);
}

/*
 * Fold the events of the log, or put them into the sort; false when there is
 * no room for all rows.
 */
static bool
read_log(IeBulkFold *fold)
{
	IeTarget	log = ie_open_whole_log(fold->projection->log, AccessShareLock);
	IeEventScan *scan;
	bool		fits = true;

	ie_check_access(log.log, ACL_SELECT);
	scan = ie_scan_in_order(log.log, &fold->filter, fold->snapshot);
	while (fits && ie_event_next(scan))
	{
		fits = take_event(fold, scan->slot);
		tell_progress(fold, REPORT);
	}
	ie_event_scan_end(scan);
	ie_close_log(&log);
	return fits;
}

/* Take an event; false when there is no room any more. */
static bool
take_event(IeBulkFold *fold, TupleTableSlot *event)
{
	MemoryContext caller;
	bool		isnull;
	ListCell   *cell;

	fold->event = DatumGetInt64(slot_getattr(event, IE_POSITION, &isnull));
	fold->unreported++;
	MemoryContextReset(fold->scratch);
	caller = MemoryContextSwitchTo(fold->scratch);
	foreach(cell, ie_event_keys(fold->projection, event))
	{
		uint32		hash = ie_bulk_fold_hash(fold, lfirst(cell));

		if (!is_ours(fold, hash))
			continue;
		if (fold->sort != NULL)
			sort_event(fold, lfirst(cell), hash, event);
		else
			fold_event(fold, lfirst(cell), hash, event);
	}
	MemoryContextSwitchTo(caller);
	return fold->sort != NULL || !ie_states_full(fold->states);
}

/* Is a key in this share? Its higher bits tell; hash tables use the lower. */
static bool
is_ours(const IeBulkFold *fold, uint32 hash)
{
	return (int) (((uint64) hash * fold->shares->count) >> 32) == fold->share;
}

/* There will be a sort, with the keys and the events. It has half the memory. */
static void
begin_sort(IeBulkFold *fold)
{
	IeProjection *projection = fold->projection;
	MemoryContext caller = MemoryContextSwitchTo(GetMemoryChunkContext(fold));
	TupleDesc	columns = CreateTemplateTupleDesc(projection->nkeys + IE_NCOLUMNS);
	int			i;

	for (i = 0; i < projection->nkeys; i++)
		TupleDescInitEntry(columns, i + 1, "key", projection->keys[i].type, -1, 0);
	for (i = 1; i <= IE_NCOLUMNS; i++)
		TupleDescCopyEntry(columns, projection->nkeys + i,
						   projection->event_columns, i);
	ie_states_limit(fold->states, fold->limit / 2);
	fold->sort = ie_hash_sort_begin(columns, fold->limit / 2);
	ie_progress_total((double) fold->filter.upto_position +
					  pg_atomic_read_u64(&fold->shares->gone_over) / fold->shares->count);
	MemoryContextSwitchTo(caller);
}

/* Put an event into the sort, for one row. */
static void
sort_event(IeBulkFold *fold, const Datum *key, uint32 hash,
		   TupleTableSlot *event)
{
	IeHashSort *sort = fold->sort;
	int			nkeys = fold->projection->nkeys;

	slot_getallattrs(event);
	memcpy(sort->values, key, nkeys * sizeof(Datum));
	memset(sort->nulls, false, nkeys * sizeof(bool));
	memcpy(sort->values + nkeys, event->tts_values, IE_NCOLUMNS * sizeof(Datum));
	memcpy(sort->nulls + nkeys, event->tts_isnull, IE_NCOLUMNS * sizeof(bool));
	ie_hash_sort_put(sort, hash, fold->event);
}

/* Fold as many rows from the sort as there is room for, but at least one. */
static void
fold_sorted(IeBulkFold *fold)
{
	IeHashSort *sort = fold->sort;
	int			nkeys = fold->projection->nkeys;
	MemoryContext caller = MemoryContextSwitchTo(fold->scratch);
	bool		more;
	IeHash		hash;

	ie_states_reset(fold->states);
	do
	{
		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(fold->scratch);
		ExecClearTuple(fold->slot);
		memcpy(fold->slot->tts_values, sort->values + nkeys, IE_NCOLUMNS * sizeof(Datum));
		memcpy(fold->slot->tts_isnull, sort->nulls + nkeys, IE_NCOLUMNS * sizeof(bool));
		ExecStoreVirtualTuple(fold->slot);
		hash = sort->hash;
		fold->event = sort->order;
		fold_event(fold, sort->values, (uint32) hash, fold->slot);
		more = ie_hash_sort_next(sort);
	} while (more && (sort->hash == hash || !ie_states_full(fold->states)));
	fold->end = more ? sort->hash : IE_HASH_END;
	ExecClearTuple(fold->slot);
	MemoryContextSwitchTo(caller);
}

/* Fold the event into one row. */
static void
fold_event(IeBulkFold *fold, const Datum *key, uint32 hash,
		   TupleTableSlot *event)
{
	IeKeyState *row = ie_states_find(fold->states, key, hash);

	if (row != NULL && row->last == fold->event)
		return;					/* an array that names a key twice */
	if (row == NULL || row->state.isnull)
		row = begin_row(fold, key, hash);
	row->last = fold->event;
	ie_reduce_slot(fold->projection->reducer, &row->state, event);
}

/* Let a row begin, of a key seen first or of one that was deleted. */
static IeKeyState *
begin_row(IeBulkFold *fold, const Datum *key, uint32 hash)
{
	Datum		initial = ie_initial_row(fold->projection, key);
	IeKeyState *row = ie_states_add(fold->states, key, hash, initial, false);
	Size		size = HeapTupleHeaderGetDatumLength(DatumGetHeapTupleHeader(initial));

	if (!fold->keep_initial)
		return row;
	if (row->initial != NULL)
		pfree(row->initial);
	row->initial = MemoryContextAlloc(row->state.context, size);
	memcpy(row->initial, DatumGetPointer(initial), size);
	return row;
}

/* Tell, when it is worth it, how many events all shares have gone over. */
static void
tell_progress(IeBulkFold *fold, int64 least)
{
	if (fold->unreported < least)
		return;
	pg_atomic_fetch_add_u64(&fold->shares->gone_over, fold->unreported);
	fold->unreported = 0;
	ie_tell_shares(fold->shares);
}

/* How far they are: each has folded its part of what it has gone over. */
void
ie_tell_shares(IeShares *shares)
{
	ie_progress_done(pg_atomic_read_u64(&shares->gone_over) / shares->count);
}

/* Say which projection and which event an error is about. */
static void
add_context(void *arg)
{
	const IeBulkFold *fold = arg;

	if (fold->event != 0)
		errcontext("projection \"%s\", event at position " INT64_FORMAT,
				   fold->projection->name, fold->event);
}
