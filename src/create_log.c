/*
 * create_log.c: the names of a new log.
 *
 * create_log itself is DDL and so SQL; what SQL cannot do under a pinned
 * search_path is to resolve a name as CREATE TABLE would for the caller, and
 * to make the names of what belongs to it fit.
 */
#include "immutable_events.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "funcapi.h"
#include "nodes/makefuncs.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/varlena.h"

#define MAX_PARTITIONS	1024

static Datum name_datum(const char *name);
static ArrayType *leaf_names(const char *log, int partitions);

PG_FUNCTION_INFO_V1(ie_log_names);

/* Resolve a log's name to schema, name, sequence and leaves. */
Datum
ie_log_names(PG_FUNCTION_ARGS)
{
	RangeVar   *log;
	Oid			schema;
	int			partitions;
	TupleDesc	columns;
	Datum		values[4];
	bool		nulls[4] = {false, false, false, false};

	ie_require_arg(fcinfo, 0, "name");
	ie_require_arg(fcinfo, 1, "partitions");
	ie_require_arg(fcinfo, 2, "unique_ids");
	partitions = PG_GETARG_INT32(1);
	if (partitions < 0 || partitions > MAX_PARTITIONS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("partitions must be between 0 and %d",
						MAX_PARTITIONS)));
	log = makeRangeVarFromNameList(textToQualifiedNameList(PG_GETARG_TEXT_PP(0)));
	schema = RangeVarGetCreationNamespace(log);
	if (get_call_result_type(fcinfo, NULL, &columns) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "unexpected result type");
	values[0] = name_datum(get_namespace_name(schema));
	values[1] = name_datum(log->relname);
	values[2] = name_datum(ChooseRelationName(log->relname, "position", "seq",
											  schema, false));
	values[3] = PointerGetDatum(leaf_names(log->relname, partitions));
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(columns),
											 values, nulls));
}

/* A value of type name. */
static Datum
name_datum(const char *name)
{
	return DirectFunctionCall1(namein, CStringGetDatum(name));
}

/* The names of the partitions, cut so that they fit. */
static ArrayType *
leaf_names(const char *log, int partitions)
{
	Datum	   *names = palloc(Max(partitions, 1) * sizeof(Datum));
	int			i;

	for (i = 0; i < partitions; i++)
		names[i] = name_datum(makeObjectName(log, psprintf("p%d", i), NULL));
	return construct_array(names, partitions, NAMEOID, NAMEDATALEN, false,
						   TYPALIGN_CHAR);
}
