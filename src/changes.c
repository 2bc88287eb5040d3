/*
 * changes.c: notice what may make a compiled expression stale.
 *
 * Functions, operators, types, row types of tables, and what else an expression
 * may mention change seldom, and an expression is compiled anew quickly: one
 * counter stands for all of them.
 */
#include "immutable_events.h"

#include "utils/inval.h"
#include "utils/syscache.h"

static uint64 changes = 0;

static void relation_changed(Datum arg, Oid relid);
static void catalog_changed(Datum arg, int cacheid, uint32 hash);

/* Counts the changes in the catalogs since it was asked first. */
uint64
ie_catalog_changes(void)
{
	static const int caches[] = {PROCOID, TYPEOID, AGGFNOID, AUTHOID, CASTSOURCETARGET,
	COLLOID, CONSTROID, ENUMOID, NAMESPACEOID, OPEROID, RANGETYPE};
	static bool watching = false;
	int			i;

	if (!watching)
	{
		CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
		for (i = 0; i < (int) lengthof(caches); i++)
			CacheRegisterSyscacheCallback(caches[i], catalog_changed, (Datum) 0);
		watching = true;
	}
	return changes;
}

/* A relation changed, perhaps one whose row type is used. */
static void
relation_changed(Datum arg pg_attribute_unused(),
				 Oid relid pg_attribute_unused())
{
	changes++;
}

/* A function, a type or the like changed. */
static void
catalog_changed(Datum arg pg_attribute_unused(),
				int cacheid pg_attribute_unused(),
				uint32 hash pg_attribute_unused())
{
	changes++;
}
