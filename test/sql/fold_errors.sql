-- fold_errors: what cannot be a reducer, here or anywhere, and what fails.
\set SHOW_CONTEXT never
CREATE ROLE regress_fold_errors;
CREATE ROLE regress_fold_errors_other;
CREATE SCHEMA fold_errors AUTHORIZATION regress_fold_errors;
GRANT USAGE ON SCHEMA fold_errors TO regress_fold_errors_other;
SET search_path = fold_errors;
SET ROLE regress_fold_errors;
CREATE TYPE account AS (owner text, balance bigint);
CREATE FUNCTION apply(state account, e immutable.event) RETURNS account LANGUAGE sql IMMUTABLE
RETURN ROW(e.stream, coalesce(state.balance, 0) + 1)::account;
SELECT immutable.create_log('ledger');
SELECT count(*) FROM generate_series(1, 3) n, LATERAL immutable.append('ledger', 'a', 't', jsonb_build_object('n', n));

-- functions that are no reducers
CREATE FUNCTION careless(state bigint, item bigint) RETURNS bigint LANGUAGE sql AS 'SELECT state + item';
SELECT immutable.fold(0::bigint, 'careless', 1::bigint);
\echo :SQLSTATE
ALTER FUNCTION careless STABLE;
SELECT immutable.fold(0::bigint, 'careless', 1::bigint);
CREATE PROCEDURE proc(state bigint, item bigint) LANGUAGE sql AS 'SELECT state + item';
SELECT immutable.fold(0::bigint, 'proc', 1::bigint);
\echo :SQLSTATE
SELECT immutable.fold(true, 'every', true);
\echo :SQLSTATE
SELECT immutable.fold(0::bigint, 'row_number', 1::bigint);
CREATE FUNCTION many(state bigint, item bigint) RETURNS SETOF bigint LANGUAGE sql IMMUTABLE AS 'SELECT state + item';
SELECT immutable.fold(0::bigint, 'many', 1::bigint);
\echo :SQLSTATE
CREATE FUNCTION rows(state bigint, item bigint) RETURNS TABLE (a bigint) LANGUAGE sql IMMUTABLE AS 'SELECT state + item';
SELECT immutable.fold(0::bigint, 'rows', 1::bigint);
SELECT immutable.fold(0::bigint, 'clock_timestamp', 1::bigint);

-- functions that are not there, or not to be called
SELECT immutable.fold(0::bigint, NULL, 1::bigint);
\echo :SQLSTATE
SELECT immutable.fold(0::bigint, 'nowhere', 1::bigint);
\echo :SQLSTATE
SELECT immutable.fold(0::bigint, 0, 1::bigint);
\echo :SQLSTATE
SELECT immutable.fold(0::bigint, 'abs', 1::bigint);
\echo :SQLSTATE
REVOKE EXECUTE ON FUNCTION apply FROM PUBLIC;
GRANT SELECT ON ledger TO regress_fold_errors_other;
RESET ROLE;
SET ROLE regress_fold_errors_other;
SELECT immutable.fold(NULL::account, 'apply', e) FROM ledger e;
\echo :SQLSTATE
SELECT immutable.replay('ledger', 'a', NULL::account, 'apply');
\echo :SQLSTATE
RESET ROLE;
SET ROLE regress_fold_errors;

-- types that do not fit
SELECT immutable.fold(0::bigint, 'apply', e) FROM ledger e;
\echo :SQLSTATE
SELECT immutable.fold(NULL::account, 'apply', e.data) FROM ledger e;
SELECT immutable.fold(NULL::account, 'apply', e, 1) FROM ledger e;
SELECT immutable.fold(0, 'int4pl', 1::bigint);
SELECT immutable.fold(0, 'int48pl', 1::bigint);
\echo :SQLSTATE
SELECT immutable.fold(NULL::text, 'apply', e) FROM ledger e;
-- a view over the log has its columns, and is folded as it is
CREATE VIEW seen AS SELECT * FROM ledger;
SELECT immutable.fold(NULL::account, 'apply', e) FROM seen e;
\echo :SQLSTATE
-- a row that lacks a column, or has it of another type, is told so at the first row
SELECT immutable.fold(NULL::account, 'apply', e) FROM (SELECT position, version FROM ledger) e;
\echo :SQLSTATE
SELECT immutable.fold(NULL::account, 'apply', e ORDER BY position) FROM (SELECT position, recorded_at, version, id, schema_version,
	stream, type, data::text AS data, metadata FROM ledger) e;
\echo :SQLSTATE
SELECT immutable.fold(NULL::account, 'apply', ROW(1, 2));
\echo :SQLSTATE
SELECT immutable.fold(NULL::account, 'apply', e) FROM (SELECT position, version FROM ledger WHERE false) e;
-- types that nobody can tell
SELECT immutable.fold(''::text, 'textcat', 'a');
\echo :SQLSTATE
\set VERBOSITY sqlstate
SELECT immutable.fold('', 'textcat', 'a'::text);
SELECT immutable.fold(NULL, 'textcat', 'a'::text);
SELECT immutable.fold(0::bigint, 'int8pl');
\set VERBOSITY default

