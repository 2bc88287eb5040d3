-- import: the owner may bring rows into a log as they were, on record.
\set SHOW_CONTEXT never
CREATE ROLE regress_import;
CREATE ROLE regress_importer;
CREATE SCHEMA import AUTHORIZATION regress_import;
GRANT USAGE ON SCHEMA import TO regress_importer;
SET search_path = import;
SET ROLE regress_import;
SELECT immutable.create_log('ledger'), immutable.create_log('wide', 3);
GRANT SELECT, INSERT ON ledger, wide TO regress_importer;
CREATE FUNCTION event(pos bigint, ver bigint, stream text, type text DEFAULT 't', data jsonb DEFAULT '{}',
	metadata jsonb DEFAULT '{}', schema_version integer DEFAULT 1) RETURNS immutable.event
LANGUAGE sql RETURN ROW(pos, '2020-01-01 00:00:00+00'::timestamptz + pos * interval '1 day', ver,
	md5(pos::text)::uuid, schema_version, stream, type, data, metadata)::immutable.event;
CREATE VIEW audit AS SELECT relation, role, count(*) FROM immutable.guard_changes
	WHERE action = 'import' AND relation LIKE 'import.%' GROUP BY 1, 2 ORDER BY 1, 2;

-- without the setting a log takes no row, not even from its owner
INSERT INTO ledger SELECT (event(1, 1, 'a')).*;
\echo :SQLSTATE
SHOW immutable.import;

-- with it INSERT and COPY bring any, and append goes on behind them
BEGIN;
SET LOCAL immutable.import = on;
INSERT INTO ledger SELECT (event(10, 1, 'a')).*;
INSERT INTO ledger SELECT (event(20 + n, 1 + n, 'a')).* FROM generate_series(1, 3) n;
COPY ledger FROM stdin;
40	2021-06-01 12:00:00+00	1	00000000-0000-0000-0000-000000000040	2	b	copied	{"n": 40}	{"by": "copy"}
41	2021-06-01 12:00:00+00	2	00000000-0000-0000-0000-000000000041	2	b	copied	{"n": 41}	{"by": "copy"}
\.
COMMIT;
SHOW immutable.import;
SELECT * FROM immutable.append('ledger', 'a', 'appended', expected_version => 4);
SELECT * FROM immutable.append('ledger', 'b', 'appended', expected_version => 2);
SELECT position, version, schema_version, stream, type, data, metadata FROM ledger ORDER BY position;
SELECT position, recorded_at AT TIME ZONE 'UTC' FROM ledger WHERE type <> 'appended' ORDER BY position;
SELECT * FROM audit;

-- the sequence follows the highest position, and never goes back
BEGIN;
SET LOCAL immutable.import = on;
INSERT INTO ledger SELECT (event(5, 1, 'early')).*;
INSERT INTO ledger SELECT (event(100, 1, 'late')).*;
INSERT INTO ledger SELECT (event(90, 1, 'between')).*;
COMMIT;
SELECT last_value, is_called FROM ledger_position_seq;
SELECT position FROM immutable.append('ledger', 'c', 't');

-- an import and an append in one transaction
BEGIN;
SELECT version FROM immutable.append('ledger', 'd', 't');
SET LOCAL immutable.import = on;
INSERT INTO ledger SELECT (event(200, 2, 'd')).*;
SELECT version, position FROM immutable.append('ledger', 'd', 't');
COMMIT;
SELECT string_agg(version || '/' || position, ' ' ORDER BY version) FROM immutable.read_stream('ledger', 'd');

-- partitioned: on record once, whatever leaves the rows go to
BEGIN;
SET LOCAL immutable.import = on;
INSERT INTO wide SELECT (event(n, 1, 's' || n)).* FROM generate_series(1, 50) n;
COMMIT;
SELECT position FROM immutable.append('wide', 's1', 't', expected_version => 1);
SELECT * FROM audit WHERE relation LIKE 'import.wide%';
BEGIN;
SET LOCAL immutable.import = on;
DO $$ BEGIN EXECUTE (SELECT format('INSERT INTO %s SELECT ($1).*', tableoid::regclass) FROM wide WHERE stream = 's2')
	USING event(60, 2, 's2'); END $$;
