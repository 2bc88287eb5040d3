-- PgQ: a queue; the stream's name goes into the first extra field.
CREATE EXTENSION pgq;
SELECT pgq.create_queue('q'), pgq.register_consumer('q', 'reader');
-- a tick at each look for one, so that reading waits for nothing else
SELECT pgq.set_queue_config('q', 'ticker_max_count', '1'), pgq.set_queue_config('q', 'ticker_max_lag', '0');
INSERT INTO bench.stored SELECT format('pgq.event_1_%s', i)::regclass FROM generate_series(0, 2) i;
CREATE PROCEDURE bench.reset(streams integer) LANGUAGE plpgsql AS $$
BEGIN
	TRUNCATE pgq.event_1_0, pgq.event_1_1, pgq.event_1_2;
	PERFORM bench.loop(streams, streams);
END
$$;
CREATE FUNCTION bench.loop(events integer, streams integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	d text := bench.data(1);
BEGIN
	FOR i IN 1..events LOOP
		PERFORM pgq.insert_event('q', 'deposited', d, 'account-' || i % streams, NULL, NULL, NULL);
	END LOOP;
END
$$;
CREATE PROCEDURE bench.fill(events integer, streams integer) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..events LOOP
		PERFORM pgq.insert_event('q', 'deposited', bench.data(i)::text, 'account-' || i % streams, NULL, NULL, NULL);
		IF i % 1000 = 0 THEN COMMIT; END IF;
	END LOOP;
END
$$;
-- the next batch, which is then done with
CREATE FUNCTION bench.read_new(after bigint) RETURNS SETOF bigint LANGUAGE plpgsql AS $$
DECLARE
	batch bigint := pgq.next_batch('q', 'reader');
BEGIN
	IF batch IS NOT NULL THEN
		RETURN QUERY SELECT e.ev_id FROM pgq.get_batch_events(batch) e;
		PERFORM pgq.finish_batch(batch);
	END IF;
END
$$;
CREATE VIEW bench.committed AS
SELECT ev_id AS position, pg_xact_commit_timestamp(xmin) AS at FROM ONLY pgq.event_1_0
UNION ALL SELECT ev_id, pg_xact_commit_timestamp(xmin) FROM ONLY pgq.event_1_1
UNION ALL SELECT ev_id, pg_xact_commit_timestamp(xmin) FROM ONLY pgq.event_1_2;
