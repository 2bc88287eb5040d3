/*
 * guard_members.c: the extension's own functions, types, tables and schema.
 *
 * Immutable tables rely on them, so nobody changes or replaces one by a
 * command: new versions come by the extension's own scripts.
 */
#include "guard.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "parser/parse_type.h"
#include "utils/lsyscache.h"

/* A function, type or schema that a command would alter. */
void
ie_check_member(ObjectType type, Node *object)
{
	switch (type)
	{
		case OBJECT_AGGREGATE:
		case OBJECT_FUNCTION:
		case OBJECT_PROCEDURE:
		case OBJECT_ROUTINE:
			if (ie_is_member(ProcedureRelationId,
							 LookupFuncWithArgs(type, castNode(ObjectWithArgs, object), true)))
				ie_refuse_member();
			break;
		case OBJECT_TYPE:
		case OBJECT_DOMAIN:
			if (ie_is_member(TypeRelationId,
							 LookupTypeNameOid(NULL, makeTypeNameFromNameList(castNode(List, object)), true)))
				ie_refuse_member();
			break;
		case OBJECT_SCHEMA:
			if (ie_is_member(NamespaceRelationId,
							 get_namespace_oid(strVal(object), true)))
				ie_refuse_member();
			break;
		default:
			break;
	}
}

/* A relation that a command would alter. */
void
ie_check_relation_member(Oid relid)
{
	if (!OidIsValid(relid))
		return;
	/* of a composite type, the type is the member */
	if (get_rel_relkind(relid) == RELKIND_COMPOSITE_TYPE
		? ie_is_member(TypeRelationId, get_rel_type_id(relid))
		: ie_is_member(RelationRelationId, relid))
		ie_refuse_member();
}

/* A function or aggregate that a command would make, or replace. */
void
ie_check_new_member(List *name)
{
	char	   *unqualified;

	if (OidIsValid(ie_extension()) &&
		QualifiedNameGetCreationNamespace(name, &unqualified) ==
		get_namespace_oid(IE_SCHEMA, true))
		ie_refuse_member();
}

/* A view that a command would make, or replace. */
void
ie_check_new_view(RangeVar *view)
{
	if (OidIsValid(ie_extension()) &&
		view->relpersistence != RELPERSISTENCE_TEMP &&
		RangeVarGetCreationNamespace(view) == get_namespace_oid(IE_SCHEMA, true))
		ie_refuse_member();
}

/* The extension's objects change by its own scripts only. */
void
ie_refuse_member(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_RESTRICT_VIOLATION),
			 errmsg("cannot alter an object of extension \"%s\"", IE_EXTENSION),
			 errdetail("Immutable tables rely on what is in schema \"%s\".", IE_SCHEMA),
			 errhint("New versions come by ALTER EXTENSION ... UPDATE.")));
}
