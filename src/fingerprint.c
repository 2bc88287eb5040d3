/*
 * fingerprint.c: what the result of a reducer depends on.
 *
 * A fingerprint is a hash of a text that describes the reducer's call down to
 * what PostgreSQL itself brings along: the definition of every function,
 * operator, type and collation that the bodies of SQL functions mention,
 * whether they are inlined or not. Names are qualified and no OIDs appear, so
 * that it survives dump and restore. Of a function in another language its own
 * source is in it, what that calls is not. What cannot have snapshots at all,
 * such as a SQL body that reads a table, is an error. A projection compares
 * what its reducer is with what it was; for that any reducer will do.
 */
#include "fingerprint.h"

#include "access/htup_details.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "compat.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#ifndef IE_LIBRARY
#error "the Makefile defines IE_LIBRARY"
#endif

/* To be raised when the text or the stored form of a state changes. */
#define FORMAT	1

/* A reducer that mentions more than this is not worth the while. */
#define MAX_CALLS	1000

static void describe(IeDefinition *definition, Oid known);
static bool walk(Node *node, void *context);
static void check_query(IeDefinition *definition, const Query *query);
static void note_node(IeDefinition *definition, Node *node);
static bool is_expression(const Node *node);
static bool note_called(Oid function, void *context);
static void add_call(IeDefinition *definition, Oid function, Node *node);
static void judge_builtin(IeDefinition *definition, Oid function,
						  Form_pg_proc proc);
static bool depends_on_settings_only(const char *name);

/*
 * Describe a reducer's call, and functions that prepare its events, and hash
 * it. Raises an error for what cannot have snapshots.
 */
IeFingerprint
ie_fingerprint(Oid reducer, Node *call, Oid state_type, List *upcasters)
{
	IeDefinition definition = {.reducer = reducer};
	IeFingerprint fingerprint;
	ListCell   *cell;

	initStringInfo(&definition.text);
	appendStringInfo(&definition.text, "format %d of " IE_LIBRARY " on " IE_SERVER "\n",
					 FORMAT);
	ie_define_database(&definition);
	ie_check_state_type(&definition, state_type);
	ie_note_type(&definition, state_type);
	ie_note_expression(&definition, call);
	foreach(cell, upcasters)
		ie_note_function(&definition, lfirst_oid(cell));
	describe(&definition, InvalidOid);
	fingerprint.impure = definition.impure;
	fingerprint.unpinned = definition.unpinned;
	fingerprint.reads_user = definition.reads_user;
	strlcpy(fingerprint.digest, ie_digest(definition.text.data, definition.text.len),
			sizeof(fingerprint.digest));
	return fingerprint;
}

/*
 * Describe a reducer's call, and hash it, to see whether its definition has
 * changed: whatever it does, and in another database as well. The columns of
 * its state may become more, those of events too.
 */
char *
ie_definition_digest(Oid reducer, Node *call, Oid state_type)
{
	IeDefinition definition = {.reducer = reducer, .comparing = true};

	initStringInfo(&definition.text);
	ie_note_expression(&definition, call);
	describe(&definition, state_type);
	return ie_digest(definition.text.data, definition.text.len);
}

/* Describe all that was noted, and what is noted meanwhile, but for a type. */
static void
describe(IeDefinition *definition, Oid known)
{
	int			calls = 0;
	int			types = 0;
	int			collations = 0;

	while (calls < list_length(definition->calls) ||
		   types < list_length(definition->types) ||
		   collations < list_length(definition->collations))
	{
		CHECK_FOR_INTERRUPTS();
		if (calls < list_length(definition->calls))
			ie_define_function(definition, list_nth(definition->calls, calls++));
		else if (types < list_length(definition->types))
		{
			Oid			type = list_nth_oid(definition->types, types++);

			if (!definition->comparing ||
				(type != known && type != ie_event_type()))
				ie_define_type(definition, type);
		}
		else
			ie_define_collation(definition,
								list_nth_oid(definition->collations, collations++));
	}
}

/* SHA-256, in hexadecimal. */
char *
ie_digest(const char *data, Size size)
{
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
	char	   *hex = palloc(IE_DIGEST_LENGTH + 1);
	pg_cryptohash_ctx *hash = pg_cryptohash_create(PG_SHA256);

	if (pg_cryptohash_init(hash) < 0 ||
		pg_cryptohash_update(hash, (const uint8 *) data, size) < 0 ||
		pg_cryptohash_final(hash, digest, sizeof(digest)) < 0)
		elog(ERROR, "pg_cryptohash failed: %s", pg_cryptohash_error(hash));
	pg_cryptohash_free(hash);
	hex[hex_encode((const char *) digest, sizeof(digest), hex)] = '\0';
	return hex;
}

