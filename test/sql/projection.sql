-- Inline projections: a read model that is as new as the log, in the same
-- transaction.
CREATE ROLE regress_projection;
CREATE ROLE regress_appender;
CREATE SCHEMA projection AUTHORIZATION regress_projection;
GRANT USAGE ON SCHEMA projection TO regress_appender;
SET search_path = projection;
SET ROLE regress_projection;
SELECT immutable.create_log('ledger');

CREATE TABLE balance (account text PRIMARY KEY, amount bigint NOT NULL DEFAULT 0, entries int NOT NULL DEFAULT 0, last_type text);
CREATE FUNCTION apply(r balance, e immutable.event) RETURNS balance LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE e.type WHEN 'closed' THEN NULL
		ELSE ROW(r.account, r.amount + coalesce((e.data->>'amount')::bigint, 0), r.entries + 1, e.type)::balance END
$$;

-- what the log holds is folded at once
SELECT immutable.append('ledger', 'a', 'deposited', '{"amount": 5}');
SELECT immutable.create_projection('balance', 'ledger', 'apply');
SELECT * FROM balance;
SELECT target, log, reducer, key, types, stream_prefix, mode, commutative, search_path FROM immutable.projections;

-- read your writes; a rollback undoes both
BEGIN;
SELECT immutable.append('ledger', 'a', 'deposited', '{"amount": 7}');
SELECT * FROM balance;
SAVEPOINT s;
SELECT immutable.append('ledger', 'b', 'deposited', '{"amount": 1}');
SELECT immutable.append('ledger', 'a', 'closed');
SELECT * FROM balance;
ROLLBACK TO s;
SELECT * FROM balance;
COMMIT;
SELECT * FROM balance ORDER BY account;

-- a batch is folded in order: gone, and there again from the defaults
SELECT immutable.append_batch('ledger', 'a', ARRAY[('deposited', '{"amount": 1}', NULL, NULL, NULL), ('closed', NULL, NULL, NULL, NULL),
	('deposited', '{"amount": 100}', NULL, NULL, NULL)]::immutable.new_event[]);
SELECT immutable.append_batch('ledger', 'c', ARRAY[('deposited', '{"amount": 1}', NULL, NULL, NULL), ('closed', NULL, NULL, NULL, NULL)]::immutable.new_event[]);
SELECT immutable.append('ledger', 'd', 'closed');
SELECT * FROM balance ORDER BY account;
-- a retry writes nothing, and folds nothing
SELECT immutable.append('ledger', 'e', 'deposited', '{"amount": 1}', id => '00000000-0000-7000-8000-00000000000e');
SELECT immutable.append('ledger', 'e', 'deposited', '{"amount": 1}', id => '00000000-0000-7000-8000-00000000000e');
SELECT * FROM balance WHERE account = 'e';

-- who appends needs no right on the read model, nor on the reducer, and his
-- search_path and temporary objects mean nothing to it
REVOKE EXECUTE ON FUNCTION apply FROM PUBLIC;
GRANT INSERT, SELECT ON ledger TO regress_appender;
RESET ROLE;
SET ROLE regress_appender;
SET search_path = pg_temp;
CREATE DOMAIN pg_temp.balance AS integer CHECK (false);
SELECT immutable.append('projection.ledger', 'f', 'deposited', '{"amount": 3}');
SELECT current_user, current_setting('search_path');
SELECT * FROM projection.balance;
\echo :SQLSTATE
DROP DOMAIN pg_temp.balance;
RESET ROLE;
SET search_path = projection;
SET ROLE regress_projection;
SELECT * FROM balance WHERE account = 'f';

-- a new reducer holds from the next event on
SELECT state FROM immutable.projection_status;
CREATE OR REPLACE FUNCTION apply(r balance, e immutable.event) RETURNS balance LANGUAGE plpgsql STABLE AS $$
BEGIN
	IF e.type = 'closed' THEN RETURN NULL; END IF;
	r.amount := r.amount + 2 * (e.data->>'amount')::bigint;
	r.entries := r.entries + 1;
	RETURN r;
