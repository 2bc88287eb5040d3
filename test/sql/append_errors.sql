-- append_errors: bad input is refused before anything is written.
\set SHOW_CONTEXT never
CREATE ROLE regress_errors;
CREATE ROLE regress_errors_other;
CREATE SCHEMA append_errors AUTHORIZATION regress_errors;
GRANT USAGE ON SCHEMA append_errors TO regress_errors_other;
SET search_path = append_errors;
SET ROLE regress_errors;
SELECT immutable.create_log('ledger');
SELECT immutable.create_log('wide', partitions => 3);
SELECT version FROM immutable.append('ledger', 's', 't');

-- arguments
SELECT immutable.append(NULL, 's', 't');
\echo :SQLSTATE
SELECT immutable.append('ledger', NULL, 't');
\echo :SQLSTATE
SELECT immutable.append('ledger', '', 't');
\echo :SQLSTATE
SELECT immutable.append('ledger', repeat('s', 1025), 't');
\echo :SQLSTATE
SELECT immutable.append('ledger', 's', NULL);
\echo :SQLSTATE
SELECT immutable.append('ledger', 's', '');
\echo :SQLSTATE
SELECT immutable.append('ledger', 's', '$deleted');
\echo :SQLSTATE
SELECT immutable.append('ledger', 's', '$');
SELECT immutable.append('ledger', 's', 't', NULL);
\echo :SQLSTATE
SELECT immutable.append('ledger', 's', 't', '[]');
\echo :SQLSTATE
SELECT immutable.append('ledger', 's', 't', '"text"');
SELECT immutable.append('ledger', 's', 't', 'null');
SELECT immutable.append('ledger', 's', 't', '{}', '[1]');
\echo :SQLSTATE
SELECT immutable.append('ledger', 's', 't', '{}', '5');
SELECT immutable.append('ledger', 's', 't', schema_version => NULL);
\echo :SQLSTATE
SELECT immutable.append('ledger', 's', 't', schema_version => 0);
\echo :SQLSTATE
SELECT immutable.append('ledger', 's', 't', schema_version => -1);
SELECT immutable.append('ledger', 's', 't', expected_version => -1);
\echo :SQLSTATE
SELECT immutable.append('ledger', 's', 't', expected_version => -2);
SELECT immutable.append('ledger', 's', 't', expected_version => -3);
SELECT immutable.append('ledger', 's', 't', expected_version => -5);
SELECT immutable.append('wide', NULL, 't');
\echo :SQLSTATE
SELECT immutable.append('wide', '', 't');

-- relations that are no logs
CREATE TABLE ordinary (LIKE ledger);
CREATE VIEW seen AS SELECT * FROM ledger;
CREATE MATERIALIZED VIEW held AS SELECT * FROM ledger;
SELECT immutable.append('ordinary', 's', 't');
\echo :SQLSTATE
SELECT immutable.append('seen', 's', 't');
\echo :SQLSTATE
SELECT immutable.append('held', 's', 't');
SELECT immutable.append('wide_p0', 's', 't');
\echo :SQLSTATE
SELECT immutable.append('ledger_pkey', 's', 't');
\echo :SQLSTATE
SELECT immutable.append('ledger_position_seq', 's', 't');
SELECT immutable.append('immutable.event', 's', 't');
SELECT immutable.append('pg_class', 's', 't');
SELECT immutable.append('nowhere', 's', 't');
\echo :SQLSTATE
SELECT immutable.append(1::oid, 's', 't');
\echo :SQLSTATE
DROP VIEW seen;
DROP MATERIALIZED VIEW held;

-- a typed table alone is a log without guards
CREATE TABLE bare OF immutable.event;
SELECT immutable.append('bare', 's', 't');
\echo :SQLSTATE

-- privilege
RESET ROLE;
SET ROLE regress_errors_other;
SELECT immutable.append('ledger', 's', 't');
\echo :SQLSTATE
SELECT immutable.append('wide', 's', 't');
\echo :SQLSTATE
RESET ROLE;
SET ROLE regress_errors;
GRANT SELECT, UPDATE, DELETE ON ledger TO regress_errors_other;
GRANT INSERT (stream, type, data) ON ledger TO regress_errors_other;
RESET ROLE;
SET ROLE regress_errors_other;
SELECT immutable.append('ledger', 's', 't');
\echo :SQLSTATE
RESET ROLE;
REVOKE EXECUTE ON FUNCTION immutable.append FROM PUBLIC;
SET ROLE regress_errors;
SELECT immutable.append('ledger', 's', 't');
\echo :SQLSTATE
RESET ROLE;
GRANT EXECUTE ON FUNCTION immutable.append TO PUBLIC;
SET ROLE regress_errors;

-- a transaction that may not write
BEGIN READ ONLY;
SELECT immutable.append('ledger', 's', 't');
\echo :SQLSTATE
ROLLBACK;
BEGIN READ ONLY;
SELECT immutable.append('wide', 's', 't');
ROLLBACK;

-- nothing of all that was written, and no position was drawn for it
SELECT version, position FROM immutable.append('ledger', 's', 't');
SELECT version, position FROM immutable.append('wide', 's', 't');
SELECT count(*) FROM ledger;

-- a log that is dropped, and one of the same name that takes its place
CREATE FUNCTION add() RETURNS bigint LANGUAGE plpgsql AS
'BEGIN RETURN (immutable.append(''append_errors.ledger'', ''s'', ''t'')).version; END';
PREPARE add AS SELECT version FROM immutable.append('ledger', 's', 't');
SELECT add();
EXECUTE add;
SELECT 'ledger'::regclass::oid AS gone \gset
RESET ROLE;
SELECT immutable.drop_log('ledger', force => true);
SET ROLE regress_errors;
\set VERBOSITY sqlstate
SELECT add();
EXECUTE add;
SELECT immutable.append(:gone, 's', 't');
SELECT immutable.read_stream(:gone, 's');
\set VERBOSITY default
SELECT immutable.create_log('ledger', partitions => 2);
SELECT add();
EXECUTE add;
RESET ROLE;
SELECT immutable.drop_log('ledger', force => true);
SET ROLE regress_errors;
SELECT immutable.create_log('ledger');
SELECT add();
EXECUTE add;
SELECT version, position FROM ledger ORDER BY position;
ALTER TABLE ledger RENAME TO renamed;
\set VERBOSITY sqlstate
SELECT add();
\set VERBOSITY default
SELECT version FROM immutable.append('renamed', 's', 't');
ALTER TABLE wide RENAME TO wide_renamed;
SELECT version FROM immutable.append('wide_renamed', 's', 't');

RESET ROLE;
SELECT immutable.drop_log('renamed', force => true), immutable.drop_log('wide_renamed', force => true);
SET client_min_messages = warning;
DROP SCHEMA append_errors CASCADE;
DROP ROLE regress_errors, regress_errors_other;
