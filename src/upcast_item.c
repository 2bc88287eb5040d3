/*
 * upcast_item.c: upcasters for the items of a fold.
 *
 * The row of a log tells its log by its type, and goes along that log's
 * chains. A value of immutable.event was handed out by a function and is taken
 * as it is. A record does not tell where it comes from: if it is an event that
 * some log would upcast, it is refused, rather than folded in its old shape.
 */
#include "upcast.h"

#include "access/htup_details.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "parser/parse_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/typcache.h"

/* One of the items, and what is known of the type it came with last. */
typedef struct FoldItem
{
	bool		looked_at;		/* it may come as a row of a log */
	Oid			type;
	int32		typmod;
	TupleDesc	columns;		/* NULL: neither a log's row nor an event */
	IeUpcasts  *upcasts;		/* NULL: it does not tell its log */
	AttrNumber	event_type;		/* then these are the columns that tell */
	AttrNumber	event_version;	/* whether it had to be upcast */
} FoldItem;

struct IeUpcastItems
{
	int			count;
	NullableDatum *values;
	FoldItem		items[FLEXIBLE_ARRAY_MEMBER];
};

static bool may_be_upcast(Oid type);
static Oid	log_of_row(Oid type);
static HeapTupleHeader next_row(IeUpcastItems *upcast, FoldItem *item,
								HeapTupleHeader row);
static void look_at_type(FoldItem *item, Oid type, int32 typmod);
static void check_columns(Oid log, TupleDesc columns);
static AttrNumber column_named(TupleDesc columns, const char *name, Oid type);
static void refuse_old_event(const FoldItem *item, HeapTupleHeader row);

/*
 * What is to be done with items of these types before they are folded, for the
 * length of a query; NULL when nothing is.
 */
IeUpcastItems *
ie_upcast_items(int count, const Oid *types)
{
	IeUpcastItems *upcast = NULL;
	int			i;

	for (i = 0; i < count; i++)
	{
		if (!may_be_upcast(types[i]))
			continue;
		if (upcast == NULL)
		{
			upcast = palloc0(offsetof(IeUpcastItems, items) + count * sizeof(FoldItem));
			upcast->count = count;
			upcast->values = palloc0(count * sizeof(NullableDatum));
		}
		upcast->items[i].looked_at = true;
	}
	return upcast;
}

/* May items that are declared with a type have to be upcast? */
static bool
may_be_upcast(Oid type)
{
	Oid			log;
	int			count;

	if (type == RECORDOID)
		return ie_has_upcasters();
	log = log_of_row(type);
	if (OidIsValid(log))
		(void) ie_upcasters_of(log, &count);
	return OidIsValid(log) && count > 0;
}

/* The log that a type is the row type of, its own or a partition's. */
static Oid
log_of_row(Oid type)
{
	Oid			relid = typeOrDomainTypeRelid(type);
	List	   *ancestors;

	if (!OidIsValid(relid) || !ie_is_log_oid(relid))
		return InvalidOid;
	ancestors = get_rel_relispartition(relid)
		? get_partition_ancestors(relid) : NIL;
	return ancestors == NIL ? relid : llast_oid(ancestors);
}

/* The next items, upcast; good until they are asked for again. */
const NullableDatum *
ie_next_items(IeUpcastItems *upcast, const NullableDatum *items)
{
	int			i;

	for (i = 0; i < upcast->count; i++)
	{
		upcast->values[i] = items[i];
		if (upcast->items[i].looked_at && !items[i].isnull)
			upcast->values[i].value =
				PointerGetDatum(next_row(upcast, &upcast->items[i],
										 DatumGetHeapTupleHeader(items[i].value)));
	}
	return upcast->values;
}

