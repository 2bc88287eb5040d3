-- rebuild_errors: what rebuild refuses, and that nothing has changed then.
\set SHOW_CONTEXT never
CREATE ROLE regress_rebuild_errors;
CREATE ROLE regress_rebuild_errors_other;
CREATE SCHEMA rebuild_errors AUTHORIZATION regress_rebuild_errors;
GRANT USAGE ON SCHEMA rebuild_errors TO regress_rebuild_errors_other;
SET search_path = rebuild_errors;
SET ROLE regress_rebuild_errors;
SELECT immutable.create_log('ledger');
CREATE TABLE balance (account text PRIMARY KEY, amount bigint DEFAULT 0 CHECK (amount < 100), state text DEFAULT 'open' UNIQUE);
CREATE FUNCTION apply(r balance, e immutable.event) RETURNS balance LANGUAGE sql IMMUTABLE
RETURN ROW(r.account, r.amount + 1, r.account)::balance;
SELECT immutable.create_projection('balance', 'ledger', 'apply');
SELECT count(immutable.append('ledger', 'a' || i % 5, 't')) FROM generate_series(1, 20) i;

-- arguments
CALL immutable.rebuild(NULL);
\echo :SQLSTATE
CALL immutable.rebuild('balance', swap => NULL);
\echo :SQLSTATE
CALL immutable.rebuild('ledger');
\echo :SQLSTATE
CALL immutable.rebuild(0);
\echo :SQLSTATE
-- of whatever kind it is
CREATE VIEW a_view AS SELECT 1 AS n;
CREATE MATERIALIZED VIEW a_matview AS SELECT 1 AS n;
CREATE SEQUENCE a_sequence;
CREATE TABLE a_parted (n integer) PARTITION BY LIST (n);
CREATE TEMP TABLE a_temporary (n integer);
\set VERBOSITY sqlstate
SELECT format('CALL immutable.rebuild(%L)', r) FROM unnest('{a_view,a_matview,a_sequence,a_parted,a_temporary,balance_pkey,pg_class,immutable.projections}'::text[]) r \gexec
\set VERBOSITY default
DROP VIEW a_view;
DROP MATERIALIZED VIEW a_matview;
DROP SEQUENCE a_sequence;
DROP TABLE a_parted, a_temporary;
CALL immutable.rebuild('balance', 'no_such_function');
\echo :SQLSTATE
CALL immutable.rebuild('balance', 0);
\echo :SQLSTATE
CREATE FUNCTION other_type(r text, e immutable.event) RETURNS text LANGUAGE sql IMMUTABLE RETURN r;
CALL immutable.rebuild('balance', 'other_type');
\echo :SQLSTATE
CREATE FUNCTION apply_volatile(r balance, e immutable.event) RETURNS balance LANGUAGE sql VOLATILE RETURN r;
CALL immutable.rebuild('balance', 'apply_volatile');
\echo :SQLSTATE

-- it commits
BEGIN;
CALL immutable.rebuild('balance');
\echo :SQLSTATE
ROLLBACK;
DO $$ BEGIN CALL immutable.rebuild('balance'); END $$;
DO $$ BEGIN
	CALL immutable.rebuild('balance');
EXCEPTION WHEN OTHERS THEN
	RAISE NOTICE '% %', SQLSTATE, SQLERRM;
END $$;
CREATE FUNCTION within() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CALL immutable.rebuild('balance'); END $$;
SELECT within();
\echo :SQLSTATE
SET default_transaction_read_only = on;
CALL immutable.rebuild('balance');
\echo :SQLSTATE
RESET default_transaction_read_only;

-- who may
SET ROLE regress_rebuild_errors_other;
CALL immutable.rebuild('balance');
\echo :SQLSTATE
SELECT * FROM immutable.rebuild_progress;
SET ROLE regress_rebuild_errors;

-- reducers that fail, rows that the table does not take, keys that move
CREATE FUNCTION fails(r balance, e immutable.event) RETURNS balance LANGUAGE sql IMMUTABLE
RETURN ROW(r.account, r.amount + 1 / (e.position - 12), r.account)::balance;
\set SHOW_CONTEXT errors
CALL immutable.rebuild('balance', 'fails');
\echo :SQLSTATE
\set SHOW_CONTEXT never
CREATE FUNCTION too_much(r balance, e immutable.event) RETURNS balance LANGUAGE sql IMMUTABLE
RETURN ROW(r.account, r.amount + 50, r.account)::balance;
CALL immutable.rebuild('balance', 'too_much');
\echo :SQLSTATE
CREATE FUNCTION all_alike(r balance, e immutable.event) RETURNS balance LANGUAGE sql IMMUTABLE
RETURN ROW(r.account, r.amount + 1, 'alike')::balance;
CALL immutable.rebuild('balance', 'all_alike');
\echo :SQLSTATE
CALL immutable.rebuild('balance', 'all_alike', swap => true);
\echo :SQLSTATE
CREATE FUNCTION moves(r balance, e immutable.event) RETURNS balance LANGUAGE sql IMMUTABLE
RETURN ROW('x', r.amount + 1, r.account)::balance;
CALL immutable.rebuild('balance', 'moves');
\echo :SQLSTATE
-- values that are unique change hands
CREATE FUNCTION shift(r balance, e immutable.event) RETURNS balance LANGUAGE sql IMMUTABLE
RETURN ROW(r.account, r.amount + 1, 'a' || (substr(r.account, 2)::integer + 1) % 5)::balance;
CALL immutable.rebuild('balance', 'shift');
SELECT * FROM balance ORDER BY 1;
CALL immutable.rebuild('balance', 'apply');
SELECT * FROM balance ORDER BY 1;
SELECT relname FROM pg_class WHERE relnamespace = 'rebuild_errors'::regnamespace AND relkind = 'r' ORDER BY 1;
SELECT reducer FROM immutable.projections WHERE target = 'balance'::regclass;

