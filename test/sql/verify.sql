-- verify: a read model compared with its events.
\set SHOW_CONTEXT never
CREATE ROLE regress_verify;
CREATE ROLE regress_verify_member IN ROLE regress_verify;
CREATE ROLE regress_verify_other;
CREATE SCHEMA verify AUTHORIZATION regress_verify;
GRANT USAGE ON SCHEMA verify TO regress_verify_other;
SET search_path = verify;
SET ROLE regress_verify;
SELECT immutable.create_log('ledger');
CREATE TABLE balance (
	account text PRIMARY KEY, dropped int, "Amount" bigint NOT NULL DEFAULT 0,
	twice bigint GENERATED ALWAYS AS ("Amount" * 2) STORED,
	entries int DEFAULT 0, made timestamptz DEFAULT clock_timestamp(), seen timestamptz DEFAULT clock_timestamp());
ALTER TABLE balance DROP COLUMN dropped;
-- the reducer sets seen, and leaves made as the row began
CREATE FUNCTION apply(r balance, e immutable.event) RETURNS balance LANGUAGE sql STABLE AS $$
	SELECT CASE e.type WHEN 'closed' THEN NULL
		ELSE ROW(r.account, r."Amount" + (e.data->>'amount')::bigint, NULL, r.entries + 1, r.made, e.recorded_at)::balance END $$;
SELECT immutable.create_projection('balance', 'ledger', 'apply', types => '{paid,closed}');
DO $$ BEGIN
	FOR i IN 1 .. 300 LOOP
		PERFORM immutable.append('ledger', 'a' || i % 20,
			CASE WHEN i % 71 = 0 THEN 'closed' WHEN i % 3 = 0 THEN 'noticed' ELSE 'paid' END,
			jsonb_build_object('amount', i));
	END LOOP;
END $$;
SELECT count(*), sum("Amount"), sum(twice), sum(entries) FROM balance;
SELECT * FROM immutable.verify_projection('balance');

-- what another reducer would have made of the events
CREATE OR REPLACE FUNCTION apply(r balance, e immutable.event) RETURNS balance LANGUAGE sql STABLE AS $$
	SELECT CASE WHEN r.account = 'a3' THEN NULL
		WHEN r.account = 'a4' THEN ROW(r.account, 0, NULL, r.entries + 1, r.made, e.recorded_at)::balance
		WHEN r.account = 'a5' THEN ROW(r.account, 7, NULL, 7, r.made, '2000-01-01')::balance
		WHEN r.account = 'a6' THEN ROW(r.account, r."Amount" + (e.data->>'amount')::bigint, NULL, r.entries + 1, NULL, e.recorded_at)::balance
		WHEN e.type = 'closed' THEN ROW(r.account, 0, NULL, 0, r.made, e.recorded_at)::balance
		ELSE ROW(r.account, r."Amount" + (e.data->>'amount')::bigint, NULL, r.entries + 1, r.made, e.recorded_at)::balance END $$;
SELECT key, problem FROM immutable.verify_projection('balance') ORDER BY key->>'account';

-- in memory that does not hold all keys, the same
SET work_mem = '64kB';
SET maintenance_work_mem = '1MB';
SET hash_mem_multiplier = 1;
SELECT count(*), md5(string_agg(key::text || problem, ',' ORDER BY key->>'account')) =
	(SELECT md5(string_agg(key::text || problem, ',' ORDER BY key->>'account')) FROM immutable.verify_projection('balance')) AS same
FROM immutable.verify_projection('balance');
CREATE TABLE many (stream text, n bigint, note text, PRIMARY KEY (n, stream));
CREATE FUNCTION apply_many(r many, e immutable.event) RETURNS many LANGUAGE sql IMMUTABLE RETURN ROW(r.stream, r.n, repeat('x', 2000) || e.type)::many;
SELECT immutable.create_projection('many', 'ledger', 'apply_many', key => ARRAY['array[position, position, 1000 * position]', 'stream'], mode => 'async');
SELECT * FROM immutable.verify_projection('many');
SELECT immutable.refresh('many', 100);
SELECT * FROM immutable.verify_projection('many');
SELECT immutable.refresh('many');
SELECT count(*) FROM many;
SELECT * FROM immutable.verify_projection('many');
CREATE OR REPLACE FUNCTION apply_many(r many, e immutable.event) RETURNS many LANGUAGE sql IMMUTABLE RETURN ROW(r.stream, r.n, 'y')::many;
SELECT problem, count(*), sum((key->>'n')::bigint) FROM immutable.verify_projection('many') GROUP BY problem;
RESET work_mem;
RESET maintenance_work_mem;
RESET hash_mem_multiplier;
SELECT problem, count(*), sum((key->>'n')::bigint) FROM immutable.verify_projection('many') GROUP BY problem;

-- under one snapshot, with what this transaction has appended itself
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM immutable.verify_projection('balance');
SELECT immutable.append('ledger', 'new', 'paid', '{"amount": 1}') IS NOT NULL AS appended;
SELECT count(*) FROM immutable.verify_projection('balance');
ROLLBACK;
BEGIN READ ONLY;
SELECT count(*) FROM immutable.verify_projection('balance');
COMMIT;

-- who may, and of what
SET ROLE regress_verify_other;
SELECT * FROM immutable.verify_projection('balance');
\echo :SQLSTATE
SET ROLE regress_verify_member;
SELECT count(*) FROM immutable.verify_projection('many');
SET ROLE regress_verify;
SELECT * FROM immutable.verify_projection(NULL);
\echo :SQLSTATE
SELECT * FROM immutable.verify_projection('ledger');
\echo :SQLSTATE
SELECT * FROM immutable.verify_projection(0);
\echo :SQLSTATE
CREATE OR REPLACE FUNCTION apply(r balance, e immutable.event) RETURNS balance LANGUAGE sql STABLE AS $$
	SELECT ROW(r.account, 1 / (r.entries - 1), NULL, r.entries + 1, r.made, e.recorded_at)::balance $$;
\set SHOW_CONTEXT errors
SELECT * FROM immutable.verify_projection('balance');
\echo :SQLSTATE
CREATE OR REPLACE FUNCTION apply(r balance, e immutable.event) RETURNS balance LANGUAGE sql STABLE AS $$
	SELECT ROW('x', 1, NULL, 1, r.made, e.recorded_at)::balance $$;
SELECT count(*) FROM immutable.verify_projection('balance');
\echo :SQLSTATE
\set SHOW_CONTEXT never

-- a key of a type without a hash function is compared by its bits
CREATE TABLE bits (b bit(4) PRIMARY KEY, n bigint DEFAULT 0);
CREATE FUNCTION apply_bits(r bits, e immutable.event) RETURNS bits LANGUAGE sql IMMUTABLE RETURN ROW(r.b, r.n + 1)::bits;
SELECT immutable.create_projection('bits', 'ledger', 'apply_bits', key => '{(position % 3)::integer::bit(4)}', mode => 'async');
SELECT immutable.refresh('bits');
SELECT * FROM bits ORDER BY b;
SELECT * FROM immutable.verify_projection('bits');

SELECT immutable.drop_projection(p) FROM unnest('{balance,many,bits}'::regclass[]) p;
RESET ROLE;
SELECT immutable.drop_log('ledger', force => true);
SET client_min_messages = warning;
DROP SCHEMA verify CASCADE;
DROP ROLE regress_verify, regress_verify_member, regress_verify_other;
