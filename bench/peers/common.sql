-- In every peer's database: the event that all of them write, about 150 bytes.
SET client_min_messages = warning;
CREATE SCHEMA bench;
CREATE FUNCTION bench.data(n integer) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
	SELECT format('{"amount": %s, "currency": "EUR", "account": "DE02120300000000202051", "reference": "invoice 2026-%s", "by": "ann", "note": "paid by transfer"}', n % 1000, n % 10000)::jsonb
$$;

-- The relations that hold events, for their size; each peer fills it.
CREATE TABLE bench.stored (relation regclass);
CREATE FUNCTION bench.table_bytes() RETURNS bigint LANGUAGE sql AS
$$ SELECT sum(pg_table_size(relation)) FROM bench.stored $$;
CREATE FUNCTION bench.index_bytes() RETURNS bigint LANGUAGE sql AS
$$ SELECT sum(pg_indexes_size(relation)) FROM bench.stored $$;
-- Bytes of WAL since an address.
CREATE FUNCTION bench.wal_since(start pg_lsn) RETURNS bigint LANGUAGE sql AS
$$ SELECT (pg_current_wal_insert_lsn() - start)::bigint $$;

-- What consumers measure: positions, and when a reader had them.
CREATE UNLOGGED TABLE bench.received (position bigint, at timestamptz);
CREATE TABLE bench.balance (stream text PRIMARY KEY, amount bigint NOT NULL, entries bigint NOT NULL);
