-- version_time: when versions begin and end, to the microsecond.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE SCHEMA version_time;
SET search_path = version_time;
CREATE TABLE item (id integer PRIMARY KEY, n integer);
SELECT immutable.add_versioning('item', 'lazy');
-- a history with round times
SELECT immutable.import_versions('item', $$
	VALUES (1, 10, '2020-01-01'::timestamptz, '2020-02-01'::timestamptz), (1, 11, '2020-02-01', '2020-03-01'),
		(1, 12, '2020-04-01', NULL), (2, 20, '2020-01-01', NULL), (2, 21, '2020-02-01', '2020-02-15')$$);
SELECT immutable.import_versions('item', $$
	SELECT * FROM (VALUES (1, 10, '2020-01-01'::timestamptz, '2020-02-01'::timestamptz), (1, 11, '2020-02-01', '2020-03-01'),
		(1, 12, '2020-04-01', NULL), (2, 20, '2020-01-01', NULL), (2, 21, '2020-02-01', '2020-02-15')) v(id, n, row_start, row_end)$$);
SELECT id, row_version AS v, row_operation AS op, row_start, n FROM item_versions ORDER BY 1, 2;
-- not twice, not in disorder
SELECT immutable.import_versions('item', $$SELECT 1 AS id, '2019-01-01'::timestamptz AS row_start$$);
\echo :SQLSTATE
SELECT immutable.import_versions('item', $$SELECT * FROM (VALUES (3, '2019-01-01'::timestamptz, '2020-01-01'::timestamptz), (3, '2019-06-01', NULL)) v(id, row_start, row_end)$$);
SELECT immutable.import_versions('item', $$SELECT 3 AS id, '2019-01-01'::timestamptz AS row_start, '2019-01-01'::timestamptz AS row_end$$);
SELECT immutable.import_versions('item', $$SELECT 3 AS id, '2999-01-01'::timestamptz AS row_start$$);
SELECT immutable.import_versions('item', $$SELECT 3 AS id, '2019-01-01'::timestamptz AS row_start, '2999-01-01'::timestamptz AS row_end$$);
SELECT immutable.import_versions('item', $$SELECT NULL::integer AS id, '2019-01-01'::timestamptz AS row_start$$);
SELECT immutable.import_versions('item', $$SELECT 3 AS id$$);
SELECT immutable.import_versions('item', $$SELECT '2019-01-01'::timestamptz AS row_start$$);
SELECT immutable.import_versions('item', $$SELECT 3 AS id, 1 AS more, '2019-01-01'::timestamptz AS row_start$$);
\echo :SQLSTATE
SELECT immutable.import_versions('item', $$SELECT 3::bigint AS id, '2019-01-01'::timestamptz AS row_start$$);
\echo :SQLSTATE
SELECT immutable.import_versions('item', 'SELECT 1; SELECT 2');
\echo :SQLSTATE
SELECT immutable.import_versions('item', 'SELECT 1 AS id) q; DROP TABLE item; --');
\echo :SQLSTATE
SELECT immutable.import_versions('item', 'DELETE FROM item RETURNING *');
\echo :SQLSTATE
SELECT immutable.import_versions('item', '');
\echo :SQLSTATE
SELECT immutable.import_versions('item', NULL);
\echo :SQLSTATE
-- who and why, where the query says
SELECT immutable.import_versions('item', $$SELECT 4 AS id, 40 AS n, '2019-12-01'::timestamptz AS row_start, 'ann'::name AS row_user, '{"why": "x"}'::jsonb AS row_context$$);
SELECT row_user, row_context FROM item_versions WHERE id = 4;
SELECT count(*) FROM item__as_of('2020-05-01');
-- rows that are there: one as history has it, one not, one unknown to it
INSERT INTO item VALUES (5, 50);
CALL immutable.backfill_versions('item');
SELECT immutable.import_versions('item', $$SELECT 6 AS id, '2019-01-01'::timestamptz AS row_start$$);
\echo :SQLSTATE

\set VERBOSITY terse
SELECT to_char(t, 'YYYY-MM-DD HH24:MI:SS.US') AS at, (SELECT string_agg(id || ': ' || n, ', ' ORDER BY id) FROM item__as_of(t)) AS rows
FROM unnest('{2019-12-01,2019-12-31 23:59:59.999999,2020-01-01,2020-01-31 23:59:59.999999,2020-02-01,2020-02-14 23:59:59.999999,2020-02-15,2020-02-29 23:59:59.999999,2020-03-01,2020-03-31 23:59:59.999999,2020-04-01}'::timestamptz[]) t;
SELECT count(*) FROM item__as_of('2019-11-30 23:59:59.999999');
\echo :SQLSTATE
-- between includes its end, from_to does not, both exclude what ended at their beginning
CREATE VIEW times AS SELECT * FROM (VALUES
	('2020-02-01', '2020-02-01'), ('2020-02-01', '2020-04-01'), ('2020-01-31 23:59:59.999999', '2020-02-01'), ('2020-03-01', '2020-03-31 23:59:59.999999'),
	('2020-03-01', '2020-04-01'), ('2020-04-01', '2020-03-01'), ('-infinity', '2020-01-01')) v(a, b);
