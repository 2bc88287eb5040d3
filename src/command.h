/*
 * command.h: what the files about commands know of each other.
 */
#ifndef IMMUTABLE_EVENTS_COMMAND_H
#define IMMUTABLE_EVENTS_COMMAND_H

#include "immutable_events.h"

/* decide.c: compile a decider, and let it decide */

typedef struct IeDecider IeDecider;

extern IeDecider *ie_decider_compile(Oid function, Oid state_type,
									 Oid collation, MemoryContext context);
extern Oid	ie_decider_function(const IeDecider *decider);
extern IeNewEvents ie_decide(IeDecider *decider, Datum state, bool isnull,
							 Jsonb *command, text *stream);

/* command_table.c: commands that are recorded by their ids */

typedef struct IeCommand
{
	text	   *stream;
	Jsonb	   *body;
	pg_uuid_t  *id;				/* NULL: it is not recorded */
	Relation	log;
	Relation	table;			/* <log>_commands */
	Oid			index;			/* on its ids */
	bool		locked;			/* the id */
} IeCommand;

extern void ie_open_commands(IeCommand *command, Relation log);
extern void ie_close_commands(IeCommand *command);
extern void ie_lock_command(IeCommand *command);
extern void ie_unlock_command(IeCommand *command);
extern bool ie_find_command(const IeCommand *command, IeAppended *outcome,
							TransactionId *writer);
extern void ie_record_command(const IeCommand *command, IeAppended outcome);

#endif							/* IMMUTABLE_EVENTS_COMMAND_H */
