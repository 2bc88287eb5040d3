-- Every way of an event into a log is a way into its read models: append, its
-- batches, the planner's path, imports; the state is compared with replay.
CREATE ROLE regress_paths;
CREATE SCHEMA projection_paths AUTHORIZATION regress_paths;
SET search_path = projection_paths;
SET ROLE regress_paths;
SELECT immutable.create_log('plain'), immutable.create_log('parted', partitions => 3), immutable.create_log('secured');
ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
ALTER TABLE secured FORCE ROW LEVEL SECURITY;
CREATE POLICY all_rows ON secured USING (true);

-- a state that depends on the order of events
CREATE TABLE plain_state (stream text PRIMARY KEY, versions bigint[] NOT NULL DEFAULT '{}', hash text NOT NULL DEFAULT '');
CREATE TABLE parted_state (LIKE plain_state INCLUDING ALL);
CREATE TABLE secured_state (LIKE plain_state INCLUDING ALL);
CREATE TABLE later_state (LIKE plain_state INCLUDING ALL);
CREATE FUNCTION chain(r plain_state, e immutable.event) RETURNS plain_state LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN e.type = 'closed' THEN NULL ELSE ROW(r.stream, r.versions || e.version, md5(r.hash || e.data::text))::plain_state END $$;
CREATE FUNCTION chain(r parted_state, e immutable.event) RETURNS parted_state LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN e.type = 'closed' THEN NULL ELSE ROW(r.stream, r.versions || e.version, md5(r.hash || e.data::text))::parted_state END $$;
CREATE FUNCTION chain(r secured_state, e immutable.event) RETURNS secured_state LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN e.type = 'closed' THEN NULL ELSE ROW(r.stream, r.versions || e.version, md5(r.hash || e.data::text))::secured_state END $$;
CREATE FUNCTION chain(r later_state, e immutable.event) RETURNS later_state LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN e.type = 'closed' THEN NULL ELSE ROW(r.stream, r.versions || e.version, md5(r.hash || e.data::text))::later_state END $$;
SELECT immutable.create_projection('plain_state', 'plain', 'chain(projection_paths.plain_state,immutable.event)'::regprocedure),
	immutable.create_projection('parted_state', 'parted', 'chain(projection_paths.parted_state,immutable.event)'::regprocedure),
	immutable.create_projection('secured_state', 'secured', 'chain(projection_paths.secured_state,immutable.event)'::regprocedure),
	immutable.create_projection('later_state', 'plain', 'chain(projection_paths.later_state,immutable.event)'::regprocedure, mode => 'async');
-- the rows that differ from the log's own history; no row when all is well
CREATE FUNCTION differences(log regclass, model regclass) RETURNS TABLE (stream text) LANGUAGE plpgsql AS $$
DECLARE
	e immutable.event;
BEGIN
	CREATE TEMP TABLE expected (stream text PRIMARY KEY, versions bigint[], hash text);
	FOR e IN EXECUTE format('SELECT * FROM %s ORDER BY position', log) LOOP
		IF e.type = 'closed' THEN
			DELETE FROM expected x WHERE x.stream = e.stream;
		ELSE
			INSERT INTO expected VALUES (e.stream, ARRAY[e.version], md5(e.data::text))
			ON CONFLICT ON CONSTRAINT expected_pkey DO UPDATE SET versions = expected.versions || e.version, hash = md5(expected.hash || e.data::text);
		END IF;
	END LOOP;
	RETURN QUERY EXECUTE format('SELECT d.stream FROM ((TABLE expected EXCEPT TABLE %1$s) UNION (TABLE %1$s EXCEPT TABLE expected)) d', model);
	DROP TABLE expected;
END $$;
SET client_min_messages = warning;

SELECT immutable.append(log, s, CASE WHEN random() < 0.1 THEN 'closed' ELSE 'changed' END, jsonb_build_object('r', random()))
	IS NOT NULL AS appended
