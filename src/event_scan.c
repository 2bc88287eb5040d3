/*
 * event_scan.c: the events of many streams, by position or by stream.
 *
 * Position is nearly the heap's own order, so a scan by position is the
 * cheapest that has an order. A scan by stream brings each stream's events
 * together, in order of version, whatever their positions say. Both read one
 * table, the log or a leaf of it. Where row security applies, a query gives
 * what its policies show, by stream.
 */
#include "replay_all.h"
#include "upcast.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "compat.h"
#include "executor/executor.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "partitioning/partdesc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/partcache.h"
#include "utils/rel.h"

static void check_partitioned(Relation log, Relation rel);
static IeEventScan *scan_streams(Oid relid, const IeEventFilter *filter,
								 Snapshot snapshot, bool index_only);
static IeEventScan *scan_query(Relation log, const IeEventFilter *filter,
							   Snapshot snapshot, const char *order);
static IeEventScan *make_scan(const IeEventFilter *filter, Snapshot snapshot);
static void begin_index_scan(IeEventScan *scan, Oid index, int nkeys,
							 ScanKey keys);
static bool take_event(IeEventScan *scan, TupleTableSlot *row);
static bool has_prefix(const text *value, const text *prefix);
static bool is_among(const text *type, const IeEventFilter *filter);

/* The tables that hold a log's events: the log itself, or its leaves. */
List *
ie_event_tables(Relation log)
{
	List	   *tables = NIL;
	List	   *family = list_make1_oid(RelationGetRelid(log));
	ListCell   *cell;

	if (log->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		family = find_all_inheritors(RelationGetRelid(log), AccessShareLock,
									 NULL);
	foreach(cell, family)
	{
		Relation	rel = table_open(lfirst_oid(cell), NoLock);

		if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
			check_partitioned(log, rel);
		else
		{
			(void) ie_version_index(log, rel);
			(void) ie_position_index(rel, false);
			tables = lappend_oid(tables, RelationGetRelid(rel));
		}
		table_close(rel, NoLock);
	}
	return tables;
}

/* Refuse partitions where one stream could be in several. */
static void
check_partitioned(Relation log, Relation rel)
{
	PartitionKey key = RelationGetPartitionKey(rel);

	if (key->strategy != PARTITION_STRATEGY_HASH || key->partnatts != 1 ||
		key->partattrs[0] != IE_STREAM ||
		RelationGetPartitionDesc(rel, true)->nparts == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("log \"%s\" cannot be read by stream",
						RelationGetRelationName(log)),
				 errdetail("A log is partitioned by hash of stream, with a partition for every remainder."),
				 errhint("Put back what immutable.create_log had made."),
				 errtable(log)));
}

/* Let events of these types pass, as they are handed out; NULL: all. */
void
ie_filter_types(IeEventFilter *filter, ArrayType *types)
{
	Datum	   *values;
	bool	   *nulls;
	int			count;
	int			i;

	filter->all_types = types == NULL;
	if (types == NULL)
		return;
	deconstruct_array(types, TEXTOID, -1, false, TYPALIGN_INT, &values,
					  &nulls, &count);
	filter->types = palloc(sizeof(text *) * Max(count, 1));
	for (i = 0; i < count; i++)
		if (!nulls[i])
			filter->types[filter->ntypes++] = DatumGetTextPCopy(values[i]);
}

/* The hash value of a stream's name. */
uint32
ie_hash_stream(const text *stream)
{
	return hash_bytes((const unsigned char *) VARDATA_ANY(stream),
					  VARSIZE_ANY_EXHDR(stream));
}

/* Begin to read the events of a table in order of position. */
IeEventScan *
ie_scan_by_position(Oid relid, const IeEventFilter *filter, Snapshot snapshot)
{
	IeEventScan *scan = make_scan(filter, snapshot);
	ScanKeyData key;

	scan->rel = ie_open_relation(relid, AccessShareLock);
	ScanKeyInit(&key, 1, BTLessEqualStrategyNumber, F_INT8LE,
				Int64GetDatum(filter->upto_position));
	scan->upcasts = ie_upcasts(ie_partition_root(scan->rel));
	begin_index_scan(scan, ie_position_index(scan->rel, false), 1, &key);
	return scan;
}

