/*
 * json_patch.c: JSON Patch (RFC 6902), as a ready-made reducer.
 *
 * The event's data has the operations under the key patch: an array of
 * objects with op, path and, as the operation needs it, value or from. Paths
 * are JSON Pointers (RFC 6901). An operation that does not fit the document
 * raises 22023 and ends the fold: a patch is applied whole or not at all.
 */
#include "document.h"

#include "compat.h"
#include "miscadmin.h"

/* One operation, and where it stands for the error. */
typedef struct Operation
{
	int			number;
	JsonbContainer *object;
	JsonbValue *op;
	JsonbValue *path;
} Operation;

/* A place in a document: what holds it, and its key or index there. */
typedef struct Place
{
	IeNode	   *parent;			/* NULL: the whole document */
	char	   *token;
	int			len;
} Place;

static void apply(IeDocument *document, const Operation *operation);
static JsonbValue *member(const Operation *operation, const char *key);
static IeNode *value_of(IeDocument *document, const Operation *operation);
static JsonbValue *pointer_of(const Operation *operation, const char *key);
static Place find_place(IeDocument *document, const Operation *operation,
						JsonbValue *pointer);
static char *next_token(const Operation *operation, const char **at,
						const char *end, int *len);
static IeNode *child(const Operation *operation, const IeNode *parent,
					 const char *token, int len);
static int	array_index(const Operation *operation, const IeNode *array,
						const char *token, int len, bool may_append);
static IeNode *get(IeDocument *document, const Operation *operation, const Place *place);
static void add(IeDocument *document, const Operation *operation,
				const Place *place, IeNode *value);
static IeNode *take(IeDocument *document, const Operation *operation,
					const Place *place);
static bool is_inside(JsonbValue *path, JsonbValue *from);
pg_noreturn static void refuse(const Operation *operation, const char *problem);

PG_FUNCTION_INFO_V1(ie_json_patch);

/* Apply one event's patch to a document. */
Datum
ie_json_patch(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(ie_document_reducer(fcinfo, ie_document_patch));
}

/* Apply the operations under the key patch to a document, in order. */
void
ie_document_patch(IeDocument *document, Jsonb *data)
{
	JsonbValue *patch = !JB_ROOT_IS_OBJECT(data) ? NULL
		: getKeyJsonValueFromContainer(&data->root, "patch", 5, NULL);
	Operation	operation = {0};
	JsonbContainer *array;

	if (patch == NULL || patch->type != jbvBinary ||
		!JsonContainerIsArray(patch->val.binary.data))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an event for json_patch needs an array of operations under the key patch"),
				 errhint("For example: {\"patch\": [{\"op\": \"add\", \"path\": \"/name\", \"value\": \"ann\"}]}.")));
	array = patch->val.binary.data;
	for (operation.number = 1; operation.number <= (int) JsonContainerSize(array); operation.number++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(array, operation.number - 1);

		CHECK_FOR_INTERRUPTS();
		if (element->type != jbvBinary || !JsonContainerIsObject(element->val.binary.data))
			refuse(&operation, "It must be an object.");
		operation.object = element->val.binary.data;
		operation.op = member(&operation, "op");
		operation.path = pointer_of(&operation, "path");
		if (operation.op == NULL || operation.op->type != jbvString)
			refuse(&operation, "op must be a string.");
		apply(document, &operation);
	}
}

/* Apply one operation. */
static void
apply(IeDocument *document, const Operation *operation)
{
	const char *op = operation->op->val.string.val;
	int			len = operation->op->val.string.len;
	Place		place = find_place(document, operation, operation->path);

	if (len == 3 && memcmp(op, "add", 3) == 0)
		add(document, operation, &place, value_of(document, operation));
	else if (len == 6 && memcmp(op, "remove", 6) == 0)
		ie_node_free(take(document, operation, &place));
	else if (len == 7 && memcmp(op, "replace", 7) == 0)
	{
		IeNode	   *value = value_of(document, operation);

		ie_node_free(take(document, operation, &place));
		add(document, operation, &place, value);
	}
	else if (len == 4 && memcmp(op, "test", 4) == 0)
	{
		IeNode	   *value = value_of(document, operation);

		if (!ie_node_equal(get(document, operation, &place), value))
			refuse(operation, "The value is another one.");
		ie_node_free(value);
	}
	else if (len == 4 && (memcmp(op, "move", 4) == 0 || memcmp(op, "copy", 4) == 0))
	{
		JsonbValue *from = pointer_of(operation, "from");
		Place		source = find_place(document, operation, from);
		IeNode	   *value;

		if (*op == 'c')
			value = ie_node_copy(document, get(document, operation, &source));
		else
		{
			if (is_inside(operation->path, from))
				refuse(operation, "A value cannot be moved into itself.");
			value = take(document, operation, &source);
			place = find_place(document, operation, operation->path);
		}
		add(document, operation, &place, value);
	}
	else
		refuse(operation, "op must be add, remove, replace, move, copy or test.");
}

/* A member of the operation, or NULL. */
static JsonbValue *
member(const Operation *operation, const char *key)
{
	return getKeyJsonValueFromContainer(operation->object, key, strlen(key), NULL);
}

