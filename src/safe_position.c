/*
 * safe_position.c: up to which position a log may be read in order. A version
 * table is a log to these functions.
 *
 * What is told to others, or kept for later, stays below what this transaction
 * has written itself: nobody else sees that yet. On a standby nothing can be
 * asked of the writers, so what the primary has persisted counts.
 */
#include "log.h"

#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "compat.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/*
 * One answer for one log, statement and snapshot: a query must not see it
 * change, however many times and places it asks in. (Each leaf of a
 * partitioned log asks for itself.)
 */
typedef struct Question
{
	TimestampTz statement;
	Oid			log;
	TransactionId xmin;
	TransactionId xmax;
	uint32		running;
	CommandId	command;
	LocalTransactionId transaction;
} Question;

typedef struct Answer
{
	Question	question;		/* the hash key */
	int64		position;
} Answer;

#define MAX_ANSWERS	4096		/* of one transaction; then they are forgotten */

static int64 *answer_to(const Question *question);
static Oid	sequence_of(const IeTarget *target);
static int64 persisted_on_standby(Relation log);
static void check_readable(Relation log);
static bool may_read(Oid log);
static bool can_be_scanned(Oid log);

PG_FUNCTION_INFO_V1(ie_safe_position);
PG_FUNCTION_INFO_V1(ie_persist_safe_position);
PG_FUNCTION_INFO_V1(ie_last_position_of);
PG_FUNCTION_INFO_V1(ie_safe_position_of);

/* The safe position of a log, as far as the query's own snapshot shows it. */
Datum
ie_safe_position(PG_FUNCTION_ARGS)
{
	Snapshot	snapshot = GetActiveSnapshot();
	Answer	   *last = fcinfo->flinfo->fn_extra;
	Question	question;
	IeTarget	target;
	int64	   *answer;
	int64		position;

	ie_require_arg(fcinfo, 0, "log");
	question = (Question) {GetCurrentStatementStartTimestamp(), PG_GETARG_OID(0),
		snapshot->xmin, snapshot->xmax, snapshot->xcnt + snapshot->subxcnt,
		snapshot->curcid, MyProc->IE_LXID
	};
	if (last != NULL && memcmp(&last->question, &question, sizeof(question)) == 0)
		PG_RETURN_INT64(last->position);
	target = ie_open_ordered(PG_GETARG_OID(0), AccessShareLock);
	check_readable(target.log);
	answer = answer_to(&question);
	if (*answer < 0)
	{
		position = ie_told_position(&target, snapshot);
		answer = answer_to(&question);
		*answer = position;
	}
	ie_close_log(&target);
	if (last == NULL)
		last = fcinfo->flinfo->fn_extra =
			MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, sizeof(Answer));
	*last = (Answer) {question, *answer};
	PG_RETURN_INT64(*answer);
}

/* The place of an answer; -1 stands there when it was not given yet. */
static int64 *
answer_to(const Question *question)
{
	static HTAB *answers = NULL;
	static LocalTransactionId transaction = InvalidLocalTransactionId;
	Answer	   *answer;
	bool		found;

	if (answers != NULL && (transaction != question->transaction ||
							hash_get_num_entries(answers) >= MAX_ANSWERS))
	{
		hash_destroy(answers);
		answers = NULL;
	}
	if (answers == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(Question), .entrysize = sizeof(Answer)};

		ctl.hcxt = TopMemoryContext;
		answers = hash_create("immutable_events safe positions", 16, &ctl,
							  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
		transaction = question->transaction;
	}
	answer = hash_search(answers, question, HASH_ENTER, &found);
	if (!found)
		answer->position = -1;
	return &answer->position;
}

/* What may be told of a log, to somebody who reads with this snapshot. */
int64
ie_told_position(const IeTarget *target, Snapshot snapshot)
{
	Oid			sequence;
	int64		decided;

	if (RecoveryInProgress())
		return persisted_on_standby(target->log);
	sequence = sequence_of(target);
	decided = ie_decided_position(target->log, sequence);
	decided = Min(decided, ie_own_first_position(sequence) - 1);
	return ie_fit_to_snapshot(target->log, sequence, decided, snapshot);
}

/* The sequence that a log's positions come from. */
static Oid
sequence_of(const IeTarget *target)
{
	if (!OidIsValid(target->root->sequence))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("log \"%s\" cannot be read in order",
						RelationGetRelationName(target->log)),
				 errdetail("The column position owns no sequence."),
				 errhint("ALTER SEQUENCE ... OWNED BY the column position, and let its default be nextval of it."),
				 errtable(target->log)));
	return target->root->sequence;
}

