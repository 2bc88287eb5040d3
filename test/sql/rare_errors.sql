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

DROP FUNCTION counted(bigint, ledger_p0), counted(bigint, mixed_other);
SELECT immutable.drop_log(log, force => true) FROM unnest('{ledger,mixed}'::regclass[]) log;
SET client_min_messages = warning;
DROP SCHEMA rare_errors CASCADE;
