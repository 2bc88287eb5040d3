/*
 * version_facts.c: cached facts of a versioned table.
 *
 * What the trigger needs to know (which table takes the versions, which column
 * goes where, how a key is found) is read from the catalogs once per backend
 * and kept until anything in them changes. Columns are matched by name. What
 * does not fit is a problem that makes the trigger refuse.
 */
#include "guard.h"
#include "version.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/pg_am.h"
#include "catalog/pg_index.h"
#include "commands/defrem.h"
#include "commands/trigger.h"
#include "compat.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

static IeVersionFacts *lookup(Oid relid);
static void rebuild(IeVersionFacts *facts, Relation rel);
static void read_versions(IeVersionFacts *facts, Relation rel);
static void map_columns(IeVersionFacts *facts, Relation rel, Relation versions);
static void inspect(IeVersionFacts *facts, Relation versions);
static bool has_checks(const IeVersionFacts *facts, Relation rel, Relation versions);
static bool is_key(const IeVersionFacts *facts, AttrNumber column);
pg_noreturn static void refuse(Relation rel, const char *detail, const char *hint);

/*
 * Open the version table of a table that is open, for writing; its lock stays.
 * The caller counts its use of the facts.
 */
Relation
ie_open_versions(Relation rel, IeVersionFacts **facts)
{
	for (;;)
	{
		Relation	versions;

		*facts = ie_version_facts(rel);
		if ((*facts)->problem != NULL)
			refuse(rel, (*facts)->problem, (*facts)->remedy);
		versions = ie_open_held_table((*facts)->registered.versions, &(*facts)->lock);
		if (versions != NULL && (*facts)->built == ie_catalog_changes())
			return versions;
		/* what changed while we waited for the lock */
		if (versions != NULL)
			table_close(versions, NoLock);
	}
}

/* Refuse a table whose versions could not be recorded. */
void
ie_check_recordable(Relation rel)
{
	IeVersionFacts *facts = ie_version_facts(rel);

	if (facts->problem != NULL)
		refuse(rel, facts->problem, facts->remedy);
}

/* The facts of a table, read anew when they may be stale. */
IeVersionFacts *
ie_version_facts(Relation rel)
{
	IeVersionFacts *facts = lookup(RelationGetRelid(rel));

	if (!facts->valid || facts->built != ie_catalog_changes())
		rebuild(facts, rel);
	return facts;
}

