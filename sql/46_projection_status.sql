-- How projections stand, and what to do when one does not go on.

CREATE FUNCTION immutable._projection_is_stale(target regclass) RETURNS boolean
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_projection_is_stale';
COMMENT ON FUNCTION immutable._projection_is_stale(regclass) IS
'is the reducer of a projection another one than its rows were folded with?';

CREATE FUNCTION immutable._projection_has_reached(target regclass, upto_position bigint) RETURNS boolean
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_projection_has_reached';
COMMENT ON FUNCTION immutable._projection_has_reached(regclass, bigint) IS
'has a projection come to a position? raises 55000 when it is halted before';

CREATE FUNCTION immutable.wait_for(
	target regclass, upto_position bigint, timeout interval DEFAULT '5s')
RETURNS boolean
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_wait_for';
COMMENT ON FUNCTION immutable.wait_for(regclass, bigint, interval) IS
'wait until the next statement sees a read model with the events up to a position; false when that takes longer than timeout; an inline one has them at once; under REPEATABLE READ the answer is about the transaction''s snapshot, at once (22004, 22023, 42501, 42809)';

CREATE FUNCTION immutable.skip_event(target regclass, at_position bigint, reason text) RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_skip_event';
COMMENT ON FUNCTION immutable.skip_event(regclass, bigint, text) IS
'let an asynchronous projection pass over an event that it has still to fold; who and why is kept in immutable.skipped_events (22004, 22023, 25006, 42501, 42809)';

-- A procedure that commits cannot have settings, so every name is written out.
CREATE PROCEDURE immutable.catch_up(target regclass)
LANGUAGE plpgsql
AS $$
DECLARE
	upto bigint := (SELECT s.safe_position FROM immutable.projection_status s
		WHERE s.target OPERATOR(pg_catalog.=) catch_up.target);
	done bigint;
BEGIN
	LOOP
		done := immutable.refresh(catch_up.target);
		COMMIT; -- what has halted it, too
		EXIT WHEN COALESCE(immutable._projection_has_reached(catch_up.target, upto),
			done OPERATOR(pg_catalog.=) 0);
		IF done OPERATOR(pg_catalog.=) 0 THEN
			PERFORM pg_catalog.pg_sleep(0.01); -- somebody else is at it
		END IF;
	END LOOP;
END
$$;
COMMENT ON PROCEDURE immutable.catch_up(regclass) IS
'refresh, in batches that commit, up to the safe position at the call (22004, 2D000 in a transaction block, 42501, 42809, 55000 when the projection is halted)';

CREATE VIEW immutable.projection_status AS
SELECT p.target, p.log, p.mode,
	CASE WHEN r.is_denied THEN 'denied'
		WHEN p.mode = 'async' AND s.error IS NOT NULL THEN 'halted'
		WHEN immutable._projection_is_stale(p.target) THEN 'stale'
		WHEN p.mode = 'async' AND m.safe_position > s.position THEN 'behind'
		WHEN p.mode = 'inline' OR m.safe_position IS NOT NULL THEN 'current'
	END AS state,
	CASE WHEN p.mode = 'inline' THEN m.safe_position ELSE s.position END AS position,
	m.safe_position,
	CASE WHEN p.mode = 'async' AND m.safe_position > s.position THEN m.safe_position - s.position
		WHEN m.safe_position IS NOT NULL THEN 0 END AS lag_events,
	CASE WHEN p.mode = 'async' AND m.safe_position > s.position
		THEN EXTRACT(epoch FROM immutable._oldest_wait(p.log, s.position, m.safe_position))::double precision
		WHEN m.safe_position IS NOT NULL THEN 0 END AS lag_seconds,
	s.refreshed_at,
	CASE WHEN r.is_denied THEN pg_catalog.format('role %I may not read log %s', pg_catalog.pg_get_userbyid(c.relowner), p.log)
		ELSE s.error END AS error,
	CASE WHEN r.is_denied THEN '42501' ELSE s.error_sqlstate END AS error_sqlstate,
	s.error_position, s.error_event,
	immutable._worker_pid() AS worker
FROM immutable.projections p
	JOIN immutable.projection_positions s ON s.target = p.target
	JOIN pg_catalog.pg_class c ON c.oid = p.target
	CROSS JOIN LATERAL (SELECT immutable._safe_position(p.log) AS safe_position) m
	CROSS JOIN LATERAL (SELECT p.mode = 'async'
		AND NOT pg_catalog.has_table_privilege(c.relowner, p.log::oid, 'SELECT') AS is_denied) r
WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE');
COMMENT ON VIEW immutable.projection_status IS
'the caller''s projections: state is current, behind (events are readable that it has not folded), halted (the event at error_position fails), denied (its owner may not read the log; it goes on when he may again), or stale (the reducer has changed since the rows were folded; rebuild them); lag_events counts positions, of all streams and types; lag_seconds is the age of the oldest';
GRANT SELECT ON immutable.projection_status TO PUBLIC;
