-- message-db, installed by its own script into this database.
SET search_path = message_store, public;
ALTER DATABASE message_store SET search_path = message_store, public;
INSERT INTO bench.stored VALUES ('messages');
CREATE PROCEDURE bench.reset(streams integer) LANGUAGE plpgsql AS $$
BEGIN
	TRUNCATE messages RESTART IDENTITY;
	PERFORM bench.loop(streams, streams);
END
$$;
CREATE FUNCTION bench.loop(events integer, streams integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	d jsonb := bench.data(1);
BEGIN
	FOR i IN 1..events LOOP
		PERFORM write_message(gen_random_uuid()::varchar, ('account-' || i % streams)::varchar, 'deposited'::varchar, d);
	END LOOP;
END
$$;
CREATE PROCEDURE bench.fill(events integer, streams integer) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..events LOOP
		PERFORM write_message(gen_random_uuid()::varchar, ('account-' || i % streams)::varchar, 'deposited'::varchar, bench.data(i));
		IF i % 1000 = 0 THEN COMMIT; END IF;
	END LOOP;
END
$$;
CREATE FUNCTION bench.read_new(after bigint) RETURNS SETOF bigint LANGUAGE sql AS
$$ SELECT global_position FROM get_category_messages('account'::varchar, after + 1, 1000) $$;
CREATE VIEW bench.committed AS
SELECT global_position AS position, pg_xact_commit_timestamp(xmin) AS at FROM messages;
