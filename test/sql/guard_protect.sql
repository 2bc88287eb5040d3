-- guard_protect: who may protect and unprotect what, and what is recorded.
\set SHOW_CONTEXT never
CREATE ROLE regress_protect;
CREATE ROLE regress_protect_other;
CREATE SCHEMA guard_protect AUTHORIZATION regress_protect;
GRANT ALL ON SCHEMA guard_protect TO regress_protect_other;
SET search_path = guard_protect;
SET ROLE regress_protect;
CREATE TABLE t (n integer);
CREATE TABLE "Odd ""Table.x" (n integer);

-- twice is once
SELECT immutable.protect('t');
SELECT immutable.protect('t');
SELECT tgname, tgenabled, tgisinternal FROM pg_trigger
WHERE tgrelid = 't'::regclass ORDER BY tgname;
SELECT immutable.protect('"Odd ""Table.x"');
UPDATE "Odd ""Table.x" SET n = 1;

-- protect puts right what somebody has put wrong, once a superuser let him
RESET ROLE;
ALTER EVENT TRIGGER immutable_guard_ddl_start DISABLE;
ALTER EVENT TRIGGER immutable_guard_ddl_end DISABLE;
ALTER EVENT TRIGGER immutable_guard_rewrite DISABLE;
SET ROLE regress_protect;
ALTER TABLE t DISABLE TRIGGER immutable_guard_row;
SELECT relation, armed, problem FROM immutable.protected_tables WHERE relation = 't'::regclass;
SELECT immutable.protect('t');
ALTER TABLE t ENABLE TRIGGER immutable_guard_statement;
SELECT relation, armed, problem FROM immutable.protected_tables WHERE relation = 't'::regclass;
SELECT immutable.protect('t');
DROP TRIGGER immutable_guard_row ON t;
SELECT relation, armed, problem FROM immutable.protected_tables WHERE relation = 't'::regclass;
SELECT immutable.protect('t');
SELECT relation, armed, problem FROM immutable.protected_tables WHERE relation = 't'::regclass;
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 't'::regclass ORDER BY tgname;
UPDATE t SET n = 1;
RESET ROLE;
ALTER EVENT TRIGGER immutable_guard_ddl_start ENABLE ALWAYS;
ALTER EVENT TRIGGER immutable_guard_ddl_end ENABLE ALWAYS;
ALTER EVENT TRIGGER immutable_guard_rewrite ENABLE ALWAYS;
SET ROLE regress_protect;

-- what no trigger can keep is refused
CREATE VIEW v AS SELECT 1 AS n;
SELECT immutable.protect('v');
\echo :SQLSTATE
CREATE MATERIALIZED VIEW m AS SELECT 1 AS n;
SELECT immutable.protect('m');
CREATE SEQUENCE s;
SELECT immutable.protect('s');
CREATE INDEX i ON t (n);
SELECT immutable.protect('i');
CREATE TYPE c AS (n integer);
SELECT immutable.protect('c');
\set VERBOSITY terse
CREATE UNLOGGED TABLE u (n integer);
SELECT immutable.protect('u');
\echo :SQLSTATE
CREATE TEMP TABLE temporary (n integer);
SELECT immutable.protect('temporary');
\echo :SQLSTATE
DROP TABLE temporary;
\set VERBOSITY default
DO $$
DECLARE
	detail text;
BEGIN
	PERFORM immutable.protect('guard_protect.u');
EXCEPTION WHEN wrong_object_type THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RAISE NOTICE '%', detail;
END $$;
CREATE TABLE ruled (n integer);
CREATE RULE swallow AS ON INSERT TO ruled DO INSTEAD NOTHING;
SELECT immutable.protect('ruled');
\echo :SQLSTATE
RESET ROLE;
CREATE FOREIGN DATA WRAPPER regress_protect;
CREATE SERVER regress_protect FOREIGN DATA WRAPPER regress_protect;
CREATE FOREIGN TABLE f (n integer) SERVER regress_protect;
SELECT immutable.protect('f');
\echo :SQLSTATE
SELECT immutable.protect(NULL);
\echo :SQLSTATE
SELECT immutable.protect('nowhere');
\echo :SQLSTATE
SELECT immutable.protect(1::oid);
\echo :SQLSTATE
SELECT immutable.unprotect(1::oid);
SELECT immutable.protect('pg_class');
\echo :SQLSTATE

-- owners protect; nobody unprotects who was not told that he may
SET ROLE regress_protect_other;
SELECT immutable.protect('t');
\echo :SQLSTATE
SELECT immutable.protect('pg_class');
\echo :SQLSTATE
SET ROLE regress_protect;
SELECT immutable.unprotect('t');
\echo :SQLSTATE
SELECT immutable.unprotect('t', force => true);
RESET ROLE;
GRANT EXECUTE ON FUNCTION immutable.unprotect TO regress_protect, regress_protect_other;
SET ROLE regress_protect_other;
SELECT immutable.unprotect('t');
\echo :SQLSTATE
SET ROLE regress_protect;
SELECT immutable.unprotect('t');
SELECT immutable.unprotect('t');
\echo :SQLSTATE
SELECT immutable.unprotect('t', force => true);
SELECT immutable.unprotect('v');
\echo :SQLSTATE
SELECT immutable.unprotect(NULL);
\echo :SQLSTATE
SELECT immutable.unprotect('t', NULL);
\echo :SQLSTATE
SELECT count(*) FROM pg_trigger WHERE tgrelid = 't'::regclass;
UPDATE t SET n = 1;

-- a protect that is rolled back leaves no trace; one that stays leaves its row
BEGIN;
SELECT immutable.protect('t');
ROLLBACK;
SELECT relation, action, role, session_role = session_user AS by_session
FROM immutable.guard_changes WHERE relation LIKE 'guard_protect.%' ORDER BY changed_at;

-- the trigger function is of no use elsewhere
SELECT immutable._guard();
\echo :SQLSTATE
CREATE TRIGGER mine BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION immutable._guard();
\echo :SQLSTATE
RESET ROLE;
SELECT immutable._guard();
\echo :SQLSTATE
CREATE TRIGGER mine AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION immutable._guard();
INSERT INTO t VALUES (1);
\echo :SQLSTATE
DROP TRIGGER mine ON t;
\echo :SQLSTATE
SELECT immutable.unprotect('t');

REVOKE EXECUTE ON FUNCTION immutable.unprotect FROM regress_protect, regress_protect_other;
SELECT immutable.unprotect('"Odd ""Table.x"');
SET client_min_messages = warning;
DROP FOREIGN DATA WRAPPER regress_protect CASCADE;
DROP SCHEMA guard_protect CASCADE;
DROP ROLE regress_protect, regress_protect_other;
