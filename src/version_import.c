/*
 * version_import.c: history that was kept before versioning, taken over.
 *
 * A query gives versions with the times when they began, and perhaps when they
 * ended. They go in by key and time; where a version ends and none begins, a
 * tombstone follows. Imports come before all other versions of their keys.
 */
#include "guard.h"
#include "version.h"

#include "access/relation.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/executor.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#define ROWS_AT_ONCE	1000

typedef struct Import
{
	Relation	rel;
	Relation	versions;
	IeVersionFacts *facts;
	IeVersionWriter *writer;
	AttrNumber *source;			/* of each column of the table, the query's */
	AttrNumber	start;			/* the query's columns, or 0 */
	AttrNumber	end;
	AttrNumber	user;
	AttrNumber	context;
	TupleTableSlot *row;
	TupleTableSlot *before;		/* the version before, empty at first */
	TimestampTz before_end;		/* when it ends */
	TimestampTz earliest;
	MemoryContext row_context;
	int64		count;
} Import;

static void check_query(Import *import, const char *query);
static void point_into_query(void *query);
static Portal open_query(Import *import, const char *query);
static char *ordered(Import *import, const char *query);
static void match_columns(Import *import, TupleDesc columns);
static void match_one(Import *import, Form_pg_attribute column);
static AttrNumber special(Form_pg_attribute column, Oid type);
static void import_row(Import *import, HeapTuple tuple, TupleDesc columns);
static void end_before(Import *import, bool same_key, TimestampTz start);
static bool same_key(Import *import);
static TimestampTz time_of(HeapTuple tuple, AttrNumber column, TupleDesc columns,
						   TimestampTz otherwise);
static void set_author(Import *import, HeapTuple tuple, TupleDesc columns);
static void keep_row(Import *import);
static void record_import(Import *import);
pg_noreturn static void refuse(Import *import, const char *detail);

PG_FUNCTION_INFO_V1(ie_import_versions);

/* Take over versions from a query; answers how many were written. */
Datum
ie_import_versions(PG_FUNCTION_ARGS)
{
	Import		import = {0};
	Portal		portal;
	uint64		i;

	ie_require_arg(fcinfo, 0, "target");
	ie_require_arg(fcinfo, 1, "query");
	PreventCommandDuringRecovery("immutable.import_versions()");
	PreventCommandIfReadOnly("immutable.import_versions()");
	/* a writer must not record a row before its past */
	import.rel = ie_open_own_relation(PG_GETARG_OID(0), ShareRowExclusiveLock);
	import.versions = ie_open_versions(import.rel, &import.facts);
	if (import.facts->registered.complete)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot import versions of table \"%s\"",
						RelationGetRelationName(import.rel)),
				 errdetail("The first versions of its rows have been recorded."),
				 errhint("Add versioning with backfill => 'lazy', import, and then CALL immutable.backfill_versions.")));
	ie_record_change(import.versions, "import");
	import.facts->uses++;
	import.writer = ie_version_writer(import.versions, import.facts);
	import.row = MakeSingleTupleTableSlot(RelationGetDescr(import.rel), &TTSOpsVirtual);
	import.before = MakeSingleTupleTableSlot(RelationGetDescr(import.rel), &TTSOpsHeapTuple);
	import.earliest = import.facts->registered.known;
	import.row_context = AllocSetContextCreate(CurrentMemoryContext, "import", ALLOCSET_DEFAULT_SIZES);

	SPI_connect();
	portal = open_query(&import, text_to_cstring(PG_GETARG_TEXT_PP(1)));
	for (;;)
	{
		SPI_cursor_fetch(portal, true, ROWS_AT_ONCE);
		if (SPI_processed == 0)
			break;
		for (i = 0; i < SPI_processed; i++)
		{
			CHECK_FOR_INTERRUPTS();
			import_row(&import, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
		}
		SPI_freetuptable(SPI_tuptable);
	}
	end_before(&import, false, 0);
	SPI_cursor_close(portal);
	SPI_finish();
	ie_version_author(import.writer, (IeAuthor) {0});
	ie_version_writer_done(import.writer);
	record_import(&import);
	ExecDropSingleTupleTableSlot(import.row);
	ExecDropSingleTupleTableSlot(import.before);
	relation_close(import.versions, NoLock);
	relation_close(import.rel, NoLock);
	PG_RETURN_INT64(import.count);
}

