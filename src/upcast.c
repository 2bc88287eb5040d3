/*
 * upcast.c: events of an old shape into the newest one.
 *
 * Upcasters form chains by type and schema_version; an event goes along its
 * chain wherever the extension hands it out or folds it. Who reads takes the
 * chains of the log, compiled, for as long as he reads, and gives them back:
 * they belong to his memory context meanwhile, so that an error frees them,
 * and a reader within a reader gets others. What was given back serves again,
 * for the same user and search_path, until something in the catalogs changes.
 */
#include "upcast.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/memutils.h"
#include "utils/typcache.h"
#include "utils/uuid.h"

#define MAX_KEPT	16			/* logs whose chains are kept compiled */

static MemoryContext kept_memory = NULL;
static IeUpcasts *kept = NULL;	/* the last one given back first */
static int64 last_position = 0; /* of the event that an error was about, */
static pg_uuid_t last_id;		/* and its id */

static IeUpcasts *take_kept(Oid log);
static void drop_stale(void);
static IeUpcastStep *find_step(const IeUpcasts *upcasts, Datum type,
							   bool type_isnull, Datum version,
							   bool version_isnull);
static Datum follow(IeUpcasts *upcasts, IeUpcastStep *step, IeEventRow *row);
static void describe_event(void *arg);
static MemoryContext begin(IeUpcasts *upcasts);

/* What is being upcast, for the context of an error. */
typedef struct Running
{
	const IeUpcastStep *step;
	const IeEventRow *event;
} Running;

/*
 * The upcasters of a log, for events that are about to be read from it; NULL
 * when it has none. ie_end_upcasts gives them back.
 */
IeUpcasts *
ie_upcasts(Oid log)
{
	int			count;
	const IeUpcaster *upcasters = ie_upcasters_of(log, &count);
	uint64		changes = ie_catalog_changes();
	IeUpcasts  *upcasts;

	if (count == 0)
		return NULL;
	upcasts = take_kept(log);
	if (upcasts == NULL)
	{
		upcasts = ie_make_upcasts(log, upcasters, count);
		upcasts->changes = changes;
	}
	return upcasts;
}

/* Take chains that were given back, if they are as they would be made now. */
static IeUpcasts *
take_kept(Oid log)
{
	IeUpcasts **link;

	drop_stale();
	for (link = &kept; *link != NULL; link = &(*link)->next)
	{
		IeUpcasts  *upcasts = *link;
		int			i;

		if (upcasts->log != log || upcasts->user != GetUserId() ||
			!SearchPathMatchesCurrentEnvironment(upcasts->path))
			continue;
		*link = upcasts->next;
		MemoryContextSetParent(upcasts->context, CurrentMemoryContext);
		for (i = 0; i < upcasts->count; i++)
			upcasts->steps[i].allowed = false;
		return upcasts;
	}
	return NULL;
}

/* Free what was given back before the catalogs have changed. */
static void
drop_stale(void)
{
	if (kept != NULL && kept->changes != ie_catalog_changes())
	{
		kept = NULL;
		MemoryContextDeleteChildren(kept_memory);
	}
}

/* Make chains of upcasters, in a child of the current context. */
IeUpcasts *
ie_make_upcasts(Oid log, const IeUpcaster *upcasters, int count)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "immutable_events upcasts",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	IeUpcasts  *upcasts = palloc0(offsetof(IeUpcasts, steps) +
								  count * sizeof(IeUpcastStep));
	int			i;

	upcasts->context = context;
	upcasts->log = log;
	upcasts->user = GetUserId();
	upcasts->count = count;
	for (i = 0; i < count; i++)
	{
		IeUpcaster *upcaster = &upcasts->steps[i].upcaster;

		*upcaster = upcasters[i];
		upcaster->type = (text *) PG_DETOAST_DATUM_COPY(PointerGetDatum(upcaster->type));
		upcaster->signature = pstrdup(upcaster->signature);
	}
	/* from here on the catalogs are looked at */
	upcasts->path = GetSearchPathMatcher(context);
	upcasts->columns = lookup_rowtype_tupdesc_copy(ie_event_type(), -1);
	upcasts->slot = MakeSingleTupleTableSlot(upcasts->columns, &TTSOpsVirtual);
	upcasts->econtext = CreateStandaloneExprContext();
	upcasts->params = makeParamList(1);
	MemSet(&upcasts->params->params[0], 0, sizeof(ParamExternData));
	upcasts->params->params[0].ptype = upcasts->columns->tdtypeid;
	upcasts->econtext->ecxt_param_list_info = upcasts->params;
	MemoryContextSwitchTo(caller);
	return upcasts;
}

