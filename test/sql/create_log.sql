-- create_log: what it makes, under which names, and what it refuses.
\set SHOW_CONTEXT never
CREATE ROLE regress_create_log;
CREATE ROLE regress_create_log_other;
CREATE SCHEMA create_log AUTHORIZATION regress_create_log;
CREATE SCHEMA "Odd.Schema ""s" AUTHORIZATION regress_create_log;
GRANT USAGE ON SCHEMA create_log TO regress_create_log_other;
SET search_path = create_log;
SET ROLE regress_create_log;

-- a plain log: a typed table, its indexes, its sequence, its guards
SELECT immutable.create_log('ledger');
SELECT relkind, reloftype::regtype, relowner::regrole, relpersistence
FROM pg_class WHERE oid = 'ledger'::regclass;
SELECT attnum, attname, atttypid::regtype, attnotnull, attcollation::regcollation,
	pg_get_expr(d.adbin, d.adrelid) AS "default"
FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE attrelid = 'ledger'::regclass AND attnum > 0 ORDER BY attnum;
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = 'ledger'::regclass AND contype <> 'n' ORDER BY conname;
SELECT indexdef FROM pg_indexes WHERE tablename = 'ledger' ORDER BY indexname COLLATE "C";
SELECT pg_get_serial_sequence('ledger', 'position');
SELECT seqtypid::regtype, seqstart, seqincrement, seqcache, seqcycle
FROM pg_sequence WHERE seqrelid = 'ledger_position_seq'::regclass;
SELECT relowner::regrole FROM pg_class WHERE oid = 'ledger_position_seq'::regclass;
SELECT relation, armed, problem FROM immutable.protected_tables WHERE relation = 'ledger'::regclass;
SELECT relation, action, role FROM immutable.guard_changes WHERE relation = 'create_log.ledger';
SELECT * FROM immutable.append('ledger', 's', 't');

-- without an index on ids
SELECT immutable.create_log('plain_ids', unique_ids => false);
SELECT pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = 'plain_ids'::regclass AND contype <> 'n' ORDER BY conname;

-- partitioned by stream
SELECT immutable.create_log('wide', partitions => 3);
SELECT relkind, reloftype::regtype, pg_get_partkeydef(oid) FROM pg_class WHERE oid = 'wide'::regclass;
SELECT c.oid::regclass AS leaf, pg_get_expr(c.relpartbound, c.oid), c.relowner::regrole
FROM pg_class c JOIN pg_inherits i ON c.oid = i.inhrelid
WHERE i.inhparent = 'wide'::regclass ORDER BY c.relname;
SELECT pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = 'wide'::regclass AND contype <> 'n' ORDER BY conname;
SELECT indexdef FROM pg_indexes WHERE tablename = 'wide' ORDER BY indexname COLLATE "C";
SELECT pg_get_serial_sequence('wide', 'position');
SELECT relation, armed FROM immutable.protected_tables
WHERE relation::text LIKE 'wide%' ORDER BY relation::text;
SELECT immutable.create_log('wide_any', 2, false);
SELECT pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = 'wide_any'::regclass AND contype <> 'n' ORDER BY conname;
SELECT immutable.create_log('one', 1);
SELECT * FROM immutable.append('one', 's', 't');

-- names as anywhere else in SQL
SELECT immutable.create_log('create_log.qualified');
SELECT immutable.create_log('UpperCase') AS folded;
SELECT immutable.create_log('"UpperCase"') AS kept;
SELECT immutable.create_log('"a b"') AS spaced;
SELECT immutable.create_log('"a.b"') AS dotted;
SELECT immutable.create_log('"say ""hi"" it''s"', 2) AS quoted;
SELECT immutable.create_log('"Odd.Schema ""s"."Odd.Log ""l"') AS both;
SELECT immutable.create_log('"select"') AS keyword;
SELECT * FROM immutable.append('"say ""hi"" it''s"', 's', 't');
SELECT * FROM immutable.append('"Odd.Schema ""s"."Odd.Log ""l"', 's', 't');
SELECT version, stream FROM immutable.read_stream('"Odd.Schema ""s"."Odd.Log ""l"', 's');
SELECT pg_get_serial_sequence('"Odd.Schema ""s"."Odd.Log ""l"', 'position');

