/*
 * hash_sort.c: rows by hash value of their key, and by order for each.
 *
 * PostgreSQL's own sort, within a limit of memory and on disk beyond it. Rows
 * of one key come out together, in order; so do those of keys that happen to
 * have the same hash value, which is why it is not enough to go by that.
 */
#include "states.h"

#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "utils/tuplesort.h"

#define OURS	2				/* columns before those of the caller */

/* Begin without any row, which will have these columns; in bytes of memory. */
IeHashSort *
ie_hash_sort_begin(TupleDesc payload, Size limit)
{
	IeHashSort *sort = palloc0(sizeof(IeHashSort));
	AttrNumber	by[OURS] = {1, 2};
	Oid			operators[OURS] = {Int8LessOperator, Int8LessOperator};
	Oid			collations[OURS] = {InvalidOid, InvalidOid};
	bool		nulls_first[OURS] = {false, false};
	int			i;

	sort->columns = CreateTemplateTupleDesc(OURS + payload->natts);
	TupleDescInitEntry(sort->columns, 1, "hash", INT8OID, -1, 0);
	TupleDescInitEntry(sort->columns, 2, "order", INT8OID, -1, 0);
	for (i = 1; i <= payload->natts; i++)
		TupleDescCopyEntry(sort->columns, OURS + i, payload, i);
	sort->sort = tuplesort_begin_heap(sort->columns, OURS, by, operators,
									  collations, nulls_first,
									  (int) Min(Max(limit / 1024, 64), MAX_KILOBYTES),
									  NULL, TUPLESORT_NONE);
	sort->in = MakeSingleTupleTableSlot(sort->columns, &TTSOpsVirtual);
	sort->out = MakeSingleTupleTableSlot(sort->columns, &TTSOpsMinimalTuple);
	sort->values = sort->in->tts_values + OURS;
	sort->nulls = sort->in->tts_isnull + OURS;
	return sort;
}

/* Put the row whose columns the caller has filled. */
void
ie_hash_sort_put(IeHashSort *sort, uint32 hash, int64 order)
{
	sort->in->tts_values[0] = Int64GetDatum((int64) hash);
	sort->in->tts_values[1] = Int64GetDatum(order);
	sort->in->tts_isnull[0] = sort->in->tts_isnull[1] = false;
	ExecStoreVirtualTuple(sort->in);
	tuplesort_puttupleslot(sort->sort, sort->in);
	ExecClearTuple(sort->in);
}

/* That was the last one. */
void
ie_hash_sort_run(IeHashSort *sort)
{
	tuplesort_performsort(sort->sort);
	sort->values = sort->out->tts_values + OURS;
	sort->nulls = sort->out->tts_isnull + OURS;
}

/* Get the next row, which is there until the one after it; or false. */
bool
ie_hash_sort_next(IeHashSort *sort)
{
	if (!tuplesort_gettupleslot(sort->sort, true, false, sort->out, NULL))
		return false;
	slot_getallattrs(sort->out);
	sort->hash = (IeHash) DatumGetInt64(sort->out->tts_values[0]);
	sort->order = DatumGetInt64(sort->out->tts_values[1]);
	return true;
}

/* Give everything back. */
void
ie_hash_sort_end(IeHashSort *sort)
{
	ExecDropSingleTupleTableSlot(sort->in);
	ExecDropSingleTupleTableSlot(sort->out);
	tuplesort_end(sort->sort);
	FreeTupleDesc(sort->columns);
	pfree(sort);
}
