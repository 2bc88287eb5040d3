-- version_replay: thousands of changes, and AS OF beside a state computed by
-- other means, at the time of every change and at hundreds of other times.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA version_replay;
SET search_path = version_replay;
CREATE TABLE product (id integer PRIMARY KEY, name text, price numeric, tags text[]);
CREATE TABLE changes (n serial, at timestamptz, id integer, gone boolean, name text, price numeric, tags text[]);
INSERT INTO product SELECT i, 'p' || i, i, ARRAY[i::text] FROM generate_series(1, 20) i;
SELECT immutable.add_versioning('product');
INSERT INTO changes (at, id, gone, name, price, tags)
SELECT t.began_at, p.id, false, p.name, p.price, p.tags FROM product p, immutable.versioned_tables t WHERE t.relation = 'product'::regclass;
CREATE TEMP TABLE mirror AS SELECT * FROM product;
SELECT setseed(0.42);

-- what it does, it writes down itself; one transaction in eight is rolled back
CREATE PROCEDURE play(transactions integer) LANGUAGE plpgsql AS $$
DECLARE
	kind float8;
	k integer;
	other integer;
BEGIN
	FOR i IN 1..transactions LOOP
		FOR j IN 1..1 + floor(random() * 4) LOOP
			kind := random();
			k := 1 + floor(random() * 60);
			other := 1 + floor(random() * 60);
			IF kind < 0.25 THEN
				INSERT INTO product VALUES (k, 'new' || i, j, NULL) ON CONFLICT DO NOTHING;
			ELSIF kind < 0.4 THEN
				DELETE FROM product WHERE id = k;
			ELSIF kind < 0.5 THEN
				UPDATE product SET id = other WHERE id = k AND NOT EXISTS (SELECT FROM product WHERE id = other);
			ELSIF kind < 0.6 THEN
				UPDATE product SET price = price WHERE id = k;
			ELSIF kind < 0.7 THEN
				UPDATE product SET price = i, tags = tags || i::text WHERE id BETWEEN k AND k + 5;
			ELSE
				UPDATE product SET price = i + j / 10.0, name = repeat('x', (random() * 50)::integer) WHERE id = k;
			END IF;
		END LOOP;
		INSERT INTO changes (at, id, gone, name, price, tags)
		SELECT now(), coalesce(p.id, m.id), p.id IS NULL, p.name, p.price, p.tags
		FROM product p FULL JOIN mirror m ON p.id = m.id
		WHERE p.id IS NULL OR m.id IS NULL OR ROW(p.name, p.price, p.tags) IS DISTINCT FROM ROW(m.name, m.price, m.tags);
		TRUNCATE mirror;
		INSERT INTO mirror SELECT * FROM product;
		IF random() < 0.125 THEN
			ROLLBACK;
		ELSE
			COMMIT;
		END IF;
	END LOOP;
END $$;
CALL play(2000);
SELECT count(*) > 3000 AS many_changes, count(DISTINCT at) > 1000 AS many_times FROM changes;
SELECT * FROM immutable.verify_versions('product');

CREATE FUNCTION state_at(t timestamptz) RETURNS SETOF product LANGUAGE sql STABLE AS $$
	SELECT id, name, price, tags FROM (SELECT DISTINCT ON (id) * FROM changes WHERE at <= t ORDER BY id, n DESC) l WHERE NOT gone
$$;
CREATE FUNCTION differs_at(t timestamptz) RETURNS boolean LANGUAGE sql STABLE AS $$
	SELECT EXISTS (SELECT * FROM product__as_of(t) EXCEPT ALL SELECT * FROM state_at(t))
		OR EXISTS (SELECT * FROM state_at(t) EXCEPT ALL SELECT * FROM product__as_of(t))
$$;
-- the changed rows, at the exact time and a microsecond before and after
CREATE INDEX ON changes (id, at);
SELECT count(*) FROM changes c, LATERAL (VALUES (c.at), (c.at - '1 microsecond'::interval), (c.at + '1 microsecond'::interval)) v(t)
WHERE v.t >= (SELECT min(at) FROM changes)
	AND (SELECT ROW(p.*)::text FROM product__as_of(v.t) p WHERE p.id = c.id)
	IS DISTINCT FROM (SELECT CASE WHEN NOT s.gone THEN ROW(s.id, s.name, s.price, s.tags)::text END
		FROM changes s WHERE s.id = c.id AND s.at <= v.t ORDER BY s.n DESC LIMIT 1);
-- the whole table, at every fiftieth change and at 200 random times
SELECT count(*) FROM (SELECT DISTINCT at FROM changes WHERE n % 50 = 0) c WHERE differs_at(c.at);
SELECT count(*) FROM (SELECT min(at) AS a, max(at) AS b FROM changes) c, generate_series(1, 200), LATERAL (SELECT c.a + random() * (c.b - c.a) AS t) t
WHERE differs_at(t.t);
-- periods: every version but tombstones and what its own transaction overtook, by the rules of SQL:2011
CREATE FUNCTION periods(a timestamptz, b timestamptz, closed boolean) RETURNS SETOF bigint LANGUAGE sql STABLE AS $$
	SELECT row_position FROM product__history
	WHERE row_operation <> 'D' AND row_start < row_end AND row_end > a AND (row_start < b OR closed AND row_start = b)
$$;
SELECT count(*) FROM (SELECT at AS a, lead(at, 7) OVER (ORDER BY at) AS b FROM (SELECT DISTINCT at FROM changes WHERE n % 20 = 0) d) c
WHERE b IS NOT NULL AND (
	(SELECT array_agg(row_position ORDER BY row_position) FROM product__between(a, b)) IS DISTINCT FROM (SELECT array_agg(p ORDER BY p) FROM periods(a, b, true) p)
	OR (SELECT array_agg(row_position ORDER BY row_position) FROM product__from_to(a, b)) IS DISTINCT FROM (SELECT array_agg(p ORDER BY p) FROM periods(a, b, false) p));

SELECT immutable.drop_versioning('product'), immutable.unprotect('product_versions', true);
DROP SCHEMA version_replay CASCADE;
