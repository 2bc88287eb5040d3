-- The public API as a user sees it: signatures, labels, privileges, comments.
\set QUIET on
SET client_min_messages = warning;
BEGIN;
CREATE EXTENSION IF NOT EXISTS immutable_events;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(18);

CREATE TEMP VIEW api AS
SELECT p.oid, p.proname::text COLLATE "default" AS name, pg_get_function_arguments(p.oid) AS arguments,
	pg_get_function_result(p.oid) AS result, p.prokind AS kind, p.provolatile AS volatility, p.proisstrict AS strict,
	p.proparallel AS parallel, p.prosecdef AS definer, l.lanname::text COLLATE "default" AS language,
	has_function_privilege('public', p.oid, 'EXECUTE') AS public, p.proconfig AS settings
FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE p.pronamespace = 'immutable'::regnamespace;

-- every function, and no other
SELECT results_eq(
	$$SELECT name, arguments, result FROM api WHERE name NOT LIKE '\_%' ORDER BY name COLLATE "C"$$,
	$$VALUES
	('ack', 'consumer text, upto_position bigint', 'void'),
	('add_upcaster', 'log regclass, type text, schema_version integer, upcaster regproc', 'void'),
	('add_versioning', 'target regclass, backfill text DEFAULT ''now''::text', 'regclass'),
	('append', 'log regclass, stream text, type text, data jsonb DEFAULT ''{}''::jsonb, metadata jsonb DEFAULT NULL::jsonb, '
		|| 'expected_version bigint DEFAULT NULL::bigint, id uuid DEFAULT NULL::uuid, schema_version integer DEFAULT 1', 'immutable.appended'),
	('append_batch', 'log regclass, stream text, events immutable.new_event[], expected_version bigint DEFAULT NULL::bigint', 'immutable.appended'),
	('append_json', 'log regclass, stream text, events jsonb, expected_version bigint DEFAULT NULL::bigint', 'immutable.appended'),
	('backfill_versions', 'IN target regclass, IN batch integer DEFAULT 10000', NULL),
	('catch_up', 'IN target regclass', NULL),
	('check_log', 'log regclass', 'TABLE(stream text, at_position bigint, problem text)'),
	('create_consumer', 'consumer text, log regclass, types text[] DEFAULT NULL::text[], stream_prefix text DEFAULT NULL::text, '
		|| 'after_position bigint DEFAULT NULL::bigint, shards integer DEFAULT 1, max_deliveries integer DEFAULT 5', 'void'),
	('create_log', 'name text, partitions integer DEFAULT 0, unique_ids boolean DEFAULT true', 'regclass'),
	('create_projection', 'target regclass, log regclass, reducer regproc, key text[] DEFAULT ''{stream}''::text[], types text[] DEFAULT NULL::text[], '
		|| 'stream_prefix text DEFAULT NULL::text, mode text DEFAULT ''inline''::text, commutative boolean DEFAULT false', 'void'),
	('disable_snapshots', 'log regclass, reducer regproc', 'void'),
	('drop_consumer', 'consumer text', 'void'),
	('drop_log', 'log regclass, force boolean DEFAULT false', 'void'),
	('drop_projection', 'target regclass', 'void'),
	('drop_upcaster', 'log regclass, type text, schema_version integer', 'void'),
	('drop_versioning', 'target regclass', 'void'),
	('enable_commands', 'log regclass', 'regclass'),
	('enable_snapshots', 'log regclass, reducer regproc, every integer DEFAULT 100, reducer_version integer DEFAULT 1', 'void'),
	('explain_reducer', 'reducer regproc', 'TABLE(inlined boolean, problem text)'),
	('fold', 'initial anyelement, reducer regproc, VARIADIC items "any"', 'anyelement'),
	('guard_report', 'target regclass DEFAULT NULL::regclass', 'TABLE(relation regclass, hole text, state text, detail text)'),
	('handle', 'log regclass, stream text, command jsonb, initial anyelement, decide regproc, evolve regproc, '
		|| 'command_id uuid DEFAULT NULL::uuid', 'immutable.appended'),
	('horizon', 'log regclass', 'TABLE(last_position bigint, safe_position bigint, holder_pid integer, holder_gid text, '
		|| 'holder_since timestamp with time zone, holder_query text)'),
	('import_versions', 'target regclass, query text', 'bigint'),
	('json_patch', 'state jsonb, event immutable.event', 'jsonb'),
	('merge_patch', 'state jsonb, event immutable.event', 'jsonb'),
	('nack', 'consumer text, at_position bigint, error text, retry_after interval DEFAULT ''00:00:00''::interval', 'void'),
	('persist_safe_position', 'log regclass', 'bigint'),
	('poll', 'consumer text, max_events integer DEFAULT 100, timeout interval DEFAULT ''00:00:00''::interval, '
		|| 'lease interval DEFAULT NULL::interval, shard integer DEFAULT NULL::integer', 'SETOF immutable.event'),
	('protect', 'target regclass', 'void'),
	('read_log', 'log regclass, after_position bigint DEFAULT 0, max_events bigint DEFAULT NULL::bigint, types text[] DEFAULT NULL::text[], '
		|| 'stream_prefix text DEFAULT NULL::text, upto_position bigint DEFAULT NULL::bigint', 'SETOF immutable.event'),
	('read_stream', 'log regclass, stream text, from_version bigint DEFAULT NULL::bigint, max_events bigint DEFAULT NULL::bigint, '
		|| 'backward boolean DEFAULT false', 'SETOF immutable.event'),
	('rebuild', 'IN target regclass, IN reducer regproc DEFAULT NULL::regproc, IN swap boolean DEFAULT false', NULL),
	('refresh', 'target regclass, max_events bigint DEFAULT NULL::bigint', 'bigint'),
	('renew', 'consumer text, lease interval', 'void'),
	('replay', 'log regclass, stream text, initial anyelement, reducer regproc, upto_version bigint DEFAULT NULL::bigint, '
		|| 'as_of timestamp with time zone DEFAULT NULL::timestamp with time zone', 'anyelement'),
	('replay_all', 'log regclass, initial anyelement, reducer regproc, types text[] DEFAULT NULL::text[], stream_prefix text DEFAULT NULL::text, '
		|| 'upto_position bigint DEFAULT NULL::bigint, as_of timestamp with time zone DEFAULT NULL::timestamp with time zone', 'TABLE(stream text, version bigint, state anyelement)'),
	('revert_row', 'target regclass, key jsonb, to_version bigint', 'void'),
	('row_diff', 'target regclass, key jsonb, from_version bigint, to_version bigint', 'jsonb'),
	('safe_position', 'log regclass', 'bigint'),
	('seal_ownership', 'target regclass, owner name DEFAULT ''immutable_owner''::name', 'void'),
	('seek', 'consumer text, after_position bigint', 'void'),
	('set_projection_mode', 'target regclass, mode text', 'void'),
	('skip_event', 'target regclass, at_position bigint, reason text', 'void'),
	('start_worker', '', 'integer'),
	('stop_worker', '', 'void'),
	('stream_version', 'log regclass, stream text', 'bigint'),
	('sync_position', 'log regclass', 'bigint'),
	('unpark', 'consumer text, stream text', 'void'),
	('unprotect', 'target regclass, force boolean DEFAULT false', 'void'),
	('upcast', 'log regclass, event immutable.event', 'immutable.event'),
	('verify_projection', 'target regclass', 'TABLE(key jsonb, problem text)'),
	('verify_versions', 'target regclass', 'TABLE(key jsonb, problem text)'),
	('wait_for', 'target regclass, upto_position bigint, timeout interval DEFAULT ''00:00:05''::interval', 'boolean')$$,
	'the public functions and their signatures');
