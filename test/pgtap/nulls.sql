-- NULL for every argument of every function, one at a time and all at once:
-- a documented result or a clean SQLSTATE, never an internal error.
\set QUIET on
SET client_min_messages = warning;
BEGIN;
CREATE EXTENSION IF NOT EXISTS immutable_events;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(8);

CREATE SCHEMA tap_nulls;
CREATE FUNCTION tap_nulls.counts(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT state + 1';
DO $$ BEGIN
	PERFORM immutable.create_log('tap_nulls.ledger');
	PERFORM immutable.append('tap_nulls.ledger', 's', 't');
	CREATE TABLE tap_nulls.bare (n integer);
	CREATE TABLE tap_nulls.audit (n integer);
	PERFORM immutable.protect('tap_nulls.audit');
END $$;

-- a good value for every argument
CREATE TEMP TABLE good (function text, argument text, value text);
INSERT INTO good VALUES
	('append', 'log', $$'tap_nulls.ledger'$$), ('append', 'stream', $$'s'$$), ('append', 'type', $$'t'$$), ('append', 'data', $$'{}'$$),
	('append', 'metadata', $$'{}'$$), ('append', 'expected_version', '1'), ('append', 'id', 'gen_random_uuid()'), ('append', 'schema_version', '1'),
	('create_log', 'name', $$'tap_nulls.new'$$), ('create_log', 'partitions', '2'), ('create_log', 'unique_ids', 'true'),
	('drop_log', 'log', $$'tap_nulls.ledger'$$), ('drop_log', 'force', 'true'),
	('fold', 'initial', '0::bigint'), ('fold', 'reducer', $$'int8pl'$$), ('fold', 'items', '1::bigint'),
	('guard_report', 'target', $$'tap_nulls.audit'$$),
	('protect', 'target', $$'tap_nulls.bare'$$),
	('read_stream', 'log', $$'tap_nulls.ledger'$$), ('read_stream', 'stream', $$'s'$$), ('read_stream', 'from_version', '1'),
	('read_stream', 'max_events', '1'), ('read_stream', 'backward', 'false'),
	('replay', 'log', $$'tap_nulls.ledger'$$), ('replay', 'stream', $$'s'$$), ('replay', 'initial', '0::bigint'),
	('replay', 'reducer', $$'tap_nulls.counts'$$), ('replay', 'upto_version', '1'), ('replay', 'as_of', $$'infinity'$$),
	('seal_ownership', 'target', $$'tap_nulls.audit'$$), ('seal_ownership', 'owner', $$'tap_nulls_owner'$$),
	('stream_version', 'log', $$'tap_nulls.ledger'$$), ('stream_version', 'stream', $$'s'$$),
	('unprotect', 'target', $$'tap_nulls.audit'$$), ('unprotect', 'force', 'true'),
	('_log_names', 'name', $$'tap_nulls.new'$$), ('_log_names', 'partitions', '2'), ('_log_names', 'unique_ids', 'true'),
	('_create_log', 'schema', $$'tap_nulls'$$), ('_create_log', 'log', $$'new'$$), ('_create_log', 'sequence', $$'new_seq'$$),
	('_create_log', 'leaves', $$'{new_p0}'$$), ('_create_log', 'unique_ids', 'true'),
	('_guard_problem', 'target', $$'tap_nulls.audit'$$);

CREATE TEMP VIEW argument AS
SELECT p.proname::text COLLATE "default" AS function, a.nr, coalesce(p.proargnames[a.nr], '') AS name,
	CASE format_type(a.type, NULL) WHEN 'anyelement' THEN 'bigint' WHEN '"any"' THEN 'bigint' ELSE format_type(a.type, NULL) END AS type, p.pronargs
FROM pg_proc p, unnest(p.proargtypes::oid[]) WITH ORDINALITY a(type, nr)
WHERE p.pronamespace = 'immutable'::regnamespace
	AND NOT p.proargtypes::oid[] @> ARRAY['internal'::regtype::oid];

-- run a query, undo what it did, and say how it ended
CREATE FUNCTION pg_temp.outcome(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	BEGIN
		EXECUTE format('SELECT string_agg(coalesce(r::text, ''NULL''), '', '') FROM (%s) r', query) INTO result;
		RAISE EXCEPTION USING ERRCODE = 'ZZ000';
	EXCEPTION
		WHEN SQLSTATE 'ZZ000' THEN
			RETURN 'ok';
		WHEN OTHERS THEN
			RETURN sqlstate;
	END;
END $$;
-- arguments by position: an aggregate takes no names
CREATE FUNCTION pg_temp.call(of_function text, without integer[]) RETURNS text LANGUAGE sql AS $$
	SELECT format('SELECT immutable.%I(%s) AS r', of_function, string_agg(
		CASE WHEN a.nr = ANY (without) THEN format('NULL::%s', a.type) ELSE g.value END, ', ' ORDER BY a.nr))
	FROM argument a LEFT JOIN good g ON g.function = a.function AND g.argument = a.name WHERE a.function = of_function
$$;

SELECT is_empty(
	$$SELECT function, name FROM argument a WHERE NOT EXISTS (SELECT FROM good g WHERE g.function = a.function AND g.argument = a.name)$$,
	'this file knows a good value for every argument');
SELECT is_empty(
	$$SELECT DISTINCT function, pg_temp.call(function, '{}'), pg_temp.outcome(pg_temp.call(function, '{}')) FROM argument
	WHERE pg_temp.outcome(pg_temp.call(function, '{}')) <> 'ok'$$,
	'every function succeeds with good values');

CREATE TEMP TABLE swept AS
SELECT function, name, pg_temp.outcome(pg_temp.call(function, ARRAY[nr::integer])) AS outcome FROM argument;
SELECT bag_eq(
	$$SELECT function, name FROM swept WHERE outcome = 'ok' AND function NOT LIKE '\_%'$$,
	$$VALUES ('append', 'metadata'), ('append', 'expected_version'), ('append', 'id'),
	('fold', 'initial'), ('fold', 'items'), ('guard_report', 'target'), ('read_stream', 'from_version'), ('read_stream', 'max_events'),
	('replay', 'initial'), ('replay', 'upto_version'), ('replay', 'as_of')$$,
	'NULL has a documented meaning for these arguments');
SELECT is_empty(
	$$SELECT function, name, outcome FROM swept WHERE function NOT LIKE '\_%' AND outcome NOT IN ('ok', '22004')$$,
	'and is refused with 22004 for all others');
SELECT is_empty(
	$$SELECT function, name, outcome FROM swept WHERE function LIKE '\_%' AND outcome NOT IN ('ok', '22004', '42602')$$,
	'private functions refuse it cleanly');
SELECT is_empty(
	$$SELECT function, outcome FROM (SELECT function, pg_temp.outcome(pg_temp.call(function, array_agg(nr::integer))) AS outcome
	FROM argument GROUP BY function) s WHERE outcome <> CASE function WHEN '_guard_problem' THEN 'ok' WHEN 'guard_report' THEN 'ok' ELSE '22004' END$$,
	'NULL for all arguments at once is refused with 22004');

-- what NULL means where it means something
SELECT results_eq(
	$$SELECT immutable.fold(NULL::bigint, 'int8pl', 1::bigint), immutable.fold(1::bigint, 'int8pl', NULL::bigint),
		immutable.replay('tap_nulls.ledger', 's', NULL::bigint, 'tap_nulls.counts'),
		immutable.replay('tap_nulls.ledger', 's', 0::bigint, 'tap_nulls.counts', NULL, NULL),
		(SELECT count(*) FROM immutable.read_stream('tap_nulls.ledger', 's', NULL, NULL))$$,
	$$VALUES (1::bigint, 1::bigint, NULL::bigint, 1::bigint, 1::bigint)$$,
	'NULL initial, items, bounds and limits');
SELECT results_eq(
	$$SELECT a.version, a.written, e.metadata FROM immutable.append('tap_nulls.ledger', 'n', 't', '{}', NULL, NULL, NULL, 1) a,
		(VALUES ('{}'::jsonb)) e(metadata)$$,
	$$VALUES (1::bigint, 1, '{}'::jsonb)$$,
	'NULL metadata, expected_version and id');

SELECT * FROM finish();
ROLLBACK;
