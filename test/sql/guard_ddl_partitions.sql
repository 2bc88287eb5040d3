-- guard_ddl_partitions: a new part gets its guards, and no part gets rid of them.
\set SHOW_CONTEXT never
\set VERBOSITY sqlstate
SET client_min_messages = warning;
CREATE ROLE regress_ddl_parts;
CREATE SCHEMA guard_ddl_parts AUTHORIZATION regress_ddl_parts;
GRANT CREATE ON DATABASE :"DBNAME" TO regress_ddl_parts;
SET search_path = guard_ddl_parts;
SET ROLE regress_ddl_parts;
CREATE FUNCTION noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE VIEW guards AS SELECT tgrelid::regclass::text COLLATE "C" AS part,
		string_agg(format('%s %s %s', tgtype, tgenabled::text, tgfoid::regproc), ', ' ORDER BY tgtype) AS guards
	FROM pg_trigger WHERE tgfoid = 'immutable._guard'::regproc AND tgrelid::regclass::text !~ '^immutable\.'
	GROUP BY tgrelid;
CREATE TABLE p (region text, n integer) PARTITION BY LIST (region);
CREATE TABLE p_a PARTITION OF p FOR VALUES IN ('a');
CREATE TABLE p_b PARTITION OF p FOR VALUES IN ('b') PARTITION BY RANGE (n);
CREATE TABLE p_b_1 PARTITION OF p_b FOR VALUES FROM (0) TO (10);
SELECT immutable.protect('p');
SELECT * FROM guards ORDER BY part;

-- CREATE TABLE ... PARTITION OF, with parts of its own and in a schema of its own
CREATE TABLE p_c PARTITION OF p FOR VALUES IN ('c');
CREATE TABLE IF NOT EXISTS p_c PARTITION OF p FOR VALUES IN ('c');
CREATE TABLE p_b_2 PARTITION OF p_b FOR VALUES FROM (10) TO (20) PARTITION BY LIST (n);
CREATE TABLE p_b_2_d PARTITION OF p_b_2 DEFAULT;
CREATE SCHEMA guard_ddl_parts_2
	CREATE TABLE p_d PARTITION OF guard_ddl_parts.p FOR VALUES IN ('d')
	CREATE VIEW v AS SELECT * FROM p_d
	CREATE TRIGGER immutable_guard_row BEFORE UPDATE OR DELETE ON p_d
		FOR EACH ROW EXECUTE FUNCTION guard_ddl_parts.noop();
-- ATTACH, of a table with rows and other columns' order, and of a tree
CREATE TABLE p_e (n integer, region text);
INSERT INTO p_e VALUES (5, 'e');
ALTER TABLE p ATTACH PARTITION p_e FOR VALUES IN ('e');
CREATE TABLE p_f (region text, n integer) PARTITION BY RANGE (n);
CREATE TABLE p_f_1 PARTITION OF p_f FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (n);
CREATE TABLE p_f_1_x PARTITION OF p_f_1 DEFAULT;
CREATE TABLE p_f_2 PARTITION OF p_f DEFAULT;
INSERT INTO p_f VALUES ('f', 6), ('f', 16);
ALTER TABLE p ATTACH PARTITION p_f FOR VALUES IN ('f');
CREATE TABLE p_g (region text, n integer);
SELECT immutable.protect('p_g');
ALTER TABLE p ATTACH PARTITION p_g FOR VALUES IN ('g');
CREATE TABLE p_b_3 (region text, n integer);
ALTER TABLE p_b ATTACH PARTITION p_b_3 FOR VALUES FROM (20) TO (30);
DO $$ BEGIN EXECUTE 'CREATE TABLE guard_ddl_parts.p_h PARTITION OF guard_ddl_parts.p FOR VALUES IN (''h'')'; END $$;
RESET ROLE;
SET session_replication_role = replica;
CREATE TABLE p_i PARTITION OF p FOR VALUES IN ('i');
ALTER TABLE p_i OWNER TO regress_ddl_parts;
RESET session_replication_role;
SET ROLE regress_ddl_parts;
SELECT * FROM guards ORDER BY part;
SELECT count(*) AS parts, count(*) FILTER (WHERE armed) AS armed
FROM immutable.protected_tables WHERE relation IN (SELECT relid FROM pg_partition_tree('p'));

