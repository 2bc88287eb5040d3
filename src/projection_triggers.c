/*
 * projection_triggers.c: the triggers that a projection needs.
 *
 * On the read model, a statement trigger that refuses whatever does not come
 * from the projector; on the log of an inline projection, the trigger that
 * projects. Both are ENABLE ALWAYS, and nobody but the extension takes them off.
 */
#include "guard.h"
#include "projection.h"

#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

static Oid	function_named(const char *name);
static Oid	find_trigger(Oid relid, Oid function);
static void create_trigger(Oid relid, CreateTrigStmt *create, Oid function);

PG_FUNCTION_INFO_V1(ie_read_model_guard);

/* Refuse to change a read model but by its projection. */
Datum
ie_read_model_guard(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	Relation	rel;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by trigger manager",
						"immutable._guard_read_model")));
	rel = trigdata->tg_relation;
	if (!ie_is_projecting(RelationGetRelid(rel)))
		ereport(ERROR,
				(errcode(ERRCODE_RESTRICT_VIOLATION),
				 errmsg("cannot change read model \"%s\"",
						RelationGetRelationName(rel)),
				 errdetail("Its rows come from the events of a log."),
				 errhint("Append an event. immutable.drop_projection makes it an ordinary table again."),
				 errtable(rel)));
	/* a BEFORE ROW trigger returns the row that goes in */
	return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event)
						   ? trigdata->tg_newtuple : trigdata->tg_trigtuple);
}

/* Raise the error for a trigger that kept a row from being what it must be. */
void
ie_refuse_meddling(const IeProjection *projection)
{
	ereport(ERROR,
			(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
			 errmsg("a trigger on read model \"%s\" suppressed or moved a row",
					projection->name),
			 errdetail("Which rows there are, and their keys, is decided by the events."),
			 errhint("Let the trigger return NEW with the key as it is, and OLD for DELETE.")));
}

/* Let a log project what is appended to it. */
void
ie_attach_to_log(Oid log)
{
	CreateTrigStmt *create = makeNode(CreateTrigStmt);
	TriggerTransition *transition = makeNode(TriggerTransition);
	Oid			function = function_named("_project");

	transition->name = "appended";
	transition->isNew = true;
	transition->isTable = true;
	create->replace = true;		/* put right what a superuser has disabled */
	create->trigname = IE_PROJECTOR;
	create->timing = TRIGGER_TYPE_AFTER;
	create->events = TRIGGER_TYPE_INSERT;
	create->transitionRels = list_make1(transition);
	create_trigger(log, create, function);
}

/* The log has no inline projection any more. */
void
ie_detach_from_log(Oid log)
{
	Oid			trigger = find_trigger(log, function_named("_project"));

	if (!OidIsValid(trigger))
		return;
	ie_release(trigger);
	CommandCounterIncrement();
}

/* One of our trigger functions. */
static Oid
function_named(const char *name)
{
	return LookupFuncName(list_make2(makeString(IE_SCHEMA),
									 makeString(pstrdup(name))),
						  0, NULL, false);
}

/* The trigger of a table that calls a function, or InvalidOid. */
static Oid
find_trigger(Oid relid, Oid function)
{
	Relation	rel = relation_open(relid, NoLock);
	Oid			found = InvalidOid;
	int			i;

	for (i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
		if (rel->trigdesc->triggers[i].tgfoid == function)
			found = rel->trigdesc->triggers[i].tgoid;
	relation_close(rel, NoLock);
	return found;
}

/* Create a trigger as the extension's owner: its functions are not public. */
static void
create_trigger(Oid relid, CreateTrigStmt *create, Oid function)
{
	Oid			user;
	int			security;

	GetUserIdAndSecContext(&user, &security);
	SetUserIdAndSecContext(ie_extension_owner(),
						   security | SECURITY_LOCAL_USERID_CHANGE);
	CreateTriggerFiringOn(create, NULL, relid, InvalidOid, InvalidOid,
						  InvalidOid, function, InvalidOid, NULL, false, false,
						  TRIGGER_FIRES_ALWAYS);
	SetUserIdAndSecContext(user, security);
	CommandCounterIncrement();
}
