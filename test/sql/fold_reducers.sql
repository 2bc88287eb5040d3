-- fold_reducers: every kind of function, each against a loop that calls it.
\set SHOW_CONTEXT never
CREATE ROLE regress_reducers;
CREATE SCHEMA reducers AUTHORIZATION regress_reducers;
SET search_path = reducers;
SET ROLE regress_reducers;

-- what a fold gives, or how it fails; whether that is what the loop gives; what explain_reducer says
CREATE FUNCTION verdict(initial anyelement, reducer regproc, VARIADIC items integer[] DEFAULT '{1,2,3,4,5}')
RETURNS TABLE (state text, as_loop boolean, inlined boolean, problem text) LANGUAGE plpgsql AS $$
DECLARE
	looped record;
	folded record;
	item integer;
	wrong text;
BEGIN
	SELECT e.inlined, e.problem INTO inlined, problem FROM immutable.explain_reducer(reducer) e;
	BEGIN
		SELECT initial AS v INTO looped;
		FOREACH item IN ARRAY items LOOP
			EXECUTE format('SELECT %s($1, $2) AS v', reducer) INTO looped USING looped.v, item;
		END LOOP;
	EXCEPTION WHEN others THEN
		wrong := SQLSTATE || ' ' || SQLERRM;
	END;
	BEGIN
		SELECT immutable.fold(initial, reducer, u.x ORDER BY u.i) AS v INTO folded FROM unnest(items) WITH ORDINALITY u(x, i);
		state := coalesce(folded.v::text, 'NULL');
		as_loop := wrong IS NULL AND folded.v IS NOT DISTINCT FROM looped.v AND folded.v::text IS NOT DISTINCT FROM looped.v::text;
	EXCEPTION WHEN others THEN
		state := SQLSTATE || ' ' || SQLERRM;
		as_loop := wrong = state;
	END;
	RETURN NEXT;
END $$;