-- what no trigger can keep does not become a part
CREATE UNLOGGED TABLE p_u PARTITION OF p FOR VALUES IN ('u');
CREATE UNLOGGED TABLE p_u (region text, n integer);
ALTER TABLE p ATTACH PARTITION p_u FOR VALUES IN ('u');
CREATE TABLE p_r (region text, n integer);
CREATE RULE swallow AS ON INSERT TO p_r DO INSTEAD NOTHING;
ALTER TABLE p ATTACH PARTITION p_r FOR VALUES IN ('r');
RESET ROLE;
CREATE FOREIGN DATA WRAPPER regress_ddl_parts;
CREATE SERVER regress_ddl_parts FOREIGN DATA WRAPPER regress_ddl_parts;
GRANT USAGE ON FOREIGN SERVER regress_ddl_parts TO regress_ddl_parts;
SET ROLE regress_ddl_parts;
CREATE FOREIGN TABLE p_x PARTITION OF p FOR VALUES IN ('x') SERVER regress_ddl_parts;
CREATE FOREIGN TABLE p_x (region text, n integer) SERVER regress_ddl_parts;
ALTER TABLE p ATTACH PARTITION p_x FOR VALUES IN ('x');
SELECT relid FROM pg_partition_tree('p') WHERE relid::text IN ('p_u', 'p_r', 'p_x');

INSERT INTO p SELECT r, 3 FROM unnest('{a,b,c,d,e,f,g,h,i}'::text[]) r;
INSERT INTO p VALUES ('b', 13), ('b', 23);
CREATE VIEW checksum AS SELECT md5(string_agg(p::text, '|' ORDER BY p::text)) AS rows, count(*) FROM p;
SELECT rows AS before, count FROM checksum \gset
\echo :count

-- every leaf refuses
CREATE FUNCTION passes(part regclass) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	command text;
BEGIN
	FOREACH command IN ARRAY ARRAY['UPDATE %s SET n = 0', 'DELETE FROM %s', 'TRUNCATE %s', 'DROP TABLE %s',
		'ALTER TABLE %s DISABLE TRIGGER ALL', 'ALTER TABLE ONLY %s DISABLE TRIGGER immutable_guard_statement',
		'DROP TRIGGER immutable_guard_statement ON %s', 'ALTER TABLE %s RENAME n TO m',
		'ALTER TABLE %s ALTER n TYPE bigint', 'CREATE RULE r AS ON INSERT TO %s DO INSTEAD NOTHING',
		'ALTER TRIGGER immutable_guard_statement ON %s RENAME TO gone', 'ALTER TABLE %s SET UNLOGGED',
		'ALTER TABLE %s INHERIT p_x', 'ALTER TABLE %s ADD COLUMN extra text DEFAULT ''forged''', 'SELECT %L::regclass']
	LOOP
		BEGIN
			EXECUTE format(command, part);
			RETURN NEXT command;
		EXCEPTION WHEN restrict_violation THEN
		END;
	END LOOP;
