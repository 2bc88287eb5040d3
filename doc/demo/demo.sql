-- The demo's story. What ECHO shows is what a user would type; the rest picks
-- examples, measures, and checks that everything went as the text says.

\pset footer off
\pset null '-'
\pset format wrapped
\pset columns 80
\set SHOW_CONTEXT never

SELECT count(*) AS lines, count(stream) AS events, count(*) - count(stream) AS others,
	count(DISTINCT stream) AS packages
FROM line \gset
SELECT coalesce(string_agg(format('%s %s', n, type)
	|| CASE type WHEN 'unreadable' THEN format(' (first at line %s)', first) ELSE '' END, ', '), 'none') AS other_types
FROM (
	SELECT type, count(*) AS n, min(number) AS first
	FROM line WHERE stream IS NULL GROUP BY type ORDER BY type
) o \gset

-- a package with much to tell in few lines
SELECT stream AS package, count(*) AS newest, count(*) - 1 AS older
FROM line WHERE stream IS NOT NULL GROUP BY stream
ORDER BY count(*) <= 14 DESC, bool_or(type IN ('remove', 'purge')) DESC,
	bool_or(type = 'upgrade') DESC, count(*) DESC, stream
LIMIT 1 \gset

\echo :bold'immutable_events, shown on the package history of this machine':plain
\echo
\echo Debian notes in :logs/dpkg.log what happens to its packages. A table
\echo of installed packages says what is; such a log says how it came to be.
\echo This demo keeps the log in PostgreSQL and computes the table from it.
\echo

\echo :bold'1. A log':plain
\echo
\echo A log is a table that only grows. Each row is an event: something happened.
\echo It belongs to the role that makes it, here an ordinary one called keeper.
\echo

\set ECHO queries
CREATE EXTENSION immutable_events;
\connect - keeper
SELECT immutable.create_log('history');
\set ECHO none

\echo :bold'2. Append':plain
\echo
\echo An event belongs to a stream; here each package has its own. The first line of
\echo the log, by hand:
\echo

SELECT stream, type, replace(data::text, ', "', E',\n\t  "') AS data
FROM line WHERE stream IS NOT NULL ORDER BY number LIMIT 1 \gset
\set ECHO queries
SELECT * FROM immutable.append('history', :'stream', :'type',
	:'data');
\set ECHO none

\echo It became version 1 of its stream, at position 1 of the log. Now the others, in
\echo the order in which they happened:
\echo

SELECT clock_timestamp() AS start \gset
\set ECHO queries
SELECT count(immutable.append('history', stream, type, data)) AS appended
FROM (SELECT * FROM line WHERE stream IS NOT NULL ORDER BY number OFFSET 1) l;
\set ECHO none
SELECT round(s * 1000) AS ms, to_char((:events - 1) / s, 'FM999,999,999') AS rate
FROM extract(epoch FROM clock_timestamp() - :'start') s \gset

SELECT must(count(*) = :events, 'events are missing') FROM history \g /dev/null
\echo The import took :ms ms, :rate events a second.
\echo :events of :lines lines concern a package and are events now; :others do not: :other_types.
\echo

\echo :bold'3. Nobody changes history':plain
\echo
\echo The owner of the log tries to:
\echo

\set ON_ERROR_STOP off
\set ECHO queries
UPDATE history SET type = 'install' WHERE stream = :'package';
\set ECHO none
\set ON_ERROR_STOP on
SELECT must(:'SQLSTATE' = '23001', 'the owner''s UPDATE was not refused') \g /dev/null

\echo
\echo The superuser does not fare better:
\echo

\connect - postgres
\set ON_ERROR_STOP off
\set ECHO queries
UPDATE history SET type = 'install' WHERE stream = :'package';
\set ECHO none
\set ON_ERROR_STOP on
SELECT must(:'SQLSTATE' = '23001', 'the superuser''s UPDATE was not refused') \g /dev/null
\connect - keeper

\echo
\echo :bold'4. Nobody decides on what is out of date':plain
\echo
\echo You looked at :package when :older events were known, and decide
\echo to purge it. Meanwhile one more event came. Say which version you saw:
\echo

\set ON_ERROR_STOP off
\set ECHO queries
SELECT immutable.append('history', :'package', 'purge',
	expected_version => :older);
\set ECHO none
\set ON_ERROR_STOP on
SELECT must(:'SQLSTATE' = '40001', 'a stale expected_version was not refused') \g /dev/null
SELECT must(immutable.stream_version('history', :'package') = :newest,
	'something was written') \g /dev/null

\echo
\echo Nothing was written. Look again, decide again.
\echo

