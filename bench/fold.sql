-- Fold: balances of 1,000 accounts from 500,000 events.
CREATE TYPE bench.account AS (balance bigint, entries bigint);
CREATE FUNCTION bench.account_apply(state bench.account, event immutable.event)
RETURNS bench.account LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE event.type
		WHEN 'deposited' THEN ROW(coalesce(state.balance, 0) + (event.data->>'amount')::bigint,
			coalesce(state.entries, 0) + 1)::bench.account
		WHEN 'withdrawn' THEN ROW(coalesce(state.balance, 0) - (event.data->>'amount')::bigint,
			coalesce(state.entries, 0) + 1)::bench.account
		ELSE state
	END
$$;
CREATE AGGREGATE bench.account_sfunc(immutable.event) (
	SFUNC = bench.account_apply, STYPE = bench.account);

-- Events of so many streams, in turn; what reads them in order has them so.
CREATE FUNCTION bench.fill(log regclass, events integer, streams integer) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..events LOOP
		PERFORM immutable.append(log, 'account-' || i % streams,
			CASE i % 5 WHEN 0 THEN 'withdrawn' ELSE 'deposited' END,
			jsonb_build_object('amount', i % 100));
	END LOOP;
END
$$;
SELECT immutable.create_log('ledger'), immutable.create_log('groups_few'), immutable.create_log('groups_many');
SELECT bench.fill('ledger', 500000, 1000), bench.fill('groups_few', 50000, 10000), bench.fill('groups_many', 500000, 100000);
VACUUM ANALYZE ledger;
VACUUM ANALYZE groups_few;
VACUUM ANALYZE groups_many;

CREATE FUNCTION bench.fold() RETURNS numeric LANGUAGE sql AS $$
	SELECT sum((a).balance) FROM (
		SELECT immutable.fold(NULL::bench.account, 'bench.account_apply', e) AS a
		FROM ledger e GROUP BY e.stream) x
$$;
CREATE FUNCTION bench.fold_by_position() RETURNS numeric LANGUAGE sql AS $$
	SELECT sum((a).balance) FROM (
		SELECT immutable.fold(NULL::bench.account, 'bench.account_apply', e) AS a
		FROM (SELECT * FROM ledger ORDER BY position) e GROUP BY e.stream) x
$$;
CREATE FUNCTION bench.fold_by_version() RETURNS numeric LANGUAGE sql AS $$
	SELECT sum((a).balance) FROM (
		SELECT immutable.fold(NULL::bench.account, 'bench.account_apply', e ORDER BY e.version) AS a
		FROM ledger e GROUP BY e.stream) x
$$;
CREATE FUNCTION bench.replay_all() RETURNS numeric LANGUAGE sql AS $$
	SELECT sum((state).balance)
	FROM immutable.replay_all('ledger', NULL::bench.account, 'bench.account_apply')
$$;
CREATE FUNCTION bench.fold_sfunc() RETURNS numeric LANGUAGE sql AS $$
	SELECT sum((a).balance) FROM (
		SELECT bench.account_sfunc(e) AS a
		FROM ledger e GROUP BY e.stream) x
$$;
CREATE FUNCTION bench.fold_group_by() RETURNS numeric LANGUAGE sql AS $$
	SELECT sum((a).balance) FROM (
		SELECT ROW(sum(CASE e.type WHEN 'deposited' THEN (e.data->>'amount')::bigint
				WHEN 'withdrawn' THEN -(e.data->>'amount')::bigint ELSE 0 END)::bigint,
			count(*) FILTER (WHERE e.type IN ('deposited', 'withdrawn')))::bench.account AS a
		FROM ledger e GROUP BY e.stream) x
$$;

-- Reducers in PL/pgSQL: a row, and an array that grows to 500 elements.
CREATE FUNCTION bench.row_apply(state bench.account, event immutable.event)
RETURNS bench.account LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	IF event.type = 'deposited' THEN
		state.balance := coalesce(state.balance, 0) + (event.data->>'amount')::bigint;
	ELSE
		state.balance := coalesce(state.balance, 0) - (event.data->>'amount')::bigint;
	END IF;
	state.entries := coalesce(state.entries, 0) + 1;
	RETURN state;
END
$$;
CREATE FUNCTION bench.array_apply(state bigint[], event immutable.event)
RETURNS bigint[] LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	state[event.version] := (event.data->>'amount')::bigint;
	RETURN state;
END
$$;
CREATE AGGREGATE bench.row_sfunc(immutable.event) (
	SFUNC = bench.row_apply, STYPE = bench.account);
CREATE AGGREGATE bench.array_sfunc(immutable.event) (
	SFUNC = bench.array_apply, STYPE = bigint[], INITCOND = '{}');
CREATE FUNCTION bench.plpgsql_row() RETURNS numeric LANGUAGE sql AS $$
	SELECT sum((a).balance) FROM (
		SELECT immutable.fold(NULL::bench.account, 'bench.row_apply', e) AS a
		FROM ledger e GROUP BY e.stream) x
$$;
CREATE FUNCTION bench.plpgsql_row_sfunc() RETURNS numeric LANGUAGE sql AS $$
	SELECT sum((a).balance) FROM (
		SELECT bench.row_sfunc(e) AS a FROM ledger e GROUP BY e.stream) x
$$;
CREATE FUNCTION bench.plpgsql_array() RETURNS numeric LANGUAGE sql AS $$
	SELECT sum(cardinality(a)) FROM (
		SELECT immutable.fold('{}'::bigint[], 'bench.array_apply', e) AS a
		FROM ledger e GROUP BY e.stream) x