/* One item, upcast. */
static HeapTupleHeader
next_row(IeUpcastItems *upcast, FoldItem *item, HeapTupleHeader row)
{
	Oid			type = HeapTupleHeaderGetTypeId(row);
	int32		typmod = HeapTupleHeaderGetTypMod(row);

	if (type != item->type || typmod != item->typmod)
	{
		MemoryContext caller = MemoryContextSwitchTo(GetMemoryChunkContext(upcast));

		look_at_type(item, type, typmod);
		MemoryContextSwitchTo(caller);
	}
	if (item->upcasts != NULL)
		return ie_upcast_row(item->upcasts, row, item->columns);
	if (item->columns != NULL)
		refuse_old_event(item, row);
	return row;
}

/* Find out what a row's own type says. */
static void
look_at_type(FoldItem *item, Oid type, int32 typmod)
{
	Oid			log = InvalidOid;

	item->type = InvalidOid;
	item->columns = NULL;
	ie_end_upcasts(item->upcasts);
	item->upcasts = NULL;
	if (type != RECORDOID)
		log = log_of_row(type);
	if (OidIsValid(log))
	{
		item->upcasts = ie_upcasts(log);
		if (item->upcasts != NULL)
		{
			item->columns = lookup_rowtype_tupdesc_copy(type, typmod);
			check_columns(log, item->columns);
		}
	}
	else if (type != ie_event_type())
	{
		item->columns = lookup_rowtype_tupdesc_copy(type, typmod);
		item->event_type = column_named(item->columns, "type", TEXTOID);
		item->event_version = column_named(item->columns, "schema_version", INT4OID);
		if (item->event_type == 0 || item->event_version == 0 ||
			column_named(item->columns, "data", JSONBOID) == 0)
			item->columns = NULL;
	}
	item->type = type;
	item->typmod = typmod;
}

/* A partition that was made elsewhere may have its columns in another order. */
static void
check_columns(Oid log, TupleDesc columns)
{
	TupleDesc	event = lookup_rowtype_tupdesc(ie_event_type(), -1);
	bool		same = columns->natts == event->natts;
	int			i;

	for (i = 0; same && i < event->natts; i++)
		same = !TupleDescAttr(columns, i)->attisdropped &&
			TupleDescAttr(columns, i)->atttypid == TupleDescAttr(event, i)->atttypid &&
			namestrcmp(&TupleDescAttr(columns, i)->attname,
					   NameStr(TupleDescAttr(event, i)->attname)) == 0;
	ReleaseTupleDesc(event);
	if (!same)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a row of type %s cannot be upcast",
						format_type_be(columns->tdtypeid)),
				 errdetail("Its columns are not in the order of immutable.event."),
				 errhint("Fold rows of \"%s\".", get_rel_name(log))));
}

/* The number of a column with a name and a type, or 0. */
static AttrNumber
column_named(TupleDesc columns, const char *name, Oid type)
{
	int			i;

	for (i = 0; i < columns->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(columns, i);

		if (!column->attisdropped && column->atttypid == type &&
			namestrcmp(&column->attname, name) == 0)
			return column->attnum;
	}
	return 0;
}

/* Refuse a record that is an event of an old shape, for all that is known. */
static void
refuse_old_event(const FoldItem *item, HeapTupleHeader row)
{
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(row),
	.t_data = row};
	bool		isnull;
	Datum		type = heap_getattr(&tuple, item->event_type, item->columns, &isnull);
	Datum		version;

	if (isnull)
		return;
	version = heap_getattr(&tuple, item->event_version, item->columns, &isnull);
	if (isnull ||
		!ie_has_upcaster(DatumGetTextPP(type), DatumGetInt32(version)))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("cannot fold a record that is an event of an old schema_version"),
			 errdetail("Events of type \"%s\" have an upcaster from schema_version %d, and a record does not tell its log.",
					   TextDatumGetCString(type), DatumGetInt32(version)),
			 errhint("Fold whole rows of the log, as in fold(..., s.e) FROM (SELECT e FROM log e ORDER BY position) s, or what immutable.read_log or immutable.upcast returns.")));
}
