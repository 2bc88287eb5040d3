-- How long after its commit a reader has an event, with three kinds of reader
-- on the same load: read_log, a query up to safe_position, and the naive one,
-- which loses events. Writers: bench/writer.pgbench.
SELECT immutable.create_log('feed');
CREATE UNLOGGED TABLE bench.received (kind text, position bigint, at timestamptz);

CREATE PROCEDURE bench.reader(kind text, seconds double precision)
LANGUAGE plpgsql AS $$
DECLARE
	last bigint := 0;
	until timestamptz := clock_timestamp() + seconds * interval '1 s';
	query text := CASE kind
		WHEN 'read_log' THEN 'SELECT position FROM immutable.read_log(''feed'', $1)'
		WHEN 'safe_position' THEN 'SELECT position FROM feed WHERE position > $1 AND position <= immutable.safe_position(''feed'') ORDER BY position'
		ELSE 'SELECT position FROM feed WHERE position > $1 ORDER BY position' END;
BEGIN
	WHILE clock_timestamp() < until LOOP
		EXECUTE format('WITH new AS MATERIALIZED (%s), kept AS (
			INSERT INTO bench.received SELECT %L, position, clock_timestamp() FROM new)
			SELECT max(position) FROM new', query, kind)
		INTO STRICT last USING last;
		last := coalesce(last, (SELECT max(r.position) FROM bench.received r WHERE r.kind = reader.kind), 0);
		COMMIT;
		PERFORM pg_sleep(0.001);
	END LOOP;
END
$$;

-- only what was committed a second before the readers stopped counts
CREATE VIEW bench.latency AS
WITH committed AS (
	SELECT position, pg_xact_commit_timestamp(xmin) AS at FROM feed
), counted AS (
	SELECT c.* FROM committed c
	WHERE c.at < (SELECT min(stop) FROM (SELECT max(at) - interval '1 s' AS stop FROM bench.received GROUP BY kind) s)
)
SELECT k.kind,
	percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM r.at - c.at) * 1000) AS p50,
	percentile_cont(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM r.at - c.at) * 1000) AS p99,
	count(*) AS events, count(*) FILTER (WHERE r.position IS NULL) AS lost
FROM (VALUES ('read_log'), ('safe_position'), ('naive')) k(kind)
	CROSS JOIN counted c
	LEFT JOIN bench.received r ON r.kind = k.kind AND r.position = c.position
GROUP BY k.kind;

-- What no reader in order can be faster than: each event waits for the commits
-- of all that stand before it.
CREATE VIEW bench.hindsight AS
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM ready - at) * 1000) AS p50,
	percentile_cont(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM ready - at) * 1000) AS p99
FROM (SELECT pg_xact_commit_timestamp(xmin) AS at,
		max(pg_xact_commit_timestamp(xmin)) OVER (ORDER BY position) AS ready
	FROM feed) e;
