-- A schema full of look-alikes, first in the search_path of whoever calls.
\set QUIET on
SET client_min_messages = warning;
BEGIN;
CREATE EXTENSION IF NOT EXISTS immutable_events;
CREATE EXTENSION IF NOT EXISTS pgtap;
SET LOCAL track_functions = 'all';
SELECT plan(67);

DO $$ BEGIN
	EXECUTE format('GRANT ALL ON ALL TABLES IN SCHEMA %1$s TO PUBLIC; GRANT ALL ON ALL SEQUENCES IN SCHEMA %1$s TO PUBLIC', pg_my_temp_schema()::regnamespace);
END $$;
CREATE ROLE tap_mallory;
CREATE ROLE tap_victim;
CREATE SCHEMA hostile AUTHORIZATION tap_mallory;
GRANT USAGE ON SCHEMA hostile TO PUBLIC;
CREATE SCHEMA tap_victim AUTHORIZATION tap_victim;
SET ROLE tap_mallory;

-- whoever calls one of these has lost: it raises
CREATE FUNCTION hostile.trap() RETURNS integer LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a look-alike was called' USING ERRCODE = 'ZZ666'; END $$;
GRANT EXECUTE ON FUNCTION hostile.trap() TO PUBLIC;
-- all operators on the types that SQL text of the extension may compare, under every common name
DO $make$
DECLARE
	op text;
	t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['text', 'bigint', 'integer', 'uuid', 'jsonb', 'oid', 'name', 'boolean', 'regclass', 'timestamp with time zone'] LOOP
		EXECUTE format('CREATE FUNCTION hostile.cmp(%1$s, %1$s) RETURNS boolean LANGUAGE sql AS ''SELECT hostile.trap() IS NULL''', t);
		FOREACH op IN ARRAY ARRAY['=', '<>', '<', '<=', '>', '>=', '||', '+', '-'] LOOP
			EXECUTE format('CREATE OPERATOR hostile.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = hostile.cmp)', op, t, t);
		END LOOP;
	END LOOP;
END $make$;
-- functions with the names and arguments of built-ins
DO $make$
DECLARE
	f text;
BEGIN
	FOREACH f IN ARRAY ARRAY['nextval(regclass) bigint', 'setval(regclass, bigint) bigint', 'now() timestamptz', 'clock_timestamp() timestamptz',
		'cardinality(name[]) integer', 'format(text, text) text', 'format(text, VARIADIC text[]) text', 'jsonb_concat(jsonb, jsonb) jsonb',
		'quote_ident(text) text', 'to_regclass(text) regclass', 'gen_random_uuid() uuid', 'int8pl(bigint, bigint) bigint',
		'textcat(text, text) text', 'coalesce_text(text) text', 'lower(text) text', 'protect(regclass) void', 'append(regclass, text, text) void',
		'_create_log(name, name, name, name[], boolean) regclass',
		'starts_with(text, text) boolean', 'unnest(anyarray) integer', 'generate_series(integer, integer) integer', 'hashtextextended(text, bigint) bigint',
		'_shard(text, integer) integer', 'has_table_privilege(oid, text) boolean', 'pg_is_in_recovery() boolean', 'current_database() name', 'pg_get_serial_sequence(text, text) text'] LOOP
		EXECUTE format('CREATE FUNCTION hostile.%s RETURNS %s LANGUAGE sql AS %L', left(f, -length(split_part(f, ') ', 2)) - 1), split_part(f, ') ', 2),
			'SELECT hostile.trap()' || CASE split_part(f, ') ', 2) WHEN 'void' THEN '' ELSE '::text::' || split_part(f, ') ', 2) END);
	END LOOP;
