-- append_batch: many events to one stream, all or none, in their order.
\set SHOW_CONTEXT never
CREATE ROLE regress_batch;
CREATE ROLE regress_batch_reader;
CREATE SCHEMA append_batch AUTHORIZATION regress_batch;
GRANT USAGE ON SCHEMA append_batch TO regress_batch_reader;
SET search_path = append_batch;
SET ROLE regress_batch;
SELECT immutable.create_log('ledger');
CREATE FUNCTION new(type text, data jsonb DEFAULT NULL, metadata jsonb DEFAULT NULL, id uuid DEFAULT NULL,
	schema_version integer DEFAULT NULL) RETURNS immutable.new_event
LANGUAGE sql RETURN ROW(type, data, metadata, id, schema_version)::immutable.new_event;

-- versions and positions follow the array; the answer is the last event's
SELECT * FROM immutable.append_batch('ledger', 'a', ARRAY[new('opened'), new('deposited', '{"amount": 10}'), new('deposited', '{"amount": 20}')]);
SELECT * FROM immutable.append_batch('ledger', 'a', ARRAY[new('withdrawn', '{"amount": 5}', '{"by": "ann"}',
	'018f0000-0000-7000-8000-000000000001', 2)], 4 - 1);
SELECT * FROM immutable.append_batch('ledger', 'b', ARRAY[new('opened')], expected_version => 0);
SELECT position, version, id = '018f0000-0000-7000-8000-000000000001' AS given, schema_version, stream, type, data, metadata
FROM ledger ORDER BY position;

-- only type must be given; the context is under each metadata
SET immutable.context = '{"user": "ann", "request": 1}';
SELECT version FROM immutable.append_batch('ledger', 'c', ARRAY[ROW('x', NULL, NULL, NULL, NULL), ROW('y', '{}', '{"request": 2}', NULL, 1)]::immutable.new_event[]);
RESET immutable.context;
SELECT type, data, metadata, schema_version, uuid_send(id) <> ALL (SELECT uuid_send(o.id) FROM ledger o WHERE o.position <> l.position) AS own_id
FROM ledger l WHERE stream = 'c' ORDER BY version;

-- an array of more dimensions is read row by row
SELECT version FROM immutable.append_batch('ledger', 'matrix', ARRAY[[new('1'), new('2')], [new('3'), new('4')]]);
SELECT string_agg(type, ' ' ORDER BY version) FROM ledger WHERE stream = 'matrix';

-- more events than are stored at once, of all sizes
SELECT version, written FROM immutable.append_batch('ledger', 'big', ARRAY(
	SELECT new('t', jsonb_build_object('n', n, 'x', repeat(md5(n::text), n * n % 500)), schema_version => n) FROM generate_series(1, 1000) n ORDER BY n));
SELECT count(*), bool_and(version = schema_version AND version = (data->>'n')::int AND length(data->>'x') = 32 * (version * version % 500)) AS in_order,
	max(position) - min(position) AS positions, bool_and(recorded_at >= before) AS times_rise
FROM (SELECT *, lag(recorded_at, 1, '-infinity') OVER (ORDER BY version) AS before FROM ledger WHERE stream = 'big') l;
SELECT version, written FROM immutable.append_batch('ledger', 'big', ARRAY(SELECT new('t') FROM generate_series(1, 64)), -4);
SELECT version, written FROM immutable.append_batch('ledger', 'big', ARRAY(SELECT new('t') FROM generate_series(1, 65)), 1064);
SELECT count(*) FROM immutable.check_log('ledger');

-- a batch of nothing answers with the head; the expectation counts all the same
SELECT * FROM immutable.append_batch('ledger', 'b', '{}');
SELECT version, written FROM immutable.append_batch('ledger', 'b', '{}', 1);
SELECT * FROM immutable.append_batch('ledger', 'nothing', '{}', 0);
SELECT immutable.append_batch('ledger', 'b', '{}', 7);
\echo :SQLSTATE
SELECT immutable.append_batch('ledger', 'nothing', '{}', -4);
\echo :SQLSTATE

