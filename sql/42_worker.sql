-- Background workers: who keeps asynchronous projections current.

CREATE FUNCTION immutable.start_worker() RETURNS integer
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_start_worker';
COMMENT ON FUNCTION immutable.start_worker() IS
'have a background worker keep this database''s asynchronous projections current; answers its process id; if one runs already, that one''s; EXECUTE must be granted (25006, 42501, 53400, 55000)';

CREATE FUNCTION immutable.stop_worker() RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_stop_worker';
COMMENT ON FUNCTION immutable.stop_worker() IS
'end this database''s background worker, and wait until it has ended; it stays so until start_worker or the next start of the server; EXECUTE must be granted (42501)';

CREATE FUNCTION immutable._worker_pid() RETURNS integer
LANGUAGE C VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'ie_worker_pid';
COMMENT ON FUNCTION immutable._worker_pid() IS
'process id of the background worker that serves this database; NULL when there is none';

CREATE FUNCTION immutable._workers(OUT pid integer, OUT database oid, OUT started_at timestamptz,
	OUT state text, OUT last_activity timestamptz, OUT events bigint)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'ie_worker_rows';
COMMENT ON FUNCTION immutable._workers() IS
'what immutable.workers shows';

CREATE VIEW immutable.workers AS
SELECT w.pid, d.datname AS database, w.started_at, w.state, w.last_activity, w.events
FROM immutable._workers() w
JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) w.database
ORDER BY d.datname;
COMMENT ON VIEW immutable.workers IS
'the background workers of this server, one row a database; pg_stat_activity shows what each is doing at the moment';
COMMENT ON COLUMN immutable.workers.state IS
'busy, idle, starting, waiting to start (again, after a failure or DDL on the database), stopped (by stop_worker)';
COMMENT ON COLUMN immutable.workers.last_activity IS
'when it last folded a batch';
COMMENT ON COLUMN immutable.workers.events IS
'that it has gone over since it started';
GRANT SELECT ON immutable.workers TO pg_monitor;
