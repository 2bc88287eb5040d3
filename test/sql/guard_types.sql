-- guard_types: a type whose values are in protected rows keeps its meaning.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE ROLE regress_types;
CREATE SCHEMA guard_types AUTHORIZATION regress_types;
CREATE SCHEMA guard_types_other AUTHORIZATION regress_types;
SET search_path = guard_types;
SET ROLE regress_types;
-- an enum for each way into a column
DO $$ BEGIN FOR i IN 1..14 LOOP EXECUTE format('CREATE TYPE guard_types.e%s AS ENUM (''a'', ''b'')', i); END LOOP; END $$;
CREATE DOMAIN label AS text;
CREATE DOMAIN d3 AS e3 CHECK (value <> 'b');
CREATE DOMAIN d3d AS d3;
CREATE TYPE r4 AS RANGE (subtype = e4, multirange_type_name = m4);
CREATE TYPE r5 AS RANGE (subtype = e5, multirange_type_name = m5);
CREATE TYPE c6 AS (x e6, y integer, z text);
CREATE TYPE c7 AS (x e7[], y integer);
CREATE TYPE c7c AS (c c7, n integer);
CREATE DOMAIN d7 AS c7c[];
CREATE TABLE row8 (x e8, y integer);
CREATE TYPE c9 AS (x e9, y integer);
CREATE DOMAIN d9 AS c9;
CREATE TYPE c10 AS (x e10, y integer);
CREATE TABLE of10 OF c10;
CREATE TYPE c11 AS (x e11, y integer);
CREATE VIEW v12 AS SELECT 'a'::e12 AS x, 1 AS y;
CREATE TABLE leaves (e e13) PARTITION BY LIST (e);
CREATE TABLE leaf PARTITION OF leaves DEFAULT;
CREATE TABLE t (id integer PRIMARY KEY, l label, direct e1, many e2[], dom d3d[], ran r4, multi m5, comp c6, nest d7, rowt row8,
	domc d9, ofs of10[], view v12);
CREATE TABLE typed OF c11;
INSERT INTO t VALUES (1, 'l', 'a', '{a,b}', '{a}', '[a,b]', '{[a,a]}', '(a,1,z)', ARRAY[ROW(ROW('{a,b}', 1), 2)::c7c],
	'(a,1)', '(a,1)', ARRAY[ROW('a', 1)::of10], '(a,1)');
INSERT INTO typed VALUES ('a', 1);
INSERT INTO leaves VALUES ('a');
SELECT immutable.protect(r) FROM unnest('{t,typed,leaf}'::regclass[]) r;
CREATE VIEW checksum AS SELECT md5(a::text || b::text || c::text) AS rows
	FROM (SELECT row_to_json(a1) FROM t a1) a, (SELECT row_to_json(b1) FROM typed b1) b, (SELECT row_to_json(c1) FROM leaf c1) c;
SELECT rows AS before FROM checksum \gset

-- the label of an enum is what its value reads as
ALTER TYPE e1 RENAME VALUE 'a' TO 'forged';
\set VERBOSITY sqlstate
ALTER TYPE guard_types.e1 RENAME VALUE 'b' TO 'forged';
ALTER TYPE e2 RENAME VALUE 'a' TO 'forged';
ALTER TYPE e3 RENAME VALUE 'a' TO 'forged';
ALTER TYPE e4 RENAME VALUE 'a' TO 'forged';
ALTER TYPE e5 RENAME VALUE 'a' TO 'forged';
ALTER TYPE e6 RENAME VALUE 'a' TO 'forged';
ALTER TYPE e7 RENAME VALUE 'a' TO 'forged';
ALTER TYPE e8 RENAME VALUE 'a' TO 'forged';
ALTER TYPE e9 RENAME VALUE 'a' TO 'forged';
ALTER TYPE e10 RENAME VALUE 'a' TO 'forged';
ALTER TYPE e11 RENAME VALUE 'a' TO 'forged';
ALTER TYPE e12 RENAME VALUE 'a' TO 'forged';
ALTER TYPE e13 RENAME VALUE 'a' TO 'forged';
DO $$ BEGIN ALTER TYPE guard_types.e7 RENAME VALUE 'a' TO 'forged'; END $$;
ALTER TYPE e1 RENAME VALUE 'nothing' TO 'forged';
ALTER TYPE nowhere RENAME VALUE 'a' TO 'forged';

