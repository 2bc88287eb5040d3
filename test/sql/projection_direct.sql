-- Rows of plain read models are written without queries: everything that hangs
-- on a table holds there as well.
CREATE ROLE regress_direct;
CREATE SCHEMA projection_direct AUTHORIZATION regress_direct;
SET search_path = projection_direct;
SET ROLE regress_direct;
SELECT immutable.create_log('ledger');
CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);

-- a composite key, one column of it nondeterministic; columns dropped before;
-- indexes of all kinds; a long value
CREATE TABLE model (gone1 int, name text COLLATE nocase, gone2 text DEFAULT 'x', region int, n bigint NOT NULL DEFAULT 0 CHECK (n < 1000),
	code text, body text, search tsvector, PRIMARY KEY (region, name));
ALTER TABLE model ALTER COLUMN body SET STORAGE EXTERNAL;
ALTER TABLE model DROP COLUMN gone1, DROP COLUMN gone2;
CREATE UNIQUE INDEX model_code ON model (code);
CREATE INDEX model_part ON model (n) WHERE n > 5;
CREATE INDEX model_expr ON model ((n % 10), lower(code));
CREATE INDEX model_search ON model USING gin (search);
CREATE INDEX model_brin ON model USING brin (n);
CREATE FUNCTION apply(r model, e immutable.event) RETURNS model LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	IF e.type = 'closed' THEN RETURN NULL; END IF;
	IF e.type = 'moved' THEN r.region := r.region + 1; END IF;
	IF e.type = 'emptied' THEN r.n := NULL; RETURN r; END IF;
	r.n := r.n + coalesce((e.data ->> 'n')::bigint, 1);
	r.code := coalesce(e.data ->> 'code', r.code);
	r.body := coalesce(repeat(e.data ->> 'body', 3000), r.body);
	r.search := to_tsvector('simple', coalesce(e.data ->> 'text', ''));
	RETURN r;
END $$;
SELECT immutable.create_projection('model', 'ledger', 'apply', ARRAY['(data ->> ''region'')::int', 'data ->> ''name'''], commutative => true);
CREATE FUNCTION put(name text, type text DEFAULT 't', more jsonb DEFAULT '{}') RETURNS bigint LANGUAGE sql AS
$$ SELECT (immutable.append('ledger', 's', type, jsonb_build_object('name', name, 'region', 1) || more)).version $$;
CREATE VIEW rows AS SELECT region, name, n, code, length(body) AS body, search FROM model ORDER BY region, name;

SELECT put('Ann', more => '{"code": "a", "text": "red house"}'), put('ANN', more => '{"n": 5, "text": "blue house"}'), put('bob', more => '{"code": "B", "body": "long "}');
TABLE rows;
-- the key stays as it was first written; the indexes find what is there now
SET enable_seqscan = off;
SELECT name FROM model WHERE search @@ 'blue';
SELECT name FROM model WHERE search @@ 'red';
SELECT name FROM model WHERE n % 10 = 6 AND lower(code) = 'a';
SELECT name FROM model WHERE n = 6 AND n > 5;
SELECT name FROM model WHERE code = 'B';
RESET enable_seqscan;
-- a long value stays where it is while other columns change, and goes with a new one
SELECT put('bob'), put('BOB', more => '{"text": "tree"}');
TABLE rows;
SELECT body = repeat('long ', 3000) AS same FROM model WHERE name = 'bob';
SELECT put('bob', more => '{"body": "other "}');
SELECT body = repeat('other ', 3000) AS same FROM model WHERE name = 'bob';

-- what constraints refuse; nothing is appended
\set SHOW_CONTEXT never
CREATE FUNCTION try(query text) RETURNS TABLE (sqlstate text, message text, detail text, "constraint" text, relation text) LANGUAGE plpgsql AS $$
DECLARE
	s text; m text; d text; c text; t text;
BEGIN
	EXECUTE query;
EXCEPTION WHEN others THEN
	GET STACKED DIAGNOSTICS s = RETURNED_SQLSTATE, m = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL, c = CONSTRAINT_NAME, t = TABLE_NAME;
	RETURN QUERY SELECT s, m, regexp_replace(d, '\(1, .*', '...'), c, t;
