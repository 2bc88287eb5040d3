/*
 * upcast.h: upcasters, for whoever reads the events of a log; and below that,
 * what the files about them know of each other. They stand between log.c and
 * the readers.
 */
#ifndef IMMUTABLE_EVENTS_UPCAST_H
#define IMMUTABLE_EVENTS_UPCAST_H

#include "immutable_events.h"

#include "compat.h"

/* upcast.c: events of an old shape into the newest one */

typedef struct IeUpcasts IeUpcasts;

extern IeUpcasts *ie_upcasts(Oid log);
extern void ie_end_upcasts(IeUpcasts *upcasts);
extern TupleTableSlot *ie_upcast_slot(IeUpcasts *upcasts,
									  TupleTableSlot *event);
extern HeapTupleHeader ie_upcast_row(IeUpcasts *upcasts, HeapTupleHeader row,
									 TupleDesc columns);
extern ArrayType *ie_upcast_types(const IeUpcasts *upcasts, ArrayType *types);
extern List *ie_upcaster_functions(Oid log);
extern void ie_forget_upcast(void);
extern bool ie_last_upcast(int64 *position, pg_uuid_t *id);

/* upcast_registry.c: which types of events have upcasters, by log */

extern bool ie_has_upcasters(void);
extern bool ie_has_upcaster(const text *type, int32 schema_version);
extern char *ie_describe_upcasters(Oid log);

/* upcast_item.c: the same for the items of a fold */

typedef struct IeUpcastItems IeUpcastItems;

extern IeUpcastItems *ie_upcast_items(int count, const Oid *types);
extern const NullableDatum *ie_next_items(IeUpcastItems *upcast,
										  const NullableDatum *items);

/* What follows is between the files about upcasters. */

/* A row of immutable.upcasters. */
typedef struct IeUpcaster
{
	Oid			log;
	text	   *type;
	int32		schema_version;	/* of the events that it takes */
	char	   *signature;		/* schema.name(immutable.event) */
} IeUpcaster;

/* An upcaster that is ready to run. */
typedef struct IeUpcastStep
{
	IeUpcaster	upcaster;
	bool		allowed;		/* the caller may execute it, in this use */
	Oid			function;
	struct ExprState *expression;	/* NULL: not compiled yet */
} IeUpcastStep;

/* An event, taken apart. */
typedef struct IeEventRow
{
	Datum		values[IE_NCOLUMNS];
	bool		isnull[IE_NCOLUMNS];
} IeEventRow;

/* The upcasters of a log, for one user at a time: see upcast.c. */
struct IeUpcasts
{
	MemoryContext context;		/* holds all of it */
	uint64		changes;		/* of the catalogs, when it was made */
	Oid			log;
	Oid			user;
	SearchPathMatcher *path;
	TupleDesc	columns;		/* of immutable.event */
	struct ParamListInfoData *params;
	struct ExprContext *econtext;
	TupleTableSlot *slot;		/* the event that comes out */
	IeUpcasts  *next;			/* of those that are kept */
	int			count;
	IeUpcastStep steps[FLEXIBLE_ARRAY_MEMBER];	/* by type and schema_version */
};

/* upcast_registry.c */

extern const IeUpcaster *ie_upcasters_of(Oid log, int *count);
extern int	ie_compare_upcasters(const IeUpcaster *a, const IeUpcaster *b);

/* upcast_step.c: one upcaster */

extern Oid	ie_find_upcaster(const IeUpcaster *upcaster, bool missing_ok);
extern void ie_check_upcaster(Oid function);
extern Datum ie_run_upcaster(IeUpcasts *upcasts, IeUpcastStep *step,
							 Datum event, IeEventRow *result);
extern void ie_check_place(const IeUpcaster *upcaster, TupleDesc columns,
						   const IeEventRow *before, const IeEventRow *after);
extern void ie_check_content(const IeUpcaster *upcaster,
							 const IeEventRow *before, const IeEventRow *after);

/* upcast.c */

extern IeUpcasts *ie_make_upcasts(Oid log, const IeUpcaster *upcasters,
								  int count);

#endif							/* IMMUTABLE_EVENTS_UPCAST_H */
