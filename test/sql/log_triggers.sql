-- log_triggers: what a user's trigger on a log may do, and what not.
\set SHOW_CONTEXT never
CREATE ROLE regress_triggers;
CREATE SCHEMA log_triggers AUTHORIZATION regress_triggers;
SET search_path = log_triggers;
SET ROLE regress_triggers;
SELECT immutable.create_log('plain'), immutable.create_log('wide', 1), immutable.create_log('secured'), immutable.create_log('other');
ALTER TABLE secured ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY everything ON secured USING (true) WITH CHECK (true);
CREATE VIEW logs AS SELECT nr, log::regclass FROM unnest(ARRAY['plain', 'wide', 'secured']) WITH ORDINALITY l(log, nr);
CREATE FUNCTION try(log regclass, stream text, type text, data jsonb DEFAULT '{}') RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
	RETURN format('version %s', (immutable.append(log, stream, type, data)).version);
EXCEPTION WHEN OTHERS THEN
	RETURN format('%s %s', sqlstate, sqlerrm);
END $$;
CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql SET search_path = log_triggers AS $$
BEGIN
	IF pg_trigger_depth() > 1 THEN
		RETURN NEW;
	END IF;
	CASE NEW.type
		WHEN 'suppress' THEN RETURN NULL;
		WHEN 'position' THEN NEW.position := NEW.position + 1000;
		WHEN 'version down' THEN NEW.version := 1;
		WHEN 'version up' THEN NEW.version := NEW.version + 1;
		WHEN 'stream' THEN NEW.stream := 'elsewhere';
		WHEN 'id' THEN NEW.id := gen_random_uuid();
		WHEN 'null version' THEN NEW.version := NULL;
		WHEN 'null data' THEN NEW.data := NULL;
		WHEN 'time' THEN NEW.recorded_at := NEW.recorded_at - interval '1 day';
		WHEN 'reject' THEN RAISE EXCEPTION 'amount is missing' USING ERRCODE = 'check_violation';
		WHEN 'enrich' THEN NEW.data := NEW.data || '{"checked": true}'; NEW.metadata := '{"by": "trigger"}';
		WHEN 'insert' THEN
			EXECUTE format('INSERT INTO %s SELECT nextval(%L), now(), 2, gen_random_uuid(), 1, ''forged'', ''t'', ''{}'', ''{}''',
				TG_ARGV[0], pg_get_serial_sequence(TG_ARGV[0], 'position'));
		WHEN 'insert leaf' THEN
			EXECUTE format('INSERT INTO %s SELECT ($1).*', TG_RELID::regclass) USING NEW;
		WHEN 'forge' THEN
			EXECUTE format('INSERT INTO %s SELECT $1, now(), 1, gen_random_uuid(), 1, ''forged'', ''t'', ''{}'', ''{}''', TG_ARGV[0])
				USING NEW.position;
		WHEN 'insert other' THEN INSERT INTO other SELECT NEW.*;
		WHEN 'update' THEN EXECUTE format('UPDATE %s SET data = ''{}''', TG_ARGV[0]);
		WHEN 'delete' THEN EXECUTE format('DELETE FROM %s', TG_ARGV[0]);
		WHEN 'other stream' THEN PERFORM immutable.append(TG_ARGV[0]::regclass, 'noted', 'note', jsonb_build_object('of', NEW.stream));
		WHEN 'other log' THEN PERFORM immutable.append('other', TG_ARGV[0], 'note', jsonb_build_object('of', NEW.stream));
		WHEN 'same stream' THEN
			PERFORM immutable.append(TG_ARGV[0]::regclass, NEW.stream, 'answer');
		ELSE NULL;
	END CASE;
	RETURN NEW;
END $$;

-- a BEFORE trigger that runs after the guard
CREATE TRIGGER z_act BEFORE INSERT ON plain FOR EACH ROW EXECUTE FUNCTION act('plain');
CREATE TRIGGER z_act BEFORE INSERT ON wide FOR EACH ROW EXECUTE FUNCTION act('wide');
CREATE TRIGGER z_act BEFORE INSERT ON secured FOR EACH ROW EXECUTE FUNCTION act('secured');
SELECT log, try(log, 'a', 'first'), try(log, 'a', 'enrich', '{"n": 1}'), try(log, 'a', 'reject') FROM logs ORDER BY nr;
SELECT log, version, data, metadata FROM logs, LATERAL immutable.read_stream(log, 'a', 2) ORDER BY nr;
SELECT log, try(log, 'a', 'suppress') FROM logs ORDER BY nr;
SELECT log, left(try(log, 'a', 'position'), 5), left(try(log, 'a', 'stream'), 5), left(try(log, 'a', 'id'), 5) FROM logs ORDER BY nr;
SELECT immutable.append('plain', 'a', 'suppress');
\echo :SQLSTATE
SELECT immutable.append('plain', 'a', 'position');
SELECT immutable.append('plain', 'a', 'version up');
SELECT immutable.append('plain', 'a', 'time');
SELECT immutable.append('plain', 'a', 'null version');
SELECT immutable.append('plain', 'a', 'stream');
SELECT immutable.append('plain', 'a', 'id');
SELECT log, left(try(log, 'a', 'version up'), 5) AS version_up, left(try(log, 'a', 'version down'), 5) AS version_down,
	left(try(log, 'a', 'null version'), 5) AS null_version, left(try(log, 'a', 'null data'), 5) AS null_data FROM logs ORDER BY nr;
