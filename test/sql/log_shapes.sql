-- log_shapes: logs that are not, or no longer, as create_log makes them.
\set SHOW_CONTEXT never
CREATE ROLE regress_shapes;
CREATE SCHEMA log_shapes AUTHORIZATION regress_shapes;
SET search_path = log_shapes;
-- a superuser lets the owner make what is refused otherwise
ALTER EVENT TRIGGER immutable_guard_ddl_start DISABLE;
ALTER EVENT TRIGGER immutable_guard_ddl_end DISABLE;
ALTER EVENT TRIGGER immutable_guard_rewrite DISABLE;
SET ROLE regress_shapes;
CREATE FUNCTION event(stream text) RETURNS immutable.event LANGUAGE sql
RETURN ROW(1000, '2020-01-01'::timestamptz, 1, md5(stream)::uuid, 1, stream, 't', '{}', '{}')::immutable.event;

-- a typed table alone
CREATE TABLE bare OF immutable.event;
SELECT immutable.append('bare', 's', 't');
\echo :SQLSTATE
SELECT immutable.read_stream('bare', 's');
\echo :SQLSTATE
SELECT immutable.protect('bare');
SELECT immutable.append('bare', 's', 't');
INSERT INTO bare SELECT (event('s')).*;
BEGIN;
SET LOCAL immutable.import = on;
INSERT INTO bare SELECT (event('s')).*;
\echo :SQLSTATE
ROLLBACK;

-- made by hand as create_log makes it, it is a log
CREATE SEQUENCE hand_position_seq;
CREATE TABLE hand OF immutable.event (
	position WITH OPTIONS NOT NULL DEFAULT nextval('hand_position_seq'), recorded_at WITH OPTIONS NOT NULL, version WITH OPTIONS NOT NULL,
	id WITH OPTIONS NOT NULL, schema_version WITH OPTIONS NOT NULL, stream WITH OPTIONS NOT NULL, type WITH OPTIONS NOT NULL,
	data WITH OPTIONS NOT NULL, metadata WITH OPTIONS NOT NULL, PRIMARY KEY (position), UNIQUE (stream, version));
ALTER SEQUENCE hand_position_seq OWNED BY hand.position;
SELECT immutable.append('hand', 's', 't');
SELECT immutable.protect('hand');
SELECT * FROM immutable.append('hand', 's', 't');
-- a NULL that is let in, an index that cannot be read, or one of another order, make it unfit
ALTER TABLE hand ALTER metadata DROP NOT NULL;
SELECT immutable.append('hand', 's', 't');
\echo :SQLSTATE
ALTER TABLE hand ALTER metadata SET NOT NULL;
ALTER TABLE hand DROP CONSTRAINT hand_stream_version_key, ADD UNIQUE (version, stream);
SELECT immutable.append('hand', 's', 't');
CREATE UNIQUE INDEX hand_partial ON hand (stream, version) WHERE version > 1;
SELECT immutable.append('hand', 's', 't');
CREATE UNIQUE INDEX hand_down ON hand (stream, version DESC);
SELECT immutable.append('hand', 's', 't');
CREATE UNIQUE INDEX hand_collation ON hand (stream COLLATE "POSIX", version);
SELECT immutable.append('hand', 's', 't');
ALTER TABLE hand ADD CONSTRAINT hand_deferrable UNIQUE (stream, version) DEFERRABLE;
SELECT immutable.append('hand', 's', 't');
\echo :SQLSTATE
SELECT immutable.stream_version('hand', 's');
\echo :SQLSTATE
CREATE UNIQUE INDEX hand_including ON hand (stream, version) INCLUDE (type);
SELECT * FROM immutable.append('hand', 's', 't');
SELECT version FROM immutable.read_stream('hand', 's');

