/*
 * snapshot_key.c: what must be the same for a snapshot to count.
 *
 * Two hashes say it. The fingerprint is of the reducer, and of what the
 * registry says of it. The settings are of the initial state, and for a reducer
 * that is not a pure function of the state and the event, of all settings that
 * it could see. A state is kept as text, written and read in one fixed style,
 * as in a dump.
 */
#include "reducer.h"
#include "upcast.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/resowner.h"

/* The fingerprint of a reducer, and when it was computed. */
typedef struct Computed
{
	struct
	{
		Oid			function;
		Oid			state_type;
		Oid			collation;
	}			key;
	bool		valid;
	bool		possible;		/* the reducer can have snapshots */
	uint64		generation;		/* of the reducer: the state of the catalogs */
	Oid			user;			/* of the reducer, too */
	char	   *search_path;
	List	   *upcasters;
	IeFingerprint fingerprint;
} Computed;

static const IeFingerprint *get_fingerprint(const IeReducer *reducer,
											List *upcasters);
static Computed *lookup(const IeReducer *reducer);
static void compute(Computed *computed, const IeReducer *reducer,
					List *upcasters);
static bool try_compute(const IeReducer *reducer, List *upcasters,
						IeFingerprint *fingerprint);
static bool has_temporary_objects(void);
static text *hash_settings(const IeReducer *reducer, const IeState *initial,
						   const IeFingerprint *fingerprint);
static void append_value(StringInfo text, const char *value);
static int	begin_style(void);

/*
 * Tell under which key a reducer's snapshots of a stream are kept; false when
 * there are none, or none that this caller may be shown.
 */
bool
ie_snapshot_key(const IeReducer *reducer, const IeState *initial,
				const IeTarget *target, const text *stream, IeSnapshotKey *key)
{
	Oid			log = RelationGetRelid(target->log);
	const IeFingerprint *fingerprint;
	const IeKeeping *keeping;
	char	   *name;
	char	   *all;

	if (!ie_has_snapshots(log))
		return false;
	name = format_procedure_qualified(reducer->function);
	keeping = name == NULL ? NULL : ie_snapshots_kept(log, name);
	/* without its guards nothing says that a log's events are as they were */
	if (keeping == NULL || target->root->problem != NULL ||
		target->facts->problem != NULL || ie_row_security(target->log))
		return false;
	key->storage = keeping->storage;
	key->every = keeping->every;
	key->stream = stream;
	key->reducer = cstring_to_text(name);
	key->refuted = false;
	all = psprintf("%d %s %s", keeping->reducer_version, keeping->epoch,
				   ie_describe_upcasters(log));

	fingerprint = get_fingerprint(reducer, ie_upcaster_functions(log));
	if (fingerprint == NULL || !ie_snapshot_key_holds(reducer) ||
		(fingerprint->impure && has_temporary_objects()))
		return false;
	all = psprintf("%s %s", fingerprint->digest, all);
	key->fingerprint = cstring_to_text(ie_digest(all, strlen(all)));
	key->settings = hash_settings(reducer, initial, fingerprint);
	return true;
}

/* Is the reducer still what it was when its key was made? */
bool
ie_snapshot_key_holds(const IeReducer *reducer)
{
	AcceptInvalidationMessages();
	return ie_reducer_is_current(reducer) && ie_reducer_same_names(reducer);
}

/*
 * The reducer's fingerprint, or NULL when it cannot have one: then it is folded
 * without snapshots, as it would be if nobody had asked for them.
 */
static const IeFingerprint *
get_fingerprint(const IeReducer *reducer, List *upcasters)
{
	Computed   *computed = lookup(reducer);

	if (!computed->valid || computed->generation != reducer->generation ||
		computed->user != reducer->user ||
		strcmp(computed->search_path, reducer->search_path) != 0 ||
		!equal(computed->upcasters, upcasters))
	{
		if (IsInParallelMode())
			return NULL;		/* no subtransactions: another time */
		compute(computed, reducer, upcasters);
	}
	return computed->possible ? &computed->fingerprint : NULL;
}

/* Where the fingerprint of a reducer is remembered, for all its calls. */
static Computed *
lookup(const IeReducer *reducer)
{
	static HTAB *table = NULL;
	Computed   *computed;
	Computed	key = {.key = {reducer->function, reducer->state_type, reducer->collation}};
	bool		found;

	if (table == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(key.key), .entrysize = sizeof(Computed)};

		ctl.hcxt = AllocSetContextCreate(CacheMemoryContext,
										 "immutable_events fingerprints",
										 ALLOCSET_SMALL_SIZES);
		table = hash_create("immutable_events fingerprints", 16, &ctl,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	computed = hash_search(table, &key.key, HASH_ENTER, &found);
	if (!found)
		memset((char *) computed + sizeof(key.key), 0, sizeof(Computed) - sizeof(key.key));
	return computed;
}

/* Compute a fingerprint, and remember it. */
static void
compute(Computed *computed, const IeReducer *reducer, List *upcasters)
{
	MemoryContext caller;
	char	   *search_path;
	List	   *used;

	computed->valid = false;
	computed->possible = try_compute(reducer, upcasters, &computed->fingerprint);
	if (!ie_snapshot_key_holds(reducer))
	{
		computed->possible = false; /* now; it is not remembered */
		return;
	}
	caller = MemoryContextSwitchTo(CacheMemoryContext);
	search_path = pstrdup(reducer->search_path);
	used = list_copy(upcasters);
	MemoryContextSwitchTo(caller);
	if (computed->search_path != NULL)
		pfree(computed->search_path);
	list_free(computed->upcasters);
	computed->search_path = search_path;
	computed->upcasters = used;
	computed->generation = reducer->generation;
	computed->user = reducer->user;
	computed->valid = true;
}

/*
 * Compute it in a subtransaction: a body that makes no sense must not let a
 * replay fail that never gets to it. False when there is none.
 */
static bool
try_compute(const IeReducer *reducer, List *upcasters, IeFingerprint *fingerprint)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool possible = true;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		*fingerprint = ie_reducer_fingerprint(reducer, upcasters);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
			error->sqlerrcode == ERRCODE_OUT_OF_MEMORY)
			PG_RE_THROW();
		FlushErrorState();
		FreeErrorData(error);
		RollbackAndReleaseCurrentSubTransaction();
		possible = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	return possible;
}

