-- Event triggers: DDL that would get around the guards. They come last, when
-- the script has made everything that they would refuse to touch.

CREATE FUNCTION immutable._guard_ddl_start() RETURNS event_trigger
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_guard_ddl_start';
COMMENT ON FUNCTION immutable._guard_ddl_start() IS
'refuses, with SQLSTATE 23001, a command that would harm an immutable table';

CREATE FUNCTION immutable._guard_ddl_end() RETURNS event_trigger
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_guard_ddl_end';
COMMENT ON FUNCTION immutable._guard_ddl_end() IS
'guards new partitions of an immutable table, and checks again what a command has worked on';

CREATE FUNCTION immutable._guard_rewrite() RETURNS event_trigger
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_guard_rewrite';
COMMENT ON FUNCTION immutable._guard_rewrite() IS
'refuses, with SQLSTATE 23001, to rewrite the rows of an immutable table';

REVOKE EXECUTE ON FUNCTION immutable._guard_ddl_start() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION immutable._guard_ddl_end() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION immutable._guard_rewrite() FROM PUBLIC;

CREATE EVENT TRIGGER immutable_guard_ddl_end ON ddl_command_end
	EXECUTE FUNCTION immutable._guard_ddl_end();
CREATE EVENT TRIGGER immutable_guard_rewrite ON table_rewrite
	EXECUTE FUNCTION immutable._guard_rewrite();
CREATE EVENT TRIGGER immutable_guard_ddl_start ON ddl_command_start
	EXECUTE FUNCTION immutable._guard_ddl_start();
ALTER EVENT TRIGGER immutable_guard_ddl_end ENABLE ALWAYS;
ALTER EVENT TRIGGER immutable_guard_rewrite ENABLE ALWAYS;
ALTER EVENT TRIGGER immutable_guard_ddl_start ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER immutable_guard_ddl_start IS
'immutable_events: refuses DDL that would harm an immutable table';
COMMENT ON EVENT TRIGGER immutable_guard_ddl_end IS
'immutable_events: guards new partitions of an immutable table';
COMMENT ON EVENT TRIGGER immutable_guard_rewrite IS
'immutable_events: refuses to rewrite an immutable table';