/* The value that the operation must have; null is one. */
static IeNode *
value_of(IeDocument *document, const Operation *operation)
{
	JsonbValue *value = member(operation, "value");

	if (value == NULL)
		refuse(operation, "It needs a value.");
	return ie_node_read(document, value);
}

/* A pointer that the operation must have. */
static JsonbValue *
pointer_of(const Operation *operation, const char *key)
{
	JsonbValue *pointer = member(operation, key);

	if (pointer == NULL || pointer->type != jbvString ||
		(pointer->val.string.len > 0 && *pointer->val.string.val != '/'))
		refuse(operation, strcmp(key, "path") == 0
			   ? "path must be a JSON Pointer: empty, or beginning with a slash."
			   : "from must be a JSON Pointer: empty, or beginning with a slash.");
	return pointer;
}

/* Follow a pointer to the place that it names; its parent must exist. */
static Place
find_place(IeDocument *document, const Operation *operation, JsonbValue *pointer)
{
	const char *at = pointer->val.string.val;
	const char *end = at + pointer->val.string.len;
	Place		place = {NULL, NULL, 0};

	while (at < end)
	{
		place.parent = place.token == NULL ? document->root
			: child(operation, place.parent, place.token, place.len);
		if (place.parent == NULL)
			refuse(operation, "The path does not exist.");
		place.token = next_token(operation, &at, end, &place.len);
	}
	return place;
}

/* The next reference token of a pointer, with ~1 and ~0 read as / and ~. */
static char *
next_token(const Operation *operation, const char **at, const char *end, int *len)
{
	char	   *token = palloc(end - *at + 1);

	*len = 0;
	for ((*at)++; *at < end && **at != '/'; (*at)++)
	{
		char		c = **at;

		if (c == '~')
		{
			(*at)++;
			if (*at == end || (**at != '0' && **at != '1'))
				refuse(operation, "In a JSON Pointer ~ stands before 0 or 1 only.");
			c = **at == '0' ? '~' : '/';
		}
		token[(*len)++] = c;
	}
	token[*len] = '\0';
	return token;
}

/* What stands under a token; NULL when there is nothing. */
static IeNode *
child(const Operation *operation, const IeNode *parent, const char *token, int len)
{
	if (parent->type == jbvObject)
		return ie_object_get(parent, token, len);
	if (parent->type == jbvArray)
		return parent->val.array.items[array_index(operation, parent, token, len, false)];
	return NULL;
}

/* The index that a token names: digits without leading zeros, or - for the end. */
static int
array_index(const Operation *operation, const IeNode *array, const char *token,
			int len, bool may_append)
{
	int			count = array->val.array.count;
	int64		index = 0;
	int			i;

	if (len == 1 && *token == '-' && may_append)
		return count;
	if (len == 0 || len > 9 || (len > 1 && *token == '0'))
		refuse(operation, "The index of an array is a number, or - for its end.");
	for (i = 0; i < len; i++)
	{
		if (token[i] < '0' || token[i] > '9')
			refuse(operation, "The index of an array is a number, or - for its end.");
		index = index * 10 + (token[i] - '0');
	}
	if (index > (may_append ? count : count - 1))
		refuse(operation, "The array is shorter than that.");
	return (int) index;
}

/* The value at a place. */
static IeNode *
get(IeDocument *document, const Operation *operation, const Place *place)
{
	IeNode	   *value = place->parent == NULL ? document->root
		: child(operation, place->parent, place->token, place->len);

	if (value == NULL)
		refuse(operation, "The path does not exist.");
	return value;
}

/* Put a value at a place. */
static void
add(IeDocument *document, const Operation *operation, const Place *place, IeNode *value)
{
	if (place->parent == NULL)
	{
		if (document->root != NULL)
			ie_node_free(document->root);
		document->root = value;
	}
	else if (place->parent->type == jbvObject)
		ie_object_set(document, place->parent, place->token, place->len, value);
	else if (place->parent->type == jbvArray)
		ie_array_insert(document, place->parent,
						array_index(operation, place->parent, place->token, place->len, true),
						value);
	else
		refuse(operation, "The path leads through a value that is no object and no array.");
}

/* Take the value out of its place. */
static IeNode *
take(IeDocument *document, const Operation *operation, const Place *place)
{
	IeNode	   *value = get(document, operation, place);

	if (place->parent == NULL)
		document->root = NULL;
	else if (place->parent->type == jbvObject)
		(void) ie_object_take(place->parent, place->token, place->len);
	else
		(void) ie_array_take(place->parent,
							 array_index(operation, place->parent, place->token, place->len, false));
	return value;
}

/* Does a path lead to somewhere inside of another one? */
static bool
is_inside(JsonbValue *path, JsonbValue *from)
{
	int			len = from->val.string.len;

	return path->val.string.len > len &&
		memcmp(path->val.string.val, from->val.string.val, len) == 0 &&
		path->val.string.val[len] == '/';
}

/* Raise the error for an operation that cannot be applied. */
static void
refuse(const Operation *operation, const char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("cannot apply operation %d of a JSON Patch", operation->number),
			 errdetail("%s", problem),
			 errhint("The patch must fit the document that the earlier events give.")));
}
