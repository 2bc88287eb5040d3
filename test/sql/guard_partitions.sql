-- guard_partitions: one call protects a table and everything below it.
\set SHOW_CONTEXT never
CREATE ROLE regress_partitions;
CREATE ROLE regress_partitions_other;
CREATE SCHEMA guard_partitions AUTHORIZATION regress_partitions;
SET search_path = guard_partitions;
SET ROLE regress_partitions;
CREATE TABLE p (region text, n integer) PARTITION BY LIST (region);
CREATE TABLE p_a PARTITION OF p FOR VALUES IN ('a');
CREATE TABLE p_b PARTITION OF p FOR VALUES IN ('b') PARTITION BY RANGE (n);
CREATE TABLE p_b_low PARTITION OF p_b FOR VALUES FROM (0) TO (10);
CREATE TABLE p_b_high (n integer, region text);
ALTER TABLE p_b ATTACH PARTITION p_b_high FOR VALUES FROM (10) TO (20);
SELECT immutable.protect('p');
SELECT relation, armed, problem FROM immutable.protected_tables
WHERE relation::text LIKE 'p%' ORDER BY relation::text COLLATE "C";
SELECT tgrelid::regclass, tgname, tgenabled FROM pg_trigger
WHERE tgfoid = 'immutable._guard'::regproc AND tgrelid::regclass::text LIKE 'p%'
ORDER BY tgrelid::regclass::text COLLATE "C", tgname;
INSERT INTO p VALUES ('a', 1), ('b', 2), ('b', 12);
INSERT INTO p_b_high VALUES (13, 'b');

-- through the parent, and past it
UPDATE p SET n = n WHERE region = 'a';
\echo :SQLSTATE
UPDATE p SET region = 'a' WHERE region = 'b';
DELETE FROM p WHERE region = 'b' AND n = 12;
DELETE FROM p WHERE false;
TRUNCATE p;
UPDATE p_b SET n = 1;
UPDATE p_b_low SET n = 1;
\echo :SQLSTATE
UPDATE p_a SET n = 1;
DELETE FROM p_b_high;
TRUNCATE p_a;
\echo :SQLSTATE
TRUNCATE p_b;
TRUNCATE p_b_high;
MERGE INTO p USING (VALUES (1)) v(x) ON p.n = v.x WHEN MATCHED THEN DELETE;
MERGE INTO p_a USING (VALUES (1)) v(x) ON p_a.n = v.x WHEN MATCHED THEN UPDATE SET n = 2;
SELECT tableoid::regclass, * FROM p ORDER BY region, n;

-- a hole in one leaf does not open the others
RESET ROLE;
ALTER EVENT TRIGGER immutable_guard_ddl_start DISABLE;
ALTER EVENT TRIGGER immutable_guard_ddl_end DISABLE;
ALTER EVENT TRIGGER immutable_guard_rewrite DISABLE;
DROP TRIGGER immutable_guard_row ON p_b_low;
ALTER EVENT TRIGGER immutable_guard_ddl_start ENABLE ALWAYS;
ALTER EVENT TRIGGER immutable_guard_ddl_end ENABLE ALWAYS;
ALTER EVENT TRIGGER immutable_guard_rewrite ENABLE ALWAYS;
SET ROLE regress_partitions;
SELECT relation, problem FROM immutable.protected_tables
WHERE relation::text LIKE 'p%' AND NOT armed;
DELETE FROM p;
DELETE FROM p_b_low;
SELECT immutable.protect('p');
SELECT immutable.protect('p');
SELECT count(*) FROM immutable.protected_tables
WHERE relation::text LIKE 'p%' AND NOT armed;

-- a leaf may be protected alone
CREATE TABLE q (n integer) PARTITION BY RANGE (n);
CREATE TABLE q_old PARTITION OF q FOR VALUES FROM (0) TO (10);
CREATE TABLE q_new PARTITION OF q FOR VALUES FROM (10) TO (20);
INSERT INTO q VALUES (1), (11);
SELECT immutable.protect('q_old');
UPDATE q SET n = n WHERE n >= 10;
UPDATE q SET n = n;
DELETE FROM q;
TRUNCATE q;
UPDATE q SET n = n - 10 WHERE n = 11;
SELECT tableoid::regclass, * FROM q ORDER BY n;

-- all or nothing: not a member that belongs to somebody else, or is no table
RESET ROLE;
CREATE TABLE p_c PARTITION OF p FOR VALUES IN ('c');
ALTER TABLE p_c OWNER TO regress_partitions_other;
SET ROLE regress_partitions;
SELECT immutable.protect('p');
\echo :SQLSTATE
CREATE TABLE mixed (n integer) PARTITION BY RANGE (n);
CREATE TABLE mixed_a PARTITION OF mixed FOR VALUES FROM (0) TO (10);
CREATE UNLOGGED TABLE mixed_b PARTITION OF mixed FOR VALUES FROM (10) TO (20);
\set VERBOSITY terse
SELECT immutable.protect('mixed');
\echo :SQLSTATE
\set VERBOSITY default
SELECT count(*) FROM pg_trigger WHERE tgrelid IN ('mixed'::regclass, 'mixed_a'::regclass);

-- inheritance
CREATE TABLE base (n integer);
CREATE TABLE derived (m integer) INHERITS (base);
INSERT INTO derived VALUES (1, 2);
SELECT immutable.protect('base');
UPDATE base SET n = 2;
UPDATE ONLY base SET n = 2;
UPDATE derived SET m = 3;
TRUNCATE derived;
DELETE FROM base;
INSERT INTO base VALUES (3);
SELECT tableoid::regclass, n FROM base ORDER BY n;

-- one row for a family in the audit trail; unprotect frees all of it
RESET ROLE;
SELECT immutable.unprotect('p'), immutable.unprotect('q_old'), immutable.unprotect('base');
UPDATE p SET n = n;
UPDATE base SET n = n;
SELECT relation, action FROM immutable.guard_changes
WHERE relation LIKE 'guard_partitions.%' ORDER BY changed_at;
SET client_min_messages = warning;
DROP SCHEMA guard_partitions CASCADE;
DROP ROLE regress_partitions, regress_partitions_other;
