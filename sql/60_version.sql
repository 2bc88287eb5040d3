-- Versioned rows: every version of every row of an ordinary table.

CREATE TABLE immutable.versioned_tables (
	relation regclass PRIMARY KEY,
	versions regclass NOT NULL UNIQUE,
	began_at timestamptz NOT NULL,
	known_since timestamptz NOT NULL,
	complete boolean NOT NULL
);
SELECT pg_catalog.pg_extension_config_dump('immutable.versioned_tables', '');
COMMENT ON TABLE immutable.versioned_tables IS
'registry: tables whose rows are versioned';
COMMENT ON COLUMN immutable.versioned_tables.versions IS
'the protected table that holds every version of every row';
COMMENT ON COLUMN immutable.versioned_tables.began_at IS
'when every change began to be recorded';
COMMENT ON COLUMN immutable.versioned_tables.known_since IS
'how rows were before this time is not known; before began_at by immutable.import_versions';
COMMENT ON COLUMN immutable.versioned_tables.complete IS
'false: immutable.backfill_versions has not recorded all rows that were there before';
GRANT SELECT ON immutable.versioned_tables TO PUBLIC;
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON immutable.versioned_tables
	FOR EACH STATEMENT EXECUTE FUNCTION immutable._registry_changed();
CREATE TRIGGER truncated AFTER TRUNCATE ON immutable.versioned_tables
	FOR EACH STATEMENT EXECUTE FUNCTION immutable._registry_changed();
ALTER TABLE immutable.versioned_tables ENABLE ALWAYS TRIGGER changed;
ALTER TABLE immutable.versioned_tables ENABLE ALWAYS TRIGGER truncated;

CREATE FUNCTION immutable._version() RETURNS trigger
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_version';
COMMENT ON FUNCTION immutable._version() IS
'row trigger of versioned tables: writes what a change has made of a row (55000)';

CREATE FUNCTION immutable._version_truncate() RETURNS trigger
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_version_truncate';
COMMENT ON FUNCTION immutable._version_truncate() IS
'trigger of versioned tables: refuses TRUNCATE with SQLSTATE 23001';

CREATE FUNCTION immutable._known_at(versions regclass, at_time timestamptz) RETURNS boolean
LANGUAGE C STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ie_known_at';
COMMENT ON FUNCTION immutable._known_at(regclass, timestamptz) IS
'true where a version table knows how rows were at a time; else an error (22004, 42809, 55000)';

CREATE FUNCTION immutable._known_between(versions regclass, from_time timestamptz, to_time timestamptz)
RETURNS boolean
LANGUAGE C STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ie_known_between';
COMMENT ON FUNCTION immutable._known_between(regclass, timestamptz, timestamptz) IS
'the same of a period; one from -infinity begins with what is known (22004, 42809, 55000)';

CREATE FUNCTION immutable.add_versioning(target regclass, backfill text DEFAULT 'now') RETURNS regclass
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_add_versioning';
COMMENT ON FUNCTION immutable.add_versioning(regclass, text) IS
'keep every version of every row of a table in the protected table <table>_versions; backfill: now copies the rows under a lock, lazy leaves them to immutable.backfill_versions; the owner may (22004, 22023, 25006, 42501, 42622, 42809, 42P07, 55000)';

CREATE FUNCTION immutable.drop_versioning(target regclass) RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_drop_versioning';
COMMENT ON FUNCTION immutable.drop_versioning(regclass) IS
'stop versioning a table; its version table stays, protected (22004, 42501, 42809)';

CREATE FUNCTION immutable._backfill_versions(
	part regclass, from_block bigint, batch integer, OUT next_block bigint, OUT skipped boolean)
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_backfill_versions';
COMMENT ON FUNCTION immutable._backfill_versions(regclass, bigint, integer) IS
'record the rows of a table or partition from a block on; next_block NULL: all; skipped: some were locked (42501, 55000)';

CREATE FUNCTION immutable._finish_backfill(target regclass) RETURNS void
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_finish_backfill';
COMMENT ON FUNCTION immutable._finish_backfill(regclass) IS
'note that every row of a table has been recorded, if so it is (42501, 55000)';

