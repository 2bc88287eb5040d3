/*
 * define_type.c: the definition of types and collations, as text without OIDs.
 *
 * PostgreSQL's own are known by name. What others are made of is noted, so that
 * it is described in turn.
 */
#include "fingerprint.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tupdesc.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_database.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_range.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

static void define_composite(IeDefinition *definition, Oid type);
static void define_domain(IeDefinition *definition, Oid type, Form_pg_type form);
static void define_checks(IeDefinition *definition, Oid domain);
static void define_enum(IeDefinition *definition, Oid type);
static void define_range(IeDefinition *definition, Oid type);
static void define_base(IeDefinition *definition, Oid type, Form_pg_type form);
static void append_columns(IeDefinition *definition, Oid catalog,
						   HeapTuple tuple, const char *const *names);
static bool is_lasting_type(Oid type);

/* Describe a type that is not PostgreSQL's own. */
void
ie_define_type(IeDefinition *definition, Oid type)
{
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Form_pg_type form;

	check_stack_depth();
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for type %u", type);
	form = (Form_pg_type) GETSTRUCT(tuple);
	ie_check_lasting_schema(definition, form->typnamespace);
	ie_append_text(definition, "definition",
				   format_type_extended(type, -1, FORMAT_TYPE_FORCE_QUALIFY));
	appendStringInfo(&definition->text, "%c\n", form->typtype);
	ie_note_collation(definition, form->typcollation);
	if (form->typtype == TYPTYPE_COMPOSITE)
		define_composite(definition, type);
	else if (form->typtype == TYPTYPE_DOMAIN)
		define_domain(definition, type, form);
	else if (form->typtype == TYPTYPE_ENUM)
		define_enum(definition, type);
	else if (form->typtype == TYPTYPE_RANGE)
		define_range(definition, type);
	else if (form->typtype == TYPTYPE_MULTIRANGE)
		ie_note_type(definition, get_multirange_range(type));
	else
		define_base(definition, type, form);
	ReleaseSysCache(tuple);
}

/* The columns of a row type. */
static void
define_composite(IeDefinition *definition, Oid type)
{
	TupleDesc	columns = lookup_rowtype_tupdesc_copy(type, -1);
	int			i;

	for (i = 0; i < columns->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(columns, i);

		if (column->attisdropped)
			continue;
		ie_append_text(definition, "column", NameStr(column->attname));
		appendStringInfo(&definition->text, "%d\n", column->atttypmod);
		ie_append_text(definition, "collation", !OidIsValid(column->attcollation) ? NULL
					   : get_collation_name(column->attcollation));
		ie_note_type(definition, column->atttypid);
		ie_note_collation(definition, column->attcollation);
	}
}

/* What a domain is over, and its constraints. */
static void
define_domain(IeDefinition *definition, Oid type, Form_pg_type form)
{
	ie_note_type(definition, form->typbasetype);
	appendStringInfo(&definition->text, "%d %d\n", form->typtypmod, form->typnotnull);
	define_checks(definition, type);
}

