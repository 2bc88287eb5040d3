-- Nobody but its projection changes a read model, and no command breaks one.
CREATE ROLE regress_pguard;
CREATE SCHEMA projection_guard AUTHORIZATION regress_pguard;
SET search_path = projection_guard;
SET ROLE regress_pguard;
\set VERBOSITY terse
SELECT immutable.create_log('ledger');
CREATE TABLE model (stream text PRIMARY KEY, n bigint NOT NULL DEFAULT 0, note text);
CREATE TABLE later (LIKE model INCLUDING ALL);
CREATE FUNCTION counted(r model, e immutable.event) RETURNS model LANGUAGE plpgsql IMMUTABLE AS
'BEGIN r.n := r.n + 1; RETURN r; END';
CREATE FUNCTION counted_later(r later, e immutable.event) RETURNS later LANGUAGE plpgsql IMMUTABLE AS
'BEGIN r.n := r.n + 1; RETURN r; END';
SELECT immutable.create_projection('model', 'ledger', 'counted');
SELECT immutable.create_projection('later', 'ledger', 'counted_later', mode => 'async');
SELECT immutable.append('ledger', 'a', 'happened');

-- its rows
\set VERBOSITY default
INSERT INTO model VALUES ('b');
\echo :SQLSTATE
\set VERBOSITY terse
UPDATE model SET n = 0;
DELETE FROM model WHERE false;
TRUNCATE model;
INSERT INTO later VALUES ('b');
INSERT INTO model VALUES ('a') ON CONFLICT (stream) DO UPDATE SET n = 0;
MERGE INTO model USING (VALUES ('a')) v (s) ON stream = s WHEN MATCHED THEN DELETE;
WITH gone AS (DELETE FROM model RETURNING 1) SELECT * FROM gone;
COPY model (stream) FROM stdin;
b
\.
CREATE VIEW through AS SELECT * FROM model;
UPDATE through SET n = 0;
SELECT stream FROM model FOR UPDATE;
RESET ROLE;
SET session_replication_role = replica;
UPDATE projection_guard.model SET n = 0;
TRUNCATE projection_guard.model;
SELECT immutable.append('ledger', 'a', 'happened');
RESET session_replication_role;
SET ROLE regress_pguard;

-- its triggers, and the one of its log
DROP TRIGGER immutable_read_model ON model;
\echo :SQLSTATE
DROP TRIGGER immutable_read_model_row ON model;
\echo :SQLSTATE
\set VERBOSITY default
DROP TRIGGER immutable_project ON ledger;
\set VERBOSITY terse
ALTER TRIGGER immutable_read_model ON model RENAME TO other;
ALTER TRIGGER immutable_project ON ledger RENAME TO other;
ALTER TABLE model DISABLE TRIGGER immutable_read_model;
ALTER TABLE model DISABLE TRIGGER immutable_read_model_row;
ALTER TABLE model DISABLE TRIGGER USER;
ALTER TABLE model ENABLE TRIGGER immutable_read_model;
ALTER TABLE model ENABLE REPLICA TRIGGER immutable_read_model;
ALTER TABLE ledger DISABLE TRIGGER immutable_project;
ALTER TABLE ledger ENABLE REPLICA TRIGGER immutable_project;
ALTER TABLE ledger DISABLE TRIGGER ALL;
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE OR REPLACE TRIGGER immutable_read_model BEFORE INSERT ON model EXECUTE FUNCTION nothing();
CREATE OR REPLACE TRIGGER immutable_project AFTER INSERT ON ledger EXECUTE FUNCTION nothing();
CREATE TABLE plain (n int);
CREATE TRIGGER immutable_read_model BEFORE INSERT ON plain EXECUTE FUNCTION nothing();
\echo :SQLSTATE
CREATE TRIGGER immutable_read_model_row BEFORE INSERT ON plain EXECUTE FUNCTION nothing();
CREATE TRIGGER immutable_project BEFORE INSERT ON plain EXECUTE FUNCTION nothing();
CREATE TRIGGER mine BEFORE INSERT ON plain EXECUTE FUNCTION nothing();
ALTER TRIGGER mine ON plain RENAME TO immutable_project;
-- those of others are theirs
CREATE TRIGGER mine AFTER UPDATE ON model EXECUTE FUNCTION nothing();
ALTER TABLE model DISABLE TRIGGER mine;
ALTER TRIGGER mine ON model RENAME TO yours;
DROP TRIGGER yours ON model;

