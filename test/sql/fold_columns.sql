-- fold_columns: a state that is a row, kept as columns, against a loop.
\set SHOW_CONTEXT never
CREATE ROLE regress_columns;
CREATE SCHEMA columns AUTHORIZATION regress_columns;
SET search_path = columns;
SET ROLE regress_columns;
CREATE TYPE part AS (k integer, v text);
CREATE TYPE whole AS (a text, b text, n integer, list text[], inside part, u uuid, j jsonb);

-- the state at every item, where it is not what a loop makes of it
CREATE FUNCTION loop(initial anyelement, reducer regproc, n integer) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
	state record;
	states text[];
BEGIN
	SELECT initial AS v INTO state;
	FOR x IN 1..n LOOP
		EXECUTE format('SELECT %s($1, $2) AS v', reducer) INTO state USING state.v, x;
		states[x] := coalesce(state.v::text, 'NULL');
	END LOOP;
	RETURN states;
END $$;
CREATE FUNCTION verdict(initial anyelement, reducer regproc, n integer DEFAULT 40)
RETURNS TABLE (last text, equal bigint, grouped bigint, inlined boolean) LANGUAGE plpgsql SET jit = off AS $$
DECLARE
	expected text[] := loop(initial, reducer, n);
BEGIN
	SELECT count(*) INTO equal FROM
		(SELECT x, coalesce((immutable.fold(initial, reducer, x) OVER (ORDER BY x))::text, 'NULL') AS s FROM generate_series(1, n) x) f
	WHERE s = expected[x];
	-- many groups at once, of 1 to n items
	SELECT count(*) INTO grouped FROM
		(SELECT g, coalesce(immutable.fold(initial, reducer, x)::text, 'NULL') AS s
		FROM (SELECT g, x FROM generate_series(1, n) x, generate_series(1, n) g WHERE x <= g ORDER BY x, g) i GROUP BY g) f
	WHERE s = expected[g];
	last := left(expected[n], 60);
	SELECT e.inlined INTO inlined FROM immutable.explain_reducer(reducer) e;
	RETURN NEXT;
END $$;
CREATE FUNCTION start() RETURNS whole LANGUAGE sql IMMUTABLE AS
	$$SELECT ROW('a', 'bb', 0, '{l,m}', ROW(1, 'inside'), '00000000-0000-0000-0000-00000000000a', '{"j": 1}')::columns.whole$$;

-- columns that trade places, are computed from each other, or are parts of each other
CREATE FUNCTION swap(s whole, x integer) RETURNS whole LANGUAGE sql IMMUTABLE AS
	'SELECT ROW(s.b, s.a, x, s.list, s.inside, s.u, s.j)::columns.whole';
CREATE FUNCTION grow_and_swap(s whole, x integer) RETURNS whole LANGUAGE sql IMMUTABLE AS
	'SELECT ROW(right(s.b || repeat(x::text, x), 90), s.a, x, s.list || s.b, s.inside, s.u, s.j)::columns.whole';
CREATE FUNCTION both_of_one(s whole, x integer) RETURNS whole LANGUAGE sql IMMUTABLE AS
	$$SELECT ROW(s.b, s.b, x, ARRAY[s.a, s.b], ROW(x, s.a), s.u, s.j)::columns.whole$$;
CREATE FUNCTION parts(s whole, x integer) RETURNS whole LANGUAGE sql IMMUTABLE AS
	$$SELECT ROW(s.list[1], (s.inside).v, x, s.list[2:] || (x::text || s.list[1]), ROW((s.inside).k + 1, s.a || right((s.inside).v, 20)), s.u, s.j -> 'j')::columns.whole$$;
CREATE FUNCTION through_json(s whole, x integer) RETURNS whole LANGUAGE sql IMMUTABLE AS
	$$SELECT ROW(s.j ->> 'a', s.j ->> 'b', x, s.list, s.inside, s.u, jsonb_build_object('a', s.b, 'b', s.a, 'x', x))::columns.whole$$;
CREATE FUNCTION several(s whole, x integer) RETURNS whole LANGUAGE sql IMMUTABLE AS
	'SELECT s.b, s.a, s.n + x, s.list[2:] || s.list[1], s.inside, s.u, s.j';
CREATE FUNCTION untyped(s whole, x integer) RETURNS whole LANGUAGE sql IMMUTABLE AS
	'SELECT ROW(s.b, s.a, s.n + x, s.list, s.inside, s.u, s.j)';
SELECT f, v.* FROM unnest('{swap,grow_and_swap,both_of_one,parts,through_json,several,untyped}'::regproc[]) WITH ORDINALITY f(f, i), verdict(start(), f) v ORDER BY i;

