-- context: immutable.context is merged into the metadata of what is appended.
\set SHOW_CONTEXT never
CREATE ROLE regress_context;
CREATE SCHEMA context AUTHORIZATION regress_context;
SET search_path = context;
SET ROLE regress_context;
SELECT immutable.create_log('ledger'), immutable.create_log('wide', 2);
SHOW immutable.context;

SELECT version FROM immutable.append('ledger', 'a', 'without');
SET immutable.context = '{"user": "ann", "request": 7}';
SELECT version FROM immutable.append('ledger', 'a', 'context alone');
SELECT version FROM immutable.append('ledger', 'a', 'both', '{}', '{"cause": "click"}');
SELECT version FROM immutable.append('ledger', 'a', 'the call wins', '{}', '{"user": "bob", "cause": null}');
SELECT version FROM immutable.append('ledger', 'a', 'empty metadata', '{}', '{}');
SET immutable.context = '{"nested": {"a": 1, "b": 2}}';
SELECT version FROM immutable.append('ledger', 'a', 'not merged deeper', '{}', '{"nested": {"a": 3}}');
SELECT version FROM immutable.append('wide', 'a', 'partitioned', '{}', '{"own": true}');
SET immutable.context = '{}';
SELECT version FROM immutable.append('ledger', 'a', 'empty object');
SET immutable.context = '';
SELECT version FROM immutable.append('ledger', 'a', 'empty string');

-- for one transaction, and undone with it
BEGIN;
SET LOCAL immutable.context = '{"user": "local"}';
SELECT version FROM immutable.append('ledger', 'a', 'local');
COMMIT;
SELECT version FROM immutable.append('ledger', 'a', 'after local');
BEGIN;
SET immutable.context = '{"user": "gone"}';
SAVEPOINT s;
SET LOCAL immutable.context = '{"user": "inner"}';
SELECT version FROM immutable.append('ledger', 'a', 'undone');
ROLLBACK TO s;
SELECT version FROM immutable.append('ledger', 'a', 'outer');
COMMIT;
BEGIN;
SET immutable.context = '{"user": "rolled back"}';
ROLLBACK;
SHOW immutable.context;
SELECT set_config('immutable.context', jsonb_build_object('user', current_user)::text, false);
SELECT version FROM immutable.append('ledger', 'a', 'set_config');
RESET immutable.context;
SHOW immutable.context;
SELECT version FROM immutable.append('ledger', 'a', 'after reset');

-- in a function of its own
CREATE FUNCTION by_system(stream text) RETURNS bigint LANGUAGE sql
SET immutable.context = '{"user": "system"}'
RETURN (immutable.append('context.ledger', stream, 'in function')).version;
SELECT by_system('a');
SELECT version, type, metadata FROM ledger ORDER BY position;
SELECT type, metadata FROM wide;

-- it must be a JSON object, and a refused value leaves the old one
SET immutable.context = '{"user": "kept"}';
SET immutable.context = 'not json';
\echo :SQLSTATE
SET immutable.context = '[1, 2]';
\echo :SQLSTATE
SET immutable.context = '"text"';
SET immutable.context = 'null';
SET immutable.context = '5';
SET immutable.context = ' ';
SET immutable.context = '{"user": "ann"';
SET immutable.context = '{"user": "\ud800"}';
\echo :SQLSTATE
SET LOCAL immutable.context = '{"user": "no transaction"}';
SELECT set_config('immutable.context', '[]', true);
\echo :SQLSTATE
CREATE FUNCTION bad() RETURNS integer LANGUAGE sql SET immutable.context = '[]' RETURN 1;
\echo :SQLSTATE
SHOW immutable.context;
BEGIN;
SET immutable.context = 'in a transaction';
ROLLBACK;
SELECT version FROM immutable.append('ledger', 'b', 't');
SELECT metadata FROM immutable.read_stream('ledger', 'b');

-- a value of a role is checked when it is set
RESET ROLE;
ALTER ROLE regress_context SET immutable.context = '[]';
\echo :SQLSTATE
ALTER ROLE regress_context SET immutable.context = '{"user": "role"}';
SELECT setconfig FROM pg_db_role_setting WHERE setrole = 'regress_context'::regrole;

-- the prefix is taken, so a misspelling is an error
SET immutable.contex = '{}';
\echo :SQLSTATE
SELECT name, setting, context, vartype FROM pg_settings WHERE name LIKE 'immutable.%' ORDER BY name;
SET immutable.import = 'maybe';
\echo :SQLSTATE

-- what a new session says before it calls anything here is heard as well
RESET ROLE;
\c -
SET immutable.context = '{"user": "early"}';
SET search_path = context;
SET ROLE regress_context;
SELECT version FROM immutable.append('ledger', 'c', 't');
SELECT metadata FROM immutable.read_stream('ledger', 'c');

RESET ROLE;
DROP FUNCTION by_system;
SELECT immutable.drop_log('ledger', force => true), immutable.drop_log('wide', force => true);
SET client_min_messages = warning;
DROP SCHEMA context CASCADE;
DROP ROLE regress_context;
