/*
 * immutable_events.h: what every part of the extension stands on.
 *
 * On it stand guard.h (immutable tables) and log.h (streams and positions), on
 * log.h fold.h (state from events). Arrows run downward only: a file uses what
 * is declared above its own part.
 */
#ifndef IMMUTABLE_EVENTS_H
#define IMMUTABLE_EVENTS_H

#include "postgres.h"

#include "fmgr.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "nodes/parsenodes.h"
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"

#include "versioned.h"

#define IE_EXTENSION	"immutable_events"
#define IE_SCHEMA		"immutable"

/* module.c: settings */

extern Jsonb *ie_context;		/* immutable.context, or NULL */
extern bool ie_import;			/* immutable.import */
extern char *ie_lease;			/* immutable.lease */
extern int	ie_batch_size;		/* immutable.batch_size */
extern int	ie_rebuild_workers;	/* immutable.rebuild_workers */

/* args.c: arguments */

extern void ie_require_arg(FunctionCallInfo fcinfo, int argno,
						   const char *name);

/* execute.c: run a command as the caller, as if he had typed it */

extern void ie_execute(const char *command);

/* wake.c: tell the background worker that there is something to do */

extern void ie_wake_at_end(void);
extern void ie_start_at_commit(void);

/* relation.c: what the catalogs say of a relation */

extern Relation ie_open_relation(Oid relid, LOCKMODE lockmode);
extern void ie_check_owner(Relation rel);
extern Relation ie_open_own_relation(Oid relid, LOCKMODE lockmode);
extern Oid	ie_event_type(void);
extern bool ie_is_log(Relation rel);
extern bool ie_is_log_oid(Oid relid);
extern bool ie_has_event_columns(Relation rel);
extern Oid	ie_partition_root(Relation rel);
extern Oid	ie_position_sequence(Oid log);
extern int64 ie_last_position(Oid sequence);
extern char *ie_qualified_name(Relation rel);
extern void ie_check_access(Relation log, AclMode mode);

/* event.c: the columns of every log, by number; what makes an event valid */
typedef enum IeColumn
{
	IE_POSITION = 1,
	IE_RECORDED_AT,
	IE_VERSION,
	IE_ID,
	IE_SCHEMA_VERSION,
	IE_STREAM,
	IE_TYPE,
	IE_DATA,
	IE_METADATA,
	IE_NCOLUMNS = IE_METADATA
} IeColumn;

#define IE_FIRST_VERSION	1	/* of a stream */
#define IE_STREAM_EXISTS	(-4)	/* expected_version: any but 0 */
#define IE_MAX_STREAM_BYTES	1024	/* an index entry must hold it */
#define IE_MAX_POSITION	(INT64CONST(1) << 62)	/* of an import: leaves room */

typedef struct IeEvent
{
	int64		position;
	TimestampTz recorded_at;
	int64		version;
	pg_uuid_t  *id;				/* NULL until given or generated */
	int32		schema_version;
	text	   *stream;
	text	   *type;
	Jsonb	   *data;
	Jsonb	   *metadata;
} IeEvent;

/* Events that a caller wants to append to one stream. */
typedef struct IeNewEvents
{
	text	   *stream;
	int			count;
	IeEvent    *events;
} IeNewEvents;

extern void ie_check_stream(const text *stream);
extern void ie_check_event(const IeEvent *event);
extern Jsonb *ie_metadata(Jsonb *given);
extern void ie_event_values(const IeEvent *event, Datum *values);
extern void ie_event_from_slot(TupleTableSlot *slot, IeEvent *event);
extern const char *ie_difference(const IeEvent *event, const IeEvent *row);
extern bool ie_same_text(const text *a, const text *b);

/* uuid.c: ids */

extern void ie_uuid_v7(pg_uuid_t *uuid);

/* depend.c: the rows of pg_depend that concern an object */

extern List *ie_depends_on(Oid classid, Oid objid);
extern List *ie_dependents_of(Oid classid, Oid objid);

/* registry.c: queries on the extension's own tables */

typedef void (*IeRegistryReceiver) (void *state);

extern Oid	ie_extension_owner(void);
extern uint64 ie_registry_queries(void);
extern uint64 ie_registry_query(const char *query, int nargs, Oid *types,
								Datum *values, const char *nulls,
								IeRegistryReceiver receiver, void *state);

extern Snapshot ie_latest_snapshot(void);
extern uint64 ie_registry_look(const char *query, int nargs, Oid *types,
							   Datum *values, IeRegistryReceiver receiver,
							   void *state);

/* What a backend remembers of a registry holds while this is current. */
typedef struct IeRegistryWatch
{
	const char *table;
	bool		current;
	bool		linked;
	Oid			relid;
	struct IeRegistryWatch *next;
} IeRegistryWatch;

extern void ie_watch_registry(IeRegistryWatch *watch);

/* changes.c: what may make a compiled expression stale */

extern uint64 ie_catalog_changes(void);

/* side_table.c: tables that stand beside a log and belong to its owner */

extern Oid	ie_create_side_table(Relation log, const char *suffix,
								 const char *columns);
extern Oid	ie_side_table(const char *registry, Oid log);

/* temporary.c: what would go when a session ends */

extern bool ie_depends_on_temporary(Oid relid);
extern void ie_check_lasting(Oid relid);

#endif							/* IMMUTABLE_EVENTS_H */
