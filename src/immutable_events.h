/*
 * immutable_events.h: what the files of the extension know of each other.
 *
 * Arrows run downward only: a file uses what is declared above its own part.
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

/* depend.c: the rows of pg_depend that concern an object */

extern List *ie_depends_on(Oid classid, Oid objid);
extern List *ie_dependents_of(Oid classid, Oid objid);

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

/* import.c: rows the owner brings into a log by INSERT or COPY */

extern void ie_import_begin(Relation rel);
extern void ie_import_row(Relation rel, TupleTableSlot *slot);

/* guard_changes.c: the audit trail of the guards */

extern void ie_record_change(Relation rel, const char *action);

/* temporary.c: what would go when a session ends */

extern bool ie_depends_on_temporary(Oid relid);
extern void ie_check_lasting(Oid relid);

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

/* log.c: cached facts of a log */

typedef struct IeLog
{
	Oid			relid;			/* a log, or a leaf of one; the hash key */
	bool		valid;
	bool		is_log;			/* or a leaf of one */
	bool		guards_only;	/* no trigger but our guards */
	bool		row_guards_only;	/* no row trigger but our guards */
	Oid			sequence;		/* draws positions; not set in a leaf */
	int64		floor;			/* no position may be drawn up to here; 0: ask */
	Oid			version_index;	/* unique (stream, version) */
	Oid			id_index;		/* unique (id) or (stream, id), if any */
	bool		id_by_stream;	/* id_index begins with stream */
	const char *problem;		/* why append must refuse, or NULL */
	const char *remedy;			/* what the user can do about it */
	uint32		guard_hash;		/* syscache hash of the guard function */
	SPIPlanPtr	insert_one;		/* for logs the planner must write to */
	SPIPlanPtr	insert_many;
	char	   *insert_name;	/* the log's name when they were prepared */
} IeLog;

/* Where a stream's events are: the log itself, or one leaf of it. */
typedef struct IeTarget
{
	Relation	log;			/* what the user named */
	Relation	rel;			/* where the stream's rows are; may be log */
	IeLog	   *root;
	IeLog	   *facts;			/* of rel */
	LOCKMODE	lockmode;		/* of the stream, by ie_lock_stream */
} IeTarget;

extern IeTarget ie_open_log(Oid relid, const text *stream, LOCKMODE lockmode);
extern IeTarget ie_open_whole_log(Oid relid, LOCKMODE lockmode);
extern IeTarget ie_open_ordered(Oid relid, LOCKMODE lockmode);
extern bool ie_is_btree_on(Relation index, int column);
extern Oid	ie_position_index(Relation rel, bool missing_ok);
extern Oid	ie_version_index(Relation log, Relation rel);
extern uint64 ie_log_changes(void);
extern void ie_close_log(IeTarget *target);
extern bool ie_row_security(Relation log);

/* position.c: positions, drawn from a log's sequence */

extern int64 ie_next_position(Oid sequence);
extern void ie_note_own_position(Oid sequence, int64 position);
extern int64 ie_own_first_position(Oid sequence);

/* recorded.c: positions that were recorded as safe to have read up to */

extern int64 ie_recorded_position(Oid log, Snapshot snapshot);
extern int64 ie_persisted_position(Oid log, Snapshot snapshot);
extern void ie_lock_registry(const char *table, LOCKMODE lockmode);
extern void ie_record_position(Oid log, int64 position);
extern void ie_forget_log(Oid log);

/* position_scan.c: a look at the rows of a log in order of position */

typedef bool (*IePositionTest) (struct IndexScanDescData *scan,
								TupleTableSlot *slot, ItemPointer tid,
								void *state);

extern int64 ie_first_position(Relation log, int64 after, int64 upto,
							   Snapshot snapshot, IePositionTest test,
							   void *state);

/* horizon.c: how far a log is decided */

extern int64 ie_decided_position(Relation log, Oid sequence);
extern void ie_nap(int milliseconds);
extern int64 ie_remembered_position(Oid sequence);
extern bool ie_import_runs(Oid sequence);

/* fit.c: how far a given snapshot shows a log without a gap */

extern int64 ie_fit_to_snapshot(Relation log, Oid sequence, int64 decided,
								Snapshot snapshot);

/* safe_position.c: up to which position a log may be read in order */

extern int64 ie_told_position(const IeTarget *target, Snapshot snapshot);
extern int64 ie_readable_position(const IeTarget *target, Snapshot *snapshot);

