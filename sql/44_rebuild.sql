-- Rebuild: a read model folded anew beside itself; verify: compared with its events.

CREATE PROCEDURE immutable.rebuild(target regclass, reducer regproc DEFAULT NULL, swap boolean DEFAULT false)
LANGUAGE C
AS 'MODULE_PATHNAME', 'ie_rebuild';
COMMENT ON PROCEDURE immutable.rebuild(regclass, regproc, boolean) IS
'fold the log anew, by another reducer if one is given, and change the rows that differ in one transaction; with swap, exchange the storage instead; readers and appenders go on meanwhile; immutable.rebuild_workers processes help where all that runs is PARALLEL SAFE (0A000, 22004, 22023, 25001, 25006, 42501, 42804, 42809, 42883, 55000, 55006)';

CREATE FUNCTION immutable.verify_projection(target regclass) RETURNS TABLE (key jsonb, problem text)
LANGUAGE C STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_verify_projection';
COMMENT ON FUNCTION immutable.verify_projection(regclass) IS
'rows of a read model that are not what its events say, up to where it stands: missing, too many, or which columns differ; no row when all is well (0A000, 22004, 42501, 42809)';

CREATE FUNCTION immutable._rebuild_progress(
	OUT target regclass, OUT phase text, OUT events_done bigint, OUT events_total bigint,
	OUT events_per_second double precision, OUT started_at timestamptz, OUT pid integer)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'ie_rebuild_progress';
COMMENT ON FUNCTION immutable._rebuild_progress() IS
'what backends that rebuild tell of it';

CREATE VIEW immutable.rebuild_progress AS
SELECT r.target, r.phase, r.events_done, r.events_total,
	pg_catalog.round(r.events_per_second::numeric) AS events_per_second, r.started_at, r.pid
FROM immutable._rebuild_progress() r
	JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) r.target
WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE');
COMMENT ON VIEW immutable.rebuild_progress IS
'rebuilds that run, of projections whose owner one is or is a member of: phase, events folded so far and in all (an estimate), events per second';
GRANT SELECT ON immutable.rebuild_progress TO PUBLIC;
