-- version: every version of every row of an ordinary table.
\set SHOW_CONTEXT never
CREATE ROLE regress_version;
CREATE ROLE regress_version_app;
CREATE SCHEMA version AUTHORIZATION regress_version;
GRANT USAGE ON SCHEMA version TO regress_version_app;
SET search_path = version;
SET timezone = 'UTC';
SET ROLE regress_version;
CREATE TABLE product (id integer PRIMARY KEY, name text NOT NULL, price numeric(10,2), note text);
INSERT INTO product VALUES (1, 'nut', 1), (2, 'bolt', 2), (3, 'nail', 3);
SELECT immutable.add_versioning('product');
SELECT immutable.add_versioning('product');
\d product
\d product_versions
SELECT relation, versions, complete FROM immutable.versioned_tables;
GRANT INSERT, UPDATE, DELETE, SELECT ON product TO regress_version_app;
CREATE VIEW history AS SELECT id, row_version AS v, row_operation AS op, name, price, note FROM product_versions ORDER BY id, row_version;

-- who changes the table needs no right on the version table
SET ROLE regress_version_app;
SET immutable.context = '{"user": "ann"}';
INSERT INTO product VALUES (4, 'screw', 4);
UPDATE product SET price = 10 WHERE id = 1;
RESET immutable.context;
SELECT count(*) FROM product_versions;
\echo :SQLSTATE
SELECT count(*) FROM product__as_of(now());
\echo :SQLSTATE
SET ROLE regress_version;
SELECT id, row_version, row_operation, row_user = session_user AS who, row_context, row_xact IS NOT NULL AS xact
FROM product_versions WHERE id IN (1, 4) ORDER BY 1, 2;

-- a change that changes nothing is none; a deletion leaves a tombstone; a new key is a new row
UPDATE product SET price = 10.00, name = name WHERE id = 1;
DELETE FROM product WHERE id = 2;
UPDATE product SET id = 30, note = 'moved' WHERE id = 3;
-- all versions of a transaction are kept
BEGIN;
UPDATE product SET price = 11 WHERE id = 1;
UPDATE product SET price = 12 WHERE id = 1;
INSERT INTO product VALUES (5, 'pin', 5);
DELETE FROM product WHERE id = 5;
COMMIT;
BEGIN; UPDATE product SET price = 99; ROLLBACK;
BEGIN; SAVEPOINT s; UPDATE product SET price = 98 WHERE id = 1; ROLLBACK TO s; UPDATE product SET price = 13 WHERE id = 1; COMMIT;
INSERT INTO product VALUES (1, 'nut', 14), (6, 'peg', 6) ON CONFLICT (id) DO UPDATE SET price = excluded.price;
MERGE INTO product p USING (VALUES (6, 60), (7, 7)) n(id, price) ON p.id = n.id
	WHEN MATCHED THEN UPDATE SET price = n.price
	WHEN NOT MATCHED THEN INSERT VALUES (n.id, 'hook', n.price);
COPY product FROM stdin;
8	ring	8	\N
\.
INSERT INTO product VALUES (2, 'bolt', 2.5);
SELECT * FROM history;
SELECT count(DISTINCT row_position) = count(*) AS distinct_positions FROM product_versions;
SELECT * FROM product__as_of(now()) EXCEPT ALL SELECT * FROM product;
SELECT * FROM product EXCEPT ALL SELECT * FROM product__as_of(now());
SELECT * FROM immutable.verify_versions('product');
-- no empty period but for versions that were overtaken in their transaction
SELECT id, row_version FROM product__history WHERE row_end <= row_start ORDER BY 1, 2;
SELECT count(*) FROM product__history WHERE row_end = 'infinity';

-- a trigger that changes another row of the same statement
CREATE TABLE chain (id integer PRIMARY KEY, next integer, n integer DEFAULT 0);
SELECT immutable.add_versioning('chain');
CREATE FUNCTION push() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	UPDATE version.chain SET n = n + 10 WHERE id = NEW.next AND NEW.n < 10;
	RETURN NULL;
END $$;
CREATE TRIGGER "0_push" AFTER INSERT OR UPDATE ON chain FOR EACH ROW EXECUTE FUNCTION push();
INSERT INTO chain VALUES (1, 2), (2, 3), (3, 1);
SELECT id, row_version AS v, row_operation AS op, n FROM chain_versions ORDER BY 1, 2;
UPDATE chain SET n = 1;
SELECT id, row_version AS v, row_operation AS op, n FROM chain_versions ORDER BY 1, 2;
SELECT * FROM chain ORDER BY id;
SELECT * FROM immutable.verify_versions('chain');

-- foreign keys that cascade, also within one table
CREATE TABLE parent (id integer PRIMARY KEY);
CREATE TABLE child (id integer PRIMARY KEY, parent integer REFERENCES parent ON UPDATE CASCADE ON DELETE CASCADE);
CREATE TABLE tree (id integer PRIMARY KEY, up integer REFERENCES tree ON UPDATE CASCADE ON DELETE SET NULL);
SELECT immutable.add_versioning(t) FROM unnest('{parent,child,tree}'::regclass[]) t;
INSERT INTO parent VALUES (1), (2);
INSERT INTO child VALUES (1, 1), (2, 2);
UPDATE parent SET id = 10 WHERE id = 1;
DELETE FROM parent WHERE id = 2;
INSERT INTO tree VALUES (1, 1), (2, 1);
UPDATE tree SET id = 10 WHERE id = 1;
DELETE FROM tree WHERE id = 10;
SELECT id, row_version AS v, row_operation AS op, parent FROM child_versions ORDER BY 1, 2;
SELECT id, row_version AS v, row_operation AS op, up FROM tree_versions ORDER BY 1, 2;
SELECT t.relation, p.* FROM immutable.versioned_tables t, immutable.verify_versions(t.relation) p WHERE t.relation::text IN ('parent', 'child', 'tree');