/* Give the chains back, to serve again if nothing has changed. */
void
ie_end_upcasts(IeUpcasts *upcasts)
{
	IeUpcasts **link = &kept;
	int			i;

	if (upcasts == NULL)
		return;
	if (upcasts->changes != ie_catalog_changes())
	{
		MemoryContextDelete(upcasts->context);
		return;
	}
	drop_stale();
	ExecClearTuple(upcasts->slot);
	ResetExprContext(upcasts->econtext);
	if (kept_memory == NULL)
		kept_memory = AllocSetContextCreate(CacheMemoryContext,
											"immutable_events upcasts",
											ALLOCSET_SMALL_SIZES);
	MemoryContextSetParent(upcasts->context, kept_memory);
	upcasts->next = kept;
	kept = upcasts;
	for (i = 0; i < MAX_KEPT && *link != NULL; i++)
		link = &(*link)->next;
	if (*link != NULL)
	{
		MemoryContextDelete((*link)->context);
		*link = NULL;
	}
}

/*
 * An event from the slot that a reader has it in: the same slot when it has no
 * upcaster, or one that is good until the next event.
 */
TupleTableSlot *
ie_upcast_slot(IeUpcasts *upcasts, TupleTableSlot *event)
{
	MemoryContext caller;
	IeUpcastStep *step;
	IeEventRow	row;
	Datum		type;
	Datum		version;
	bool		type_isnull;
	bool		version_isnull;

	if (upcasts == NULL)
		return event;
	caller = begin(upcasts);
	type = slot_getattr(event, IE_TYPE, &type_isnull);
	version = slot_getattr(event, IE_SCHEMA_VERSION, &version_isnull);
	step = find_step(upcasts, type, type_isnull, version, version_isnull);
	if (step != NULL)
	{
		slot_getallattrs(event);
		memcpy(row.values, event->tts_values, sizeof(row.values));
		memcpy(row.isnull, event->tts_isnull, sizeof(row.isnull));
		(void) follow(upcasts, step, &row);
		ExecClearTuple(upcasts->slot);
		memcpy(upcasts->slot->tts_values, row.values, sizeof(row.values));
		memcpy(upcasts->slot->tts_isnull, row.isnull, sizeof(row.isnull));
		event = ExecStoreVirtualTuple(upcasts->slot);
	}
	MemoryContextSwitchTo(caller);
	return event;
}

/*
 * An event from a composite value that has the columns of immutable.event, in
 * their order: the same value when it has no upcaster, or one of the same type
 * that is good until the next event.
 */
HeapTupleHeader
ie_upcast_row(IeUpcasts *upcasts, HeapTupleHeader row, TupleDesc columns)
{
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(row),
	.t_data = row};
	MemoryContext caller = begin(upcasts);
	IeUpcastStep *step;
	IeEventRow	event;

	heap_deform_tuple(&tuple, columns, event.values, event.isnull);
	step = find_step(upcasts, event.values[IE_TYPE - 1], event.isnull[IE_TYPE - 1],
					 event.values[IE_SCHEMA_VERSION - 1],
					 event.isnull[IE_SCHEMA_VERSION - 1]);
	if (step != NULL)
	{
		row = DatumGetHeapTupleHeader(follow(upcasts, step, &event));
		if (columns->tdtypeid != upcasts->columns->tdtypeid)
			row = DatumGetHeapTupleHeader(heap_copy_tuple_as_datum(heap_form_tuple(columns, event.values, event.isnull),
																   columns));
	}
	MemoryContextSwitchTo(caller);
	return row;
}

/* Begin with an event: forget the last one. */
static MemoryContext
begin(IeUpcasts *upcasts)
{
	ResetExprContext(upcasts->econtext);
	return MemoryContextSwitchTo(upcasts->econtext->ecxt_per_tuple_memory);
}

