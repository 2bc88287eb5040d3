/*
 * projection_cache.c: what the registry says of a projection, made ready.
 *
 * Reducer, key expressions, column defaults and queries are compiled once in a
 * backend, as the projection's owner and with the search_path that was in
 * force when the projection was made. They are compiled anew when the
 * registry, the read model, the log, a function or a type changes.
 */
#include "guard.h"
#include "projection.h"

#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "miscadmin.h"
#include "optimizer/optimizer.h"
#include "parser/parse_func.h"
#include "rewrite/rewriteHandler.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"
#include "utils/varlena.h"

static HTAB *cache = NULL;
static IeRegistryWatch watch = {.table = "projections"};

/* The inline projections of the logs that this backend appends to. */
typedef struct InlineTargets
{
	Oid			log;			/* the hash key */
	List	   *targets;		/* in order of OID */
	int64		projected;		/* the highest position, by this backend */
	uint64		other_rows;		/* that had come into logs without append */
} InlineTargets;

static HTAB *inline_targets = NULL;
static MemoryContext targets_context = NULL;

/* Where a query's answer goes. */
typedef struct Answer
{
	MemoryContext context;
	List	   *targets;
} Answer;

static void make_cache(void);
static void check_watch(void);
static void forget(IeProjection *projection);
static void read_registry(IeProjection *projection);
static Oid	owner_of(Oid target);
static void receive(void *state);
static void receive_targets(void *state);
static Datum kept(int number, bool *isnull);
static void compile(IeProjection *projection, Oid table);
static void add_context(void *arg);
static void prepare_defaults(IeProjection *projection, Relation target);

/* A projection, ready to run; an error when there is none. */
IeProjection *
ie_projection(Oid target)
{
	IeProjection *projection;
	bool		found;

	check_watch();
	projection = hash_search(cache, &target, HASH_FIND, &found);
	if (found && projection->valid && projection->changes == ie_catalog_changes())
		return projection;
	projection = ie_known_projection(target);
	compile(projection, target);
	return projection;
}

/* The inline projections of a log, in an order that all backends share. */
List *
ie_inline_projections(Oid log)
{
	Oid			types[] = {REGCLASSOID};
	Datum		values[] = {ObjectIdGetDatum(log)};
	InlineTargets *entry;
	bool		found;

	check_watch();
	entry = hash_search(inline_targets, &log, HASH_FIND, NULL);
	if (entry == NULL)
	{
		Answer		answer = {.context = CurrentMemoryContext};
		MemoryContext caller;

		ie_registry_look("SELECT p.target::pg_catalog.oid FROM immutable.projections p"
						  " WHERE p.log OPERATOR(pg_catalog.=) $1::pg_catalog.oid"
						  " AND p.mode OPERATOR(pg_catalog.=) 'inline'"
						  " ORDER BY p.target::pg_catalog.oid",
						  1, types, values, receive_targets, &answer);
		if (!watch.current)
			return answer.targets;
		entry = hash_search(inline_targets, &log, HASH_ENTER, &found);
		entry->targets = NIL;
		entry->projected = 0;
		entry->other_rows = 0;
		caller = MemoryContextSwitchTo(targets_context);
		entry->targets = list_copy(answer.targets);
		MemoryContextSwitchTo(caller);
	}
	return entry->targets;
}

/*
 * Were these positions appended, above all that this backend has projected?
 * They will have been projected the next time.
 */
bool
ie_follows_projected(Oid log, int64 first, int64 last)
{
	InlineTargets *entry = hash_search(inline_targets, &log, HASH_FIND, NULL);
	bool		follows;

	if (entry == NULL)
		return false;
	follows = first > entry->projected && entry->other_rows == ie_other_rows();
	entry->projected = Max(entry->projected, last);
	entry->other_rows = ie_other_rows();
	return follows;
}

/*
 * A projection without making it ready: the reducer may be gone, the read model
 * changed.
 */
IeProjection *
ie_known_projection(Oid target)
{
	IeProjection *projection;
	bool		found;

	check_watch();
	projection = hash_search(cache, &target, HASH_ENTER, &found);
	if (found)
		forget(projection);
	else
		memset((char *) projection + sizeof(Oid), 0, sizeof(*projection) - sizeof(Oid));
	projection->context = AllocSetContextCreate(CacheMemoryContext,
												"immutable_events projection",
												ALLOCSET_DEFAULT_SIZES);
	read_registry(projection);
	return projection;
}

