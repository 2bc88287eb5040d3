/*
 * read_model.c: rows of a read model, by key.
 *
 * Whole batches go through one query: keys as arrays, one for each column of
 * the primary key; rows as an array of the table's row type.
 */
#include "projection.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/regproc.h"

static IeProjecting projecting;	/* the read model being written to */

static Datum *key_arrays(const IeProjection *projection,
						 IeKeyGroup **groups, int count);
static Datum row_array(const IeProjection *projection, IeKeyGroup **groups,
					   int count);
static void execute(const IeProjection *projection, SPIPlanPtr plan,
					Datum *values, bool writes);
static int	trigger_depth(void);

/*
 * Load the rows of groups, which are in order of their keys; with lock, they
 * are locked in that order.
 */
void
ie_load_rows(IeProjection *projection, IeKeyGroup *groups, int count,
			 bool lock)
{
	MemoryContext caller = CurrentMemoryContext;
	IeKeyGroup **all = palloc(count * sizeof(IeKeyGroup *));
	uint64		r;
	int			i;

	for (i = 0; i < count; i++)
	{
		all[i] = &groups[i];
		groups[i].row = NULL;
	}
	SPI_connect();
	execute(projection, lock ? projection->lock : projection->load,
			key_arrays(projection, all, count), lock);
	for (r = 0; r < SPI_processed; r++)
	{
		bool		isnull;
		int64		n = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[r],
													SPI_tuptable->tupdesc, 1,
													&isnull));
		Datum		row = SPI_getbinval(SPI_tuptable->vals[r],
										SPI_tuptable->tupdesc, 2, &isnull);
		MemoryContext spi = MemoryContextSwitchTo(caller);

		groups[n - 1].row = DatumGetHeapTupleHeaderCopy(row);
		MemoryContextSwitchTo(spi);
	}
	SPI_finish();
}

/*
 * Insert the results of groups whose keys had no row. Those that have one by
 * now are locked, and marked by a result of NULL.
 */
void
ie_add_rows(IeProjection *projection, IeKeyGroup *groups, int count)
{
	IeKeyGroup **all = palloc(count * sizeof(IeKeyGroup *));
	bool	   *added = palloc0(count * sizeof(bool));
	Datum	   *key = palloc(projection->nkeys * sizeof(Datum));
	Datum		rows;
	uint64		r;
	int			given = 0;
	int			i;

	for (i = 0; i < count; i++)
		if (groups[i].result != NULL)
			all[given++] = &groups[i];
	if (given == 0)
		return;
	SPI_connect();
	rows = row_array(projection, all, given);
	execute(projection, projection->add, &rows, true);
	for (r = 0, i = 0; r < SPI_processed; r++)
	{
		int			k;
		bool		isnull;

		for (k = 0; k < projection->nkeys; k++)
			key[k] = SPI_getbinval(SPI_tuptable->vals[r], SPI_tuptable->tupdesc,
								   k + 1, &isnull);
		while (i < given && ie_compare_keys(projection, all[i]->key, key) != 0)
			i++;
		if (i < given)
			added[i++] = true;
	}
	SPI_finish();
	for (i = 0; i < given; i++)
		if (!added[i])
			all[i]->result = NULL;
}

/* Write the results of groups: rows that changed, and those that are gone. */
void
ie_write_rows(IeProjection *projection, IeKeyGroup *groups, int count)
{
	IeKeyGroup **changed = palloc(count * sizeof(IeKeyGroup *));
	IeKeyGroup **gone = palloc(count * sizeof(IeKeyGroup *));
	int			nchanged = 0;
	int			ngone = 0;
	int			i;

	for (i = 0; i < count; i++)
	{
		IeKeyGroup *group = &groups[i];

		if (group->result != NULL && group->result != group->row)
			changed[nchanged++] = group;
		else if (group->result == NULL && group->row != NULL)
			gone[ngone++] = group;
	}
	SPI_connect();
	if (nchanged > 0)
	{
		Datum		rows = row_array(projection, changed, nchanged);

		execute(projection, projection->write, &rows, true);
		if (SPI_processed != (uint64) nchanged)
			ie_refuse_meddling(projection);
	}
	if (ngone > 0)
	{
		execute(projection, projection->remove,
				key_arrays(projection, gone, ngone), true);
		if (SPI_processed != (uint64) ngone)
			ie_refuse_meddling(projection);
	}
	SPI_finish();
}

/* The keys of groups as arrays, one for each column. */
static Datum *
key_arrays(const IeProjection *projection, IeKeyGroup **groups, int count)
{
	Datum	   *arrays = palloc(projection->nkeys * sizeof(Datum));
	Datum	   *elements = palloc(count * sizeof(Datum));
	int			i;
	int			k;

	for (k = 0; k < projection->nkeys; k++)
	{
		const IeKeyColumn *key = &projection->keys[k];

		for (i = 0; i < count; i++)
			elements[i] = groups[i]->key[k];
		arrays[k] = PointerGetDatum(construct_array(elements, count, key->type,
													key->len, key->byval,
													key->align));
	}
	return arrays;
}

/* The results of groups as an array of rows. */
static Datum
row_array(const IeProjection *projection, IeKeyGroup **groups, int count)
{
	Datum	   *elements = palloc(count * sizeof(Datum));
	int			i;

	for (i = 0; i < count; i++)
		elements[i] = HeapTupleHeaderGetDatum(groups[i]->result);
	return PointerGetDatum(construct_array(elements, count,
										   projection->columns->tdtypeid, -1,
										   false, TYPALIGN_DOUBLE));
}

/* Run one of the queries; what it writes is the projector's. */
static void
execute(const IeProjection *projection, SPIPlanPtr plan, Datum *values,
		bool writes)
{
	IeProjecting before = projecting;
	int			result;

	if (writes)
		(void) ie_begin_projecting(projection->target);
	PG_TRY();
	{
		result = SPI_execute_plan(plan, values, NULL, false, 0);
	}
	PG_FINALLY();
	{
		projecting = before;
	}
	PG_END_TRY();
	if (result < 0)
		elog(ERROR, "SPI_execute_plan failed: %s",
			 SPI_result_code_string(SPI_result));
}

/* From here on the projector writes to a read model; answers what was before. */
IeProjecting
ie_begin_projecting(Oid target)
{
	IeProjecting before = projecting;

	projecting = (IeProjecting) {target, trigger_depth()};
	return before;
}

/* It goes on as before. */
void
ie_end_projecting(IeProjecting before)
{
	projecting = before;
}

/*
 * Asked by a trigger on a read model: does the projector write to it, and not
 * some other trigger that the projector's query fires?
 */
bool
ie_is_projecting(Oid target)
{
	return projecting.target == target && trigger_depth() == projecting.depth + 1;
}

/* How many triggers deep are we? */
static int
trigger_depth(void)
{
	LOCAL_FCINFO(fcinfo, 0);

	InitFunctionCallInfoData(*fcinfo, NULL, 0, InvalidOid, NULL, NULL);
	return DatumGetInt32(pg_trigger_depth(fcinfo));
}