-- branches: without ELSE, nested, with a subject; that give the state, NULL, a column's row, another function's row
CREATE FUNCTION other(s whole, x integer) RETURNS whole LANGUAGE plpgsql IMMUTABLE AS
	'BEGIN IF x % 11 = 0 THEN RETURN NULL; END IF; s.a := right(coalesce(s.a, ''-'') || x, 30); RETURN s; END';
CREATE FUNCTION fresh(x integer) RETURNS whole LANGUAGE plpgsql IMMUTABLE AS 'DECLARE s columns.whole; BEGIN s.a := repeat(x::text, x); s.list[x] := ''x''; RETURN s; END';
CREATE FUNCTION no_else(s whole, x integer) RETURNS whole LANGUAGE sql IMMUTABLE AS
	'SELECT CASE WHEN x % 5 < 3 THEN ROW(right(coalesce(s.a, ''new'') || x, 20), s.a, x, s.list, s.inside, s.u, s.j)::columns.whole WHEN x % 5 = 3 THEN s END';
CREATE FUNCTION nested(s whole, x integer) RETURNS whole LANGUAGE sql IMMUTABLE AS
	$$SELECT CASE x % 3 WHEN 0 THEN CASE WHEN s.n % 2 = 0 THEN s WHEN s.n % 7 = 0 THEN NULL ELSE ROW(s.b, s.a, x, s.list, s.inside, s.u, s.j)::columns.whole END
		WHEN 1 THEN ROW(x, s.a, s.n + x, s.list, s.inside, s.u, s.j)::columns.whole ELSE s END$$;
CREATE FUNCTION mixed(s whole, x integer) RETURNS whole LANGUAGE sql IMMUTABLE AS
	$$SELECT CASE WHEN x % 4 = 0 THEN columns.fresh(x) WHEN x % 4 = 1 THEN ROW(s.b, s.a || x, x, s.list, s.inside, s.u, s.j)::columns.whole WHEN x % 13 = 0 THEN NULL::columns.whole ELSE s END$$;
CREATE FUNCTION calls_other(s whole, x integer) RETURNS whole LANGUAGE sql IMMUTABLE AS
	$$SELECT CASE WHEN x % 4 = 0 THEN columns.other(s, x) WHEN x % 4 = 1 THEN ROW(s.b, right(s.a || x, 30), x, s.list, s.inside, s.u, s.j)::columns.whole ELSE s END$$;
CREATE FUNCTION calls_swap(s whole, x integer) RETURNS whole LANGUAGE sql IMMUTABLE AS
	$$SELECT CASE WHEN x % 2 = 0 THEN columns.swap(s, x) ELSE columns.several(columns.swap(s, x), x) END$$;
CREATE FUNCTION coalesced(s whole, x integer) RETURNS whole LANGUAGE sql IMMUTABLE AS
	$$SELECT CASE WHEN x % 6 = 0 THEN NULL ELSE coalesce(s, ROW('again', x, x, NULL, NULL, NULL, NULL)::columns.whole) END$$;
CREATE FUNCTION coalesced_first(s whole, x integer) RETURNS whole LANGUAGE sql IMMUTABLE AS
	$$SELECT coalesce(CASE WHEN x % 6 = 0 THEN NULL::columns.whole ELSE s END, ROW('again', x, x, NULL, NULL, NULL, NULL)::columns.whole)$$;
CREATE FUNCTION subject(s whole, x integer) RETURNS whole LANGUAGE sql IMMUTABLE AS
	$$SELECT CASE s WHEN ROW('a', 'bb', 3, s.list, s.inside, s.u, s.j)::columns.whole THEN NULL ELSE ROW(s.a, s.b, x, s.list, s.inside, s.u, s.j)::columns.whole END$$;
SELECT f, v.* FROM unnest('{no_else,nested,mixed,calls_other,calls_swap,coalesced,coalesced_first,subject}'::regproc[]) WITH ORDINALITY f(f, i), verdict(start(), f) v ORDER BY i;
SELECT f, v.* FROM unnest('{no_else,nested,mixed,calls_other,coalesced,coalesced_first,subject}'::regproc[]) WITH ORDINALITY f(f, i), verdict(NULL::whole, f) v ORDER BY i;

-- a NULL state is not a row of NULLs
CREATE FUNCTION telling(s part, x integer) RETURNS part LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE WHEN x % 7 = 0 THEN NULL
		WHEN x % 7 = 1 THEN ROW(NULL, NULL)::columns.part
		ELSE ROW(CASE WHEN x % 7 = 2 THEN NULL ELSE x END,
			concat(s IS NULL, s IS NOT NULL, s IS DISTINCT FROM NULL, s IS NOT DISTINCT FROM NULL, s.k IS NULL, s.k IS DISTINCT FROM NULL, ' ', right(s.v, 20)))::columns.part END $$;
