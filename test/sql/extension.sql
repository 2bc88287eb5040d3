-- extension: CREATE EXTENSION, what it makes, and DROP EXTENSION.
\set SHOW_CONTEXT never
SELECT current_database() AS test_database \gset
CREATE ROLE regress_extension;
CREATE DATABASE regress_immutable_extension TEMPLATE template0;
ALTER DATABASE regress_immutable_extension SET lc_messages = 'C';
GRANT CREATE ON DATABASE regress_immutable_extension TO regress_extension;
\c regress_immutable_extension

-- a schema planted beforehand is not taken over
CREATE SCHEMA immutable;
CREATE EXTENSION immutable_events;
\echo :SQLSTATE
SELECT count(*) FROM pg_extension WHERE extname = 'immutable_events';
DROP SCHEMA immutable;

-- a superuser's business, in a schema of its own
CREATE EXTENSION immutable_events SCHEMA public;
\echo :SQLSTATE
SET ROLE regress_extension;
CREATE EXTENSION immutable_events;
\echo :SQLSTATE
RESET ROLE;
CREATE EXTENSION immutable_events;
CREATE EXTENSION immutable_events;
\echo :SQLSTATE
ALTER EXTENSION immutable_events SET SCHEMA public;
\echo :SQLSTATE
SELECT e.extversion = a.default_version AS newest
FROM pg_extension e JOIN pg_available_extensions a ON a.name = e.extname
WHERE e.extname = 'immutable_events';

-- its members; array types and the row types of tables follow their owners
SELECT pg_describe_object(d.classid, d.objid, 0) AS member
FROM pg_depend d
JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
LEFT JOIN pg_type t ON d.classid = 'pg_type'::regclass AND t.oid = d.objid
LEFT JOIN pg_class c ON c.oid = t.typrelid
WHERE e.extname = 'immutable_events' AND d.deptype = 'e'
	AND (t.oid IS NULL OR (t.typcategory <> 'A' AND (c.oid IS NULL OR c.relkind = 'c')))
ORDER BY pg_describe_object(d.classid, d.objid, 0) COLLATE "C";

-- nothing of it outside its schema, and nothing of it that anybody may replace
SELECT nspname, nspowner::regrole = current_user::regrole AS owned_by_creator
FROM pg_namespace WHERE nspname = 'immutable';
SET ROLE regress_extension;
CREATE TABLE immutable.mine ();
CREATE OR REPLACE FUNCTION immutable._guard() RETURNS trigger
LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
RESET ROLE;

-- its own audit trail is protected from the first moment, and dumped
SELECT relation, armed, problem FROM immutable.protected_tables;
UPDATE immutable.guard_changes SET role = 'nobody';
\echo :SQLSTATE
DELETE FROM immutable.guard_changes;
TRUNCATE immutable.guard_changes;
SELECT extconfig::regclass[], extcondition FROM pg_extension WHERE extname = 'immutable_events';
SET ROLE regress_extension;
SELECT count(*) FROM immutable.guard_changes;
INSERT INTO immutable.guard_changes (relation, action, role, session_role)
VALUES ('t', 'unprotect', 'postgres', 'postgres');
\echo :SQLSTATE
RESET ROLE;

-- it does not go while tables lean on it
\set VERBOSITY terse
CREATE SCHEMA data AUTHORIZATION regress_extension;
SET ROLE regress_extension;
CREATE TABLE data.plain (n integer);
SELECT immutable.protect('data.plain');
RESET ROLE;
DROP EXTENSION immutable_events;
\echo :SQLSTATE
SELECT immutable.unprotect('data.plain');
SELECT immutable.create_log('data.ledger');
DROP EXTENSION immutable_events;
\echo :SQLSTATE
SELECT immutable.drop_log('data.ledger');

-- and then it leaves nothing behind, and can come back
DROP EXTENSION immutable_events;
SELECT to_regnamespace('immutable');
SELECT count(*) FROM data.plain;
CREATE EXTENSION immutable_events;
SELECT count(*) FROM immutable.guard_changes;

\c :test_database
DROP DATABASE regress_immutable_extension;
DROP ROLE regress_extension;