-- where storage cannot be exchanged
CREATE TABLE refers (account text REFERENCES balance);
CALL immutable.rebuild('balance', swap => true);
\echo :SQLSTATE
DROP TABLE refers;
CREATE TABLE referred (state text PRIMARY KEY);
INSERT INTO referred SELECT state FROM balance;
ALTER TABLE balance ADD FOREIGN KEY (state) REFERENCES referred;
CALL immutable.rebuild('balance', swap => true);
\echo :SQLSTATE
ALTER TABLE balance DROP CONSTRAINT balance_state_fkey;
CREATE TABLE dropped (stream text PRIMARY KEY, gone integer, n bigint DEFAULT 0);
ALTER TABLE dropped DROP COLUMN gone;
CREATE FUNCTION count_dropped(r dropped, e immutable.event) RETURNS dropped LANGUAGE sql IMMUTABLE AS 'SELECT r.stream, r.n + 1';
SELECT immutable.create_projection('dropped', 'ledger', 'count_dropped');
CALL immutable.rebuild('dropped', swap => true);
\echo :SQLSTATE
CALL immutable.rebuild('dropped');
SELECT immutable.drop_projection('dropped');
CALL immutable.rebuild('balance');
CREATE TABLE parts (stream text PRIMARY KEY, n bigint DEFAULT 0) PARTITION BY HASH (stream);
CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (modulus 1, remainder 0);
CREATE FUNCTION apply_parts(r parts, e immutable.event) RETURNS parts LANGUAGE sql IMMUTABLE RETURN ROW(r.stream, r.n + 1)::parts;
SELECT immutable.create_projection('parts', 'ledger', 'apply_parts');
CALL immutable.rebuild('parts', swap => true);
\echo :SQLSTATE
CALL immutable.rebuild('parts');
CREATE TABLE published (stream text PRIMARY KEY, n bigint DEFAULT 0);
CREATE FUNCTION apply_published(r published, e immutable.event) RETURNS published LANGUAGE sql IMMUTABLE RETURN ROW(r.stream, r.n + 1)::published;
SELECT immutable.create_projection('published', 'ledger', 'apply_published');
RESET ROLE;
SET client_min_messages = error;
CREATE PUBLICATION regress_rebuild_errors FOR TABLE published;
CALL immutable.rebuild('published', swap => true);
\echo :SQLSTATE
ALTER PUBLICATION regress_rebuild_errors SET TABLES IN SCHEMA rebuild_errors;
CALL immutable.rebuild('published', swap => true);
DROP PUBLICATION regress_rebuild_errors;
CREATE PUBLICATION regress_rebuild_errors FOR ALL TABLES;
CALL immutable.rebuild('published', swap => true);
DROP PUBLICATION regress_rebuild_errors;
RESET client_min_messages;
SET ROLE regress_rebuild_errors;

-- used in this session
BEGIN;
DECLARE c CURSOR WITH HOLD FOR SELECT * FROM published;
COMMIT;
CALL immutable.rebuild('published', swap => true);
CLOSE c;
DO $$
DECLARE r record;
BEGIN
	FOR r IN SELECT * FROM published LOOP
		CALL immutable.rebuild('published', swap => true);
		RAISE NOTICE 'rebuilt';
	END LOOP;
END $$;

-- a table of the user's that is called like that is not touched, what a rebuild has left is dropped
CREATE TABLE published_rebuild AS SELECT 1 AS mine;
CALL immutable.rebuild('published');
SELECT * FROM published_rebuild;
CREATE TABLE published_rebuild1 (stream text PRIMARY KEY);
RESET ROLE;
INSERT INTO pg_depend VALUES ('pg_class'::regclass, 'published_rebuild1'::regclass, 0, 'pg_class'::regclass, 'published'::regclass, 0, 'a');
SET ROLE regress_rebuild_errors;
CALL immutable.rebuild('published');
SELECT to_regclass('published_rebuild'), to_regclass('published_rebuild1');
SELECT * FROM immutable.verify_projection('published');

SELECT immutable.drop_projection(p) FROM unnest('{balance,parts,published}'::regclass[]) p;
CALL immutable.rebuild('balance');
RESET ROLE;
SELECT immutable.drop_log('ledger', force => true);
SELECT count(*) AS locks FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
SET client_min_messages = warning;
DROP SCHEMA rebuild_errors CASCADE;
DROP ROLE regress_rebuild_errors, regress_rebuild_errors_other;