COMMIT;
SELECT version, position FROM immutable.append('wide', 's2', 't');
SELECT count(DISTINCT position) = count(*) AS each_position_once FROM wide;
SELECT * FROM audit WHERE relation LIKE 'import.wide%';

-- each row is as valid as an appended one
\set VERBOSITY terse
SET immutable.import = on;
INSERT INTO ledger SELECT (event(300, 1, '')).*;
\echo :SQLSTATE
INSERT INTO ledger SELECT (event(300, 1, repeat('s', 1025))).*;
\echo :SQLSTATE
INSERT INTO ledger SELECT (event(300, 1, 'x', type => '')).*;
INSERT INTO ledger SELECT (event(300, 1, 'x', type => '$x')).*;
\echo :SQLSTATE
INSERT INTO ledger SELECT (event(300, 1, 'x', data => '[]')).*;
\echo :SQLSTATE
INSERT INTO ledger SELECT (event(300, 1, 'x', metadata => '7')).*;
INSERT INTO ledger SELECT (event(300, 1, 'x', schema_version => 0)).*;
\echo :SQLSTATE
INSERT INTO ledger SELECT (event(0, 1, 'x')).*;
\echo :SQLSTATE
INSERT INTO ledger SELECT (event(-5, 1, 'x')).*;
INSERT INTO ledger SELECT (event(300, 0, 'x')).*;
\echo :SQLSTATE
INSERT INTO ledger SELECT (event(300, 1, NULL)).*;
\echo :SQLSTATE
INSERT INTO ledger SELECT (event(300, NULL, 'x')).*;
INSERT INTO ledger SELECT (event(300, 1, 'x', data => NULL)).*;
INSERT INTO ledger SELECT (event(300, 1, 'x', metadata => NULL)).*;
INSERT INTO ledger SELECT (event(300, 1, 'a')).*;
\echo :SQLSTATE
INSERT INTO ledger SELECT (event(10, 1, 'x')).*;
\echo :SQLSTATE
INSERT INTO ledger (stream, type) VALUES ('x', 't');
INSERT INTO wide SELECT (event(300, 1, 'x', data => '[]')).*;
\echo :SQLSTATE
\set VERBOSITY sqlstate
INSERT INTO wide SELECT (event(300, 1, 's1')).*;
\set VERBOSITY terse
-- only new rows: nothing else is let through
UPDATE ledger SET type = 'changed';
\echo :SQLSTATE
DELETE FROM ledger;
TRUNCATE ledger;
INSERT INTO ledger SELECT (event(10, 1, 'a')).* ON CONFLICT (position) DO UPDATE SET type = 'changed';
\echo :SQLSTATE
INSERT INTO ledger SELECT (event(10, 1, 'a')).* ON CONFLICT DO NOTHING;
SELECT position FROM immutable.append('ledger', 'x', 't');
SELECT count(*) FROM ledger;

-- only the owner, and roles that are the owner
RESET ROLE;
SET ROLE regress_importer;
SHOW immutable.import;
INSERT INTO import.ledger SELECT * FROM import.ledger LIMIT 1;
\echo :SQLSTATE
INSERT INTO import.wide SELECT * FROM import.wide LIMIT 1;
\echo :SQLSTATE
SELECT count(*) FROM immutable.append('import.ledger', 'x', 't');
RESET ROLE;
GRANT regress_import TO regress_importer;
SET ROLE regress_importer;
INSERT INTO import.ledger SELECT (import.event(400, 3, 'x')).*;
RESET ROLE;
RESET immutable.import;
SET ROLE regress_import;
SELECT * FROM audit WHERE role = 'regress_importer';

-- what is rolled back leaves no row and no record, an unrecorded row is not to be had
BEGIN;
SET LOCAL immutable.import = on;
SAVEPOINT s;
INSERT INTO ledger SELECT (event(500, 1, 'undone')).*;
ROLLBACK TO s;
INSERT INTO ledger SELECT (event(501, 1, 'kept')).*;
COMMIT;
BEGIN;
SET LOCAL immutable.import = on;
INSERT INTO ledger SELECT (event(502, 1, 'undone')).*;
ROLLBACK;
SELECT stream FROM ledger WHERE position > 500;
SELECT * FROM audit;

