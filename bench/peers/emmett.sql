-- Emmett, its tables and functions made by its own client.
INSERT INTO bench.stored VALUES ('emt_messages_emt_default_active'), ('emt_streams_emt_default_active');
CREATE FUNCTION bench.append(stream text, data jsonb) RETURNS boolean LANGUAGE sql AS $$
	SELECT success FROM emt_append_to_stream(ARRAY[gen_random_uuid()::text], ARRAY[data], '{"{}"}'::jsonb[],
		'{1}', '{deposited}', '{E}', stream, 'account', NULL, 'emt:default')
$$;
CREATE PROCEDURE bench.reset(streams integer) LANGUAGE plpgsql AS $$
BEGIN
	TRUNCATE emt_messages, emt_streams;
	PERFORM setval('emt_global_message_position', 1, false), bench.loop(streams, streams);
END
$$;
CREATE FUNCTION bench.loop(events integer, streams integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	d jsonb := bench.data(1);
BEGIN
	FOR i IN 1..events LOOP
		PERFORM success FROM emt_append_to_stream(ARRAY[gen_random_uuid()::text], ARRAY[d], '{"{}"}'::jsonb[],
			'{1}', '{deposited}', '{E}', 'account-' || i % streams, 'account', NULL, 'emt:default');
	END LOOP;
END
$$;
CREATE FUNCTION bench.batch(batches integer, size integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	datas jsonb[] := (SELECT array_agg(bench.data(1)) FROM generate_series(1, size));
	metadatas jsonb[] := array_fill('{}'::jsonb, ARRAY[size]);
BEGIN
	FOR b IN 1..batches LOOP
		PERFORM success FROM emt_append_to_stream(
			(SELECT array_agg(gen_random_uuid()::text) FROM generate_series(1, size)), datas, metadatas,
			array_fill('1'::text, ARRAY[size]), array_fill('deposited'::text, ARRAY[size]), array_fill('E'::text, ARRAY[size]),
			'batch-' || b, 'batch', 0, 'emt:default');
	END LOOP;
END
$$;
CREATE PROCEDURE bench.fill(events integer, streams integer) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..events LOOP
		PERFORM success FROM emt_append_to_stream(ARRAY[gen_random_uuid()::text], ARRAY[bench.data(i)], '{"{}"}'::jsonb[],
			'{1}', '{deposited}', '{E}', 'account-' || i % streams, 'account', NULL, 'emt:default');
		IF i % 1000 = 0 THEN COMMIT; END IF;
	END LOOP;
END
$$;
-- its consumer's query, and the position from which it goes on
CREATE FUNCTION bench.read_new(after bigint) RETURNS SETOF bigint LANGUAGE sql AS $$
	SELECT global_position FROM emt_messages
	WHERE partition = 'emt:default' AND is_archived = FALSE
		AND transaction_id < pg_snapshot_xmin(pg_current_snapshot()) AND global_position >= after + 1
	ORDER BY transaction_id, global_position LIMIT 100
$$;
CREATE VIEW bench.committed AS
SELECT global_position AS position, pg_xact_commit_timestamp(xmin) AS at FROM emt_messages_emt_default_active;
