-- guard_ddl_log: what append relies on is not for the owner of a log to alter.
\set SHOW_CONTEXT never
\set VERBOSITY sqlstate
SET client_min_messages = warning;
CREATE ROLE regress_ddl_log;
CREATE SCHEMA guard_ddl_log AUTHORIZATION regress_ddl_log;
SET search_path = guard_ddl_log;
SET ROLE regress_ddl_log;
SELECT immutable.create_log('ledger'), immutable.create_log('wide', 2);
SELECT (immutable.append(l, s, 'happened', jsonb_build_object('n', n))).position
FROM unnest('{ledger,wide}'::regclass[]) l, unnest('{a,b,c}'::text[]) s, generate_series(1, 2) n
ORDER BY l::text, s, n;
CREATE VIEW checksum AS SELECT md5(string_agg(e, '|' ORDER BY e)) AS rows
	FROM (SELECT l::text FROM ledger l UNION ALL SELECT w::text FROM wide w) x(e);
CREATE VIEW definition AS SELECT md5(string_agg(line, '|' ORDER BY line)) AS text FROM (
	SELECT tgrelid || pg_get_triggerdef(oid) || tgenabled::text FROM pg_trigger
		WHERE tgrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'guard_ddl_log'::regnamespace)
	UNION ALL SELECT conrelid || conname || pg_get_constraintdef(oid) FROM pg_constraint
		WHERE connamespace = 'guard_ddl_log'::regnamespace
	UNION ALL SELECT adrelid || pg_get_expr(adbin, adrelid) FROM pg_attrdef
		WHERE adrelid IN ('ledger'::regclass, 'wide'::regclass)
	UNION ALL SELECT attrelid || attname || attnotnull FROM pg_attribute
		WHERE attrelid IN ('ledger'::regclass, 'wide'::regclass, 'wide_p0'::regclass)
	UNION ALL SELECT s::text FROM pg_sequence s
	UNION ALL SELECT d::text FROM pg_depend d WHERE objid = 'ledger_position_seq'::regclass
) x(line);
SELECT rows AS before FROM checksum \gset
SELECT text AS defined FROM definition \gset

-- constraints, defaults and NOT NULL, on the log and on a leaf
ALTER TABLE ledger DROP CONSTRAINT ledger_pkey;
ALTER TABLE ledger DROP CONSTRAINT IF EXISTS ledger_stream_version_key CASCADE;
ALTER TABLE ledger DROP CONSTRAINT ledger_id_key;
ALTER TABLE wide DROP CONSTRAINT wide_pkey;
ALTER TABLE wide_p0 DROP CONSTRAINT wide_p0_pkey;
ALTER TABLE ledger ALTER COLUMN position DROP DEFAULT;
ALTER TABLE ledger ALTER COLUMN position SET DEFAULT 1;
ALTER TABLE ledger ALTER COLUMN data SET DEFAULT '{}';
ALTER TABLE wide_p0 ALTER COLUMN position SET DEFAULT 1;
ALTER TABLE ledger ALTER COLUMN metadata DROP NOT NULL;
ALTER TABLE wide ALTER COLUMN metadata DROP NOT NULL;
ALTER TABLE wide_p0 ALTER COLUMN metadata DROP NOT NULL;
ALTER TABLE ledger ALTER COLUMN position ADD GENERATED ALWAYS AS IDENTITY;
ALTER TABLE ledger ALTER COLUMN position SET GENERATED ALWAYS;
ALTER TABLE ledger ALTER COLUMN position DROP IDENTITY;
ALTER TABLE ledger ALTER COLUMN position DROP EXPRESSION;