END $make$;
-- types and tables with the names of those it uses
CREATE DOMAIN hostile.event AS text;
CREATE DOMAIN hostile.text AS pg_catalog.text CHECK (false);
CREATE DOMAIN hostile.regclass AS pg_catalog.text CHECK (false);
CREATE DOMAIN hostile.uuid AS pg_catalog.text CHECK (false);
CREATE DOMAIN hostile.jsonb AS pg_catalog.text CHECK (false);
CREATE TABLE hostile.guard_changes (changed_at timestamptz, relation pg_catalog.text, action pg_catalog.text, role name, session_role name);
CREATE TABLE hostile.pg_class (oid oid, relname name);
CREATE TABLE hostile.pg_trigger (oid oid);
CREATE TABLE hostile.pg_depend (objid oid);
CREATE TABLE hostile.safe_positions (log oid, position pg_catalog.int8);
CREATE TABLE hostile.consumers (consumer pg_catalog.text, log oid, owner name);
CREATE TABLE hostile.consumer_shards (consumer pg_catalog.text, shard pg_catalog.int4, position pg_catalog.int8);
CREATE TABLE hostile.consumer_streams (consumer pg_catalog.text, stream pg_catalog.text);
CREATE TABLE hostile.upcasters (log oid, type pg_catalog.text, schema_version pg_catalog.int4, upcaster pg_catalog.text);
GRANT ALL ON ALL TABLES IN SCHEMA hostile TO PUBLIC;

-- the victim has it first in the path, and pg_catalog behind it
RESET ROLE;
SET ROLE tap_victim;
CREATE FUNCTION tap_victim.scenario() RETURNS SETOF pg_catalog.text LANGUAGE plpgsql SET search_path = hostile, pg_catalog AS $$
DECLARE
	log pg_catalog.name;
	a immutable.appended;
	e immutable.event;
BEGIN
	FOREACH log IN ARRAY '{plain,wide,secured}'::pg_catalog.name[] LOOP
		PERFORM immutable.create_log('tap_victim.' OPERATOR(pg_catalog.||) log::pg_catalog.text, CASE WHEN log OPERATOR(pg_catalog.=) 'wide' THEN 2 ELSE 0 END);
	END LOOP;
	ALTER TABLE tap_victim.secured ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
	CREATE POLICY everything ON tap_victim.secured USING (true) WITH CHECK (true);
	PERFORM pg_catalog.set_config('immutable.context', '{"who": "victim"}', true);
	FOREACH log IN ARRAY '{plain,wide,secured}'::pg_catalog.name[] LOOP
		FOR i IN 1..3 LOOP
			SELECT * INTO a FROM immutable.append(pg_catalog.to_regclass('tap_victim.' OPERATOR(pg_catalog.||) log::pg_catalog.text), 's', 't',
				'{"n": 1}', '{"own": true}', i OPERATOR(pg_catalog.-) 1, ('018f0000-0000-7000-8000-00000000000' OPERATOR(pg_catalog.||) i::pg_catalog.text)::pg_catalog.uuid);
			RETURN NEXT pg_catalog.concat_ws(' ', log, a.version, a.position, a.written);
		END LOOP;
		SELECT * INTO a FROM immutable.append(pg_catalog.to_regclass('tap_victim.' OPERATOR(pg_catalog.||) log::pg_catalog.text), 's', 't', id => '018f0000-0000-7000-8000-000000000002');
		RETURN NEXT pg_catalog.concat_ws(' ', log, 'retry', a.version, a.position, a.written);
		FOR e IN SELECT * FROM immutable.read_stream(pg_catalog.to_regclass('tap_victim.' OPERATOR(pg_catalog.||) log::pg_catalog.text), 's', 2, backward => true) LOOP
			RETURN NEXT pg_catalog.concat_ws(' ', log, 'read', e.version, e.data, e.metadata);
		END LOOP;
	END LOOP;
