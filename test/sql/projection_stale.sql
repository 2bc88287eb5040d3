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

RESET ROLE;
SET client_min_messages = warning;
SELECT immutable.drop_projection('now'), immutable.drop_projection('later'), immutable.drop_log('ledger', force => true);
DROP SCHEMA projection_stale CASCADE;
DROP ROLE regress_stale;
