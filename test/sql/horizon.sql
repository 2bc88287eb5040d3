-- horizon: up to which position everything is decided, and who holds it back.
\set SHOW_CONTEXT never
CREATE ROLE regress_horizon;
CREATE ROLE regress_horizon_other;
CREATE SCHEMA horizon AUTHORIZATION regress_horizon;
GRANT USAGE ON SCHEMA horizon TO regress_horizon_other;
SET search_path = horizon;
SET ROLE regress_horizon;
SELECT immutable.create_log('ledger'), immutable.create_log('wide', 3);
CREATE VIEW stand AS SELECT l.log, h.last_position, h.safe_position, h.holder_pid = pg_backend_pid() AS mine, h.holder_gid AS gid,
	h.holder_since <= clock_timestamp() AS since
FROM (VALUES ('ledger'::regclass), ('wide')) l(log), LATERAL immutable.horizon(l.log) h ORDER BY l.log::text, h.holder_gid;

-- an empty log, and one where all is decided
SELECT * FROM stand;
SELECT immutable.safe_position('ledger'), immutable.safe_position('wide');
SELECT count(immutable.append('ledger', 's' || n, 't')), count(immutable.append('wide', 's' || n, 't')) FROM generate_series(1, 4) n;
SELECT * FROM stand;
SELECT relation, last_position, safe_position, size > 0 AS size, armed FROM immutable.logs
WHERE relation IN ('ledger'::regclass, 'wide') ORDER BY relation::text;
ANALYZE ledger, wide;
SELECT relation, events FROM immutable.logs WHERE relation IN ('ledger'::regclass, 'wide') ORDER BY relation::text;

-- what this transaction writes is not told to others, but can be read in it
BEGIN;
SELECT position FROM immutable.append('ledger', 'mine', 't');
SELECT * FROM stand WHERE log = 'ledger'::regclass;
SELECT immutable.safe_position('ledger'), immutable.persist_safe_position('ledger');
SELECT position FROM immutable.read_log('ledger', 3);
SAVEPOINT s;
SELECT position FROM immutable.append('ledger', 'mine', 't');
ROLLBACK TO s;
SELECT immutable.safe_position('ledger');
COMMIT;
SELECT immutable.safe_position('ledger');

-- what is rolled back leaves a gap, and nothing to wait for
BEGIN;
SELECT position FROM immutable.append('ledger', 'undone', 't');
ROLLBACK;
SELECT * FROM stand WHERE log = 'ledger'::regclass;
SELECT position FROM immutable.read_log('ledger', 3);

-- a prepared transaction holds it back, by its name; the other log goes on
BEGIN;
SELECT position FROM immutable.append('ledger', 'prepared', 't');
PREPARE TRANSACTION 'regress_horizon_1';
SELECT position FROM immutable.append('ledger', 'later', 't');
SELECT position FROM immutable.append('wide', 'later', 't');
SELECT * FROM stand;
SELECT position FROM ledger WHERE position > 5 ORDER BY position;
SELECT position FROM immutable.read_log('ledger', 5);
SELECT position FROM ledger WHERE position > 3 AND position <= immutable.safe_position('ledger') ORDER BY position;
SELECT immutable.persist_safe_position('ledger'), immutable.persist_safe_position('wide');
SELECT log, position, persisted_at <= clock_timestamp() AS persisted FROM immutable.safe_positions
WHERE log IN ('ledger'::regclass, 'wide') ORDER BY log::text;
-- two of them, decided in either order
BEGIN;
SELECT position FROM immutable.append('ledger', 'prepared too', 't');
PREPARE TRANSACTION 'regress_horizon_2';
SELECT * FROM stand WHERE log = 'ledger'::regclass;
ROLLBACK PREPARED 'regress_horizon_2';
SELECT * FROM stand WHERE log = 'ledger'::regclass;
SELECT position FROM immutable.append('ledger', 'last', 't');
COMMIT PREPARED 'regress_horizon_1';
SELECT * FROM stand WHERE log = 'ledger'::regclass;
SELECT position, stream FROM immutable.read_log('ledger', 5);
SELECT immutable.persist_safe_position('ledger');

