/*
 * attempt.c: do something that may fail, and go on.
 */
#include "projection.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

static bool is_passing(const ErrorData *error);

/*
 * Call a function in a subtransaction. Answers the error that it raised, or
 * NULL; one that has nothing to do with what it did is raised again.
 */
ErrorData *
ie_attempt(IeAttempt function, void *state)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		function(state);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	if (error != NULL && is_passing(error))
		ReThrowError(error);
	return error;
}

/*
 * Is an error about the server's condition, and not about what was done? A file
 * that may not grow is one that errcode_for_file_access knows no SQLSTATE for.
 */
static bool
is_passing(const ErrorData *error)
{
	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case MAKE_SQLSTATE('4', '0', '0', '0', '0'):	/* race, deadlock */
		case MAKE_SQLSTATE('5', '3', '0', '0', '0'):	/* resources */
		case MAKE_SQLSTATE('5', '7', '0', '0', '0'):	/* intervention */
		case MAKE_SQLSTATE('5', '8', '0', '0', '0'):	/* system */
		case MAKE_SQLSTATE('2', '5', '0', '0', '0'):	/* transaction state */
			return true;
		default:
			if (error->sqlerrcode == ERRCODE_INTERNAL_ERROR)
				return error->saved_errno == EFBIG ||
					error->saved_errno == EDQUOT;
			return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
				error->sqlerrcode == ERRCODE_OBJECT_IN_USE;
	}
}
