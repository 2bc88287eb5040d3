-- rebuild by several processes, and within little memory: the same rows.
\set SHOW_CONTEXT never
CREATE ROLE regress_rebuild_parallel;
CREATE SCHEMA rebuild_parallel AUTHORIZATION regress_rebuild_parallel;
SET search_path = rebuild_parallel;
SET ROLE regress_rebuild_parallel;
SHOW immutable.rebuild_workers;
SET immutable.rebuild_workers = -1;
SET immutable.rebuild_workers = 2;
SELECT immutable.create_log('orders');
-- 15,000 events of 150 streams, at positions where workers pay: there may be gaps
SELECT setval('orders_position_seq', 50000);
SELECT sum((immutable.append_batch('orders', 'order-' || s, ARRAY(
	SELECT (CASE WHEN (s + i) % 41 = 0 THEN 'gone' WHEN i % 3 = 0 THEN 'paid' ELSE 'made' END,
		jsonb_build_object('customer', substr('abcdefghijABCDEFGHIJ', 1 + (s * 7 + i) % 20, 1) || (s * 7 + i) % 10, 'day', (s + i) % 30, 'amount', i,
			'tags', 't' || s % 50 || ',t' || (s * 100 + i) % 20000 || ',t' || s % 50), NULL, NULL, 1)::immutable.new_event
	FROM generate_series(1, 100) i))).written) FROM generate_series(1, 150) s;
CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);

-- a stream; rows are deleted and begin again; defaults, generated columns and constraints
CREATE TABLE by_stream (stream text PRIMARY KEY, n bigint DEFAULT 100 CHECK (n >= 100), last text, made timestamptz DEFAULT now(), double bigint GENERATED ALWAYS AS (n * 2) STORED);
CREATE FUNCTION apply_stream(r by_stream, e immutable.event) RETURNS by_stream LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT CASE WHEN e.type <> 'gone' THEN ROW(r.stream, r.n + (e.data->>'amount')::bigint, e.type, NULL, NULL)::by_stream END $$;
-- several columns, in PL/pgSQL
CREATE TABLE by_day (customer text COLLATE nocase, day int, n bigint DEFAULT 0, position_sum numeric DEFAULT 0, PRIMARY KEY (day, customer));
CREATE FUNCTION apply_day(r by_day, e immutable.event) RETURNS by_day LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
	r.n := r.n + 1;
	r.position_sum := r.position_sum + e.position;
	RETURN r;
END $$;
-- several rows for an event; only some types; a reducer that is strict
CREATE TABLE by_tag (tag text PRIMARY KEY, n bigint DEFAULT 0, filler text DEFAULT '');
CREATE FUNCTION apply_tag(r by_tag, e immutable.event) RETURNS by_tag LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
	SELECT ROW(r.tag, r.n + 1, right(r.filler || e.version, 50))::by_tag $$;
-- numbers that are equal and look different; a document
CREATE TABLE by_number (number numeric PRIMARY KEY, document jsonb DEFAULT '{}');
CREATE FUNCTION apply_number(r by_number, e immutable.event) RETURNS by_number LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT ROW(r.number, r.document || jsonb_build_object(e.stream, e.data->'amount'))::by_number $$;
SELECT immutable.create_projection('by_stream', 'orders', 'apply_stream', mode => 'async');
SELECT immutable.create_projection('by_day', 'orders', 'apply_day', key => ARRAY['(data->>''day'')::int', 'data->>''customer'''], mode => 'async');
SELECT immutable.create_projection('by_tag', 'orders', 'apply_tag', key => ARRAY['string_to_array(data->>''tags'', '','')'], types => '{made,paid}', mode => 'async');
SELECT immutable.create_projection('by_number', 'orders', 'apply_number', key => ARRAY['CASE WHEN version % 2 = 0 THEN ((data->>''day'') || ''.0'')::numeric ELSE (data->>''day'')::numeric END'], stream_prefix => 'order-1', mode => 'async');
SELECT immutable.skip_event('by_tag', 50777, 'a test');