-- a refused batch leaves nothing, and draws no position
SELECT last_value FROM ledger_position_seq \gset
SELECT immutable.append_batch('ledger', 'a', ARRAY[new('t'), new('t')], 3);
\echo :SQLSTATE
SELECT immutable.append_batch('ledger', 'a', ARRAY[new('t'), new('t')], -1);
\echo :SQLSTATE
SELECT immutable.append_batch('ledger', 'a', NULL);
\echo :SQLSTATE
SELECT immutable.append_batch('ledger', 'a', ARRAY[new('t'), NULL]);
\echo :SQLSTATE
SELECT immutable.append_batch('ledger', 'a', ARRAY[new('t'), new(NULL, '{}')]);
\echo :SQLSTATE
SELECT immutable.append_batch('ledger', 'a', ARRAY[new('t'), new('')]);
\echo :SQLSTATE
SELECT immutable.append_batch('ledger', 'a', ARRAY[new('t'), new('$t')]);
\echo :SQLSTATE
SELECT immutable.append_batch('ledger', 'a', ARRAY[new('t', '[]')]);
\echo :SQLSTATE
SELECT immutable.append_batch('ledger', 'a', ARRAY[new('t', metadata => '"ann"')]);
\echo :SQLSTATE
SELECT immutable.append_batch('ledger', 'a', ARRAY[new('t'), new('t', schema_version => 0)]);
\echo :SQLSTATE
SELECT immutable.append_batch('ledger', 'a', ARRAY[new('t', id => '018f0000-0000-7000-8000-000000000002'), new('u'),
	new('t', id => '018f0000-0000-7000-8000-000000000002')]);
\echo :SQLSTATE
SELECT immutable.append_batch('ledger', '', ARRAY[new('t')]);
\echo :SQLSTATE
SELECT immutable.append_batch('ledger', '', '{}');
\echo :SQLSTATE
SELECT immutable.append_batch('ledger', repeat('s', 1025), ARRAY[new('t')]);
\echo :SQLSTATE
SELECT immutable.append_batch('pg_class', 'a', ARRAY[new('t')]);
\echo :SQLSTATE
BEGIN READ ONLY;
SELECT immutable.append_batch('ledger', 'a', '{}');
\echo :SQLSTATE
ROLLBACK;
SELECT last_value = :last_value AS no_position_drawn FROM ledger_position_seq;

-- nor does one that fails midway
ALTER TABLE ledger ADD CHECK (data->>'amount' <> '13');
\set VERBOSITY terse
SELECT immutable.append_batch('ledger', 'a', ARRAY[new('t'), new('t', '{"amount": 13}'), new('t')]);
\echo :SQLSTATE
\set VERBOSITY default
SELECT immutable.stream_version('ledger', 'a'), count(*) FROM ledger WHERE stream = 'a';
BEGIN;
SELECT version FROM immutable.append_batch('ledger', 'a', ARRAY[new('t'), new('t')]);
SAVEPOINT s;
SELECT version FROM immutable.append_batch('ledger', 'a', ARRAY[new('undone'), new('undone')]);
ROLLBACK TO s;
SELECT version FROM immutable.append('ledger', 'a', 't', expected_version => 6);
SELECT version FROM immutable.append_batch('ledger', 'a', ARRAY[new('last'), new('last')], 7);
COMMIT;
SELECT string_agg(version || ' ' || type, ', ' ORDER BY version) FROM ledger WHERE stream = 'a';

-- privilege: INSERT and nothing else, also for a batch of nothing
SET ROLE regress_batch_reader;
SELECT immutable.append_batch('ledger', 'a', '{}');
\echo :SQLSTATE
RESET ROLE;
GRANT INSERT ON ledger TO regress_batch_reader;
SET ROLE regress_batch_reader;
SELECT version FROM immutable.append_batch('append_batch.ledger', 'a', ARRAY[ROW('t', NULL, NULL, NULL, NULL)]::immutable.new_event[]);

RESET ROLE;
-- triggers that look at the statement see every row once, in order; none of
-- them may add a row that looks like one of the batch
SELECT immutable.create_log('watched');
CREATE TABLE seen (events bigint, ordered boolean);
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO seen SELECT count(*), array_agg(version) = array_agg(version ORDER BY position) FROM added;
	RETURN NULL;
END $$;
CREATE FUNCTION copy_first() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO watched SELECT * FROM added ORDER BY position LIMIT 1;
	RETURN NULL;
END $$;
CREATE TRIGGER look AFTER INSERT ON watched REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION look();
SELECT version, written FROM immutable.append_batch('watched', 'big', ARRAY(SELECT new('t') FROM generate_series(1, 150)));
SELECT version FROM immutable.append('watched', 'big', 't');
SELECT * FROM seen;
SELECT count(*), max(version) FROM watched;
CREATE TRIGGER copy AFTER INSERT ON watched REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION copy_first();
SELECT version FROM immutable.append('watched', 'big', 't');
SELECT version FROM immutable.append_batch('watched', 'big', ARRAY[new('t'), new('t')]);
SELECT immutable.drop_log('watched', force => true);

SELECT immutable.drop_log('ledger', force => true);
SET client_min_messages = warning;
DROP SCHEMA append_batch CASCADE;
DROP ROLE regress_batch, regress_batch_reader;
