/*
 * guard_types.c: which protected tables hold values of a type.
 *
 * A row keeps its bytes when an enum label is renamed or an attribute of a
 * composite type is dropped, and yet reads differently. Who uses a type is
 * in pg_depend: columns and typed tables use it, and so do arrays, domains,
 * ranges and other composite types, which are followed in turn.
 */
#include "guard.h"

#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

static Oid	visit(Oid type, List **seen);

/* A protected table that holds values of a type, or InvalidOid. */
Oid
ie_protected_user(Oid type)
{
	List	   *seen = NIL;

	return OidIsValid(type) ? visit(type, &seen) : InvalidOid;
}

/* The same, for a type that may have been seen on the way here. */
static Oid
visit(Oid type, List **seen)
{
	ListCell   *cell;

	check_stack_depth();
	if (list_member_oid(*seen, type))
		return InvalidOid;
	*seen = lappend_oid(*seen, type);
	foreach(cell, ie_dependents_of(TypeRelationId, type))
	{
		Form_pg_depend user = lfirst(cell);
		Oid			found = InvalidOid;

		if (user->classid == TypeRelationId)
			found = visit(user->objid, seen);
		else if (user->classid != RelationRelationId)
			continue;
		else if (ie_is_protected(user->objid))
			found = user->objid;
		else if (OidIsValid(get_rel_type_id(user->objid)))
			found = visit(get_rel_type_id(user->objid), seen);
		if (OidIsValid(found))
			return found;
	}
	return InvalidOid;
}

/*
 * Every table that a command on one may reach: its partitions and children if
 * it is to inherit, and for a composite type the tables made OF it with theirs.
 */
List *
ie_family(Oid relid, bool inherit)
{
	List	   *family = list_make1_oid(relid);
	ListCell   *cell;

	if (inherit && has_subclass(relid))
		family = find_all_inheritors(relid, NoLock, NULL);
	if (get_rel_relkind(relid) != RELKIND_COMPOSITE_TYPE)
		return family;
	foreach(cell, ie_dependents_of(TypeRelationId, get_rel_type_id(relid)))
	{
		Form_pg_depend user = lfirst(cell);

		if (user->classid == RelationRelationId && user->objsubid == 0)
			family = list_concat_unique_oid(family,
											find_all_inheritors(user->objid, NoLock, NULL));
	}
	return family;
}

/* Refuse to change what the values of a type mean in a protected table. */
void
ie_check_type_change(Oid type)
{
	Oid			user = ie_protected_user(type);

	if (OidIsValid(user))
		ereport(ERROR,
				(errcode(ERRCODE_RESTRICT_VIOLATION),
				 errmsg("cannot alter type %s", format_type_be(type)),
				 errdetail("Rows of immutable table \"%s\" hold its values and would read differently.",
						   get_rel_name(user)),
				 errhint("Create a new type, and a new column of that type.")));
}
