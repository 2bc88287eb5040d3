/*
 * upcast_registry.c: which types of events have upcasters, by log.
 *
 * A backend remembers immutable.upcasters whole, in order, and reads it again
 * when it has changed. It is read with a snapshot of this moment, not the
 * transaction's: what is remembered outlives the transaction.
 */
#include "upcast.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/* The columns of immutable.upcasters. */
enum
{
	COLUMN_LOG,
	COLUMN_TYPE,
	COLUMN_SCHEMA_VERSION,
	COLUMN_UPCASTER,
	NCOLUMNS
};

static IeRegistryWatch watch = {.table = "upcasters"};
static MemoryContext memory = NULL; /* of what follows; NULL: not read yet */
static int	count;
static IeUpcaster *by_log;		/* by log, type, schema_version */
static IeUpcaster *by_type;		/* of all logs, by type, schema_version */

static void refresh(void);
static void load(void);
static void read_rows(MemoryContext context);
static void keep_row(HeapTuple row, TupleDesc columns, IeUpcaster *upcaster);
static int	compare_by_log(const void *a, const void *b);
static int	compare_by_type(const void *a, const void *b);

/* Has any log an upcaster? */
bool
ie_has_upcasters(void)
{
	refresh();
	return count > 0;
}

/* Has any log an upcaster for events of a type and schema_version? */
bool
ie_has_upcaster(const text *type, int32 schema_version)
{
	IeUpcaster	key = {.type = unconstify(text *, type),
	.schema_version = schema_version};

	refresh();
	return count > 0 &&
		bsearch(&key, by_type, count, sizeof(IeUpcaster), compare_by_type) != NULL;
}

/*
 * The upcasters of a log, by type and schema_version; they are there until
 * this file is asked again.
 */
const IeUpcaster *
ie_upcasters_of(Oid log, int *found)
{
	int			low = 0;
	int			high;
	int			first;

	refresh();
	*found = 0;
	for (high = count; low < high;)
	{
		int			middle = (low + high) / 2;

		if (by_log[middle].log < log)
			low = middle + 1;
		else
			high = middle;
	}
	for (first = low; low < count && by_log[low].log == log; low++)
		(*found)++;
	return *found == 0 ? NULL : &by_log[first];
}

/* A text that changes when the upcasters of a log do; empty for none. */
char *
ie_describe_upcasters(Oid log)
{
	StringInfoData description;
	int			found;
	const IeUpcaster *upcasters = ie_upcasters_of(log, &found);
	int			i;

	initStringInfo(&description);
	for (i = 0; i < found; i++)
		appendStringInfo(&description, "%s %d %s\n",
						 quote_literal_cstr(text_to_cstring(upcasters[i].type)),
						 upcasters[i].schema_version, upcasters[i].signature);
	return description.data;
}

/* Read the registry if it is not known as it is now. */
static void
refresh(void)
{
	/* a lock that is held already would not bring the messages of others */
	AcceptInvalidationMessages();
	if (memory == NULL || !watch.current)
		load();
}

/* Read the registry. */
static void
load(void)
{
	MemoryContext context;

	if (memory != NULL)
		MemoryContextDelete(memory);
	memory = NULL;
	count = 0;
	ie_watch_registry(&watch);
	context = AllocSetContextCreate(CurrentMemoryContext,
									"immutable_events upcasters",
									ALLOCSET_SMALL_SIZES);
	read_rows(context);
	if (count > 0)
	{
		by_type = MemoryContextAlloc(context, count * sizeof(IeUpcaster));
		memcpy(by_type, by_log, count * sizeof(IeUpcaster));
		qsort(by_log, count, sizeof(IeUpcaster), compare_by_log);
		qsort(by_type, count, sizeof(IeUpcaster), compare_by_type);
	}
	/* kept only now, when nothing can fail any more */
	MemoryContextSetParent(context, CacheMemoryContext);
	memory = context;
}

/* Copy the rows into a context. */
static void
read_rows(MemoryContext context)
{
	MemoryContext caller = MemoryContextSwitchTo(context);
	Relation	rel = table_open(watch.relid, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	int			room = 16;
	HeapTuple	row;

	by_log = palloc(room * sizeof(IeUpcaster));
	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		CHECK_FOR_INTERRUPTS();
		if (count == room)
			by_log = repalloc(by_log, (room *= 2) * sizeof(IeUpcaster));
		keep_row(row, RelationGetDescr(rel), &by_log[count]);
		count++;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	MemoryContextSwitchTo(caller);
}

/* Copy one row; none of its columns is NULL. */
static void
keep_row(HeapTuple row, TupleDesc columns, IeUpcaster *upcaster)
{
	Datum		values[NCOLUMNS];
	bool		isnull[NCOLUMNS];

	heap_deform_tuple(row, columns, values, isnull);
	upcaster->log = DatumGetObjectId(values[COLUMN_LOG]);
	upcaster->type = DatumGetTextPCopy(values[COLUMN_TYPE]);
	upcaster->schema_version = DatumGetInt32(values[COLUMN_SCHEMA_VERSION]);
	upcaster->signature = TextDatumGetCString(values[COLUMN_UPCASTER]);
}

/* Order by log, then as the others. */
static int
compare_by_log(const void *a, const void *b)
{
	Oid			log_a = ((const IeUpcaster *) a)->log;
	Oid			log_b = ((const IeUpcaster *) b)->log;

	if (log_a != log_b)
		return log_a < log_b ? -1 : 1;
	return ie_compare_upcasters(a, b);
}

/* Order by type and schema_version. */
static int
compare_by_type(const void *a, const void *b)
{
	return ie_compare_upcasters(a, b);
}

/* Compare type, byte by byte, and schema_version. */
int
ie_compare_upcasters(const IeUpcaster *a, const IeUpcaster *b)
{
	int			length_a = VARSIZE_ANY_EXHDR(a->type);
	int			length_b = VARSIZE_ANY_EXHDR(b->type);
	int			order = memcmp(VARDATA_ANY(a->type), VARDATA_ANY(b->type),
							   Min(length_a, length_b));

	if (order == 0)
		order = length_a - length_b;
	if (order == 0 && a->schema_version != b->schema_version)
		order = a->schema_version < b->schema_version ? -1 : 1;
	return order;
}
