/*
 * versioned.h: what the guards know of versioned tables; part of
 * immutable_events.h.
 */
#ifndef IMMUTABLE_EVENTS_VERSIONED_H
#define IMMUTABLE_EVENTS_VERSIONED_H

/* Attribute numbers of every version table; the table's own columns follow. */
typedef enum IeVersionColumn
{
	IE_ROW_POSITION = 1,
	IE_ROW_VERSION,
	IE_ROW_OPERATION,
	IE_ROW_START,
	IE_ROW_XACT,
	IE_ROW_USER,
	IE_ROW_CONTEXT,
	IE_VERSION_NCOLUMNS = IE_ROW_CONTEXT
} IeVersionColumn;

/* relation.c: which tables are version tables */

extern bool ie_is_version_table(Relation rel);
extern bool ie_is_version_table_oid(Oid relid);
extern bool ie_is_version_column(const char *name);
extern bool ie_is_history(Relation rel);

/* guard.c: the version that is about to be written, so that it is let in */
typedef struct IeVersionAdmission
{
	Oid			versions;		/* InvalidOid: none */
	int64		position;
} IeVersionAdmission;

extern IeVersionAdmission ie_guard_admit_version(IeVersionAdmission admission);

/* version_column.c: an ALTER TABLE begins */

extern void ie_versioned_before(Oid relid);

/*
 * version_ddl.c: what a command may not do to a versioned table, and what it
 * has done that concerns its versions
 */

extern void ie_check_versioned_alter(Oid relid, const AlterTableStmt *command);
extern void ie_check_version_trigger(Oid relid, const char *name,
									 const char *command);
extern void ie_check_version_rewrite(Oid relid);
extern void ie_check_version_drop(Oid trigger);
extern void ie_versioned_altered(Oid relid, const AlterTableStmt *command);
extern void ie_versioned_renamed(Oid relid, const RenameStmt *command);
extern void ie_versioned_part(Oid relid);

#endif							/* IMMUTABLE_EVENTS_VERSIONED_H */
