/*
 * seal.c: give a protected table to a role that nobody logs in as.
 *
 * An owner may create triggers and policies, and what event triggers refuse
 * him he could do where they are not in force. A role without login owns
 * nothing by mistake; the former owner keeps what an application needs.
 */
#include "guard.h"

#include "access/relation.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "tcop/utility.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

static void check_sealable(Relation rel, const char *owner);
static void check_new_owner(const char *name);
static char *who_can_act_as(Oid role);
static void hand_over(Oid relid, const char *owner, const char *former);
static void grant_sequences(Oid relid, const char *former);

PG_FUNCTION_INFO_V1(ie_seal_ownership);

/* Move a protected table and its parts to a role without login. */
Datum
ie_seal_ownership(PG_FUNCTION_ARGS)
{
	const char *owner;
	Relation	rel;
	Oid			former;
	ListCell   *cell;

	ie_require_arg(fcinfo, 0, "target");
	ie_require_arg(fcinfo, 1, "owner");
	PreventCommandDuringRecovery("immutable.seal_ownership()");
	owner = NameStr(*PG_GETARG_NAME(1));
	rel = ie_open_own_relation(PG_GETARG_OID(0), AccessExclusiveLock);
	check_sealable(rel, owner);
	former = rel->rd_rel->relowner;
	check_new_owner(owner);
	ie_record_change(rel, "seal");
	relation_close(rel, NoLock);
	foreach(cell, find_all_inheritors(PG_GETARG_OID(0), AccessExclusiveLock, NULL))
		hand_over(lfirst_oid(cell), owner, GetUserNameFromId(former, false));
	PG_RETURN_VOID();
}

/* The table is protected, as a whole. */
static void
check_sealable(Relation rel, const char *owner)
{
	if (ie_is_member(RelationRelationId, RelationGetRelid(rel)))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" belongs to extension \"%s\"",
						RelationGetRelationName(rel), IE_EXTENSION),
				 errhint("Seal tables of your own.")));
	if (!ie_is_protected(RelationGetRelid(rel)) || rel->rd_rel->relispartition)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" is not protected, or only a part of one that is",
						RelationGetRelationName(rel)),
				 errhint("Call immutable.protect first, and seal the whole table.")));
	if (strcmp(GetUserNameFromId(rel->rd_rel->relowner, false), owner) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("role \"%s\" owns table \"%s\" already",
						owner, RelationGetRelationName(rel)),
				 errhint("Give a role that nobody can log in as, or none for the default.")));
}

/* Make the new owner, or see that nobody can act as it. */
static void
check_new_owner(const char *name)
{
	Oid			role = get_role_oid(name, true);
	char	   *actor;

	if (!OidIsValid(role))
	{
		ie_execute(psprintf("CREATE ROLE %s NOLOGIN", quote_identifier(name)));
		return;
	}
	actor = superuser_arg(role) ? pstrdup(name) : who_can_act_as(role);
	if (actor != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("role \"%s\" can act as role \"%s\"", actor, name),
				 errdetail("Whoever logs in as the owner, or as its member, can do what an owner can."),
				 errhint("Name a role that was made with NOLOGIN, or REVOKE the membership.")));
}

/* A role, no superuser, that can log in and has the rights of another. */
static char *
who_can_act_as(Oid role)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(role)};
	char	   *found = NULL;

	SPI_connect();
	if (SPI_execute_with_args("SELECT rolname FROM pg_catalog.pg_roles"
							  " WHERE rolcanlogin AND NOT rolsuper"
							  " AND pg_catalog.pg_has_role(oid, $1, 'MEMBER')"
							  " ORDER BY rolname LIMIT 1",
							  1, types, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute_with_args failed: %s",
			 SPI_result_code_string(SPI_result));
	if (SPI_processed > 0)
	{
		char	   *name = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);

		found = SPI_palloc(strlen(name) + 1);
		strcpy(found, name);
	}
	SPI_finish();
	return found;
}

/* One table to its new owner; the former one may read and insert. */
static void
hand_over(Oid relid, const char *owner, const char *former)
{
	Relation	rel = relation_open(relid, NoLock);
	char	   *table = ie_qualified_name(rel);

	relation_close(rel, NoLock);
	ie_execute(psprintf("ALTER TABLE %s OWNER TO %s", table, quote_identifier(owner)));
	ie_execute(psprintf("GRANT INSERT, SELECT ON %s TO %s", table, quote_identifier(former)));
	grant_sequences(relid, former);
}

/* An INSERT needs the sequences that its defaults draw from. */
static void
grant_sequences(Oid relid, const char *former)
{
	ListCell   *cell;

	if (ie_is_log_oid(relid))
		return;					/* append draws for itself */
	foreach(cell, getOwnedSequences(relid))
	{
		Relation	sequence = relation_open(lfirst_oid(cell), AccessShareLock);
		char	   *name = ie_qualified_name(sequence);

		relation_close(sequence, AccessShareLock);
		ie_execute(psprintf("GRANT USAGE ON SEQUENCE %s TO %s", name,
						 quote_identifier(former)));
	}
}
