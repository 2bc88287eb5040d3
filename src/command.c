/*
 * command.c: immutable.handle, from a command to the events that follow.
 *
 * The decider: replay the stream, call decide(state, command), append what it
 * returns. The stream is locked from before the replay until the events stand
 * in it, so nobody else appends in between: decide is called once, on the
 * newest state, and nothing is left to retry. Others that decide on the stream
 * or append to it wait; those who read the log do not.
 *
 * While a transaction in progress is waited for, no lock is held: neither the
 * stream's nor the command's.
 */
#include "command.h"
#include "fold.h"

#include "access/xact.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* Compiled functions, kept from call to call. */
typedef struct Compiled
{
	IeReducer  *evolve;
	IeDecider  *decide;
} Compiled;

static void check_arguments(FunctionCallInfo fcinfo);
static Compiled *compile(FunctionCallInfo fcinfo);
static bool is_recorded(IeTarget *target, IeCommand *command, IeHead *head,
						IeAppended *outcome);
static IeNewEvents decide(FunctionCallInfo fcinfo, const IeTarget *target,
						  const IeCommand *command);
static void check_unmoved(const IeTarget *target, const text *stream,
						  const IeHead *head, Oid function);

PG_FUNCTION_INFO_V1(ie_handle);

/* Handle a command. */
Datum
ie_handle(PG_FUNCTION_ARGS)
{
	IeCommand	command = {0};
	IeTarget	target;
	IeHead		head;
	IeAppended	outcome;

	check_arguments(fcinfo);
	command.stream = PG_GETARG_TEXT_PP(1);
	command.body = PG_GETARG_JSONB_P(2);
	command.id = PG_ARGISNULL(6) ? NULL : PG_GETARG_UUID_P(6);
	(void) compile(fcinfo);
	target = ie_open_to_append(PG_GETARG_OID(0), command.stream);
	ie_open_commands(&command, target.log);
	if (!is_recorded(&target, &command, &head, &outcome))
	{
		IeNewEvents batch = decide(fcinfo, &target, &command);

		check_unmoved(&target, command.stream, &head, PG_GETARG_OID(4));
		outcome = ie_append_decided(&target, &batch, &head);
		ie_record_command(&command, outcome);
	}
	ie_unlock_command(&command);
	ie_close_commands(&command);
	ie_close_log(&target);
	PG_RETURN_DATUM(ie_appended_record(fcinfo, outcome));
}

/* Refuse what can be told from the arguments alone. */
static void
check_arguments(FunctionCallInfo fcinfo)
{
	ie_forbid_read_only("immutable.handle()");
	ie_require_arg(fcinfo, 0, "log");
	ie_require_arg(fcinfo, 1, "stream");
	ie_require_arg(fcinfo, 2, "command");
	ie_require_arg(fcinfo, 4, "decide");
	ie_require_arg(fcinfo, 5, "evolve");
	ie_check_stream(PG_GETARG_TEXT_PP(1));
	if (!JB_ROOT_IS_OBJECT(PG_GETARG_JSONB_P(2)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("command must be a JSON object"),
				 errhint("For example: {\"type\": \"ShipOrder\", \"orderId\": 123}.")));
}

/* The functions, compiled: kept while neither they nor the catalogs change. */
static Compiled *
compile(FunctionCallInfo fcinfo)
{
	FmgrInfo   *flinfo = fcinfo->flinfo;
	Compiled   *kept = flinfo->fn_extra;
	Oid			state_type = get_fn_expr_argtype(flinfo, 3);
	MemoryContext context;

	if (kept == NULL)
		kept = flinfo->fn_extra = MemoryContextAllocZero(flinfo->fn_mcxt,
														 sizeof(Compiled));
	if (kept->decide != NULL &&
		(!ie_reducer_is_current(kept->evolve) ||
		 ie_decider_function(kept->decide) != PG_GETARG_OID(4)))
	{
		MemoryContextDelete(GetMemoryChunkContext(kept->decide));
		kept->decide = NULL;
	}
	ie_keep_reducer(&kept->evolve, PG_GETARG_OID(5), state_type,
					PG_GET_COLLATION(), flinfo->fn_mcxt);
	if (kept->decide != NULL)
		return kept;
	context = AllocSetContextCreate(CurrentMemoryContext,
									"immutable_events decider",
									ALLOCSET_SMALL_SIZES);
	kept->decide = ie_decider_compile(PG_GETARG_OID(4), state_type,
									  PG_GET_COLLATION(), context);
	MemoryContextSetParent(context, flinfo->fn_mcxt);
	return kept;
}

/*
 * Lock the command's id, if it has one, and then its stream. True when the
 * command was handled before; then only its id is locked.
 */
static bool
is_recorded(IeTarget *target, IeCommand *command, IeHead *head,
			IeAppended *outcome)
{
	for (;;)
	{
		TransactionId writer;

		ie_lock_command(command);
		if (ie_find_command(command, outcome, &writer))
			return true;
		if (!TransactionIdIsValid(writer))
		{
			*head = ie_lock_head(target, command->stream, IE_DECIDING);
			writer = head->writer;
		}
		if (!TransactionIdIsValid(writer))
			return false;
		ie_unlock_stream(target, command->stream);
		ie_unlock_command(command);
		XactLockTableWait(writer, target->rel, NULL, XLTW_None);
	}
}

/* Replay the stream as it is now, and decide what follows from the command. */
static IeNewEvents
decide(FunctionCallInfo fcinfo, const IeTarget *target,
	   const IeCommand *command)
{
	Compiled   *compiled = compile(fcinfo); /* again: we may have waited long */
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "immutable_events handle",
												  ALLOCSET_DEFAULT_SIZES);
	IeState		state;
	IeNewEvents batch;

	/* see what this very command has written, and others have committed */
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (IsolationUsesXactSnapshot() && ie_has_unseen(target, command->stream))
		ie_refuse_unseen(target->log);
	ie_state_init(compiled->evolve, &state, PG_GETARG_DATUM(3), PG_ARGISNULL(3),
				  context);
	ie_replay_stream(compiled->evolve, &state, target, command->stream,
					 PG_INT64_MAX, DT_NOEND);
	batch = ie_decide(compiled->decide, ie_state_copy(compiled->evolve, &state),
					  state.isnull, command->body, command->stream);
	PopActiveSnapshot();
	MemoryContextDelete(context);
	return batch;
}

/* What decide appends to the stream itself, it has not decided upon. */
static void
check_unmoved(const IeTarget *target, const text *stream, const IeHead *head,
			  Oid function)
{
	IeHead		now;

	if (!ie_own_head(target, stream, &now))
		now = ie_read_head(target, stream);
	if (now.version != head->version)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("function %s cannot be a decider",
						format_procedure(function)),
				 errdetail("It has appended to stream \"%s\" while deciding on it.",
						   text_to_cstring(stream)),
				 errhint("Return the events instead.")));
}