/* The entry of a table in the cache, made when there is none. */
static IeVersionFacts *
lookup(Oid relid)
{
	static HTAB *cache = NULL;
	IeVersionFacts *facts;
	bool		found;

	if (cache == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(Oid), .entrysize = sizeof(IeVersionFacts)};

		ctl.hcxt = AllocSetContextCreate(CacheMemoryContext,
										 "immutable_events versioned tables",
										 ALLOCSET_SMALL_SIZES);
		cache = hash_create("immutable_events versioned tables", 16, &ctl,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	facts = hash_search(cache, &relid, HASH_ENTER, &found);
	if (!found)
	{
		MemSet(facts, 0, sizeof(*facts));
		facts->relid = relid;
	}
	return facts;
}

/*
 * Read the facts from the catalogs. Those that a caller further up the stack
 * relies on are kept until the transaction ends.
 */
static void
rebuild(IeVersionFacts *facts, Relation rel)
{
	uint64		before = ie_catalog_changes();
	MemoryContext old = facts->context;
	MemoryContext caller;

	facts->valid = false;
	facts->context = NULL;
	if (old != NULL && facts->uses > 0)
		MemoryContextSetParent(old, TopTransactionContext);
	else if (old != NULL)
		MemoryContextDelete(old);
	facts->uses = 0;
	facts->lock = (IeHeldLock) {0};
	facts->context = AllocSetContextCreate(CacheMemoryContext,
										   "immutable_events versioned table",
										   ALLOCSET_SMALL_SIZES);
	caller = MemoryContextSwitchTo(facts->context);
	facts->problem = NULL;
	facts->remedy = "Put back what immutable.add_versioning had made.";
	if (!ie_read_versioned(ie_versioned_root(facts->relid), &facts->registered))
	{
		facts->problem = "The table is not versioned.";
		facts->remedy = "Call immutable.add_versioning.";
	}
	else
		read_versions(facts, rel);
	MemoryContextSwitchTo(caller);
	/* what changed while we read is read again the next time */
	facts->built = before;
	facts->valid = true;
}

/* Read what concerns the version table. */
static void
read_versions(IeVersionFacts *facts, Relation rel)
{
	Relation	versions = try_table_open(facts->registered.versions, AccessShareLock);

	if (versions == NULL)
	{
		facts->problem = "Its version table is gone.";
		return;
	}
	if (!ie_is_version_table(versions))
		facts->problem = psprintf("Table \"%s\" is not a version table.",
								  RelationGetRelationName(versions));
	if (facts->problem == NULL)
		inspect(facts, versions);
	if (facts->problem == NULL)
		map_columns(facts, rel, versions);
	if (facts->problem == NULL)
		ie_find_version_key(facts, rel, versions);
	if (facts->problem == NULL)
		facts->checked = has_checks(facts, rel, versions);
	if (facts->problem == NULL && rel->rd_rel->relrowsecurity &&
		!versions->rd_rel->relrowsecurity)
	{
		facts->problem = psprintf("It has row security, and \"%s\" has none.",
								  RelationGetRelationName(versions));
		facts->remedy = "Give the version table policies and row security of its own.";
	}
	table_close(versions, AccessShareLock);
}

/* Match the columns by name; each of the table must have its place. */
static void
map_columns(IeVersionFacts *facts, Relation rel, Relation versions)
{
	TupleDesc	from = RelationGetDescr(rel);
	TupleDesc	to = RelationGetDescr(versions);
	int			i;

	facts->ncolumns = to->natts;
	facts->source = palloc0(sizeof(AttrNumber) * to->natts);
	for (i = 0; i < from->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(from, i);
		AttrNumber	place;
		Form_pg_attribute other;

		if (column->attisdropped)
			continue;
		place = get_attnum(RelationGetRelid(versions), NameStr(column->attname));
		other = place > IE_VERSION_NCOLUMNS ? TupleDescAttr(to, place - 1) : NULL;
		if (other == NULL || other->atttypid != column->atttypid ||
			other->atttypmod != column->atttypmod ||
			other->attcollation != column->attcollation)
		{
			facts->problem = psprintf("Column \"%s\" has no column of the same type in \"%s\".",
									  NameStr(column->attname),
									  RelationGetRelationName(versions));
			return;
		}
		facts->source[place - 1] = column->attnum;
	}
}

/* Guards, triggers, constraints, indexes and the sequence. */
static void
inspect(IeVersionFacts *facts, Relation versions)
{
	List	   *indexes = RelationGetIndexList(versions);
	const char *problem = ie_guard_problem(versions);
	int			i;

	if (problem != NULL)
	{
		facts->problem = psprintf("In \"%s\", %s.", RelationGetRelationName(versions), problem);
		facts->remedy = "Call immutable.protect for the version table.";
		return;
	}
	facts->sequence = ie_position_sequence(RelationGetRelid(versions));
	if (!OidIsValid(facts->sequence))
		facts->problem = psprintf("Table \"%s\" has lost the sequence of row_position.",
								  RelationGetRelationName(versions));
	facts->bare = true;
	for (i = 0; i < versions->trigdesc->numtriggers; i++)
		facts->bare &= ie_is_guard(versions->trigdesc->triggers[i].tgfoid);
	ie_inspect_version_indexes(facts, indexes);
}

/* Has it constraints that a row of the table could violate? */
static bool
has_checks(const IeVersionFacts *facts, Relation rel, Relation versions)
{
	TupleDesc	columns = RelationGetDescr(versions);
	int			i;

	if (columns->constr->num_check > 0)
		return true;
	for (i = IE_VERSION_NCOLUMNS; i < columns->natts; i++)
		if (TupleDescAttr(columns, i)->attnotnull &&
			!(is_key(facts, facts->source[i]) &&
			  ie_never_null(RelationGetDescr(rel), facts->source[i])))
			return true;
	return false;
}

/* Is a column of the table one of its key? */
static bool
is_key(const IeVersionFacts *facts, AttrNumber column)
{
	int			i;

	for (i = 0; i < facts->nkeys && facts->key[i] != column; i++)
		;
	return i < facts->nkeys && column != 0;
}

/* Raise the error for a table whose versions cannot be recorded. */
static void
refuse(Relation rel, const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot record versions of table \"%s\"",
					RelationGetRelationName(rel)),
			 errdetail_internal("%s", detail),
			 errhint("%s", hint),
			 errtable(rel)));
}