-- 63 bytes fit, what is longer is cut as CREATE TABLE cuts it
SELECT length(immutable.create_log(repeat('x', 63), 2)::text);
SELECT length(immutable.create_log(repeat('y', 70))::text);
SELECT length(relname), count(DISTINCT relname) FROM pg_class
WHERE relname ~ '^[xy]{30}' AND relkind IN ('r', 'p', 'S') GROUP BY 1;
SELECT * FROM immutable.append(repeat('x', 63)::regclass, 's', 't');

-- refused, and nothing is left of it
SELECT immutable.create_log('ledger');
\echo :SQLSTATE
SELECT immutable.create_log('nowhere.ledger');
\echo :SQLSTATE
SELECT immutable.create_log('public.ledger');
\echo :SQLSTATE
SELECT immutable.create_log('pg_catalog.ledger');
\echo :SQLSTATE
SELECT immutable.create_log('immutable.ledger');
\echo :SQLSTATE
\set VERBOSITY terse
SELECT immutable.create_log('pg_temp.ledger');
\echo :SQLSTATE
\set VERBOSITY default
SELECT immutable.create_log('');
\echo :SQLSTATE
SELECT immutable.create_log('a b');
\echo :SQLSTATE
SELECT immutable.create_log('a.');
\echo :SQLSTATE
SELECT immutable.create_log('other_db.create_log.ledger');
\echo :SQLSTATE
SELECT immutable.create_log('a.b.c.d');
\echo :SQLSTATE
SELECT immutable.create_log(NULL);
\echo :SQLSTATE
SELECT immutable.create_log('refused', NULL);
\echo :SQLSTATE
SELECT immutable.create_log('refused', 0, NULL);
\echo :SQLSTATE
SELECT immutable.create_log('refused', -1);
\echo :SQLSTATE
SELECT immutable.create_log('refused', 1025);
\echo :SQLSTATE
CREATE TABLE refused_p1 ();
SELECT immutable.create_log('refused', 2);
\echo :SQLSTATE
SET search_path = '';
SELECT immutable.create_log('refused');
\echo :SQLSTATE
SET search_path = create_log;
SELECT relname FROM pg_class WHERE relname LIKE 'refused%' OR relname LIKE 'ledger%position_seq%' ORDER BY 1;
RESET ROLE;
SET ROLE regress_create_log_other;
SELECT immutable.create_log('create_log.mine');
\echo :SQLSTATE
RESET ROLE;

-- drop_log is for who was told that he may, and asks before it drops events
SET ROLE regress_create_log;
SELECT immutable.drop_log('ledger');
\echo :SQLSTATE
RESET ROLE;
GRANT EXECUTE ON FUNCTION immutable.drop_log TO regress_create_log, regress_create_log_other;
SET ROLE regress_create_log_other;
SELECT immutable.drop_log('create_log.ledger', force => true);
\echo :SQLSTATE
SET ROLE regress_create_log;
SELECT immutable.drop_log('ledger');
\echo :SQLSTATE
SELECT immutable.drop_log('ledger', NULL);
\echo :SQLSTATE
SELECT immutable.drop_log(NULL);
\echo :SQLSTATE
SELECT immutable.drop_log('wide_p0');
\echo :SQLSTATE
SELECT immutable.drop_log('refused_p1');
\echo :SQLSTATE
SELECT immutable.drop_log('ledger', force => true);
SELECT to_regclass('ledger'), to_regclass('ledger_position_seq');
SELECT immutable.drop_log('wide');
SELECT to_regclass('wide'), to_regclass('wide_p0');
SELECT action FROM immutable.guard_changes
WHERE relation = 'create_log.ledger' ORDER BY changed_at;

RESET ROLE;
REVOKE EXECUTE ON FUNCTION immutable.drop_log FROM regress_create_log, regress_create_log_other;
SELECT count(immutable.drop_log(oid, force => true)) FROM (SELECT oid FROM pg_class
	WHERE reloftype = 'immutable.event'::regtype AND relowner = 'regress_create_log'::regrole OFFSET 0) logs;
SET client_min_messages = warning;
DROP SCHEMA create_log, "Odd.Schema ""s" CASCADE;
DROP ROLE regress_create_log, regress_create_log_other;
