/*
 * projected_row.c: the row that a reducer begins with, and the one it gives.
 */
#include "projection.h"

#include "funcapi.h"
#include "utils/datum.h"

static bool is_same_row(const IeProjection *projection, HeapTupleHeader a,
						HeapTupleHeader b);

/* A row of a key seen first: the key, and the columns' defaults. */
Datum
ie_initial_row(const IeProjection *projection, const Datum *key)
{
	int			natts = projection->columns->natts;
	Datum	   *values = palloc0(natts * sizeof(Datum));
	bool	   *nulls = palloc(natts * sizeof(bool));
	int			i;

	memset(nulls, true, natts);
	for (i = 0; i < natts; i++)
		if (projection->defaults[i] != NULL)
			values[i] = ExecEvalExpr(projection->defaults[i],
									 projection->econtext, &nulls[i]);
	for (i = 0; i < projection->nkeys; i++)
	{
		values[projection->keys[i].attnum - 1] = key[i];
		nulls[projection->keys[i].attnum - 1] = false;
	}
	return heap_copy_tuple_as_datum(heap_form_tuple(projection->columns, values, nulls),
									projection->columns);
}

/* The row as it will be; the row as it stands, if nothing has changed. */
HeapTupleHeader
ie_take_result(const IeProjection *projection, const IeKeyGroup *group,
			   Datum result)
{
	HeapTupleHeader row = DatumGetHeapTupleHeader(result);

	ie_check_result(projection, row, group->key);
	if (group->row != NULL && is_same_row(projection, row, group->row))
		return group->row;
	return row;
}

/* A reducer must leave the key as it is. */
void
ie_check_result(const IeProjection *projection, HeapTupleHeader row,
				const Datum *wanted)
{
	Datum	   *key = palloc(projection->nkeys * sizeof(Datum));
	bool		isnull = false;
	int			i;

	for (i = 0; i < projection->nkeys && !isnull; i++)
		key[i] = GetAttributeByNum(row, projection->keys[i].attnum, &isnull);
	if (isnull || ie_compare_keys(projection, key, wanted) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the reducer of projection \"%s\" has changed the key",
						projection->name),
				 errdetail("The key of a row is what the key expressions give for its events."),
				 errhint("Return the primary key columns of the state as they are.")));
}

/*
 * Are two rows of the same key the same, as far as can be told without looking
 * into values?
 */
static bool
is_same_row(const IeProjection *projection, HeapTupleHeader a,
			HeapTupleHeader b)
{
	int			i;

	for (i = 1; i <= projection->columns->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(projection->columns, i - 1);
		bool		anull;
		bool		bnull;
		Datum		x;
		Datum		y;

		if (column->attisdropped || column->attgenerated != '\0' ||
			ie_is_key_column(projection, i))
			continue;
		x = GetAttributeByNum(a, i, &anull);
		y = GetAttributeByNum(b, i, &bnull);
		if (anull != bnull ||
			(!anull && !datum_image_eq(x, y, column->attbyval, column->attlen)))
			return false;
	}
	return true;
}