\echo :bold'5. The history of one package':plain
\echo

\set ECHO queries
SELECT version, data->>'at' AS at, type, data->>'state' AS state
FROM immutable.read_stream('history', :'package');
\set ECHO none

\echo Lines of type status say what state dpkg brought the package to; the others
\echo say what dpkg set out to do. An event as it stands in the log, whole:
\echo

\x on
\set ECHO queries
SELECT * FROM immutable.read_stream('history', :'package',
	max_events => 1, backward => true);
\set ECHO none
\x off

\echo :bold'6. State from events':plain
\echo
\echo To compute a state from events, write one function: given a state and an event,
\echo it returns the next state. It is called a reducer.
\echo

\set ECHO queries
CREATE TYPE package AS (status text, version text, changes integer);
CREATE FUNCTION package_apply(state package, event immutable.event)
RETURNS package LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE event.type
		WHEN 'status' THEN ROW(event.data->>'state', event.data->>'version',
			coalesce(state.changes, 0) + 1)::package
		ELSE state
	END
$$;
\set ECHO none

\echo
\echo immutable.fold runs it over the events in order. As a window function it shows
\echo the state at every version, the whole life of :package:
\echo

\set ECHO queries
SELECT version, type, (state).status, (state).version AS package, (state).changes
FROM (
	SELECT version, type, immutable.fold(NULL::package, 'package_apply', e)
		OVER (PARTITION BY stream ORDER BY version) AS state
	FROM history e WHERE stream = :'package'
) life;
\set ECHO none

\echo :bold'7. All packages, and what dpkg says':plain
\echo
\echo The same reducer, grouped by stream, gives the table of all packages:
\echo

SELECT clock_timestamp() AS start \gset
\set ECHO queries
CREATE TABLE packages AS
SELECT stream, (state).*
FROM (
	SELECT stream,
		immutable.fold(NULL::package, 'package_apply', e ORDER BY version) AS state
	FROM history e GROUP BY stream
) folded;
\set ECHO none
SELECT round(s * 1000) AS ms, to_char(:events / s, 'FM999,999,999') AS rate
FROM extract(epoch FROM clock_timestamp() - :'start') s \gset

\echo
\echo The fold took :ms ms, :rate events a second. Some of the :packages packages:
\echo

SELECT stream AS package, status, version, changes FROM packages
ORDER BY stream <> :'package', changes DESC, stream LIMIT 5;

\echo It is right if dpkg itself says the same. So ask dpkg-query -W, package by
\echo package; one that dpkg does not list is not installed.
\echo

-- A package that an upgrade moved to another architecture has a new name; the
-- old one ends half-installed, and the name's next event is in the new stream.
CREATE VIEW moved AS
SELECT e.stream, next.stream AS new_stream
FROM packages p
JOIN history e ON e.stream = p.stream
	AND e.version = immutable.stream_version('history', p.stream)
CROSS JOIN LATERAL (
	SELECT n.stream, n.data FROM history n
	WHERE split_part(n.stream, ':', 1) = split_part(e.stream, ':', 1)
		AND n.position > e.position
	ORDER BY n.position LIMIT 1
) next
WHERE p.status = 'half-installed' AND next.data->>'state' = 'unpacked';

CREATE TABLE compared AS
SELECT p.stream, concat_ws(' ', p.status, p.version) AS log_says,
	concat_ws(' ', coalesce(d.status, 'not-installed'), d.version) AS dpkg_says,
	CASE
		WHEN p.status IS NULL THEN 'no line of the log says its state'
		WHEN d.package IS NULL THEN 'an upgrade turned it into ' || m.new_stream
	END AS not_comparable,
	(p.status, p.version) IS NOT DISTINCT FROM
		(coalesce(d.status, 'not-installed'), d.version) AS agrees
FROM packages p
LEFT JOIN dpkg d ON d.package = p.stream
LEFT JOIN moved m ON m.stream = p.stream;

SELECT count(*) FILTER (WHERE agrees) AS agreeing,
	count(*) FILTER (WHERE agrees OR not_comparable IS NULL) AS comparable,
	count(*) FILTER (WHERE NOT agrees AND not_comparable IS NULL) > 0 AS differ,
	count(*) FILTER (WHERE NOT agrees AND not_comparable IS NOT NULL) > 0 AS left_out
FROM compared \gset

\if :left_out
	\echo Not compared, because dpkg has forgotten the name or the log says too little:
	\echo
	SELECT stream AS package, not_comparable AS reason
	FROM compared WHERE NOT agrees AND not_comparable IS NOT NULL ORDER BY stream;
