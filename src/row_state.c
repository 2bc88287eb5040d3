/*
 * row_state.c: a row-typed state, kept as columns.
 *
 * Most reducers over rows are ROW(...) or a CASE whose branches are ROW(...)
 * or the state itself. Then no row needs to be formed and taken apart for each
 * event: the choice is made, the columns of the branch are computed, and those
 * that changed are copied to where the state keeps them.
 */
#include "reducer.h"

#include "access/detoast.h"
#include "catalog/pg_type_d.h"
#include "funcapi.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "utils/datum.h"
#include "utils/expandeddatum.h"
#include "utils/memutils.h"

typedef enum OutcomeKind
{
	UNCHANGED,					/* the state */
	NOTHING,					/* NULL */
	COLUMNS,					/* ROW(...) */
	VALUE,						/* any other row */
	CHOICE						/* CASE */
} OutcomeKind;

struct IeOutcome
{
	OutcomeKind kind;
	Expr	   *expression;		/* of a VALUE; the number of a CHOICE's branch */
	List	   *columns;		/* target entries */
	List	   *branches;
	ExprState  *value;			/* the expression, */
	ProjectionInfo *projection; /* and the columns, ready to run */
};

static IeOutcome *split(IeReducer *reducer, Expr *expression);
static bool fits(const RowExpr *row, TupleDesc columns);
static void split_row(IeOutcome *outcome, const RowExpr *row,
					  TupleDesc columns);
static void split_case(IeReducer *reducer, IeOutcome *outcome,
					   CaseExpr *expression);
static bool uses_whole_state(IeOutcome *outcome);
static bool whole_state_walker(Node *node, void *context);
static void prepare(IeReducer *reducer, IeOutcome *outcome);
static void set_null(const IeReducer *reducer, IeState *state);
static void set_row(const IeReducer *reducer, IeState *state, Datum value);
static void set_columns(const IeReducer *reducer, IeState *state,
						const Datum *values, const bool *isnull);
static bool is_reference(Form_pg_attribute column);
static bool points_into(TupleDesc columns, const IeState *state,
						const char *value);
static Datum keep_column(IeState *state, int i, int16 len, Datum value);
static Datum flat_value(Datum value, int16 len);

/*
 * How to keep the state as columns; NULL when the reducer is not made so, or
 * looks at the state as a whole.
 */
IeOutcome *
ie_row_outcome(IeReducer *reducer, Expr *call)
{
	IeOutcome  *outcome;

	if (reducer->state.columns == NULL)
		return NULL;
	outcome = split(reducer, call);
	if (outcome->kind == VALUE || uses_whole_state(outcome))
		return NULL;
	ie_make_slot(&reducer->state, &TTSOpsVirtual);
	prepare(reducer, outcome);
	return outcome;
}

/* Take a reducer's expression apart. */
static IeOutcome *
split(IeReducer *reducer, Expr *expression)
{
	IeOutcome  *outcome = palloc0(sizeof(IeOutcome));

	outcome->kind = VALUE;
	outcome->expression = expression;
	if (IsA(expression, Param) &&
		((Param *) expression)->paramid == STATE_PARAM)
		outcome->kind = UNCHANGED;
	else if (IsA(expression, Const) && ((Const *) expression)->constisnull)
		outcome->kind = NOTHING;
	else if (IsA(expression, RowExpr) &&
			 ((RowExpr *) expression)->row_typeid == reducer->state_type &&
			 fits((RowExpr *) expression, reducer->state.columns))
		split_row(outcome, (RowExpr *) expression, reducer->state.columns);
	else if (IsA(expression, CaseExpr))
		split_case(reducer, outcome, copyObject((CaseExpr *) expression));
	return outcome;
}

/*
 * Are the columns of ROW(...) those of the type? A body that was analysed long
 * ago may be of before the type changed: let PostgreSQL refuse that one.
 */
static bool
fits(const RowExpr *row, TupleDesc columns)
{
	ListCell   *cell;

	foreach(cell, row->args)
	{
		Form_pg_attribute column = TupleDescAttr(columns,
												 foreach_current_index(cell));

		if (!column->attisdropped &&
			exprType(lfirst(cell)) != column->atttypid)
			return false;
	}
	return true;
}

/* The columns of ROW(...); NULL what was dropped or added since. */
static void
split_row(IeOutcome *outcome, const RowExpr *row, TupleDesc columns)
{
	int			i;

	outcome->kind = COLUMNS;
	for (i = 0; i < columns->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(columns, i);
		Expr	   *value;

		if (column->attisdropped)
			value = (Expr *) makeNullConst(INT4OID, -1, InvalidOid);
		else if (i < list_length(row->args))
			value = list_nth(row->args, i);
		else
			value = (Expr *) makeNullConst(column->atttypid, column->atttypmod,
										   column->attcollation);
		outcome->columns = lappend(outcome->columns,
								   makeTargetEntry(value, i + 1, NULL, false));
	}
}

