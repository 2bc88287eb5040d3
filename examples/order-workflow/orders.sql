-- An order workflow: command → event → stream → projection.
--
--   createdb orders && psql -d orders -v ON_ERROR_STOP=1 -f orders.sql
--
-- orders.py is an application that uses it.

CREATE EXTENSION IF NOT EXISTS immutable_events;
SELECT immutable.create_log('shop');
SELECT immutable.enable_commands('shop');	-- a command with an id is handled once

CREATE TYPE purchase AS (status text, amount numeric);

-- what an event means
CREATE FUNCTION order_evolve(state purchase, event immutable.event)
RETURNS purchase LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE event.type
		WHEN 'OrderPlaced' THEN ROW('placed', (event.data->>'amount')::numeric)::purchase
		WHEN 'OrderPaid' THEN ROW('paid', state.amount)::purchase
		WHEN 'OrderCancelled' THEN ROW('cancelled', state.amount)::purchase
		WHEN 'OrderShipped' THEN ROW('shipped', state.amount)::purchase
		ELSE state
	END
$$;

-- what follows from a command: which one is allowed in which status, as data
CREATE TABLE order_rules (command text PRIMARY KEY, status text NOT NULL, event text NOT NULL);
INSERT INTO order_rules VALUES
	('PlaceOrder', 'new', 'OrderPlaced'),
	('PayOrder', 'placed', 'OrderPaid'),
	('CancelOrder', 'placed', 'OrderCancelled'),
	('ShipOrder', 'paid', 'OrderShipped');

CREATE FUNCTION order_decide(state purchase, command jsonb)
RETURNS immutable.new_event[] LANGUAGE plpgsql STABLE AS $$
DECLARE
	status text := coalesce(state.status, 'new');
	rule order_rules;
BEGIN
	SELECT * INTO rule FROM order_rules r WHERE r.command = order_decide.command->>'type';
	IF NOT FOUND THEN
		RAISE EXCEPTION 'unknown command %', command->>'type' USING ERRCODE = 'OR000';
	ELSIF rule.status <> status THEN
		RAISE EXCEPTION 'cannot %: the order is %', rule.command, status USING ERRCODE = 'OR001';
	END IF;
	RETURN ARRAY[ROW(rule.event, command - 'type', NULL, NULL, NULL)::immutable.new_event];
END
$$;

-- The one function that the application calls, so that it need not know which
-- types and functions there are.
CREATE FUNCTION handle_order(order_id integer, command jsonb, command_id uuid)
RETURNS immutable.appended LANGUAGE sql AS $$
	SELECT immutable.handle('shop', 'order-' || order_id, command,
		NULL::purchase, 'order_decide', 'order_evolve', command_id => command_id)
$$;

-- the read model, current when the command returns
CREATE TABLE orders (
	order_id text PRIMARY KEY,
	status text NOT NULL DEFAULT 'placed',
	amount numeric,
	changed_at timestamptz
);
CREATE INDEX ON orders (status);
CREATE FUNCTION orders_apply(r orders, e immutable.event)
RETURNS orders LANGUAGE sql IMMUTABLE AS $$
	SELECT r.order_id,
		CASE e.type WHEN 'OrderPaid' THEN 'paid' WHEN 'OrderCancelled' THEN 'cancelled'
			WHEN 'OrderShipped' THEN 'shipped' ELSE r.status END,
		coalesce((e.data->>'amount')::numeric, r.amount), e.recorded_at
$$;
SELECT immutable.create_projection('orders', 'shop', 'orders_apply', stream_prefix => 'order-');

-- who ships what has been paid
SELECT immutable.create_consumer('shipping', 'shop', types => '{OrderPaid}', after_position => 0);
