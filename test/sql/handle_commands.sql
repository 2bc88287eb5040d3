-- handle_commands: commands with an id are handled once, and recorded.
\set SHOW_CONTEXT never
CREATE ROLE regress_commands;
CREATE ROLE regress_commands_other;
CREATE SCHEMA commands AUTHORIZATION regress_commands;
GRANT USAGE ON SCHEMA commands TO regress_commands_other;
SET search_path = commands;
SET ROLE regress_commands;
SELECT immutable.create_log('ledger'), immutable.create_log('wide', 2);
CREATE FUNCTION evolve(n bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN n + (e.data->>'n')::bigint;
CREATE FUNCTION decide(n bigint, command jsonb) RETURNS immutable.new_event[] LANGUAGE plpgsql AS $$
BEGIN
	IF n + (command->>'n')::bigint < 0 THEN
		RAISE EXCEPTION 'only % left', n USING ERRCODE = 'CO001';
	END IF;
	RETURN CASE WHEN command->>'n' <> '0' THEN ARRAY[ROW('moved', command, NULL, NULL, NULL)]::immutable.new_event[] END;
END $$;
-- ids are numbers here
CREATE FUNCTION do_(stream text, n integer, id integer DEFAULT NULL, log text DEFAULT 'ledger') RETURNS immutable.appended LANGUAGE sql
RETURN immutable.handle(log::regclass, stream, jsonb_build_object('n', n), 0::bigint, 'decide', 'evolve', lpad(id::text, 32, '0')::uuid);

-- without a table for them there are no ids
SELECT version FROM do_('s', 5);
SELECT do_('s', 5, 1);
\echo :SQLSTATE
SELECT immutable.enable_commands('ledger');
SELECT immutable.enable_commands('wide');
SELECT immutable.enable_commands('ledger');
\d ledger_commands
SELECT * FROM immutable.command_tables ORDER BY relation::text;
SELECT relation, armed FROM immutable.protected_tables WHERE relation::text LIKE '%_commands' ORDER BY relation::text;

-- a repeated id answers as the first time, whatever has happened since
SELECT * FROM do_('s', 5, 1);
SELECT * FROM do_('s', -10, 2);
SELECT * FROM do_('s', 5, 1);
SELECT * FROM do_('s', -10, 2);
SELECT * FROM do_('s', -10, 3);
\echo :SQLSTATE
SELECT * FROM do_('s', 30);
-- a rejected command was not recorded: its id is free, for another command too
SELECT * FROM do_('s', -11, 3);
-- nothing to record is an outcome, too
SELECT * FROM do_('s', 0, 4);
SELECT * FROM do_('s', 0, 4);
SELECT * FROM do_('nobody', 0, 5);
SELECT * FROM do_('nobody', 0, 5);
-- equal as jsonb is the same command
SELECT * FROM immutable.handle('ledger', 's', '{"x": [1, 2.50], "n": 1}', 0::bigint, 'decide', 'evolve', '00000000-0000-0000-0000-000000000006');
SELECT * FROM immutable.handle('ledger', 's', ' {"n":1.0,"x":[1.00,2.5]}', 0::bigint, 'decide', 'evolve', '00000000-0000-0000-0000-000000000006');
-- what is not the same command is refused
SELECT do_('s', 6, 1);
\echo :SQLSTATE
SELECT do_('t', 5, 1);
\echo :SQLSTATE
-- each log has its own
SELECT * FROM do_('s', 6, 1, 'wide');
SELECT * FROM do_('s', 6, 1, 'wide');
-- the arguments must be good all the same
SELECT immutable.handle('ledger', 's', '{"n": 5}', 0::bigint, 'nowhere', 'evolve', '00000000-0000-0000-0000-000000000001');
\echo :SQLSTATE
SELECT command_id, recorded_at <= clock_timestamp() AS timed, version, position, written, stream, command FROM ledger_commands ORDER BY command_id;
SELECT l.position FROM ledger l JOIN ledger_commands c USING (position) WHERE l.stream <> c.stream OR l.version <> c.version;

-- within one transaction and one statement; what a savepoint takes back is free again
BEGIN;
SELECT version, written FROM do_('tx', 1, 11);
SELECT version, written FROM do_('tx', 1, 11);
SAVEPOINT a;
SELECT version, written FROM do_('tx', 2, 12);
ROLLBACK TO a;
SELECT version, written FROM do_('tx', 3, 12);
COMMIT;
SELECT i, do_('tx', 4, 20 + i % 2) FROM generate_series(1, 4) i;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT version, written FROM do_('tx', 5, 13);
SELECT version, written FROM do_('tx', 5, 13);
SELECT version, written FROM do_('tx', 1, 11);
COMMIT;

-- the table is the owner's, and immutable; whom he lets may use it
UPDATE ledger_commands SET written = 0;
\echo :SQLSTATE
DELETE FROM ledger_commands;
\echo :SQLSTATE
GRANT INSERT, SELECT ON ledger TO regress_commands_other;
RESET ROLE;
SET ROLE regress_commands_other;
SELECT version FROM do_('other', 1);
SELECT do_('other', 1, 31);
\echo :SQLSTATE
RESET ROLE;
SET ROLE regress_commands;
GRANT SELECT ON ledger_commands TO regress_commands_other;
RESET ROLE;
SET ROLE regress_commands_other;
SELECT do_('other', 1, 31);
\echo :SQLSTATE
RESET ROLE;
SET ROLE regress_commands;
GRANT INSERT ON ledger_commands TO regress_commands_other;
RESET ROLE;
SET ROLE regress_commands_other;
SELECT version FROM do_('other', 1, 31);
SELECT immutable.enable_commands('ledger');
\echo :SQLSTATE
RESET ROLE;
SET ROLE regress_commands;

-- it may be renamed, moved, and given columns and triggers
ALTER TABLE ledger_commands RENAME TO handled;
ALTER TABLE handled ADD COLUMN note text;
SELECT version FROM do_('s', 1, 41);
SELECT version FROM do_('s', 1, 41);
SELECT relation FROM immutable.command_tables WHERE log = 'ledger'::regclass;
CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF new.stream = 'dropped' THEN
		RETURN NULL;
	END IF;
	new.note := 'seen';
	RETURN new;
END $$;
CREATE TRIGGER act BEFORE INSERT ON handled FOR EACH ROW EXECUTE FUNCTION act();
SELECT version FROM do_('s', 1, 42);
SELECT do_('dropped', 1, 43);
\echo :SQLSTATE
SELECT note, count(*) FROM handled WHERE stream = 's' GROUP BY note ORDER BY note;
SELECT count(*) FROM ledger WHERE stream = 'dropped';

-- when it is unfit, or gone, nothing is handled under an id
RESET ROLE;
SELECT immutable.unprotect('handled');
SET ROLE regress_commands;
SELECT do_('s', 1, 44);
\echo :SQLSTATE
ALTER TABLE handled RENAME COLUMN written TO rows;
SELECT do_('s', 1, 44);
\echo :SQLSTATE
ALTER TABLE handled RENAME COLUMN rows TO written;
ALTER TABLE handled DROP CONSTRAINT ledger_commands_pkey;
SELECT do_('s', 1, 44);
ALTER TABLE handled ADD PRIMARY KEY (command_id);
SELECT immutable.protect('handled');
SELECT version, written FROM do_('s', 1, 44);
SELECT version, written FROM do_('s', 5, 1);
RESET ROLE;
SELECT immutable.unprotect('handled');
SET ROLE regress_commands;
DROP TABLE handled;
SELECT do_('s', 1, 45);
\echo :SQLSTATE
SELECT immutable.enable_commands('ledger');
SELECT version FROM do_('s', 1, 45);

-- the table of a dump without data is not in the registry, and is taken as it is
RESET ROLE;
DELETE FROM immutable.command_tables WHERE log = 'ledger'::regclass;
SET ROLE regress_commands;
SELECT do_('s', 1, 45);
SELECT immutable.enable_commands('ledger');
SELECT version FROM do_('s', 1, 45);

-- a backend that remembers is told of changes, also of those that are taken back
SELECT immutable.create_log('fresh');
SELECT do_('s', 1, 1, 'fresh');
BEGIN;
SELECT immutable.enable_commands('fresh');
SELECT do_('s', 1, 1, 'fresh');
ROLLBACK;
SELECT do_('s', 1, 1, 'fresh');
BEGIN;
SAVEPOINT a;
SELECT immutable.enable_commands('fresh');
SELECT do_('s', 1, 1, 'fresh');
ROLLBACK TO a;
SELECT do_('s', 1, 1, 'fresh');
ROLLBACK;

-- enable_commands: arguments, and names that are taken or too long
SELECT immutable.enable_commands(NULL);
\echo :SQLSTATE
SELECT immutable.enable_commands('ledger_commands');
\echo :SQLSTATE
SELECT immutable.enable_commands('wide_p0');
\echo :SQLSTATE
CREATE TABLE fresh_commands (n integer);
SELECT immutable.enable_commands('fresh');
\echo :SQLSTATE
DROP TABLE fresh_commands;
SELECT immutable.create_log(repeat('l', 55));
SELECT immutable.enable_commands(repeat('l', 55)::regclass);
\echo :SQLSTATE
BEGIN READ ONLY;
SELECT immutable.enable_commands('fresh');
\echo :SQLSTATE
ROLLBACK;
-- a member of the owner makes it for the owner, and somebody's search_path does not matter
RESET ROLE;
GRANT regress_commands TO regress_commands_other;
SET ROLE regress_commands_other;
CREATE TEMP TABLE wide_commands (n integer);
SET search_path = pg_temp, commands;
SELECT immutable.enable_commands('commands.fresh');
RESET search_path;
SELECT relname, relnamespace::regnamespace, relowner::regrole FROM pg_class WHERE relname = 'fresh_commands';
SELECT relation::text FROM immutable.command_tables WHERE log = 'commands.fresh'::regclass;
DROP TABLE wide_commands;
RESET ROLE;
SET search_path = commands;

-- with the log goes its table, and what is registered of it
DROP FUNCTION do_;
SELECT immutable.drop_log('ledger');
\echo :SQLSTATE
SELECT immutable.drop_log(l, force => true) FROM unnest(ARRAY['ledger', 'wide', 'fresh', repeat('l', 55)]::regclass[]) l;
SELECT to_regclass('ledger_commands'), to_regclass('fresh_commands'), count(*) FROM immutable.command_tables;
SET client_min_messages = warning;
DROP SCHEMA commands CASCADE;
DROP ROLE regress_commands, regress_commands_other;
