-- guard: what a protected table accepts, and what it refuses to anybody.
\set SHOW_CONTEXT never
CREATE ROLE regress_guard;
CREATE SCHEMA guard AUTHORIZATION regress_guard;
SET search_path = guard;
SET ROLE regress_guard;
CREATE TABLE audit (id integer PRIMARY KEY, note text);
INSERT INTO audit VALUES (1, 'before');
SELECT immutable.protect('audit');
SELECT relation, armed, problem FROM immutable.protected_tables
WHERE relation = 'audit'::regclass;

-- new rows come in by every road
INSERT INTO audit VALUES (2, 'insert');
COPY audit FROM stdin;
3	copy
\.
INSERT INTO audit VALUES (3, 'again'), (4, 'do nothing') ON CONFLICT DO NOTHING;
MERGE INTO audit USING (VALUES (4), (5)) v(n) ON audit.id = v.n
WHEN MATCHED THEN DO NOTHING
WHEN NOT MATCHED THEN INSERT VALUES (n, 'merge');
WITH more AS (INSERT INTO audit VALUES (6, 'with') RETURNING id) SELECT * FROM more;
PREPARE add AS INSERT INTO audit VALUES ($1, $2);
EXECUTE add(7, 'prepared');
SELECT id FROM audit WHERE id = 1 FOR UPDATE;

-- no change, of no row, by no verb
UPDATE audit SET note = 'changed' WHERE id = 1;
\echo :SQLSTATE
UPDATE audit SET note = 'changed' WHERE false;
\echo :SQLSTATE
DELETE FROM audit WHERE id = 1;
\echo :SQLSTATE
DELETE FROM audit WHERE false;
TRUNCATE audit;
\echo :SQLSTATE
INSERT INTO audit VALUES (1, 'changed') ON CONFLICT (id) DO UPDATE SET note = excluded.note;
\echo :SQLSTATE
INSERT INTO audit VALUES (8, 'new') ON CONFLICT (id) DO UPDATE SET note = excluded.note;
MERGE INTO audit USING (VALUES (1)) v(n) ON audit.id = v.n
WHEN MATCHED THEN UPDATE SET note = 'changed';
\echo :SQLSTATE
MERGE INTO audit USING (VALUES (1)) v(n) ON audit.id = v.n
WHEN MATCHED THEN DELETE;
\echo :SQLSTATE
MERGE INTO audit USING (VALUES (9)) v(n) ON audit.id = v.n
WHEN MATCHED THEN DELETE
WHEN NOT MATCHED THEN INSERT VALUES (n, 'merge');
\echo :SQLSTATE
WITH gone AS (DELETE FROM audit RETURNING *) SELECT count(*) FROM gone;
WITH changed AS (UPDATE audit SET note = upper(note) RETURNING *) SELECT count(*) FROM changed;
PREPARE change AS UPDATE audit SET note = $2 WHERE id = $1;
EXECUTE change(1, 'changed');
CREATE VIEW window_on_audit AS SELECT * FROM audit;
UPDATE window_on_audit SET note = 'changed';
DELETE FROM window_on_audit;
DO $$ BEGIN UPDATE guard.audit SET note = 'changed'; END $$;

-- drivers read the table and its schema from the error's own fields
DO $$
DECLARE
	code text; tab text; sch text; msg text; det text; hin text;
BEGIN
	DELETE FROM guard.audit;
EXCEPTION WHEN restrict_violation THEN
	GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, tab = TABLE_NAME, sch = SCHEMA_NAME,
		msg = MESSAGE_TEXT, det = PG_EXCEPTION_DETAIL, hin = PG_EXCEPTION_HINT;
	RAISE NOTICE '% | % | % | % | % | %', code, sch, tab, msg, det, hin;
END $$;

-- a refusal costs a savepoint, not the transaction
BEGIN;
INSERT INTO audit VALUES (10, 'kept');
SAVEPOINT s;
DELETE FROM audit;
ROLLBACK TO s;
COMMIT;

-- nor does a cascade reach in
CREATE TABLE parent (name text PRIMARY KEY);
INSERT INTO parent VALUES ('a'), ('b'), ('childless');
CREATE TABLE child (name text REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE nulled (name text REFERENCES parent ON DELETE SET NULL);
INSERT INTO child VALUES ('a');
INSERT INTO nulled VALUES ('b');
SELECT immutable.protect('child'), immutable.protect('nulled');
INSERT INTO child VALUES ('a');
DELETE FROM parent WHERE name = 'a';
\echo :SQLSTATE
UPDATE parent SET name = 'z' WHERE name = 'a';
\echo :SQLSTATE
DELETE FROM parent WHERE name = 'b';
DELETE FROM parent WHERE name = 'childless';
TRUNCATE parent CASCADE;
\echo :SQLSTATE
SELECT count(*) FROM parent;

-- the superuser is refused too, and so is a session that plays replica
RESET ROLE;
UPDATE audit SET note = 'changed' WHERE id = 1;
TRUNCATE audit;
SET session_replication_role = replica;
UPDATE audit SET note = 'changed' WHERE id = 1;
\echo :SQLSTATE
DELETE FROM audit;
TRUNCATE audit;
INSERT INTO audit VALUES (11, 'replica');
RESET session_replication_role;

SELECT * FROM audit ORDER BY id;
SELECT immutable.unprotect('audit'), immutable.unprotect('child'), immutable.unprotect('nulled');
UPDATE audit SET note = 'free' WHERE id = 1;
DELETE FROM audit WHERE id > 1;
SELECT * FROM audit;
SET client_min_messages = warning;
DROP SCHEMA guard CASCADE;
DROP ROLE regress_guard;
