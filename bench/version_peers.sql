-- The table of version.sql as others keep its history: a PL/pgSQL trigger that
-- writes jsonb, and periods and table_log where the server has them.
SET client_min_messages = warning;
DROP TABLE IF EXISTS bench.audited, bench.audit;
CREATE TABLE bench.audited (LIKE bench.plain INCLUDING ALL);
INSERT INTO bench.audited SELECT * FROM bench.plain;
CREATE TABLE bench.audit (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, relation regclass, at timestamptz DEFAULT now(),
	role name DEFAULT session_user, operation text, old jsonb, new jsonb);
CREATE OR REPLACE FUNCTION bench.audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO bench.audit (relation, operation, old, new)
	VALUES (TG_RELID, TG_OP, to_jsonb(OLD), to_jsonb(NEW));
	RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON bench.audited FOR EACH ROW EXECUTE FUNCTION bench.audit();
VACUUM ANALYZE bench.audited;
DO $$ BEGIN
	IF to_regclass('bench.with_periods') IS NOT NULL THEN
		PERFORM periods.drop_system_versioning('bench.with_periods');
		PERFORM periods.drop_system_time_period('bench.with_periods');
		DROP TABLE bench.with_periods, bench.with_periods_history;
	END IF;
	IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'periods') THEN
		CREATE EXTENSION IF NOT EXISTS periods CASCADE;
		CREATE TABLE bench.with_periods (LIKE bench.plain INCLUDING ALL);
		INSERT INTO bench.with_periods SELECT * FROM bench.plain;
		PERFORM periods.add_system_time_period('bench.with_periods');
		PERFORM periods.add_system_versioning('bench.with_periods');
	END IF;
	IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'table_log') THEN
		CREATE EXTENSION IF NOT EXISTS table_log SCHEMA public;
		DROP TABLE IF EXISTS bench.with_table_log, bench.with_table_log_log;
		CREATE TABLE bench.with_table_log (LIKE bench.plain INCLUDING ALL);
		INSERT INTO bench.with_table_log SELECT * FROM bench.plain;
		CREATE TABLE bench.with_table_log_log (LIKE bench.plain, trigger_mode varchar(10), trigger_tuple varchar(5), trigger_changed timestamptz,
			trigger_id bigserial PRIMARY KEY, trigger_user varchar(32));
		CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON bench.with_table_log FOR EACH ROW EXECUTE FUNCTION public.table_log('with_table_log_log', 1, 'bench');
	END IF;
END $$;
CHECKPOINT;
