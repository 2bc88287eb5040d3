/*
 * event.c: the columns of immutable.event, and what makes an event valid.
 */
#include "immutable_events.h"

#include "access/htup_details.h"
#include "executor/executor.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

static void check_name(const text *name, const char *what);
static void check_object(Jsonb *value, const char *what);

/* A stream's name: not empty, and short enough for the index on it. */
void
ie_check_stream(const text *stream)
{
	check_name(stream, "stream");
	if (VARSIZE_ANY_EXHDR(stream) > IE_MAX_STREAM_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("stream name is too long"),
				 errdetail("It has %zu bytes, at most %d are allowed.",
						   (size_t) VARSIZE_ANY_EXHDR(stream),
						   IE_MAX_STREAM_BYTES),
				 errhint("Name the stream by an id, and put the rest into data or metadata.")));
}

/* What must hold of every event, from whatever source it comes. */
void
ie_check_event(const IeEvent *event)
{
	ie_check_stream(event->stream);
	check_name(event->type, "type");
	if (*VARDATA_ANY(event->type) == '$')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("type \"%s\" is reserved",
						text_to_cstring(event->type)),
				 errdetail("Types that begin with \"$\" belong to the extension."),
				 errhint("Choose a type that begins otherwise.")));
	if (event->schema_version < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("schema_version must be 1 or more")));
	check_object(event->data, "data");
	if (event->metadata != NULL)
		check_object(event->metadata, "metadata");
}

/* Refuse an empty name. */
static void
check_name(const text *name, const char *what)
{
	if (VARSIZE_ANY_EXHDR(name) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be empty", what)));
}

/* Refuse JSON that is not an object. */
static void
check_object(Jsonb *value, const char *what)
{
	if (!JB_ROOT_IS_OBJECT(value))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be a JSON object", what),
				 errhint("Put the value under a key, as in {\"value\": 1}.")));
}

/* The given metadata over the session's immutable.context. */
Jsonb *
ie_metadata(Jsonb *given)
{
	static Jsonb empty;

	if (ie_context == NULL && given == NULL)
	{
		SET_VARSIZE(&empty, sizeof(empty));
		empty.root.header = JB_FOBJECT;
		return &empty;
	}
	if (ie_context == NULL)
		return given;
	if (given == NULL)
	{
		/* a copy: a trigger may set the context while we hold it */
		Jsonb	   *copy = palloc(VARSIZE(ie_context));

		return memcpy(copy, ie_context, VARSIZE(ie_context));
	}
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat,
											  JsonbPGetDatum(ie_context),
											  JsonbPGetDatum(given)));
}

/* Lay an event out as the columns of its log; none is NULL. */
void
ie_event_values(const IeEvent *event, Datum *values)
{
	values[IE_POSITION - 1] = Int64GetDatum(event->position);
	values[IE_RECORDED_AT - 1] = TimestampTzGetDatum(event->recorded_at);
	values[IE_VERSION - 1] = Int64GetDatum(event->version);
	values[IE_ID - 1] = UUIDPGetDatum(event->id);
	values[IE_SCHEMA_VERSION - 1] = Int32GetDatum(event->schema_version);
	values[IE_STREAM - 1] = PointerGetDatum(event->stream);
	values[IE_TYPE - 1] = PointerGetDatum(event->type);
	values[IE_DATA - 1] = JsonbPGetDatum(event->data);
	values[IE_METADATA - 1] = JsonbPGetDatum(event->metadata);
}

/* Take an event from a row of its log; NULLs are refused as the table would. */
void
ie_event_from_slot(TupleTableSlot *slot, IeEvent *event)
{
	Datum	   *values = slot->tts_values;
	int			column;

	slot_getallattrs(slot);
	for (column = IE_POSITION; column <= IE_NCOLUMNS; column++)
		if (slot->tts_isnull[column - 1])
			ereport(ERROR,
					(errcode(ERRCODE_NOT_NULL_VIOLATION),
					 errmsg("%s must not be NULL",
							NameStr(TupleDescAttr(slot->tts_tupleDescriptor,
												  column - 1)->attname))));
	event->position = DatumGetInt64(values[IE_POSITION - 1]);
	event->recorded_at = DatumGetTimestampTz(values[IE_RECORDED_AT - 1]);
	event->version = DatumGetInt64(values[IE_VERSION - 1]);
	event->id = DatumGetUUIDP(values[IE_ID - 1]);
	event->schema_version = DatumGetInt32(values[IE_SCHEMA_VERSION - 1]);
	event->stream = DatumGetTextPP(values[IE_STREAM - 1]);
	event->type = DatumGetTextPP(values[IE_TYPE - 1]);
	event->data = DatumGetJsonbP(values[IE_DATA - 1]);
	event->metadata = DatumGetJsonbP(values[IE_METADATA - 1]);
}

/*
 * What of an event's place and identity a row has otherwise, or NULL. The
 * content is not compared: a trigger may fill in data.
 */
const char *
ie_difference(const IeEvent *event, const IeEvent *row)
{
	if (row->position != event->position)
		return "position";
	if (row->recorded_at != event->recorded_at)
		return "recorded_at";
	if (row->version != event->version)
		return "version";
	if (memcmp(row->id->data, event->id->data, UUID_LEN) != 0)
		return "id";
	if (!ie_same_text(row->stream, event->stream))
		return "stream";
	return NULL;
}

/* Are two texts the same, byte by byte? */
bool
ie_same_text(const text *a, const text *b)
{
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}
