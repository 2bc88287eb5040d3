-- fold_property: random reducers over random events, against a plain loop.
\set SHOW_CONTEXT never
CREATE ROLE regress_property;
CREATE SCHEMA property AUTHORIZATION regress_property;
SET search_path = property;
SET ROLE regress_property;
SELECT setseed(0.5);

-- three streams, mixed, of 12 events each
SELECT immutable.create_log('ledger');
SELECT count(*) FROM (SELECT immutable.append('ledger', 's' || s, (ARRAY['opened', 'moved', 'a rather long type of event', 'e'])[1 + floor(random() * 4)::integer],
	jsonb_build_object('x', floor(random() * 1000)::integer) || CASE WHEN random() < 0.7 THEN jsonb_build_object('word', repeat(chr(97 + floor(random() * 26)::integer), floor(random() * 20)::integer)) ELSE '{}' END)
FROM generate_series(1, 12) n, generate_series(1, 3) s ORDER BY n, s) a;

CREATE TYPE part AS (k integer, t text);
CREATE TYPE mixed AS (i integer, b bigint, t text, v text, d numeric, u uuid, w uuid, a integer[], l text[], j jsonb, p part, q part, r int4range, iv interval, n name, m name);
CREATE TABLE kind (name text PRIMARY KEY, type text, leaves text[], calls text[]);
-- %1$s, %2$s: expressions of this kind, %3$s of an integer, %4$s of a text
INSERT INTO kind VALUES
('int', 'integer', '{s.i,s.i,s.b::integer,s.a[1],s.a[2],(s.p).k,(s.q).k,lower(s.r),e.version::integer,(e.data->>''x'')::integer,7}', '{"(%s %% 999 + %s) %% 1000","length(%4$s)","cardinality(s.a)"}'),
('text', 'text', '{s.t,s.v,s.t,s.v,s.l[1],s.l[2],(s.p).t,(s.q).t,s.n::text,e.type,e.stream,s.j->>''k'',e.data->>''word'',''lit''}', '{"right(%s || %s, 15)","upper((%s) COLLATE \"C\")","concat(%s, %3$s)","repeat(%s, 2)::varchar(30)"}'),
('numeric', 'numeric', '{s.d,s.d,1.5,s.i::numeric}', '{"mod(round(%s + %s / 3, 3), 1000)"}'),
('uuid', 'uuid', '{s.u,s.w,s.u,s.w,e.id}', '{"md5(%4$s)::uuid"}'),
('ints', 'integer[]', '{s.a,s.a[2:],"ARRAY[1, 2]"}', '{"(array_append(%s, %3$s))[1:6]","array_remove(%s, %3$s)"}'),
('texts', 'text[]', '{s.l,s.l[2:],"ARRAY[s.t, s.v]"}', '{"(array_append(%s, %4$s))[1:4]","(array_prepend(%4$s, %1$s))[1:3]"}'),
('jsonb', 'jsonb', '{s.j,e.data}', '{"jsonb_build_object(''k'', %4$s, ''i'', %3$s)","%s - ''k''"}'),
('part', 'part', '{s.p,s.q,s.p,s.q}', '{"ROW(%3$s, %4$s)::property.part"}'),
('range', 'int4range', '{s.r,s.r}', '{"int4range(least(%3$s, 5), greatest(%3$s, 5))"}'),
('interval', 'interval', '{s.iv,s.iv}', '{"%s + make_interval(secs => %3$s)"}'),
('name', 'name', '{s.n,s.m}', '{"(%4$s)::name"}'),
('boolean', 'boolean', '{s IS NULL,s IS NOT NULL,s IS DISTINCT FROM NULL,s.p IS NULL,s.q IS NOT NULL,e.version % 3 = 0,e.version % 2 = 0}',
	'{"%3$s % 2 = 0","(%4$s) IS NULL","(%4$s) COLLATE \"C\" < ''m''","NOT (%s)","((%s) AND (%s))","((%s) OR (%s))"}');