END $$;
SELECT passed, count(*) FROM pg_partition_tree('p'), passes(relid) passed GROUP BY passed;
ALTER TABLE p DETACH PARTITION p_a;
ALTER TABLE p DETACH PARTITION p_a CONCURRENTLY;
ALTER TABLE p DETACH PARTITION p_a FINALIZE;
ALTER TABLE p_b DETACH PARTITION p_b_1;
ALTER TABLE p DETACH PARTITION guard_ddl_parts_2.p_d;
CREATE OR REPLACE TRIGGER immutable_guard_row BEFORE UPDATE ON p FOR EACH ROW EXECUTE FUNCTION noop();
ALTER TABLE p DISABLE TRIGGER immutable_guard_row;
ALTER TABLE p ADD COLUMN extra text DEFAULT 'forged';
ALTER TABLE p DROP COLUMN n CASCADE;
DROP SCHEMA guard_ddl_parts_2 CASCADE;
-- a part is given up with the whole, and the whole by those who may
SELECT immutable.unprotect('p_a');
RESET ROLE;
SELECT immutable.unprotect('p_a');
SELECT immutable.unprotect('p_b_1', force => true);
SELECT immutable.unprotect('p_b');
ALTER TABLE p DETACH PARTITION p_a;
SET ROLE regress_ddl_parts;
-- a part in somebody else's table is guarded as before
CREATE TABLE loose (n integer) PARTITION BY RANGE (n);
CREATE TABLE loose_1 (n integer);
CREATE TABLE loose_2 PARTITION OF loose FOR VALUES FROM (10) TO (20);
INSERT INTO loose_1 VALUES (1);
SELECT immutable.protect('loose_1');
ALTER TABLE loose ATTACH PARTITION loose_1 FOR VALUES FROM (0) TO (10);
ALTER TABLE loose DETACH PARTITION loose_1;
ALTER TABLE loose DISABLE TRIGGER ALL;
ALTER TABLE loose ADD COLUMN extra text DEFAULT 'forged';
ALTER TABLE loose RENAME COLUMN n TO m;
TRUNCATE loose;
DROP TABLE loose;
DELETE FROM loose;
ALTER TABLE loose ADD COLUMN extra text;
DROP TABLE loose_2;
SELECT * FROM loose;

-- inheritance: an unprotected parent reaches a protected child
CREATE TABLE base (n integer, note text);
CREATE TABLE middle () INHERITS (base);
CREATE TABLE derived () INHERITS (middle);
INSERT INTO derived VALUES (1, 'kept');
SELECT immutable.protect('derived');
ALTER TABLE base RENAME COLUMN note TO remark;
ALTER TABLE base DROP COLUMN note;
ALTER TABLE base ALTER COLUMN n TYPE bigint;
ALTER TABLE base ADD COLUMN extra text DEFAULT 'forged';
ALTER TABLE base DISABLE TRIGGER immutable_guard_row;
ALTER TABLE middle ADD COLUMN extra text DEFAULT 'forged';
ALTER TABLE derived NO INHERIT middle;
ALTER TABLE derived INHERIT base;
DROP TABLE middle CASCADE;
TRUNCATE base;
UPDATE base SET note = 'changed';
ALTER TABLE base ADD COLUMN extra text;
ALTER TABLE ONLY base ALTER COLUMN note SET DEFAULT 'x';
SELECT * FROM base;
-- and nobody's rows are to show in a protected one
CREATE TABLE stranger (n integer, note text, extra text);
ALTER TABLE stranger INHERIT derived;
CREATE TABLE child () INHERITS (derived);
CREATE TEMP TABLE child () INHERITS (derived);
CREATE FOREIGN TABLE child () INHERITS (derived) SERVER regress_ddl_parts;
CREATE SCHEMA guard_ddl_parts_3 CREATE TABLE child () INHERITS (guard_ddl_parts.derived);
CREATE TABLE child (LIKE derived) INHERITS (base);

SELECT rows = :'before' AS unchanged FROM checksum;
SELECT count(*), count(*) FILTER (WHERE armed) AS armed FROM immutable.protected_tables
WHERE relation::text !~ '^immutable\.';
RESET ROLE;
SELECT immutable.unprotect(t) FROM unnest('{p,loose_1,derived}'::regclass[]) t;
SELECT * FROM guards;
DROP SCHEMA guard_ddl_parts, guard_ddl_parts_2 CASCADE;
DROP FOREIGN DATA WRAPPER regress_ddl_parts CASCADE;
REVOKE CREATE ON DATABASE :"DBNAME" FROM regress_ddl_parts;
DROP ROLE regress_ddl_parts;
