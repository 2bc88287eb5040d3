/*
 * version_write.c: one version of a row into the version table.
 *
 * The newest version of the key is read through the primary key (key,
 * row_start, row_version): whoever changes a row holds its lock, so nobody else writes a
 * version of the key meanwhile. The row goes in without a plan, and where the
 * version table has no trigger but our guards, without the trigger machinery.
 */
#include "log.h"
#include "version.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "commands/trigger.h"
#include "compat.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/xid8.h"

struct IeVersionWriter
{
	MemoryContext context;
	bool		busy;			/* with a row */
	LocalTransactionId transaction; /* the last that was busy with it */
	IeVersionFacts *facts;
	EState	   *estate;
	ResultRelInfo *table;
	IndexInfo **infos;
	Relation   *relations;		/* of the indexes */
	IeHeldLock *locks;			/* on them */
	IeHeldLock	key_lock;		/* on the index of keys */
	TupleTableSlot *new;		/* the version that is written */
	TupleTableSlot *newest;		/* the one that stands */
	IeAuthor	author;
};

static IeVersionWriter *make_writer(Relation versions, IeVersionFacts *facts,
									MemoryContext parent);
static bool is_own(TupleTableSlot *version);
static bool same_columns(IeVersionWriter *writer, TupleTableSlot *version,
						 TupleTableSlot *row);
static bool same_value(Datum a, Datum b, bool byval, int16 length);
static TimestampTz start_after(const IeNewest *newest, TimestampTz wanted);
static void fill(IeVersionWriter *writer, int64 version, char operation,
				 TimestampTz start, TupleTableSlot *row);
static Name session_user_name(void);
static void insert_bare(IeVersionWriter *writer, Relation versions);
static void open_indexes(IeVersionWriter *writer, bool first);
static void close_indexes(IeVersionWriter *writer);
static void insert_with_triggers(IeVersionWriter *writer, Relation versions);

/*
 * What is needed to write. It is kept in the facts where no user's expression
 * is among it; an error may have left the kept one in the middle of a row.
 */
IeVersionWriter *
ie_version_writer(Relation versions, IeVersionFacts *facts)
{
	IeVersionWriter *writer = facts->writer;

	if (writer != NULL && writer->busy && writer->transaction != MyProc->IE_LXID)
	{
		facts->writer = NULL;
		MemoryContextDelete(writer->context);
		writer = NULL;
	}
	if (writer == NULL || writer->busy)
	{
		bool		keep = facts->plain && facts->bare && !facts->checked && writer == NULL;

		writer = make_writer(versions, facts, keep ? facts->context : CurrentMemoryContext);
		if (keep)
			facts->writer = writer;
	}
	writer->busy = true;
	writer->transaction = MyProc->IE_LXID;
	return writer;
}

/* A row has been written, or need not be. */
void
ie_version_writer_done(IeVersionWriter *writer)
{
	writer->busy = false;
}

