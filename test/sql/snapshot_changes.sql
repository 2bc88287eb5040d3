-- snapshot_changes: what makes a snapshot count no more, and what does not.
\set SHOW_CONTEXT never
CREATE ROLE regress_snapshot_changes;
CREATE SCHEMA snapshot_changes AUTHORIZATION regress_snapshot_changes;
CREATE SCHEMA snapshot_elsewhere AUTHORIZATION regress_snapshot_changes;
SELECT format('GRANT CREATE ON DATABASE %I TO regress_snapshot_changes', current_database()) \gexec
SET search_path = snapshot_changes;
SET ROLE regress_snapshot_changes;
SET timezone = 'UTC';
SELECT immutable.create_log('ledger');
CREATE TYPE amount AS (n bigint, note text);
CREATE TYPE kind AS ENUM ('low', 'high');
CREATE DOMAIN positive AS bigint CHECK (VALUE >= 0);

-- what reducers call, directly and through others
CREATE FUNCTION one() RETURNS bigint LANGUAGE sql IMMUTABLE RETURN 1;
CREATE FUNCTION by_text() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT one()';
CREATE FUNCTION not_inlined() RETURNS bigint LANGUAGE sql IMMUTABLE STRICT SECURITY DEFINER SET search_path = snapshot_changes AS 'SELECT by_text()';
CREATE FUNCTION pl() RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN one(); END';
CREATE FUNCTION add(a bigint, b bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT a + b';
CREATE OPERATOR <+> (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = add);
CREATE FUNCTION to_amount(n bigint) RETURNS amount LANGUAGE sql IMMUTABLE AS 'SELECT ROW(n, '''')::amount';
CREATE CAST (bigint AS amount) WITH FUNCTION to_amount(bigint);
CREATE FUNCTION step(state bigint, n bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT state + n';
CREATE AGGREGATE total(bigint) (SFUNC = step, STYPE = bigint, INITCOND = '0');
CREATE FUNCTION with_default(n bigint DEFAULT one()) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT n';
CREATE FUNCTION generic(a anyelement) RETURNS anyelement LANGUAGE sql IMMUTABLE AS 'SELECT add(a, 0)';
CREATE FUNCTION checked(n bigint) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT n >= 0';
CREATE DOMAIN checked_bigint AS bigint CHECK (checked(VALUE));
CREATE FUNCTION kind_rank(k kind) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT count(*) FROM unnest(enum_range(NULL::kind)) e WHERE e <= k';

-- reducers: each adds one for an event
CREATE FUNCTION r_sql(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN state + one();
CREATE FUNCTION r_text(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT state + by_text()';
CREATE FUNCTION r_call(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT state + not_inlined()';
CREATE FUNCTION r_strict(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT AS 'SELECT CASE WHEN true THEN state + one() END';
CREATE FUNCTION r_operator(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT state <+> 1';
CREATE FUNCTION r_cast(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT state + (1::bigint::amount).n';
CREATE FUNCTION r_aggregate(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT state + total(x) FROM (VALUES (1::bigint)) v(x)';
CREATE FUNCTION r_default(state bigint, e immutable.event, n bigint DEFAULT with_default()) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT state + n';
CREATE FUNCTION r_generic(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT generic(state) + 1';
CREATE FUNCTION r_subquery(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE
AS 'WITH w AS (SELECT one() AS n) SELECT state + (SELECT n FROM w) FROM generate_series(1, 1) WHERE EXISTS (SELECT one())';
CREATE FUNCTION r_domain(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT state + (1::bigint::checked_bigint)';
CREATE FUNCTION r_enum(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT state + kind_rank(''low'')';
CREATE FUNCTION r_fold(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT immutable.fold(state, ''step'', 1::bigint)';
CREATE FUNCTION r_pl(state bigint, e immutable.event) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN state + pl(); END';
CREATE FUNCTION r_stable(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT state + length(e.recorded_at::text) * 0 + 1';
CREATE FUNCTION r_polymorphic(state anyelement, e immutable.event) RETURNS anyelement LANGUAGE sql IMMUTABLE AS 'SELECT add(state, one())';
CREATE TABLE reducers AS SELECT proname::text AS name FROM pg_proc WHERE pronamespace = 'snapshot_changes'::regnamespace AND proname LIKE 'r\_%';
SELECT count(immutable.enable_snapshots('ledger', name::regproc, 1)) FROM reducers;
SELECT count(*) FROM generate_series(1, 5) n, LATERAL immutable.append('ledger', 'a', 't', jsonb_build_object('n', n));

-- is a false snapshot used, after a change? The answer, when it is not, must be that of a fold
CREATE FUNCTION used(reducer text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	replayed bigint;
	folded bigint;
BEGIN
	EXECUTE format('SELECT immutable.replay(''ledger'', ''a'', 0::bigint, %L)', reducer) INTO replayed;
	EXECUTE format('SELECT immutable.fold(0::bigint, %L, e ORDER BY version) FROM ledger e', reducer) INTO folded;
	IF replayed <> 1000 AND replayed <> folded THEN
		RAISE '% gives %, and % in a fold', reducer, replayed, folded;
	END IF;
	RETURN replayed = 1000;
END $$;
CREATE FUNCTION after(change text) RETURNS TABLE (not_used text, used text) LANGUAGE plpgsql AS $$
BEGIN
	DELETE FROM ledger_snapshots;
	PERFORM used(name) FROM reducers;
	UPDATE ledger_snapshots SET state = '1000';
	IF (SELECT count(*) FROM reducers WHERE NOT used(name)) > 0 THEN
		RAISE 'not used: %', (SELECT string_agg(name, ' ') FROM reducers WHERE NOT used(name));
	END IF;
	BEGIN
		EXECUTE change;
		SELECT string_agg(substr(name, 3), ' ' ORDER BY name) FILTER (WHERE NOT u), string_agg(substr(name, 3), ' ' ORDER BY name) FILTER (WHERE u)
		INTO not_used, used FROM (SELECT name, used(name) AS u FROM reducers OFFSET 0) x;
		RAISE EXCEPTION USING ERRCODE = 'ZZ000';
	EXCEPTION WHEN SQLSTATE 'ZZ000' THEN
	END;
	-- and when it is taken back, they count again
	IF (SELECT count(*) FROM reducers r WHERE NOT used(r.name)) > 0 THEN
		RAISE 'not used afterwards: %', (SELECT string_agg(name, ' ') FROM reducers WHERE NOT used(name));
	END IF;
	RETURN NEXT;
END $$;

SELECT c.change, a.* FROM unnest(ARRAY[
	'SELECT 1',
	-- functions
	'CREATE OR REPLACE FUNCTION one() RETURNS bigint LANGUAGE sql IMMUTABLE RETURN 2',
	'CREATE OR REPLACE FUNCTION by_text() RETURNS bigint LANGUAGE sql IMMUTABLE AS ''SELECT one() + one()''',
	'CREATE OR REPLACE FUNCTION pl() RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS ''BEGIN RETURN 3; END''',
	'CREATE OR REPLACE FUNCTION add(a bigint, b bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS ''SELECT a + b + 1''',
	'CREATE OR REPLACE FUNCTION to_amount(n bigint) RETURNS amount LANGUAGE sql IMMUTABLE AS ''SELECT ROW(n + 1, '''''''')::amount''',
	'CREATE OR REPLACE FUNCTION step(state bigint, n bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS ''SELECT state + n + n''',
	'CREATE OR REPLACE AGGREGATE total(bigint) (SFUNC = step, STYPE = bigint, INITCOND = ''5'')',
	'CREATE OR REPLACE FUNCTION with_default(n bigint DEFAULT 4) RETURNS bigint LANGUAGE sql IMMUTABLE AS ''SELECT n''',
	'CREATE OR REPLACE FUNCTION r_default(state bigint, e immutable.event, n bigint DEFAULT 6) RETURNS bigint LANGUAGE sql IMMUTABLE AS ''SELECT state + n''',
	'CREATE OR REPLACE FUNCTION r_sql(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN state + one() + one()',
	'CREATE OR REPLACE FUNCTION checked(n bigint) RETURNS boolean LANGUAGE sql IMMUTABLE AS ''SELECT n > -1''',
	'ALTER FUNCTION not_inlined() SET search_path = pg_catalog, snapshot_changes',
	'ALTER FUNCTION by_text() STABLE',
	'ALTER FUNCTION one() SET timezone = ''UTC''',
	'ALTER FUNCTION r_pl(bigint, immutable.event) STRICT',
	'ALTER FUNCTION one() RENAME TO uno; CREATE FUNCTION one() RETURNS bigint LANGUAGE sql IMMUTABLE RETURN 7',
	-- types
	'ALTER TYPE amount ADD ATTRIBUTE more text; CREATE OR REPLACE FUNCTION to_amount(n bigint) RETURNS amount LANGUAGE sql IMMUTABLE AS ''SELECT ROW(n, '''''''', NULL)::amount''',
	'ALTER TYPE kind RENAME VALUE ''high'' TO ''higher''',
	'ALTER DOMAIN checked_bigint ADD CHECK (VALUE < 100)',
	'ALTER DOMAIN checked_bigint SET NOT NULL',
	-- what names mean
	'CREATE FUNCTION snapshot_elsewhere.one() RETURNS bigint LANGUAGE sql IMMUTABLE RETURN 10; SET LOCAL search_path = snapshot_elsewhere, snapshot_changes',
	'CREATE FUNCTION by_text(n integer DEFAULT 1) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN n; DROP FUNCTION by_text() CASCADE;
		CREATE OR REPLACE FUNCTION not_inlined() RETURNS bigint LANGUAGE sql IMMUTABLE STRICT SECURITY DEFINER SET search_path = snapshot_changes AS ''SELECT by_text(1)''',
	'ALTER SCHEMA snapshot_elsewhere RENAME TO snapshot_other',
	'SET LOCAL search_path = snapshot_changes, pg_catalog',
	'CREATE TEMP TABLE snapshot_temporary (x integer)',
	-- settings
	'SET LOCAL timezone = ''Asia/Tokyo''',
	'SET LOCAL intervalstyle = iso_8601; SET LOCAL datestyle = german',
	'SET LOCAL lc_monetary = ''C.UTF-8''',
	'SET LOCAL work_mem = ''5MB''',
	-- things of no concern
	'CREATE FUNCTION snapshot_elsewhere.other() RETURNS bigint LANGUAGE sql IMMUTABLE RETURN 10',
	'CREATE TABLE other (x integer)',
	'GRANT EXECUTE ON FUNCTION one() TO PUBLIC',
	'ALTER FUNCTION one() COST 10']) WITH ORDINALITY c(change, nr), LATERAL after(c.change) a ORDER BY nr;

