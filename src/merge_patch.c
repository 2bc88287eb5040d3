/*
 * merge_patch.c: JSON Merge Patch (RFC 7396), as a ready-made reducer.
 *
 * The event's data is merged into the document: null removes a key, objects
 * are merged, everything else replaces what was there.
 */
#include "document.h"

#include "executor/executor.h"
#include "miscadmin.h"

static IeNode *merge(IeDocument *document, IeNode *target, JsonbContainer *patch);

PG_FUNCTION_INFO_V1(ie_merge_patch);

/* Merge one event's data into a document. */
Datum
ie_merge_patch(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(ie_document_reducer(fcinfo, ie_document_merge));
}

/* Apply a merge patch to a document. */
void
ie_document_merge(IeDocument *document, Jsonb *patch)
{
	if (JB_ROOT_IS_OBJECT(patch))
		document->root = merge(document, document->root, &patch->root);
	else
	{
		IeDocument *read = ie_document_read(patch, document->context);

		if (document->root != NULL)
			ie_node_free(document->root);
		document->root = read->root;
		pfree(read);
	}
}

/* MergePatch(Target, Patch) of the RFC, for a patch that is an object. */
static IeNode *
merge(IeDocument *document, IeNode *target, JsonbContainer *patch)
{
	JsonbIterator *iterator = JsonbIteratorInit(patch);
	JsonbIteratorToken token;
	JsonbValue	key = {.type = jbvNull};
	JsonbValue	value;

	check_stack_depth();
	if (target == NULL || target->type != jbvObject)
	{
		if (target != NULL)
			ie_node_free(target);
		target = ie_node_object(document);
	}
	(void) JsonbIteratorNext(&iterator, &value, true);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		const char *name = key.val.string.val;
		int			len = key.val.string.len;

		if (token == WJB_KEY)
			key = value;
		if (token != WJB_VALUE)
			continue;
		if (value.type == jbvNull)
		{
			IeNode	   *removed = ie_object_take(target, name, len);

			if (removed != NULL)
				ie_node_free(removed);
		}
		else if (value.type == jbvBinary && JsonContainerIsObject(value.val.binary.data))
		{
			IeNode	   *member = ie_object_take(target, name, len);

			ie_object_set(document, target, name, len,
						  merge(document, member, value.val.binary.data));
		}
		else
			ie_object_set(document, target, name, len, ie_node_read(document, &value));
	}
	return target;
}
