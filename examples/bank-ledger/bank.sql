-- A bank ledger: one stream for each account, its balance as a read model, and
-- statements that a background worker keeps.
--
--   createdb bank && psql -d bank -v ON_ERROR_STOP=1 -f bank.sql
--
-- bank.js is an application that uses it.

CREATE EXTENSION IF NOT EXISTS immutable_events;
SELECT immutable.create_log('ledger');

-- What is known of an account when its events have been folded. The application
-- decides on this.
CREATE TYPE account AS (owner text, balance bigint);

CREATE FUNCTION account_apply(state account, event immutable.event)
RETURNS account LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE event.type
		WHEN 'opened' THEN ROW(event.data->>'owner', 0)::account
		WHEN 'deposited' THEN ROW(state.owner, state.balance + (event.data->>'amount')::bigint)::account
		WHEN 'withdrawn' THEN ROW(state.owner, state.balance - (event.data->>'amount')::bigint)::account
		ELSE state
	END
$$;

-- An account and its version, in one look: what an expected version is for.
CREATE FUNCTION account_now(account_id text, OUT version bigint, OUT owner text, OUT balance bigint)
LANGUAGE sql STABLE AS $$
	SELECT v.version, s.owner, s.balance
	FROM immutable.stream_version('ledger', account_id) AS v(version),
		LATERAL immutable.replay('ledger', account_id, NULL::account, 'account_apply',
			upto_version => v.version) AS s
$$;

-- Balances, current in the transaction that appends: the CHECK is the last line
-- of defence, should an application decide wrongly.
CREATE TABLE balances (
	account text PRIMARY KEY,
	owner text,
	balance bigint NOT NULL DEFAULT 0 CHECK (balance >= 0)
);
CREATE FUNCTION balances_apply(r balances, e immutable.event)
RETURNS balances LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE e.type
		WHEN 'opened' THEN ROW(r.account, e.data->>'owner', r.balance)::balances
		WHEN 'deposited' THEN ROW(r.account, r.owner, r.balance + (e.data->>'amount')::bigint)::balances
		WHEN 'withdrawn' THEN ROW(r.account, r.owner, r.balance - (e.data->>'amount')::bigint)::balances
		ELSE r
	END
$$;
SELECT immutable.create_projection('balances', 'ledger', 'balances_apply');

-- What went in and out of the whole bank, by type of event: every account
-- changes these few rows, so the worker keeps them and no append waits.
CREATE TABLE turnover (type text PRIMARY KEY, entries bigint NOT NULL DEFAULT 0, total bigint NOT NULL DEFAULT 0);
CREATE FUNCTION turnover_apply(r turnover, e immutable.event)
RETURNS turnover LANGUAGE sql IMMUTABLE AS $$
	SELECT r.type, r.entries + 1, r.total + (e.data->>'amount')::bigint
$$;
SELECT immutable.create_projection('turnover', 'ledger', 'turnover_apply',
	key => '{type}', types => '{deposited,withdrawn}', mode => 'async');
SELECT immutable.start_worker() > 0 AS worker_runs;

-- Who has to write letters: begins with the first event.
SELECT immutable.create_consumer('letters', 'ledger', types => '{opened,withdrawn}', after_position => 0);

-- The application's role appends and reads, and can do nothing else.
DO $$ BEGIN CREATE ROLE bank_app; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
GRANT INSERT, SELECT ON ledger TO bank_app;
GRANT SELECT ON balances, turnover TO bank_app;
