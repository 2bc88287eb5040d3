/*
 * aside.c: streams that are set aside, because an event of theirs has failed.
 *
 * They stand in immutable.consumer_streams with the event that has failed and
 * the place from which they go on. The cursor passes them; once it has passed
 * the failed event they are taken back, in batches of their own, and when
 * nothing is left of such a stream up to the cursor it goes with the others.
 */
#include "consumer.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"

static void receive_array(void *state);
static void receive_returning(void *state);

/* The streams of a shard that are set aside, as an array. */
ArrayType *
ie_set_aside(text *name, int32 shard)
{
	Oid			types[] = {TEXTOID, INT4OID};
	Datum		values[] = {PointerGetDatum(name), Int32GetDatum(shard)};
	ArrayType  *streams = NULL;

	ie_registry_query("SELECT pg_catalog.array_agg(stream) FROM immutable.consumer_streams"
					  " WHERE consumer OPERATOR(pg_catalog.=) $1 AND shard OPERATOR(pg_catalog.=) $2",
					  2, types, values, NULL, receive_array, &streams);
	return streams;
}

/* Copy an array out of SPI's memory. */
static void
receive_array(void *state)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);

	if (!isnull)
		*(ArrayType **) state = ie_keep_varlena(value);
}

/* A stream that was set aside and whose time has come. */
typedef struct Returning
{
	text	   *stream;
	int64		from;
} Returning;

/* Take it from the row that was found, if there is one. */
static void
receive_returning(void *state)
{
	Returning  *returning = state;
	bool		isnull;

	if (SPI_processed == 0)
		return;
	returning->stream = ie_keep_varlena(SPI_getbinval(SPI_tuptable->vals[0],
													  SPI_tuptable->tupdesc, 1, &isnull));
	returning->from = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
												  SPI_tuptable->tupdesc, 2, &isnull));
}

/* The next stream to take back, once the cursor has passed its place. */
text *
ie_stream_to_take_back(text *name, const IeShard *shard, int64 *from)
{
	Oid			types[] = {TEXTOID, INT4OID, INT8OID};
	Datum		values[] = {PointerGetDatum(name),
	Int32GetDatum(shard->shard), Int64GetDatum(shard->position)};
	Returning	returning = {0};

	ie_registry_query("SELECT stream, from_position FROM immutable.consumer_streams"
					  " WHERE consumer OPERATOR(pg_catalog.=) $1 AND shard OPERATOR(pg_catalog.=) $2"
					  " AND NOT parked AND position OPERATOR(pg_catalog.<=) $3"
					  " AND (retry_at IS NULL OR retry_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp())"
					  " ORDER BY from_position LIMIT 1",
					  3, types, values, NULL, receive_returning, &returning);
	*from = returning.from;
	return returning.stream;
}

/* A stream that is taken back goes with the others again. */
void
ie_rejoin(text *name, text *stream)
{
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[] = {PointerGetDatum(name), PointerGetDatum(stream)};

	ie_registry_query("DELETE FROM immutable.consumer_streams"
					  " WHERE consumer OPERATOR(pg_catalog.=) $1"
					  " AND stream OPERATOR(pg_catalog.=) $2",
					  2, types, values, NULL, NULL, NULL);
}

/* What failed before did not fail in this batch. */
void
ie_begin_batch(text *name, int32 shard)
{
	Oid			types[] = {TEXTOID, INT4OID};
	Datum		values[] = {PointerGetDatum(name), Int32GetDatum(shard)};

	ie_registry_query("UPDATE immutable.consumer_streams SET nacked = false"
					  " WHERE consumer OPERATOR(pg_catalog.=) $1"
					  " AND shard OPERATOR(pg_catalog.=) $2 AND nacked",
					  2, types, values, NULL, NULL, NULL);
}
