-- snapshots: states that replay keeps and begins from.
\set SHOW_CONTEXT never
CREATE ROLE regress_snapshot;
CREATE ROLE regress_snapshot_reader;
CREATE SCHEMA snapshot AUTHORIZATION regress_snapshot;
GRANT USAGE ON SCHEMA snapshot TO regress_snapshot_reader;
SET search_path = snapshot;
SET ROLE regress_snapshot;
SELECT immutable.create_log('ledger'), immutable.create_log('wide', 3);
CREATE FUNCTION total(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN state + (e.data->>'n')::bigint;
-- append so many events, each of 1, and replay
CREATE FUNCTION grow(log regclass, name text, n integer) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. n LOOP
		PERFORM immutable.append(log, name, 't', '{"n": 1}');
	END LOOP;
	RETURN immutable.replay(log, name, 0::bigint, 'snapshot.total');
END $$;
-- append without
CREATE FUNCTION append(log regclass, name text, n integer) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. n LOOP
		PERFORM immutable.append(log, name, 't', '{"n": 1}');
	END LOOP;
	RETURN n;
END $$;

-- the registry and the table
SELECT immutable.enable_snapshots('ledger', 'total', 10), immutable.enable_snapshots('wide', 'total', 10);
SELECT log, reducer, every, reducer_version, storage FROM immutable.snapshots ORDER BY log::text;
SELECT attname, format_type(atttypid, NULL), attnotnull, collname FROM pg_attribute LEFT JOIN pg_collation c ON c.oid = attcollation
WHERE attrelid = 'ledger_snapshots'::regclass AND attnum > 0 ORDER BY attnum;
SELECT indexdef FROM pg_indexes WHERE tablename = 'ledger_snapshots';
SELECT immutable.enable_snapshots('ledger', 'total', 5), immutable.enable_snapshots('ledger', 'total', 10);
SELECT every FROM immutable.snapshots WHERE log = 'ledger'::regclass;

-- taken after so many events since the last one, of whole streams only
CREATE FUNCTION taken() RETURNS TABLE (log text, stream text, version bigint, state text) LANGUAGE sql AS
$$SELECT 'ledger' AS log, stream, version, state FROM ledger_snapshots UNION ALL SELECT 'wide', stream, version, state FROM wide_snapshots$$;
SELECT grow('ledger', 'a', 9);
SELECT * FROM taken();
SELECT append('ledger', 'a', 1);
SELECT immutable.replay('ledger', 'a', 0::bigint, 'total', upto_version => 10), immutable.replay('ledger', 'a', 0::bigint, 'total', as_of => 'infinity');
SELECT * FROM taken();
SELECT immutable.replay('ledger', 'a', 0::bigint, 'total'), immutable.replay('ledger', 'a', 0::bigint, 'total');
SELECT * FROM taken();
SELECT grow('ledger', 'a', 9);
SELECT * FROM taken();
SELECT grow('ledger', 'a', 6);
SELECT * FROM taken();
SELECT grow('wide', 'w', 12);
SELECT immutable.replay('wide', 'w', 0::bigint, 'total'), immutable.replay('wide', 'nobody', 7::bigint, 'total');
SELECT * FROM taken() ORDER BY log;

-- and begun from: what it says is believed, so a false one shows
UPDATE ledger_snapshots SET state = '1000';
SELECT grow('ledger', 'a', 3);
SELECT upto, immutable.replay('ledger', 'a', 0::bigint, 'total', upto) FROM (VALUES (0::bigint), (24), (25), (26), (28), (100)) v(upto);
-- a time counts for each event, so only where all events of the snapshot come before it
SELECT immutable.replay('ledger', 'a', 0::bigint, 'total', as_of => recorded_at) FROM ledger_snapshots;
SELECT immutable.replay('ledger', 'a', 0::bigint, 'total', as_of => recorded_at - interval '1 us') < 25 AS cut FROM ledger_snapshots;
SELECT immutable.replay('ledger', 'a', 0::bigint, 'total', as_of => '-infinity');
-- other states to begin with have snapshots of their own
SELECT immutable.replay('ledger', 'a', 1::bigint, 'total'), immutable.replay('ledger', 'a', NULL::bigint, 'total');
SELECT stream, version, state FROM ledger_snapshots ORDER BY version, state;
SELECT immutable.replay('ledger', 'a', 1::bigint, 'total'), immutable.replay('ledger', 'a', NULL::bigint, 'total'), immutable.replay('ledger', 'a', 0::bigint, 'total');
-- as many of them as are used
SELECT sum(immutable.replay('ledger', 'a', i, 'total')) FROM generate_series(1::bigint, 30) i;
SELECT count(*) FROM ledger_snapshots;
SELECT append('ledger', 'a', 10);
SELECT sum(immutable.replay('ledger', 'a', i, 'total')) FROM generate_series(0::bigint, 30) i;
SELECT immutable.replay('ledger', 'a', 99::bigint, 'total'), count(*) FROM ledger_snapshots;
SELECT count(*) FROM ledger_snapshots;
-- the same stream twice in a query: once is enough
SELECT append('ledger', 'twice', 10);
SELECT sum(immutable.replay('ledger', 'twice', 0::bigint, 'total')) FROM generate_series(1, 20);
SELECT count(*) FROM ledger_snapshots WHERE stream = 'twice';

-- another version of the reducer, by the user's word
UPDATE ledger_snapshots SET state = '1000';
SELECT immutable.replay('ledger', 'twice', 0::bigint, 'total'), immutable.enable_snapshots('ledger', 'total', 10, 2);
SELECT immutable.replay('ledger', 'twice', 0::bigint, 'total');
SELECT stream, version, state FROM ledger_snapshots WHERE stream = 'twice';
BEGIN;
SELECT immutable.enable_snapshots('ledger', 'total', 10, 3);
UPDATE ledger_snapshots SET state = '1000' WHERE stream = 'twice';
SELECT immutable.replay('ledger', 'twice', 0::bigint, 'total');
ROLLBACK;
UPDATE ledger_snapshots SET state = '1000' WHERE stream = 'twice';
SELECT immutable.replay('ledger', 'twice', 0::bigint, 'total');

-- savepoints: a snapshot goes with the events that it is of
BEGIN;
SAVEPOINT events;
SELECT append('ledger', 's', 12);
SAVEPOINT snapshot;
SELECT immutable.replay('ledger', 's', 0::bigint, 'total');
SELECT version FROM ledger_snapshots WHERE stream = 's';
ROLLBACK TO snapshot;
SELECT version FROM ledger_snapshots WHERE stream = 's';
SELECT immutable.replay('ledger', 's', 0::bigint, 'total');
SELECT version FROM ledger_snapshots WHERE stream = 's';
ROLLBACK TO events;
SELECT version FROM ledger_snapshots WHERE stream = 's';
SELECT immutable.replay('ledger', 's', 0::bigint, 'total');
SAVEPOINT again;
SELECT append('ledger', 's', 11);
RELEASE again;
SELECT immutable.replay('ledger', 's', 0::bigint, 'total');
COMMIT;
SELECT version, state FROM ledger_snapshots WHERE stream = 's';
SELECT immutable.replay('ledger', 's', 0::bigint, 'total');

-- where nothing may be written, nothing is; it is read all the same
SELECT append('ledger', 'r', 10), append('ledger', 's', 10);
UPDATE ledger_snapshots SET state = '1000' WHERE stream = 's';
BEGIN READ ONLY;
SELECT immutable.replay('ledger', 'r', 0::bigint, 'total'), immutable.replay('ledger', 's', 0::bigint, 'total');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT immutable.replay('ledger', 'r', 0::bigint, 'total'), immutable.replay('ledger', 's', 0::bigint, 'total');
COMMIT;
SELECT stream, version FROM ledger_snapshots WHERE stream IN ('r', 's');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT immutable.replay('ledger', 'r', 0::bigint, 'total');
COMMIT;
SELECT stream, version FROM ledger_snapshots WHERE stream IN ('r', 's');

-- privileges: of the table and of the log, and no policies
GRANT SELECT ON ledger TO regress_snapshot_reader;
SELECT grow('ledger', 'p', 10);
UPDATE ledger_snapshots SET state = '1000' WHERE stream = 'p';
SELECT append('ledger', 'p', 10);
RESET ROLE;
SET ROLE regress_snapshot_reader;
SELECT immutable.replay('ledger', 'p', 0::bigint, 'total') AS without_snapshot;
RESET ROLE;
GRANT SELECT ON ledger_snapshots TO regress_snapshot_reader;
SET ROLE regress_snapshot_reader;
SELECT immutable.replay('ledger', 'p', 0::bigint, 'total') AS from_snapshot;
SELECT version FROM ledger_snapshots WHERE stream = 'p';
RESET ROLE;
GRANT INSERT, DELETE ON ledger_snapshots TO regress_snapshot_reader;
SET ROLE regress_snapshot_reader;
SELECT immutable.replay('ledger', 'p', 0::bigint, 'total') AS from_snapshot;
SELECT version, state FROM ledger_snapshots WHERE stream = 'p';
RESET ROLE;
ALTER TABLE ledger_snapshots ENABLE ROW LEVEL SECURITY;
SET ROLE regress_snapshot_reader;
SELECT immutable.replay('ledger', 'p', 0::bigint, 'total') AS without_snapshot;
RESET ROLE;
ALTER TABLE ledger_snapshots DISABLE ROW LEVEL SECURITY;
ALTER TABLE ledger ENABLE ROW LEVEL SECURITY;
CREATE POLICY half ON ledger FOR SELECT USING (version <= 15);
SET ROLE regress_snapshot_reader;
SELECT immutable.replay('ledger', 'p', 0::bigint, 'total') AS within_policy;
RESET ROLE;
ALTER TABLE ledger DISABLE ROW LEVEL SECURITY;
SET ROLE regress_snapshot;
SELECT version, state FROM ledger_snapshots WHERE stream = 'p';

-- the table is the owner's: as he changes it, it may be of no use any more, and does no harm
CREATE FUNCTION replayed() RETURNS text LANGUAGE sql AS
$$SELECT format('%s, %s', immutable.replay('ledger', 'p', 0::bigint, 'total') > 1000, immutable.replay('ledger', 'new', 0::bigint, 'total'))$$;
SELECT append('ledger', 'new', 10);
SELECT replayed();
DELETE FROM ledger_snapshots WHERE stream = 'new';
BEGIN;
ALTER TABLE ledger_snapshots RENAME TO elsewhere;
SELECT replayed();
SELECT count(*) FROM elsewhere WHERE stream = 'new';
ROLLBACK;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
CREATE FUNCTION after(change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE change;
	result := replayed();
	RAISE EXCEPTION 'undo' USING ERRCODE = 'ZZ000';
EXCEPTION WHEN SQLSTATE 'ZZ000' THEN
	RETURN result;
END $$;
SELECT change, after(change) FROM unnest(ARRAY[
	'CREATE INDEX ON ledger_snapshots (taken_at)',
	'ALTER TABLE ledger_snapshots SET UNLOGGED',
	'ALTER TABLE ledger_snapshots ADD COLUMN note text',
	'ALTER TABLE ledger_snapshots DROP COLUMN taken_at',
	'ALTER TABLE ledger_snapshots RENAME COLUMN state TO s',
	'ALTER TABLE ledger_snapshots ALTER COLUMN state SET NOT NULL',
	'ALTER TABLE ledger_snapshots ADD CHECK (length(state) < 2) NOT VALID',
	'CREATE UNIQUE INDEX ON ledger_snapshots (stream, settings, version)',
	'CREATE INDEX ON ledger_snapshots ((1 / length(state)))',
	'CREATE TRIGGER refuse BEFORE INSERT ON ledger_snapshots EXECUTE FUNCTION refuse()',
	'CREATE RULE nothing AS ON INSERT TO ledger_snapshots DO INSTEAD NOTHING',
	'DROP INDEX ledger_snapshots_stream_fingerprint_settings_version_idx',
	'TRUNCATE ledger_snapshots',
	'DROP TABLE ledger_snapshots']) change;
SELECT replayed();

-- dropped by hand, and made anew by enable
DROP TABLE ledger_snapshots;
SELECT immutable.replay('ledger', 'p', 0::bigint, 'total');
SELECT immutable.enable_snapshots('ledger', 'total', 10);
SELECT immutable.replay('ledger', 'p', 0::bigint, 'total');
SELECT stream, version, state FROM ledger_snapshots;
SELECT storage FROM immutable.snapshots WHERE log = 'ledger'::regclass;

-- an import may still fill a gap, so a stream with one has no snapshot
BEGIN;
SET LOCAL immutable.import = on;
INSERT INTO ledger SELECT 10000 + v, now(), v, md5(v::text)::uuid, 1, 'gap', 't', '{"n": 1}', '{}' FROM generate_series(1, 20) v WHERE v <> 5;
COMMIT;
SELECT immutable.replay('ledger', 'gap', 0::bigint, 'total');
SELECT count(*) FROM ledger_snapshots WHERE stream = 'gap';

-- without guards events may change: what was kept before does not count
SELECT immutable.replay('ledger', 'r', 0::bigint, 'total');
UPDATE ledger_snapshots SET state = '1000';
SELECT immutable.replay('ledger', 'r', 0::bigint, 'total') AS used;
RESET ROLE;
SELECT immutable.unprotect('ledger', force => true);
SELECT immutable.replay('ledger', 'r', 0::bigint, 'total') AS unprotected;
UPDATE ledger SET data = '{"n": 2}' WHERE stream = 'r' AND version = 1;
SELECT immutable.protect('ledger');
SELECT immutable.replay('ledger', 'r', 0::bigint, 'total') AS protected_again;
SELECT version, state FROM ledger_snapshots WHERE stream = 'r';
-- events that are not those of the snapshot
UPDATE ledger_snapshots SET state = '1000', event_id = gen_random_uuid() WHERE stream = 'r';
SELECT immutable.replay('ledger', 'r', 0::bigint, 'total') AS of_another;
SELECT version, state FROM ledger_snapshots WHERE stream = 'r';
UPDATE ledger_snapshots SET state = '1000', version = 100 WHERE stream = 'r';
SELECT immutable.replay('ledger', 'r', 0::bigint, 'total') AS of_another;
SELECT version, state FROM ledger_snapshots WHERE stream = 'r';

-- the end: the table goes with the last reducer, or with the log
SET ROLE regress_snapshot;
CREATE FUNCTION product(state numeric, e immutable.event) RETURNS numeric LANGUAGE sql IMMUTABLE RETURN state * (e.data->>'n')::numeric;
SELECT immutable.enable_snapshots('ledger', 'product', 1);
SELECT immutable.replay('ledger', 'r', 1.50::numeric, 'product');
SELECT DISTINCT reducer FROM ledger_snapshots;
SELECT immutable.disable_snapshots('ledger', 'total');
SELECT DISTINCT reducer FROM ledger_snapshots;
SELECT immutable.replay('ledger', 'r', 0::bigint, 'total');
SELECT DISTINCT reducer FROM ledger_snapshots;
SELECT immutable.disable_snapshots('ledger', 'product');
SELECT to_regclass('ledger_snapshots'), (SELECT count(*) FROM immutable.snapshots WHERE log = 'ledger'::regclass);
SELECT immutable.enable_snapshots('ledger', 'product'), immutable.enable_snapshots('ledger', 'total');
-- a reducer that is gone is forgotten with the next
DROP FUNCTION product;
SELECT immutable.disable_snapshots('ledger', 'total');
SELECT to_regclass('ledger_snapshots'), (SELECT count(*) FROM immutable.snapshots WHERE log = 'ledger'::regclass);
SELECT immutable.enable_snapshots('ledger', 'total');

RESET ROLE;
SELECT immutable.drop_log('ledger', force => true), immutable.drop_log('wide', force => true);
SELECT to_regclass('ledger_snapshots'), to_regclass('wide_snapshots'), (SELECT count(*) FROM immutable.snapshots);
SET client_min_messages = warning;
DROP SCHEMA snapshot CASCADE;
DROP ROLE regress_snapshot, regress_snapshot_reader;
