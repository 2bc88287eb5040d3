-- replay: the state of one stream, now, at a version, and at a time.
\set SHOW_CONTEXT never
CREATE ROLE regress_replay;
CREATE ROLE regress_replay_other;
CREATE SCHEMA replay AUTHORIZATION regress_replay;
GRANT USAGE ON SCHEMA replay TO regress_replay_other;
SET search_path = replay;
SET ROLE regress_replay;
SET timezone = 'UTC';
SELECT immutable.create_log('ledger'), immutable.create_log('wide', 3);
CREATE VIEW logs AS SELECT * FROM unnest(ARRAY['ledger', 'wide']::regclass[]) WITH ORDINALITY l(log, nr);
CREATE FUNCTION trail(state text, e immutable.event) RETURNS text LANGUAGE sql IMMUTABLE
RETURN state || e.version || ' ';

-- times known to the microsecond, two of them equal
BEGIN;
SET LOCAL immutable.import = on;
INSERT INTO ledger SELECT v, t, v, md5(v::text)::uuid, 1, 'a', 't', '{}', '{}' FROM (VALUES
	(1, '2024-01-01 00:00:00.000000'::timestamptz), (2, '2024-01-01 00:00:00.000001'),
	(3, '2024-01-01 12:00:00'), (4, '2024-01-01 12:00:00'), (5, '2024-06-01 00:00:00')) e(v, t);
INSERT INTO wide SELECT * FROM ledger;
COMMIT;
SELECT log, immutable.replay(log, 'a', ''::text, 'trail') FROM logs ORDER BY nr;
SELECT as_of, immutable.replay('ledger', 'a', ''::text, 'trail', as_of => as_of),
	immutable.replay('wide', 'a', ''::text, 'trail', as_of => as_of) FROM (VALUES
	('-infinity'::timestamptz), ('2023-12-31 23:59:59.999999'), ('2024-01-01'), ('2024-01-01 00:00:00.000001'),
	('2024-01-01 11:59:59.999999'), ('2024-01-01 12:00:00'), ('2024-05-31 23:59:59.999999'), ('2024-06-01'), ('infinity'), (NULL)) v(as_of);
SELECT upto, immutable.replay('ledger', 'a', ''::text, 'trail', upto), immutable.replay('wide', 'a', ''::text, 'trail', upto)
FROM (VALUES (0::bigint), (1), (3), (5), (6), (9223372036854775807), (NULL)) v(upto);
SELECT immutable.replay('ledger', 'a', ''::text, 'trail', upto_version => 3, as_of => '2024-01-01') AS time_ends_it,
	immutable.replay('ledger', 'a', ''::text, 'trail', upto_version => 3, as_of => '2024-12-01') AS version_ends_it;

-- an import may bring times that run backward: each event counts for itself
BEGIN;
SET LOCAL immutable.import = on;
INSERT INTO ledger SELECT 100 + v, t, v, md5('back' || v)::uuid, 1, 'back', 't', '{}', '{}' FROM (VALUES
	(1, '2024-03-01'::timestamptz), (2, '2024-01-01'), (3, '2024-02-01')) e(v, t);
COMMIT;
SELECT as_of, immutable.replay('ledger', 'back', ''::text, 'trail', as_of => as_of), immutable.replay('ledger', 'back', ''::text, 'trail', 2, as_of)
FROM (VALUES ('2023-12-31'::timestamptz), ('2024-01-01'), ('2024-02-01'), ('2024-03-01')) v(as_of);

-- no events: the initial state, also where fold says NULL
SELECT immutable.replay('ledger', 'nobody', 'initial'::text, 'trail'), immutable.replay('ledger', '', NULL::text, 'trail') IS NULL AS is_null,
	immutable.replay('ledger', 'a', 'initial'::text, 'trail', 0), immutable.replay('wide', 'nobody', 'initial'::text, 'trail');

-- rows, whole events, several arguments, PL/pgSQL
CREATE TYPE account AS (balance bigint, events integer);
CREATE FUNCTION apply(state account, e immutable.event) RETURNS account LANGUAGE sql IMMUTABLE
RETURN ROW(coalesce(state.balance, 0) + coalesce((e.data->>'amount')::bigint, 0), coalesce(state.events, 0) + 1)::account;
CREATE FUNCTION last(state immutable.event, e immutable.event) RETURNS immutable.event LANGUAGE sql IMMUTABLE RETURN e;
CREATE FUNCTION scaled(state bigint, e immutable.event, factor integer DEFAULT 10) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN state + e.version * factor;
CREATE FUNCTION pl_apply(state account, e immutable.event) RETURNS account LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	state.balance := coalesce(state.balance, 0) + coalesce((e.data->>'amount')::bigint, 0);
	state.events := coalesce(state.events, 0) + 1;
	RETURN state;
END $$;
SELECT immutable.replay('ledger', 'a', NULL::account, 'apply'), immutable.replay('ledger', 'a', NULL::account, 'pl_apply'),
	immutable.replay('ledger', 'a', 0::bigint, 'scaled');
SELECT l = immutable.replay('ledger', 'a', NULL::immutable.event, 'last') AS is_the_last FROM (SELECT (ROW(l.*)::immutable.event) AS l FROM ledger l WHERE version = 5) x;