/*
 * Raise the error for a reducer whose result is not its events' alone; it is
 * none where definitions are compared.
 */
void
ie_refuse_snapshots(const IeDefinition *definition, const char *detail)
{
	if (definition->comparing)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("reducer %s cannot have snapshots",
					format_procedure(definition->reducer)),
			 errdetail_internal("%s", detail),
			 errhint("A snapshot holds what follows from the events alone, whenever and wherever they are folded.")));
}

/* Note all that an expression mentions. */
void
ie_note_expression(IeDefinition *definition, Node *expression)
{
	(void) walk(expression, definition);
}

/* Note a function that is not called with polymorphic arguments. */
void
ie_note_function(IeDefinition *definition, Oid function)
{
	definition->node = NULL;
	if (OidIsValid(function))
		(void) note_called(function, definition);
}

/* Go through a tree of parsed queries and expressions. */
static bool
walk(Node *node, void *context)
{
	IeDefinition *definition = context;

	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		check_query(definition, (Query *) node);
		return query_tree_walker((Query *) node, walk, context, 0);
	}
	if (is_expression(node))
		note_node(definition, node);
	definition->node = node;
	(void) check_functions_in_node(node, note_called, definition);
	return expression_tree_walker(node, walk, context);
}

/* Refuse a body that does anything but compute, and note what it depends on. */
static void
check_query(IeDefinition *definition, const Query *query)
{
	ListCell   *cell;

	if (query->commandType != CMD_SELECT || query->hasModifyingCTE)
		ie_refuse_snapshots(definition, "It, or a function that it calls, has a statement other than SELECT.");
	foreach(cell, query->rtable)
		if (lfirst_node(RangeTblEntry, cell)->rtekind == RTE_RELATION)
			ie_refuse_snapshots(definition,
								psprintf("It, or a function that it calls, reads \"%s\".",
										 get_rel_name(lfirst_node(RangeTblEntry, cell)->relid)));
	/* what the planner takes for mutable, for whatever reason */
	if (contain_mutable_functions((Node *) query))
	{
		definition->impure = true;
		definition->unpinned = true;
	}
}

/* Note the type and the collations of an expression. */
static void
note_node(IeDefinition *definition, Node *node)
{
	ie_note_type(definition, exprType(node));
	ie_note_collation(definition, exprCollation(node));
	ie_note_collation(definition, exprInputCollation(node));
	if (IsA(node, SQLValueFunction) || IsA(node, NextValueExpr))
		ie_refuse_snapshots(definition, "It, or a function that it calls, uses the time, the user or a sequence.");
	if (IsA(node, XmlExpr))
		definition->impure = true;
	if (IsA(node, Const))
	{
		Const	   *value = (Const *) node;

		/* a function that is an argument: of fold, say */
		if (!value->constisnull && (value->consttype == REGPROCOID ||
									value->consttype == REGPROCEDUREOID))
			ie_note_function(definition, DatumGetObjectId(value->constvalue));
	}
}

/* Does it have a type? What else there may be among them has not. */
static bool
is_expression(const Node *node)
{
	switch (nodeTag(node))
	{
		case T_List:
		case T_IntList:
		case T_OidList:
		case T_TargetEntry:
		case T_CaseWhen:
		case T_RangeTblRef:
		case T_RangeTblFunction:
		case T_FromExpr:
		case T_JoinExpr:
		case T_CommonTableExpr:
		case T_SetOperationStmt:
		case T_SortGroupClause:
		case T_GroupingSet:
		case T_WindowClause:
		case T_TableFunc:
			return false;
		default:
			return true;
	}
}

/* Note a function that a node calls. */
static bool
note_called(Oid function, void *context)
{
	IeDefinition *definition = context;
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc proc;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	ie_append_text(definition, "call", format_procedure_qualified(function));
	if (function < FirstNormalObjectId)
		judge_builtin(definition, function, proc);
	else
		add_call(definition, function, definition->node);
	ReleaseSysCache(tuple);
	return false;
}

