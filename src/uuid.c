/*
 * uuid.c: UUID version 7 (RFC 9562, section 5.7), so that ids sort by time.
 *
 * The 12 bits of rand_a hold the fraction of the millisecond (section 6.2,
 * method 3), and a backend never issues a time twice or goes back: its ids
 * rise even when the clock stands still or is set back.
 */
#include "immutable_events.h"

#include <time.h>

/* Nanoseconds that one step of the 12-bit fraction stands for. */
#define STEP_NS		((int64) 1000000 / 4096 + 1)

/* Random bits are drawn in blocks: one system call for many ids. */
#define RANDOM_BLOCK	1024
#define RANDOM_BYTES	8

static int64 next_time(void);
static const uint8 *random_bytes(void);

/* Generate a version 7 UUID. */
void
ie_uuid_v7(pg_uuid_t *uuid)
{
	int64		now = next_time();
	uint64		ms = (uint64) (now / 1000000);
	uint32		fraction = (uint32) ((now % 1000000) * 4096 / 1000000);
	int			i;

	for (i = 0; i < 6; i++)
		uuid->data[i] = (unsigned char) (ms >> (40 - 8 * i));
	uuid->data[6] = (unsigned char) (0x70 | (fraction >> 8));
	uuid->data[7] = (unsigned char) fraction;
	memcpy(&uuid->data[8], random_bytes(), RANDOM_BYTES);
	uuid->data[8] = (uuid->data[8] & 0x3f) | 0x80;
}

/* Nanoseconds since 1970, at least one step above the last answer. */
static int64
next_time(void)
{
	static int64 last = 0;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	last = Max(last + STEP_NS, (int64) now.tv_sec * 1000000000 + now.tv_nsec);
	return last;
}

/* The next eight random bytes. */
static const uint8 *
random_bytes(void)
{
	static uint8 block[RANDOM_BLOCK];
	static int	used = RANDOM_BLOCK;

	if (used + RANDOM_BYTES > RANDOM_BLOCK)
	{
		if (!pg_strong_random(block, RANDOM_BLOCK))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random values")));
		used = 0;
	}
	used += RANDOM_BYTES;
	return &block[used - RANDOM_BYTES];
}