UPDATE kind SET calls = ARRAY(SELECT replace(c, ' % ', ' %% ') FROM unnest(calls) c);

CREATE FUNCTION any_of(choices text[]) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT choices[1 + floor(random() * cardinality(choices))::integer]';
-- an expression of a kind
CREATE FUNCTION expression(wanted text, depth integer) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	k kind;
	dice double precision := random();
BEGIN
	SELECT * INTO STRICT k FROM kind WHERE name = wanted;
	IF dice < 0.07 THEN
		RETURN 'NULL::' || k.type;
	ELSIF depth <= 0 OR dice < 0.4 THEN
		RETURN '(' || any_of(k.leaves) || ')';
	ELSIF dice < 0.55 THEN
		RETURN format('CASE WHEN %s THEN %s ELSE %s END', expression('boolean', depth - 1), expression(wanted, depth - 1), expression(wanted, depth - 1));
	ELSIF dice < 0.65 THEN
		RETURN format('coalesce(%s, %s)', expression(wanted, depth - 1), expression(wanted, depth - 1));
	END IF;
	RETURN format('(' || any_of(k.calls) || ')', expression(wanted, depth - 1), expression(wanted, depth - 1), expression('int', depth - 1), expression('text', depth - 1));
END $$;
-- the columns of a row: most are kept, or trade places
CREATE FUNCTION row_columns() RETURNS text LANGUAGE sql VOLATILE AS $$
	SELECT string_agg(CASE WHEN random() < 0.35 THEN 's.' || c ELSE expression(k, floor(random() * 3)::integer) END, ', ' ORDER BY i)
	FROM unnest('{i,b,t,v,d,u,w,a,l,j,p,q,r,iv,n,m}'::text[], '{int,int,text,text,numeric,uuid,uuid,ints,texts,jsonb,part,part,range,interval,name,name}'::text[]) WITH ORDINALITY x(c, k, i) $$;
-- an expression of the state's type; upto: reducers that may be called
CREATE FUNCTION new_state(depth integer, upto integer) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	dice double precision := random();
BEGIN
	IF depth <= 0 OR dice < 0.3 THEN
		RETURN CASE WHEN dice < 0.75 THEN format('ROW(%s)::property.mixed', row_columns()) WHEN dice < 0.9 THEN 's' ELSE 'NULL::property.mixed' END;
	ELSIF dice < 0.75 THEN
		RETURN format('CASE WHEN %s THEN %s %s END', expression('boolean', 1), new_state(depth - 1, upto),
			any_of(ARRAY['', 'ELSE ' || new_state(depth - 1, upto), format('WHEN %s THEN %s ELSE %s', expression('boolean', 1), new_state(depth - 1, upto), new_state(depth - 1, upto))]));
	ELSIF dice < 0.8 THEN
		RETURN format('coalesce(%s, %s)', new_state(depth - 1, upto), new_state(depth - 1, upto));
	ELSIF upto > 0 THEN
		RETURN format('property.r%s(%s, e)', 1 + floor(random() * upto), CASE WHEN random() < 0.8 THEN 's' ELSE new_state(0, 0) END);
	END IF;
	RETURN 's';