\endif
\if :differ
	\echo dpkg does not confirm what the log, in the line of this number, says of:
	\echo
	\pset format aligned
	SELECT stream AS package, line, log_says, dpkg_says
	FROM compared JOIN (
		SELECT stream, max(number) AS line FROM line WHERE type = 'status' GROUP BY stream
	) last USING (stream)
	WHERE NOT agrees AND not_comparable IS NULL ORDER BY stream;
\endif

\echo :bold:agreeing of :comparable packages agree with dpkg:plain
SELECT must(NOT :'differ' AND :comparable > 0, 'the state computed from the log is not the state of this machine') \g /dev/null

\echo
\echo :bold'8. A table with a past':plain
\echo
\echo Not everything wants to be events. Here is an ordinary table, changed in place,
\echo that keeps every version of its rows:
\echo

\set ECHO queries
CREATE TABLE installed (package text PRIMARY KEY, status text, version text);
SELECT immutable.add_versioning('installed');
\set ECHO none

-- replay what dpkg did: one transaction for each line, so that each has its time
CREATE PROCEDURE replay() LANGUAGE plpgsql AS $$
DECLARE
	e record;
BEGIN
	FOR e IN SELECT stream, data->>'state' AS state, data->>'version' AS version
		FROM history WHERE type = 'status' ORDER BY position
	LOOP
		IF e.state = 'not-installed' THEN
			DELETE FROM installed WHERE package = e.stream;
		ELSE
			INSERT INTO installed VALUES (e.stream, e.state, e.version)
			ON CONFLICT (package) DO UPDATE
			SET status = excluded.status, version = excluded.version;
		END IF;
		COMMIT;
	END LOOP;
END $$;
CALL replay();
SELECT count(*) AS versions FROM installed_versions \gset

\echo
\echo Line by line the log has changed it; :versions versions were kept. What happened to
\echo :package:
\echo

\set ECHO queries
SELECT row_version, row_operation, status, version
FROM installed_versions WHERE package = :'package' ORDER BY row_version;
\set ECHO none

-- any version's time will do
SELECT row_start AS moment FROM installed_versions
ORDER BY row_position OFFSET :versions / 2 LIMIT 1 \gset
\echo The whole table as it was halfway, at :moment:
\echo

\set ECHO queries
SELECT status, count(*) FROM installed__as_of(:'moment')
GROUP BY status ORDER BY 2 DESC;
\set ECHO none

-- the same by other means: the log says what dpkg had done by then
CREATE TABLE times AS
SELECT v.row_start AS at, v.row_position, random() AS lot
FROM installed_versions v;
CREATE TABLE steps AS
SELECT row_number() OVER (ORDER BY position) AS n, stream AS package,
	data->>'state' AS status, data->>'version' AS version
FROM history WHERE type = 'status';
-- a line that changed nothing made no version: match the steps that did
CREATE TABLE made AS
SELECT row_number() OVER (ORDER BY n) AS nth, n FROM (
	SELECT n, status, version, lag(ROW(status, version)::text) OVER w AS before FROM steps
	WINDOW w AS (PARTITION BY package ORDER BY n)
) s WHERE ROW(status, version)::text IS DISTINCT FROM before
	AND NOT (status = 'not-installed' AND (before IS NULL OR before LIKE '(not-installed,%'));
SELECT must(count(*) = :versions, 'versions are missing') FROM made \g /dev/null
CREATE FUNCTION differing(moment timestamptz, upto bigint) RETURNS bigint
LANGUAGE sql STABLE AS $$
	WITH computed AS (
		SELECT package, status, version FROM (
			SELECT DISTINCT ON (package) * FROM steps WHERE n <= upto ORDER BY package, n DESC
		) l WHERE status <> 'not-installed'
	)
	SELECT count(*) FROM (
		(SELECT * FROM computed EXCEPT ALL SELECT * FROM installed__as_of(moment))
		UNION ALL (SELECT * FROM installed__as_of(moment) EXCEPT ALL SELECT * FROM computed)
	) d
$$;
SELECT count(*) AS checked, sum(differing(at, m.n)) AS differing
FROM (SELECT at, row_number() OVER (ORDER BY row_position) AS nth, lot FROM times) t
JOIN made m USING (nth)
WHERE t.lot <= 300.0 / :versions OR nth IN (1, :versions) \gset
\echo At :checked of these moments, the last one included, the table was compared with
\echo what the log says of that moment: :differing rows differ.
SELECT must(:differing = 0, 'the past of the table is not what the log says') \g /dev/null
SELECT must(count(*) = 0, 'the table is not what its versions say')
FROM immutable.verify_versions('installed') \g /dev/null
