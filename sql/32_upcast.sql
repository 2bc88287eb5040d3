-- Upcasters: events of an old shape, handed out in the newest one.

CREATE TABLE immutable.upcasters (
	log regclass,
	type text COLLATE "C",
	schema_version integer,
	upcaster text NOT NULL,
	PRIMARY KEY (log, type, schema_version)
);
SELECT pg_catalog.pg_extension_config_dump('immutable.upcasters', '');
COMMENT ON TABLE immutable.upcasters IS
'registry of upcasters: functions that take the events of a log to the next schema_version';
COMMENT ON COLUMN immutable.upcasters.schema_version IS
'of the events that it takes';
COMMENT ON COLUMN immutable.upcasters.upcaster IS
'the function, with its schema and argument';
GRANT SELECT ON immutable.upcasters TO PUBLIC;

CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON immutable.upcasters
	FOR EACH STATEMENT EXECUTE FUNCTION immutable._registry_changed();
CREATE TRIGGER truncated AFTER TRUNCATE ON immutable.upcasters
	FOR EACH STATEMENT EXECUTE FUNCTION immutable._registry_changed();
ALTER TABLE immutable.upcasters ENABLE ALWAYS TRIGGER changed;
ALTER TABLE immutable.upcasters ENABLE ALWAYS TRIGGER truncated;

CREATE FUNCTION immutable.add_upcaster(
	log regclass, type text, schema_version integer, upcaster regproc)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_add_upcaster';
COMMENT ON FUNCTION immutable.add_upcaster(regclass, text, integer, regproc) IS
'let upcaster(immutable.event) RETURNS immutable.event take events of a type from a schema_version to the next, wherever they are handed out or folded; the caller owns the log (22004, 22023, 25006, 42501, 42710, 42804, 42809, 42883)';

CREATE FUNCTION immutable.drop_upcaster(
	log regclass, type text, schema_version integer)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_drop_upcaster';
COMMENT ON FUNCTION immutable.drop_upcaster(regclass, text, integer) IS
'drop the first or the last upcaster of a type; the caller owns the log (22004, 22023, 25006, 40001, 42501, 42704, 42809)';

CREATE FUNCTION immutable.upcast(log regclass, event immutable.event)
RETURNS immutable.event
LANGUAGE C STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'ie_upcast';
COMMENT ON FUNCTION immutable.upcast(regclass, immutable.event) IS
'an event as the log''s readers would be handed it; NULL for NULL (22004, 22023, 42501, 42804, 42809, 42883)';