FROM unnest('{plain,parted,secured}'::regclass[]) log, unnest('{a,b,c}'::text[]) s, generate_series(1, 5) GROUP BY 1;
SELECT immutable.append_batch(log, s, array_agg(ROW('changed', jsonb_build_object('r', random()), NULL, NULL, NULL)::immutable.new_event))
	IS NOT NULL AS appended
FROM unnest('{plain,parted,secured}'::regclass[]) log, unnest('{b,c,d}'::text[]) s, generate_series(1, 40) GROUP BY log, s;
SELECT immutable.append_json(log, 'e', '[{"type": "changed"}, {"type": "closed"}, {"type": "changed", "data": {"n": 3}}]')
FROM unnest('{plain,parted,secured}'::regclass[]) log;
DO $$ BEGIN
	BEGIN
		PERFORM immutable.append('plain', 'a', 'changed', '{"lost": 1}');
		RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN NULL;
	END;
	PERFORM immutable.append('plain', 'a', 'changed', '{"kept": 1}');
END $$;
SELECT differences('plain', 'plain_state');
SELECT differences('parted', 'parted_state');
SELECT differences('secured', 'secured_state');

-- imports, in any order within a statement; event n of stream i has version n
-- and an id of its own
CREATE FUNCTION old(i int, n int, p bigint) RETURNS immutable.event LANGUAGE sql
RETURN ROW(p, '2020-01-01'::timestamptz + n * interval '1 hour', n, lpad(to_hex(p), 32, '0')::uuid, 1, 'i' || i, 'changed', jsonb_build_object('n', n), '{}')::immutable.event;
BEGIN;
SET LOCAL immutable.import = on;
INSERT INTO plain SELECT (old(i, n, 1000 + i * 10 + n)).* FROM generate_series(1, 9) i, generate_series(1, 9) n ORDER BY n, -i;
INSERT INTO parted SELECT (old(i, n, 1000 + i * 10 + n)).* FROM generate_series(1, 9) i, generate_series(1, 9) n ORDER BY i, n DESC;
COPY plain FROM stdin;
1201	2021-01-01	1	00000000-0000-0000-0000-000000000c01	1	j	changed	{"n": 1}	{}
1202	2021-01-01	2	00000000-0000-0000-0000-000000000c02	1	j	changed	{"n": 2}	{}
\.
COMMIT;
SELECT differences('plain', 'plain_state');
SELECT differences('parted', 'parted_state');
-- a stream whose later events have been projected
BEGIN;
SET LOCAL immutable.import = on;
INSERT INTO plain SELECT (old(20, n, 2000 + n)).* FROM generate_series(2, 3) n;
INSERT INTO plain SELECT (old(20, 1, 1999)).*;
\echo :SQLSTATE
ROLLBACK;
-- past the trigger of the log
BEGIN;
SET LOCAL immutable.import = on;
INSERT INTO parted_p0 SELECT (old(20, 1, 3000)).*;
\echo :SQLSTATE
ROLLBACK;
SELECT differences('plain', 'plain_state');

-- asynchronously the same, and no import below what was read
CALL immutable.catch_up('later_state');
SELECT differences('plain', 'later_state');
BEGIN;
SET LOCAL immutable.import = on;
INSERT INTO plain SELECT (old(21, 1, 500)).*;
\echo :SQLSTATE
ROLLBACK;
BEGIN;
SELECT immutable.append('plain', 'k', 'changed') IS NOT NULL AS appended;
SET LOCAL immutable.import = on;
INSERT INTO plain SELECT (old(21, 1, 5000)).*;
COMMIT;
CALL immutable.catch_up('later_state');
SELECT differences('plain', 'later_state');
SELECT differences('plain', 'plain_state');

-- a trigger on the log, or on a read model, that appends to the same log
CREATE FUNCTION follow_up() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.type = 'first' THEN PERFORM immutable.append('plain', NEW.stream, 'second'); END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER follow_up AFTER INSERT ON plain FOR EACH ROW EXECUTE FUNCTION follow_up();
SELECT immutable.append('plain', 'f', 'first');
\echo :SQLSTATE
DROP TRIGGER follow_up ON plain;
CREATE FUNCTION react() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM immutable.append('projection_paths.plain', 'another', 'reacted');
	RETURN NEW;
