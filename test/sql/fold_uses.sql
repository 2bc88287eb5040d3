-- fold_uses: wherever an aggregate may stand, over whatever rows, in memory or not.
\set SHOW_CONTEXT never
CREATE ROLE regress_uses;
CREATE SCHEMA uses AUTHORIZATION regress_uses;
SET search_path = uses;
SET ROLE regress_uses;
CREATE TABLE n (i integer, g text COLLATE "C", h integer, w text);
INSERT INTO n SELECT i, chr(97 + i % 3), i % 2, 'w' || i FROM generate_series(1, 12) i;
CREATE TYPE pair AS (total bigint, words text);
CREATE FUNCTION add(s pair, i integer, w text DEFAULT '-') RETURNS pair LANGUAGE sql IMMUTABLE AS
	'SELECT CASE WHEN i % 5 = 4 THEN s ELSE ROW(coalesce(s.total, 0) + i, concat(s.words, w))::uses.pair END';
CREATE FUNCTION push(s text[], w text) RETURNS text[] LANGUAGE plpgsql IMMUTABLE AS 'BEGIN s[cardinality(s) + 1] := w; RETURN s; END';

-- PostgreSQL's own aggregates say what is right
SELECT g, h, immutable.fold(''::text, 'textcat', w ORDER BY i) = string_agg(w, '' ORDER BY i) AS a, immutable.fold('{}'::text[], 'push', w ORDER BY i) = array_agg(w ORDER BY i) AS b,
	immutable.fold(ROW(0, '')::pair, 'add', i, w ORDER BY i DESC) = ROW(sum(i) FILTER (WHERE i % 5 <> 4), string_agg(w, '' ORDER BY i DESC) FILTER (WHERE i % 5 <> 4))::pair AS c,
	immutable.fold(0, 'int4pl', i) FILTER (WHERE i > 6) IS NOT DISTINCT FROM sum(i) FILTER (WHERE i > 6) AS d, immutable.fold(DISTINCT ''::text, 'textcat'::regproc, g) = string_agg(DISTINCT g, '') AS e
FROM n GROUP BY CUBE (g, h) ORDER BY g NULLS LAST, h NULLS LAST;
SELECT g, h, immutable.fold(NULL::pair, 'add', i, w ORDER BY i) FROM n GROUP BY ROLLUP (g, h) HAVING (immutable.fold(NULL::pair, 'add', i, w ORDER BY i)).total > 12 ORDER BY g NULLS LAST, h NULLS LAST;
SELECT g, h, immutable.fold('{}'::text[], 'push', w) FROM (SELECT * FROM n ORDER BY i) o GROUP BY GROUPING SETS ((g), (h), (g, h), ()) ORDER BY g NULLS LAST, h NULLS LAST;
SELECT count(*), count(*) FILTER (WHERE NOT ok) AS wrong FROM (
	SELECT immutable.fold(''::text, 'textcat', w) OVER a IS NOT DISTINCT FROM string_agg(w, '') OVER a AND immutable.fold('{}'::text[], 'push', w) OVER a IS NOT DISTINCT FROM array_agg(w) OVER a
		AND immutable.fold(''::text, 'textcat', w) OVER b IS NOT DISTINCT FROM string_agg(w, '') OVER b AND immutable.fold('{}'::text[], 'push', w) OVER b IS NOT DISTINCT FROM array_agg(w) OVER b
		AND (immutable.fold(ROW(0, '')::pair, 'add', i, w) OVER b).words IS NOT DISTINCT FROM string_agg(CASE WHEN i % 5 <> 4 THEN w ELSE '' END, '') OVER b
		AND immutable.fold(''::text, 'textcat', w) FILTER (WHERE h = 0) OVER c IS NOT DISTINCT FROM string_agg(w, '') FILTER (WHERE h = 0) OVER c
		AND immutable.fold('{}'::text[], 'push', w) OVER d IS NOT DISTINCT FROM array_agg(w) OVER d
		AND (immutable.fold(NULL::pair, 'add', 1, w) OVER d).words IS NOT DISTINCT FROM string_agg(w, '') OVER d AS ok
	FROM n WINDOW a AS (ORDER BY i), b AS (PARTITION BY g ORDER BY i ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING EXCLUDE CURRENT ROW),
		c AS (ORDER BY h, i GROUPS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), d AS (ORDER BY i RANGE BETWEEN 3 PRECEDING AND CURRENT ROW EXCLUDE TIES)) x;

