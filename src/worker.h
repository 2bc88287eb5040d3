/*
 * worker.h: what the files about background workers know of each other.
 */
#ifndef IMMUTABLE_EVENTS_WORKER_H
#define IMMUTABLE_EVENTS_WORKER_H

#include "immutable_events.h"

#include "postmaster/bgworker.h"
#include "storage/latch.h"
#include "storage/spin.h"

#define IE_WORKER_SLOTS	128

typedef enum IeWorkerState
{
	IE_WORKER_WANTED,			/* the launcher is to start it */
	IE_WORKER_STARTING,
	IE_WORKER_IDLE,
	IE_WORKER_BUSY,
	IE_WORKER_STOPPED			/* and the launcher leaves it so */
} IeWorkerState;

/* The worker of one database. */
typedef struct IeWorkerSlot
{
	Oid			database;		/* InvalidOid: the slot is free */
	IeWorkerState state;
	bool		stays;			/* even when there is nothing to serve */
	bool		stop;			/* somebody has asked it to end */
	bool		poked;			/* a projection may have been made */
	int			failures;		/* starts in a row that came to nothing */
	int			pid;			/* 0 unless it runs */
	Latch	   *latch;
	TimestampTz since;			/* it runs, starts, or is wanted from then on */
	TimestampTz active_at;
	int64		events;			/* that it has gone over */
} IeWorkerSlot;

/* In shared memory. */
typedef struct IeWorkers
{
	slock_t		mutex;
	bool		resident;		/* the library is preloaded */
	Latch	   *launcher;		/* NULL when there is none */
	int			running;		/* workers */
	IeWorkerSlot slots[IE_WORKER_SLOTS];
} IeWorkers;

/* What came of an attempt to have a database served. */
typedef enum IeReservation
{
	IE_RESERVED,				/* start a worker */
	IE_SERVED,					/* one runs, or is about to */
	IE_STOPPED,					/* it was stopped on purpose */
	IE_NO_SLOT
} IeReservation;

/* What a round of work has come to. */
typedef struct IeRound
{
	bool		gone;			/* the extension is */
	bool		nothing;		/* no asynchronous projection */
	bool		progress;		/* so go on at once */
	bool		left;			/* something waits for somebody else */
	TimestampTz due;			/* when to try again what has failed */
} IeRound;

/* wake.c: memory shared with the workers */

extern IeWorkers *ie_workers(void);
extern Size ie_workers_size(void);

/* worker_slot.c: which databases have a worker, and in which state */

extern IeWorkerSlot *ie_slot_of(Oid database);
extern IeReservation ie_reserve_slot(Oid database, bool by_launcher);
extern bool ie_want_worker(Oid database);
extern void ie_want_again(Oid database, int milliseconds);
extern void ie_free_slot(Oid database);
extern IeWorkerSlot *ie_take_slot(Oid database);
extern bool ie_leave_slot(IeWorkerSlot *slot);
extern void ie_worker_ended(Oid database, IeWorkerSlot *slot,
							int milliseconds);
extern Oid	ie_next_wanted(TimestampTz now, TimestampTz *due);
extern bool ie_become_launcher(bool resident);
extern bool ie_resign_launcher(bool force);

/* worker_serve.c: a round of work over the projections of a database */

extern void ie_serve_round(IeRound *round, IeWorkerSlot *slot);

/* worker.c: the process that serves a database; launcher.c: starts them */

extern int	ie_naptime;
extern bool ie_is_database_wanted(Oid database);
extern bool ie_register_worker(Oid database,
							   BackgroundWorkerHandle **handle);
extern void ie_install_launcher(void);
extern void ie_register_launcher(void);
extern PGDLLEXPORT void ie_worker_main(Datum database);
extern PGDLLEXPORT void ie_launcher_main(Datum resident);

#endif							/* IMMUTABLE_EVENTS_WORKER_H */