SELECT a, b, (SELECT string_agg(id || ': ' || n, ', ' ORDER BY id, row_version) FROM item__between(a::timestamptz, b::timestamptz)) AS between,
	(SELECT string_agg(id || ': ' || n, ', ' ORDER BY id, row_version) FROM item__from_to(a::timestamptz, b::timestamptz)) AS from_to
FROM times;
SELECT id, n, row_operation AS op, row_start, nullif(row_end, 'infinity') AS row_end FROM item__history WHERE id IN (1, 2) ORDER BY id, row_version;

-- the functions are taken into the query: one key is two probes of an index
INSERT INTO item SELECT i, i FROM generate_series(10, 3000) i;
UPDATE item SET n = n + 1 WHERE id > 100;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
VACUUM ANALYZE item_versions;
EXPLAIN (COSTS OFF) SELECT * FROM item__as_of('2999-01-01') WHERE id = 1234;
EXPLAIN (COSTS OFF) SELECT i.n FROM (VALUES (1), (2)) v(id) JOIN item__as_of('2999-01-01') i USING (id);
-- PostgreSQL 17 leaves out what the index conditions imply
CREATE FUNCTION plan(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		RETURN NEXT regexp_replace(line, '\(\(n\.id = v\.id\) AND (.*)\)$', '\1');
	END LOOP;
END $$;
SELECT plan($$SELECT row_version FROM item__between('2020-01-01', '2999-01-01') WHERE id = 1234$$);
RESET enable_seqscan;
RESET enable_bitmapscan;
SELECT immutable.drop_versioning('item'), immutable.unprotect('item_versions', true);

-- a clock that is set back: versions written meanwhile begin a microsecond after each other
CREATE TABLE clock (id integer PRIMARY KEY, n integer);
SELECT immutable.add_versioning('clock');
INSERT INTO clock VALUES (1, 1), (2, 1);
-- as if the first version had been written when it was an hour ahead
SELECT immutable.unprotect('clock_versions', true);
UPDATE clock_versions SET row_start = row_start + interval '1 hour' WHERE id = 1;
SELECT immutable.protect('clock_versions');
UPDATE clock SET n = n + 1;
UPDATE clock SET n = n + 1;
DELETE FROM clock;
INSERT INTO clock VALUES (1, 4);
SELECT row_version AS v, row_operation AS op, n, row_start - lag(row_start) OVER (ORDER BY row_version) AS later FROM clock_versions WHERE id = 1 ORDER BY 1;
SELECT row_start - lag(row_start) OVER (ORDER BY row_version) > interval '1 microsecond' AS later FROM clock_versions WHERE id = 2 ORDER BY row_version;
SELECT i, a.n FROM clock_versions v, generate_series(0, 4) i LEFT JOIN LATERAL (SELECT n FROM clock__as_of(v.row_start + (i - 1) * interval '1 microsecond') a WHERE a.id = 1) a ON true
WHERE v.id = 1 AND v.row_version = 1 ORDER BY 1;
SELECT * FROM immutable.verify_versions('clock');
SELECT immutable.drop_versioning('clock'), immutable.unprotect('clock_versions', true);

-- lazily, over many blocks, in batches that end within a block and with the last one
CREATE TABLE many (id integer PRIMARY KEY, filler text);
INSERT INTO many SELECT i, repeat('x', 300) FROM generate_series(1, 203) i;
SELECT immutable.add_versioning('many', 'lazy');
-- nobody can say that it is done when it is not
SELECT immutable._finish_backfill('many');
\echo :SQLSTATE
SELECT complete FROM immutable.versioned_tables WHERE relation = 'many'::regclass;
DELETE FROM many WHERE id > 200;
CALL immutable.backfill_versions('many', 1);
SELECT count(*), count(*) FILTER (WHERE row_operation = 'D') AS gone FROM many_versions;
SELECT complete FROM immutable.versioned_tables WHERE relation = 'many'::regclass;
SELECT * FROM immutable.verify_versions('many');
-- its versions in order of row_position need an index
SELECT immutable.safe_position('many_versions');
\echo :SQLSTATE
CREATE INDEX ON many_versions (row_position);
SELECT immutable.safe_position('many_versions'), immutable.persist_safe_position('many_versions');
SELECT immutable.drop_versioning('many'), immutable.unprotect('many_versions', true);

-- keys that are equal and not the same: the row as it was, found by either form
CREATE TABLE amount (id numeric PRIMARY KEY, n integer);
INSERT INTO amount VALUES (1.0, 1);
SELECT immutable.add_versioning('amount');
UPDATE amount SET id = 1.00;
SELECT row_version, id FROM amount_versions;
SELECT * FROM amount__as_of(now());
SELECT * FROM amount__as_of(now()) WHERE id = 1;
SELECT * FROM immutable.verify_versions('amount');
SELECT immutable.drop_versioning('amount'), immutable.unprotect('amount_versions', true);
DROP SCHEMA version_time CASCADE;
