-- guard_temporary: nothing of a protected table goes when a session ends, and
-- what a command hides from event triggers is guarded by its names.
\set SHOW_CONTEXT never
\set VERBOSITY sqlstate
SET client_min_messages = error;
CREATE ROLE regress_temporary;
CREATE SCHEMA guard_temporary AUTHORIZATION regress_temporary;
SET search_path = guard_temporary;
SET ROLE regress_temporary;
CREATE FUNCTION pg_temp.f(integer) RETURNS integer LANGUAGE sql IMMUTABLE RETURN $1 * 2;
CREATE DOMAIN pg_temp.d AS integer;
CREATE TYPE pair AS (a integer, b pg_temp.d);
CREATE TEMP TABLE tt (x integer);
CREATE TYPE nested AS (a integer, b tt);
CREATE TYPE rg AS RANGE (subtype = pg_temp.d);
CREATE DOMAIN over_temp AS tt;
CREATE TABLE generated (id integer, g integer GENERATED ALWAYS AS (pg_temp.f(id)) STORED);
CREATE TABLE composite (c pair);
CREATE TABLE row_type (c nested);
CREATE TABLE elements (c pair[]);
CREATE TABLE ranges (c rg);
CREATE TABLE domains (c over_temp);
CREATE TABLE keyed (a integer) PARTITION BY LIST (pg_temp.f(a));
CREATE TABLE keyed_leaf PARTITION OF keyed DEFAULT;
SELECT immutable.protect('generated');
SELECT immutable.protect('composite');
SELECT immutable.protect('row_type');
SELECT immutable.protect('elements');
SELECT immutable.protect('ranges');
SELECT immutable.protect('domains');
SELECT immutable.protect('keyed');
SELECT immutable.protect('keyed_leaf');

-- nor later: an attribute, a column
CREATE TYPE lasting AS (a integer, b integer);
CREATE TABLE kept (c lasting);
INSERT INTO kept VALUES (ROW(1, 2));
SELECT immutable.protect('kept');
ALTER TYPE lasting ADD ATTRIBUTE z pg_temp.d;
ALTER TABLE kept ADD COLUMN d pg_temp.d;
ALTER TABLE kept ADD COLUMN d integer;
SELECT * FROM kept;

-- REFRESH MATERIALIZED VIEW tells event triggers of nothing
CREATE TABLE root (id integer, v text) PARTITION BY LIST (id);
CREATE TABLE root_1 PARTITION OF root FOR VALUES IN (1);
INSERT INTO root VALUES (1, 'a');
SELECT immutable.protect('root');
CREATE FUNCTION make(what text) RETURNS integer LANGUAGE plpgsql AS $$ BEGIN EXECUTE what; RETURN 1; END $$;
CREATE MATERIALIZED VIEW hidden_1 AS SELECT make('CREATE TABLE guard_temporary.root_2 PARTITION OF guard_temporary.root FOR VALUES IN (2)') WITH NO DATA;
CREATE MATERIALIZED VIEW hidden_2 AS SELECT make('CREATE TABLE guard_temporary.child () INHERITS (guard_temporary.kept)') WITH NO DATA;
CREATE TABLE root_3 (id integer, v text);
INSERT INTO root_3 VALUES (3, 'z');
CREATE MATERIALIZED VIEW hidden_3 AS SELECT make('ALTER TABLE guard_temporary.root ATTACH PARTITION guard_temporary.root_3 FOR VALUES IN (3)') WITH NO DATA;
REFRESH MATERIALIZED VIEW hidden_1;
REFRESH MATERIALIZED VIEW hidden_2;
REFRESH MATERIALIZED VIEW hidden_3;
SELECT relation, armed FROM immutable.protected_tables WHERE relation::text LIKE 'root%' ORDER BY relation::text COLLATE "C";
UPDATE root SET v = 'changed';
DELETE FROM root_3;
SELECT to_regclass('child');

-- a unique constraint keeps rows from standing twice; others may go
CREATE TABLE keys (id integer PRIMARY KEY, n integer UNIQUE, CONSTRAINT positive CHECK (n > 0));
SELECT immutable.protect('keys');
ALTER TABLE keys DROP CONSTRAINT keys_pkey;
ALTER TABLE keys DROP CONSTRAINT IF EXISTS keys_n_key CASCADE;
ALTER TABLE keys DROP CONSTRAINT positive;

RESET ROLE;
SELECT count(immutable.unprotect(relation)) FROM (VALUES ('kept'), ('root'), ('keys')) t(name), LATERAL (SELECT name::regclass AS relation OFFSET 0) r;
DROP SCHEMA guard_temporary CASCADE;
DISCARD TEMP;
DROP ROLE regress_temporary;
