/*
 * guard_reducer.c: the reducers of projections keep their names.
 *
 * The registry knows a reducer by its name, as a dump can hold it, and the
 * search_path to run it with. Whoever drops or renames what these name would
 * stop the projection, and an inline one every append; so that is refused. A
 * reducer may be replaced at any time.
 */
#include "projected.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/varlena.h"

/* Is a row of the registry about the object? */
typedef bool (*RowTest) (Oid target, char *reducer, char *search_path,
						 const void *object);

static Oid	find_projection(RowTest test, const void *object);
static bool reduces_with(Oid target, char *reducer, char *search_path,
						 const void *object);
static bool names_schema(Oid target, char *reducer, char *search_path,
						 const void *object);
static void refuse(const char *verb, const char *what, Oid target);

/* What the registry calls a reducer whose arguments need not be told. */
char *
ie_reducer_name(Oid function)
{
	return quote_qualified_identifier(get_namespace_name(get_func_namespace(function)),
									  get_func_name(function));
}

/* Are a function's arguments a row of the table and an event? */
bool
ie_takes_row_and_event(Oid function, Oid table)
{
	Oid			types[] = {get_rel_type_id(table), ie_event_type()};
	Oid		   *actual;
	int			count;

	if (get_func_name(function) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", function)));
	(void) get_func_signature(function, &actual, &count);
	return count == lengthof(types) && memcmp(actual, types, sizeof(types)) == 0;
}

/* Refuse to drop or rename a function that reduces. */
void
ie_check_reducer(Oid function, const char *verb)
{
	Oid			target = OidIsValid(function) && get_func_name(function) != NULL
		? find_projection(reduces_with, &function) : InvalidOid;

	if (OidIsValid(target))
		refuse(verb, psprintf("function %s", format_procedure(function)), target);
}

/* The same for a function that a command names. */
void
ie_check_named_reducer(ObjectType type, Node *object, const char *verb)
{
	if (type == OBJECT_FUNCTION || type == OBJECT_ROUTINE)
		ie_check_reducer(LookupFuncWithArgs(type, castNode(ObjectWithArgs, object), true),
						 verb);
}

/* Refuse to rename a schema that a projection knows by its name. */
void
ie_check_schema_rename(const char *schema)
{
	Oid			target = find_projection(names_schema, schema);

	if (OidIsValid(target))
		refuse("rename", psprintf("schema \"%s\"", schema), target);
}

/* The read model of a projection that passes a test, or InvalidOid. */
static Oid
find_projection(RowTest test, const void *object)
{
	Oid			schema = get_namespace_oid(IE_SCHEMA, true);
	Oid			registry = get_relname_relid("projections", schema);
	Oid			found = InvalidOid;
	Relation	rel;
	Snapshot	latest;
	SysScanDesc scan;
	HeapTuple	row;

	if (!OidIsValid(registry))
		return InvalidOid;		/* the extension itself goes */
	rel = table_open(registry, AccessShareLock);
	latest = RegisterSnapshot(GetLatestSnapshot());
	scan = systable_beginscan(rel, InvalidOid, false, latest, 0, NULL);
	while (!OidIsValid(found) && HeapTupleIsValid(row = systable_getnext(scan)))
	{
		TupleDesc	columns = RelationGetDescr(rel);
		bool		isnull;
		Oid			target = DatumGetObjectId(heap_getattr(row, get_attnum(registry, "target"),
														   columns, &isnull));
		Datum		reducer = heap_getattr(row, get_attnum(registry, "reducer"), columns, &isnull);
		Datum		path = heap_getattr(row, get_attnum(registry, "search_path"), columns, &isnull);

		if (test(target, TextDatumGetCString(reducer), TextDatumGetCString(path), object))
			found = target;
	}
	systable_endscan(scan);
	UnregisterSnapshot(latest);
	table_close(rel, AccessShareLock);
	return found;
}

/* Is the function its reducer? */
static bool
reduces_with(Oid target, char *reducer, char *search_path pg_attribute_unused(),
			 const void *object)
{
	Oid			function = *(const Oid *) object;

	if (reducer[strlen(reducer) - 1] == ')')
		return strcmp(reducer, format_procedure_qualified(function)) == 0;
	return strcmp(reducer, ie_reducer_name(function)) == 0 &&
		ie_takes_row_and_event(function, target);
}

/* Is the schema that of its reducer, or in its search_path? */
static bool
names_schema(Oid target pg_attribute_unused(), char *reducer,
			 char *search_path, const void *object)
{
	const char *prefix = psprintf("%s.", quote_identifier(object));
	List	   *schemas = NIL;
	ListCell   *cell;

	if (strncmp(reducer, prefix, strlen(prefix)) == 0)
		return true;
	if (SplitIdentifierString(search_path, ',', &schemas))
		foreach(cell, schemas)
			if (strcmp(lfirst(cell), object) == 0)
				return true;
	return false;
}

/* Raise the error. */
static void
refuse(const char *verb, const char *what, Oid target)
{
	ereport(ERROR,
			(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
			 errmsg("cannot %s %s", verb, what),
			 errdetail("The projection into \"%s\" knows its reducer by that name.",
					   get_rel_name(target)),
			 errhint("Call immutable.drop_projection first, or let it have another reducer.")));
}
