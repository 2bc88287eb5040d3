-- fold: one reducer as an aggregate and over a window, for any state and item.
\set SHOW_CONTEXT never
CREATE ROLE regress_fold;
CREATE SCHEMA fold AUTHORIZATION regress_fold;
SET search_path = fold;
SET ROLE regress_fold;
CREATE TABLE n (i integer, x bigint, g text COLLATE "C");
INSERT INTO n VALUES (1, 10, 'a'), (2, 20, 'a'), (3, 30, 'b'), (4, NULL, 'b'), (5, 50, 'c');

-- functions that are there already
SELECT immutable.fold(0::bigint, 'int8pl', x) FROM n;
SELECT immutable.fold(100::bigint, 'int8pl', x) FROM n;
SELECT immutable.fold(''::text, 'textcat', g ORDER BY i DESC) FROM n;
SELECT immutable.fold('{}'::jsonb, 'jsonb_concat', jsonb_build_object(g, x) ORDER BY i) FROM n;
SELECT immutable.fold(ARRAY[]::integer[], 'array_append', i ORDER BY x DESC NULLS LAST) FROM n;
SELECT immutable.fold(0.0, 'numeric_add', i) FROM n;

-- strict functions pass over NULLs, as in an aggregate: the first item starts a NULL state
SELECT immutable.fold(NULL::bigint, 'int8pl', x ORDER BY i), immutable.fold(NULL::bigint, 'int8larger', x) FROM n;
SELECT immutable.fold(NULL::bigint, 'int8pl', x) FROM n WHERE x IS NULL;
SELECT immutable.fold(7::bigint, 'int8pl', x) FROM n WHERE x IS NULL;

-- whatever an aggregate may be given
SELECT g, immutable.fold(0::bigint, 'int8pl', x) FROM n GROUP BY g ORDER BY g;
SELECT immutable.fold(0::bigint, 'int8pl', x) FILTER (WHERE i > 2) FROM n;
SELECT immutable.fold(DISTINCT ''::text, 'textcat'::regproc, g) FROM n;
SELECT g, immutable.fold(0::bigint, 'int8pl', x) FROM n GROUP BY ROLLUP (g) ORDER BY g NULLS LAST;
SELECT g, i % 2 AS odd, immutable.fold(''::text, 'textcat', i::text ORDER BY i) FROM n
GROUP BY GROUPING SETS ((g), (i % 2), ()) ORDER BY g NULLS LAST, odd NULLS LAST;
SELECT g FROM n GROUP BY g HAVING immutable.fold(0::bigint, 'int8pl', x) > 29 ORDER BY g;
-- no rows: NULL, as for every aggregate that does not count
SELECT immutable.fold(0::bigint, 'int8pl', x) FROM n WHERE false;
SELECT immutable.fold(0::bigint, 'int8pl', x) FILTER (WHERE false) FROM n;

-- over a window: the state at every row; frames begin anew
SELECT i, immutable.fold(0::bigint, 'int8pl', coalesce(x, 0)) OVER (ORDER BY i),
	immutable.fold(''::text, 'textcat', g) OVER (PARTITION BY g ORDER BY i),
	immutable.fold(0::bigint, 'int8pl', coalesce(x, 0)) OVER (ORDER BY i ROWS BETWEEN 1 PRECEDING AND CURRENT ROW),
	immutable.fold(ARRAY[]::integer[], 'array_append', i) OVER (ORDER BY i ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)
FROM n ORDER BY i;

-- several items
CREATE FUNCTION weigh(state numeric, x bigint, weight integer, note text DEFAULT 'none') RETURNS numeric
LANGUAGE sql IMMUTABLE RETURN state + coalesce(x, 0) * weight + length(note);
SELECT immutable.fold(0::numeric, 'weigh', x, i), immutable.fold(0::numeric, 'weigh', x, i, g) FROM n;

-- events as items: of a log, of a partitioned one, of views and subqueries
SELECT immutable.create_log('ledger'), immutable.create_log('wide', 3);
CREATE TYPE account AS (owner text, balance bigint, moves text[]);
CREATE FUNCTION apply(state account, e immutable.event) RETURNS account LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE e.type
		WHEN 'opened' THEN ROW(e.data->>'owner', 0, ARRAY[]::text[])::fold.account
		WHEN 'moved' THEN ROW(state.owner, state.balance + (e.data->>'amount')::bigint,
			state.moves || (e.data->>'amount'))::fold.account
		ELSE state END
