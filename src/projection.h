/*
 * projection.h: what the files about projections know of each other.
 */
#ifndef IMMUTABLE_EVENTS_PROJECTION_H
#define IMMUTABLE_EVENTS_PROJECTION_H

#include "fold.h"
#include "projected.h"
#include "read_log.h"
#include "states.h"

#include "access/htup_details.h"
#include "compat.h"
#include "executor/executor.h"

/* A column of a read model's primary key. */
typedef struct IeKeyColumn
{
	AttrNumber	attnum;			/* in the read model */
	Oid			type;
	int32		typmod;
	Oid			collation;
	Oid			equal;			/* operator of the primary key's index */
	bool		equal_image;	/* equal values are stored alike */
	int16		len;
	bool		byval;
	char		align;
	bool		fan_out;		/* the expression gives an array of keys */
	FmgrInfo	compare;
	ExprState  *expression;		/* over the columns of an event */
} IeKeyColumn;

/* What a backend knows of a projection. */
typedef struct IeProjection
{
	Oid			target;			/* the read model; the hash key */
	bool		valid;
	bool		running;		/* being projected into, see ie_project */
	uint64		changes;		/* of the catalogs, when it was compiled */
	MemoryContext context;		/* of all that follows */
	char	   *name;			/* of the read model, for messages */
	Oid			log;
	Oid			owner;			/* of the read model: runs the projection */
	char	   *search_path;
	Oid			function;		/* the reducer, */
	char	   *reducer_name;	/* as the registry has it */
	bool		is_inline;
	bool		commutative;
	ArrayType  *key;			/* the expressions, as text */
	ArrayType  *types;			/* NULL: all */
	text	   *prefix;			/* NULL: all streams */
	int			nkeys;
	IeKeyColumn *keys;
	bool		by_stream;		/* the key holds the event's stream */
	TupleDesc	columns;		/* of the read model, */
	TupleDesc	event_columns;	/* and of immutable.event */
	ExprState **defaults;		/* by column; NULL where there is none */
	ExprContext *econtext;		/* of keys and defaults */
	IeReducer  *reducer;
	SPIPlanPtr	load;			/* rows by key, in order, */
	SPIPlanPtr	lock;			/* the same, FOR UPDATE */
	SPIPlanPtr	add;			/* rows of new keys, unless they exist */
	SPIPlanPtr	write;			/* rows, whether they exist or not */
	SPIPlanPtr	remove;			/* rows by key */
	Oid			index;			/* the primary key's, if no query is needed, */
	struct ScanKeyData *scan_keys;	/* and how it is searched */
} IeProjection;

/* Who ran before a projection's owner took over. */
typedef struct IeCaller
{
	Oid			user;
	int			security;
	int			settings;
} IeCaller;

/* Events in order of position, as tuples. */
typedef struct IeEvents
{
	HeapTuple  *tuples;
	int			count;
	int			capacity;
} IeEvents;

/* What concerns one row of a read model. */
typedef struct IeKeyGroup
{
	Datum	   *key;
	int		   *events;			/* numbers of its events, rising */
	int			nevents;
	HeapTupleHeader row;		/* as it stands; NULL: there is none */
	HeapTupleHeader result;		/* as it will be; NULL: none */
} IeKeyGroup;

/* That an event concerns a row. */
typedef struct IeConcern
{
	Datum	   *key;
	int			event;
	int			group;			/* for key_groups.c */
} IeConcern;

/* key_hash.c: hash values of the keys of a read model's rows */

typedef struct IeKeyHash IeKeyHash;

extern IeKeySpace ie_key_space(const IeProjection *projection);
extern bool ie_has_key_hash(const IeProjection *projection);
extern uint32 ie_hash_key(const void *arg, const Datum *key);

/* key_groups.c: the events of a batch, by the key of the row they concern */

extern int	ie_group_by_key(const IeProjection *projection,
							IeConcern *concerns, Size count,
							IeKeyGroup **groups);

/* attempt.c: do something that may fail */

typedef void (*IeAttempt) (void *state);

extern ErrorData *ie_attempt(IeAttempt function, void *state);

/* projection_reducer.c: the name under which the registry has a reducer */

extern char *ie_reducer_text(Oid target, Oid function);
extern Oid	ie_find_reducer(const IeProjection *projection, bool missing_ok);

/* projection_cache.c: what the registry says of a projection, made ready */

extern IeProjection *ie_projection(Oid target);
extern IeProjection *ie_known_projection(Oid target);
extern void ie_check_idle(const IeProjection *projection);
extern IeProjection *ie_projection_onto(Oid target, Oid table, Oid reducer);
extern void ie_projection_free(IeProjection *projection);
extern List *ie_inline_projections(Oid log);
extern bool ie_follows_projected(Oid log, int64 first, int64 last);
extern void ie_projection_enter(const IeProjection *projection,
								IeCaller *caller);
