-- ge17_guard: what PostgreSQL 17 added to MERGE changes no immutable row either.
\set SHOW_CONTEXT never
CREATE ROLE regress_ge17_guard;
CREATE SCHEMA ge17_guard AUTHORIZATION regress_ge17_guard;
SET search_path = ge17_guard;
SET ROLE regress_ge17_guard;
CREATE TABLE audit (id integer PRIMARY KEY, note text);
CREATE VIEW seen AS SELECT * FROM audit;
INSERT INTO audit VALUES (1, 'one'), (2, 'two');
SELECT immutable.protect('audit');

MERGE INTO audit USING (VALUES (1)) v(n) ON audit.id = v.n
WHEN NOT MATCHED BY SOURCE THEN DELETE;
\echo :SQLSTATE
MERGE INTO audit USING (VALUES (1)) v(n) ON audit.id = v.n
WHEN NOT MATCHED BY SOURCE THEN UPDATE SET note = 'changed';
\echo :SQLSTATE
-- no row is concerned, and it is refused all the same
MERGE INTO audit USING (VALUES (1), (2)) v(n) ON audit.id = v.n
WHEN NOT MATCHED BY SOURCE THEN DELETE;
\echo :SQLSTATE
MERGE INTO seen USING (VALUES (1)) v(n) ON seen.id = v.n
WHEN MATCHED THEN DELETE;
\echo :SQLSTATE
MERGE INTO seen USING (VALUES (1)) v(n) ON seen.id = v.n
WHEN MATCHED THEN UPDATE SET note = 'changed' RETURNING merge_action(), seen.id;
\echo :SQLSTATE

-- new rows are welcome
MERGE INTO audit USING (VALUES (2), (3)) v(n) ON audit.id = v.n
WHEN NOT MATCHED BY TARGET THEN INSERT VALUES (n, 'merged')
WHEN NOT MATCHED BY SOURCE THEN DO NOTHING
RETURNING merge_action(), audit.id;
SELECT * FROM audit ORDER BY id;

RESET ROLE;
SELECT immutable.unprotect('audit');
SET client_min_messages = warning;
DROP SCHEMA ge17_guard CASCADE;
DROP ROLE regress_ge17_guard;
