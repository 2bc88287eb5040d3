-- batch_retry: a batch repeated with the same ids answers as the first time.
\set SHOW_CONTEXT never
CREATE ROLE regress_batch_retry;
CREATE SCHEMA batch_retry AUTHORIZATION regress_batch_retry;
SET search_path = batch_retry;
SET ROLE regress_batch_retry;
SELECT immutable.create_log('ledger'), immutable.create_log('no_index', unique_ids => false),
	immutable.create_log('wide', 3), immutable.create_log('wide_no_index', 3, false);
CREATE VIEW logs AS SELECT * FROM unnest(ARRAY['ledger', 'no_index', 'wide', 'wide_no_index']::regclass[])
	WITH ORDINALITY l(log, nr);

-- a batch written as the last digits of its ids; 0: no id is given
CREATE FUNCTION try(log regclass, stream text, expected bigint, ids integer[]) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	a immutable.appended;
BEGIN
	SELECT * INTO a FROM immutable.append_batch(log, stream, ARRAY(
		SELECT ROW('t', NULL, NULL, CASE WHEN i > 0 THEN ('018f0000-0000-7000-8000-' || lpad(i::text, 12, '0'))::uuid END, NULL)::immutable.new_event
		FROM unnest(ids) WITH ORDINALITY u(i, n) ORDER BY n), expected);
	RETURN format('%s: %s written', a.version, a.written);
EXCEPTION WHEN OTHERS THEN
	RETURN sqlstate;
END $$;
-- stream a: versions 1 to 6 with the ids 1 to 6, in two batches
SELECT log, try(log, 'a', 0, '{1,2,3}'), try(log, 'a', NULL, '{4,5,6}') FROM logs ORDER BY nr;

\echo as the first time, expected or not
SELECT log, try(log, 'a', 0, '{1,2,3}'), try(log, 'a', 3, '{4,5,6}'), try(log, 'a', NULL, '{1,2,3}'), try(log, 'a', -4, '{4,5,6}') FROM logs ORDER BY nr;
\echo parts of a batch, and parts of two
SELECT log, try(log, 'a', NULL, '{2}'), try(log, 'a', 1, '{2,3}'), try(log, 'a', NULL, '{3,4}'), try(log, 'a', 0, '{1,2,3,4,5,6}') FROM logs ORDER BY nr;
\echo in another order, with a gap, or one too many
SELECT log, try(log, 'a', NULL, '{2,1}'), try(log, 'a', NULL, '{1,3}'), try(log, 'a', NULL, '{3,2,1}'), try(log, 'a', NULL, '{5,6,7}'),
	try(log, 'a', 6, '{5,6,7}') FROM logs ORDER BY nr;
\echo a new one first
SELECT log, try(log, 'a', NULL, '{7,1}'), try(log, 'a', NULL, '{7,6}'), try(log, 'a', 6, '{7,8,4}') FROM logs ORDER BY nr;
\echo an expectation that is not met
SELECT log, try(log, 'a', 1, '{1,2,3}'), try(log, 'a', 0, '{2,3}'), try(log, 'a', 5, '{7,8}'), try(log, 'a', 7, '{7,8}'), try(log, 'a', 4, '{4,5,6}') FROM logs ORDER BY nr;
\echo an expectation that is met: the events would be written twice
SELECT log, try(log, 'a', 6, '{1,2,3}'), try(log, 'a', 6, '{4,5,6}'), try(log, 'a', 6, '{6}') FROM logs ORDER BY nr;
\echo events without an id go where those with one say
SELECT log, try(log, 'a', NULL, '{1,0,3}'), try(log, 'a', 0, '{0,0,3}'), try(log, 'a', NULL, '{0,0,0,4}'), try(log, 'a', NULL, '{1,0}') FROM logs ORDER BY nr;
\echo but not before the first version, nor after the last
SELECT log, try(log, 'a', NULL, '{0,1}'), try(log, 'a', NULL, '{6,0}'), try(log, 'a', NULL, '{0,0,2}') FROM logs ORDER BY nr;
\echo of another stream, where ids are unique in the log
SELECT log, try(log, 'b', NULL, '{1,2,3}'), try(log, 'b', 0, '{7,1}'), try(log, 'b', 0, '{0,0,6}') FROM logs WHERE nr = 1;
\echo and where they are not
SELECT log, try(log, 'b', 0, '{1,2,3}'), try(log, 'b', 0, '{1,2,3}'), try(log, 'b', NULL, '{2,3}') FROM logs WHERE nr > 1 ORDER BY nr;

