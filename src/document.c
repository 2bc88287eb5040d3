/*
 * document.c: a JSON document as a tree, to be changed in place.
 *
 * jsonb is one packed value: to change a key is to write all of it anew. A
 * fold that changes a document at every event keeps it as a tree instead,
 * objects as hash tables, and packs it once at the end. Every node belongs to
 * one parent and is freed with it, so memory follows the size of the document
 * and not the number of changes.
 */
#include "document.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/fmgrprotos.h"

typedef struct MemberKey
{
	const char *val;
	int			len;
} MemberKey;

typedef struct Member
{
	MemberKey	key;
	IeNode	   *value;
	uint32		hash;
	char		status;
} Member;

#define SH_PREFIX		members
#define SH_ELEMENT_TYPE	Member
#define SH_KEY_TYPE		MemberKey
#define SH_KEY			key
#define SH_HASH_KEY(tb, k)	hash_bytes((const unsigned char *) (k).val, (k).len)
#define SH_EQUAL(tb, a, b)	((a).len == (b).len && memcmp((a).val, (b).val, (a).len) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a)	(a)->hash
#define SH_SCOPE		static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

static IeNode *make_node(IeDocument *document, enum jbvType type);
static IeNode *read_container(IeDocument *document, JsonbContainer *container);
static void free_members(IeNode *object);
static JsonbValue *write_node(JsonbParseState **state, JsonbIteratorToken token,
							  const IeNode *node);
static void write_object(JsonbParseState **state, const IeNode *object);
static bool equal_objects(const IeNode *a, const IeNode *b);
static bool equal_arrays(const IeNode *a, const IeNode *b);

/* Begin a document with a jsonb value, or with nothing. */
IeDocument *
ie_document_read(Jsonb *value, MemoryContext context)
{
	IeDocument *document = MemoryContextAlloc(context, sizeof(IeDocument));
	JsonbValue	root;

	document->context = context;
	document->root = NULL;
	if (value == NULL)
		return document;
	if (JB_ROOT_IS_SCALAR(value))
		root = *getIthJsonbValueFromContainer(&value->root, 0);
	else
	{
		root.type = jbvBinary;
		root.val.binary.data = &value->root;
		root.val.binary.len = VARSIZE(value) - VARHDRSZ;
	}
	document->root = ie_node_read(document, &root);
	return document;
}

/* The document as jsonb, in the current context; NULL when there is none. */
Jsonb *
ie_document_write(const IeDocument *document)
{
	JsonbParseState *state = NULL;
	const IeNode *root = document->root;
	JsonbValue *packed;

	if (root == NULL)
		return NULL;
	if (root->type == jbvObject || root->type == jbvArray)
		packed = write_node(&state, WJB_ELEM, root);
	else
	{
		JsonbValue	array = {.type = jbvArray};

		array.val.array.rawScalar = true;
		array.val.array.nElems = 1;
		pushJsonbValue(&state, WJB_BEGIN_ARRAY, &array);
		write_node(&state, WJB_ELEM, root);
		packed = pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	}
	return JsonbValueToJsonb(packed);
}

/* Give back what a document holds. */
void
ie_document_free(IeDocument *document)
{
	if (document->root != NULL)
		ie_node_free(document->root);
	pfree(document);
}

/* Is there no document at all? */
bool
ie_document_is_empty(const IeDocument *document)
{
	return document->root == NULL;
}

/* A new node. */
static IeNode *
make_node(IeDocument *document, enum jbvType type)
{
	IeNode	   *node = MemoryContextAllocZero(document->context, sizeof(IeNode));

	node->type = type;
	return node;
}

/* A tree of a value of jsonb. */
IeNode *
ie_node_read(IeDocument *document, JsonbValue *value)
{
	MemoryContext caller;
	IeNode	   *node;

	check_stack_depth();
	if (value->type == jbvBinary)
		return read_container(document, value->val.binary.data);
	node = make_node(document, value->type);
	caller = MemoryContextSwitchTo(document->context);
	switch (value->type)
	{
		case jbvString:
			node->val.string.len = value->val.string.len;
			node->val.string.val = pnstrdup(value->val.string.val, value->val.string.len);
			break;
		case jbvNumeric:
			node->val.numeric = DatumGetNumericCopy(NumericGetDatum(value->val.numeric));
			break;
		case jbvBool:
			node->val.boolean = value->val.boolean;
			break;
		default:				/* null */
			break;
	}
	MemoryContextSwitchTo(caller);
	return node;
}

