-- upcast: events of an old shape come out in the newest one, by every reader.
\set SHOW_CONTEXT never
CREATE ROLE regress_upcast;
CREATE SCHEMA upcast AUTHORIZATION regress_upcast;
SET search_path = upcast;
SET ROLE regress_upcast;
SELECT immutable.create_log('ledger'), immutable.create_log('wide', 3), immutable.create_log('other');

-- payments: 1 has dollars, 2 has cents, 3 is called by another name and has a currency
CREATE FUNCTION paid_2(e immutable.event) RETURNS immutable.event LANGUAGE sql IMMUTABLE
RETURN ROW(e.position, e.recorded_at, e.version, e.id, 2, e.stream, e.type,
	jsonb_set(e.data - 'dollars', '{cents}', to_jsonb((e.data->>'dollars')::integer * 100)), e.metadata)::immutable.event;
CREATE FUNCTION paid_3(e immutable.event) RETURNS immutable.event LANGUAGE plpgsql STABLE AS $$
BEGIN
	e.type := 'payment';
	e.schema_version := 3;
	e.data := e.data || jsonb_build_object('currency', 'USD');
	RETURN e;
END $$;
CREATE FUNCTION payment_4(e immutable.event) RETURNS immutable.event LANGUAGE sql STABLE AS $$
	SELECT e.position, e.recorded_at, e.version, e.id, e.schema_version + 1, e.stream, e.type,
		e.data, e.metadata || '{"upcast": true}'
$$;
SELECT version, schema_version, type, data FROM (SELECT (immutable.append(log, s, type, data, schema_version => v)).version, v AS schema_version, type, data
	FROM unnest('{ledger,wide}'::regclass[]) log, (VALUES
		('a', 'opened', '{}'::jsonb, 1), ('a', 'paid', '{"dollars": 1}', 1), ('b', 'paid', '{"dollars": 2}', 1), ('a', 'paid', '{"cents": 300}', 2),
		('b', 'payment', '{"cents": 4, "currency": "EUR"}', 3), ('b', 'closed', '{}', 1), ('a', 'payment', '{"cents": 5, "currency": "EUR"}', 4)) e(s, type, data, v)) a;
SELECT immutable.add_upcaster(log, 'paid', 1, 'paid_2'), immutable.add_upcaster(log, 'payment', 3, 'upcast.payment_4'),
	immutable.add_upcaster(log, 'paid', 2, 'paid_3(immutable.event)'::regprocedure) FROM unnest('{ledger,wide}'::regclass[]) log;
SELECT * FROM immutable.upcasters ORDER BY log::text, type, schema_version;

-- the log keeps what was recorded
SELECT position, stream, version, type, schema_version, data FROM ledger ORDER BY position;
-- by stream, by position, by consumers
SELECT position, stream, version, type, schema_version, data, metadata FROM immutable.read_stream('ledger', 'a');
SELECT position, version, type, schema_version, data FROM immutable.read_stream('ledger', 'b', max_events => 2, backward => true);
SELECT version, type, schema_version, data FROM immutable.read_stream('wide', 'b');
SELECT position, stream, type, schema_version, data FROM immutable.read_log('ledger');
SELECT stream, type, schema_version, data FROM immutable.read_log('wide', stream_prefix => 'b');
SELECT r.position, r.recorded_at = l.recorded_at AND r.id = l.id AND r.version = l.version AS same FROM immutable.read_log('ledger') r JOIN ledger l USING (position);
-- types are those that come out
SELECT position, type FROM immutable.read_log('ledger', types => '{payment}');
SELECT position, type FROM immutable.read_log('ledger', types => '{payment,closed,NULL}', max_events => 3);
SELECT position, type FROM immutable.read_log('ledger', types => '{payment}', max_events => 3, after_position => 3);
SELECT position, type FROM immutable.read_log('ledger', types => '{paid}');
SELECT position, type FROM immutable.read_log('ledger', types => '{}');
SELECT count(*) FROM immutable.read_log('ledger', types => '{payment}', max_events => 0);
SELECT position, type FROM immutable.read_log('ledger', max_events => 2);

