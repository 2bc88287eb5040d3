-- handle: a command is decided on the stream's state, and its events appended.
\set SHOW_CONTEXT never
CREATE ROLE regress_handle;
CREATE SCHEMA handle AUTHORIZATION regress_handle;
SET search_path = handle;
SET ROLE regress_handle;
SELECT immutable.create_log('shop'), immutable.create_log('wide', 3), immutable.create_log('loose', unique_ids => false);
CREATE VIEW held AS SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();

-- an order: place, pay, ship; what does not fit is rejected in the user's own words
CREATE TYPE "order" AS (status text, amount numeric);
CREATE FUNCTION order_evolve(state "order", event immutable.event) RETURNS "order" LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE event.type
		WHEN 'OrderPlaced' THEN ROW('placed', (event.data->>'amount')::numeric)::"order"
		WHEN 'OrderPaid' THEN ROW('paid', state.amount)::"order"
		WHEN 'OrderShipped' THEN ROW('shipped', state.amount)::"order"
		ELSE state
	END
$$;
CREATE FUNCTION order_decide(state "order", command jsonb) RETURNS immutable.new_event[] LANGUAGE plpgsql AS $$
DECLARE
	type text := command->>'type';
	needed text := CASE type WHEN 'PlaceOrder' THEN 'new' WHEN 'PayOrder' THEN 'placed' WHEN 'ShipOrder' THEN 'paid' END;
BEGIN
	IF needed IS NULL THEN
		RAISE EXCEPTION 'unknown command %', type USING ERRCODE = 'OR000';
	ELSIF needed <> coalesce(state.status, 'new') THEN
		RAISE EXCEPTION '% needs an order that is %', type, needed USING
			ERRCODE = 'OR001', DETAIL = format('Order %s is %s.', command->>'orderId', coalesce(state.status, 'new')), HINT = 'Look at the order.';
	END IF;
	RETURN ARRAY[ROW(CASE type WHEN 'PlaceOrder' THEN 'OrderPlaced' WHEN 'PayOrder' THEN 'OrderPaid' ELSE 'OrderShipped' END,
		command - 'type', NULL, NULL, NULL)]::immutable.new_event[];
END $$;
CREATE FUNCTION "do"(command jsonb, log regclass DEFAULT 'shop') RETURNS immutable.appended LANGUAGE sql
RETURN immutable.handle(log, 'order-' || (command->>'orderId'), command, NULL::"order", 'order_decide', 'order_evolve');
SELECT * FROM "do"('{"type": "ShipOrder", "orderId": 123}');
\echo :SQLSTATE
SELECT * FROM "do"('{"type": "PlaceOrder", "orderId": 123, "amount": 30}');
SELECT * FROM "do"('{"type": "ShipOrder", "orderId": 123}');
SELECT * FROM "do"('{"type": "PayOrder", "orderId": 123}');
SELECT * FROM "do"('{"type": "ShipOrder", "orderId": 123}');
SELECT * FROM "do"('{"type": "ShipOrder", "orderId": 123}');
\echo :SQLSTATE
SELECT * FROM "do"('{"type": "EatOrder", "orderId": 123}');
\echo :SQLSTATE
-- a rejected command has drawn no position, and holds no lock
SELECT position, version, stream, type, data FROM shop ORDER BY position;
SELECT last_value, (TABLE held) AS held FROM shop_position_seq;
SELECT * FROM "do"('{"type": "PlaceOrder", "orderId": 1}', 'wide');
SELECT * FROM "do"('{"type": "PayOrder", "orderId": 1}', 'wide');
SELECT * FROM "do"('{"type": "PayOrder", "orderId": 1}', 'wide');
SELECT immutable.replay('wide', 'order-1', NULL::"order", 'order_evolve');

