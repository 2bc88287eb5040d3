/*
 * reducer.h: a compiled reducer, as reducer.c makes it and reduce.c runs it.
 */
#ifndef IMMUTABLE_EVENTS_REDUCER_H
#define IMMUTABLE_EVENTS_REDUCER_H

#include "immutable_events.h"

#include "access/htup_details.h"
#include "access/tupconvert.h"
#include "catalog/pg_proc.h"
#include "executor/executor.h"

/* Parameter numbers: the state, then the items. */
#define STATE_PARAM		1
#define FIRST_ITEM_PARAM	2

/* A row-typed parameter whose fields the expression may read from a slot. */
typedef struct RowParam
{
	TupleDesc	columns;		/* NULL: not a row */
	TupleDesc	arriving;		/* of another type, but laid out alike */
	uint64		identifier;		/* of the columns, as the type cache has it */
	TupleTableSlot *slot;		/* NULL: no field is read */
	bool		whole;			/* the expression uses the value itself */
	HeapTupleData tuple;		/* what the slot holds */
} RowParam;

/* How a state that is kept as columns comes about; row_state.c. */
typedef struct IeOutcome IeOutcome;

struct IeReducer
{
	Oid			function;
	uint64		generation;
	bool		strict;
	Oid			state_type;
	int16		state_len;
	bool		state_byval;
	bool		first_item_starts;	/* strict, and item and state are alike */
	int			nitems;
	ExprState  *expression;		/* the call, or what it was inlined to */
	FunctionCallInfo direct;	/* an internal function, called without it */
	bool		in_place;		/* it may change an expanded state in place */
	IeOutcome  *outcome;		/* instead of both: the state as columns */
	IeDocumentChange change;	/* instead of all: the state as a document */
	ExprContext *econtext;
	ParamListInfo params;
	RowParam	state;
	RowParam	item;			/* the first */
	bool		convert_item;	/* it arrives as another row type */
	Oid			item_type;		/* the type it arrived as, and the way */
	int32		item_typmod;	/* from there to the declared one */
	TupleConversionMap *item_map;
	bool		check_order;	/* the positions of events must rise */
	IeState    *last_state;		/* the one that was computed before this */
	IeState    *expanded_state; /* the one state that is an expanded object */
	MemoryContext expanded[2];	/* where it lives, and where the next will */
	MemoryContextCallback gone; /* called when these are */
};

/* reducer_call.c: the call of a reducer, as the parser would build it */

extern Form_pg_proc ie_reducer_check(Oid function, HeapTuple *tuple);
extern const char *ie_reducer_problem(Form_pg_proc proc, const char **hint);
extern Expr *ie_reducer_call(IeReducer *reducer, Form_pg_proc proc,
							 const Oid *item_types, Oid collation);

/* row_state.c: a row-typed state, kept as columns */

extern IeOutcome *ie_row_outcome(IeReducer *reducer, Expr *call);
extern void ie_row_keep(const IeReducer *reducer, IeState *state,
						Datum value, bool isnull);
extern void ie_row_step(IeReducer *reducer, IeState *state);
extern Datum ie_row_copy(const IeReducer *reducer, const IeState *state);
extern void ie_row_free(const IeReducer *reducer, IeState *state);

/* reducer.c */

extern Expr *ie_read_slots(IeReducer *reducer, Expr *expression);
extern void ie_make_slot(RowParam *row, const TupleTableSlotOps *kind);

#endif							/* IMMUTABLE_EVENTS_REDUCER_H */
