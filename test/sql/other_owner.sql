-- other_owner: a superuser looks after tables, logs and projections of a role
-- that he does not trust. What that role has put into them runs as itself.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE ROLE regress_other_owner;
CREATE SCHEMA other_owner AUTHORIZATION regress_other_owner;
SET ROLE regress_other_owner;
SET search_path = other_owner;

-- it tells when somebody else runs it
CREATE FUNCTION spy(what text, n bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	IF current_user <> 'regress_other_owner' THEN
		RAISE WARNING '% runs as %', what, CASE WHEN (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN 'a superuser' ELSE current_user END;
	END IF;
	RETURN n;
END $$;
CREATE FUNCTION spy(what text, t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT left(t, 100 + other_owner.spy(what, 0)::integer) $$;
CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM other_owner.spy('trigger of ' || tg_table_name, 0); RETURN NEW; END $$;
CREATE DOMAIN watched AS bigint CHECK (spy('domain', value) >= 0);
SELECT immutable.create_log('ledger');
CREATE TABLE later (stream text PRIMARY KEY, n bigint DEFAULT spy('default', 0), g bigint GENERATED ALWAYS AS (spy('generated', n)) STORED,
	w watched DEFAULT 0, CHECK (spy('constraint', n) >= 0));
CREATE INDEX ON later (spy('index', n));
CREATE TRIGGER spy BEFORE INSERT OR UPDATE ON later FOR EACH ROW EXECUTE FUNCTION spy();
CREATE TABLE at_once (LIKE later INCLUDING ALL);
CREATE TRIGGER spy BEFORE INSERT OR UPDATE ON at_once FOR EACH ROW EXECUTE FUNCTION spy();
CREATE FUNCTION apply(r later, e immutable.event) RETURNS later LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN r.n := r.n + spy('reducer', e.version) - e.version + 1; RETURN r; END $$;
-- a constant is folded when it is planned
CREATE FUNCTION apply(r at_once, e immutable.event) RETURNS at_once LANGUAGE sql IMMUTABLE AS $$
SELECT ROW(r.stream, r.n + other_owner.spy('planned reducer', 1), NULL, r.w)::other_owner.at_once $$;
SELECT immutable.create_projection('later', 'ledger', 'apply(later, immutable.event)'::regprocedure, '{"spy(''key'', stream)"}', mode => 'async'),
	immutable.create_projection('at_once', 'ledger', 'apply(at_once, immutable.event)'::regprocedure, '{"spy(''key'', stream)"}', commutative => true);
SELECT immutable.append('ledger', 's', 't') FROM generate_series(1, 2);
SELECT immutable.create_consumer('of_other', 'ledger', after_position => 0);
CREATE TABLE item (id bigint PRIMARY KEY, w watched, CHECK (spy('constraint', w) >= 0));
CREATE INDEX ON item (spy('index', w));
CREATE TABLE lazy (LIKE item INCLUDING ALL);
INSERT INTO lazy VALUES (1, 1);
SELECT immutable.add_versioning('item'), immutable.add_versioning('lazy', 'lazy');
INSERT INTO item VALUES (1, 1);
UPDATE item SET w = 2;

-- a session that has planned nothing yet
\c -
SET search_path = pg_catalog;
SET client_min_messages = warning;
SELECT target, mode, lag_events FROM immutable.projection_status WHERE log = 'other_owner.ledger'::regclass ORDER BY target::text;
SELECT (SELECT count(*) > 0 FROM immutable.logs) AS logs, (SELECT count(*) > 0 FROM immutable.protected_tables) AS tables, (SELECT count(*) FROM immutable.consumer_status WHERE consumer = 'of_other') AS consumers;
SELECT count(*) > 20 AS ok FROM immutable.guard_report('other_owner.ledger');
SELECT * FROM immutable.check_log('other_owner.ledger');
SELECT last_position, safe_position FROM immutable.horizon('other_owner.ledger');
SELECT immutable.append('other_owner.ledger', 's', 't');
SELECT immutable.refresh('other_owner.later');
CALL immutable.catch_up('other_owner.later');
SELECT immutable.wait_for('other_owner.later', 3, '1s');
SELECT * FROM immutable.verify_projection('other_owner.later');
SELECT * FROM immutable.verify_projection('other_owner.at_once');
CALL immutable.rebuild('other_owner.later');
CALL immutable.rebuild('other_owner.later', swap => true);
CALL immutable.rebuild('other_owner.at_once');
CALL immutable.rebuild('other_owner.at_once', swap => true);
SELECT immutable.set_projection_mode('other_owner.at_once', 'async'), immutable.set_projection_mode('other_owner.at_once', 'inline');
SELECT stream, n, g FROM other_owner.later UNION ALL SELECT stream, n, g FROM other_owner.at_once;
SELECT * FROM immutable.explain_reducer('other_owner.apply(other_owner.later, immutable.event)'::regprocedure);
SELECT version FROM immutable.read_log('other_owner.ledger');
CALL immutable.backfill_versions('other_owner.lazy');
SELECT * FROM immutable.verify_versions('other_owner.item');
SELECT * FROM immutable.verify_versions('other_owner.lazy');
SELECT immutable.row_diff('other_owner.item', '{"id": 1}', 1, 2);
SELECT * FROM other_owner.item__as_of(now());
-- writing to somebody's table is running his code, as ever: so with INSERT and UPDATE
SELECT immutable.revert_row('other_owner.item', '{"id": 1}', 1);
-- and so is reading a log whose owner has added an upcaster
SET ROLE regress_other_owner;
SET search_path = other_owner;
CREATE FUNCTION newer(e immutable.event) RETURNS immutable.event LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN e.schema_version := 1 + spy('upcaster', e.schema_version); RETURN e; END $$;
SELECT immutable.add_upcaster('ledger', 't', 1, 'newer');
RESET ROLE;
SELECT schema_version FROM immutable.read_log('ledger', max_events => 1);
-- but not where a projection reads it
SELECT immutable.append('ledger', 'u', 't');
SELECT immutable.refresh('later');
SELECT * FROM immutable.verify_projection('later');

SELECT immutable.drop_consumer('of_other'), immutable.drop_projection('later'), immutable.drop_projection('at_once'), immutable.drop_log('ledger', force => true),
	immutable.drop_versioning('item'), immutable.drop_versioning('lazy'), immutable.unprotect('item_versions', force => true), immutable.unprotect('lazy_versions', force => true);
DROP SCHEMA other_owner CASCADE;
DROP ROLE regress_other_owner;