CREATE FUNCTION telling_branch(s part, x integer) RETURNS part LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE WHEN x % 7 = 0 THEN NULL WHEN x % 7 = 1 THEN ROW(NULL, NULL)::columns.part
		WHEN s IS NOT DISTINCT FROM NULL THEN ROW(x, 'was NULL')::columns.part WHEN s IS NULL THEN ROW(x, 'was empty')::columns.part
		WHEN s IS NOT NULL AND x % 2 = 0 THEN ROW(NULL, s.v)::columns.part ELSE ROW(NULL, NULL)::columns.part END $$;
SELECT f, v.* FROM unnest('{telling,telling_branch}'::regproc[]) WITH ORDINALITY f(f, i), verdict(NULL::part, f) v ORDER BY i;
SELECT x, immutable.fold(NULL::part, 'telling_branch', x) OVER (ORDER BY x) FROM generate_series(1, 9) x;
-- a row without columns is both NULL and not
CREATE TYPE nothing AS ();
CREATE FUNCTION neither(s nothing, x integer) RETURNS nothing LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE WHEN s IS NOT NULL THEN NULL WHEN s IS NULL THEN ROW()::columns.nothing ELSE s END $$;
SELECT * FROM verdict(NULL::nothing, 'neither', 3);

-- every kind of column: kept, set, taken from another, NULL
CREATE TYPE mood AS ENUM ('calm', 'cross');
CREATE DOMAIN even AS integer CHECK (value % 2 = 0);
CREATE TYPE kinds AS (c "char", b boolean, h smallint, i bigint, f float8, m numeric(8,3), v varchar(9), ch char(4), by bytea, n name, n2 name,
	u uuid, u2 uuid, iv interval, iv2 interval, ts timestamptz, r int4range, mr int4multirange, e mood, d even, ip inet, bits varbit, pt point, pt2 point, ps part[]);
CREATE FUNCTION kind(s kinds, x integer) RETURNS kinds LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE x % 4 WHEN 0 THEN ROW(s.c, s.b, s.h, s.i, s.f, s.m, s.v, s.ch, s.by, s.n2, s.n, s.u2, s.u, s.iv2, s.iv, s.ts, s.r, s.mr, s.e, s.d, s.ip, s.bits, s.pt2, s.pt, s.ps[2:])::columns.kinds
	WHEN 1 THEN ROW(chr(64 + x), x % 3 = 0, x, x * 1000000000000, x / 7.0, x / 7.0, 'v' || x, 'c' || x, decode(repeat('ab', x), 'hex'), 'n' || x, s.n, md5(x::text)::uuid, s.u,
		make_interval(days => x), s.iv, '2020-01-01 00:00+00'::timestamptz + make_interval(days => x), int4range(x, 2 * x), int4multirange(int4range(x, x + 2)), CASE WHEN x % 3 = 0 THEN 'cross' ELSE 'calm' END,
		x * 2, '10.0.0.0'::inet + x, s.bits || B'101', point(x, x), s.pt, s.ps || ROW(x, s.v)::columns.part)::columns.kinds
	WHEN 2 THEN s
	ELSE ROW(NULL, s.b, NULL, s.i, NULL, s.m, NULL, s.ch, NULL, s.n, s.n, NULL, s.u, NULL, s.iv, s.ts, NULL, s.mr, NULL, s.d, NULL, s.bits, s.pt, NULL, s.ps)::columns.kinds END $$;
SELECT equal, grouped, inlined FROM verdict(NULL::kinds, 'kind');
SELECT immutable.fold(NULL::kinds, 'kind', x) FROM generate_series(1, 9) x;

-- values too large for a page: from a table, kept, traded
CREATE TABLE big (i integer, t text, j jsonb);
ALTER TABLE big ALTER t SET STORAGE EXTERNAL;
INSERT INTO big SELECT i, repeat(chr(96 + i), 20000 * i), jsonb_build_object('k', repeat(chr(96 + i), 20000 * i)) FROM generate_series(1, 5) i;
CREATE TYPE two AS (t text, u text, j jsonb);
CREATE FUNCTION keep_big(s two, x big) RETURNS two LANGUAGE sql IMMUTABLE AS
	'SELECT CASE WHEN x.i = 4 THEN s WHEN x.i = 3 THEN ROW(s.u, s.t, s.j)::columns.two ELSE ROW(x.t, s.t, x.j)::columns.two END';
SELECT i, length((s).t), left((s).t, 1), length((s).u), left((s).u, 1), length((s).j ->> 'k') FROM (SELECT i, immutable.fold(NULL::two, 'keep_big', big) OVER (ORDER BY i) AS s FROM big) f;
CREATE TABLE kept AS SELECT immutable.fold(NULL::two, 'keep_big', big ORDER BY i) AS s FROM big;
TRUNCATE big;
SELECT length((s).t), left((s).u, 1), length((s).j ->> 'k') FROM kept;

