-- version_ddl: versions follow what happens to their table.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE ROLE regress_version_ddl;
CREATE SCHEMA version_ddl AUTHORIZATION regress_version_ddl;
CREATE SCHEMA version_ddl_other AUTHORIZATION regress_version_ddl;
SET search_path = version_ddl;
SET timezone = 'UTC';
SET ROLE regress_version_ddl;
-- columns of every kind, one of them gone, others in another order in a dump
CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
CREATE TYPE pair AS (a integer, b text);
CREATE TABLE wide (gone text, id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n positive, p pair, list pair[], doc jsonb,
	twice integer GENERATED ALWAYS AS (n * 2) STORED, label text COLLATE "C", "two words" point, long text);
ALTER TABLE wide DROP COLUMN gone, ALTER long SET STORAGE EXTERNAL;
INSERT INTO wide (n, p, list, doc, label, "two words", long)
SELECT i, ROW(i, 'x')::pair, ARRAY[ROW(i, 'y')::pair], jsonb_build_object('i', i), 'l' || i, '(1,2)', repeat(md5(i::text), 1000) FROM generate_series(1, 3) i;
SELECT immutable.add_versioning('wide');
UPDATE wide SET n = 10 WHERE id = 1;
UPDATE wide SET long = long || '', label = label, "two words" = '(1,2)';
UPDATE wide SET long = 'short' WHERE id = 2;
UPDATE wide SET p.b = 'z', list[2] = ROW(7, NULL)::pair WHERE id = 3;
SELECT id, row_version AS v, n, p, list, doc, twice, label, "two words", length(long) FROM wide_versions ORDER BY 1, 2;
SELECT count(*) FROM wide w JOIN wide__as_of(now()) v USING (id) WHERE w *= v;
SELECT * FROM immutable.verify_versions('wide');
SELECT immutable.revert_row('wide', '{"id": 2}', 1);
DELETE FROM wide WHERE id = 3;
SELECT immutable.revert_row('wide', '{"id": 3}', 2);
SELECT id, row_version AS v, row_operation AS op, n, p, twice, length(long) FROM wide_versions WHERE id > 1 ORDER BY 1, 2;
-- what others change in a type would change history
ALTER TYPE pair DROP ATTRIBUTE b CASCADE;
\echo :SQLSTATE

