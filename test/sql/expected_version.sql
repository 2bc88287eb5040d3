-- expected_version: optimistic concurrency, all four kinds, on both paths.
\set SHOW_CONTEXT never
CREATE ROLE regress_expected;
CREATE SCHEMA expected_version AUTHORIZATION regress_expected;
SET search_path = expected_version;
SET ROLE regress_expected;
SELECT immutable.create_log('ledger');
SELECT immutable.create_log('wide', partitions => 2);

-- 0: a new stream
SELECT * FROM immutable.append('ledger', 'a', 't', expected_version => 0);
SELECT * FROM immutable.append('ledger', 'a', 't', expected_version => 0);
\echo :SQLSTATE
-- n: exactly n
SELECT * FROM immutable.append('ledger', 'a', 't', expected_version => 1);
SELECT * FROM immutable.append('ledger', 'a', 't', expected_version => 1);
\echo :SQLSTATE
SELECT * FROM immutable.append('ledger', 'a', 't', expected_version => 3);
\echo :SQLSTATE
SELECT * FROM immutable.append('ledger', 'nobody', 't', expected_version => 1);
\echo :SQLSTATE
SELECT * FROM immutable.append('ledger', 'a', 't', expected_version => 9223372036854775807);
-- -4: any existing stream
SELECT * FROM immutable.append('ledger', 'a', 't', expected_version => -4);
SELECT * FROM immutable.append('ledger', 'nobody', 't', expected_version => -4);
\echo :SQLSTATE
-- NULL: any at all
SELECT * FROM immutable.append('ledger', 'a', 't', expected_version => NULL);
SELECT * FROM immutable.append('ledger', 'b', 't', expected_version => NULL);

-- the same over partitions
SELECT * FROM immutable.append('wide', 'a', 't', expected_version => 0);
SELECT * FROM immutable.append('wide', 'a', 't', expected_version => 0);
\echo :SQLSTATE
SELECT * FROM immutable.append('wide', 'a', 't', expected_version => 1);
SELECT * FROM immutable.append('wide', 'a', 't', expected_version => 1);
SELECT * FROM immutable.append('wide', 'a', 't', expected_version => -4);
SELECT * FROM immutable.append('wide', 'nobody', 't', expected_version => -4);
\echo :SQLSTATE
SELECT * FROM immutable.append('wide', 'a', 't');

-- a refused append burns no position
SELECT (SELECT last_value FROM ledger_position_seq) - (SELECT count(*) FROM ledger) AS ledger,
	(SELECT last_value FROM wide_position_seq) - (SELECT count(*) FROM wide) AS wide;

-- what a driver reads, without parsing the message
CREATE FUNCTION conflict(log regclass, stream text, expected bigint)
RETURNS TABLE (code text, message text, detail text, hint text, con text, tab text, sch text)
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM immutable.append(log, stream, 't', expected_version => expected);
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
		detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT,
		con = CONSTRAINT_NAME, tab = TABLE_NAME, sch = SCHEMA_NAME;
	RETURN NEXT;
END $$;
\x on
SELECT * FROM conflict('ledger', 'a', 2);
SELECT * FROM conflict('wide', 'a', 0);
SELECT * FROM conflict('ledger', 'say "hi" 100%s', -4);
\x off
SELECT * FROM conflict('ledger', 'a', 4);
SELECT immutable.stream_version('ledger', 'a');

-- a conflict inside a transaction: roll back to a savepoint and decide again
BEGIN;
SELECT version FROM immutable.append('ledger', 'c', 'one', expected_version => 0);
SAVEPOINT s;
SELECT version FROM immutable.append('ledger', 'c', 'two', expected_version => 0);
ROLLBACK TO s;
SELECT version FROM immutable.append('ledger', 'c', 'two', expected_version => 1);
COMMIT;
BEGIN;
SELECT version FROM immutable.append('ledger', 'd', 'one', expected_version => 0);
SAVEPOINT s;
SELECT version FROM immutable.append('ledger', 'd', 'two', expected_version => 1);
ROLLBACK TO s;
SELECT version FROM immutable.append('ledger', 'd', 'two', expected_version => 2);
ROLLBACK TO s;
SELECT version FROM immutable.append('ledger', 'd', 'two again', expected_version => 1);
RELEASE s;
COMMIT;
SELECT stream, version, type FROM ledger WHERE stream IN ('c', 'd') ORDER BY stream, version;

-- an exception block is a savepoint too
DO $$
DECLARE
	v bigint;
BEGIN
	FOR i IN 1..3 LOOP
		BEGIN
			v := (immutable.append('expected_version.ledger', 'e', 't', expected_version => i % 2)).version;
			RAISE NOTICE 'expected %: version %', i % 2, v;
		EXCEPTION WHEN serialization_failure THEN
			RAISE NOTICE 'expected %: %', i % 2, sqlerrm;
		END;
	END LOOP;
	v := (immutable.append('expected_version.ledger', 'e', 't', expected_version => 0)).version;
	RAISE NOTICE 'version %', v;
END $$;

-- versions are numbered without gaps whatever was refused
SELECT stream, count(*), max(version) FROM ledger GROUP BY stream ORDER BY stream;
SELECT stream, count(*), max(version) FROM wide GROUP BY stream ORDER BY stream;

RESET ROLE;
SELECT immutable.drop_log('ledger', force => true), immutable.drop_log('wide', force => true);
SET client_min_messages = warning;
DROP SCHEMA expected_version CASCADE;
DROP ROLE regress_expected;
