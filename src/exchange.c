/*
 * exchange.c: let a read model and its shadow exchange their storage.
 *
 * The rows and indexes of the shadow are complete when this begins, so all
 * that is left is to exchange, under an AccessExclusiveLock, which files the
 * catalogs name for the two tables and for each pair of indexes, and to which
 * of them the TOAST tables belong. OIDs stay, and with them views, grants,
 * triggers and plans. CLUSTER does the same (swap_relation_files), but builds
 * the indexes under the lock. No file is new in this transaction, so nothing
 * has to be remembered about WAL here, as CLUSTER has to.
 */
#include "rebuild.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/toast_internals.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_publication.h"
#include "commands/tablecmds.h"
#include "compat.h"
#include "storage/lmgr.h"
#include "storage/predicate.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

static const char *obstacle(Relation target);
static bool has_dropped_column(Relation target);
static bool has_unfit_index(Relation target);
static bool is_published(Relation target);
static void check_indexes(Relation target, List *pairs);
static void keep_toast_options(Oid target, Oid shadow);
static HeapTuple toast_of(Oid table);
static void exchange(Oid a, Oid b);
static void exchange_fields(Form_pg_class a, Form_pg_class b);
static void follow_toast(Oid toast, Oid owner);
static void name_toast(Oid target);

/* Raise an error for a read model whose storage cannot be exchanged. */
void
ie_check_exchange(Oid target)
{
	Relation	rel = ie_open_relation(target, AccessShareLock);
	const char *why = obstacle(rel);

	if (why != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("storage of read model \"%s\" cannot be exchanged",
						RelationGetRelationName(rel)),
				 errdetail("%s", why),
				 errhint("Rebuild it without swap => true: rows that differ are changed one by one."),
				 errtable(rel)));
	relation_close(rel, NoLock);
}

/* What stands in the way of an exchange, or NULL. */
static const char *
obstacle(Relation target)
{
	Oid			relid = RelationGetRelid(target);

	if (target->rd_rel->relkind != RELKIND_RELATION)
		return "The table is partitioned.";
	if (find_inheritance_children(relid, NoLock) != NIL || has_superclass(relid))
		return "The table inherits from another one, or another one from it.";
	if (is_published(target))
		return "The table is published: subscribers would not see the change.";
	if (RelationGetFKeyList(target) != NIL)
		return "The table has foreign keys, which would not be checked.";
	if (ie_is_referenced(relid))
		return "Foreign keys reference the table, which would not be checked.";
	if (has_dropped_column(target))
		return "Columns of the table were dropped, so its rows are laid out in another way.";
	if (has_unfit_index(target))
		return "An index of the table is not valid.";
	return NULL;
}

/* Was a column dropped? */
static bool
has_dropped_column(Relation target)
{
	TupleDesc	columns = RelationGetDescr(target);
	int			i;

	for (i = 0; i < columns->natts; i++)
		if (TupleDescAttr(columns, i)->attisdropped)
			return true;
	return false;
}

/* Is there an index that is not complete? */
static bool
has_unfit_index(Relation target)
{
	bool		found = false;
	ListCell   *cell;

	foreach(cell, RelationGetIndexList(target))
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		found |= !index->rd_index->indisvalid;
		index_close(index, NoLock);
	}
	return found;
}

/* Is the table replicated to somebody? */
static bool
is_published(Relation target)
{
	return GetRelationPublications(RelationGetRelid(target)) != NIL ||
		GetSchemaPublications(RelationGetNamespace(target)) != NIL ||
		(is_publishable_relation(target) && GetAllTablesPublications() != NIL);
}

/*
 * Exchange. The caller holds AccessExclusiveLock on the read model; pairs has
 * every index of it with its twin.
 */
void
ie_exchange_storage(Oid target, Oid shadow, List *pairs)
{
	Relation	old = ie_open_relation(target, NoLock);
	Relation	new = table_open(shadow, AccessExclusiveLock);
	ListCell   *cell;

	CheckTableNotInUse(old, "rebuild");
	CheckTableNotInUse(new, "rebuild");
	ie_check_exchange(target);
	check_indexes(old, pairs);
	TransferPredicateLocksToHeapRelation(old);
	foreach(cell, pairs)
	{
		IeIndexPair *pair = lfirst(cell);

		LockRelationOid(pair->index, AccessExclusiveLock);
		LockRelationOid(pair->twin, AccessExclusiveLock);
	}
	table_close(new, NoLock);
	relation_close(old, NoLock);
	keep_toast_options(target, shadow);
	exchange(target, shadow);
	foreach(cell, pairs)
		exchange(((IeIndexPair *) lfirst(cell))->index,
				 ((IeIndexPair *) lfirst(cell))->twin);
	CommandCounterIncrement();
	ie_drop_shadow(shadow);
	CommandCounterIncrement();
	name_toast(target);
}

/* An index that was made or dropped meanwhile has no twin. */
static void
check_indexes(Relation target, List *pairs)
{
	List	   *indexes = RelationGetIndexList(target);
	bool		same = list_length(indexes) == list_length(pairs);
	ListCell   *cell;

	foreach(cell, pairs)
		same &= list_member_oid(indexes, ((IeIndexPair *) lfirst(cell))->index);
	if (!same)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("read model \"%s\" has changed while it was being rebuilt",
						RelationGetRelationName(target)),
				 errdetail("It has other indexes than at the beginning."),
				 errhint("Rebuild it again."),
				 errtable(target)));
}

