-- Read models to rebuild: 500,000 events of 10,000 streams by a reducer that is
-- inlined and by one in PL/pgSQL, and 2,000,000 events of as many streams.
CREATE SCHEMA rebuild;
SET search_path = rebuild;
SELECT immutable.create_log('ledger', unique_ids => false), immutable.create_log('wide', unique_ids => false);
BEGIN;
SET LOCAL immutable.import = on;
INSERT INTO ledger SELECT i, now(), 1 + (i - 1) / 10000, md5(i::text)::uuid, 1, 's' || i % 10000, 't' || i % 3, jsonb_build_object('n', i % 100), '{}' FROM generate_series(1, 500000) i;
INSERT INTO wide SELECT i, now(), 1, md5(i::text)::uuid, 1, 's' || i, 't', jsonb_build_object('n', i % 100), '{}' FROM generate_series(1, 2000000) i;
COMMIT;
SELECT immutable.sync_position('ledger'), immutable.sync_position('wide');
CREATE TABLE cheap (stream text PRIMARY KEY, n bigint DEFAULT 0, total bigint DEFAULT 0);
CREATE TABLE dear (stream text PRIMARY KEY, n bigint DEFAULT 0, total bigint DEFAULT 0);
CREATE TABLE many (stream text PRIMARY KEY, n bigint DEFAULT 0, total bigint DEFAULT 0);
CREATE FUNCTION apply_cheap(r cheap, e immutable.event) RETURNS cheap LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN ROW(r.stream, r.n + 1, r.total + (e.data->>'n')::bigint)::cheap;
CREATE FUNCTION apply_many(r many, e immutable.event) RETURNS many LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN ROW(r.stream, r.n + 1, r.total + (e.data->>'n')::bigint)::many;
CREATE FUNCTION apply_dear(r dear, e immutable.event) RETURNS dear LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
	r.n := r.n + 1;
	r.total := r.total + (e.data->>'n')::bigint;
	RETURN r;
END $$;
SELECT immutable.create_projection('cheap', 'ledger', 'apply_cheap', mode => 'async'),
	immutable.create_projection('dear', 'ledger', 'apply_dear', mode => 'async'),
	immutable.create_projection('many', 'wide', 'apply_many', mode => 'async');
VACUUM ANALYZE ledger, wide;
