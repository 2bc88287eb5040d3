-- Projections: read models that events keep current.

CREATE TABLE immutable.projections (
	target regclass PRIMARY KEY,
	log regclass NOT NULL,
	reducer text NOT NULL,
	key text[] NOT NULL,
	types text[],
	stream_prefix text,
	mode text NOT NULL,
	commutative boolean NOT NULL,
	search_path text NOT NULL,
	fingerprint text,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE INDEX projections_log_idx ON immutable.projections (log);
SELECT pg_catalog.pg_extension_config_dump('immutable.projections', '');
COMMENT ON TABLE immutable.projections IS
'registry of projections; immutable.projection_status shows how they stand';
COMMENT ON COLUMN immutable.projections.search_path IS
'in force when the projection was made, and whenever it runs';
COMMENT ON COLUMN immutable.projections.fingerprint IS
'of the reducer that the rows were folded with';
GRANT SELECT ON immutable.projections TO PUBLIC;

CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON immutable.projections
FOR EACH STATEMENT EXECUTE FUNCTION immutable._registry_changed();
CREATE TRIGGER truncated AFTER TRUNCATE ON immutable.projections
FOR EACH STATEMENT EXECUTE FUNCTION immutable._registry_changed();
ALTER TABLE immutable.projections ENABLE ALWAYS TRIGGER changed;
ALTER TABLE immutable.projections ENABLE ALWAYS TRIGGER truncated;

CREATE TABLE immutable.projection_positions (
	target regclass PRIMARY KEY,
	log regclass NOT NULL,
	position bigint NOT NULL,
	refreshed_at timestamptz,
	error text,
	error_sqlstate text,
	error_position bigint,
	error_event uuid,
	failed_at timestamptz
);
CREATE INDEX projection_positions_log_idx ON immutable.projection_positions (log);
SELECT pg_catalog.pg_extension_config_dump('immutable.projection_positions', '');
COMMENT ON TABLE immutable.projection_positions IS
'how far each asynchronous projection has come, and what has halted it';

CREATE TABLE immutable.skipped_events (
	target regclass NOT NULL,
	position bigint NOT NULL,
	reason text NOT NULL,
	skipped_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	role name NOT NULL,
	session_role name NOT NULL
);
SELECT pg_catalog.pg_extension_config_dump('immutable.skipped_events', '');
COMMENT ON TABLE immutable.skipped_events IS
'protected: events that a projection passes over on purpose, who decided so, and why';
GRANT SELECT ON immutable.skipped_events TO PUBLIC;
CREATE TRIGGER immutable_guard_row
	BEFORE UPDATE OR DELETE ON immutable.skipped_events
	FOR EACH ROW EXECUTE FUNCTION immutable._guard();
CREATE TRIGGER immutable_guard_statement
	BEFORE UPDATE OR DELETE OR TRUNCATE ON immutable.skipped_events
	FOR EACH STATEMENT EXECUTE FUNCTION immutable._guard();
ALTER TABLE immutable.skipped_events ENABLE ALWAYS TRIGGER immutable_guard_row;
ALTER TABLE immutable.skipped_events ENABLE ALWAYS TRIGGER immutable_guard_statement;

CREATE FUNCTION immutable._project() RETURNS trigger
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_project_trigger';
COMMENT ON FUNCTION immutable._project() IS
'statement trigger on a log: folds what was appended into the read models of its inline projections';

CREATE FUNCTION immutable._guard_read_model() RETURNS trigger
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_read_model_guard';
COMMENT ON FUNCTION immutable._guard_read_model() IS
'trigger on a read model: refuses what does not come from its projection (23001)';

CREATE FUNCTION immutable.create_projection(
	target regclass, log regclass, reducer regproc, key text[] DEFAULT '{stream}',
	types text[] DEFAULT NULL, stream_prefix text DEFAULT NULL,
	mode text DEFAULT 'inline', commutative boolean DEFAULT false)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_create_projection';
COMMENT ON FUNCTION immutable.create_projection(regclass, regclass, regproc, text[], text[], text, text, boolean) IS
'make an empty table with a primary key the read model of a log: reducer(row, event) gives the new row, or NULL to delete it; key has an expression over the event''s columns for each primary key column; inline: in the transaction of the append, history is folded at once; async: by refresh or a worker (22004, 22023, 25006, 42501, 42601, 42703, 42710, 42804, 42809, 42883, 55000)';

CREATE FUNCTION immutable.drop_projection(target regclass) RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_drop_projection';
COMMENT ON FUNCTION immutable.drop_projection(regclass) IS
'make a read model an ordinary table again; its rows stay (22004, 25006, 42501, 42809)';

CREATE FUNCTION immutable.set_projection_mode(target regclass, mode text) RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_set_projection_mode';
COMMENT ON FUNCTION immutable.set_projection_mode(regclass, text) IS
'inline or async; waits for appends in progress, and loses no event (22004, 22023, 25006, 42501, 42809)';

CREATE FUNCTION immutable.refresh(target regclass, max_events bigint DEFAULT NULL) RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_refresh';
COMMENT ON FUNCTION immutable.refresh(regclass, bigint) IS
'fold the next events into an asynchronous read model, in the caller''s transaction; answers how many events; 0: there are none, or somebody else is at it; a failing event halts the projection before it, see projection_status (22004, 22023, 25006, 40001, 42501, 42809)';
