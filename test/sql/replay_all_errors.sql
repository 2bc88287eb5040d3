-- replay_all_errors: what is refused, and what fails on the way.
\set SHOW_CONTEXT never
CREATE ROLE regress_replay_all_errors;
CREATE ROLE regress_replay_all_errors_other;
CREATE SCHEMA replay_all_errors AUTHORIZATION regress_replay_all_errors;
GRANT USAGE ON SCHEMA replay_all_errors TO regress_replay_all_errors_other;
SET search_path = replay_all_errors;
SET ROLE regress_replay_all_errors;
SELECT immutable.create_log('ledger'), immutable.create_log('wide', 3);
SELECT count(immutable.append(log, 'stream ' || i % 1000, 't', jsonb_build_object('n', i))) FROM generate_series(0, 2999) i, unnest(ARRAY['ledger', 'wide']::regclass[]) log;
CREATE FUNCTION total(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN state + (e.data->>'n')::bigint;
CREATE VIEW seen AS SELECT * FROM ledger;

-- arguments
SELECT * FROM immutable.replay_all(NULL, 0::bigint, 'total');
\echo :SQLSTATE
SELECT * FROM immutable.replay_all('ledger', 0::bigint, NULL);
\echo :SQLSTATE
SELECT * FROM immutable.replay_all('ledger', 0::bigint, 'total', upto_position => -1);
\echo :SQLSTATE
SELECT * FROM immutable.replay_all('seen', 0::bigint, 'total');
\echo :SQLSTATE
SELECT * FROM immutable.replay_all('wide_p0', 0::bigint, 'total');
\echo :SQLSTATE
SELECT * FROM immutable.replay_all('ledger_pkey', 0::bigint, 'total');
\echo :SQLSTATE
SELECT * FROM immutable.replay_all(1, 0::bigint, 'total');
\echo :SQLSTATE
\set VERBOSITY sqlstate
SELECT * FROM immutable.replay_all('ledger', NULL, 'total');
SELECT * FROM immutable.replay_all('ledger', 0::bigint, 'total', 'not an array');
SELECT 1 WHERE immutable.replay_all('ledger', 0::bigint, 'total') IS NOT NULL;
\set VERBOSITY default

-- what is no reducer of events
SELECT * FROM immutable.replay_all('ledger', 0::bigint, 'int8pl');
\echo :SQLSTATE
SELECT * FROM immutable.replay_all('ledger', 0, 'total');
\echo :SQLSTATE
SELECT * FROM immutable.replay_all('ledger', 0::bigint, 0);
\echo :SQLSTATE
CREATE FUNCTION careless(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql RETURN state + 1;
SELECT * FROM immutable.replay_all('ledger', 0::bigint, 'careless');
\echo :SQLSTATE
CREATE FUNCTION strictly(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT RETURN state + 1;
SELECT * FROM immutable.replay_all('ledger', NULL::bigint, 'strictly');
\echo :SQLSTATE

-- privileges: SELECT on the whole log, EXECUTE on the reducer
GRANT SELECT (position, stream, version) ON ledger TO regress_replay_all_errors_other;
RESET ROLE;
SET ROLE regress_replay_all_errors_other;
SELECT * FROM immutable.replay_all('ledger', 0::bigint, 'total');
\echo :SQLSTATE
SELECT * FROM immutable.replay_all('wide', 0::bigint, 'total');
\echo :SQLSTATE
RESET ROLE;
SET ROLE regress_replay_all_errors;
GRANT SELECT ON ledger, wide TO regress_replay_all_errors_other;
REVOKE EXECUTE ON FUNCTION total FROM PUBLIC;
RESET ROLE;
SET ROLE regress_replay_all_errors_other;
SELECT * FROM immutable.replay_all('ledger', 0::bigint, 'total');
\echo :SQLSTATE
RESET ROLE;
SET ROLE regress_replay_all_errors;
GRANT EXECUTE ON FUNCTION total TO PUBLIC;
RESET ROLE;
SET ROLE regress_replay_all_errors_other;
SELECT count(*), sum(state) FROM immutable.replay_all('ledger', 0::bigint, 'total');
SELECT count(*), sum(state) FROM immutable.replay_all('wide', 0::bigint, 'total');
RESET ROLE;
SET ROLE regress_replay_all_errors;

-- reducers that raise, in the first pass and in a later one, caught or not
SET random_page_cost = 1e6;	-- never stream by stream
CREATE FUNCTION raises(state bigint, e immutable.event) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	IF e.stream = 'stream 7' AND e.version = 2 THEN
		RAISE EXCEPTION 'event % cannot be applied', e.version USING ERRCODE = 'XX777', DETAIL = 'A detail.';
	END IF;
	RETURN state + 1;
END $$;
SELECT count(*) FROM immutable.replay_all('ledger', 0::bigint, 'raises');
\echo :SQLSTATE
SELECT count(*) FROM (SELECT immutable.replay_all('wide', 0::bigint, 'raises')) s;
\echo :SQLSTATE
CREATE FUNCTION before_error(log regclass, limit_memory text, OUT state text, OUT rows_before boolean) LANGUAGE plpgsql AS $$
DECLARE
	n bigint := 0;
	r record;
BEGIN
	PERFORM set_config('work_mem', limit_memory, true);
	FOR r IN SELECT immutable.replay_all(log, 0::bigint, 'raises') LOOP
		n := n + 1;
	END LOOP;
EXCEPTION WHEN OTHERS THEN
	state := sqlstate;
	rows_before := n > 0;
END $$;
SELECT log, memory, (before_error(log, memory)).* FROM unnest(ARRAY['ledger', 'wide']::regclass[]) log, unnest(ARRAY['64kB', '64MB']) memory ORDER BY log::text COLLATE "C", memory COLLATE "C";
SELECT count(*) FROM immutable.replay_all('ledger', 0::bigint, 'raises', upto_position => 1000);
BEGIN;
DECLARE c CURSOR FOR SELECT immutable.replay_all('wide', 0::bigint, 'raises');
SAVEPOINT s;
MOVE ALL IN c;
\echo :SQLSTATE
ROLLBACK TO s;
MOVE ALL IN c;
\echo :SQLSTATE
ROLLBACK TO s;
SELECT count(*) FROM immutable.replay_all('wide', 0::bigint, 'total');
COMMIT;
RESET random_page_cost;

-- what changes between two rows: a row type is refused, a function stays what it was
CREATE TYPE pair AS (a bigint, b bigint);
CREATE FUNCTION add(state pair, e immutable.event) RETURNS pair LANGUAGE sql IMMUTABLE AS 'SELECT ROW(state.a + 1, state.b)::replay_all_errors.pair';
CREATE FUNCTION rest(cursor refcursor, OUT rows bigint, OUT sum numeric) LANGUAGE plpgsql AS $$
DECLARE
	r record;
BEGIN
	rows := 0;
	sum := 0;
	LOOP
		FETCH cursor INTO r;
		EXIT WHEN NOT FOUND;
		rows := rows + 1;
		sum := sum + r.state;
	END LOOP;
END $$;
SET work_mem = '64kB';
SET random_page_cost = 1e6;
BEGIN;
DECLARE c CURSOR FOR SELECT immutable.replay_all('ledger', ROW(0, 0)::pair, 'add');
MOVE 1 IN c;
ALTER TYPE pair ADD ATTRIBUTE c integer;
MOVE ALL IN c;
\echo :SQLSTATE
ROLLBACK;
BEGIN;
DECLARE c CURSOR FOR SELECT (r).* FROM (SELECT immutable.replay_all('ledger', 0::bigint, 'total') AS r) s;
MOVE 1 IN c;
CREATE OR REPLACE FUNCTION total(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN 0;
SELECT rows FROM rest('c');
ROLLBACK;
-- a log that is dropped: what was sorted is there; and its index
BEGIN;
DECLARE c CURSOR FOR SELECT immutable.replay_all('ledger', 0::bigint, 'total');
MOVE 1 IN c;
DROP VIEW seen;
RESET ROLE;
SELECT immutable.drop_log('replay_all_errors.ledger', force => true);
MOVE ALL IN c;
ROLLBACK;
SET ROLE regress_replay_all_errors;
RESET work_mem;
ALTER TABLE ledger DROP CONSTRAINT ledger_pkey;
\echo :SQLSTATE
DROP INDEX wide_p1_position_idx;
\echo :SQLSTATE

-- tables that create_log has not made
CREATE TABLE bare OF immutable.event;
CREATE TABLE listed OF immutable.event PARTITION BY LIST (type);
CREATE TABLE no_leaf OF immutable.event PARTITION BY HASH (stream);
SELECT * FROM immutable.replay_all('bare', 0::bigint, 'total');
\echo :SQLSTATE
SELECT * FROM immutable.replay_all('listed', 0::bigint, 'total');
\echo :SQLSTATE
SELECT * FROM immutable.replay_all('no_leaf', 0::bigint, 'total');
\echo :SQLSTATE
ALTER TABLE bare ADD UNIQUE (stream, version);
DO $$ BEGIN EXECUTE (SELECT string_agg(format('ALTER TABLE bare ALTER %I SET NOT NULL', attname), '; ') FROM pg_attribute WHERE attrelid = 'bare'::regclass AND attnum > 0); END $$;
SELECT * FROM immutable.replay_all('bare', 0::bigint, 'total');
\echo :SQLSTATE

-- after all that everything goes on
SELECT count(*), sum(state) FROM immutable.replay_all('ledger', 0::bigint, 'total');

RESET ROLE;
DROP VIEW seen;
SELECT immutable.drop_log('ledger', force => true), immutable.drop_log('wide', force => true);
SET client_min_messages = warning;
DROP SCHEMA replay_all_errors CASCADE;
DROP ROLE regress_replay_all_errors, regress_replay_all_errors_other;
