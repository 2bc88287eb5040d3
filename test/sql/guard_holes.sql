-- guard_holes: ways around the guards that were found once, and stay closed.
\set SHOW_CONTEXT never
\set VERBOSITY sqlstate
SET client_min_messages = error;
SELECT current_database() AS test_database \gset
CREATE ROLE regress_holes;
CREATE SCHEMA guard_holes AUTHORIZATION regress_holes;
SET search_path = guard_holes;
SET ROLE regress_holes;
\pset tuples_only on

-- owner drops any protected table: attach to a parent that needs a pg_temp function, DISCARD TEMP
CREATE TABLE t1 (a int); INSERT INTO t1 VALUES (1); SELECT immutable.protect('t1');
CREATE FUNCTION pg_temp.f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE TABLE par1 (a int) PARTITION BY LIST (pg_temp.f(a));
ALTER TABLE par1 ATTACH PARTITION t1 DEFAULT;
DISCARD TEMP;
SELECT * FROM t1;

-- column of a temp type: ADD COLUMN after protect, or before; lost at session end
CREATE TABLE t2 (n int); SELECT immutable.protect('t2');
CREATE TYPE pg_temp.e AS ENUM ('x'); ALTER TABLE t2 ADD COLUMN c pg_temp.e; INSERT INTO t2 VALUES (1, 'x'); DISCARD TEMP; SELECT * FROM t2;

-- typed table, ADD ATTRIBUTE of a domain with default
CREATE TYPE c3 AS (a int); CREATE TABLE t3 OF c3; INSERT INTO t3 VALUES (1); SELECT immutable.protect('t3');
CREATE DOMAIN d3 AS text DEFAULT 'forged'; ALTER TYPE c3 ADD ATTRIBUTE x d3 CASCADE; SELECT * FROM t3;

-- protected leaf (or inheritance child) of an unprotected typed parent
CREATE TYPE c4 AS (a int, b int); CREATE TABLE p4 OF c4 PARTITION BY LIST (a); CREATE TABLE l4 PARTITION OF p4 DEFAULT;
INSERT INTO p4 VALUES (1, -1); SELECT immutable.protect('l4');
ALTER TYPE c4 ADD ATTRIBUTE x d3 CASCADE; ALTER TYPE c4 ALTER ATTRIBUTE b TYPE oid CASCADE; ALTER TYPE c4 RENAME ATTRIBUTE b TO z CASCADE; SELECT row_to_json(l4) FROM l4;

-- row type changed through the parent of its table
CREATE TABLE base5 (a int, b int); CREATE TABLE other5 () INHERITS (base5); CREATE TABLE t5 (c other5);
INSERT INTO t5 VALUES (ROW(1,2)::other5); SELECT immutable.protect('t5');
ALTER TABLE base5 RENAME COLUMN b TO z; ALTER TABLE base5 DROP COLUMN a; SELECT row_to_json(c) FROM t5;

-- attribute of a composite dropped by a cascade
CREATE TYPE mood6 AS ENUM ('sad'); CREATE TYPE c6 AS (a int, m mood6); CREATE TABLE o6 (a int, m mood6);
CREATE TABLE t6 (c c6, o o6); INSERT INTO t6 VALUES (ROW(1,'sad')::c6, ROW(1,'sad')::o6); SELECT immutable.protect('t6');
DROP TYPE mood6 CASCADE; SELECT * FROM t6;

-- second sequence for position
SELECT immutable.create_log('l7'); SELECT position FROM immutable.append('l7', 'a', 't'); 
CREATE SEQUENCE s7 START 5 OWNED BY l7.position;

-- reserved name by rename: protect() then replaces the user's trigger in silence
CREATE FUNCTION noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TABLE t9 (a int); CREATE TRIGGER mine AFTER INSERT ON t9 FOR EACH ROW EXECUTE FUNCTION noop(); ALTER TRIGGER mine ON t9 RENAME TO immutable_guard_row;
SELECT immutable.protect('t9'); SELECT tgname, tgfoid::regproc FROM pg_trigger WHERE tgrelid = 't9'::regclass;

-- over-refusal: unprotected sibling cannot be detached
CREATE TABLE q10 (n int) PARTITION BY LIST (n); CREATE TABLE q10_old PARTITION OF q10 FOR VALUES IN (1); CREATE TABLE q10_new PARTITION OF q10 FOR VALUES IN (2);
SELECT immutable.protect('q10_old'); ALTER TABLE q10 DETACH PARTITION q10_new;

-- over-refusal: CREATE VIEW protected_tables in one's own schema, immutable later in search_path
SET search_path = guard_holes, immutable; CREATE VIEW protected_tables AS SELECT 1 AS n; SET search_path = guard_holes;
RESET ROLE;

-- superuser: rule on the view, trigger/owner/default on guard_changes, function moved into schema immutable
BEGIN; CREATE OR REPLACE RULE "_RETURN" AS ON SELECT TO immutable.protected_tables DO INSTEAD SELECT NULL::regclass AS relation, true AS armed, NULL::text AS problem; SELECT count(*) FROM immutable.protected_tables; ROLLBACK;
BEGIN; CREATE TRIGGER swallow BEFORE INSERT ON immutable.guard_changes FOR EACH ROW EXECUTE FUNCTION guard_holes.noop(); SELECT immutable.unprotect('guard_holes.t9'); SELECT action FROM immutable.guard_changes WHERE relation = 'guard_holes.t9'; ROLLBACK;
BEGIN; ALTER TABLE immutable.guard_changes OWNER TO regress_holes; ALTER TABLE immutable.guard_changes ALTER changed_at SET DEFAULT '2000-01-01'; SELECT immutable.unprotect('guard_holes.t9'); SELECT action, changed_at FROM immutable.guard_changes WHERE relation = 'guard_holes.t9'; ROLLBACK;
BEGIN; CREATE FUNCTION guard_holes.append(regclass, text, text) RETURNS immutable.appended LANGUAGE sql AS 'SELECT NULL::immutable.appended'; ALTER FUNCTION guard_holes.append SET SCHEMA immutable; SELECT immutable.append('guard_holes.l7'::regclass, 'a'::text, 't'::text) IS NULL; ROLLBACK;

-- superuser: protected table moved into schema immutable escapes the check of DROP EXTENSION
CREATE DATABASE regress_immutable_holes; \c regress_immutable_holes
CREATE EXTENSION immutable_events; CREATE TABLE x (a int); SELECT immutable.protect('x'); ALTER TABLE x SET SCHEMA immutable; DROP EXTENSION immutable_events CASCADE; SELECT to_regclass('immutable.x');
\c :test_database
DROP DATABASE regress_immutable_holes;
\set VERBOSITY sqlstate
SET client_min_messages = error;
SET search_path = guard_holes;
SELECT count(immutable.unprotect(relation)) FROM (SELECT relation FROM immutable.protected_tables
	JOIN pg_class ON oid = relation WHERE relnamespace = 'guard_holes'::regnamespace AND reloftype <> 'immutable.event'::regtype OFFSET 0) t;
SELECT immutable.drop_log('l7', force => true);
DROP SCHEMA guard_holes CASCADE;
DROP ROLE regress_holes;
