/*
 * fingerprint.h: what fingerprint.c and definition.c know of each other.
 */
#ifndef IMMUTABLE_EVENTS_FINGERPRINT_H
#define IMMUTABLE_EVENTS_FINGERPRINT_H

#include "snapshot.h"

#include "compat.h"
#include "lib/stringinfo.h"

/* A walk over everything that a reducer's result depends on. */
typedef struct IeDefinition
{
	StringInfoData text;		/* what is hashed in the end: holds no OIDs */
	Oid			reducer;		/* for error messages */
	List	   *calls;			/* functions met, defined in turn */
	List	   *types;			/* types met: OIDs */
	List	   *collations;		/* collations met: OIDs */
	bool		comparing;		/* with what it was; not for snapshots */
	bool		impure;			/* depends on settings */
	bool		unpinned;		/* depends on the search_path */
	bool		reads_user;		/* depends on who runs it */
	Node	   *node;			/* whose functions are being looked at */
} IeDefinition;

/* A function, and the call that tells the types of polymorphic arguments. */
typedef struct IeCall
{
	Oid			function;
	Node	   *node;			/* NULL: not polymorphic */
} IeCall;

/* fingerprint.c: what is met on the way */

extern void ie_note_expression(IeDefinition *definition, Node *expression);
extern void ie_note_function(IeDefinition *definition, Oid function);
extern void ie_refuse_snapshots(const IeDefinition *definition,
								const char *detail);
extern void ie_note_type(IeDefinition *definition, Oid type);
extern void ie_note_collation(IeDefinition *definition, Oid collation);
extern void ie_append_text(IeDefinition *definition, const char *label,
						   const char *value);

/* define_function.c: functions and their bodies */

extern void ie_define_function(IeDefinition *definition, const IeCall *call);
extern char *ie_deparse(Node *tree, bool query);

/* define_type.c: types and collations */

extern void ie_define_type(IeDefinition *definition, Oid type);
extern void ie_define_collation(IeDefinition *definition, Oid collation);
extern void ie_define_database(IeDefinition *definition);
extern void ie_check_lasting_schema(IeDefinition *definition, Oid schema);
extern void ie_check_state_type(IeDefinition *definition, Oid type);
#endif							/* IMMUTABLE_EVENTS_FINGERPRINT_H */
