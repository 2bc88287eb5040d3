-- read_stream, stream_version: the events of one stream, forward and backward.
\set SHOW_CONTEXT never
CREATE ROLE regress_read;
CREATE ROLE regress_reader;
CREATE ROLE regress_writer;
CREATE SCHEMA read_stream AUTHORIZATION regress_read;
GRANT USAGE ON SCHEMA read_stream TO regress_reader, regress_writer;
SET search_path = read_stream;
SET ROLE regress_read;
SELECT immutable.create_log('ledger'), immutable.create_log('wide', partitions => 3);
CREATE VIEW logs AS SELECT * FROM unnest(ARRAY['ledger', 'wide']::regclass[]) WITH ORDINALITY l(log, nr);
SELECT count(*) FROM logs, generate_series(1, 5) n, LATERAL immutable.append(log, 'a', 't', jsonb_build_object('n', n));
SELECT count(*) FROM logs, LATERAL immutable.append(log, 'b', 't');
SELECT count(*) FROM logs, LATERAL immutable.append(log, 'A', 't');
CREATE FUNCTION versions(log regclass, stream text, VARIADIC rest text[] DEFAULT '{}') RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	EXECUTE format('SELECT string_agg(version::text, '' '') FROM immutable.read_stream(%L, %L %s)',
		log, stream, array_to_string(ARRAY[''] || rest, ', ')) INTO answer;
	RETURN coalesce(answer, '(none)');
END $$;

SELECT version, stream, type, data FROM immutable.read_stream('ledger', 'a');
SELECT log, versions(log, 'a') AS forward, versions(log, 'a', 'backward => true') AS backward FROM logs;
SELECT log, versions(log, 'a', '3') AS from_3, versions(log, 'a', '3', 'backward => true') AS back_from_3 FROM logs;
SELECT log, versions(log, 'a', 'max_events => 2') AS first_2, versions(log, 'a', 'max_events => 2', 'backward => true') AS last_2 FROM logs;
SELECT log, versions(log, 'a', '2', '2') AS "2_from_2", versions(log, 'a', '4', '2', 'true') AS "2_back_from_4" FROM logs;
SELECT log, versions(log, 'a', '5', '10') AS "from_5", versions(log, 'a', '1', '10', 'true') AS "back_from_1" FROM logs;
SELECT log, versions(log, 'a', '6') AS past_the_end, versions(log, 'a', '6', '2', 'true') AS back_from_6 FROM logs;
SELECT log, versions(log, 'a', '9223372036854775807', 'backward => true') AS back_from_max FROM logs;
SELECT log, versions(log, 'a', 'max_events => 0') AS none, versions(log, 'a', 'max_events => 0', 'backward => true') AS none_back FROM logs;
SELECT log, versions(log, 'a', 'max_events => 9223372036854775807') AS limitless FROM logs;
SELECT log, versions(log, 'nobody') AS unknown, versions(log, '') AS empty, versions(log, 'A') AS upper_case FROM logs;
SELECT log, immutable.stream_version(log, 'a') AS a, immutable.stream_version(log, 'nobody') AS nobody,
	immutable.stream_version(log, '') AS empty, immutable.stream_version(log, 'A') AS upper_case FROM logs;
SELECT log, immutable.stream_version(log, repeat('x', 100000)) AS longer_than_any FROM logs;

-- what is read is an event of the log: whole rows fit, and composite columns
SELECT count(*) FROM immutable.read_stream('ledger', 'a') r JOIN ledger l ON r = ROW(l.*)::immutable.event;
SELECT (immutable.read_stream('ledger', 'a', 5)).data;
SELECT l.stream, r.version FROM (VALUES ('a'), ('b')) l(stream), LATERAL immutable.read_stream('ledger', l.stream, max_events => 1) r;

-- the caller's own snapshot: a cursor does not see what comes later
BEGIN;
DECLARE c CURSOR FOR SELECT version FROM immutable.read_stream('ledger', 'b');
SELECT version FROM immutable.append('ledger', 'b', 't');
FETCH ALL FROM c;
CLOSE c;
SELECT immutable.stream_version('ledger', 'b');
ROLLBACK;
SELECT immutable.stream_version('ledger', 'b');
WITH a AS MATERIALIZED (SELECT version FROM immutable.append('ledger', 'b', 't'))
SELECT a.version, (SELECT count(*) FROM immutable.read_stream('ledger', 'b')) FROM a;

-- arguments
SELECT immutable.read_stream(NULL, 'a');
\echo :SQLSTATE
SELECT immutable.read_stream('ledger', NULL);
\echo :SQLSTATE
SELECT immutable.read_stream('ledger', 'a', backward => NULL);
\echo :SQLSTATE
SELECT version FROM immutable.read_stream('ledger', 'a', NULL, NULL, true);
SELECT immutable.read_stream('ledger', 'a', 0);
\echo :SQLSTATE
SELECT immutable.read_stream('ledger', 'a', -1, backward => true);
\echo :SQLSTATE
SELECT immutable.read_stream('ledger', 'a', 1, -1);
\echo :SQLSTATE
SELECT immutable.stream_version(NULL, 'a');
\echo :SQLSTATE
SELECT immutable.stream_version('ledger', NULL);
\echo :SQLSTATE

-- relations that are no logs
SELECT immutable.read_stream('logs', 'a');
\echo :SQLSTATE
SELECT immutable.read_stream('wide_p0', 'a');
\echo :SQLSTATE
SELECT immutable.read_stream('ledger_pkey', 'a');
SELECT immutable.stream_version('pg_class', 'a');
\echo :SQLSTATE
SELECT immutable.stream_version(1::oid, 'a');
\echo :SQLSTATE
CREATE TABLE bare OF immutable.event;
SELECT immutable.read_stream('bare', 'a');
\echo :SQLSTATE
SELECT immutable.stream_version('bare', 'a');
\echo :SQLSTATE

-- privilege: SELECT to read, INSERT to append, and neither gives the other
GRANT SELECT ON ledger TO regress_reader;
GRANT SELECT ON wide TO regress_reader;
GRANT INSERT ON ledger, wide TO regress_writer;
RESET ROLE;
SET ROLE regress_reader;
SELECT versions('ledger', 'a'), versions('wide', 'a'), immutable.stream_version('wide', 'a');
SELECT immutable.append('ledger', 'a', 't');
\echo :SQLSTATE
SELECT immutable.append('wide', 'a', 't');
RESET ROLE;
SET ROLE regress_writer;
SELECT version FROM immutable.append('ledger', 'a', 't');
SELECT version FROM immutable.append('wide', 'a', 't');
SELECT immutable.read_stream('ledger', 'a');
\echo :SQLSTATE
SELECT immutable.stream_version('wide', 'a');
\echo :SQLSTATE
RESET ROLE;
GRANT SELECT (position, version, stream) ON read_stream.ledger TO regress_writer;
SET ROLE regress_writer;
SELECT immutable.read_stream('ledger', 'a');
\echo :SQLSTATE

RESET ROLE;
DROP VIEW logs;
SELECT immutable.drop_log('ledger', force => true), immutable.drop_log('wide', force => true);
SET client_min_messages = warning;
DROP SCHEMA read_stream CASCADE;
DROP ROLE regress_read, regress_reader, regress_writer;