extern void ie_projection_leave(const IeCaller *caller);

/* projection_key.c: expressions that give the key of an event's row */

extern void ie_prepare_keys(IeProjection *projection, Relation target,
							Relation log);
extern bool ie_is_key_column(const IeProjection *projection, int attnum);
extern int	ie_compare_keys(const IeProjection *projection, const Datum *a,
							const Datum *b);
extern List *ie_event_keys(IeProjection *projection, TupleTableSlot *event);

/* read_model_query.c: the queries on a read model */

extern void ie_prepare_read_model(IeProjection *projection, Relation target);

/* read_model.c: rows of a read model, by key */

/* Which read model the projector writes to, so many triggers deep. */
typedef struct IeProjecting
{
	Oid			target;
	int			depth;
} IeProjecting;

extern IeProjecting ie_begin_projecting(Oid target);
extern void ie_end_projecting(IeProjecting before);

extern void ie_load_rows(IeProjection *projection, IeKeyGroup *groups,
						 int count, bool lock);
extern void ie_add_rows(IeProjection *projection, IeKeyGroup *groups,
						int count);
extern void ie_write_rows(IeProjection *projection, IeKeyGroup *groups,
						  int count);
extern bool ie_is_projecting(Oid target);
pg_noreturn extern void ie_refuse_meddling(const IeProjection *projection);

/* read_model_direct.c: rows of a plain read model, without queries */

typedef struct IeDirect IeDirect;

extern void ie_prepare_direct(IeProjection *projection, Relation table);
extern IeDirect *ie_direct_begin(const IeProjection *projection);
extern void ie_direct_load(IeDirect *direct, IeKeyGroup *group);
extern bool ie_direct_write(IeDirect *direct, const IeKeyGroup *group);
extern void ie_direct_end(IeDirect *direct);

/* projected_row.c: the row that a reducer begins with, and the one it gives */

extern Datum ie_initial_row(const IeProjection *projection, const Datum *key);
extern HeapTupleHeader ie_take_result(const IeProjection *projection,
									  const IeKeyGroup *group, Datum result);
extern void ie_check_result(const IeProjection *projection,
							HeapTupleHeader row, const Datum *wanted);

/* projector.c: a batch of events into a read model */

extern void ie_events_add(IeEvents *events, TupleTableSlot *slot);
extern void ie_project(IeProjection *projection, const IeEvents *events,
					   bool concurrent);
extern HeapTuple ie_projected_event(void);

/* project.c: the trigger of inline projections */

extern void ie_project_inline(Oid target, Tuplestorestate *events,
							  TupleDesc columns);

/* projection_triggers.c: the triggers that a projection needs */

extern void ie_attach_to_log(Oid log);
extern void ie_detach_from_log(Oid log);

/* refresh.c: an asynchronous projection, a batch at a time */

extern int64 ie_refresh_batch(Oid target, int64 max_events);
extern bool ie_hold_projection(Oid target, bool wait);
extern void ie_project_rest(IeProjection *projection);
extern bool ie_next_events(IeProjection *projection, const IeTarget *log,
						   IeSelection *selection, Snapshot snapshot,
						   IeEvents *events);

/* projection_position.c: where an asynchronous projection stands */

/* Why a projection cannot go on, and before which event, if that is known. */
typedef struct IeHalt
{
	ErrorData  *error;
	int64		position;		/* of the event; 0: not known */
	pg_uuid_t	event;			/* its id */
} IeHalt;

extern int64 ie_projection_position(Oid target);
extern void ie_projection_move_on(Oid target, int64 position);
extern void ie_projection_halt(Oid target, const IeHalt *halt);
extern IePositions ie_skipped_events(Oid target);
extern void ie_leave_out_skipped(const IeProjection *projection,
								 IeEvents *events,
								 const IePositions *skipped);
extern int64 ie_event_position(const IeProjection *projection,
							   HeapTuple event);

/* shadow_left.c: tables that rebuilds have left behind */

#define IE_SHADOW_LABEL	"rebuild"	/* in the name of every shadow */

extern void ie_drop_shadows(Oid target);
extern void ie_drop_shadow(Oid shadow);
extern char *ie_shadow_comment(Oid target);

/* projection.c: make a projection, change its mode, give it up */

extern void ie_check_projection_right(const IeProjection *projection);

/* projection_fingerprint.c: which reducer the rows were folded with */

extern void ie_record_fingerprint(const IeProjection *projection);

#endif							/* IMMUTABLE_EVENTS_PROJECTION_H */
