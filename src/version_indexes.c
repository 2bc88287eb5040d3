/*
 * version_indexes.c: which indexes of a version table a new version goes into.
 *
 * The one that holds first versions only is not touched by later ones, and
 * B-trees of plain columns need no more than the row.
 */
#include "version.h"

#include "access/genam.h"
#include "catalog/pg_am.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

static bool holds_first(Relation index);

/* Put the indexes that hold first versions only last. */
void
ie_inspect_version_indexes(IeVersionFacts *facts, List *indexes)
{
	ListCell   *cell;

	facts->nindexes = list_length(indexes);
	facts->nfirst = 0;
	facts->indexes = palloc(sizeof(Oid) * facts->nindexes);
	facts->plain = true;
	facts->writer = NULL;
	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);
		int			place;

		if (holds_first(index))
			place = facts->nindexes - ++facts->nfirst;
		else
		{
			place = foreach_current_index(cell) - facts->nfirst;
			facts->plain &= index->rd_rel->relam == BTREE_AM_OID &&
				RelationGetIndexPredicate(index) == NIL &&
				RelationGetIndexExpressions(index) == NIL;
		}
		facts->indexes[place] = RelationGetRelid(index);
		index_close(index, AccessShareLock);
	}
}

/* Is this an index of columns, for the versions numbered 1? */
static bool
holds_first(Relation index)
{
	List	   *predicate = RelationGetIndexPredicate(index);
	OpExpr	   *same;
	Var		   *column;
	Const	   *number;

	if (list_length(predicate) != 1 || !IsA(linitial(predicate), OpExpr) ||
		RelationGetIndexExpressions(index) != NIL)
		return false;
	same = linitial(predicate);
	if (get_opcode(same->opno) != F_INT84EQ || !IsA(linitial(same->args), Var) ||
		!IsA(lsecond(same->args), Const))
		return false;
	column = linitial(same->args);
	number = lsecond(same->args);
	return column->varattno == IE_ROW_VERSION && !number->constisnull &&
		DatumGetInt32(number->constvalue) == 1;
}