SELECT log, left(try(log, 'a', 'time'), 5) AS time FROM logs ORDER BY nr;

-- it cannot forge, change or remove a row of any log
SELECT log, try(log, 'a', 'insert') FROM logs ORDER BY nr;
SELECT log, try(log, 'a', 'insert other') FROM logs ORDER BY nr;
SELECT log, left(try(log, 'a', 'insert leaf'), 5) IN ('23001', '23505') AS leaf_refused,
	left(try(log, 'a', 'forge'), 5) IN ('23001', '23505') AS forgery_refused FROM logs ORDER BY nr;
SELECT log, try(log, 'a', 'update'), try(log, 'a', 'delete') FROM logs ORDER BY nr;

-- it may append: to another stream, to another log
SELECT log, try(log, 'a', 'other stream'), try(log, 'a', 'other log') FROM logs ORDER BY nr;
-- but the place of its own event is taken
SELECT log, left(try(log, 'a', 'same stream'), 5) FROM logs ORDER BY nr;

-- a BEFORE trigger that runs ahead of the guard
ALTER TRIGGER z_act ON plain RENAME TO a_act;
ALTER TRIGGER z_act ON wide RENAME TO a_act;
ALTER TRIGGER z_act ON secured RENAME TO a_act;
SELECT log, left(try(log, 'a', 'suppress'), 5) AS suppress, left(try(log, 'a', 'position'), 5) AS position,
	left(try(log, 'a', 'stream'), 5) AS stream, left(try(log, 'a', 'id'), 5) AS id,
	left(try(log, 'a', 'version up'), 5) AS version_up, left(try(log, 'a', 'insert'), 5) AS insert FROM logs ORDER BY nr;
SELECT log, left(try(log, 'a', 'insert leaf'), 5) IN ('23001', '23505') AS leaf_refused,
	left(try(log, 'a', 'forge'), 5) IN ('23001', '23505') AS forgery_refused FROM logs ORDER BY nr;
SELECT log, try(log, 'a', 'enrich'), try(log, 'a', 'other stream') FROM logs ORDER BY nr;

-- an AFTER trigger: the event stands already, and others may follow it
DROP TRIGGER a_act ON plain;
DROP TRIGGER a_act ON wide;
DROP TRIGGER a_act ON secured;
CREATE TRIGGER act AFTER INSERT ON plain FOR EACH ROW EXECUTE FUNCTION act('plain');
CREATE TRIGGER act AFTER INSERT ON wide FOR EACH ROW EXECUTE FUNCTION act('wide');
CREATE TRIGGER act AFTER INSERT ON secured FOR EACH ROW EXECUTE FUNCTION act('secured');
SELECT log, left(try(log, 'a', 'insert'), 5) AS insert, left(try(log, 'a', 'update'), 5) AS update,
	left(try(log, 'a', 'delete'), 5) AS delete, left(try(log, 'a', 'reject'), 5) AS reject FROM logs ORDER BY nr;
SELECT log, left(try(log, 'a', 'insert leaf'), 5) IN ('23001', '23505') AS leaf_refused,
	left(try(log, 'a', 'forge'), 5) IN ('23001', '23505') AS forgery_refused FROM logs ORDER BY nr;
SELECT log, try(log, 'a', 'suppress'), try(log, 'a', 'same stream'), try(log, 'a', 'other stream'), try(log, 'a', 'other log')
FROM logs ORDER BY nr;
SELECT log, try(log, 'a', 'last') FROM logs ORDER BY nr;

-- the logs are as they should be after all that
SELECT log, string_agg(version || ' ' || type, ', ' ORDER BY version) FROM logs, LATERAL immutable.read_stream(log, 'a') GROUP BY nr, log ORDER BY nr;
SELECT log, immutable.stream_version(log, 'noted') AS noted, immutable.stream_version('other', log::text) AS other,
	immutable.stream_version(log, 'forged') AS forged, immutable.stream_version(log, 'elsewhere') AS elsewhere FROM logs ORDER BY nr;

RESET ROLE;
DROP VIEW logs;
SELECT immutable.drop_log('plain', true), immutable.drop_log('wide', true), immutable.drop_log('secured', true), immutable.drop_log('other', true);
SET client_min_messages = warning;
DROP SCHEMA log_triggers CASCADE;
DROP ROLE regress_triggers;