-- the attributes of a composite type
ALTER TYPE c6 DROP ATTRIBUTE z;
ALTER TYPE c6 DROP ATTRIBUTE IF EXISTS z CASCADE;
ALTER TYPE c6 ALTER ATTRIBUTE z TYPE varchar;
ALTER TYPE c6 RENAME ATTRIBUTE y TO forged;
ALTER TYPE c6 RENAME ATTRIBUTE y TO forged CASCADE;
ALTER TYPE c6 ADD ATTRIBUTE more text, DROP ATTRIBUTE z;
ALTER TYPE c7 DROP ATTRIBUTE y;
ALTER TYPE c7 RENAME ATTRIBUTE y TO forged;
ALTER TYPE c7c DROP ATTRIBUTE n;
ALTER TYPE c7c RENAME ATTRIBUTE n TO forged;
ALTER TYPE c9 DROP ATTRIBUTE y;
ALTER TYPE c9 RENAME ATTRIBUTE y TO forged;
ALTER TYPE c10 DROP ATTRIBUTE y CASCADE;
ALTER TYPE c10 RENAME ATTRIBUTE y TO forged CASCADE;
ALTER TYPE c11 DROP ATTRIBUTE y CASCADE;
ALTER TYPE c11 RENAME ATTRIBUTE y TO forged CASCADE;
ALTER TYPE c11 ALTER ATTRIBUTE y TYPE oid CASCADE;
-- the columns of a table or view whose rows are values in another table
ALTER TABLE row8 DROP COLUMN y;
ALTER TABLE row8 RENAME COLUMN y TO forged;
ALTER TABLE row8 ALTER COLUMN y TYPE oid;
ALTER TABLE row8 ADD COLUMN more text, DROP COLUMN y;
ALTER TYPE row8 RENAME ATTRIBUTE y TO forged;
ALTER VIEW v12 RENAME COLUMN y TO forged;
ALTER TABLE v12 RENAME COLUMN y TO forged;
DROP TABLE row8 CASCADE;
DROP VIEW v12 CASCADE;
-- the superuser
RESET ROLE;
ALTER TYPE e2 RENAME VALUE 'a' TO 'forged';
SET session_replication_role = replica;
ALTER TYPE c6 DROP ATTRIBUTE z;
RESET session_replication_role;
SET ROLE regress_types;

-- however deep
DO $$
DECLARE
	inner_type text := 'e14';
BEGIN
	FOR i IN 1..40 LOOP
		EXECUTE format(CASE i % 4 WHEN 0 THEN 'CREATE TYPE deep%1$s AS (x %2$s, y integer)'
			WHEN 1 THEN 'CREATE DOMAIN deep%1$s AS %2$s' WHEN 2 THEN 'CREATE TABLE deep%1$s (x %2$s)'
			ELSE 'CREATE DOMAIN deep%1$s AS %2$s[]' END, i, inner_type);
		inner_type := 'deep' || i;
	END LOOP;
END $$;
CREATE TABLE deep (n integer, d deep40);
ALTER TYPE e14 RENAME VALUE 'a' TO 'c';
SELECT immutable.protect('deep');
ALTER TYPE e14 RENAME VALUE 'b' TO 'forged';
ALTER TABLE deep2 RENAME COLUMN x TO forged;
ALTER TYPE deep4 DROP ATTRIBUTE y;
SELECT rows = :'before' AS unchanged FROM checksum;

-- what changes no value is allowed
ALTER TYPE e1 ADD VALUE 'c';
ALTER TYPE e1 ADD VALUE IF NOT EXISTS '0' BEFORE 'a';
ALTER TYPE e1 RENAME TO mood;
ALTER TYPE mood SET SCHEMA guard_types_other;
ALTER TYPE c9 RENAME TO pair;
ALTER DOMAIN d3d RENAME TO harmless;
ALTER DOMAIN label SET DEFAULT 'new';
ALTER DOMAIN label ADD CONSTRAINT never CHECK (value <> 'l') NOT VALID;
ALTER DOMAIN label RENAME CONSTRAINT never TO seldom;
ALTER DOMAIN label DROP CONSTRAINT seldom;
ALTER DOMAIN label SET NOT NULL;
ALTER DOMAIN label DROP NOT NULL;
ALTER TABLE row8 RENAME TO row_eight;
ALTER TABLE row_eight ALTER COLUMN y SET NOT NULL, ADD CHECK (y > 0);
ALTER VIEW v12 ALTER COLUMN y SET DEFAULT 1;
COMMENT ON TYPE c6 IS 'a comment';
GRANT USAGE ON TYPE pair TO PUBLIC;
SELECT rows = :'before' AS unchanged FROM checksum;
-- a new attribute is NULL in old values
ALTER TYPE c6 ADD ATTRIBUTE more text;
ALTER TYPE c11 ADD ATTRIBUTE more text CASCADE;
ALTER TABLE row_eight ADD COLUMN more text;
CREATE OR REPLACE VIEW v12 AS SELECT 'a'::e12 AS x, 1 AS y, 'new'::text AS more;
SELECT (comp).x, (comp).y, (comp).z, (comp).more, (rowt).x, (rowt).y, (rowt).more, (view).y, (view).more FROM t;
SELECT * FROM typed;
-- and a type that is nowhere in a protected row is nobody's concern
CREATE TYPE free AS ENUM ('a');
CREATE TYPE free_pair AS (x free, y e2, z integer);
CREATE TABLE unprotected (f free, p free_pair[], c c6);
CREATE VIEW of_protected AS SELECT id, 'a'::free AS f FROM t;
CREATE FUNCTION of_free(free) RETURNS free_pair LANGUAGE sql AS 'SELECT NULL::guard_types.free_pair';
ALTER TYPE free RENAME VALUE 'a' TO 'b';
ALTER TYPE free_pair RENAME ATTRIBUTE z TO zed;
ALTER TYPE free_pair DROP ATTRIBUTE zed;
ALTER TABLE unprotected RENAME COLUMN f TO g;
ALTER TABLE unprotected DROP COLUMN c;
ALTER VIEW of_protected RENAME COLUMN f TO g;
DROP TYPE free CASCADE;
SELECT * FROM unprotected;

RESET ROLE;
SELECT immutable.unprotect(r) FROM unnest('{t,typed,leaf,deep}'::regclass[]) r;
ALTER TYPE e2 RENAME VALUE 'a' TO 'c';
ALTER TYPE c6 RENAME ATTRIBUTE y TO w;
SELECT many, comp FROM t;
DROP SCHEMA guard_types, guard_types_other CASCADE;
DROP ROLE regress_types;
