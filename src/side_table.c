/*
 * side_table.c: tables that stand beside a log and belong to its owner.
 *
 * <log>_snapshots and <log>_commands are ordinary tables of the user's. A
 * registry remembers them by regclass, so that they may be renamed.
 */
#include "immutable_events.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/*
 * Create <log>_<suffix> with the given columns, in the schema of a log that
 * the caller owns, for the owner of the log.
 */
Oid
ie_create_side_table(Relation log, const char *suffix, const char *columns)
{
	Oid			schema = RelationGetNamespace(log);
	Oid			owner = log->rd_rel->relowner;
	char	   *name = psprintf("%s_%s", RelationGetRelationName(log), suffix);
	char	   *qualified;

	ie_check_owner(log);
	if (strlen(name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("table name \"%s\" is too long", name),
				 errdetail("It has %zu bytes, %d are possible.",
						   strlen(name), NAMEDATALEN - 1),
				 errhint("Rename the log.")));
	if (OidIsValid(get_relname_relid(name, schema)))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_TABLE),
				 errmsg("relation \"%s\" already exists", name),
				 errdetail("What is kept beside table \"%s\" goes into a new table of this name.",
						   RelationGetRelationName(log)),
				 errhint("If an earlier use has left it, look through it, and rename it with ALTER TABLE ... RENAME TO ... or drop it.")));
	qualified = quote_qualified_identifier(get_namespace_name(schema), name);
	ie_execute(psprintf("CREATE TABLE %s (%s)", qualified, columns));
	if (owner != GetUserId())
		ie_execute(psprintf("ALTER TABLE %s OWNER TO %s", qualified,
							quote_identifier(GetUserNameFromId(owner, false))));
	return get_relname_relid(name, schema);
}

/*
 * The table that a registry (log, relation) has for a log, or InvalidOid. Read
 * as catalogs are, with the latest snapshot: what is remembered of it must not
 * be older than the transaction's.
 */
Oid
ie_side_table(const char *registry, Oid log)
{
	Oid			schema = get_namespace_oid(IE_SCHEMA, false);
	Relation	rel = table_open(get_relname_relid(registry, schema), AccessShareLock);
	Oid			index = get_relname_relid(psprintf("%s_pkey", registry), schema);
	Snapshot	latest = RegisterSnapshot(GetLatestSnapshot());
	Oid			found = InvalidOid;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	row;
	bool		isnull;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(log));
	scan = systable_beginscan(rel, index, true, latest, 1, &key);
	row = systable_getnext(scan);
	if (HeapTupleIsValid(row))
		found = DatumGetObjectId(heap_getattr(row, 2, RelationGetDescr(rel), &isnull));
	systable_endscan(scan);
	UnregisterSnapshot(latest);
	table_close(rel, AccessShareLock);
	return found;
}
