-- Versioned rows: every version of every row of an ordinary table.

CREATE TABLE immutable.versioned_tables (
	relation regclass PRIMARY KEY,
	versions regclass NOT NULL UNIQUE,
	began_at timestamptz NOT NULL,
	complete boolean NOT NULL
);
SELECT pg_catalog.pg_extension_config_dump('immutable.versioned_tables', '');
COMMENT ON TABLE immutable.versioned_tables IS
'registry: tables whose rows are versioned';
COMMENT ON COLUMN immutable.versioned_tables.versions IS
'the protected table that holds every version of every row';
COMMENT ON COLUMN immutable.versioned_tables.began_at IS
'how rows were before this time is not known';
COMMENT ON COLUMN immutable.versioned_tables.complete IS
'false: immutable.backfill_versions has not recorded all rows that were there before';
GRANT SELECT ON immutable.versioned_tables TO PUBLIC;
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON immutable.versioned_tables
	FOR EACH STATEMENT EXECUTE FUNCTION immutable._registry_changed();
CREATE TRIGGER truncated AFTER TRUNCATE ON immutable.versioned_tables
	FOR EACH STATEMENT EXECUTE FUNCTION immutable._registry_changed();
ALTER TABLE immutable.versioned_tables ENABLE ALWAYS TRIGGER changed;
ALTER TABLE immutable.versioned_tables ENABLE ALWAYS TRIGGER truncated;

CREATE FUNCTION immutable._version() RETURNS trigger
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_version';
COMMENT ON FUNCTION immutable._version() IS
'row trigger of versioned tables: writes what a change has made of a row (55000)';

CREATE FUNCTION immutable._version_truncate() RETURNS trigger
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_version_truncate';
COMMENT ON FUNCTION immutable._version_truncate() IS
'trigger of versioned tables: refuses TRUNCATE with SQLSTATE 23001';

CREATE FUNCTION immutable._known_at(versions regclass, at_time timestamptz) RETURNS boolean
LANGUAGE C STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ie_known_at';
COMMENT ON FUNCTION immutable._known_at(regclass, timestamptz) IS
'true where a version table knows how rows were at a time; else an error (22004, 42809, 55000)';

CREATE FUNCTION immutable._known_between(versions regclass, from_time timestamptz, to_time timestamptz)
RETURNS boolean
LANGUAGE C STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ie_known_between';
COMMENT ON FUNCTION immutable._known_between(regclass, timestamptz, timestamptz) IS
'the same of a period; one from -infinity begins with what is known (22004, 42809, 55000)';

CREATE FUNCTION immutable.add_versioning(target regclass, backfill text DEFAULT 'now') RETURNS regclass
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_add_versioning';
COMMENT ON FUNCTION immutable.add_versioning(regclass, text) IS
'keep every version of every row of a table in the protected table <table>_versions; backfill: now copies the rows under a lock, lazy leaves them to immutable.backfill_versions; the owner may (22004, 22023, 25006, 42501, 42622, 42809, 42P07, 55000)';

CREATE FUNCTION immutable.drop_versioning(target regclass) RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_drop_versioning';
COMMENT ON FUNCTION immutable.drop_versioning(regclass) IS
'stop versioning a table; its version table stays, protected (22004, 42501, 42809)';
