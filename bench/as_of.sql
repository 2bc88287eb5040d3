-- AS OF of one key among few versions and among many: 10 versions of each key.
-- Set versions.
SET client_min_messages = warning;
CREATE TABLE bench.few (id bigint PRIMARY KEY, quantity integer);
CREATE TABLE bench.many (LIKE bench.few INCLUDING ALL);
SELECT immutable.add_versioning('bench.few'), immutable.add_versioning('bench.many');
INSERT INTO bench.few SELECT i, 0 FROM generate_series(1, 1000) i;
INSERT INTO bench.many SELECT i, 0 FROM generate_series(1, :versions / 10) i;
SELECT format('UPDATE bench.%s SET quantity = quantity + 1', t)
FROM unnest('{few,many}'::text[]) t, generate_series(1, 9) \gexec
VACUUM ANALYZE bench.few_versions;
VACUUM ANALYZE bench.many_versions;
-- keys that lie apart, each at the time of a version in the middle
CREATE FUNCTION bench.as_of_few() RETURNS void LANGUAGE plpgsql AS $$
DECLARE at timestamptz := (SELECT row_start FROM bench.few_versions WHERE id = 1 AND row_version = 5);
BEGIN
	FOR i IN 1 .. 10000 LOOP
		PERFORM FROM bench.few__as_of(at) WHERE id = 1 + (i * 7919::bigint) % 1000;
	END LOOP;
END $$;
CREATE FUNCTION bench.as_of_many() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	at timestamptz := (SELECT row_start FROM bench.many_versions WHERE id = 1 AND row_version = 5);
	keys bigint := (SELECT count(*) FROM bench.many);
BEGIN
	FOR i IN 1 .. 10000 LOOP
		PERFORM FROM bench.many__as_of(at) WHERE id = 1 + (i * 7919::bigint) % keys;
	END LOOP;
END $$;
-- blocks that one such query reads of the version table and its indexes
CREATE FUNCTION bench.as_of_blocks(versions text) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
	at timestamptz;
	plan json;
BEGIN
	EXECUTE format('SELECT row_start FROM bench.%s_versions WHERE id = 1 AND row_version = 5', versions) INTO at;
	EXECUTE format('EXPLAIN (ANALYZE, BUFFERS, FORMAT json) SELECT * FROM bench.%s__as_of(%L) WHERE id = 77', versions, at) INTO plan;
	plan := plan #> '{0,Plan,Plans,0}';	-- below the check of the time
	RETURN (plan->>'Shared Hit Blocks')::integer + (plan->>'Shared Read Blocks')::integer;
END $$;
