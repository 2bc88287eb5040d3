-- The same table under each way of keeping versions; prints which can be had.
SET client_min_messages = warning;
CREATE SCHEMA bench;
SELECT count(*) = 1 AS periods FROM pg_available_extensions WHERE name = 'periods' \gset
SELECT count(*) = 1 AS tablelog FROM pg_available_extensions WHERE name = 'table_log' \gset
CREATE EXTENSION immutable_events;
SELECT to_regproc('immutable.add_versioning') IS NOT NULL AS immutable \gset

CREATE TABLE plain (id bigint PRIMARY KEY, name text, price numeric, quantity integer, changed_at timestamptz DEFAULT now());
CREATE TABLE audit (LIKE plain INCLUDING ALL);
CREATE SEQUENCE plain_id CACHE 100;
CREATE SEQUENCE audit_id CACHE 100;

CREATE TABLE audit_changes (id bigserial PRIMARY KEY, at timestamptz NOT NULL, who name NOT NULL, operation text NOT NULL, old jsonb, new jsonb);
CREATE FUNCTION bench.audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO audit_changes (at, who, operation, old, new)
	VALUES (now(), session_user, TG_OP, CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END, CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END);
	RETURN NULL;
END
$$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION bench.audit();

\if :immutable
CREATE TABLE immutable (LIKE plain INCLUDING ALL);
CREATE SEQUENCE immutable_id CACHE 100;
\endif
\if :periods
CREATE EXTENSION periods CASCADE;
CREATE TABLE periods (LIKE plain INCLUDING ALL);
CREATE SEQUENCE periods_id CACHE 100;
DO $$ BEGIN
	PERFORM periods.add_system_time_period('periods');
	PERFORM periods.add_system_versioning('periods');
END $$;
\endif
\if :tablelog
CREATE EXTENSION table_log;
CREATE TABLE tablelog (LIKE plain INCLUDING ALL);
CREATE SEQUENCE tablelog_id CACHE 100;
DO $$ BEGIN PERFORM table_log_init(5, 'public', 'tablelog', 'public', 'tablelog_log'); END $$;
\endif

-- 100,000 rows in every table, with no version yet but where versioning begins
CREATE PROCEDURE bench.reset() LANGUAGE plpgsql AS $$
DECLARE
	t text;
BEGIN
	FOREACH t IN ARRAY '{plain,audit,immutable,periods,tablelog}'::text[] LOOP
		CONTINUE WHEN to_regclass('public.' || t) IS NULL;
		EXECUTE format('ALTER SEQUENCE %I RESTART', t || '_id');
		IF t = 'immutable' THEN
			IF to_regclass('immutable_versions') IS NOT NULL THEN
				PERFORM immutable.drop_versioning('immutable');
				PERFORM immutable.unprotect('immutable_versions', true);
				DROP TABLE immutable_versions;
			END IF;
			TRUNCATE public.immutable;
		ELSE
			EXECUTE format('DELETE FROM %I', t);
		END IF;
		EXECUTE format('INSERT INTO %I (id, name, price, quantity) SELECT i, ''product '' || i, i * 1.5, i FROM generate_series(1, 100000) i', t);
		IF t = 'immutable' THEN
			PERFORM immutable.add_versioning('immutable');
		END IF;
	END LOOP;
END
$$;
SELECT 'plain audit' || CASE WHEN :'immutable' THEN ' immutable' ELSE '' END
	|| CASE WHEN :'periods' THEN ' periods' ELSE '' END || CASE WHEN :'tablelog' THEN ' tablelog' ELSE '' END;
