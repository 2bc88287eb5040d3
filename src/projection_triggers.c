/*
 * projection_triggers.c: the triggers that a projection needs.
 *
 * On the read model, a statement trigger that refuses whatever does not come
 * from the projector; on the log of an inline projection, the trigger that
 * projects. Both are ENABLE ALWAYS, and nobody but the extension takes them off.
 */
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
static void release(Oid relid, const char *function);

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
	return PointerGetDatum(NULL);
}

/* Is a table the read model of a projection? */
bool
ie_is_read_model(Relation rel)
{
	return OidIsValid(find_trigger(RelationGetRelid(rel),
								   function_named("_guard_read_model")));
}

/* Put the guard on a read model. */
void
ie_guard_read_model(Oid target)
{
	CreateTrigStmt *create = makeNode(CreateTrigStmt);

	create->trigname = "immutable_read_model";
	create->timing = TRIGGER_TYPE_BEFORE;
	create->events = TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE |
		TRIGGER_TYPE_DELETE | TRIGGER_TYPE_TRUNCATE;
	create_trigger(target, create, function_named("_guard_read_model"));
}

/* Take it off. */
void
ie_release_read_model(Oid target)
{
	release(target, "_guard_read_model");
}

/* Let a log project what is appended to it. */
void
ie_attach_to_log(Oid log)
{
	CreateTrigStmt *create = makeNode(CreateTrigStmt);
	TriggerTransition *transition = makeNode(TriggerTransition);
	Oid			function = function_named("_project");

	if (OidIsValid(find_trigger(log, function)))
		return;
	transition->name = "appended";
	transition->isNew = true;
	transition->isTable = true;
	create->trigname = "immutable_project";
	create->timing = TRIGGER_TYPE_AFTER;
	create->events = TRIGGER_TYPE_INSERT;
	create->transitionRels = list_make1(transition);
	create_trigger(log, create, function);
}

/* The log has no inline projection any more. */
void
ie_detach_from_log(Oid log)
{
	release(log, "_project");
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

/* Drop a trigger that nobody else may drop. */
static void
release(Oid relid, const char *function)
{
	Oid			trigger = find_trigger(relid, function_named(function));

	if (!OidIsValid(trigger))
		return;
	ie_release(trigger);
	CommandCounterIncrement();
}