SELECT results_eq(
	$$SELECT name, kind, volatility, strict, parallel, language FROM api WHERE name NOT LIKE '\_%' ORDER BY name COLLATE "C"$$,
	$$VALUES
	('ack', 'f'::"char", 'v'::"char", false, 'u'::"char", 'c'),
	('add_upcaster', 'f', 'v', false, 'u', 'c'),
	('add_versioning', 'f', 'v', false, 'u', 'c'),
	('append', 'f', 'v', false, 'u', 'c'),
	('append_batch', 'f', 'v', false, 'u', 'c'),
	('append_json', 'f', 'v', false, 'u', 'c'),
	('backfill_versions', 'p', 'v', false, 'u', 'plpgsql'),
	('catch_up', 'p', 'v', false, 'u', 'plpgsql'),
	('check_log', 'f', 'v', false, 'u', 'plpgsql'),
	('create_consumer', 'f', 'v', false, 'u', 'c'),
	('create_log', 'f', 'v', false, 'u', 'sql'),
	('create_projection', 'f', 'v', false, 'u', 'c'),
	('disable_snapshots', 'f', 'v', false, 'u', 'c'),
	('drop_consumer', 'f', 'v', false, 'u', 'c'),
	('drop_log', 'f', 'v', false, 'u', 'c'),
	('drop_projection', 'f', 'v', false, 'u', 'c'),
	('drop_upcaster', 'f', 'v', false, 'u', 'c'),
	('drop_versioning', 'f', 'v', false, 'u', 'c'),
	('enable_commands', 'f', 'v', false, 'u', 'c'),
	('enable_snapshots', 'f', 'v', false, 'u', 'c'),
	('explain_reducer', 'f', 's', false, 's', 'c'),
	('fold', 'a', 'i', false, 'u', 'internal'),
	('guard_report', 'f', 's', false, 'r', 'sql'),
	('handle', 'f', 'v', false, 'u', 'c'),
	('horizon', 'f', 'v', false, 'u', 'sql'),
	('import_versions', 'f', 'v', false, 'u', 'c'),
	('json_patch', 'f', 'i', false, 's', 'c'),
	('merge_patch', 'f', 'i', false, 's', 'c'),
	('nack', 'f', 'v', false, 'u', 'c'),
	('persist_safe_position', 'f', 'v', false, 'u', 'c'),
	('poll', 'f', 'v', false, 'u', 'c'),
	('protect', 'f', 'v', false, 'u', 'c'),
	('read_log', 'f', 'v', false, 'u', 'c'),
	('read_stream', 'f', 's', false, 'r', 'c'),
	('rebuild', 'p', 'v', false, 'u', 'c'),
	('refresh', 'f', 'v', false, 'u', 'c'),
	('renew', 'f', 'v', false, 'u', 'c'),
	('replay', 'f', 's', false, 'r', 'c'),
	('replay_all', 'f', 's', false, 'r', 'c'),
	('revert_row', 'f', 'v', false, 'u', 'plpgsql'),
	('row_diff', 'f', 's', false, 's', 'sql'),
	('safe_position', 'f', 's', false, 'u', 'c'),
	('seal_ownership', 'f', 'v', false, 'u', 'c'),
	('seek', 'f', 'v', false, 'u', 'c'),
	('set_projection_mode', 'f', 'v', false, 'u', 'c'),
	('skip_event', 'f', 'v', false, 'u', 'c'),
	('start_worker', 'f', 'v', false, 'u', 'c'),
	('stop_worker', 'f', 'v', false, 'u', 'c'),
	('stream_version', 'f', 's', false, 's', 'c'),
	('sync_position', 'f', 'v', false, 'u', 'c'),
	('unpark', 'f', 'v', false, 'u', 'c'),
	('unprotect', 'f', 'v', false, 'u', 'c'),
	('upcast', 'f', 's', false, 'r', 'c'),
	('verify_projection', 'f', 's', false, 'u', 'c'), ('verify_versions', 'f', 's', false, 's', 'plpgsql'), ('wait_for', 'f', 'v', false, 'u', 'c')$$,
	'what reads by one snapshot is STABLE, what writes or takes a new one is VOLATILE and PARALLEL UNSAFE; NULLs are judged by each function');

