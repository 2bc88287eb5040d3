-- What create_projection and its like refuse, and what an append meets.
CREATE ROLE regress_perrors;
CREATE ROLE regress_perrors_other;
CREATE SCHEMA projection_errors AUTHORIZATION regress_perrors;
GRANT USAGE ON SCHEMA projection_errors TO regress_perrors_other;
SET search_path = projection_errors;
SET ROLE regress_perrors;
\set VERBOSITY terse
SELECT immutable.create_log('ledger');
CREATE TABLE model (stream text PRIMARY KEY, n bigint NOT NULL DEFAULT 0, CHECK (n < 3));
CREATE FUNCTION reduce(r model, e immutable.event) RETURNS model LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE e.type WHEN 'key' THEN ROW('x', 1)::model WHEN 'nokey' THEN ROW(NULL, 1)::model WHEN 'null' THEN ROW(r.stream, NULL)::model
	ELSE ROW(r.stream, r.n + 1)::model END $$;
CREATE FUNCTION careless(r model, e immutable.event) RETURNS model LANGUAGE sql VOLATILE AS 'SELECT r';
CREATE FUNCTION other(r jsonb, e immutable.event) RETURNS jsonb LANGUAGE sql IMMUTABLE AS 'SELECT r';
CREATE FUNCTION forbidden(r model, e immutable.event) RETURNS model LANGUAGE sql IMMUTABLE AS 'SELECT r';
REVOKE EXECUTE ON FUNCTION forbidden FROM PUBLIC, regress_perrors;

-- arguments
SELECT immutable.create_projection(NULL, 'ledger', 'reduce');
\echo :SQLSTATE
SELECT immutable.create_projection('model', NULL, 'reduce');
\echo :SQLSTATE
SELECT immutable.create_projection('model', 'ledger', NULL);
\echo :SQLSTATE
SELECT immutable.create_projection('model', 'ledger', 'reduce', key => NULL);
\echo :SQLSTATE
SELECT immutable.create_projection('model', 'ledger', 'reduce', mode => NULL);
\echo :SQLSTATE
SELECT immutable.create_projection('model', 'ledger', 'reduce', mode => 'sometimes');
\echo :SQLSTATE
SELECT immutable.create_projection('model', 'ledger', 'reduce', commutative => NULL);
\echo :SQLSTATE
SELECT immutable.create_projection('model', 'ledger', 'careless');
\echo :SQLSTATE
SELECT immutable.create_projection('model', 'ledger', 'other');
\echo :SQLSTATE
SELECT immutable.create_projection('model', 'ledger', 'forbidden');
\echo :SQLSTATE
SELECT immutable.create_projection('model', 'ledger', 'clock_timestamp');
\echo :SQLSTATE
SELECT immutable.create_projection('model', 'ledger', 0);
\echo :SQLSTATE
SELECT immutable.create_projection('model', 'ledger', 1);
\echo :SQLSTATE
SELECT immutable.create_projection('model', 'model', 'reduce');
\echo :SQLSTATE
SELECT immutable.create_projection(0, 'ledger', 'reduce');
\echo :SQLSTATE

-- tables
CREATE VIEW view AS SELECT * FROM model;
SELECT immutable.create_projection('view', 'ledger', 'reduce');
\echo :SQLSTATE
SELECT immutable.create_projection('ledger', 'ledger', 'reduce');
\echo :SQLSTATE
CREATE UNLOGGED TABLE unlogged (stream text PRIMARY KEY);
SELECT immutable.create_projection('unlogged', 'ledger', 'reduce');
\echo :SQLSTATE
CREATE TEMP TABLE temporary (stream text PRIMARY KEY);
SELECT immutable.create_projection('temporary', 'ledger', 'reduce');
\echo :SQLSTATE
CREATE TABLE parent (stream text PRIMARY KEY);
CREATE TABLE child (n int, PRIMARY KEY (stream)) INHERITS (parent);
SELECT immutable.create_projection('parent', 'ledger', 'reduce');
\echo :SQLSTATE
SELECT immutable.create_projection('child', 'ledger', 'reduce');
\echo :SQLSTATE
CREATE TABLE ruled (stream text PRIMARY KEY);
CREATE RULE nothing AS ON INSERT TO ruled DO INSTEAD NOTHING;
SELECT immutable.create_projection('ruled', 'ledger', 'reduce');
\echo :SQLSTATE
CREATE TABLE forced (stream text PRIMARY KEY);
ALTER TABLE forced FORCE ROW LEVEL SECURITY;
SELECT immutable.create_projection('forced', 'ledger', 'reduce');
\echo :SQLSTATE
INSERT INTO model VALUES ('a');
SELECT immutable.create_projection('model', 'ledger', 'reduce');
\echo :SQLSTATE
TRUNCATE model;
SELECT immutable.create_projection('immutable.consumers', 'ledger', 'reduce');
\echo :SQLSTATE

