-- The reader of bench/parts/peers.sh, peers_feed, and what came of it.
SET client_min_messages = warning;
CALL bench.reset(10000);
TRUNCATE bench.received;
CREATE PROCEDURE bench.reader(seconds double precision, contender text)
LANGUAGE plpgsql AS $$
DECLARE
	last bigint := coalesce((SELECT max(position) FROM bench.committed), 0);
	until timestamptz := clock_timestamp() + seconds * interval '1 s';
	seen bigint;
BEGIN
	WHILE clock_timestamp() < until LOOP
		IF contender = 'pgq' THEN
			PERFORM pgq.ticker('q');
			COMMIT;
		END IF;
		WITH new AS MATERIALIZED (SELECT n, row_number() OVER () AS i FROM bench.read_new(last) n), kept AS (
			INSERT INTO bench.received SELECT n, clock_timestamp() FROM new)
		-- the last of the batch, as a consumer keeps it
		SELECT n INTO seen FROM new ORDER BY i DESC LIMIT 1;
		last := coalesce(seen, last);
		COMMIT;
		PERFORM pg_sleep(0.001);
	END LOOP;
END
$$;

-- only what was committed while the reader ran, until a second before its end
CREATE VIEW bench.feed AS
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM r.at - c.at) * 1000) AS p50,
	percentile_cont(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM r.at - c.at) * 1000) AS p99,
	count(*) AS events, count(*) FILTER (WHERE r.position IS NULL) AS lost
FROM bench.committed c LEFT JOIN bench.received r USING (position)
WHERE c.at BETWEEN (SELECT min(at) FROM bench.received) AND (SELECT max(at) - interval '1 s' FROM bench.received);
VACUUM ANALYZE;