/*
 * A projection that the caller has for himself, in the current context: its
 * rows are in another table of the same columns, or its reducer is another one.
 */
IeProjection *
ie_projection_onto(Oid target, Oid table, Oid reducer)
{
	IeProjection *projection = palloc0(sizeof(IeProjection));

	projection->target = target;
	projection->context = AllocSetContextCreate(CurrentMemoryContext,
												"immutable_events projection",
												ALLOCSET_DEFAULT_SIZES);
	read_registry(projection);
	if (OidIsValid(reducer))
		projection->reducer_name =
			MemoryContextStrdup(projection->context,
								ie_reducer_text(target, reducer));
	compile(projection, table);
	return projection;
}

/* Give it back. */
void
ie_projection_free(IeProjection *projection)
{
	forget(projection);
	pfree(projection);
}

/* Go on as the owner, with the search_path of the projection. */
void
ie_projection_enter(const IeProjection *projection, IeCaller *caller)
{
	GetUserIdAndSecContext(&caller->user, &caller->security);
	SetUserIdAndSecContext(projection->owner,
						   caller->security | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	caller->settings = NewGUCNestLevel();
	if (strcmp(namespace_search_path, projection->search_path) != 0)
		(void) set_config_option("search_path", projection->search_path,
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
								 true, 0, false);
}

/* Go on as before. */
void
ie_projection_leave(const IeCaller *caller)
{
	AtEOXact_GUC(false, caller->settings);
	SetUserIdAndSecContext(caller->user, caller->security);
}

/* Begin with empty caches. */
static void
make_cache(void)
{
	HASHCTL		control = {.keysize = sizeof(Oid),
	.entrysize = sizeof(IeProjection), .hcxt = CacheMemoryContext};

	cache = hash_create("immutable_events projections", 16, &control,
						HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Forget everything when the registry has changed. */
static void
check_watch(void)
{
	HASHCTL		control = {.keysize = sizeof(Oid),
	.entrysize = sizeof(InlineTargets)};
	HASH_SEQ_STATUS status;
	IeProjection *projection;

	if (cache == NULL)
		make_cache();
	if (watch.current)
		return;
	hash_seq_init(&status, cache);
	while ((projection = hash_seq_search(&status)) != NULL)
		projection->valid = false;
	if (targets_context == NULL)
		targets_context = AllocSetContextCreate(CacheMemoryContext,
												"immutable_events inline projections",
												ALLOCSET_SMALL_SIZES);
	MemoryContextReset(targets_context);
	control.hcxt = targets_context;
	inline_targets = hash_create("immutable_events inline projections", 16,
								 &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	ie_watch_registry(&watch);
}

/* A trigger on a read model must not pull it away from under the projector. */
void
ie_check_idle(const IeProjection *projection)
{
	if (projection->running)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("projection \"%s\" is at work", projection->name),
				 errhint("Do not touch it in a trigger on its read model.")));
}

/* Give back what a projection holds. */
static void
forget(IeProjection *projection)
{
	SPIPlanPtr	plans[] = {projection->load, projection->lock, projection->add,
	projection->write, projection->remove};
	int			i;

	ie_check_idle(projection);
	projection->valid = false;
	for (i = 0; i < (int) lengthof(plans); i++)
		if (plans[i] != NULL)
			SPI_freeplan(plans[i]);
	if (projection->context != NULL)
		MemoryContextDelete(projection->context);
	memset((char *) projection + sizeof(Oid), 0, sizeof(*projection) - sizeof(Oid));
}

/* Read the registry's row. */
static void
read_registry(IeProjection *projection)
{
	Oid			types[] = {REGCLASSOID};
	Datum		values[] = {ObjectIdGetDatum(projection->target)};
	Oid			target = projection->target;

	char	   *name = get_rel_name(target);

	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", target)));
	if (ie_registry_look("SELECT p.log::pg_catalog.oid, p.search_path, p.reducer,"
						  " p.mode OPERATOR(pg_catalog.=) 'inline', p.commutative,"
						  " p.key, p.types, p.stream_prefix"
						  " FROM immutable.projections p"
						  " WHERE p.target OPERATOR(pg_catalog.=) $1::pg_catalog.oid",
						  1, types, values, receive, projection) == 0)
	{
		forget(projection);
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not the read model of a projection", name),
				 errhint("immutable.create_projection makes it one.")));
	}
	projection->name = MemoryContextStrdup(projection->context, name);
	projection->owner = owner_of(target);
}

