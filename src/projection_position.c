/*
 * projection_position.c: where an asynchronous projection stands.
 *
 * Its row in immutable.projection_positions says how far it has come, and what
 * keeps it from going on. Events that it passes over on purpose are in
 * immutable.skipped_events.
 */
#include "projection.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

static void receive_position(void *state);
static void receive_skipped(void *state);

/* Where the projection stands; its row is locked. */
int64
ie_projection_position(Oid target)
{
	Oid			types[] = {REGCLASSOID};
	Datum		values[] = {ObjectIdGetDatum(target)};
	int64		position = 0;

	ie_registry_query("SELECT p.position FROM immutable.projection_positions p"
					  " WHERE p.target OPERATOR(pg_catalog.=) $1::pg_catalog.oid FOR UPDATE",
					  1, types, values, NULL, receive_position, &position);
	return position;
}

/* Take the position. */
static void
receive_position(void *state)
{
	bool		isnull;

	if (SPI_processed > 0)
		*(int64 *) state = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
													   SPI_tuptable->tupdesc,
													   1, &isnull));
}

/* Record where the projection stands now. */
void
ie_projection_move_on(Oid target, int64 position)
{
	Oid			types[] = {REGCLASSOID, INT8OID};
	Datum		values[] = {ObjectIdGetDatum(target), Int64GetDatum(position)};

	ie_registry_query("UPDATE immutable.projection_positions"
					  " SET position = $2, refreshed_at = pg_catalog.clock_timestamp(),"
					  " error = NULL, error_sqlstate = NULL, error_position = NULL,"
					  " error_event = NULL, failed_at = NULL"
					  " WHERE target OPERATOR(pg_catalog.=) $1::pg_catalog.oid",
					  2, types, values, NULL, NULL, NULL);
}

/* Record where the projection was halted, and why. */
void
ie_projection_halt(Oid target, const IeHalt *halt)
{
	Oid			types[] = {REGCLASSOID, TEXTOID, TEXTOID, INT8OID, UUIDOID};
	Datum		values[] = {ObjectIdGetDatum(target),
		CStringGetTextDatum(halt->error->message),
		CStringGetTextDatum(unpack_sql_state(halt->error->sqlerrcode)),
		Int64GetDatum(halt->position),
	UUIDPGetDatum(&halt->event)};

	ie_registry_query("UPDATE immutable.projection_positions"
					  " SET position = greatest(position, $4 OPERATOR(pg_catalog.-) 1),"
					  " error = $2, error_sqlstate = $3, error_position = $4,"
					  " error_event = $5, failed_at = pg_catalog.clock_timestamp()"
					  " WHERE target OPERATOR(pg_catalog.=) $1::pg_catalog.oid",
					  5, types, values, halt->position == 0 ? "   nn" : NULL,
					  NULL, NULL);
}

/* The events that the projection which is there now skips on purpose. */
IePositions
ie_skipped_events(Oid target)
{
	Oid			types[] = {REGCLASSOID};
	Datum		values[] = {ObjectIdGetDatum(target)};
	IePositions skipped = {0};

	ie_registry_look("SELECT s.position FROM immutable.skipped_events s"
					 " JOIN immutable.projections p ON p.target::pg_catalog.oid OPERATOR(pg_catalog.=) s.target::pg_catalog.oid"
					 " WHERE s.target OPERATOR(pg_catalog.=) $1::pg_catalog.oid"
					 " AND s.skipped_at OPERATOR(pg_catalog.>=) p.created_at"
					 " ORDER BY s.position",
					 1, types, values, receive_skipped, &skipped);
	return skipped;
}

/* Take the positions. */
static void
receive_skipped(void *state)
{
	IePositions *skipped = state;
	bool		isnull;

	skipped->count = SPI_processed;
	skipped->positions = SPI_palloc(Max(SPI_processed, 1) * sizeof(int64));
	for (uint64 i = 0; i < SPI_processed; i++)
		skipped->positions[i] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i],
															SPI_tuptable->tupdesc,
															1, &isnull));
}

/* Leave out the events that are skipped. */
void
ie_leave_out_skipped(const IeProjection *projection, IeEvents *events,
					 const IePositions *skipped)
{
	int			kept = 0;
	int			i;

	if (skipped->count == 0)
		return;
	for (i = 0; i < events->count; i++)
		if (!ie_has_position(skipped, ie_event_position(projection, events->tuples[i])))
			events->tuples[kept++] = events->tuples[i];
	events->count = kept;
}

/* The position of an event. */
int64
ie_event_position(const IeProjection *projection, HeapTuple event)
{
	bool		isnull;

	return DatumGetInt64(heap_getattr(event, IE_POSITION,
									  projection->event_columns, &isnull));
}
