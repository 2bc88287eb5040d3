-- Asynchronous projections: batches, an event that fails, catching up.
CREATE ROLE regress_async;
CREATE ROLE regress_async_reader;
CREATE SCHEMA projection_async AUTHORIZATION regress_async;
GRANT USAGE ON SCHEMA projection_async TO regress_async_reader;
SET search_path = projection_async;
SET ROLE regress_async;
SELECT immutable.create_log('ledger');
CREATE TABLE total (type text PRIMARY KEY, amount bigint NOT NULL DEFAULT 0);
CREATE FUNCTION add_up(r total, e immutable.event) RETURNS total LANGUAGE sql IMMUTABLE AS
$$ SELECT r.type, r.amount + (e.data->>'amount')::bigint $$;
SELECT immutable.append('ledger', 's' || n % 3, 'deposited', jsonb_build_object('amount', n)) FROM generate_series(1, 10) n;
SELECT immutable.create_projection('total', 'ledger', 'add_up', key => '{type}', mode => 'async');
CREATE VIEW standing AS SELECT target, mode, state, position, safe_position, lag_events, lag_seconds >= 0 AS lag_seconds, refreshed_at IS NOT NULL AS refreshed,
	error, error_sqlstate, error_position, error_event IS NOT NULL AS error_event, worker FROM immutable.projection_status;
SELECT * FROM standing;

-- batches, each in its transaction
SELECT immutable.refresh('total', 4);
SELECT * FROM total;
BEGIN;
SELECT immutable.refresh('total', 4);
SELECT * FROM total;
ROLLBACK;
SELECT * FROM total;
SET immutable.batch_size = 5;
SELECT immutable.refresh('total'), immutable.refresh('total'), immutable.refresh('total');
RESET immutable.batch_size;
SELECT * FROM total;
SELECT * FROM standing;

-- an event that fails halts before it, and those before it are done
SELECT immutable.append('ledger', 's', 'deposited', '{"amount": 1}');
SELECT immutable.append('ledger', 's', 'deposited', '{"amount": "much"}');
SELECT immutable.append('ledger', 's', 'deposited', '{"amount": 2}');
SELECT immutable.refresh('total');
SELECT * FROM total;
SELECT * FROM standing;
-- asked again, it is tried again; appends go on
SELECT immutable.append('ledger', 's', 'deposited', '{"amount": "more"}');
SELECT immutable.refresh('total');
SELECT state, position, lag_events, error_position FROM standing;
CALL immutable.catch_up('total');
\echo :SQLSTATE
SELECT state, position, error_position FROM standing;

-- passed over on purpose, and that is kept
SELECT immutable.skip_event('total', 11, 'no');
\echo :SQLSTATE
SELECT immutable.skip_event('total', 99, 'no');
\echo :SQLSTATE
SELECT immutable.skip_event('total', 12, '');
\echo :SQLSTATE
SELECT immutable.skip_event('total', 12, NULL);
\echo :SQLSTATE
SELECT immutable.skip_event('total', 12, 'typed by hand');
CALL immutable.catch_up('total');
SELECT * FROM total;
SELECT state, position, error_position FROM standing;
SELECT target, position, reason, role, session_role = session_user FROM immutable.skipped_events WHERE target = 'total'::regclass;
CALL immutable.rebuild('total');
SELECT * FROM immutable.verify_projection('total');
RESET ROLE;
DELETE FROM immutable.skipped_events;
\echo :SQLSTATE
SET ROLE regress_async;
-- or folded, by a reducer that can
CREATE OR REPLACE FUNCTION add_up(r total, e immutable.event) RETURNS total LANGUAGE sql IMMUTABLE AS
$$ SELECT r.type, r.amount + CASE jsonb_typeof(e.data->'amount') WHEN 'number' THEN (e.data->>'amount')::bigint ELSE 1000 END $$;
SELECT state FROM standing;
SELECT immutable.refresh('total');
SELECT * FROM total;
SELECT state, position, lag_events, error FROM standing;