-- no id at all: every call writes
SELECT log, try(log, 'c', NULL, '{0,0}'), try(log, 'c', NULL, '{0,0}'), try(log, 'c', 2, '{0,0}'), try(log, 'c', 0, '{}') FROM logs ORDER BY nr;
-- single appends and batches recognise each other
SELECT log, (immutable.append(log, 'a', 't', id => '018f0000-0000-7000-8000-000000000005')).written, try(log, 'd', 0, '{11}') AS first,
	(immutable.append(log, 'd', 't', expected_version => 1, id => '018f0000-0000-7000-8000-000000000012')).version,
	try(log, 'd', 0, '{11,12}') AS both FROM logs ORDER BY nr;

-- nothing was written but what was new, in every log
SELECT log, stream, count(*), min(version), max(version), bool_and(stream <> 'a' OR right(id::text, 12)::bigint = version) AS ids_in_order
FROM logs, LATERAL (SELECT * FROM immutable.read_log(log)) e GROUP BY nr, log, stream ORDER BY nr, stream;
SELECT log, c.problem FROM logs, LATERAL immutable.check_log(log) c;

-- within one transaction, and after a savepoint that is gone
BEGIN;
SELECT try('ledger', 'e', 0, '{21,22}'), try('ledger', 'e', 0, '{21,22}'), try('ledger', 'e', 0, '{21,22,23}');
SAVEPOINT s;
SELECT try('ledger', 'e', 2, '{23,24}'), try('ledger', 'e', 2, '{23,24}');
ROLLBACK TO s;
SELECT try('ledger', 'e', 2, '{24,23}'), try('ledger', 'e', 2, '{24,23}'), try('ledger', 'e', 2, '{23,24}');
COMMIT;
SELECT string_agg(right(id::text, 2), ' ' ORDER BY version) FROM ledger WHERE stream = 'e';

-- the answer is the first one, and the event stays as it was recorded
SELECT version, position, written FROM immutable.append_batch('ledger', 'a',
	ARRAY[ROW('changed', '{"changed": true}', NULL, '018f0000-0000-7000-8000-000000000003', 9)]::immutable.new_event[], 2);
SELECT type, data, schema_version FROM ledger WHERE stream = 'a' AND version = 3;
-- the errors in full
SELECT immutable.append_json('ledger', 'a', '[{"type": "t", "id": "018f0000-0000-7000-8000-000000000001"}, {"type": "t", "id": "018f0000-0000-7000-8000-000000000003"}]');
\echo :SQLSTATE
SELECT immutable.append_json('ledger', 'f', '[{"type": "t"}, {"type": "t", "id": "018f0000-0000-7000-8000-000000000002"}]');
\echo :SQLSTATE
SELECT immutable.append_json('wide', 'a', '[{"type": "t", "id": "018f0000-0000-7000-8000-000000000001"}, {"type": "t"}]', 2);
\echo :SQLSTATE

RESET ROLE;
DROP VIEW logs;
SELECT immutable.drop_log('ledger', true), immutable.drop_log('no_index', true), immutable.drop_log('wide', true), immutable.drop_log('wide_no_index', true);
SET client_min_messages = warning;
DROP SCHEMA batch_retry CASCADE;
DROP ROLE regress_batch_retry;
