-- Every kind of relation for every argument that names one.
\set QUIET on
SET client_min_messages = warning;
BEGIN;
CREATE EXTENSION IF NOT EXISTS immutable_events;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(16);

CREATE SCHEMA tap_relations;
SET LOCAL search_path = tap_relations, public;
CREATE FUNCTION counts(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT state + 1';
CREATE FUNCTION decides(state bigint, command jsonb) RETURNS immutable.new_event[] LANGUAGE sql IMMUTABLE AS 'SELECT NULL::immutable.new_event[]';
CREATE FUNCTION newer(e immutable.event) RETURNS immutable.event LANGUAGE sql IMMUTABLE AS 'SELECT e';
DO $$ BEGIN
	PERFORM immutable.create_log('ledger');
	PERFORM immutable.create_log('wide', 1);
	PERFORM immutable.append('ledger', 's', 't');
	PERFORM immutable.append('wide', 's', 't');
END $$;
CREATE TABLE plain (stream text, version bigint);
CREATE TABLE same_columns (LIKE ledger INCLUDING ALL);
CREATE UNLOGGED TABLE unlogged (n integer);
CREATE TEMP TABLE temporary (n integer);
CREATE TABLE parted (n integer, t text) PARTITION BY RANGE (n);
CREATE TABLE parted_leaf PARTITION OF parted FOR VALUES FROM (0) TO (10);
CREATE INDEX parted_index ON parted (n);
CREATE VIEW view AS SELECT * FROM ledger;
CREATE MATERIALIZED VIEW matview AS SELECT * FROM ledger;
CREATE SEQUENCE sequence;
CREATE TYPE composite AS (n integer);
CREATE FOREIGN DATA WRAPPER tap_wrapper;
CREATE SERVER tap_server FOREIGN DATA WRAPPER tap_wrapper;
CREATE FOREIGN TABLE foreign_table (n integer) SERVER tap_server;
CREATE TABLE typed OF immutable.event;
CREATE TABLE typed_list OF immutable.event PARTITION BY LIST (stream);
CREATE TABLE typed_hash OF immutable.event PARTITION BY HASH (stream);
CREATE TABLE typed_hash_half PARTITION OF typed_hash FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TEMP TABLE typed_temporary OF immutable.event;

CREATE TEMP TABLE relation AS
SELECT name, CASE name WHEN 'toast' THEN (SELECT reltoastrelid FROM pg_class WHERE oid = 'ledger'::regclass) ELSE to_regclass(name)::oid END AS oid
FROM unnest(ARRAY['plain', 'same_columns', 'unlogged', 'temporary', 'parted', 'parted_leaf', 'parted_index', 'view', 'matview', 'sequence',
	'composite', 'foreign_table', 'ledger_pkey', 'ledger_position_seq', 'wide_p0', 'wide_pkey', 'pg_class', 'pg_class_oid_index',
	'immutable.protected_tables', 'immutable.guard_changes', 'information_schema.tables', 'toast', 'nothing']) name;
UPDATE relation SET oid = 1 WHERE name = 'nothing';

CREATE FUNCTION pg_temp.outcome(query text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE query;
	RAISE EXCEPTION USING ERRCODE = 'ZZ000';
EXCEPTION
	WHEN SQLSTATE 'ZZ000' THEN
		RETURN 'ok';
	WHEN OTHERS THEN
		RETURN sqlstate;
END $$;

SELECT is_empty('SELECT name FROM relation WHERE oid IS NULL', 'this file has made them all');

-- functions of logs
CREATE TEMP TABLE of_logs AS
SELECT r.name, f.function, pg_temp.outcome(format(f.function, r.oid)) AS outcome
FROM relation r, (VALUES
	($$SELECT immutable.append(%s, 's', 't')$$),
	($$SELECT immutable.append_batch(%s, 's', '{}')$$),
	($$SELECT immutable.append_json(%s, 's', '[{"type": "t"}]')$$),
	($$SELECT immutable.safe_position(%s)$$),
	($$SELECT immutable.persist_safe_position(%s)$$),
	($$SELECT immutable.read_log(%s)$$),
	($$SELECT immutable.horizon(%s)$$),
	($$SELECT immutable.sync_position(%s)$$),
	($$SELECT immutable.create_consumer('tap', %s)$$),
	($$SELECT immutable.enable_snapshots(%s, 'counts')$$),
	($$SELECT immutable.disable_snapshots(%s, 'counts')$$),
	($$SELECT immutable.stream_version(%s, 's')$$),
	($$SELECT immutable.read_stream(%s, 's')$$),
	($$SELECT immutable.replay(%s, 's', 0::bigint, 'counts')$$),
	($$SELECT immutable.handle(%s, 's', '{}', 0::bigint, 'decides', 'counts')$$),
	($$SELECT immutable.enable_commands(%s)$$),
	($$SELECT immutable.add_upcaster(%s, 't', 1, 'newer')$$),
	($$SELECT immutable.drop_upcaster(%s, 't', 1)$$),
	($$SELECT immutable.upcast(%s, NULL)$$),
	($$SELECT immutable.replay_all(%s, 0::bigint, 'counts')$$),
	($$SELECT immutable.drop_log(%s, true)$$)) f(function);
SELECT is_empty(
	$$SELECT * FROM of_logs WHERE outcome <> CASE name WHEN 'nothing' THEN '42P01' ELSE '42809' END$$,
	'what is no log is refused with 42809 by every function of logs');
SELECT is_empty(
	$$SELECT name, pg_temp.outcome(format('SELECT immutable.check_log(%s)', oid)) FROM relation
	WHERE pg_temp.outcome(format('SELECT immutable.check_log(%s)', oid)) <> CASE name WHEN 'nothing' THEN '42P01' ELSE '42809' END$$,
	'and by check_log');
SELECT is_empty(
	$$SELECT name, f, pg_temp.outcome(format(f, oid)) FROM relation, unnest(ARRAY['SELECT immutable._last_position(%s)', 'SELECT immutable._sequence_of(%s)']) f
	WHERE pg_temp.outcome(format(f, oid)) <> 'ok'$$,
	'what views call answers for anything');
SELECT is(immutable._oldest_wait(1, 0, 1), NULL, 'and for nothing');

-- functions of versioned tables
SELECT is_empty(
	$$SELECT name, f, pg_temp.outcome(format(f, oid)) FROM relation, unnest(ARRAY['SELECT immutable.drop_versioning(%s)', 'SELECT immutable.import_versions(%s, ''SELECT 1'')',
		'SELECT immutable.verify_versions(%s)', 'SELECT immutable.row_diff(%s, ''{}'', 1, 2)', 'SELECT immutable.revert_row(%s, ''{}'', 1)',
		'SELECT immutable._known_at(%s, now())', 'SELECT immutable._version_key(%s, ''a'', ''b'')', 'SELECT immutable._version_key_columns(%s)']) f
	WHERE pg_temp.outcome(format(f, oid)) NOT IN ('42809', '42P01', '55000')$$,
	'what is not versioned is refused by every function of versioned tables');
SELECT is_empty(
	$$SELECT name, pg_temp.outcome(format('SELECT immutable.add_versioning(%s)', oid)) FROM relation
	WHERE pg_temp.outcome(format('SELECT immutable.add_versioning(%s)', oid)) NOT IN ('42809', '42P01', '55000')
		AND name <> 'same_columns'$$,
	'add_versioning takes tables with a primary key');

-- functions of projections
CREATE FUNCTION same(r plain, e immutable.event) RETURNS plain LANGUAGE sql IMMUTABLE AS 'SELECT r';
SELECT is_empty(
	$$SELECT * FROM (SELECT r.name, f, pg_temp.outcome(format(f, r.oid)) AS outcome FROM relation r, unnest(ARRAY[
		'SELECT immutable.drop_projection(%s)', 'SELECT immutable.refresh(%s)', $q$SELECT immutable.set_projection_mode(%s, 'async')$q$,
		$q$SELECT immutable.wait_for(%s, 1)$q$, $q$SELECT immutable.skip_event(%s, 1, 'reason')$q$, 'SELECT immutable._projection_is_stale(%s)',
		'SELECT immutable._projection_has_reached(%s, 1)', 'CALL immutable.catch_up(%s)', 'SELECT immutable.verify_projection(%s)']) f) o
	WHERE outcome <> CASE name WHEN 'nothing' THEN '42P01' ELSE '42809' END$$,
	'what is no read model is refused with 42809 by every function of projections');
SELECT is_empty(
	$$SELECT * FROM (SELECT r.name, f, pg_temp.outcome(format(f, r.oid)) AS outcome FROM relation r, unnest(ARRAY[
		$q$SELECT immutable.create_projection(%s, 'ledger', 'same', key => '{version}', mode => 'async')$q$,
		$q$SELECT immutable.create_projection('plain', %s, 'same', key => '{version}', mode => 'async')$q$]) f) o
	WHERE outcome <> CASE name WHEN 'nothing' THEN '42P01' ELSE '42809' END
		AND NOT (f LIKE '%, ''ledger%' AND (outcome, name) IN (('22023', 'plain'), ('42804', 'same_columns'), ('42804', 'parted'), ('22023', 'parted')))$$,
	'nor made of anything but a table, and of the events of a log');

-- tables OF immutable.event that create_log has not made
SELECT is_empty(
	$$SELECT r, f, pg_temp.outcome(format(f, r)) FROM unnest(ARRAY['typed', 'typed_list', 'typed_hash', 'typed_temporary']) r, (VALUES
		($q$SELECT immutable.append('%s', 's', 't')$q$),
		($q$SELECT immutable.append('%s', 'stream 2', 't')$q$),
		($q$SELECT immutable.append_batch('%s', 's', '{}')$q$),
		($q$SELECT immutable.append_json('%s', 's', '[{"type": "t"}]')$q$),
		($q$SELECT immutable.safe_position('%s')$q$),
		($q$SELECT immutable.persist_safe_position('%s')$q$),
		($q$SELECT immutable.read_log('%s')$q$),
		($q$SELECT immutable.horizon('%s')$q$),
		($q$SELECT immutable.sync_position('%s')$q$),
		($q$SELECT immutable.create_consumer('tap', '%s')$q$),
		($q$SELECT immutable.enable_snapshots('%s', 'counts')$q$),
		($q$SELECT immutable.stream_version('%s', 's')$q$),
		($q$SELECT immutable.read_stream('%s', 's')$q$),
		($q$SELECT immutable.replay('%s', 's', 0::bigint, 'counts')$q$),
		($q$SELECT immutable.handle('%s', 's', '{}', 0::bigint, 'decides', 'counts')$q$),
		($q$SELECT immutable.replay_all('%s', 0::bigint, 'counts')$q$)) c(f)
	WHERE pg_temp.outcome(format(f, r)) <> '55000'$$,
	'a typed table without indexes, guards or partitions is unfit: 55000');

-- such a table, even with a sequence, keeps nobody from seeing the logs
CREATE SEQUENCE typed_position_seq OWNED BY typed.position;
DO $$ BEGIN PERFORM setval('typed_position_seq', 5); END $$;
CREATE TEMP TABLE listed (relation text, last_position bigint, safe_position bigint, armed boolean);
SELECT lives_ok(
	$$INSERT INTO listed SELECT relation, last_position, safe_position, armed FROM immutable.logs WHERE relation::text ~ '^(typed|ledger|wide)'$$,
	'logs can be read');
SELECT results_eq(
	$$SELECT relation, last_position, safe_position, armed FROM listed ORDER BY relation COLLATE "C"$$,
	$$VALUES ('ledger', 1::bigint, 0::bigint, true), ('typed', 5, NULL, false), ('typed_hash', NULL, NULL, false), ('typed_list', NULL, NULL, false),
	('typed_temporary', NULL, NULL, false), ('wide', 1, 0, true)$$,
	'and lists them all, with the safe position of those that have one');

-- protect and unprotect
SELECT bag_eq(
	$$SELECT name, pg_temp.outcome(format('SELECT immutable.protect(%s)', oid)) FROM relation$$,
	$$VALUES ('plain', 'ok'), ('same_columns', 'ok'), ('unlogged', '42809'), ('temporary', '42809'), ('parted', 'ok'), ('parted_leaf', 'ok'),
	('parted_index', '42809'), ('view', '42809'), ('matview', '42809'), ('sequence', '42809'), ('composite', '42809'), ('foreign_table', '42809'),
	('ledger_pkey', '42809'), ('ledger_position_seq', '42809'), ('wide_p0', 'ok'), ('wide_pkey', '42809'), ('pg_class', '42501'),
	('pg_class_oid_index', '42809'), ('immutable.protected_tables', '42809'), ('immutable.guard_changes', 'ok'),
	('information_schema.tables', '42809'), ('toast', '42809'), ('nothing', '42P01')$$,
	'protect takes ordinary and partitioned tables');
SELECT is_empty(
	$$SELECT name, o FROM (SELECT name, pg_temp.outcome(format('SELECT immutable.unprotect(%s)', oid)) AS o FROM relation) u
	WHERE o <> CASE name WHEN 'nothing' THEN '42P01' WHEN 'wide_p0' THEN '23001' WHEN 'immutable.guard_changes' THEN '23001' ELSE '42809' END$$,
	'unprotect takes what is protected');
SELECT is_empty(
	$$SELECT name, immutable._guard_problem(oid) FROM relation WHERE pg_temp.outcome(format('SELECT immutable._guard_problem(%s)', oid)) <> 'ok'$$,
	'_guard_problem answers for anything');
SELECT results_eq(
	$$SELECT relation::text FROM immutable.protected_tables WHERE relation IN (SELECT oid FROM relation) OR relation::text LIKE 'typed%' ORDER BY relation::text COLLATE "C"$$,
	$$VALUES ('immutable.guard_changes'), ('typed'), ('typed_hash'), ('typed_list'), ('typed_temporary'), ('wide_p0')$$,
	'protected_tables lists the guarded, and every log');

SELECT * FROM finish();
ROLLBACK;