-- the table
\set VERBOSITY default
ALTER TABLE model DROP COLUMN note;
\echo :SQLSTATE
\set VERBOSITY terse
ALTER TABLE model ALTER COLUMN n TYPE integer;
ALTER TABLE model RENAME COLUMN note TO remark;
ALTER TABLE model DROP CONSTRAINT model_pkey;
ALTER TABLE model SET UNLOGGED;
ALTER TABLE model FORCE ROW LEVEL SECURITY;
CREATE RULE nothing AS ON INSERT TO model DO INSTEAD NOTHING;
CREATE TABLE child () INHERITS (model);
CREATE TABLE child (LIKE model);
ALTER TABLE child INHERIT model;
ALTER TABLE model INHERIT child;
CREATE TABLE whole (LIKE model) PARTITION BY LIST (stream);
ALTER TABLE whole ATTACH PARTITION model DEFAULT;
DROP TABLE model;
\echo :SQLSTATE
DROP TABLE child, later;
DROP SCHEMA projection_guard CASCADE;
DROP OWNED BY CURRENT_USER;
SELECT immutable.protect('model');
\echo :SQLSTATE
-- what does no harm
ALTER TABLE model ALTER COLUMN note SET DEFAULT 'none', ADD CHECK (n > 0), ALTER COLUMN note SET STATISTICS 10, SET (fillfactor = 70);
ALTER TABLE model ADD COLUMN more integer, ADD COLUMN most integer NOT NULL DEFAULT 3;
CREATE INDEX ON model (n);
CREATE UNIQUE INDEX ON model (lower(stream));
COMMENT ON TABLE model IS 'counted';
GRANT SELECT ON model TO PUBLIC;
CREATE POLICY visible ON model USING (stream <> 'b');
ALTER TABLE model ENABLE ROW LEVEL SECURITY;
CLUSTER model USING model_pkey;
VACUUM FULL model;
ANALYZE model;
SELECT immutable.append('ledger', 'b', 'happened');
SELECT * FROM model ORDER BY stream;

-- the log
\set VERBOSITY default
RESET ROLE;
GRANT EXECUTE ON FUNCTION immutable.drop_log, immutable.unprotect TO regress_pguard;
SET ROLE regress_pguard;
SELECT immutable.drop_log('ledger', force => true);
\echo :SQLSTATE
SELECT immutable.unprotect('ledger', force => true);
\echo :SQLSTATE
\set VERBOSITY terse
DROP TABLE ledger CASCADE;
RESET ROLE;
DROP EXTENSION immutable_events CASCADE;
\echo :SQLSTATE

-- what a superuser has forced is noticed by the next append
\set VERBOSITY default
UPDATE pg_trigger SET tgenabled = 'D' WHERE tgrelid = 'ledger'::regclass AND tgname = 'immutable_project';
ALTER TABLE ledger SET (fillfactor = 100);
SELECT immutable.append('ledger', 'a', 'happened');
\echo :SQLSTATE
BEGIN;
SET LOCAL immutable.import = on;
INSERT INTO ledger SELECT * FROM ledger;
\echo :SQLSTATE
ROLLBACK;
SELECT immutable.set_projection_mode('model', 'inline');
SELECT immutable.append('ledger', 'a', 'happened');
SELECT n FROM model WHERE stream = 'a';
-- a read model that was restored alone, without the registry
CREATE TABLE alone (n int PRIMARY KEY);
CREATE TRIGGER immutable_read_model BEFORE INSERT OR DELETE OR UPDATE OR TRUNCATE ON alone
	FOR EACH STATEMENT EXECUTE FUNCTION immutable._guard_read_model();
ALTER TABLE alone ENABLE ALWAYS TRIGGER immutable_read_model;
INSERT INTO alone VALUES (1);
DROP TABLE alone;
SELECT immutable.create_projection('alone', 'ledger', 'counted');
ALTER TABLE alone OWNER TO regress_pguard;
SET ROLE regress_pguard;

SELECT immutable.drop_projection('alone');
DROP TABLE alone;

-- free again
DROP VIEW through;
SELECT immutable.drop_projection('model'), immutable.drop_projection('later');
ALTER TABLE model DROP COLUMN note;
DELETE FROM model;
DROP FUNCTION counted, counted_later;
DROP TABLE model, later;
SELECT immutable.append('ledger', 'a', 'happened');
SELECT immutable.drop_log('ledger', force => true);

RESET ROLE;
REVOKE EXECUTE ON FUNCTION immutable.drop_log, immutable.unprotect FROM regress_pguard;
SET client_min_messages = warning;
DROP SCHEMA projection_guard CASCADE;
DROP ROLE regress_pguard;
