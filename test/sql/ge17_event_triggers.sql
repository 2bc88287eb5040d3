-- ge17_event_triggers: a superuser can turn event triggers off; appends notice what was done.
\set SHOW_CONTEXT never
CREATE SCHEMA ge17_event_triggers;
SET search_path = ge17_event_triggers;
SELECT immutable.create_log('ledger');
SELECT immutable.append('ledger', 's', 't');
SELECT uuid_extract_version(id) FROM ledger;

-- nobody else can
CREATE ROLE regress_ge17;
SET ROLE regress_ge17;
SET event_triggers = off;
\echo :SQLSTATE
RESET ROLE;

SET event_triggers = off;
UPDATE ledger SET version = 2;
\echo :SQLSTATE
ALTER TABLE ledger DISABLE TRIGGER immutable_guard_row;
RESET event_triggers;
SELECT armed FROM immutable.protected_tables WHERE relation = 'ledger'::regclass;
SELECT immutable.append('ledger', 's', 't');
\echo :SQLSTATE
-- a guard is made again
SELECT immutable.protect('ledger');
SELECT immutable.append('ledger', 's', 't');
SELECT armed FROM immutable.protected_tables WHERE relation = 'ledger'::regclass;

SELECT immutable.drop_log('ledger', force => true);
DROP SCHEMA ge17_event_triggers;
DROP ROLE regress_ge17;