-- what an independent query says
CREATE VIEW expected AS
	SELECT 'by_stream' AS target, stream AS key, n::text AS value FROM (
		SELECT stream, 100 + sum(amount) FILTER (WHERE position > coalesce(gone, 0)) AS n
		FROM (SELECT stream, position, (data->>'amount')::bigint AS amount, max(position) FILTER (WHERE type = 'gone') OVER (PARTITION BY stream) AS gone FROM orders) o
		GROUP BY stream) s WHERE n IS NOT NULL
	UNION ALL
	SELECT 'by_day', (data->>'day') || upper(data->>'customer'), count(*) || ',' || sum(position) FROM orders GROUP BY 2
	UNION ALL
	SELECT 'by_tag', tag, count(*)::text FROM (SELECT DISTINCT position, unnest(string_to_array(data->>'tags', ',')) AS tag FROM orders WHERE type <> 'gone' AND position <> 50777) t GROUP BY tag
	UNION ALL
	SELECT 'by_number', day::text, md5(jsonb_object_agg(stream, amount ORDER BY position)::text) FROM (SELECT (data->>'day')::int AS day, stream, data->'amount' AS amount, position FROM orders WHERE stream LIKE 'order-1%') o GROUP BY day;
CREATE VIEW actual AS
	SELECT 'by_stream' AS target, stream AS key, n::text AS value FROM by_stream WHERE double = 2 * n
	UNION ALL SELECT 'by_day', day || upper(customer COLLATE "C"), n || ',' || position_sum FROM by_day
	UNION ALL SELECT 'by_tag', tag, n::text FROM by_tag
	UNION ALL SELECT 'by_number', trunc(number)::text, md5(document::text) FROM by_number;
-- rebuild all in some way; how many rows there are, and how many are wrong
CREATE TABLE targets AS SELECT unnest('{by_stream,by_day,by_tag,by_number}'::regclass[]) AS target;
CREATE PROCEDURE rebuild_all(swap boolean) LANGUAGE plpgsql AS $$
BEGIN
	CALL immutable.rebuild('by_stream', swap => swap);
	CALL immutable.rebuild('by_day', swap => swap);
	CALL immutable.rebuild('by_tag', swap => swap);
	CALL immutable.rebuild('by_number', swap => swap);
END $$;
CREATE VIEW result AS
	SELECT (SELECT count(*) FROM actual) AS rows,
		(SELECT count(*) FROM (SELECT target, key COLLATE "C", value COLLATE "C" FROM actual EXCEPT ALL SELECT target, key COLLATE "C", value COLLATE "C" FROM expected) x) AS wrong,
		(SELECT count(*) FROM (SELECT target, key COLLATE "C", value COLLATE "C" FROM expected EXCEPT ALL SELECT target, key COLLATE "C", value COLLATE "C" FROM actual) x) AS missing,
		(SELECT count(*) FROM targets t, LATERAL immutable.verify_projection(t.target) v) AS differ;
-- by one process
SET immutable.rebuild_workers = 0;
CALL rebuild_all(true);
SELECT * FROM result;
CREATE TABLE serial_text AS SELECT t::text AS row FROM by_tag t UNION ALL SELECT b::text FROM by_day b UNION ALL SELECT n::text FROM by_number n;
-- by three
SET immutable.rebuild_workers = 2;
CALL rebuild_all(true);
SELECT * FROM result;
SELECT count(*) FROM (SELECT t::text FROM by_tag t UNION ALL SELECT b::text FROM by_day b UNION ALL SELECT n::text FROM by_number n EXCEPT ALL SELECT row FROM serial_text) x;
CALL rebuild_all(false);
SELECT * FROM result;
-- by one and by three, with little memory: events are sorted
SET work_mem = '64kB';
SET maintenance_work_mem = '1MB';
SET hash_mem_multiplier = 1;
CALL rebuild_all(true);
SELECT * FROM result;
SET immutable.rebuild_workers = 0;
CALL rebuild_all(true);
SELECT * FROM result;
SELECT count(*) FROM (SELECT t::text FROM by_tag t UNION ALL SELECT b::text FROM by_day b UNION ALL SELECT n::text FROM by_number n EXCEPT ALL SELECT row FROM serial_text) x;
RESET work_mem;
RESET maintenance_work_mem;
RESET hash_mem_multiplier;
SET immutable.rebuild_workers = 2;

-- old events are upcast, in workers as well, also to other types
CREATE FUNCTION double(e immutable.event) RETURNS immutable.event LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT ROW(e.position, e.recorded_at, e.version, e.id, 2, e.stream, CASE WHEN e.version = 9 THEN 'made' ELSE e.type END, e.data || jsonb_build_object('day', 77), e.metadata)::immutable.event $$;
SELECT immutable.add_upcaster('orders', 'gone', 1, 'double');
CALL rebuild_all(true);
SELECT sum(n) - (SELECT count(*) FROM (SELECT DISTINCT position, unnest(string_to_array(data->>'tags', ',')) FROM orders
	WHERE (type <> 'gone' OR version = 9) AND position <> 50777) t) AS none FROM by_tag;