/* The upcaster for events of a type and schema_version, or NULL. */
static IeUpcastStep *
find_step(const IeUpcasts *upcasts, Datum type, bool type_isnull,
		  Datum version, bool version_isnull)
{
	IeUpcaster	key;
	int			low = 0;
	int			high = upcasts->count;

	if (type_isnull || version_isnull)
		return NULL;
	key.type = DatumGetTextPP(type);
	key.schema_version = DatumGetInt32(version);
	while (low < high)
	{
		int			middle = (low + high) / 2;
		const IeUpcastStep *step = &upcasts->steps[middle];
		int			order = ie_compare_upcasters(&step->upcaster, &key);

		if (order == 0)
			return unconstify(IeUpcastStep *, step);
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

/* Take an event along its chain; every step raises its schema_version. */
static Datum
follow(IeUpcasts *upcasts, IeUpcastStep *step, IeEventRow *row)
{
	Datum		event = HeapTupleGetDatum(heap_form_tuple(upcasts->columns,
														  row->values,
														  row->isnull));
	Running		running = {.event = row};
	ErrorContextCallback callback = {.callback = describe_event,
	.arg = &running,.previous = error_context_stack};

	error_context_stack = &callback;
	while (step != NULL)
	{
		IeEventRow	next;

		CHECK_FOR_INTERRUPTS();
		running.step = step;
		event = ie_run_upcaster(upcasts, step, event, &next);
		ie_check_place(&step->upcaster, upcasts->columns, row, &next);
		ie_check_content(&step->upcaster, row, &next);
		*row = next;
		step = find_step(upcasts, row->values[IE_TYPE - 1],
						 row->isnull[IE_TYPE - 1],
						 row->values[IE_SCHEMA_VERSION - 1],
						 row->isnull[IE_SCHEMA_VERSION - 1]);
	}
	error_context_stack = callback.previous;
	return event;
}

/* Say in an error's context which event was being upcast, and note it. */
static void
describe_event(void *arg)
{
	Running    *running = arg;
	const char *signature = running->step->upcaster.signature;

	if (!running->event->isnull[IE_POSITION - 1] && !running->event->isnull[IE_ID - 1])
	{
		last_position = DatumGetInt64(running->event->values[IE_POSITION - 1]);
		last_id = *DatumGetUUIDP(running->event->values[IE_ID - 1]);
	}

	if (running->event->isnull[IE_POSITION - 1])
		errcontext("upcaster %s", signature);
	else
		errcontext("upcaster %s, event at position " INT64_FORMAT, signature,
				   DatumGetInt64(running->event->values[IE_POSITION - 1]));
}

/* Forget which event an upcaster has failed at, to know of the next one. */
void
ie_forget_upcast(void)
{
	last_position = 0;
}

/* The event that the last error of an upcaster was about; false: of none. */
bool
ie_last_upcast(int64 *position, pg_uuid_t *id)
{
	*position = last_position;
	*id = last_id;
	return last_position != 0;
}

/*
 * The types under which events may have been recorded that are handed out
 * under the given ones: an upcaster may rename any type that has one.
 */
ArrayType *
ie_upcast_types(const IeUpcasts *upcasts, ArrayType *types)
{
	Datum	   *values;
	bool	   *isnull;
	int			count;
	Datum	   *all;
	int			filled = 0;
	int			i;

	deconstruct_array(types, TEXTOID, -1, false, TYPALIGN_INT,
					  &values, &isnull, &count);
	all = palloc((count + upcasts->count) * sizeof(Datum));
	for (i = 0; i < count; i++)
		if (!isnull[i])
			all[filled++] = values[i];
	for (i = 0; i < upcasts->count; i++)
		if (i == 0 || !ie_same_text(upcasts->steps[i].upcaster.type,
									upcasts->steps[i - 1].upcaster.type))
			all[filled++] = PointerGetDatum(upcasts->steps[i].upcaster.type);
	return construct_array(all, filled, TEXTOID, -1, false, TYPALIGN_INT);
}

/*
 * The functions of a log's upcasters, by type and schema_version; InvalidOid
 * for one that is gone.
 */
List *
ie_upcaster_functions(Oid log)
{
	IeUpcasts  *upcasts = ie_upcasts(log);
	List	   *functions = NIL;
	int			i;

	for (i = 0; upcasts != NULL && i < upcasts->count; i++)
		functions = lappend_oid(functions,
								ie_find_upcaster(&upcasts->steps[i].upcaster,
												 true));
	ie_end_upcasts(upcasts);
	return functions;
}