-- partitions of another kind, or not for every stream
CREATE TABLE by_list OF immutable.event PARTITION BY LIST (stream);
CREATE TABLE by_list_s PARTITION OF by_list FOR VALUES IN ('s');
SELECT immutable.append('by_list', 's', 't');
\echo :SQLSTATE
SELECT immutable.read_stream('by_list', 's');
\echo :SQLSTATE
SELECT immutable.create_log('wide', 2);
SELECT count(*) FROM generate_series(1, 20) n, LATERAL immutable.append('wide', 's' || n, 't');
SELECT format('wide_p%s', CASE WHEN count(*) > 0 THEN 0 ELSE 1 END) AS leaf FROM wide_p0 WHERE stream = 's1' \gset
ALTER TABLE wide DETACH PARTITION :leaf;
SELECT immutable.append('wide', 's1', 't');
\echo :SQLSTATE
SELECT immutable.stream_version('wide', 's1');
\echo :SQLSTATE
SELECT count(*) > 0 AS others_go_on FROM wide w, LATERAL immutable.append('wide', w.stream, 't') WHERE w.version = 1;

-- a partition whose columns stand in another order
SELECT immutable.create_log('mixed', 1);
ALTER TABLE mixed DETACH PARTITION mixed_p0;
CREATE TABLE mixed_other (metadata jsonb NOT NULL, data jsonb NOT NULL, type text COLLATE "C" NOT NULL, stream text COLLATE "C" NOT NULL,
	schema_version integer NOT NULL, id uuid NOT NULL, version bigint NOT NULL, recorded_at timestamptz NOT NULL, position bigint NOT NULL);
ALTER TABLE mixed ATTACH PARTITION mixed_other FOR VALUES WITH (MODULUS 1, REMAINDER 0);
SELECT immutable.protect('mixed');
SELECT immutable.append('mixed', 's', 't');
\echo :SQLSTATE
SELECT immutable.read_stream('mixed', 's');
\echo :SQLSTATE
BEGIN;
SET LOCAL immutable.import = on;
INSERT INTO mixed SELECT (event('s')).*;
\echo :SQLSTATE
ROLLBACK;

-- a partition that is a foreign table, with guards of its own
RESET ROLE;
CREATE FOREIGN DATA WRAPPER regress_shapes;
CREATE SERVER regress_shapes FOREIGN DATA WRAPPER regress_shapes;
SELECT immutable.create_log('far', 1);
ALTER TABLE far DETACH PARTITION far_p0;
DO $$ BEGIN
	ALTER TABLE log_shapes.far DROP CONSTRAINT far_pkey, DROP CONSTRAINT far_stream_id_key;
	CREATE FOREIGN TABLE log_shapes.far_away PARTITION OF log_shapes.far FOR VALUES WITH (MODULUS 1, REMAINDER 0) SERVER regress_shapes;
	CREATE TRIGGER r BEFORE INSERT OR UPDATE OR DELETE ON log_shapes.far_away FOR EACH ROW EXECUTE FUNCTION immutable._guard();
	CREATE TRIGGER s BEFORE INSERT OR UPDATE OR DELETE ON log_shapes.far_away FOR EACH STATEMENT EXECUTE FUNCTION immutable._guard();
END $$;
\set VERBOSITY sqlstate
SELECT immutable.append('far', 's', 't');
SELECT immutable.read_stream('far', 's');
SELECT immutable.protect('far');
SELECT immutable.drop_log('far');
\set VERBOSITY default

SELECT immutable.unprotect('bare', true), immutable.unprotect('mixed_p0', true), immutable.unprotect('far_p0', true), immutable.unprotect(:'leaf', true);
DROP TABLE mixed_p0, far_p0, :leaf;
ALTER EVENT TRIGGER immutable_guard_ddl_start ENABLE ALWAYS;
ALTER EVENT TRIGGER immutable_guard_ddl_end ENABLE ALWAYS;
ALTER EVENT TRIGGER immutable_guard_rewrite ENABLE ALWAYS;
SELECT count(immutable.drop_log(oid, force => true)) FROM (SELECT oid FROM pg_class
	WHERE reloftype = 'immutable.event'::regtype AND relnamespace = 'log_shapes'::regnamespace AND relname IN ('hand', 'wide', 'mixed', 'far') OFFSET 0) logs;
SET client_min_messages = warning;
DROP FOREIGN DATA WRAPPER regress_shapes CASCADE;
DROP SCHEMA log_shapes CASCADE;
DROP ROLE regress_shapes;