END $$;
-- reducer number n, and the loop that calls it
CREATE FUNCTION make(n integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	state text := new_state(2, n - 1);
	form text := any_of('{AS $f$SELECT %s$f$,AS $f$SELECT %s$f$,RETURN %s,BEGIN ATOMIC SELECT %s; END}');
BEGIN
	IF random() < 0.15 THEN
		form := 'AS $f$BEGIN RETURN %s; END$f$';
	ELSIF random() < 0.15 THEN
		state := any_of('{%s,ROW(%s)}');
		state := format(state, row_columns());
		form := 'AS $f$SELECT %s$f$';
	END IF;
	EXECUTE format('CREATE FUNCTION r%s(s mixed, e immutable.event) RETURNS mixed LANGUAGE %s %s %s ', n, CASE WHEN form ~ 'BEGIN RETURN' THEN 'plpgsql' ELSE 'sql' END,
		any_of('{IMMUTABLE,STABLE}'), any_of('{STRICT,"","",""}')) || format(form, state);
	EXECUTE format('CREATE FUNCTION l%1$s(of_stream text, initial mixed) RETURNS text[] LANGUAGE plpgsql AS $f$
		DECLARE state mixed := initial; states text[]; e ledger;
		BEGIN FOR e IN SELECT * FROM ledger WHERE stream = of_stream ORDER BY version LOOP
			state := r%1$s(state, ROW(e.*)::immutable.event);
			states := states || coalesce(state::text, ''NULL''); END LOOP; RETURN states; END $f$', n);
END $$;

-- the state at every version: of the loop, of a fold over a window, of replay; and of folds in groups
CREATE FUNCTION compare(n integer, initial mixed) RETURNS TABLE (way text, at_stream text, at_version bigint, wanted text, given text) LANGUAGE plpgsql SET jit = off AS $$
DECLARE
	r regproc := 'r' || n;
BEGIN
	RETURN QUERY EXECUTE format($q$
		WITH looped AS MATERIALIZED (SELECT s AS stream, l%s(s, $1) AS states FROM unnest('{s1,s2,s3}'::text[]) s),
		given AS (
			SELECT 'window' AS way, stream, version, immutable.fold($1, $2, e) OVER (PARTITION BY stream ORDER BY version)::text AS state FROM ledger e
			UNION ALL SELECT 'replay', stream, version, immutable.replay('ledger', stream, $1, $2, upto_version => version)::text FROM ledger
			UNION ALL SELECT 'sorted', stream, max(version), immutable.fold($1, $2, e ORDER BY e.version)::text FROM ledger e GROUP BY stream
			UNION ALL SELECT 'hashed', (e).stream, max((e).version), immutable.fold($1, $2, e)::text FROM (SELECT e FROM ledger e ORDER BY position) x GROUP BY (e).stream)
		SELECT way, stream, version, states[version], coalesce(state, 'NULL') FROM looped JOIN given USING (stream)
		WHERE states[version] IS DISTINCT FROM coalesce(state, 'NULL')$q$, n) USING initial, r;
END $$;
SELECT count(make(n)) FROM generate_series(1, 300) n;
CREATE TABLE initial AS SELECT ROW(1, 2, 't', 'some text', 1.5, '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000002', '{1,2,3}', '{a,b,c}',
	'{"k": "v"}', ROW(1, 'p'), ROW(2, 'q'), '[1,5)', '1 day', 'n', 'm')::mixed AS full_state;
SELECT n, prosrc, c.* FROM initial, generate_series(1, 300) n, LATERAL compare(n, full_state) c, pg_proc p WHERE p.oid = ('r' || n)::regproc LIMIT 10;
-- from NULL, where a strict reducer cannot begin
SELECT n, prosrc, c.* FROM pg_proc p, CAST(substr(proname, 2) AS integer) n, LATERAL compare(n, NULL) c
WHERE pronamespace = 'property'::regnamespace AND proname ~ '^r\d+$' AND NOT proisstrict LIMIT 10;
-- they were of many kinds
SELECT count(*) FILTER (WHERE inlined) > 200 AS inlined, count(*) FILTER (WHERE problem ~ 'plpgsql') > 20 AS plpgsql, count(*) FILTER (WHERE proisstrict) > 50 AS strict
FROM pg_proc p, immutable.explain_reducer(p.oid) e WHERE pronamespace = 'property'::regnamespace AND proname ~ '^r\d+$';

RESET ROLE;
SELECT immutable.drop_log('ledger', force => true);
SET client_min_messages = warning;
DROP SCHEMA property CASCADE;
DROP ROLE regress_property;