CREATE TABLE item (id integer PRIMARY KEY, name text);
INSERT INTO item VALUES (1, 'a'), (2, 'b');
SELECT immutable.add_versioning('item');
-- new columns, and their defaults
ALTER TABLE item ADD COLUMN qty integer DEFAULT 7, ADD COLUMN made timestamptz DEFAULT now(), ADD COLUMN f float8 DEFAULT 0.1 + 0.2, ADD note text;
SELECT * FROM immutable.verify_versions('item');
UPDATE item SET qty = 8, note = 'x' WHERE id = 1;
SELECT id, row_version AS v, name, qty, f, note, made IS NOT NULL AS made FROM item_versions ORDER BY 1, 2;
SELECT id, qty, note FROM item__as_of(now()) ORDER BY 1;
-- in the same transaction, and undone with it
BEGIN;
ALTER TABLE item ADD COLUMN brief integer;
UPDATE item SET brief = 1 WHERE id = 1;
SELECT brief FROM item__as_of('infinity') WHERE id = 1;
ROLLBACK;
SELECT count(*) FROM pg_attribute WHERE attrelid = 'item_versions'::regclass AND attname = 'brief';
UPDATE item SET qty = 9 WHERE id = 1;
ALTER TABLE item ADD COLUMN IF NOT EXISTS qty integer;
-- renamed columns; a dropped one stays, and gives its name away
ALTER TABLE item RENAME COLUMN note TO remark;
UPDATE item SET remark = 'y' WHERE id = 2;
ALTER TABLE item DROP COLUMN remark;
UPDATE item SET qty = 10 WHERE id = 2;
SELECT id, row_version AS v, qty, remark FROM item__history ORDER BY 1, 2;
SELECT id, qty FROM item__as_of('infinity') ORDER BY 1;
ALTER TABLE item ADD COLUMN remark integer;
UPDATE item SET remark = 5 WHERE id = 2;
ALTER TABLE item RENAME COLUMN remark TO "remark dropped";
ALTER TABLE item RENAME COLUMN "remark dropped" TO remark_dropped;
SELECT attname FROM pg_attribute WHERE attrelid = 'item__history'::regclass AND attnum > 10 ORDER BY attnum;
SELECT * FROM immutable.verify_versions('item');
-- what history could not follow
ALTER TABLE item ALTER COLUMN name TYPE varchar;
\echo :SQLSTATE
ALTER TABLE item ADD COLUMN u uuid DEFAULT gen_random_uuid();
\echo :SQLSTATE
ALTER TABLE item ADD COLUMN s serial;
ALTER TABLE item ADD COLUMN g integer GENERATED ALWAYS AS (qty) STORED;
ALTER TABLE item ADD COLUMN d positive;
-- also where there is nothing to rewrite
CREATE TABLE empty (id integer PRIMARY KEY, n integer) PARTITION BY RANGE (id);
SELECT immutable.add_versioning('empty');
ALTER TABLE empty ADD COLUMN u uuid DEFAULT gen_random_uuid();
\echo :SQLSTATE
ALTER TABLE empty ADD COLUMN g integer GENERATED ALWAYS AS (n) STORED;
\echo :SQLSTATE
ALTER TABLE empty ADD COLUMN d positive;
\echo :SQLSTATE
RESET ROLE;
SELECT immutable.drop_versioning('empty');
SELECT immutable.unprotect('empty_versions', force => true);
DROP TABLE empty, empty_versions CASCADE;
SET ROLE regress_version_ddl;
ALTER TABLE item ADD COLUMN row_user text;
\echo :SQLSTATE
ALTER TABLE item RENAME COLUMN name TO row_start;
ALTER TABLE item SET UNLOGGED;
ALTER TABLE item DROP COLUMN id;
\echo :SQLSTATE
ALTER TABLE item DROP CONSTRAINT item_pkey;
\echo :SQLSTATE
ALTER TABLE item DISABLE TRIGGER "00_immutable_version";
\echo :SQLSTATE
ALTER TABLE item ENABLE REPLICA TRIGGER "00_immutable_version_truncate";
ALTER TABLE item DISABLE TRIGGER USER;
DROP TRIGGER "00_immutable_version" ON item;
\echo :SQLSTATE
ALTER TRIGGER "00_immutable_version" ON item RENAME TO mine;
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE OR REPLACE TRIGGER "00_immutable_version" AFTER UPDATE ON item FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE TABLE below () INHERITS (item);
\echo :SQLSTATE
CREATE TABLE aside (LIKE item);
ALTER TABLE aside INHERIT item;
DROP TABLE item;
DROP TABLE item CASCADE;
\echo :SQLSTATE
DROP TABLE item_versions CASCADE;
-- row security needs policies on both
ALTER TABLE item ENABLE ROW LEVEL SECURITY;
UPDATE item SET qty = 11 WHERE id = 2;
\echo :SQLSTATE
ALTER TABLE item_versions ENABLE ROW LEVEL SECURITY;
UPDATE item SET qty = 11 WHERE id = 2;
ALTER TABLE item DISABLE ROW LEVEL SECURITY;
-- other names, other schemas
ALTER TABLE item RENAME TO thing;
ALTER TABLE thing SET SCHEMA version_ddl_other;
ALTER TABLE item_versions RENAME TO thing_history;
UPDATE version_ddl_other.thing SET qty = 12 WHERE id = 2;
ALTER TABLE version_ddl_other.thing ADD COLUMN later date DEFAULT '2026-01-01';
SELECT id, qty, later FROM item__as_of('infinity') ORDER BY 1;
SELECT id, row_version AS v, qty, later FROM thing_history WHERE id = 2 ORDER BY 1, 2;
SELECT * FROM immutable.verify_versions('version_ddl_other.thing');
-- another owner, as long as they had one owner
RESET ROLE;
CREATE ROLE regress_version_ddl_heir;
GRANT ALL ON SCHEMA version_ddl, version_ddl_other TO regress_version_ddl_heir;
CREATE VIEW owners AS SELECT c.relname AS name, c.relowner::regrole FROM pg_class c
WHERE c.relname IN ('thing', 'thing_history', 'item__history', 'item_versions_row_position_seq') AND c.relnamespace::regnamespace::text LIKE 'version_ddl%'
UNION ALL SELECT p.proname, p.proowner::regrole FROM pg_proc p WHERE p.proname LIKE 'item\_\_%' ORDER BY 1;
ALTER TABLE version_ddl_other.thing OWNER TO regress_version_ddl_heir;
SELECT * FROM owners;
CREATE ROLE regress_version_ddl_vault;
SELECT immutable.seal_ownership('thing_history', 'regress_version_ddl_vault');
ALTER TABLE version_ddl_other.thing OWNER TO regress_version_ddl;
SELECT * FROM owners;
ALTER TABLE thing_history OWNER TO regress_version_ddl;
SELECT relowner, count(*) FROM owners GROUP BY 1;
DROP VIEW owners;
SET ROLE regress_version_ddl;
DROP SCHEMA version_ddl_other CASCADE;
\echo :SQLSTATE
DROP OWNED BY regress_version_ddl;
\echo :SQLSTATE
-- the user's own triggers and indexes on the version table
CREATE TABLE seen (id integer, v bigint);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO version_ddl.seen VALUES (NEW.id, NEW.row_version); RETURN NEW; END $$;
CREATE TRIGGER see AFTER INSERT ON thing_history FOR EACH ROW EXECUTE FUNCTION see();
CREATE INDEX ON thing_history (lower(name)) WHERE row_operation <> 'D';
UPDATE version_ddl_other.thing SET qty = 13;
SELECT * FROM seen ORDER BY 1;
CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER swallow BEFORE INSERT ON thing_history FOR EACH ROW EXECUTE FUNCTION swallow();
UPDATE version_ddl_other.thing SET qty = 14;
\echo :SQLSTATE
DROP TRIGGER swallow ON thing_history;
DROP TRIGGER see ON thing_history;

