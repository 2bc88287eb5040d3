/*
 * log.c: cached facts of a log, and the leaf that holds a stream.
 *
 * What append needs to know of a log (its sequence, its indexes, whether its
 * guards are in place) is read from the catalogs once per backend and kept
 * until a relcache or syscache message says that something changed. An entry
 * is born invalid and made valid after everything that can throw.
 */
#include "guard.h"
#include "log.h"
#include "projected.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/pg_am.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_index.h"
#include "catalog/pg_sequence.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/syscache.h"

static HTAB *logs = NULL;
static uint64 changes = 0;		/* messages received that concern an entry */

static IeLog *lookup(Relation rel);
static void create_cache(void);
static void relation_changed(Datum arg, Oid relid);
static void catalog_changed(Datum arg, int cacheid, uint32 hash);
static void build(IeLog *facts, Relation rel);
static void find_indexes(IeLog *facts, Relation rel);
static bool is_event_index(Relation index, int nkeys, const int *keys);
static void inspect_triggers(IeLog *facts, Relation rel);
static const char *sequence_problem(Oid sequence);
static Oid	leaf_of_stream(Relation rel, const text *stream);

/* Lock and open a log, and the leaf where the stream's rows are. */
IeTarget
ie_open_log(Oid relid, const text *stream, LOCKMODE lockmode)
{
	IeTarget	target = ie_open_whole_log(relid, lockmode);

	while (target.rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
	{
		Oid			leaf = leaf_of_stream(target.rel, stream);

		if (target.rel != target.log)
			relation_close(target.rel, NoLock);
		target.rel = table_open(leaf, lockmode);
		target.facts = lookup(target.rel);
	}
	return target;
}

/* Lock and open a log as a whole. */
IeTarget
ie_open_whole_log(Oid relid, LOCKMODE lockmode)
{
	IeTarget	target;

	target.log = ie_open_relation(relid, lockmode);
	target.root = OidIsValid(target.log->rd_rel->reloftype)
		? lookup(target.log) : NULL;
	if (target.root == NULL || !target.root->is_log)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a log",
						RelationGetRelationName(target.log)),
				 errhint("Logs are made by immutable.create_log.")));
	target.rel = target.log;
	target.facts = target.root;
	target.lockmode = NoLock;
	return target;
}

/* The same for its owner: nobody else may queue for the lock. */
IeTarget
ie_open_own_log(Oid relid, LOCKMODE lockmode)
{
	IeTarget	target = ie_open_whole_log(relid, AccessShareLock);

	ie_check_owner(target.log);
	relation_close(target.log, AccessShareLock);
	target = ie_open_whole_log(relid, lockmode);
	ie_check_owner(target.log);
	return target;
}

/*
 * Lock and open what can be read in order of position: a log as a whole, or a
 * version table that has an index for it.
 */
IeTarget
ie_open_ordered(Oid relid, LOCKMODE lockmode)
{
	IeTarget	target;

	if (!ie_is_version_table_oid(relid))
		return ie_open_whole_log(relid, lockmode);
	target.log = ie_open_relation(relid, lockmode);
	(void) ie_position_index(target.log, false);
	target.root = lookup(target.log);
	target.rel = target.log;
	target.facts = target.root;
	target.lockmode = NoLock;
	return target;
}

/* Close what ie_open_log opened; the locks stay to the end of transaction. */
void
ie_close_log(IeTarget *target)
{
	if (target->rel != target->log)
		relation_close(target->rel, NoLock);
	relation_close(target->log, NoLock);
}

/* Do row security policies apply to the current user? */
bool
ie_row_security(Relation log)
{
	return log->rd_rel->relrowsecurity &&
		check_enable_rls(RelationGetRelid(log), InvalidOid, true) == RLS_ENABLED;
}

/* Counts the changes that may concern a log. */
uint64
ie_log_changes(void)
{
	return changes;
}

/* The cached facts of a log or leaf, read anew when they are stale. */
static IeLog *
lookup(Relation rel)
{
	Oid			relid = RelationGetRelid(rel);
	IeLog	   *facts;
	bool		found;

	if (logs == NULL)
		create_cache();
	facts = hash_search(logs, &relid, HASH_ENTER, &found);
	if (!found)
	{
		MemSet(facts, 0, sizeof(*facts));
		facts->relid = relid;
	}
	if (!facts->valid)
		build(facts, rel);
	return facts;
}

