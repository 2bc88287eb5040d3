-- upcast_errors: what cannot be an upcaster, and upcasters that break the rules.
\set SHOW_CONTEXT never
CREATE ROLE regress_upcast_owner;
CREATE ROLE regress_upcast_reader;
CREATE SCHEMA upcast_errors AUTHORIZATION regress_upcast_owner;
SET search_path = upcast_errors;
SET ROLE regress_upcast_owner;
SELECT immutable.create_log('ledger'), immutable.create_log('wide', 2);
CREATE TABLE plain (n integer);
CREATE FUNCTION next(e immutable.event) RETURNS immutable.event LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	e.schema_version := e.schema_version + 1;
	RETURN e;
END $$;

-- not a log, not his
SELECT immutable.add_upcaster('plain', 't', 1, 'next');
\echo :SQLSTATE
SELECT immutable.add_upcaster('wide_p0', 't', 1, 'next');
\echo :SQLSTATE
SELECT immutable.drop_upcaster('plain', 't', 1);
SELECT immutable.upcast('wide_p0', NULL);
\echo :SQLSTATE
SET ROLE regress_upcast_reader;
SELECT immutable.add_upcaster('upcast_errors.ledger', 't', 1, 'upcast_errors.next');
RESET ROLE;
GRANT USAGE ON SCHEMA upcast_errors TO regress_upcast_reader;
SET ROLE regress_upcast_reader;
SELECT immutable.add_upcaster('ledger', 't', 1, 'next');
\echo :SQLSTATE
SELECT immutable.drop_upcaster('ledger', 't', 1);
\echo :SQLSTATE
INSERT INTO immutable.upcasters VALUES ('ledger', 't', 1, 'upcast_errors.next(immutable.event)');
\echo :SQLSTATE
SELECT count(*) FROM immutable.upcasters;
SET ROLE regress_upcast_owner;
BEGIN READ ONLY;
SELECT immutable.add_upcaster('ledger', 't', 1, 'next');
\echo :SQLSTATE
ROLLBACK;
BEGIN READ ONLY;
SELECT immutable.drop_upcaster('ledger', 't', 1);
ROLLBACK;

-- no type or schema_version of an event
SELECT immutable.add_upcaster('ledger', '', 1, 'next');
SELECT immutable.add_upcaster('ledger', '$t', 1, 'next');
SELECT immutable.add_upcaster('ledger', repeat('t', 1025), 1, 'next');
SELECT immutable.add_upcaster('ledger', 't', 0, 'next');
\echo :SQLSTATE
SELECT immutable.add_upcaster('ledger', 't', 2147483647, 'next');

