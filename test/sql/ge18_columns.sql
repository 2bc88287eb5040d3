-- ge18_columns: what PostgreSQL 18 added to tables, in protected tables and read models.
\set SHOW_CONTEXT never
\set VERBOSITY terse
CREATE ROLE regress_ge18_columns;
CREATE SCHEMA ge18_columns AUTHORIZATION regress_ge18_columns;
SET search_path = ge18_columns;
SET ROLE regress_ge18_columns;

-- virtual generated columns of a protected table: what is computed is no history
CREATE TABLE audit (id integer CONSTRAINT id_is_given NOT NULL, note text, length integer GENERATED ALWAYS AS (length(note)) VIRTUAL);
SELECT immutable.protect('audit');
INSERT INTO audit VALUES (1, 'one');
ALTER TABLE audit ALTER length SET EXPRESSION AS (length(note) + 1);
\echo :SQLSTATE
ALTER TABLE audit DROP COLUMN length;
\echo :SQLSTATE
ALTER TABLE audit ADD COLUMN twice integer GENERATED ALWAYS AS (id * 2) VIRTUAL;
\echo :SQLSTATE
UPDATE audit SET note = 'two' RETURNING old.note, new.note;
\echo :SQLSTATE
SELECT * FROM audit;

-- NOT NULL is a constraint with a name
ALTER TABLE audit DROP CONSTRAINT id_is_given;
\echo :SQLSTATE
SELECT immutable.create_log('ledger');
SELECT conname FROM pg_constraint WHERE conrelid = 'ledger'::regclass AND contype = 'n' ORDER BY conname COLLATE "C";
ALTER TABLE ledger DROP CONSTRAINT ledger_data_not_null;
\echo :SQLSTATE

-- read models: virtual columns are computed
CREATE TABLE model (stream text PRIMARY KEY, n bigint NOT NULL DEFAULT 0, twice bigint GENERATED ALWAYS AS (n * 2) VIRTUAL);
CREATE FUNCTION count_events(r model, e immutable.event) RETURNS model LANGUAGE plpgsql IMMUTABLE AS 'BEGIN r.n := r.n + 1; RETURN r; END';
SELECT immutable.create_projection('model', 'ledger', 'count_events');
SELECT immutable.append('ledger', 's', 't') FROM generate_series(1, 3);
SELECT * FROM model;
CALL immutable.rebuild('model');
CALL immutable.rebuild('model', swap => true);
SELECT * FROM immutable.verify_projection('model');
SELECT immutable.append('ledger', 's', 't');
SELECT * FROM model;
-- ids are as uuidv7() makes them
SELECT uuid_extract_version(id), abs(extract(epoch FROM uuid_extract_timestamp(id) - recorded_at)) < 1 AS its_time FROM ledger WHERE version = 1;
CREATE TABLE booked (room int4range, during int4range, n bigint DEFAULT 0, PRIMARY KEY (room, during WITHOUT OVERLAPS));
CREATE FUNCTION book(r booked, e immutable.event) RETURNS booked LANGUAGE sql IMMUTABLE AS 'SELECT r';
SELECT immutable.create_projection('booked', 'ledger', 'book', '{"''[1,2)''::int4range", "''[1,2)''::int4range"}', mode => 'async');
\echo :SQLSTATE

RESET ROLE;
SET client_min_messages = warning;
SELECT immutable.drop_projection('model'), immutable.unprotect('audit'), immutable.drop_log('ledger', force => true);
DROP SCHEMA ge18_columns CASCADE;
DROP ROLE regress_ge18_columns;
