/*
 * define_function.c: the definition of a function, as text without OIDs.
 *
 * The bodies of SQL functions are analysed, with the settings that the function
 * itself has, as PostgreSQL does when it runs them: the names in them are
 * resolved, and what they mean is described in turn.
 */
#include "fingerprint.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "compat.h"
#include "executor/functions.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

static void define_defaults(IeDefinition *definition, HeapTuple tuple);
static void define_other(IeDefinition *definition, Form_pg_proc proc,
						 ArrayType *config);
static bool pins_path(ArrayType *config);
static void append_extension(IeDefinition *definition, Oid function);
static char *extension_version(Oid extension);
static void define_sql(IeDefinition *definition, const IeCall *call,
					   HeapTuple tuple, ArrayType *config);
static List *get_body(const IeCall *call, HeapTuple tuple);
static List *parse_body(const IeCall *call, HeapTuple tuple);
static void define_aggregate(IeDefinition *definition, Oid function);
static char *get_text(int cacheid, HeapTuple tuple, AttrNumber column);

/* Describe a function that is not PostgreSQL's own. */
void
ie_define_function(IeDefinition *definition, const IeCall *call)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(call->function));
	Form_pg_proc proc;
	ArrayType  *config = NULL;
	Datum		value;
	bool		isnull;
	int			i;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", call->function);
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	value = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_proconfig, &isnull);
	if (!isnull)
		config = DatumGetArrayTypePCopy(value);
	ie_check_lasting_schema(definition, proc->pronamespace);
	ie_append_text(definition, "function", format_procedure_qualified(call->function));
	ie_append_text(definition, "language", get_language_name(proc->prolang, false));
	appendStringInfo(&definition->text, "%c%c%d%d%d\n", proc->prokind,
					 proc->provolatile, proc->proisstrict, proc->prosecdef,
					 proc->proretset);
	if (proc->prosecdef && !definition->comparing)
		ie_append_text(definition, "owner", GetUserNameFromId(proc->proowner, false));
	ie_append_text(definition, "config", config == NULL ? NULL
				   : OidOutputFunctionCall(F_ARRAY_OUT, PointerGetDatum(config)));
	ie_append_text(definition, "source", get_text(PROCOID, tuple, Anum_pg_proc_prosrc));
	ie_append_text(definition, "binary", get_text(PROCOID, tuple, Anum_pg_proc_probin));
	value = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_proargnames, &isnull);
	ie_append_text(definition, "names", isnull ? NULL
				   : OidOutputFunctionCall(F_ARRAY_OUT, value));
	if (!definition->comparing)
		append_extension(definition, call->function);
	ie_note_type(definition, proc->prorettype);
	for (i = 0; i < proc->pronargs; i++)
		ie_note_type(definition, proc->proargtypes.values[i]);
	define_defaults(definition, tuple);

	if (proc->prokind == PROKIND_AGGREGATE)
		define_aggregate(definition, call->function);
	else if (proc->prolang == SQLlanguageId)
		define_sql(definition, call, tuple, config);
	else
		define_other(definition, proc, config);
	ReleaseSysCache(tuple);
}

/* What stands for arguments that a call leaves out. */
static void
define_defaults(IeDefinition *definition, HeapTuple tuple)
{
	char	   *text = get_text(PROCOID, tuple, Anum_pg_proc_proargdefaults);
	Node	   *defaults;

	if (text == NULL)
		return;
	defaults = stringToNode(text);
	ie_append_text(definition, "defaults", ie_deparse(defaults, false));
	ie_note_expression(definition, defaults);
}

/*
 * A function in another language than SQL. What it does with names and settings
 * cannot be seen; a C function that is IMMUTABLE is taken at its word.
 */
static void
define_other(IeDefinition *definition, Form_pg_proc proc, ArrayType *config)
{
	bool		compiled = proc->prolang == ClanguageId ||
		proc->prolang == INTERNALlanguageId;
	int			i;

	if (proc->provolatile == PROVOLATILE_VOLATILE)
		ie_refuse_snapshots(definition,
							psprintf("It, or a function that it calls, uses %s, which is VOLATILE.",
									 format_procedure(proc->oid)));
	if (proc->provolatile == PROVOLATILE_STABLE)
	{
		definition->reads_user = true;
		for (i = 0; compiled && i < proc->pronargs; i++)
			if (proc->proargtypes.values[i] == REGCLASSOID)
				ie_refuse_snapshots(definition,
									psprintf("It, or a function that it calls, uses %s, which reads a table.",
											 format_procedure(proc->oid)));
	}
	if (compiled && proc->provolatile == PROVOLATILE_IMMUTABLE)
		return;
	definition->impure = true;
	if (!pins_path(config))
		definition->unpinned = true;
}

/* Do a function's own settings say where its names are looked up? */
static bool
pins_path(ArrayType *config)
{
	static const char setting[] = "search_path=";
	ArrayIterator iterator;
	Datum		element;
	bool		isnull;
	bool		found = false;

	if (config == NULL)
		return false;
	iterator = array_create_iterator(config, 0, NULL);
	while (array_iterate(iterator, &element, &isnull))
		if (!isnull && pg_strncasecmp(TextDatumGetCString(element), setting,
									  strlen(setting)) == 0)
			found = true;
	return found;
}

/* A function of an extension may change with the extension's version. */
static void
append_extension(IeDefinition *definition, Oid function)
{
	Oid			extension = getExtensionOfObject(ProcedureRelationId, function);

	if (OidIsValid(extension))
		ie_append_text(definition, "extension", extension_version(extension));
}

