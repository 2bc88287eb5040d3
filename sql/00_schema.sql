\echo Use "CREATE EXTENSION immutable_events" to load this file. \quit

-- Fails when somebody planted a schema of this name beforehand.
CREATE SCHEMA immutable;
COMMENT ON SCHEMA immutable IS
'immutable_events: tables that keep history, an event store, and folds';
GRANT USAGE ON SCHEMA immutable TO PUBLIC;
