/*
 * reducer.h: a compiled reducer, as reducer.c makes it and reduce.c runs it.
 */
#ifndef IMMUTABLE_EVENTS_REDUCER_H
#define IMMUTABLE_EVENTS_REDUCER_H

#include "snapshot.h"

#include "access/htup_details.h"
#include "access/tupconvert.h"
#include "executor/executor.h"

/* Parameter numbers: the state, then the items. */
#define STATE_PARAM		1
#define FIRST_ITEM_PARAM	2

/* A row-typed parameter whose fields the expression may read from a slot. */
typedef struct RowParam
{
	TupleDesc	columns;		/* NULL: not a row */
	uint64		identifier;		/* of the columns, as the type cache has it */
	TupleTableSlot *slot;		/* NULL: no field is read */
	bool		whole;			/* the expression uses the value itself */
	HeapTupleData tuple;		/* what the slot holds */
} RowParam;

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
	ExprState  *expression;
	ExprContext *econtext;
	ParamListInfo params;
	RowParam	state;
	RowParam	item;			/* the first */
	bool		convert_item;	/* it arrives as another row type */
	Oid			item_type;		/* the type it arrived as, and the way */
	int32		item_typmod;	/* from there to the declared one */
	TupleConversionMap *item_map;
	bool		check_order;	/* the positions of events must rise */
	IeDocumentChange change;	/* the state is a document, and this changes it */
	Expr	   *call;			/* as it was before it was planned */
	Oid			collation;		/* of the call */
	char	   *search_path;	/* that names were looked up in */
	Oid			user;			/* who looked them up */
};

#endif							/* IMMUTABLE_EVENTS_REDUCER_H */
