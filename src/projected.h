/*
 * projected.h: what guards and logs know of projections, which stand above
 * them.
 */
#ifndef IMMUTABLE_EVENTS_PROJECTED_H
#define IMMUTABLE_EVENTS_PROJECTED_H

#include "immutable_events.h"

/* guard_read_model.c: the guards of read models */

#define IE_READ_MODEL_STATEMENT	"immutable_read_model"
#define IE_READ_MODEL_ROW		"immutable_read_model_row"
#define IE_PROJECTOR			"immutable_project" /* on the log */

extern bool ie_is_read_model(Oid relid);
extern void ie_guard_read_model(Oid target);
extern void ie_release_read_model(Oid target);
extern void ie_adopt_into_read_model(Oid relid);
extern void ie_check_read_model_alter(Oid relid, const AlterTableStmt *command);
extern void ie_refuse_read_model(Oid relid, const char *verb,
								 const char *reason);

/* guard_reducer.c: the reducers of projections keep their names */

extern char *ie_reducer_name(Oid function);
extern bool ie_takes_row_and_event(Oid function, Oid table);
extern void ie_check_reducer(Oid function, const char *verb);
extern void ie_check_named_reducer(ObjectType type, Node *object,
								   const char *verb);
extern void ie_check_schema_rename(const char *schema);

/* projected.c: which read models a log feeds, asked of the registry */

extern PGDLLEXPORT Datum ie_project_trigger(PG_FUNCTION_ARGS);
extern Oid	ie_fed_by(Oid log, bool only_inline);
extern const char *ie_projector_problem(Relation log);
extern bool ie_has_projector(Relation rel);
extern void ie_check_feeds_nothing(Oid log, const char *verb);

#endif							/* IMMUTABLE_EVENTS_PROJECTED_H */