/* Make the cache, and ask to be told of changes. */
static void
create_cache(void)
{
	HASHCTL		ctl = {.keysize = sizeof(Oid), .entrysize = sizeof(IeLog)};

	ctl.hcxt = AllocSetContextCreate(CacheMemoryContext,
									 "immutable_events logs",
									 ALLOCSET_SMALL_SIZES);
	logs = hash_create("immutable_events logs", 16, &ctl,
					   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(PROCOID, catalog_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(SEQRELID, catalog_changed, (Datum) 0);
}

/* A relation changed (all of them, when relid is 0): a log, or its sequence. */
static void
relation_changed(Datum arg pg_attribute_unused(), Oid relid)
{
	HASH_SEQ_STATUS all;
	IeLog	   *facts;

	hash_seq_init(&all, logs);
	while ((facts = hash_seq_search(&all)) != NULL)
		if (!OidIsValid(relid) || relid == facts->relid ||
			relid == facts->sequence)
		{
			facts->valid = false;
			changes++;
		}
}

/* A function changed that may be the guard, or a sequence. */
static void
catalog_changed(Datum arg pg_attribute_unused(), int cacheid, uint32 hash)
{
	HASH_SEQ_STATUS all;
	IeLog	   *facts;

	hash_seq_init(&all, logs);
	while ((facts = hash_seq_search(&all)) != NULL)
		if (cacheid != PROCOID || hash == 0 || hash == facts->guard_hash)
		{
			facts->valid = false;
			changes++;
		}
}

/* Read the facts from the catalogs. */
static void
build(IeLog *facts, Relation rel)
{
	uint64		before = changes;

	facts->problem = NULL;
	facts->remedy = "Put back what immutable.create_log had made.";
	facts->version_index = InvalidOid;
	facts->id_index = InvalidOid;
	facts->sequence = InvalidOid;
	facts->floor = 0;
	facts->is_log = ie_is_log(rel);
	if (ie_has_event_columns(rel))
		find_indexes(facts, rel);
	else
		facts->problem = "the columns are not those of immutable.event, NOT NULL";
	if (rel->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT)
		facts->problem = "rows would not survive a crash";
	if (facts->problem == NULL && !OidIsValid(facts->version_index) &&
		rel->rd_rel->relkind == RELKIND_RELATION)
		facts->problem = "there is no unique index on (stream, version)";
	if (!rel->rd_rel->relispartition)
	{
		facts->sequence = ie_position_sequence(facts->relid);
		if (facts->problem == NULL)
			facts->problem = sequence_problem(facts->sequence);
	}
	inspect_triggers(facts, rel);
	if (facts->problem == NULL && facts->is_log && !rel->rd_rel->relispartition)
	{
		facts->problem = ie_projector_problem(rel);
		if (facts->problem != NULL)
			facts->remedy = "Call immutable.set_projection_mode(..., 'inline') for its read models to put it back, and compare them with the log.";
	}
	/* what changed while we read is read again the next time */
	facts->valid = before == changes;
}

/* Find the indexes that heads and ids are read from. */
static void
find_indexes(IeLog *facts, Relation rel)
{
	static const int by_version[] = {IE_STREAM, IE_VERSION};
	static const int by_id[] = {IE_ID};
	static const int by_stream_and_id[] = {IE_STREAM, IE_ID};
	ListCell   *cell;

	foreach(cell, RelationGetIndexList(rel))
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		if (is_event_index(index, 2, by_version))
			facts->version_index = RelationGetRelid(index);
		else if (is_event_index(index, 1, by_id))
		{
			facts->id_index = RelationGetRelid(index);
			facts->id_by_stream = false;
		}
		else if (is_event_index(index, 2, by_stream_and_id) &&
				 !OidIsValid(facts->id_index))
		{
			facts->id_index = RelationGetRelid(index);
			facts->id_by_stream = true;
		}
		index_close(index, AccessShareLock);
	}
}

/* Is this a plain, valid, unique btree on just these columns? */
static bool
is_event_index(Relation index, int nkeys, const int *keys)
{
	Form_pg_index form = index->rd_index;
	int			i;

	if (!form->indisunique || !form->indimmediate || form->indnkeyatts != nkeys ||
		!ie_is_btree_on(index, keys[0]))
		return false;
	for (i = 0; i < nkeys; i++)
		if (form->indkey.values[i] != keys[i] ||
			index->rd_indoption[i] != 0 ||
			(keys[i] == IE_STREAM &&
			 index->rd_indcollation[i] != C_COLLATION_OID))
			return false;
	return true;
}

/* Is this a valid btree of all rows that ascends by a column first? */
bool
ie_is_btree_on(Relation index, int column)
{
	return index->rd_rel->relkind == RELKIND_INDEX &&
		index->rd_rel->relam == BTREE_AM_OID &&
		index->rd_index->indisvalid &&
		index->rd_index->indkey.values[0] == column &&
		index->rd_indoption[0] == 0 &&
		RelationGetIndexPredicate(index) == NIL;
}

/* Are the guards in place, and is there any trigger beside them? */
static void
inspect_triggers(IeLog *facts, Relation rel)
{
	const char *problem = ie_guard_problem(rel);
	const Trigger *guard = ie_find_guard(rel, false);
	int			i;

	facts->guards_only = facts->row_guards_only = true;
	for (i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		const Trigger *trigger = &rel->trigdesc->triggers[i];

		if (ie_is_guard(trigger->tgfoid))
			continue;
		facts->guards_only = false;
		if (TRIGGER_FOR_ROW(trigger->tgtype))
			facts->row_guards_only = false;
	}
	if (guard != NULL)
		facts->guard_hash = GetSysCacheHashValue1(PROCOID,
												  ObjectIdGetDatum(guard->tgfoid));
	if (facts->problem == NULL && problem != NULL)
	{
		facts->problem = problem;
		facts->remedy = "Call immutable.protect to put the guards back.";
	}
}

/* What keeps a sequence from handing out positions in order, or NULL. */
static const char *
sequence_problem(Oid sequence)
{
	HeapTuple	tuple;
	const char *problem = NULL;

	if (!OidIsValid(sequence))
		return "the column position owns no sequence";
	tuple = SearchSysCache1(SEQRELID, ObjectIdGetDatum(sequence));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for sequence %u", sequence);
	if (((Form_pg_sequence) GETSTRUCT(tuple))->seqcache != 1 ||
		((Form_pg_sequence) GETSTRUCT(tuple))->seqincrement != 1 ||
		((Form_pg_sequence) GETSTRUCT(tuple))->seqcycle)
		problem = "the sequence is not INCREMENT 1 CACHE 1 NO CYCLE";
	ReleaseSysCache(tuple);
	if (get_rel_persistence(sequence) != RELPERSISTENCE_PERMANENT)
		problem = "the sequence would not survive a crash";
	return problem;
}

/* The partition that holds the rows of a stream. */
static Oid
leaf_of_stream(Relation rel, const text *stream)
{
	PartitionKey key = RelationGetPartitionKey(rel);
	PartitionDesc parts = RelationGetPartitionDesc(rel, true);
	Datum		value = PointerGetDatum(stream);
	bool		isnull = false;
	uint64		hash;
	int			index = -1;

	if (key->strategy == PARTITION_STRATEGY_HASH && key->partnatts == 1 &&
		key->partattrs[0] == IE_STREAM && parts->nparts > 0)
	{
		hash = compute_partition_hash_value(1, key->partsupfunc,
											key->partcollation,
											&value, &isnull);
		index = parts->boundinfo->indexes[hash % parts->boundinfo->nindexes];
	}
	if (index < 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("log \"%s\" has no partition for this stream",
						RelationGetRelationName(rel)),
				 errdetail("A log is partitioned by hash of stream, with a partition for every remainder."),
				 errhint("Put back what immutable.create_log had made.")));
	return parts->oids[index];
}

