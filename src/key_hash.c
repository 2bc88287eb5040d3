/*
 * key_hash.c: hash values of the keys of a read model's rows.
 *
 * Equal keys have equal hash values, also where equal values need not look
 * alike: then their type has to have a hash function.
 */
#include "projection.h"

#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/typcache.h"

struct IeKeyHash
{
	const IeProjection *projection;
	FmgrInfo	columns[FLEXIBLE_ARRAY_MEMBER];	/* unset: by image */
};

static bool same_key(const void *arg, const Datum *a, const Datum *b);

/* What the keys of a projection are, in the current context. */
IeKeySpace
ie_key_space(const IeProjection *projection)
{
	IeKeySpace	keys = {.count = projection->nkeys, .hash = ie_hash_key,
	.same = same_key};
	IeKeyHash  *hash = palloc0(offsetof(IeKeyHash, columns) +
							   projection->nkeys * sizeof(FmgrInfo));
	int			i;

	hash->projection = projection;
	keys.arg = hash;
	keys.byval = palloc(projection->nkeys * sizeof(bool));
	keys.len = palloc(projection->nkeys * sizeof(int16));
	for (i = 0; i < projection->nkeys; i++)
	{
		IeKeyColumn *key = &projection->keys[i];
		TypeCacheEntry *type = lookup_type_cache(key->type, TYPECACHE_HASH_PROC);

		keys.byval[i] = key->byval;
		keys.len[i] = key->len;
		if (OidIsValid(type->hash_proc))
			fmgr_info(type->hash_proc, &hash->columns[i]);
		else if (!key->equal_image)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("read model \"%s\" cannot be folded anew",
							projection->name),
					 errdetail("Values of type %s, which is in its key, have no hash function.",
							   format_type_be(key->type)),
					 errhint("Use a type that has a hash function, such as text.")));
	}
	return keys;
}

/* Have all keys hash values? */
bool
ie_has_key_hash(const IeProjection *projection)
{
	int			i;

	for (i = 0; i < projection->nkeys; i++)
	{
		const IeKeyColumn *key = &projection->keys[i];

		if (!key->equal_image &&
			!OidIsValid(lookup_type_cache(key->type, TYPECACHE_HASH_PROC)->hash_proc))
			return false;
	}
	return true;
}

/* The hash value of a key. */
uint32
ie_hash_key(const void *arg, const Datum *key)
{
	const IeKeyHash *hash = arg;
	uint32		result = 0;
	int			i;

	for (i = 0; i < hash->projection->nkeys; i++)
	{
		IeKeyColumn *column = &hash->projection->keys[i];
		FmgrInfo   *function = unconstify(FmgrInfo *, &hash->columns[i]);

		result = hash_combine(result, OidIsValid(function->fn_oid)
							  ? DatumGetUInt32(FunctionCall1Coll(function, column->collation,
																 key[i]))
							  : datum_image_hash(key[i], column->byval, column->len));
	}
	return result;
}

/* Are two keys the same? */
static bool
same_key(const void *arg, const Datum *a, const Datum *b)
{
	return ie_compare_keys(((const IeKeyHash *) arg)->projection, a, b) == 0;
}
