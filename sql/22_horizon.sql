-- Horizon: up to which position a log may be read without missing an event.

CREATE TABLE immutable.safe_positions (
	log regclass PRIMARY KEY,
	position bigint NOT NULL,
	persisted_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
SELECT pg_catalog.pg_extension_config_dump('immutable.safe_positions', '');
COMMENT ON TABLE immutable.safe_positions IS
'safe positions of logs and version tables that immutable.persist_safe_position has recorded, for standbys and to begin reading from';
COMMENT ON COLUMN immutable.safe_positions.position IS
'every event up to here is decided: visible, or never to be';
GRANT SELECT ON immutable.safe_positions TO PUBLIC;

CREATE FUNCTION immutable.safe_position(log regclass) RETURNS bigint
LANGUAGE C STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_safe_position';
COMMENT ON FUNCTION immutable.safe_position(regclass) IS
'the position up to which a query''s snapshot shows every event of a log, or every version of a version table that has an index on row_position; later events may still be undecided (22004, 42501, 42809, 55000)';

CREATE FUNCTION immutable.persist_safe_position(log regclass) RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_persist_safe_position';
COMMENT ON FUNCTION immutable.persist_safe_position(regclass) IS
'record the safe position of a log or version table in immutable.safe_positions, for standbys; never waits for another that does so (22004, 25006, 42501, 42809, 55000)';

CREATE FUNCTION immutable._last_position(log regclass) RETURNS bigint
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_last_position_of';
COMMENT ON FUNCTION immutable._last_position(regclass) IS
'the last position that a log''s sequence has given; NULL when it has none';

CREATE FUNCTION immutable.read_log(
	log regclass, after_position bigint DEFAULT 0, max_events bigint DEFAULT NULL,
	types text[] DEFAULT NULL, stream_prefix text DEFAULT NULL,
	upto_position bigint DEFAULT NULL)
RETURNS SETOF immutable.event
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000
AS 'MODULE_PATHNAME', 'ie_read_log';
COMMENT ON FUNCTION immutable.read_log(regclass, bigint, bigint, text[], text, bigint) IS
'events of a log in order of position, after one and up to the safe one; a reader that goes on after the last event it got misses none; types, stream_prefix, upto_position and max_events NULL: no limit (22004, 22023, 42501, 42809, 55000)';

CREATE FUNCTION immutable._sequence_of(log regclass) RETURNS regclass
LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
	SELECT d.objid::regclass
	FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
	WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
		AND d.refobjid = _sequence_of.log AND d.refobjsubid = 1 AND d.deptype = 'a';
END;
COMMENT ON FUNCTION immutable._sequence_of(regclass) IS
'the sequence that a log''s positions come from';

CREATE FUNCTION immutable.horizon(log regclass)
RETURNS TABLE (last_position bigint, safe_position bigint, holder_pid integer,
	holder_gid text, holder_since timestamptz, holder_query text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
	WITH mark AS MATERIALIZED (
		SELECT immutable._last_position(horizon.log) AS last_position,
			immutable.safe_position(horizon.log) AS safe_position
	), held AS MATERIALIZED (
		SELECT DISTINCT l.pid, l.virtualtransaction
		FROM pg_locks l
		WHERE l.locktype = 'relation' AND l.granted
			AND l.relation = immutable._sequence_of(horizon.log)
			AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
			AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')
	)
	SELECT m.last_position, m.safe_position, h.pid, p.gid,
		coalesce(a.xact_start, p.prepared), a.query
	FROM mark m LEFT JOIN (
			held h LEFT JOIN pg_stat_activity a ON a.pid = h.pid
			LEFT JOIN pg_locks x ON h.pid IS NULL AND x.pid IS NULL
				AND x.locktype = 'transactionid' AND x.virtualtransaction = h.virtualtransaction
			LEFT JOIN pg_prepared_xacts p ON p.transaction = x.transactionid
		) ON true
	ORDER BY coalesce(a.xact_start, p.prepared);
END;
COMMENT ON FUNCTION immutable.horizon(regclass) IS
'how far a log was drawn and may be read, and one row for each transaction that may hold the safe position back, the caller''s own included; the holder''s columns are NULL when there is none (22004, 42501, 42809, 55000)';

CREATE FUNCTION immutable._safe_position(log regclass) RETURNS bigint
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_safe_position_of';
COMMENT ON FUNCTION immutable._safe_position(regclass) IS
'the safe position for a view: NULL where it is not known or not the caller''s to know';

CREATE FUNCTION immutable._oldest_wait(log regclass, after_position bigint, upto_position bigint)
RETURNS interval
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	since timestamptz;
BEGIN
	PERFORM FROM pg_class WHERE oid = log;
	IF NOT FOUND THEN
		RETURN NULL;
	END IF;
	EXECUTE format('SELECT recorded_at FROM %s WHERE position > $1 AND position <= $2 ORDER BY position LIMIT 1', log)
		INTO since USING after_position, upto_position;
	RETURN CASE WHEN since IS NOT NULL THEN greatest(clock_timestamp() - since, interval '0') END;
END
$$;
COMMENT ON FUNCTION immutable._oldest_wait(regclass, bigint, bigint) IS
'how long the first event between two positions has been there; NULL when there is none';

CREATE VIEW immutable.logs AS
SELECT c.oid::pg_catalog.regclass AS relation,
	s.events,
	immutable._last_position(c.oid) AS last_position,
	immutable._safe_position(c.oid) AS safe_position,
	s.size,
	immutable._guard_problem(c.oid) IS NULL AS armed
FROM pg_catalog.pg_class c CROSS JOIN LATERAL (
	SELECT pg_catalog.sum(greatest(l.reltuples, 0)) FILTER (WHERE l.relkind = 'r')::bigint AS events,
		pg_catalog.sum(pg_catalog.pg_total_relation_size(l.oid))::bigint AS size
	FROM pg_catalog.pg_class l
	WHERE l.oid = c.oid
		OR l.oid IN (SELECT t.relid FROM pg_catalog.pg_partition_tree(c.oid) t)) s
WHERE c.reloftype = 'immutable.event'::pg_catalog.regtype AND NOT c.relispartition;
COMMENT ON VIEW immutable.logs IS
'all logs: events as estimated by ANALYZE, last and safe position (NULL where the caller may not read the log), size in bytes with indexes, whether its guards are in place';
GRANT SELECT ON immutable.logs TO PUBLIC;

CREATE FUNCTION immutable.sync_position(log regclass) RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_sync_position';
COMMENT ON FUNCTION immutable.sync_position(regclass) IS
'move the sequence of a log up to its highest position, as after logical replication; waits for those who append; answers the last position; the owner may (22004, 25006, 42501, 42809, 55000)';

CREATE FUNCTION immutable.check_log(log regclass)
RETURNS TABLE (stream text, at_position bigint, problem text)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
BEGIN
	IF check_log.log IS NULL THEN
		RAISE null_value_not_allowed USING MESSAGE = 'log must not be NULL';
	END IF;
	IF (SELECT count(*) FROM pg_class c WHERE c.oid = check_log.log) = 0 THEN
		RAISE undefined_table USING MESSAGE = format('relation with OID %s does not exist', check_log.log::oid);
	END IF;
	IF (SELECT c.reloftype FROM pg_class c WHERE c.oid = check_log.log)
		IS DISTINCT FROM 'immutable.event'::regtype THEN
		RAISE wrong_object_type USING
			MESSAGE = format('"%s" is not a log', check_log.log),
			HINT = 'immutable.logs shows those that are.';
	END IF;
	RETURN QUERY EXECUTE format(
		'WITH events AS (
			SELECT e.stream, e.position, e.version, e.recorded_at,
				lag(e.version) OVER by_version AS version_before,
				lag(e.position) OVER by_version AS position_before,
				lag(e.recorded_at) OVER by_version AS recorded_before,
				lag(e.position) OVER (ORDER BY e.position) AS position_below
			FROM %s e
			WINDOW by_version AS (PARTITION BY e.stream ORDER BY e.version)
		)
		SELECT e.stream, e.position, p.problem
		FROM events e CROSS JOIN LATERAL (VALUES
			(e.version <> coalesce(e.version_before, 0) + 1,
				format(''version %%s follows version %%s'', e.version, coalesce(e.version_before, 0))),
			(e.position <= e.position_before,
				format(''version %%s stands before version %%s, at position %%s'', e.version, e.version_before, e.position_before)),
			(e.recorded_at < e.recorded_before,
				format(''version %%s was recorded before version %%s'', e.version, e.version_before)),
			(e.position = e.position_below, ''another event has this position''),
			(e.position > $1, format(''the sequence is at %%s only'', $1))
		) p(found, problem)
		WHERE p.found
		ORDER BY e.position', check_log.log)
	USING coalesce(immutable._last_position(check_log.log), 0);
END
$$;
COMMENT ON FUNCTION immutable.check_log(regclass) IS
'faults of a log: gaps between versions, positions or times out of order, positions that stand twice or above the sequence; no row when all is well (22004, 42501, 42809)';
