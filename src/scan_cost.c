/*
 * scan_cost.c: which way to read a table costs less.
 *
 * By position, pages come one after the other; by stream, any event may need
 * another page.
 */
#include "replay_all.h"

#include "access/table.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"
#include "utils/spccache.h"

/* What the pages of a table cost. */
typedef struct TableCost
{
	double		pages;
	double		sequential;		/* each */
	double		random;
} TableCost;

static TableCost cost_of(Oid relid);

/*
 * Is it cheaper to look up every event of the streams with the filter's prefix
 * than to read the table in order of position once?
 */
bool
ie_prefix_is_cheaper(Oid relid, const IeEventFilter *filter, Snapshot snapshot)
{
	TableCost	table = cost_of(relid);

	return ie_prefix_is_rare(relid, filter, snapshot,
							 table.pages * table.sequential / Max(table.random, 1e-3));
}

/* How large a table is, and where it lies. */
static TableCost
cost_of(Oid relid)
{
	Relation	rel = ie_open_relation(relid, AccessShareLock);
	TableCost	table = {.pages = RelationGetNumberOfBlocks(rel)};

	get_tablespace_page_costs(rel->rd_rel->reltablespace, &table.random,
							  &table.sequential);
	table_close(rel, NoLock);
	return table;
}
