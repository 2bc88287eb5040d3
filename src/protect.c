/*
 * protect.c: put the guards on a table, and take them off.
 *
 * A partitioned table has its statement guard and passes rows to its leaves,
 * so each leaf has guards of its own; the same holds for a table with
 * inheritance children. Nothing is changed before every member was checked.
 */
#include "guard.h"
#include "projected.h"
#include "snapshot.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "compat.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

static List *lock_family(Oid target, LOCKMODE lockmode);
static void check_protectable(Relation rel);
static bool arm(Oid relid);
static bool arm_trigger(Oid relid, bool row);
static void check_new_part(Oid parent, Oid part);
static Oid	protected_parent(Oid relid);
static void check_whole(Oid target);
static void drop_beside(Oid relid);
static bool disarm(Oid target, bool force, const char *action);
static bool disarm_member(Oid relid);
static void check_force(List *family, bool force);
static void record(Oid relid, const char *action);

PG_FUNCTION_INFO_V1(ie_protect);
PG_FUNCTION_INFO_V1(ie_unprotect);
PG_FUNCTION_INFO_V1(ie_drop_log);

/* Make a table accept INSERT and nothing else; a log not even that. */
Datum
ie_protect(PG_FUNCTION_ARGS)
{
	List	   *family;
	ListCell   *cell;
	bool		changed = false;

	ie_require_arg(fcinfo, 0, "target");
	PreventCommandDuringRecovery("immutable.protect()");
	family = lock_family(PG_GETARG_OID(0), ShareRowExclusiveLock);
	foreach(cell, family)
	{
		Relation	rel = relation_open(lfirst_oid(cell), NoLock);

		check_protectable(rel);
		relation_close(rel, NoLock);
	}
	foreach(cell, family)
		changed |= arm(lfirst_oid(cell));
	if (changed)
		record(PG_GETARG_OID(0), "protect");
	else
		ereport(NOTICE,
				(errmsg("table \"%s\" is already protected",
						get_rel_name(PG_GETARG_OID(0)))));
	PG_RETURN_VOID();
}

/*
 * Lock a table and everything below it; the caller must own all. The family
 * is a list of OIDs: DROP TRIGGER refuses a relation that its caller has open.
 */
static List *
lock_family(Oid target, LOCKMODE lockmode)
{
	List	   *family;
	ListCell   *cell;

	/* find_all_inheritors locks what is below, not the table itself */
	relation_close(ie_open_own_relation(target, lockmode), NoLock);
	family = find_all_inheritors(target, lockmode, NULL);
	foreach(cell, family)
	{
		Relation	rel = ie_open_relation(lfirst_oid(cell), NoLock);

		ie_check_owner(rel);
		relation_close(rel, NoLock);
	}
	return family;
}

/* Refuse what no trigger can guard. */
static void
check_protectable(Relation rel)
{
	char		relkind = rel->rd_rel->relkind;

	if (relkind != RELKIND_RELATION && relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("cannot protect \"%s\"", RelationGetRelationName(rel)),
				 errdetail("It is not a table."),
				 errhint("Give an ordinary or a partitioned table.")));
	if (rel->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("cannot protect table \"%s\"",
						RelationGetRelationName(rel)),
				 errdetail("Temporary and unlogged tables lose their rows."),
				 errhint("Use an ordinary table, or ALTER TABLE ... SET LOGGED.")));
	if (ie_is_read_model(RelationGetRelid(rel)))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("cannot protect \"%s\"", RelationGetRelationName(rel)),
				 errdetail("It is a read model: its projection changes its rows."),
				 errhint("Its log is immutable already.")));
	ie_check_lasting(RelationGetRelid(rel));
	if (rel->rd_rules != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot protect table \"%s\"",
						RelationGetRelationName(rel)),
				 errdetail("It has rules, and a rule can swallow an INSERT."),
				 errhint("Drop its rules first.")));
}

