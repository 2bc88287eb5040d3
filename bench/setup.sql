-- What the benchmarks run: one function a contender.
CREATE EXTENSION immutable_events;
CREATE SCHEMA bench;

-- Milliseconds that a contender takes; it may prepare before the clock starts.
CREATE FUNCTION bench.ms(contender text) RETURNS numeric
LANGUAGE plpgsql AS $$
DECLARE
	started timestamptz;
BEGIN
	IF to_regproc(contender || '_prepare') IS NOT NULL THEN
		EXECUTE format('SELECT %s_prepare()', contender);
	END IF;
	started := clock_timestamp();
	EXECUTE format('SELECT %s()', contender);
	RETURN round(extract(epoch FROM clock_timestamp() - started) * 1000, 1);
END
$$;

-- A bare table: the columns, the indexes and the sequence of a log.
CREATE FUNCTION bench.create_base(name text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('DROP TABLE IF EXISTS %I', name);
	EXECUTE format('CREATE TABLE %I (
		position bigserial PRIMARY KEY, recorded_at timestamptz NOT NULL,
		version bigint NOT NULL, id uuid NOT NULL UNIQUE,
		schema_version integer NOT NULL, stream text COLLATE "C" NOT NULL,
		type text COLLATE "C" NOT NULL, data jsonb NOT NULL,
		metadata jsonb NOT NULL, UNIQUE (stream, version))', name);
END
$$;

CREATE FUNCTION bench.create_log(name text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	IF to_regclass(name) IS NOT NULL THEN
		PERFORM immutable.drop_log(to_regclass(name), force => true);
	END IF;
	PERFORM immutable.create_log(name);
END
$$;

-- Append: ids that rise, as append's own do, so that the index on ids costs
-- the bare table no more than it costs the log.
CREATE TABLE bench.ids AS
SELECT i, (lpad(to_hex(i), 8, '0') || '-0000-7000-8000-000000000000')::uuid AS id
FROM generate_series(1, 200000) i;

CREATE FUNCTION bench.append_loop_prepare() RETURNS void LANGUAGE sql AS
$$ SELECT bench.create_log('loop_log') $$;
CREATE FUNCTION bench.append_loop() RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	r record;
BEGIN
	FOR r IN SELECT i, id FROM bench.ids LOOP
		PERFORM immutable.append('loop_log', 'stream-' || r.i % 10000,
			'deposited', '{"amount": 10, "by": "ann"}');
	END LOOP;
END
$$;

CREATE FUNCTION bench.insert_loop_prepare() RETURNS void LANGUAGE sql AS
$$ SELECT bench.create_base('loop_base') $$;
CREATE FUNCTION bench.insert_loop() RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	r record;
BEGIN
	FOR r IN SELECT i, id FROM bench.ids LOOP
		INSERT INTO loop_base (recorded_at, version, id, schema_version,
			stream, type, data, metadata)
		VALUES (clock_timestamp(), 1 + r.i / 10000, r.id, 1,
			'stream-' || r.i % 10000, 'deposited',
			'{"amount": 10, "by": "ann"}', '{}');
	END LOOP;
END
$$;

-- Append through the planner, beside the direct path.
SELECT immutable.create_log('plain_log'), immutable.create_log('partitioned_log', partitions => 8);
CREATE FUNCTION bench.append_to(log regclass) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..50000 LOOP
		PERFORM immutable.append(log, 'stream-' || i % 1000, 'deposited', '{"amount": 10}');
	END LOOP;
END
$$;
CREATE FUNCTION bench.append_plain() RETURNS void LANGUAGE sql AS
$$ SELECT bench.append_to('plain_log') $$;
CREATE FUNCTION bench.append_partitioned() RETURNS void LANGUAGE sql AS
$$ SELECT bench.append_to('partitioned_log') $$;

-- Guard: the same rows into a protected and an unprotected table.
CREATE TABLE bench.unprotected (id bigserial PRIMARY KEY, note text);
CREATE TABLE bench.protected (id bigserial PRIMARY KEY, note text);
SELECT immutable.protect('bench.protected');
CREATE FUNCTION bench.insert_unprotected() RETURNS void LANGUAGE sql AS
$$ INSERT INTO bench.unprotected (note) SELECT 'note' FROM generate_series(1, 200000) $$;
CREATE FUNCTION bench.insert_protected() RETURNS void LANGUAGE sql AS
$$ INSERT INTO bench.protected (note) SELECT 'note' FROM generate_series(1, 200000) $$;