-- row types that have changed: columns that were dropped, with what old rows still have there; columns that were added
CREATE TABLE old (k integer, gone text, v text, gone_too uuid, CHECK (k > 0));
INSERT INTO old VALUES (1, repeat('gone', 30), 'v', '00000000-0000-0000-0000-00000000000a');
CREATE FUNCTION is_old(s old, x integer) RETURNS old LANGUAGE sql IMMUTABLE AS
	'SELECT CASE WHEN x % 3 = 1 THEN s WHEN x % 3 = 2 THEN ROW(s.k + x, s.gone, s.v || x, s.gone_too)::columns.old ELSE NULL END';
SELECT (immutable.fold(old, 'is_old', x)).v FROM old, generate_series(1, 2) x;
ALTER TABLE old DROP gone, DROP gone_too;
CREATE OR REPLACE FUNCTION is_old(s old, x integer) RETURNS old LANGUAGE sql IMMUTABLE AS
	'SELECT CASE WHEN x % 3 = 1 THEN s WHEN x % 3 = 2 THEN ROW(s.k + x, right(s.v || x, 20))::columns.old ELSE NULL END';
CREATE FUNCTION is_older(s old, x integer) RETURNS old LANGUAGE sql IMMUTABLE AS 'SELECT s.k + x, right(s.v || x, 20)';
CREATE FUNCTION atomic(s old, x integer) RETURNS old LANGUAGE sql IMMUTABLE RETURN CASE WHEN x % 5 = 0 THEN s ELSE ROW(s.k + x, right(s.v || x, 20))::old END;
CREATE FUNCTION brief(s old) RETURNS old LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN s; END';
SELECT immutable.fold(brief(old), 'atomic', x) FILTER (WHERE x % 5 = 0) FROM old, generate_series(1, 100) x;
SELECT x, immutable.fold(old, 'is_old', x) OVER (ORDER BY x), immutable.fold(old, 'is_older', x) OVER (ORDER BY x), immutable.fold(old, 'atomic', x) OVER (ORDER BY x) FROM old, generate_series(1, 4) x;
ALTER TABLE old ADD added text;
SELECT immutable.fold(old, 'atomic', x), immutable.fold(old, 'atomic', x) FILTER (WHERE x % 5 = 0) FROM old, generate_series(1, 40) x;
SELECT * FROM verdict((SELECT old FROM old), 'atomic');
SELECT immutable.fold(old, 'is_older', x) FROM old, generate_series(1, 4) x;
\echo :SQLSTATE
ALTER TABLE old DROP v CASCADE;
SELECT immutable.fold(old, 'is_old', x) FROM old, generate_series(1, 4) x;
\echo :SQLSTATE

-- a domain over the row, and in it
CREATE DOMAIN full_part AS part CHECK ((value).k IS NOT NULL);
CREATE FUNCTION to_full(s full_part, x integer) RETURNS full_part LANGUAGE sql IMMUTABLE AS 'SELECT ROW((s).k + x, x)::columns.part';
CREATE FUNCTION to_full_untyped(s full_part, x integer) RETURNS full_part LANGUAGE sql IMMUTABLE AS 'SELECT ROW(nullif(x, 3), x)::columns.part';
CREATE FUNCTION part_full(s part, x integer) RETURNS full_part LANGUAGE sql IMMUTABLE AS 'SELECT ROW(s.k + x, x)::columns.part';
SELECT * FROM verdict(ROW(1, 'a')::part::full_part, 'to_full');
SELECT immutable.fold(ROW(1, 'a')::part, 'part_full', x), (SELECT e FROM immutable.explain_reducer('part_full') e) FROM generate_series(1, 3) x;
SELECT immutable.fold(ROW(1, 'a')::part, 'to_full', x) FROM generate_series(1, 3) x;
SELECT immutable.fold(ROW(1, 'a')::full_part, 'to_full_untyped', x) FROM generate_series(1, 3) x;
\echo :SQLSTATE
SELECT immutable.fold(ROW(NULL, 'a')::part, 'part_full', x) FROM generate_series(1, 3) x;
\echo :SQLSTATE

-- strict: the first row starts a NULL state
CREATE FUNCTION strict_last(s part, x part) RETURNS part LANGUAGE sql IMMUTABLE STRICT AS
	'SELECT CASE WHEN x.k = 4 THEN NULL WHEN x.k % 2 = 0 THEN ROW(x.k, s.v)::columns.part ELSE ROW(s.k, x.v)::columns.part END';
SELECT x, immutable.fold(NULL::part, 'strict_last', CASE WHEN x <> 2 THEN ROW(x, 'v' || x)::part END) OVER (ORDER BY x) FROM generate_series(1, 5) x;
SELECT * FROM immutable.explain_reducer('strict_last');

RESET ROLE;
SET client_min_messages = warning;
DROP SCHEMA columns CASCADE;
DROP ROLE regress_columns;
