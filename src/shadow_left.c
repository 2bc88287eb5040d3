/*
 * shadow_left.c: tables that rebuilds have left behind.
 *
 * A rebuild that dies leaves the table that it was folding into. It depends on
 * the read model: by that it is known, and with the read model it goes. A dump
 * of that moment has the table and not the dependency; its comment says of
 * which read model it is.
 */
#include "projection.h"

#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_type.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

static Oid	find_shadow(Oid target);
static Oid	find_dependent(Oid target);
static Oid	find_restored(Oid target);
static void receive_oid(void *state);

/* Drop what rebuilds of a read model have left. */
void
ie_drop_shadows(Oid target)
{
	Oid			shadow;

	while (OidIsValid(shadow = find_shadow(target)))
	{
		ie_drop_shadow(shadow);
		CommandCounterIncrement();
	}
}

/* Drop one. */
void
ie_drop_shadow(Oid shadow)
{
	ObjectAddress object = {.classId = RelationRelationId, .objectId = shadow};

	LockRelationOid(shadow, AccessExclusiveLock);
	if (get_rel_relkind(shadow) != RELKIND_RELATION)
		return;					/* somebody else has */
	performDeletion(&object, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
}

/* What a shadow says of itself. */
char *
ie_shadow_comment(Oid target)
{
	return psprintf("immutable_events: %s is rebuilt here; to be dropped if it is not",
					quote_identifier(get_rel_name(target)));
}

/* The table that a rebuild of this read model has left, or InvalidOid. */
static Oid
find_shadow(Oid target)
{
	Oid			shadow = find_dependent(target);

	return OidIsValid(shadow) ? shadow : find_restored(target);
}

/* One that depends on it. */
static Oid
find_dependent(Oid target)
{
	ListCell   *cell;

	foreach(cell, ie_dependents_of(RelationRelationId, target))
	{
		Form_pg_depend row = lfirst(cell);

		if (row->classid == RelationRelationId && row->objsubid == 0 &&
			row->refobjsubid == 0 && row->deptype == DEPENDENCY_AUTO &&
			get_rel_relkind(row->objid) == RELKIND_RELATION &&
			!get_rel_relispartition(row->objid) &&
			strstr(get_rel_name(row->objid), "_" IE_SHADOW_LABEL) != NULL)
			return row->objid;
	}
	return InvalidOid;
}

/* One that came from a dump: a table of the same owner that says so. */
static Oid
find_restored(Oid target)
{
	Oid			types[] = {OIDOID, TEXTOID};
	Datum		values[] = {ObjectIdGetDatum(target),
	CStringGetTextDatum(ie_shadow_comment(target))};
	Oid			found = InvalidOid;

	ie_registry_query("SELECT s.oid FROM pg_catalog.pg_class s"
					  " JOIN pg_catalog.pg_class t ON t.oid OPERATOR(pg_catalog.=) $1"
					  " AND t.relowner OPERATOR(pg_catalog.=) s.relowner"
					  " AND t.relnamespace OPERATOR(pg_catalog.=) s.relnamespace"
					  " WHERE s.relkind OPERATOR(pg_catalog.=) 'r' AND s.oid OPERATOR(pg_catalog.<>) $1"
					  " AND pg_catalog.obj_description(s.oid, 'pg_class') OPERATOR(pg_catalog.=) $2",
					  2, types, values, NULL, receive_oid, &found);
	return found;
}

/* Take an OID. */
static void
receive_oid(void *state)
{
	bool		isnull;

	if (SPI_processed > 0)
		*(Oid *) state = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0],
														SPI_tuptable->tupdesc,
														1, &isnull));
}