/* Put the missing guards on one table; false when it was armed already. */
static bool
arm(Oid relid)
{
	bool		changed = false;

	if (get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
		changed = arm_trigger(relid, true);
	return arm_trigger(relid, false) || changed;
}

/*
 * Create one guard, or set it to ENABLE ALWAYS; false when it is in place. Only
 * the extension's owner may use the guard function. CreateTrigger is called by
 * OID and not as a command: no event trigger, which might trust the caller's
 * search_path, runs with the owner's rights.
 */
static bool
arm_trigger(Oid relid, bool row)
{
	Relation	rel = relation_open(relid, NoLock);
	const Trigger *guard = ie_find_guard(rel, row);
	CreateTrigStmt *create = makeNode(CreateTrigStmt);
	Oid			user;
	int			security;

	if (guard != NULL && guard->tgenabled == TRIGGER_FIRES_ALWAYS)
	{
		relation_close(rel, NoLock);
		return false;
	}
	create->replace = true;
	create->trigname = guard != NULL ? pstrdup(guard->tgname)
		: row ? IE_GUARD_ROW : IE_GUARD_STATEMENT;
	create->row = row;
	create->timing = TRIGGER_TYPE_BEFORE;
	create->events = ie_guard_events(rel, row);
	relation_close(rel, NoLock);

	GetUserIdAndSecContext(&user, &security);
	SetUserIdAndSecContext(ie_extension_owner(),
						   security | SECURITY_LOCAL_USERID_CHANGE);
	CreateTriggerFiringOn(create, NULL, relid, InvalidOid, InvalidOid,
						  InvalidOid, ie_guard_function(), InvalidOid, NULL,
						  false, false, TRIGGER_FIRES_ALWAYS);
	SetUserIdAndSecContext(user, security);
	CommandCounterIncrement();
	return true;
}

/* Guard a table that has become a part of a protected one. */
void
ie_adopt(Oid relid)
{
	Oid			parent = protected_parent(relid);
	List	   *family;
	ListCell   *cell;

	if (!OidIsValid(parent))
		return;
	LockRelationOid(relid, AccessShareLock);	/* IF NOT EXISTS takes none */
	if (!get_rel_relispartition(relid))
	{
		if (ie_is_protected(relid))
			return;				/* with its parent */
		ie_refuse(parent, "inherit from", "INHERITS");
	}
	family = find_all_inheritors(relid, ShareRowExclusiveLock, NULL);
	foreach(cell, family)
		check_new_part(parent, lfirst_oid(cell));
	foreach(cell, family)
		arm(lfirst_oid(cell));
}

/* What is attached to a log must be empty: its rows were not appended. */
static void
check_new_part(Oid parent, Oid part)
{
	Relation	rel = relation_open(part, NoLock);
	bool		armed = ie_guard_problem(rel) == NULL;

	check_protectable(rel);
	relation_close(rel, NoLock);
	if (!armed && ie_is_log_oid(parent) && ie_has_rows(part))
		ie_refuse(parent, "attach a table with rows to", "ATTACH PARTITION");
}

/* Guard whatever has become a part of a table. */
void
ie_adopt_parts(Oid parent)
{
	ListCell   *cell;

	if (ie_is_protected(parent))
		foreach(cell, find_inheritance_children(parent, AccessShareLock))
			ie_adopt(lfirst_oid(cell));
}

/* A protected table that the relation is a part or a child of. */
static Oid
protected_parent(Oid relid)
{
	ListCell   *cell;

	foreach(cell, ie_parents(relid))
		if (ie_is_protected(lfirst_oid(cell)))
			return lfirst_oid(cell);
	return InvalidOid;
}

/* The tables that a relation is a part or a child of. */
List *
ie_parents(Oid relid)
{
	Relation	catalog = table_open(InheritsRelationId, AccessShareLock);
	List	   *parents = NIL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_inherits_inhrelid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, InheritsRelidSeqnoIndexId, true, NULL,
							  1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		parents = lappend_oid(parents, ((Form_pg_inherits) GETSTRUCT(tuple))->inhparent);
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return parents;
}

/* Make a protected table an ordinary one again. */
Datum
ie_unprotect(PG_FUNCTION_ARGS)
{
	ie_require_arg(fcinfo, 0, "target");
	ie_require_arg(fcinfo, 1, "force");
	PreventCommandDuringRecovery("immutable.unprotect()");
	if (!disarm(PG_GETARG_OID(0), PG_GETARG_BOOL(1), "unprotect"))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" is not protected",
						get_rel_name(PG_GETARG_OID(0))),
				 errhint("immutable.protected_tables shows those that are.")));
	/* it may be dropped now, or its positions rewritten */
	if (ie_is_version_table_oid(PG_GETARG_OID(0)))
		ie_forget_log(PG_GETARG_OID(0));
	PG_RETURN_VOID();
}

/* Drop a log. */
Datum
ie_drop_log(PG_FUNCTION_ARGS)
{
	Relation	rel;
	char	   *name;

	ie_require_arg(fcinfo, 0, "log");
	ie_require_arg(fcinfo, 1, "force");
	PreventCommandDuringRecovery("immutable.drop_log()");
	rel = ie_open_relation(PG_GETARG_OID(0), AccessShareLock);
	if (!ie_is_log(rel) || rel->rd_rel->relispartition)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a log", RelationGetRelationName(rel)),
				 errhint("immutable.logs shows those that are.")));
	name = ie_qualified_name(rel);
	relation_close(rel, AccessShareLock);
	disarm(PG_GETARG_OID(0), PG_GETARG_BOOL(1), "drop");
	drop_beside(ie_side_table("command_tables", PG_GETARG_OID(0)));
	ie_execute(psprintf("DROP TABLE %s", name));
	ie_forget_log(PG_GETARG_OID(0));
	ie_drop_snapshots(PG_GETARG_OID(0));
	PG_RETURN_VOID();
}