-- what consumers have been shown, and what was recorded as safe, is closed; the rest is not
SELECT immutable.create_log('shown'), immutable.create_log('recorded', 2);
SET immutable.import = on;
INSERT INTO shown SELECT (event(10 * n, n, 'a')).* FROM generate_series(1, 5) n;
INSERT INTO recorded SELECT (event(10 * n, n, 'a')).* FROM generate_series(1, 5) n;
RESET immutable.import;
SELECT immutable.create_consumer('import_done', 'shown', after_position => 0, shards => 2);
BEGIN;
SELECT count(*) FROM immutable.poll('import_done', 3, shard => immutable._shard('a', 2));
SELECT immutable.ack('import_done', 20);
COMMIT;
SET immutable.import = on;
INSERT INTO shown SELECT (event(15, 1, 'b')).*;
\echo :SQLSTATE
\set VERBOSITY default
COPY shown FROM stdin;
19	2021-06-01 12:00:00+00	1	00000000-0000-0000-0000-000000000019	1	b	copied	{}	{}
\.
\echo :SQLSTATE
\set VERBOSITY terse
INSERT INTO shown SELECT (event(25, 1, 'b')).*;
INSERT INTO shown SELECT (event(45, 2, 'b')).*;
-- it comes to the consumer in its place
BEGIN;
SELECT position FROM immutable.poll('import_done', shard => immutable._shard('b', 2));
ROLLBACK;
-- handed out under a lease is shown
SELECT max(position) AS last FROM immutable.poll('import_done', 2, lease => '1 hour', shard => immutable._shard('a', 2)) \gset
INSERT INTO shown SELECT (event(26, 1, 'c')).*;
\echo :SQLSTATE
-- also once it is done
SELECT immutable.ack('import_done', :last);
INSERT INTO shown SELECT (event(39, 1, 'c')).*;
\echo :SQLSTATE
-- a safe position that was recorded
INSERT INTO recorded SELECT (event(35, 1, 'b')).*;
SELECT immutable.persist_safe_position('recorded');
INSERT INTO recorded SELECT (event(36, 2, 'b')).*;
\echo :SQLSTATE
INSERT INTO recorded SELECT (event(51, 2, 'b')).*;
RESET immutable.import;
SELECT position, stream FROM immutable.read_log('recorded');
-- while it goes on, what it brings is told to nobody
BEGIN;
SET LOCAL immutable.import = on;
INSERT INTO recorded SELECT (event(70, 3, 'b')).*;
INSERT INTO recorded SELECT (event(60, 1, 'c')).*;
SELECT immutable.safe_position('recorded'), immutable.persist_safe_position('recorded');
SELECT position FROM immutable.read_log('recorded', 50);
COMMIT;
SELECT immutable.safe_position('recorded'), (SELECT position FROM immutable.safe_positions WHERE log = 'recorded'::regclass);
SELECT immutable.persist_safe_position('recorded');
-- nor does it go back behind what it has recorded itself
BEGIN;
SET LOCAL immutable.import = on;
INSERT INTO recorded SELECT (event(80, 2, 'c')).*;
SELECT immutable.persist_safe_position('recorded');
INSERT INTO recorded SELECT (event(75, 1, 'd')).*;
\echo :SQLSTATE
ROLLBACK;

-- sync_position: for rows that came another way, the sequence follows
SELECT setval('recorded_position_seq', 5);
SELECT immutable.append('recorded', 'd', 't');
\echo :SQLSTATE
SELECT immutable.sync_position('recorded');
SELECT position FROM immutable.append('recorded', 'd', 't');

RESET ROLE;
DROP VIEW audit;
SELECT immutable.drop_log('shown', force => true), immutable.drop_log('recorded', force => true);
SELECT immutable.drop_log('ledger', force => true), immutable.drop_log('wide', force => true);
SET client_min_messages = warning;
DROP SCHEMA import CASCADE;
DROP ROLE regress_import, regress_importer;