/*
 * Has this session temporary tables or types? Names in a body that nobody has
 * resolved might mean them, here and now.
 */
static bool
has_temporary_objects(void)
{
	Oid			schema;
	Oid			toast;

	GetTempNamespaceState(&schema, &toast);
	return OidIsValid(schema) &&
		ie_dependents_of(NamespaceRelationId, schema) != NIL;
}

/* Hash what a reducer can see beside the stream's events. */
static text *
hash_settings(const IeReducer *reducer, const IeState *initial,
			  const IeFingerprint *fingerprint)
{
	static const char *const names[] = {
		"DateStyle", "IntervalStyle", "TimeZone", "array_nulls",
		"bytea_output", "default_text_search_config", "extra_float_digits",
		"lc_numeric", "lc_time", "plpgsql.variable_conflict",
		"quote_all_identifiers", "standard_conforming_strings",
		"timezone_abbreviations", "transform_null_equals", "xmlbinary",
		"xmloption"
	};
	StringInfoData all;
	ListCell   *cell;
	int			i;

	initStringInfo(&all);
	append_value(&all, ie_state_to_text(reducer, initial));
	append_value(&all, get_collation_name(reducer->collation));
	append_value(&all, GetConfigOption("lc_monetary", false, false));
	for (i = 0; fingerprint->impure && i < (int) lengthof(names); i++)
	{
		const char *value = GetConfigOption(names[i], true, false);

		/* not there before PL/pgSQL is loaded; then this */
		append_value(&all, value == NULL ? "error" : value);
	}
	if (fingerprint->unpinned)
		foreach(cell, fetch_search_path(true))
			append_value(&all, get_namespace_name(lfirst_oid(cell)));
	if (fingerprint->reads_user)
		append_value(&all, GetUserNameFromId(GetUserId(), false));
	return cstring_to_text(ie_digest(all.data, all.len));
}

/* Append a value so that no two lists of them are alike. */
static void
append_value(StringInfo text, const char *value)
{
	if (value == NULL)
		appendStringInfoString(text, "-\n");
	else
		appendStringInfo(text, "%zu %s\n", strlen(value), value);
}

/* A state as text; NULL for NULL. */
char *
ie_state_to_text(const IeReducer *reducer, const IeState *state)
{
	int			style;
	Oid			output;
	bool		varlena;
	char	   *value;

	if (state->isnull)
		return NULL;
	style = begin_style();
	getTypeOutputInfo(reducer->state_type, &output, &varlena);
	value = OidOutputFunctionCall(output, ie_state_copy(reducer, state));
	AtEOXact_GUC(true, style);
	return value;
}

/* Continue with a state that was kept as text after some event. */
void
ie_state_from_text(IeReducer *reducer, IeState *state, char *value)
{
	Datum		datum = (Datum) 0;

	if (value != NULL)
	{
		int			style = begin_style();
		Oid			input;
		Oid			parameter;

		getTypeInputInfo(reducer->state_type, &input, &parameter);
		datum = OidInputFunctionCall(input, value, parameter, -1);
		AtEOXact_GUC(true, style);
	}
	ie_state_init(reducer, state, datum, value == NULL, state->context);
	state->started = true;		/* NULL is what it has become */
}

/* The style in which states are written and read: exact, and always the same. */
static int
begin_style(void)
{
	static const char *const style[][2] = {
		{"DateStyle", "ISO"}, {"IntervalStyle", "postgres"},
		{"array_nulls", "on"}, {"bytea_output", "hex"},
		{"extra_float_digits", "1"}, {"xmloption", "content"}
	};
	int			level = NewGUCNestLevel();
	int			i;

	for (i = 0; i < (int) lengthof(style); i++)
	{
		const char *now = GetConfigOption(style[i][0], false, false);
		Size		length = strlen(style[i][1]);

		/* "ISO, MDY" is as good as "ISO": the order is for other styles */
		if (strncmp(now, style[i][1], length) != 0 ||
			(now[length] != '\0' && now[length] != ','))
			(void) set_config_option(style[i][0], style[i][1], PGC_USERSET,
									 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
									 false);
	}
	return level;
}