-- a consumer's types too, and its cursor is where it was handed out
SELECT immutable.create_consumer('payments', 'ledger', '{payment}', after_position => 0), immutable.create_consumer('closed', 'ledger', '{closed,paid}', after_position => 0);
BEGIN;
SELECT position, type, schema_version FROM immutable.poll('payments', 2);
SELECT immutable.ack('payments', 3);
SELECT position, type, schema_version FROM immutable.poll('payments', 2);
SELECT immutable.nack('payments', 4, 'no');
SELECT immutable.ack('payments', 5);
SELECT position, type, schema_version FROM immutable.poll('closed', 2);
SELECT immutable.nack('closed', 3, 'no');
ROLLBACK;
BEGIN;
SELECT position, type, schema_version FROM immutable.poll('payments', 2);
SELECT immutable.nack('payments', 2, 'no');
SELECT immutable.ack('payments', 3);
SELECT position, type, schema_version FROM immutable.poll('payments', 2);
SELECT immutable.ack('payments', 2);
SELECT position, type, schema_version FROM immutable.poll('payments', 2);
SELECT immutable.ack('payments', 5);
SELECT position, type, schema_version FROM immutable.poll('payments');
SELECT immutable.ack('payments', 7);
COMMIT;
SELECT consumer, shard, position FROM immutable.consumer_status ORDER BY consumer;

