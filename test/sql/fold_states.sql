-- fold_states: states of every kind, and every fold against a plain loop.
\set SHOW_CONTEXT never
CREATE ROLE regress_states;
CREATE SCHEMA fold_states AUTHORIZATION regress_states;
SET search_path = fold_states;
SET ROLE regress_states;
CREATE TYPE pair AS (total bigint, seen text);
CREATE DOMAIN small AS integer CHECK (value < 100);
CREATE DOMAIN checked_pair AS pair CHECK ((value).total >= 0);
CREATE TYPE mood AS ENUM ('calm', 'cross');
CREATE TYPE nested AS (inside pair, list pair[], extra jsonb);

-- one reducer a kind, in SQL (inlined where PostgreSQL can) and in PL/pgSQL
CREATE FUNCTION sql_int(s integer, x integer) RETURNS integer LANGUAGE sql IMMUTABLE RETURN (s * 31 + x) % 1000003;
CREATE FUNCTION pl_int(s integer, x integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN (s * 31 + x) % 1000003; END';
CREATE FUNCTION sql_text(s text, x integer) RETURNS text LANGUAGE sql IMMUTABLE RETURN right(s || x || ',', 1 + x % 60);
CREATE FUNCTION pl_text(s text, x integer) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN right(s || x || '','', 1 + x % 60); END';
CREATE FUNCTION sql_array(s integer[], x integer) RETURNS integer[] LANGUAGE sql IMMUTABLE RETURN CASE WHEN x % 7 = 0 THEN s[2:] ELSE s || x END;
CREATE FUNCTION pl_array(s integer[], x integer) RETURNS integer[] LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	IF x % 7 = 0 THEN
		RETURN s[2:];
	END IF;
	s[cardinality(s) + 1] := x;
	RETURN s;
END $$;
CREATE FUNCTION sql_jsonb(s jsonb, x integer) RETURNS jsonb LANGUAGE sql STABLE
RETURN CASE WHEN x % 5 = 0 THEN s - (x % 11)::text ELSE s || jsonb_build_object((x % 11)::text, repeat('v', x % 40)) END;
CREATE FUNCTION pl_jsonb(s jsonb, x integer) RETURNS jsonb LANGUAGE plpgsql STABLE AS
'BEGIN RETURN fold_states.sql_jsonb(s, x); END';
CREATE FUNCTION sql_pair(s pair, x integer) RETURNS pair LANGUAGE sql IMMUTABLE
RETURN CASE WHEN x % 3 = 0 THEN s ELSE ROW(s.total + x, right(s.seen || x, 1 + x % 30))::pair END;
CREATE FUNCTION pl_pair(s pair, x integer) RETURNS pair LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	IF x % 3 = 0 THEN
		RETURN s;
	END IF;
	s.total := s.total + x;
	s.seen := right(s.seen || x, 1 + x % 30);
	RETURN s;
END $$;
CREATE FUNCTION sql_small(s small, x integer) RETURNS small LANGUAGE sql IMMUTABLE RETURN ((s + x) % 97)::small;
CREATE FUNCTION pl_small(s small, x integer) RETURNS small LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN (s + x) % 97; END';
CREATE FUNCTION sql_checked(s checked_pair, x integer) RETURNS checked_pair LANGUAGE sql IMMUTABLE
RETURN ROW((s).total + x, 'n' || x)::pair::checked_pair;
CREATE FUNCTION pl_checked(s checked_pair, x integer) RETURNS checked_pair LANGUAGE plpgsql IMMUTABLE AS
'BEGIN s.total := s.total + x; s.seen := ''n'' || x; RETURN s; END';
CREATE FUNCTION sql_mood(s mood, x integer) RETURNS mood LANGUAGE sql IMMUTABLE RETURN CASE WHEN x % 13 = 0 THEN 'cross' ELSE s END;
CREATE FUNCTION pl_mood(s mood, x integer) RETURNS mood LANGUAGE plpgsql IMMUTABLE AS 'BEGIN IF x % 13 = 0 THEN s := ''cross''; END IF; RETURN s; END';
CREATE FUNCTION sql_nested(s nested, x integer) RETURNS nested LANGUAGE sql IMMUTABLE
RETURN ROW(ROW((s.inside).total + x, 'x')::pair, (s.list || ROW(x, (s.inside).seen)::pair)[greatest(1, cardinality(s.list) - 3):], s.extra || to_jsonb(x % 3))::nested;
CREATE FUNCTION pl_nested(s nested, x integer) RETURNS nested LANGUAGE plpgsql IMMUTABLE AS
'BEGIN RETURN fold_states.sql_nested(s, x); END';
CREATE FUNCTION sql_same(s anyelement, x integer) RETURNS anyelement LANGUAGE sql IMMUTABLE AS 'SELECT s';
CREATE FUNCTION pl_record(s record, x integer) RETURNS record LANGUAGE plpgsql IMMUTABLE AS
'BEGIN s.f1 := s.f1 + x; RETURN s; END';
CREATE FUNCTION definer(s integer, x integer) RETURNS integer LANGUAGE sql IMMUTABLE SECURITY DEFINER SET search_path = pg_catalog RETURN s + x;

-- a plain loop, which is what fold must equal
CREATE FUNCTION oracle(initial anyelement, reducer text, items integer[]) RETURNS anyelement LANGUAGE plpgsql AS $$
DECLARE
	state ALIAS FOR $0;
	item integer;
BEGIN
	state := initial;
	FOREACH item IN ARRAY items LOOP
		EXECUTE format('SELECT %s($1, $2)', reducer) INTO state USING state, item;
	END LOOP;
	RETURN state;
END $$;
-- the same over rows: an INTO of one composite value would spread its columns
CREATE FUNCTION oracle_row(initial anyelement, reducer text, items integer[]) RETURNS anyelement LANGUAGE plpgsql AS $$
DECLARE
	state ALIAS FOR $0;
	item integer;
BEGIN
	state := initial;
	FOREACH item IN ARRAY items LOOP
		EXECUTE format('SELECT (r).* FROM (SELECT %s($1, $2) AS r OFFSET 0) x', reducer) INTO state USING state, item;
	END LOOP;
	RETURN state;
END $$;

-- 60 groups of 0 to 59 items, in an order that mixes the groups
CREATE TABLE item AS
SELECT g, i, (g * 7919 + i * 104729 + g * i) % 1000 AS x FROM generate_series(0, 59) g, generate_series(1, g) i;
CREATE TABLE oracle_items AS SELECT g, array_agg(x ORDER BY i) AS xs FROM item GROUP BY g;
CREATE FUNCTION differences(initial anyelement, sql_reducer regproc, pl_reducer regproc, loop text DEFAULT 'oracle')
RETURNS TABLE (groups bigint, hashed_sql bigint, sorted_sql bigint, hashed_pl bigint, sorted_pl bigint, final text)
LANGUAGE plpgsql SET search_path = fold_states SET enable_sort = off SET jit = off AS $$
BEGIN
	RETURN QUERY EXECUTE format($q$
		WITH f AS (SELECT g, immutable.fold($1, $2, x ORDER BY i) AS a, immutable.fold($1, $3, x ORDER BY i) AS b FROM item GROUP BY g),
		h AS (SELECT g, immutable.fold($1, $2, x) AS a, immutable.fold($1, $3, x) AS b FROM (SELECT * FROM item ORDER BY i, g DESC) o GROUP BY g),
		o AS (SELECT g, %I($1, $2::text, xs) AS s FROM oracle_items)
		SELECT count(*), count(*) FILTER (WHERE h.a IS DISTINCT FROM o.s), count(*) FILTER (WHERE f.a IS DISTINCT FROM o.s),
			count(*) FILTER (WHERE h.b IS DISTINCT FROM o.s), count(*) FILTER (WHERE f.b IS DISTINCT FROM o.s),
			left((array_agg(f.a::text ORDER BY g))[50], 50)
		FROM f JOIN h USING (g) JOIN o USING (g)$q$, loop) USING initial, sql_reducer, pl_reducer;
END $$;
SELECT * FROM differences(1, 'sql_int', 'pl_int');
SELECT * FROM differences(''::text, 'sql_text', 'pl_text');
SELECT * FROM differences(ARRAY[]::integer[], 'sql_array', 'pl_array');
SELECT * FROM differences('{}'::jsonb, 'sql_jsonb', 'pl_jsonb');
SELECT * FROM differences(ROW(0, '')::pair, 'sql_pair', 'pl_pair', 'oracle_row');
SELECT * FROM differences(0::small, 'sql_small', 'pl_small');
SELECT * FROM differences('calm'::mood, 'sql_mood', 'pl_mood');
SELECT * FROM differences(ROW(ROW(0, '')::pair, ARRAY[]::pair[], '[]')::nested, 'sql_nested', 'pl_nested', 'oracle_row');
SELECT immutable.fold(ROW(0, '')::pair::checked_pair, 'sql_checked', x ORDER BY i),
	immutable.fold(ROW(0, '')::pair::checked_pair, 'pl_checked', x ORDER BY i) FROM item WHERE g = 20;
-- a state that never changes, of any type; a row without a named type; another's rights and settings
SELECT immutable.fold('kept'::text, 'sql_same', x), immutable.fold(ARRAY[1, 2], 'sql_same', x),
	immutable.fold(ROW(1, 'r')::pair, 'sql_same', x), immutable.fold(NULL::jsonb, 'sql_same', x) FROM item;
SELECT immutable.fold(ROW(0, 'r'), 'pl_record', x) FROM item WHERE g = 5;
SELECT immutable.fold(0, 'definer', x) = sum(x) AS definer FROM item;
-- the same over a window
SELECT count(*) FILTER (WHERE state IS DISTINCT FROM oracle(''::text, 'sql_text', xs)) AS different, count(*)
FROM (SELECT immutable.fold(''::text, 'sql_text', x) OVER w AS state, array_agg(x) OVER w AS xs
	FROM item WHERE g IN (17, 40) WINDOW w AS (PARTITION BY g ORDER BY i)) s;
SELECT count(*) FILTER (WHERE state IS DISTINCT FROM oracle_row(ROW(0, '')::pair, 'sql_pair', xs)) AS different, count(*)
FROM (SELECT immutable.fold(ROW(0, '')::pair, 'sql_pair', x) OVER w AS state, array_agg(x) OVER w AS xs
	FROM item WHERE g IN (17, 40) WINDOW w AS (PARTITION BY g ORDER BY i)) s;

-- values too large for a page, as items and as states
CREATE TABLE big (i integer, t text, j jsonb);
ALTER TABLE big ALTER t SET STORAGE EXTERNAL;
INSERT INTO big SELECT i, repeat(chr(96 + i), 20000 * i), jsonb_build_object('k', repeat(chr(96 + i), 20000 * i)) FROM generate_series(1, 5) i;
CREATE FUNCTION last_text(s text, x text) RETURNS text LANGUAGE sql IMMUTABLE RETURN x;
CREATE FUNCTION last_json(s jsonb, x jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE RETURN x;
CREATE FUNCTION last_row(s big, x big) RETURNS big LANGUAGE sql IMMUTABLE RETURN x;
SELECT length(immutable.fold(''::text, 'textcat', t ORDER BY i)), length(immutable.fold(''::text, 'last_text', t ORDER BY i)),
	length(immutable.fold('{}'::jsonb, 'last_json', j ORDER BY i)->>'k'), length((immutable.fold(NULL::big, 'last_row', big ORDER BY i)).t) FROM big;
SELECT i, length(immutable.fold(''::text, 'last_text', t) OVER (ORDER BY i DESC)) FROM big ORDER BY i;
CREATE TABLE kept AS SELECT immutable.fold(NULL::big, 'last_row', big ORDER BY i) AS b FROM big;
TRUNCATE big;
SELECT length((b).t), length((b).j->>'k') FROM kept;

RESET ROLE;
SET client_min_messages = warning;
DROP SCHEMA fold_states CASCADE;
DROP ROLE regress_states;