/* CASE: its results become the numbers of branches. */
static void
split_case(IeReducer *reducer, IeOutcome *outcome, CaseExpr *expression)
{
	ListCell   *cell;
	Expr	  **result;
	int			i = 0;

	outcome->kind = CHOICE;
	foreach(cell, expression->args)
	{
		result = &lfirst_node(CaseWhen, cell)->result;
		outcome->branches = lappend(outcome->branches, split(reducer, *result));
		*result = (Expr *) makeConst(INT4OID, -1, InvalidOid, sizeof(int32),
									 Int32GetDatum(i++), false, true);
	}
	result = &expression->defresult;
	outcome->branches = lappend(outcome->branches, split(reducer, *result));
	*result = (Expr *) makeConst(INT4OID, -1, InvalidOid, sizeof(int32),
								 Int32GetDatum(i), false, true);
	expression->casetype = INT4OID;
	expression->casecollid = InvalidOid;
	outcome->expression = (Expr *) expression;
}

/* Does any expression need the state as one value? */
static bool
uses_whole_state(IeOutcome *outcome)
{
	ListCell   *cell;

	if (outcome->kind == COLUMNS)
		return whole_state_walker((Node *) outcome->columns, NULL);
	if (outcome->kind == VALUE || outcome->kind == CHOICE)
		if (whole_state_walker((Node *) outcome->expression, NULL))
			return true;
	foreach(cell, outcome->branches)
		if (uses_whole_state(lfirst(cell)))
			return true;
	return false;
}

/* Fields of the state, and whether it is NULL, are told from its columns. */
static bool
whole_state_walker(Node *node, void *context)
{
	Node	   *inner = node;

	if (node == NULL)
		return false;
	if (IsA(node, FieldSelect))
		inner = (Node *) ((FieldSelect *) node)->arg;
	else if (IsA(node, NullTest))
		inner = (Node *) ((NullTest *) node)->arg;
	if (inner != NULL && IsA(inner, Param) &&
		((Param *) inner)->paramid == STATE_PARAM)
		return inner == node;
	return expression_tree_walker(node, whole_state_walker, context);
}

/* Make the expressions ready to run. */
static void
prepare(IeReducer *reducer, IeOutcome *outcome)
{
	ListCell   *cell;

	if (outcome->kind == VALUE || outcome->kind == CHOICE)
		outcome->value =
			ExecInitExprWithParams(ie_read_slots(reducer, outcome->expression),
								   reducer->params);
	if (outcome->kind == COLUMNS)
		outcome->projection =
			ExecBuildProjectionInfo((List *) ie_read_slots(reducer, (Expr *) outcome->columns),
									reducer->econtext,
									MakeSingleTupleTableSlot(reducer->state.columns,
															 &TTSOpsVirtual),
									NULL, NULL);
	foreach(cell, outcome->branches)
		prepare(reducer, lfirst(cell));
}

/* Keep a row as the state; what it needs is allocated once. */
void
ie_row_keep(const IeReducer *reducer, IeState *state, Datum value, bool isnull)
{
	int			natts = reducer->state.columns->natts;

	if (state->columns == NULL)
	{
		state->columns = MemoryContextAllocZero(state->context,
												natts * sizeof(Datum));
		state->nulls = MemoryContextAlloc(state->context,
										  natts * sizeof(bool));
		state->chunks = MemoryContextAllocZero(state->context,
											   natts * sizeof(IeChunk));
	}
	if (isnull)
		set_null(reducer, state);
	else
		set_row(reducer, state, value);
}

/* Compute the next state. */
void
ie_row_step(IeReducer *reducer, IeState *state)
{
	IeOutcome  *outcome = reducer->outcome;
	TupleTableSlot *slot = reducer->state.slot;
	bool		isnull;
	Datum		value;

	slot->tts_values = state->columns;
	slot->tts_isnull = state->nulls;
	slot->tts_nvalid = reducer->state.columns->natts;
	slot->tts_flags &= ~TTS_FLAG_EMPTY;
	while (outcome->kind == CHOICE)
		outcome = list_nth(outcome->branches,
						   DatumGetInt32(ExecEvalExpr(outcome->value,
													  reducer->econtext,
													  &isnull)));
	switch (outcome->kind)
	{
		case NOTHING:
			set_null(reducer, state);
			break;
		case COLUMNS:
			slot = ExecProject(outcome->projection);
			set_columns(reducer, state, slot->tts_values, slot->tts_isnull);
			break;
		case VALUE:
			value = ExecEvalExpr(outcome->value, reducer->econtext, &isnull);
			ie_row_keep(reducer, state, value, isnull);
			break;
		default:
			break;
	}
}