/* The index on (stream, version) of a log, or of a leaf of it. */
Oid
ie_version_index(Relation log, Relation rel)
{
	const IeLog *facts = lookup(rel);

	if (!OidIsValid(facts->version_index))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("log \"%s\" cannot be read by stream",
						RelationGetRelationName(log)),
				 errdetail("In \"%s\", %s.", RelationGetRelationName(rel),
						   facts->problem != NULL ? facts->problem
						   : "there is no index, it is no plain table"),
				 errhint("%s", facts->problem != NULL ? facts->remedy
						 : "Detach what is no plain table."),
				 errtable(log)));
	return facts->version_index;
}

/* The index on position of a log or leaf; create_log makes one. */
Oid
ie_position_index(Relation rel, bool missing_ok)
{
	ListCell   *cell;
	const char *column;

	foreach(cell, RelationGetIndexList(rel))
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);
		bool		fits = ie_is_btree_on(index, IE_POSITION);

		index_close(index, AccessShareLock);
		if (fits)
			return lfirst_oid(cell);
	}
	if (missing_ok)
		return InvalidOid;
	column = NameStr(TupleDescAttr(RelationGetDescr(rel), IE_POSITION - 1)->attname);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("%s \"%s\" cannot be read by position",
					ie_is_log(rel) ? "log" : "table",
					RelationGetRelationName(rel)),
			 errdetail("It has no index on %s.", column),
			 errhint("CREATE INDEX ON %s (%s).", ie_qualified_name(rel), column),
			 errtable(rel)));
}
