-- replay_all: every stream's state, as fold gives it over the same events.
\set SHOW_CONTEXT never
CREATE ROLE regress_replay_all;
CREATE ROLE regress_replay_all_north;
CREATE SCHEMA replay_all AUTHORIZATION regress_replay_all;
GRANT USAGE ON SCHEMA replay_all TO regress_replay_all_north;
SET search_path = replay_all;
SET ROLE regress_replay_all;
SET timezone = 'UTC';
SELECT immutable.create_log('plain'), immutable.create_log('wide', 3), immutable.create_log('jumbled'), immutable.create_log('empty');
CREATE VIEW logs AS SELECT * FROM unnest(ARRAY['plain', 'wide', 'jumbled', 'empty']::regclass[]) WITH ORDINALITY l(log, nr);

-- reducers: by value, a row, text that tells the order, jsonb by PL/pgSQL, strict, one that forgets
CREATE TYPE account AS (balance bigint, last text);
CREATE FUNCTION total(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN coalesce(state, 0) + (e.data->>'n')::bigint;
CREATE FUNCTION apply(state account, e immutable.event) RETURNS account LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE e.type WHEN 'in' THEN ROW(coalesce(state.balance, 0) + (e.data->>'n')::bigint, e.type)::replay_all.account
		WHEN 'out' THEN ROW(coalesce(state.balance, 0) - (e.data->>'n')::bigint, e.type)::replay_all.account
		ELSE state END
$$;
CREATE FUNCTION trail(state text, e immutable.event) RETURNS text LANGUAGE sql IMMUTABLE
RETURN state || e.version || e.type || ' ';
CREATE FUNCTION document(state jsonb, e immutable.event) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	RETURN coalesce(state, '{}') || e.data || jsonb_build_object('at', e.position);
END $$;
CREATE FUNCTION strictly(state numeric, e immutable.event) RETURNS numeric LANGUAGE sql IMMUTABLE STRICT
RETURN CASE WHEN e.type <> 'void' THEN state * 3 + e.version END;
CREATE FUNCTION forget(state text, e immutable.event) RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN e.version % 3 <> 0 THEN concat(state, '+') END;
CREATE FUNCTION collect(state integer[], e immutable.event) RETURNS integer[] LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	state[e.version] := (e.data->>'n')::integer;
	RETURN state;
END $$;
CREATE VIEW reducers AS SELECT * FROM (VALUES
	('total', 'NULL::bigint'), ('total', '5::bigint'), ('apply', 'NULL::replay_all.account'), ('apply', 'ROW(100, NULL)::replay_all.account'),
	('trail', '''''::text'), ('trail', 'NULL::text'), ('document', 'NULL::jsonb'), ('strictly', '1::numeric'), ('forget', '''''::text'),
	('collect', '''{}''::integer[]'), ('immutable.merge_patch', '''{"a": 1}''::jsonb'), ('immutable.merge_patch', 'NULL::jsonb')) v(reducer, initial);

-- the oracle: how many rows differ from what fold gives, and how many there are
CREATE FUNCTION differ(log regclass, reducer text, initial text, types text[] DEFAULT NULL, prefix text DEFAULT NULL,
	upto bigint DEFAULT NULL, as_of timestamptz DEFAULT NULL, OUT differ bigint, OUT streams bigint)
LANGUAGE plpgsql STABLE AS $$
BEGIN
	EXECUTE format($q$
		WITH a AS MATERIALIZED (SELECT stream, version, state::text
			FROM immutable.replay_all($1, %s, $2, $3, $4, $5, $6)),
		b AS MATERIALIZED (SELECT stream, max(version), immutable.fold(%s, %L, e ORDER BY e.version)::text FROM %s e
			WHERE ($3 IS NULL OR type = ANY ($3)) AND ($4 IS NULL OR starts_with(stream, $4))
				AND ($5 IS NULL OR position <= $5) AND ($6 IS NULL OR recorded_at <= $6)
			GROUP BY stream)
		SELECT (SELECT count(*) FROM (TABLE a EXCEPT ALL TABLE b) x) + (SELECT count(*) FROM (TABLE b EXCEPT ALL TABLE a) y),
			(SELECT count(*) FROM a)$q$, initial, initial, reducer, log)
	INTO differ, streams USING log, reducer::regproc, types, prefix, upto, as_of;
END $$;

-- random streams; the rows lie in the heap in any order, with holes from what was rolled back
SELECT FROM setseed(0.37);
CREATE TEMP TABLE event AS
SELECT i * 10 AS position, '2024-01-01'::timestamptz + (i - i % 7) * interval '1 hour' AS recorded_at,
	row_number() OVER (PARTITION BY s ORDER BY i) AS version, md5(i::text)::uuid AS id, s AS stream,
	(ARRAY['in', 'out', 'note', 'void'])[1 + floor(random() ^ 2 * 4)::integer] AS type,
	CASE WHEN random() < 0.1 THEN '{"n": 7, "a": null}' ELSE jsonb_build_object('n', i % 100, 'k' || i % 5, i) END AS data
FROM (SELECT i, (ARRAY['a-', 'a_', 'b-', 'ä%', ''])[1 + floor(random() * 5)::integer] || floor(random() ^ 2 * 20) AS s
	FROM generate_series(1, 2000) i) r;
CREATE FUNCTION import(log regclass, part integer, jumble boolean DEFAULT false) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	-- jumbled: versions do not rise with positions, and have gaps
	EXECUTE format('INSERT INTO %s SELECT CASE WHEN $2 THEN 30000 - position ELSE position END, recorded_at,
		CASE WHEN $2 THEN version * 2 ELSE version END, id, 1, stream, type, data, ''{}''
		FROM pg_temp.event WHERE (position / 10 + length(stream)) %% 3 = $1 ORDER BY random()', log) USING part, jumble;
END $$;
BEGIN;
SET LOCAL immutable.import = on;
SELECT import('plain', 0), import('wide', 0), import('jumbled', 0, true);
SAVEPOINT s;
SELECT import('plain', 1), import('wide', 1), import('jumbled', 1, true);
ROLLBACK TO s;
SELECT import('plain', 2), import('wide', 2), import('jumbled', 2, true);
SELECT import('plain', 1), import('wide', 1), import('jumbled', 1, true);
COMMIT;
SELECT (immutable.append(log, 'a-1', 'in', '{"n": 1}')).written FROM unnest(ARRAY['plain', 'wide', 'jumbled']::regclass[]) log;
SELECT log, count(*) FROM logs, LATERAL immutable.replay_all(log, 0::bigint, 'total') r
WHERE r.version <> immutable.stream_version(log, stream) OR r.state <> immutable.replay(log, stream, 0::bigint, 'total') GROUP BY log;

-- the same as fold, for every reducer and log
SELECT reducer, initial, array_agg(differ ORDER BY nr) AS differ, array_agg(streams ORDER BY nr) AS streams
FROM reducers, logs, LATERAL differ(log, reducer, initial) GROUP BY reducer, initial ORDER BY reducer COLLATE "C", initial COLLATE "C";
-- and for every filter
SELECT f.*, array_agg(differ ORDER BY nr) AS differ, array_agg(streams ORDER BY nr) AS streams
FROM logs, (VALUES (1, '{in}'::text[], NULL, NULL::bigint, NULL::timestamptz), (2, '{in,void,"nothing",NULL}', NULL, NULL, NULL),
	(3, '{}', NULL, NULL, NULL), (4, NULL, 'a', NULL, NULL), (5, NULL, 'a_', NULL, NULL), (6, NULL, 'ä%1', NULL, NULL), (7, NULL, '', NULL, NULL),
	(8, NULL, 'none', NULL, NULL), (9, NULL, NULL, 0, NULL), (10, NULL, NULL, 10, NULL), (11, NULL, NULL, 4321, NULL),
	(12, NULL, NULL, 9223372036854775807, NULL), (13, NULL, NULL, NULL, '2024-01-10'), (14, NULL, NULL, NULL, '-infinity'),
	(15, NULL, NULL, NULL, 'infinity'), (16, '{in,out}', 'b', 12340, '2024-02-20 12:00')) f(nr_f, types, prefix, upto, as_of),
	LATERAL differ(log, 'trail', '''''::text', types, prefix, upto, as_of) GROUP BY 1, 2, 3, 4, 5 ORDER BY 1;

-- NULLs: of the state, and of arguments
SELECT count(*), count(state) < count(*) AS some_null, bool_and(stream IS NOT NULL AND version > 0) FROM immutable.replay_all('plain', ''::text, 'forget');
SELECT count(*) FROM immutable.replay_all('plain', 0::bigint, 'total', NULL, NULL, NULL, NULL);
SELECT * FROM immutable.replay_all('empty', 0::bigint, 'total');

-- thousands of streams with states that grow, in little memory: the same answer
SELECT immutable.create_log('many'), immutable.create_log('many_wide', 2), immutable.create_log('many_odd');
CREATE FUNCTION swell(state text, e immutable.event) RETURNS text LANGUAGE sql IMMUTABLE
RETURN state || repeat(e.stream, 1 + (e.version * 5)::integer);
CREATE FUNCTION swell_slowly(state text, e immutable.event) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
'BEGIN RETURN state || repeat(e.stream, 9); END';
BEGIN;
SET LOCAL immutable.import = on;
INSERT INTO many SELECT i, now(), 1 + i / 3000, md5(i::text)::uuid, 1, 'stream ' || i % 3000, 't',
	jsonb_build_object('n', i, 'k' || i, repeat('x', i % 50)), '{}' FROM generate_series(0, 11999) i WHERE i > 0 ORDER BY i % 10, i;
INSERT INTO many_wide SELECT * FROM many WHERE position % 3000 < 1000;
-- some streams out of order, which are met when others have been returned
INSERT INTO many_odd SELECT position, recorded_at, CASE WHEN stream LIKE '%7' AND hashtext(stream) BETWEEN -1000000000 AND -500000000 THEN 9 - version ELSE version END, id, 1, stream, type, data, metadata FROM many;
COMMIT;
-- one stream larger than all memory there is
SELECT immutable.append('many_wide', 'large', 't', jsonb_build_object('n', 1, 'x', repeat(md5(i::text), 10000))) IS NULL AS appended FROM generate_series(1, 3) i;
SET work_mem = '64kB';
CREATE VIEW little AS SELECT log, reducer, initial FROM (VALUES ('many'::regclass), ('many_wide'), ('many_odd')) l(log),
	(VALUES ('swell', '''''::text'), ('swell_slowly', '''''::text'), ('immutable.merge_patch', 'NULL::jsonb'), ('total', '0::bigint'), ('strictly', '1::numeric')) r(reducer, initial);
SELECT log, reducer, d.* FROM little, LATERAL differ(log, reducer, initial) d ORDER BY log::text COLLATE "C", reducer COLLATE "C";
-- also where to read streams with a prefix one by one would cost more
SET random_page_cost = 1e6;
SELECT log, reducer, d.* FROM little, LATERAL differ(log, reducer, initial) d WHERE log <> 'many'::regclass ORDER BY log::text COLLATE "C", reducer COLLATE "C";
SELECT differ('many', 'swell', '''''::text', prefix => 'stream 2', upto => 10000);
RESET random_page_cost;
RESET work_mem;
SELECT differ(log, reducer, '''''::text') FROM (VALUES ('many'::regclass), ('many_wide')) l(log), (VALUES ('swell'), ('swell_slowly')) r(reducer);

-- row by row: a cursor sees what its first row saw, whatever comes in between
CREATE FUNCTION rest(cursor refcursor, OUT rows bigint, OUT total numeric) LANGUAGE plpgsql AS $$
DECLARE
	r record;
BEGIN
	rows := 0;
	total := 0;
	LOOP
		FETCH cursor INTO r;
		EXIT WHEN NOT FOUND;
		rows := rows + 1;
		total := total + coalesce(length(r.state), 0) + r.version;
	END LOOP;
END $$;
SELECT count(*), sum(length(state) + version) FROM immutable.replay_all('many', ''::text, 'swell');
SELECT count(*), sum(length(state) + version) FROM immutable.replay_all('many', ''::text, 'swell', stream_prefix => 'stream 1');
SET work_mem = '64kB';
SET random_page_cost = 1e6;
BEGIN;
DECLARE c CURSOR FOR SELECT (r).* FROM (SELECT immutable.replay_all('many', ''::text, 'swell') AS r) s;
DECLARE w CURSOR FOR SELECT (r).* FROM (SELECT immutable.replay_all('many_wide', ''::text, 'swell') AS r) s;
MOVE 1 IN w;
CLOSE w;
DECLARE d CURSOR FOR SELECT (immutable.replay_all('many', ''::text, 'swell', stream_prefix => 'stream 1')).*;
MOVE 0 IN c;
SELECT count(immutable.append('many', 'stream ' || i, 't')) FROM generate_series(1, 10) i;
SAVEPOINT s;
MOVE 1 IN d;
SELECT count(immutable.append('many', 'stream x' || i, 't')) FROM generate_series(1, 10) i;
ROLLBACK TO s;
SELECT count(immutable.append('many', 'stream y' || i, 't')) FROM generate_series(1, 10) i;
SELECT * FROM rest('c');
SELECT rows FROM rest('d');
ROLLBACK;
-- closed early, by name, by the end, by LIMIT, and in a loop that is left
BEGIN READ ONLY;
DECLARE c NO SCROLL CURSOR FOR SELECT immutable.replay_all('many', ''::text, 'swell') AS r;
MOVE 10 IN c;
CLOSE c;
DECLARE c CURSOR FOR SELECT immutable.replay_all('many', ''::text, 'swell') AS r;
MOVE 10 IN c;
COMMIT;
SELECT count(*) FROM (SELECT immutable.replay_all('many', ''::text, 'swell') LIMIT 7) s;
SELECT n, (SELECT count(*) FROM (SELECT immutable.replay_all('many', ''::text, 'swell', stream_prefix => 'stream ' || n) LIMIT n * 50) s) FROM generate_series(1, 3) n;
DO $$
DECLARE
	n integer := 0;
	r record;
BEGIN
	FOR i IN 1 .. 3 LOOP
		FOR r IN SELECT immutable.replay_all('many', ''::text, 'swell') AS row LOOP
			n := n + 1;
			EXIT WHEN n % 100 = 0;
		END LOOP;
	END LOOP;
	RAISE NOTICE '% rows', n;
END $$;
-- held: kept when the transaction ends, as it was
BEGIN;
DECLARE h CURSOR WITH HOLD FOR SELECT (r).* FROM (SELECT immutable.replay_all('many', ''::text, 'swell') AS r) s;
MOVE 10 IN h;
SELECT count(immutable.append('many', 'stream z' || i, 't')) FROM generate_series(1, 10) i;
COMMIT;
SELECT rows AS remain FROM rest('h');
CLOSE h;
RESET random_page_cost;
SELECT count(*) FROM immutable.replay_all('many', ''::text, 'swell');
-- a cursor that goes back, two at once, and one within another
BEGIN;
DECLARE s SCROLL CURSOR FOR SELECT (r).stream FROM (SELECT immutable.replay_all('many', ''::text, 'swell') AS r) s;
MOVE FORWARD 700 IN s;
SELECT count(*) FROM immutable.replay_all('many', ''::text, 'swell') WHERE version > 1;
FETCH BACKWARD 0 FROM s \gset first_
MOVE BACKWARD 600 IN s;
MOVE FORWARD 600 IN s;
FETCH FORWARD 0 FROM s \gset again_
SELECT :'first_stream' = :'again_stream' AS same;
COMMIT;
SELECT a.stream, b.version FROM immutable.replay_all('plain', ''::text, 'trail', stream_prefix => 'a-1') a
JOIN LATERAL immutable.replay_all('many', ''::text, 'swell', stream_prefix => 'stream ' || a.version || '0') b ON true WHERE a.stream = 'a-1' ORDER BY 1, 2 LIMIT 3;
RESET work_mem;

-- policies: a query gives the rows, each role folds what it may see
RESET ROLE;
SET ROLE regress_replay_all;
GRANT SELECT ON plain, wide, jumbled, many, many_wide, reducers TO regress_replay_all_north;
DO $$
DECLARE
	log text;
BEGIN
	FOREACH log IN ARRAY ARRAY['plain', 'wide', 'jumbled', 'many', 'many_wide'] LOOP
		EXECUTE format('ALTER TABLE replay_all.%I ENABLE ROW LEVEL SECURITY', log);
		EXECUTE format('CREATE POLICY even ON replay_all.%I FOR SELECT USING (version %% 2 = 0)', log);
	END LOOP;
END $$;
SELECT sum(differ), count(*) FROM reducers, logs, LATERAL differ(log, reducer, initial);
RESET ROLE;
SET ROLE regress_replay_all_north;
SELECT log, sum(differ), sum(streams) FROM reducers, unnest(ARRAY['plain', 'wide', 'jumbled', 'many_wide']::regclass[]) log, LATERAL differ(log, reducer, initial) GROUP BY 1 ORDER BY log::text COLLATE "C";
SELECT log, differ(log, 'trail', '''''::text', '{in,out}', 'b', 12340, '2024-02-20 12:00') FROM unnest(ARRAY['plain', 'wide', 'jumbled']::regclass[]) log;
SELECT DISTINCT version % 2 FROM immutable.replay_all('plain', ''::text, 'trail');
BEGIN;
DECLARE c CURSOR FOR SELECT (r).* FROM (SELECT immutable.replay_all('many_wide', ''::text, 'swell') AS r) s;
SAVEPOINT s;
MOVE 100 IN c;
ROLLBACK TO s;
MOVE 100 IN c;
SELECT rows AS remain FROM rest('c');
DECLARE e CURSOR FOR SELECT immutable.replay_all('wide', ''::text, 'trail');
MOVE 1 IN e;
CLOSE e;
COMMIT;

RESET ROLE;
DROP VIEW logs, little;
DROP TABLE event;
SELECT immutable.drop_log(l, force => true) FROM unnest(ARRAY['plain', 'wide', 'jumbled', 'empty', 'many', 'many_wide', 'many_odd']::regclass[]) l;
SET client_min_messages = warning;
DROP SCHEMA replay_all CASCADE;
DROP ROLE regress_replay_all, regress_replay_all_north;
