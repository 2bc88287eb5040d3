/*
 * guard.c: the trigger that refuses, and the check that it is in place.
 *
 * One trigger function sits on every protected table, once for each row and
 * once for each statement, ENABLE ALWAYS: it raises for whatever event it was
 * made for. On a log those events include INSERT, and then it lets three
 * kinds of row in: the one that append has announced, what logical
 * replication applies, and an import by the owner. On a version table they
 * include it as well, and the version trigger is the one that announces.
 */
#include "guard.h"
#include "projected.h"

#include "access/relation.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "compat.h"
#include "replication/logicalworker.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

static IeAdmission admitted;
static IeVersionAdmission admitted_version;
static uint64 other_rows = 0;	/* let in, and not from append */

static const char *verb(TriggerEvent event);
static void check_insert(TriggerData *trigdata);
pg_noreturn static void refuse_past_projections(Relation rel,
												const char *detail,
												const char *hint);
static bool is_admitted(TriggerData *trigdata);
static bool is_admitted_version(TriggerData *trigdata);
static bool is_replicated(void);
pg_noreturn static void refuse(Relation rel, const char *action);
static const char *trigger_problem(Relation rel, bool row);

PG_FUNCTION_INFO_V1(ie_guard);
PG_FUNCTION_INFO_V1(ie_guard_problem_text);

/* Refuse to change an immutable table. */
Datum
ie_guard(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by trigger manager",
						"immutable._guard")));
	if (!TRIGGER_FIRED_BEFORE(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be fired BEFORE",
						"immutable._guard")));

	if (!TRIGGER_FIRED_BY_INSERT(trigdata->tg_event))
		refuse(trigdata->tg_relation, verb(trigdata->tg_event));
	check_insert(trigdata);
	/* a BEFORE ROW trigger returns the row that goes in */
	return PointerGetDatum(trigdata->tg_trigtuple);
}

/* The verb of the message, from the event that fired. */
static const char *
verb(TriggerEvent event)
{
	if (TRIGGER_FIRED_BY_UPDATE(event))
		return "update";
	if (TRIGGER_FIRED_BY_DELETE(event))
		return "delete from";
	return "truncate";
}

/* Let a row into a log, or a statement that may bring one. */
static void
check_insert(TriggerData *trigdata)
{
	Relation	rel = trigdata->tg_relation;

	if (is_admitted(trigdata) || is_admitted_version(trigdata))
		return;
	other_rows++;
	if (is_replicated())
	{
		if (ie_has_projector(rel))
			refuse_past_projections(rel, "Logical replication fires no statement triggers.",
									"Make its projections asynchronous.");
		ie_wake_at_end();
		return;
	}
	if (!ie_import || !ie_is_log(rel))
		refuse(rel, "insert into");
	if (TRIGGER_FIRED_FOR_ROW(trigdata->tg_event))
		ie_import_row(rel, trigdata->tg_trigslot);
	else
	{
		if (rel->rd_rel->relispartition && ie_has_projector(rel))
			refuse_past_projections(rel, "A row that goes into a partition does not pass the trigger of its log.",
									"Import into the log itself.");
		ie_import_begin(rel);
	}
}

/* Raise the error for rows that inline projections would not be told of. */
static void
refuse_past_projections(Relation rel, const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot insert into \"%s\" past the inline projections of its log",
					RelationGetRelationName(rel)),
			 errdetail("%s", detail),
			 errhint("%s", hint),
			 errtable(rel)));
}

/*
 * Is this the next row that append announced, or the statement that brings it?
 * An announcement is good for one row.
 */
static bool
is_admitted(TriggerData *trigdata)
{
	Oid			relid = RelationGetRelid(trigdata->tg_relation);
	IeEvent		row;

	if (admitted.left == 0)
		return false;
	if (!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event))
		return relid == admitted.log;
	if (relid != admitted.leaf)
		return false;
	ie_event_from_slot(trigdata->tg_trigslot, &row);
	if (ie_difference(admitted.next, &row) != NULL)
		return false;
	admitted.next++;
	admitted.left--;
	return true;
}

/* The same, of a row that the version trigger announced. */
static bool
is_admitted_version(TriggerData *trigdata)
{
	bool		isnull;
	Datum		position;

	if (!OidIsValid(admitted_version.versions) ||
		RelationGetRelid(trigdata->tg_relation) != admitted_version.versions)
		return false;
	if (!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event))
		return true;
	position = slot_getattr(trigdata->tg_trigslot, IE_ROW_POSITION, &isnull);
	if (isnull || DatumGetInt64(position) != admitted_version.position)
		return false;
	admitted_version.versions = InvalidOid;
	return true;
}

