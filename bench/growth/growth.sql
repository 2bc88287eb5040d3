-- A log and a bare table that grow together, and an asynchronous read model.
CREATE EXTENSION immutable_events;
SELECT immutable.create_log('log');
CREATE TABLE bare (
	position bigserial PRIMARY KEY, recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	version bigint NOT NULL, id uuid NOT NULL UNIQUE,
	schema_version integer NOT NULL DEFAULT 1, stream text COLLATE "C" NOT NULL,
	type text COLLATE "C" NOT NULL, data jsonb NOT NULL,
	metadata jsonb NOT NULL DEFAULT '{}', UNIQUE (stream, version));
CREATE FUNCTION bench.apply(state bench.balance, event immutable.event) RETURNS bench.balance LANGUAGE sql IMMUTABLE AS $$
	SELECT ROW(event.stream, coalesce(state.amount, 0) + (event.data->>'amount')::bigint, coalesce(state.entries, 0) + 1)::bench.balance
$$;
SELECT immutable.create_projection('bench.balance', 'log', 'bench.apply', mode => 'async');
CREATE SEQUENCE bench.versions START 1000000000;

-- up to so many events, in streams of 100: batches of 10 to each in turn
CREATE PROCEDURE bench.grow(size integer) LANGUAGE plpgsql AS $$
DECLARE
	have integer := (SELECT count(*) FROM log);
	known bigint := coalesce((SELECT max(position) FROM log), 0);
	events immutable.new_event[] := (SELECT array_agg(ROW('deposited', bench.data(i), NULL, NULL, NULL)::immutable.new_event) FROM generate_series(1, 10) i);
BEGIN
	FOR i IN 0..(size - have) / 10 - 1 LOOP
		PERFORM immutable.append_batch('log', 'account-' || i % (size / 100), events);
		IF i % 10000 = 0 THEN COMMIT; END IF;
	END LOOP;
	COMMIT;
	INSERT INTO bare SELECT nextval('bare_position_seq'), recorded_at, nextval('bench.versions'), id, schema_version, stream, type, data, metadata
	FROM log WHERE position > known ORDER BY position;
	COMMIT;
	CALL immutable.catch_up('bench.balance');
END
$$;
-- events for refresh, each of another stream
CREATE PROCEDURE bench.add(events integer, streams integer) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..events LOOP
		PERFORM immutable.append('log', 'account-' || (i * 7919) % streams, 'deposited', bench.data(i));
	END LOOP;
END
$$;
