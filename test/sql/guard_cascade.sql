-- guard_cascade: no cascade takes a protected table, a part of it, or its guards.
\set SHOW_CONTEXT never
\set VERBOSITY sqlstate
SET client_min_messages = error;
CREATE ROLE regress_cascade;
CREATE ROLE regress_cascade_owner;
CREATE SCHEMA guard_cascade AUTHORIZATION regress_cascade;
CREATE SCHEMA guard_cascade_types AUTHORIZATION regress_cascade;
GRANT USAGE ON SCHEMA guard_cascade TO regress_cascade_owner;
SET search_path = guard_cascade;
SET ROLE regress_cascade;
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE TYPE pair AS (a integer, b integer);
CREATE TYPE guard_cascade_types.far AS ENUM ('away');
CREATE DOMAIN short AS text CHECK (length(value) < 10);
CREATE SEQUENCE numbers;
CREATE COLLATION plain FROM "C";
CREATE FUNCTION twice(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
CREATE FUNCTION key(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1 % 2';
CREATE FUNCTION limited(integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 < 100';
CREATE TABLE lookup (id integer PRIMARY KEY);
INSERT INTO lookup VALUES (1), (2);
CREATE TABLE audit (id integer DEFAULT nextval('numbers') CHECK (limited(id)) REFERENCES lookup, m mood, p pair,
	s short, d guard_cascade_types.far[], c text COLLATE plain, g integer GENERATED ALWAYS AS (twice(id)) STORED);
INSERT INTO audit (m, p, s, d, c) VALUES ('sad', (1, 2), 'x', '{away}', 'a'), ('happy', (3, 4), 'y', '{away}', 'b');
CREATE TABLE typed OF pair;
INSERT INTO typed VALUES (5, 6);
CREATE TABLE parted (id integer) PARTITION BY LIST (key(id));
CREATE TABLE parted_0 PARTITION OF parted FOR VALUES IN (0);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
INSERT INTO parted VALUES (1), (2), (3);
CREATE TABLE base (id integer);
CREATE TABLE derived () INHERITS (base);
INSERT INTO derived VALUES (7);
CREATE TABLE loose (id integer) PARTITION BY LIST (id);
CREATE TABLE loose_1 PARTITION OF loose DEFAULT;
INSERT INTO loose VALUES (8);
SELECT immutable.protect(t) FROM unnest('{audit,typed,parted,derived,loose_1}'::regclass[]) t;
SELECT immutable.create_log('ledger');
SELECT position FROM immutable.append('ledger', 'a', 'happened');
CREATE FUNCTION checksum() RETURNS text LANGUAGE sql AS $$
	SELECT md5(string_agg(x, '|' ORDER BY x)) FROM (
		SELECT t::text FROM guard_cascade.audit t UNION ALL SELECT t::text FROM guard_cascade.typed t
		UNION ALL SELECT t::text FROM guard_cascade.parted t UNION ALL SELECT t::text FROM guard_cascade.derived t
		UNION ALL SELECT t::text FROM guard_cascade.loose t UNION ALL SELECT t::text FROM guard_cascade.ledger t) y(x) $$;
SELECT checksum() AS before \gset

-- what holds a table
DROP SCHEMA guard_cascade CASCADE;
DROP SCHEMA guard_cascade_types, guard_cascade CASCADE;
DROP OWNED BY regress_cascade CASCADE;
DROP TABLE base CASCADE;
DROP TABLE loose;
DROP TABLE loose CASCADE;
DROP TABLE parted CASCADE;
DROP TYPE pair CASCADE;
DROP FUNCTION key CASCADE;
DROP FUNCTION key, limited CASCADE;
DO $$ BEGIN EXECUTE 'DROP FUNCTION guard_cascade.key CASCADE'; END $$;
-- what holds a column
DROP TYPE mood CASCADE;
DROP DOMAIN short CASCADE;
DROP TYPE IF EXISTS guard_cascade_types.far CASCADE;
DROP SCHEMA guard_cascade_types CASCADE;
DROP FUNCTION twice CASCADE;
DROP COLLATION plain CASCADE;
-- what holds a part of a log
DROP SEQUENCE ledger_position_seq CASCADE;
-- without CASCADE it is PostgreSQL that says no
DROP SCHEMA guard_cascade;
DROP TYPE mood;
DROP SEQUENCE ledger_position_seq RESTRICT;
DROP FUNCTION twice;
DROP TABLE base;
SELECT checksum() = :'before' AS unchanged;

-- a table in somebody else's schema
RESET ROLE;
GRANT CREATE ON SCHEMA guard_cascade TO regress_cascade_owner;
SET ROLE regress_cascade_owner;
CREATE TABLE foreigner (n integer);
INSERT INTO foreigner VALUES (1);
SELECT immutable.protect('foreigner');
DROP OWNED BY regress_cascade_owner;
DROP OWNED BY CURRENT_USER CASCADE;
SET ROLE regress_cascade;
DROP TABLE foreigner;
SELECT n FROM guard_cascade.foreigner;
RESET ROLE;
DROP OWNED BY regress_cascade_owner, regress_cascade CASCADE;
DROP ROLE regress_cascade_owner;
REASSIGN OWNED BY regress_cascade_owner TO regress_cascade;
SELECT n FROM foreigner;

-- the superuser, also in replica role
DROP SCHEMA guard_cascade CASCADE;
DROP TYPE mood CASCADE;
SET session_replication_role = replica;
DROP SCHEMA guard_cascade CASCADE;
DROP OWNED BY regress_cascade CASCADE;
RESET session_replication_role;
CREATE ACCESS METHOD regress_cascade TYPE TABLE HANDLER heap_tableam_handler;
CREATE TABLE other_method (n integer) USING regress_cascade;
SELECT immutable.protect('other_method');
DROP ACCESS METHOD regress_cascade;
DROP ACCESS METHOD regress_cascade CASCADE;
SELECT immutable.unprotect('other_method');
DROP ACCESS METHOD regress_cascade CASCADE;
SELECT to_regclass('other_method');
SELECT checksum() = :'before' AS unchanged;

-- the extension itself, and what would take it along
DROP EXTENSION immutable_events;
DROP EXTENSION IF EXISTS immutable_events CASCADE;
DROP EXTENSION plpgsql CASCADE;
DROP EXTENSION plpgsql;
DROP LANGUAGE plpgsql CASCADE;
DROP SCHEMA immutable CASCADE;
DROP FUNCTION immutable._guard() CASCADE;
DROP FUNCTION immutable._guard_ddl_start() CASCADE;
DROP EVENT TRIGGER immutable_guard_ddl_start CASCADE;
DROP TYPE immutable.event CASCADE;
DROP VIEW immutable.protected_tables;
DROP TABLE immutable.guard_changes CASCADE;
ALTER INDEX ledger_pkey DEPENDS ON EXTENSION plpgsql;
DROP EXTENSION plpgsql CASCADE;
ALTER EXTENSION plpgsql ADD TABLE audit;
DROP EXTENSION plpgsql CASCADE;
ALTER EXTENSION plpgsql DROP TABLE audit;
SELECT checksum() = :'before' AS unchanged;
SELECT count(*) AS armed, count(*) FILTER (WHERE NOT armed) AS not_armed FROM immutable.protected_tables
WHERE relation::text !~ '^immutable\.';
SELECT evtname, evtenabled FROM pg_event_trigger WHERE evtname LIKE 'immutable%' ORDER BY evtname;
SELECT position FROM immutable.append('ledger', 'a', 'happened');

-- what nothing protected needs may go
SET ROLE regress_cascade;
CREATE TYPE nobodys AS ENUM ('x');
CREATE TABLE ordinary (n nobodys, m mood);
ALTER TABLE lookup ADD COLUMN n nobodys;
DROP TYPE nobodys CASCADE;
SELECT attname FROM pg_attribute WHERE attrelid = 'ordinary'::regclass AND attnum > 0 AND NOT attisdropped;
DROP TABLE lookup CASCADE;
DROP SEQUENCE numbers CASCADE;
DROP FUNCTION limited CASCADE;
DROP TABLE ordinary;
SELECT checksum() <> :'before' AS one_more_event, count(*) FROM audit;
SELECT count(*) FROM pg_constraint WHERE conrelid = 'audit'::regclass;

-- with nothing protected, the extension goes, and takes its guards along
RESET ROLE;
BEGIN;
DROP FUNCTION checksum;
SELECT immutable.unprotect(relation) FROM immutable.protected_tables
WHERE relation::text !~ '^immutable\.' AND relation NOT IN ('ledger'::regclass, 'parted_0'::regclass, 'parted_1'::regclass)
ORDER BY relation::text COLLATE "C";
SAVEPOINT s;
DROP EXTENSION immutable_events CASCADE;
ROLLBACK TO s;
SELECT immutable.unprotect('ledger', force => true);
SAVEPOINT s;
DROP EXTENSION immutable_events;
ROLLBACK TO s;
SELECT immutable.drop_log('ledger', force => true);
DROP EXTENSION immutable_events;
SELECT count(*) FROM pg_event_trigger WHERE evtname LIKE 'immutable%';
SELECT to_regnamespace('immutable'), to_regclass('guard_cascade.audit');
UPDATE audit SET c = 'changed' WHERE m = 'sad';
CREATE EXTENSION immutable_events;
SELECT immutable.protect('audit');
DROP EXTENSION immutable_events;
ROLLBACK;
UPDATE audit SET c = 'changed';
DROP EXTENSION immutable_events CASCADE;
SELECT position FROM immutable.append('ledger', 'a', 'happened');

SELECT immutable.drop_log('ledger', force => true);
SELECT immutable.unprotect(t) FROM unnest('{audit,typed,parted,derived,loose_1,foreigner}'::regclass[]) t;
DROP SCHEMA guard_cascade, guard_cascade_types CASCADE;
DROP ROLE regress_cascade, regress_cascade_owner;
