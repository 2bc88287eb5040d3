-- snapshot_errors: what cannot have snapshots, and who may not ask for them.
\set SHOW_CONTEXT never
CREATE ROLE regress_snapshot_errors;
CREATE ROLE regress_snapshot_errors_other;
CREATE SCHEMA snapshot_errors AUTHORIZATION regress_snapshot_errors;
GRANT USAGE ON SCHEMA snapshot_errors TO regress_snapshot_errors_other;
SET search_path = snapshot_errors;
SET ROLE regress_snapshot_errors;
SELECT immutable.create_log('ledger');
CREATE FUNCTION total(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN state + 1;

-- arguments
SELECT immutable.enable_snapshots(NULL, 'total');
\echo :SQLSTATE
SELECT immutable.enable_snapshots('ledger', NULL);
\echo :SQLSTATE
SELECT immutable.enable_snapshots('ledger', 'total', NULL);
\echo :SQLSTATE
SELECT immutable.enable_snapshots('ledger', 'total', 1, NULL);
\echo :SQLSTATE
SELECT immutable.enable_snapshots('ledger', 'total', 0);
\echo :SQLSTATE
SELECT immutable.enable_snapshots('ledger', 0);
\echo :SQLSTATE
SELECT immutable.enable_snapshots('pg_class', 'total');
\echo :SQLSTATE
SELECT immutable.enable_snapshots(1, 'total');
\echo :SQLSTATE
SELECT immutable.disable_snapshots(NULL, 'total');
\echo :SQLSTATE
SELECT immutable.disable_snapshots('ledger', NULL);
\echo :SQLSTATE
SELECT immutable.disable_snapshots('ledger', 'total');
\echo :SQLSTATE
SELECT immutable.disable_snapshots('ledger', 0);
\echo :SQLSTATE
SELECT immutable.disable_snapshots('pg_class', 'total');
\echo :SQLSTATE

CREATE TABLE typed OF immutable.event;
SELECT immutable.enable_snapshots('typed', 'total');
\echo :SQLSTATE
DROP TABLE typed;

-- functions that are no reducers of events
SELECT immutable.enable_snapshots('ledger', 'int8pl');
\echo :SQLSTATE
CREATE FUNCTION careless(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql AS 'SELECT state + 1';
SELECT immutable.enable_snapshots('ledger', 'careless');
\echo :SQLSTATE

-- reducers whose result is not their events' alone
CREATE TABLE rate (value bigint);
CREATE VIEW rates AS SELECT 1::bigint AS value;
CREATE SEQUENCE numbers;
CREATE FUNCTION helper(x bigint) RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN x; END';
CREATE FUNCTION sql_helper(x bigint) RETURNS bigint LANGUAGE sql AS 'SELECT x + value FROM snapshot_errors.rate';
CREATE TYPE named AS (of regclass);
CREATE DOMAIN names AS named[];
CREATE FUNCTION attempt(body text, type text DEFAULT 'bigint') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	EXECUTE format('CREATE FUNCTION reducer(state %1$s, e immutable.event) RETURNS %1$s LANGUAGE sql STABLE %2$s', type, body);
	EXECUTE 'SELECT immutable.enable_snapshots(''ledger'', ''reducer'')';
	RAISE EXCEPTION USING ERRCODE = 'ZZ000';
EXCEPTION WHEN SQLSTATE 'ZZ000' THEN
	RETURN 'enabled';
WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN format('%s: %s: %s', SQLSTATE, SQLERRM, detail);
END $$;
SELECT body, attempt(body) FROM unnest(ARRAY[
	'RETURN state + 1',
	'RETURN state + helper(1)',
	'RETURN state + sql_helper(1)',
	'RETURN state + (SELECT value FROM rate)',
	'RETURN state + (SELECT value FROM rates)',
	'RETURN state + (WITH r AS (SELECT max(value) AS m FROM rate) SELECT m FROM r)',
	'AS ''SELECT state + value FROM rate''',
	'AS ''SELECT state + EXTRACT(epoch FROM now() - e.recorded_at)::bigint''',
	'RETURN state + EXTRACT(epoch FROM current_timestamp)::bigint',
	'RETURN state + length(current_user)',
	'RETURN state + EXTRACT(epoch FROM age(e.recorded_at))::bigint',
	'RETURN state + (random() * 10)::bigint',
	'RETURN state + nextval(''numbers'')',
	'RETURN state + length(current_setting(''work_mem''))',
	'RETURN state + length(to_regclass(e.type)::text)',
	'RETURN state + immutable.stream_version(''ledger'', e.stream)',
	'RETURN state + immutable.replay(''ledger'', e.stream, 0::bigint, ''total'')',
	'AS ''INSERT INTO rate VALUES (1); SELECT state''',
	'AS ''SELECT state + nowhere(1)''',
	'RETURN state + length(to_jsonb(e)::text) + length(format(''%s'', e.type)) + (e.data->>''n'')::bigint']) body;
SELECT type, attempt('RETURN state', type) FROM unnest('{regclass,oid[],named,names,void,record,cstring,jsonb,numrange,timestamptz[]}'::text[]) type;

-- what is temporary goes, and another may come by its name
CREATE TYPE pg_temp.passing AS (x integer);
SELECT attempt('RETURN state', 'pg_temp.passing');
CREATE FUNCTION pg_temp.passing_too(x bigint) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN x;
SELECT attempt('RETURN pg_temp.passing_too(state)');
DROP FUNCTION pg_temp.passing_too;
DROP TYPE pg_temp.passing;

-- a function that came to be such a reducer is folded without
CREATE FUNCTION turns(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT state + 1';
SELECT immutable.enable_snapshots('ledger', 'turns', 1);
SELECT count(*) FROM generate_series(1, 3) n, LATERAL immutable.append('ledger', 'a', 't', jsonb_build_object('n', n));
SELECT immutable.replay('ledger', 'a', 0::bigint, 'turns');
UPDATE ledger_snapshots SET state = '1000';
INSERT INTO rate VALUES (10);
CREATE OR REPLACE FUNCTION turns(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT state + value FROM snapshot_errors.rate';
SELECT immutable.replay('ledger', 'a', 0::bigint, 'turns');
-- a body that cannot be understood fails as it would without
SET check_function_bodies = off;
CREATE OR REPLACE FUNCTION turns(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT state + nowhere(1)';
SELECT immutable.replay('ledger', 'a', 0::bigint, 'turns');
\echo :SQLSTATE
RESET check_function_bodies;
SELECT version, state FROM ledger_snapshots;
-- a state without a type of its own
CREATE FUNCTION same(state anyelement, e immutable.event) RETURNS anyelement LANGUAGE sql IMMUTABLE AS 'SELECT $1';
SELECT immutable.enable_snapshots('ledger', 'same', 1);
SELECT immutable.replay('ledger', 'a', ROW(1, 'x'::text), 'same'), immutable.replay('ledger', 'a', 7::bigint, 'same'), immutable.replay('ledger', 'a', 'x'::text, 'same');
SELECT state FROM ledger_snapshots WHERE reducer LIKE '%same%' ORDER BY state;
SELECT immutable.replay('ledger', 'a', 7::bigint, 'same'), immutable.replay('ledger', 'a', 'x'::text, 'same');
-- a state that was tampered with
SELECT immutable.replay('ledger', 'a', 7::bigint, 'same');
UPDATE ledger_snapshots SET state = 'x' WHERE reducer LIKE '%same%';
SELECT immutable.replay('ledger', 'a', 7::bigint, 'same');
\echo :SQLSTATE

-- rights
GRANT SELECT ON ledger TO regress_snapshot_errors_other;
RESET ROLE;
SET ROLE regress_snapshot_errors_other;
SELECT immutable.enable_snapshots('ledger', 'total');
\echo :SQLSTATE
SELECT immutable.disable_snapshots('ledger', 'same');
\echo :SQLSTATE
SELECT count(*) FROM immutable.snapshots;
INSERT INTO immutable.snapshots SELECT * FROM immutable.snapshots;
\echo :SQLSTATE
RESET ROLE;
REVOKE EXECUTE ON FUNCTION total FROM PUBLIC, regress_snapshot_errors;
SET ROLE regress_snapshot_errors;
SELECT immutable.enable_snapshots('ledger', 'total');
\echo :SQLSTATE
GRANT EXECUTE ON FUNCTION total TO regress_snapshot_errors;
BEGIN READ ONLY;
SELECT immutable.enable_snapshots('ledger', 'total');
\echo :SQLSTATE
ROLLBACK;
BEGIN READ ONLY;
SELECT immutable.disable_snapshots('ledger', 'same');
\echo :SQLSTATE
ROLLBACK;

-- names that are taken, or too long
SELECT immutable.create_log('other');
CREATE TABLE other_snapshots (x integer);
SELECT immutable.enable_snapshots('other', 'total');
\echo :SQLSTATE
DROP TABLE other_snapshots;
SELECT immutable.create_log(repeat('x', 50)) IS NOT NULL AS created;
SELECT immutable.enable_snapshots(repeat('x', 50)::regclass, 'total') IS NOT NULL AS enabled;
SELECT immutable.create_log(repeat('y', 55)) IS NOT NULL AS created;
SELECT immutable.enable_snapshots(repeat('y', 55)::regclass, 'total');
\echo :SQLSTATE

RESET ROLE;
SET client_min_messages = warning;
DROP VIEW rates;
DROP TABLE rate CASCADE;
SELECT count(immutable.drop_log(log, force => true)) FROM unnest(ARRAY['ledger', 'other', repeat('x', 50), repeat('y', 55)]::regclass[]) log;
DROP SCHEMA snapshot_errors CASCADE;
DROP ROLE regress_snapshot_errors, regress_snapshot_errors_other;
