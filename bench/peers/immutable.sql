-- immutable_events.
CREATE EXTENSION immutable_events;
SELECT immutable.create_log('log');
INSERT INTO bench.stored VALUES ('log');

-- an empty log, then one event in each stream
CREATE PROCEDURE bench.reset(streams integer) LANGUAGE plpgsql AS $$
BEGIN
	DROP VIEW bench.committed;
	PERFORM immutable.drop_log('log', force => true);
	PERFORM immutable.create_log('log');
	CREATE VIEW bench.committed AS
	SELECT position, pg_xact_commit_timestamp(xmin) AS at FROM log;
	UPDATE bench.stored SET relation = 'log'::regclass;
	PERFORM bench.loop(streams, streams);
END
$$;
CREATE FUNCTION bench.loop(events integer, streams integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	d jsonb := bench.data(1);
BEGIN
	FOR i IN 1..events LOOP
		PERFORM immutable.append('log', 'account-' || i % streams, 'deposited', d);
	END LOOP;
END
$$;
CREATE FUNCTION bench.batch(batches integer, size integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	events immutable.new_event[] := (SELECT array_agg(ROW('deposited', bench.data(1), NULL, NULL, NULL)::immutable.new_event)
		FROM generate_series(1, size));
BEGIN
	FOR b IN 1..batches LOOP
		PERFORM immutable.append_batch('log', 'batch-' || b, events);
	END LOOP;
END
$$;
CREATE PROCEDURE bench.fill(events integer, streams integer) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..events LOOP
		PERFORM immutable.append('log', 'account-' || i % streams, 'deposited', bench.data(i));
		IF i % 1000 = 0 THEN COMMIT; END IF;
	END LOOP;
END
$$;

CREATE TYPE bench.account AS (stream text, amount bigint, entries bigint);
CREATE FUNCTION bench.apply(state bench.account, event immutable.event) RETURNS bench.account LANGUAGE sql IMMUTABLE AS $$
	SELECT ROW(event.stream, coalesce(state.amount, 0) + (event.data->>'amount')::bigint, coalesce(state.entries, 0) + 1)::bench.account
$$;
CREATE FUNCTION bench.fold() RETURNS numeric LANGUAGE sql AS $$
	SELECT sum((state).amount) FROM immutable.replay_all('log', NULL::bench.account, 'bench.apply')
$$;

-- the read model, inline and async
CREATE FUNCTION bench.balance_apply(state bench.balance, event immutable.event) RETURNS bench.balance LANGUAGE sql IMMUTABLE AS $$
	SELECT ROW(event.stream, coalesce(state.amount, 0) + (event.data->>'amount')::bigint, coalesce(state.entries, 0) + 1)::bench.balance
$$;

CREATE FUNCTION bench.read_new(after bigint) RETURNS SETOF bigint LANGUAGE sql AS
$$ SELECT position FROM immutable.read_log('log', after) $$;
CREATE VIEW bench.committed AS
SELECT position, pg_xact_commit_timestamp(xmin) AS at FROM log;