/* Whoever owns the read model owns the projection. */
static Oid
owner_of(Oid target)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(target));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", target);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* Take the registry's row. */
static void
receive(void *state)
{
	IeProjection *projection = state;
	MemoryContext caller;
	bool		isnull;

	if (SPI_processed == 0)
		return;
	caller = MemoryContextSwitchTo(projection->context);
	projection->name = get_rel_name(projection->target);
	projection->log = DatumGetObjectId(kept(1, &isnull));
	projection->search_path = TextDatumGetCString(kept(2, &isnull));
	projection->reducer_name = TextDatumGetCString(kept(3, &isnull));
	projection->is_inline = DatumGetBool(kept(4, &isnull));
	projection->commutative = DatumGetBool(kept(5, &isnull));
	projection->key = DatumGetArrayTypePCopy(kept(6, &isnull));
	projection->types = (ArrayType *) DatumGetPointer(kept(7, &isnull));
	projection->types = isnull ? NULL : DatumGetArrayTypePCopy(PointerGetDatum(projection->types));
	projection->prefix = (text *) DatumGetPointer(kept(8, &isnull));
	projection->prefix = isnull ? NULL : DatumGetTextPCopy(PointerGetDatum(projection->prefix));
	MemoryContextSwitchTo(caller);
}

/* A column of the first row. */
static Datum
kept(int number, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, number,
						 isnull);
}

/* Take the read models of a log's inline projections. */
static void
receive_targets(void *state)
{
	Answer	   *answer = state;
	MemoryContext caller = MemoryContextSwitchTo(answer->context);
	bool		isnull;
	uint64		i;

	for (i = 0; i < SPI_processed; i++)
		answer->targets =
			lappend_oid(answer->targets,
						DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i],
													   SPI_tuptable->tupdesc,
													   1, &isnull)));
	MemoryContextSwitchTo(caller);
}

/* Compile what the projection runs, as its owner. */
static void
compile(IeProjection *projection, Oid table)
{
	Relation	target = ie_open_relation(projection->target, AccessShareLock);
	Relation	rows = ie_open_relation(table, AccessShareLock);
	Relation	log = ie_open_relation(projection->log, AccessShareLock);
	Oid			event = ie_event_type();
	uint64		changes = ie_catalog_changes();
	MemoryContext caller_context;
	IeCaller	caller;
	ErrorContextCallback callback = {.callback = add_context,
	.arg = projection->name, .previous = error_context_stack};

	error_context_stack = &callback;
	ie_projection_enter(projection, &caller);
	projection->function = ie_find_reducer(projection, false);
	caller_context = MemoryContextSwitchTo(projection->context);
	projection->columns = CreateTupleDescCopyConstr(RelationGetDescr(target));
	projection->event_columns = lookup_rowtype_tupdesc_copy(event, -1);
	projection->econtext = CreateStandaloneExprContext();
	ie_prepare_keys(projection, target, log);
	prepare_defaults(projection, target);
	projection->reducer = ie_reducer_compile(projection->function,
											 target->rd_rel->reltype, 1, &event,
											 DEFAULT_COLLATION_OID,
											 projection->context);
	ie_prepare_read_model(projection, rows);
	ie_prepare_direct(projection, rows);
	/* what changed while it was compiled is compiled anew the next time */
	projection->changes = changes;
	projection->valid = watch.current;
	MemoryContextSwitchTo(caller_context);
	ie_projection_leave(&caller);
	error_context_stack = callback.previous;
	relation_close(log, NoLock);
	relation_close(rows, NoLock);
	relation_close(target, NoLock);
}

/* Say which projection cannot be made ready. */
static void
add_context(void *arg)
{
	errcontext("projection \"%s\"", (char *) arg);
}

/* The defaults of columns, for rows of keys seen first. */
static void
prepare_defaults(IeProjection *projection, Relation target)
{
	int			i;

	projection->defaults = palloc0(projection->columns->natts * sizeof(ExprState *));
	for (i = 0; i < projection->columns->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(projection->columns, i);
		Node	   *value;

		if (column->attisdropped || column->attgenerated != '\0')
			continue;
		value = build_column_default(target, i + 1);
		if (value != NULL)
			projection->defaults[i] = ExecInitExpr(expression_planner((Expr *) value), NULL);
	}
}
