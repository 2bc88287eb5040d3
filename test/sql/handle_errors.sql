-- handle_errors: what handle refuses, before it decides and after.
\set SHOW_CONTEXT never
CREATE ROLE regress_handle_errors;
CREATE ROLE regress_handle_errors_other;
CREATE SCHEMA handle_errors AUTHORIZATION regress_handle_errors;
GRANT USAGE ON SCHEMA handle_errors TO regress_handle_errors_other;
SET search_path = handle_errors;
SET ROLE regress_handle_errors;
SELECT immutable.create_log('ledger'), immutable.create_log('wide', 2);
CREATE TABLE bare (n integer);
CREATE FUNCTION evolve(n bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN n + 1;
CREATE FUNCTION decide(n bigint, command jsonb) RETURNS immutable.new_event[] LANGUAGE sql IMMUTABLE
RETURN ARRAY[ROW('t', command, NULL, NULL, NULL)::immutable.new_event];
CREATE FUNCTION fails(n bigint, command jsonb) RETURNS immutable.new_event[] LANGUAGE plpgsql AS $$ BEGIN RAISE 'it was called'; END $$;

-- arguments
SELECT immutable.handle(NULL, 's', '{}', 0::bigint, 'fails', 'evolve');
\echo :SQLSTATE
SELECT immutable.handle('ledger', NULL, '{}', 0::bigint, 'fails', 'evolve');
SELECT immutable.handle('ledger', 's', NULL, 0::bigint, 'fails', 'evolve');
SELECT immutable.handle('ledger', 's', '{}', 0::bigint, NULL, 'evolve');
SELECT immutable.handle('ledger', 's', '{}', 0::bigint, 'fails', NULL);
\echo :SQLSTATE
SELECT immutable.handle('ledger', '', '{}', 0::bigint, 'fails', 'evolve');
\echo :SQLSTATE
SELECT immutable.handle('ledger', repeat('x', 1025), '{}', 0::bigint, 'fails', 'evolve');
\echo :SQLSTATE
SELECT immutable.handle('ledger', 's', '[]', 0::bigint, 'fails', 'evolve');
\echo :SQLSTATE
SELECT immutable.handle('ledger', 's', '"ShipOrder"', 0::bigint, 'fails', 'evolve');
SELECT immutable.handle('ledger', 's', 'null', 0::bigint, 'fails', 'evolve');
SELECT immutable.handle('bare', 's', '{}', 0::bigint, 'fails', 'evolve');
\echo :SQLSTATE
SELECT immutable.handle('wide_p0', 's', '{}', 0::bigint, 'fails', 'evolve');
\echo :SQLSTATE
SELECT immutable.handle('ledger', 's', '{}', NULL, 'fails', 'evolve');
\echo :SQLSTATE
BEGIN READ ONLY;
SELECT immutable.handle('ledger', 's', '{}', 0::bigint, 'fails', 'evolve');
\echo :SQLSTATE
ROLLBACK;

-- functions that are no deciders, here or anywhere
SELECT immutable.handle('ledger', 's', '{}', 0::bigint, 'nowhere', 'evolve');
\echo :SQLSTATE
SELECT immutable.handle('ledger', 's', '{}', 0::bigint, 0, 'evolve');
\echo :SQLSTATE
CREATE PROCEDURE proc(n bigint, command jsonb) LANGUAGE sql AS 'SELECT 1';
SELECT immutable.handle('ledger', 's', '{}', 0::bigint, 'proc', 'evolve');
\echo :SQLSTATE
CREATE FUNCTION many(n bigint, command jsonb) RETURNS SETOF immutable.new_event[] LANGUAGE sql AS 'SELECT NULL::immutable.new_event[]';
SELECT immutable.handle('ledger', 's', '{}', 0::bigint, 'many', 'evolve');
\echo :SQLSTATE
SELECT immutable.handle('ledger', 's', '{}', 0::bigint, 'array_agg(anynonarray)'::regprocedure, 'evolve');
\echo :SQLSTATE
CREATE FUNCTION one(n bigint, command jsonb) RETURNS immutable.new_event LANGUAGE sql AS 'SELECT NULL::immutable.new_event';
SELECT immutable.handle('ledger', 's', '{}', 0::bigint, 'one', 'evolve');
\echo :SQLSTATE
CREATE FUNCTION wrong(n bigint, command text) RETURNS immutable.new_event[] LANGUAGE sql AS 'SELECT NULL::immutable.new_event[]';
SELECT immutable.handle('ledger', 's', '{}', 0::bigint, 'wrong', 'evolve');
\echo :SQLSTATE
CREATE FUNCTION lonely(n bigint) RETURNS immutable.new_event[] LANGUAGE sql AS 'SELECT NULL::immutable.new_event[]';
SELECT immutable.handle('ledger', 's', '{}', 0::bigint, 'lonely', 'evolve');
\echo :SQLSTATE
CREATE FUNCTION three(n bigint, command jsonb, more text) RETURNS immutable.new_event[] LANGUAGE sql AS 'SELECT NULL::immutable.new_event[]';
SELECT immutable.handle('ledger', 's', '{}', 0::bigint, 'three', 'evolve');
CREATE FUNCTION variadic_(n bigint, VARIADIC command jsonb[]) RETURNS immutable.new_event[] LANGUAGE sql AS 'SELECT NULL::immutable.new_event[]';
SELECT immutable.handle('ledger', 's', '{}', 0::bigint, 'variadic_', 'evolve');
\echo :SQLSTATE
CREATE FUNCTION echo(state anyelement, e immutable.event) RETURNS anyelement LANGUAGE sql IMMUTABLE AS 'SELECT state';
SELECT immutable.handle('ledger', 's', '{}', 'x'::text, 'decide', 'echo');
\echo :SQLSTATE
SELECT immutable.handle('ledger', 's', '{}', 0::bigint, 'evolve', 'evolve');
\echo :SQLSTATE
-- nor reducers
SELECT immutable.handle('ledger', 's', '{}', 0::bigint, 'decide', 'decide');
\echo :SQLSTATE
SELECT immutable.handle('ledger', 's', '{}', '0'::text, 'decide', 'evolve');
\echo :SQLSTATE
ALTER FUNCTION evolve VOLATILE;
SELECT immutable.handle('ledger', 's', '{}', 0::bigint, 'decide', 'evolve');
\echo :SQLSTATE
ALTER FUNCTION evolve IMMUTABLE;

-- a strict decider does not let a command pass unseen
CREATE FUNCTION strict_decide(n bigint, command jsonb) RETURNS immutable.new_event[] LANGUAGE sql STRICT
RETURN ARRAY[ROW('t', command, NULL, NULL, NULL)::immutable.new_event];
SELECT immutable.handle('ledger', 's', '{}', NULL::bigint, 'strict_decide', 'evolve');
\echo :SQLSTATE
SELECT immutable.handle('ledger', 's', '{}', 0::bigint, 'strict_decide', 'evolve');

-- errors of the functions themselves are the caller's
SELECT immutable.handle('ledger', 's', '{}', 0::bigint, 'fails', 'evolve');
\echo :SQLSTATE
CREATE FUNCTION divide(n bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN 1 / n;
SELECT immutable.handle('ledger', 's', '{}', 0::bigint, 'decide', 'divide');
\echo :SQLSTATE

-- a decider that appends to the very stream, itself or by way of others
CREATE FUNCTION meddles(n bigint, command jsonb) RETURNS immutable.new_event[] LANGUAGE plpgsql AS $$
BEGIN
	IF command ? 'deep' THEN
		PERFORM immutable.handle('ledger', 's', '{}', 0::bigint, 'decide', 'evolve');
	ELSE
		PERFORM immutable.append('ledger', 's', 't');
	END IF;
	RETURN CASE WHEN command ? 'more' THEN ARRAY[ROW('t', command, NULL, NULL, NULL)::immutable.new_event] END;
END $$;
SELECT immutable.handle('ledger', 's', '{}', 0::bigint, 'meddles', 'evolve');
\echo :SQLSTATE
SELECT immutable.handle('ledger', 's', '{"more": 1}', 0::bigint, 'meddles', 'evolve');
SELECT immutable.handle('ledger', 's', '{"deep": 1}', 0::bigint, 'meddles', 'evolve');
-- what it takes back itself does not count
CREATE FUNCTION undoes(n bigint, command jsonb) RETURNS immutable.new_event[] LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		PERFORM immutable.handle('ledger', 's', '{}', 0::bigint, 'decide', 'evolve');
		RAISE EXCEPTION 'undo';
	EXCEPTION WHEN raise_exception THEN
		RETURN handle_errors.decide(n, '{"undone": true}');
	END;
END $$;
SELECT immutable.handle('ledger', 's', '{}', 0::bigint, 'undoes', 'evolve');
-- deciders that handle commands of other streams, one within the other
CREATE FUNCTION recurses(n bigint, command jsonb) RETURNS immutable.new_event[] LANGUAGE plpgsql AS $$
DECLARE
	done immutable.appended;
BEGIN
	IF (command->>'depth')::integer < 5 THEN
		done := immutable.handle('ledger', 'deep-' || (command->>'depth'), jsonb_build_object('depth', (command->>'depth')::integer + 1), 0::bigint, 'recurses', 'evolve');
	END IF;
	RETURN handle_errors.decide(n, command);
END $$;
SELECT immutable.handle('ledger', 'deep', '{"depth": 1}', 0::bigint, 'recurses', 'evolve');
SELECT position, version, stream, data FROM ledger ORDER BY position;

-- privileges: INSERT and SELECT on the log, EXECUTE on both functions
RESET ROLE;
SET ROLE regress_handle_errors_other;
SELECT immutable.handle('ledger', 's', '{}', 0::bigint, 'decide', 'evolve');
\echo :SQLSTATE
RESET ROLE;
GRANT INSERT ON ledger TO regress_handle_errors_other;
SET ROLE regress_handle_errors_other;
SELECT immutable.handle('ledger', 's', '{}', 0::bigint, 'decide', 'evolve');
\echo :SQLSTATE
RESET ROLE;
GRANT SELECT ON ledger TO regress_handle_errors_other;
SET ROLE regress_handle_errors_other;
SELECT version FROM immutable.handle('ledger', 's', '{}', 0::bigint, 'decide', 'evolve');
RESET ROLE;
REVOKE EXECUTE ON FUNCTION decide FROM PUBLIC;
SET ROLE regress_handle_errors_other;
SELECT immutable.handle('ledger', 's', '{}', 0::bigint, 'decide', 'evolve');
\echo :SQLSTATE
RESET ROLE;
GRANT EXECUTE ON FUNCTION decide TO PUBLIC;
REVOKE EXECUTE ON FUNCTION evolve FROM PUBLIC;
SET ROLE regress_handle_errors_other;
SELECT immutable.handle('ledger', 's', '{}', 0::bigint, 'decide', 'evolve');
\echo :SQLSTATE
RESET ROLE;
REVOKE SELECT ON ledger FROM regress_handle_errors_other;
GRANT EXECUTE ON FUNCTION evolve TO PUBLIC;

-- policies: decide sees the events that they show, and events must pass them
GRANT SELECT, INSERT ON ledger TO regress_handle_errors_other;
ALTER TABLE ledger ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON ledger TO regress_handle_errors_other USING (data ? 'mine') WITH CHECK (data ? 'mine');
CREATE FUNCTION tells(n bigint, command jsonb) RETURNS immutable.new_event[] LANGUAGE sql STABLE
RETURN ARRAY[ROW('t', command || jsonb_build_object('seen', n), NULL, NULL, NULL)::immutable.new_event];
SET ROLE regress_handle_errors_other;
SELECT version FROM immutable.handle('ledger', 'secured', '{"mine": 1}', 0::bigint, 'tells', 'evolve');
SELECT immutable.handle('ledger', 'secured', '{}', 0::bigint, 'tells', 'evolve');
\echo :SQLSTATE
RESET ROLE;
SET ROLE regress_handle_errors;
SELECT version FROM immutable.handle('ledger', 'secured', '{}', 0::bigint, 'tells', 'evolve');
RESET ROLE;
SET ROLE regress_handle_errors_other;
SELECT version FROM immutable.handle('ledger', 'secured', '{"mine": 1}', 0::bigint, 'tells', 'evolve');
RESET ROLE;
SELECT version, data FROM ledger WHERE stream = 'secured' ORDER BY version;
ALTER TABLE ledger DISABLE ROW LEVEL SECURITY;

-- triggers: one that rejects, one that drops the event; a log without its guards
CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF new.data ? 'reject' THEN
		RAISE EXCEPTION 'rejected by a trigger' USING ERRCODE = 'TR001';
	ELSIF new.data ? 'drop' THEN
		RETURN NULL;
	END IF;
	RETURN new;
END $$;
CREATE TRIGGER act BEFORE INSERT ON ledger FOR EACH ROW EXECUTE FUNCTION act();
SELECT immutable.handle('ledger', 's', '{"reject": 1}', 0::bigint, 'decide', 'evolve');
\echo :SQLSTATE
SELECT immutable.handle('ledger', 's', '{"drop": 1}', 0::bigint, 'decide', 'evolve');
\echo :SQLSTATE
DROP TRIGGER act ON ledger;
SELECT immutable.unprotect('wide');
SELECT immutable.handle('wide', 's', '{}', 0::bigint, 'fails', 'evolve');
\echo :SQLSTATE
SELECT count(*) AS locks FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();

SELECT immutable.drop_log(l, force => true) FROM unnest('{ledger,wide}'::regclass[]) l;
SET client_min_messages = warning;
DROP SCHEMA handle_errors CASCADE;
DROP ROLE regress_handle_errors, regress_handle_errors_other;
