/*
 * own_heads.c: the streams that this transaction has appended to.
 *
 * While our uncommitted event is the head of a stream nobody else can append
 * to it: whoever reads that head waits for us. So until this transaction ends
 * we know the head without reading it. What may have removed the event, or set
 * another above it, forgets everything: the end of the transaction, the abort
 * of a subtransaction, a change to a log's relation, and a row that did not
 * come from append.
 */
#include "append.h"
#include "guard.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/* More streams than this are not worth the memory: begin anew. */
#define MAX_OWN_HEADS	16384

typedef struct OwnHeadKey
{
	uint64		stream_hash;
	Oid			log;
	uint32		stream_length;
} OwnHeadKey;

typedef struct OwnHead
{
	OwnHeadKey	key;
	char	   *stream;			/* the name itself: a hash proves nothing */
	IeHead		head;
} OwnHead;

/* The newest one; many transactions append to one stream only. */
static OwnHead latest;
static char latest_stream[IE_MAX_STREAM_BYTES];
static bool any = false;

/* The others. */
static MemoryContext context = NULL;
static HTAB *heads = NULL;

static uint64 changes_seen;
static uint64 rows_seen;

static OwnHeadKey make_key(const IeTarget *target, const text *stream);
static bool is_named(const OwnHead *own, const OwnHeadKey *key,
					 const text *stream);
static void keep_latest(void);
static uint32 hash_key(const void *key, Size size);
static void create_table(void);
static void begin(void);
static bool is_stale(void);
static void transaction_event(XactEvent event, void *arg);
static void subtransaction_event(SubXactEvent event, SubTransactionId mine,
								 SubTransactionId parent, void *arg);

/* The head of a stream, if this transaction wrote it. */
bool
ie_own_head(const IeTarget *target, const text *stream, IeHead *head)
{
	OwnHeadKey	key;
	OwnHead    *own = &latest;

	if (any && is_stale())
		ie_forget_own_heads();
	if (!any)
		return false;
	key = make_key(target, stream);
	if (!is_named(own, &key, stream))
		own = heads == NULL ? NULL : hash_search(heads, &key, HASH_FIND, NULL);
	if (own == NULL || !is_named(own, &key, stream))
		return false;
	*head = own->head;
	return true;
}

/* Remember the event just written as the head of its stream. */
void
ie_note_own_head(const IeTarget *target, const text *stream,
				 const IeHead *head)
{
	OwnHeadKey	key = make_key(target, stream);

	if (any && (is_stale() || (heads != NULL &&
							   hash_get_num_entries(heads) >= MAX_OWN_HEADS)))
		ie_forget_own_heads();
	if (!any)
		begin();
	else if (!is_named(&latest, &key, stream))
		keep_latest();
	latest.key = key;
	latest.stream = latest_stream;
	memcpy(latest_stream, VARDATA_ANY(stream), key.stream_length);
	latest.head = *head;
}

/* A stream is known by its log, the length of its name, and a hash. */
static OwnHeadKey
make_key(const IeTarget *target, const text *stream)
{
	OwnHeadKey	key;

	key.log = RelationGetRelid(target->log);
	key.stream_length = VARSIZE_ANY_EXHDR(stream);
	key.stream_hash = hash_bytes_extended((const unsigned char *) VARDATA_ANY(stream),
										  key.stream_length, 0);
	return key;
}

/* Is this the head of that very stream? */
static bool
is_named(const OwnHead *own, const OwnHeadKey *key, const text *stream)
{
	return memcmp(&own->key, key, sizeof(*key)) == 0 &&
		memcmp(own->stream, VARDATA_ANY(stream), key->stream_length) == 0;
}

/* Put the latest head to the others, before another stream takes its place. */
static void
keep_latest(void)
{
	OwnHead    *own;
	bool		found;

	if (heads == NULL)
		create_table();
	own = hash_search(heads, &latest.key, HASH_ENTER, &found);
	if (!found)
		own->stream = MemoryContextAlloc(context, latest.key.stream_length);
	memcpy(own->stream, latest_stream, latest.key.stream_length);
	own->head = latest.head;
}

/* The hash of a key is the hash of the stream in it. */
static uint32
hash_key(const void *key, Size size pg_attribute_unused())
{
	return (uint32) ((const OwnHeadKey *) key)->stream_hash;
}

/* Make room for more than one head, until the transaction ends. */
static void
create_table(void)
{
	HASHCTL		ctl = {.keysize = sizeof(OwnHeadKey),
	.entrysize = sizeof(OwnHead), .hash = hash_key};

	context = AllocSetContextCreate(TopTransactionContext,
									"immutable_events own heads",
									ALLOCSET_DEFAULT_SIZES);
	ctl.hcxt = context;
	heads = hash_create("immutable_events own heads", 64, &ctl,
						HASH_ELEM | HASH_FUNCTION | HASH_CONTEXT);
}

/* Begin to remember. */
static void
begin(void)
{
	static bool registered = false;

	if (!registered)
	{
		RegisterXactCallback(transaction_event, NULL);
		RegisterSubXactCallback(subtransaction_event, NULL);
		registered = true;
	}
	changes_seen = ie_log_changes();
	rows_seen = ie_other_rows();
	any = true;
}

/* Did a log change, or a row come into one from elsewhere? */
static bool
is_stale(void)
{
	return changes_seen != ie_log_changes() || rows_seen != ie_other_rows();
}

/* Forget every head. */
void
ie_forget_own_heads(void)
{
	any = false;
	if (heads == NULL)
		return;
	heads = NULL;
	MemoryContextDelete(context);
}

/* At the end of a transaction its memory goes by itself. */
static void
transaction_event(XactEvent event pg_attribute_unused(),
				  void *arg pg_attribute_unused())
{
	any = false;
	heads = NULL;
}

/* A rolled back subtransaction takes the events it wrote with it. */
static void
subtransaction_event(SubXactEvent event,
					 SubTransactionId mine pg_attribute_unused(),
					 SubTransactionId parent pg_attribute_unused(),
					 void *arg pg_attribute_unused())
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		ie_forget_own_heads();
}
