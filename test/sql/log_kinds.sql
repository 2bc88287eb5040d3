-- log_kinds: the same scenario over every kind of log, with equal results.
\set SHOW_CONTEXT never
CREATE ROLE regress_kinds;
CREATE SCHEMA log_kinds AUTHORIZATION regress_kinds;
SET search_path = log_kinds;
SET ROLE regress_kinds;
SELECT immutable.create_log('plain'), immutable.create_log('plain_any_id', unique_ids => false),
	immutable.create_log('wide', 3), immutable.create_log('wide_any_id', 2, false), immutable.create_log('single', 1);

-- row security that hides nothing
SELECT immutable.create_log('secured'), immutable.create_log('secured_wide', 3);
ALTER TABLE secured ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE secured_wide ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY everything ON secured USING (true) WITH CHECK (true);
CREATE POLICY everything ON secured_wide USING (true) WITH CHECK (true);

-- triggers of every sort
CREATE TABLE fired (log name, name name, at text, level text, rows bigint);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SET search_path = log_kinds AS $$
BEGIN
	INSERT INTO fired VALUES (TG_TABLE_NAME, TG_NAME, TG_WHEN, TG_LEVEL, 1);
	RETURN NEW;
END $$;
CREATE FUNCTION note_rows() RETURNS trigger LANGUAGE plpgsql SET search_path = log_kinds AS $$
BEGIN
	INSERT INTO fired SELECT TG_TABLE_NAME, TG_NAME, TG_WHEN, TG_LEVEL, count(*) FROM added;
	RETURN NULL;
