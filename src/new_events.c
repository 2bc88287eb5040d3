/*
 * new_events.c: the events that a caller hands in, from whatever argument.
 *
 * One from the arguments of append, many from an array of immutable.new_event
 * or from a JSON array, which any driver can send. What is not a valid event
 * is refused here, before anything is locked or written.
 */
#include "append.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/typcache.h"

/* Attribute numbers of immutable.new_event. */
enum
{
	NEW_TYPE = 1,
	NEW_DATA,
	NEW_METADATA,
	NEW_ID,
	NEW_SCHEMA_VERSION,
	NEW_NCOLUMNS = NEW_SCHEMA_VERSION
};

static Jsonb *empty_object(void);
static IeNewEvents make(text *stream, int count);
static void complete(IeEvent *event, int number);
static void check_ids(const IeNewEvents *batch);
static int	compare_ids(const void *a, const void *b);
static void from_row(IeEvent *event, HeapTupleHeader row, int number);
static void from_object(IeEvent *event, JsonbContainer *object, int number);
static JsonbValue *field(JsonbContainer *object, const char *key,
						 int *found);
static text *string_field(JsonbContainer *object, const char *key, int *found,
						  int number);
static int32 integer_field(JsonbContainer *object, const char *key,
						   int *found, int number);
pg_noreturn static void refuse_field(const char *key, const char *kind,
									 int number);

/* The one event of immutable.append. */
IeNewEvents
ie_new_event(FunctionCallInfo fcinfo)
{
	IeNewEvents batch;
	IeEvent    *event;

	ie_require_arg(fcinfo, 1, "stream");
	ie_require_arg(fcinfo, 2, "type");
	ie_require_arg(fcinfo, 3, "data");
	ie_require_arg(fcinfo, 7, "schema_version");
	batch = make(PG_GETARG_TEXT_PP(1), 1);
	event = batch.events;
	event->type = PG_GETARG_TEXT_PP(2);
	event->data = PG_GETARG_JSONB_P(3);
	event->metadata = PG_ARGISNULL(4) ? NULL : PG_GETARG_JSONB_P(4);
	event->id = PG_ARGISNULL(6) ? NULL : PG_GETARG_UUID_P(6);
	event->schema_version = PG_GETARG_INT32(7);
	complete(event, 0);
	return batch;
}

/* The events of an array of immutable.new_event. */
IeNewEvents
ie_new_events_from_array(text *stream, ArrayType *array)
{
	IeNewEvents batch;
	Datum	   *rows;
	bool	   *nulls;
	int			count;
	int			i;

	deconstruct_array(array, ARR_ELEMTYPE(array), -1, false, TYPALIGN_DOUBLE,
					  &rows, &nulls, &count);
	batch = make(stream, count);
	for (i = 0; i < count; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("event %d must not be NULL", i + 1)));
		from_row(&batch.events[i], DatumGetHeapTupleHeader(rows[i]), i + 1);
	}
	check_ids(&batch);
	return batch;
}

/* The events of a JSON array of objects. */
IeNewEvents
ie_new_events_from_json(text *stream, Jsonb *array)
{
	IeNewEvents batch;
	int			i;

	if (!JB_ROOT_IS_ARRAY(array) || JB_ROOT_IS_SCALAR(array))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("events must be a JSON array"),
				 errhint("For example: [{\"type\": \"opened\", \"data\": {}}].")));
	batch = make(stream, JB_ROOT_COUNT(array));
	for (i = 0; i < batch.count; i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(&array->root, i);

		if (element->type != jbvBinary ||
			!JsonContainerIsObject(element->val.binary.data))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("event %d must be a JSON object", i + 1)));
		from_object(&batch.events[i], element->val.binary.data, i + 1);
	}
	check_ids(&batch);
	return batch;
}

/* Room for the events of one stream. */
static IeNewEvents
make(text *stream, int count)
{
	IeNewEvents batch = {stream, count, palloc0(sizeof(IeEvent) * Max(count, 1))};
	int			i;

	ie_check_stream(stream);
	for (i = 0; i < count; i++)
		batch.events[i].stream = stream;
	return batch;
}

/* Check an event, saying which of many it is, and add the context to it. */
static void
complete(IeEvent *event, int number)
{
	if (event->type == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("type of event %d must not be NULL", number)));
	ie_check_event(event);
	event->metadata = ie_metadata(event->metadata);
}

/* No id is given twice. */
static void
check_ids(const IeNewEvents *batch)
{
	pg_uuid_t **ids = palloc(sizeof(*ids) * Max(batch->count, 1));
	int			count = 0;
	int			i;

	for (i = 0; i < batch->count; i++)
		if (batch->events[i].id != NULL)
			ids[count++] = batch->events[i].id;
	qsort(ids, count, sizeof(*ids), compare_ids);
	for (i = 1; i < count; i++)
		if (compare_ids(&ids[i - 1], &ids[i]) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("event id \"%s\" is given twice",
							DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(ids[i])))),
					 errhint("Give each event an id of its own.")));
	pfree(ids);
}

