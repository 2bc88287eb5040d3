/*
 * execute.c: run a command as the caller, as if he had typed it.
 *
 * Its names must be qualified and quoted: the caller's search_path is in
 * force, and so are his rights and everybody's event triggers.
 */
#include "immutable_events.h"

/* Run one command that returns nothing. */
void
ie_execute(const char *command)
{
	int			result;

	SPI_connect();
	result = SPI_execute(command, false, 0);
	if (result < 0)
		elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(result));
	SPI_finish();
}
