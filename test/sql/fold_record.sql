-- fold_record: a row without a named type is not cast behind the caller's back.
\set SHOW_CONTEXT never
CREATE ROLE regress_fold_record;
CREATE SCHEMA fold_record AUTHORIZATION regress_fold_record;
SET search_path = fold_record;
SET ROLE regress_fold_record;
CREATE TYPE pair AS (a integer, b text);
CREATE FUNCTION add(state pair, x integer) RETURNS pair LANGUAGE sql IMMUTABLE RETURN ROW(state.a + x, state.b)::pair;
CREATE FUNCTION second(state integer, x integer, p pair) RETURNS integer LANGUAGE sql IMMUTABLE RETURN state + p.a;
SELECT immutable.fold(ROW(0, 'b')::pair, 'add', 1);
SELECT immutable.fold(ROW(0, 'b'), 'add', 1);
\echo :SQLSTATE
SELECT immutable.fold(0, 'second', 1, ROW(1, 'b')::pair);
\set VERBOSITY sqlstate
SELECT immutable.fold(0, 'second', 1, ROW(1, 'b'));

RESET ROLE;
SET client_min_messages = warning;
DROP SCHEMA fold_record CASCADE;
DROP ROLE regress_fold_record;
