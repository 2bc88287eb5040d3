-- rare_errors: what few will ever meet.
\set SHOW_CONTEXT never
CREATE SCHEMA rare_errors;
SET search_path = rare_errors;

-- a leaf that was made elsewhere, its columns in another order: its rows are
-- not events, and cannot be brought to the newest schema version
CREATE FUNCTION next(e immutable.event) RETURNS immutable.event LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (e.position, e.recorded_at, e.version, e.id, 2, e.stream, e.type, e.data, e.metadata)::immutable.event;
SELECT immutable.create_log('ledger', partitions => 1);
SELECT immutable.append('ledger', 's', 'happened');
SELECT immutable.add_upcaster('ledger', 'happened', 1, 'next');
CREATE FUNCTION counted(state bigint, item ledger_p0) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN state + 1;
SELECT immutable.fold(0::bigint, 'counted', e) FROM ledger_p0 e;
SELECT immutable.create_log('mixed', partitions => 1);
SELECT immutable.add_upcaster('mixed', 'happened', 1, 'next');
SELECT immutable.unprotect('mixed', force => true);
DROP TABLE mixed_p0;
CREATE TABLE mixed_other (metadata jsonb NOT NULL, data jsonb NOT NULL, type text COLLATE "C" NOT NULL,
	stream text COLLATE "C" NOT NULL, schema_version integer NOT NULL, id uuid NOT NULL, version bigint NOT NULL,
	recorded_at timestamptz NOT NULL, position bigint NOT NULL);
INSERT INTO mixed_other VALUES ('{}', '{}', 'happened', 's', 1, gen_random_uuid(), 1, now(), 1);
ALTER TABLE mixed ATTACH PARTITION mixed_other FOR VALUES WITH (MODULUS 1, REMAINDER 0);
SELECT immutable.protect('mixed');
CREATE FUNCTION counted(state bigint, item mixed_other) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN state + 1;
SELECT immutable.fold(0::bigint, 'counted(bigint, mixed_other)'::regprocedure, e) FROM mixed_other e;
\echo :SQLSTATE

-- a key expression of a type that the column cannot take
CREATE TABLE model (id uuid PRIMARY KEY, n integer);
CREATE FUNCTION to_model(state model, e immutable.event) RETURNS model LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN state;
SELECT immutable.create_projection('model', 'ledger', 'to_model', key => '{version}');
\echo :SQLSTATE

-- a reducer that calls too much for its snapshots to be told apart
DO $$
DECLARE
	calls text;
BEGIN
	FOR n IN 1..1001 LOOP
		EXECUTE format('CREATE FUNCTION step_%s(n bigint) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN n + 1', n);
	END LOOP;
	SELECT string_agg(format('step_%s(1)', n), ' + ') INTO calls FROM generate_series(1, 1001) n;
	EXECUTE format('CREATE FUNCTION calls_much(state bigint, e immutable.event) RETURNS bigint'
		' LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN state + %s', calls);
END $$;
SELECT immutable.enable_snapshots('ledger', 'calls_much');
\echo :SQLSTATE

-- a key that has an order, and no hash
CREATE TABLE found (words tsvector PRIMARY KEY, n bigint DEFAULT 0);
CREATE FUNCTION count_words(r found, e immutable.event) RETURNS found LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ROW(r.words, r.n + 1)::found;
SELECT immutable.create_projection('found', 'ledger', 'count_words', key => ARRAY['to_tsvector(''pg_catalog.simple''::regconfig, type)'], mode => 'async');
SELECT immutable.refresh('found');
SELECT * FROM found;
SELECT * FROM immutable.verify_projection('found');
\echo :SQLSTATE
CALL immutable.rebuild('found');
\echo :SQLSTATE
SELECT immutable.drop_projection('found');

-- triggers that swallow rows of a read model whose rows go through queries
CREATE TABLE parts (stream text PRIMARY KEY, n bigint DEFAULT 0) PARTITION BY HASH (stream);
CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE FUNCTION count_parts(r parts, e immutable.event) RETURNS parts LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN e.type = 'gone' THEN NULL ELSE ROW(r.stream, r.n + 1)::parts END;
SELECT immutable.create_projection('parts', 'ledger', 'count_parts', mode => 'async');
CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER swallow BEFORE INSERT ON parts FOR EACH ROW EXECUTE FUNCTION swallow();
SELECT immutable.refresh('parts');
SELECT error_sqlstate, error, error_position FROM immutable.projection_status WHERE target = 'parts'::regclass;
DROP TRIGGER swallow ON parts;
SELECT immutable.refresh('parts');
SELECT immutable.append('ledger', 's', 'gone');
CREATE TRIGGER swallow BEFORE DELETE ON parts FOR EACH ROW EXECUTE FUNCTION swallow();
SELECT immutable.refresh('parts');
SELECT error_sqlstate, error, error_position FROM immutable.projection_status WHERE target = 'parts'::regclass;
SELECT * FROM parts;
SELECT immutable.drop_projection('parts');

-- a consumer that is made anew while a batch of the old one is open
SELECT immutable.append('ledger', 's', 'happened') FROM generate_series(1, 3);
SELECT immutable.create_consumer('twice', 'ledger', after_position => 0, shards => 4);
BEGIN;
SELECT count(*) FROM immutable.poll('twice', 2);
SELECT immutable.drop_consumer('twice');
SELECT immutable.create_consumer('twice', 'ledger', after_position => 0);
SAVEPOINT s;
SELECT immutable.ack('twice', 2);
\echo :SQLSTATE
ROLLBACK TO s;
SELECT immutable.nack('twice', 1, 'failed');
\echo :SQLSTATE
ROLLBACK TO s;
SELECT position FROM immutable.consumer_status WHERE consumer = 'twice';
ROLLBACK;
-- or whose shards a superuser has taken away
BEGIN;
SELECT count(*) FROM immutable.poll('twice', 2);
DELETE FROM immutable.consumer_shards WHERE consumer = 'twice';
SELECT immutable.ack('twice', 2);
\echo :SQLSTATE
ROLLBACK;
SELECT immutable.drop_consumer('twice');

DROP FUNCTION counted(bigint, ledger_p0), counted(bigint, mixed_other);
SELECT immutable.drop_log(log, force => true) FROM unnest('{ledger,mixed}'::regclass[]) log;
SET client_min_messages = warning;
DROP SCHEMA rare_errors CASCADE;