/* Make what is needed to write, in a context of its own. */
static IeVersionWriter *
make_writer(Relation versions, IeVersionFacts *facts, MemoryContext parent)
{
	MemoryContext context = AllocSetContextCreate(parent, "immutable_events version writer",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	IeVersionWriter *writer = palloc0(sizeof(*writer));
	int			i;

	writer->context = context;
	writer->facts = facts;
	writer->estate = CreateExecutorState();
	writer->table = makeNode(ResultRelInfo);
	writer->infos = palloc(sizeof(IndexInfo *) * facts->nindexes);
	writer->relations = palloc(sizeof(Relation) * facts->nindexes);
	writer->locks = palloc0(sizeof(IeHeldLock) * facts->nindexes);
	for (i = 0; i < facts->nindexes; i++)
	{
		Relation	index = ie_open_held_index(facts->indexes[i], &writer->locks[i]);

		writer->infos[i] = BuildIndexInfo(index);
		index_close(index, NoLock);
	}
	writer->new = MakeSingleTupleTableSlot(CreateTupleDescCopyConstr(RelationGetDescr(versions)),
										   &TTSOpsVirtual);
	writer->newest = MakeSingleTupleTableSlot(writer->new->tts_tupleDescriptor,
											  table_slot_callbacks(versions));
	writer->new->tts_tableOid = RelationGetRelid(versions);
	MemoryContextSwitchTo(caller);
	return writer;
}

/*
 * The newest version of a row's key; on request, whether it has the columns of
 * the row. Seen are all that have committed and our own.
 */
IeNewest
ie_newest_version(IeVersionWriter *writer, Relation versions,
				  TupleTableSlot *row, bool *same)
{
	IeVersionFacts *facts = writer->facts;
	IeNewest	newest = {0};
	Relation	index = ie_open_held_index(facts->index, &writer->key_lock);
	IndexScanDesc scan = ie_index_beginscan(versions, index, SnapshotSelf, facts->nkeys);
	bool		isnull;
	int			i;

	for (i = 0; i < facts->nkeys; i++)
		facts->scan_keys[i].sk_argument = slot_getattr(row, facts->key[i], &isnull);
	index_rescan(scan, facts->scan_keys, facts->nkeys, NULL, 0);
	if (index_getnext_slot(scan, BackwardScanDirection, writer->newest))
	{
		TupleTableSlot *slot = writer->newest;

		newest.version = DatumGetInt64(slot_getattr(slot, IE_ROW_VERSION, &isnull));
		newest.deleted = DatumGetChar(slot_getattr(slot, IE_ROW_OPERATION, &isnull)) == IE_DELETED;
		newest.start = DatumGetTimestampTz(slot_getattr(slot, IE_ROW_START, &isnull));
		newest.own = is_own(slot);
		if (same != NULL)
			*same = !newest.deleted && same_columns(writer, slot, row);
	}
	else if (same != NULL)
		*same = false;
	ExecClearTuple(writer->newest);
	index_endscan(scan);
	index_close(index, NoLock);
	return newest;
}

/* Has this transaction written a version? A frozen one is of nobody. */
static bool
is_own(TupleTableSlot *version)
{
	Datum		xact;
	bool		isnull;

	if (TTS_IS_BUFFERTUPLE(version))
		return TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(((HeapTupleTableSlot *) version)->tuple->t_data));
	xact = slot_getattr(version, IE_ROW_XACT, &isnull);
	return FullTransactionIdEquals(DatumGetFullTransactionId(xact),
								   GetTopFullTransactionIdIfAny());
}

/* Has a version the columns of a row, bit by bit? */
static bool
same_columns(IeVersionWriter *writer, TupleTableSlot *version, TupleTableSlot *row)
{
	int			i;

	for (i = IE_VERSION_NCOLUMNS; i < writer->facts->ncolumns; i++)
	{
		AttrNumber	source = writer->facts->source[i];
		Form_pg_attribute column = TupleDescAttr(version->tts_tupleDescriptor, i);
		bool		a_null;
		bool		b_null;
		Datum		a;
		Datum		b;

		if (source == 0)
			continue;
		a = slot_getattr(version, i + 1, &a_null);
		b = slot_getattr(row, source, &b_null);
		if (a_null != b_null ||
			(!a_null && !same_value(a, b, column->attbyval, column->attlen)))
			return false;
	}
	return true;
}

/* Are two values the same, without fetching what is the same toasted value? */
static bool
same_value(Datum a, Datum b, bool byval, int16 length)
{
	if (length == -1 &&
		VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(a)) &&
		VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(b)) &&
		memcmp(DatumGetPointer(a), DatumGetPointer(b),
			   VARSIZE_EXTERNAL(DatumGetPointer(a))) == 0)
		return true;
	return datum_image_eq(a, b, byval, length);
}

/* Is a changed row the same as it was, bit by bit? */
bool
ie_same_row(TupleTableSlot *old, TupleTableSlot *new)
{
	TupleDesc	columns = new->tts_tupleDescriptor;
	int			i;

	for (i = 0; i < columns->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(columns, i);
		bool		a_null;
		bool		b_null;
		Datum		a;
		Datum		b;

		if (column->attisdropped)
			continue;
		a = slot_getattr(old, i + 1, &a_null);
		b = slot_getattr(new, i + 1, &b_null);
		if (a_null != b_null ||
			(!a_null && !same_value(a, b, column->attbyval, column->attlen)))
			return false;
	}
	return true;
}