/* read_log.c: the events of a log, in order of position */

typedef struct IeSelection
{
	int64		after;			/* positions, exclusive and inclusive */
	int64		upto;
	int64		max_events;
	ArrayType  *types;			/* NULL: all */
	text	   *prefix;			/* of the stream's name; NULL: any */
	int32		shards;			/* 0: all streams, else those of one shard */
	int32		shard;
	ArrayType  *without;		/* streams that are set aside, or NULL */
	text	   *stream;			/* this one only, or NULL */
} IeSelection;

extern void ie_select_events(Relation log, const IeSelection *selection,
							 Snapshot snapshot, Tuplestorestate *store);

/* read.c: the events of one stream, in order of version */

typedef struct IeStreamScan IeStreamScan;

extern IeStreamScan *ie_scan_stream(const IeTarget *target,
									const text *stream, int64 from_version,
									int64 to_version, bool backward);
extern TupleTableSlot *ie_scan_next(IeStreamScan *scan);
extern void ie_scan_end(IeStreamScan *scan);

/* document.c: a JSON document as a tree; merge_patch.c, json_patch.c: change it */

typedef struct IeDocument IeDocument;
typedef void (*IeDocumentChange) (IeDocument *document, Jsonb *data);

extern IeDocument *ie_document_read(Jsonb *value, MemoryContext context);
extern Jsonb *ie_document_write(const IeDocument *document);
extern void ie_document_free(IeDocument *document);
extern bool ie_document_is_empty(const IeDocument *document);
extern Datum ie_document_reducer(FunctionCallInfo fcinfo,
								 IeDocumentChange change);
extern void ie_document_merge(IeDocument *document, Jsonb *patch);
extern void ie_document_patch(IeDocument *document, Jsonb *data);
extern IeDocumentChange ie_document_change(Oid function);

/* inline.c: the body of a SQL function in place of its call */

extern Expr *ie_inline(FuncExpr *call, const char **problem);

/* reducer.c: compile a reducer; reduce.c: run it; state.c: keep its state */

typedef struct IeReducer IeReducer;
/* Memory that a value is kept in, overwritten in place. */
typedef struct IeChunk
{
	char	   *data;
	Size		size;
} IeChunk;

/* A state between two events: one chunk, or one for each column of a row. */
typedef struct IeState
{
	Datum		value;
	bool		isnull;
	bool		started;		/* strict reducers take a first item as is */
	int64		position;		/* of the last event, where order is checked */
	char	   *chunk;			/* where a by-reference value is kept */
	Size		capacity;		/* of the chunk */
	MemoryContext context;		/* the chunk's */
	Datum	   *columns;		/* instead of value: see row_state.c */
	bool	   *nulls;
	IeChunk    *chunks;
	IeDocument *document;		/* instead of both: the state as a tree */
} IeState;

extern IeReducer *ie_reducer_compile(Oid function, Oid state_type,
									 int nitems, const Oid *item_types,
									 Oid collation, MemoryContext context);
extern void ie_reducer_check_order(IeReducer *reducer);
extern Oid	ie_reducer_function(const IeReducer *reducer);
extern void ie_reducer_check_types(IeReducer *reducer);
extern bool ie_reducer_is_current(const IeReducer *reducer);
extern char *ie_reducer_definition(const IeReducer *reducer);
extern void ie_state_init(IeReducer *reducer, IeState *state,
						  Datum initial, bool isnull, MemoryContext context);
extern Datum ie_state_copy(const IeReducer *reducer, const IeState *state);
extern void ie_state_free(IeReducer *reducer, IeState *state);
extern void ie_state_gone(IeReducer *reducer, const IeState *state);
extern void ie_reduce(IeReducer *reducer, IeState *state,
					  const NullableDatum *items);
extern void ie_reduce_slot(IeReducer *reducer, IeState *state,
						   TupleTableSlot *event);

/* replay.c: the state of one stream */

extern IeReducer *ie_keep_reducer(IeReducer **kept, Oid function,
								  Oid state_type, Oid collation,
								  MemoryContext parent);
extern int64 ie_replay_stream(IeReducer *reducer, IeState *state,
							  const IeTarget *target, const text *stream,
							  int64 upto_version, TimestampTz as_of);

#endif							/* IMMUTABLE_EVENTS_H */
