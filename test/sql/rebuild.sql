-- rebuild: a read model folded anew, and changed where it differs.
\set SHOW_CONTEXT never
CREATE ROLE regress_rebuild;
CREATE SCHEMA rebuild AUTHORIZATION regress_rebuild;
SET search_path = rebuild;
SET ROLE regress_rebuild;
SELECT immutable.create_log('ledger');
CREATE TABLE balance (
	account text PRIMARY KEY, dropped int, amount bigint NOT NULL DEFAULT 0 CHECK (amount > -10000),
	twice bigint GENERATED ALWAYS AS (amount * 2) STORED, rank bigint UNIQUE, note text);
ALTER TABLE balance DROP COLUMN dropped;
CREATE INDEX ON balance (lower(note)) WHERE note IS NOT NULL;
CREATE FUNCTION apply(r balance, e immutable.event) RETURNS balance LANGUAGE sql STABLE AS $$
	SELECT CASE e.type WHEN 'closed' THEN NULL
		ELSE ROW(r.account, r.amount + (e.data->>'amount')::bigint, NULL, e.position, 'old')::balance END $$;
CREATE FUNCTION apply_new(r balance, e immutable.event) RETURNS balance LANGUAGE sql STABLE AS $$
	SELECT CASE WHEN e.type = 'closed' THEN NULL WHEN r.account = 'a6' THEN NULL
		WHEN r.account IN ('a1', 'a2', 'a4') THEN ROW(r.account, r.amount + 10 * (e.data->>'amount')::bigint, NULL, e.position, 'new')::balance
		ELSE ROW(r.account, r.amount + (e.data->>'amount')::bigint, NULL, e.position, 'old')::balance END $$;
SELECT immutable.create_projection('balance', 'ledger', 'apply');
-- what changes in the read model is noted by a trigger of the user's
CREATE TABLE noted (operation text, account text, amount bigint);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO rebuild.noted VALUES (tg_op, coalesce(new.account, old.account), coalesce(new.amount, old.amount));
	RETURN NULL;
END $$;
CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON balance FOR EACH ROW EXECUTE FUNCTION note();
DO $$ BEGIN
	FOR i IN 1 .. 40 LOOP
		PERFORM immutable.append('ledger', 'a' || i % 8, CASE WHEN i % 37 = 0 THEN 'closed' ELSE 'paid' END, jsonb_build_object('amount', i));
	END LOOP;
END $$;
TRUNCATE noted;
SELECT * FROM balance ORDER BY 1;

-- nothing differs: nothing is touched
CREATE TABLE places AS SELECT account, xmin::text AS written, ctid AS place FROM balance;
CALL immutable.rebuild('balance');
SELECT count(*) FROM (SELECT account, xmin::text, ctid FROM balance EXCEPT SELECT * FROM places) moved;
SELECT * FROM noted;
SELECT * FROM immutable.verify_projection('balance');

-- another reducer: rows and reducer change together. Ranks are unique, so rows are replaced.
CALL immutable.rebuild('balance', 'apply_new');
SELECT * FROM balance ORDER BY 1;
SELECT * FROM noted ORDER BY 2, 1;
SELECT reducer FROM immutable.projections WHERE target = 'balance'::regclass;
SELECT * FROM immutable.verify_projection('balance');
SELECT immutable.append('ledger', 'a1', 'paid', '{"amount": 1}') IS NOT NULL AS appended;
SELECT * FROM balance WHERE account = 'a1';

-- without other unique columns, or with foreign keys, they are updated
ALTER TABLE balance DROP CONSTRAINT balance_rank_key;
TRUNCATE noted;
CALL immutable.rebuild('balance', 'apply');
SELECT * FROM noted ORDER BY 2, 1;
SELECT * FROM balance ORDER BY 1;
CREATE TABLE refers (account text REFERENCES balance);
INSERT INTO refers VALUES ('a1');
CALL immutable.rebuild('balance', 'apply_new');
SELECT * FROM refers;
CREATE FUNCTION apply_none(r balance, e immutable.event) RETURNS balance LANGUAGE sql IMMUTABLE RETURN NULL::balance;
CALL immutable.rebuild('balance', 'apply_none');
\echo :SQLSTATE
SELECT count(*) FROM balance;
SELECT reducer FROM immutable.projections WHERE target = 'balance'::regclass;
DROP TABLE refers;
-- no table stays behind
SELECT relname FROM pg_class WHERE relnamespace = 'rebuild'::regnamespace AND relkind = 'r' ORDER BY 1;