-- rights
SET ROLE regress_perrors_other;
SELECT immutable.create_projection('model', 'ledger', 'reduce');
\echo :SQLSTATE
SET ROLE regress_perrors;
GRANT CREATE ON SCHEMA projection_errors TO regress_perrors_other;
SET ROLE regress_perrors_other;
CREATE TABLE own (stream text PRIMARY KEY, n bigint DEFAULT 0);
CREATE FUNCTION own(r own, e immutable.event) RETURNS own LANGUAGE sql IMMUTABLE AS 'SELECT r.stream, r.n + 1';
SELECT immutable.create_projection('own', 'ledger', 'own');
\echo :SQLSTATE
SET ROLE regress_perrors;
GRANT SELECT ON ledger TO regress_perrors_other;
SET ROLE regress_perrors_other;
SELECT immutable.create_projection('own', 'ledger', 'own');
\echo :SQLSTATE
SELECT immutable.create_projection('own', 'ledger', 'own', mode => 'async');
SELECT immutable.set_projection_mode('own', 'inline');
\echo :SQLSTATE
SET ROLE regress_perrors;
GRANT TRIGGER ON ledger TO regress_perrors_other;
SET ROLE regress_perrors_other;
SELECT immutable.set_projection_mode('own', 'inline');
SET ROLE regress_perrors;
SELECT immutable.append('ledger', 'a', 'counted');
SELECT immutable.drop_projection('own');
\echo :SQLSTATE
SELECT immutable.set_projection_mode('own', 'async');
\echo :SQLSTATE
SELECT immutable.refresh('own');
\echo :SQLSTATE
SET ROLE regress_perrors_other;
TABLE own;
SELECT immutable.drop_projection('own');
SET ROLE regress_perrors;

-- it is one already, and then none
SELECT immutable.create_projection('model', 'ledger', 'reduce');
SELECT immutable.create_projection('model', 'ledger', 'reduce');
\echo :SQLSTATE
SELECT immutable.set_projection_mode('model', NULL);
\echo :SQLSTATE
SELECT immutable.set_projection_mode(NULL, 'inline');
\echo :SQLSTATE
SELECT immutable.refresh('model', 0);
\echo :SQLSTATE
SELECT immutable.refresh(NULL);
\echo :SQLSTATE
BEGIN READ ONLY;
SELECT immutable.refresh('model');
\echo :SQLSTATE
ROLLBACK;
SET default_transaction_read_only = on;
SELECT immutable.create_projection('model', 'ledger', 'int8inc');
\echo :SQLSTATE
SELECT immutable.set_projection_mode('model', 'async');
\echo :SQLSTATE
SELECT immutable.skip_event('model', 1, 'reason');
\echo :SQLSTATE
CALL immutable.catch_up('model');
\echo :SQLSTATE
SELECT immutable.drop_projection('model');
\echo :SQLSTATE
RESET default_transaction_read_only;

-- a reducer that does what it must not
\set VERBOSITY default
SELECT immutable.append('ledger', 'b', 'key');
\echo :SQLSTATE
SELECT immutable.append('ledger', 'b', 'nokey');
\echo :SQLSTATE
SELECT immutable.append('ledger', 'b', 'null');
\echo :SQLSTATE
SELECT immutable.append('ledger', 'a', 'counted');
SELECT immutable.append('ledger', 'a', 'counted');
\echo :SQLSTATE
SELECT immutable.append_batch('ledger', 'c', ARRAY[('counted', NULL, NULL, NULL, NULL), ('null', NULL, NULL, NULL, NULL), ('counted', NULL, NULL, NULL, NULL)]::immutable.new_event[]);
TABLE model;
-- one that is gone, and a column that it does not know of
CREATE OR REPLACE FUNCTION reduce(r model, e immutable.event) RETURNS model LANGUAGE sql IMMUTABLE AS
$$ SELECT ROW(r.stream, r.n)::model $$;
ALTER TABLE model ADD COLUMN more integer;
SELECT immutable.append('ledger', 'a', 'counted');
\echo :SQLSTATE
CREATE OR REPLACE FUNCTION reduce(r model, e immutable.event) RETURNS model LANGUAGE sql IMMUTABLE AS
$$ SELECT ROW(r.stream, r.n, 7)::model $$;
SELECT immutable.append('ledger', 'a', 'counted');
TABLE model;
-- a foreign key may keep the append from succeeding, and nothing else
CREATE TABLE referring (stream text REFERENCES model);
INSERT INTO referring VALUES ('a');
CREATE OR REPLACE FUNCTION reduce(r model, e immutable.event) RETURNS model LANGUAGE sql IMMUTABLE AS
$$ SELECT NULL::model $$;
SELECT immutable.append('ledger', 'a', 'counted');
\echo :SQLSTATE
TRUNCATE model CASCADE;
\echo :SQLSTATE
DROP TABLE referring;
SELECT immutable.append('ledger', 'a', 'counted');
TABLE model;

\set VERBOSITY terse
SELECT immutable.drop_projection('model');
SELECT immutable.drop_projection('model');
\echo :SQLSTATE
SELECT immutable.drop_projection(NULL);
\echo :SQLSTATE
SELECT immutable.drop_projection(0);
\echo :SQLSTATE
SELECT immutable.refresh('model');
\echo :SQLSTATE
SELECT immutable.set_projection_mode('model', 'inline');
\echo :SQLSTATE

-- the trigger functions, called otherwise
RESET ROLE;
SELECT immutable._project();
\echo :SQLSTATE
CREATE TABLE plain (n int);
CREATE TRIGGER t BEFORE INSERT ON plain FOR EACH ROW EXECUTE FUNCTION immutable._project();
INSERT INTO plain VALUES (1);
\echo :SQLSTATE
SELECT immutable.drop_log('ledger', force => true);
SET client_min_messages = warning;
DROP TABLE plain, temporary;
DROP SCHEMA projection_errors CASCADE;
DROP ROLE regress_perrors, regress_perrors_other;
