-- Batches of 1,000 events to one stream each, beside INSERT ... SELECT FROM
-- unnest and COPY of the same rows with the same ids into a bare table.
CREATE TABLE bench.batches (
	n integer, events immutable.new_event[], positions bigint[], versions bigint[],
	ids uuid[], types text[], datas jsonb[], file text);
INSERT INTO bench.batches
SELECT n, array_agg(ROW(t, d, NULL, id, NULL)::immutable.new_event ORDER BY v),
	array_agg(p ORDER BY v), array_agg(v ORDER BY v), array_agg(id ORDER BY v),
	array_agg(t ORDER BY v), array_agg(d ORDER BY v),
	format('%s/immutable_bench_%s.copy', current_setting('data_directory'), n)
FROM (SELECT n, v, (n - 1) * 1000 + v AS p,
		(lpad(to_hex((n - 1) * 1000 + v), 8, '0') || '-0000-7000-8000-000000000000')::uuid AS id,
		'deposited' AS t, jsonb_build_object('amount', v % 100, 'by', 'ann') AS d
	FROM generate_series(1, 100) n, generate_series(1, 1000) v) e
GROUP BY n;

CREATE FUNCTION bench.batch_append_prepare() RETURNS void LANGUAGE sql AS
$$ SELECT bench.create_log('batch_log') $$;
CREATE FUNCTION bench.batch_append() RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	b bench.batches;
BEGIN
	FOR b IN SELECT * FROM bench.batches LOOP
		PERFORM immutable.append_batch('batch_log', 'stream-' || b.n, b.events);
	END LOOP;
END
$$;

CREATE FUNCTION bench.batch_insert_prepare() RETURNS void LANGUAGE sql AS
$$ SELECT bench.create_base('batch_base') $$;
CREATE FUNCTION bench.batch_insert() RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	b bench.batches;
BEGIN
	FOR b IN SELECT * FROM bench.batches LOOP
		INSERT INTO batch_base (recorded_at, version, id, schema_version, stream, type, data, metadata)
		SELECT clock_timestamp(), v, id, 1, 'stream-' || b.n, t, d, '{}'
		FROM unnest(b.versions, b.ids, b.types, b.datas) e(v, id, t, d);
	END LOOP;
END
$$;

-- the files are text, as clients send it
SELECT bench.create_base('batch_base');
DO $$
DECLARE
	b bench.batches;
BEGIN
	FOR b IN SELECT * FROM bench.batches LOOP
		EXECUTE format($q$COPY (SELECT %s::bigint + ordinality, '2026-01-01 00:00:00+00'::timestamptz, v, id, 1, 'stream-%s', t, d, '{}'
			FROM bench.batches x, unnest(x.versions, x.ids, x.types, x.datas) WITH ORDINALITY e(v, id, t, d, ordinality)
			WHERE x.n = %s) TO %L$q$, (b.n - 1) * 1000, b.n, b.n, b.file);
	END LOOP;
END
$$;
CREATE FUNCTION bench.batch_copy_prepare() RETURNS void LANGUAGE sql AS
$$ SELECT bench.create_base('batch_base') $$;
CREATE FUNCTION bench.batch_copy() RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	b record;
BEGIN
	FOR b IN SELECT n, file FROM bench.batches LOOP
		EXECUTE format('COPY batch_base FROM %L', b.file);
	END LOOP;
END
$$;
