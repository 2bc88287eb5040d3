-- A bare table with the columns and the indexes of a log; the application says
-- which version comes next and which id, and reads what is above the last
-- position that it saw.
CREATE TABLE log (
	position bigserial PRIMARY KEY, recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	version bigint NOT NULL, id uuid NOT NULL UNIQUE,
	schema_version integer NOT NULL DEFAULT 1, stream text COLLATE "C" NOT NULL,
	type text COLLATE "C" NOT NULL, data jsonb NOT NULL,
	metadata jsonb NOT NULL DEFAULT '{}', UNIQUE (stream, version));
INSERT INTO bench.stored VALUES ('log');
-- ids that rise, as append's own do
CREATE FUNCTION bench.id(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS
$$ SELECT (lpad(to_hex(n), 8, '0') || '-0000-7000-8000-000000000000')::uuid $$;

CREATE PROCEDURE bench.reset(streams integer) LANGUAGE plpgsql AS $$
BEGIN
	TRUNCATE log RESTART IDENTITY;
	PERFORM bench.loop(streams, streams);
END
$$;
CREATE FUNCTION bench.loop(events integer, streams integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	d jsonb := bench.data(1);
	n bigint := coalesce((SELECT max(position) FROM log), 0);
BEGIN
	FOR i IN 1..events LOOP
		INSERT INTO log (version, id, stream, type, data)
		VALUES (n + i, bench.id(n + i), 'account-' || i % streams, 'deposited', d);
	END LOOP;
END
$$;
CREATE FUNCTION bench.batch(batches integer, size integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	datas jsonb[] := (SELECT array_agg(bench.data(1)) FROM generate_series(1, size));
	n bigint := coalesce((SELECT max(position) FROM log), 0);
BEGIN
	FOR b IN 1..batches LOOP
		INSERT INTO log (version, id, stream, type, data)
		SELECT v, bench.id(n + b * size + v), 'batch-' || b, 'deposited', d
		FROM unnest(datas) WITH ORDINALITY e(d, v);
	END LOOP;
END
$$;
CREATE PROCEDURE bench.fill(events integer, streams integer) LANGUAGE plpgsql AS $$
DECLARE
	n bigint := coalesce((SELECT max(position) FROM log), 0);
BEGIN
	FOR i IN 1..events LOOP
		INSERT INTO log (version, id, stream, type, data)
		VALUES (n + i, bench.id(n + i), 'account-' || i % streams, 'deposited', bench.data(i));
		IF i % 1000 = 0 THEN COMMIT; END IF;
	END LOOP;
END
$$;
CREATE FUNCTION bench.fold() RETURNS numeric LANGUAGE sql AS $$
	SELECT sum(a) FROM (SELECT sum((data->>'amount')::bigint) AS a, count(*) FROM log GROUP BY stream) x
$$;
CREATE FUNCTION bench.read_new(after bigint) RETURNS SETOF bigint LANGUAGE sql AS
$$ SELECT position FROM log WHERE position > after ORDER BY position $$;
CREATE VIEW bench.committed AS
SELECT position, pg_xact_commit_timestamp(xmin) AS at FROM log;