/* Put a function on the list of those to be defined, once. */
static void
add_call(IeDefinition *definition, Oid function, Node *node)
{
	IeCall	   *call;
	ListCell   *cell;

	foreach(cell, definition->calls)
	{
		call = lfirst(cell);
		/* of a call with other types, or at another place, nothing is known */
		if (call->function == function &&
			(call->node == NULL || equal(call->node, node)))
			return;
	}
	if (list_length(definition->calls) >= MAX_CALLS)
	{
		ie_refuse_snapshots(definition, psprintf("It calls more than %d functions.", MAX_CALLS));
		return;
	}
	call = palloc(sizeof(IeCall));
	call->function = function;
	call->node = node;
	if (node != NULL)
	{
		Oid		   *argtypes;
		int			nargs;
		Oid			result = get_func_signature(function, &argtypes, &nargs);
		bool		polymorphic = IsPolymorphicType(result) || result == RECORDOID;

		while (--nargs >= 0)
			polymorphic |= IsPolymorphicType(argtypes[nargs]);
		if (!polymorphic)
			call->node = NULL;
	}
	definition->calls = lappend(definition->calls, call);
}

/* PostgreSQL's own functions are known by name, and by what they depend on. */
static void
judge_builtin(IeDefinition *definition, Oid function, Form_pg_proc proc)
{
	if (proc->provolatile == PROVOLATILE_IMMUTABLE)
		return;
	if (proc->provolatile == PROVOLATILE_VOLATILE ||
		!depends_on_settings_only(NameStr(proc->proname)))
		ie_refuse_snapshots(definition,
							psprintf("It, or a function that it calls, uses %s.",
									 format_procedure(function)));
	definition->impure = true;
	definition->unpinned = true;
}

/*
 * Among the STABLE functions of PostgreSQL, those that depend on settings, and
 * not on the time, the session, or what is in the catalogs. A * at the end
 * stands for the rest of a name.
 */
static bool
depends_on_settings_only(const char *name)
{
	static const char *const names[] = {
		"anyarray_out", "anyenum_out", "anymultirange_out", "anyrange_out",
		"anytextcat", "array_*", "cash_*", "concat", "concat_ws", "convert*",
		"date", "date_*", "domain_in", "enum_*", "extract", "format",
		"generate_series", "get_current_ts_config", "in_range", "interval_*",
		"json_*", "jsonb_*", "length", "make_timestamptz", "money",
		"multirange_in", "multirange_out", "numeric", "overlaps",
		"phraseto_tsquery", "plainto_tsquery", "quote_*", "range_in",
		"range_out", "record_in", "record_out", "row_to_json", "textanycat",
		"time", "time_*", "timestamp", "timestamp_*", "timestamptz",
		"timestamptz_*", "timetz", "timetz_*", "timezone", "to_char", "to_date",
		"to_json", "to_jsonb", "to_number", "to_timestamp", "to_tsquery",
		"to_tsvector", "ts_headline", "ts_match_*", "websearch_to_tsquery",
		"xml", "xml_*"
	};
	int			i;

	for (i = 0; i < (int) lengthof(names); i++)
	{
		Size		length = strlen(names[i]);

		if (names[i][length - 1] == '*'
			? strncmp(name, names[i], length - 1) == 0
			: strcmp(name, names[i]) == 0)
			return true;
	}
	return false;
}

/* Note a type, and put it on the list of those to be defined, once. */
void
ie_note_type(IeDefinition *definition, Oid type)
{
	if (!OidIsValid(type))
		return;
	ie_append_text(definition, "type",
				   format_type_extended(type, -1, FORMAT_TYPE_FORCE_QUALIFY));
	if (type >= FirstNormalObjectId)
		definition->types = list_append_unique_oid(definition->types, type);
}

/* The same for a collation; those of the database itself are always noted. */
void
ie_note_collation(IeDefinition *definition, Oid collation)
{
	if (!OidIsValid(collation) || collation == DEFAULT_COLLATION_OID ||
		collation == C_COLLATION_OID)
		return;
	definition->collations = list_append_unique_oid(definition->collations, collation);
}

/* One line of the description; no two values are written alike. */
void
ie_append_text(IeDefinition *definition, const char *label, const char *value)
{
	appendStringInfo(&definition->text, "%s ", label);
	if (value == NULL)
		appendStringInfoString(&definition->text, "-\n");
	else
		appendStringInfo(&definition->text, "%zu %s\n", strlen(value), value);
}
