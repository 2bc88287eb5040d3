-- fail_closed: append never writes into a log that anybody could change.
\set SHOW_CONTEXT never
CREATE ROLE regress_fail_closed;
CREATE SCHEMA fail_closed AUTHORIZATION regress_fail_closed;
SET search_path = fail_closed;
-- a superuser lets the owner tamper
ALTER EVENT TRIGGER immutable_guard_ddl_start DISABLE;
ALTER EVENT TRIGGER immutable_guard_ddl_end DISABLE;
ALTER EVENT TRIGGER immutable_guard_rewrite DISABLE;
SET ROLE regress_fail_closed;
SELECT immutable.create_log('ledger'), immutable.create_log('wide', 1);
SELECT version FROM immutable.append('ledger', 'a', 't');
SELECT version FROM immutable.append('wide', 'a', 't');
CREATE VIEW faults AS SELECT relation, problem FROM immutable.protected_tables
	WHERE relation::text IN ('ledger', 'wide', 'wide_p0') AND NOT armed ORDER BY relation::text;

-- a guard is dropped; reads go on, and protect puts it back
DROP TRIGGER immutable_guard_row ON ledger;
SELECT immutable.append('ledger', 'a', 't');
\echo :SQLSTATE
SELECT * FROM faults;
SELECT version FROM immutable.read_stream('ledger', 'a');
SELECT immutable.stream_version('ledger', 'a');
SELECT immutable.protect('ledger');
SELECT * FROM faults;
SELECT version FROM immutable.append('ledger', 'a', 't');

-- disabled, or not for every session
ALTER TABLE ledger DISABLE TRIGGER immutable_guard_statement;
SELECT immutable.append('ledger', 'a', 't');
\echo :SQLSTATE
ALTER TABLE ledger ENABLE TRIGGER immutable_guard_statement;
SELECT immutable.append('ledger', 'a', 't');
ALTER TABLE ledger ENABLE REPLICA TRIGGER immutable_guard_statement;
SELECT immutable.append('ledger', 'a', 't');
ALTER TABLE ledger DISABLE TRIGGER USER;
SELECT immutable.append('ledger', 'a', 't');
SELECT immutable.protect('ledger');
SELECT version FROM immutable.append('ledger', 'a', 't');

-- replaced by what has its name
CREATE FUNCTION harmless() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE OR REPLACE TRIGGER immutable_guard_row BEFORE INSERT OR UPDATE OR DELETE ON ledger
	FOR EACH ROW EXECUTE FUNCTION harmless();
ALTER TABLE ledger ENABLE ALWAYS TRIGGER immutable_guard_row;
SELECT immutable.append('ledger', 'a', 't');
\echo :SQLSTATE
SELECT immutable.protect('ledger');
SELECT version FROM immutable.append('ledger', 'a', 't');
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'ledger'::regclass;

-- or by the guard itself, but not for every row, column or event
RESET ROLE;
CREATE OR REPLACE TRIGGER immutable_guard_row BEFORE INSERT OR UPDATE OR DELETE ON ledger
	FOR EACH ROW WHEN (pg_trigger_depth() > 5) EXECUTE FUNCTION immutable._guard();
ALTER TABLE ledger ENABLE ALWAYS TRIGGER immutable_guard_row;
SELECT immutable.append('ledger', 'a', 't');
CREATE OR REPLACE TRIGGER immutable_guard_row BEFORE INSERT OR UPDATE OF type OR DELETE ON ledger
	FOR EACH ROW EXECUTE FUNCTION immutable._guard();
ALTER TABLE ledger ENABLE ALWAYS TRIGGER immutable_guard_row;
SELECT immutable.append('ledger', 'a', 't');
CREATE OR REPLACE TRIGGER immutable_guard_row BEFORE UPDATE OR DELETE ON ledger
	FOR EACH ROW EXECUTE FUNCTION immutable._guard();
ALTER TABLE ledger ENABLE ALWAYS TRIGGER immutable_guard_row;
SELECT immutable.append('ledger', 'a', 't');
\echo :SQLSTATE
SELECT * FROM faults;
SET ROLE regress_fail_closed;
SELECT immutable.protect('ledger');
SELECT version FROM immutable.append('ledger', 'a', 't');

-- its own transaction sees the hole at once, and its end
BEGIN;
SELECT version FROM immutable.append('ledger', 'a', 't');
DROP TRIGGER immutable_guard_row ON ledger;
SAVEPOINT s;
SELECT version FROM immutable.append('ledger', 'a', 't');
ROLLBACK TO s;
SELECT immutable.protect('ledger');
SELECT version FROM immutable.append('ledger', 'a', 't');
ROLLBACK;
SELECT version FROM immutable.append('ledger', 'a', 't');

-- the parent's guards and the leaf's
DROP TRIGGER immutable_guard_statement ON wide;
SELECT immutable.append('wide', 'a', 't');
\echo :SQLSTATE
SELECT immutable.protect('wide');
DROP TRIGGER immutable_guard_row ON wide_p0;
SELECT immutable.append('wide', 'a', 't');
\echo :SQLSTATE
SELECT * FROM faults;
SELECT version FROM immutable.read_stream('wide', 'a');
SELECT immutable.protect('wide');
ALTER TABLE wide_p0 DISABLE TRIGGER immutable_guard_statement;
SELECT immutable.append('wide', 'a', 't');
SELECT immutable.protect('wide');
SELECT version FROM immutable.append('wide', 'a', 't');