-- SQL: several columns, assignment casts, defaults, every form of body
CREATE TYPE money_note AS (amount numeric(6,2), note varchar(5));
CREATE FUNCTION columns(s money_note, x integer) RETURNS money_note LANGUAGE sql IMMUTABLE AS 'SELECT s.amount + x / 3.0, right(s.note || x, 5)';
SELECT * FROM verdict(ROW(1, '')::money_note, 'columns');
CREATE FUNCTION integers(s money_note, x integer) RETURNS money_note LANGUAGE sql IMMUTABLE AS 'SELECT x, ''n''';
SELECT * FROM verdict(ROW(1, '')::money_note, 'integers');
SELECT * FROM verdict(ROW(1, '')::money_note, 'integers', 9999, 10000, 1);
CREATE FUNCTION too_long(s money_note, x integer) RETURNS money_note LANGUAGE sql IMMUTABLE AS 'SELECT s.amount, s.note || x';
SELECT * FROM verdict(ROW(1, 'abc')::money_note, 'too_long', 1, 2);
SELECT * FROM verdict(ROW(1, 'abc')::money_note, 'too_long', 1, 2, 3);
CREATE FUNCTION one_column(s money_note, x integer) RETURNS money_note LANGUAGE sql IMMUTABLE AS 'SELECT ROW(x, s.note)::reducers.money_note';
SELECT * FROM verdict(ROW(1, 'abc')::money_note, 'one_column');
CREATE FUNCTION untyped_row(s money_note, x integer) RETURNS money_note LANGUAGE sql IMMUTABLE AS 'SELECT ROW(x, s.note)';
SELECT * FROM verdict(ROW(1, 'abc')::money_note, 'untyped_row');
CREATE FUNCTION star(s money_note, x integer) RETURNS money_note LANGUAGE sql IMMUTABLE AS 'SELECT (s).*';
SELECT * FROM verdict(ROW(1, 'abc')::money_note, 'star');
CREATE FUNCTION atomic(s money_note, x integer) RETURNS money_note LANGUAGE sql IMMUTABLE BEGIN ATOMIC SELECT s.amount * x, s.note; END;
SELECT * FROM verdict(ROW(1, 'abc')::money_note, 'atomic');
CREATE FUNCTION returns(s integer, x integer) RETURNS integer LANGUAGE sql IMMUTABLE RETURN s * 10 + x;
SELECT * FROM verdict(0, 'returns');
CREATE FUNCTION assigned(s bigint, x integer) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 2.5 * x';
SELECT * FROM verdict(0::bigint, 'assigned');
CREATE FUNCTION numbered(integer, integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 10 + $2';
SELECT * FROM verdict(0, 'numbered');
CREATE FUNCTION out_argument(s integer, x integer, OUT r integer) LANGUAGE sql IMMUTABLE AS 'SELECT s * 10 + x';
SELECT * FROM verdict(0, 'out_argument');
-- labels: STRICT over CASE, IMMUTABLE over STABLE
CREATE FUNCTION strict_case(s integer, x integer) RETURNS integer LANGUAGE sql IMMUTABLE STRICT AS 'SELECT CASE WHEN x = 3 THEN s * 100 ELSE s + x END';
SELECT * FROM verdict(0, 'strict_case');
CREATE FUNCTION strict_gone(s integer, x integer) RETURNS integer LANGUAGE sql IMMUTABLE STRICT AS 'SELECT CASE WHEN x < 3 THEN s + x END';
SELECT * FROM verdict(0, 'strict_gone');
CREATE FUNCTION label(s jsonb, x integer) RETURNS jsonb LANGUAGE sql IMMUTABLE AS 'SELECT s || jsonb_build_object(x % 3, x)';
SELECT * FROM verdict('{}'::jsonb, 'label');
CREATE FUNCTION clock(s text, x integer) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT CASE WHEN clock_timestamp() IS NULL THEN s ELSE s || x END';
SELECT * FROM verdict(''::text, 'clock');
-- defaults
CREATE FUNCTION tens(s integer, x integer, factor integer DEFAULT 10, plus integer DEFAULT 1) RETURNS integer LANGUAGE sql IMMUTABLE RETURN s * factor + x + plus;
SELECT * FROM verdict(0, 'tens');
CREATE FUNCTION strict_default(s integer, x integer, y integer DEFAULT NULL) RETURNS integer LANGUAGE sql IMMUTABLE STRICT RETURN s + coalesce(y, 1);
SELECT * FROM verdict(0, 'strict_default');
CREATE FUNCTION volatile_default(s integer, x integer, y double precision DEFAULT random()) RETURNS integer LANGUAGE sql STABLE RETURN s + (y - y)::integer;
SELECT * FROM verdict(0, 'volatile_default');
-- overloaded
CREATE FUNCTION pick(s integer, x integer) RETURNS integer LANGUAGE sql IMMUTABLE RETURN s + x;
CREATE FUNCTION pick(s text, x integer) RETURNS text LANGUAGE sql IMMUTABLE RETURN s || x;
SELECT * FROM verdict(0, 'pick(integer,integer)'::regprocedure);
SELECT * FROM verdict(''::text, 'pick(text,integer)'::regprocedure);
SELECT immutable.fold(''::text, 'pick(text,integer)'::regprocedure, x ORDER BY x) FROM generate_series(1, 3) x;
SELECT immutable.fold(''::text, 'pick(integer,integer)'::regprocedure, x ORDER BY x) FROM generate_series(1, 3) x;
SELECT immutable.fold(''::text, 'pick', x) FROM generate_series(1, 3) x;
-- polymorphic
CREATE FUNCTION any_element(s anyelement, x integer) RETURNS anyelement LANGUAGE sql IMMUTABLE AS 'SELECT CASE WHEN x > 9 THEN s ELSE s END';
CREATE FUNCTION any_array(s anyarray, x anyelement) RETURNS anyarray LANGUAGE sql IMMUTABLE AS 'SELECT x || s';
CREATE FUNCTION any_compatible(s anycompatible, x anycompatible) RETURNS anycompatible LANGUAGE sql IMMUTABLE AS 'SELECT greatest(s, x)';
CREATE FUNCTION any_nonarray(s anynonarray, x integer) RETURNS anynonarray LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN s; END';
CREATE FUNCTION any_enum(s anyenum, x integer) RETURNS anyenum LANGUAGE sql IMMUTABLE AS 'SELECT enum_last(s)';
SELECT * FROM verdict('t'::text, 'any_element');
SELECT * FROM verdict(ROW(1, 'abc')::money_note, 'any_element');
SELECT * FROM verdict('{0}'::integer[], 'any_array');
SELECT * FROM verdict(2.5::numeric, 'any_compatible');
SELECT * FROM verdict('t'::text, 'any_nonarray');
SELECT immutable.fold('{1}'::integer[], 'any_nonarray', 1);
CREATE TYPE mood AS ENUM ('calm', 'cross');
SELECT immutable.fold('calm'::mood, 'any_enum', 1);
-- collations come from the call; a body that was analysed before has its own
CREATE FUNCTION which(s text, x text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT pg_collation_for(s || x)';
CREATE FUNCTION which_inside(s text, x text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT reducers.which(s, x)';
CREATE FUNCTION which_atomic(s text, x text) RETURNS text LANGUAGE sql IMMUTABLE RETURN pg_collation_for(s || x);
CREATE FUNCTION which_called(s text, x text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN pg_collation_for(s || x); END';
CREATE TABLE word (w text);
INSERT INTO word VALUES ('x');
SELECT immutable.fold(''::text COLLATE "C", 'which', w), immutable.fold(''::text, 'which', w COLLATE "POSIX"), immutable.fold(''::text, 'which', w) FROM word;
SELECT immutable.fold(''::text COLLATE "C", 'which_inside', w), immutable.fold(''::text, 'which_inside', w COLLATE "POSIX"), immutable.fold(''::text, 'which_inside', w) FROM word;
SELECT immutable.fold(''::text COLLATE "C", 'which_atomic', w), immutable.fold(''::text, 'which_atomic', w COLLATE "POSIX"), immutable.fold(''::text, 'which_atomic', w) FROM word;
SELECT immutable.fold(''::text COLLATE "C", 'which_called', w), immutable.fold(''::text, 'which_called', w COLLATE "POSIX"), immutable.fold(''::text, 'which_called', w) FROM word;
SELECT which('' COLLATE "C", 'x'), which_inside('', 'x' COLLATE "POSIX"), which_atomic('' COLLATE "C", 'x'), which_called('' COLLATE "C", 'x');
SELECT immutable.fold(''::text COLLATE "C", 'which', w COLLATE "POSIX") FROM word;
\echo :SQLSTATE
-- domains: a value that is not allowed ends the fold, also when the next would be
CREATE DOMAIN small AS integer CHECK (value < 10);
CREATE DOMAIN required AS integer NOT NULL;
CREATE DOMAIN ascending AS integer[] CHECK (value[1] IS NULL OR value[1] <= value[array_upper(value, 1)]);
CREATE DOMAIN solvent AS money_note CHECK ((value).amount >= 0);
CREATE FUNCTION to_small(s small, x integer) RETURNS small LANGUAGE sql IMMUTABLE RETURN CASE WHEN x = 4 THEN 0 ELSE s + x END;
CREATE FUNCTION pl_small(s small, x integer) RETURNS small LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN CASE WHEN x = 4 THEN 0 ELSE s + x END; END';
CREATE FUNCTION to_required(s required, x integer) RETURNS required LANGUAGE sql IMMUTABLE RETURN CASE WHEN x <> 3 THEN s + x END;
CREATE FUNCTION to_ascending(s ascending, x integer) RETURNS ascending LANGUAGE sql IMMUTABLE RETURN s || x;
CREATE FUNCTION to_solvent(s solvent, x integer) RETURNS solvent LANGUAGE sql IMMUTABLE RETURN ROW((s).amount - x, (s).note)::money_note;
CREATE FUNCTION pl_solvent(s solvent, x integer) RETURNS solvent LANGUAGE plpgsql IMMUTABLE AS 'BEGIN s.amount := s.amount - x; RETURN s; END';
SELECT * FROM verdict(0::small, 'to_small');
SELECT * FROM verdict(0::small, 'to_small', 5, 5, 4);
SELECT * FROM verdict(0::small, 'pl_small', 5, 5, 4);
SELECT * FROM verdict(0::required, 'to_required');
SELECT * FROM verdict(0::required, 'to_required', 1, 2);
SELECT * FROM verdict('{}'::ascending, 'to_ascending');
SELECT * FROM verdict('{}'::ascending, 'to_ascending', 5, 6, 4, 7);
SELECT * FROM verdict(ROW(5, 'a')::solvent, 'to_solvent', 2, 2);
SELECT * FROM verdict(ROW(5, 'a')::solvent, 'to_solvent', 2, 4, -9);
SELECT * FROM verdict(ROW(5, 'a')::solvent, 'pl_solvent', 2, 4, -9);
CREATE TYPE limited AS (amount small, other required);
CREATE FUNCTION to_limited(s limited, x integer) RETURNS limited LANGUAGE sql IMMUTABLE AS 'SELECT s.amount + x, nullif(x, 3)';
SELECT * FROM verdict(ROW(0, 0)::limited, 'to_limited', 1, 2);
SELECT * FROM verdict(ROW(0, 0)::limited, 'to_limited', 1, 2, 3);
SELECT * FROM verdict(ROW(0, 0)::limited, 'to_limited', 5, 6);

-- what is called
CREATE FUNCTION settings(s text, x integer) RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog AS $$SELECT current_setting('search_path') || x$$;
CREATE FUNCTION definer(s text, x integer) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT current_user || x::text';
CREATE FUNCTION from_clause(s integer, x integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT s + count(*)::integer FROM generate_series(1, x)';
CREATE FUNCTION subquery(s integer, x integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT s + (SELECT max(v) FROM (VALUES (1), (x)) v(v))';
CREATE FUNCTION having_clause(s integer, x integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT s + x HAVING x <> 4';
CREATE FUNCTION where_clause(s integer, x integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT s + x WHERE x <> 4';
CREATE FUNCTION aggregates(s bigint, x integer) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT s + sum(x)';
CREATE FUNCTION sets(s integer, x integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT s + generate_series(1, x)';
CREATE FUNCTION limit_clause(s integer, x integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT s + x LIMIT 1';
CREATE FUNCTION with_clause(s integer, x integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'WITH w AS (SELECT s + x AS v) SELECT v FROM w';
CREATE FUNCTION union_clause(s integer, x integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT s + x UNION SELECT s + x';
CREATE FUNCTION values_clause(s integer, x integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'VALUES (s + x)';
CREATE FUNCTION statements(s integer, x integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 1; SELECT s + x';
CREATE FUNCTION statements_atomic(s integer, x integer) RETURNS integer LANGUAGE sql IMMUTABLE BEGIN ATOMIC SELECT 1; SELECT s + x; END;
CREATE FUNCTION composite_domain(s solvent, x integer) RETURNS solvent LANGUAGE sql IMMUTABLE AS 'SELECT ROW((s).amount + x, (s).note)::reducers.money_note';
SELECT f.f, v.* FROM unnest('{from_clause,subquery,having_clause,where_clause,sets,limit_clause,with_clause,union_clause,values_clause,statements,statements_atomic}'::regproc[])
	WITH ORDINALITY f(f, i), verdict(0, f) v ORDER BY i;
SELECT * FROM verdict(0::bigint, 'aggregates');
SELECT * FROM verdict(''::text, 'settings');
SELECT * FROM verdict(''::text, 'definer');
SELECT * FROM verdict(ROW(5, 'a')::solvent, 'composite_domain');
SELECT * FROM verdict(ROW(5, 'a')::solvent, 'composite_domain', 1, -9, 9);
-- recursion: the function goes on calling itself where it stands in its own body
SET check_function_bodies = off;
CREATE FUNCTION down(s integer, x integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT CASE WHEN x > 0 THEN reducers.down(s * 2 + x, x - 1) ELSE s END';
CREATE FUNCTION down_row(s money_note, x integer) RETURNS money_note LANGUAGE sql IMMUTABLE AS
	'SELECT CASE WHEN x > 0 THEN reducers.down_row(ROW(s.amount + x, right(s.note || x, 5))::reducers.money_note, x - 1) ELSE s END';
CREATE FUNCTION broken(s integer, x integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT s + no_such_column';
CREATE FUNCTION misspelt(s integer, x integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELEKT 1';
CREATE FUNCTION empty(s integer, x integer) RETURNS integer LANGUAGE sql IMMUTABLE AS '';
CREATE FUNCTION mistaken(s integer, x integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT ''x''::text';
RESET check_function_bodies;
SELECT * FROM verdict(0, 'down');
SELECT * FROM verdict(ROW(5, 'a')::money_note, 'down_row');
SELECT immutable.fold(0, f, x) FROM generate_series(1, 3) x, unnest('{broken}'::regproc[]) f;
\echo :SQLSTATE
SELECT * FROM immutable.explain_reducer('broken');
SELECT * FROM immutable.explain_reducer('misspelt');
SELECT * FROM verdict(0, 'empty');
SELECT * FROM verdict(0, 'mistaken');

-- PL/pgSQL: arrays and rows in place, NULL and back, exceptions
CREATE FUNCTION pl_sparse(s integer[], x integer) RETURNS integer[] LANGUAGE plpgsql IMMUTABLE AS
	'BEGIN IF x = 3 THEN RETURN NULL; END IF; IF x = 4 THEN RETURN s || array_append(s, x); END IF; s[x] := x; RETURN s; END';
CREATE FUNCTION pl_other(s integer[], x integer) RETURNS integer[] LANGUAGE plpgsql IMMUTABLE AS
	'DECLARE t integer[] := s; BEGIN s[1] := x; t[2] := x; IF x % 2 = 0 THEN RETURN t; END IF; RETURN s; END';
CREATE FUNCTION pl_caught(s integer[], x integer) RETURNS integer[] LANGUAGE plpgsql IMMUTABLE AS
	'BEGIN BEGIN s[x] := x; IF x % 2 = 0 THEN PERFORM 1 / 0; END IF; EXCEPTION WHEN division_by_zero THEN s[x] := -1; END; RETURN s; END';
CREATE FUNCTION pl_row(s money_note, x integer) RETURNS money_note LANGUAGE plpgsql IMMUTABLE AS
	'BEGIN IF x = 2 THEN RETURN NULL; END IF; s.amount := coalesce(s.amount, 0) + x; s.note := right(coalesce(s.note, ''-'') || x, 5); RETURN s; END';
CREATE FUNCTION pl_raises(s integer[], x integer) RETURNS integer[] LANGUAGE plpgsql IMMUTABLE AS
	'BEGIN s[x] := x; IF x = 4 THEN RAISE EXCEPTION ''not %'', s USING ERRCODE = ''XX777''; END IF; RETURN s; END';
CREATE FUNCTION pl_record(s record, x integer) RETURNS record LANGUAGE plpgsql IMMUTABLE AS 'BEGIN s.f1 := s.f1 + x; RETURN s; END';
SELECT * FROM verdict('{}'::integer[], 'pl_sparse', 1, 2, 3, 1, 4, 2);
SELECT * FROM verdict('{}'::integer[], 'pl_other', 1, 2, 3, 1, 4, 2);
SELECT * FROM verdict('{}'::integer[], 'pl_caught');
SELECT * FROM verdict(ROW(5, 'a')::money_note, 'pl_row');
SELECT * FROM verdict(NULL::money_note, 'pl_row', 2, 2, 1, 3);
SELECT * FROM verdict('{}'::integer[], 'pl_raises');
SELECT immutable.fold(ROW(0, 'r'), 'pl_record', x), (SELECT e FROM immutable.explain_reducer('pl_record') e) FROM generate_series(1, 4) x;
-- the same in several groups at once, where the state cannot stay in place
SELECT g, immutable.fold('{}'::integer[], 'pl_sparse', x) FROM generate_series(5, 7) x, generate_series(1, 3) g GROUP BY g ORDER BY g;
DO $$
BEGIN
	FOR i IN 1..3 LOOP
		BEGIN
			PERFORM reducers.verdict('{}'::integer[], 'reducers.pl_raises');
			PERFORM immutable.fold('{}'::integer[], 'reducers.pl_raises', x) FROM generate_series(1, 5) x;
		EXCEPTION WHEN SQLSTATE 'XX777' THEN
			RAISE NOTICE '%', SQLERRM;
		END;
	END LOOP;
END $$;

-- C and internal, over every kind of value
SELECT * FROM verdict(0, 'int4pl');
SELECT * FROM verdict('{0}'::integer[], 'array_append');
SELECT immutable.fold(0.5, 'numeric_add', x), immutable.fold('{}'::jsonb, 'jsonb_concat', jsonb_build_object(x, x)), immutable.fold(''::text, 'textcat', x::text),
	immutable.fold(1.5::float8, 'float8mul', x::float8), immutable.fold('a'::name, 'nameconcatoid', x::oid), immutable.fold('1 day'::interval, 'interval_pl', make_interval(secs => x)),
	immutable.fold('2020-01-01'::timestamp, 'timestamp_pl_interval', make_interval(days => x)), immutable.fold('\x'::bytea, 'byteacat', '\x0102'::bytea),
	immutable.fold('[1,2)'::int4range, 'range_merge(anyrange,anyrange)'::regprocedure, int4range(x, x + 5)), immutable.fold('{}'::int4multirange, 'multirange_union', '{[7,9)}'::int4multirange),
	immutable.fold('1'::bit(1), 'bitcat', '01'::bit(2)), immutable.fold('10.0.0.0'::inet, 'inetpl', x::bigint)
FROM generate_series(1, 3) x;
-- fixed-length values by reference, ranges and cstring, chosen by SQL
CREATE FUNCTION any_item(s anyelement, x anyelement, i integer) RETURNS anyelement LANGUAGE sql IMMUTABLE AS 'SELECT CASE WHEN i % 2 = 0 THEN s WHEN i = 5 THEN NULL ELSE x END';
SELECT i, immutable.fold('00000000-0000-0000-0000-000000000000'::uuid, 'any_item', ('00000000-0000-0000-0000-00000000000' || i)::uuid, i) OVER w AS uuid,
	immutable.fold('0'::interval, 'any_item', make_interval(i), i) OVER w AS interval, immutable.fold('n'::name, 'any_item', ('n' || i)::name, i) OVER w AS name,
	immutable.fold('empty'::int4range, 'any_item', int4range(i, 9), i) OVER w AS range, immutable.fold('calm'::mood, 'any_item', enum_last(NULL::mood), i) OVER w AS enum,
	immutable.fold('c'::cstring, 'any_item', ('c' || i)::cstring, i) OVER w AS cstring, immutable.fold('(0,0)'::point, 'any_item', point(i, i), i) OVER w AS point
FROM generate_series(1, 6) i WINDOW w AS (ORDER BY i);

-- a function that is not to be called, inside one that is
CREATE FUNCTION inner_secret(s integer, x integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT s + x';
CREATE FUNCTION outer_public(s integer, x integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT reducers.inner_secret(s, x)';
SELECT * FROM verdict(0, 'outer_public');
REVOKE EXECUTE ON FUNCTION inner_secret FROM PUBLIC, regress_reducers;
SELECT * FROM verdict(0, 'outer_public');

-- explain_reducer of what is no reducer
SELECT * FROM immutable.explain_reducer(NULL);
\echo :SQLSTATE
SELECT * FROM immutable.explain_reducer(0);
\echo :SQLSTATE
SELECT * FROM immutable.explain_reducer('texteq');
\echo :SQLSTATE
SELECT * FROM immutable.explain_reducer('any_enum');
\echo :SQLSTATE
SELECT f, e.* FROM unnest('{upper(text),sum(integer),row_number(),"generate_series(integer,integer)",random(),"immutable.merge_patch(jsonb,immutable.event)"}'::regprocedure[])
	WITH ORDINALITY f(f, i), immutable.explain_reducer(f) e ORDER BY i;

RESET ROLE;
SET client_min_messages = warning;
DROP SCHEMA reducers CASCADE;
DROP ROLE regress_reducers;