/* Let versions be written in the name of somebody else. */
void
ie_version_author(IeVersionWriter *writer, IeAuthor author)
{
	writer->author = author;
}

/* Write the next version of a row's key; it is the newest then. */
void
ie_write_version(IeVersionWriter *writer, Relation versions, IeNewest *newest,
				 char operation, TimestampTz start, TupleTableSlot *row)
{
	start = start_after(newest, start);
	fill(writer, newest->version + 1, operation, start, row);
	if (writer->facts->bare)
		insert_bare(writer, versions);
	else
		insert_with_triggers(writer, versions);
	ExecClearTuple(writer->new);
	newest->version++;
	newest->start = start;
	newest->deleted = operation == IE_DELETED;
	newest->own = true;
}

/*
 * Write a row as it is before anything else happens to it, if that has not
 * been recorded; answers whether it was written.
 */
bool
ie_write_baseline(IeVersionWriter *writer, Relation versions, IeNewest *newest,
				  TimestampTz start, TupleTableSlot *row)
{
	bool		same;

	*newest = ie_newest_version(writer, versions, row, &same);
	if (same)
		return false;
	ie_write_version(writer, versions, newest,
					 newest->version == 0 || newest->deleted ? IE_INSERTED : IE_UPDATED,
					 start, row);
	return true;
}

/*
 * When a version begins: at the wanted time, or just after the one before it
 * where clocks or overlapping transactions would turn them round. Versions of
 * one transaction begin together, and the last of them counts.
 */
static TimestampTz
start_after(const IeNewest *newest, TimestampTz wanted)
{
	if (newest->version == 0 || wanted > newest->start)
		return wanted;
	return newest->own ? newest->start : newest->start + 1;
}

/* Form a version in the writer's slot. */
static void
fill(IeVersionWriter *writer, int64 version, char operation, TimestampTz start,
	 TupleTableSlot *row)
{
	TupleTableSlot *slot = writer->new;
	Datum	   *values = slot->tts_values;
	bool	   *nulls = slot->tts_isnull;
	Name		user = writer->author.user;
	Jsonb	   *context = writer->author.given ? writer->author.context : ie_context;
	int			i;

	ExecClearTuple(slot);
	slot_getallattrs(row);
	if (user == NULL)
		user = session_user_name();
	MemSet(nulls, 0, sizeof(bool) * IE_VERSION_NCOLUMNS);
	values[IE_ROW_POSITION - 1] = Int64GetDatum(ie_next_position(writer->facts->sequence));
	values[IE_ROW_VERSION - 1] = Int64GetDatum(version);
	values[IE_ROW_OPERATION - 1] = CharGetDatum(operation);
	values[IE_ROW_START - 1] = TimestampTzGetDatum(start);
	values[IE_ROW_XACT - 1] = FullTransactionIdGetDatum(GetTopFullTransactionId());
	values[IE_ROW_USER - 1] = NameGetDatum(user);
	values[IE_ROW_CONTEXT - 1] = PointerGetDatum(context);
	nulls[IE_ROW_CONTEXT - 1] = context == NULL;
	for (i = IE_VERSION_NCOLUMNS; i < writer->facts->ncolumns; i++)
	{
		AttrNumber	source = writer->facts->source[i];

		values[i] = source == 0 ? (Datum) 0 : row->tts_values[source - 1];
		nulls[i] = source == 0 || row->tts_isnull[source - 1];
	}
	ExecStoreVirtualTuple(slot);
}

/* The name of the session's user, read again when a role may have changed. */
static Name
session_user_name(void)
{
	static NameData name;
	static Oid	role = InvalidOid;
	static uint64 read;
	uint64		now = ie_catalog_changes();

	if (role != GetSessionUserId() || read != now)
	{
		role = InvalidOid;
		namestrcpy(&name, GetUserNameFromId(GetSessionUserId(), false));
		role = GetSessionUserId();
		read = now;
	}
	return &name;
}