-- the columns and the type
ALTER TABLE ledger NOT OF;
ALTER TABLE ledger OF immutable.event;
ALTER TABLE ledger RENAME COLUMN data TO metadata;
ALTER TABLE ledger DROP COLUMN metadata;
ALTER TABLE ledger ALTER COLUMN data TYPE jsonb USING '{}';
ALTER TABLE wide_p0 ALTER COLUMN data TYPE jsonb USING '{}';
ALTER TABLE ledger ADD COLUMN extra text DEFAULT 'forged';
ALTER TABLE ledger ADD COLUMN extra text;
ALTER TABLE wide_p0 ADD COLUMN extra text;
ALTER TABLE ledger SET UNLOGGED;
CREATE RULE swallow AS ON INSERT TO ledger DO INSTEAD NOTHING;
CREATE RULE swallow AS ON INSERT TO wide_p0 DO INSTEAD NOTHING;
ALTER TABLE ledger DISABLE TRIGGER immutable_guard_row;
ALTER TABLE wide DISABLE TRIGGER immutable_guard_statement;
DROP TRIGGER immutable_guard_row ON wide_p1;
DROP TABLE ledger;
DROP TABLE wide;
DROP TABLE wide_p0;
DROP INDEX ledger_pkey;
DROP INDEX wide_p0_pkey CASCADE;
ALTER INDEX ledger_pkey DEPENDS ON EXTENSION immutable_events;
ALTER INDEX ledger_pkey NO DEPENDS ON EXTENSION immutable_events;
ALTER TABLE wide DETACH PARTITION wide_p0;
ALTER TABLE wide DETACH PARTITION wide_p0 CONCURRENTLY;
ALTER TABLE wide DETACH PARTITION wide_p0 FINALIZE;
CREATE TABLE child () INHERITS (ledger);

-- the sequence
ALTER SEQUENCE ledger_position_seq RESTART;
ALTER SEQUENCE ledger_position_seq INCREMENT -1;
ALTER SEQUENCE ledger_position_seq CACHE 10 CYCLE;
ALTER SEQUENCE IF EXISTS ledger_position_seq AS smallint;
ALTER SEQUENCE ledger_position_seq OWNED BY NONE;
ALTER SEQUENCE wide_position_seq OWNED BY wide.version;
ALTER SEQUENCE ledger_position_seq RENAME TO elsewhere;
ALTER TABLE ledger_position_seq RENAME TO elsewhere;
ALTER SEQUENCE ledger_position_seq SET UNLOGGED;
DROP SEQUENCE ledger_position_seq;
DROP SEQUENCE ledger_position_seq CASCADE;
CREATE SEQUENCE other;
ALTER SEQUENCE other OWNED BY ledger.position;
DROP SEQUENCE IF EXISTS other, wide_position_seq CASCADE;
ALTER SEQUENCE other OWNED BY ledger.version;
ALTER SEQUENCE other RESTART 5;
DROP SEQUENCE other;
ALTER TABLE ledger_position_seq OWNER TO regress_ddl_log;

SELECT rows = :'before' AS unchanged, text = :'defined' AS same_definition FROM checksum, definition;
SELECT count(*) FROM immutable.protected_tables
WHERE armed AND relation IN ('ledger'::regclass, 'wide'::regclass, 'wide_p0'::regclass, 'wide_p1'::regclass);

-- the type of every log is altered by the extension's own scripts only
RESET ROLE;
ALTER TYPE immutable.event ADD ATTRIBUTE extra text CASCADE;
ALTER TYPE immutable.event DROP ATTRIBUTE metadata CASCADE;
ALTER TYPE immutable.event ALTER ATTRIBUTE position TYPE text CASCADE;
ALTER TYPE immutable.event RENAME ATTRIBUTE data TO payload CASCADE;
ALTER TYPE immutable.event RENAME TO fact;
ALTER TYPE immutable.event SET SCHEMA guard_ddl_log;
ALTER TYPE immutable.event OWNER TO regress_ddl_log;
ALTER TABLE immutable.event ADD COLUMN extra text;
ALTER SEQUENCE ledger_position_seq RESTART;
ALTER TABLE ledger NOT OF;
SET ROLE regress_ddl_log;
SELECT rows = :'before' AS unchanged, text = :'defined' AS same_definition FROM checksum, definition;