END $$;
SELECT sqlstate, message, detail, "constraint", relation FROM try($$SELECT put('carl', more => '{"code": "a"}')$$);
SELECT sqlstate, message, "constraint", relation FROM try($$SELECT put('bob', more => '{"code": "a"}')$$);
SELECT sqlstate, message, "constraint", relation FROM try($$SELECT put('ann', more => '{"n": 1000}')$$);
SELECT sqlstate, message, relation FROM try($$SELECT put('ann', 'emptied')$$);
SELECT sqlstate, message FROM try($$SELECT put('ann', 'moved')$$);
SELECT count(*) FROM ledger;

-- a savepoint takes back what a row was, new ones and deletions as well
BEGIN;
SELECT put('ann');
SAVEPOINT a;
SELECT put('ann', 'closed'), put('carl'), put('bob', more => '{"body": "gone "}');
TABLE rows;
ROLLBACK TO a;
TABLE rows;
SELECT put('ann', 'closed'), put('ann', more => '{"code": "a"}'), put('carl'), put('carl', 'closed');
COMMIT;
TABLE rows;
SELECT * FROM immutable.verify_projection('model');

-- a reducer that changes nothing, and one that deletes what is not there
SELECT put('nobody', 'closed');
SELECT count(*) FROM model;
-- a column that comes later
ALTER TABLE model ADD COLUMN later int DEFAULT 7;
SELECT put('ann'), put('dora');
SELECT name, n, later FROM model ORDER BY name;
SELECT * FROM immutable.verify_projection('model');

-- the direct way and the way of queries give the same, a trigger apart
CREATE TABLE plain (k text PRIMARY KEY, n bigint DEFAULT 0, h text DEFAULT '');
CREATE TABLE heavy (k text PRIMARY KEY, n bigint DEFAULT 0, h text DEFAULT '');
CREATE INDEX ON plain (n);
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER after_all AFTER INSERT OR UPDATE OR DELETE ON heavy FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE FUNCTION fold_plain(r plain, e immutable.event) RETURNS plain LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN r.n >= 3 AND e.type = 'a' THEN NULL WHEN e.type = 'same' THEN r ELSE ROW(r.k, r.n + 1, md5(r.h || e.version))::plain END $$;
CREATE FUNCTION fold_heavy(r heavy, e immutable.event) RETURNS heavy LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN r.n >= 3 AND e.type = 'a' THEN NULL WHEN e.type = 'same' THEN r ELSE ROW(r.k, r.n + 1, md5(r.h || e.version))::heavy END $$;
SELECT immutable.create_log('mixed');
SELECT immutable.create_projection('plain', 'mixed', 'fold_plain'), immutable.create_projection('heavy', 'mixed', 'fold_heavy');
SELECT count(immutable.append('mixed', 's' || i * 7 % 11, CASE WHEN i % 3 = 0 THEN 'a' WHEN i % 5 = 0 THEN 'same' ELSE 'b' END)) FROM generate_series(1, 300) i;
SELECT count(immutable.append_batch('mixed', 's' || s, ARRAY(SELECT ((ARRAY['a', 'b', 'same'])[1 + (i + s) % 3], NULL, NULL, NULL, NULL)::immutable.new_event FROM generate_series(1, 20) i))) FROM generate_series(1, 12) s;
SELECT count(*) > 5 AS rows, (SELECT count(*) FROM (TABLE plain EXCEPT TABLE heavy) x) + (SELECT count(*) FROM (TABLE heavy EXCEPT TABLE plain) x) AS differ FROM plain;
SELECT p.target, v.* FROM (VALUES ('plain'::regclass), ('heavy')) p (target), immutable.verify_projection(target) v;

RESET ROLE;
SELECT immutable.drop_projection(t) FROM unnest('{model,plain,heavy}'::regclass[]) t;
SELECT immutable.drop_log(l, force => true) FROM unnest('{ledger,mixed}'::regclass[]) l;
SET client_min_messages = warning;
DROP SCHEMA projection_direct CASCADE;
DROP ROLE regress_direct;