-- the guard function is another one, or runs in another way
RESET ROLE;
ALTER FUNCTION immutable._guard() SECURITY DEFINER;
SELECT immutable.append('ledger', 'a', 't');
\echo :SQLSTATE
SELECT immutable.append('wide', 'a', 't');
ALTER FUNCTION immutable._guard() SECURITY INVOKER;
SELECT version FROM immutable.append('ledger', 'a', 't');
ALTER FUNCTION immutable._guard() SET session_replication_role = replica;
SELECT immutable.append('ledger', 'a', 't');
\echo :SQLSTATE
ALTER FUNCTION immutable._guard() RESET session_replication_role;
SELECT version FROM immutable.append('ledger', 'a', 't');
BEGIN;
CREATE OR REPLACE FUNCTION immutable._guard() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
SELECT immutable.append('ledger', 'a', 't');
\echo :SQLSTATE
ROLLBACK;
SELECT version FROM immutable.append('ledger', 'a', 't');

-- a sequence that hands out positions in another order, or none
SET ROLE regress_fail_closed;
ALTER SEQUENCE ledger_position_seq CACHE 10;
SELECT immutable.append('ledger', 'a', 't');
\echo :SQLSTATE
ALTER SEQUENCE ledger_position_seq CACHE 1 INCREMENT 2;
SELECT immutable.append('ledger', 'a', 't');
ALTER SEQUENCE ledger_position_seq INCREMENT 1 CYCLE;
SELECT immutable.append('ledger', 'a', 't');
ALTER SEQUENCE ledger_position_seq NO CYCLE OWNED BY NONE;
SELECT immutable.append('ledger', 'a', 't');
\echo :SQLSTATE
ALTER SEQUENCE ledger_position_seq OWNED BY ledger.position;
SELECT version FROM immutable.append('ledger', 'a', 't');
SELECT setval('ledger_position_seq', 1);
SELECT immutable.append('ledger', 'a', 't');
\echo :SQLSTATE
SELECT setval('ledger_position_seq', max(position)) > 0 FROM ledger;
SELECT version FROM immutable.append('ledger', 'a', 't');
-- also for a new stream: what has been given is never given again
SELECT immutable.create_log('back'), immutable.create_log('back_wide', 2);
SELECT a.position, w.position FROM immutable.append('back', 'a', 't') a, immutable.append('back_wide', 'a', 't') w;
BEGIN;
SELECT a.position, w.position FROM immutable.append('back', 'undone', 't') a, immutable.append('back_wide', 'undone', 't') w;
ROLLBACK;
SELECT a.position, w.position FROM immutable.append('back', 'b', 't') a, immutable.append('back_wide', 'b', 't') w;
SELECT setval('back_position_seq', 1), setval('back_wide_position_seq', 1);
SELECT immutable.append('back', 'c', 't');
\echo :SQLSTATE
SELECT immutable.append('back_wide', 'c', 't');
\echo :SQLSTATE
-- by no other session, and by no batch
\c -
SET search_path = fail_closed;
SET ROLE regress_fail_closed;
SELECT setval('back_position_seq', 1), setval('back_wide_position_seq', 1);
SELECT immutable.append('back', 'd', 't');
SELECT immutable.append_json('back_wide', 'd', '[{"type": "t"}, {"type": "t"}]');
\echo :SQLSTATE
SELECT immutable.sync_position('back'), immutable.sync_position('back_wide');
SELECT a.position, w.position FROM immutable.append('back', 'c', 't') a, immutable.append_json('back_wide', 'c', '[{"type": "t"}, {"type": "t"}]') w;

-- an index that heads are read by
ALTER TABLE ledger DROP CONSTRAINT ledger_stream_version_key;
SELECT immutable.append('ledger', 'a', 't');
\echo :SQLSTATE
SELECT version FROM immutable.read_stream('ledger', 'a');
\echo :SQLSTATE
ALTER TABLE ledger ADD UNIQUE (stream, version);
SELECT version FROM immutable.append('ledger', 'a', 't');

-- no hole of all these was used
SELECT count(*) = max(version) AS no_gap FROM ledger;
UPDATE ledger SET type = 'changed';
SELECT relation, action, count(*) FROM immutable.guard_changes
WHERE relation LIKE 'fail\_closed.%' GROUP BY 1, 2 ORDER BY 1, 2;

RESET ROLE;
ALTER EVENT TRIGGER immutable_guard_ddl_start ENABLE ALWAYS;
ALTER EVENT TRIGGER immutable_guard_ddl_end ENABLE ALWAYS;
ALTER EVENT TRIGGER immutable_guard_rewrite ENABLE ALWAYS;
DROP VIEW faults;
SELECT immutable.drop_log('ledger', force => true), immutable.drop_log('wide', force => true);
SELECT immutable.drop_log('back', force => true), immutable.drop_log('back_wide', force => true);
SET client_min_messages = warning;
DROP SCHEMA fail_closed CASCADE;
DROP ROLE regress_fail_closed;