/* What is set for the TOAST table holds for the one that takes its place. */
static void
keep_toast_options(Oid target, Oid shadow)
{
	Relation	catalog = table_open(RelationRelationId, RowExclusiveLock);
	HeapTuple	old = toast_of(target);
	HeapTuple	new = toast_of(shadow);

	if (HeapTupleIsValid(old) && HeapTupleIsValid(new))
	{
		Datum		values[Natts_pg_class] = {0};
		bool		nulls[Natts_pg_class] = {false};
		bool		replace[Natts_pg_class] = {false};
		int			i = Anum_pg_class_reloptions - 1;

		values[i] = SysCacheGetAttr(RELOID, old, i + 1, &nulls[i]);
		replace[i] = true;
		new = heap_modify_tuple(new, RelationGetDescr(catalog), values, nulls, replace);
		CatalogTupleUpdate(catalog, &new->t_self, new);
		CommandCounterIncrement();
	}
	table_close(catalog, RowExclusiveLock);
}

/*
 * The row of pg_class of a table's TOAST table, or NULL. It is locked: vacuum,
 * which changes that row in place, takes no lock on the table itself.
 */
static HeapTuple
toast_of(Oid table)
{
	HeapTuple	row = SearchSysCacheCopy1(RELOID, ObjectIdGetDatum(table));
	Oid			toast;

	if (!HeapTupleIsValid(row))
		elog(ERROR, "cache lookup failed for relation %u", table);
	toast = ((Form_pg_class) GETSTRUCT(row))->reltoastrelid;
	if (!OidIsValid(toast))
		return NULL;
	LockRelationOid(toast, AccessExclusiveLock);
	return SearchSysCacheCopy1(RELOID, ObjectIdGetDatum(toast));
}

/* Exchange the storage of two tables, or of two indexes. */
static void
exchange(Oid a, Oid b)
{
	Relation	catalog = table_open(RelationRelationId, RowExclusiveLock);
	HeapTuple	one = SearchSysCacheCopy1(RELOID, ObjectIdGetDatum(a));
	HeapTuple	other = SearchSysCacheCopy1(RELOID, ObjectIdGetDatum(b));
	Form_pg_class x;
	Form_pg_class y;

	if (!HeapTupleIsValid(one) || !HeapTupleIsValid(other))
		elog(ERROR, "cache lookup failed for relation %u or %u", a, b);
	x = (Form_pg_class) GETSTRUCT(one);
	y = (Form_pg_class) GETSTRUCT(other);
	exchange_fields(x, y);
	CatalogTupleUpdate(catalog, &one->t_self, one);
	CatalogTupleUpdate(catalog, &other->t_self, other);
	if (OidIsValid(x->reltoastrelid))
		follow_toast(x->reltoastrelid, a);
	if (OidIsValid(y->reltoastrelid))
		follow_toast(y->reltoastrelid, b);
	InvokeObjectPostAlterHookArg(RelationRelationId, a, 0, InvalidOid, true);
	InvokeObjectPostAlterHookArg(RelationRelationId, b, 0, InvalidOid, true);
	table_close(catalog, RowExclusiveLock);
	ie_close_exchanged(a, b);
}

/* Exchange the columns of pg_class that are about files. */
static void
exchange_fields(Form_pg_class a, Form_pg_class b)
{
	FormData_pg_class old = *a;

	if (a->relkind != b->relkind || a->relam != b->relam ||
		a->relpersistence != b->relpersistence ||
		a->relfilenode == 0 || b->relfilenode == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("storage of \"%s\" and \"%s\" cannot be exchanged",
						NameStr(a->relname), NameStr(b->relname)),
				 errdetail("They are not stored in the same way."),
				 errhint("Rebuild it again.")));
	a->relfilenode = b->relfilenode;
	a->reltablespace = b->reltablespace;
	a->reltoastrelid = b->reltoastrelid;
	a->relfrozenxid = b->relfrozenxid;
	a->relminmxid = b->relminmxid;
	b->relfilenode = old.relfilenode;
	b->reltablespace = old.reltablespace;
	b->reltoastrelid = old.reltoastrelid;
	b->relfrozenxid = old.relfrozenxid;
	b->relminmxid = old.relminmxid;
	ie_exchange_sizes(a, b);
}

/* A TOAST table belongs to another table now; that is all it depends on. */
static void
follow_toast(Oid toast, Oid owner)
{
	ObjectAddress ours = {.classId = RelationRelationId, .objectId = toast};
	ObjectAddress theirs = {.classId = RelationRelationId, .objectId = owner};

	(void) deleteDependencyRecordsFor(RelationRelationId, toast, false);
	recordDependencyOn(&ours, &theirs, DEPENDENCY_INTERNAL);
}

/* Name the TOAST table after its table, as they all are. */
static void
name_toast(Oid target)
{
	Relation	rel = ie_open_relation(target, NoLock);
	Oid			toast = rel->rd_rel->reltoastrelid;

	relation_close(rel, NoLock);
	if (!OidIsValid(toast))
		return;
	LockRelationOid(toast, AccessExclusiveLock);
	RenameRelationInternal(toast, psprintf("pg_toast_%u", target), true, false);
	RenameRelationInternal(toast_get_valid_index(toast, AccessExclusiveLock),
						   psprintf("pg_toast_%u_index", target), true, true);
	CommandCounterIncrement();
}
