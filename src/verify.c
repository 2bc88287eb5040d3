/*
 * verify.c: immutable.verify_projection, a read model against its events.
 *
 * The events that the read model should hold are folded anew, as many keys at
 * a time as memory has room for, and compared with the read model under the
 * same snapshot. It is read once: rows whose keys do not have their turn in
 * the first pass are sorted as the events are.
 */
#include "rebuild.h"

#include "access/relation.h"
#include "access/genam.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#define ROWS	1000			/* fetched at a time */

typedef struct Verification
{
	IeProjection *projection;
	Snapshot	snapshot;
	IeBulkFold *fold;
	IeHash		from;			/* the keys of this pass, by hash value */
	IeHash		end;			/* exclusive */
	IeHashSort *sort;			/* of the rows for later passes, or NULL */
	bool		ahead;			/* it stands on one */
	bool	   *inconstant;		/* by column: its default is not IMMUTABLE */
	TupleDesc	key_columns;	/* the key as a row, */
	FmgrInfo	to_jsonb;		/* and as jsonb */
	ReturnSetInfo *result;
} Verification;

static int64 position_then(const Verification *verification);
static Datum registered(const char *table, const char *index,
						const char *column, Oid target, Snapshot snapshot,
						bool *isnull);
static bool find_inconstant(Verification *verification);
static void prepare_key(Verification *verification);
static void compare_pass(Verification *verification, bool first);
static void begin_sort(Verification *verification);
static void read_rows(Verification *verification);
static void take_row(Verification *verification, HeapTupleHeader row);
static Datum *key_of(const Verification *verification, HeapTupleHeader row);
static void compare_sorted(Verification *verification);
static void compare(Verification *verification, HeapTupleHeader row,
					Datum *key, uint32 hash);
static char *differing_columns(const Verification *verification,
							   HeapTupleHeader row, const IeKeyState *folded);
static bool differs(const Verification *verification, int i, Datum stored,
					bool stored_null, Datum value, bool isnull,
					const IeKeyState *folded);
static void report_missing(Verification *verification);
static void report(Verification *verification, Datum *key,
				   const char *problem);

PG_FUNCTION_INFO_V1(ie_verify_projection);

/* Return the rows of a read model that are not what the events say. */
Datum
ie_verify_projection(PG_FUNCTION_ARGS)
{
	Verification verification = {.result = (ReturnSetInfo *) fcinfo->resultinfo};
	IeProjection *projection;
	bool		inconstant;
	bool		first = true;

	ie_require_arg(fcinfo, 0, "target");
	InitMaterializedSRF(fcinfo, 0);
	ie_check_projection_right(ie_known_projection(PG_GETARG_OID(0)));
	projection = ie_projection_onto(PG_GETARG_OID(0), PG_GETARG_OID(0), InvalidOid);
	verification.projection = projection;
	verification.snapshot = RegisterSnapshot(GetActiveSnapshot());
	inconstant = find_inconstant(&verification);
	prepare_key(&verification);
	verification.fold = ie_bulk_fold_begin(projection, verification.snapshot,
										   position_then(&verification), inconstant,
										   NULL, 0);
	for (; ie_bulk_fold_pass(verification.fold); first = false)
	{
		compare_pass(&verification, first);
		report_missing(&verification);
	}
	if (verification.sort != NULL)
		ie_hash_sort_end(verification.sort);
	ie_bulk_fold_end(verification.fold);
	UnregisterSnapshot(verification.snapshot);
	ie_projection_free(projection);
	return (Datum) 0;
}

/*
 * How far the read model should have come, as the snapshot shows it: an inline
 * one to whatever else the snapshot shows.
 */
static int64
position_then(const Verification *verification)
{
	Oid			target = verification->projection->target;
	bool		isnull;
	Datum		mode = registered("projections", "projections_pkey", "mode",
								  target, verification->snapshot, &isnull);
	Datum		position;

	if (isnull)
		return 0;
	if (strcmp(TextDatumGetCString(mode), "inline") == 0)
		return PG_INT64_MAX;
	position = registered("projection_positions", "projection_positions_pkey",
						  "position", target, verification->snapshot, &isnull);
	return isnull ? 0 : DatumGetInt64(position);
}