END $$;
CREATE FUNCTION add_triggers(log regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TRIGGER a_before_row BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION log_kinds.note()', log);
	EXECUTE format('CREATE TRIGGER z_before_row BEFORE INSERT ON %s FOR EACH ROW WHEN (NEW.version = 2) EXECUTE FUNCTION log_kinds.note()', log);
	EXECUTE format('CREATE TRIGGER after_row AFTER INSERT ON %s FOR EACH ROW EXECUTE FUNCTION log_kinds.note()', log);
	EXECUTE format('CREATE TRIGGER before_statement BEFORE INSERT ON %s FOR EACH STATEMENT EXECUTE FUNCTION log_kinds.note()', log);
	EXECUTE format('CREATE TRIGGER after_statement AFTER INSERT ON %s FOR EACH STATEMENT EXECUTE FUNCTION log_kinds.note()', log);
	EXECUTE format('CREATE TRIGGER transition_table AFTER INSERT ON %s REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION log_kinds.note_rows()', log);
	EXECUTE format('CREATE CONSTRAINT TRIGGER deferred AFTER INSERT ON %s DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION log_kinds.note()', log);
	EXECUTE format('CREATE TRIGGER on_update BEFORE UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION log_kinds.note()', log);
END $$;
SELECT immutable.create_log('triggered'), immutable.create_log('triggered_wide', 1), immutable.create_log('triggered_secured');
SELECT add_triggers('triggered'), add_triggers('triggered_wide'), add_triggers('triggered_secured');
ALTER TABLE triggered_secured ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY everything ON triggered_secured USING (true) WITH CHECK (true);

-- a foreign key, constraints, and indexes of the user's own
CREATE TABLE account (name text COLLATE "C" PRIMARY KEY);
INSERT INTO account VALUES ('a'), ('b'), ('savepoint');
CREATE FUNCTION amount(data jsonb) RETURNS integer LANGUAGE sql IMMUTABLE RETURN (data->>'amount')::integer;
CREATE FUNCTION add_constraints(log regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('ALTER TABLE %s ADD FOREIGN KEY (stream) REFERENCES log_kinds.account', log);
	EXECUTE format('ALTER TABLE %s ADD CHECK (data->>''amount'' <> ''13'')', log);
	EXECUTE format('CREATE INDEX ON %s (type, recorded_at)', log);
	EXECUTE format('CREATE INDEX ON %s (log_kinds.amount(data)) WHERE type = ''deposited''', log);
	EXECUTE format('CREATE INDEX ON %s USING gin (data)', log);
END $$;
SELECT immutable.create_log('constrained'), immutable.create_log('constrained_wide', 3);
SELECT add_constraints('constrained'), add_constraints('constrained_wide');

-- the scenario, as a transcript
CREATE FUNCTION try(log regclass, stream text, expected bigint, amount integer, id uuid DEFAULT NULL) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	a immutable.appended;
BEGIN
	SELECT * INTO a FROM immutable.append(log, stream, 'deposited', jsonb_build_object('amount', amount),
		'{"by": "ann"}', expected, id, 2);
	RETURN format('version %s position %s written %s', a.version, a.position, a.written);
EXCEPTION WHEN OTHERS THEN
	RETURN sqlstate;
END $$;
CREATE FUNCTION batch(log regclass, stream text, expected bigint, amounts integer[], ids uuid[] DEFAULT '{}') RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	a immutable.appended;
BEGIN
	SELECT * INTO a FROM immutable.append_batch(log, stream, ARRAY(
		SELECT ROW('deposited', jsonb_build_object('amount', amount), '{"by": "bob"}', id, 3)::immutable.new_event
		FROM unnest(amounts, ids) WITH ORDINALITY u(amount, id, n) ORDER BY n), expected);
	RETURN format('version %s position %s written %s', a.version, a.position, a.written);
EXCEPTION WHEN OTHERS THEN
	RETURN sqlstate;
END $$;
CREATE FUNCTION scenario(log regclass) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	first CONSTANT uuid := '018f0000-0000-7000-8000-000000000001';
	second CONSTANT uuid := '018f0000-0000-7000-8000-000000000002';
	third CONSTANT uuid := '018f0000-0000-7000-8000-000000000003';
	summary text;
BEGIN
	RETURN NEXT log_kinds.try(log, 'a', 0, 10, first);
	RETURN NEXT log_kinds.try(log, 'a', 1, 20);
	RETURN NEXT log_kinds.try(log, 'a', 1, 30);
	RETURN NEXT log_kinds.try(log, 'a', 0, 10, first);
	RETURN NEXT log_kinds.try(log, 'a', 2, 10, first);
	RETURN NEXT log_kinds.try(log, 'b', NULL, 40);
	RETURN NEXT log_kinds.try(log, 'b', -4, 50);
	RETURN NEXT log_kinds.try(log, 'c', -4, 60);
	RETURN NEXT log_kinds.try(log, 'a', -1, 70);
	BEGIN
		PERFORM immutable.append(log, 'savepoint', 'undone');
		RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN
		RETURN NEXT format('savepoint at version %s', immutable.stream_version(log, 'savepoint'));
	END;
	RETURN NEXT log_kinds.try(log, 'savepoint', 0, 80);
	-- batches: new, again, in part, too late, of nothing, of many, undone
	RETURN NEXT log_kinds.batch(log, 'a', 2, '{11,12,14}', ARRAY[NULL, second, third]);
	RETURN NEXT log_kinds.batch(log, 'a', 2, '{11,12,14}', ARRAY[NULL, second, third]);
	RETURN NEXT log_kinds.batch(log, 'a', NULL, '{12,14}', ARRAY[second, third]);
	RETURN NEXT log_kinds.batch(log, 'a', NULL, '{14,12}', ARRAY[third, second]);
	RETURN NEXT log_kinds.batch(log, 'a', NULL, '{14,15}', ARRAY[third]);
	RETURN NEXT log_kinds.batch(log, 'a', 3, '{1,2}');
	RETURN NEXT log_kinds.batch(log, 'a', 5, '{}');
	RETURN NEXT log_kinds.batch(log, 'b', 2, ARRAY(SELECT 100 + n FROM generate_series(1, 150) n));
	BEGIN
		PERFORM log_kinds.batch(log, 'b', 152, '{1,2,3}');
		RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN
		RETURN NEXT format('b at version %s', immutable.stream_version(log, 'b'));
	END;
	RETURN NEXT (SELECT format('json: version %s written %s', version, written)
		FROM immutable.append_json(log, 'b', '[{"type": "deposited", "data": {"amount": 7}}, {"type": "closed", "data": {"amount": 0}}]', 152));
	RETURN NEXT (SELECT format('%s events from 1 to %s, amounts rise: %s', count(*), max(version), bool_and((data->>'amount')::int = 98 + version))
		FROM immutable.read_stream(log, 'b') WHERE version BETWEEN 3 AND 152);
	RETURN NEXT (SELECT string_agg(format('%s/%s %s %s %s %s', version, position, schema_version, type, data, metadata), E'\n')
		FROM immutable.read_stream(log, 'a'));
	RETURN NEXT (SELECT string_agg(format('%s/%s %s', version, position, data), E'\n')
		FROM immutable.read_stream(log, 'b', 2, 5, true));
	RETURN NEXT (SELECT format('in order: %s events, %s rise', count(*), count(*) FILTER (WHERE position > before))
		FROM (SELECT position, lag(position, 1, 0::bigint) OVER () AS before FROM immutable.read_log(log)) r);
	EXECUTE format('SELECT format(''%%s events, last position %%s'', count(*), max(position)) FROM %s', log) INTO summary;
	RETURN NEXT summary;
END $$;
CREATE TABLE transcript (nr integer, log regclass, lines text[]);
INSERT INTO transcript SELECT nr, log, ARRAY(SELECT scenario(log))
FROM unnest(ARRAY['plain', 'plain_any_id', 'wide', 'wide_any_id', 'single', 'secured', 'secured_wide',
	'triggered', 'triggered_wide', 'triggered_secured', 'constrained', 'constrained_wide']::regclass[])
	WITH ORDINALITY l(log, nr) ORDER BY nr;
SELECT unnest(lines) FROM transcript WHERE log = 'plain'::regclass;
SELECT log, lines = (SELECT lines FROM transcript WHERE log = 'plain'::regclass) AS as_plain
FROM transcript ORDER BY nr;
RESET ROLE;
SELECT log, c.* FROM transcript, LATERAL immutable.check_log(log) c;
SET ROLE regress_kinds;

-- the triggers saw every event that was written, and each statement once
SELECT name, at, level, count(*) FILTER (WHERE log = 'triggered') AS triggered,
	count(*) FILTER (WHERE log LIKE 'triggered_wide%') AS triggered_wide,
	count(*) FILTER (WHERE log = 'triggered_secured') AS triggered_secured, sum(rows)
FROM fired GROUP BY name, at, level ORDER BY name;

-- the events of a batch come by one statement: each transition table has held a whole batch
SELECT log LIKE '%wide%' AS wide, log LIKE '%secured' AS secured, max(rows) AS most_at_once, sum(rows) AS written,
	count(*) FILTER (WHERE rows > 1) AS batches
FROM fired WHERE name = 'transition_table' GROUP BY log ORDER BY log;

-- constraints and foreign keys hold on both paths
SELECT immutable.append('constrained', 'stranger', 'deposited');
\echo :SQLSTATE
\set VERBOSITY sqlstate
SELECT immutable.append('constrained', 'a', 'deposited', '{"amount": 13}');
SELECT immutable.append('constrained_wide', 'a', 'deposited', '{"amount": 13}');
SELECT immutable.append('constrained_wide', 'stranger', 'deposited');
SELECT immutable.append('constrained', 'a', 'deposited', '{"amount": "many"}');
SELECT immutable.append('constrained_wide', 'a', 'deposited', '{"amount": "many"}');
SELECT immutable.append_json('constrained', 'a', '[{"type": "deposited", "data": {"amount": 1}}, {"type": "deposited", "data": {"amount": 13}}]');
SELECT immutable.append_json('constrained_wide', 'a', '[{"type": "deposited", "data": {"amount": 1}}, {"type": "deposited", "data": {"amount": 13}}]');
SELECT immutable.append_json('constrained', 'stranger', '[{"type": "deposited"}, {"type": "deposited"}]');
SELECT immutable.append_json('constrained_wide', 'stranger', '[{"type": "deposited"}, {"type": "deposited"}]');
DELETE FROM account WHERE name = 'a';
\set VERBOSITY default
SET enable_seqscan = off;
SELECT stream, version FROM constrained WHERE type = 'deposited' AND amount(data) = 20;
SELECT stream, version FROM constrained_wide WHERE type = 'deposited' AND amount(data) = 20;
SELECT stream, version FROM constrained WHERE data @> '{"amount": 50}';
RESET enable_seqscan;
SELECT version FROM immutable.append('constrained', 'a', 'deposited');
SELECT version FROM immutable.append('constrained_wide', 'a', 'deposited');

RESET ROLE;
SELECT count(immutable.drop_log(oid, force => true)) FROM (SELECT oid FROM pg_class
	WHERE reloftype = 'immutable.event'::regtype AND relnamespace = 'log_kinds'::regnamespace OFFSET 0) logs;
SET client_min_messages = warning;
DROP SCHEMA log_kinds CASCADE;
DROP ROLE regress_kinds;
