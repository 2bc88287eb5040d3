-- Snapshots: states that replay keeps, so that it folds only what came since.

CREATE TABLE immutable.snapshots (
	log regclass,
	reducer text,
	every integer NOT NULL,
	reducer_version integer NOT NULL,
	storage regclass NOT NULL,
	epoch uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
	PRIMARY KEY (log, reducer)
);
SELECT pg_catalog.pg_extension_config_dump('immutable.snapshots', '');
COMMENT ON TABLE immutable.snapshots IS
'registry of the reducers whose states are kept, for each log';
COMMENT ON COLUMN immutable.snapshots.reducer IS
'the qualified signature of the reducer';
COMMENT ON COLUMN immutable.snapshots.every IS
'events from one snapshot of a stream to the next';
COMMENT ON COLUMN immutable.snapshots.reducer_version IS
'the user''s word for what cannot be seen in the catalogs: snapshots of another version do not count';
COMMENT ON COLUMN immutable.snapshots.storage IS
'the table that has the snapshots of the log';
COMMENT ON COLUMN immutable.snapshots.epoch IS
'drawn anew when the log is unprotected: snapshots taken before do not count';
GRANT SELECT ON immutable.snapshots TO PUBLIC;

CREATE TRIGGER snapshots_changed AFTER INSERT OR UPDATE OR DELETE ON immutable.snapshots
	FOR EACH STATEMENT EXECUTE FUNCTION immutable._registry_changed();
CREATE TRIGGER snapshots_truncated AFTER TRUNCATE ON immutable.snapshots
	FOR EACH STATEMENT EXECUTE FUNCTION immutable._registry_changed();

CREATE FUNCTION immutable.enable_snapshots(
	log regclass, reducer regproc, every integer DEFAULT 100, reducer_version integer DEFAULT 1)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_enable_snapshots';
COMMENT ON FUNCTION immutable.enable_snapshots(regclass, regproc, integer, integer) IS
'let replay keep the state of a stream after every so many events, in <log>_snapshots; called again, change that; reducer_version: raise it when something changes that a function in another language than SQL calls (22004, 22023, 25006, 42501, 42622, 42804, 42809, 42883, 42P07, 55000)';

CREATE FUNCTION immutable.disable_snapshots(log regclass, reducer regproc) RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_disable_snapshots';
COMMENT ON FUNCTION immutable.disable_snapshots(regclass, regproc) IS
'keep no more states of a reducer; with the last reducer <log>_snapshots goes (22004, 25006, 42501, 42704, 42809)';