/* A tree of an object or array of jsonb. */
static IeNode *
read_container(IeDocument *document, JsonbContainer *container)
{
	bool		object = JsonContainerIsObject(container);
	IeNode	   *node = object ? ie_node_object(document) : make_node(document, jbvArray);
	JsonbIterator *iterator = JsonbIteratorInit(container);
	JsonbIteratorToken token;
	JsonbValue	value;
	JsonbValue	key = {.type = jbvNull};

	(void) JsonbIteratorNext(&iterator, &value, true);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			key = value;
		else if (token == WJB_VALUE)
			ie_object_set(document, node, key.val.string.val, key.val.string.len,
						  ie_node_read(document, &value));
		else if (token == WJB_ELEM)
			ie_array_insert(document, node, node->val.array.count,
							ie_node_read(document, &value));
	}
	return node;
}

/* An empty object. */
IeNode *
ie_node_object(IeDocument *document)
{
	IeNode	   *node = make_node(document, jbvObject);

	node->val.object.members = members_create(document->context, 4, NULL);
	return node;
}

/* A copy of a tree. */
IeNode *
ie_node_copy(IeDocument *document, const IeNode *node)
{
	IeDocument	source = {document->context, (IeNode *) node};
	Jsonb	   *packed = ie_document_write(&source);
	IeDocument *copy = ie_document_read(packed, document->context);
	IeNode	   *root = copy->root;

	pfree(copy);
	pfree(packed);
	return root;
}

/* Free a tree. */
void
ie_node_free(IeNode *node)
{
	int			i;

	check_stack_depth();
	if (node->type == jbvString)
		pfree(node->val.string.val);
	else if (node->type == jbvNumeric)
		pfree(node->val.numeric);
	else if (node->type == jbvObject)
		free_members(node);
	else if (node->type == jbvArray)
	{
		for (i = 0; i < node->val.array.count; i++)
			ie_node_free(node->val.array.items[i]);
		if (node->val.array.items != NULL)
			pfree(node->val.array.items);
	}
	pfree(node);
}

/* Free what an object consists of. */
static void
free_members(IeNode *object)
{
	members_iterator iterator;
	Member	   *member;

	members_start_iterate(object->val.object.members, &iterator);
	while ((member = members_iterate(object->val.object.members, &iterator)) != NULL)
	{
		pfree(unconstify(char *, member->key.val));
		ie_node_free(member->value);
	}
	members_destroy(object->val.object.members);
}

/* Write a node as an element, a value, or as the root. */
static JsonbValue *
write_node(JsonbParseState **state, JsonbIteratorToken token, const IeNode *node)
{
	JsonbValue	value = {.type = node->type};
	int			i;

	check_stack_depth();
	switch (node->type)
	{
		case jbvObject:
			pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
			write_object(state, node);
			return pushJsonbValue(state, WJB_END_OBJECT, NULL);
		case jbvArray:
			pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
			for (i = 0; i < node->val.array.count; i++)
				write_node(state, WJB_ELEM, node->val.array.items[i]);
			return pushJsonbValue(state, WJB_END_ARRAY, NULL);
		case jbvString:
			value.val.string.val = node->val.string.val;
			value.val.string.len = node->val.string.len;
			break;
		case jbvNumeric:
			value.val.numeric = node->val.numeric;
			break;
		case jbvBool:
			value.val.boolean = node->val.boolean;
			break;
		default:
			break;
	}
	return pushJsonbValue(state, token, &value);
}

/* Write the members of an object; jsonb sorts them itself. */
static void
write_object(JsonbParseState **state, const IeNode *object)
{
	members_iterator iterator;
	Member	   *member;

	members_start_iterate(object->val.object.members, &iterator);
	while ((member = members_iterate(object->val.object.members, &iterator)) != NULL)
	{
		JsonbValue	key = {.type = jbvString};

		CHECK_FOR_INTERRUPTS();
		key.val.string.val = unconstify(char *, member->key.val);
		key.val.string.len = member->key.len;
		pushJsonbValue(state, WJB_KEY, &key);
		write_node(state, WJB_VALUE, member->value);
	}
}

