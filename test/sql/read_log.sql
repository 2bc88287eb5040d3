-- read_log: the events of a log in order of position, each once.
\set SHOW_CONTEXT never
CREATE ROLE regress_read_log;
CREATE ROLE regress_read_log_other;
CREATE SCHEMA read_log AUTHORIZATION regress_read_log;
GRANT USAGE ON SCHEMA read_log TO regress_read_log_other;
SET search_path = read_log;
SET ROLE regress_read_log;
SELECT immutable.create_log('ledger'), immutable.create_log('wide', 3), immutable.create_log('empty');
SELECT count(immutable.append('ledger', stream, type, jsonb_build_object('n', n))), count(immutable.append('wide', stream, type, jsonb_build_object('n', n)))
FROM (SELECT n, (ARRAY['order-1', 'order-2', 'customer-1', 'order_3', 'ä'])[1 + n % 5] AS stream, (ARRAY['made', 'paid', 'sent'])[1 + n % 3] AS type
	FROM generate_series(1, 12) n ORDER BY n) e;

-- all of it, as it was recorded
SELECT position, version, schema_version, stream, type, data, metadata FROM immutable.read_log('ledger');
SELECT count(*) AS differences FROM (SELECT * FROM immutable.read_log('ledger') EXCEPT ALL SELECT * FROM ledger) d;
SELECT string_agg(position::text, ' ') AS positions, bool_and(data->>'n' = position::text) AS in_order FROM immutable.read_log('wide');
SELECT count(*) FROM immutable.read_log('empty');

-- after a position, so many, up to a position
SELECT string_agg(position::text, ' ') FROM immutable.read_log('wide', 5);
SELECT string_agg(position::text, ' ') FROM immutable.read_log('wide', 5, 3);
SELECT string_agg(position::text, ' ') FROM immutable.read_log('wide', 5, upto_position => 7);
SELECT string_agg(position::text, ' ') FROM immutable.read_log('wide', 5, 3, upto_position => 1000);
SELECT count(*) FROM immutable.read_log('wide', 12);
SELECT count(*) FROM immutable.read_log('wide', 9223372036854775807);
SELECT count(*) FROM immutable.read_log('wide', 0, 0);
SELECT count(*) FROM immutable.read_log('wide', 0, 9223372036854775807, NULL, NULL, 9223372036854775807);
SELECT count(*) FROM immutable.read_log('wide', 5, upto_position => 5);
SELECT count(*) FROM immutable.read_log('wide', upto_position => -1);

-- types, and streams by what they begin with: the text itself, no pattern
SELECT string_agg(position || type, ' ') FROM immutable.read_log('wide', types => '{paid,none}');
SELECT string_agg(position || type, ' ') FROM immutable.read_log('wide', 3, 3, '{paid,sent}');
SELECT count(*) FROM immutable.read_log('wide', types => '{}');
SELECT count(*) FROM immutable.read_log('wide', types => '{NULL}');
SELECT count(*) FROM immutable.read_log('wide', types => '{{made,paid},{sent,made}}');
SELECT string_agg(position || stream, ' ') FROM immutable.read_log('wide', stream_prefix => 'order-');
SELECT string_agg(position || stream, ' ') FROM immutable.read_log('wide', stream_prefix => 'order_');
SELECT string_agg(position || stream, ' ') FROM immutable.read_log('wide', stream_prefix => 'ä');
SELECT count(*) FROM immutable.read_log('wide', stream_prefix => '%');
SELECT count(*) FROM immutable.read_log('wide', stream_prefix => '');
SELECT string_agg(position || stream || type, ' ') FROM immutable.read_log('wide', 2, 2, '{made}', 'order', 11);

-- in pages, a reader gets every event once
CREATE FUNCTION pages(log regclass, size bigint) RETURNS SETOF bigint[] LANGUAGE plpgsql AS $$
DECLARE
	page bigint[];
	last bigint := 0;
BEGIN
	LOOP
		SELECT array_agg(position) INTO page FROM immutable.read_log(log, last, size);
		EXIT WHEN page IS NULL;
		RETURN NEXT page;
		last := page[cardinality(page)];
	END LOOP;
END $$;
SELECT pages('wide', 5);
SELECT p.size, r.position FROM (VALUES (1), (2)) p(size), LATERAL immutable.read_log('ledger', 3, p.size) r;

-- within a transaction: what it has written, and not what it has undone
BEGIN;
SELECT position FROM immutable.append('ledger', 'mine', 'made');
SELECT position, stream FROM immutable.read_log('ledger', 11);
SAVEPOINT s;
SELECT position FROM immutable.append('ledger', 'mine', 'undone');
ROLLBACK TO s;
SELECT position, type FROM immutable.read_log('ledger', 11);
SELECT a.position = r.position AS same FROM immutable.append('ledger', 'mine', 'paid') a, LATERAL (SELECT max(position) AS position FROM immutable.read_log('ledger')) r;
ROLLBACK;
SELECT count(*) FROM immutable.read_log('ledger', 12);
SELECT position FROM immutable.append('ledger', 'mine', 'made');
SELECT position FROM immutable.read_log('ledger', 12);
BEGIN READ ONLY;
SELECT count(*) FROM immutable.read_log('ledger');
COMMIT;
-- a snapshot that is kept shows no more than it did
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT max(position) FROM immutable.read_log('ledger');
SELECT version FROM immutable.append('ledger', 'serial', 'made');
SELECT max(position) FROM immutable.read_log('ledger');
COMMIT;
BEGIN;
DECLARE c CURSOR FOR SELECT position FROM immutable.read_log('ledger', 10);
FETCH 1 FROM c;
SELECT version FROM immutable.append('ledger', 'late', 'made');
FETCH ALL FROM c;
COMMIT;

-- as the caller may see it
RESET ROLE;
GRANT SELECT ON wide TO regress_read_log_other;
ALTER TABLE wide ENABLE ROW LEVEL SECURITY;
CREATE POLICY customers ON wide FOR SELECT TO regress_read_log_other USING (stream LIKE 'customer%');
SET ROLE regress_read_log_other;
SELECT position, stream FROM immutable.read_log('read_log.wide');
SELECT position, stream FROM immutable.read_log('read_log.wide', 2, 1);
SELECT position FROM immutable.read_log('read_log.ledger');
\echo :SQLSTATE

-- bad arguments
SET ROLE regress_read_log;
SELECT immutable.read_log('ledger', -1);
\echo :SQLSTATE
SELECT immutable.read_log('ledger', 0, -1);
\echo :SQLSTATE
SELECT immutable.read_log('ledger', NULL);
\echo :SQLSTATE
SELECT immutable.read_log(NULL);
\echo :SQLSTATE
SELECT immutable.read_log('wide_p1');
\echo :SQLSTATE
SELECT immutable.read_log('ledger_pkey');
\echo :SQLSTATE

RESET ROLE;
SELECT immutable.drop_log('ledger', true), immutable.drop_log('wide', true), immutable.drop_log('empty', true);
SET client_min_messages = warning;
DROP SCHEMA read_log CASCADE;
DROP ROLE regress_read_log, regress_read_log_other;