-- A procedure that commits cannot pin its search_path: all names are qualified.
CREATE PROCEDURE immutable.backfill_versions(target regclass, batch integer DEFAULT 10000)
LANGUAGE plpgsql
AS $$
DECLARE
	part pg_catalog.regclass;
	block pg_catalog.int8;
	step record;
	again boolean;
BEGIN
	IF target IS NULL OR batch IS NULL THEN
		RAISE null_value_not_allowed USING MESSAGE = 'target and batch must not be NULL';
	END IF;
	IF batch OPERATOR(pg_catalog.<) 1 THEN
		RAISE invalid_parameter_value USING MESSAGE = 'batch must be 1 or more';
	END IF;
	PERFORM FROM immutable.versioned_tables t WHERE t.relation OPERATOR(pg_catalog.=) target;
	IF NOT FOUND THEN
		RAISE wrong_object_type USING
			MESSAGE = pg_catalog.format('table %s is not versioned', target),
			HINT = 'Call immutable.add_versioning.';
	END IF;
	FOR part IN
		SELECT c.oid FROM pg_catalog.pg_class c
		WHERE c.relkind OPERATOR(pg_catalog.=) 'r'
			AND (c.oid OPERATOR(pg_catalog.=) target
				OR c.oid OPERATOR(pg_catalog.=) ANY (SELECT p.relid FROM pg_catalog.pg_partition_tree(target) p))
	LOOP
		LOOP
			again := false;
			block := 0;
			WHILE block IS NOT NULL LOOP
				SELECT s.next_block, s.skipped INTO step
				FROM immutable._backfill_versions(part, block, batch) s;
				COMMIT;
				again := again OR step.skipped;
				block := step.next_block;
			END LOOP;
			EXIT WHEN NOT again;
			PERFORM pg_catalog.pg_sleep(0.1);
		END LOOP;
	END LOOP;
	PERFORM immutable._finish_backfill(target);
END
$$;
COMMENT ON PROCEDURE immutable.backfill_versions(regclass, integer) IS
'record the rows that were there before a table was versioned with backfill => ''lazy'', batch rows a transaction; rows that are locked come later; the owner may (22004, 22023, 2D000, 42501, 42809, 55000)';

CREATE FUNCTION immutable.import_versions(target regclass, query text) RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_import_versions';
COMMENT ON FUNCTION immutable.import_versions(regclass, text) IS
'take over history from before versioning: the query gives columns of the table by name, row_start, and if it has them row_end, row_user, row_context; after add_versioning with backfill => ''lazy'' and before backfill_versions; answers how many versions were written; the owner may (22004, 22023, 23502, 25006, 42501, 42804, 55000)';

CREATE FUNCTION immutable._version_key(target regclass, a text, b text) RETURNS text
LANGUAGE C STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ie_version_key';
COMMENT ON FUNCTION immutable._version_key(regclass, text, text) IS
'the condition, as text, that rows a and b of a versioned table have the same key (42809)';

CREATE FUNCTION immutable._version_key_columns(target regclass) RETURNS text
LANGUAGE C STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ie_version_key_columns';
COMMENT ON FUNCTION immutable._version_key_columns(regclass) IS
'the key columns of a versioned table with their types, as text for jsonb_to_record (42809)';

CREATE FUNCTION immutable._row_version(target regclass, key jsonb, version bigint) RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	versions regclass := (SELECT t.versions FROM immutable.versioned_tables t WHERE t.relation = target);
	found jsonb;
