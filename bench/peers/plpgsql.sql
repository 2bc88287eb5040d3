-- What one writes by hand: the bare table, and an append in PL/pgSQL that
-- locks the stream, looks for its version, compares and inserts.
CREATE TABLE log (
	position bigserial PRIMARY KEY, recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	version bigint NOT NULL, id uuid NOT NULL UNIQUE,
	schema_version integer NOT NULL DEFAULT 1, stream text COLLATE "C" NOT NULL,
	type text COLLATE "C" NOT NULL, data jsonb NOT NULL,
	metadata jsonb NOT NULL DEFAULT '{}', UNIQUE (stream, version));
INSERT INTO bench.stored VALUES ('log');

CREATE FUNCTION append(p_stream text, p_type text, p_data jsonb, p_expected bigint DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	head bigint;
BEGIN
	PERFORM pg_advisory_xact_lock(hashtextextended(p_stream, 0));
	SELECT version INTO head FROM log WHERE stream = p_stream ORDER BY version DESC LIMIT 1;
	head := coalesce(head, 0);
	IF p_expected <> head THEN
		RAISE EXCEPTION 'stream % is at version %, expected %', p_stream, head, p_expected USING ERRCODE = '40001';
	END IF;
	INSERT INTO log (version, id, stream, type, data)
	VALUES (head + 1, gen_random_uuid(), p_stream, p_type, p_data);
	RETURN head + 1;
END
$$;
CREATE PROCEDURE bench.reset(streams integer) LANGUAGE plpgsql AS $$
BEGIN
	TRUNCATE log RESTART IDENTITY;
	FOR i IN 1..streams LOOP	-- the lock table does not hold as many streams
		PERFORM append('account-' || i % streams, 'deposited', bench.data(1));
		IF i % 1000 = 0 THEN COMMIT; END IF;
	END LOOP;
END
$$;
CREATE FUNCTION bench.loop(events integer, streams integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	d jsonb := bench.data(1);
BEGIN
	FOR i IN 1..events LOOP
		PERFORM append('account-' || i % streams, 'deposited', d);
	END LOOP;
END
$$;
CREATE PROCEDURE bench.fill(events integer, streams integer) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..events LOOP
		PERFORM append('account-' || i % streams, 'deposited', bench.data(i));
		IF i % 1000 = 0 THEN COMMIT; END IF;
	END LOOP;
END
$$;
-- an aggregate over a function in SQL, and the state of one stream in a loop
CREATE TYPE bench.account AS (amount bigint, entries bigint);
CREATE FUNCTION bench.apply(state bench.account, type text, data jsonb) RETURNS bench.account LANGUAGE sql IMMUTABLE AS $$
	SELECT ROW(coalesce(state.amount, 0) + (data->>'amount')::bigint, coalesce(state.entries, 0) + 1)::bench.account
$$;
CREATE AGGREGATE bench.account(text, jsonb) (SFUNC = bench.apply, STYPE = bench.account);
CREATE FUNCTION bench.fold() RETURNS numeric LANGUAGE sql AS $$
	SELECT sum((a).amount) FROM (SELECT bench.account(type, data) AS a FROM log GROUP BY stream) x
$$;
CREATE FUNCTION bench.replay(p_stream text) RETURNS bench.account LANGUAGE plpgsql AS $$
DECLARE
	state bench.account;
	e record;
BEGIN
	FOR e IN SELECT type, data FROM log WHERE stream = p_stream ORDER BY version LOOP
		state.amount := coalesce(state.amount, 0) + (e.data->>'amount')::bigint;
		state.entries := coalesce(state.entries, 0) + 1;
	END LOOP;
	RETURN state;
END
$$;
-- the inline read model: a trigger that upserts
CREATE FUNCTION bench.upsert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO bench.balance AS b VALUES (NEW.stream, (NEW.data->>'amount')::bigint, 1)
	ON CONFLICT (stream) DO UPDATE SET amount = b.amount + excluded.amount, entries = b.entries + 1;
	RETURN NULL;
END
$$;