/*
 * Is this a row that logical replication applies, and not one that some
 * trigger of another table inserts while it does?
 */
static bool
is_replicated(void)
{
	return IsLogicalWorker() &&
		DatumGetInt32(OidFunctionCall0(F_PG_TRIGGER_DEPTH)) == 1;
}

/* Announce the next row of a version table, in the same way. */
IeVersionAdmission
ie_guard_admit_version(IeVersionAdmission admission)
{
	IeVersionAdmission before = admitted_version;

	admitted_version = admission;
	return before;
}

/* Announce the next rows of a log; answers what was announced before. */
IeAdmission
ie_guard_admit(IeAdmission admission)
{
	IeAdmission before = admitted;

	admitted = admission;
	return before;
}

/* Counts the rows that came into logs without append. */
uint64
ie_other_rows(void)
{
	return other_rows;
}

/* Raise the error of an immutable table. */
static void
refuse(Relation rel, const char *action)
{
	bool		log = ie_is_log(rel);
	bool		versions = ie_is_version_table(rel);

	ereport(ERROR,
			(errcode(ERRCODE_RESTRICT_VIOLATION),
			 errmsg("cannot %s immutable table \"%s\"",
					action, RelationGetRelationName(rel)),
			 log
			 ? errdetail("Rows of a log come from immutable.append and are never changed or removed.")
			 : versions
			 ? errdetail("Rows of a version table come from changes of its table and are never changed or removed.")
			 : errdetail("Rows of an immutable table are never changed or removed."),
			 log
			 ? errhint("Append an event that corrects the earlier one.")
			 : versions
			 ? errhint("Change the versioned table.")
			 : errhint("Insert a new row that corrects the earlier one."),
			 errtable(rel)));
}

/*
 * Is this function the guard? Asked of its entry point, not of its name: a
 * function that was replaced, or runs with settings or as somebody else,
 * enters through another address.
 */
bool
ie_is_guard(Oid function)
{
	FmgrInfo	flinfo;

	fmgr_info(function, &flinfo);
	return flinfo.fn_addr == ie_guard;
}

/* The events that a table's guard fires for, as bits of pg_trigger.tgtype. */
int16
ie_guard_events(Relation rel, bool row)
{
	int16		events = TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE;

	if (!row)
		events |= TRIGGER_TYPE_TRUNCATE;
	if (ie_is_history(rel))
		events |= TRIGGER_TYPE_INSERT;
	return events;
}

/*
 * A copy of the guard for rows or for statements, or NULL where there is none.
 * Whoever asks the catalogs may find the relation's own list made anew after.
 */
const Trigger *
ie_find_guard(Relation rel, bool row)
{
	int16		type = TRIGGER_TYPE_BEFORE | ie_guard_events(rel, row) |
		(row ? TRIGGER_TYPE_ROW : 0);
	int			i;

	for (i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		Trigger    *trigger = palloc(sizeof(Trigger));

		*trigger = rel->trigdesc->triggers[i];
		trigger->tgname = pstrdup(trigger->tgname);
		if (trigger->tgtype == type && trigger->tgnattr == 0 &&
			trigger->tgqual == NULL && ie_is_guard(trigger->tgfoid))
			return trigger;
	}
	return NULL;
}

/* What is wrong with a table's guards; NULL when it is armed. */
const char *
ie_guard_problem(Relation rel)
{
	const char *problem = NULL;

	if (rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		problem = trigger_problem(rel, true);
	if (problem == NULL)
		problem = trigger_problem(rel, false);
	return problem;
}

/* What is wrong with one of the guards, or NULL. */
static const char *
trigger_problem(Relation rel, bool row)
{
	const Trigger *guard = ie_find_guard(rel, row);

	if (guard == NULL)
		return row ? "the row guard is missing or was replaced"
			: "the statement guard is missing or was replaced";
	if (guard->tgenabled != TRIGGER_FIRES_ALWAYS)
		return row ? "the row guard is not ENABLE ALWAYS"
			: "the statement guard is not ENABLE ALWAYS";
	return NULL;
}

/* What is wrong with a table's guards, for the view protected_tables. */
Datum
ie_guard_problem_text(PG_FUNCTION_ARGS)
{
	Relation	rel;
	const char *problem;

	/* what a superuser has written to pg_trigger invalidates nothing */
	RelationCacheInvalidateEntry(PG_GETARG_OID(0));
	rel = try_relation_open(PG_GETARG_OID(0), AccessShareLock);
	if (rel == NULL)
		PG_RETURN_NULL();
	problem = ie_guard_problem(rel);
	relation_close(rel, AccessShareLock);
	if (problem == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(problem));
}