-- replay
CREATE FUNCTION cents(state bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN state + CASE e.type WHEN 'payment' THEN (e.data->>'cents')::bigint WHEN 'paid' THEN 1000000 ELSE 0 END;
CREATE FUNCTION trail(state text, e immutable.event) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	RETURN concat_ws(' ', state, e.type || e.schema_version);
END $$;
CREATE FUNCTION later(state bigint, factor integer, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN state + factor * (e.data->>'cents')::bigint;
SELECT immutable.replay('ledger', 'a', 0::bigint, 'cents'), immutable.replay('ledger', 'a', ''::text, 'trail'), immutable.replay('wide', 'b', 0::bigint, 'cents'),
	immutable.replay('ledger', 'a', 0::bigint, 'cents', 2), immutable.replay('ledger', 'a', '{}'::jsonb, 'immutable.merge_patch');

-- fold over rows of the log, in every shape
SELECT stream, immutable.fold(0::bigint, 'cents', e ORDER BY e.version), immutable.fold(''::text, 'trail', e ORDER BY e.version) FROM ledger e GROUP BY stream ORDER BY stream;
SELECT immutable.fold(0::bigint, 'cents', e), immutable.fold('{}'::jsonb, 'immutable.merge_patch', e) FILTER (WHERE (e).stream = 'a') FROM (SELECT e FROM ledger e ORDER BY position) s;
SELECT immutable.fold(0::bigint, 'cents', e ORDER BY e.position) FROM wide e;
SELECT immutable.fold(DISTINCT 0::bigint, 'cents', e) FROM (SELECT e FROM ledger e, generate_series(1, 2)) s;
SELECT version, immutable.fold(0::bigint, 'cents', e) OVER (ORDER BY version) FROM ledger e WHERE stream = 'a';
SELECT immutable.fold(0::bigint, 'later', 2, e) FROM ledger e WHERE type LIKE 'p%';
SELECT immutable.fold(0::bigint, 'cents', e) FROM (SELECT 1 AS n, e FROM ledger e ORDER BY position) s;
WITH e AS MATERIALIZED (SELECT e FROM ledger e) SELECT immutable.fold(0::bigint, 'cents', e.e ORDER BY (e.e).position) FROM e;
SELECT immutable.fold(0::bigint, 'cents', e ORDER BY e.position) FROM ledger e LEFT JOIN other o ON o.stream = e.stream;
SELECT immutable.fold(0::bigint, 'cents', o ORDER BY e.position) FROM ledger e LEFT JOIN other o ON o.stream = e.stream;
-- what was upcast stays as it is
SELECT immutable.fold(0::bigint, 'cents', e) FROM immutable.read_log('ledger') e;
SELECT immutable.fold(0::bigint, 'cents', immutable.upcast('ledger', e) ORDER BY position) FROM ledger e;
-- a reducer of the log's own row type, and one that takes the first item as it is
CREATE FUNCTION last(state ledger, e ledger) RETURNS ledger LANGUAGE sql IMMUTABLE STRICT RETURN CASE WHEN e.type = 'closed' THEN state ELSE e END;
SELECT (f).type, (f).schema_version, (f).data, pg_typeof(f) FROM (SELECT immutable.fold(NULL::ledger, 'last', e ORDER BY position) AS f FROM ledger e WHERE position IN (3, 6)) s;
-- a log without upcasters, beside one with them
SELECT immutable.append('other', 'a', 'paid', '{"cents": 7}', schema_version => 3);
SELECT immutable.fold(''::text, 'trail', e) FROM other e;
SELECT immutable.fold(''::text, 'trail', s) FROM (SELECT * FROM other ORDER BY position) s;
-- a record does not tell its log
SELECT immutable.fold(0::bigint, 'cents', s) FROM (SELECT * FROM ledger ORDER BY position) s;
\echo :SQLSTATE
SELECT immutable.fold(0::bigint, 'cents', s) FROM (SELECT * FROM ledger WHERE type = 'opened' ORDER BY position) s;
SELECT immutable.fold(0::bigint, 'cents', s) FROM (SELECT * FROM immutable.read_log('ledger')) s;

-- one event by hand
SELECT (u).type, (u).schema_version, (u).data FROM (SELECT immutable.upcast('ledger', e) AS u FROM ledger e ORDER BY position) s;
SELECT immutable.upcast('other', e) = e AS same FROM (SELECT e::immutable.event FROM ledger e) s LIMIT 1;
SELECT immutable.upcast('ledger', NULL), immutable.upcast('ledger', ROW(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)),
	immutable.upcast('ledger', ROW(NULL, NULL, NULL, NULL, NULL, NULL, 'paid', NULL, NULL)),
	immutable.upcast('ledger', ROW(NULL, NULL, NULL, NULL, 1, NULL, NULL, NULL, NULL));
SELECT immutable.upcast('ledger', ROW(NULL, NULL, NULL, NULL, 1, NULL, 'paid', NULL, NULL));
\echo :SQLSTATE

-- a new function under the same name serves from the next statement on
CREATE OR REPLACE FUNCTION payment_4(e immutable.event) RETURNS immutable.event LANGUAGE sql STABLE AS $$
	SELECT e.position, e.recorded_at, e.version, e.id, 4, e.stream, e.type, e.data || '{"cents": 0}', e.metadata
$$;
SELECT immutable.replay('ledger', 'a', 0::bigint, 'cents');
-- it is found by its name, whatever the search_path
SET search_path = pg_catalog;
SELECT type, data FROM immutable.read_stream('upcast.ledger', 'b');
SET search_path = upcast;
-- within the transaction that adds it, and not after a rollback
BEGIN;
SELECT immutable.drop_upcaster('ledger', 'payment', 3);
SELECT immutable.replay('ledger', 'b', ''::text, 'trail');
SAVEPOINT s;
SELECT immutable.drop_upcaster('ledger', 'paid', 2);
SELECT immutable.replay('ledger', 'b', ''::text, 'trail');
ROLLBACK TO s;
SELECT immutable.replay('ledger', 'b', ''::text, 'trail');
ROLLBACK;
SELECT immutable.replay('ledger', 'b', ''::text, 'trail');
-- an upcaster that reads the log itself, with its upcasters
CREATE FUNCTION closed_2(e immutable.event) RETURNS immutable.event LANGUAGE plpgsql STABLE AS $$
BEGIN
	e.schema_version := 2;
	e.data := jsonb_build_object('left', immutable.replay('upcast.ledger', e.stream, 0::bigint, 'upcast.cents', e.version::integer - 1));
	RETURN e;
END $$;
SELECT immutable.add_upcaster('ledger', 'closed', 1, 'closed_2');
SELECT type, schema_version, data FROM immutable.read_stream('ledger', 'b');
-- a large event, stored out of line
SELECT immutable.append('ledger', 'large', 'paid', jsonb_build_object('dollars', 1, 'text', (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 2000) n)));
SELECT type, length(data->>'text'), md5(data->>'text') = md5(recorded) AS same FROM (SELECT data->>'text' AS recorded FROM ledger WHERE stream = 'large') l,
	LATERAL (SELECT * FROM immutable.read_stream('ledger', 'large') UNION ALL SELECT * FROM immutable.read_log('ledger', types => '{payment}', stream_prefix => 'large')
		UNION ALL SELECT (immutable.upcast('ledger', e)).* FROM ledger e WHERE stream = 'large') r;
SELECT immutable.fold(0::bigint, 'cents', e) FROM ledger e WHERE stream = 'large';
-- policies decide which events are read, in whatever shape
ALTER TABLE wide ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY recorded ON wide USING (type <> 'payment');
SELECT version, type, data FROM immutable.read_stream('wide', 'b');
SELECT immutable.replay('wide', 'b', 0::bigint, 'cents'), (SELECT count(*) FROM immutable.read_log('wide', types => '{payment}'));
-- appends and their retries compare what was recorded
SELECT immutable.append('ledger', 'c', 'paid', '{"dollars": 9}', id => '018f0000-0000-7000-8000-000000000001'),
	immutable.append('ledger', 'c', 'paid', '{"dollars": 9}', id => '018f0000-0000-7000-8000-000000000001');
SELECT * FROM immutable.check_log('ledger');

-- upcasters go with their log
RESET ROLE;
DROP FUNCTION last;
SELECT immutable.drop_log(log, force => true) FROM unnest('{ledger,wide,other}'::regclass[]) log;
SELECT count(*) FROM immutable.upcasters;
SET client_min_messages = warning;
DROP SCHEMA upcast CASCADE;
DROP ROLE regress_upcast;
