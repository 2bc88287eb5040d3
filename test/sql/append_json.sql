-- append_json: a batch as a JSON array, which any driver can send.
\set SHOW_CONTEXT never
CREATE ROLE regress_json;
CREATE SCHEMA append_json AUTHORIZATION regress_json;
SET search_path = append_json;
SET ROLE regress_json;
SELECT immutable.create_log('ledger'), immutable.create_log('wide', 3);

-- every key, in any order; what is left out or null has its default
SELECT * FROM immutable.append_json('ledger', 'a', '[
	{"type": "opened", "data": {"owner": "ann"}, "metadata": {"by": "bob"}, "id": "018f0000-0000-7000-8000-000000000001", "schema_version": 3},
	{"schema_version": 2.0, "type": "deposited"},
	{"type": "closed", "data": null, "metadata": null, "id": null, "schema_version": null}]');
SELECT position, version, id = '018f0000-0000-7000-8000-000000000001' AS given, schema_version, type, data, metadata
FROM ledger ORDER BY position;

-- values come in as they are
SELECT version FROM immutable.append_json('ledger', 'values', '[{"type": "t", "data":
	{"nested": {"array": [1, "two", null, {"three": 3}], "number": 12345678901234567890.123456789, "unicode": "äé\u00fc\"\\", "empty": {}, "false": false}}},
	{"type": "Привет \"quoted\"", "data": {"type": "not this one", "id": 7}}]');
SELECT type, data FROM ledger WHERE stream = 'values' ORDER BY version;
SET immutable.context = '{"user": "ann"}';
SELECT version FROM immutable.append_json('ledger', 'context', '[{"type": "t"}, {"type": "t", "metadata": {"user": "bob", "n": 1}}]');
RESET immutable.context;
SELECT metadata FROM ledger WHERE stream = 'context' ORDER BY version;

-- the same as append_batch of the same events
SELECT version, written FROM immutable.append_json('wide', 'json', (SELECT jsonb_agg(jsonb_build_object('type', 't' || n,
	'data', jsonb_build_object('n', n), 'schema_version', n) ORDER BY n) FROM generate_series(1, 200) n), 0);
SELECT version, written FROM immutable.append_batch('wide', 'array', ARRAY(SELECT ROW('t' || n, jsonb_build_object('n', n), NULL, NULL, n)::immutable.new_event
	FROM generate_series(1, 200) n ORDER BY n), 0);
SELECT count(*), bool_and(j.type = a.type AND j.data = a.data AND j.metadata = a.metadata AND j.schema_version = a.schema_version) AS same
FROM immutable.read_stream('wide', 'json') j JOIN immutable.read_stream('wide', 'array') a USING (version);

-- a retry is recognised by the ids
SELECT * FROM immutable.append_json('ledger', 'a', '[{"type": "opened", "id": "018f0000-0000-7000-8000-000000000001"}]', 0);
SELECT * FROM immutable.append_json('ledger', 'a', '[{"type": "opened", "id": "{018F0000-00007000-8000-000000000001}"}, {"type": "x"}]');

-- a batch of nothing
SELECT version, written FROM immutable.append_json('ledger', 'a', '[]');
SELECT * FROM immutable.append_json('ledger', 'none', '[]', 0);

-- what has no meaning is refused, before anything is written
SELECT last_value FROM ledger_position_seq \gset
SELECT immutable.append_json('ledger', 'a', NULL);
\echo :SQLSTATE
SELECT immutable.append_json('ledger', 'a', 'null');
\echo :SQLSTATE
\set VERBOSITY terse
SELECT immutable.append_json('ledger', 'a', '{"type": "t"}');
\echo :SQLSTATE
SELECT immutable.append_json('ledger', 'a', '"t"');
SELECT immutable.append_json('ledger', 'a', '7');
SELECT immutable.append_json('ledger', 'a', '[{"type": "t"}, null]');
\echo :SQLSTATE
SELECT immutable.append_json('ledger', 'a', '[[{"type": "t"}]]');
\echo :SQLSTATE
SELECT immutable.append_json('ledger', 'a', '["t"]');
SELECT immutable.append_json('ledger', 'a', '[{"type": "t"}, {}]');
\echo :SQLSTATE
SELECT immutable.append_json('ledger', 'a', '[{"type": null}]');
\echo :SQLSTATE
SELECT immutable.append_json('ledger', 'a', '[{"type": ""}]');
\echo :SQLSTATE
SELECT immutable.append_json('ledger', 'a', '[{"type": "$t"}]');
\echo :SQLSTATE
SELECT immutable.append_json('ledger', 'a', '[{"type": 7}]');
\echo :SQLSTATE
SELECT immutable.append_json('ledger', 'a', '[{"type": "t", "data": []}]');
\echo :SQLSTATE
SELECT immutable.append_json('ledger', 'a', '[{"type": "t", "data": "x"}]');
SELECT immutable.append_json('ledger', 'a', '[{"type": "t", "metadata": 7}]');
\echo :SQLSTATE
SELECT immutable.append_json('ledger', 'a', '[{"type": "t", "id": 7}]');
\echo :SQLSTATE
SELECT immutable.append_json('ledger', 'a', '[{"type": "t", "id": "seven"}]');
\echo :SQLSTATE
SELECT immutable.append_json('ledger', 'a', '[{"type": "t", "id": ""}]');
\echo :SQLSTATE
SELECT immutable.append_json('ledger', 'a', '[{"type": "t", "schema_version": "1"}]');
\echo :SQLSTATE
SELECT immutable.append_json('ledger', 'a', '[{"type": "t", "schema_version": 1.5}]');
\echo :SQLSTATE
SELECT immutable.append_json('ledger', 'a', '[{"type": "t", "schema_version": 0}]');
\echo :SQLSTATE
SELECT immutable.append_json('ledger', 'a', '[{"type": "t", "id": "018f0000-0000-7000-8000-000000000009"}, {"type": "t", "id": "018F0000-0000-7000-8000-000000000009"}]');
\echo :SQLSTATE
\set VERBOSITY default
SELECT immutable.append_json('ledger', 'a', '[{"type": "t"}, {"type": "t", "payload": {}}]');
\echo :SQLSTATE
SELECT immutable.append_json('ledger', 'a', '[{"type": "t", "Data": {}}]');
SELECT immutable.append_json('ledger', 'a', '[{"type": "t"}]', 7);
\echo :SQLSTATE
\set VERBOSITY sqlstate
-- a number that is no integer of SQL is as bad as a fraction
SELECT immutable.append_json('ledger', 'a', '[{"type": "t", "schema_version": 2147483648}]');
SELECT immutable.append_json('ledger', 'a', '[{"type": "t", "schema_version": -1e100}]');
SELECT immutable.append_json('ledger', 'a', '[{"type": "t", "schema_version": 2147483647}]', 99);
SELECT immutable.append_json('ledger', NULL, '[]');
SELECT immutable.append_json(NULL, 'a', '[]');
SELECT immutable.append_json('pg_class', 'a', '[]');
SELECT last_value = :last_value AS no_position_drawn FROM ledger_position_seq;

RESET ROLE;
SELECT immutable.drop_log('ledger', force => true), immutable.drop_log('wide', force => true);
SET client_min_messages = warning;
DROP SCHEMA append_json CASCADE;
DROP ROLE regress_json;