-- an asynchronous one goes on from where the fold ended; its error is cleared
CREATE TABLE days (day date, type text, n bigint DEFAULT 0, PRIMARY KEY (day, type));
CREATE FUNCTION apply_days(r days, e immutable.event) RETURNS days LANGUAGE sql IMMUTABLE
RETURN ROW(r.day, r.type, r.n + 1 / (e.position - 33))::days;
SELECT immutable.create_projection('days', 'ledger', 'apply_days', key => ARRAY['date ''2026-01-01'' + (position / 10)::integer', 'type'], mode => 'async');
SELECT immutable.refresh('days');
RESET ROLE;
SELECT position, error FROM immutable.projection_positions WHERE target = 'days'::regclass;
SET ROLE regress_rebuild;
CREATE FUNCTION apply_days_right(r days, e immutable.event) RETURNS days LANGUAGE sql IMMUTABLE RETURN ROW(r.day, r.type, r.n + 1)::days;
CALL immutable.rebuild('days', 'apply_days_right');
RESET ROLE;
SELECT position, error FROM immutable.projection_positions WHERE target = 'days'::regclass;
SET ROLE regress_rebuild;
SELECT * FROM days ORDER BY 1, 2;
SELECT immutable.append('ledger', 'a1', 'paid', '{"amount": 1}') IS NOT NULL AS appended;
SELECT immutable.refresh('days');
SELECT sum(n) FROM days;
SELECT * FROM immutable.verify_projection('days');

-- exchange of storage: OID, views, privileges, indexes stay
CREATE TABLE document (stream text PRIMARY KEY, body text, twice bigint GENERATED ALWAYS AS (n * 2) STORED, n bigint DEFAULT 0, CHECK (n < 1000));
CREATE INDEX ON document (n DESC, stream) INCLUDE (twice);
CREATE UNIQUE INDEX ON document ((n || stream));
ALTER TABLE document ADD EXCLUDE USING btree (stream WITH =);
CREATE FUNCTION apply_document(r document, e immutable.event) RETURNS document LANGUAGE sql IMMUTABLE
RETURN ROW(r.stream, repeat(md5(e.data::text), 1000), NULL, r.n + 1)::document;
CREATE FUNCTION apply_random(r document, e immutable.event) RETURNS document LANGUAGE sql IMMUTABLE AS $$
	SELECT ROW(r.stream, (SELECT string_agg(md5(i::text || (e.data::text)), '') FROM generate_series(1, 300) i), NULL, r.n + 2)::document $$;
SELECT immutable.create_projection('document', 'ledger', 'apply_document');
CREATE VIEW shown AS SELECT stream, length(body), twice FROM document;
GRANT SELECT ON document TO PUBLIC;
CREATE TABLE ids AS SELECT oid, relname, relfilenode, reltoastrelid FROM pg_class WHERE relname LIKE 'document%' AND relnamespace = 'rebuild'::regnamespace;
CALL immutable.rebuild('document', 'apply_random', swap => true);
SELECT * FROM shown ORDER BY 1;
SELECT relname, c.oid = i.oid AS same_oid, c.relfilenode <> i.relfilenode AS new_file
FROM pg_class c JOIN ids i USING (relname) WHERE relnamespace = 'rebuild'::regnamespace ORDER BY 1;
SELECT t.relname = 'pg_toast_' || c.oid AS named_after, x.relname = 'pg_toast_' || c.oid || '_index' AS index_too, t.relrewrite
FROM pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid JOIN pg_index i ON i.indrelid = t.oid JOIN pg_class x ON x.oid = i.indexrelid
WHERE c.oid = 'document'::regclass;
SELECT count(*) FROM pg_depend WHERE objid = (SELECT reltoastrelid FROM pg_class WHERE oid = 'document'::regclass);
SELECT * FROM immutable.verify_projection('document');
SET enable_seqscan = off;
SELECT stream, length(body), n FROM document WHERE n > 8 ORDER BY n DESC, stream LIMIT 1;
RESET enable_seqscan;
SELECT immutable.append('ledger', s, 'paid', '{"amount": 1}') IS NOT NULL AS appended FROM unnest('{a1,new}'::text[]) s;
SELECT * FROM shown ORDER BY 1;
SELECT * FROM immutable.verify_projection('document');
CALL immutable.rebuild('document', 'apply_document', swap => true);
CALL immutable.rebuild('document', swap => true);
SELECT * FROM immutable.verify_projection('document');
VACUUM document;
SELECT * FROM shown ORDER BY 1;

