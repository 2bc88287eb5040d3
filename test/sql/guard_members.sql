-- guard_members: nobody changes what the extension consists of, but its own scripts.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE ROLE regress_members;
CREATE SCHEMA guard_members AUTHORIZATION regress_members;
SET search_path = guard_members;
CREATE FUNCTION noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TABLE audit (n integer);
INSERT INTO audit VALUES (1);
SELECT immutable.protect('audit');
CREATE VIEW checksum AS SELECT md5(string_agg(x, '|' ORDER BY x)) AS rows FROM (
	SELECT p::text FROM pg_proc p WHERE pronamespace = 'immutable'::regnamespace
	UNION ALL SELECT t::text FROM pg_type t WHERE typnamespace = 'immutable'::regnamespace
	UNION ALL SELECT relname || relkind::text || relowner || relnamespace FROM pg_class
		WHERE relnamespace = 'immutable'::regnamespace
	UNION ALL SELECT attrelid || attname || attnum || atthasdef FROM pg_attribute
		WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'immutable'::regnamespace)
	UNION ALL SELECT pg_get_viewdef('immutable.protected_tables'::regclass)
	UNION ALL SELECT nspname || nspowner FROM pg_namespace WHERE nspname = 'immutable'
	UNION ALL SELECT d::text FROM pg_depend d
		WHERE refobjid = (SELECT oid FROM pg_extension WHERE extname = 'immutable_events')
	UNION ALL SELECT e::text FROM pg_event_trigger e
	UNION ALL SELECT g::text FROM immutable.guard_changes g
) y(x);
SELECT rows AS before FROM checksum \gset

-- functions: none is replaced, and none is added
CREATE OR REPLACE FUNCTION immutable._guard() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
\set VERBOSITY sqlstate
CREATE OR REPLACE FUNCTION immutable._guard() RETURNS trigger
	LANGUAGE C AS '$libdir/immutable_events', 'ie_guard';
CREATE FUNCTION immutable.append(regclass, text, text) RETURNS immutable.appended LANGUAGE sql AS 'SELECT NULL';
CREATE OR REPLACE FUNCTION immutable._guard_ddl_start() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE PROCEDURE immutable.mine() LANGUAGE sql AS '';
CREATE AGGREGATE immutable.mine(integer) (sfunc = int4pl, stype = integer);
CREATE OR REPLACE AGGREGATE immutable.mine(integer) (sfunc = int4pl, stype = integer);
SET search_path = immutable, guard_members;
CREATE FUNCTION mine() RETURNS integer LANGUAGE sql AS 'SELECT 1';
CREATE OR REPLACE FUNCTION protect(regclass) RETURNS void LANGUAGE sql AS '';
SET search_path = guard_members;
DO $$ BEGIN CREATE FUNCTION immutable.mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'; END $$;
ALTER FUNCTION immutable._guard() SECURITY DEFINER;
ALTER FUNCTION immutable._guard() SET session_replication_role = replica;
ALTER FUNCTION immutable._guard() RESET ALL;
ALTER FUNCTION immutable._guard COST 1;
ALTER ROUTINE immutable._guard() STABLE;
ALTER FUNCTION immutable.append LEAKPROOF;
ALTER FUNCTION immutable._guard() RENAME TO gone;
ALTER ROUTINE immutable._guard RENAME TO gone;
ALTER FUNCTION immutable._guard() SET SCHEMA guard_members;
ALTER FUNCTION immutable._guard() OWNER TO regress_members;
ALTER FUNCTION immutable._guard() DEPENDS ON EXTENSION plpgsql;
ALTER FUNCTION immutable._guard() NO DEPENDS ON EXTENSION plpgsql;
ALTER AGGREGATE immutable.fold(anyelement, regproc, VARIADIC "any") RENAME TO gone;
ALTER AGGREGATE immutable.fold(anyelement, regproc, VARIADIC "any") SET SCHEMA guard_members;
ALTER AGGREGATE immutable.fold(anyelement, regproc, VARIADIC "any") OWNER TO regress_members;

-- the view, and the audit trail
CREATE OR REPLACE VIEW immutable.protected_tables AS
	SELECT NULL::regclass AS relation, true AS armed, NULL::text AS problem;
ALTER VIEW immutable.protected_tables RENAME TO gone;
ALTER TABLE immutable.protected_tables RENAME TO gone;
ALTER VIEW immutable.protected_tables RENAME COLUMN armed TO gone;
ALTER VIEW immutable.protected_tables SET SCHEMA guard_members;
ALTER VIEW immutable.protected_tables OWNER TO regress_members;
ALTER VIEW immutable.protected_tables ALTER COLUMN armed SET DEFAULT true;
ALTER VIEW immutable.protected_tables SET (security_invoker = true);
ALTER TABLE immutable.guard_changes RENAME TO gone;
ALTER TABLE immutable.guard_changes RENAME COLUMN role TO gone;
ALTER TABLE immutable.guard_changes SET SCHEMA guard_members;
ALTER TABLE immutable.guard_changes DROP COLUMN session_role;
ALTER TABLE immutable.guard_changes DISABLE TRIGGER ALL;
ALTER TABLE immutable.guard_changes SET UNLOGGED;
DROP TRIGGER immutable_guard_row ON immutable.guard_changes;
CREATE RULE swallow AS ON INSERT TO immutable.guard_changes DO INSTEAD NOTHING;
CREATE TABLE child () INHERITS (immutable.guard_changes);
UPDATE immutable.guard_changes SET action = 'protect';
DELETE FROM immutable.guard_changes;
TRUNCATE immutable.guard_changes;
SELECT immutable.unprotect('immutable.guard_changes');
SELECT immutable.unprotect('immutable.guard_changes', force => true);
SELECT immutable.seal_ownership('immutable.guard_changes', 'regress_members');

