/*
 * compat.h: the only file that looks at PG_VERSION_NUM.
 *
 * A polyfill takes the name and the shape of the newest server's function.
 */
#ifndef IMMUTABLE_EVENTS_COMPAT_H
#define IMMUTABLE_EVENTS_COMPAT_H

#include "access/attmap.h"
#include "access/genam.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "commands/defrem.h"
#include "executor/executor.h"
#include "executor/functions.h"
#include "miscadmin.h"
#include "parser/parse_relation.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/sinvaladt.h"
#include "utils/acl.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
#include "utils/relcache.h"

#if PG_VERSION_NUM < 150000
#error "immutable_events needs PostgreSQL 15 or later"
#endif

#if PG_VERSION_NUM < 160000
#define guc_malloc(elevel, size) malloc(size)
#define guc_free(ptr) free(ptr)

/* ACL and owner checks by catalog, as PostgreSQL 16 has them. */
static inline AclResult
ie_function_aclcheck(Oid function, Oid role)
{
	return pg_proc_aclcheck(function, role, ACL_EXECUTE);
}

static inline bool
ie_relation_ownercheck(Oid relation, Oid role)
{
	return pg_class_ownercheck(relation, role);
}
#else
static inline AclResult
ie_function_aclcheck(Oid function, Oid role)
{
	return object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE);
}

static inline bool
ie_relation_ownercheck(Oid relation, Oid role)
{
	return object_ownercheck(RelationRelationId, relation, role);
}
#endif

#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

/* The member of PGPROC that holds the local transaction id. */
#if PG_VERSION_NUM < 170000
#define IE_LXID lxid
#else
#define IE_LXID vxid.lxid
#endif

#if PG_VERSION_NUM < 170000
#define SearchPathMatcher OverrideSearchPath
#define GetSearchPathMatcher GetOverrideSearchPath
#define SearchPathMatchesCurrentEnvironment OverrideSearchPathMatchesCurrent
#endif

/*
 * Check a table privilege, SELECT or INSERT, as the executor does for a query,
 * so that ExecutorCheckPerms_hook (pgaudit, sepgsql) sees the access too.
 */
static inline void
ie_check_privileges(Relation rel, AclMode mode, Bitmapset *columns)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);
#if PG_VERSION_NUM >= 160000
	List	   *perminfos = NIL;
	RTEPermissionInfo *perminfo;
#endif

	rte->rtekind = RTE_RELATION;
	rte->relid = RelationGetRelid(rel);
	rte->relkind = rel->rd_rel->relkind;
	rte->rellockmode = (mode == ACL_INSERT) ? RowExclusiveLock : AccessShareLock;
#if PG_VERSION_NUM >= 160000
	perminfo = addRTEPermissionInfo(&perminfos, rte);
	perminfo->requiredPerms = mode;
	if (mode == ACL_INSERT)
		perminfo->insertedCols = columns;
	else
		perminfo->selectedCols = columns;
	ExecCheckPermissions(list_make1(rte), perminfos, true);
#else
	rte->requiredPerms = mode;
	if (mode == ACL_INSERT)
		rte->insertedCols = columns;
	else
		rte->selectedCols = columns;
	ExecCheckRTPerms(list_make1(rte), true);
#endif
}

/* ExecutorCheckPerms_hook: its parameters, and what of them lists accesses. */
#if PG_VERSION_NUM >= 160000
#define IE_PERMISSIONS_PARAMETERS List *range, List *accesses, bool raise
#define IE_PERMISSIONS_ARGUMENTS range, accesses, raise
#define IE_PERMISSIONS_LIST accesses
typedef RTEPermissionInfo IeAccess;
#else
#define IE_PERMISSIONS_PARAMETERS List *range, bool raise
#define IE_PERMISSIONS_ARGUMENTS range, raise
#define IE_PERMISSIONS_LIST range
typedef RangeTblEntry IeAccess;
#endif

/* The system catalogs that a query writes to. */
static inline List *
ie_written_catalogs(List *accesses)
{
	List	   *catalogs = NIL;
	ListCell   *cell;

	foreach(cell, accesses)
	{
		IeAccess   *access = lfirst(cell);

		if (access->relid != InvalidOid &&
			access->relid < (Oid) FirstUnpinnedObjectId &&
			((access->requiredPerms & (ACL_INSERT | ACL_DELETE)) != 0 ||
			 access->updatedCols != NULL))	/* not FOR UPDATE */
			catalogs = lappend_oid(catalogs, access->relid);
	}
	return catalogs;
}

/* Does this transaction hold just this lock on a relation? */
static inline bool
ie_holds_relation(Oid relid, LOCKMODE mode)
{
	LOCKTAG		tag;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
#if PG_VERSION_NUM >= 170000
	return LockHeldByMe(&tag, mode, false);
#else
	return LockHeldByMe(&tag, mode);
#endif
}