END $$;
CREATE TABLE tap_victim.audit (n integer);
CREATE FUNCTION tap_victim.total(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN state + (e.data->>'n')::bigint + e.version;

SELECT lives_ok('CREATE TEMP TABLE transcript AS SELECT * FROM tap_victim.scenario() WITH ORDINALITY s(line, nr)', 'create_log, append and read_stream');
SELECT results_eq(
	'SELECT line FROM transcript ORDER BY nr',
	$$VALUES ('plain 1 1 1'), ('plain 2 2 1'), ('plain 3 3 1'), ('plain retry 2 2 0'),
	('plain read 2 {"n": 1} {"own": true, "who": "victim"}'), ('plain read 1 {"n": 1} {"own": true, "who": "victim"}'),
	('wide 1 1 1'), ('wide 2 2 1'), ('wide 3 3 1'), ('wide retry 2 2 0'),
	('wide read 2 {"n": 1} {"own": true, "who": "victim"}'), ('wide read 1 {"n": 1} {"own": true, "who": "victim"}'),
	('secured 1 1 1'), ('secured 2 2 1'), ('secured 3 3 1'), ('secured retry 2 2 0'),
	('secured read 2 {"n": 1} {"own": true, "who": "victim"}'), ('secured read 1 {"n": 1} {"own": true, "who": "victim"}')$$,
	'with the results that they have elsewhere');

-- calls that need no PL/pgSQL around them; the tests themselves want a clean path
CREATE FUNCTION pg_temp.in_hostile(query pg_catalog.text) RETURNS pg_catalog.text LANGUAGE plpgsql SET search_path = hostile, pg_catalog AS $$
DECLARE
	answer pg_catalog.text;
BEGIN
	EXECUTE query INTO answer;
	RETURN answer;
END $$;
SELECT throws_ok($$SELECT pg_temp.in_hostile('SELECT 1::bigint = 1::bigint')$$, 'ZZ666', 'a look-alike was called', 'the traps work: an operator');
SELECT throws_ok($$SELECT pg_temp.in_hostile('SELECT clock_timestamp()')$$, 'ZZ666', 'a look-alike was called', 'a function');
SELECT throws_ok($$SELECT pg_temp.in_hostile('SELECT ''x''::text')$$, '23514', 'value for domain text violates check constraint "text_check"', 'a type');
SELECT is(pg_temp.in_hostile($$SELECT immutable.replay('tap_victim.plain', 's', 0::bigint, 'tap_victim.total')$$), '9', 'replay');
SELECT is(pg_temp.in_hostile($$SELECT immutable.replay('tap_victim.secured', 's', 0::bigint, 'tap_victim.total', 2)$$), '5', 'replay under row security');
SELECT is(pg_temp.in_hostile(format($$SELECT pg_catalog.sum(state) FROM immutable.replay_all('tap_victim.%s', 0::pg_catalog.int8, 'tap_victim.total', '{t,u}', 's', 1000)$$, log)),
	'9', 'replay_all of ' || log) FROM unnest('{plain,secured}'::text[]) log;
SELECT is(pg_temp.in_hostile($$SELECT immutable.fold(0::bigint, 'tap_victim.total', e ORDER BY e.version) FROM tap_victim.wide e$$), '9', 'fold');
SELECT is(pg_temp.in_hostile($$SELECT immutable.stream_version('tap_victim.secured', 's')$$), '3', 'stream_version');
SELECT lives_ok($$SELECT pg_temp.in_hostile('SELECT immutable.protect(''tap_victim.audit'')')$$, 'protect');
SELECT is(pg_temp.in_hostile($$SELECT pg_catalog.count(*) FROM immutable.protected_tables WHERE armed AND relation OPERATOR(pg_catalog.=) 'tap_victim.audit'::pg_catalog.regclass$$),
	'1', 'protected_tables');
SELECT throws_ok($$SELECT pg_temp.in_hostile('UPDATE tap_victim.audit SET n = 1')$$, '23001', 'cannot update immutable table "audit"', 'the guard');

-- commands
CREATE FUNCTION tap_victim.decides(n pg_catalog.int8, command pg_catalog.jsonb) RETURNS immutable.new_event[] LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
	RETURN ARRAY[ROW('t', command, NULL, NULL, NULL)::immutable.new_event];
END $$;
SELECT is(pg_temp.in_hostile($$SELECT immutable.enable_commands('tap_victim.plain')$$), 'tap_victim.plain_commands', 'enable_commands');
SELECT is(pg_temp.in_hostile($$SELECT (a).version FROM immutable.handle('tap_victim.plain', 'c', '{"n": 1}', 0::pg_catalog.int8, 'tap_victim.decides', 'tap_victim.total', '018f0000-0000-7000-8000-0000000000bb') a$$),
	'1', 'handle ' || n) FROM generate_series(1, 2) n;
SELECT is(pg_temp.in_hostile($$SELECT (a).version FROM immutable.handle('tap_victim.secured', 'c', '{"n": 1}', 0::pg_catalog.int8, 'tap_victim.decides', 'tap_victim.total') a$$),
	'1', 'handle under row security');

-- batches, the horizon, and consumers
SELECT is(pg_temp.in_hostile(format($$SELECT (a).version FROM immutable.append_batch('tap_victim.%s', 'b', ARRAY[ROW('t', '{"n": 1}', NULL, NULL, NULL),
	ROW('u', NULL, NULL, NULL, NULL)]::immutable.new_event[], 0) a$$, log)), '2', 'append_batch of ' || log) FROM unnest('{plain,wide,secured}'::text[]) log;
SELECT is(pg_temp.in_hostile($$SELECT (a).written FROM immutable.append_json('tap_victim.plain', 'j',
	'[{"type": "t", "id": "018f0000-0000-7000-8000-0000000000aa"}, {"type": "t", "schema_version": 2}]') a$$), '2', 'append_json');
SELECT is(pg_temp.in_hostile($$SELECT (a).written FROM immutable.append_json('tap_victim.plain', 'j',
	'[{"type": "t", "id": "018f0000-0000-7000-8000-0000000000aa"}, {"type": "t", "schema_version": 2}]') a$$), '0', 'append_json again');
SELECT is(pg_temp.in_hostile(format($$SELECT pg_catalog.string_agg(position::pg_catalog.text, ' '::pg_catalog.text) FROM immutable.read_log('tap_victim.%s', 1, 3, '{t,u}', 's')$$, log)),
	'2 3', 'read_log of ' || log) FROM unnest('{plain,wide,secured}'::text[]) log;
SELECT is(pg_temp.in_hostile($$SELECT immutable.persist_safe_position('tap_victim.wide')$$), '0', 'persist_safe_position');
SELECT is(pg_temp.in_hostile($$SELECT last_position FROM immutable.horizon('tap_victim.wide')$$), '5', 'horizon');
SELECT is(pg_temp.in_hostile($$SELECT pg_catalog.count(*) FROM immutable.check_log('tap_victim.wide')$$), '0', 'check_log');
SELECT is(pg_temp.in_hostile($$SELECT pg_catalog.count(*) FROM immutable.logs$$), '3', 'logs');
SELECT lives_ok($$SELECT pg_temp.in_hostile('SELECT immutable.sync_position(''tap_victim.wide'')')$$, 'sync_position');
CREATE FUNCTION tap_victim.consume() RETURNS pg_catalog.text LANGUAGE plpgsql SET search_path = hostile, pg_catalog AS $$
DECLARE
	got pg_catalog.text[];
BEGIN
	PERFORM immutable.create_consumer('tap', 'tap_victim.wide', '{t,u}', '', 0, 2, 1);
	SELECT pg_catalog.array_agg(p.stream) INTO got FROM immutable.poll('tap', 10, shard => immutable._shard('s', 2)) p WHERE p.stream OPERATOR(pg_catalog.=) 's';
	PERFORM immutable.nack('tap', 2, 'failed');
	PERFORM immutable.ack('tap', 3);
	PERFORM FROM immutable.parked;
	PERFORM immutable.unpark('tap', 's');
	PERFORM immutable.poll('tap', 10, shard => immutable._shard('s', 2));
	PERFORM immutable.ack('tap', 1);
	PERFORM immutable.seek('tap', 0);
	PERFORM immutable.poll('tap', 10, lease => '1 hour');
	PERFORM immutable.renew('tap', '2 hours');
	PERFORM FROM immutable.consumer_status;
	PERFORM immutable.drop_consumer('tap');
	RETURN pg_catalog.array_to_string(got, ' '::pg_catalog.text);
END $$;
SELECT is(tap_victim.consume(), 's s s', 'consumers');

-- upcasters, and a reader who consumes through them
CREATE FUNCTION tap_victim.newer(e immutable.event) RETURNS immutable.event LANGUAGE sql IMMUTABLE
RETURN ROW(e.position, e.recorded_at, e.version, e.id, e.schema_version + 1, e.stream, e.type, e.data || '{"n": 2}', e.metadata)::immutable.event;
SELECT lives_ok(format($$SELECT pg_temp.in_hostile('SELECT immutable.add_upcaster(''tap_victim.%s'', ''t'', 1, ''tap_victim.newer'')')$$, log), 'add_upcaster of ' || log)
FROM unnest('{wide,secured}'::text[]) log;
SELECT is(pg_temp.in_hostile($$SELECT pg_catalog.string_agg(position::pg_catalog.text, ' '::pg_catalog.text) FROM immutable.read_log('tap_victim.wide', 1, 3, '{t,u}', 's')$$),
	'2 3', 'read_log with upcasters');
SELECT is(pg_temp.in_hostile($$SELECT immutable.replay('tap_victim.secured', 's', 0::bigint, 'tap_victim.total', 2)$$), '7', 'replay with upcasters');
SELECT is(tap_victim.consume(), 's s s', 'consumers with upcasters');
SELECT lives_ok($$SELECT pg_temp.in_hostile('SELECT immutable.drop_upcaster(''tap_victim.secured'', ''t'', 1)')$$, 'drop_upcaster');
-- versioned rows
CREATE TABLE tap_victim.item (id pg_catalog.int4 PRIMARY KEY, label pg_catalog.text, at timestamptz);
CREATE FUNCTION tap_victim.versions() RETURNS pg_catalog.text LANGUAGE plpgsql SET search_path = hostile, pg_catalog AS $$
DECLARE
	got pg_catalog.text;
BEGIN
	PERFORM immutable.add_versioning('tap_victim.item', 'lazy');
	PERFORM immutable.import_versions('tap_victim.item', 'SELECT 1 AS id, ''a''::pg_catalog.text AS label, ''2020-01-01''::timestamptz AS row_start');
	INSERT INTO tap_victim.item VALUES (1, 'b'), (2, 'c');
	PERFORM FROM immutable._backfill_versions('tap_victim.item', 0, 10);
	PERFORM immutable._finish_backfill('tap_victim.item');
	UPDATE tap_victim.item SET label = 'd';
	ALTER TABLE tap_victim.item ADD COLUMN extra pg_catalog.text DEFAULT 'e';
	DELETE FROM tap_victim.item WHERE id OPERATOR(pg_catalog.=) 2;
	PERFORM immutable.revert_row('tap_victim.item', '{"id": 2}', 1);
	PERFORM immutable.revert_row('tap_victim.item', '{"id": 1}', 1);
	PERFORM FROM tap_victim.item__as_of(pg_catalog.now());
	PERFORM FROM tap_victim.item__between('-infinity', pg_catalog.now());
	PERFORM FROM tap_victim.item__from_to('-infinity', pg_catalog.now());
	PERFORM FROM tap_victim.item__history;
	SELECT v.problem INTO got FROM immutable.verify_versions('tap_victim.item') v;
	RETURN pg_catalog.concat_ws('; ', immutable.row_diff('tap_victim.item', '{"id": 1}', 1, 3), got);
END $$;
SELECT is(tap_victim.versions(), '{"label": {"to": "d", "from": "a"}}', 'versioned rows');
SELECT is((SELECT string_agg(concat_ws(' ', id, row_version, row_operation, label, extra), ', ' ORDER BY id, row_version) FROM tap_victim.item_versions),
	'1 1 I a e, 1 2 I b e, 1 3 U d e, 1 4 U a e, 2 1 I c e, 2 2 U d e, 2 3 D d e, 2 4 I c e', 'and what was recorded');
-- projections, whose reducers meet the path that was in force when they were made
CREATE TABLE tap_victim.model (stream pg_catalog.text COLLATE "C" PRIMARY KEY, n pg_catalog.int8 NOT NULL DEFAULT 0);
CREATE TABLE tap_victim.later (LIKE tap_victim.model INCLUDING ALL);
CREATE FUNCTION tap_victim.model(r tap_victim.model, e immutable.event) RETURNS tap_victim.model LANGUAGE sql IMMUTABLE
RETURN ROW((r).stream, (r).n + 1)::tap_victim.model;
CREATE FUNCTION tap_victim.later(r tap_victim.later, e immutable.event) RETURNS tap_victim.later LANGUAGE sql IMMUTABLE
RETURN ROW((r).stream, 1 / (e.version - 2))::tap_victim.later;
SELECT lives_ok(format('SELECT pg_temp.in_hostile(%L)', call), call) FROM unnest(ARRAY[
	$$SELECT immutable.create_projection('tap_victim.model', 'tap_victim.plain', 'tap_victim.model', '{stream}', '{t,u}', '')$$,
	$$SELECT immutable.append('tap_victim.plain', 'p', 't')$$,
	$$SELECT pg_catalog.count(*) FROM immutable.verify_projection('tap_victim.model')$$,
	$$SELECT immutable.create_projection('tap_victim.later', 'tap_victim.secured', 'tap_victim.later', mode => 'async')$$,
	$$SELECT immutable.refresh('tap_victim.later')$$,
	$$SELECT pg_catalog.count(*) FROM immutable.projection_status$$,
	$$SELECT immutable.wait_for('tap_victim.model', 0, '1 ms')$$,
	$$SELECT immutable.set_projection_mode('tap_victim.model', 'async')$$,
	$$SELECT immutable.refresh('tap_victim.model')$$,
	$$SELECT immutable.drop_projection('tap_victim.model')$$,
	$$SELECT immutable.enable_snapshots('tap_victim.plain', 'tap_victim.total', 1)$$,
	$$SELECT immutable.replay('tap_victim.plain', 's', 0::pg_catalog.int8, 'tap_victim.total')$$,
	$$SELECT immutable.replay('tap_victim.plain', 's', 0::pg_catalog.int8, 'tap_victim.total')$$,
	$$SELECT immutable.disable_snapshots('tap_victim.plain', 'tap_victim.total')$$,
	$$SELECT pg_catalog.count(*) FROM immutable.explain_reducer('tap_victim.total')$$,
	$$SELECT pg_catalog.count(*) FROM immutable.guard_report('tap_victim.plain')$$,
	$$SELECT pg_catalog.count(immutable.upcast('tap_victim.wide', e)) FROM tap_victim.wide e$$,
	$$SELECT immutable.merge_patch('{"a": 1}', e) FROM immutable.read_stream('tap_victim.plain', 's') e LIMIT 1$$]) call;
SELECT is(pg_temp.in_hostile($$SELECT error_sqlstate FROM immutable.projection_status WHERE mode OPERATOR(pg_catalog.=) 'async'$$), '22012', 'a halted projection');
SELECT lives_ok($$SELECT pg_temp.in_hostile('SELECT immutable.skip_event(''tap_victim.later'', error_position, ''x'') FROM immutable.projection_status WHERE error IS NOT NULL')$$, 'skip_event');
SELECT is(pg_temp.in_hostile($$SELECT immutable.json_patch('{"a": 1}', ROW(1, NULL, 1, NULL, 1, 's', 't', '{"patch": [{"op": "remove", "path": "/a"}]}', NULL)::immutable.event)$$), '{}', 'json_patch');
RESET ROLE;
SELECT lives_ok($$SELECT pg_temp.in_hostile('SELECT immutable.seal_ownership(''tap_victim.audit'')')$$, 'seal_ownership by a superuser');
SELECT lives_ok($$SELECT pg_temp.in_hostile('SELECT immutable.drop_versioning(''tap_victim.item'')')$$, 'drop_versioning by a superuser');
SELECT lives_ok($$SELECT pg_temp.in_hostile('SELECT immutable.unprotect(''tap_victim.audit'')')$$, 'unprotect by a superuser');
SELECT lives_ok($$SELECT pg_temp.in_hostile('SELECT immutable.drop_log(''tap_victim.wide'', true)')$$, 'drop_log by a superuser');
SELECT is((SELECT count(*) FROM hostile.guard_changes), 0::bigint, 'the audit trail is the real one');

-- every function that can be called in a transaction has been
SELECT is_empty($$SELECT proname FROM pg_proc p WHERE pronamespace = 'immutable'::regnamespace AND proname !~ '^_' AND prokind = 'f' AND proname !~ '_worker$'
	AND NOT EXISTS (SELECT FROM pg_stat_xact_user_functions f WHERE f.funcid = p.oid)$$, 'every function was called');

SELECT * FROM finish();
ROLLBACK;