END $$;
CREATE TRIGGER react AFTER INSERT OR UPDATE ON plain_state FOR EACH ROW WHEN (NEW.stream = 'r') EXECUTE FUNCTION react();
SELECT immutable.append('plain', 'r', 'first');
\echo :SQLSTATE
-- one that pulls the projection away, writes to the read model, or swallows a row
CREATE OR REPLACE FUNCTION react() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM immutable.set_projection_mode('projection_paths.plain_state', 'async');
	RETURN NEW;
END $$;
SELECT immutable.append('plain', 'r', 'first');
\echo :SQLSTATE
CREATE OR REPLACE FUNCTION react() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	DELETE FROM projection_paths.plain_state;
	RETURN NEW;
END $$;
SELECT immutable.append('plain', 'r', 'first');
\echo :SQLSTATE
DROP TRIGGER react ON plain_state;
CREATE OR REPLACE FUNCTION react() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER react BEFORE INSERT OR UPDATE ON plain_state FOR EACH ROW WHEN (NEW.stream = 'r') EXECUTE FUNCTION react();
SELECT immutable.append('plain', 'r', 'first');
\echo :SQLSTATE
DROP TRIGGER react ON plain_state;
-- an honest one is let be
CREATE TABLE seen (stream text);
CREATE OR REPLACE FUNCTION react() RETURNS trigger LANGUAGE plpgsql AS
'BEGIN INSERT INTO projection_paths.seen VALUES (NEW.stream); RETURN NEW; END';
CREATE TRIGGER react AFTER INSERT OR UPDATE ON plain_state FOR EACH ROW EXECUTE FUNCTION react();
SELECT immutable.append('plain', 'r', 'first') IS NOT NULL AS appended;
TABLE seen;
SELECT differences('plain', 'plain_state');

-- events of an old shape are upcast, whatever way they come
CREATE FUNCTION newer(e immutable.event) RETURNS immutable.event LANGUAGE sql IMMUTABLE AS $$
	SELECT e.position, e.recorded_at, e.version, e.id, 2, e.stream, 'named', e.data || '{"upcast": true}', e.metadata
$$;
SELECT immutable.add_upcaster('parted', 'called', 1, 'newer');
CREATE TABLE names (stream text PRIMARY KEY, types text[] DEFAULT '{}', data jsonb);
CREATE TABLE later_names (LIKE names INCLUDING ALL);
CREATE FUNCTION name(r names, e immutable.event) RETURNS names LANGUAGE sql IMMUTABLE AS 'SELECT r.stream, r.types || e.type, e.data';
CREATE FUNCTION name(r later_names, e immutable.event) RETURNS later_names LANGUAGE sql IMMUTABLE AS 'SELECT r.stream, r.types || e.type, e.data';
SELECT immutable.append('parted', 'n1', 'called', '{"n": 1}') IS NOT NULL AS appended;
SELECT immutable.create_projection('names', 'parted', 'name(projection_paths.names,immutable.event)'::regprocedure, types => '{named}'),
	immutable.create_projection('later_names', 'parted', 'name(projection_paths.later_names,immutable.event)'::regprocedure, types => '{named}', mode => 'async');
SELECT immutable.append('parted', 'n1', 'called', '{"n": 2}') IS NOT NULL AS appended;
SELECT immutable.append('parted', 'n2', 'called', '{"n": 3}', schema_version => 2) IS NOT NULL AS appended;
CALL immutable.catch_up('later_names');
SELECT * FROM names ORDER BY stream;
SELECT * FROM later_names ORDER BY stream;

SELECT immutable.drop_projection(target) FROM immutable.projections;
RESET ROLE;
SELECT immutable.drop_log(log, force => true) FROM unnest('{plain,parted,secured}'::regclass[]) log;
DROP SCHEMA projection_paths CASCADE;
DROP ROLE regress_paths;
