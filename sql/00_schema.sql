\echo Use "CREATE EXTENSION immutable_events" to load this file. \quit

-- Fails when somebody planted a schema of this name beforehand.
CREATE SCHEMA immutable;
COMMENT ON SCHEMA immutable IS
'immutable_events: tables that keep history, an event store, and folds';
GRANT USAGE ON SCHEMA immutable TO PUBLIC;

CREATE FUNCTION immutable._registry_changed() RETURNS trigger
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_registry_changed';
COMMENT ON FUNCTION immutable._registry_changed() IS
'statement trigger on a registry that backends remember: tells them that it has changed';
