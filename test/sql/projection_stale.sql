-- projection_stale: a reducer that is no longer what the rows were folded with.
\set SHOW_CONTEXT never
CREATE ROLE regress_stale;
CREATE SCHEMA projection_stale AUTHORIZATION regress_stale;
SET search_path = projection_stale;
SET ROLE regress_stale;
SELECT immutable.create_log('ledger');
CREATE TABLE now (stream text PRIMARY KEY, n bigint DEFAULT 0);
CREATE TABLE later (stream text PRIMARY KEY, n bigint DEFAULT 0);
CREATE FUNCTION count_now(r now, e immutable.event) RETURNS now LANGUAGE sql IMMUTABLE AS 'SELECT r.stream, r.n + 1';
CREATE FUNCTION count_later(r later, e immutable.event) RETURNS later LANGUAGE plpgsql IMMUTABLE AS 'BEGIN r.n := r.n + 1; RETURN r; END';
SELECT immutable.create_projection('now', 'ledger', 'count_now'), immutable.create_projection('later', 'ledger', 'count_later', mode => 'async');
SELECT count(*) FROM generate_series(1, 6) i, LATERAL immutable.append('ledger', 's' || i % 2, 't');
CALL immutable.catch_up('later');
SELECT target, state FROM immutable.projection_status ORDER BY target::text;

-- replaced: the rows are of both from here on, until they are folded anew
CREATE OR REPLACE FUNCTION count_now(r now, e immutable.event) RETURNS now LANGUAGE sql IMMUTABLE AS 'SELECT r.stream, r.n + 10';
CREATE OR REPLACE FUNCTION count_later(r later, e immutable.event) RETURNS later LANGUAGE plpgsql IMMUTABLE AS 'BEGIN r.n := r.n + 10; RETURN r; END';
SELECT immutable.append('ledger', 's1', 't');
SELECT target, state FROM immutable.projection_status ORDER BY target::text;
SELECT * FROM now ORDER BY stream;
SELECT * FROM immutable.verify_projection('now');
CALL immutable.rebuild('now');
SELECT target, state FROM immutable.projection_status ORDER BY target::text;
SELECT * FROM now ORDER BY stream;
SELECT * FROM immutable.verify_projection('now');
CALL immutable.rebuild('later', swap => true);
SELECT target, state FROM immutable.projection_status ORDER BY target::text;
SELECT * FROM later ORDER BY stream;

-- replaced and taken back; another label, another setting
BEGIN;
ALTER FUNCTION count_now(now, immutable.event) STABLE;
SELECT state FROM immutable.projection_status WHERE target = 'now'::regclass;
ROLLBACK;
SELECT state FROM immutable.projection_status WHERE target = 'now'::regclass;
ALTER FUNCTION count_now(now, immutable.event) SET timezone = 'UTC';
SELECT state FROM immutable.projection_status WHERE target = 'now'::regclass;
-- with another reducer from the beginning
CREATE FUNCTION count_double(r now, e immutable.event) RETURNS now LANGUAGE sql IMMUTABLE AS 'SELECT r.stream, r.n + 2';
CALL immutable.rebuild('now', 'count_double');
SELECT state FROM immutable.projection_status WHERE target = 'now'::regclass;
SELECT * FROM now ORDER BY stream;

-- a helper that the reducer calls, at any depth; a type
RESET ROLE;
SET ROLE regress_stale;
CREATE DOMAIN step AS bigint;
CREATE FUNCTION inner_step() RETURNS step LANGUAGE sql IMMUTABLE AS 'SELECT 3::step';
CREATE FUNCTION outer_step() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT inner_step()::bigint';
CREATE FUNCTION other_step() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 4::bigint';
CREATE FUNCTION count_steps(r now, e immutable.event) RETURNS now LANGUAGE sql IMMUTABLE AS 'SELECT r.stream, r.n + outer_step()';
CALL immutable.rebuild('now', 'count_steps');
CREATE VIEW state AS SELECT state FROM immutable.projection_status WHERE target = 'now'::regclass;
TABLE state;
BEGIN;
CREATE OR REPLACE FUNCTION inner_step() RETURNS step LANGUAGE sql IMMUTABLE AS 'SELECT 5::step';
TABLE state;
ROLLBACK;
BEGIN;
ALTER DOMAIN step ADD CHECK (VALUE < 4);
TABLE state;
ROLLBACK;
BEGIN;
ALTER FUNCTION inner_step() SET extra_float_digits = 0;
TABLE state;
ROLLBACK;
TABLE state;
-- what it has nothing to do with, and what makes no difference
CREATE OR REPLACE FUNCTION other_step() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 6::bigint';
CREATE OR REPLACE FUNCTION inner_step() RETURNS step LANGUAGE sql IMMUTABLE AS 'SELECT 3::step';
CREATE INDEX ON now (n);
COMMENT ON FUNCTION count_steps IS 'steps';
ANALYZE now;
SET search_path = pg_catalog;
SELECT state FROM projection_stale.state;
SET search_path = projection_stale;
TABLE state;
-- a reducer that no snapshot could be taken of is known by what it calls, too
CREATE FUNCTION count_since(r now, e immutable.event) RETURNS now LANGUAGE sql STABLE AS
'SELECT r.stream, r.n + outer_step() + (SELECT count(*) FROM projection_stale.later WHERE now() < $$2000-01-01$$)';
CALL immutable.rebuild('now', 'count_since');
TABLE state;
CREATE OR REPLACE FUNCTION inner_step() RETURNS step LANGUAGE sql IMMUTABLE AS 'SELECT 7::step';
TABLE state;
CALL immutable.rebuild('now');
TABLE state;
SELECT * FROM immutable.verify_projection('now');
-- a fingerprint of another server says what the reducer's source was, no more
RESET ROLE;
UPDATE immutable.projections SET fingerprint = regexp_replace(fingerprint, '^\S+ \S+', '1.14 abc') WHERE target = 'now'::regclass;
TABLE state;
UPDATE immutable.projections SET fingerprint = 'abc' WHERE target = 'now'::regclass;
TABLE state;
SET ROLE regress_stale;
CALL immutable.rebuild('now');
TABLE state;
-- a new column is none of the reducer's concern, if it goes on
ALTER TABLE later ADD note text;
SELECT state FROM immutable.projection_status WHERE target = 'later'::regclass;
-- no rows are of the old reducer as long as nothing was folded
CREATE TABLE fresh (stream text PRIMARY KEY, n bigint DEFAULT 0);
CREATE FUNCTION count_fresh(r fresh, e immutable.event) RETURNS fresh LANGUAGE sql IMMUTABLE AS 'SELECT r.stream, r.n + 1';
SELECT immutable.create_projection('fresh', 'ledger', 'count_fresh', mode => 'async');
CREATE OR REPLACE FUNCTION count_fresh(r fresh, e immutable.event) RETURNS fresh LANGUAGE sql IMMUTABLE AS 'SELECT r.stream, r.n + 2';
SELECT immutable.refresh('fresh');
SELECT state FROM immutable.projection_status WHERE target = 'fresh'::regclass;
SELECT immutable.drop_projection('fresh');

RESET ROLE;
SET client_min_messages = warning;
SELECT immutable.drop_projection('now'), immutable.drop_projection('later'), immutable.drop_log('ledger', force => true);
DROP SCHEMA projection_stale CASCADE;
DROP ROLE regress_stale;
