/*
 * document_reducer.c: changes to documents as reducers.
 *
 * Called as a function, a reducer of ours reads the whole document, changes it
 * and writes it. A fold recognises it and changes the tree instead.
 */
#include "document.h"

#include "access/htup_details.h"
#include "executor/executor.h"

/* Call a change as the function f(state jsonb, event immutable.event). */
Datum
ie_document_reducer(FunctionCallInfo fcinfo, IeDocumentChange change)
{
	IeDocument *document = ie_document_read(PG_ARGISNULL(0) ? NULL : PG_GETARG_JSONB_P(0),
											CurrentMemoryContext);
	bool		isnull = PG_ARGISNULL(1);
	Datum		data = 0;
	Jsonb	   *result;

	if (!isnull)
		data = GetAttributeByNum(PG_GETARG_HEAPTUPLEHEADER(1), IE_DATA, &isnull);
	if (!isnull)
		change(document, DatumGetJsonbP(data));
	result = ie_document_write(document);
	fcinfo->isnull = result == NULL;
	return PointerGetDatum(result);
}

/* The change that a function of ours makes, or NULL. */
IeDocumentChange
ie_document_change(Oid function)
{
	FmgrInfo	flinfo;

	fmgr_info(function, &flinfo);
	if (flinfo.fn_addr == ie_merge_patch)
		return ie_document_merge;
	if (flinfo.fn_addr == ie_json_patch)
		return ie_document_patch;
	return NULL;
}
