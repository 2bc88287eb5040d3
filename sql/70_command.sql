-- Commands: decide what follows from the state, and append it.

CREATE TABLE immutable.command_tables (
	log regclass PRIMARY KEY,
	relation regclass NOT NULL
);
SELECT pg_catalog.pg_extension_config_dump('immutable.command_tables', '');
COMMENT ON TABLE immutable.command_tables IS
'logs whose commands are recorded, and the tables they are recorded in';
GRANT SELECT ON immutable.command_tables TO PUBLIC;

CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON immutable.command_tables
FOR EACH STATEMENT EXECUTE FUNCTION immutable._registry_changed();
CREATE TRIGGER truncated AFTER TRUNCATE ON immutable.command_tables
FOR EACH STATEMENT EXECUTE FUNCTION immutable._registry_changed();
ALTER TABLE immutable.command_tables ENABLE ALWAYS TRIGGER changed;
ALTER TABLE immutable.command_tables ENABLE ALWAYS TRIGGER truncated;

CREATE FUNCTION immutable.enable_commands(log regclass) RETURNS regclass
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_enable_commands';
COMMENT ON FUNCTION immutable.enable_commands(regclass) IS
'create <log>_commands, a protected table of the log''s owner in which handle records commands by their ids; answers with it (22004, 25006, 42501, 42622, 42809, 42P07)';

CREATE FUNCTION immutable.handle(
	log regclass, stream text, command jsonb, initial anyelement,
	decide regproc, evolve regproc, command_id uuid DEFAULT NULL)
RETURNS immutable.appended
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_handle';
COMMENT ON FUNCTION immutable.handle(regclass, text, jsonb, anyelement, regproc, regproc, uuid) IS
'replay a stream with evolve(state, event), append what decide(state, command) returns, an array of immutable.new_event; NULL or empty: nothing is written; a repeated command_id answers as the first time, without deciding; needs INSERT and SELECT on the log and, with a command_id, on <log>_commands (22004, 22023, 23505, 25006, 27000, 40001, 42501, 42804, 42809, 42883, 55000, and what decide raises)';
