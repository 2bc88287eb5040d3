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
#include "immutable_events.h"

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

static MemoryContext context = NULL;
static HTAB *heads = NULL;
static uint64 changes_seen;
static uint64 rows_seen;

static OwnHeadKey make_key(const IeTarget *target, const text *stream);
static uint32 hash_key(const void *key, Size size);
static void create_table(void);
static bool is_stale(void);
static void transaction_event(XactEvent event, void *arg);
static void subtransaction_event(SubXactEvent event, SubTransactionId mine,
								 SubTransactionId parent, void *arg);

/* The head of a stream, if this transaction wrote it. */
bool
ie_own_head(const IeTarget *target, const text *stream, IeHead *head)
{
	OwnHeadKey	key;
	OwnHead    *own;

	if (heads == NULL)
		return false;
	if (is_stale())
	{
		ie_forget_own_heads();
		return false;
	}
	key = make_key(target, stream);
	own = hash_search(heads, &key, HASH_FIND, NULL);
	if (own == NULL ||
		memcmp(own->stream, VARDATA_ANY(stream), key.stream_length) != 0)
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
	OwnHead    *own;
	bool		found;

	if (heads != NULL &&
		(is_stale() || hash_get_num_entries(heads) >= MAX_OWN_HEADS))
		ie_forget_own_heads();
	if (heads == NULL)
		create_table();
	own = hash_search(heads, &key, HASH_ENTER, &found);
	if (!found)
		own->stream = MemoryContextAlloc(context, key.stream_length);
	memcpy(own->stream, VARDATA_ANY(stream), key.stream_length);
	own->head = *head;
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

/* The hash of a key is the hash of the stream in it. */
static uint32
hash_key(const void *key, Size size pg_attribute_unused())
{
	return (uint32) ((const OwnHeadKey *) key)->stream_hash;
}

/* Begin to remember, until the transaction ends. */
static void
create_table(void)
{
	static bool registered = false;
	HASHCTL		ctl = {.keysize = sizeof(OwnHeadKey),
	.entrysize = sizeof(OwnHead), .hash = hash_key};

	if (!registered)
	{
		RegisterXactCallback(transaction_event, NULL);
		RegisterSubXactCallback(subtransaction_event, NULL);
		registered = true;
	}
	context = AllocSetContextCreate(TopTransactionContext,
									"immutable_events own heads",
									ALLOCSET_DEFAULT_SIZES);
	ctl.hcxt = context;
	heads = hash_create("immutable_events own heads", 64, &ctl,
						HASH_ELEM | HASH_FUNCTION | HASH_CONTEXT);
	changes_seen = ie_log_changes();
	rows_seen = ie_other_rows();
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
