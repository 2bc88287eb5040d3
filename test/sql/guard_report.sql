-- guard_report: how each way around the guards stands, told truthfully.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE ROLE regress_report LOGIN;
CREATE ROLE regress_report_member LOGIN;
CREATE ROLE regress_report_sealed;
CREATE SCHEMA report AUTHORIZATION regress_report;
SET search_path = report;
SET ROLE regress_report;
CREATE TABLE t (n integer);
CREATE TABLE p (n integer) PARTITION BY LIST (n);
CREATE TABLE p_1 PARTITION OF p FOR VALUES IN (1);
CREATE TABLE p_2 PARTITION OF p FOR VALUES IN (2);
CREATE TABLE ordinary (n integer);
CREATE TABLE sealed (n integer);
CREATE FUNCTION noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
INSERT INTO t VALUES (1);
INSERT INTO p VALUES (1), (2);
SELECT immutable.protect(t) FROM unnest('{t,p,sealed}'::regclass[]) t;
SELECT immutable.create_log('ledger');
SELECT version FROM immutable.append('ledger', 'a', 'happened');
-- what differs from the report of an armed table with an owner who logs in
CREATE TABLE armed AS SELECT hole, state, detail FROM immutable.guard_report('t');
CREATE FUNCTION differences(target regclass) RETURNS TABLE (hole text, state text, detail text) LANGUAGE sql AS $$
	SELECT r.hole, r.state, r.detail FROM immutable.guard_report(target) WITH ORDINALITY r(relation, hole, state, detail, n)
		JOIN report.armed a USING (hole)
	WHERE (a.state, a.detail) IS DISTINCT FROM (r.state, r.detail) ORDER BY n $$;

-- one row for each hole
SELECT hole, state FROM immutable.guard_report('t');
SELECT hole, detail FROM immutable.guard_report('t') WHERE state <> 'closed' OR hole IN ('guards', 'session_replication_role');
SELECT count(*), count(DISTINCT hole), count(detail), bool_and(relation = 't'::regclass) FROM immutable.guard_report('t');
SELECT * FROM differences('p');
SELECT * FROM differences('ledger');
SELECT * FROM differences('ordinary') WHERE hole IN ('guards', 'session_replication_role', 'truncate', 'on conflict, merge, cascade');
-- and for each table that is protected, parts with their whole
SELECT relation, count(*) FROM immutable.guard_report() WHERE relation::text !~ '^immutable\.'
GROUP BY relation ORDER BY relation::text COLLATE "C";
SELECT relation, hole FROM immutable.guard_report() WHERE relation::text ~ '^immutable\.' AND state = 'open'
	AND hole NOT IN ('event triggers', 'catalog update');

-- sealed: this query is for a CI job, and returns no row when all is well
RESET ROLE;
SELECT immutable.seal_ownership('sealed', 'regress_report_sealed');
SET ROLE regress_report;
SELECT relation, hole FROM immutable.guard_report('t')
WHERE state = 'open' AND hole NOT IN ('event triggers', 'catalog update');
SELECT relation, hole FROM immutable.guard_report('sealed')
WHERE state = 'open' AND hole NOT IN ('event triggers', 'catalog update');
SELECT * FROM differences('sealed');

-- what the owner may do is detected
BEGIN;
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
ALTER TABLE ledger ENABLE ROW LEVEL SECURITY;
CREATE TRIGGER mine BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION noop();
CREATE TRIGGER mine BEFORE INSERT OR DELETE ON p_2 FOR EACH ROW EXECUTE FUNCTION noop();
CREATE TRIGGER mine BEFORE INSERT ON ledger FOR EACH ROW EXECUTE FUNCTION noop();
SELECT * FROM differences('t');
SELECT * FROM differences('p') WHERE hole = 'other triggers';
SELECT * FROM differences('ledger') WHERE hole IN ('row security', 'other triggers');
ALTER TABLE t DISABLE TRIGGER mine, DISABLE ROW LEVEL SECURITY;
SELECT * FROM differences('t');
ROLLBACK;
BEGIN;
CREATE TRIGGER mine AFTER DELETE ON t FOR EACH ROW EXECUTE FUNCTION noop();
SELECT * FROM differences('t');
ROLLBACK;

