-- An audit trail: who changed what, when and why, for any ordinary table, in a
-- log that neither the application nor the owner of the tables can change.
--
--   createdb audit && psql -d audit -v ON_ERROR_STOP=1 -f audit.sql
--
-- audit.py is an application that uses it.

CREATE EXTENSION IF NOT EXISTS immutable_events;
SELECT immutable.create_log('audit_trail');

-- One stream for each row, named by table and key. The event is what the row
-- was and is; immutable.context adds who and why to its metadata.
CREATE FUNCTION audit_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	before_row jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
	after_row jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
BEGIN
	IF before_row IS DISTINCT FROM after_row THEN
		PERFORM immutable.append('public.audit_trail',
			TG_TABLE_NAME || '-' || (coalesce(after_row, before_row)->>TG_ARGV[0]),
			lower(TG_OP), jsonb_build_object('old', before_row, 'new', after_row),
			metadata => jsonb_build_object('role', session_user));
	END IF;
	RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION audit_row() FROM PUBLIC;

CREATE TABLE patient (id integer PRIMARY KEY, name text NOT NULL, ward text);
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON patient
	FOR EACH ROW EXECUTE FUNCTION audit_row('id');

-- The application works with the table, and reads the trail. It cannot write
-- to it but by changing the table.
DO $$ BEGIN CREATE ROLE clinic_app; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
GRANT SELECT, INSERT, UPDATE, DELETE ON patient TO clinic_app;
GRANT SELECT ON audit_trail TO clinic_app;

-- What it was at any time is a fold over the trail.
CREATE FUNCTION row_image(state jsonb, event immutable.event)
RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT event.data->'new' $$;

-- Who reports to the supervisor reads each event once, in order.
SELECT immutable.create_consumer('supervisor', 'audit_trail', after_position => 0);
CREATE TABLE report (position bigint PRIMARY KEY, line text NOT NULL);

-- The trail's owner from now on is a role that nobody can log in as. (The
-- function must go on writing to it.)
SELECT immutable.seal_ownership('audit_trail');
