/*
 * guard.h: what the files that keep tables immutable know of each other.
 */
#ifndef IMMUTABLE_EVENTS_GUARD_H
#define IMMUTABLE_EVENTS_GUARD_H

#include "immutable_events.h"

/* guard.c: the trigger that refuses, and the check that it is in place */

#define IE_GUARD_ROW		"immutable_guard_row"
#define IE_GUARD_STATEMENT	"immutable_guard_statement"

/* The rows that append is about to write, so that the guard lets them in. */
typedef struct IeAdmission
{
	Oid			log;
	Oid			leaf;			/* the log itself when not partitioned */
	const IeEvent *next;
	int			left;			/* 0 once they are in */
} IeAdmission;

extern IeAdmission ie_guard_admit(IeAdmission admission);
extern uint64 ie_other_rows(void);
extern bool ie_is_guard(Oid function);
extern int16 ie_guard_events(Relation rel, bool row);
extern const Trigger *ie_find_guard(Relation rel, bool row);
extern const char *ie_guard_problem(Relation rel);

/* protected.c: which tables are protected, asked of the catalogs */

extern Oid	ie_extension(void);
extern bool ie_is_member(Oid classid, Oid objid);
extern bool ie_own_script(void);
extern Oid	ie_guard_function(void);
extern bool ie_is_protected(Oid relid);
extern Oid	ie_guarded_by(Oid trigger);
extern bool ie_has_guard_named(Oid relid, const char *name);
extern bool ie_is_guard_name(const char *name);
extern void ie_refuse_guard_name(const char *name);
extern void ie_check_made_trigger(Oid trigger, bool replaced);
extern Oid	ie_some_protected_table(void);
extern void ie_release(Oid trigger);
extern bool ie_is_releasing(void);
extern void ie_refuse(Oid relid, const char *verb, const char *reason);
extern Oid	ie_own_function(const char *name);
extern bool ie_has_triggers(Oid relid);
extern bool ie_is_guard_function(Oid function);

/* import.c: rows the owner brings into a log by INSERT or COPY */

extern void ie_import_begin(Relation rel);
extern void ie_import_row(Relation rel, TupleTableSlot *slot);

/* guard_changes.c: the audit trail of the guards */

extern void ie_record_change(Relation rel, const char *action);

/* protect.c: put the guards on a table, and take them off */

extern PGDLLEXPORT Datum ie_protect(PG_FUNCTION_ARGS);
extern void ie_adopt(Oid relid);
extern void ie_adopt_parts(Oid parent);
extern bool ie_has_rows(Oid relid);
extern List *ie_parents(Oid relid);

/* guard_types.c: which protected tables hold values of a type */

extern Oid	ie_protected_user(Oid type);
extern void ie_check_type_change(Oid type);
extern List *ie_family(Oid relid, bool inherit);

/* guard_alter.c: which forms of ALTER TABLE a protected table allows */

extern void ie_check_alter_table(Oid relid, const AlterTableStmt *command);
extern void ie_check_altered_table(Oid relid, const AlterTableStmt *command);
extern const char *ie_form_name(AlterTableType form);

/* guard_members.c: the extension's own functions, types, tables and schema */

extern void ie_check_member(ObjectType type, Node *object);
extern void ie_check_relation_member(Oid relid);
extern void ie_check_new_member(List *name);
extern void ie_check_new_view(RangeVar *view);
extern void ie_refuse_member(void);

/* guard_command.c: what a command may not do, told from its parse tree */

extern void ie_check_command(Node *command);
extern void ie_check_alter(Oid relid, const AlterTableStmt *command);
extern void ie_check_relation_rename(Oid relid, const RenameStmt *command);
extern void ie_check_sequence(Oid sequence, const char *command);
extern void ie_check_rule(Oid relid);
extern void ie_check_extension_drop(void);

/* guard_drop.c: what must not be dropped, by whatever command or cascade */

extern void ie_watch_drops(void);
extern bool ie_event_triggers_on(void);

/* guard_ddl.c: the event triggers */

extern void ie_adopt_named(Node *command);

/* guard_hooks.c: what a preloaded library sees and event triggers do not */

extern const char *ie_preloaded;	/* the setting that names us, or NULL */
extern void ie_install_hooks(void);

#endif							/* IMMUTABLE_EVENTS_GUARD_H */
