/*
 * snapshot.h: what the files about snapshots know of each other.
 */
#ifndef IMMUTABLE_EVENTS_SNAPSHOT_H
#define IMMUTABLE_EVENTS_SNAPSHOT_H

#include "fold.h"

/* fingerprint.c: what the result of a reducer depends on */

#define IE_DIGEST_LENGTH	64	/* SHA-256, in hexadecimal */

typedef struct IeFingerprint
{
	char		digest[IE_DIGEST_LENGTH + 1];
	bool		impure;			/* settings count as well */
	bool		unpinned;		/* and the search_path */
	bool		reads_user;		/* and the user */
} IeFingerprint;

extern IeFingerprint ie_fingerprint(Oid reducer, Node *call, Oid state_type,
									List *upcasters);
extern char *ie_definition_digest(Oid reducer, Node *call, Oid state_type);
extern char *ie_digest(const char *data, Size size);

/* reducer.c: for whom a compiled reducer is good, and what it depends on */

extern bool ie_reducer_same_names(const IeReducer *reducer);
extern IeFingerprint ie_reducer_fingerprint(const IeReducer *reducer,
											List *upcasters);

/* snapshot.c: which reducers have snapshots, of which logs */

/* A row of immutable.snapshots. */
typedef struct IeKeeping
{
	Oid			log;
	char	   *reducer;		/* its qualified signature */
	int32		every;
	int32		reducer_version;
	Oid			storage;
	char	   *epoch;
} IeKeeping;

extern const IeKeeping *ie_snapshots_kept(Oid log, const char *reducer);
extern bool ie_has_snapshots(Oid log);
extern void ie_void_snapshots(Oid log);
extern void ie_drop_snapshots(Oid log);

/* snapshot_key.c: what must be the same for a snapshot to count */

typedef struct IeSnapshotKey
{
	Oid			storage;
	int32		every;
	const text *stream;
	text	   *reducer;		/* its qualified signature */
	text	   *fingerprint;
	text	   *settings;
	bool		refuted;		/* one was found that is of other events */
} IeSnapshotKey;

extern bool ie_snapshot_key(const IeReducer *reducer, const IeState *initial,
							const IeTarget *target, const text *stream,
							IeSnapshotKey *key);
extern bool ie_snapshot_key_holds(const IeReducer *reducer);
extern char *ie_state_to_text(const IeReducer *reducer, const IeState *state);
extern void ie_state_from_text(IeReducer *reducer, IeState *state,
							   char *value);

/* snapshot_store.c: the rows of <log>_snapshots */

/* A snapshot, or what would be one. */
typedef struct IeSnapshot
{
	int64		version;		/* of the last event folded; 0: there is none */
	pg_uuid_t	event_id;		/* of that event */
	TimestampTz recorded_at;	/* the latest of all events folded */
	char	   *state;			/* as text; NULL for NULL */
} IeSnapshot;

#define IE_SNAPSHOT_COLUMNS \
	"stream text COLLATE pg_catalog.\"C\" NOT NULL," \
	" reducer text COLLATE pg_catalog.\"C\" NOT NULL," \
	" fingerprint text COLLATE pg_catalog.\"C\" NOT NULL," \
	" settings text COLLATE pg_catalog.\"C\" NOT NULL," \
	" version bigint NOT NULL," \
	" event_id uuid NOT NULL," \
	" recorded_at timestamptz NOT NULL," \
	" taken_at timestamptz NOT NULL," \
	" state text"

extern bool ie_read_snapshot(const IeSnapshotKey *key, int64 upto_version,
							 TimestampTz as_of, IeSnapshot *snapshot);
extern void ie_write_snapshot(const IeSnapshotKey *key,
							  const IeSnapshot *snapshot);
extern bool ie_may_write_snapshot(void);

#endif							/* IMMUTABLE_EVENTS_SNAPSHOT_H */