-- the names are used once: drivers send parameters without types
SELECT is_empty(
	$$SELECT name, count(*) FROM api GROUP BY name HAVING count(*) > 1$$,
	'no function is overloaded');

-- privileges
SELECT set_eq(
	$$SELECT name FROM api WHERE NOT public$$,
	ARRAY['_guard', '_guard_ddl_start', '_guard_ddl_end', '_guard_rewrite', '_registry_changed', 'unprotect', 'drop_log', 'start_worker', 'stop_worker', '_project', '_guard_read_model', '_version_truncate', 'drop_versioning'],
	'PUBLIC may execute all but the trigger functions and administration');
SELECT ok(has_schema_privilege('public', 'immutable', 'USAGE') AND NOT has_schema_privilege('public', 'immutable', 'CREATE'),
	'PUBLIC may use the schema and make nothing in it');
SELECT results_eq(
	$$SELECT c.relname::text COLLATE "default", string_agg(p, ',' ORDER BY p) FROM pg_class c,
		unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p
	WHERE c.relnamespace = 'immutable'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
		AND has_table_privilege('public', c.oid, p)
	GROUP BY c.relname ORDER BY c.relname::text COLLATE "C"$$,
	$$VALUES ('command_tables', 'SELECT'), ('consumer_status', 'SELECT'), ('guard_changes', 'SELECT'), ('logs', 'SELECT'), ('parked', 'SELECT'),
	('projection_status', 'SELECT'), ('projections', 'SELECT'), ('protected_tables', 'SELECT'), ('rebuild_progress', 'SELECT'), ('safe_positions', 'SELECT'), ('skipped_events', 'SELECT'), ('snapshots', 'SELECT'), ('upcasters', 'SELECT'), ('versioned_tables', 'SELECT')$$,
	'PUBLIC may read what is not of consumers, and write nothing');

-- safety of what runs with other rights, or with a search_path of somebody's
SELECT is_empty(
	$$SELECT name FROM api WHERE definer AND NOT coalesce(settings @> '{"search_path=pg_catalog, pg_temp"}', false)$$,
	'SECURITY DEFINER comes with a pinned search_path');
SELECT is_empty(
	$$SELECT name FROM api WHERE language = 'plpgsql' AND kind <> 'p' AND NOT coalesce(settings @> '{"search_path=pg_catalog, pg_temp"}', false)$$,
	'PL/pgSQL comes with a pinned search_path, but for procedures, which could not commit');