/* The process that runs, or ran, a transaction; NULL when it is gone. */
static inline PGPROC *
ie_process_of(VirtualTransactionId transaction)
{
#if PG_VERSION_NUM >= 170000
	return ProcNumberGetProc(transaction.procNumber);
#else
	return BackendIdGetProc(transaction.backendId);
#endif
}

/*
 * Does a process hold a lock, of one partition of the lock table, that has
 * these fields 2 and 4, in a mode? The caller holds the partition's LWLock.
 */
static inline bool
ie_process_holds(PGPROC *process, int partition, uint32 field2, uint16 field4,
				 LOCKMODE mode)
{
#if PG_VERSION_NUM >= 160000
	dlist_iter	iter;

	dlist_foreach(iter, &process->myProcLocks[partition])
	{
		PROCLOCK   *held = dlist_container(PROCLOCK, procLink, iter.cur);
#else
	SHM_QUEUE  *list = &process->myProcLocks[partition];
	PROCLOCK   *held = (PROCLOCK *) SHMQueueNext(list, list, offsetof(PROCLOCK, procLink));

	for (; held != NULL;
		 held = (PROCLOCK *) SHMQueueNext(list, &held->procLink, offsetof(PROCLOCK, procLink)))
	{
#endif
		const LOCKTAG *tag = &held->tag.myLock->tag;

		if ((held->holdMask & LOCKBIT_ON(mode)) != 0 &&
			tag->locktag_type == LOCKTAG_ADVISORY &&
			tag->locktag_field1 == MyDatabaseId &&
			tag->locktag_field2 == field2 && tag->locktag_field4 == field4)
			return true;
	}
	return false;
}

/* How many transactions that have written have ended in this server. */
static inline uint64
ie_completed_transactions(void)
{
#if PG_VERSION_NUM >= 170000
	return *(volatile uint64 *) &TransamVariables->xactCompletionCount;
#else
	return *(volatile uint64 *) &ShmemVariableCache->xactCompletionCount;
#endif
}

/* Insert the index entries of a new row. */
static inline List *
ie_insert_index_tuples(ResultRelInfo *target, TupleTableSlot *slot,
					   EState *estate)
{
#if PG_VERSION_NUM >= 160000
	return ExecInsertIndexTuples(target, slot, estate, false, false, NULL,
								 NIL, false);
#else
	return ExecInsertIndexTuples(target, slot, estate, false, false, NULL,
								 NIL);
#endif
}

/* The same, unless one of these indexes has an entry of that key already. */
static inline void
ie_insert_index_tuples_unless(ResultRelInfo *target, TupleTableSlot *slot,
							  EState *estate, bool *conflicts, List *arbiters)
{
#if PG_VERSION_NUM >= 160000
	(void) ExecInsertIndexTuples(target, slot, estate, false, true, conflicts,
								 arbiters, false);
#else
	(void) ExecInsertIndexTuples(target, slot, estate, false, true, conflicts,
								 arbiters);
#endif
}

/* Would a row be the first of its key in these indexes? Waits for others. */
static inline bool
ie_check_index_constraints(ResultRelInfo *target, TupleTableSlot *slot,
						   EState *estate, ItemPointer conflict, List *arbiters)
{
#if PG_VERSION_NUM >= 180000
	ItemPointerData none;

	ItemPointerSetInvalid(&none);
	return ExecCheckIndexConstraints(target, slot, estate, conflict, &none, arbiters);
#else
	return ExecCheckIndexConstraints(target, slot, estate, conflict, arbiters);
#endif
}

/* Which indexes need an entry for the new version of a row. */
#if PG_VERSION_NUM >= 160000
typedef TU_UpdateIndexes IeIndexUpdate;
#define ie_must_update_indexes(update) ((update) != TU_None)
#else
typedef bool IeIndexUpdate;
#define ie_must_update_indexes(update) (update)
#endif

/* Write a new version of a row, after waiting for whoever has it in hand. */
static inline TM_Result
ie_table_update(Relation rel, ItemPointer tid, TupleTableSlot *slot,
				CommandId command, TM_FailureData *failure,
				IeIndexUpdate *update)
{
	LockTupleMode lockmode;

	return table_tuple_update(rel, tid, slot, command, InvalidSnapshot,
							  InvalidSnapshot, true, failure, &lockmode, update);
}

/* Insert the index entries of a new version. */
static inline void
ie_update_index_tuples(ResultRelInfo *target, TupleTableSlot *slot,
					   EState *estate, IeIndexUpdate update pg_attribute_unused())
{
#if PG_VERSION_NUM >= 160000
	(void) ExecInsertIndexTuples(target, slot, estate, true, false, NULL, NIL,
								 update == TU_Summarizing);
#else
	(void) ExecInsertIndexTuples(target, slot, estate, true, false, NULL, NIL);
#endif
}

/*
 * Close an index that rows were inserted into; its lock stays to the end of
 * the transaction.
 */
static inline void
ie_close_index(Relation index, IndexInfo *info pg_attribute_unused())
{
#if PG_VERSION_NUM >= 170000
	index_insert_cleanup(index, info);
#endif
	index_close(index, NoLock);
}

/* Run a query on for so many rows. */
static inline void
ie_executor_run(QueryDesc *query, uint64 count)
{
#if PG_VERSION_NUM >= 180000
	ExecutorRun(query, ForwardScanDirection, count);
#else
	ExecutorRun(query, ForwardScanDirection, count, false);
#endif
}

/* The server's major version, for what must not outlive it. */
#define IE_SERVER PG_MAJORVERSION

/* As in utils/pg_locale.h, which needs the headers of ICU. */
extern char *get_collation_actual_version(char collprovider,
										  const char *collcollate);

/* Cast what the last query of a SQL function returns to what it declares. */
static inline void
ie_coerce_sql_result(List *queries, Oid type, TupleDesc columns)
{
#if PG_VERSION_NUM >= 180000
	(void) check_sql_fn_retval(queries, type, columns, PROKIND_FUNCTION, false);
#elif PG_VERSION_NUM >= 170000
	(void) check_sql_fn_retval(queries, type, columns, PROKIND_FUNCTION, false, NULL);
#else
	(void) check_sql_fn_retval(queries, type, columns, false, NULL);
#endif
}

/* Begin an index scan that returns heap rows. */
static inline IndexScanDesc
ie_index_beginscan(Relation heap, Relation index, Snapshot snapshot, int nkeys)
{
#if PG_VERSION_NUM >= 180000
	return index_beginscan(heap, index, snapshot, NULL, nkeys, 0);
#else
	return index_beginscan(heap, index, snapshot, nkeys, 0);
#endif
}

/* Has no row NULL in a column? In 18, NOT NULL may be NOT VALID. */
static inline bool
ie_never_null(TupleDesc columns, AttrNumber column)
{
#if PG_VERSION_NUM >= 180000
	return TupleDescCompactAttr(columns, column - 1)->attnullability == ATTNULLABLE_VALID;
#else
	return TupleDescAttr(columns, column - 1)->attnotnull;
#endif
}

/* The primary key that a query can rely on: 18 can be asked for deferrable ones. */
static inline Oid
ie_primary_key(Relation rel)
{
#if PG_VERSION_NUM >= 180000
	return RelationGetPrimaryKeyIndex(rel, false);
#else
	return RelationGetPrimaryKeyIndex(rel);
#endif
}

/* The column of one row type for each of another, by name. */
static inline AttrMap *
ie_column_map(TupleDesc from, TupleDesc to)
{
#if PG_VERSION_NUM >= 160000
	return build_attrmap_by_name(from, to, false);
#else
	return build_attrmap_by_name(from, to);
#endif
}

/* Create an index that was described elsewhere; its caller builds it. */
static inline Oid
ie_define_index(Oid relid, IndexStmt *command)
{
#if PG_VERSION_NUM >= 160000
	return DefineIndex(relid, command, InvalidOid, InvalidOid, InvalidOid, -1,
					   false, false, false, true, true).objectId;
#else
	return DefineIndex(relid, command, InvalidOid, InvalidOid, InvalidOid,
					   false, false, false, true, true).objectId;
#endif
}

/* Exchange what the catalogs say of how large two relations are. */
static inline void
ie_exchange_sizes(Form_pg_class a, Form_pg_class b)
{
	FormData_pg_class old = *a;

	a->relpages = b->relpages;
	a->reltuples = b->reltuples;
	a->relallvisible = b->relallvisible;
	b->relpages = old.relpages;
	b->reltuples = old.reltuples;
	b->relallvisible = old.relallvisible;
#if PG_VERSION_NUM >= 180000
	a->relallfrozen = b->relallfrozen;
	b->relallfrozen = old.relallfrozen;
#endif
}

/*
 * Let go of the files of two relations that have exchanged them, before their
 * relcache entries are built anew. Later servers do without.
 */
static inline void
ie_close_exchanged(Oid a pg_attribute_unused(), Oid b pg_attribute_unused())
{
#if PG_VERSION_NUM < 170000
	RelationCloseSmgrByOid(a);
	RelationCloseSmgrByOid(b);
#endif
}

#if PG_VERSION_NUM < 160000
#define pgstat_get_local_beentry_by_index(index) pgstat_fetch_stat_local_beentry(index)
#endif

#endif							/* IMMUTABLE_EVENTS_COMPAT_H */
