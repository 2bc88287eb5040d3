/*
 * projected.c: which read models a log feeds, asked of the registry.
 *
 * For those below the projections who must not leave one behind: append, which
 * refuses when the trigger of inline projections is missing; imports and
 * replication, which could pass it by; drop_log and unprotect.
 */
#include "projected.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#define COLUMN_TARGET	1
#define COLUMN_MODE		7

static bool is_inline(HeapTuple row, TupleDesc columns);
static const Trigger *find_projector(Relation rel);

/* A read model that a log feeds, or InvalidOid. */
Oid
ie_fed_by(Oid log, bool only_inline)
{
	Oid			schema = get_namespace_oid(IE_SCHEMA, true);
	Oid			registry = get_relname_relid("projections", schema);
	Oid			found = InvalidOid;
	Relation	rel;
	Snapshot	latest;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	row;
	bool		isnull;

	if (!OidIsValid(registry))
		return InvalidOid;
	rel = table_open(registry, AccessShareLock);
	latest = RegisterSnapshot(ie_latest_snapshot());
	ScanKeyInit(&key, get_attnum(registry, "log"), BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(log));
	scan = systable_beginscan(rel, get_relname_relid("projections_log_idx", schema),
							  true, latest, 1, &key);
	while (!OidIsValid(found) && HeapTupleIsValid(row = systable_getnext(scan)))
		if (!only_inline || is_inline(row, RelationGetDescr(rel)))
			found = DatumGetObjectId(heap_getattr(row, COLUMN_TARGET,
												  RelationGetDescr(rel), &isnull));
	systable_endscan(scan);
	UnregisterSnapshot(latest);
	table_close(rel, AccessShareLock);
	return found;
}

/* Is a row of the registry about an inline projection? */
static bool
is_inline(HeapTuple row, TupleDesc columns)
{
	bool		isnull;
	Datum		mode = heap_getattr(row, COLUMN_MODE, columns, &isnull);

	return strcmp(TextDatumGetCString(mode), "inline") == 0;
}

/* Why the inline projections of a log would not be run, or NULL. */
const char *
ie_projector_problem(Relation log)
{
	const Trigger *trigger = find_projector(log);

	if (trigger != NULL && trigger->tgenabled == TRIGGER_FIRES_ALWAYS)
		return NULL;
	if (!OidIsValid(ie_fed_by(RelationGetRelid(log), true)))
		return NULL;
	return trigger == NULL
		? "the trigger of its inline projections is missing or was replaced"
		: "the trigger of its inline projections is not ENABLE ALWAYS";
}

/* Has a log, of which this may be a leaf, inline projections? */
bool
ie_has_projector(Relation rel)
{
	Relation	log;
	bool		found;

	if (!rel->rd_rel->relispartition)
		return find_projector(rel) != NULL;
	log = relation_open(ie_partition_root(rel), AccessShareLock);
	found = find_projector(log) != NULL;
	relation_close(log, NoLock);
	return found;
}

/* The trigger that runs a log's inline projections, or NULL. */
static const Trigger *
find_projector(Relation rel)
{
	int			i;

	for (i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		const Trigger *trigger = &rel->trigdesc->triggers[i];
		FmgrInfo	flinfo;

		if (trigger->tgtype != (TRIGGER_TYPE_AFTER | TRIGGER_TYPE_INSERT) ||
			trigger->tgnewtable == NULL || trigger->tgqual != NULL)
			continue;
		fmgr_info(trigger->tgfoid, &flinfo);
		if (flinfo.fn_addr == ie_project_trigger)
			return trigger;
	}
	return NULL;
}

/* Refuse to give up a log that read models live on. */
void
ie_check_feeds_nothing(Oid log, const char *verb)
{
	Oid			target = ie_fed_by(log, false);

	if (OidIsValid(target))
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("cannot %s log \"%s\"", verb, get_rel_name(log)),
				 errdetail("The projection into \"%s\" reads it.", get_rel_name(target)),
				 errhint("Call immutable.drop_projection for each read model of the log first.")));
}