-- what a superuser may grant is told
RESET ROLE;
BEGIN;
GRANT SET ON PARAMETER session_replication_role TO regress_report;
SELECT * FROM differences('t');
GRANT SET ON PARAMETER session_replication_role TO PUBLIC;
GRANT ALTER SYSTEM ON PARAMETER session_replication_role TO regress_report_member;
SELECT * FROM differences('t');
SET LOCAL ROLE regress_report;
SET LOCAL session_replication_role = replica;
UPDATE t SET n = 2;
\echo :SQLSTATE
ROLLBACK;
BEGIN;
GRANT EXECUTE ON FUNCTION immutable.unprotect(regclass, boolean) TO regress_report_member;
SELECT * FROM differences('sealed') WHERE hole = 'unprotect';
GRANT regress_report_sealed TO regress_report_member;
SELECT * FROM differences('sealed') WHERE hole = 'owner';
SELECT relation, hole FROM immutable.guard_report('sealed')
WHERE state = 'open' AND hole NOT IN ('event triggers', 'catalog update');
ROLLBACK;
BEGIN;
ALTER TABLE t OWNER TO CURRENT_USER;
SELECT hole, state, detail = format('may act as owner %1$I: %1$s; see immutable.seal_ownership', CURRENT_USER) AS told
FROM differences('t');
ROLLBACK;

-- tampered with, by surgery on the catalogs
CREATE FUNCTION look(target regclass) RETURNS void LANGUAGE sql AS
	'UPDATE pg_class SET relhastriggers = relhastriggers WHERE oid = target';
BEGIN;
UPDATE pg_trigger SET tgenabled = 'D' WHERE tgrelid = 't'::regclass AND tgname = 'immutable_guard_row';
SELECT look('t');
SELECT * FROM differences('t');
ROLLBACK;
BEGIN;
UPDATE pg_trigger SET tgenabled = 'O' WHERE tgrelid IN ('p'::regclass, 'p_2'::regclass) AND tgname = 'immutable_guard_statement';
SELECT look('p'), look('p_2');
SELECT * FROM differences('p');
ROLLBACK;
BEGIN;
UPDATE pg_trigger SET tgfoid = 'noop'::regproc WHERE tgrelid = 'sealed'::regclass AND tgname = 'immutable_guard_row';
SELECT look('sealed');
SELECT hole, state, detail FROM differences('sealed') WHERE hole IN ('guards', 'inheritance');
SELECT relation, hole FROM immutable.guard_report('sealed')
WHERE state = 'open' AND hole NOT IN ('event triggers', 'catalog update');
ROLLBACK;
BEGIN;
UPDATE pg_trigger SET tgenabled = 'D' WHERE tgrelid = 'ledger'::regclass AND tgname = 'immutable_guard_statement';
SELECT look('ledger');
SELECT hole, state, detail FROM differences('ledger') WHERE hole IN ('guards', 'forged row');
SELECT immutable.append('ledger', 'a', 'happened');
\echo :SQLSTATE
ROLLBACK;
BEGIN;
UPDATE pg_class SET relpersistence = 'u' WHERE oid IN ('t'::regclass, 'p_1'::regclass);
SELECT * FROM differences('t');
SELECT hole, state, detail FROM differences('p');
ROLLBACK;
BEGIN;
UPDATE pg_event_trigger SET evtenabled = 'D' WHERE evtname = 'immutable_guard_ddl_start';
SELECT * FROM differences('t');
CREATE RULE swallow AS ON DELETE TO p_2 DO INSTEAD NOTHING;
ROLLBACK;
BEGIN;
ALTER EVENT TRIGGER immutable_guard_ddl_start DISABLE;
ALTER EVENT TRIGGER immutable_guard_ddl_end DISABLE;
CREATE RULE swallow AS ON INSERT TO p_2 DO INSTEAD NOTHING;
ALTER EVENT TRIGGER immutable_guard_ddl_start ENABLE ALWAYS;
SELECT count(*) FROM differences('p') WHERE state = 'open' AND detail ~ 'event triggers';
ALTER EVENT TRIGGER immutable_guard_ddl_end ENABLE ALWAYS;
SELECT * FROM differences('p') WHERE hole <> 'truncate a partition';
ROLLBACK;

-- all is as it was
SELECT hole FROM differences('t');
SELECT immutable.drop_log('ledger', force => true);
SELECT immutable.unprotect(t) FROM unnest('{t,p,sealed}'::regclass[]) t;
DROP SCHEMA report CASCADE;
DROP ROLE regress_report, regress_report_member, regress_report_sealed;