/* Form the row, in the current context. */
Datum
ie_row_copy(const IeReducer *reducer, const IeState *state)
{
	return HeapTupleGetDatum(heap_form_tuple(reducer->state.columns,
											 state->columns, state->nulls));
}

/* Give back what the state holds. */
void
ie_row_free(const IeReducer *reducer, IeState *state)
{
	int			i;

	for (i = 0; i < reducer->state.columns->natts; i++)
		if (state->chunks[i].data != NULL)
			pfree(state->chunks[i].data);
	pfree(state->chunks);
	pfree(state->columns);
	pfree(state->nulls);
}

/* The state becomes NULL. */
static void
set_null(const IeReducer *reducer, IeState *state)
{
	memset(state->nulls, true, reducer->state.columns->natts);
	state->isnull = true;
}

/* The state becomes a given row. */
static void
set_row(const IeReducer *reducer, IeState *state, Datum value)
{
	TupleDesc	columns = reducer->state.columns;
	HeapTupleHeader header = DatumGetHeapTupleHeader(value);
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(header),
	.t_data = header};
	Datum	   *values = palloc(columns->natts * sizeof(Datum));
	bool	   *nulls = palloc(columns->natts * sizeof(bool));

	heap_deform_tuple(&tuple, columns, values, nulls);
	set_columns(reducer, state, values, nulls);
}

/*
 * The columns become these, which may be where the state keeps the old ones:
 * a column that stays is not touched, one that goes elsewhere is copied first.
 */
static void
set_columns(const IeReducer *reducer, IeState *state, const Datum *values,
			const bool *nulls)
{
	TupleDesc	columns = reducer->state.columns;
	Datum		moved[MaxTupleAttributeNumber];
	int			i;

	for (i = 0; i < columns->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(columns, i);

		moved[i] = values[i];
		if (is_reference(column) && !nulls[i] &&
			DatumGetPointer(values[i]) != state->chunks[i].data &&
			points_into(columns, state, DatumGetPointer(values[i])))
			moved[i] = datumCopy(values[i], false, column->attlen);
	}
	for (i = 0; i < columns->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(columns, i);

		/* an old row still has what has been dropped */
		state->nulls[i] = nulls[i] || column->attisdropped;
		state->columns[i] = is_reference(column) && !nulls[i]
			? keep_column(state, i, column->attlen, moved[i]) : moved[i];
	}
	state->isnull = false;
}

/* Is a column's value a pointer? */
static bool
is_reference(Form_pg_attribute column)
{
	return !column->attbyval && !column->attisdropped;
}

/* Does a value lie where the state keeps its columns? */
static bool
points_into(TupleDesc columns, const IeState *state, const char *value)
{
	int			i;

	for (i = 0; i < columns->natts; i++)
	{
		const IeChunk *chunk = &state->chunks[i];

		if (chunk->data != NULL && value >= chunk->data &&
			value < chunk->data + chunk->size)
			return true;
	}
	return false;
}

/* Keep a column's value in its chunk, which grows by doubling. */
static Datum
keep_column(IeState *state, int i, int16 len, Datum value)
{
	IeChunk    *chunk = &state->chunks[i];
	Size		size;

	if (DatumGetPointer(value) == chunk->data)
		return value;
	value = flat_value(value, len);
	size = datumGetSize(value, false, len);
	if (size > chunk->size)
	{
		Size		room = chunk->data == NULL ? size : Max(size, 2 * chunk->size);

		if (chunk->data != NULL)
			pfree(chunk->data);
		chunk->data = NULL;
		chunk->data = MemoryContextAllocHuge(state->context, room);
		chunk->size = room;
	}
	memcpy(chunk->data, DatumGetPointer(value), size);
	return PointerGetDatum(chunk->data);
}

/* A value that is whole in itself: not in a TOAST table, nor expanded. */
static Datum
flat_value(Datum value, int16 len)
{
	struct varlena *pointer = (struct varlena *) DatumGetPointer(value);

	if (len != -1 || !VARATT_IS_EXTERNAL(pointer))
		return value;
	if (VARATT_IS_EXTERNAL_EXPANDED(pointer))
		return datumCopy(value, false, len);
	return PointerGetDatum(detoast_external_attr(pointer));
}
