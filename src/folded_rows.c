/*
 * folded_rows.c: the rows that are being folded, by key, in limited memory.
 *
 * A hash table as large as maintenance_work_mem allows. When that is not
 * enough, the keys with the higher hash values are given up, to be folded
 * in another pass. What stays is copied to a new memory context: pieces freed
 * in the old one would be too small for states that grow. The copy has its
 * place because only two thirds of the memory are filled.
 */
#include "rebuild.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

#define BLOCK		((Size) 8192)	/* of memory; the largest has 1/16 of all */

typedef struct RowEntry
{
	const Datum *key;
	IeFoldedRow *row;
	uint32		hash;
	char		status;
} RowEntry;

static bool same_key(const IeFoldedRows *rows, const Datum *a, const Datum *b);

#define SH_PREFIX		entries
#define SH_ELEMENT_TYPE	RowEntry
#define SH_KEY_TYPE		const Datum *
#define SH_KEY			key
#define SH_HASH_KEY(tb, k)	ie_folded_hash((tb)->private_data, k)
#define SH_EQUAL(tb, a, b)	same_key((tb)->private_data, a, b)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a)	(a)->hash
#define SH_SCOPE		static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct IeFoldedRows
{
	IeProjection *projection;
	bool		keep_initial;
	FmgrInfo   *hashes;			/* of the key's columns; unset: by image */
	MemoryContext parent;
	MemoryContext context;		/* of the table and all rows */
	entries_hash *table;
	entries_iterator place;
	Size		limit;			/* of the context's memory, in bytes */
	uint64		calls;			/* of ie_folded_fit ... */
	uint64		next_look;		/* ... and at which to look again */
};

static void prepare_hashes(IeFoldedRows *rows);
static void make_table(IeFoldedRows *rows);
static IeFoldedRow *add_row(IeFoldedRows *rows, const Datum *key, uint32 hash);
static void keep_initial(IeFoldedRows *rows, IeFoldedRow *row,
						 HeapTupleHeader initial);
static IeHash middle_hash(const IeFoldedRows *rows);
static int	compare_hashes(const void *a, const void *b);
static void keep_below(IeFoldedRows *rows, IeHash end);

/*
 * Begin without any row, in the current context. The initial row of each is
 * kept if need be.
 */
IeFoldedRows *
ie_folded_create(IeProjection *projection, bool keep_initial)
{
	IeFoldedRows *rows = palloc0(sizeof(IeFoldedRows));

	rows->projection = projection;
	rows->keep_initial = keep_initial;
	rows->parent = CurrentMemoryContext;
	rows->limit = Max(get_hash_memory_limit(), (Size) maintenance_work_mem * 1024) / 3 * 2;
	prepare_hashes(rows);
	make_table(rows);
	return rows;
}

/* How keys are hashed: so that equal ones have equal hash values. */
static void
prepare_hashes(IeFoldedRows *rows)
{
	IeProjection *projection = rows->projection;
	int			i;

	rows->hashes = palloc0(projection->nkeys * sizeof(FmgrInfo));
	for (i = 0; i < projection->nkeys; i++)
	{
		IeKeyColumn *key = &projection->keys[i];
		TypeCacheEntry *type = lookup_type_cache(key->type, TYPECACHE_HASH_PROC);

		if (OidIsValid(type->hash_proc))
			fmgr_info(type->hash_proc, &rows->hashes[i]);
		else if (!key->equal_image)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("read model \"%s\" cannot be folded anew",
							projection->name),
					 errdetail("Values of type %s, which is in its key, have no hash function.",
							   format_type_be(key->type))));
	}
}

/* The hash value of a key. */
uint32
ie_folded_hash(const IeFoldedRows *rows, const Datum *key)
{
	uint32		hash = 0;
	int			i;

	for (i = 0; i < rows->projection->nkeys; i++)
	{
		IeKeyColumn *column = &rows->projection->keys[i];
		uint32		one = OidIsValid(rows->hashes[i].fn_oid)
			? DatumGetUInt32(FunctionCall1Coll(&rows->hashes[i],
											   column->collation, key[i]))
			: datum_image_hash(key[i], column->byval, column->len);

		hash = hash_combine(hash, one);
	}
	return hash;
}

/* Are two keys the same? */
static bool
same_key(const IeFoldedRows *rows, const Datum *a, const Datum *b)
{
	return ie_compare_keys(rows->projection, a, b) == 0;
}

/* Make the table, empty. */
static void
make_table(IeFoldedRows *rows)
{
	Size		largest = Min(rows->limit / 16 / BLOCK, 128) * BLOCK;

	rows->context = AllocSetContextCreate(rows->parent,
										  "immutable_events rows",
										  0, BLOCK, Max(BLOCK, largest));
	rows->table = entries_create(rows->context, 64, rows);
}

/* Forget all rows. */
void
ie_folded_reset(IeFoldedRows *rows)
{
	ie_state_gone(rows->projection->reducer, NULL);
	MemoryContextDelete(rows->context);
	make_table(rows);
}

/* Give everything back. */
void
ie_folded_free(IeFoldedRows *rows)
{
	ie_state_gone(rows->projection->reducer, NULL);
	MemoryContextDelete(rows->context);
	pfree(rows->hashes);
	pfree(rows);
}