-- waiting
SELECT immutable.wait_for('total', 14), immutable.wait_for('total', 0, '0'), immutable.wait_for('total', 15, '20ms');
SELECT immutable.append('ledger', 's', 'deposited', '{"amount": 1}');
SELECT immutable.wait_for('total', 15, '0');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT immutable.wait_for('total', 15, '1 hour'), immutable.wait_for('total', 14, '1 hour');
COMMIT;
SELECT immutable.wait_for('total', 1, '-1s');
\echo :SQLSTATE
SELECT immutable.wait_for('total', NULL);
\echo :SQLSTATE
SELECT immutable.wait_for('ledger', 1);
\echo :SQLSTATE
SET ROLE regress_async_reader;
SELECT immutable.wait_for('total', 1);
\echo :SQLSTATE
SET ROLE regress_async;
GRANT SELECT (amount) ON total TO regress_async_reader;
SET ROLE regress_async_reader;
SELECT immutable.wait_for('total', 1);
SELECT immutable.refresh('total');
\echo :SQLSTATE
SELECT immutable.skip_event('total', 15, 'reason');
\echo :SQLSTATE
CALL immutable.catch_up('total');
\echo :SQLSTATE
SELECT count(*) FROM immutable.projection_status;
SET ROLE regress_async;

-- to inline, and back, without losing an event
SELECT immutable.set_projection_mode('total', 'inline');
\echo :SQLSTATE
CREATE TABLE accounts (stream text PRIMARY KEY, amount bigint NOT NULL DEFAULT 0, versions bigint[] NOT NULL DEFAULT '{}');
CREATE FUNCTION add_account(r accounts, e immutable.event) RETURNS accounts LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	r.amount := r.amount + (e.data->>'amount')::bigint;
	r.versions := r.versions || e.version;
	RETURN r;
END $$;
SELECT immutable.create_projection('accounts', 'ledger', 'add_account', mode => 'async', stream_prefix => 's1');
SELECT immutable.refresh('accounts', 2);
SELECT immutable.set_projection_mode('accounts', 'inline');
SELECT immutable.append('ledger', 's1', 'deposited', '{"amount": 1}');
SELECT * FROM accounts;
SELECT target, mode, state, lag_events FROM standing ORDER BY target::text;
SELECT immutable.wait_for('accounts', 1000000);
SELECT immutable.refresh('accounts');
SELECT immutable.skip_event('accounts', 99, 'no');
\echo :SQLSTATE
CALL immutable.catch_up('accounts');
SELECT immutable.set_projection_mode('accounts', 'async');
SELECT immutable.append('ledger', 's1', 'deposited', '{"amount": 1}');
SELECT * FROM accounts;
CALL immutable.catch_up('accounts');
SELECT * FROM accounts;
-- what it cannot fold keeps it asynchronous
SELECT immutable.append('ledger', 's1', 'deposited', '{"amount": "x"}');
SELECT immutable.set_projection_mode('accounts', 'inline');
\echo :SQLSTATE
SELECT mode, state, lag_events FROM standing WHERE target = 'accounts'::regclass;

-- a transaction block is not for catch_up
BEGIN;
CALL immutable.catch_up('total');
\echo :SQLSTATE
ROLLBACK;

-- a reducer keeps its name, but may become unfit
DROP FUNCTION add_account;
\echo :SQLSTATE
ALTER FUNCTION add_account VOLATILE;
SELECT immutable.refresh('accounts');
\echo :SQLSTATE
SELECT state FROM standing WHERE target = 'accounts'::regclass;

SELECT immutable.drop_projection('accounts'), immutable.drop_projection('total');
-- a new projection into the same table begins anew, and passes over nothing
TRUNCATE total;
SELECT immutable.create_projection('total', 'ledger', 'add_up', key => '{type}', mode => 'async');
CALL immutable.catch_up('total');
SELECT * FROM total;
SELECT immutable.drop_projection('total');

RESET ROLE;
SELECT immutable.drop_log('ledger', force => true);
SET client_min_messages = warning;
DROP SCHEMA projection_async CASCADE;
DROP ROLE regress_async, regress_async_reader;
