/*
 * document.h: a JSON document as a tree, to be changed in place.
 */
#ifndef IMMUTABLE_EVENTS_DOCUMENT_H
#define IMMUTABLE_EVENTS_DOCUMENT_H

#include "fold.h"

#include "utils/numeric.h"

typedef struct IeMembers IeMembers;

/* A value of a document; what it points to belongs to it alone. */
typedef struct IeNode
{
	enum jbvType type;			/* jbvNull ... jbvBool, jbvArray, jbvObject */
	union
	{
		bool		boolean;
		Numeric		numeric;
		struct
		{
			char	   *val;
			int			len;
		}			string;
		struct
		{
			struct IeNode **items;
			int			count;
			int			capacity;
		}			array;
		struct
		{
			struct members_hash *members;
		}			object;
	}			val;
} IeNode;

/* The root, and where its nodes are allocated. */
struct IeDocument
{
	MemoryContext context;
	IeNode	   *root;			/* NULL: there is none, as SQL's NULL */
};

extern Datum ie_merge_patch(PG_FUNCTION_ARGS);
extern Datum ie_json_patch(PG_FUNCTION_ARGS);

/* document.c: a JSON document as a tree */

extern IeNode *ie_node_read(IeDocument *document, JsonbValue *value);
extern IeNode *ie_node_object(IeDocument *document);
extern IeNode *ie_node_copy(IeDocument *document, const IeNode *node);
extern void ie_node_free(IeNode *node);
extern bool ie_node_equal(const IeNode *a, const IeNode *b);
extern IeNode *ie_object_get(const IeNode *object, const char *key, int len);
extern void ie_object_set(IeDocument *document, IeNode *object,
						  const char *key, int len, IeNode *value);
extern IeNode *ie_object_take(IeNode *object, const char *key, int len);
extern void ie_array_insert(IeDocument *document, IeNode *array, int index,
							IeNode *value);
extern IeNode *ie_array_take(IeNode *array, int index);

#endif							/* IMMUTABLE_EVENTS_DOCUMENT_H */