-- who has only looked at the sequence holds it as well; a reader of the log does not
BEGIN;
SELECT count(*) FROM ledger;
SELECT count(*) FROM immutable.read_log('ledger');
SELECT currval('ledger_position_seq') > 0 AS looked;
RESET ROLE;
SELECT h.holder_pid = pg_backend_pid() AS mine, h.holder_since = now() AS since, h.holder_query FROM immutable.horizon('ledger') h;
SET ROLE regress_horizon;
COMMIT;

-- a query that goes on has one answer; the next has another
SELECT immutable.safe_position('ledger') = immutable.safe_position('ledger') AS same,
	count(DISTINCT immutable.safe_position('ledger')) FROM generate_series(1, 100);
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT immutable.safe_position('ledger') AS before;
SELECT position FROM immutable.append('ledger', 'snapshot', 't');
SELECT immutable.safe_position('ledger') AS still, (SELECT max(position) FROM immutable.read_log('ledger')) AS readable;
COMMIT;
SELECT immutable.safe_position('ledger') AS after;

-- privileges: SELECT on the log, and the registry is for its functions
SET ROLE regress_horizon_other;
\set VERBOSITY sqlstate
SELECT immutable.safe_position('horizon.ledger');
SELECT immutable.persist_safe_position('horizon.ledger');
SELECT immutable.horizon('horizon.ledger');
SELECT relation, safe_position FROM immutable.logs WHERE relation = 'horizon.ledger'::regclass;
INSERT INTO immutable.safe_positions VALUES ('horizon.ledger', 1000);
UPDATE immutable.safe_positions SET position = 1000;
DELETE FROM immutable.safe_positions;
SELECT position FROM immutable.safe_positions WHERE log = 'horizon.wide'::regclass;
RESET ROLE;
GRANT SELECT ON horizon.ledger TO regress_horizon_other;
SET ROLE regress_horizon_other;
SELECT immutable.safe_position('horizon.ledger') = immutable.persist_safe_position('horizon.ledger') AS persisted;
-- bad arguments
SET ROLE regress_horizon;
SELECT immutable.safe_position(NULL);
SELECT immutable.safe_position('pg_class');
SELECT immutable.safe_position('wide_p0');
SELECT immutable.horizon('stand');
SELECT immutable.persist_safe_position('ledger_position_seq');
BEGIN READ ONLY;
SELECT immutable.safe_position('ledger') > 0 AS readable;
SELECT immutable.persist_safe_position('ledger');
ROLLBACK;
-- a log without its sequence has no horizon
RESET ROLE;
ALTER EVENT TRIGGER immutable_guard_ddl_start DISABLE;
ALTER EVENT TRIGGER immutable_guard_ddl_end DISABLE;
BEGIN;
ALTER SEQUENCE wide_position_seq OWNED BY NONE;
SELECT relation, last_position, safe_position FROM immutable.logs WHERE relation = 'wide'::regclass;
\set VERBOSITY default
SELECT immutable.safe_position('wide');
\echo :SQLSTATE
ROLLBACK;
ALTER EVENT TRIGGER immutable_guard_ddl_start ENABLE ALWAYS;
ALTER EVENT TRIGGER immutable_guard_ddl_end ENABLE ALWAYS;

DROP VIEW stand;
SELECT immutable.drop_log('ledger', force => true), immutable.drop_log('wide', force => true);
SELECT count(*) FROM immutable.safe_positions WHERE log NOT IN (SELECT oid FROM pg_class);
SET client_min_messages = warning;
DROP SCHEMA horizon CASCADE;
DROP ROLE regress_horizon, regress_horizon_other;
