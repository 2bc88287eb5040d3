/*
 * fold.h: state from events, and documents that events change.
 */
#ifndef IMMUTABLE_EVENTS_FOLD_H
#define IMMUTABLE_EVENTS_FOLD_H

#include "log.h"

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

#endif							/* IMMUTABLE_EVENTS_FOLD_H */