-- against two oracles, at every version of streams with pseudo-random events
SELECT count(*) FROM logs, generate_series(1, 400) n, LATERAL immutable.append(log, 's' || (n * 7919) % 13, 't',
	jsonb_build_object('amount', (n * 104729) % 1000 - 300, 'text', repeat('x', (n * n) % 50)));
CREATE FUNCTION hash(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql STABLE
RETURN (state * 31 + (e.data->>'amount')::bigint + length(e.data->>'text') + e.version) % 1000000007;
CREATE FUNCTION loop(log regclass, name text, upto bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	state bigint := 1;
	e immutable.event;
BEGIN
	FOR e IN EXECUTE format('SELECT * FROM %s WHERE stream = $1 AND version <= $2 ORDER BY version', log) USING name, upto LOOP
		state := (state * 31 + (e.data->>'amount')::bigint + length(e.data->>'text') + e.version) % 1000000007;
	END LOOP;
	RETURN state;
END $$;
SELECT log, count(*), count(*) FILTER (WHERE replayed IS DISTINCT FROM folded) AS not_as_window,
	count(*) FILTER (WHERE replayed IS DISTINCT FROM loop(log, stream, version)) AS not_as_loop
FROM (SELECT 'ledger'::regclass AS log, stream, version, immutable.replay('ledger', stream, 1::bigint, 'hash', version) AS replayed,
		immutable.fold(1::bigint, 'hash', e) OVER (PARTITION BY stream ORDER BY version) AS folded FROM ledger e WHERE stream LIKE 's%'
	UNION ALL
	SELECT 'wide', stream, version, immutable.replay('wide', stream, 1::bigint, 'hash', version),
		immutable.fold(1::bigint, 'hash', e) OVER (PARTITION BY stream ORDER BY version) FROM wide e WHERE stream LIKE 's%') x
GROUP BY log ORDER BY log::text;
SELECT count(*), count(*) FILTER (WHERE immutable.replay('ledger', stream, NULL::account, 'apply', as_of => recorded_at)
	IS DISTINCT FROM ROW(balance, events)::account) AS different
FROM (SELECT stream, recorded_at, sum((data->>'amount')::bigint) OVER w AS balance, count(*) OVER w::integer AS events
	FROM ledger WHERE stream LIKE 's%' WINDOW w AS (PARTITION BY stream ORDER BY recorded_at)) x;

-- a function that is replaced counts from the next call on, also one inlined into the reducer
PREPARE state AS SELECT immutable.replay('ledger', 'a', ''::text, 'trail', 3);
CREATE FUNCTION state() RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN immutable.replay(''replay.ledger'', ''a'', ''''::text, ''replay.trail'', 3); END';
EXECUTE state;
SELECT state();
CREATE OR REPLACE FUNCTION trail(state text, e immutable.event) RETURNS text LANGUAGE sql IMMUTABLE RETURN state || e.version || '; ';
EXECUTE state;
SELECT state(), immutable.fold(''::text, 'trail', e ORDER BY version) FROM ledger e WHERE stream = 'a' AND version < 4;
CREATE FUNCTION separator() RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ''/''::text';
CREATE OR REPLACE FUNCTION trail(state text, e immutable.event) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT state || e.version || replay.separator()';
SELECT state();
CREATE OR REPLACE FUNCTION separator() RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ''|''::text';
EXECUTE state;
SELECT state();
ALTER TYPE account ADD ATTRIBUTE note text;
CREATE OR REPLACE FUNCTION apply(state account, e immutable.event) RETURNS account LANGUAGE sql IMMUTABLE
RETURN ROW(e.version, 1, 'new')::account;
SELECT immutable.replay('ledger', 'a', NULL::account, 'apply');
ALTER FUNCTION trail VOLATILE;
SELECT state();
\echo :SQLSTATE

-- arguments
SELECT immutable.replay(NULL, 'a', ''::text, 'textcat');
\echo :SQLSTATE
SELECT immutable.replay('ledger', NULL, ''::text, 'textcat');
\echo :SQLSTATE
SELECT immutable.replay('ledger', 'a', ''::text, NULL);
\echo :SQLSTATE
SELECT immutable.replay('ledger', 'a', 0::bigint, 'scaled', -1);
\echo :SQLSTATE
SELECT immutable.replay('ledger', 'a', ''::text, 'textcat');
\echo :SQLSTATE
SELECT immutable.replay('ledger', 'a', 0, 'scaled');
\echo :SQLSTATE
SELECT immutable.replay('logs', 'a', 0::bigint, 'scaled');
\echo :SQLSTATE
SELECT immutable.replay('wide_p0', 'a', 0::bigint, 'scaled');
\echo :SQLSTATE
RESET ROLE;
SET ROLE regress_replay_other;
SELECT immutable.replay('ledger', 'a', 0::bigint, 'scaled');
\echo :SQLSTATE
SELECT immutable.replay('wide', 'a', 0::bigint, 'scaled');
\echo :SQLSTATE

RESET ROLE;
DROP FUNCTION state;
DROP VIEW logs;
SELECT immutable.drop_log('ledger', force => true), immutable.drop_log('wide', force => true);
SET client_min_messages = warning;
DROP SCHEMA replay CASCADE;
DROP ROLE regress_replay, regress_replay_other;