$$;
CREATE FUNCTION bench.plpgsql_array_sfunc() RETURNS numeric LANGUAGE sql AS $$
	SELECT sum(cardinality(a)) FROM (
		SELECT bench.array_sfunc(e) AS a FROM ledger e GROUP BY e.stream) x
$$;

-- A function of PostgreSQL's own over plain numbers.
CREATE TABLE bench.numbers AS SELECT n FROM generate_series(1::bigint, 1000000) n;
VACUUM ANALYZE bench.numbers;
CREATE FUNCTION bench.fold_int8pl() RETURNS numeric LANGUAGE sql AS
$$ SELECT immutable.fold(0::bigint, 'int8pl', n)::numeric FROM bench.numbers $$;
CREATE FUNCTION bench.sum() RETURNS numeric LANGUAGE sql AS
$$ SELECT sum(n) FROM bench.numbers $$;

-- Groups: 10,000 and 100,000, of five events each, in one hash table.
CREATE FUNCTION bench.fold_groups_few() RETURNS numeric LANGUAGE sql
SET work_mem = '1GB' SET enable_sort = off SET enable_indexscan = off AS $$
	SELECT sum((a).balance) FROM (
		SELECT immutable.fold(NULL::bench.account, 'bench.account_apply', e) AS a
		FROM groups_few e GROUP BY e.stream) x
$$;
CREATE FUNCTION bench.fold_groups_many() RETURNS numeric LANGUAGE sql
SET work_mem = '1GB' SET enable_sort = off SET enable_indexscan = off AS $$
	SELECT sum((a).balance) FROM (
		SELECT immutable.fold(NULL::bench.account, 'bench.account_apply', e) AS a
		FROM groups_many e GROUP BY e.stream) x
$$;
CREATE FUNCTION bench.group_by_few() RETURNS numeric LANGUAGE sql
SET work_mem = '1GB' SET enable_sort = off SET enable_indexscan = off AS $$
	SELECT sum(a) FROM (
		SELECT sum(CASE e.type WHEN 'deposited' THEN (e.data->>'amount')::bigint ELSE -(e.data->>'amount')::bigint END)::bigint AS a
		FROM groups_few e GROUP BY e.stream) x
$$;
CREATE FUNCTION bench.group_by_many() RETURNS numeric LANGUAGE sql
SET work_mem = '1GB' SET enable_sort = off SET enable_indexscan = off AS $$
	SELECT sum(a) FROM (
		SELECT sum(CASE e.type WHEN 'deposited' THEN (e.data->>'amount')::bigint ELSE -(e.data->>'amount')::bigint END)::bigint AS a
		FROM groups_many e GROUP BY e.stream) x
$$;

-- Documents: 10,000 events into one of 5,000 keys.
SELECT immutable.create_log('documents');
SELECT count(immutable.append_batch('documents', 'one', (
	SELECT array_agg(ROW('changed', jsonb_build_object('k' || ((b * 1000 + i) * 7919) % 5000, jsonb_build_object('v', i)),
		NULL, NULL, NULL)::immutable.new_event)
	FROM generate_series(1, 1000) i)))
FROM generate_series(0, 9) b;
CREATE FUNCTION bench.concat(state jsonb, event immutable.event) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS 'SELECT state || event.data';
CREATE AGGREGATE bench.concat_sfunc(immutable.event) (
	SFUNC = bench.concat, STYPE = jsonb, INITCOND = '{}');
CREATE FUNCTION bench.document() RETURNS integer LANGUAGE sql AS $$
	SELECT length(immutable.fold('{}'::jsonb, 'immutable.merge_patch', e)::text)
	FROM (SELECT * FROM documents ORDER BY position) e
$$;
CREATE FUNCTION bench.document_sfunc() RETURNS integer LANGUAGE sql AS $$
	SELECT length(bench.concat_sfunc(e)::text)
	FROM (SELECT * FROM documents ORDER BY position) e
$$;

-- Snapshots: a stream of 100,050 events, the last 50 after the newest
-- snapshot, beside one of 50 events; 200 replays of each.
SELECT immutable.create_log('snapped');
CREATE FUNCTION bench.take_snapshot() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..100000 LOOP
		PERFORM immutable.append('snapped', 'long', 'deposited', '{"amount": 1}');
	END LOOP;
	PERFORM immutable.enable_snapshots('snapped', 'bench.account_apply', 100);
	PERFORM immutable.replay('snapped', 'long', NULL::bench.account, 'bench.account_apply');
	FOR i IN 1..50 LOOP
		PERFORM immutable.append('snapped', 'long', 'deposited', '{"amount": 1}'),
			immutable.append('snapped', 'short', 'deposited', '{"amount": 1}');
	END LOOP;
END
$$;
CREATE FUNCTION bench.replay_snapshot() RETURNS numeric LANGUAGE sql AS $$
	SELECT sum((immutable.replay('snapped', 'long', NULL::bench.account, 'bench.account_apply')).balance)
	FROM generate_series(1, 200)
$$;
CREATE FUNCTION bench.replay_tail() RETURNS numeric LANGUAGE sql AS $$
	SELECT sum((immutable.replay('snapped', 'short', NULL::bench.account, 'bench.account_apply')).balance)
	FROM generate_series(1, 200)
$$;

-- Memory: one stream of many events.
SELECT immutable.create_log('long');
CREATE FUNCTION bench.grow_stream(events integer) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..events LOOP
		PERFORM immutable.append('long', 'account', 'deposited', '{"amount": 1}');
	END LOOP;
END
$$;
CREATE FUNCTION bench.fold_stream(events bigint) RETURNS text LANGUAGE sql AS $$
	SELECT immutable.fold(NULL::bench.account, 'bench.account_apply', e)::text
	FROM (SELECT * FROM long WHERE position <= events ORDER BY position) e
$$;