$$;
CREATE FUNCTION fill(log regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM immutable.append(log, 'a', 'opened', '{"owner": "ann"}');
	PERFORM immutable.append(log, 'b', 'opened', '{"owner": "bob"}');
	FOR i IN 1..6 LOOP
		PERFORM immutable.append(log, CASE WHEN i % 2 = 1 THEN 'a' ELSE 'b' END, 'moved', jsonb_build_object('amount', i * 10));
		PERFORM immutable.append(log, 'a', 'looked at');
	END LOOP;
END $$;
SELECT fill('ledger'), fill('wide');
SELECT stream, (immutable.fold(NULL::account, 'apply', e ORDER BY e.version)).* FROM ledger e GROUP BY stream ORDER BY stream;
SELECT stream, immutable.fold(NULL::account, 'apply', e ORDER BY e.version) FROM wide e GROUP BY stream ORDER BY stream;
SELECT immutable.fold(NULL::account, 'apply', e) FROM immutable.read_stream('ledger', 'a') e;
CREATE VIEW seen AS SELECT * FROM ledger WHERE type <> 'looked at';
SELECT stream, immutable.fold(NULL::account, 'apply', e ORDER BY e.version) FROM (SELECT * FROM seen) e GROUP BY stream ORDER BY stream;
SELECT stream, immutable.fold(NULL::account, 'apply', ROW(e.*)::immutable.event ORDER BY e.version) FROM seen e GROUP BY stream ORDER BY stream;
SELECT version, immutable.fold(NULL::account, 'apply', e) OVER (ORDER BY version)
FROM ledger e WHERE stream = 'b' ORDER BY version;
-- a row without a named type is matched by name; more columns do no harm
SELECT immutable.fold(NULL::account, 'apply', e ORDER BY version) FROM
	(SELECT 'more' AS more, metadata, data, type, stream, schema_version, id, version, recorded_at, position FROM ledger WHERE stream = 'a') e;
WITH e AS MATERIALIZED (SELECT * FROM wide WHERE stream = 'b')
SELECT immutable.fold(NULL::account, 'apply', e ORDER BY version) FROM e;
SELECT immutable.fold(NULL::account, 'apply', u.e ORDER BY (u.e).version)
FROM (SELECT e FROM ledger e WHERE type = 'opened' AND stream = 'b' UNION ALL SELECT e FROM ledger e WHERE data->>'amount' = '60') u;
-- a row that is not there is a NULL item
SELECT g, immutable.fold(ROW('-', 0, NULL)::account, 'apply', e ORDER BY e.version) FROM (VALUES ('a'), ('nobody')) v(g)
LEFT JOIN ledger e ON e.stream = g GROUP BY g ORDER BY g;
-- a row as second item
CREATE FUNCTION label(state text, separator text, e immutable.event) RETURNS text LANGUAGE sql IMMUTABLE
RETURN state || separator || e.type;
SELECT immutable.fold('all:'::text, 'label', ' '::text, e ORDER BY e.version) FROM ledger e WHERE stream = 'b';

-- states that are NULL, or become so
CREATE FUNCTION forget(state account, e immutable.event) RETURNS account LANGUAGE sql IMMUTABLE
RETURN CASE WHEN e.type = 'opened' THEN ROW(e.data->>'owner', 0, NULL)::fold.account END;
SELECT version, immutable.fold(NULL::account, 'forget', e) OVER (ORDER BY version) IS NULL AS gone
FROM ledger e WHERE stream = 'b' ORDER BY version;
CREATE FUNCTION count_all(state integer, item text) RETURNS integer LANGUAGE sql IMMUTABLE
RETURN coalesce(state, 0) + 1;
SELECT immutable.fold(NULL::integer, 'count_all', NULL::text) FROM n;
CREATE FUNCTION strict_null(state integer, item integer) RETURNS integer LANGUAGE sql IMMUTABLE STRICT
RETURN CASE WHEN item < 3 THEN state + item END;
SELECT i, immutable.fold(0, 'strict_null', i) OVER (ORDER BY i) FROM n;

-- from PL/pgSQL, from a prepared statement, from a query in a reducer
DO $$
DECLARE
	state fold.account;
BEGIN
	SELECT (immutable.fold(NULL::fold.account, 'fold.apply', e ORDER BY e.version)).* INTO state FROM fold.ledger e WHERE stream = 'a';
	RAISE NOTICE '%', state;
END $$;
PREPARE balance(text, regproc) AS SELECT (immutable.fold(NULL::account, $2, e ORDER BY e.version)).balance FROM ledger e WHERE stream = $1;
EXECUTE balance('a', 'apply');
EXECUTE balance('b', 'apply');
EXECUTE balance('b', 'forget');
CREATE FUNCTION of_sums(state bigint, upto integer) RETURNS bigint LANGUAGE plpgsql STABLE AS
'BEGIN RETURN state + (SELECT immutable.fold(0::bigint, ''int8pl'', i::bigint) FROM generate_series(1, upto) i); END';
SELECT immutable.fold(0::bigint, 'of_sums', i) FROM generate_series(1, 5) i;

RESET ROLE;
DROP VIEW seen;
SELECT immutable.drop_log('ledger', force => true), immutable.drop_log('wide', force => true);
SET client_min_messages = warning;
DROP SCHEMA fold CASCADE;
DROP ROLE regress_fold;