-- no function of this kind
CREATE FUNCTION scalar(e immutable.event) RETURNS text LANGUAGE sql IMMUTABLE RETURN e.type;
CREATE FUNCTION two(e immutable.event, n integer DEFAULT 1) RETURNS immutable.event LANGUAGE sql IMMUTABLE RETURN e;
CREATE FUNCTION of_row(e ledger) RETURNS ledger LANGUAGE sql IMMUTABLE RETURN e;
CREATE FUNCTION "any"(e anyelement) RETURNS anyelement LANGUAGE sql IMMUTABLE RETURN e;
CREATE FUNCTION many(e immutable.event) RETURNS SETOF immutable.event LANGUAGE sql IMMUTABLE AS 'SELECT e';
CREATE FUNCTION careless(e immutable.event) RETURNS immutable.event LANGUAGE sql AS 'SELECT e';
CREATE PROCEDURE procedure(e immutable.event) LANGUAGE sql AS '';
CREATE FUNCTION merge(immutable.event, immutable.event) RETURNS immutable.event LANGUAGE sql IMMUTABLE RETURN $2;
CREATE AGGREGATE whole(immutable.event) (SFUNC = merge, STYPE = immutable.event);
CREATE FUNCTION pg_temp.passing(e immutable.event) RETURNS immutable.event LANGUAGE sql IMMUTABLE RETURN e;
CREATE FUNCTION next(e integer) RETURNS integer LANGUAGE sql IMMUTABLE RETURN e;
CREATE FUNCTION hidden(e immutable.event) RETURNS immutable.event LANGUAGE sql IMMUTABLE RETURN e;
REVOKE EXECUTE ON FUNCTION hidden FROM PUBLIC, regress_upcast_owner;
CREATE FUNCTION attempt(f text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('SELECT immutable.add_upcaster(''ledger'', ''t'', 1, %L)', f);
	RETURN 'added';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
SELECT f, regexp_replace(attempt(f), 'pg_temp_\d+', 'pg_temp') FROM unnest('{none,next,scalar,two,of_row,\"any\",many,careless,procedure,whole,pg_temp.passing,hidden,1}'::text[]) f;
DROP FUNCTION next(integer);

-- no gap, nothing twice
SELECT immutable.add_upcaster('ledger', 't', 3, 'next');
SELECT immutable.add_upcaster('ledger', 't', 3, 'next');
\echo :SQLSTATE
SELECT immutable.add_upcaster('ledger', 't', 1, 'next');
\echo :SQLSTATE
SELECT immutable.add_upcaster('ledger', 't', 5, 'next');
SELECT immutable.add_upcaster('ledger', 't', 4, 'next'), immutable.add_upcaster('ledger', 't', 2, 'next'), immutable.add_upcaster('ledger', 'u', 7, 'next');
SELECT immutable.drop_upcaster('ledger', 't', 3);
\echo :SQLSTATE
SELECT immutable.drop_upcaster('ledger', 't', 1);
\echo :SQLSTATE
SELECT immutable.drop_upcaster('ledger', 'none', 1);
SELECT immutable.drop_upcaster('ledger', 't', 2), immutable.drop_upcaster('ledger', 't', 4), immutable.drop_upcaster('ledger', 't', 3), immutable.drop_upcaster('ledger', 'u', 7);
SELECT immutable.drop_upcaster('ledger', 't', 3);

-- the rules: what an upcaster may return
CREATE FUNCTION rule(e immutable.event) RETURNS immutable.event LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	e.schema_version := e.schema_version + 1;
	CASE e.data->>'break'
		WHEN 'null' THEN RETURN NULL;
		WHEN 'cycle' THEN e.schema_version := 1;
		WHEN 'jump' THEN e.schema_version := 3;
		WHEN 'no version' THEN e.schema_version := NULL;
		WHEN 'position' THEN e.position := 7;
		WHEN 'no position' THEN e.position := NULL;
		WHEN 'recorded_at' THEN e.recorded_at := 'infinity';
		WHEN 'version' THEN e.version := 0;
		WHEN 'id' THEN e.id := '018f0000-0000-7000-8000-000000000001';
		WHEN 'stream' THEN e.stream := 'S';
		WHEN 'no type' THEN e.type := NULL;
		WHEN 'empty type' THEN e.type := '';
		WHEN 'reserved type' THEN e.type := '$t';
		WHEN 'no data' THEN e.data := NULL;
		WHEN 'data' THEN e.data := '[1]';
		WHEN 'metadata' THEN e.metadata := '1';
		WHEN 'no metadata' THEN e.metadata := NULL;
		WHEN 'raise' THEN RAISE 'no such thing';
		ELSE e.data := '{"good": true}';
	END CASE;
	RETURN e;
END $$;
SELECT immutable.add_upcaster('ledger', 't', 1, 'rule');
CREATE FUNCTION try(event immutable.event) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	RETURN (immutable.upcast('ledger', event)).data;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN SQLSTATE || ' ' || SQLERRM || ' ' || detail;
END $$;
SELECT b, try(ROW(1, now(), 1, gen_random_uuid(), 1, 's', 't', jsonb_build_object('break', b), '{}')) FROM unnest('{no,"null",cycle,jump,no version,position,no position,
	recorded_at,version,id,stream,no type,empty type,reserved type,no data,data,metadata,no metadata,raise}'::text[]) WITH ORDINALITY b(b, n) ORDER BY n;
-- what was NULL may stay so
SELECT try(ROW(NULL, NULL, NULL, NULL, 1, NULL, 't', '{"break": "no metadata"}', NULL));

-- by every reader, and it says which event it was
SELECT immutable.append('ledger', 's', 't', '{"break": "no"}'), immutable.append('ledger', 's', 't', '{"break": "jump"}');
CREATE FUNCTION counts(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN state + 1;
SELECT immutable.create_consumer('upcast_errors', 'ledger', after_position => 0);
\set SHOW_CONTEXT always
SELECT version FROM immutable.read_stream('ledger', 's');
\set SHOW_CONTEXT never
SELECT version FROM immutable.read_stream('ledger', 's', max_events => 1);
SELECT version FROM immutable.read_log('ledger');
SELECT version FROM immutable.read_log('ledger', max_events => 1);
BEGIN;
SELECT version FROM immutable.poll('upcast_errors', 1);
SELECT immutable.ack('upcast_errors', 1);
SELECT version FROM immutable.poll('upcast_errors', 1);
ROLLBACK;
SELECT immutable.replay('ledger', 's', 0::bigint, 'counts', 1);
SELECT immutable.replay('ledger', 's', 0::bigint, 'counts');
SELECT immutable.fold(0::bigint, 'counts', e) FROM ledger e;
\echo :SQLSTATE
SELECT immutable.stream_version('ledger', 's'), (SELECT count(*) FROM ledger);

-- tried on an event of the log when it is added
SELECT immutable.drop_upcaster('ledger', 't', 1);
SELECT immutable.append('ledger', 'x', 'broken', jsonb_build_object('break', b)) IS NOT NULL AS appended FROM unnest('{jump,cycle,raise,no data}'::text[]) b;
CREATE FUNCTION probe(type text, data jsonb, upcaster regproc) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	IF data IS NOT NULL THEN
		PERFORM immutable.append('wide', 's', type, data);
	END IF;
	PERFORM immutable.add_upcaster('wide', type, 1, upcaster);
	RETURN 'added';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN SQLSTATE || ' ' || SQLERRM || ' ' || detail;
END $$;
SELECT b, probe(b, jsonb_build_object('break', b), 'rule') FROM unnest('{jump,cycle,"null",no data,raise,no}'::text[]) b;
-- or on one without data, which it may refuse
CREATE FUNCTION needs_data(e immutable.event) RETURNS immutable.event LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	ASSERT e.data ? 'x', 'no x';
	RETURN e;
END $$;
CREATE FUNCTION drops_data(e immutable.event) RETURNS immutable.event LANGUAGE sql IMMUTABLE AS $$
	SELECT e.position, e.recorded_at, e.version, e.id, 2, e.stream, e.data->>'kind', NULLIF(e.data, '{}'), e.metadata
$$;
CREATE FUNCTION same(e immutable.event) RETURNS immutable.event LANGUAGE sql IMMUTABLE RETURN e;
CREATE FUNCTION stays_null(e immutable.event) RETURNS immutable.event LANGUAGE sql IMMUTABLE RETURN NULL::immutable.event;
SELECT f, probe(f::text || ' without events', NULL, f) FROM unnest('{needs_data,drops_data,stays_null,same,rule}'::regproc[]) f;
SELECT type, upcaster FROM immutable.upcasters WHERE log = 'wide'::regclass ORDER BY type;

-- what becomes of the function afterwards
SELECT immutable.create_log('later');
SELECT immutable.append('later', 's', 't');
SELECT immutable.add_upcaster('later', 't', 1, 'next');
GRANT SELECT ON later TO regress_upcast_reader;
SELECT schema_version FROM immutable.read_stream('later', 's');
REVOKE EXECUTE ON FUNCTION next FROM PUBLIC;
SELECT schema_version FROM immutable.read_stream('later', 's');
SET ROLE regress_upcast_reader;
SELECT schema_version FROM immutable.read_stream('later', 's');
\echo :SQLSTATE
SELECT schema_version FROM later;
-- where no event needs it, its right is not asked for
SELECT * FROM immutable.read_stream('later', 'none');
-- upcast needs no right on the log
SELECT (immutable.upcast('ledger', ROW(NULL, NULL, NULL, NULL, 1, NULL, 't', NULL, NULL))).schema_version;
SELECT (immutable.upcast('later', ROW(NULL, NULL, NULL, NULL, 1, NULL, 't', NULL, NULL))).schema_version;
SET ROLE regress_upcast_owner;
SELECT schema_version FROM immutable.read_stream('later', 's');
-- a schema that is closed to the reader is no obstacle
GRANT EXECUTE ON FUNCTION next TO PUBLIC;
RESET ROLE;
REVOKE USAGE ON SCHEMA upcast_errors FROM regress_upcast_reader;
SELECT 'later'::regclass::oid AS later \gset
SET ROLE regress_upcast_reader;
SELECT schema_version FROM immutable.read_stream(:later, 's');
SET ROLE regress_upcast_owner;
ALTER FUNCTION next VOLATILE;
SELECT schema_version FROM immutable.read_stream('later', 's');
\echo :SQLSTATE
ALTER FUNCTION next IMMUTABLE;
ALTER FUNCTION next RENAME TO afterwards;
SELECT schema_version FROM immutable.read_stream('later', 's');
\echo :SQLSTATE
SELECT immutable.fold(0::bigint, 'counts', e) FROM later e;
CREATE FUNCTION next(e immutable.event) RETURNS text LANGUAGE sql IMMUTABLE RETURN '';
SELECT schema_version FROM immutable.read_stream('later', 's');
\echo :SQLSTATE
DROP FUNCTION next;
SELECT schema_version FROM immutable.read_stream('later', 's');
ALTER FUNCTION afterwards RENAME TO "Ne""xt.";
SELECT immutable.drop_upcaster('later', 't', 1), immutable.add_upcaster('later', 't', 1, '"Ne""xt."');
SELECT upcaster FROM immutable.upcasters WHERE log = 'later'::regclass;
SELECT schema_version FROM immutable.read_stream('later', 's');
-- a registry that a superuser has written to
RESET ROLE;
UPDATE immutable.upcasters SET upcaster = 'nonsense' WHERE log = 'later'::regclass;
SELECT schema_version FROM immutable.read_stream('later', 's');
UPDATE immutable.upcasters SET upcaster = '(immutable.event)' WHERE log = 'later'::regclass;
SELECT schema_version FROM immutable.read_stream('later', 's');
TRUNCATE immutable.upcasters;
SELECT schema_version FROM immutable.read_stream('later', 's');

SELECT immutable.drop_log(log, force => true) FROM unnest('{later,wide}'::regclass[]) log;
DROP FUNCTION of_row;
SELECT immutable.drop_log('ledger', force => true);
SET client_min_messages = warning;
DROP SCHEMA upcast_errors CASCADE;
DROP OWNED BY regress_upcast_owner;
DROP ROLE regress_upcast_owner, regress_upcast_reader;