-- an empty log, a key that no event has, fan-out, and memory for a few rows only
SELECT immutable.create_log('tags');
CREATE TABLE tagged (tag text PRIMARY KEY, n bigint DEFAULT 0, filler text);
CREATE FUNCTION apply_tag(r tagged, e immutable.event) RETURNS tagged LANGUAGE sql IMMUTABLE RETURN ROW(r.tag, r.n + 1, repeat('x', 2000))::tagged;
CREATE FUNCTION apply_tag_twice(r tagged, e immutable.event) RETURNS tagged LANGUAGE sql IMMUTABLE RETURN ROW(r.tag, r.n + 2, r.filler)::tagged;
SELECT immutable.create_projection('tagged', 'tags', 'apply_tag', commutative => true,
	key => ARRAY['string_to_array(data->>''tags'', '','')']);
CALL immutable.rebuild('tagged');
CALL immutable.rebuild('tagged', swap => true);
SELECT count(*) FROM (SELECT immutable.append('tags', 's' || i % 3, 't', jsonb_build_object('tags', concat_ws(',', i % 500, 'all', 'all', NULL, i % 7))) FROM generate_series(1, 1000) i) a;
SELECT count(*), sum(n) FROM tagged;
SET work_mem = '64kB';
SET maintenance_work_mem = '1MB';
SET hash_mem_multiplier = 1;
CALL immutable.rebuild('tagged', 'apply_tag_twice');
SELECT count(*), sum(n), count(filler) FROM tagged;
CALL immutable.rebuild('tagged', 'apply_tag', swap => true);
SELECT count(*), sum(n), count(filler) FROM tagged;
SELECT * FROM immutable.verify_projection('tagged');
RESET work_mem;
RESET maintenance_work_mem;
RESET hash_mem_multiplier;

-- events that are skipped stay so; old events are upcast; a partitioned read model
RESET ROLE;
INSERT INTO immutable.skipped_events VALUES ('tagged', 10, 'a test', default, 'x', 'x');
SET ROLE regress_rebuild;
CALL immutable.rebuild('tagged');
SELECT count(*), sum(n) FROM tagged;
CREATE TABLE parts (stream text PRIMARY KEY, n bigint DEFAULT 0, last text) PARTITION BY HASH (stream);
CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (modulus 2, remainder 0);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES WITH (modulus 2, remainder 1);
CREATE FUNCTION apply_parts(r parts, e immutable.event) RETURNS parts LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	r.n := r.n + 1;
	r.last := e.type;
	RETURN r;
END $$;
SELECT immutable.create_projection('parts', 'tags', 'apply_parts');
CREATE FUNCTION rename(e immutable.event) RETURNS immutable.event LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	e.type := 'renamed';
	e.schema_version := 2;
	RETURN e;
END $$;
SELECT immutable.add_upcaster('tags', 't', 1, 'rename');
SELECT * FROM immutable.verify_projection('parts') ORDER BY key->>'stream';
CALL immutable.rebuild('parts');
SELECT * FROM parts ORDER BY 1;
SELECT * FROM immutable.verify_projection('parts');
SELECT relname FROM pg_class WHERE relnamespace = 'rebuild'::regnamespace AND relkind IN ('r', 'p') ORDER BY 1;

-- whatever isolation the session prefers
SET default_transaction_isolation = serializable;
CALL immutable.rebuild('balance', 'apply');
SELECT * FROM immutable.verify_projection('balance');
RESET default_transaction_isolation;
SELECT * FROM immutable.rebuild_progress;

SELECT immutable.drop_projection(p) FROM unnest('{balance,days,document,tagged,parts}'::regclass[]) p;
RESET ROLE;
SELECT immutable.drop_log(l, force => true) FROM unnest('{ledger,tags}'::regclass[]) l;
SET client_min_messages = warning;
DROP SCHEMA rebuild CASCADE;
DROP ROLE regress_rebuild;