SELECT sum(n) - (SELECT count(*) FROM orders WHERE type = 'gone') AS none FROM by_day WHERE day = 77;
SELECT count(*) FROM targets t, LATERAL immutable.verify_projection(t.target);

-- who folds: as many as there may be, where all that runs is PARALLEL SAFE
CREATE TABLE folders (stream text PRIMARY KEY, pid int);
CREATE FUNCTION pid() RETURNS int LANGUAGE plpgsql STABLE PARALLEL SAFE AS 'BEGIN RETURN pg_backend_pid(); END';
CREATE FUNCTION note_pid(r folders, e immutable.event) RETURNS folders LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT ROW(r.stream, rebuild_parallel.pid())::rebuild_parallel.folders';
SELECT immutable.create_projection('folders', 'orders', 'note_pid', mode => 'async');
CREATE VIEW who AS SELECT count(DISTINCT pid) AS processes, count(*) FILTER (WHERE pid = pg_backend_pid()) BETWEEN 1 AND 150 AS leader, count(*) AS rows FROM folders;
CALL immutable.rebuild('folders');
SELECT * FROM who;
SET immutable.rebuild_workers = 1;
CALL immutable.rebuild('folders');
SELECT * FROM who;
SET immutable.rebuild_workers = 7;
SET max_parallel_workers = 0;
CALL immutable.rebuild('folders');
SELECT * FROM who;
RESET max_parallel_workers;
SET immutable.rebuild_workers = 2;
ALTER FUNCTION note_pid PARALLEL RESTRICTED;
CALL immutable.rebuild('folders');
SELECT * FROM who;
ALTER FUNCTION note_pid PARALLEL SAFE;
ALTER FUNCTION double PARALLEL UNSAFE;
CALL immutable.rebuild('folders');
SELECT * FROM who;
ALTER FUNCTION double PARALLEL SAFE;
CREATE SEQUENCE numbers;
CREATE TABLE numbered (stream text PRIMARY KEY, pid int, number bigint DEFAULT nextval('numbers'));
CREATE FUNCTION note_number(r numbered, e immutable.event) RETURNS numbered LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT ROW(r.stream, rebuild_parallel.pid(), r.number)::rebuild_parallel.numbered';
SELECT immutable.create_projection('numbered', 'orders', 'note_number', mode => 'async');
CALL immutable.rebuild('numbered');
SELECT count(DISTINCT pid), count(DISTINCT number) FROM numbered;
CREATE FUNCTION fine(bigint) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1 > 0; EXCEPTION WHEN others THEN RETURN false; END';
CREATE TABLE checked (stream text PRIMARY KEY, pid bigint CHECK (fine(pid)));
CREATE FUNCTION note_checked(r checked, e immutable.event) RETURNS checked LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT ROW(r.stream, rebuild_parallel.pid())::rebuild_parallel.checked';
SELECT immutable.create_projection('checked', 'orders', 'note_checked', mode => 'async');
CALL immutable.rebuild('checked');
SELECT count(DISTINCT pid) FROM checked;
CREATE OR REPLACE FUNCTION fine(bigint) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT $1 > 0';
CALL immutable.rebuild('checked');
SELECT count(DISTINCT pid) FROM checked;

-- an error of a worker is the rebuild's: every process meets one
CREATE FUNCTION fail(r folders, e immutable.event) RETURNS folders LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
	IF e.version = 50 AND pg_backend_pid() <> current_setting('x.leader')::int THEN
		RAISE EXCEPTION 'no more' USING ERRCODE = 'XX123', DETAIL = 'Fifty.', HINT = 'Go.';
	END IF;
	RETURN r;
END $$;
SELECT set_config('x.leader', pg_backend_pid()::text, false) IS NULL AS set;
CALL immutable.rebuild('folders', 'fail');
\echo :SQLSTATE
SELECT * FROM immutable.rebuild_progress;
SELECT to_regclass('folders_rebuild'), count(DISTINCT pid), count(*) FROM folders;
-- nothing is left, and the next one works
CALL immutable.rebuild('folders');
SELECT * FROM who;

RESET ROLE;
DROP VIEW result, actual, expected;
SELECT immutable.drop_projection(target) FROM (SELECT target FROM targets UNION ALL SELECT unnest('{folders,numbered,checked}'::regclass[])) t;
SELECT immutable.drop_log('orders', force => true);
SET client_min_messages = warning;
DROP SCHEMA rebuild_parallel CASCADE;
DROP ROLE regress_rebuild_parallel;
