/*
 * version_owner.c: versions go with their table to a new owner.
 *
 * What was made for a table belongs together as long as it has one owner. A
 * version table that was given to somebody else (immutable.seal_ownership
 * does) stays with him.
 */
#include "version.h"

#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

static Oid	owner_of_function(Oid function);
static Oid	owner_of_relation(Oid relid);
static char *qualified(Oid relid);
static void give(const char *kind, const char *name, Oid owner);

/* A table has a new owner: so have its versions and what looks back in time. */
void
ie_carry_owner(Relation rel, Oid versions)
{
	static const char *const suffixes[] = {IE_BETWEEN_SUFFIX, IE_FROM_TO_SUFFIX, IE_AS_OF_SUFFIX};
	Oid			as_of = ie_version_function(versions, IE_AS_OF_SUFFIX);
	Oid			view = ie_version_view(versions);
	Oid			owner = rel->rd_rel->relowner;
	Oid			before;
	Size		i;

	/* it needs the version table, so that is there as well */
	if (!OidIsValid(as_of))
		return;
	before = owner_of_function(as_of);
	if (before == owner)
		return;
	if (owner_of_relation(versions) == before)
		give("TABLE", qualified(versions), owner);
	if (OidIsValid(view) && owner_of_relation(view) == before)
		give("VIEW", qualified(view), owner);
	for (i = 0; i < lengthof(suffixes); i++)
	{
		Oid			function = ie_version_function(versions, suffixes[i]);

		if (OidIsValid(function) && owner_of_function(function) == before)
			give("FUNCTION", format_procedure_qualified(function), owner);
	}
}

/* The owner of a function. */
static Oid
owner_of_function(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* The owner of a relation. */
static Oid
owner_of_relation(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* The name of a relation, qualified. */
static char *
qualified(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
									  get_rel_name(relid));
}

/* ALTER ... OWNER TO, with the rights of who gave the table away. */
static void
give(const char *kind, const char *name, Oid owner)
{
	ie_execute(psprintf("ALTER %s %s OWNER TO %s", kind, name,
						quote_identifier(GetUserNameFromId(owner, false))));
}
