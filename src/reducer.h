/*
 * reducer.h: a compiled reducer, as reducer.c makes it and reduce.c runs it.
 */
#ifndef IMMUTABLE_EVENTS_REDUCER_H
#define IMMUTABLE_EVENTS_REDUCER_H

#include "snapshot.h"
#include "upcast.h"

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
	FunctionCallInfo direct;	/* instead: the function, called without it */
	bool		bare;			/* it needs nothing but its arguments */
	bool		in_place;		/* it may change an expanded state in place */
	IeOutcome  *outcome;		/* instead: the state as columns */
	IeDocumentChange change;	/* instead: the state as a document */
	ExprContext *econtext;
	ParamListInfo params;
	RowParam	state;
	RowParam	item;			/* the first */
	bool		convert_item;	/* it arrives as another row type */
	Oid			item_type;		/* the type it arrived as, and the way */
	int32		item_typmod;	/* from there to the declared one */
	TupleConversionMap *item_map;
	IeUpcastItems *upcast;		/* items that may be old events; NULL: none */
	bool		check_order;	/* the positions of events must rise */
	IeState    *last_state;		/* the one that was computed before this */
	IeState    *expanded_state; /* the one state that is an expanded object */
	MemoryContext expanded[2];	/* where it lives, and where the next will */
	MemoryContextCallback gone; /* called when these are */
	Expr	   *call;			/* as it was before it was planned */
	Oid			collation;		/* of the call */
	char	   *search_path;	/* that names were looked up in */
	Oid			user;			/* who looked them up */
};

/* reducer_call.c: the call of a reducer, as the parser would build it */

extern Form_pg_proc ie_reducer_check(Oid function, HeapTuple *tuple);
extern const char *ie_reducer_problem(Form_pg_proc proc, const char **hint);
extern Expr *ie_reducer_call(IeReducer *reducer, Form_pg_proc proc,
							 const Oid *item_types, Oid collation);

/* state.c: where a state is kept between two events */

extern void ie_state_keep(IeReducer *reducer, IeState *state, Datum value,
						  bool isnull);
extern void ie_state_begin(IeReducer *reducer, const IeState *state);

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