BEGIN
	IF target IS NULL OR key IS NULL OR version IS NULL THEN
		RAISE null_value_not_allowed USING MESSAGE = 'target, key and version must not be NULL';
	END IF;
	IF versions IS NULL THEN
		RAISE wrong_object_type USING
			MESSAGE = format('table %s is not versioned', target),
			HINT = 'Call immutable.add_versioning.';
	END IF;
	IF jsonb_typeof(key) <> 'object' THEN
		RAISE invalid_parameter_value USING MESSAGE = 'key must be a JSON object',
			HINT = 'For example: {"id": 1}.';
	END IF;
	EXECUTE format('SELECT to_jsonb(v.*) FROM %s v, jsonb_to_record($1) k(%s) WHERE %s AND v.row_version = $2',
		versions, immutable._version_key_columns(target), immutable._version_key(target, 'v', 'k'))
	INTO found USING key, version;
	IF found IS NULL THEN
		RAISE invalid_parameter_value USING
			MESSAGE = format('table %s has no version %s of key %s', target, version, key),
			HINT = format('%s shows those there are.', versions);
	END IF;
	RETURN found;
END
$$;
COMMENT ON FUNCTION immutable._row_version(regclass, jsonb, bigint) IS
'one version of a row, as JSON (22004, 22023, 42501, 42809)';

CREATE FUNCTION immutable.row_diff(target regclass, key jsonb, from_version bigint, to_version bigint)
RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	WITH both_versions AS (
		SELECT immutable._row_version(row_diff.target, row_diff.key, row_diff.from_version) AS a,
			immutable._row_version(row_diff.target, row_diff.key, row_diff.to_version) AS b
	), a AS (
		SELECT e.key, e.value FROM both_versions d, jsonb_each(d.a) e WHERE d.a->>'row_operation' <> 'D'
	), b AS (
		SELECT e.key, e.value FROM both_versions d, jsonb_each(d.b) e WHERE d.b->>'row_operation' <> 'D'
	)
	SELECT coalesce(jsonb_object_agg(key, jsonb_build_object('from', a.value, 'to', b.value)), '{}')
	FROM a FULL JOIN b USING (key)
	WHERE a.value::text IS DISTINCT FROM b.value::text -- 1.0 is not 1.00
		AND key NOT IN ('row_position', 'row_version', 'row_operation', 'row_start', 'row_xact', 'row_user', 'row_context');
END;
COMMENT ON FUNCTION immutable.row_diff(regclass, jsonb, bigint, bigint) IS
'the columns in which two versions of a row differ: {"column": {"from": ..., "to": ...}}; a tombstone has no columns (22004, 22023, 42501, 42809)';

CREATE FUNCTION immutable.revert_row(target regclass, key jsonb, to_version bigint) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	old_version CONSTANT jsonb := immutable._row_version(target, key, to_version);
	versions CONSTANT regclass := (SELECT t.versions FROM immutable.versioned_tables t WHERE t.relation = target);
	given CONSTANT text := format('jsonb_to_record($1) k(%s)', immutable._version_key_columns(target));
	columns text;
	changes text;
	done bigint;
BEGIN
	IF old_version->>'row_operation' = 'D' THEN
		EXECUTE format('DELETE FROM %s b USING %s WHERE %s', target, given,
			immutable._version_key(target, 'b', 'k')) USING key;
		RETURN;
	END IF;
	SELECT string_agg(quote_ident(a.attname), ', '),
		string_agg(format('%1$I = v.%1$I', a.attname), ', ') FILTER (WHERE a.attidentity <> 'a'
			AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = target AND i.indisprimary AND a.attnum = ANY (i.indkey)))
	INTO columns, changes
	FROM pg_attribute a
	WHERE a.attrelid = target AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '';
	EXECUTE CASE
		WHEN changes IS NULL THEN format('SELECT FROM %s b, %s WHERE %s AND $2 IS NOT NULL', target, given,
			immutable._version_key(target, 'b', 'k'))
		ELSE format('UPDATE %s b SET %s FROM %s v, %s WHERE %s AND %s AND v.row_version = $2', target, changes,
			versions, given, immutable._version_key(target, 'b', 'k'), immutable._version_key(target, 'v', 'k')) END
	USING key, to_version;
	GET DIAGNOSTICS done = ROW_COUNT;
	IF done = 0 THEN
		EXECUTE format('INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM %s v, %s WHERE %s AND v.row_version = $2',
			target, columns, (SELECT string_agg('v.' || quote_ident(a.attname), ', ') FROM pg_attribute a
				WHERE a.attrelid = target AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''),
			versions, given, immutable._version_key(target, 'v', 'k'))
		USING key, to_version;
	END IF;
