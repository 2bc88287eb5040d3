-- Log: streams of events, appended to and never changed.

CREATE TYPE immutable.event AS (
	position bigint,
	recorded_at timestamptz,
	version bigint,
	id uuid,
	schema_version integer,
	stream text COLLATE "C",
	type text COLLATE "C",
	data jsonb,
	metadata jsonb
);
COMMENT ON TYPE immutable.event IS
'an event as a log records it; a log is a table OF this type';
COMMENT ON COLUMN immutable.event.position IS
'total order of the log: unique, increasing, may have gaps';
COMMENT ON COLUMN immutable.event.recorded_at IS
'clock at the append; never before the stream''s previous event';
COMMENT ON COLUMN immutable.event.version IS
'order in the stream: 1, 2, 3 ... without a gap';
COMMENT ON COLUMN immutable.event.id IS
'UUID version 7 unless the caller gave one';
COMMENT ON COLUMN immutable.event.schema_version IS
'version of the shape of data, from 1';
COMMENT ON COLUMN immutable.event.stream IS
'what the event is about, up to 1024 bytes';
COMMENT ON COLUMN immutable.event.type IS
'what happened; names that begin with $ are reserved';
COMMENT ON COLUMN immutable.event.data IS
'the event itself, a JSON object';
COMMENT ON COLUMN immutable.event.metadata IS
'who and why: immutable.context and what the caller gave, a JSON object';

CREATE TYPE immutable.new_event AS (
	type text,
	data jsonb,
	metadata jsonb,
	id uuid,
	schema_version integer
);
COMMENT ON TYPE immutable.new_event IS
'an event that is to be appended; only type must be given';
COMMENT ON COLUMN immutable.new_event.type IS
'what happened';
COMMENT ON COLUMN immutable.new_event.data IS
'the event itself, a JSON object; NULL is {}';
COMMENT ON COLUMN immutable.new_event.metadata IS
'merged over immutable.context, a JSON object or NULL';
COMMENT ON COLUMN immutable.new_event.id IS
'recognises a retry; NULL is a new UUID version 7';
COMMENT ON COLUMN immutable.new_event.schema_version IS
'version of the shape of data; NULL is 1';

CREATE TYPE immutable.appended AS (
	version bigint,
	position bigint,
	written integer
);
COMMENT ON COLUMN immutable.appended.version IS
'version of the event in its stream';
COMMENT ON COLUMN immutable.appended.position IS
'position of the event in its log';
COMMENT ON COLUMN immutable.appended.written IS
'events written: 0 for a retry';
COMMENT ON TYPE immutable.appended IS
'version and position of the last event; written = 0 says that a retry wrote nothing new';

CREATE FUNCTION immutable._log_names(
	name text, partitions integer, unique_ids boolean,
	OUT schema name, OUT log name, OUT sequence name, OUT leaves name[])
LANGUAGE C STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_log_names';
COMMENT ON FUNCTION immutable._log_names(text, integer, boolean) IS
'the names of a new log, resolved as CREATE TABLE would for the caller';

CREATE FUNCTION immutable._create_log(
	schema name, log name, sequence name, leaves name[], unique_ids boolean)
RETURNS regclass
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	partitioned CONSTANT boolean := cardinality(leaves) > 0;
	log_name CONSTANT text := format('%I.%I', schema, log);
	sequence_name CONSTANT text := format('%I.%I', schema, sequence);
	leaf name;
	remainder integer := 0;
BEGIN
	IF unique_ids IS NULL THEN
		RAISE null_value_not_allowed USING MESSAGE = 'unique_ids must not be NULL';
	END IF;
	EXECUTE format('CREATE SEQUENCE %s AS bigint CACHE 1', sequence_name);
	EXECUTE format(
		'CREATE TABLE %s OF immutable.event (
			position WITH OPTIONS NOT NULL DEFAULT nextval(%L::regclass),
			recorded_at WITH OPTIONS NOT NULL,
			version WITH OPTIONS NOT NULL,
			id WITH OPTIONS NOT NULL,
			schema_version WITH OPTIONS NOT NULL,
			stream WITH OPTIONS NOT NULL,
			type WITH OPTIONS NOT NULL,
			data WITH OPTIONS NOT NULL,
			metadata WITH OPTIONS NOT NULL,
			%s%s) %s',
		log_name, sequence_name,
		CASE WHEN partitioned THEN 'PRIMARY KEY (stream, version)'
			ELSE 'PRIMARY KEY (position), UNIQUE (stream, version)' END,
		CASE WHEN NOT unique_ids THEN ''
			WHEN partitioned THEN ', UNIQUE (stream, id)'
			ELSE ', UNIQUE (id)' END,
		CASE WHEN partitioned THEN 'PARTITION BY HASH (stream)' ELSE '' END);
	EXECUTE format('ALTER SEQUENCE %s OWNED BY %s.position', sequence_name, log_name);
	FOREACH leaf IN ARRAY leaves LOOP
		EXECUTE format('CREATE TABLE %I.%I PARTITION OF %s FOR VALUES WITH (MODULUS %s, REMAINDER %s)',
			schema, leaf, log_name, cardinality(leaves), remainder);
		remainder := remainder + 1;
	END LOOP;
	IF partitioned THEN
		EXECUTE format('CREATE INDEX ON %s (position)', log_name);
	END IF;
	PERFORM immutable.protect(log_name::regclass);
	RETURN log_name::regclass;
