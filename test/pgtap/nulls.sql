-- NULL for every argument of every function, one at a time and all at once:
-- a documented result or a clean SQLSTATE, never an internal error.
\set QUIET on
SET client_min_messages = warning;
BEGIN;
CREATE EXTENSION IF NOT EXISTS immutable_events;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(11);

CREATE SCHEMA tap_nulls;
CREATE FUNCTION tap_nulls.counts(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT state + 1';
CREATE FUNCTION tap_nulls.decides(state bigint, command jsonb) RETURNS immutable.new_event[] LANGUAGE sql IMMUTABLE AS 'SELECT NULL::immutable.new_event[]';
CREATE FUNCTION tap_nulls.newer(e immutable.event) RETURNS immutable.event LANGUAGE sql IMMUTABLE AS $$
	SELECT e.position, e.recorded_at, e.version, e.id, e.schema_version + 1, e.stream, e.type, e.data, e.metadata
$$;
DO $$ BEGIN
	PERFORM immutable.create_log('tap_nulls.ledger');
	PERFORM immutable.append('tap_nulls.ledger', 's', 't');
	PERFORM immutable.create_log('tap_nulls.orders');
	PERFORM immutable.enable_commands('tap_nulls.orders');
	PERFORM immutable.add_upcaster('tap_nulls.ledger', 'old', 1, 'tap_nulls.newer');
	CREATE TABLE tap_nulls.bare (n integer);
	CREATE TABLE tap_nulls.model (stream text PRIMARY KEY);
	CREATE TABLE tap_nulls.later (stream text PRIMARY KEY);
	CREATE FUNCTION tap_nulls.same(r tap_nulls.model, e immutable.event) RETURNS tap_nulls.model LANGUAGE sql IMMUTABLE AS 'SELECT r';
	CREATE FUNCTION tap_nulls.same_later(r tap_nulls.later, e immutable.event) RETURNS tap_nulls.later LANGUAGE sql IMMUTABLE AS 'SELECT r';
	PERFORM immutable.create_log('tap_nulls.source');
	PERFORM immutable.append('tap_nulls.source', 's', 't');
	PERFORM immutable.create_projection('tap_nulls.later', 'tap_nulls.source', 'tap_nulls.same_later', mode => 'async');
	CREATE TABLE tap_nulls.audit (n integer);
	PERFORM immutable.protect('tap_nulls.audit');
	CREATE TABLE tap_nulls.item (id integer PRIMARY KEY, n integer);
	INSERT INTO tap_nulls.item VALUES (1, 1);
	PERFORM immutable.add_versioning('tap_nulls.item');
	UPDATE tap_nulls.item SET n = 2;
	CREATE TABLE tap_nulls.lazy (id integer PRIMARY KEY);
	PERFORM immutable.add_versioning('tap_nulls.lazy', 'lazy');
	CREATE TABLE tap_nulls.keyed (id integer PRIMARY KEY);
	PERFORM immutable.enable_snapshots('tap_nulls.ledger', 'tap_nulls.counts');
	-- consumers in every condition
	PERFORM immutable.create_consumer(c, 'tap_nulls.ledger', after_position => 0, max_deliveries => 1) FROM unnest('{free,held,leased,parked}'::text[]) c;
	PERFORM immutable.poll('held'), immutable.poll('leased', lease => '1 hour'), immutable.poll('parked');
	PERFORM immutable.nack('parked', 1, 'error');
END $$;

-- a good value for every argument
CREATE TEMP TABLE good (function text, argument text, value text);
INSERT INTO good VALUES
	('append', 'log', $$'tap_nulls.ledger'$$), ('append', 'stream', $$'s'$$), ('append', 'type', $$'t'$$), ('append', 'data', $$'{}'$$),
	('append', 'metadata', $$'{}'$$), ('append', 'expected_version', '1'), ('append', 'id', 'gen_random_uuid()'), ('append', 'schema_version', '1'),
	('append_batch', 'log', $$'tap_nulls.ledger'$$), ('append_batch', 'stream', $$'s'$$),
	('append_batch', 'events', $$ARRAY[ROW('t', NULL, NULL, NULL, NULL)]::immutable.new_event[]$$), ('append_batch', 'expected_version', '1'),
	('append_json', 'log', $$'tap_nulls.ledger'$$), ('append_json', 'stream', $$'s'$$), ('append_json', 'events', $$'[{"type": "t"}]'$$),
	('append_json', 'expected_version', '1'),
	('add_upcaster', 'log', $$'tap_nulls.ledger'$$), ('add_upcaster', 'type', $$'t'$$), ('add_upcaster', 'schema_version', '1'),
	('add_upcaster', 'upcaster', $$'tap_nulls.newer'$$), ('drop_upcaster', 'log', $$'tap_nulls.ledger'$$), ('drop_upcaster', 'type', $$'old'$$),
	('drop_upcaster', 'schema_version', '1'),
	('add_versioning', 'target', $$'tap_nulls.keyed'$$), ('add_versioning', 'backfill', $$'now'$$), ('drop_versioning', 'target', $$'tap_nulls.item'$$),
	('import_versions', 'target', $$'tap_nulls.lazy'$$), ('import_versions', 'query', $$'SELECT 1 AS id, ''2020-01-01''::timestamptz AS row_start'$$),
	('row_diff', 'target', $$'tap_nulls.item'$$), ('row_diff', 'key', $$'{"id": 1}'$$), ('row_diff', 'from_version', '1'), ('row_diff', 'to_version', '2'),
	('revert_row', 'target', $$'tap_nulls.item'$$), ('revert_row', 'key', $$'{"id": 1}'$$), ('revert_row', 'to_version', '1'),
	('verify_versions', 'target', $$'tap_nulls.item'$$),
	('_row_version', 'target', $$'tap_nulls.item'$$), ('_row_version', 'key', $$'{"id": 1}'$$), ('_row_version', 'version', '1'),
	('_version_key', 'target', $$'tap_nulls.item'$$), ('_version_key', 'a', $$'a'$$), ('_version_key', 'b', $$'b'$$),
	('_version_key_columns', 'target', $$'tap_nulls.item'$$),
	('_backfill_versions', 'part', $$'tap_nulls.lazy'$$), ('_backfill_versions', 'from_block', '0'), ('_backfill_versions', 'batch', '1'),
	('_finish_backfill', 'target', $$'tap_nulls.lazy'$$),
	('_known_at', 'versions', $$'tap_nulls.item_versions'$$), ('_known_at', 'at_time', $$'infinity'$$),
	('_known_between', 'versions', $$'tap_nulls.item_versions'$$), ('_known_between', 'from_time', $$'infinity'$$), ('_known_between', 'to_time', $$'infinity'$$),
	('upcast', 'log', $$'tap_nulls.ledger'$$), ('upcast', 'event', $$ROW(NULL, NULL, NULL, NULL, 1, NULL, 'old', '{}', NULL)::immutable.event$$),
	('ack', 'consumer', $$'held'$$), ('ack', 'upto_position', '1'),
	('check_log', 'log', $$'tap_nulls.ledger'$$),
	('create_consumer', 'consumer', $$'new'$$), ('create_consumer', 'log', $$'tap_nulls.ledger'$$), ('create_consumer', 'types', $$'{t}'$$),
	('create_consumer', 'stream_prefix', $$'s'$$), ('create_consumer', 'after_position', '0'), ('create_consumer', 'shards', '2'),
	('create_consumer', 'max_deliveries', '1'),
	('create_projection', 'target', $$'tap_nulls.model'$$), ('create_projection', 'log', $$'tap_nulls.ledger'$$), ('create_projection', 'reducer', $$'tap_nulls.same'$$),
	('create_projection', 'key', $$'{stream}'$$), ('create_projection', 'types', $$'{t}'$$), ('create_projection', 'stream_prefix', $$'s'$$),
	('create_projection', 'mode', $$'inline'$$), ('create_projection', 'commutative', 'false'), ('drop_projection', 'target', $$'tap_nulls.later'$$),
	('set_projection_mode', 'target', $$'tap_nulls.later'$$), ('set_projection_mode', 'mode', $$'inline'$$),
	('verify_projection', 'target', $$'tap_nulls.later'$$),
	('refresh', 'target', $$'tap_nulls.later'$$), ('refresh', 'max_events', '1'),
	('skip_event', 'target', $$'tap_nulls.later'$$), ('skip_event', 'at_position', '1'), ('skip_event', 'reason', $$'reason'$$),
	('wait_for', 'target', $$'tap_nulls.later'$$), ('wait_for', 'upto_position', '0'), ('wait_for', 'timeout', $$'0'$$),
	('_projection_is_stale', 'target', $$'tap_nulls.later'$$), ('_projection_has_reached', 'target', $$'tap_nulls.later'$$),
	('_projection_has_reached', 'upto_position', '0'),
	('enable_commands', 'log', $$'tap_nulls.ledger'$$),
	('handle', 'log', $$'tap_nulls.orders'$$), ('handle', 'stream', $$'s'$$), ('handle', 'command', $$'{}'$$), ('handle', 'initial', '0::bigint'),
	('handle', 'decide', $$'tap_nulls.decides'$$), ('handle', 'evolve', $$'tap_nulls.counts'$$), ('handle', 'command_id', 'gen_random_uuid()'),
	('disable_snapshots', 'log', $$'tap_nulls.ledger'$$), ('disable_snapshots', 'reducer', $$'tap_nulls.counts'$$),
	('enable_snapshots', 'log', $$'tap_nulls.ledger'$$), ('enable_snapshots', 'reducer', $$'tap_nulls.counts'$$), ('enable_snapshots', 'every', '10'),
	('enable_snapshots', 'reducer_version', '1'),
	('drop_consumer', 'consumer', $$'free'$$), ('horizon', 'log', $$'tap_nulls.ledger'$$),
	('json_patch', 'state', $$'{}'$$), ('json_patch', 'event', $$ROW(NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{"patch": []}', NULL)::immutable.event$$),
	('merge_patch', 'state', $$'{}'$$), ('merge_patch', 'event', $$ROW(NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{"patch": []}', NULL)::immutable.event$$),
	('nack', 'consumer', $$'held'$$), ('nack', 'at_position', '1'), ('nack', 'error', $$'error'$$), ('nack', 'retry_after', $$'1 s'$$),
	('persist_safe_position', 'log', $$'tap_nulls.ledger'$$),
	('poll', 'consumer', $$'free'$$), ('poll', 'max_events', '1'), ('poll', 'timeout', $$'0'$$), ('poll', 'lease', $$'1 s'$$), ('poll', 'shard', '0'),
	('read_log', 'log', $$'tap_nulls.ledger'$$), ('read_log', 'after_position', '0'), ('read_log', 'max_events', '1'), ('read_log', 'types', $$'{t}'$$),
	('read_log', 'stream_prefix', $$'s'$$), ('read_log', 'upto_position', '1'),
	('renew', 'consumer', $$'leased'$$), ('renew', 'lease', $$'1 hour'$$),
	('safe_position', 'log', $$'tap_nulls.ledger'$$), ('seek', 'consumer', $$'free'$$), ('seek', 'after_position', '0'),
	('sync_position', 'log', $$'tap_nulls.ledger'$$), ('unpark', 'consumer', $$'parked'$$), ('unpark', 'stream', $$'s'$$),
	('_last_position', 'log', $$'tap_nulls.ledger'$$), ('_safe_position', 'log', $$'tap_nulls.ledger'$$), ('_sequence_of', 'log', $$'tap_nulls.ledger'$$),
	('_oldest_wait', 'log', $$'tap_nulls.ledger'$$), ('_oldest_wait', 'after_position', '0'), ('_oldest_wait', 'upto_position', '1'),
	('_shard', 'stream', $$'s'$$), ('_shard', 'shards', '2'),
	('create_log', 'name', $$'tap_nulls.new'$$), ('create_log', 'partitions', '2'), ('create_log', 'unique_ids', 'true'),
	('drop_log', 'log', $$'tap_nulls.ledger'$$), ('drop_log', 'force', 'true'),
	('explain_reducer', 'reducer', $$'int8pl'$$),
	('fold', 'initial', '0::bigint'), ('fold', 'reducer', $$'int8pl'$$), ('fold', 'items', '1::bigint'),
	('guard_report', 'target', $$'tap_nulls.audit'$$),
	('protect', 'target', $$'tap_nulls.bare'$$),
	('read_stream', 'log', $$'tap_nulls.ledger'$$), ('read_stream', 'stream', $$'s'$$), ('read_stream', 'from_version', '1'),
	('read_stream', 'max_events', '1'), ('read_stream', 'backward', 'false'),
	('replay', 'log', $$'tap_nulls.ledger'$$), ('replay', 'stream', $$'s'$$), ('replay', 'initial', '0::bigint'),
	('replay', 'reducer', $$'tap_nulls.counts'$$), ('replay', 'upto_version', '1'), ('replay', 'as_of', $$'infinity'$$),
	('replay_all', 'log', $$'tap_nulls.ledger'$$), ('replay_all', 'initial', '0::bigint'), ('replay_all', 'reducer', $$'tap_nulls.counts'$$),
	('replay_all', 'types', $$'{t}'$$), ('replay_all', 'stream_prefix', $$'s'$$), ('replay_all', 'upto_position', '1'), ('replay_all', 'as_of', $$'infinity'$$),
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
	AND p.prokind <> 'p' AND NOT p.proargtypes::oid[] @> ARRAY['internal'::regtype::oid];

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
	('append_batch', 'expected_version'), ('append_json', 'expected_version'),
	('create_consumer', 'types'), ('create_consumer', 'stream_prefix'), ('create_consumer', 'after_position'), ('poll', 'lease'), ('poll', 'shard'),
	('create_projection', 'types'), ('create_projection', 'stream_prefix'), ('refresh', 'max_events'),
	('read_log', 'max_events'), ('read_log', 'types'), ('read_log', 'stream_prefix'), ('read_log', 'upto_position'),
	('json_patch', 'state'), ('json_patch', 'event'), ('merge_patch', 'state'), ('merge_patch', 'event'),
	('fold', 'initial'), ('fold', 'items'), ('guard_report', 'target'), ('handle', 'command_id'), ('handle', 'initial'),
	('read_stream', 'from_version'), ('read_stream', 'max_events'), ('replay', 'as_of'), ('replay', 'initial'),
	('replay', 'upto_version'), ('replay_all', 'as_of'), ('replay_all', 'initial'), ('replay_all', 'stream_prefix'),
	('replay_all', 'types'), ('replay_all', 'upto_position'), ('upcast', 'event')$$,
	'NULL has a documented meaning for these arguments');
SELECT is_empty(
	$$SELECT function, name, outcome FROM swept WHERE function NOT LIKE '\_%' AND outcome NOT IN ('ok', '22004')$$,
	'and is refused with 22004 for all others');
SELECT is_empty(
	$$SELECT function, name, outcome FROM swept WHERE function LIKE '\_%' AND outcome NOT IN ('ok', '22004', '42602')$$,
	'private functions refuse it cleanly');
SELECT is_empty(
	$$SELECT function, outcome FROM (SELECT function, pg_temp.outcome(pg_temp.call(function, array_agg(nr::integer))) AS outcome
	FROM argument GROUP BY function) s WHERE outcome <> CASE WHEN function IN ('guard_report', 'json_patch', 'merge_patch', '_guard_problem', '_last_position', '_safe_position', '_sequence_of', '_oldest_wait', '_shard',
		'_projection_is_stale', '_projection_has_reached', '_backfill_versions', '_finish_backfill', '_version_key', '_version_key_columns')
		THEN 'ok' ELSE '22004' END$$,
	'NULL for all arguments at once is refused with 22004');

-- procedures, before they commit for the first time
SELECT set_eq($$SELECT proname::text COLLATE "default", proargnames FROM pg_proc WHERE pronamespace = 'immutable'::regnamespace AND prokind = 'p'$$,
	$$VALUES ('backfill_versions', '{target,batch}'::text[]), ('catch_up', '{target}'), ('rebuild', '{target,reducer,swap}')$$, 'this file knows every procedure');
CREATE FUNCTION pg_temp.ended(query text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN EXECUTE query; RETURN 'ok'; EXCEPTION WHEN OTHERS THEN RETURN sqlstate; END $$;
SELECT is(array_agg(pg_temp.ended('CALL immutable.' || call)), '{22004,22004,22004,22004,22004}', 'and each refuses NULL with 22004')
FROM unnest('{catch_up(NULL),rebuild(NULL),"rebuild(''tap_nulls.later'', swap => NULL)",backfill_versions(NULL),"backfill_versions(''tap_nulls.later'', NULL)"}'::text[]) call;

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
SELECT results_eq(
	$$SELECT (SELECT count(*) FROM immutable.read_log('tap_nulls.ledger', 0, NULL, NULL, NULL, NULL)),
		(SELECT version FROM immutable.append_batch('tap_nulls.ledger', 'n', '{}', NULL)),
		immutable._last_position(NULL), immutable._safe_position(NULL), immutable._sequence_of(NULL), immutable._shard(NULL, 2), immutable._shard('s', NULL),
		immutable._oldest_wait('tap_nulls.ledger', NULL, 1)$$,
	$$VALUES (2::bigint, 1::bigint, NULL::bigint, NULL::bigint, NULL::regclass, NULL::integer, NULL::integer, NULL::interval)$$,
	'NULL bounds, types and prefix; NULL in, NULL out of what views call');

SELECT * FROM finish();
ROLLBACK;
