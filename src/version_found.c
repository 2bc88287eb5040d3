/*
 * version_found.c: what was made for a version table, found again.
 *
 * Users rename what was made for them, so the way to it is not its name but
 * that it depends on the version table; of its name only the end must be there.
 */
#include "version.h"

#include "access/htup_details.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_type.h"
#include "utils/lsyscache.h"

static Oid	dependent(Oid versions, Oid classid, const char *suffix);
static bool has_form(Oid versions, Oid relid, Oid classid, Oid object,
					 const char *suffix);
static Oid	view_of_rule(Oid rule);

/* The view of all versions, or InvalidOid. */
Oid
ie_version_view(Oid versions)
{
	return dependent(versions, RelationRelationId, IE_HISTORY_SUFFIX);
}

/* One of the functions, by its suffix, or InvalidOid. */
Oid
ie_version_function(Oid versions, const char *suffix)
{
	return dependent(versions, ProcedureRelationId, suffix);
}

/*
 * A function or view that depends on the version table, by its suffix. Others
 * may have made some of such a name: ours has its own form and is the oldest,
 * or has the table's name.
 */
static Oid
dependent(Oid versions, Oid classid, const char *suffix)
{
	IeVersioned row;
	bool		known = ie_find_versioned(versions, &row);
	char	   *table = known ? get_rel_name(row.relid) : NULL;
	Oid			found = InvalidOid;
	ListCell   *cell;

	foreach(cell, ie_dependents_of(RelationRelationId, versions))
	{
		Form_pg_depend depend = lfirst(cell);
		Oid			object = depend->objid;
		char	   *name = NULL;

		if (depend->classid == ProcedureRelationId && classid == ProcedureRelationId)
			name = get_func_name(object);
		else if (depend->classid == RewriteRelationId && classid == RelationRelationId)
		{
			object = view_of_rule(depend->objid);
			name = get_rel_name(object);
		}
		if (name == NULL || strlen(name) <= strlen(suffix) ||
			strcmp(name + strlen(name) - strlen(suffix), suffix) != 0 ||
			!has_form(versions, known ? row.relid : InvalidOid, classid, object, suffix))
			continue;
		if (table != NULL && strcmp(name, psprintf("%s%s", table, suffix)) == 0)
			return object;
		if (!OidIsValid(found) || object < found)
			found = object;
	}
	return found;
}

/* Has a function the arguments and result of ours, a view its columns? */
static bool
has_form(Oid versions, Oid relid, Oid classid, Oid object, const char *suffix)
{
	bool		as_of = strcmp(suffix, IE_AS_OF_SUFFIX) == 0;
	Oid			result;
	Oid		   *types;
	int			count;
	int			i;

	if (classid == RelationRelationId)
		return get_attnum(object, "row_end") == IE_ROW_START + 1;
	result = get_func_signature(object, &types, &count);
	for (i = 0; i < count; i++)
		if (types[i] != TIMESTAMPTZOID)
			return false;
	return count == (as_of ? 1 : 2) && get_func_retset(object) &&
		(as_of ? !OidIsValid(relid) || result == get_rel_type_id(relid)
		 : result == get_rel_type_id(versions));
}

/* The relation that a rule is of. */
static Oid
view_of_rule(Oid rule)
{
	ListCell   *cell;

	foreach(cell, ie_depends_on(RewriteRelationId, rule))
	{
		Form_pg_depend depend = lfirst(cell);

		if (depend->refclassid == RelationRelationId &&
			depend->deptype == DEPENDENCY_INTERNAL)
			return depend->refobjid;
	}
	return InvalidOid;
}