-- many events at once, and several commands in one statement see each other
CREATE FUNCTION count_event(n bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN n + 1;
CREATE FUNCTION fill(n bigint, command jsonb) RETURNS immutable.new_event[] LANGUAGE sql IMMUTABLE AS $$
	SELECT array_agg(ROW('t', jsonb_build_object('n', i), NULL, NULL, NULL)::immutable.new_event ORDER BY i)
	FROM generate_series(n + 1, (command->>'upto')::bigint) i
$$;
SELECT h.* FROM generate_series(1, 6) i, immutable.handle('shop', 'filled', jsonb_build_object('upto', i * i / 2), 0::bigint, 'fill', 'count_event') h;
SELECT count(*), max(version), bool_and((data->>'n')::bigint = version) AS each_saw_the_last FROM shop WHERE stream = 'filled';

-- nothing to record: NULL or an empty array; the answer is where the stream stands
CREATE FUNCTION nothing(n bigint, command jsonb) RETURNS immutable.new_event[] LANGUAGE sql IMMUTABLE
RETURN CASE WHEN command ? 'null' THEN NULL ELSE '{}'::immutable.new_event[] END;
SELECT * FROM immutable.handle('shop', 'filled', '{"null": 1}', 0::bigint, 'nothing', 'count_event');
SELECT * FROM immutable.handle('shop', 'filled', '{}', 0::bigint, 'nothing', 'count_event');
SELECT * FROM immutable.handle('shop', 'nobody', '{"null": 1}', 0::bigint, 'nothing', 'count_event');
SELECT * FROM immutable.handle('wide', 'nobody', '{}', 0::bigint, 'nothing', 'count_event');
SELECT count(*), (TABLE held) AS held FROM shop WHERE stream = 'nobody';

-- metadata, given ids, schema versions; ids that stand in the stream are a retry
CREATE FUNCTION copy(n bigint, command jsonb) RETURNS immutable.new_event[] LANGUAGE sql STABLE
RETURN (SELECT array_agg(e ORDER BY nr) FROM jsonb_array_elements(command->'events') WITH ORDINALITY a(x, nr), jsonb_populate_record(NULL::immutable.new_event, x) e);
CREATE FUNCTION put(stream text, events jsonb, log regclass DEFAULT 'shop') RETURNS immutable.appended LANGUAGE sql
RETURN immutable.handle(log, stream, jsonb_build_object('events', events), 0::bigint, 'copy', 'count_event');
SET immutable.context = '{"user": "ann", "request": 1}';
SELECT * FROM put('copied', '[{"type": "a", "metadata": {"request": 2}, "id": "018f0000-0000-7000-8000-000000000001", "schema_version": 3}, {"type": "b"}]');
RESET immutable.context;
SELECT version, type, data, metadata, schema_version, id = '018f0000-0000-7000-8000-000000000001' AS given FROM shop WHERE stream = 'copied' ORDER BY version;
SELECT * FROM put('copied', '[{"type": "c"}]');
SELECT * FROM put('copied', '[{"type": "a", "id": "018f0000-0000-7000-8000-000000000001"}, {"type": "b"}]');
SELECT * FROM put('copied', '[{"type": "d"}, {"type": "a", "id": "018f0000-0000-7000-8000-000000000001"}]');
\echo :SQLSTATE
SELECT * FROM put('other', '[{"type": "a", "id": "018f0000-0000-7000-8000-000000000001"}]');
\echo :SQLSTATE
SELECT * FROM put('copied', '[{"type": "a", "id": "018f0000-0000-7000-8000-000000000001"}]', 'loose');
SELECT * FROM put('copied', '[{"type": "a", "id": "018f0000-0000-7000-8000-000000000001"}]', 'loose');
SELECT * FROM put('copied', '[{"type": "a"}, {"data": {}}]');
\echo :SQLSTATE
SELECT * FROM put('copied', '[{"type": "$a"}]');
\echo :SQLSTATE
CREATE FUNCTION hollow(n bigint, command jsonb) RETURNS immutable.new_event[] LANGUAGE sql RETURN '{NULL}'::immutable.new_event[];
SELECT * FROM immutable.handle('shop', 'copied', '{}', 0::bigint, 'hollow', 'count_event');
\echo :SQLSTATE

-- deciders of every kind: SQL that is inlined, polymorphic, with defaults, STABLE; states of every kind
CREATE FUNCTION inlined(n bigint, command jsonb) RETURNS immutable.new_event[] LANGUAGE sql
RETURN ARRAY[ROW('n' || n, command, NULL, NULL, NULL)::immutable.new_event];
CREATE FUNCTION poly(state anyelement, command jsonb, suffix text DEFAULT '!') RETURNS immutable.new_event[] LANGUAGE plpgsql STABLE AS $$
BEGIN
	RETURN ARRAY[ROW(pg_typeof(state)::text || suffix, to_jsonb(ROW(state)), NULL, NULL, NULL)::immutable.new_event];
END $$;
CREATE FUNCTION merge(state jsonb, e immutable.event) RETURNS jsonb LANGUAGE sql IMMUTABLE RETURN state || e.data;
CREATE DOMAIN events AS immutable.new_event[] CHECK (cardinality(value) < 2);
CREATE FUNCTION checked(n bigint, command jsonb) RETURNS events LANGUAGE sql AS 'SELECT array_fill(ROW(''t'', NULL, NULL, NULL, NULL)::immutable.new_event, ARRAY[(command->>''n'')::integer])';
SELECT h.version FROM generate_series(1, 3) i, immutable.handle('shop', 'inlined', jsonb_build_object('i', i), 0::bigint, 'inlined', 'count_event') h;
SELECT h.version FROM immutable.handle('shop', 'poly', '{}', 0::bigint, 'poly', 'count_event') h;
SELECT h.version FROM immutable.handle('shop', 'poly', '{}', NULL::"order", 'poly', 'order_evolve') h;
SELECT h.version FROM immutable.handle('shop', 'poly', '{}', '{"x": 1}'::jsonb, 'poly', 'merge') h;
SELECT h.version FROM immutable.handle('shop', 'poly', '{}', '{"x": 1}'::jsonb, 'poly', 'immutable.merge_patch') h;
SELECT h.version FROM immutable.handle('shop', 'poly', '{"n": 1}', 0::bigint, 'checked', 'count_event') h;
SELECT h.version FROM immutable.handle('shop', 'poly', '{"n": 2}', 0::bigint, 'checked', 'count_event') h;
\echo :SQLSTATE
SELECT stream, version, type, data FROM shop WHERE stream IN ('inlined', 'poly') ORDER BY position;
-- which functions may depend on the row, and a function that is replaced counts at once
SELECT d, h.version FROM (VALUES ('inlined'::regproc), ('nothing')) v(d), immutable.handle('shop', 'inlined', '{}', 0::bigint, d, 'count_event') h;
PREPARE again AS SELECT immutable.handle('shop', 'inlined', '{}', 0::bigint, 'inlined', 'count_event');
EXECUTE again;
CREATE OR REPLACE FUNCTION inlined(n bigint, command jsonb) RETURNS immutable.new_event[] LANGUAGE sql
RETURN ARRAY[ROW('replaced' || n, command, NULL, NULL, NULL)::immutable.new_event];
EXECUTE again;
CREATE OR REPLACE FUNCTION count_event(n bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN n + 100;
EXECUTE again;
SELECT version, type FROM shop WHERE stream = 'inlined' AND version > 4 ORDER BY version;

-- decide may write elsewhere, append to other streams and handle commands there
CREATE TABLE notes (note text);
CREATE FUNCTION outer_decide(n bigint, command jsonb) RETURNS immutable.new_event[] LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO notes VALUES (command->>'note');
	PERFORM immutable.append('shop', 'beside', 't');
	PERFORM immutable.handle('shop', 'below', '{"a": 1}', 0::bigint, 'inlined', 'count_event');
	IF command ? 'raise' THEN
		RAISE EXCEPTION 'rejected' USING ERRCODE = 'OR002';
	END IF;
	RETURN ARRAY[ROW('outer', command, NULL, NULL, NULL)::immutable.new_event];
END $$;
SELECT * FROM immutable.handle('shop', 'outer', '{"note": "one"}', 0::bigint, 'outer_decide', 'count_event');
SELECT * FROM immutable.handle('shop', 'outer', '{"note": "two", "raise": true}', 0::bigint, 'outer_decide', 'count_event');
\echo :SQLSTATE
-- and be caught: what it wrote and locked is gone, and the stream can be appended to
DO $$
BEGIN
	BEGIN
		PERFORM immutable.handle('shop', 'outer', '{"note": "three", "raise": true}', 0::bigint, 'outer_decide', 'count_event');
	EXCEPTION WHEN SQLSTATE 'OR002' THEN
		RAISE NOTICE 'caught, % locks', (TABLE held);
	END;
	PERFORM immutable.handle('shop', 'outer', '{"note": "four"}', 0::bigint, 'outer_decide', 'count_event');
	RAISE NOTICE 'done, % locks', (TABLE held);
END $$;
SELECT stream, version, data FROM shop WHERE stream IN ('outer', 'beside', 'below') ORDER BY position;
TABLE notes;

-- within one transaction, savepoints and isolation levels
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT version FROM "do"('{"type": "PlaceOrder", "orderId": 5}');
SAVEPOINT a;
SELECT version FROM "do"('{"type": "PayOrder", "orderId": 5}');
ROLLBACK TO a;
SELECT version FROM "do"('{"type": "PayOrder", "orderId": 5}');
SELECT version FROM "do"('{"type": "ShipOrder", "orderId": 5}');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT version FROM "do"('{"type": "PlaceOrder", "orderId": 6}');
SELECT version FROM "do"('{"type": "PayOrder", "orderId": 6}');
COMMIT;
SELECT stream, immutable.fold(NULL::"order", 'order_evolve', e) FROM shop e WHERE stream IN ('order-5', 'order-6') GROUP BY stream ORDER BY stream;

RESET ROLE;
DROP FUNCTION "do", put;
SELECT immutable.drop_log(l, force => true) FROM unnest('{shop,wide,loose}'::regclass[]) l;
SET client_min_messages = warning;
DROP SCHEMA handle CASCADE;
DROP ROLE regress_handle;
