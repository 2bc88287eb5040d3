-- Projections: balances of accounts, kept by an inline projection, by a
-- hand-written trigger, by refresh, and by a query.
CREATE TABLE bench.balance (stream text COLLATE "C" PRIMARY KEY,
	balance bigint NOT NULL DEFAULT 0, entries bigint NOT NULL DEFAULT 0);
CREATE TABLE bench.triggered (LIKE bench.balance INCLUDING ALL);
CREATE TABLE bench.refreshed (LIKE bench.balance INCLUDING ALL);
CREATE TABLE bench.grouped (LIKE bench.balance INCLUDING ALL);
CREATE TABLE bench.consumed (LIKE bench.balance INCLUDING ALL);

CREATE FUNCTION bench.apply(state bench.balance, event immutable.event)
RETURNS bench.balance LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE event.type
		WHEN 'deposited' THEN ROW(state.stream, state.balance + (event.data->>'amount')::bigint, state.entries + 1)::bench.balance
		WHEN 'withdrawn' THEN ROW(state.stream, state.balance - (event.data->>'amount')::bigint, state.entries + 1)::bench.balance
		ELSE state
	END
$$;
CREATE FUNCTION bench.apply(state bench.refreshed, event immutable.event)
RETURNS bench.refreshed LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE event.type
		WHEN 'deposited' THEN ROW(state.stream, state.balance + (event.data->>'amount')::bigint, state.entries + 1)::bench.refreshed
		WHEN 'withdrawn' THEN ROW(state.stream, state.balance - (event.data->>'amount')::bigint, state.entries + 1)::bench.refreshed
		ELSE state
	END
$$;

-- The hand-written trigger; account is the key of the batches' events.
CREATE FUNCTION bench.upsert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO bench.triggered AS b VALUES (coalesce(NEW.data->>'account', NEW.stream),
		CASE NEW.type WHEN 'deposited' THEN (NEW.data->>'amount')::bigint WHEN 'withdrawn' THEN -(NEW.data->>'amount')::bigint ELSE 0 END,
		1)
	ON CONFLICT (stream) DO UPDATE SET balance = b.balance + EXCLUDED.balance, entries = b.entries + 1;
	RETURN NULL;
END
$$;

-- A fresh log with an inline projection, and a fresh table with the trigger.
CREATE FUNCTION bench.create_projected(key text, commutative boolean) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT FROM immutable.projections WHERE target = 'bench.balance'::regclass) THEN
		PERFORM immutable.drop_projection('bench.balance');
	END IF;
	PERFORM bench.create_log('projected_log');
	TRUNCATE bench.balance;
	PERFORM immutable.create_projection('bench.balance', 'projected_log', 'bench.apply(bench.balance,immutable.event)'::regprocedure,
		key => ARRAY[key], commutative => commutative);
END
$$;
CREATE FUNCTION bench.create_triggered() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM bench.create_base('triggered_base');
	TRUNCATE bench.triggered;
	CREATE TRIGGER upsert AFTER INSERT ON triggered_base FOR EACH ROW EXECUTE FUNCTION bench.upsert();
END
$$;

SELECT bench.create_log('projected_log'), bench.create_base('triggered_base');

-- One event at a time, in one transaction: 100,000 over 10,000 streams.
CREATE FUNCTION bench.project_loop_prepare() RETURNS void LANGUAGE sql AS
$$ SELECT bench.create_projected('stream', false) $$;
CREATE FUNCTION bench.project_loop() RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	r record;
BEGIN
	FOR r IN SELECT i, id FROM bench.ids WHERE i <= 100000 LOOP
		PERFORM immutable.append('projected_log', 'stream-' || r.i % 10000, 'deposited', '{"amount": 10, "by": "ann"}');
	END LOOP;
END
$$;
CREATE FUNCTION bench.trigger_loop_prepare() RETURNS void LANGUAGE sql AS
$$ SELECT bench.create_triggered() $$;
CREATE FUNCTION bench.trigger_loop() RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	r record;
BEGIN
	FOR r IN SELECT i, id FROM bench.ids WHERE i <= 100000 LOOP
		INSERT INTO triggered_base (recorded_at, version, id, schema_version, stream, type, data, metadata)
		VALUES (clock_timestamp(), 1 + r.i / 10000, r.id, 1, 'stream-' || r.i % 10000, 'deposited', '{"amount": 10, "by": "ann"}', '{}');
	END LOOP;
END
$$;

-- Batches of 1,000 events of one stream: 100 of them, about one account or,
-- as transfers are, about 100 of 10,000.
CREATE TABLE bench.events_of_batches AS
SELECT b, array_agg(ROW('deposited', jsonb_build_object('amount', i, 'by', 'ann'), NULL, NULL, NULL)::immutable.new_event) AS one,
	array_agg(ROW('deposited', jsonb_build_object('amount', i, 'account', 'account-' || (b * 7919 + i % 100 * 101) % 10000), NULL, NULL, NULL)::immutable.new_event) AS hundred
