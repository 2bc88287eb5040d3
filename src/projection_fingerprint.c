/*
 * projection_fingerprint.c: which reducer the rows were folded with.
 *
 * It is kept as three words: the form in which this server describes functions,
 * a hash of the definition of the reducer and of all functions and types that
 * it is made of, and one of its source alone. Where the first word is another
 * one, after a dump was restored by a later server say, the second says
 * nothing, and the last decides.
 */
#include "projection.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#define FORM	"1." IE_SERVER	/* raise the number when descriptions change */

/* What a reducer is made of. */
typedef struct Definition
{
	Oid			target;
	const IeProjection *projection;
	char	   *digest;
} Definition;

static char *recorded_fingerprint(Oid target);
static char *describe(Oid target, const IeProjection *projection);
static void define(void *state);
static char *source_of(Oid function);
static bool differ(const char *recorded, const char *now);
static void receive_text(void *state);

PG_FUNCTION_INFO_V1(ie_projection_is_stale);

/* Is the reducer another one than the rows were folded with? */
Datum
ie_projection_is_stale(PG_FUNCTION_ARGS)
{
	char	   *recorded = recorded_fingerprint(PG_GETARG_OID(0));

	if (recorded == NULL)
		(void) ie_known_projection(PG_GETARG_OID(0));	/* raises the error */
	PG_RETURN_BOOL(recorded != NULL &&
				   differ(recorded, describe(PG_GETARG_OID(0), NULL)));
}

/* Record with which reducer the rows are folded. */
void
ie_record_fingerprint(const IeProjection *projection)
{
	Oid			types[] = {REGCLASSOID, TEXTOID};
	char	   *recorded = recorded_fingerprint(projection->target);
	char	   *now = describe(projection->target, projection);
	Datum		values[] = {ObjectIdGetDatum(projection->target),
	CStringGetTextDatum(now)};

	if (recorded != NULL && strcmp(recorded, now) == 0)
		return;					/* backends need not read the registry anew */
	ie_registry_query("UPDATE immutable.projections SET fingerprint = $2"
					  " WHERE target OPERATOR(pg_catalog.=) $1::pg_catalog.oid",
					  2, types, values, NULL, NULL, NULL);
}

/* What the registry has, or NULL. */
static char *
recorded_fingerprint(Oid target)
{
	Oid			types[] = {REGCLASSOID};
	Datum		values[] = {ObjectIdGetDatum(target)};
	char	   *answer = NULL;

	ie_registry_query("SELECT p.fingerprint FROM immutable.projections p"
					  " WHERE p.target OPERATOR(pg_catalog.=) $1::pg_catalog.oid",
					  1, types, values, NULL, receive_text, &answer);
	return answer == NULL ? NULL : pstrdup(answer);
}

/*
 * The fingerprint now, of a projection that may not be given. Where the reducer
 * makes no sense, or fits the read model no longer, there is no definition.
 */
static char *
describe(Oid target, const IeProjection *projection)
{
	Definition	definition = {.target = target, .projection = projection};
	bool		fits = ie_attempt(define, &definition) == NULL;
	Oid			function;

	if (projection == NULL)
	{
		IeCaller	caller;

		projection = fits ? definition.projection : ie_known_projection(target);
		ie_projection_enter(projection, &caller);
		function = ie_find_reducer(projection, true);
		ie_projection_leave(&caller);
	}
	else
		function = projection->function;
	return psprintf(FORM " %s %s", fits ? definition.digest : "-",
					OidIsValid(function) ? source_of(function) : "-");
}

/* Describe the reducer by what it is made of. */
static void
define(void *state)
{
	Definition *definition = state;
	IeCaller	caller;

	if (definition->projection == NULL)
		definition->projection = ie_projection(definition->target);
	ie_projection_enter(definition->projection, &caller);
	definition->digest = ie_reducer_definition(definition->projection->reducer);
	ie_projection_leave(&caller);
}

/* A hash of what the catalogs hold of one function. */
static char *
source_of(Oid function)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(function)};
	char	   *text = NULL;

	ie_registry_query("SELECT pg_catalog.md5(pg_catalog.concat_ws('|', p.prosrc, p.probin,"
					  " l.lanname, p.provolatile, p.proisstrict, p.proconfig))"
					  " FROM pg_catalog.pg_proc p"
					  " JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang"
					  " WHERE p.oid OPERATOR(pg_catalog.=) $1",
					  1, types, values, NULL, receive_text, &text);
	return text == NULL ? "-" : text;
}

/* Do two fingerprints tell of different reducers? */
static bool
differ(const char *recorded, const char *now)
{
	Size		form = strcspn(recorded, " ");
	const char *source;

	if (strncmp(recorded, now, form + 1) == 0)
		return strcmp(recorded, now) != 0;
	source = strrchr(recorded, ' ');
	return source == NULL || strcmp(source, strrchr(now, ' ')) != 0;
}

/* Take one text. */
static void
receive_text(void *state)
{
	char	   *text = SPI_processed == 0 ? NULL
		: SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);

	if (text != NULL)
		*(char **) state = strcpy(SPI_palloc(strlen(text) + 1), text);
}
