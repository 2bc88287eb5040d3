-- row_security: policies on a log decide who appends what and who reads what.
\set SHOW_CONTEXT never
CREATE ROLE regress_rls;
CREATE ROLE regress_rls_north;
CREATE ROLE regress_rls_south;
CREATE SCHEMA row_security AUTHORIZATION regress_rls;
GRANT USAGE ON SCHEMA row_security TO regress_rls_north, regress_rls_south;
SET search_path = row_security;
SET ROLE regress_rls;
SELECT immutable.create_log('plain'), immutable.create_log('wide', 3);
CREATE VIEW logs AS SELECT * FROM unnest(ARRAY['plain', 'wide']::regclass[]) WITH ORDINALITY l(log, nr);
GRANT SELECT ON logs TO PUBLIC;
GRANT SELECT, INSERT ON plain, wide TO regress_rls_north, regress_rls_south;
-- each role reads its own region, and appends to streams of its region
CREATE FUNCTION region() RETURNS text LANGUAGE sql STABLE RETURN split_part(current_user, '_', 3);
DO $$
DECLARE
	log text;
BEGIN
	FOREACH log IN ARRAY ARRAY['plain', 'wide'] LOOP
		EXECUTE format('ALTER TABLE row_security.%I ENABLE ROW LEVEL SECURITY', log);
		EXECUTE format('CREATE POLICY reads ON row_security.%I FOR SELECT USING (data->>''region'' = row_security.region())', log);
		EXECUTE format('CREATE POLICY appends ON row_security.%I FOR INSERT WITH CHECK (data->>''region'' = row_security.region())', log);
	END LOOP;
END $$;
CREATE FUNCTION try(log regclass, stream text, region text, expected bigint DEFAULT NULL) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
	RETURN format('version %s', (immutable.append(log, stream, 't', jsonb_build_object('region', region), expected_version => expected)).version);
EXCEPTION WHEN OTHERS THEN
	RETURN format('%s %s', sqlstate, sqlerrm);
END $$;

-- the owner is above the policies, and goes the planner's way over partitions first
SELECT log, row_security.try(log, 'shared', 'south'), row_security.try(log, 'shared', 'north') FROM logs ORDER BY nr;

-- WITH CHECK is obeyed
RESET ROLE;
SET ROLE regress_rls_north;
SELECT log, row_security.try(log, 'n', 'north'), row_security.try(log, 'n', 'south') FROM logs ORDER BY nr;
SELECT immutable.append('plain', 'n', 't', '{"region": "south"}');
\echo :SQLSTATE
SELECT immutable.append('wide', 'n', 't', '{"region": "south"}');
\echo :SQLSTATE
RESET ROLE;
SET ROLE regress_rls_south;
SELECT log, row_security.try(log, 's', 'north'), row_security.try(log, 's', 'south') FROM logs ORDER BY nr;

-- versions are counted over all events, seen or not
SELECT log, row_security.try(log, 'shared', 'south', 2), row_security.try(log, 'shared', 'south', 1) FROM logs ORDER BY nr;
-- so what is read may have gaps, and ends where the policies end it
SELECT log, array(SELECT version FROM immutable.read_stream(log, 'shared')) AS forward,
	array(SELECT version FROM immutable.read_stream(log, 'shared', backward => true)) AS backward,
	array(SELECT version FROM immutable.read_stream(log, 'shared', 2)) AS from_2,
	array(SELECT version FROM immutable.read_stream(log, 'shared', max_events => 1, backward => true)) AS last,
	immutable.stream_version(log, 'shared') FROM logs ORDER BY nr;
SELECT log, array(SELECT version FROM immutable.read_stream(log, 'n')) AS n, immutable.stream_version(log, 'n') FROM logs ORDER BY nr;
RESET ROLE;
SET ROLE regress_rls_north;
SELECT log, array(SELECT version FROM immutable.read_stream(log, 'shared')) AS forward,
	array(SELECT data->>'region' FROM immutable.read_stream(log, 'shared')) AS region,
	immutable.stream_version(log, 'shared') FROM logs ORDER BY nr;
CREATE FUNCTION pg_temp.total(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN state + 1;
SELECT log, immutable.replay(log, 'shared', 0::bigint, 'pg_temp.total') FROM logs ORDER BY nr;
SELECT log, count(*) FROM logs, LATERAL immutable.read_stream(log, 's') GROUP BY log;

-- a retry is recognised though its event is hidden, and says no more than that
SELECT log, (immutable.append(log, 'own', 't', '{"region": "north"}', id => '018f0000-0000-7000-8000-000000000001')).written FROM logs ORDER BY nr;
RESET ROLE;
SET ROLE regress_rls_south;
SELECT log, (immutable.append(log, 'own', 't', '{"region": "north"}', id => '018f0000-0000-7000-8000-000000000001')).written FROM logs ORDER BY nr;
RESET ROLE;
SET ROLE regress_rls_north;

-- row_security = off asks for an error instead of a silent filter
SET row_security = off;
SELECT immutable.read_stream('plain', 'shared');
\echo :SQLSTATE
SELECT immutable.append('wide', 'n', 't', '{"region": "north"}');
\echo :SQLSTATE
RESET row_security;

-- no policy, no rows; no privilege, an error
RESET ROLE;
SET ROLE regress_rls;
DROP POLICY reads ON plain;
DROP POLICY appends ON plain;
REVOKE SELECT ON wide FROM regress_rls_north;
RESET ROLE;
SET ROLE regress_rls_north;
SELECT count(*) FROM immutable.read_stream('plain', 'shared');
SELECT row_security.try('plain', 'n', 'north');
SELECT immutable.read_stream('wide', 'shared');
\echo :SQLSTATE
SELECT row_security.try('wide', 'n', 'north');

-- FORCE binds the owner; nothing binds who bypasses row security
RESET ROLE;
SET ROLE regress_rls;
SELECT array(SELECT version FROM immutable.read_stream('plain', 'shared'));
ALTER TABLE plain FORCE ROW LEVEL SECURITY;
SELECT array(SELECT version FROM immutable.read_stream('plain', 'shared'));
SELECT try('plain', 'shared', 'north');
ALTER TABLE plain NO FORCE ROW LEVEL SECURITY;
SELECT try('plain', 'shared', 'north');
RESET ROLE;
SELECT array(SELECT version FROM immutable.read_stream('plain', 'shared'));

-- a policy that lets events be changed lets nothing be changed
GRANT UPDATE, DELETE ON plain TO regress_rls_north;
CREATE POLICY everything ON plain USING (true) WITH CHECK (true);
SET ROLE regress_rls_north;
UPDATE plain SET data = '{}';
\echo :SQLSTATE
DELETE FROM plain;
INSERT INTO plain SELECT * FROM plain LIMIT 1;
RESET ROLE;
DROP VIEW logs;
DROP FUNCTION pg_temp.total;
SELECT immutable.drop_log('plain', force => true), immutable.drop_log('wide', force => true);
SET client_min_messages = warning;
DROP SCHEMA row_security CASCADE;
DROP ROLE regress_rls, regress_rls_north, regress_rls_south;
