/*
 * version_key.c: the key by which versions of a row are kept.
 *
 * Rows and versions have the same key as long as the table lets no two rows
 * have keys that are equal to the version table, and none a NULL.
 */
#include "version.h"

#include "access/genam.h"
#include "catalog/pg_am.h"
#include "catalog/pg_index.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

static void make_scan_key(ScanKey key, Relation index, int i);
static bool is_unique_on(Relation rel, Relation index, const IeVersionFacts *facts);
static bool same_equality(Relation index, int i, const ScanKeyData *key);

/* Find the index of keys and versions, and see that a key is still a key. */
void
ie_find_version_key(IeVersionFacts *facts, Relation rel, Relation versions)
{
	Relation	index;
	ListCell   *cell;
	bool		found = false;
	int			i;

	facts->index = ie_versions_pkey(versions);
	if (!OidIsValid(facts->index))
	{
		facts->problem = psprintf("Table \"%s\" has no primary key that ends with row_start, row_version.",
								  RelationGetRelationName(versions));
		return;
	}
	index = index_open(facts->index, AccessShareLock);
	facts->nkeys = index->rd_index->indnkeyatts - IE_INDEX_TAIL;
	facts->key = palloc(sizeof(AttrNumber) * facts->nkeys);
	facts->scan_keys = palloc(sizeof(ScanKeyData) * facts->nkeys);
	for (i = 0; i < facts->nkeys; i++)
	{
		facts->key[i] = facts->source[index->rd_index->indkey.values[i] - 1];
		make_scan_key(&facts->scan_keys[i], index, i);
	}
	index_close(index, AccessShareLock);
	foreach(cell, RelationGetIndexList(rel))
	{
		index = index_open(lfirst_oid(cell), AccessShareLock);
		found |= is_unique_on(rel, index, facts);
		index_close(index, AccessShareLock);
	}
	if (!found)
	{
		facts->problem = "The primary key that its versions are kept by is gone.";
		facts->remedy = "Put the primary key back, not deferrable.";
	}
}

/* The primary key (key, row_start, row_version) of a version table, or InvalidOid. */
Oid
ie_versions_pkey(Relation versions)
{
	Oid			relid = ie_key_index(versions);
	Relation	index;
	Form_pg_index form;
	bool		fits;

	if (!OidIsValid(relid))
		return InvalidOid;
	index = index_open(relid, AccessShareLock);
	form = index->rd_index;
	fits = form->indnkeyatts > IE_INDEX_TAIL &&
		form->indkey.values[form->indnkeyatts - 2] == IE_ROW_START &&
		form->indkey.values[form->indnkeyatts - 1] == IE_ROW_VERSION;
	index_close(index, AccessShareLock);
	return fits ? relid : InvalidOid;
}

/* A table's primary key, unless it is deferrable; or InvalidOid. */
Oid
ie_key_index(Relation rel)
{
	ListCell   *cell;

	foreach(cell, RelationGetIndexList(rel))
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);
		bool		found = index->rd_index->indisprimary &&
			index->rd_index->indisvalid && index->rd_index->indimmediate;

		index_close(index, AccessShareLock);
		if (found)
			return lfirst_oid(cell);
	}
	return InvalidOid;
}

/* A scan key for one column of an index: equal to a value to be filled in. */
static void
make_scan_key(ScanKey key, Relation index, int i)
{
	Oid			type = index->rd_opcintype[i];
	Oid			operator = get_opfamily_member(index->rd_opfamily[i], type, type,
											   BTEqualStrategyNumber);

	ScanKeyEntryInitialize(key, 0, i + 1, BTEqualStrategyNumber, InvalidOid,
						   index->rd_indcollation[i], get_opcode(operator), (Datum) 0);
}

/* Is this a valid, immediate unique index of all rows on just the key? */
static bool
is_unique_on(Relation rel, Relation index, const IeVersionFacts *facts)
{
	Form_pg_index form = index->rd_index;
	int			i;
	int			j;

	if (!form->indisunique || !form->indimmediate || !form->indisvalid ||
		form->indnkeyatts != facts->nkeys || RelationGetIndexPredicate(index) != NIL)
		return false;
	for (i = 0; i < facts->nkeys; i++)
	{
		for (j = 0; j < facts->nkeys && form->indkey.values[j] != facts->key[i]; j++)
			;
		/* many rows may have NULL, and no version is found by it */
		if (j == facts->nkeys || facts->key[i] == 0 ||
			!TupleDescAttr(RelationGetDescr(rel), facts->key[i] - 1)->attnotnull ||
			!same_equality(index, j, &facts->scan_keys[i]))
			return false;
	}
	return true;
}

/*
 * Are values equal to a column of an index when they are to a scan key? What
 * another kind of index keeps apart (WITHOUT OVERLAPS) is more than that.
 */
static bool
same_equality(Relation index, int i, const ScanKeyData *key)
{
	Oid			type = index->rd_opcintype[i];
	Oid			operator;

	if (index->rd_rel->relam != BTREE_AM_OID)
		return true;
	operator = get_opfamily_member(index->rd_opfamily[i], type, type,
								   BTEqualStrategyNumber);
	return index->rd_indcollation[i] == key->sk_collation &&
		OidIsValid(operator) && get_opcode(operator) == key->sk_func.fn_oid;
}