-- partitions
CREATE TABLE part (id integer, region text, n integer, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE part_a PARTITION OF part FOR VALUES IN ('a');
CREATE TABLE part_b (n integer, region text NOT NULL, id integer NOT NULL);
ALTER TABLE part ATTACH PARTITION part_b FOR VALUES IN ('b');
INSERT INTO part VALUES (1, 'a', 1), (2, 'b', 2);
SELECT immutable.add_versioning('part_a');
\echo :SQLSTATE
SELECT immutable.add_versioning('part');
UPDATE part SET n = n + 10;
UPDATE part SET region = 'b' WHERE id = 1;
CREATE TABLE part_c PARTITION OF part FOR VALUES IN ('c');
CREATE TABLE part_d (LIKE part INCLUDING ALL);
INSERT INTO part_d VALUES (9, 'd', 9);
ALTER TABLE part ATTACH PARTITION part_d FOR VALUES IN ('d');
\echo :SQLSTATE
DELETE FROM part_d;
ALTER TABLE part ATTACH PARTITION part_d FOR VALUES IN ('d');
INSERT INTO part VALUES (3, 'c', 3);
INSERT INTO part_d VALUES (4, 'd', 4);
ALTER TABLE part ADD COLUMN extra integer DEFAULT 5;
SELECT id, region, row_version AS v, row_operation AS op, n, extra FROM part_versions ORDER BY 1, 2, 3;
SELECT * FROM immutable.verify_versions('part');
TRUNCATE part_d;
TRUNCATE part_c;
\echo :SQLSTATE
ALTER TABLE part DETACH PARTITION part_d;
\echo :SQLSTATE
ALTER TABLE part DETACH PARTITION part_d CONCURRENTLY;
DROP TABLE part_d;
DELETE FROM part_d;
ALTER TABLE part DETACH PARTITION part_d;
TRUNCATE part_d;
DELETE FROM part_c;
DROP TABLE part_c;
SELECT * FROM immutable.verify_versions('part');

RESET ROLE;
SELECT immutable.drop_versioning(relation), immutable.unprotect(versions, true) FROM immutable.versioned_tables WHERE relation::text IN ('wide', 'version_ddl_other.thing', 'part');
DROP SCHEMA version_ddl, version_ddl_other CASCADE;
DROP OWNED BY regress_version_ddl_vault;
DROP ROLE regress_version_ddl, regress_version_ddl_heir, regress_version_ddl_vault;