/* Order ids, for qsort. */
static int
compare_ids(const void *a, const void *b)
{
	return memcmp((*(pg_uuid_t *const *) a)->data,
				  (*(pg_uuid_t *const *) b)->data, UUID_LEN);
}

/* An event from a row of type immutable.new_event. */
static void
from_row(IeEvent *event, HeapTupleHeader row, int number)
{
	TupleDesc	columns = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(row),
												 HeapTupleHeaderGetTypMod(row));
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(row),
	.t_data = row};
	Datum		values[NEW_NCOLUMNS];
	bool		nulls[NEW_NCOLUMNS];

	heap_deform_tuple(&tuple, columns, values, nulls);
	ReleaseTupleDesc(columns);
	event->type = nulls[NEW_TYPE - 1] ? NULL
		: DatumGetTextPP(values[NEW_TYPE - 1]);
	event->data = nulls[NEW_DATA - 1] ? empty_object()
		: DatumGetJsonbP(values[NEW_DATA - 1]);
	event->metadata = nulls[NEW_METADATA - 1] ? NULL
		: DatumGetJsonbP(values[NEW_METADATA - 1]);
	event->id = nulls[NEW_ID - 1] ? NULL : DatumGetUUIDP(values[NEW_ID - 1]);
	event->schema_version = nulls[NEW_SCHEMA_VERSION - 1] ? 1
		: DatumGetInt32(values[NEW_SCHEMA_VERSION - 1]);
	complete(event, number);
}

/* What data is when none is given. */
static Jsonb *
empty_object(void)
{
	static Jsonb empty;

	SET_VARSIZE(&empty, sizeof(empty));
	empty.root.header = JB_FOBJECT;
	return &empty;
}

/* An event from a JSON object; what has no meaning is refused, not lost. */
static void
from_object(IeEvent *event, JsonbContainer *object, int number)
{
	int			found = 0;
	JsonbValue *data = field(object, "data", &found);
	JsonbValue *metadata = field(object, "metadata", &found);
	text	   *id = string_field(object, "id", &found, number);

	event->type = string_field(object, "type", &found, number);
	event->schema_version = integer_field(object, "schema_version", &found, number);
	if (found < (int) JsonContainerSize(object))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("event %d has a key that is not known", number),
				 errdetail("The keys are type, data, metadata, id and schema_version."),
				 errhint("Put what belongs to the event under data.")));
	event->data = data == NULL ? empty_object() : JsonbValueToJsonb(data);
	event->metadata = metadata == NULL ? NULL : JsonbValueToJsonb(metadata);
	if (id != NULL)
		event->id = DatumGetUUIDP(DirectFunctionCall1(uuid_in,
													  CStringGetDatum(text_to_cstring(id))));
	complete(event, number);
}

/* The value of a key; NULL where there is none, or a JSON null. */
static JsonbValue *
field(JsonbContainer *object, const char *key, int *found)
{
	JsonbValue *value = getKeyJsonValueFromContainer(object, key, strlen(key), NULL);

	if (value == NULL)
		return NULL;
	(*found)++;
	return value->type == jbvNull ? NULL : value;
}

/* The value of a key that must be a string. */
static text *
string_field(JsonbContainer *object, const char *key, int *found, int number)
{
	JsonbValue *value = field(object, key, found);

	if (value == NULL)
		return NULL;
	if (value->type != jbvString)
		refuse_field(key, "a string", number);
	return cstring_to_text_with_len(value->val.string.val, value->val.string.len);
}

/* The value of a key that must be an integer; 1 where there is none. */
static int32
integer_field(JsonbContainer *object, const char *key, int *found, int number)
{
	JsonbValue *value = field(object, key, found);
	Datum		whole;

	if (value == NULL)
		return 1;
	if (value->type != jbvNumeric)
		refuse_field(key, "an integer", number);
	whole = DirectFunctionCall2(numeric_trunc, NumericGetDatum(value->val.numeric),
								Int32GetDatum(0));
	if (!DatumGetBool(DirectFunctionCall2(numeric_eq, whole,
										  NumericGetDatum(value->val.numeric))) ||
		DatumGetBool(DirectFunctionCall2(numeric_lt, whole,
										 DirectFunctionCall1(int4_numeric, Int32GetDatum(1)))) ||
		DatumGetBool(DirectFunctionCall2(numeric_gt, whole,
										 DirectFunctionCall1(int4_numeric, Int32GetDatum(PG_INT32_MAX)))))
		refuse_field(key, "an integer from 1 on", number);
	return DatumGetInt32(DirectFunctionCall1(numeric_int4, whole));
}

/* Raise the error for a value of the wrong kind. */
static void
refuse_field(const char *key, const char *kind, int number)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s of event %d must be %s", key, number, kind)));
}
