-- A database with something of everything, for callers that stop at nothing:
-- logs of all kinds, read models, consumers in every condition, reducers good
-- and bad, and relations that are none of these. Needs the roles fuzz_owner,
-- fuzz_app and fuzz_nobody, and runs as a superuser.
SET client_min_messages = warning;
SET TIME ZONE 'UTC';
CREATE EXTENSION immutable_events;
CREATE SCHEMA fz AUTHORIZATION fuzz_owner;
GRANT USAGE ON SCHEMA fz TO PUBLIC;
-- gone when text was pasted into a command
CREATE TABLE public.canary (n integer);
INSERT INTO public.canary VALUES (1);
SET ROLE fuzz_owner;
SET search_path = fz, public;

CREATE TYPE mood AS ENUM ('calm', 'cross');
CREATE DOMAIN short AS text CHECK (length(VALUE) < 4);
CREATE DOMAIN counted AS bigint NOT NULL CHECK (VALUE < 5);
CREATE TYPE pair AS (n bigint, t text);

-- reducers
CREATE FUNCTION counts(s bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN s + 1;
CREATE FUNCTION counts_strictly(s bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT RETURN s + 1;
CREATE FUNCTION counts_slowly(s bigint, e immutable.event) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN s + 1; END';
CREATE FUNCTION counts_few(s counted, e immutable.event) RETURNS counted LANGUAGE sql IMMUTABLE RETURN s + 1;
CREATE FUNCTION collects(s jsonb, e immutable.event) RETURNS jsonb LANGUAGE sql STABLE RETURN s || jsonb_build_object(e.type, e.data);
CREATE FUNCTION gathers(s text[], e immutable.event) RETURNS text[] LANGUAGE sql IMMUTABLE RETURN s || e.type;
CREATE FUNCTION writes(s text, e immutable.event) RETURNS text LANGUAGE sql IMMUTABLE RETURN coalesce(s, '') || e.type;
CREATE FUNCTION pairs(s pair, e immutable.event) RETURNS pair LANGUAGE sql IMMUTABLE RETURN ROW((s).n + 1, e.type)::pair;
CREATE FUNCTION moods(s mood, e immutable.event) RETURNS mood LANGUAGE sql IMMUTABLE RETURN CASE s WHEN 'calm' THEN 'cross'::mood END;
CREATE FUNCTION last_event(s immutable.event, e immutable.event) RETURNS immutable.event LANGUAGE sql IMMUTABLE RETURN e;
CREATE FUNCTION forgets(s bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN NULL::bigint;
CREATE FUNCTION fails(s bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN 1 / (s - s);
CREATE FUNCTION raises(s bigint, e immutable.event) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'ZZ001'; END $$;
CREATE FUNCTION careless(s bigint, e immutable.event) RETURNS bigint LANGUAGE sql VOLATILE RETURN s;
CREATE FUNCTION writes_too(s bigint, e immutable.event) RETURNS bigint LANGUAGE plpgsql STABLE AS $$ BEGIN PERFORM immutable.append('fz.ledger', 'from inside', 't'); RETURN s; END $$;
CREATE FUNCTION reads_too(s bigint, e immutable.event) RETURNS bigint LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN (SELECT count(*) + s FROM immutable.read_stream('fz.ledger', 's1')); END $$;
CREATE FUNCTION replays_too(s bigint, e immutable.event) RETURNS bigint LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN s + immutable.replay('fz.ledger', 's1', 0::bigint, 'fz.counts'); END $$;
CREATE FUNCTION any_state(s anyelement, e immutable.event) RETURNS anyelement LANGUAGE sql IMMUTABLE AS 'SELECT s';
CREATE FUNCTION any_event(s bigint, e anyelement) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT s';
CREATE FUNCTION many(s bigint, e immutable.event) RETURNS SETOF bigint LANGUAGE sql IMMUTABLE AS 'SELECT s UNION ALL SELECT s';
CREATE FUNCTION other_type(s text, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 1::bigint';
CREATE FUNCTION defaults(s bigint, e immutable.event, x integer DEFAULT 1) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT s + x';
CREATE FUNCTION variadics(s bigint, VARIADIC e immutable.event[]) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT s';
CREATE FUNCTION twofold(s bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN s;
CREATE FUNCTION twofold(s text, e immutable.event) RETURNS text LANGUAGE sql IMMUTABLE RETURN s;
CREATE FUNCTION outs(INOUT s bigint, e immutable.event, OUT more bigint) LANGUAGE sql IMMUTABLE AS 'SELECT s, s';
CREATE FUNCTION "x""; DROP TABLE public.canary; --"(s bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN s + 2;
CREATE FUNCTION forbidden(s bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN s;
REVOKE EXECUTE ON FUNCTION forbidden FROM PUBLIC, fuzz_owner;
CREATE PROCEDURE proceeds(s bigint, e immutable.event) LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE aggregates(bigint) (SFUNC = int8pl, STYPE = bigint);
CREATE FUNCTION decides(s bigint, command jsonb) RETURNS immutable.new_event[] LANGUAGE sql IMMUTABLE AS
$$ SELECT ARRAY[ROW('decided', '{}', NULL, NULL, NULL)::immutable.new_event] $$;
CREATE FUNCTION decides_badly(s bigint, command jsonb) RETURNS immutable.new_event[] LANGUAGE sql IMMUTABLE AS
$$ SELECT ARRAY[[ROW('decided', '[]', NULL, NULL, -1)::immutable.new_event, NULL]] $$;
CREATE FUNCTION decides_nothing(s bigint, command jsonb) RETURNS immutable.new_event[] LANGUAGE sql IMMUTABLE AS 'SELECT NULL::immutable.new_event[]';
CREATE FUNCTION decides_twice(s bigint, command jsonb) RETURNS immutable.new_event[] LANGUAGE plpgsql AS
$$ BEGIN PERFORM immutable.append('fz.ledger', 'raced', 'x'); RETURN ARRAY[ROW('decided', '{}', NULL, NULL, NULL)::immutable.new_event]; END $$;
CREATE FUNCTION rejects(s bigint, command jsonb) RETURNS immutable.new_event[] LANGUAGE plpgsql AS $$ BEGIN RAISE 'rejected'; END $$;
CREATE FUNCTION newer(e immutable.event) RETURNS immutable.event LANGUAGE sql IMMUTABLE
RETURN ROW(e.position, e.recorded_at, e.version, e.id, e.schema_version + 1, e.stream, e.type, e.data || '{"newer": true}', e.metadata)::immutable.event;
CREATE FUNCTION no_newer(e immutable.event) RETURNS immutable.event LANGUAGE sql IMMUTABLE RETURN e;
CREATE FUNCTION null_newer(e immutable.event) RETURNS immutable.event LANGUAGE sql IMMUTABLE RETURN NULL::immutable.event;
CREATE FUNCTION fickle(e immutable.event) RETURNS immutable.event LANGUAGE plpgsql STABLE AS
$$ BEGIN IF current_setting('fz.bad', true) = 'on' THEN RETURN NULL; END IF; e.schema_version := e.schema_version + 1; RETURN e; END $$;

-- logs
SELECT immutable.create_log('ledger'), immutable.create_log('wide', partitions => 3), immutable.create_log('loose', unique_ids => false),
	immutable.create_log('empty'), immutable.create_log('secured'), immutable.create_log('upcasted'), immutable.create_log('snapped'),
	immutable.create_log('fz."we""ird; DROP TABLE public.canary; --"'), immutable.create_log('app_log'), immutable.create_log('broken') \g /dev/null
ALTER TABLE secured ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY mostly ON secured USING (stream <> 's3') WITH CHECK (stream <> 's4');
GRANT SELECT, INSERT ON app_log, ledger TO fuzz_app;
SELECT immutable.append(log, 's' || n % 7, 't' || n % 3, jsonb_build_object('n', n, 'patch', '[]'::jsonb), schema_version => 1 + n % 2,
	id => overlay('018f0000-0000-7000-8000-000000000000'::text PLACING to_char(n, 'FM0000') FROM 33)::uuid)
FROM unnest(ARRAY['ledger', 'wide', 'loose', 'upcasted', 'snapped', 'app_log', '"we""ird; DROP TABLE public.canary; --"', 'broken']::regclass[]) log,
	generate_series(1, 40) n \g /dev/null
SELECT immutable.append('ledger', 'x"; DROP TABLE public.canary; --', 't''; DROP TABLE public.canary; --') \g /dev/null
SELECT immutable.add_upcaster('upcasted', 't1', 1, 'newer'), immutable.add_upcaster('upcasted', 't2', 1, 'fickle'),
	immutable.add_upcaster('wide', 't0', 1, 'fickle') \g /dev/null
SELECT immutable.enable_snapshots('snapped', 'counts', 3), immutable.enable_snapshots('snapped', 'counts_slowly', 1),
	immutable.enable_commands('ledger'), immutable.enable_commands('wide') \g /dev/null
SELECT immutable.handle('snapped', 's1', '{}', 0::bigint, 'decides', 'counts') FROM generate_series(1, 5) \g /dev/null

-- read models
CREATE TABLE bare (stream text PRIMARY KEY, n bigint NOT NULL DEFAULT 0);
CREATE TABLE inline_model (LIKE bare INCLUDING ALL);
CREATE TABLE async_model (LIKE bare INCLUDING ALL);
CREATE TABLE behind_model (LIKE bare INCLUDING ALL);
CREATE TABLE halted_model (LIKE bare INCLUDING ALL);
CREATE TABLE typed_model (type short, day date, n numeric DEFAULT 1, tags text[] DEFAULT '{}', PRIMARY KEY (day, type));
CREATE TABLE fan_model (tag text COLLATE "C" PRIMARY KEY, n bigint DEFAULT 0, long text, twice bigint GENERATED ALWAYS AS (n * 2) STORED);
CREATE TABLE "we""ird model; DROP TABLE public.canary; --" ("str""eam'; --" text PRIMARY KEY, n bigint DEFAULT 0);
CREATE FUNCTION bare(r bare, e immutable.event) RETURNS bare LANGUAGE sql IMMUTABLE RETURN ROW((r).stream, (r).n + 1)::bare;
CREATE FUNCTION inline_model(r inline_model, e immutable.event) RETURNS inline_model LANGUAGE sql IMMUTABLE RETURN ROW((r).stream, (r).n + 1)::inline_model;
CREATE FUNCTION inline_model_2(r inline_model, e immutable.event) RETURNS inline_model LANGUAGE plpgsql IMMUTABLE AS
$$ BEGIN IF (e.data->>'n')::numeric % 5 = 0 THEN RETURN NULL; END IF; r.n := r.n + 2; RETURN r; END $$;
CREATE FUNCTION async_model(r async_model, e immutable.event) RETURNS async_model LANGUAGE sql IMMUTABLE RETURN ROW((r).stream, (r).n + 1)::async_model;
CREATE FUNCTION behind_model(r behind_model, e immutable.event) RETURNS behind_model LANGUAGE plpgsql STABLE AS 'BEGIN r.n := r.n + 1; RETURN r; END';
CREATE FUNCTION halted_model(r halted_model, e immutable.event) RETURNS halted_model LANGUAGE sql IMMUTABLE RETURN ROW((r).stream, 1 / (e.position - 9))::halted_model;
CREATE FUNCTION typed_model(r typed_model, e immutable.event) RETURNS typed_model LANGUAGE sql IMMUTABLE
RETURN CASE WHEN e.type = 't1' THEN NULL::typed_model ELSE ROW((r).type, (r).day, (r).n * 2, (r).tags || e.stream)::typed_model END;
CREATE FUNCTION fan_model(r fan_model, e immutable.event) RETURNS fan_model LANGUAGE plpgsql IMMUTABLE AS
$$ BEGIN r.n := r.n + 1; r.long := repeat(e.type, 2000); RETURN r; END $$;
CREATE FUNCTION weird_model(r "we""ird model; DROP TABLE public.canary; --", e immutable.event) RETURNS "we""ird model; DROP TABLE public.canary; --"
LANGUAGE plpgsql IMMUTABLE AS 'BEGIN r.n := r.n + 1; RETURN r; END';
SELECT immutable.create_projection('inline_model', 'ledger', 'inline_model'),
	immutable.create_projection('async_model', 'ledger', 'async_model', mode => 'async', types => '{t0,t1}'),
	immutable.create_projection('behind_model', 'wide', 'behind_model', mode => 'async'),
	immutable.create_projection('halted_model', 'loose', 'halted_model', mode => 'async'),
	immutable.create_projection('typed_model', 'wide', 'typed_model', ARRAY['''2026-01-01''::date + version::integer % 3', 'left(type, 3)'], mode => 'async'),
	immutable.create_projection('fan_model', 'app_log', 'fan_model', ARRAY['ARRAY[stream, type]'], commutative => true),
	immutable.create_projection('"we""ird model; DROP TABLE public.canary; --"', '"we""ird; DROP TABLE public.canary; --"', 'weird_model') \g /dev/null
CALL immutable.catch_up('async_model');
SELECT immutable.refresh('behind_model', 5), immutable.refresh('halted_model') \g /dev/null

-- consumers
SELECT immutable.create_consumer(c, 'ledger', after_position => 0, max_deliveries => 1) FROM unnest('{free,leased,parked}'::text[]) c \g /dev/null
SELECT immutable.create_consumer('sharded', 'wide', '{t0,t1}', 's', 0, 3), immutable.create_consumer('x"; DROP TABLE public.canary; --', 'ledger', after_position => 0) \g /dev/null
SELECT immutable.poll('leased', lease => '1 hour') \g /dev/null
SELECT immutable.poll('parked', lease => '1 hour') \g /dev/null
SELECT immutable.poll('sharded', 5, lease => '1 hour', shard => 1) \g /dev/null
SELECT immutable.nack('parked', 1, 'error'), immutable.nack('parked', 4, 'error', '1 hour') \g /dev/null

-- protected tables
CREATE TABLE audit (n integer, t text);
CREATE TABLE audit_parts (n integer, t text) PARTITION BY LIST (n);
CREATE TABLE audit_part PARTITION OF audit_parts FOR VALUES IN (1);
CREATE TABLE audit_rest PARTITION OF audit_parts DEFAULT PARTITION BY HASH (t);
CREATE TABLE audit_rest_0 PARTITION OF audit_rest FOR VALUES WITH (MODULUS 1, REMAINDER 0);
INSERT INTO audit VALUES (1, 'one');
INSERT INTO audit_parts VALUES (1, 'one'), (2, 'two');
SELECT immutable.protect('audit'), immutable.protect('audit_parts') \g /dev/null

-- versioned tables
CREATE TABLE product (id integer PRIMARY KEY, label text);
CREATE TABLE lazy_product (a integer, b text, n numeric, PRIMARY KEY (b, a));
INSERT INTO lazy_product SELECT n, 'b', n FROM generate_series(1, 10) n;
SELECT immutable.add_versioning('product'), immutable.add_versioning('lazy_product', 'lazy') \g /dev/null
INSERT INTO product SELECT n, 'new' FROM generate_series(1, 10) n;
UPDATE product SET label = 'changed' WHERE id < 6;
DELETE FROM product WHERE id = 2;
UPDATE lazy_product SET n = 0 WHERE a = 3;

-- relations that are none of these
CREATE TABLE plain (stream text, version bigint);
CREATE TABLE parent (n integer PRIMARY KEY);
CREATE TABLE child (t text) INHERITS (parent);
CREATE TABLE referencing (n integer REFERENCES parent);
CREATE TABLE no_columns ();
CREATE TABLE same_columns (LIKE ledger INCLUDING ALL);
CREATE TABLE typed OF immutable.event;
CREATE TABLE typed_parts OF immutable.event PARTITION BY HASH (stream);
CREATE UNLOGGED TABLE unlogged (stream text PRIMARY KEY);
CREATE VIEW view AS SELECT * FROM ledger;
CREATE MATERIALIZED VIEW matview AS SELECT * FROM ledger;
CREATE SEQUENCE sequence;
CREATE TABLE dropped_column (gone integer, stream text PRIMARY KEY, n bigint DEFAULT 0);
ALTER TABLE dropped_column DROP COLUMN gone;
CREATE FUNCTION dropped_column(r dropped_column, e immutable.event) RETURNS dropped_column LANGUAGE plpgsql IMMUTABLE AS 'BEGIN r.n := r.n + 1; RETURN r; END';
CREATE DOMAIN event_domain AS immutable.event;
RESET ROLE;
-- a log whose guard somebody has taken away
ALTER EVENT TRIGGER immutable_guard_ddl_start DISABLE;
DROP TRIGGER immutable_guard_row ON broken;
ALTER EVENT TRIGGER immutable_guard_ddl_start ENABLE ALWAYS;
CREATE FOREIGN DATA WRAPPER wrapper;
CREATE SERVER server FOREIGN DATA WRAPPER wrapper;
CREATE FOREIGN TABLE foreign_table (n integer) SERVER server;
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = fz, public', current_database()); END $$;