/* What the primary has persisted. */
static int64
persisted_on_standby(Relation log)
{
	int64		position = ie_persisted_position(RelationGetRelid(log),
												 GetActiveSnapshot());

	if (position < 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no safe position of log \"%s\" is known here",
						RelationGetRelationName(log)),
				 errdetail("A standby knows what the primary has persisted."),
				 errhint("Call immutable.persist_safe_position on the primary, regularly."),
				 errtable(log)));
	return position;
}

/*
 * Up to where this transaction may read a log in order, its own events
 * included, and with which snapshot. The snapshot is registered.
 */
int64
ie_readable_position(const IeTarget *target, Snapshot *snapshot)
{
	int64		position;

	if (RecoveryInProgress())
	{
		*snapshot = RegisterSnapshot(GetActiveSnapshot());
		return persisted_on_standby(target->log);
	}
	position = ie_decided_position(target->log, sequence_of(target));
	if (IsolationUsesXactSnapshot())
	{
		*snapshot = RegisterSnapshot(GetTransactionSnapshot());
		return ie_fit_to_snapshot(target->log, target->root->sequence, position,
								  *snapshot);
	}
	/* taken after the decision, and with what this command has written */
	CommandCounterIncrement();
	*snapshot = RegisterSnapshot(GetLatestSnapshot());
	return position;
}

/* Record the safe position of a log, for standbys and to begin reading from. */
Datum
ie_persist_safe_position(PG_FUNCTION_ARGS)
{
	IeTarget	target;
	int64		position;

	ie_require_arg(fcinfo, 0, "log");
	PreventCommandDuringRecovery("immutable.persist_safe_position()");
	PreventCommandIfReadOnly("immutable.persist_safe_position()");
	target = ie_open_ordered(PG_GETARG_OID(0), AccessShareLock);
	check_readable(target.log);
	ie_lock_registry("safe_positions", RowExclusiveLock);
	position = ie_decided_position(target.log, sequence_of(&target));
	position = Min(position, ie_own_first_position(target.root->sequence) - 1);
	if (!ie_import_runs(target.root->sequence))
		ie_record_position(PG_GETARG_OID(0), position);
	ie_close_log(&target);
	PG_RETURN_INT64(position);
}

/* The last position that was drawn, for views; NULL for who may not read. */
Datum
ie_last_position_of(PG_FUNCTION_ARGS)
{
	Oid			sequence = ie_position_sequence(PG_GETARG_OID(0));

	if (!OidIsValid(sequence) || !may_read(PG_GETARG_OID(0)))
		PG_RETURN_NULL();
	PG_RETURN_INT64(ie_last_position(sequence));
}

/* The safe position, for views; NULL where it is not known, or not to know. */
Datum
ie_safe_position_of(PG_FUNCTION_ARGS)
{
	Oid			log = PG_GETARG_OID(0);
	IeTarget	target;
	int64		position = 0;

	if (!may_read(log))
		PG_RETURN_NULL();
	target = ie_open_ordered(log, AccessShareLock);
	if (RecoveryInProgress())
		position = ie_persisted_position(log, GetActiveSnapshot());
	else if (OidIsValid(target.root->sequence) && can_be_scanned(log))
		position = ie_told_position(&target, GetActiveSnapshot());
	else
	{
		ie_close_log(&target);
		PG_RETURN_NULL();
	}
	ie_close_log(&target);
	if (position < 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(position);
}

/* Refuse a caller who may not read a log or a version table. */
static void
check_readable(Relation log)
{
	if (ie_is_log(log))
		ie_check_access(log, ACL_SELECT);
	else if (!may_read(RelationGetRelid(log)))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, RelationGetRelationName(log));
}

/* May the caller read a log? */
static bool
may_read(Oid log)
{
	return pg_class_aclcheck(log, GetUserId(), ACL_SELECT) == ACLCHECK_OK;
}

/* Has every table of a log the index that it is read in order by? */
static bool
can_be_scanned(Oid log)
{
	bool		found = true;
	ListCell   *cell;

	foreach(cell, find_all_inheritors(log, AccessShareLock, NULL))
	{
		Relation	rel = table_open(lfirst_oid(cell), NoLock);

		if (rel->rd_rel->relkind == RELKIND_RELATION &&
			!OidIsValid(ie_position_index(rel, true)))
			found = false;
		table_close(rel, NoLock);
	}
	return found;
}