-- how it is called
SELECT immutable.fold(0::bigint, 'int8pl', VARIADIC ARRAY[1::bigint, 2]);
\echo :SQLSTATE
SELECT immutable.fold(0::bigint, f, 1::bigint) FROM (VALUES ('int8pl'::regproc), ('int8mul')) v(f);
\echo :SQLSTATE
SELECT f, immutable.fold(1::bigint, f, 5::bigint) FROM (VALUES ('int8pl'::regproc), ('int8mul')) v(f) GROUP BY f;
SELECT immutable.fold(0::bigint, CASE WHEN i < 2 THEN 'int8pl'::regproc END, i::bigint ORDER BY i) FROM generate_series(1, 2) i;
\echo :SQLSTATE

-- events in the wrong order; an order that the query asks for is its own
\set VERBOSITY terse
SELECT immutable.fold(NULL::account, 'apply', e) FROM (SELECT * FROM ledger ORDER BY position DESC) e;
\echo :SQLSTATE
SELECT immutable.fold(NULL::account, 'apply', e) FROM immutable.read_stream('ledger', 'a', backward => true) e;
\echo :SQLSTATE
SELECT immutable.fold(NULL::account, 'apply', e) FROM immutable.read_stream('ledger', 'a') e;
SELECT immutable.fold(NULL::account, 'apply', e ORDER BY e.version DESC) FROM ledger e;
SELECT immutable.fold(NULL::account, 'apply', e) FROM (SELECT * FROM ledger UNION ALL SELECT * FROM ledger) e;
\set VERBOSITY default

-- strict functions of several items, or of another type, need a state to begin with
CREATE FUNCTION add_two(state bigint, a bigint, b bigint) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT RETURN state + a + b;
SELECT immutable.fold(0::bigint, 'add_two', i, i) FROM generate_series(1::bigint, 3) i;
SELECT immutable.fold(NULL::bigint, 'add_two', i, i) FROM generate_series(1::bigint, 3) i;
\echo :SQLSTATE
CREATE FUNCTION strict_apply(state account, e immutable.event) RETURNS account LANGUAGE sql IMMUTABLE STRICT
RETURN ROW(e.stream, state.balance + 1)::account;
SELECT immutable.fold(NULL::account, 'strict_apply', e) FROM ledger e;
SELECT immutable.replay('ledger', 'a', NULL::account, 'strict_apply');
\echo :SQLSTATE
SELECT immutable.fold(ROW('-', 7)::account, 'strict_apply', e) FROM ledger e;

-- reducers that raise
CREATE FUNCTION divide(state bigint, item bigint) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN 100 / item;
SELECT immutable.fold(0::bigint, 'divide', i) FROM generate_series(-2::bigint, 2) i;
\echo :SQLSTATE
CREATE FUNCTION raises(state bigint, e immutable.event) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	IF e.version = 2 THEN
		RAISE EXCEPTION 'event % cannot be applied', e.version USING ERRCODE = 'XX777', DETAIL = 'A detail.', HINT = 'A hint.';
	END IF;
	RETURN state + 1;
END $$;
SELECT immutable.fold(0::bigint, 'raises', e) FROM ledger e;
\echo :SQLSTATE
SELECT immutable.replay('ledger', 'a', 0::bigint, 'raises');
\echo :SQLSTATE
CREATE DOMAIN small AS integer CHECK (value < 3);
CREATE FUNCTION grow(state small, item integer) RETURNS small LANGUAGE sql IMMUTABLE RETURN (state + item)::small;
SELECT immutable.fold(0::small, 'grow', i) FROM generate_series(1, 3) i;
\echo :SQLSTATE
SELECT immutable.fold(9223372036854775807, 'int8pl', 1::bigint);
\echo :SQLSTATE
-- a row type that changes under a fold
CREATE TYPE pair AS (a integer, b integer);
CREATE FUNCTION add(state pair, x integer) RETURNS pair LANGUAGE sql IMMUTABLE AS 'SELECT ROW(state.a + x, state.b)::fold_errors.pair';
CREATE FUNCTION change(x integer) RETURNS integer LANGUAGE plpgsql AS
'BEGIN IF x = 2 THEN ALTER TYPE fold_errors.pair ADD ATTRIBUTE c integer; END IF; RETURN x; END';
SELECT immutable.fold(ROW(0, 0)::pair, 'add', change(x)) FROM generate_series(1, 3) x;
\echo :SQLSTATE
-- after an error everything goes on
SELECT immutable.fold(0::bigint, 'raises', e) FROM ledger e WHERE version <> 2;
SELECT immutable.fold(NULL::account, 'apply', e) FROM ledger e;

RESET ROLE;
DROP VIEW seen;
SELECT immutable.drop_log('ledger', force => true);
SET client_min_messages = warning;
DROP SCHEMA fold_errors CASCADE;
DROP ROLE regress_fold_errors, regress_fold_errors_other;
