-- Guard report: what is known to get around guards, and how it stands.
-- One row for each way and table. Compiling the query would take longer than
-- running it.

CREATE FUNCTION immutable.guard_report(target regclass DEFAULT NULL)
RETURNS TABLE (relation regclass, hole text, state text, detail text)
LANGUAGE sql STABLE PARALLEL RESTRICTED
SET jit = off
BEGIN ATOMIC
WITH RECURSIVE tables AS (
	SELECT c.oid, c.relowner, c.relnamespace,
		root.reloftype = 'immutable.event'::regtype AS log
	FROM pg_class c JOIN pg_class root ON root.oid = coalesce(pg_partition_root(c.oid), c.oid)
	WHERE CASE
		WHEN guard_report.target IS NOT NULL THEN c.oid = guard_report.target
		ELSE c.relkind IN ('r', 'p') AND NOT c.relispartition
			AND c.oid IN (SELECT p.relation FROM immutable.protected_tables p) END
), family (root, member) AS (
	SELECT oid, oid FROM tables
	UNION
	SELECT f.root, i.inhrelid FROM family f JOIN pg_inherits i ON i.inhparent = f.member
), parts AS (
	SELECT f.root,
		count(*) - 1 AS below,
		string_agg(f.member::regclass || ': ' || immutable._guard_problem(f.member), '; '
			ORDER BY f.member::regclass::text COLLATE "C") AS problem,
		string_agg(f.member::regclass::text, ', ') FILTER (WHERE c.relpersistence <> 'p') AS unlogged,
		string_agg(f.member::regclass::text, ', ')
			FILTER (WHERE EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = f.member)) AS ruled,
		string_agg(f.member::regclass::text, ', ') FILTER (WHERE c.relrowsecurity) AS filtered,
		(SELECT string_agg(DISTINCT t.tgname, ', ') FROM family m JOIN pg_trigger t ON t.tgrelid = m.member
			-- FOR EACH ROW BEFORE INSERT
			WHERE m.root = f.root AND t.tgtype & 7 = 7 AND NOT t.tgisinternal
				AND t.tgenabled <> 'D'
				AND t.tgfoid <> 'immutable._guard()'::regprocedure) AS triggers,
		(SELECT string_agg(DISTINCT r.rolname, ', ')
			FROM family m JOIN pg_class t ON t.oid = m.member
				JOIN pg_roles r ON r.rolcanlogin AND pg_has_role(r.oid, t.relowner, 'MEMBER')
			WHERE m.root = f.root AND (NOT r.rolsuper
				OR r.oid = t.relowner AND t.relnamespace <> 'immutable'::regnamespace)) AS logins
	FROM family f JOIN pg_class c ON c.oid = f.member
	GROUP BY f.root
), event_triggers AS (
	SELECT count(*) = 3 AND coalesce(current_setting('event_triggers', true), 'on') <> 'off' AS armed
	FROM pg_event_trigger
	WHERE evtname IN ('immutable_guard_ddl_start', 'immutable_guard_ddl_end', 'immutable_guard_rewrite')
		AND evtenabled = 'A'
), facts AS (
	SELECT t.oid, t.log, p.below, p.problem, p.unlogged, p.ruled, p.filtered, p.triggers,
		p.problem IS NULL AS armed,
		coalesce(p.problem, 'the guards refuse it') AS guards,
		CASE WHEN e.armed OR immutable._preloaded_by() IS NOT NULL THEN 'closed' ELSE 'open' END AS ddl,
		CASE WHEN e.armed THEN 'event triggers refuse it'
			WHEN immutable._preloaded_by() IS NOT NULL THEN 'the preloaded library refuses it'
			ELSE 'the event triggers of the extension are disabled or silenced' END AS ddl_detail,
		o.rolname AS owner, p.logins
	FROM tables t JOIN parts p ON p.root = t.oid JOIN pg_roles o ON o.oid = t.relowner
		CROSS JOIN event_triggers e
)
SELECT f.oid::regclass, h.hole, h.state, h.detail
FROM facts f CROSS JOIN LATERAL (VALUES
	(1, 'guards', CASE WHEN f.armed THEN 'closed' ELSE 'open' END,
		coalesce(f.problem, 'in place, ENABLE ALWAYS, on the table and all its parts')),
	(2, 'owner', CASE WHEN f.logins IS NULL THEN 'closed' ELSE 'open' END,
		CASE WHEN f.logins IS NULL THEN format('nobody can log in as %I', f.owner)
			ELSE format('may act as owner %I: %s; see immutable.seal_ownership', f.owner, f.logins) END),
	(3, 'disable trigger', f.ddl, f.ddl_detail),
	(4, 'drop trigger', f.ddl, f.ddl_detail),
	(5, 'replace trigger', f.ddl, f.ddl_detail),
	(6, 'session_replication_role', CASE WHEN f.armed THEN 'closed' ELSE 'open' END,
		coalesce(f.problem, format('the guards are ENABLE ALWAYS; may set it: superusers%s',
			(SELECT string_agg(', ' || coalesce(r.rolname, 'PUBLIC'), '' ORDER BY r.rolname)
			FROM pg_parameter_acl a CROSS JOIN LATERAL aclexplode(a.paracl) x
				LEFT JOIN pg_roles r ON r.oid = x.grantee
			WHERE a.parname = 'session_replication_role' AND x.privilege_type = 'SET'
				AND NOT coalesce(r.rolsuper, false))))),
	(7, 'truncate', CASE WHEN f.armed THEN 'closed' ELSE 'open' END, f.guards),
	(8, 'truncate a partition', CASE WHEN f.armed THEN 'closed' ELSE 'open' END,
		coalesce(f.problem, format('tables below this one: %s, all with guards of their own', f.below))),
	(9, 'detach partition', f.ddl, f.ddl_detail),
	(10, 'rewrite', CASE WHEN f.unlogged IS NOT NULL THEN 'open' ELSE f.ddl END,
		coalesce('a crash empties ' || f.unlogged, f.ddl_detail)),
	(11, 'change of meaning', f.ddl, f.ddl_detail),
	(12, 'rule', CASE WHEN f.ruled IS NOT NULL THEN 'open' ELSE f.ddl END,
		coalesce('there are rules on ' || f.ruled, f.ddl_detail)),
	(13, 'inheritance', CASE WHEN f.armed THEN f.ddl ELSE 'open' END, coalesce(f.problem, f.ddl_detail)),
	(14, 'row security', CASE WHEN f.filtered IS NULL THEN 'closed' ELSE 'detected' END,
		coalesce('policies may hide rows of ' || f.filtered, 'no row security')),
	(15, 'other triggers', CASE WHEN f.triggers IS NULL THEN 'closed' ELSE 'detected' END,
		CASE WHEN f.triggers IS NULL THEN 'no other trigger fires for INSERT'
			WHEN f.log THEN format('append refuses what they alter or suppress: %s', f.triggers)
			ELSE format('may alter or suppress a row before it is stored: %s', f.triggers) END),
	(16, 'on conflict, merge, cascade', CASE WHEN f.armed THEN 'closed' ELSE 'open' END, f.guards),
	(17, 'logical replication', CASE WHEN f.armed THEN 'closed' ELSE 'open' END, f.guards),
	(18, 'drop', f.ddl, f.ddl_detail),
	(19, 'event triggers', CASE WHEN immutable._preloaded_by() IS NULL THEN 'open' ELSE 'closed' END,
		CASE WHEN immutable._preloaded_by() IS NULL
			THEN 'a superuser may disable the event triggers: the library is not preloaded'
			ELSE format('the library is in %s', immutable._preloaded_by()) END),
	(20, 'catalog update', CASE WHEN immutable._preloaded_by() IS NULL THEN 'open' ELSE 'closed' END,
		CASE WHEN immutable._preloaded_by() IS NOT NULL THEN format('the library is in %s', immutable._preloaded_by())
			WHEN f.log THEN 'a superuser may write to the catalogs; append refuses once the guards are gone'
			ELSE 'a superuser may write to the catalogs: the library is not preloaded' END),
	(21, 'cluster, vacuum full', 'closed', 'harmless: rows move, their contents stay'),
	(22, 'forged row', CASE WHEN f.armed OR NOT f.log THEN 'closed' ELSE 'open' END,
		CASE WHEN f.log THEN coalesce(f.problem, 'only append, replication and an audited import write')
			ELSE 'INSERT is for whom you grant it; a row is never changed' END),
	(23, 'forged clock', 'closed',
		CASE WHEN f.log THEN 'recorded_at is the clock of the server, never before the previous event of the stream'
			ELSE 'the extension keeps no time in this table' END),
	(24, 'unprotect', 'detected', format('on record in immutable.guard_changes; may call it: superusers%s',
		(SELECT string_agg(', ' || coalesce(r.rolname, 'PUBLIC'), '' ORDER BY r.rolname)
		FROM pg_proc u CROSS JOIN LATERAL aclexplode(u.proacl) x LEFT JOIN pg_roles r ON r.oid = x.grantee
		WHERE u.oid = 'immutable.unprotect(regclass, boolean)'::regprocedure
			AND x.privilege_type = 'EXECUTE' AND NOT coalesce(r.rolsuper, false)))),
	(25, 'dump and restore', 'closed', 'the guards are ordinary triggers, and come back with the table'),
	(26, 'files', 'cannot be prevented',
		'whoever writes to the files, the library or the backups of the server')
) h (number, hole, state, detail)
ORDER BY f.oid::regclass::text COLLATE "C", h.number;
END;
COMMENT ON FUNCTION immutable.guard_report(regclass) IS
'how each known way around the guards stands for one table, or for all: closed, open, detected, cannot be prevented; WHERE state = ''open'' returns no row when all is well';