/* Drop a protected table that stands beside a log, if it is there. */
static void
drop_beside(Oid relid)
{
	Relation	rel = OidIsValid(relid)
		? try_relation_open(relid, AccessExclusiveLock) : NULL;
	char	   *name;

	if (rel == NULL)
		return;
	name = ie_qualified_name(rel);
	relation_close(rel, NoLock);
	disarm(relid, true, "drop");
	ie_execute(psprintf("DROP TABLE %s", name));
}

/* Take the guards off a family; false when there were none. */
static bool
disarm(Oid target, bool force, const char *action)
{
	List	   *family = lock_family(target, AccessExclusiveLock);
	ListCell   *cell;
	bool		changed = false;

	check_whole(target);
	ie_check_feeds_nothing(target, action);
	check_force(family, force);
	foreach(cell, family)
		changed |= disarm_member(lfirst_oid(cell));
	if (changed)
	{
		record(target, action);
		ie_void_snapshots(target);
	}
	return changed;
}

/* What the extension needs, or a part of something, is not given up alone. */
static void
check_whole(Oid target)
{
	Oid			parent = protected_parent(target);

	if (ie_is_member(RelationRelationId, target) && ie_is_protected(target))
		ereport(ERROR,
				(errcode(ERRCODE_RESTRICT_VIOLATION),
				 errmsg("cannot unprotect \"%s\"", get_rel_name(target)),
				 errdetail("It is the audit trail of the guards."),
				 errhint("It goes with the extension.")));
	if (OidIsValid(parent))
		ereport(ERROR,
				(errcode(ERRCODE_RESTRICT_VIOLATION),
				 errmsg("cannot unprotect \"%s\"", get_rel_name(target)),
				 errdetail("It is a part of immutable table \"%s\".", get_rel_name(parent)),
				 errhint("Unprotect that table, and protect it again in the same transaction.")));
}

/* Drop every guard of one table; false when there is none. */
static bool
disarm_member(Oid relid)
{
	Relation	rel = relation_open(relid, NoLock);
	List	   *guards = NIL;
	ListCell   *cell;
	int			i;

	for (i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
		if (rel->trigdesc->triggers[i].tgfoid == ie_guard_function())
			guards = lappend_oid(guards, rel->trigdesc->triggers[i].tgoid);
	relation_close(rel, NoLock);
	foreach(cell, guards)
		ie_release(lfirst_oid(cell));
	if (guards != NIL)
		CommandCounterIncrement();
	return guards != NIL;
}

/* A log or a version table with rows is given up only on purpose. */
static void
check_force(List *family, bool force)
{
	Relation	root = relation_open(linitial_oid(family), NoLock);
	ListCell   *cell;

	foreach(cell, family)
		if (!force && ie_is_history(root) && ie_has_rows(lfirst_oid(cell)))
			ereport(ERROR,
					(errcode(ERRCODE_RESTRICT_VIOLATION),
					 ie_is_log(root)
					 ? errmsg("log \"%s\" holds events",
							  RelationGetRelationName(root))
					 : errmsg("table \"%s\" holds versions",
							  RelationGetRelationName(root)),
					 errdetail("Without its guards they could be changed or lost."),
					 errhint("Pass force => true if that is what you want."),
					 errtable(root)));
	relation_close(root, NoLock);
}

/* Does the table hold a row, whoever may see it? */
bool
ie_has_rows(Oid relid)
{
	Relation	rel = relation_open(relid, NoLock);
	bool		found = false;

	if (rel->rd_rel->relkind == RELKIND_FOREIGN_TABLE)
		found = true;			/* nobody knows */
	else if (rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
	{
		Snapshot	snapshot;
		TupleTableSlot *slot = table_slot_create(rel, NULL);
		TableScanDesc scan;

		/* rows that this very statement has written count as well */
		CommandCounterIncrement();
		snapshot = RegisterSnapshot(GetLatestSnapshot());
		scan = table_beginscan(rel, snapshot, 0, NULL);
		found = table_scan_getnextslot(scan, ForwardScanDirection, slot);
		table_endscan(scan);
		ExecDropSingleTupleTableSlot(slot);
		UnregisterSnapshot(snapshot);
	}
	relation_close(rel, NoLock);
	return found;
}

/* Leave an audit row. */
static void
record(Oid relid, const char *action)
{
	Relation	rel = relation_open(relid, NoLock);

	ie_record_change(rel, action);
	relation_close(rel, NoLock);
}