/* A column that a registry has for a read model, as a snapshot shows it. */
static Datum
registered(const char *table, const char *index, const char *column,
		   Oid target, Snapshot snapshot, bool *isnull)
{
	Oid			schema = get_namespace_oid(IE_SCHEMA, false);
	Relation	rel = table_open(get_relname_relid(table, schema), AccessShareLock);
	AttrNumber	wanted = get_attnum(RelationGetRelid(rel), column);
	Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(rel), wanted - 1);
	Datum		value = (Datum) 0;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	row;

	ScanKeyInit(&key, get_attnum(RelationGetRelid(rel), "target"),
				BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(target));
	scan = systable_beginscan(rel, get_relname_relid(index, schema), true,
							  snapshot, 1, &key);
	row = systable_getnext(scan);
	*isnull = true;
	if (HeapTupleIsValid(row))
		value = heap_getattr(row, wanted, RelationGetDescr(rel), isnull);
	if (!*isnull)
		value = datumCopy(value, attribute->attbyval, attribute->attlen);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return value;
}

/* Which columns have a default that another fold need not give again? */
static bool
find_inconstant(Verification *verification)
{
	IeProjection *projection = verification->projection;
	Relation	rel = ie_open_relation(projection->target, AccessShareLock);
	bool		found = false;
	int			i;

	verification->inconstant = palloc0(projection->columns->natts * sizeof(bool));
	for (i = 0; i < projection->columns->natts; i++)
		if (projection->defaults[i] != NULL)
		{
			verification->inconstant[i] =
				contain_mutable_functions(build_column_default(rel, i + 1));
			found |= verification->inconstant[i];
		}
	relation_close(rel, NoLock);
	return found;
}

/* Get ready to show keys as jsonb. */
static void
prepare_key(Verification *verification)
{
	IeProjection *projection = verification->projection;
	int			i;

	verification->key_columns = CreateTemplateTupleDesc(projection->nkeys);
	for (i = 0; i < projection->nkeys; i++)
		TupleDescCopyEntry(verification->key_columns, i + 1, projection->columns,
						   projection->keys[i].attnum);
	BlessTupleDesc(verification->key_columns);
	fmgr_info(F_TO_JSONB, &verification->to_jsonb);
	fmgr_info_set_expr((Node *) makeFuncExpr(F_TO_JSONB, JSONBOID,
											 list_make1(makeNullConst(RECORDOID, -1, InvalidOid)),
											 InvalidOid, InvalidOid,
											 COERCE_EXPLICIT_CALL),
					   &verification->to_jsonb);
}

/* Compare the rows of the read model whose keys have their turn. */
static void
compare_pass(Verification *verification, bool first)
{
	ie_bulk_fold_range(verification->fold, &verification->from, &verification->end);
	if (first)
	{
		if (verification->end < IE_HASH_END)
			begin_sort(verification);
		read_rows(verification);
	}
	else
		compare_sorted(verification);
}

/* There will be a sort, of whole rows. */
static void
begin_sort(Verification *verification)
{
	TupleDesc	columns = CreateTemplateTupleDesc(1);

	TupleDescInitEntry(columns, 1, "row", verification->projection->columns->tdtypeid, -1, 0);
	verification->sort = ie_hash_sort_begin(columns,
											ie_bulk_fold_limit(verification->fold) / 2);
}

/* Read all rows; compare those whose turn it is, and sort the others. */
static void
read_rows(Verification *verification)
{
	IeProjection *projection = verification->projection;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "immutable_events rows compared",
												  ALLOCSET_DEFAULT_SIZES);
	Relation	rel = ie_open_relation(projection->target, AccessShareLock);
	IeCaller	caller;
	SPIPlanPtr	plan;
	Portal		portal;
	uint64		r;

	ie_projection_enter(projection, &caller);
	PushActiveSnapshot(verification->snapshot);
	SPI_connect();
	plan = SPI_prepare(psprintf("SELECT t FROM %s t", ie_qualified_name(rel)), 0, NULL);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	portal = SPI_cursor_open(NULL, plan, NULL, NULL, true);
	PopActiveSnapshot();
	do
	{
		MemoryContext spi = MemoryContextSwitchTo(context);

		CHECK_FOR_INTERRUPTS();
		SPI_cursor_fetch(portal, true, ROWS);
		for (r = 0; r < SPI_processed; r++)
		{
			bool		isnull;

			take_row(verification,
					 DatumGetHeapTupleHeader(SPI_getbinval(SPI_tuptable->vals[r],
														   SPI_tuptable->tupdesc,
														   1, &isnull)));
		}
		MemoryContextSwitchTo(spi);
		MemoryContextReset(context);
		SPI_freetuptable(SPI_tuptable);
	} while (SPI_processed > 0);
	SPI_cursor_close(portal);
	SPI_finish();
	ie_projection_leave(&caller);
	relation_close(rel, NoLock);
	MemoryContextDelete(context);
	if (verification->sort == NULL)
		return;
	ie_hash_sort_run(verification->sort);
	verification->ahead = ie_hash_sort_next(verification->sort);
}