END
$$;
COMMENT ON FUNCTION immutable._create_log(name, name, name, name[], boolean) IS
'create a log under names that immutable._log_names has chosen';

CREATE FUNCTION immutable.create_log(
	name text, partitions integer DEFAULT 0, unique_ids boolean DEFAULT true)
RETURNS regclass
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
	SELECT immutable._create_log(n.schema, n.log, n.sequence, n.leaves, create_log.unique_ids)
	FROM immutable._log_names(create_log.name, create_log.partitions, create_log.unique_ids) n;
END;
COMMENT ON FUNCTION immutable.create_log(text, integer, boolean) IS
'create a log, a protected table OF immutable.event that the caller owns; partitions: 0 for a plain table, up to 1024 hash partitions by stream (22004, 22023, 3F000, 42501, 42602, 42P07)';

CREATE FUNCTION immutable.drop_log(log regclass, force boolean DEFAULT false) RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_drop_log';
COMMENT ON FUNCTION immutable.drop_log(regclass, boolean) IS
'drop a log; force when it holds events (22004, 23001, 42501, 42809)';

CREATE FUNCTION immutable.append(
	log regclass, stream text, type text, data jsonb DEFAULT '{}',
	metadata jsonb DEFAULT NULL, expected_version bigint DEFAULT NULL,
	id uuid DEFAULT NULL, schema_version integer DEFAULT 1)
RETURNS immutable.appended
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_append';
COMMENT ON FUNCTION immutable.append(regclass, text, text, jsonb, jsonb, bigint, uuid, integer) IS
'append one event to a stream; expected_version: NULL any, 0 a new stream, n exactly n, -4 an existing stream; a repeated id answers as the first time (22004, 22023, 23505, 25006, 27000, 40001, 42501, 42809, 55000)';

CREATE FUNCTION immutable.append_batch(
	log regclass, stream text, events immutable.new_event[], expected_version bigint DEFAULT NULL)
RETURNS immutable.appended
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_append_batch';
COMMENT ON FUNCTION immutable.append_batch(regclass, text, immutable.new_event[], bigint) IS
'append events to one stream, all or none; answers with the last one; arguments and retries as for append (22004, 22023, 23505, 25006, 27000, 40001, 42501, 42809, 55000)';

CREATE FUNCTION immutable.append_json(
	log regclass, stream text, events jsonb, expected_version bigint DEFAULT NULL)
RETURNS immutable.appended
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_append_json';
COMMENT ON FUNCTION immutable.append_json(regclass, text, jsonb, bigint) IS
'append_batch of a JSON array of objects with the keys type, data, metadata, id, schema_version (22004, 22023, 22P02, 23505, 25006, 27000, 40001, 42501, 42809, 55000)';

CREATE FUNCTION immutable.stream_version(log regclass, stream text) RETURNS bigint
LANGUAGE C STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ie_stream_version';
COMMENT ON FUNCTION immutable.stream_version(regclass, text) IS
'version of the newest event of a stream, 0 when there is none (22004, 42501, 42809, 55000)';

CREATE FUNCTION immutable.read_stream(
	log regclass, stream text, from_version bigint DEFAULT NULL,
	max_events bigint DEFAULT NULL, backward boolean DEFAULT false)
RETURNS SETOF immutable.event
LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 100
AS 'MODULE_PATHNAME', 'ie_read_stream';
COMMENT ON FUNCTION immutable.read_stream(regclass, text, bigint, bigint, boolean) IS
'events of a stream in order of version, or backward; from_version NULL: the first, or the last when backward; max_events NULL: all (22004, 22023, 42501, 42809, 55000)';

CREATE VIEW immutable.protected_tables AS
SELECT c.oid::pg_catalog.regclass AS relation,
	immutable._guard_problem(c.oid) IS NULL AS armed,
	immutable._guard_problem(c.oid) AS problem
FROM pg_catalog.pg_class c
WHERE c.relkind IN ('r', 'p', 'f')
	AND (c.reloftype = 'immutable.event'::pg_catalog.regtype
		OR EXISTS (SELECT FROM pg_catalog.pg_trigger t
			WHERE t.tgfoid = 'immutable._guard()'::pg_catalog.regprocedure
				AND (t.tgrelid = c.oid
					OR t.tgrelid IN (SELECT a.relid FROM pg_catalog.pg_partition_ancestors(c.oid) a)
					OR t.tgrelid IN (SELECT i.inhparent FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid))));
COMMENT ON VIEW immutable.protected_tables IS
'tables with guards, what is below them, and all logs; armed is false and problem says why when a guard is missing, replaced or not ENABLE ALWAYS';
GRANT SELECT ON immutable.protected_tables TO PUBLIC;