/* The CHECK constraints of a domain, in order of their names. */
static void
define_checks(IeDefinition *definition, Oid domain)
{
	Relation	catalog = table_open(ConstraintRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	row;

	ScanKeyInit(&key, Anum_pg_constraint_contypid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(domain));
	scan = systable_beginscan(catalog, ConstraintTypidIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		bool		isnull;
		Datum		value = heap_getattr(row, Anum_pg_constraint_conbin,
										 RelationGetDescr(catalog), &isnull);
		Node	   *check;

		if (isnull)
			continue;
		check = stringToNode(TextDatumGetCString(value));
		ie_append_text(definition, "check", ie_deparse(check, false));
		ie_note_expression(definition, check);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
}

/* The labels of an enumeration, in their order. */
static void
define_enum(IeDefinition *definition, Oid type)
{
	Relation	catalog = table_open(EnumRelationId, AccessShareLock);
	Relation	index = index_open(EnumTypIdSortOrderIndexId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	row;

	ScanKeyInit(&key, Anum_pg_enum_enumtypid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(type));
	scan = systable_beginscan_ordered(catalog, index, NULL, 1, &key);
	while (HeapTupleIsValid(row = systable_getnext_ordered(scan, ForwardScanDirection)))
		ie_append_text(definition, "label",
					   NameStr(((Form_pg_enum) GETSTRUCT(row))->enumlabel));
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	table_close(catalog, AccessShareLock);
}

/* What a range is over, and how it is ordered and made canonical. */
static void
define_range(IeDefinition *definition, Oid type)
{
	HeapTuple	tuple = SearchSysCache1(RANGETYPE, ObjectIdGetDatum(type));
	Form_pg_range form;
	TypeCacheEntry *cache = lookup_type_cache(type, TYPECACHE_RANGE_INFO);

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for range type %u", type);
	form = (Form_pg_range) GETSTRUCT(tuple);
	ie_note_type(definition, form->rngsubtype);
	ie_note_collation(definition, form->rngcollation);
	ie_append_text(definition, "collation", !OidIsValid(form->rngcollation) ? NULL
				   : get_collation_name(form->rngcollation));
	ie_note_function(definition, cache->rng_cmp_proc_finfo.fn_oid);
	ie_note_function(definition, form->rngcanonical);
	ie_note_function(definition, form->rngsubdiff);
	ReleaseSysCache(tuple);
}

/* Of an array its element; of another type how it is read, written, ordered. */
static void
define_base(IeDefinition *definition, Oid type, Form_pg_type form)
{
	TypeCacheEntry *cache;

	if (OidIsValid(get_element_type(type)))
	{
		ie_note_type(definition, get_element_type(type));
		return;
	}
	appendStringInfo(&definition->text, "%d %d\n", form->typlen, form->typbyval);
	if (form->typtype == TYPTYPE_PSEUDO)
		return;
	cache = lookup_type_cache(type, TYPECACHE_CMP_PROC | TYPECACHE_EQ_OPR);
	ie_note_function(definition, form->typinput);
	ie_note_function(definition, form->typoutput);
	ie_note_function(definition, cache->cmp_proc);
	if (OidIsValid(cache->eq_opr))
		ie_note_function(definition, get_opcode(cache->eq_opr));
}

/* Describe a collation, and the version that its provider has now. */
void
ie_define_collation(IeDefinition *definition, Oid collation)
{
	static const char *const names[] = {"collname", "collprovider", "collisdeterministic",
		"collencoding", "collcollate", "collctype", "colliculocale", "colllocale",
	"collicurules", "collversion", NULL};
	HeapTuple	tuple = SearchSysCache1(COLLOID, ObjectIdGetDatum(collation));
	Form_pg_collation form;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for collation %u", collation);
	form = (Form_pg_collation) GETSTRUCT(tuple);
	ie_check_lasting_schema(definition, form->collnamespace);
	ie_append_text(definition, "schema", get_namespace_name(form->collnamespace));
	append_columns(definition, CollationRelationId, tuple, names);
	ReleaseSysCache(tuple);
}

/* Describe how this database encodes and orders text. */
void
ie_define_database(IeDefinition *definition)
{
	static const char *const names[] = {"encoding", "datlocprovider", "datcollate",
	"datctype", "daticulocale", "datlocale", "daticurules", "datcollversion", NULL};
	HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for database %u", MyDatabaseId);
	append_columns(definition, DatabaseRelationId, tuple, names);
	ReleaseSysCache(tuple);
}

/*
 * The named columns of a catalog's row, those that this server has, and the
 * version of the locale they tell of, as its provider has it now.
 */
static void
append_columns(IeDefinition *definition, Oid catalog, HeapTuple tuple,
			   const char *const *names)
{
	Relation	rel = table_open(catalog, AccessShareLock);
	TupleDesc	columns = RelationGetDescr(rel);
	const char *provider = NULL;
	const char *locale = NULL;

	for (; *names != NULL; names++)
	{
		AttrNumber	number = get_attnum(catalog, *names);
		Oid			output;
		bool		varlena;
		bool		isnull;
		Datum		value;
		char	   *text;

		if (number == InvalidAttrNumber)
			continue;
		value = heap_getattr(tuple, number, columns, &isnull);
		getTypeOutputInfo(TupleDescAttr(columns, number - 1)->atttypid, &output, &varlena);
		text = isnull ? NULL : OidOutputFunctionCall(output, value);
		ie_append_text(definition, *names, text);
		if (strstr(*names, "provider") != NULL)
			provider = text;
		else if (!isnull && (strstr(*names, "collate") != NULL ||
							 strstr(*names, "locale") != NULL))
			locale = text;
	}
	if (provider != NULL && locale != NULL)
		ie_append_text(definition, "version", get_collation_actual_version(*provider, locale));
	table_close(rel, AccessShareLock);
}

/* Refuse what goes when the session ends, and another may then be named so. */
void
ie_check_lasting_schema(IeDefinition *definition, Oid schema)
{
	if (isAnyTempNamespace(schema))
		ie_refuse_snapshots(definition, "It uses a temporary type or function.");
}

/* Refuse a state that cannot be written down, or would not mean the same. */
void
ie_check_state_type(IeDefinition *definition, Oid type)
{
	if (!is_lasting_type(type))
		ie_refuse_snapshots(definition,
							psprintf("A state of type %s cannot be written down for good.",
									 format_type_be(type)));
}

/* Does the text of a value mean the same at another time, in a restored dump? */
static bool
is_lasting_type(Oid type)
{
	Oid			element;
	TupleDesc	columns;
	int			i;

	check_stack_depth();
	type = getBaseType(type);
	element = get_element_type(type);
	if (OidIsValid(element))
		return is_lasting_type(element);
	switch (get_typtype(type))
	{
		case TYPTYPE_PSEUDO:
			return false;
		case TYPTYPE_RANGE:
			return is_lasting_type(get_range_subtype(type));
		case TYPTYPE_MULTIRANGE:
			return is_lasting_type(get_multirange_range(type));
		case TYPTYPE_COMPOSITE:
			columns = lookup_rowtype_tupdesc_copy(type, -1);
			for (i = 0; i < columns->natts; i++)
				if (!TupleDescAttr(columns, i)->attisdropped &&
					!is_lasting_type(TupleDescAttr(columns, i)->atttypid))
					return false;
			return true;
	}
	switch (type)
	{
		case OIDOID:			/* they name objects of one database */
		case REGCLASSOID:
		case REGCOLLATIONOID:
		case REGCONFIGOID:
		case REGDICTIONARYOID:
		case REGNAMESPACEOID:
		case REGOPEROID:
		case REGOPERATOROID:
		case REGPROCOID:
		case REGPROCEDUREOID:
		case REGROLEOID:
		case REGTYPEOID:
		case ACLITEMOID:
			return false;
	}
	return true;
}