END
$$;
COMMENT ON FUNCTION immutable.revert_row(regclass, jsonb, bigint) IS
'make a row what it was in one of its versions, as a new version: by UPDATE, INSERT or, for a tombstone, DELETE (22004, 22023, 42501, 42809, and what the table raises)';

CREATE FUNCTION immutable.verify_versions(target regclass) RETURNS TABLE (key jsonb, problem text)
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	versions regclass := (SELECT t.versions FROM immutable.versioned_tables t WHERE t.relation = target);
	complete boolean := (SELECT t.complete FROM immutable.versioned_tables t WHERE t.relation = target);
	keys name[];
	columns name[];
BEGIN
	IF target IS NULL THEN
		RAISE null_value_not_allowed USING MESSAGE = 'target must not be NULL';
	END IF;
	IF versions IS NULL THEN
		RAISE wrong_object_type USING
			MESSAGE = format('table %s is not versioned', target),
			HINT = 'Call immutable.add_versioning.';
	END IF;
	SELECT array_agg(a.attname ORDER BY k.n) INTO keys
	FROM pg_index i, unnest(i.indkey) WITH ORDINALITY k(attnum, n), pg_attribute a
	WHERE i.indrelid = versions AND i.indisprimary AND k.n <= i.indnkeyatts - 2
		AND a.attrelid = versions AND a.attnum = k.attnum;
	SELECT array_agg(a.attname ORDER BY a.attnum) INTO columns
	FROM pg_attribute a WHERE a.attrelid = target AND a.attnum > 0 AND NOT a.attisdropped;
	RETURN QUERY EXECUTE format($query$
		-- any other name may be the table's own: row_position is the version before, row_end whether one follows
		WITH v AS (
			SELECT lag(v.row_version) OVER w AS row_position, v.row_version, v.row_operation,
				lead(v.row_version) OVER w IS NOT NULL AS row_end, %8$s
			FROM %1$s v WINDOW w AS (PARTITION BY %2$s ORDER BY v.row_start, v.row_version)
		)
		SELECT jsonb_build_object(%3$s), 'versions ' || coalesce(v.row_position, 0) || ' and ' || v.row_version || ' follow each other'
		FROM v WHERE v.row_version <> coalesce(v.row_position, 0) + 1
		UNION ALL
		SELECT CASE WHEN v.row_version IS NULL THEN jsonb_build_object(%4$s) ELSE jsonb_build_object(%3$s) END,
			CASE WHEN v.row_version IS NULL THEN 'the row has no version'
				WHEN b.row_end IS NULL THEN 'the row is gone, and its newest version is no tombstone'
				WHEN v.row_operation = 'D' THEN 'the row is there, and its newest version is a tombstone'
				ELSE 'the row differs from its newest version' END
		FROM (SELECT b.*, true AS row_end FROM %5$s b) b FULL JOIN (SELECT v.* FROM v WHERE NOT v.row_end) v ON %6$s
		WHERE CASE WHEN v.row_version IS NULL THEN $1
			WHEN b.row_end IS NULL THEN v.row_operation <> 'D'
			WHEN v.row_operation = 'D' THEN true
			ELSE ROW(%7$s)::record *<> ROW(%8$s)::record END
		ORDER BY 1, 2
		$query$, versions,
		(SELECT string_agg('v.' || quote_ident(k), ', ') FROM unnest(keys) k),
		(SELECT string_agg(format('%L, v.%I', k, k), ', ') FROM unnest(keys) k),
		(SELECT string_agg(format('%L, b.%I', k, k), ', ') FROM unnest(keys) k),
		target, immutable._version_key(target, 'b', 'v'),
		(SELECT string_agg('b.' || quote_ident(c), ', ') FROM unnest(columns) c),
		(SELECT string_agg('v.' || quote_ident(c), ', ') FROM unnest(columns) c))
	USING complete;
END
$$;
COMMENT ON FUNCTION immutable.verify_versions(regclass) IS
'rows that are not what their newest versions say, and versions that do not follow each other; no row when all is well (22004, 42501, 42809)';