/* Refuse what is not one query by itself: it is put between parentheses. */
static void
check_query(Import *import, const char *query)
{
	ErrorContextCallback callback = {.previous = error_context_stack,
		.callback = point_into_query,
	.arg = unconstify(char *, query)};
	List	   *parsed;

	error_context_stack = &callback;
	parsed = raw_parser(query, RAW_PARSE_DEFAULT);
	error_context_stack = callback.previous;
	if (list_length(parsed) != 1 ||
		!IsA(linitial_node(RawStmt, parsed)->stmt, SelectStmt))
		refuse(import, "The query must be one SELECT, VALUES or TABLE.");
}

/* An error is in the given query, not in the caller's. */
static void
point_into_query(void *query)
{
	internalerrposition(geterrposition());
	internalerrquery(query);
	errposition(0);
}

/* Open a cursor for the query, in order of key and time. */
static Portal
open_query(Import *import, const char *query)
{
	SPIPlanPtr	plan;
	Portal		portal;

	check_query(import, query);
	plan = SPI_prepare(psprintf("SELECT * FROM (%s\n) q LIMIT 0", query), 0, NULL);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	portal = SPI_cursor_open(NULL, plan, NULL, NULL, true);
	match_columns(import, portal->tupDesc);
	SPI_cursor_close(portal);
	plan = SPI_prepare(ordered(import, query), 0, NULL);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	return SPI_cursor_open(NULL, plan, NULL, NULL, true);
}

/* The query with an order: by key and time. */
static char *
ordered(Import *import, const char *query)
{
	StringInfoData text;
	int			i;

	initStringInfo(&text);
	appendStringInfo(&text, "SELECT * FROM (%s\n) q ORDER BY ", query);
	for (i = 0; i < import->facts->nkeys; i++)
		appendStringInfo(&text, "%d, ", import->source[import->facts->key[i] - 1]);
	appendStringInfo(&text, "%d", import->start);
	return text.data;
}

/* Match the query's columns with the table's, by name. */
static void
match_columns(Import *import, TupleDesc columns)
{
	int			i;

	import->source = palloc0(sizeof(AttrNumber) * RelationGetDescr(import->rel)->natts);
	for (i = 0; i < columns->natts; i++)
		match_one(import, TupleDescAttr(columns, i));
	if (import->start == 0)
		refuse(import, "The query has no column \"row_start\".");
	for (i = 0; i < import->facts->nkeys; i++)
		if (import->source[import->facts->key[i] - 1] == 0)
			refuse(import, "The query lacks a column of the primary key.");
	/* what history does not know is NULL, if its type allows that */
	for (i = 0; i < RelationGetDescr(import->rel)->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(RelationGetDescr(import->rel), i);

		if (!column->attisdropped && import->source[i] == 0 &&
			get_typtype(column->atttypid) == TYPTYPE_DOMAIN)
			domain_check((Datum) 0, true, column->atttypid, NULL, NULL);
	}
}

/* One column: of the table, or one that says when, who and why. */
static void
match_one(Import *import, Form_pg_attribute column)
{
	const char *name = NameStr(column->attname);
	AttrNumber	attnum;

	if (strcmp(name, "row_start") == 0)
		import->start = special(column, TIMESTAMPTZOID);
	else if (strcmp(name, "row_end") == 0)
		import->end = special(column, TIMESTAMPTZOID);
	else if (strcmp(name, "row_user") == 0)
		import->user = special(column, NAMEOID);
	else if (strcmp(name, "row_context") == 0)
		import->context = special(column, JSONBOID);
	else
	{
		attnum = get_attnum(RelationGetRelid(import->rel), name);
		if (attnum <= 0)
			refuse(import, psprintf("The table has no column \"%s\".", name));
		import->source[attnum - 1] =
			special(column, TupleDescAttr(RelationGetDescr(import->rel), attnum - 1)->atttypid);
	}
}

/* A column that must have a type. */
static AttrNumber
special(Form_pg_attribute column, Oid type)
{
	if (column->atttypid != type)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of the query must be of type %s, not %s",
						NameStr(column->attname), format_type_be(type),
						format_type_be(column->atttypid)),
				 errhint("Cast it in the query.")));
	return column->attnum;
}

