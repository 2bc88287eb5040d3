/*
 * shadow_index.c: the indexes of a shadow table.
 *
 * Each is the clone of one of the read model's, as the partition of a table
 * gets them. The primary key's is what rows are found by; all of them are
 * there where the tables are to exchange their storage.
 */
#include "rebuild.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/index.h"
#include "catalog/pg_index.h"
#include "compat.h"
#include "miscadmin.h"
#include "parser/parse_utilcmd.h"
#include "utils/rel.h"

static Oid	clone_index(Relation target, Relation shadow, Oid index);
static void build_index(Relation shadow, Oid index);

/*
 * Index a shadow, which has rows: by the primary key, or with all indexes of
 * the read model. Answers which belong together, in the current context.
 */
List *
ie_index_shadow(Oid target, Oid shadow, bool all)
{
	Relation	old = ie_open_relation(target, AccessShareLock);
	Relation	new = table_open(shadow, ShareLock);
	List	   *indexes = all ? RelationGetIndexList(old)
		: list_make1_oid(ie_primary_key(old));
	List	   *pairs = NIL;
	ListCell   *cell;

	foreach(cell, indexes)
	{
		IeIndexPair *pair = palloc(sizeof(IeIndexPair));

		pair->index = lfirst_oid(cell);
		pair->twin = clone_index(old, new, pair->index);
		pairs = lappend(pairs, pair);
	}
	table_close(new, NoLock);
	relation_close(old, NoLock);
	CommandCounterIncrement();
	return pairs;
}

/* Make the same index on the shadow. */
static Oid
clone_index(Relation target, Relation shadow, Oid index)
{
	Relation	source = index_open(index, AccessShareLock);
	AttrMap    *columns = ie_column_map(RelationGetDescr(shadow),
										RelationGetDescr(target));
	IndexStmt  *command = generateClonedIndexStmt(NULL, source, columns, NULL);
	IeCaller	caller;
	Oid			twin;

	ie_shadow_enter(shadow->rd_rel->relowner, &caller);
	twin = ie_define_index(RelationGetRelid(shadow), command);
	ie_projection_leave(&caller);
	index_close(source, NoLock);
	CommandCounterIncrement();
	build_index(shadow, twin);
	return twin;
}

/* Build it. CREATE INDEX would tell its own progress in place of a rebuild's. */
static void
build_index(Relation shadow, Oid index)
{
	Relation	rel = index_open(index, AccessExclusiveLock);

	ie_progress_phase(IE_REBUILD_INDEXING);
	index_build(shadow, rel, BuildIndexInfo(rel), false, true);
	index_close(rel, NoLock);
	CommandCounterIncrement();
}