FROM generate_series(1, 100) b, generate_series(1, 1000) i GROUP BY b;
CREATE FUNCTION bench.project_batches_prepare() RETURNS void LANGUAGE sql AS
$$ SELECT bench.create_projected('coalesce(data->>''account'', stream)', true) $$;
CREATE FUNCTION bench.project_batches() RETURNS void LANGUAGE sql AS
$$ SELECT count(immutable.append_batch('projected_log', 'stream-' || b, hundred)) FROM bench.events_of_batches $$;
CREATE FUNCTION bench.project_batches_of_one_prepare() RETURNS void LANGUAGE sql AS
$$ SELECT bench.create_projected('stream', false) $$;
CREATE FUNCTION bench.project_batches_of_one() RETURNS void LANGUAGE sql AS
$$ SELECT count(immutable.append_batch('projected_log', 'stream-' || b, one)) FROM bench.events_of_batches $$;
CREATE FUNCTION bench.insert_batches(which text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	r record;
BEGIN
	FOR r IN SELECT b, CASE which WHEN 'one' THEN one ELSE hundred END AS events FROM bench.events_of_batches LOOP
		INSERT INTO triggered_base (recorded_at, version, id, schema_version, stream, type, data, metadata)
		SELECT clock_timestamp(), n, (lpad(to_hex(r.b * 1000 + n), 8, '0') || '-0000-7000-8000-000000000000')::uuid, 1, 'stream-' || r.b, e.type, e.data, '{}'
		FROM unnest(r.events) WITH ORDINALITY e (type, data, metadata, id, schema_version, n);
	END LOOP;
END
$$;
CREATE FUNCTION bench.trigger_batches_prepare() RETURNS void LANGUAGE sql AS
$$ SELECT bench.create_triggered() $$;
CREATE FUNCTION bench.trigger_batches() RETURNS void LANGUAGE sql AS
$$ SELECT bench.insert_batches('hundred') $$;
CREATE FUNCTION bench.trigger_batches_of_one_prepare() RETURNS void LANGUAGE sql AS
$$ SELECT bench.create_triggered() $$;
CREATE FUNCTION bench.trigger_batches_of_one() RETURNS void LANGUAGE sql AS
$$ SELECT bench.insert_batches('one') $$;

-- A history of 500,000 events of 1,000 streams.
SELECT immutable.create_log('history');
SELECT count(immutable.append_batch('history', 'account-' || s, (
	SELECT array_agg(ROW(CASE i % 5 WHEN 0 THEN 'withdrawn' ELSE 'deposited' END, jsonb_build_object('amount', i), NULL, NULL, NULL)::immutable.new_event)
	FROM generate_series(1, 10) i)))
FROM generate_series(1, 50) round, generate_series(1, 1000) s;
VACUUM ANALYZE history;
CREATE FUNCTION bench.refresh_prepare() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT FROM immutable.projections WHERE target = 'bench.refreshed'::regclass) THEN
		PERFORM immutable.drop_projection('bench.refreshed');
	END IF;
	TRUNCATE bench.refreshed;
	PERFORM immutable.create_projection('bench.refreshed', 'history', 'bench.apply(bench.refreshed,immutable.event)'::regprocedure, mode => 'async');
END
$$;
CREATE FUNCTION bench.refresh() RETURNS bigint LANGUAGE sql AS
$$ SELECT immutable.refresh('bench.refreshed', 500000) $$;
CREATE FUNCTION bench.group_by_prepare() RETURNS void LANGUAGE sql AS
$$ TRUNCATE bench.grouped $$;
CREATE FUNCTION bench.group_by() RETURNS void LANGUAGE sql AS $$
	INSERT INTO bench.grouped AS b
	SELECT stream, sum(CASE type WHEN 'deposited' THEN (data->>'amount')::bigint WHEN 'withdrawn' THEN -(data->>'amount')::bigint ELSE 0 END), count(*)
	FROM history GROUP BY stream
	ON CONFLICT (stream) DO UPDATE SET balance = b.balance + EXCLUDED.balance, entries = b.entries + EXCLUDED.entries
$$;

-- One row an event, to see when each has arrived in an async read model.
CREATE TABLE bench.arrived (position bigint PRIMARY KEY, type text);
CREATE FUNCTION bench.apply(state bench.arrived, event immutable.event)
RETURNS bench.arrived LANGUAGE sql IMMUTABLE AS $$ SELECT ROW(state.position, event.type)::bench.arrived $$;
CREATE FUNCTION bench.watch() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM bench.create_log('watched_log');
	PERFORM immutable.create_projection('bench.arrived', 'watched_log', 'bench.apply(bench.arrived,immutable.event)'::regprocedure,
		key => ARRAY['position'], mode => 'async');
END
$$;
