-- projection_halt: what keeps an asynchronous projection from running halts it alone.
\set SHOW_CONTEXT never
\set VERBOSITY terse
CREATE ROLE regress_halt;
CREATE SCHEMA projection_halt AUTHORIZATION regress_halt;
SET search_path = projection_halt;
SET ROLE regress_halt;
SELECT immutable.create_log('ledger');
CREATE TABLE a (stream text PRIMARY KEY, n bigint DEFAULT 0);
CREATE TABLE b (stream text PRIMARY KEY, n bigint DEFAULT 0);
CREATE FUNCTION count_a(r a, e immutable.event) RETURNS a LANGUAGE sql IMMUTABLE AS 'SELECT r.stream, r.n + 1';
CREATE FUNCTION count_b(r b, e immutable.event) RETURNS b LANGUAGE sql IMMUTABLE AS 'SELECT r.stream, r.n + (e.data ->> $$n$$)::bigint';
SELECT immutable.create_projection('a', 'ledger', 'count_a', mode => 'async'),
	immutable.create_projection('b', 'ledger', 'count_b', types => '{old}', mode => 'async');
SELECT count(immutable.append('ledger', 's' || i % 2, 'old', jsonb_build_object('n', i))) FROM generate_series(1, 6) i;
CREATE VIEW standing AS
SELECT target, state, position, error, error_sqlstate, error_position,
	error_event = (SELECT l.id FROM ledger l WHERE l.position = error_position) AS is_event
FROM immutable.projection_status ORDER BY target::text;
SELECT immutable.refresh('a', 2), immutable.refresh('b', 2);
TABLE standing;

-- the reducer is gone, by somebody whom no event trigger watches
RESET ROLE;
UPDATE pg_proc SET proname = 'count_gone' WHERE oid = 'count_a'::regproc;
SET ROLE regress_halt;
SELECT immutable.refresh('a'), immutable.refresh('b', 1);
TABLE standing;
CALL immutable.catch_up('a');
SELECT immutable.wait_for('a', 1), immutable.wait_for('a', 6, '0s');
RESET ROLE;
UPDATE pg_proc SET proname = 'count_a' WHERE oid = 'count_gone'::regproc;
SET ROLE regress_halt;
SELECT immutable.refresh('a', 1), immutable.refresh('b', 1);
TABLE standing;

-- it fits the read model no longer
ALTER TABLE a ALTER n TYPE text;
RESET ROLE;
UPDATE pg_attribute SET atttypid = 'text'::regtype, attlen = -1, attbyval = false, attalign = 'i' WHERE attrelid = 'b'::regclass AND attname = 'n';
UPDATE pg_proc SET provolatile = 'v' WHERE oid = 'count_a'::regproc;
SET ROLE regress_halt;
SELECT immutable.refresh('a'), immutable.refresh('b');
TABLE standing;
RESET ROLE;
UPDATE pg_attribute SET atttypid = 'int8'::regtype, attlen = 8, attbyval = true, attalign = 'd' WHERE attrelid = 'b'::regclass AND attname = 'n';
SET ROLE regress_halt;
ALTER FUNCTION count_a(a, immutable.event) IMMUTABLE;
SELECT immutable.refresh('a', 1);
TABLE standing;

-- its owner may not read the log for a while
RESET ROLE;
ALTER TABLE ledger OWNER TO CURRENT_USER;
SET ROLE regress_halt;
SELECT immutable.refresh('a');
SELECT target, state, position, safe_position, lag_events, error, error_sqlstate FROM immutable.projection_status ORDER BY target::text;
CALL immutable.catch_up('a');
RESET ROLE;
ALTER TABLE ledger OWNER TO regress_halt;
SET ROLE regress_halt;
SELECT immutable.refresh('a', 1);
TABLE standing;

-- an upcaster fails, at one event; those before it are folded
SELECT count(immutable.append('ledger', 's' || i % 2, 'old', jsonb_build_object('n', i))) FROM generate_series(7, 9) i;
CREATE FUNCTION upcast(e immutable.event) RETURNS immutable.event LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	IF (e.data ->> 'n')::int IN (8, 9) THEN RAISE EXCEPTION 'no % for me', e.data ->> 'n' USING ERRCODE = 'XX123'; END IF;
	e.schema_version := 2;
	RETURN e;
END $$;
SELECT immutable.add_upcaster('ledger', 'old', 1, 'upcast');
TABLE standing;
SELECT immutable.refresh('a'), immutable.refresh('b');
TABLE standing;
TABLE a ORDER BY stream;
-- again, and with no event in between
SELECT immutable.refresh('a'), immutable.refresh('b', 1);
TABLE standing;
-- one is passed over, by one of them
SELECT immutable.skip_event('a', error_position, 'no use') FROM standing WHERE target = 'a'::regclass;
SELECT immutable.refresh('a');
TABLE standing;
-- a rebuild and a verification leave it out as well, and the next one is in their way
\set VERBOSITY terse
CALL immutable.rebuild('a');
\set VERBOSITY default
SELECT * FROM immutable.verify_projection('a');
SELECT immutable.skip_event('a', error_position, 'no use either') FROM standing WHERE target = 'a'::regclass;
SELECT immutable.refresh('a');
CALL immutable.rebuild('a');
CALL immutable.rebuild('a', swap => true);
SELECT * FROM immutable.verify_projection('a');
TABLE standing;
TABLE a ORDER BY stream;
-- mended
CREATE OR REPLACE FUNCTION upcast(e immutable.event) RETURNS immutable.event LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	e.schema_version := 2;
	RETURN e;
END $$;
SELECT immutable.refresh('a'), immutable.refresh('b');
TABLE standing;
TABLE a ORDER BY stream;
TABLE b ORDER BY stream;

RESET ROLE;
SET client_min_messages = warning;
DROP VIEW standing;
SELECT immutable.drop_projection('a'), immutable.drop_projection('b'), immutable.drop_log('ledger', force => true);
DROP SCHEMA projection_halt CASCADE;
DROP ROLE regress_halt;