-- types, the schema, the extension
ALTER TYPE immutable.appended ADD ATTRIBUTE extra text;
ALTER TYPE immutable.appended DROP ATTRIBUTE written;
ALTER TYPE immutable.appended RENAME ATTRIBUTE written TO gone;
ALTER TYPE immutable.appended RENAME TO gone;
ALTER TYPE immutable.appended SET SCHEMA guard_members;
ALTER TYPE immutable.appended OWNER TO regress_members;
ALTER SCHEMA immutable RENAME TO gone;
ALTER SCHEMA immutable OWNER TO regress_members;
ALTER EXTENSION immutable_events DROP FUNCTION immutable._guard();
ALTER EXTENSION immutable_events DROP TABLE immutable.guard_changes;
ALTER EXTENSION immutable_events DROP EVENT TRIGGER immutable_guard_ddl_start;
ALTER EXTENSION immutable_events DROP SCHEMA immutable;
ALTER EXTENSION immutable_events ADD TABLE audit;
ALTER EXTENSION immutable_events SET SCHEMA guard_members;
ALTER EXTENSION immutable_events UPDATE;
DROP FUNCTION immutable._guard();
DROP FUNCTION immutable.append;
DROP AGGREGATE immutable.fold(anyelement, regproc, VARIADIC "any") CASCADE;
SET session_replication_role = replica;
CREATE OR REPLACE FUNCTION immutable._guard() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
ALTER FUNCTION immutable._guard() SECURITY DEFINER;
ALTER EXTENSION immutable_events DROP FUNCTION immutable._guard();
RESET session_replication_role;
SELECT rows = :'before' AS unchanged FROM checksum;

-- no other trigger looks like a guard
SET ROLE regress_members;
CREATE FUNCTION immutable.mine() RETURNS integer LANGUAGE sql AS 'SELECT 1';
ALTER FUNCTION immutable._guard() SECURITY DEFINER;
CREATE FUNCTION _guard() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TABLE t (n integer);
CREATE TABLE p (n integer) PARTITION BY LIST (n);
CREATE VIEW v AS SELECT 1 AS n;
CREATE TRIGGER immutable_guard_row BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION _guard();
CREATE OR REPLACE TRIGGER immutable_guard_statement BEFORE UPDATE ON t EXECUTE FUNCTION guard_members.noop();
CREATE CONSTRAINT TRIGGER immutable_guard_row AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION _guard();
CREATE TRIGGER immutable_guard_row AFTER INSERT ON p FOR EACH ROW EXECUTE FUNCTION _guard();
CREATE TRIGGER immutable_guard_row INSTEAD OF INSERT ON v FOR EACH ROW EXECUTE FUNCTION _guard();
CREATE TRIGGER immutable_guard_row BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION nowhere();
CREATE TRIGGER mine BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION immutable._guard();
CREATE TRIGGER immutable_guard_row BEFORE UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION immutable._guard();
CREATE TRIGGER "Immutable_guard_row" AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION _guard();
SELECT tgname FROM pg_trigger WHERE tgrelid = 't'::regclass;
RESET ROLE;
-- a restored dump makes them as they were
CREATE TRIGGER immutable_guard_row BEFORE UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION immutable._guard();
SELECT armed, problem FROM immutable.protected_tables WHERE relation = 't'::regclass;
ALTER TABLE t ENABLE ALWAYS TRIGGER immutable_guard_row;
CREATE TRIGGER immutable_guard_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON t
	FOR EACH STATEMENT EXECUTE FUNCTION immutable._guard();
ALTER TABLE t ENABLE ALWAYS TRIGGER immutable_guard_statement;
SELECT armed, problem FROM immutable.protected_tables WHERE relation = 't'::regclass;

-- what is not the extension's own is not its concern
SET ROLE regress_members;
SET search_path = guard_members, immutable;
CREATE FUNCTION append(integer) RETURNS integer LANGUAGE sql AS 'SELECT $1';
CREATE OR REPLACE FUNCTION append(integer) RETURNS integer LANGUAGE sql AS 'SELECT $1 + 1';
ALTER FUNCTION append(integer) STABLE;
ALTER FUNCTION append(integer) RENAME TO unprotect;
ALTER FUNCTION guard_members.unprotect(integer) COST 5;
CREATE AGGREGATE fold(integer) (sfunc = int4pl, stype = integer);
ALTER AGGREGATE fold(integer) RENAME TO mine;
CREATE VIEW guard_members.protected_tables AS SELECT 1 AS n;
CREATE OR REPLACE VIEW guard_members.protected_tables AS SELECT 2 AS n;
CREATE TYPE event AS (n integer);
ALTER TYPE event ADD ATTRIBUTE m integer;
ALTER TYPE event RENAME TO appended;
CREATE TABLE guard_changes (n integer);
ALTER TABLE guard_changes RENAME TO mine;
RESET ROLE;
ALTER FUNCTION guard_members.unprotect(integer) OWNER TO CURRENT_USER;
GRANT EXECUTE ON FUNCTION immutable.unprotect(regclass, boolean) TO regress_members;
REVOKE EXECUTE ON FUNCTION immutable.unprotect(regclass, boolean) FROM regress_members;

SET search_path = guard_members;
SELECT immutable.unprotect('audit'), immutable.unprotect('t');
DROP SCHEMA guard_members CASCADE;
DROP ROLE regress_members;
