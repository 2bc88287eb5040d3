/*
 * upcast.h: what the files about upcasters know of each other.
 */
#ifndef IMMUTABLE_EVENTS_UPCAST_H
#define IMMUTABLE_EVENTS_UPCAST_H

#include "immutable_events.h"

#include "compat.h"

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
	bool		allowed;		/* the caller may execute it; checked in this use */
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