/* The version of an extension that is installed. */
static char *
extension_version(Oid extension)
{
	Relation	catalog = table_open(ExtensionRelationId, AccessShareLock);
	char	   *version = NULL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	row;

	ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(extension));
	scan = systable_beginscan(catalog, ExtensionOidIndexId, true, NULL, 1, &key);
	row = systable_getnext(scan);
	if (HeapTupleIsValid(row))
	{
		bool		isnull;
		Datum		value = heap_getattr(row, Anum_pg_extension_extversion,
										 RelationGetDescr(catalog), &isnull);

		version = isnull ? NULL : TextDatumGetCString(value);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return version;
}

/* A SQL function is what its queries mean, under the settings it runs with. */
static void
define_sql(IeDefinition *definition, const IeCall *call, HeapTuple tuple,
		   ArrayType *config)
{
	Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(tuple);
	int			settings = NewGUCNestLevel();
	List	   *queries;
	ListCell   *cell;
	Oid			user;
	int			security;

	GetUserIdAndSecContext(&user, &security);
	if (proc->prosecdef)
		SetUserIdAndSecContext(proc->proowner, security | SECURITY_LOCAL_USERID_CHANGE);
	if (config != NULL)
		ProcessGUCArray(config, superuser() ? PGC_SUSET : PGC_USERSET,
						PGC_S_SESSION, GUC_ACTION_SAVE);
	queries = get_body(call, tuple);
	AtEOXact_GUC(true, settings);
	SetUserIdAndSecContext(user, security);
	foreach(cell, queries)
	{
		Query	   *query = linitial_node(Query, lfirst_node(List, cell));

		ie_note_expression(definition, (Node *) query);
		ie_append_text(definition, "query", ie_deparse((Node *) query, true));
	}
}

/* The analysed queries of a SQL function, each in a list of its own. */
static List *
get_body(const IeCall *call, HeapTuple tuple)
{
	char	   *stored = get_text(PROCOID, tuple, Anum_pg_proc_prosqlbody);
	List	   *queries = NIL;
	TupleDesc	columns;
	Oid			type;
	ListCell   *cell;

	if (stored == NULL)
		queries = parse_body(call, tuple);
	else
	{
		Node	   *body = stringToNode(stored);

		foreach(cell, IsA(body, List) ? linitial_node(List, (List *) body) : list_make1(body))
			queries = lappend(queries, list_make1(lfirst(cell)));
	}
	if (call->node != NULL)
		(void) get_expr_result_type(call->node, &type, &columns);
	else
		(void) get_func_result_type(call->function, &type, &columns);
	/* what a query returns may have to be cast to that */
	ie_coerce_sql_result(queries, type, columns);
	return queries;
}

/* Analyse the queries of a SQL function whose body is a string. */
static List *
parse_body(const IeCall *call, HeapTuple tuple)
{
	Oid			collation = call->node == NULL ? InvalidOid : exprInputCollation(call->node);
	SQLFunctionParseInfoPtr info = prepare_sql_fn_parse_info(tuple, call->node, collation);
	char	   *source = get_text(PROCOID, tuple, Anum_pg_proc_prosrc);
	List	   *queries = NIL;
	ListCell   *cell;

	foreach(cell, pg_parse_query(source))
		queries = lappend(queries,
						  list_make1(parse_analyze_withcb(lfirst_node(RawStmt, cell), source,
														  (ParserSetupHook) sql_fn_parser_setup,
														  info, NULL)));
	return queries;
}

/* A query or an expression as SQL, with all names qualified. */
char *
ie_deparse(Node *tree, bool query)
{
	int			settings = NewGUCNestLevel();
	char	   *text;

	(void) set_config_option("search_path", "pg_catalog", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("quote_all_identifiers", "off", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	text = query ? pg_get_querydef((Query *) tree, false)
		: deparse_expression(tree, NIL, false, false);
	AtEOXact_GUC(true, settings);
	return text;
}

/* An aggregate is its functions. */
static void
define_aggregate(IeDefinition *definition, Oid function)
{
	HeapTuple	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(function));
	Form_pg_aggregate form;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", function);
	form = (Form_pg_aggregate) GETSTRUCT(tuple);
	appendStringInfo(&definition->text, "%c%d%d%d\n", form->aggkind,
					 form->aggnumdirectargs, form->aggfinalextra,
					 form->aggmfinalextra);
	ie_append_text(definition, "initial", get_text(AGGFNOID, tuple, Anum_pg_aggregate_agginitval));
	ie_append_text(definition, "moving", get_text(AGGFNOID, tuple, Anum_pg_aggregate_aggminitval));
	ie_note_type(definition, form->aggtranstype);
	ie_note_type(definition, form->aggmtranstype);
	ie_note_function(definition, form->aggtransfn);
	ie_note_function(definition, form->aggfinalfn);
	ie_note_function(definition, form->aggcombinefn);
	ie_note_function(definition, form->aggmtransfn);
	ie_note_function(definition, form->aggminvtransfn);
	ie_note_function(definition, form->aggmfinalfn);
	ReleaseSysCache(tuple);
}

/* A column of type text, or pg_node_tree; NULL for NULL. */
static char *
get_text(int cacheid, HeapTuple tuple, AttrNumber column)
{
	bool		isnull;
	Datum		value = SysCacheGetAttr(cacheid, tuple, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}
