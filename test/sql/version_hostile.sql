-- version_hostile: names, keys and commands that nobody expects.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA version_hostile;
SET search_path = version_hostile;

-- a key that may be NULL, or that takes for different what its versions take for equal, is none
CREATE TABLE nameless (id text PRIMARY KEY, n integer);
SELECT immutable.add_versioning('nameless');
CREATE UNIQUE INDEX other_order ON nameless (id text_pattern_ops);
ALTER TABLE nameless ADD CONSTRAINT again UNIQUE (id);
ALTER TABLE nameless DROP CONSTRAINT nameless_pkey;
INSERT INTO nameless VALUES ('a', 1);
ALTER TABLE nameless ALTER id DROP NOT NULL;
INSERT INTO nameless VALUES (NULL, 1);
\echo :SQLSTATE
UPDATE nameless SET id = NULL;
\echo :SQLSTATE
ALTER TABLE nameless ALTER id SET NOT NULL;
UPDATE nameless SET n = 2;
CREATE COLLATION nobody_minds (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE loose (id text COLLATE nobody_minds PRIMARY KEY);
SELECT immutable.add_versioning('loose');
INSERT INTO loose VALUES ('a');
UPDATE loose SET id = 'A';
CREATE UNIQUE INDEX ON loose (id COLLATE "C");
ALTER TABLE loose DROP CONSTRAINT loose_pkey;
\echo :SQLSTATE
SELECT id, row_version AS v, row_operation AS op FROM loose_versions ORDER BY row_position;

-- ADD COLUMN IF NOT EXISTS of a column that this transaction has made or altered
CREATE TABLE item (id integer PRIMARY KEY);
SELECT immutable.add_versioning('item');
INSERT INTO item VALUES (1);
BEGIN;
ALTER TABLE item ADD COLUMN a integer;
UPDATE item SET a = 1;
ALTER TABLE item ADD COLUMN IF NOT EXISTS a integer, ADD COLUMN IF NOT EXISTS b integer DEFAULT 5;
ALTER TABLE item ALTER a SET DEFAULT 3;
ALTER TABLE item ADD COLUMN IF NOT EXISTS a integer;
UPDATE item SET a = 2;
ALTER TABLE item DROP COLUMN a;
ALTER TABLE item ADD COLUMN IF NOT EXISTS a integer;
UPDATE item SET a = 3;
COMMIT;
SELECT row_version AS v, a_dropped, a, b FROM item_versions ORDER BY 1;

-- what somebody else has made of the version table is not ours
CREATE VIEW a__history AS SELECT * FROM item_versions;
CREATE FUNCTION a__as_of(integer) RETURNS SETOF item LANGUAGE sql STABLE BEGIN ATOMIC SELECT id, b, a FROM item_versions; END;
CREATE FUNCTION b__as_of(timestamptz) RETURNS SETOF item LANGUAGE sql STABLE BEGIN ATOMIC SELECT id, b, a FROM item_versions; END;
CREATE FUNCTION a__between(timestamptz, timestamptz) RETURNS bigint LANGUAGE sql STABLE BEGIN ATOMIC SELECT count(*) FROM item_versions; END;
ALTER VIEW item__history RENAME TO my__history;
ALTER TABLE item DROP COLUMN b;
SELECT row_version AS v, a_dropped, a, b, row_end = 'infinity' AS current FROM my__history ORDER BY 1;
SELECT * FROM item__as_of('infinity');
SELECT immutable.drop_versioning('item');
SELECT relname FROM pg_class WHERE relnamespace = 'version_hostile'::regnamespace AND relkind = 'v' AND relname LIKE '%history'
UNION ALL SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'version_hostile'::regnamespace AND proname ~ '^(a|b|item)__' ORDER BY 1;

-- columns that are called as something in our own queries is
CREATE TABLE clash (k integer PRIMARY KEY, v integer, b integer, n integer, l integer, before integer, newest integer, present text, x text, key text, problem text, version integer);
SELECT immutable.add_versioning('clash');
INSERT INTO clash VALUES (1, 1);
UPDATE clash SET v = 2, x = 'y', key = 'z';
SELECT immutable.row_diff('clash', '{"k": 1}', 1, 2);
SELECT immutable.revert_row('clash', '{"k": 1}', 1);
SELECT * FROM immutable.verify_versions('clash');
SELECT v, key FROM clash__as_of('infinity') WHERE k = 1;
SELECT v FROM clash__between('-infinity', 'infinity') ORDER BY row_version;
CREATE TABLE ended (id integer PRIMARY KEY, row_end date);
SELECT immutable.add_versioning('ended');
\echo :SQLSTATE
ALTER TABLE clash ADD COLUMN row_end date;
\echo :SQLSTATE

-- domains that allow no NULL; keys in a collation of their own
CREATE DOMAIN present AS integer NOT NULL;
CREATE DOMAIN gift AS present;
CREATE TABLE strict (id present, name text COLLATE "C", a gift, b numeric, PRIMARY KEY (id, name));
SELECT immutable.add_versioning('strict');
INSERT INTO strict VALUES (1, 'x', 1, 1.0);
UPDATE strict SET a = 2, b = 1.00;
SELECT immutable.row_diff('strict', '{"id": 1, "name": "x"}', 1, 2);
SELECT immutable.revert_row('strict', '{"id": 1, "name": "x"}', 1);
SELECT * FROM strict;
CREATE TABLE strict_once (id present PRIMARY KEY, a gift, b numeric);
SELECT immutable.add_versioning('strict_once', 'lazy');
SELECT immutable.import_versions('strict_once', $$SELECT 1::present AS id, '2020-01-01'::timestamptz AS row_start$$);
\echo :SQLSTATE
SELECT immutable.import_versions('strict_once', $$SELECT 1::present AS id, 1::gift AS a, '2020-01-01'::timestamptz AS row_start$$);
SELECT immutable.drop_versioning('strict_once'), immutable.unprotect('strict_once_versions', force => true);
ALTER TABLE strict DROP COLUMN a;
\echo :SQLSTATE
ALTER DOMAIN present DROP NOT NULL;
ALTER TABLE strict DROP COLUMN a;
UPDATE strict SET b = 2;
SELECT row_version AS v, a, b FROM strict_versions ORDER BY 1;

-- versions keep values of their own: none is fetched from what the table has thrown away
CREATE TYPE parcel AS (a integer, t text);
CREATE TABLE long (id integer PRIMARY KEY, t text, p parcel, list parcel[], n integer);
ALTER TABLE long ALTER t SET STORAGE EXTERNAL, ALTER p SET STORAGE EXTERNAL, ALTER list SET STORAGE EXTERNAL;
SELECT immutable.add_versioning('long');
INSERT INTO long VALUES (1, repeat('a', 10000), ROW(1, repeat('b', 10000)), ARRAY[ROW(1, repeat('c', 10000))::parcel], 1);
UPDATE long SET n = 2;
UPDATE long SET t = repeat('a', 10000), p = ROW(1, repeat('b', 10000));
DELETE FROM long;
VACUUM FULL long;
SELECT row_version AS v, md5(t) = md5(repeat('a', 10000)) AS t, md5((p).t) = md5(repeat('b', 10000)) AS p, md5(list[1].t) = md5(repeat('c', 10000)) AS list FROM long_versions ORDER BY 1;

-- rows that come or go below a partition
CREATE TABLE upper (id integer, r integer, PRIMARY KEY (id, r)) PARTITION BY LIST (r);
SELECT immutable.add_versioning('upper');
CREATE TABLE middle (id integer NOT NULL, r integer NOT NULL) PARTITION BY LIST (r);
CREATE TABLE lower PARTITION OF middle FOR VALUES IN (1);
INSERT INTO middle VALUES (1, 1);
ALTER TABLE upper ATTACH PARTITION middle FOR VALUES IN (1);
\echo :SQLSTATE
DELETE FROM middle;
ALTER TABLE upper ATTACH PARTITION middle FOR VALUES IN (1);
INSERT INTO lower VALUES (2, 1);
ALTER TABLE upper DETACH PARTITION middle;
\echo :SQLSTATE
ALTER TABLE middle DETACH PARTITION lower;
\echo :SQLSTATE
DELETE FROM lower;
ALTER TABLE upper DETACH PARTITION middle;
TRUNCATE lower;
SELECT id, r, row_version AS v, row_operation AS op FROM upper_versions ORDER BY row_position;

SELECT immutable.drop_versioning(relation) FROM immutable.versioned_tables WHERE relation::text IN ('upper', 'nameless', 'loose', 'clash', 'strict', 'long');
SELECT immutable.unprotect(t, true) FROM unnest('{upper_versions,nameless_versions,loose_versions,item_versions,clash_versions,strict_versions,long_versions}'::regclass[]) t;
DROP SCHEMA version_hostile CASCADE;
