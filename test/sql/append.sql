-- append: what it answers, and what it writes.
\set SHOW_CONTEXT never
CREATE ROLE regress_append;
CREATE ROLE regress_appender;
CREATE SCHEMA append AUTHORIZATION regress_append;
GRANT USAGE ON SCHEMA append TO regress_appender;
SET search_path = append;
SET ROLE regress_append;
SELECT immutable.create_log('ledger');
GRANT INSERT ON ledger TO regress_appender;

-- INSERT on the log is privilege enough: none on its sequence, none to read
RESET ROLE;
SET ROLE regress_appender;
SELECT * FROM immutable.append('ledger', 'a-1', 'opened');
SELECT * FROM immutable.append('ledger', 'a-1', 'deposited', '{"amount": 5}');
SELECT * FROM immutable.append('ledger', 'b-1', 'opened', '{}', '{"by": "ann"}');
SELECT * FROM immutable.append('ledger', 'a-1', 'withdrawn', data => '{"amount": 2, "to": ["x", null]}',
	metadata => '{"by": "bob"}', expected_version => 2,
	id => '018f0000-0000-7000-8000-000000000001', schema_version => 3);
SELECT * FROM ledger;
SELECT nextval('ledger_position_seq');
RESET ROLE;
SET ROLE regress_append;
SELECT position, version, schema_version, stream, type, data, metadata FROM ledger ORDER BY position;
SELECT id FROM ledger WHERE version = 3;

-- ids: UUID version 7, variant 10, rising, of this time
DO $$ BEGIN
	FOR i IN 1..1000 LOOP
		PERFORM immutable.append('append.ledger', 'ids-' || i % 10, 't');
	END LOOP;
END $$;
SELECT count(*) AS events, count(DISTINCT id) AS ids,
	count(*) FILTER (WHERE id::text ~ '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$') AS version_7,
	count(*) FILTER (WHERE before < id OR before IS NULL) AS rising,
	count(*) FILTER (WHERE abs(('x' || substr(replace(id::text, '-', ''), 1, 12))::bit(48)::bigint
		- extract(epoch FROM recorded_at) * 1000) < 1000) AS in_time
FROM (SELECT *, lag(id) OVER (ORDER BY position) AS before FROM ledger WHERE stream LIKE 'ids-%') e;

-- versions without gaps, positions rising, times never backward in a stream
SELECT count(*) FROM (
	SELECT version - lag(version, 1, 0::bigint) OVER w AS step, position - lag(position) OVER w AS ahead,
		recorded_at - lag(recorded_at) OVER w AS later
	FROM ledger WINDOW w AS (PARTITION BY stream ORDER BY version)) e
WHERE step <> 1 OR ahead <= 0 OR later < '0';
SELECT count(*) FROM ledger WHERE recorded_at > clock_timestamp() OR recorded_at < now() - interval '1 hour';

-- the clock at the append, not at the start of the transaction
BEGIN;
SELECT version FROM immutable.append('ledger', 'clock', 't');
SELECT recorded_at > now() AS clock FROM ledger WHERE stream = 'clock';
COMMIT;

-- streams and types are bytes: any character, case and space count, 1024 fit
SELECT version FROM immutable.append('ledger', 'Case', 't');
SELECT version FROM immutable.append('ledger', 'case', 't');
SELECT version FROM immutable.append('ledger', 'case ', 't');
SELECT version FROM immutable.append('ledger', E'tab\t', 't');
SELECT version FROM immutable.append('ledger', repeat('s', 1024), 't');
SELECT version FROM immutable.append('ledger', repeat('s', 1024), repeat('t', 5000));
SELECT version FROM immutable.append('ledger', 'big', 't', jsonb_build_object('k', repeat('x', 200000)));
SELECT length(data->>'k') FROM ledger WHERE stream = 'big';

-- many in one statement, one stream or many
SELECT count(DISTINCT (a).version), max((a).version), sum((a).written)
FROM (SELECT immutable.append('ledger', 'many', 't', jsonb_build_object('n', n)) AS a FROM generate_series(1, 100) n) x;
SELECT count(*), bool_and(version = (data->>'n')::bigint) FROM ledger WHERE stream = 'many';
WITH a AS (SELECT immutable.append('ledger', 'cte', 't') FROM generate_series(1, 3)) SELECT count(*) FROM a;
PREPARE add(regclass, text) AS SELECT version, written FROM immutable.append($1, $2, 't');
EXECUTE add('ledger', 'prepared');
EXECUTE add('ledger', 'prepared');
SELECT immutable.stream_version('ledger', 'prepared');

-- rolled back is not there; the version is free again, the position is not
BEGIN;
SELECT version FROM immutable.append('ledger', 'undone', 't');
SAVEPOINT s;
SELECT version FROM immutable.append('ledger', 'undone', 't');
ROLLBACK TO s;
SELECT version FROM immutable.append('ledger', 'undone', 't');
SELECT immutable.stream_version('ledger', 'undone');
ROLLBACK;
SELECT immutable.stream_version('ledger', 'undone');
SELECT version FROM immutable.append('ledger', 'undone', 't');
SELECT max(position) - count(*) AS burned FROM ledger;

-- both stronger isolation levels
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT version FROM immutable.append('ledger', 'isolation', 't', expected_version => 0);
SELECT version FROM immutable.append('ledger', 'isolation', 't', expected_version => 1);
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT version FROM immutable.append('ledger', 'isolation', 't', expected_version => 2);
COMMIT;

-- and the log takes rows from nowhere else
INSERT INTO ledger SELECT * FROM ledger LIMIT 1;
\echo :SQLSTATE
INSERT INTO ledger SELECT * FROM ledger WHERE false;
COPY ledger FROM stdin;
\.
INSERT INTO ledger SELECT * FROM ledger LIMIT 1 ON CONFLICT DO NOTHING;
UPDATE ledger SET data = '{}';
\echo :SQLSTATE
DELETE FROM ledger;
TRUNCATE ledger;
MERGE INTO ledger USING (VALUES (1)) v(n) ON false
WHEN NOT MATCHED THEN INSERT (position) VALUES (n);
RESET ROLE;
SET session_replication_role = replica;
INSERT INTO ledger SELECT * FROM ledger LIMIT 1;
\echo :SQLSTATE
SELECT version FROM immutable.append('ledger', 'replica', 't');
RESET session_replication_role;

SELECT immutable.drop_log('ledger', force => true);
DROP SCHEMA append;
DROP ROLE regress_append, regress_appender;
