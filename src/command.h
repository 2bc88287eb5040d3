/*
 * command.h: what the files about commands know of each other.
 */
#ifndef IMMUTABLE_EVENTS_COMMAND_H
#define IMMUTABLE_EVENTS_COMMAND_H

#include "append.h"

/* decide.c: compile a decider, and let it decide */

typedef struct IeDecider IeDecider;

extern IeDecider *ie_decider_compile(Oid function, Oid state_type,
									 Oid collation, MemoryContext context);
extern Oid	ie_decider_function(const IeDecider *decider);
extern IeNewEvents ie_decide(IeDecider *decider, Datum state, bool isnull,
							 Jsonb *command, text *stream);

/* command_table.c: the tables that commands are recorded in */

typedef enum IeCommandColumn
{
	IE_COMMAND_ID = 1,
	IE_COMMAND_RECORDED_AT,
	IE_COMMAND_VERSION,
	IE_COMMAND_POSITION,
	IE_COMMAND_WRITTEN,
	IE_COMMAND_STREAM,
	IE_COMMAND_BODY,
	IE_COMMAND_NCOLUMNS = IE_COMMAND_BODY
} IeCommandColumn;

/* The INSERT of a table, prepared when it had this name. */
typedef struct IeCommandPlan
{
	SPIPlanPtr	plan;
	char	   *name;
} IeCommandPlan;

/* A command, and the table that it is recorded in if it has an id. */
typedef struct IeCommand
{
	text	   *stream;
	Jsonb	   *body;
	pg_uuid_t  *id;				/* NULL: it is not recorded */
	Relation	log;
	Relation	table;			/* <log>_commands */
	Oid			index;			/* on its ids */
	IeCommandPlan *insert;
	bool		locked;			/* the id */
} IeCommand;

extern void ie_open_commands(IeCommand *command, Relation log);
extern void ie_close_commands(IeCommand *command);

/* command_record.c: commands with an id, and what came of them */

extern void ie_lock_command(IeCommand *command);
extern void ie_unlock_command(IeCommand *command);
extern bool ie_find_command(const IeCommand *command, IeAppended *outcome,
							TransactionId *writer);
extern void ie_record_command(const IeCommand *command, IeAppended outcome);

#endif							/* IMMUTABLE_EVENTS_COMMAND_H */