/* The row of a key, or NULL. */
IeFoldedRow *
ie_folded_find(IeFoldedRows *rows, const Datum *key, uint32 hash)
{
	RowEntry   *entry = entries_lookup_hash(rows->table, key, hash);

	return entry == NULL ? NULL : entry->row;
}

/*
 * The row of a key, with the state that the next event is folded into: of a key
 * seen first, and of one that was deleted, that is the initial row.
 */
IeFoldedRow *
ie_folded_begin(IeFoldedRows *rows, const Datum *key, uint32 hash)
{
	IeFoldedRow *row = ie_folded_find(rows, key, hash);
	IeReducer  *reducer = rows->projection->reducer;
	Datum		initial;

	if (row != NULL && !row->state.isnull)
		return row;
	initial = ie_initial_row(rows->projection, key);
	if (row == NULL)
		row = add_row(rows, key, hash);
	else
		ie_state_free(reducer, &row->state);
	ie_state_init(reducer, &row->state, initial, false, rows->context);
	keep_initial(rows, row, DatumGetHeapTupleHeader(initial));
	return row;
}

/* Add a row, without a state yet. */
static IeFoldedRow *
add_row(IeFoldedRows *rows, const Datum *key, uint32 hash)
{
	MemoryContext caller = MemoryContextSwitchTo(rows->context);
	IeFoldedRow *row = palloc0(sizeof(IeFoldedRow));
	bool		found;
	int			i;

	row->key = palloc(rows->projection->nkeys * sizeof(Datum));
	for (i = 0; i < rows->projection->nkeys; i++)
		row->key[i] = datumCopy(key[i], rows->projection->keys[i].byval,
								rows->projection->keys[i].len);
	entries_insert_hash(rows->table, row->key, hash, &found)->row = row;
	MemoryContextSwitchTo(caller);
	return row;
}

/* Remember the row that a row began with, if that is wanted. */
static void
keep_initial(IeFoldedRows *rows, IeFoldedRow *row, HeapTupleHeader initial)
{
	if (!rows->keep_initial)
		return;
	if (row->initial != NULL)
		pfree(row->initial);
	row->initial = MemoryContextAlloc(rows->context,
									  HeapTupleHeaderGetDatumLength(initial));
	memcpy(row->initial, initial, HeapTupleHeaderGetDatumLength(initial));
}

/*
 * Keep to the memory: give keys up if need be. Answers the hash value that
 * those which stay are below; one key always stays. Called for each event, it
 * looks now and then: rows may be many, and grow.
 */
IeHash
ie_folded_fit(IeFoldedRows *rows, IeHash end)
{
	IeHash		middle;

	if (rows->calls++ < rows->next_look)
		return end;
	rows->next_look = rows->calls + rows->table->members / 16 + 8;
	if (MemoryContextMemAllocated(rows->context, true) <= rows->limit)
		return end;
	middle = middle_hash(rows);
	if (middle == IE_HASH_END)
		return end;
	keep_below(rows, middle);
	return middle;
}

/* A hash value with half of the keys below it, but at least one. */
static IeHash
middle_hash(const IeFoldedRows *rows)
{
	uint32		count = 0;
	uint32	   *hashes = MemoryContextAllocHuge(CurrentMemoryContext,
												((Size) rows->table->members + 1) * sizeof(uint32));
	IeHash		middle = IE_HASH_END;
	entries_iterator place;
	RowEntry   *entry;
	uint32		i;

	entries_start_iterate(rows->table, &place);
	while ((entry = entries_iterate(rows->table, &place)) != NULL)
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

/* Give up all rows but those below a hash value; the others move together. */
static void
keep_below(IeFoldedRows *rows, IeHash end)
{
	IeReducer  *reducer = rows->projection->reducer;
	MemoryContext old = rows->context;
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext,
												  "immutable_events row",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(scratch);
	entries_hash  *table = rows->table;
	entries_iterator place;
	RowEntry   *entry;

	make_table(rows);
	entries_start_iterate(table, &place);
	while ((entry = entries_iterate(table, &place)) != NULL)
	{
		IeFoldedRow *row = entry->row;
		IeFoldedRow *copy;

		CHECK_FOR_INTERRUPTS();
		if (entry->hash >= end)
			continue;
		copy = add_row(rows, row->key, entry->hash);
		copy->position = row->position;
		keep_initial(rows, copy, row->initial);
		ie_state_init(reducer, &copy->state, ie_state_copy(reducer, &row->state),
					  row->state.isnull, rows->context);
		/* a strict reducer's state may be NULL and yet have begun */
		copy->state.started = row->state.started;
		MemoryContextReset(scratch);
	}
	ie_state_gone(reducer, NULL);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(scratch);
	MemoryContextDelete(old);
}

/* Go through the rows from the first on; none may come to them then. */
void
ie_folded_rewind(IeFoldedRows *rows)
{
	entries_start_iterate(rows->table, &rows->place);
}

/* The next row, or NULL. */
IeFoldedRow *
ie_folded_next(IeFoldedRows *rows)
{
	RowEntry   *entry = entries_iterate(rows->table, &rows->place);

	return entry == NULL ? NULL : entry->row;
}