/* Compare a row, or keep it until its turn comes. */
static void
take_row(Verification *verification, HeapTupleHeader row)
{
	Datum	   *key = key_of(verification, row);
	uint32		hash = ie_bulk_fold_hash(verification->fold, key);

	if (hash < verification->end)
		compare(verification, row, key, hash);
	else
	{
		verification->sort->values[0] = HeapTupleHeaderGetDatum(row);
		verification->sort->nulls[0] = false;
		ie_hash_sort_put(verification->sort, hash, 0);
	}
}

/* The key of a row. */
static Datum *
key_of(const Verification *verification, HeapTupleHeader row)
{
	IeProjection *projection = verification->projection;
	Datum	   *key = palloc(projection->nkeys * sizeof(Datum));
	bool		isnull;
	int			k;

	for (k = 0; k < projection->nkeys; k++)
		key[k] = GetAttributeByNum(row, projection->keys[k].attnum, &isnull);
	return key;
}

/* Compare the sorted rows whose turn it is. */
static void
compare_sorted(Verification *verification)
{
	IeHashSort *sort = verification->sort;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "immutable_events rows compared",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);

	while (verification->ahead && sort->hash < verification->end)
	{
		HeapTupleHeader row = DatumGetHeapTupleHeader(sort->values[0]);

		CHECK_FOR_INTERRUPTS();
		compare(verification, row, key_of(verification, row), (uint32) sort->hash);
		verification->ahead = ie_hash_sort_next(sort);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}

/* Compare one row with what was folded. */
static void
compare(Verification *verification, HeapTupleHeader row, Datum *key,
		uint32 hash)
{
	IeKeyState *folded = ie_bulk_fold_find(verification->fold, key, hash);
	char	   *names;

	if (folded == NULL || folded->state.isnull)
	{
		report(verification, key, "row should not be there");
		return;
	}
	folded->seen = true;
	names = differing_columns(verification, row, folded);
	if (names != NULL)
		report(verification, key, names);
}

/* Say which columns of a row differ; NULL when none does. */
static char *
differing_columns(const Verification *verification, HeapTupleHeader row,
				  const IeKeyState *folded)
{
	TupleDesc	columns = verification->projection->columns;
	HeapTupleHeader result = ie_folded_row(verification->fold, folded);
	StringInfoData names;
	int			count = 0;
	int			i;

	initStringInfo(&names);
	for (i = 0; i < columns->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(columns, i);
		bool		stored_null;
		bool		isnull;
		Datum		stored;
		Datum		value;

		if (column->attisdropped || column->attgenerated != '\0')
			continue;
		stored = GetAttributeByNum(row, i + 1, &stored_null);
		value = GetAttributeByNum(result, i + 1, &isnull);
		if (differs(verification, i, stored, stored_null, value, isnull, folded))
			appendStringInfo(&names, "%s%s", count++ > 0 ? ", " : "",
							 quote_identifier(NameStr(column->attname)));
	}
	if (count == 0)
		return NULL;
	return psprintf(count == 1 ? "column %s differs" : "columns %s differ", names.data);
}

/*
 * Does a column differ? Where the reducer has left it as the row began, and
 * its default need not be the same again, nobody can tell.
 */
static bool
differs(const Verification *verification, int i, Datum stored,
		bool stored_null, Datum value, bool isnull, const IeKeyState *folded)
{
	Form_pg_attribute column = TupleDescAttr(verification->projection->columns, i);
	bool		initial_null;
	Datum		initial;

	if (stored_null == isnull &&
		(isnull || datum_image_eq(stored, value, column->attbyval, column->attlen)))
		return false;
	if (!verification->inconstant[i] || isnull)
		return true;
	initial = GetAttributeByNum(folded->initial, i + 1, &initial_null);
	return initial_null ||
		!datum_image_eq(initial, value, column->attbyval, column->attlen);
}

/* Report the rows that were folded and not seen. */
static void
report_missing(Verification *verification)
{
	IeKeyState *row;

	while ((row = ie_bulk_fold_next(verification->fold)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (!row->seen && !row->state.isnull)
			report(verification, row->key, "row is missing");
	}
}

/* Add a row to the result. */
static void
report(Verification *verification, Datum *key, const char *problem)
{
	bool	   *no_nulls = palloc0(verification->projection->nkeys * sizeof(bool));
	HeapTuple	row = heap_form_tuple(verification->key_columns, key, no_nulls);
	bool		nulls[2] = {false, false};
	Datum		values[2];

	values[0] = FunctionCall1(&verification->to_jsonb, HeapTupleGetDatum(row));
	values[1] = CStringGetTextDatum(problem);
	tuplestore_putvalues(verification->result->setResult,
						 verification->result->setDesc, values, nulls);
}
