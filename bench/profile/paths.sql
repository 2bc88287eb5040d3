CREATE EXTENSION immutable_events
SELECT immutable.create_log('log'), immutable.create_log('projected')
CREATE FUNCTION event() RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$SELECT '{"amount": 10, "by": "ann", "currency": "EUR", "reference": "invoice 2026-1", "account": "DE02120300000000202051", "note": "paid by transfer"}'::jsonb$$
CREATE FUNCTION loop_append(log regclass, n int) RETURNS void LANGUAGE plpgsql AS $$BEGIN FOR i IN 1..n LOOP PERFORM immutable.append(log, 'account-' || i % 1000, 'deposited', event()); END LOOP; END$$
CREATE FUNCTION loop_batch(log regclass, n int) RETURNS void LANGUAGE plpgsql AS $$DECLARE e immutable.new_event[] := (SELECT array_agg(ROW('deposited', event(), NULL, NULL, NULL)::immutable.new_event) FROM generate_series(1, 1000)); BEGIN FOR i IN 1..n LOOP PERFORM immutable.append_batch(log, 'batch-' || i, e); END LOOP; END$$
CREATE TABLE bare (position bigserial PRIMARY KEY, recorded_at timestamptz NOT NULL, version bigint NOT NULL, id uuid NOT NULL UNIQUE, schema_version integer NOT NULL, stream text COLLATE "C" NOT NULL, type text COLLATE "C" NOT NULL, data jsonb NOT NULL, metadata jsonb NOT NULL, UNIQUE (stream, version))
CREATE FUNCTION loop_insert(n int) RETURNS void LANGUAGE plpgsql AS $$BEGIN FOR i IN 1..n LOOP INSERT INTO bare (recorded_at, version, id, schema_version, stream, type, data, metadata) VALUES (clock_timestamp(), nextval('bare_position_seq'), ('10000000-0000-7000-8000-' || lpad(to_hex(nextval('bare_position_seq')), 12, '0'))::uuid, 1, 'account-' || i % 1000, 'deposited', event(), '{}'); END LOOP; END$$
CREATE TYPE account AS (amount bigint, entries bigint)
CREATE FUNCTION apply(state account, event immutable.event) RETURNS account LANGUAGE sql IMMUTABLE AS $$SELECT CASE event.type WHEN 'deposited' THEN ROW(coalesce(state.amount, 0) + (event.data->>'amount')::bigint, coalesce(state.entries, 0) + 1)::account ELSE state END$$
CREATE TABLE balance (stream text PRIMARY KEY, amount bigint NOT NULL, entries bigint NOT NULL)
CREATE FUNCTION apply_balance(state balance, event immutable.event) RETURNS balance LANGUAGE sql IMMUTABLE AS $$SELECT ROW(event.stream, coalesce(state.amount, 0) + (event.data->>'amount')::bigint, coalesce(state.entries, 0) + 1)::balance$$
SELECT immutable.create_projection('balance', 'projected', 'apply_balance')
SELECT immutable.create_log('feed')
CREATE TABLE by_hand (LIKE balance INCLUDING ALL)
CREATE TABLE refreshed (LIKE balance INCLUDING ALL)
CREATE FUNCTION apply_refreshed(state refreshed, event immutable.event) RETURNS refreshed LANGUAGE sql IMMUTABLE AS $$SELECT ROW(event.stream, coalesce(state.amount, 0) + (event.data->>'amount')::bigint, coalesce(state.entries, 0) + 1)::refreshed$$
SELECT immutable.create_projection('refreshed', 'feed', 'apply_refreshed', mode => 'async')
CREATE TABLE triggering (stream text, data jsonb)
CREATE TABLE upserted (stream text PRIMARY KEY, amount bigint NOT NULL, entries bigint NOT NULL)
CREATE FUNCTION upsert() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO upserted AS b VALUES (NEW.stream, (NEW.data->>'amount')::bigint, 1) ON CONFLICT (stream) DO UPDATE SET amount = b.amount + excluded.amount, entries = b.entries + 1; RETURN NULL; END$$
CREATE TRIGGER upsert AFTER INSERT ON triggering FOR EACH ROW EXECUTE FUNCTION upsert()
CREATE FUNCTION loop_trigger(n int) RETURNS void LANGUAGE plpgsql AS $$BEGIN FOR i IN 1..n LOOP INSERT INTO triggering VALUES ('account-' || i % 1000, event()); END LOOP; END$$
CREATE TABLE product (id bigint PRIMARY KEY, name text, price numeric, quantity integer, changed_at timestamptz DEFAULT now())
CREATE TABLE audited (LIKE product INCLUDING ALL)
CREATE TABLE versioned (LIKE product INCLUDING ALL)
CREATE TABLE audit_changes (id bigserial PRIMARY KEY, at timestamptz NOT NULL, who name NOT NULL, operation text NOT NULL, old jsonb, new jsonb)
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO audit_changes (at, who, operation, old, new) VALUES (now(), session_user, TG_OP, CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END, CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END); RETURN NULL; END$$
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON audited FOR EACH ROW EXECUTE FUNCTION audit()
CREATE TABLE noted (id bigserial PRIMARY KEY, note text)
CREATE TABLE protected (id bigserial PRIMARY KEY, note text)
SELECT immutable.protect('protected')
INSERT INTO product SELECT i, 'product ' || i, i * 1.5, i FROM generate_series(1, 10000) i
INSERT INTO audited SELECT * FROM product
INSERT INTO versioned SELECT * FROM product
DO $$BEGIN IF to_regproc('immutable.add_versioning') IS NOT NULL THEN EXECUTE 'SELECT immutable.add_versioning(''versioned'')'; END IF; END$$
CREATE FUNCTION loop_update(t text, n int) RETURNS void LANGUAGE plpgsql AS $$BEGIN FOR i IN 1..n LOOP IF t = 'product' THEN UPDATE product SET quantity = quantity + 1 WHERE id = i; ELSIF t = 'audited' THEN UPDATE audited SET quantity = quantity + 1 WHERE id = i; ELSE UPDATE versioned SET quantity = quantity + 1 WHERE id = i; END IF; END LOOP; END$$
SELECT loop_append('log', 30000), loop_append('feed', 30000), loop_append('projected', 1000), loop_insert(30000), loop_trigger(1000), loop_update('product', 1000), loop_update('audited', 1000), loop_update('versioned', 1000)
INSERT INTO noted (note) SELECT 'note' FROM generate_series(1, 1000)
INSERT INTO protected (note) SELECT 'note' FROM generate_series(1, 1000)
VACUUM ANALYZE
