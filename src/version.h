/*
 * version.h: versioned rows, shared by the version*.c files.
 */
#ifndef IMMUTABLE_EVENTS_VERSION_H
#define IMMUTABLE_EVENTS_VERSION_H

#include "immutable_events.h"

#include "access/skey.h"

#define IE_VERSION_REGISTRY		"versioned_tables"

/* Of all triggers of a table, this one must see a change first. */
#define IE_VERSION_TRIGGER		"00_immutable_version"
#define IE_TRUNCATE_TRIGGER		"00_immutable_version_truncate"

/* What a version table is called, and what belongs to it. */
#define IE_VERSIONS_SUFFIX		"versions"
#define IE_AS_OF_SUFFIX			"__as_of"
#define IE_BETWEEN_SUFFIX		"__between"
#define IE_FROM_TO_SUFFIX		"__from_to"
#define IE_HISTORY_SUFFIX		"__history"

/* The primary key of a version table is the table's, and row_start, row_version. */
#define IE_INDEX_TAIL	2

/* Values of row_operation. */
#define IE_INSERTED		'I'
#define IE_UPDATED		'U'
#define IE_DELETED		'D'

/* A row of the registry. */
typedef struct IeVersioned
{
	Oid			relid;
	Oid			versions;
	TimestampTz began;			/* when the triggers were there */
	TimestampTz known;			/* what was before is not known */
	bool		complete;		/* every row has a version */
} IeVersioned;

/* A lock that a transaction keeps from one row to the next; all 0: none. */
typedef struct IeHeldLock
{
	LocalTransactionId transaction;
	uint64		rollbacks;		/* of subtransactions, until then */
} IeHeldLock;

/* Cached facts of a table that has the version trigger. */
typedef struct IeVersionFacts
{
	Oid			relid;			/* the table or a partition; the hash key */
	bool		valid;
	uint64		built;			/* ie_catalog_changes() then */
	int			uses;			/* callers that rely on what is below */
	IeHeldLock	lock;			/* on the version table */
	MemoryContext context;		/* of what is below */
	IeVersioned registered;		/* of the table or an ancestor */
	const char *problem;		/* why the trigger must refuse, or NULL */
	const char *remedy;
	Oid			index;			/* unique (key, row_start, row_version) */
	Oid			sequence;		/* of row_position */
	int			ncolumns;		/* of the version table */
	AttrNumber *source;			/* of each, the table's column, or 0 */
	int			nkeys;
	AttrNumber *key;			/* the table's columns */
	ScanKeyData *scan_keys;		/* template of a search by key */
	bool		bare;			/* no trigger but our guards */
	bool		checked;		/* constraints beside those we made */
	int			nindexes;
	int			nfirst;			/* the last of them hold first versions only */
	Oid		   *indexes;
	bool		plain;			/* no expressions of the user's in them */
	struct IeVersionWriter *writer; /* kept where all is plain */
} IeVersionFacts;

/* version_registry.c */

extern bool ie_read_versioned(Oid relid, IeVersioned *row);
extern bool ie_find_versioned(Oid versions, IeVersioned *row);
extern Oid	ie_versioned_root(Oid relid);

/* version_open.c */

extern Relation ie_open_held_table(Oid relid, IeHeldLock *lock);
extern Relation ie_open_held_index(Oid relid, IeHeldLock *lock);

/* version_facts.c */

extern void ie_inspect_version_indexes(IeVersionFacts *facts, List *indexes);
extern IeVersionFacts *ie_version_facts(Relation rel);
extern Relation ie_open_versions(Relation rel, IeVersionFacts **facts);
extern void ie_check_recordable(Relation rel);

/* version_key.c */

extern void ie_find_version_key(IeVersionFacts *facts, Relation rel, Relation versions);
extern Oid	ie_versions_pkey(Relation versions);
extern Oid	ie_key_index(Relation rel);

/* versioning.c */

extern void ie_make_version_trigger(Oid relid, bool truncate);

/* version_column.c */

extern bool ie_is_new_column(Oid relid, AttrNumber attnum);
extern void ie_check_dropped_column(Relation rel, Relation versions, const char *name);
extern void ie_carry_column(Relation rel, AttrNumber attnum, Relation versions);

/* version_write.c */

/* What is kept from one row to the next. */
typedef struct IeVersionWriter IeVersionWriter;

/* The newest version of a key. */
typedef struct IeNewest
{
	int64		version;		/* 0: there is none */
	TimestampTz start;
	bool		deleted;
	bool		own;			/* written by this transaction */
} IeNewest;

extern IeVersionWriter *ie_version_writer(Relation versions, IeVersionFacts *facts);
extern void ie_version_writer_done(IeVersionWriter *writer);
extern IeNewest ie_newest_version(IeVersionWriter *writer, Relation versions,
								  TupleTableSlot *row, bool *same);
extern void ie_write_version(IeVersionWriter *writer, Relation versions,
							 IeNewest *newest, char operation,
							 TimestampTz start, TupleTableSlot *row);
/* Who writes a version, and why, where it is not this session. */
typedef struct IeAuthor
{
	bool		given;
	Name		user;			/* NULL: the session's */
	Jsonb	   *context;
} IeAuthor;

extern void ie_version_author(IeVersionWriter *writer, IeAuthor author);
extern bool ie_same_row(TupleTableSlot *old, TupleTableSlot *new);
extern bool ie_write_baseline(IeVersionWriter *writer, Relation versions,
							  IeNewest *newest, TimestampTz start,
							  TupleTableSlot *row);

/* version_sql.c: the text of what is made for a versioned table */

extern char *ie_version_columns(Relation rel);
extern char *ie_version_copy(Relation rel, Relation versions);
extern char *ie_same_key(Relation versions, const char *a, const char *b);
extern void ie_make_version_functions(Relation rel, Relation versions);
extern void ie_drop_version_functions(Oid versions);

/* version_found.c: what was made, found again */

extern Oid	ie_version_view(Oid versions);
extern Oid	ie_version_function(Oid versions, const char *suffix);

/* version_owner.c */

extern void ie_carry_owner(Relation rel, Oid versions);

/* patient_lock.c */

extern void ie_lock_patiently(Oid relid, LOCKMODE lockmode);

#endif							/* IMMUTABLE_EVENTS_VERSION_H */
