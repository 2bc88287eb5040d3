-- Guard: tables that accept INSERT and nothing else.

CREATE FUNCTION immutable._guard() RETURNS trigger
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_guard';
COMMENT ON FUNCTION immutable._guard() IS
'trigger function of protected tables: refuses with SQLSTATE 23001';

CREATE FUNCTION immutable._guard_problem(target regclass) RETURNS text
LANGUAGE C STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ie_guard_problem_text';
COMMENT ON FUNCTION immutable._guard_problem(regclass) IS
'what is wrong with the guards of a table; NULL when it is armed';

CREATE TABLE immutable.guard_changes (
	changed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	relation text NOT NULL,
	action text NOT NULL,
	role name NOT NULL,
	session_role name NOT NULL
);
SELECT pg_catalog.pg_extension_config_dump('immutable.guard_changes', '');
COMMENT ON TABLE immutable.guard_changes IS
'protected audit trail: every protect, unprotect, drop and import';
COMMENT ON COLUMN immutable.guard_changes.relation IS
'the table, as it was called then';
COMMENT ON COLUMN immutable.guard_changes.role IS
'the role whose rights were used (current_user)';
COMMENT ON COLUMN immutable.guard_changes.session_role IS
'the role that was logged in (session_user)';
GRANT SELECT ON immutable.guard_changes TO PUBLIC;

CREATE TRIGGER immutable_guard_row
	BEFORE UPDATE OR DELETE ON immutable.guard_changes
	FOR EACH ROW EXECUTE FUNCTION immutable._guard();
CREATE TRIGGER immutable_guard_statement
	BEFORE UPDATE OR DELETE OR TRUNCATE ON immutable.guard_changes
	FOR EACH STATEMENT EXECUTE FUNCTION immutable._guard();
ALTER TABLE immutable.guard_changes ENABLE ALWAYS TRIGGER immutable_guard_row;
ALTER TABLE immutable.guard_changes ENABLE ALWAYS TRIGGER immutable_guard_statement;

CREATE FUNCTION immutable.protect(target regclass) RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_protect';
COMMENT ON FUNCTION immutable.protect(regclass) IS
'make a table and its partitions accept INSERT and nothing else; the owner may (22004, 42501, 42809, 55000)';

CREATE FUNCTION immutable.unprotect(target regclass, force boolean DEFAULT false) RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_unprotect';
COMMENT ON FUNCTION immutable.unprotect(regclass, boolean) IS
'make a protected table ordinary again; force for a log with events (22004, 23001, 42501, 42809)';

CREATE FUNCTION immutable.seal_ownership(target regclass, owner name DEFAULT 'immutable_owner') RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_seal_ownership';
COMMENT ON FUNCTION immutable.seal_ownership(regclass, name) IS
'give a protected table and its parts to a role without login, made if need be; the former owner keeps INSERT and SELECT (22004, 22023, 42501, 42809)';

CREATE FUNCTION immutable._preloaded_by() RETURNS text
LANGUAGE C STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'ie_preloaded_by';
COMMENT ON FUNCTION immutable._preloaded_by() IS
'the setting that preloads the library into this session; NULL when none does';