-- comments on everything
SELECT is_empty(
	$$SELECT oid::regprocedure FROM api WHERE obj_description(oid, 'pg_proc') IS NULL$$,
	'every function has a comment');
SELECT is_empty(
	$$SELECT relname FROM pg_class WHERE relnamespace = 'immutable'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
		AND obj_description(oid, 'pg_class') IS NULL$$,
	'every table and view has a comment');
SELECT is_empty(
	$$SELECT t.typname FROM pg_type t JOIN pg_class c ON c.oid = t.typrelid
	WHERE t.typnamespace = 'immutable'::regnamespace AND c.relkind = 'c' AND obj_description(t.oid, 'pg_type') IS NULL$$,
	'every composite type has a comment');
SELECT is_empty(
	$$SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
	WHERE c.relnamespace = 'immutable'::regnamespace AND c.relkind = 'c' AND a.attnum > 0 AND NOT a.attisdropped
		AND col_description(c.oid, a.attnum) IS NULL$$,
	'every column of a composite type has a comment');
SELECT is_empty(
	$$SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
	WHERE c.relnamespace = 'immutable'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
		AND (c.relkind = 'v' OR c.relkind = 'r' AND has_table_privilege('public', c.oid, 'SELECT')) AND col_description(c.oid, a.attnum) IS NULL$$,
	'every column that users see has a comment');
SELECT ok(obj_description('immutable'::regnamespace, 'pg_namespace') IS NOT NULL, 'the schema has a comment');

-- the type that every log is of
SELECT results_eq(
	$$SELECT attname::text COLLATE "default", format_type(atttypid, atttypmod), (SELECT collname FROM pg_collation c WHERE c.oid = attcollation)::text COLLATE "default"
	FROM pg_attribute WHERE attrelid = 'immutable.event'::regclass AND attnum > 0 ORDER BY attnum$$,
	$$VALUES ('position', 'bigint', NULL), ('recorded_at', 'timestamp with time zone', NULL), ('version', 'bigint', NULL),
	('id', 'uuid', NULL), ('schema_version', 'integer', NULL), ('stream', 'text', 'C'), ('type', 'text', 'C'),
	('data', 'jsonb', NULL), ('metadata', 'jsonb', NULL)$$,
	'immutable.event has the columns of the contract, in their order');
SELECT results_eq(
	$$SELECT attrelid::regclass::text, string_agg(attname::text COLLATE "default" || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM pg_attribute
	WHERE attrelid IN ('immutable.new_event'::regclass, 'immutable.appended'::regclass) AND attnum > 0 GROUP BY attrelid::regclass::text ORDER BY 1$$,
	$$VALUES ('immutable.appended', 'version bigint, position bigint, written integer'),
	('immutable.new_event', 'type text, data jsonb, metadata jsonb, id uuid, schema_version integer')$$,
	'what goes in and what comes back has the columns of the contract');
SELECT results_eq(
	$$SELECT relname::text COLLATE "default", string_agg(attname::text COLLATE "default", ' ' ORDER BY attnum) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND attnum > 0
	WHERE relnamespace = 'immutable'::regnamespace AND relkind = 'v' GROUP BY relname ORDER BY relname::text COLLATE "C"$$,
	$$VALUES ('consumer_status', 'consumer shard position safe_position lag_events lag_seconds holder holder_pid lease_token lease_until last_poll'),
	('logs', 'relation events last_position safe_position size armed'), ('parked', 'consumer stream position deliveries error'),
	('projection_status', 'target log mode state position safe_position lag_events lag_seconds refreshed_at error error_sqlstate error_position error_event worker'), ('protected_tables', 'relation armed problem'),
	('rebuild_progress', 'target phase events_done events_total events_per_second started_at pid'), ('workers', 'pid database started_at state last_activity events')$$,
	'the views and their columns');
SELECT results_eq(
	$$SELECT c.relname::text COLLATE "default", e.extcondition[array_position(e.extconfig, c.oid)] COLLATE "default" FROM pg_class c, pg_extension e
	WHERE e.extname = 'immutable_events' AND c.relnamespace = 'immutable'::regnamespace AND c.relkind = 'r' ORDER BY c.relname::text COLLATE "C"$$,
	$$VALUES ('command_tables', ''), ('consumer_shards', ''), ('consumer_streams', ''), ('consumers', ''), ('guard_changes', ''),
	('projection_positions', ''), ('projections', ''), ('safe_positions', ''), ('skipped_events', ''), ('snapshots', ''), ('upcasters', ''), ('versioned_tables', '')$$,
	'a dump carries every registry');

SELECT * FROM finish();
ROLLBACK;
