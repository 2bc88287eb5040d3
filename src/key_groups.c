/*
 * key_groups.c: the events of a batch, by the key of the row they concern.
 *
 * Of many events few keys are made: a hash table finds them, and only the keys
 * are sorted. Few events are sorted outright, and so are those with keys that
 * have no hash values.
 */
#include "projection.h"

#define MANY		64			/* concerns for which a hash table pays */

typedef struct KeyEntry
{
	const Datum *key;
	uint32		hash;
	int			group;
	char		status;
} KeyEntry;

#define SH_PREFIX		keys
#define SH_ELEMENT_TYPE	KeyEntry
#define SH_KEY_TYPE		const Datum *
#define SH_KEY			key
#define SH_HASH_KEY(tb, k)	((IeKeySpace *) (tb)->private_data)->hash(((IeKeySpace *) (tb)->private_data)->arg, k)
#define SH_EQUAL(tb, a, b)	((IeKeySpace *) (tb)->private_data)->same(((IeKeySpace *) (tb)->private_data)->arg, a, b)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a)	(a)->hash
#define SH_SCOPE		static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

static int	group_sorted(const IeProjection *projection, IeConcern *concerns,
						 Size count, IeKeyGroup *groups);
static int	group_hashed(const IeProjection *projection, IeConcern *concerns,
						 Size count, IeKeyGroup *groups);
static int	number_keys(const IeProjection *projection, IeConcern *concerns,
						Size count, IeKeyGroup *groups);
static void add_event(IeKeyGroup *group, int event);
static int	compare_concerns(const void *a, const void *b, void *projection);
static int	compare_groups(const void *a, const void *b, void *projection);

/*
 * Group concerns, which are in order of their events, and answer how many
 * groups there are. They come in order of their keys, each with its events in
 * order. The concerns may be moved.
 */
int
ie_group_by_key(const IeProjection *projection, IeConcern *concerns,
				Size count, IeKeyGroup **groups)
{
	*groups = palloc_extended(count * sizeof(IeKeyGroup),
							  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	return count >= MANY && ie_has_key_hash(projection)
		? group_hashed(projection, concerns, count, *groups)
		: group_sorted(projection, concerns, count, *groups);
}

/* Groups are slices of the sorted concerns. */
static int
group_sorted(const IeProjection *projection, IeConcern *concerns, Size count,
			 IeKeyGroup *groups)
{
	int		   *events = palloc_extended(count * sizeof(int), MCXT_ALLOC_HUGE);
	int			ngroups = 0;
	Size		i;

	qsort_arg(concerns, count, sizeof(IeConcern), compare_concerns,
			  unconstify(IeProjection *, projection));
	for (i = 0; i < count; i++)
	{
		if (i == 0 || ie_compare_keys(projection, concerns[i].key,
									  groups[ngroups - 1].key) != 0)
			groups[ngroups++] = (IeKeyGroup) {.key = concerns[i].key,
			.events = &events[i]};
		add_event(&groups[ngroups - 1], concerns[i].event);
	}
	return ngroups;
}

/* Each key gets a group with room for its events; then they are filled. */
static int
group_hashed(const IeProjection *projection, IeConcern *concerns, Size count,
			 IeKeyGroup *groups)
{
	int		   *events = palloc_extended(count * sizeof(int), MCXT_ALLOC_HUGE);
	int			ngroups = number_keys(projection, concerns, count, groups);
	Size		i;

	for (i = 0; i < (Size) ngroups; i++)
	{
		groups[i].events = events;
		events += groups[i].nevents;
		groups[i].nevents = 0;
	}
	for (i = 0; i < count; i++)
		add_event(&groups[concerns[i].group], concerns[i].event);
	qsort_arg(groups, ngroups, sizeof(IeKeyGroup), compare_groups,
			  unconstify(IeProjection *, projection));
	return ngroups;
}

/* Let keys be groups, and concerns know theirs; nevents is how many do. */
static int
number_keys(const IeProjection *projection, IeConcern *concerns, Size count,
			IeKeyGroup *groups)
{
	IeKeySpace	space = ie_key_space(projection);
	keys_hash  *table = keys_create(CurrentMemoryContext, MANY, &space);
	int			ngroups = 0;
	Size		i;

	for (i = 0; i < count; i++)
	{
		bool		found;
		KeyEntry   *entry = keys_insert(table, concerns[i].key, &found);

		if (!found)
		{
			entry->group = ngroups;
			groups[ngroups++].key = concerns[i].key;
		}
		concerns[i].group = entry->group;
		groups[entry->group].nevents++;
	}
	keys_destroy(table);
	return ngroups;
}

/* Give a group its next event; an array may name a key twice. */
static void
add_event(IeKeyGroup *group, int event)
{
	if (group->nevents == 0 || group->events[group->nevents - 1] != event)
		group->events[group->nevents++] = event;
}

/* Order by key, then by position. */
static int
compare_concerns(const void *a, const void *b, void *projection)
{
	const IeConcern *x = a;
	const IeConcern *y = b;
	int			result = ie_compare_keys(projection, x->key, y->key);

	return result != 0 ? result : (x->event > y->event) - (x->event < y->event);
}

/* Order by key. */
static int
compare_groups(const void *a, const void *b, void *projection)
{
	return ie_compare_keys(projection, ((const IeKeyGroup *) a)->key,
						   ((const IeKeyGroup *) b)->key);
}