-- what append does not rely on may change
ALTER TABLE ledger ADD CONSTRAINT short CHECK (length(type) < 100);
CREATE INDEX ledger_type ON ledger (type);
ALTER INDEX ledger_type RENAME TO ledger_t;
DROP INDEX ledger_t;
DROP INDEX wide_position_idx;
ALTER TABLE ledger SET (fillfactor = 90);
ALTER TABLE ledger REPLICA IDENTITY FULL;
ALTER TABLE ledger ENABLE ALWAYS TRIGGER immutable_guard_row;
ALTER TABLE ledger CLUSTER ON ledger_pkey;
CLUSTER ledger;
VACUUM FULL wide;
ALTER TABLE ledger RENAME TO journal;
ALTER TABLE journal RENAME TO ledger;
SELECT rows = :'before' AS unchanged FROM checksum;
SELECT (immutable.append('ledger', 'a', 'happened')).version;
-- a log is appended to and read by its index on position: it can be put back
SELECT (immutable.append('wide', 'a', 'happened')).version;
CREATE INDEX ON wide (position);
SELECT (immutable.append('wide', 'a', 'happened')).version;
-- a constraint that is there has come to stay
ALTER TABLE ledger DROP CONSTRAINT short;

-- a part that joins a log is guarded, and has no rows of its own
CREATE TABLE sparse OF immutable.event (
	position WITH OPTIONS NOT NULL, recorded_at WITH OPTIONS NOT NULL, version WITH OPTIONS NOT NULL,
	id WITH OPTIONS NOT NULL, schema_version WITH OPTIONS NOT NULL, stream WITH OPTIONS NOT NULL,
	type WITH OPTIONS NOT NULL, data WITH OPTIONS NOT NULL, metadata WITH OPTIONS NOT NULL,
	PRIMARY KEY (stream, version)) PARTITION BY HASH (stream);
CREATE INDEX ON sparse (position);
CREATE SEQUENCE sparse_seq OWNED BY sparse.position;
SELECT immutable.protect('sparse');
CREATE TABLE sparse_0 PARTITION OF sparse FOR VALUES WITH (MODULUS 3, REMAINDER 0);
CREATE TABLE forged (LIKE sparse INCLUDING ALL);
INSERT INTO forged SELECT position, recorded_at, version, id, schema_version, s, type, data, metadata
FROM ledger, generate_series(1, 20) n, LATERAL (SELECT n::text) x(s)
WHERE stream = 'b' AND version = 1
	AND satisfies_hash_partition('sparse'::regclass, 3, 1, n::text);
ALTER TABLE sparse ATTACH PARTITION forged FOR VALUES WITH (MODULUS 3, REMAINDER 1);
-- nor when it was protected before
SELECT immutable.protect('forged');
ALTER TABLE sparse ATTACH PARTITION forged FOR VALUES WITH (MODULUS 3, REMAINDER 1);
-- nor by way of a table of parts
CREATE TABLE tree (LIKE sparse INCLUDING ALL) PARTITION BY RANGE (version);
CREATE TABLE tree_1 (LIKE sparse INCLUDING ALL);
INSERT INTO tree_1 SELECT * FROM forged;
ALTER TABLE tree ATTACH PARTITION tree_1 DEFAULT;
ALTER TABLE sparse ATTACH PARTITION tree FOR VALUES WITH (MODULUS 3, REMAINDER 1);
CREATE TABLE empty (LIKE sparse INCLUDING ALL);
ALTER TABLE sparse ATTACH PARTITION empty FOR VALUES WITH (MODULUS 3, REMAINDER 1);
CREATE TABLE sparse_2 PARTITION OF sparse FOR VALUES WITH (MODULUS 3, REMAINDER 2);
SELECT relation, armed, problem FROM immutable.protected_tables
WHERE relation::text ~ '^(sparse|empty|forged|tree)' ORDER BY relation::text COLLATE "C";
SELECT sum(written) FROM generate_series(1, 20) s, immutable.append('sparse', s::text, 'happened');
SELECT count(*), count(DISTINCT tableoid) AS leaves FROM sparse;
INSERT INTO empty SELECT * FROM ledger LIMIT 1;
DELETE FROM empty;
TRUNCATE sparse_2;
DROP TABLE empty;
SELECT (immutable.append('sparse', 'a', 'happened')).version;

RESET ROLE;
DROP VIEW checksum, definition;
SELECT immutable.drop_log('ledger', force => true), immutable.drop_log('wide', force => true);
SELECT immutable.drop_log('sparse', force => true), immutable.unprotect('forged');
DROP SCHEMA guard_ddl_log CASCADE;
DROP ROLE regress_ddl_log;
