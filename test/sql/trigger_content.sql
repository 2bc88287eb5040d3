-- trigger_content: what a BEFORE trigger fills in is as valid as what append is given.
\set SHOW_CONTEXT never
CREATE ROLE regress_content;
CREATE SCHEMA trigger_content AUTHORIZATION regress_content;
SET search_path = trigger_content;
SET ROLE regress_content;
SELECT immutable.create_log('plain'), immutable.create_log('wide', 1), immutable.create_log('secured');
ALTER TABLE secured ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY everything ON secured USING (true) WITH CHECK (true);
CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	CASE NEW.type
		WHEN 'data' THEN NEW.data := '[]';
		WHEN 'metadata' THEN NEW.metadata := '7';
		WHEN 'empty type' THEN NEW.type := '';
		WHEN 'reserved type' THEN NEW.type := '$reserved';
		WHEN 'schema version' THEN NEW.schema_version := 0;
		ELSE NEW.data := '{"filled": "in"}';
	END CASE;
	RETURN NEW;
END $$;
CREATE TRIGGER fill BEFORE INSERT ON plain FOR EACH ROW EXECUTE FUNCTION fill();
CREATE TRIGGER fill BEFORE INSERT ON wide FOR EACH ROW EXECUTE FUNCTION fill();
CREATE TRIGGER z_fill BEFORE INSERT ON secured FOR EACH ROW EXECUTE FUNCTION fill();
CREATE FUNCTION try(log regclass, type text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN format('version %s', (immutable.append(log, 's', type)).version);
EXCEPTION WHEN OTHERS THEN
	RETURN format('%s %s', sqlstate, sqlerrm);
END $$;
SELECT type, try('plain', type) AS plain, try('wide', type) AS wide, try('secured', type) AS secured
FROM unnest(ARRAY['data', 'metadata', 'empty type', 'reserved type', 'schema version', 'good']) WITH ORDINALITY t(type, nr) ORDER BY nr;

RESET ROLE;
SELECT immutable.drop_log('plain', true), immutable.drop_log('wide', true), immutable.drop_log('secured', true);
SET client_min_messages = warning;
DROP SCHEMA trigger_content CASCADE;
DROP ROLE regress_content;