/* Write one version, and before it the end of the one before. */
static void
import_row(Import *import, HeapTuple tuple, TupleDesc columns)
{
	MemoryContext caller = MemoryContextSwitchTo(import->row_context);
	TimestampTz start = time_of(tuple, import->start, columns, DT_NOBEGIN);
	TimestampTz end = time_of(tuple, import->end, columns, DT_NOEND);
	IeNewest	newest;
	bool		same;
	int			i;

	if (TIMESTAMP_NOT_FINITE(start) || start >= import->facts->registered.began)
		refuse(import, "A version must begin before versioning began, and at a finite time.");
	if (start >= end)
		refuse(import, "A version must end after it began.");
	ExecClearTuple(import->row);
	for (i = 0; i < RelationGetDescr(import->rel)->natts; i++)
	{
		import->row->tts_isnull[i] = true;
		if (import->source[i] != 0)
			import->row->tts_values[i] = heap_getattr(tuple, import->source[i], columns,
													  &import->row->tts_isnull[i]);
	}
	ExecStoreVirtualTuple(import->row);
	for (i = 0; i < import->facts->nkeys; i++)
		if (import->row->tts_isnull[import->facts->key[i] - 1])
			refuse(import, "A row has NULL in its key.");
	same = same_key(import);
	end_before(import, same, start);
	set_author(import, tuple, columns);
	newest = ie_newest_version(import->writer, import->versions, import->row, NULL);
	if (!same && newest.version > 0)
		refuse(import, "A key has versions already.");
	ie_write_version(import->writer, import->versions, &newest,
					 newest.version == 0 || newest.deleted ? IE_INSERTED : IE_UPDATED,
					 start, import->row);
	import->count++;
	import->earliest = Min(import->earliest, start);
	import->before_end = end;
	keep_row(import);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(import->row_context);
}

/* A time of a row, or another where there is none. */
static TimestampTz
time_of(HeapTuple tuple, AttrNumber column, TupleDesc columns, TimestampTz otherwise)
{
	bool		isnull = true;
	Datum		value = 0;

	if (column != 0)
		value = heap_getattr(tuple, column, columns, &isnull);
	return isnull ? otherwise : DatumGetTimestampTz(value);
}

/* Has the row the key of the one before? */
static bool
same_key(Import *import)
{
	int			i;

	if (TTS_EMPTY(import->before))
		return false;
	for (i = 0; i < import->facts->nkeys; i++)
	{
		ScanKey		key = &import->facts->scan_keys[i];
		AttrNumber	attnum = import->facts->key[i];
		bool		isnull;

		if (!DatumGetBool(FunctionCall2Coll(&key->sk_func, key->sk_collation,
											slot_getattr(import->before, attnum, &isnull),
											slot_getattr(import->row, attnum, &isnull))))
			return false;
	}
	return true;
}

/* Write a tombstone where the version before ends and none begins. */
static void
end_before(Import *import, bool same, TimestampTz start)
{
	IeNewest	newest;

	if (TTS_EMPTY(import->before))
		return;
	if (same && import->before_end > start && import->before_end != DT_NOEND)
		refuse(import, "Two versions of a key overlap.");
	if (import->before_end == DT_NOEND || (same && import->before_end == start))
		return;
	if (import->before_end >= import->facts->registered.began)
		refuse(import, "A version must end before versioning began.");
	newest = ie_newest_version(import->writer, import->versions, import->before, NULL);
	ie_write_version(import->writer, import->versions, &newest, IE_DELETED,
					 import->before_end, import->before);
	import->count++;
}

/* Who made the version, and why, as far as the query says. */
static void
set_author(Import *import, HeapTuple tuple, TupleDesc columns)
{
	IeAuthor	author = {.given = true};
	bool		isnull = true;
	Datum		value = 0;

	if (import->user != 0)
		value = heap_getattr(tuple, import->user, columns, &isnull);
	author.user = isnull ? NULL : DatumGetName(value);
	isnull = true;
	if (import->context != 0)
		value = heap_getattr(tuple, import->context, columns, &isnull);
	author.context = isnull ? NULL : DatumGetJsonbP(value);
	ie_version_author(import->writer, author);
}

/* Keep a row for when the next one comes. */
static void
keep_row(Import *import)
{
	MemoryContext caller = MemoryContextSwitchTo(import->before->tts_mcxt);
	HeapTuple	copy = ExecCopySlotHeapTuple(import->row);

	ExecForceStoreHeapTuple(copy, import->before, true);
	MemoryContextSwitchTo(caller);
}

/* History is known from the earliest imported version on. */
static void
record_import(Import *import)
{
	Oid			types[] = {REGCLASSOID, TIMESTAMPTZOID};
	Datum		values[] = {ObjectIdGetDatum(RelationGetRelid(import->rel)),
	TimestampTzGetDatum(import->earliest)};

	ie_registry_query("UPDATE immutable." IE_VERSION_REGISTRY " SET known_since = $2"
					  " WHERE relation OPERATOR(pg_catalog.=) $1::pg_catalog.oid",
					  2, types, values, NULL, NULL, NULL);
}

/* Raise the error for a query that gives no history. */
static void
refuse(Import *import, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("cannot import versions of table \"%s\"",
					RelationGetRelationName(import->rel)),
			 errdetail_internal("%s", detail),
			 errhint("The query gives columns of the table by name, row_start, and if it has them row_end, row_user and row_context."),
			 errtable(import->rel)));
}
