-- check_log: what an import, a replica or a tamperer may have left in a log.
\set SHOW_CONTEXT never
CREATE ROLE regress_check;
CREATE ROLE regress_check_other;
CREATE SCHEMA check_log AUTHORIZATION regress_check;
GRANT USAGE ON SCHEMA check_log TO regress_check_other;
SET search_path = check_log;
SET ROLE regress_check;
SELECT immutable.create_log('ledger'), immutable.create_log('wide', 3), immutable.create_log('"Odd ""log"""');
CREATE FUNCTION event(pos bigint, ver bigint, stream text, day integer DEFAULT 0) RETURNS immutable.event
LANGUAGE sql RETURN ROW(pos, '2020-01-01 00:00:00+00'::timestamptz + day * interval '1 day', ver, md5(pos || '/' || ver || stream)::uuid, 1, stream, 't', '{}', '{}')::immutable.event;

-- no fault in an empty log, in what append has written, or around a gap between positions
SELECT * FROM immutable.check_log('ledger');
BEGIN;
SELECT count(immutable.append('ledger', 's' || n % 3, 't')), count(immutable.append('wide', 's' || n % 3, 't')),
	count(immutable.append('"Odd ""log"""', 's' || n % 3, 't')) FROM generate_series(1, 9) n;
SAVEPOINT s;
SELECT version FROM immutable.append('ledger', 'undone', 't');
ROLLBACK TO s;
SELECT version FROM immutable.append('ledger', 's0', 't');
COMMIT;
SELECT * FROM immutable.check_log('ledger');
SELECT * FROM immutable.check_log('wide');
SELECT * FROM immutable.check_log('"Odd ""log"""');

-- each fault, by an import of rows that are wrong together
BEGIN;
SET LOCAL immutable.import = on;
INSERT INTO ledger SELECT (e).* FROM (VALUES (event(20, 2, 'begins at 2')), (event(21, 1, 'gap')), (event(22, 3, 'gap')),
	(event(23, 5, 'gap', 1)), (event(31, 1, 'turned')), (event(30, 2, 'turned')), (event(40, 1, 'back in time', 9)),
	(event(41, 2, 'back in time', 8)), (event(42, 3, 'back in time', 8))) v(e);
INSERT INTO wide SELECT (e).* FROM (VALUES (event(20, 1, 'one')), (event(20, 1, 'two')), (event(21, 2, 'two')), (event(21, 3, 'two'))) v(e);
COMMIT;
SELECT * FROM immutable.check_log('ledger') ORDER BY at_position, problem COLLATE "C";
SELECT (SELECT array_agg(DISTINCT problem) FROM immutable.check_log('wide') WHERE at_position = 20) AS at_20,
	(SELECT array_agg(problem ORDER BY problem COLLATE "C") FROM immutable.check_log('wide') WHERE at_position = 21) AS at_21;
SELECT count(*) FROM immutable.check_log('"Odd ""log"""');

-- a sequence that was set back, or that replication has left behind
SELECT setval('"Odd ""log""_position_seq"', 7);
SELECT * FROM immutable.check_log('"Odd ""log"""');
SELECT immutable.sync_position('"Odd ""log"""'), immutable.sync_position('"Odd ""log"""');
SELECT * FROM immutable.check_log('"Odd ""log"""');
SELECT position FROM immutable.append('"Odd ""log"""', 'next', 't');
SELECT setval('wide_position_seq', 1, false);
SELECT count(*) FROM immutable.check_log('wide') WHERE problem LIKE 'the sequence is at % only';
SELECT immutable.sync_position('wide');
SELECT position FROM immutable.append('wide', 'next', 't');
-- it never goes back, and an empty log has nothing to follow
SELECT setval('wide_position_seq', 100), immutable.sync_position('wide');
SELECT position FROM immutable.append('wide', 'next', 't');
SELECT immutable.create_log('empty');
SELECT immutable.sync_position('empty');
SELECT position FROM immutable.append('empty', 'first', 't');

-- who may: whoever reads all of the log checks it, its owner moves the sequence
SET ROLE regress_check_other;
\set VERBOSITY sqlstate
SELECT immutable.check_log('check_log.ledger');
SELECT immutable.sync_position('check_log.ledger');
RESET ROLE;
GRANT SELECT ON ledger TO regress_check_other;
SET ROLE regress_check_other;
SELECT count(*) > 0 AS checked FROM immutable.check_log('check_log.ledger');
SELECT immutable.sync_position('check_log.ledger');
RESET ROLE;
ALTER TABLE ledger ENABLE ROW LEVEL SECURITY;
CREATE POLICY visible ON ledger USING (stream LIKE 's%');
SET ROLE regress_check_other;
SELECT immutable.check_log('check_log.ledger');
SHOW row_security;
-- bad arguments
SET ROLE regress_check;
SELECT immutable.check_log(NULL);
SELECT immutable.check_log('pg_class');
SELECT immutable.check_log('wide_p0');
SELECT immutable.sync_position(NULL);
SELECT immutable.sync_position('wide_p0');
BEGIN READ ONLY;
SELECT count(*) FROM immutable.check_log('wide');
SELECT immutable.sync_position('wide');
ROLLBACK;

RESET ROLE;
SELECT immutable.drop_log('ledger', true), immutable.drop_log('wide', true), immutable.drop_log('"Odd ""log"""', true), immutable.drop_log('empty', true);
SET client_min_messages = warning;
DROP SCHEMA check_log CASCADE;
DROP ROLE regress_check, regress_check_other;