/* Insert where no trigger but our guards could fire: they are passed over. */
static void
insert_bare(IeVersionWriter *writer, Relation versions)
{
	ResultRelInfo *table = writer->table;

	table->ri_RelationDesc = versions;
	if (writer->facts->checked)
		ExecConstraints(table, writer->new, writer->estate);
	table_tuple_insert(versions, writer->new, GetCurrentCommandId(true), 0, NULL);
	open_indexes(writer, DatumGetInt64(writer->new->tts_values[IE_ROW_VERSION - 1]) == 1);
	(void) ie_insert_index_tuples(table, writer->new, writer->estate);
	close_indexes(writer);
	ResetPerTupleExprContext(writer->estate);
}

/* Open the indexes that take a row; only the first version of a key is in all. */
static void
open_indexes(IeVersionWriter *writer, bool first)
{
	ResultRelInfo *table = writer->table;
	int			i;

	table->ri_NumIndices = writer->facts->nindexes - (first ? 0 : writer->facts->nfirst);
	table->ri_IndexRelationDescs = writer->relations;
	table->ri_IndexRelationInfo = writer->infos;
	for (i = 0; i < table->ri_NumIndices; i++)
		writer->relations[i] = ie_open_held_index(writer->facts->indexes[i],
												  &writer->locks[i]);
}

/* Close them; their locks stay to the end of the transaction. */
static void
close_indexes(IeVersionWriter *writer)
{
	ResultRelInfo *table = writer->table;
	int			i;

	for (i = 0; i < table->ri_NumIndices; i++)
		ie_close_index(table->ri_IndexRelationDescs[i], table->ri_IndexRelationInfo[i]);
	table->ri_NumIndices = 0;
}

/* Insert as COPY FROM does, with all the triggers of the version table. */
static void
insert_with_triggers(IeVersionWriter *writer, Relation versions)
{
	EState	   *estate = CreateExecutorState();
	ResultRelInfo *table = makeNode(ResultRelInfo);
	int64		position = DatumGetInt64(writer->new->tts_values[IE_ROW_POSITION - 1]);
	TupleTableSlot *slot;
	TransitionCaptureState *capture;
	volatile IeVersionAdmission before;

	InitResultRelInfo(table, versions, 0, NULL, 0);
	ExecOpenIndices(table, false);
	estate->es_opened_result_relations = list_make1(table);
	slot = table_slot_create(versions, &estate->es_tupleTable);
	ExecCopySlot(slot, writer->new);
	before = ie_guard_admit_version((IeVersionAdmission) {RelationGetRelid(versions), position});
	PG_TRY();
	{
		AfterTriggerBeginQuery();
		capture = MakeTransitionCaptureState(versions->trigdesc, RelationGetRelid(versions),
											 CMD_INSERT);
		ExecBSInsertTriggers(estate, table);
		if (table->ri_TrigDesc->trig_insert_before_row &&
			!ExecBRInsertTriggers(estate, table, slot))
			ereport(ERROR,
					(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
					 errmsg("a trigger on \"%s\" suppressed a version",
							RelationGetRelationName(versions)),
					 errhint("To reject a change, raise an error in the trigger."),
					 errtable(versions)));
		ExecConstraints(table, slot, estate);
		table_tuple_insert(versions, slot, GetCurrentCommandId(true), 0, NULL);
		ExecARInsertTriggers(estate, table, slot,
							 ie_insert_index_tuples(table, slot, estate), capture);
		(void) ie_guard_admit_version(before);
		ExecASInsertTriggers(estate, table, capture);
		AfterTriggerEndQuery(estate);
	}
	PG_FINALLY();
	{
		(void) ie_guard_admit_version(before);
	}
	PG_END_TRY();
	ExecResetTupleTable(estate->es_tupleTable, false);
	ExecCloseResultRelations(estate);
	FreeExecutorState(estate);
}
