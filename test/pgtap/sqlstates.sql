-- Every SQLSTATE of the contract is thrown where it says.
\set QUIET on
SET client_min_messages = warning;
BEGIN;
CREATE EXTENSION IF NOT EXISTS immutable_events;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(219);

-- what plan() made is used by every role below
DO $$ BEGIN
	EXECUTE format('GRANT ALL ON ALL TABLES IN SCHEMA %1$s TO PUBLIC; GRANT ALL ON ALL SEQUENCES IN SCHEMA %1$s TO PUBLIC', pg_my_temp_schema()::regnamespace);
END $$;
CREATE ROLE tap_owner;
CREATE ROLE tap_other;
CREATE SCHEMA tap_data AUTHORIZATION tap_owner;
GRANT USAGE ON SCHEMA tap_data TO tap_other;
SET ROLE tap_owner;
CREATE TABLE tap_data.audit (n integer PRIMARY KEY);
CREATE TABLE tap_data.bare (n integer);
CREATE VIEW tap_data.seen AS SELECT * FROM tap_data.audit;
INSERT INTO tap_data.audit VALUES (1);
CREATE FUNCTION tap_data.careless(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql AS 'SELECT state + 1';
CREATE FUNCTION tap_data.decides(state bigint, command jsonb) RETURNS immutable.new_event[] LANGUAGE plpgsql AS $$
BEGIN
	IF command ? 'reject' THEN
		RAISE EXCEPTION 'rejected' USING ERRCODE = 'TAP01';
	ELSIF command ? 'append' THEN
		PERFORM immutable.append('tap_data.orders', 's', 't');
	END IF;
	RETURN ARRAY[ROW('t', command, NULL, NULL, NULL)]::immutable.new_event[];
END $$;
CREATE FUNCTION tap_data.decides_strictly(state bigint, command jsonb) RETURNS immutable.new_event[] LANGUAGE sql STRICT AS 'SELECT NULL::immutable.new_event[]';
CREATE FUNCTION tap_data.decides_many(state bigint, command jsonb) RETURNS SETOF immutable.new_event[] LANGUAGE sql AS 'SELECT NULL::immutable.new_event[]';
-- a command, an id and a decider
CREATE FUNCTION tap_data.handle(command text, id integer DEFAULT NULL, decide text DEFAULT 'decides', log text DEFAULT 'orders', stream text DEFAULT 's', initial bigint DEFAULT 0)
RETURNS text LANGUAGE sql
RETURN format('SELECT immutable.handle(%L, %L, %L, %L::bigint, %L, %L, %L)', 'tap_data.' || log, stream, command, initial, 'tap_data.' || decide, 'tap_data.counts', lpad(id::text, 32, '0'));
CREATE FUNCTION tap_data.counts(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT state + 1';
CREATE FUNCTION tap_data.newer(e immutable.event) RETURNS immutable.event LANGUAGE sql IMMUTABLE AS $$
	SELECT e.position, e.recorded_at, e.version, e.id, e.schema_version + 1, e.stream, e.type, e.data, e.metadata
$$;
CREATE FUNCTION tap_data.same(e immutable.event) RETURNS immutable.event LANGUAGE sql IMMUTABLE AS 'SELECT e';
CREATE FUNCTION tap_data.any_time(e immutable.event) RETURNS immutable.event LANGUAGE sql AS 'SELECT e';
DO $$ BEGIN
	PERFORM immutable.protect('tap_data.audit');
	PERFORM immutable.create_log('tap_data.ledger');
	PERFORM immutable.create_log('tap_data.wide', 3);
	PERFORM immutable.create_log('tap_data.orders');
	PERFORM immutable.append('tap_data.ledger', 's', 't', id => '018f0000-0000-7000-8000-000000000001');
	PERFORM immutable.create_consumer('tap', 'tap_data.ledger', after_position => 0);
END $$;

-- 23001: a change to something immutable
SELECT throws_ok('UPDATE tap_data.audit SET n = 2', '23001', 'cannot update immutable table "audit"', 'UPDATE');
SELECT throws_ok('DELETE FROM tap_data.audit', '23001', 'cannot delete from immutable table "audit"', 'DELETE');
SELECT throws_ok('TRUNCATE tap_data.audit', '23001', 'cannot truncate immutable table "audit"', 'TRUNCATE');
SELECT throws_ok('INSERT INTO tap_data.audit VALUES (1) ON CONFLICT (n) DO UPDATE SET n = 2',
	'23001', 'cannot update immutable table "audit"', 'ON CONFLICT DO UPDATE');
SELECT throws_ok('MERGE INTO tap_data.audit a USING (VALUES (1)) v(n) ON a.n = v.n WHEN MATCHED THEN DELETE',
	'23001', 'cannot delete from immutable table "audit"', 'MERGE');
SELECT throws_ok('INSERT INTO tap_data.ledger SELECT * FROM tap_data.ledger',
	'23001', 'cannot insert into immutable table "ledger"', 'INSERT into a log');
SELECT throws_ok('UPDATE tap_data.wide SET data = ''{}''', '23001', 'cannot update immutable table "wide"', 'UPDATE of a log');
SELECT lives_ok('INSERT INTO tap_data.audit VALUES (2)', 'INSERT into a protected table is welcome');

-- 40001: the expected version is not met
SELECT throws_ok('SELECT immutable.append(''tap_data.ledger'', ''s'', ''t'', expected_version => 0)',
	'40001', 'cannot append to stream "s"', 'expected_version 0 of a stream that exists');
SELECT throws_ok('SELECT immutable.append(''tap_data.ledger'', ''s'', ''t'', expected_version => 7)',
	'40001', 'cannot append to stream "s"', 'another expected_version');
SELECT throws_ok('SELECT immutable.append(''tap_data.ledger'', ''none'', ''t'', expected_version => -4)',
	'40001', 'cannot append to stream "none"', 'expected_version -4 of a stream that does not exist');
SELECT throws_ok('SELECT immutable.append(''tap_data.wide'', ''none'', ''t'', expected_version => 1)',
	'40001', 'cannot append to stream "none"', 'expected_version over partitions');
SELECT throws_ok($$SELECT immutable.append_batch('tap_data.ledger', 's', '{}', 7)$$, '40001', $$cannot append to stream "s"$$, 'append_batch');
SELECT throws_ok($$SELECT immutable.append_json('tap_data.ledger', 's', '[{"type": "t"}]', 0)$$, '40001', $$cannot append to stream "s"$$, 'append_json');

-- 23505: the id stands elsewhere
SELECT throws_ok('SELECT immutable.append(''tap_data.ledger'', ''other'', ''t'', id => ''018f0000-0000-7000-8000-000000000001'')',
	'23505', 'event id "018f0000-0000-7000-8000-000000000001" stands already in log "ledger"', 'an id of another stream');
SELECT throws_ok('SELECT immutable.append(''tap_data.ledger'', ''s'', ''t'', expected_version => 1, id => ''018f0000-0000-7000-8000-000000000001'')',
	'23505', 'event id "018f0000-0000-7000-8000-000000000001" stands already in log "ledger"', 'an id of another version');
SELECT throws_ok($$SELECT immutable.append_json('tap_data.ledger', 'other', '[{"type": "t", "id": "018f0000-0000-7000-8000-000000000001"}, {"type": "t"}]')$$, '23505', $$event id "018f0000-0000-7000-8000-000000000001" stands already in log "ledger"$$, 'a batch with an id of another stream');
SELECT throws_ok($$SELECT immutable.append_json('tap_data.ledger', 's', '[{"type": "t", "id": "018f0000-0000-7000-8000-000000000001"}, {"type": "t"}]')$$, '23505', $$event id "018f0000-0000-7000-8000-000000000001" stands already in log "ledger"$$, 'a batch that stands in part');

-- 22023: a bad argument
SELECT throws_ok('SELECT immutable.append(''tap_data.ledger'', '''', ''t'')', '22023', 'stream must not be empty', 'empty stream');
SELECT throws_ok('SELECT immutable.append(''tap_data.ledger'', ''s'', '''')', '22023', 'type must not be empty', 'empty type');
SELECT throws_ok('SELECT immutable.append(''tap_data.ledger'', ''s'', ''$t'')', '22023', 'type "$t" is reserved', 'reserved type');
SELECT throws_ok('SELECT immutable.append(''tap_data.ledger'', ''s'', ''t'', ''[]'')', '22023', 'data must be a JSON object', 'data');
SELECT throws_ok('SELECT immutable.append(''tap_data.ledger'', ''s'', ''t'', ''{}'', ''1'')', '22023', 'metadata must be a JSON object', 'metadata');
SELECT throws_ok('SELECT immutable.append(''tap_data.ledger'', ''s'', ''t'', schema_version => 0)', '22023', 'schema_version must be 1 or more', 'schema_version');
SELECT throws_ok('SELECT immutable.append(''tap_data.ledger'', ''s'', ''t'', expected_version => -1)', '22023', 'expected_version -1 has no meaning', 'expected_version -1');
SELECT throws_ok('SELECT immutable.create_log(''tap_data.x'', 1025)', '22023', 'partitions must be between 0 and 1024', 'partitions');
SELECT throws_ok('SELECT immutable.read_stream(''tap_data.ledger'', ''s'', 0)', '22023', 'from_version must be 1 or more', 'from_version');
SELECT throws_ok('SELECT immutable.read_stream(''tap_data.ledger'', ''s'', max_events => -1)', '22023', 'max_events must not be negative', 'max_events');
SELECT throws_ok('SELECT immutable.replay(''tap_data.ledger'', ''s'', 0::bigint, ''tap_data.counts'', -1)', '22023', 'upto_version must not be negative', 'upto_version');
SELECT throws_ok('SELECT immutable.replay_all(''tap_data.ledger'', 0::bigint, ''tap_data.counts'', upto_position => -1)', '22023', 'upto_position must not be negative', 'upto_position');
SELECT throws_ok('SELECT immutable.replay(''tap_data.ledger'', ''s'', 0::bigint, ''tap_data.careless'')', '22023',
	'function tap_data.careless(bigint,immutable.event) cannot be a reducer', 'a VOLATILE reducer');
SELECT throws_ok('SET immutable.context = ''[]''', '22023', 'invalid value for parameter "immutable.context": "[]"', 'immutable.context');
SELECT throws_ok($$SELECT immutable.append_json('tap_data.ledger', 's', '{}')$$, '22023', $$events must be a JSON array$$, 'append_json of an object');
SELECT throws_ok($$SELECT immutable.append_json('tap_data.ledger', 's', '[7]')$$, '22023', $$event 1 must be a JSON object$$, 'an event that is no object');
SELECT throws_ok($$SELECT immutable.append_json('tap_data.ledger', 's', '[{"type": "t", "x": 1}]')$$, '22023', $$event 1 has a key that is not known$$, 'an unknown key');
SELECT throws_ok($$SELECT immutable.append_json('tap_data.ledger', 's', '[{"type": 1}]')$$, '22023', $$type of event 1 must be a string$$, 'a type that is no string');
SELECT throws_ok($$SELECT immutable.append_json('tap_data.ledger', 's', '[{"type": "t", "id": "x"}]')$$, '22P02', $$invalid input syntax for type uuid: "x"$$, 'an id that is no uuid');
SELECT throws_ok($$SELECT immutable.read_log('tap_data.ledger', -1)$$, '22023', $$after_position must not be negative$$, 'after_position');
SELECT throws_ok($$SELECT immutable.read_log('tap_data.ledger', 0, -1)$$, '22023', $$max_events must not be negative$$, 'max_events of read_log');
SELECT throws_ok($$SELECT immutable.create_consumer('', 'tap_data.ledger')$$, '22023', $$the name of a consumer must have 1 to 1024 bytes$$, 'the name of a consumer');
SELECT throws_ok($$SELECT immutable.create_consumer('x', 'tap_data.ledger', shards => 0)$$, '22023', $$shards must be between 1 and 1024$$, 'shards');
SELECT throws_ok($$SELECT immutable.create_consumer('x', 'tap_data.ledger', max_deliveries => 0)$$, '22023', $$max_deliveries must be 1 or more$$, 'max_deliveries');
SELECT throws_ok($$SELECT immutable.create_consumer('x', 'tap_data.ledger', after_position => 1)$$, '22023', $$after_position must be between 0 and the safe position$$, 'a position that is not safe yet');
SELECT throws_ok($$SELECT immutable.seek('tap', -1)$$, '22023', $$after_position must be between 0 and the safe position$$, 'seek');
SELECT throws_ok($$SELECT immutable.poll('tap', 0)$$, '22023', $$max_events must be 1 or more$$, 'max_events of poll');
SELECT throws_ok($$SELECT immutable.poll('tap', timeout => '-1 s')$$, '22023', $$timeout must not be negative$$, 'timeout');
SELECT throws_ok($$SELECT immutable.poll('tap', lease => '0')$$, '22023', $$lease must be positive$$, 'lease');
SELECT throws_ok($$SELECT immutable.poll('tap', shard => 1)$$, '22023', $$shard must be between 0 and 0$$, 'shard');
SELECT throws_ok($$SELECT immutable.unpark('tap', 's')$$, '22023', $$stream "s" is not parked for consumer "tap"$$, 'unpark');

SELECT throws_ok($$SELECT immutable.enable_snapshots('tap_data.ledger', 'tap_data.counts', 0)$$, '22023', 'every must be 1 or more', 'every');
SELECT throws_ok($$SELECT immutable.enable_snapshots('tap_data.ledger', 'tap_data.careless')$$, '22023',
	'function tap_data.careless(bigint,immutable.event) cannot be a reducer', 'snapshots of a VOLATILE reducer');

-- 22004: NULL where none is allowed
SELECT throws_ok($$SELECT immutable.append_json('tap_data.ledger', 's', '[{}]')$$, '22004', 'type of event 1 must not be NULL', 'an event without a type');
SELECT throws_ok($$SELECT immutable.append_batch('tap_data.ledger', 's', '{NULL}')$$, '22004', 'event 1 must not be NULL', 'an event that is NULL');

-- 25P01, 25006, 42704, 42710, 55000: consumers
SELECT lives_ok($$SELECT immutable.poll('tap', lease => '1 hour')$$, 'poll within a transaction');
SELECT results_eq($$SELECT position FROM immutable.poll('tap')$$, 'VALUES (1::bigint)', 'its own event is readable');
SELECT throws_ok($$SELECT immutable.ack('tap', 2)$$, '22023', 'position 2 is not among what was polled', 'ack of what was not polled');
SELECT throws_ok($$SELECT immutable.nack('tap', 0, 'error')$$, '22023', 'position 0 is not among what was polled', 'nack of what was not polled');
SELECT throws_ok($$SELECT immutable.nack('tap', 1, 'error', '-1 s')$$, '22023', 'retry_after must not be negative', 'retry_after');
SELECT throws_ok($$SELECT immutable.renew('tap', '1 hour')$$, '55000', 'consumer "tap" is held by this transaction, not by a lease', 'renew without a lease');
SELECT throws_ok($$SELECT immutable.create_consumer('tap', 'tap_data.ledger')$$, '42710', 'consumer "tap" already exists', 'create_consumer twice');
SELECT throws_ok(format('SELECT immutable.%s', call), '42704', 'consumer "none" does not exist', call)
FROM unnest(ARRAY[$$ack('none', 1)$$, $$nack('none', 1, 'error')$$, $$renew('none', '1 s')$$, $$poll('none')$$, $$seek('none', 0)$$,
	$$unpark('none', 's')$$, $$drop_consumer('none')$$]) call;
SELECT immutable.create_consumer('idle', 'tap_data.ledger') \gset idle_
SELECT throws_ok(format('SELECT immutable.%s', call), '55000', 'nothing is held of consumer "idle"', call)
FROM unnest(ARRAY[$$ack('idle', 1)$$, $$nack('idle', 1, 'error')$$, $$renew('idle', '1 s')$$]) call;

-- commands: what handle refuses, and the state it leaves
SELECT throws_ok(tap_data.handle('{"a": 1}', 1), '55000', 'log "orders" cannot record commands', 'a command id without a table for it');
SELECT lives_ok($$SELECT immutable.enable_commands('tap_data.orders')$$, 'enable_commands');
SELECT lives_ok(tap_data.handle('{"a": 1}', 1), 'a command');
SELECT lives_ok(tap_data.handle('{"a": 1}', 1), 'the same command again');
SELECT results_eq('SELECT version, data FROM tap_data.orders', $$VALUES (1::bigint, '{"a": 1}'::jsonb)$$, 'is handled once');
SELECT throws_ok(tap_data.handle('{"a": 2}', 1), '23505', 'command id "00000000-0000-0000-0000-000000000001" stands already in "orders_commands"', 'another command with its id');
SELECT throws_ok(tap_data.handle('{"a": 1}', 1, stream => 'other'), '23505', 'command id "00000000-0000-0000-0000-000000000001" stands already in "orders_commands"', 'its id in another stream');
SELECT throws_ok(tap_data.handle('{"reject": 1}', 2), 'TAP01', 'rejected', 'what decide raises');
SELECT throws_ok(tap_data.handle('{"append": 1}', 2), '22023', 'function tap_data.decides(bigint,jsonb) cannot be a decider', 'a decider that appends to the stream');
SELECT throws_ok(tap_data.handle('[]', 2), '22023', 'command must be a JSON object', 'a command that is no object');
SELECT throws_ok(tap_data.handle('{}', 2, stream => ''), '22023', 'stream must not be empty', 'a command to an empty stream');
SELECT throws_ok(tap_data.handle('{}', 2, decide => 'decides_many'), '22023', 'function tap_data.decides_many(bigint,jsonb) cannot be a decider', 'a decider that returns a set');
SELECT throws_ok(tap_data.handle('{}', 2, decide => 'counts'), '42804', 'function tap_data.counts(bigint,immutable.event) cannot be the decider here', 'a reducer for a decider');
SELECT throws_ok(tap_data.handle('{}', 2, decide => 'nothing'), '42883', 'function "tap_data.nothing" does not exist', 'a decider that does not exist');
SELECT throws_ok(tap_data.handle('{}', 2, decide => 'decides_strictly', stream => 'new', initial => NULL), '22004',
	'the state that strict decider tap_data.decides_strictly(bigint,jsonb) decides on must not be NULL', 'a strict decider and no state');
SELECT throws_ok(tap_data.handle('{}', log => 'audit'), '42809', '"audit" is not a log', 'handle');
SELECT throws_ok($$SELECT immutable.enable_commands('tap_data.audit')$$, '42809', '"audit" is not a log', 'enable_commands');
SELECT throws_ok('UPDATE tap_data.orders_commands SET written = 0', '23001', 'cannot update immutable table "orders_commands"', 'UPDATE of recorded commands');
SELECT results_eq('SELECT count(*) FROM tap_data.orders_commands', 'VALUES (1::bigint)', 'what was refused is not recorded');
-- 22023, 42704, 42710, 42804, 42883: upcasters
SELECT lives_ok($$SELECT immutable.add_upcaster('tap_data.ledger', 'old', 2, 'tap_data.newer')$$, 'add_upcaster');
SELECT throws_ok($$SELECT immutable.add_upcaster('tap_data.ledger', 'old', 2, 'tap_data.newer')$$, '42710', 'type "old" has an upcaster for schema_version 2 already', 'add_upcaster twice');
SELECT throws_ok($$SELECT immutable.add_upcaster('tap_data.ledger', 'old', 4, 'tap_data.newer')$$, '22023', 'upcasters of type "old" would pass over a schema_version', 'a gap between upcasters');
SELECT throws_ok($$SELECT immutable.add_upcaster('tap_data.ledger', 'old', 0, 'tap_data.newer')$$, '22023', 'schema_version must be between 1 and 2147483646', 'schema_version of an upcaster');
SELECT throws_ok($$SELECT immutable.add_upcaster('tap_data.ledger', '$t', 1, 'tap_data.newer')$$, '22023', 'type must have 1 to 1024 bytes and not begin with "$"', 'type of an upcaster');
SELECT throws_ok($$SELECT immutable.add_upcaster('tap_data.ledger', 'x', 1, 'tap_data.same')$$, '22023', 'upcaster tap_data.same(immutable.event) does not keep the rules', 'an upcaster that would go in a circle');
SELECT throws_ok($$SELECT immutable.add_upcaster('tap_data.ledger', 'x', 1, 'tap_data.any_time')$$, '22023', 'function tap_data.any_time(immutable.event) cannot be an upcaster', 'a VOLATILE upcaster');
SELECT throws_ok($$SELECT immutable.add_upcaster('tap_data.ledger', 'x', 1, 'tap_data.counts')$$, '42804', 'function tap_data.counts(bigint,immutable.event) cannot be an upcaster', 'an upcaster of other types');
SELECT throws_ok($$SELECT immutable.add_upcaster('tap_data.ledger', 'x', 1, '1')$$, '42883', 'function with OID 1 does not exist', 'an upcaster that does not exist');
SELECT throws_ok($$SELECT immutable.fold(0::bigint, 'tap_data.counts', s) FROM (SELECT 1 AS n, NULL::bigint AS position, NULL::timestamptz AS recorded_at, NULL::bigint AS version,
	NULL::uuid AS id, 2 AS schema_version, 's' AS stream, 'old' AS type, '{}'::jsonb AS data, '{}'::jsonb AS metadata) s$$,
	'22023', 'cannot fold a record that is an event of an old schema_version', 'fold of a record that would be upcast');
SELECT throws_ok($$SELECT immutable.drop_upcaster('tap_data.ledger', 'old', 1)$$, '42704', 'type "old" of log "ledger" has no upcaster for schema_version 1', 'drop_upcaster of none');
SELECT lives_ok($$SELECT immutable.add_upcaster('tap_data.ledger', 'old', v, 'tap_data.newer') FROM generate_series(3, 4) v$$, 'a chain');
SELECT throws_ok($$SELECT immutable.drop_upcaster('tap_data.ledger', 'old', 3)$$, '22023', 'upcasters of type "old" would pass over a schema_version', 'drop_upcaster within a chain');
ALTER FUNCTION tap_data.newer RENAME TO newest;
SELECT throws_ok($$SELECT immutable.upcast('tap_data.ledger', ROW(NULL, NULL, NULL, NULL, 2, NULL, 'old', NULL, NULL))$$,
	'42883', 'upcaster tap_data.newer(immutable.event) does not exist', 'an upcaster that was renamed');
ALTER FUNCTION tap_data.newest RENAME TO newer;
SELECT throws_ok($$SELECT immutable.disable_snapshots('tap_data.ledger', 'tap_data.counts')$$, '42704',
	'log "ledger" has no snapshots of reducer tap_data.counts(bigint,immutable.event)', 'disable_snapshots of what is not enabled');

-- 42804: a reducer of other types
SELECT throws_ok('SELECT immutable.replay_all(''tap_data.ledger'', 0, ''tap_data.counts'')', '42804',
	'function tap_data.counts(bigint,immutable.event) cannot be the reducer here', 'a reducer of another type in replay_all');
SELECT throws_ok('SELECT immutable.replay(''tap_data.ledger'', ''s'', 0, ''tap_data.counts'')', '42804',
	'function tap_data.counts(bigint,immutable.event) cannot be the reducer here', 'a reducer of another state');
SELECT throws_ok($$SELECT immutable.explain_reducer('texteq')$$, '42804', 'function texteq(text,text) cannot be the reducer here', 'explain_reducer of what returns another type');
SELECT throws_ok($$SELECT immutable.explain_reducer(0)$$, '42883', 'function with OID 0 does not exist', 'explain_reducer of nothing');
SELECT throws_ok($$SELECT immutable.explain_reducer(NULL)$$, '22004', 'reducer must not be NULL', 'explain_reducer of NULL');

-- 42809: not a log, or not a table to protect
SELECT throws_ok('SELECT immutable.append(''tap_data.audit'', ''s'', ''t'')', '42809', '"audit" is not a log', 'append to a table');
SELECT throws_ok($$SELECT immutable.check_log('tap_data.audit')$$, '42809', NULL, 'check_log');
SELECT throws_ok($$SELECT immutable.append_batch('tap_data.audit', 's', '{}')$$, '42809', $$"audit" is not a log$$, 'append_batch');
SELECT throws_ok($$SELECT immutable.append_json('tap_data.audit', 's', '[]')$$, '42809', $$"audit" is not a log$$, 'append_json');
SELECT throws_ok($$SELECT immutable.read_log('tap_data.seen')$$, '42809', $$"seen" is not a log$$, 'read_log');
SELECT throws_ok($$SELECT immutable.safe_position('tap_data.audit')$$, '42809', $$"audit" is not a log$$, 'safe_position');
SELECT throws_ok($$SELECT immutable.persist_safe_position('tap_data.wide_p0')$$, '42809', $$"wide_p0" is not a log$$, 'persist_safe_position');
SELECT throws_ok($$SELECT immutable.horizon('tap_data.audit')$$, '42809', $$"audit" is not a log$$, 'horizon');
SELECT throws_ok($$SELECT immutable.sync_position('tap_data.audit')$$, '42809', $$"audit" is not a log$$, 'sync_position');
SELECT throws_ok($$SELECT immutable.create_consumer('x', 'tap_data.audit')$$, '42809', $$"audit" is not a log$$, 'create_consumer');
SELECT throws_ok($$SELECT immutable.add_upcaster('tap_data.audit', 't', 1, 'tap_data.newer')$$, '42809', $$"audit" is not a log$$, 'add_upcaster');
SELECT throws_ok($$SELECT immutable.drop_upcaster('tap_data.audit', 't', 1)$$, '42809', $$"audit" is not a log$$, 'drop_upcaster');
SELECT throws_ok($$SELECT immutable.upcast('tap_data.wide_p0', NULL)$$, '42809', $$"wide_p0" is not a log$$, 'upcast');
SELECT throws_ok($$SELECT immutable.enable_snapshots('tap_data.audit', 'tap_data.counts')$$, '42809', $$"audit" is not a log$$, 'enable_snapshots');
SELECT throws_ok('SELECT immutable.stream_version(''tap_data.wide_p0'', ''s'')', '42809', '"wide_p0" is not a log', 'read a leaf');
SELECT throws_ok('SELECT immutable.replay(''tap_data.seen'', ''s'', 0::bigint, ''tap_data.counts'')', '42809', '"seen" is not a log', 'replay a view');
SELECT throws_ok('SELECT immutable.replay_all(''tap_data.seen'', 0::bigint, ''tap_data.counts'')', '42809', '"seen" is not a log', 'replay_all of a view');
SELECT throws_ok('SELECT immutable.protect(''tap_data.seen'')', '42809', 'cannot protect "seen"', 'protect a view');
RESET ROLE;
SELECT throws_ok('SELECT immutable.unprotect(''tap_data.bare'')', '42809', 'table "bare" is not protected', 'unprotect what is not protected');
SELECT throws_ok('SELECT immutable.drop_log(''tap_data.bare'')', '42809', '"bare" is not a log', 'drop_log of a table');
SELECT throws_ok('SELECT immutable.drop_log(''tap_data.ledger'')', '23001', 'log "ledger" holds events', 'drop_log of a log with events');

-- 42501: privilege
SET ROLE tap_other;
SELECT throws_ok('SELECT immutable.append(''tap_data.ledger'', ''s'', ''t'')', '42501', 'permission denied for table ledger', 'append without INSERT');
SELECT throws_ok($$SELECT immutable.append_batch('tap_data.ledger', 's', '{}')$$, '42501', $$permission denied for table ledger$$, 'append_batch without INSERT');
SELECT throws_ok($$SELECT immutable.append_json('tap_data.ledger', 's', '[]')$$, '42501', $$permission denied for table ledger$$, 'append_json without INSERT');
SELECT throws_ok($$SELECT immutable.read_log('tap_data.ledger')$$, '42501', $$permission denied for table ledger$$, 'read_log without SELECT');
SELECT throws_ok(tap_data.handle('{}'), '42501', 'permission denied for table orders', 'handle without INSERT');
SELECT throws_ok($$SELECT immutable.enable_commands('tap_data.ledger')$$, '42501', 'must be owner of table ledger', 'enable_commands for the log of another');
SELECT throws_ok($$SELECT immutable.safe_position('tap_data.ledger')$$, '42501', $$permission denied for table ledger$$, 'safe_position without SELECT');
SELECT throws_ok($$SELECT immutable.persist_safe_position('tap_data.ledger')$$, '42501', $$permission denied for table ledger$$, 'persist_safe_position without SELECT');
SELECT throws_ok($$SELECT immutable.horizon('tap_data.ledger')$$, '42501', $$permission denied for table ledger$$, 'horizon without SELECT');
SELECT throws_ok($$SELECT immutable.check_log('tap_data.ledger')$$, '42501', $$permission denied for table ledger$$, 'check_log without SELECT');
SELECT throws_ok($$SELECT immutable.sync_position('tap_data.ledger')$$, '42501', $$must be owner of table ledger$$, 'sync_position of the log of another');
SELECT throws_ok($$SELECT immutable.add_upcaster('tap_data.ledger', 't', 1, 'tap_data.newer')$$, '42501', $$must be owner of table ledger$$, 'add_upcaster to the log of another');
SELECT throws_ok($$SELECT immutable.drop_upcaster('tap_data.ledger', 'old', 2)$$, '42501', $$must be owner of table ledger$$, 'drop_upcaster of the log of another');
SELECT throws_ok($$SELECT immutable.create_consumer('x', 'tap_data.ledger')$$, '42501', $$permission denied for table ledger$$, 'create_consumer without SELECT');
SELECT throws_ok($$SELECT immutable.enable_snapshots('tap_data.ledger', 'tap_data.counts')$$, '42501', $$must be owner of table ledger$$, 'enable_snapshots on the log of another');
SELECT throws_ok($$SELECT immutable.disable_snapshots('tap_data.ledger', 'tap_data.counts')$$, '42501', $$must be owner of table ledger$$, 'disable_snapshots on the log of another');
SELECT throws_ok($$SELECT immutable.poll('tap')$$, '42501', $$permission denied for consumer of role "tap_owner"$$, 'poll of another role');
SELECT throws_ok($$SELECT immutable.ack('tap', 1)$$, '42501', $$permission denied for consumer of role "tap_owner"$$, 'ack of another role');
SELECT throws_ok($$SELECT immutable.nack('tap', 1, 'error')$$, '42501', $$permission denied for consumer of role "tap_owner"$$, 'nack of another role');
SELECT throws_ok($$SELECT immutable.renew('tap', '1 s')$$, '42501', $$permission denied for consumer of role "tap_owner"$$, 'renew of another role');
SELECT throws_ok($$SELECT immutable.seek('tap', 0)$$, '42501', $$permission denied for consumer of role "tap_owner"$$, 'seek of another role');
SELECT throws_ok($$SELECT immutable.unpark('tap', 's')$$, '42501', $$permission denied for consumer of role "tap_owner"$$, 'unpark of another role');
SELECT throws_ok($$SELECT immutable.drop_consumer('tap')$$, '42501', $$permission denied for consumer of role "tap_owner"$$, 'drop_consumer of another role');
SELECT throws_ok('SELECT immutable.read_stream(''tap_data.ledger'', ''s'')', '42501', 'permission denied for table ledger', 'read without SELECT');
SELECT throws_ok('SELECT immutable.replay(''tap_data.ledger'', ''s'', 0::bigint, ''tap_data.counts'')', '42501', 'permission denied for table ledger', 'replay without SELECT');
SELECT throws_ok('SELECT immutable.replay_all(''tap_data.ledger'', 0::bigint, ''tap_data.counts'')', '42501', 'permission denied for table ledger', 'replay_all without SELECT');
SELECT throws_ok('SELECT immutable.protect(''tap_data.audit'')', '42501', 'must be owner of table audit', 'protect the table of another');
SELECT throws_ok('SELECT immutable.unprotect(''tap_data.audit'')', '42501', 'permission denied for function unprotect', 'unprotect without EXECUTE');
SELECT throws_ok('SELECT immutable.start_worker()', '42501', 'permission denied for function start_worker', 'start_worker without EXECUTE');
SELECT throws_ok('SELECT immutable.stop_worker()', '42501', 'permission denied for function stop_worker', 'stop_worker without EXECUTE');
SELECT throws_ok('SELECT immutable.drop_log(''tap_data.ledger'', true)', '42501', 'permission denied for function drop_log', 'drop_log without EXECUTE');
SELECT throws_ok('SELECT immutable.create_log(''tap_data.mine'')', '42501', 'permission denied for schema tap_data', 'create_log without CREATE');

SELECT throws_ok(format('SELECT FROM immutable.%I', t), '42501', 'permission denied for table ' || t, 'nobody reads ' || t)
FROM unnest('{consumers,consumer_shards,consumer_streams}'::text[]) t;
SELECT throws_ok(format('DELETE FROM immutable.%I', t), '42501', 'permission denied for table ' || t, 'nobody writes to ' || t)
FROM unnest('{consumers,consumer_shards,consumer_streams,safe_positions,command_tables,upcasters}'::text[]) t;
SELECT is_empty('SELECT consumer FROM immutable.consumer_status', 'nobody sees the consumers of others');

-- projections
SET ROLE tap_owner;
CREATE TABLE tap_data.model (type text PRIMARY KEY, n bigint NOT NULL DEFAULT 0);
CREATE FUNCTION tap_data.model(r tap_data.model, e immutable.event) RETURNS tap_data.model LANGUAGE sql IMMUTABLE AS
$$ SELECT r.type, r.n + 1 / (length(e.type) - 6) $$;
DO $$ BEGIN
	PERFORM immutable.create_log('tap_data.source');
	PERFORM immutable.append('tap_data.source', 's', t) FROM unnest('{good,poison}'::text[]) t;
END $$;
SELECT throws_ok($$SELECT immutable.create_projection('tap_data.model', 'tap_data.source', 'tap_data.model', key => '{type}')$$,
	'22023', 'the key of inline projection "model" does not hold the stream', 'an inline key without the stream');
SELECT throws_ok($$SELECT immutable.create_projection('tap_data.model', 'tap_data.source', 'tap_data.model', key => '{type}', commutative => true)$$,
	'22012', 'division by zero', 'a history that cannot be folded');
SELECT lives_ok($$SELECT immutable.create_projection('tap_data.model', 'tap_data.source', 'tap_data.model', key => '{type}', mode => 'async')$$, 'create_projection');
SELECT throws_ok($$SELECT immutable.create_projection('tap_data.model', 'tap_data.source', 'tap_data.model', key => '{type}', mode => 'async')$$,
	'42710', '"model" is the read model of a projection already', 'create_projection twice');
SELECT results_eq($$SELECT immutable.refresh('tap_data.model')$$, 'VALUES (2::bigint)', 'refresh goes over both');
SELECT results_eq('SELECT state, error_sqlstate, error_position FROM immutable.projection_status', $$VALUES ('halted', '22012', 2::bigint)$$, 'and halts before one');
SELECT throws_ok($$SELECT immutable._projection_has_reached('tap_data.model', 2)$$, '55000', 'projection "model" is halted', 'a halted projection');
SELECT throws_ok($$SELECT immutable.skip_event('tap_data.model', 1, 'x')$$, '22023', 'projection "model" has passed position 1', 'skip_event of the past');
SELECT throws_ok('DELETE FROM tap_data.model', '23001', 'cannot change read model "model"', 'a write to a read model');
SELECT throws_ok('DROP TABLE tap_data.model', '23001', 'cannot drop read model "model"', 'DROP TABLE of a read model');
SELECT throws_ok('DROP FUNCTION tap_data.model', '2BP01', 'cannot drop function tap_data.model(tap_data.model,immutable.event)', 'DROP FUNCTION of a reducer');
RESET ROLE;
SELECT throws_ok($$SELECT immutable.drop_log('tap_data.source', true)$$, '2BP01', 'cannot drop log "source"', 'drop_log under a projection');
SET ROLE tap_other;
SELECT throws_ok($$SELECT immutable.refresh('tap_data.model')$$, '42501', 'permission denied for projection "model"', 'refresh of another role');
SELECT throws_ok($$SELECT immutable.wait_for('tap_data.model', 1)$$, '42501', 'permission denied for table model', 'wait_for without SELECT');
SELECT throws_ok(q, '42501', 'permission denied for projection "model"', q)
FROM unnest(ARRAY[$$SELECT immutable.skip_event('tap_data.model', 2, 'x')$$, $$SELECT immutable.set_projection_mode('tap_data.model', 'inline')$$,
	$$SELECT immutable.drop_projection('tap_data.model')$$, $$SELECT * FROM immutable.verify_projection('tap_data.model')$$, $$CALL immutable.catch_up('tap_data.model')$$]) q;
SELECT throws_ok($$SELECT immutable.create_projection('tap_data.audit', 'tap_data.source', 'tap_data.model')$$, '42501', 'permission denied for table source', 'create_projection without SELECT');
SET ROLE tap_owner;
SELECT throws_ok($$CALL immutable.rebuild('tap_data.model')$$, '25001', 'immutable.rebuild cannot run inside a transaction block', 'rebuild in a function');

-- 55000: guards are missing
SET ROLE tap_owner;
SELECT throws_ok('DROP TRIGGER immutable_guard_row ON tap_data.ledger', '23001', 'cannot alter immutable table "ledger"', 'DROP TRIGGER of a guard');
RESET ROLE;
ALTER EVENT TRIGGER immutable_guard_ddl_start DISABLE;
SET ROLE tap_owner;
DROP TRIGGER immutable_guard_row ON tap_data.ledger;
SELECT throws_ok('SELECT immutable.append(''tap_data.ledger'', ''s'', ''t'')', '55000', 'log "ledger" is unfit for appends', 'append without a guard');
SELECT throws_ok($$SELECT immutable.append_batch('tap_data.ledger', 's', '{}')$$, '55000', 'log "ledger" is unfit for appends', 'append_batch without a guard');
SELECT throws_ok($$SELECT immutable.append_json('tap_data.ledger', 's', '[{"type": "t"}]')$$, '55000', 'log "ledger" is unfit for appends', 'append_json without a guard');
SELECT throws_ok(tap_data.handle('{}', log => 'ledger'), '55000', 'log "ledger" is unfit for appends', 'handle without a guard');
DROP TRIGGER immutable_guard_row ON tap_data.orders_commands;
SELECT throws_ok(tap_data.handle('{}', 3), '55000', 'log "orders" cannot record commands', 'handle without a guard on the commands');
DO $$ BEGIN PERFORM immutable.protect('tap_data.ledger'); END $$;
SELECT lives_ok('SELECT immutable.append(''tap_data.ledger'', ''s'', ''t'')', 'append with its guard again');

RESET ROLE;
-- versioned rows
SET ROLE tap_owner;
CREATE TABLE tap_data.item (id integer PRIMARY KEY, n integer);
CREATE TABLE tap_data.keyless (n integer);
CREATE TABLE tap_data.keyed (id integer PRIMARY KEY);
SELECT lives_ok($$SELECT immutable.add_versioning('tap_data.item', 'lazy')$$, 'a versioned table');
SELECT throws_ok($$SELECT immutable.add_versioning(NULL)$$, '22004', 'target must not be NULL', 'add_versioning to nothing');
SELECT throws_ok($$SELECT immutable.add_versioning('tap_data.keyless', 'never')$$, '22023', 'backfill must be "now" or "lazy", not "never"', 'another backfill');
SELECT throws_ok($$SELECT immutable.add_versioning('tap_data.keyless')$$, '55000', 'cannot version "keyless"', 'a table without a key');
SELECT throws_ok($$SELECT immutable.add_versioning('tap_data.audit')$$, '42809', 'cannot version "audit"', 'an immutable table');
SELECT throws_ok($$SELECT * FROM tap_data.item__as_of('infinity')$$, '55000', 'rows of table "item" are not all known yet', 'as_of before the backfill');
SELECT throws_ok($$SELECT * FROM tap_data.item__as_of('2001-01-01 UTC')$$, '55000', NULL, 'as_of before versioning');
SELECT throws_ok($$SELECT * FROM tap_data.item__as_of(NULL)$$, '22004', 'at_time must not be NULL', 'as_of no time');
SELECT throws_ok($$SELECT immutable.import_versions('tap_data.item', 'SELECT 1 AS id')$$, '22023', 'cannot import versions of table "item"', 'import_versions without row_start');
SELECT throws_ok($$SELECT immutable.import_versions('tap_data.item', 'SELECT 1::bigint AS id, now() AS row_start')$$, '42804', NULL, 'import_versions of another type');
SELECT throws_ok($$SELECT immutable.row_diff('tap_data.item', '{"id": 1}', 1, 2)$$, '22023', NULL, 'row_diff of a version that is not there');
SELECT throws_ok($$SELECT immutable.revert_row('tap_data.item', '[]', 1)$$, '22023', 'key must be a JSON object', 'revert_row of no key');
SELECT throws_ok($$SELECT immutable.verify_versions('tap_data.keyless')$$, '42809', NULL, 'verify_versions of another table');
SELECT throws_ok($$TRUNCATE tap_data.item$$, '23001', 'cannot truncate versioned table "item"', 'TRUNCATE');
SELECT throws_ok($$INSERT INTO tap_data.item_versions SELECT * FROM tap_data.item_versions LIMIT 0$$, '23001', NULL, 'INSERT into a version table');
SELECT throws_ok($$SELECT immutable.safe_position('tap_data.item_versions')$$, '55000', 'table "item_versions" cannot be read by position', 'safe_position without an index');
SELECT throws_ok($$SELECT immutable.drop_versioning('tap_data.item')$$, '42501', 'permission denied for function drop_versioning', 'drop_versioning without EXECUTE');
SET transaction_read_only = on;
SELECT throws_ok($$SELECT immutable.add_versioning('tap_data.keyed')$$, '25006', NULL, 'add_versioning in a read-only transaction');
SELECT throws_ok($$SELECT immutable.import_versions('tap_data.item', 'SELECT 1 AS id, ''2020-01-01''::timestamptz AS row_start')$$, '25006', NULL, 'import_versions in a read-only transaction');
RESET ROLE;
SELECT * FROM finish();
ROLLBACK;