/* Begin to read them stream by stream, each in order of version. */
IeEventScan *
ie_scan_by_stream(Oid relid, const IeEventFilter *filter, Snapshot snapshot)
{
	return scan_streams(relid, filter, snapshot, false);
}

/*
 * Do at most so many events belong to streams with the filter's prefix? Only
 * the index is looked at.
 */
bool
ie_prefix_is_rare(Oid relid, const IeEventFilter *filter, Snapshot snapshot,
				  double most)
{
	IeEventScan *scan = scan_streams(relid, filter, snapshot, true);
	bool		found = true;
	bool		isnull;

	while (found && scan->rows_read <= most &&
		   index_getnext_tid(scan->scan, ForwardScanDirection) != NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(scan->context);
		Datum		stream = index_getattr(scan->scan->xs_itup, 1,
										   RelationGetDescr(scan->index),
										   &isnull);

		CHECK_FOR_INTERRUPTS();
		found = has_prefix(DatumGetTextPP(stream), filter->prefix);
		if (found)
			scan->rows_read++;
		MemoryContextSwitchTo(caller);
		MemoryContextReset(scan->context);
	}
	most -= scan->rows_read;
	ie_event_scan_end(scan);
	return most >= 0;
}

/* Begin to read what the caller may see of a whole log, stream by stream. */
IeEventScan *
ie_scan_visible(Relation log, const IeEventFilter *filter, Snapshot snapshot)
{
	return scan_query(log, filter, snapshot, "stream, version");
}

/* The same in order of position; from the index, where that shows all. */
IeEventScan *
ie_scan_in_order(Relation log, const IeEventFilter *filter, Snapshot snapshot)
{
	if (log->rd_rel->relkind == RELKIND_RELATION && !ie_row_security(log))
		return ie_scan_by_position(RelationGetRelid(log), filter, snapshot);
	return scan_query(log, filter, snapshot, "position");
}

/* Begin to read with a query. */
static IeEventScan *
scan_query(Relation log, const IeEventFilter *filter, Snapshot snapshot,
		   const char *order)
{
	IeEventScan *scan = make_scan(filter, snapshot);
	StringInfoData query;

	initStringInfo(&query);
	appendStringInfo(&query, "SELECT * FROM %s%s"
					 " WHERE position OPERATOR(pg_catalog.<=) " INT64_FORMAT,
					 log->rd_rel->relkind == RELKIND_RELATION ? "ONLY " : "",
					 ie_qualified_name(log), filter->upto_position);
	if (filter->prefix != NULL)
		appendStringInfo(&query, " AND pg_catalog.starts_with(stream, %s)",
						 quote_literal_cstr(text_to_cstring(filter->prefix)));
	appendStringInfo(&query, " ORDER BY %s", order);
	scan->upcasts = ie_upcasts(RelationGetRelid(log));
	scan->rows = ie_rows_begin(query.data, snapshot);
	return scan;
}

/* A scan that has not begun. */
static IeEventScan *
make_scan(const IeEventFilter *filter, Snapshot snapshot)
{
	IeEventScan *scan = palloc0(sizeof(IeEventScan));

	scan->filter = filter;
	scan->snapshot = snapshot;
	scan->context = AllocSetContextCreate(CurrentMemoryContext,
										  "immutable_events event",
										  ALLOCSET_SMALL_SIZES);
	return scan;
}

/* Begin to scan the index on (stream, version) where the prefix begins. */
static IeEventScan *
scan_streams(Oid relid, const IeEventFilter *filter, Snapshot snapshot,
			 bool index_only)
{
	IeEventScan *scan = make_scan(filter, snapshot);
	ScanKeyData key;

	scan->rel = ie_open_relation(relid, AccessShareLock);
	scan->by_stream = true;
	scan->index_only = index_only;
	if (!index_only)
		scan->upcasts = ie_upcasts(ie_partition_root(scan->rel));
	if (filter->prefix != NULL)
		ScanKeyEntryInitialize(&key, 0, 1, BTGreaterEqualStrategyNumber,
							   InvalidOid, C_COLLATION_OID, F_TEXT_GE,
							   PointerGetDatum(filter->prefix));
	begin_index_scan(scan, ie_version_index(scan->rel, scan->rel),
					 filter->prefix != NULL, &key);
	return scan;
}