END $$;
SELECT immutable.append('ledger', 'f', 'deposited', '{"amount": 3}'), immutable.append('ledger', 'g', 'deposited', '{"amount": 1}');
SELECT * FROM balance WHERE account IN ('f', 'g') ORDER BY account;
SELECT state FROM immutable.projection_status;

-- names may change, of the log and the read model, of schema and role
ALTER TABLE balance RENAME TO saldo;
ALTER TABLE ledger RENAME TO book;
SELECT immutable.append('book', 'g', 'deposited', '{"amount": 1}');
RESET ROLE;
CREATE SCHEMA regress_elsewhere AUTHORIZATION regress_projection;
ALTER TABLE saldo SET SCHEMA regress_elsewhere;
ALTER ROLE regress_projection RENAME TO regress_renamed;
SELECT immutable.append('book', 'g', 'deposited', '{"amount": 1}');
ALTER SCHEMA regress_elsewhere RENAME TO regress_here;
SELECT immutable.append('book', 'g', 'deposited', '{"amount": 1}');
ALTER TABLE regress_here.saldo SET SCHEMA projection;
DROP SCHEMA regress_here;
ALTER ROLE regress_renamed RENAME TO regress_projection;
-- but not those that the registry knows
ALTER SCHEMA projection RENAME TO elsewhere;
\echo :SQLSTATE
ALTER FUNCTION apply RENAME TO applied;
\echo :SQLSTATE
ALTER FUNCTION apply SET SCHEMA public;
DROP FUNCTION apply;
SELECT immutable.append('book', 'g', 'deposited', '{"amount": 1}');
-- the new owner of the read model runs the projection
CREATE ROLE regress_heir;
ALTER TABLE saldo OWNER TO regress_heir;
SELECT immutable.append('book', 'g', 'deposited', '{"amount": 1}');
\echo :SQLSTATE
GRANT EXECUTE ON FUNCTION apply TO regress_heir;
GRANT USAGE ON SCHEMA projection TO regress_heir;
SELECT immutable.append('book', 'g', 'deposited', '{"amount": 1}');
SET ROLE regress_heir;
SELECT target, mode, state, lag_events FROM immutable.projection_status;
RESET ROLE;
SELECT * FROM saldo WHERE account = 'g';
ALTER TABLE saldo OWNER TO regress_projection;
SET ROLE regress_projection;

-- a second one, beside the first
CREATE TABLE types (type text PRIMARY KEY, n bigint DEFAULT 0);
CREATE FUNCTION count_types(r types, e immutable.event) RETURNS types LANGUAGE sql IMMUTABLE AS 'SELECT r.type, r.n + 1';
SELECT immutable.create_projection('types', 'book', 'count_types', key => '{type}', commutative => true);
SELECT * FROM types ORDER BY type;
-- one that is undone leaves nothing behind
BEGIN;
SELECT immutable.drop_projection('types');
CREATE TABLE undone (type text PRIMARY KEY, n bigint DEFAULT 0);
CREATE FUNCTION count_undone(r undone, e immutable.event) RETURNS undone LANGUAGE sql IMMUTABLE AS 'SELECT r.type, r.n + 1';
SELECT immutable.create_projection('undone', 'book', 'count_undone', key => '{type}', commutative => true);
SELECT immutable.append('book', 'h', 'closed');
SELECT n FROM undone WHERE type = 'closed';
ROLLBACK;
SELECT immutable.append('book', 'h', 'closed');
SELECT * FROM types ORDER BY type;

-- dropped, they are ordinary tables again
SELECT immutable.drop_projection('saldo'), immutable.drop_projection('types');
UPDATE types SET n = 0;
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgname LIKE 'immutable_project' OR tgname LIKE 'immutable_read%';
SELECT count(*) FROM immutable.projections;
SELECT immutable.append('book', 'h', 'opened');
SELECT * FROM types ORDER BY type;

RESET ROLE;
SELECT immutable.drop_log('book', force => true);
SET client_min_messages = warning;
DROP SCHEMA projection CASCADE;
DROP ROLE regress_projection, regress_appender, regress_heir;
