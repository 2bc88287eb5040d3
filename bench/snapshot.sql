-- Snapshots: a stream of 100,050 events with a snapshot at 100,000, beside a
-- stream of 50 events and beside the same stream without one: microseconds a
-- replay, the best of five rounds. Run it alone:
--   .ci/with-cluster -c fsync=off -c jit=off psql -X -f bench/snapshot.sql
\set QUIET on
\pset footer off
CREATE EXTENSION immutable_events;
CREATE FUNCTION total(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN state + (e.data->>'n')::bigint;
CREATE FUNCTION fill(log regclass, stream text, events integer) RETURNS bigint LANGUAGE sql
AS $$SELECT version FROM immutable.append_batch(log, stream, (SELECT array_agg(ROW('t', jsonb_build_object('n', n), NULL, NULL, NULL)::immutable.new_event)
	FROM generate_series(1, events) n))$$;
CREATE FUNCTION time_of(log regclass, stream text, calls integer) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
	best double precision := 1e9;
	began timestamptz;
BEGIN
	FOR round IN 1 .. 5 LOOP
		began := clock_timestamp();
		FOR i IN 1 .. calls LOOP
			EXECUTE 'SELECT immutable.replay($1, $2, 0::bigint, ''total'')' USING log, stream;
		END LOOP;
		best := least(best, extract(epoch FROM clock_timestamp() - began) * 1e6 / calls);
	END LOOP;
	RETURN round(best::numeric, 1);
END $$;
SELECT immutable.create_log('kept'), immutable.create_log('plain') \g /dev/null
SELECT immutable.enable_snapshots('kept', 'total') \g /dev/null
SELECT count(fill(log, 'long', 100000)) FROM unnest('{kept,plain}'::regclass[]) log \g /dev/null
SELECT immutable.replay('kept', 'long', 0::bigint, 'total') \g /dev/null
SELECT count(fill(log, s, 50)) FROM unnest('{kept,plain}'::regclass[]) log, unnest('{long,short}'::text[]) s \g /dev/null
VACUUM ANALYZE kept, plain;
SELECT *, round(long_kept / short_plain, 2) AS over_tail, round(long_plain / long_kept) AS times_faster
FROM (SELECT time_of('kept', 'long', 2000) AS long_kept, time_of('plain', 'short', 2000) AS short_plain,
	time_of('kept', 'short', 2000) AS short_kept, time_of('plain', 'long', 5) AS long_plain) t;