/* The value of a key, or NULL. */
IeNode *
ie_object_get(const IeNode *object, const char *key, int len)
{
	Member	   *member = members_lookup(object->val.object.members,
										(MemberKey) {key, len});

	return member == NULL ? NULL : member->value;
}

/* Give a key a value; the one it had is freed. */
void
ie_object_set(IeDocument *document, IeNode *object, const char *key, int len,
			  IeNode *value)
{
	bool		found;
	Member	   *member = members_insert(object->val.object.members,
										(MemberKey) {key, len}, &found);

	if (found)
		ie_node_free(member->value);
	else
	{
		char	   *copy = MemoryContextAlloc(document->context, Max(len, 1));

		memcpy(copy, key, len);
		member->key.val = copy;
	}
	member->value = value;
}

/* Take a key's value out of an object; NULL when there is none. */
IeNode *
ie_object_take(IeNode *object, const char *key, int len)
{
	Member	   *member = members_lookup(object->val.object.members,
										(MemberKey) {key, len});
	const char *stored;
	IeNode	   *value;

	if (member == NULL)
		return NULL;
	stored = member->key.val;
	value = member->value;
	members_delete_item(object->val.object.members, member);
	pfree(unconstify(char *, stored));
	return value;
}

/* Put a value into an array, before the one at an index. */
void
ie_array_insert(IeDocument *document, IeNode *array, int index, IeNode *value)
{
	int			count = array->val.array.count;

	if (count == array->val.array.capacity)
	{
		int			capacity = Max(4, 2 * count);
		Size		size = capacity * sizeof(IeNode *);

		array->val.array.items = array->val.array.items == NULL
			? MemoryContextAllocHuge(document->context, size)
			: repalloc_huge(array->val.array.items, size);
		array->val.array.capacity = capacity;
	}
	memmove(array->val.array.items + index + 1, array->val.array.items + index,
			(count - index) * sizeof(IeNode *));
	array->val.array.items[index] = value;
	array->val.array.count++;
}

/* Take a value out of an array. */
IeNode *
ie_array_take(IeNode *array, int index)
{
	IeNode	   *value = array->val.array.items[index];

	array->val.array.count--;
	memmove(array->val.array.items + index, array->val.array.items + index + 1,
			(array->val.array.count - index) * sizeof(IeNode *));
	return value;
}

/* Are two values equal, as RFC 6902 has it? Numbers by value. */
bool
ie_node_equal(const IeNode *a, const IeNode *b)
{
	check_stack_depth();
	if (a->type != b->type)
		return false;
	switch (a->type)
	{
		case jbvString:
			return a->val.string.len == b->val.string.len &&
				memcmp(a->val.string.val, b->val.string.val, a->val.string.len) == 0;
		case jbvNumeric:
			return DatumGetBool(DirectFunctionCall2(numeric_eq,
													NumericGetDatum(a->val.numeric),
													NumericGetDatum(b->val.numeric)));
		case jbvBool:
			return a->val.boolean == b->val.boolean;
		case jbvArray:
			return equal_arrays(a, b);
		case jbvObject:
			return equal_objects(a, b);
		default:
			return true;
	}
}

/* The same elements in the same order? */
static bool
equal_arrays(const IeNode *a, const IeNode *b)
{
	int			i;

	if (a->val.array.count != b->val.array.count)
		return false;
	for (i = 0; i < a->val.array.count; i++)
		if (!ie_node_equal(a->val.array.items[i], b->val.array.items[i]))
			return false;
	return true;
}

/* The same members? */
static bool
equal_objects(const IeNode *a, const IeNode *b)
{
	members_iterator iterator;
	Member	   *member;

	if (a->val.object.members->members != b->val.object.members->members)
		return false;
	members_start_iterate(a->val.object.members, &iterator);
	while ((member = members_iterate(a->val.object.members, &iterator)) != NULL)
	{
		IeNode	   *other = ie_object_get(b, member->key.val, member->key.len);

		if (other == NULL || !ie_node_equal(member->value, other))
			return false;
	}
	return true;
}
