-- snapshot_property: replay with snapshots equals replay without, at every
-- version and time, for states of all kinds, while events come, transactions are
-- taken back and reducers change. The oracle is a fold over the events.
\set SHOW_CONTEXT never
CREATE ROLE regress_snapshot_property;
CREATE SCHEMA snapshot_property AUTHORIZATION regress_snapshot_property;
SET search_path = snapshot_property;
SET ROLE regress_snapshot_property;
SELECT immutable.create_log('ledger'), immutable.create_log('wide', 2);
CREATE TYPE item AS (name text, price numeric(10,2), at timestamptz);
CREATE TYPE basket AS (items item[], total numeric, weight double precision, since interval, raw bytea, flags bit(3), span int8range, note text);
CREATE DOMAIN percent AS integer CHECK (VALUE BETWEEN 0 AND 100);
CREATE DOMAIN baskets AS basket CHECK (VALUE IS NULL OR (VALUE).total IS NOT NULL OR true);
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');

CREATE FUNCTION s_bigint(s bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN (s * 31 + (e.data->>'n')::bigint) % 1000003;
CREATE FUNCTION s_numeric(s numeric, e immutable.event) RETURNS numeric LANGUAGE sql IMMUTABLE RETURN s * 1.10 - (e.data->>'n')::numeric / 7;
CREATE FUNCTION s_float(s double precision, e immutable.event) RETURNS double precision LANGUAGE sql IMMUTABLE
RETURN CASE WHEN s > 1e200 THEN s ^ -0.9 ELSE s * 1.7 + (e.data->>'n')::double precision / 3 END;
CREATE FUNCTION s_text(s text, e immutable.event) RETURNS text LANGUAGE sql IMMUTABLE
RETURN right(s || chr(1 + (e.data->>'n')::integer % 300) || '\"''{},()' || e.type, 40);
CREATE FUNCTION s_null(s text, e immutable.event) RETURNS text LANGUAGE sql IMMUTABLE RETURN CASE e.version % 3 WHEN 0 THEN '' WHEN 1 THEN NULL ELSE coalesce(s, 'NULL') END;
CREATE FUNCTION s_strict(s bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT RETURN CASE WHEN e.version % 17 = 0 THEN NULL ELSE s + 1 END;
CREATE FUNCTION s_first(s immutable.event, e immutable.event) RETURNS immutable.event LANGUAGE sql IMMUTABLE STRICT RETURN CASE WHEN e.version % 5 = 0 THEN e ELSE s END;
CREATE FUNCTION s_time(s timestamptz, e immutable.event) RETURNS timestamptz LANGUAGE sql STABLE RETURN CASE WHEN e.version % 7 = 0 THEN '-infinity' ELSE greatest(s, e.recorded_at) + '1 month 2 us' END;
CREATE FUNCTION s_percent(s percent, e immutable.event) RETURNS percent LANGUAGE sql IMMUTABLE RETURN ((coalesce(s, 0) + (e.data->>'n')::integer) % 101)::percent;
CREATE FUNCTION s_mood(s mood, e immutable.event) RETURNS mood LANGUAGE sql STABLE AS $$SELECT (enum_range(NULL::mood))[1 + (e.data->>'n')::integer % 3]$$;
CREATE FUNCTION s_array(s text[], e immutable.event) RETURNS text[] LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	s[e.version % 5 - 2] := nullif(e.data->>'n', '3') || CASE WHEN e.version % 2 = 0 THEN ' "NULL" {' ELSE '' END;
	RETURN s;
END $$;
CREATE FUNCTION s_jsonb(s jsonb, e immutable.event) RETURNS jsonb LANGUAGE sql STABLE RETURN s || jsonb_build_object(e.version % 7, e.data, 'd', 1.50 + e.version);
CREATE FUNCTION s_basket(s basket, e immutable.event) RETURNS basket LANGUAGE plpgsql STABLE AS $$
BEGIN
	s.items := (coalesce(s.items, '{}') || ROW(e.type || '"(', (e.data->>'n')::numeric / 3, e.recorded_at)::item)[greatest(1, e.version - 3) :];
	s.total := coalesce(s.total, 0) + (e.data->>'n')::numeric;
	s.weight := coalesce(s.weight, 0) + random_free((e.data->>'n')::integer);
	s.since := coalesce(s.since, '0') + ((e.data->>'n') || ' days -3 mons 1.5 s')::interval;
	s.raw := substr(coalesce(s.raw, '') || convert_to('\' || e.type, 'UTF8'), 1, 9);
	s.flags := ((e.data->>'n')::integer % 8)::bit(3);
	s.span := int8range(e.version, nullif(e.version % 4, 0) + e.version);
	s.note := CASE e.version % 3 WHEN 0 THEN '' WHEN 1 THEN NULL ELSE ' x ' END;
	RETURN s;
END $$;
CREATE FUNCTION random_free(n integer) RETURNS double precision LANGUAGE sql IMMUTABLE RETURN sqrt(n::double precision) / 3;
CREATE FUNCTION s_baskets(s baskets, e immutable.event) RETURNS baskets LANGUAGE sql STABLE AS 'SELECT s_basket(s, e)::baskets';

CREATE TABLE cases (reducer text PRIMARY KEY, initials text[]);
INSERT INTO cases VALUES
	('s_bigint', '{1::bigint,2::bigint}'), ('s_numeric', '{0.0::numeric,0.00::numeric}'), ('s_float', '{0::float8,''-0''::float8}'), ('s_text', '{''''::text}'),
	('s_null', '{NULL::text,''x''::text}'), ('s_strict', '{0::bigint}'), ('s_first', '{NULL::immutable.event}'), ('s_time', '{NULL::timestamptz}'),
	('s_percent', '{NULL::percent,5::percent}'), ('s_mood', '{NULL::mood}'), ('s_array', ARRAY['NULL::text[]', '''[-2:-1]={a,b}''::text[]']), ('s_jsonb', ARRAY['''{}''::jsonb']),
	('s_basket', '{NULL::basket}'), ('s_baskets', '{NULL::baskets}'), ('immutable.merge_patch', ARRAY['NULL::jsonb', '''{"a": {}}''::jsonb']);
SELECT count(immutable.enable_snapshots(log, reducer::regproc, every)) FROM cases, (VALUES ('ledger'::regclass, 1), ('wide', 3)) l(log, every);

-- one replay, and the same without snapshots, as text
CREATE FUNCTION difference(log regclass, stream text, reducer text, initial text, upto bigint, as_of timestamptz) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	replayed text;
	folded text;
BEGIN
	EXECUTE format('SELECT immutable.replay(%L, %L, %s, %L, %L, %L)::text', log, stream, initial, reducer, upto, as_of) INTO replayed;
	EXECUTE format('SELECT CASE WHEN count(*) = 0 THEN (%2$s)::text ELSE immutable.fold(%2$s, %3$L, ROW(e.*)::immutable.event ORDER BY version)::text END
		FROM %1$s e WHERE stream = %4$L AND version <= coalesce(%5$L, 1000000) AND recorded_at <= coalesce(%6$L::timestamptz, ''infinity'')',
		log, initial, reducer, stream, upto, as_of) INTO folded;
	RETURN CASE WHEN replayed IS DISTINCT FROM folded THEN format('%s %s upto %s: %s, not %s', reducer, initial, upto, replayed, folded) END;
END $$;
-- every case, at some version and time of both logs
CREATE FUNCTION differences(stream text, upto bigint, as_of timestamptz DEFAULT NULL) RETURNS TABLE (difference text) LANGUAGE sql AS $$
	SELECT d FROM cases, unnest(initials) i, unnest('{ledger,wide}'::regclass[]) log, LATERAL difference(log, stream, reducer, i, upto, as_of) d WHERE d IS NOT NULL
$$;
CREATE FUNCTION grow(name text, n integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	event jsonb;
BEGIN
	event := jsonb_build_object('n', n * 7919 % 1000, 'k' || n % 5, CASE WHEN n % 4 > 0 THEN n END);
	PERFORM immutable.append('ledger', name, 't' || n % 3, event), immutable.append('wide', name, 't' || n % 3, event);
END $$;

-- events come; transactions and parts of them are taken back; settings differ
CREATE PROCEDURE life(name text, events integer) LANGUAGE plpgsql AS $$
DECLARE
	difference text;
BEGIN
	FOR n IN 1 .. events LOOP
		PERFORM set_config('timezone', (ARRAY['UTC', 'Asia/Kolkata', 'America/New_York'])[1 + n / 10 % 3], true),
			set_config('datestyle', (ARRAY['ISO, MDY', 'German', 'SQL, DMY'])[1 + n / 10 % 3], true),
			set_config('intervalstyle', (ARRAY['sql_standard', 'iso_8601', 'postgres', 'postgres_verbose'])[1 + n / 10 % 4], true),
			set_config('extra_float_digits', (n / 10 % 4 - 1)::text, true),
			set_config('bytea_output', (ARRAY['hex', 'escape'])[1 + n / 10 % 2], true);
		BEGIN
			PERFORM grow(name, n);
			FOR difference IN SELECT * FROM differences(name, CASE WHEN n % 3 > 0 THEN NULL ELSE n / 2 END) LOOP
				RAISE WARNING '%', difference;
			END LOOP;
			IF n % 5 = 0 THEN
				RAISE EXCEPTION USING ERRCODE = 'ZZ000';
			END IF;
		EXCEPTION WHEN SQLSTATE 'ZZ000' THEN
		END;
		FOR difference IN SELECT * FROM differences(name, NULL) LOOP
			RAISE WARNING '%', difference;
		END LOOP;
		IF n % 7 = 0 THEN
			ROLLBACK;
		ELSE
			COMMIT;
		END IF;
	END LOOP;
END $$;
CALL life('a', 60);
SELECT count(*) > 30 AS has_snapshots FROM ledger_snapshots;

-- at every version, and at every time
SELECT v.version, d.* FROM generate_series(0, 45) v(version), LATERAL differences('a', v.version) d;
SELECT e.version, d.* FROM ledger e, LATERAL differences('a', NULL, e.recorded_at) d;
SELECT d.* FROM ledger e, LATERAL differences('a', 20, e.recorded_at) d;

-- after changes, and when they are taken back
CREATE PROCEDURE changed(change text) LANGUAGE plpgsql AS $$
DECLARE
	difference text;
BEGIN
	EXECUTE change;
	FOR difference IN SELECT d.* FROM unnest('{NULL,20}'::bigint[]) upto, differences('a', upto) d LOOP
		RAISE WARNING 'changed: %', difference;
	END LOOP;
	ROLLBACK;
	FOR difference IN SELECT d.* FROM unnest('{NULL,20}'::bigint[]) upto, differences('a', upto) d LOOP
		RAISE WARNING 'taken back: %', difference;
	END LOOP;
	EXECUTE change;
	COMMIT;
	FOR difference IN SELECT d.* FROM unnest('{NULL,20}'::bigint[]) upto, differences('a', upto) d LOOP
		RAISE WARNING 'committed: %', difference;
	END LOOP;
	COMMIT;
END $$;
CALL changed('CREATE OR REPLACE FUNCTION s_bigint(s bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN (s * 37 + (e.data->>''n'')::bigint) % 1000003');
CALL changed('ALTER TYPE basket ADD ATTRIBUTE more text');
CALL changed('ALTER TYPE basket DROP ATTRIBUTE span; CREATE OR REPLACE FUNCTION s_basket(s basket, e immutable.event) RETURNS basket LANGUAGE plpgsql STABLE AS ''BEGIN s.more := concat(s.more, e.version); RETURN s; END''');
CALL changed('ALTER TYPE item ADD ATTRIBUTE more text');
ALTER TYPE mood ADD VALUE 'glad' AFTER 'sad';
SELECT d.* FROM unnest('{NULL,20}'::bigint[]) upto, differences('a', upto) d;
CALL changed('ALTER TYPE mood RENAME VALUE ''ok'' TO ''fine''');
CALL changed('ALTER DOMAIN percent ADD CHECK (VALUE <> 1000)');
CALL changed('ALTER FUNCTION s_strict(bigint, immutable.event) CALLED ON NULL INPUT');
CALL life('b', 20);

RESET ROLE;
SELECT immutable.drop_log('ledger', force => true), immutable.drop_log('wide', force => true);
SET client_min_messages = warning;
DROP SCHEMA snapshot_property CASCADE;
DROP ROLE regress_snapshot_property;