-- two versions side by side, and back to one of them
SELECT immutable.row_diff('product', '{"id": 1}', 1, 2);
SELECT immutable.row_diff('product', '{"id": 2}', 1, 2);
SELECT immutable.row_diff('product', '{"id": 2}', 3, 3);
SELECT immutable.revert_row('product', '{"id": 1}', 1);
SELECT immutable.revert_row('product', '{"id": 1}', 1);
SELECT immutable.revert_row('product', '{"id": 5}', 1);
SELECT immutable.revert_row('product', '{"id": 2}', 2);
SELECT * FROM history WHERE id IN (1, 2, 5);
SELECT immutable.row_diff('product', '{"id": 1}', 1, 100);
\echo :SQLSTATE
SELECT immutable.row_diff('product', '{"identity": 1}', 1, 2);
\echo :SQLSTATE
SELECT immutable.row_diff('product', '[1]', 1, 2);
\echo :SQLSTATE
SELECT immutable.row_diff('history', '{"id": 1}', 1, 2);
\echo :SQLSTATE

-- what is not known of the past
\set VERBOSITY terse
SELECT * FROM product__as_of('2001-01-01');
\echo :SQLSTATE
SELECT * FROM product__between('2001-01-01', now());
\echo :SQLSTATE
SELECT * FROM product__as_of(NULL);
\echo :SQLSTATE
SELECT count(*) FROM product__from_to(NULL, now());
SELECT count(*) > 0 AS some FROM product__between('-infinity', 'infinity');

\set VERBOSITY default

-- history is written by changes alone
TRUNCATE product;
\echo :SQLSTATE
TRUNCATE parent CASCADE;
INSERT INTO product_versions SELECT * FROM product_versions;
\echo :SQLSTATE
SET immutable.import = on;
INSERT INTO product_versions SELECT * FROM product_versions;
RESET immutable.import;
UPDATE product_versions SET price = 0;
DELETE FROM product_versions;
TRUNCATE product_versions;
ALTER TABLE product_versions DROP CONSTRAINT product_versions_pkey;
ALTER SEQUENCE product_versions_row_position_seq RESTART;
SELECT immutable._version();
\echo :SQLSTATE
CREATE TRIGGER mine AFTER INSERT ON parent FOR EACH ROW EXECUTE FUNCTION immutable._version();
INSERT INTO parent VALUES (99);
\echo :SQLSTATE

-- tables that cannot be versioned
CREATE TABLE bare (id integer);
SELECT immutable.add_versioning('bare');
\echo :SQLSTATE
CREATE TABLE swapping (id integer PRIMARY KEY DEFERRABLE);
SELECT immutable.add_versioning('swapping');
CREATE TABLE named (id integer PRIMARY KEY, row_start date);
SELECT immutable.add_versioning('named');
CREATE UNLOGGED TABLE lossy (id integer PRIMARY KEY);
SELECT immutable.add_versioning('lossy');
CREATE TABLE secret (id integer PRIMARY KEY);
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
SELECT immutable.add_versioning('secret');
\echo :SQLSTATE
CREATE TABLE base (id integer PRIMARY KEY);
CREATE TABLE derived () INHERITS (base);
SELECT immutable.add_versioning('base');
SELECT immutable.add_versioning('history');
\echo :SQLSTATE
SELECT immutable.add_versioning('product_versions');
SELECT immutable.add_versioning('pg_class');
SELECT immutable.add_versioning(0);
\echo :SQLSTATE
SELECT immutable.add_versioning('bare', 'later');
\echo :SQLSTATE
SELECT immutable.add_versioning(NULL);
\echo :SQLSTATE
CREATE TABLE taken (id integer PRIMARY KEY);
CREATE TABLE taken_versions ();
SELECT immutable.add_versioning('taken');
\echo :SQLSTATE
SET ROLE regress_version_app;
SELECT immutable.add_versioning('version.taken');
\echo :SQLSTATE
SELECT immutable.drop_versioning('version.product');
\echo :SQLSTATE
RESET ROLE;

-- versioning stops, history stays
SELECT immutable.drop_versioning('product');
SELECT immutable.drop_versioning('product');
\echo :SQLSTATE
UPDATE product SET price = 0;
DROP TABLE product;
SELECT count(*) FROM history;
SELECT immutable.unprotect('product_versions');
\echo :SQLSTATE
SELECT relation, action FROM immutable.guard_changes WHERE relation IN ('version.product', 'version.product_versions');
SELECT immutable.drop_versioning(t) FROM unnest('{chain,parent,child,tree}'::regclass[]) t;
SELECT immutable.unprotect(t, true) FROM unnest('{product_versions,chain_versions,parent_versions,child_versions,tree_versions}'::regclass[]) t;
SET client_min_messages = warning;
DROP SCHEMA version CASCADE;
DROP ROLE regress_version, regress_version_app;