-- in views, in functions, in DML, for each row of something else, in each other
CREATE VIEW folded AS SELECT g, immutable.fold(NULL::pair, 'add', i, w ORDER BY i) AS state FROM n GROUP BY g;
SELECT * FROM folded ORDER BY g;
SELECT (state).words FROM folded WHERE g = 'b';
CREATE MATERIALIZED VIEW kept AS SELECT * FROM folded;
SELECT count(*) FROM kept JOIN folded USING (g) WHERE kept.state = folded.state;
SELECT o.g, (SELECT immutable.fold(''::text, 'textcat', i.w ORDER BY i) FROM n i WHERE i.g = o.g AND i.i >= o.i) AS inner_rows, l.sum FROM n o,
	LATERAL (SELECT immutable.fold(o.i, 'int4pl', x) AS sum FROM generate_series(1, o.i) x) l WHERE o.i < 5 ORDER BY o.i;
SELECT immutable.fold(''::text, 'textcat', s::text ORDER BY g) FROM (SELECT g, immutable.fold(0, 'int4pl', i) AS s FROM n GROUP BY g) x;
SELECT immutable.fold(0, 'int4pl', (SELECT immutable.fold(0, 'int4pl', x) FROM generate_series(1, i) x)) FROM n;
SELECT immutable.fold(immutable.fold(1, 'int4pl', 1), 'int4pl', 1);
SELECT g, immutable.fold(0::bigint, 'int84pl', immutable.fold(0, 'int4pl', i)) OVER (ORDER BY g) FROM n GROUP BY g ORDER BY g;
CREATE FUNCTION words(of_group text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
	s uses.pair;
BEGIN
	s := (SELECT immutable.fold(NULL::uses.pair, 'uses.add', i, w ORDER BY i) FROM uses.n WHERE g = of_group);
	RETURN s.words;
END $$;
SELECT words('a'), words('b'), words('nobody');
CREATE TABLE target AS SELECT g, NULL::pair AS state FROM n GROUP BY g;
UPDATE target t SET state = (SELECT immutable.fold(NULL::pair, 'add', i, w ORDER BY i) FROM n WHERE n.g = t.g);
SELECT count(*) FROM target JOIN folded USING (g) WHERE target.state = folded.state;
-- a plan that is kept, whatever the reducer; a reducer that is replaced
SET plan_cache_mode = force_generic_plan;
PREPARE of_group(text, regproc, pair) AS SELECT immutable.fold($3, $2, i, w ORDER BY i) FROM n WHERE g = $1;
EXECUTE of_group('a', 'add', NULL);
EXECUTE of_group('b', 'add', ROW(100, 'x'));
BEGIN;
CREATE OR REPLACE FUNCTION add(s pair, i integer, w text DEFAULT '-') RETURNS pair LANGUAGE sql IMMUTABLE AS 'SELECT i, w';
EXECUTE of_group('b', 'add', ROW(100, 'x'));
ROLLBACK;
EXECUTE of_group('b', 'add', ROW(100, 'x'));
EXECUTE of_group('b', 'textcat', NULL);
EXECUTE of_group('b', NULL, NULL);
RESET plan_cache_mode;
-- a query goes on with the reducer it began with
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT i, immutable.fold(NULL::pair, 'add', i, w) OVER (ORDER BY i) FROM n;
FETCH 2 FROM c;
CREATE OR REPLACE FUNCTION add(s pair, i integer, w text DEFAULT '-') RETURNS pair LANGUAGE sql IMMUTABLE AS 'SELECT i, w';
FETCH 1 FROM c;
FETCH ABSOLUTE 1 FROM c;
ANALYZE n;
SAVEPOINT s;
ALTER TYPE pair ADD ATTRIBUTE more text;
ROLLBACK TO s;
FETCH ABSOLUTE 4 FROM c;
ALTER TYPE pair ADD ATTRIBUTE more text;
FETCH ABSOLUTE 2 FROM c;
FETCH ABSOLUTE 5 FROM c;
\echo :SQLSTATE
ROLLBACK;
-- the state is a row of a table that is analysed meanwhile
CREATE TABLE total (i bigint, words text);
CREATE FUNCTION to_total(s total, i integer, w text) RETURNS total LANGUAGE sql IMMUTABLE AS 'SELECT coalesce(s.i, 0) + i, concat(s.words, w)';
CREATE FUNCTION analysed(i integer) RETURNS integer LANGUAGE plpgsql AS 'BEGIN ALTER TABLE uses.total SET (fillfactor = 90); RETURN i; END';
SELECT immutable.fold(NULL::total, 'to_total', analysed(i), w ORDER BY i) FROM n;
SELECT i, immutable.fold(NULL::total, 'to_total', analysed(i), w) OVER (ORDER BY i) FROM n WHERE i < 4;

-- several items, up to as many as a function takes
CREATE FUNCTION three(s text, a integer, b text, c jsonb) RETURNS text LANGUAGE sql IMMUTABLE RETURN concat(s, a, b, c);
SELECT immutable.fold(''::text, 'three', i, g, jsonb_build_object(w, h) ORDER BY i) FROM n WHERE i < 4;
SELECT immutable.fold(''::text, 'three', i, 'x', '{}'::jsonb) FROM n;
\echo :SQLSTATE
SELECT immutable.fold(''::text, 'three', i, g) FROM n;
\echo :SQLSTATE
SELECT format('CREATE FUNCTION sum_all(s integer, %s) RETURNS integer LANGUAGE sql IMMUTABLE RETURN s + a1 + a97;', string_agg('a' || k || ' integer', ', ')) FROM generate_series(1, 97) k \gexec
SELECT format('SELECT immutable.fold(0, ''sum_all'', %s) FROM n;', string_agg('i', ', ')) FROM generate_series(1, 97) \gexec

-- rows of a log, and what looks like them
SELECT immutable.create_log('ledger'), immutable.create_log('wide', 3);
SELECT count(*) FROM generate_series(1, 5) k, unnest('{a,b}'::text[]) s, LATERAL immutable.append('ledger', s, 't' || k) a, LATERAL immutable.append('wide', s, 't' || k) b;
CREATE FUNCTION types(s text, e immutable.event) RETURNS text LANGUAGE sql IMMUTABLE RETURN concat(s, e.type);
CREATE FUNCTION last(s immutable.event, e immutable.event) RETURNS immutable.event LANGUAGE sql IMMUTABLE RETURN e;
CREATE FUNCTION pl_types(s text, e immutable.event) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN concat(s, e.type, pg_typeof(e)); END';
CREATE FUNCTION check_types(query text) RETURNS TABLE (inlined text, called text, whole text) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format('SELECT immutable.fold(''''::text, ''types'', e ORDER BY (e).version), replace(immutable.fold(''''::text, ''pl_types'', e ORDER BY (e).version), ''immutable.event'', ''.''),
		concat_ws('' '', pg_typeof(immutable.fold(NULL::immutable.event, ''last'', e ORDER BY (e).version)), (immutable.fold(NULL::immutable.event, ''last'', e ORDER BY (e).version)).type) FROM %s WHERE (e).stream = ''a''', query);
EXCEPTION WHEN others THEN
	inlined := SQLSTATE || ' ' || SQLERRM;
	RETURN NEXT;
END $$;
CREATE VIEW seen AS SELECT * FROM ledger;
CREATE VIEW turned AS SELECT metadata, data, type, stream, schema_version, id, version, recorded_at, position FROM ledger;
CREATE VIEW fuller AS SELECT *, 1 AS more FROM ledger;
CREATE VIEW poorer AS SELECT position, version, stream, type FROM ledger;
CREATE VIEW retyped AS SELECT position, recorded_at, version, id, schema_version, stream, type, data::json, metadata FROM ledger;
CREATE MATERIALIZED VIEW stored AS SELECT * FROM ledger;
CREATE TEMPORARY TABLE scratch AS SELECT * FROM ledger;
CREATE TABLE dropped (gone integer, LIKE immutable.event);
ALTER TABLE dropped DROP gone;
INSERT INTO dropped SELECT * FROM ledger;
CREATE TABLE typed OF immutable.event;
INSERT INTO typed SELECT * FROM ledger;
SELECT relname AS leaf FROM pg_class WHERE oid = (SELECT min(tableoid::oid) FROM wide WHERE stream = 'a') \gset
SELECT q, t.* FROM unnest(ARRAY['ledger e', 'ONLY ledger e', 'wide e', format('%I e', :'leaf'), 'seen e', 'turned e', 'fuller e', 'poorer e', 'retyped e', 'stored e', 'scratch e', 'dropped e', 'typed e',
	'(SELECT * FROM ledger) e', '(SELECT e FROM ledger e) x', '(SELECT e FROM seen e) x', '(SELECT * FROM turned) e', '(SELECT *, 1 AS more FROM ledger) e', '(SELECT e FROM turned e UNION ALL SELECT e FROM turned e WHERE false) x',
	'(SELECT position, version, stream, type FROM ledger) e', 'immutable.read_stream(''ledger'', ''a'') e', 'immutable.read_log(''ledger'') e',
	'(SELECT ROW(e.*)::immutable.event AS e FROM seen e) x']) WITH ORDINALITY q(q, k), check_types(q) t ORDER BY k;
-- from a subquery that gives whole rows the log's type is kept; what groups must be a column, too
SELECT stream, immutable.fold(''::text, 'types', x.e) FROM (SELECT e, e.stream FROM ledger e ORDER BY position) x GROUP BY stream ORDER BY stream;
SELECT (e).stream, immutable.fold(''::text, 'types', x.e) FROM (SELECT e FROM ledger e ORDER BY position) x GROUP BY (e).stream ORDER BY 1;
SELECT pg_typeof(x.e), pg_typeof(y) FROM (SELECT e FROM ledger e LIMIT 1) x, (SELECT * FROM ledger LIMIT 1) y;

-- no rows: NULL; no events: the initial state
SELECT immutable.fold(ROW(1, 'w')::pair, 'add', i) FROM n WHERE false;
SELECT immutable.fold(ROW(1, 'w')::pair, 'add', i) FROM n WHERE false GROUP BY g;
SELECT immutable.fold('x'::text, 'types', e), immutable.replay('ledger', 'nobody', 'x'::text, 'types'), immutable.replay('ledger', 'a', 'x'::text, 'types', 0), immutable.replay('wide', 'nobody', NULL::text, 'types')
FROM ledger e WHERE stream = 'nobody';
SELECT i, immutable.fold('x'::text, 'textcat', w) OVER (ORDER BY i ROWS BETWEEN 2 PRECEDING AND 1 PRECEDING) FROM n WHERE i < 3;

-- hash tables that do not fit into work_mem give what sorts give
CREATE FUNCTION batches(query text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	plan json;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, FORMAT JSON, COSTS OFF, TIMING OFF) ' || query INTO plan;
	RETURN coalesce((regexp_match(plan::text, '"HashAgg Batches": (\d+)'))[1]::integer, 0) > 1;
END $$;
CREATE FUNCTION widen(s pair, i integer) RETURNS pair LANGUAGE sql IMMUTABLE AS
	'SELECT CASE WHEN i % 5 = 4 THEN s ELSE ROW(coalesce(s.total, 0) + i, right(concat(s.words, repeat(i::text, 20)), 300))::uses.pair END';
CREATE FUNCTION pl_widen(s integer[], i integer) RETURNS integer[] LANGUAGE plpgsql IMMUTABLE AS 'BEGIN s[1 + cardinality(s) % 60] := i; RETURN s; END';
CREATE FUNCTION widen_json(s jsonb, e immutable.event) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$SELECT s || jsonb_build_object(e.type, repeat(e.stream, 20))$$;
-- the planner expects one group: grouping sets are hashed too
CREATE TABLE many WITH (autovacuum_enabled = off) AS SELECT -i AS i, -1 AS g, -1 AS h FROM generate_series(1, 100) i;
ANALYZE many;
INSERT INTO many SELECT i, i * 7919 % 3001, i % 7 FROM generate_series(1, 15000) i;
SELECT count(*) FROM (SELECT immutable.append('ledger', 's' || k % 800, 't' || k) FROM generate_series(1, 3200) k) a;
ANALYZE ledger;
CREATE FUNCTION difference(hash_query text, sort_query text) RETURNS TABLE (hash_spilled boolean, groups bigint, different bigint) LANGUAGE plpgsql SET work_mem = '64kB' SET hash_mem_multiplier = 1 AS $$
BEGIN
	SET LOCAL enable_hashagg = off;
	EXECUTE 'CREATE TEMPORARY TABLE sorted ON COMMIT DROP AS ' || sort_query;
	SET LOCAL enable_hashagg = on;
	SET LOCAL enable_sort = off;
	hash_spilled := batches(hash_query);
	EXECUTE 'CREATE TEMPORARY TABLE hashed ON COMMIT DROP AS ' || hash_query;
	RESET enable_sort;
	SELECT count(*) INTO groups FROM hashed;
	SELECT count(*) INTO different FROM ((SELECT hashed::text FROM hashed EXCEPT ALL SELECT sorted::text FROM sorted) UNION ALL (SELECT sorted::text FROM sorted EXCEPT ALL SELECT hashed::text FROM hashed)) d;
	DROP TABLE sorted, hashed;
	RETURN NEXT;
END $$;
SELECT * FROM difference('SELECT g, immutable.fold(NULL::pair, ''widen'', i) FROM (SELECT * FROM many ORDER BY i OFFSET 0) x GROUP BY g',
	'SELECT g, immutable.fold(NULL::pair, ''widen'', i ORDER BY i) FROM many GROUP BY g');
SELECT * FROM difference('SELECT g, immutable.fold(''{}''::integer[], ''pl_widen'', i) FROM (SELECT * FROM many ORDER BY i OFFSET 0) x GROUP BY g',
	'SELECT g, immutable.fold(''{}''::integer[], ''pl_widen'', i ORDER BY i) FROM many GROUP BY g');
SELECT * FROM difference('SELECT g, h, immutable.fold(NULL::pair, ''widen'', i) FROM (SELECT * FROM many ORDER BY i OFFSET 0) x GROUP BY GROUPING SETS ((g), (h))',
	'SELECT g, h, immutable.fold(NULL::pair, ''widen'', i ORDER BY i) FROM many GROUP BY GROUPING SETS ((g), (h))');
SELECT * FROM difference('SELECT (e).stream, immutable.fold(''{}''::jsonb, ''widen_json'', e) AS s, immutable.fold(''{}''::jsonb, ''immutable.merge_patch'', e) AS t FROM (SELECT e FROM ledger e ORDER BY position OFFSET 0) x GROUP BY (e).stream',
	'SELECT stream, immutable.fold(''{}''::jsonb, ''widen_json'', e ORDER BY e.version) AS s, immutable.fold(''{}''::jsonb, ''immutable.merge_patch'', e ORDER BY e.position) AS t FROM ledger e GROUP BY stream');
-- events that do not come in order are refused
SET enable_hashagg = off;
\set VERBOSITY terse
SELECT count(s) FROM (SELECT immutable.fold('{}'::jsonb, 'widen_json', e) AS s FROM (SELECT e FROM ledger e WHERE stream = 'a' ORDER BY position DESC OFFSET 0) x GROUP BY (e).stream) y;
\echo :SQLSTATE
RESET enable_hashagg;
SELECT count(*), count(*) FILTER (WHERE s IS DISTINCT FROM immutable.replay('ledger', stream, '{}'::jsonb, 'widen_json')) AS different
FROM (SELECT stream, immutable.fold('{}'::jsonb, 'widen_json', e ORDER BY e.version) AS s FROM ledger e GROUP BY stream) f;
-- compiled, where the server can
SET jit_above_cost = 0;
SELECT g, h, immutable.fold(NULL::pair, 'add', i, w ORDER BY i) FROM n GROUP BY ROLLUP (g, h) HAVING (immutable.fold(NULL::pair, 'add', i, w ORDER BY i)).total > 18 ORDER BY g NULLS LAST, h NULLS LAST;
RESET jit_above_cost;

RESET ROLE;
SET client_min_messages = warning;
DROP VIEW uses.seen, uses.turned, uses.fuller, uses.poorer, uses.retyped;
DROP MATERIALIZED VIEW uses.stored;
SELECT immutable.drop_log('ledger', force => true), immutable.drop_log('wide', force => true);
DROP TABLE pg_temp.scratch;
DROP SCHEMA uses CASCADE;
DROP ROLE regress_uses;
