-- Versioned rows: the same table twice, once versioned.
SET client_min_messages = warning;
CREATE SCHEMA IF NOT EXISTS bench;
DO $$ BEGIN
	IF to_regclass('bench.versioned') IS NOT NULL THEN
		PERFORM immutable.drop_versioning('bench.versioned');
		PERFORM immutable.unprotect('bench.versioned_versions', true);
		DROP TABLE bench.plain, bench.versioned, bench.versioned_versions;
		DROP SEQUENCE bench.plain_id, bench.versioned_id;
	END IF;
END $$;
CREATE TABLE bench.plain (id bigint PRIMARY KEY, name text, price numeric, quantity integer, changed_at timestamptz DEFAULT now());
INSERT INTO bench.plain SELECT i, 'product ' || i, i * 1.5, i FROM generate_series(1, 100000) i;
CREATE TABLE bench.versioned (LIKE bench.plain INCLUDING ALL);
INSERT INTO bench.versioned SELECT * FROM bench.plain;
DO $$ BEGIN PERFORM immutable.add_versioning('bench.versioned'); END $$;
CREATE SEQUENCE bench.plain_id CACHE 100;
CREATE SEQUENCE bench.versioned_id CACHE 100;
VACUUM ANALYZE bench.plain;
VACUUM ANALYZE bench.versioned;
VACUUM ANALYZE bench.versioned_versions;
CHECKPOINT;
CREATE OR REPLACE FUNCTION bench.update_plain() RETURNS void LANGUAGE sql AS 'UPDATE bench.plain SET quantity = quantity + 1';
CREATE OR REPLACE FUNCTION bench.update_versioned() RETURNS void LANGUAGE sql AS 'UPDATE bench.versioned SET quantity = quantity + 1';
