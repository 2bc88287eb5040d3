/*
 * module.c: the module's magic block and its settings.
 *
 * immutable.context is parsed once, when it is set; append only merges it.
 */
#include "guard.h"
#include "worker.h"

#include "compat.h"
#include "utils/fmgrprotos.h"

PG_MODULE_MAGIC;

Jsonb	   *ie_context = NULL;
bool		ie_import = false;
char	   *ie_lease = NULL;
int			ie_batch_size = 1000;
int			ie_rebuild_workers = 2;

static char *context_text = NULL;

void		_PG_init(void);

static bool check_context(char **newval, void **extra, GucSource source);
static void assign_context(const char *newval, void *extra);
static Jsonb *parse_json(const char *text);

/* Define the settings and install the hooks when the library is loaded. */
void
_PG_init(void)
{
	DefineCustomStringVariable("immutable.context",
							   "JSON object merged into the metadata of every event appended.",
							   "Who and why: user, request, correlation and causation ids.",
							   &context_text, "", PGC_USERSET, 0,
							   check_context, assign_context, NULL);
	DefineCustomBoolVariable("immutable.import",
							 "Lets the owner of a log write rows into it with INSERT or COPY.",
							 "Every import is recorded in immutable.guard_changes.",
							 &ie_import, false, PGC_USERSET, 0,
							 NULL, NULL, NULL);
	DefineCustomStringVariable("immutable.lease",
							   "Token of the lease that ack, nack and renew are about.",
							   "For connections behind a pooler; consumer_status shows it.",
							   &ie_lease, "", PGC_USERSET, 0,
							   NULL, NULL, NULL);
	DefineCustomIntVariable("immutable.batch_size",
							"Events that an asynchronous projection folds in one transaction.",
							NULL,
							&ie_batch_size, 1000, 1, 1000000, PGC_USERSET, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("immutable.naptime",
							"How often a worker looks for events that it was not woken for.",
							"Appends wake it at once; what was prepared for two-phase commit does not.",
							&ie_naptime, 200, 10, 60000, PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("immutable.rebuild_workers",
							"Processes that may help a rebuild to fold the log.",
							"Where the projection is PARALLEL SAFE, and as far as max_parallel_workers has some left.",
							&ie_rebuild_workers, 2, 0, 1024, PGC_USERSET, 0,
							NULL, NULL, NULL);
	MarkGUCPrefixReserved("immutable");
	ie_install_hooks();
	ie_install_launcher();
}

/* Accept an empty string or a JSON object, and keep it parsed. */
static bool
check_context(char **newval, void **extra,
			  GucSource source pg_attribute_unused())
{
	Jsonb	   *parsed;

	if (*newval == NULL || **newval == '\0')
		return true;
	parsed = parse_json(*newval);
	if (parsed == NULL || !JB_ROOT_IS_OBJECT(parsed))
	{
		GUC_check_errdetail("The value must be a JSON object.");
		GUC_check_errhint("For example: {\"user\": \"ann\", \"request\": \"7f3a\"}.");
		return false;
	}
	*extra = guc_malloc(ERROR, VARSIZE(parsed));
	if (*extra == NULL)
		return false;
	memcpy(*extra, parsed, VARSIZE(parsed));
	return true;
}

/* Put the parsed value in force. */
static void
assign_context(const char *newval pg_attribute_unused(), void *extra)
{
	ie_context = (Jsonb *) extra;
}

/* Parse JSON; NULL where jsonb's input function would raise. */
static Jsonb *
parse_json(const char *text)
{
	MemoryContext caller = CurrentMemoryContext;
	Jsonb	   *volatile parsed = NULL;

	PG_TRY();
	{
		parsed = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
													CStringGetDatum(text)));
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		/* a bad value is the setting's error, anything else is not ours */
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_DATA_EXCEPTION)
			PG_RE_THROW();
		FlushErrorState();
		FreeErrorData(error);
	}
	PG_END_TRY();
	return parsed;
}