/* Scan an index of the table. */
static void
begin_index_scan(IeEventScan *scan, Oid index, int nkeys, ScanKey keys)
{
	scan->index = index_open(index, AccessShareLock);
	scan->scan = ie_index_beginscan(scan->rel, scan->index, scan->snapshot,
									nkeys);
	scan->scan->xs_want_itup = scan->index_only;
	index_rescan(scan->scan, keys, nkeys, NULL, 0);
	scan->row = table_slot_create(scan->rel, NULL);
}

/* Go to the next event that the filter selects; false after the last. */
bool
ie_event_next(IeEventScan *scan)
{
	bool		found = false;

	while (!found)
	{
		TupleTableSlot *row = scan->row;
		MemoryContext caller;

		CHECK_FOR_INTERRUPTS();
		if (scan->rows != NULL)
			row = ie_rows_next(scan->rows);
		else if (scan->beyond || !index_getnext_slot(scan->scan, ForwardScanDirection, row))
			row = NULL;
		if (row == NULL)
			return false;
		scan->rows_read++;
		MemoryContextReset(scan->context);
		caller = MemoryContextSwitchTo(scan->context);
		found = take_event(scan, row);
		MemoryContextSwitchTo(caller);
	}
	return true;
}

/* Stand on the event in a row, if the filter selects it. */
static bool
take_event(IeEventScan *scan, TupleTableSlot *row)
{
	const IeEventFilter *filter = scan->filter;
	int64		position;
	bool		isnull;

	scan->stream = DatumGetTextPP(slot_getattr(row, IE_STREAM, &isnull));
	position = DatumGetInt64(slot_getattr(row, IE_POSITION, &isnull));
	if (filter->prefix != NULL && !has_prefix(scan->stream, filter->prefix))
	{
		scan->beyond = scan->by_stream;
		return false;
	}
	if (position > filter->upto_position ||
		ie_has_position(filter->skipped, position) ||
		DatumGetTimestampTz(slot_getattr(row, IE_RECORDED_AT, &isnull)) > filter->as_of)
		return false;
	scan->version = DatumGetInt64(slot_getattr(row, IE_VERSION, &isnull));
	scan->hash = ie_hash_stream(scan->stream);

	/*
	 * From here on the event is as it is handed out. The type is looked at
	 * only then: an upcaster may change it.
	 */
	scan->slot = ie_upcast_slot(scan->upcasts, row);
	return filter->all_types ||
		is_among(DatumGetTextPP(slot_getattr(scan->slot, IE_TYPE, &isnull)),
				 filter);
}

/* Does a text begin with another? */
static bool
has_prefix(const text *value, const text *prefix)
{
	Size		length = VARSIZE_ANY_EXHDR(prefix);

	return VARSIZE_ANY_EXHDR(value) >= length &&
		memcmp(VARDATA_ANY(value), VARDATA_ANY(prefix), length) == 0;
}

/* Is a type among those that the filter names? */
static bool
is_among(const text *type, const IeEventFilter *filter)
{
	int			i;

	for (i = 0; i < filter->ntypes; i++)
		if (ie_same_text(type, filter->types[i]))
			return true;
	return false;
}

/* Close a scan. */
void
ie_event_scan_end(IeEventScan *scan)
{
	ie_end_upcasts(scan->upcasts);
	if (scan->rows != NULL)
		ie_rows_end(scan->rows);
	else
	{
		ExecDropSingleTupleTableSlot(scan->row);
		index_endscan(scan->scan);
		index_close(scan->index, NoLock);
		table_close(scan->rel, NoLock);
	}
	MemoryContextDelete(scan->context);
	pfree(scan);
}
