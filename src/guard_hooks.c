/*
 * guard_hooks.c: what a preloaded library sees and event triggers do not.
 *
 * ALTER EVENT TRIGGER fires no event trigger, event_triggers = off (17 and
 * later) silences them all, and a superuser may write to the catalogs. With
 * shared_preload_libraries or session_preload_libraries these are refused.
 */
#include "guard.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_attrdef.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_event_trigger.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_partitioned_table.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_sequence.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "commands/extension.h"
#include "compat.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/varlena.h"

const char *ie_preloaded = NULL;

static ProcessUtility_hook_type next_utility = NULL;
static ExecutorCheckPerms_hook_type next_permissions = NULL;

static bool is_listed(const char *setting);
static void utility(PlannedStmt *pstmt, const char *query, bool readonly,
					ProcessUtilityContext context, ParamListInfo params,
					QueryEnvironment *environment, DestReceiver *dest,
					QueryCompletion *completion);
static bool is_unwatched(Node *command);
static void check_event_trigger(const char *name);
static bool permissions(IE_PERMISSIONS_PARAMETERS);
static void check_catalog_write(Oid catalog);

PG_FUNCTION_INFO_V1(ie_preloaded_by);

/* Install the hooks, when the library is loaded for every session. */
void
ie_install_hooks(void)
{
	ie_watch_drops();
	if (is_listed("shared_preload_libraries"))
		ie_preloaded = "shared_preload_libraries";
	else if (is_listed("session_preload_libraries"))
		ie_preloaded = "session_preload_libraries";
	else
		return;
	next_utility = ProcessUtility_hook;
	ProcessUtility_hook = utility;
	next_permissions = ExecutorCheckPerms_hook;
	ExecutorCheckPerms_hook = permissions;
}

/* The setting that preloads the library into this session, or NULL. */
Datum
ie_preloaded_by(PG_FUNCTION_ARGS)
{
	if (ie_preloaded == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(ie_preloaded));
}

/* Does a list of libraries name ours? */
static bool
is_listed(const char *setting)
{
	char	   *value = pstrdup(GetConfigOption(setting, false, false));
	List	   *libraries;
	ListCell   *cell;

	if (!SplitDirectoriesString(value, ',', &libraries))
		return false;
	foreach(cell, libraries)
	{
		const char *slash = strrchr(lfirst(cell), '/');
		const char *name = slash != NULL ? slash + 1 : lfirst(cell);

		if (strcmp(name, IE_EXTENSION) == 0 ||
			strcmp(name, IE_EXTENSION DLSUFFIX) == 0)
			return true;
	}
	return false;
}

/* A utility command. */
static void
utility(PlannedStmt *pstmt, const char *query, bool readonly,
		ProcessUtilityContext context, ParamListInfo params,
		QueryEnvironment *environment, DestReceiver *dest,
		QueryCompletion *completion)
{
	Node	   *command = pstmt->utilityStmt;
	bool		alone = is_unwatched(command);

	if (IsA(command, AlterEventTrigStmt))
		check_event_trigger(((AlterEventTrigStmt *) command)->trigname);
	if (IsA(command, RenameStmt) &&
		((RenameStmt *) command)->renameType == OBJECT_EVENT_TRIGGER)
		check_event_trigger(strVal(((RenameStmt *) command)->object));
	if (alone)
	{
		ie_check_command(command);
		command = copyObject(command);	/* execution may scribble on it */
	}
	(next_utility ? next_utility : standard_ProcessUtility)
		(pstmt, query, readonly, context, params, environment, dest, completion);
	if (alone)
	{
		CommandCounterIncrement();
		ie_adopt_named(command);
	}
}

/* Is this a command that our event triggers should see, and do not? */
static bool
is_unwatched(Node *command)
{
	return command_tag_event_trigger_ok(CreateCommandTag(command)) &&
		!ie_event_triggers_on() && OidIsValid(ie_extension()) &&
		!ie_own_script();
}

/* Our event triggers stay as they are. */
static void
check_event_trigger(const char *name)
{
	Oid			trigger = get_event_trigger_oid(name, true);

	if (OidIsValid(trigger) && ie_is_member(EventTriggerRelationId, trigger) &&
		!ie_own_script())
		ereport(ERROR,
				(errcode(ERRCODE_RESTRICT_VIOLATION),
				 errmsg("cannot alter event trigger \"%s\"", name),
				 errdetail("It keeps immutable tables from being altered."),
				 errhint("Call immutable.unprotect for the table that you want to alter.")));
}

/* A query's or a COPY's access to relations. */
static bool
permissions(IE_PERMISSIONS_PARAMETERS)
{
	ListCell   *cell;

	if (!creating_extension && !IsBinaryUpgrade)
		foreach(cell, ie_written_catalogs(IE_PERMISSIONS_LIST))
			check_catalog_write(lfirst_oid(cell));
	return next_permissions == NULL ||
		next_permissions(IE_PERMISSIONS_ARGUMENTS);
}

/* While there are immutable tables, what describes them is theirs alone. */
static void
check_catalog_write(Oid catalog)
{
	static const Oid guarded[] = {
		AttrDefaultRelationId, AttributeRelationId, ConstraintRelationId,
		DependRelationId, EnumRelationId, EventTriggerRelationId,
		ExtensionRelationId, IndexRelationId, InheritsRelationId, NamespaceRelationId,
		PartitionedRelationId,
		ProcedureRelationId, RelationRelationId, RewriteRelationId,
		SequenceRelationId, TriggerRelationId, TypeRelationId
	};
	Size		i;

	for (i = 0; i < lengthof(guarded); i++)
		if (catalog == guarded[i] && OidIsValid(ie_guard_function()) &&
			OidIsValid(ie_some_protected_table()))
			ereport(ERROR,
					(errcode(ERRCODE_RESTRICT_VIOLATION),
					 errmsg("cannot write to system catalog \"%s\"",
							get_rel_name(catalog)),
					 errdetail("This database has immutable tables, and the library is preloaded to keep them so."),
					 errhint("Use the commands that PostgreSQL has for it.")));
}