-- changes that are committed, and a reducer that stays compiled
CREATE FUNCTION warm() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	state bigint;
BEGIN
	state := immutable.replay('snapshot_changes.ledger', 'a', 0::bigint, 'snapshot_changes.r_text');
	RETURN state;
END $$;
SELECT warm();
UPDATE ledger_snapshots SET state = '1000';
BEGIN;
SELECT warm();
CREATE OR REPLACE FUNCTION one() RETURNS bigint LANGUAGE sql IMMUTABLE RETURN 2;
SELECT warm();
SAVEPOINT before;
CREATE OR REPLACE FUNCTION one() RETURNS bigint LANGUAGE sql IMMUTABLE RETURN 3;
SELECT warm();
ROLLBACK TO before;
SELECT warm();
SET LOCAL search_path = snapshot_elsewhere;
CREATE FUNCTION by_text() RETURNS bigint LANGUAGE sql IMMUTABLE RETURN 9;
SELECT snapshot_changes.warm();
SET LOCAL search_path = snapshot_changes;
SELECT warm();
COMMIT;
SELECT warm(), (SELECT string_agg(state, ' ') FROM ledger_snapshots WHERE reducer LIKE '%r_text%');

-- another user, another collation
CREATE FUNCTION r_user(state bigint, e immutable.event) RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN state + 1; END';
CREATE FUNCTION r_greater(state text, e immutable.event) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT greatest(state, chr(64 + e.version::integer))';
SELECT immutable.enable_snapshots('ledger', 'r_user', 1), immutable.enable_snapshots('ledger', 'r_greater', 1);
SELECT immutable.replay('ledger', 'a', 0::bigint, 'r_user'), immutable.replay('ledger', 'a', 'a'::text, 'r_greater'), immutable.replay('ledger', 'a', 'a'::text COLLATE "C", 'r_greater');
UPDATE ledger_snapshots SET state = '1000' WHERE reducer LIKE '%r_user%';
UPDATE ledger_snapshots SET state = 'used' WHERE reducer LIKE '%r_greater%';
SELECT immutable.replay('ledger', 'a', 0::bigint, 'r_user'), immutable.replay('ledger', 'a', 'a'::text, 'r_greater'), immutable.replay('ledger', 'a', 'a'::text COLLATE "C", 'r_greater'),
	immutable.replay('ledger', 'a', 'a'::text COLLATE "POSIX", 'r_greater') COLLATE "C" AS posix, immutable.replay('ledger', 'a', 'b'::text, 'r_greater');
RESET ROLE;
SELECT immutable.replay('ledger', 'a', 0::bigint, 'r_user'), immutable.replay('ledger', 'a', 'a'::text, 'r_greater');

SELECT immutable.drop_log('ledger', force => true);
SET client_min_messages = warning;
DROP SCHEMA snapshot_changes CASCADE;
DROP SCHEMA snapshot_elsewhere CASCADE;
DROP OWNED BY regress_snapshot_changes;
DROP ROLE regress_snapshot_changes;
