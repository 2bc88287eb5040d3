-- retry: an append repeated with the same id answers as the first time.
\set SHOW_CONTEXT never
CREATE ROLE regress_retry;
CREATE SCHEMA retry AUTHORIZATION regress_retry;
SET search_path = retry;
SET ROLE regress_retry;
SELECT immutable.create_log('ledger'), immutable.create_log('no_index', unique_ids => false),
	immutable.create_log('wide', 3), immutable.create_log('wide_no_index', 3, false);
\set id1 '''018f0000-0000-7000-8000-000000000001'''
\set id2 '''018f0000-0000-7000-8000-000000000002'''
\set id3 '''018f0000-0000-7000-8000-000000000003'''

-- the whole table over every kind of log: stream a at version 3 with ids 1, 2, 3
CREATE FUNCTION try(log regclass, stream text, expected bigint, given uuid) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	a immutable.appended;
	detail text;
BEGIN
	SELECT * INTO a FROM immutable.append(log, stream, 't', expected_version => expected, id => given);
	RETURN format('version %s, written %s', a.version, a.written);
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN format('%s %s %s', sqlstate, sqlerrm, detail);
END $$;
CREATE VIEW logs AS SELECT * FROM unnest(ARRAY['ledger', 'no_index', 'wide', 'wide_no_index']::regclass[])
	WITH ORDINALITY l(log, nr);
SELECT log, try(log, 'a', 0, :id1), try(log, 'a', 1, :id2), try(log, 'a', NULL, :id3) FROM logs ORDER BY nr;

-- expected n < head, and event n + 1 is this one
SELECT log, try(log, 'a', 0, :id1), try(log, 'a', 1, :id2), try(log, 'a', 2, :id3) FROM logs ORDER BY nr;
-- no expectation, and an existing stream
SELECT log, try(log, 'a', NULL, :id1), try(log, 'a', -4, :id2), try(log, 'a', NULL, :id3) FROM logs ORDER BY nr;
-- another expectation, that is not met
SELECT log, try(log, 'a', 0, :id2), try(log, 'a', 2, :id1), try(log, 'a', 7, :id3) FROM logs ORDER BY nr;
-- an expectation that is met: the event would be written twice
SELECT log, try(log, 'a', 3, :id1) FROM logs ORDER BY nr;
SELECT log, try(log, 'a', 3, :id3) FROM logs ORDER BY nr;
-- another stream, where ids are unique in the log
SELECT log, try(log, 'b', NULL, :id1) FROM logs WHERE nr = 1;
SELECT log, try(log, 'b', 0, :id1) FROM logs WHERE nr = 1;
SELECT log, try(log, 'b', 5, :id1) FROM logs WHERE nr = 1;
SELECT log, try(log, 'b', -4, :id1) FROM logs WHERE nr = 1;
-- and where they are not
SELECT log, try(log, 'b', 0, :id1), try(log, 'b', 0, :id1), try(log, 'b', -4, :id1) FROM logs WHERE nr > 1 ORDER BY nr;

-- nothing was written but what was new, and no position was drawn for the rest
SELECT stream, version, id FROM ledger ORDER BY position;
SELECT log, (SELECT count(*) FROM immutable.read_stream(log, 'a')) AS a,
	(SELECT count(*) FROM immutable.read_stream(log, 'b')) AS b FROM logs ORDER BY nr;
SELECT (SELECT last_value FROM ledger_position_seq) AS ledger, (SELECT last_value FROM no_index_position_seq) AS no_index,
	(SELECT last_value FROM wide_position_seq) AS wide, (SELECT last_value FROM wide_no_index_position_seq) AS wide_no_index;

-- the answer is the first one: position, and the event as it was recorded
SELECT * FROM immutable.append('ledger', 'a', 'changed', '{"changed": true}', expected_version => 0, id => :id1);
SELECT type, data FROM ledger WHERE id = :id1;

-- the errors in full
SELECT immutable.append('ledger', 'b', 't', id => :id1);
\echo :SQLSTATE
SELECT immutable.append('ledger', 'a', 't', id => :id1, expected_version => 3);
\echo :SQLSTATE
SELECT immutable.append('ledger', 'a', 't', id => :id1, expected_version => 1);
\echo :SQLSTATE

-- in one transaction, after a rollback, and through a savepoint
\set id4 '''018f0000-0000-7000-8000-000000000004'''
\set id5 '''018f0000-0000-7000-8000-000000000005'''
BEGIN;
SELECT version, written FROM immutable.append('ledger', 'c', 't', id => :id4);
SELECT version, written FROM immutable.append('ledger', 'c', 't', id => :id4);
ROLLBACK;
SELECT version, written FROM immutable.append('ledger', 'c', 't', id => :id4, expected_version => 0);
BEGIN;
SAVEPOINT s;
SELECT version, written FROM immutable.append('ledger', 'c', 't', id => :id5);
ROLLBACK TO s;
SELECT version, written FROM immutable.append('ledger', 'd', 't', id => :id5);
COMMIT;
SELECT stream, version FROM ledger WHERE id IN (:id4, :id5) ORDER BY stream;

-- an id deep in a long stream, with and without an index on ids
SELECT count(*) FROM logs, generate_series(1, 200) n, LATERAL immutable.append(log, 'a', 't', jsonb_build_object('n', n));
SELECT log, try(log, 'a', 0, :id1), try(log, 'a', NULL, :id2), try(log, 'a', 203, :id3) FROM logs ORDER BY nr;

-- any UUID is an id, the nil one too
SELECT log, try(log, 'nil', 0, '00000000-0000-0000-0000-000000000000'),
	try(log, 'nil', 0, '00000000-0000-0000-0000-000000000000') FROM logs ORDER BY nr;

RESET ROLE;
DROP VIEW logs;
SELECT count(immutable.drop_log(log, force => true))
FROM unnest(ARRAY['ledger', 'no_index', 'wide', 'wide_no_index']::regclass[]) log;
SET client_min_messages = warning;
DROP SCHEMA retry CASCADE;
DROP ROLE regress_retry;
