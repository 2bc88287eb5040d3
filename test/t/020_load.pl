# Many connections at once: appends of every kind, commands, folds, consumers,
# read models, versioned rows and readers of the whole log. Afterwards every
# invariant holds: versions without gaps, positions that rise with them, each
# consumer and reader has had each event once and in order, read models are what
# their log says, versions what was done to their rows.
# IE_LOAD_SECONDS: a minute, by hand; IE_LOAD_CLIENTS.

use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seconds = $ENV{IE_LOAD_SECONDS} // 8;
my $clients = $ENV{IE_LOAD_CLIENTS} // 64;

my $node = PostgreSQL::Test::Cluster->new('load');
$node->init;
$node->append_conf('postgresql.conf', "fsync = off\nmax_connections = " . ($clients + 20) . "\ndeadlock_timeout = 200ms\n");
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION immutable_events;
SELECT immutable.create_log('plain'), immutable.create_log('parted', partitions => 4);
SELECT immutable.enable_commands('plain');
CREATE FUNCTION counts(n bigint, e immutable.event) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN n + 1;
CREATE FUNCTION decides(n bigint, command jsonb) RETURNS immutable.new_event[] LANGUAGE sql IMMUTABLE AS
$$ SELECT array_agg(ROW('decided', '{}', NULL, NULL, 1)::immutable.new_event) FROM generate_series(1, 1 + n % 3) $$;
SELECT immutable.enable_snapshots('plain', 'counts', 20);
CREATE TABLE by_stream (stream text COLLATE "C" PRIMARY KEY, n bigint NOT NULL DEFAULT 0, last bigint NOT NULL DEFAULT 0);
CREATE TABLE by_type (type text PRIMARY KEY, n bigint NOT NULL DEFAULT 0, last bigint NOT NULL DEFAULT 0);
CREATE FUNCTION by_stream(r by_stream, e immutable.event) RETURNS by_stream LANGUAGE sql IMMUTABLE RETURN ROW((r).stream, (r).n + 1, e.version)::by_stream;
CREATE FUNCTION by_type(r by_type, e immutable.event) RETURNS by_type LANGUAGE sql IMMUTABLE RETURN ROW((r).type, (r).n + 1, e.position)::by_type;
SELECT immutable.create_projection('by_stream', 'plain', 'by_stream'),
	immutable.create_projection('by_type', 'parted', 'by_type', '{type}', mode => 'async');
SELECT immutable.create_consumer('whole', 'plain', after_position => 0), immutable.create_consumer('spread', 'parted', after_position => 0, shards => 4);

-- what came out, in the order in which it came; nr is drawn while the shard is held
CREATE TABLE seen (nr bigserial, consumer text, stream text COLLATE "C", version bigint, position bigint);
CREATE FUNCTION consume(of_consumer text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	upto bigint;
	handled bigint := 0;
	e immutable.event;
BEGIN
	FOR e IN SELECT * FROM immutable.poll(of_consumer, 200) LOOP
		INSERT INTO seen (consumer, stream, version, position) VALUES (of_consumer, e.stream, e.version, e.position);
		upto := e.position;
		handled := handled + 1;
	END LOOP;
	IF handled > 0 THEN
		PERFORM immutable.ack(of_consumer, upto);
	END IF;
	RETURN handled;
END $$;
-- somebody's own cursor
CREATE TABLE cursors (log regclass PRIMARY KEY, position bigint NOT NULL);
INSERT INTO cursors VALUES ('plain', 0), ('parted', 0);
CREATE FUNCTION read_on(of_log regclass) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	after bigint;
	upto bigint;
	n bigint;
BEGIN
	SELECT position INTO after FROM cursors WHERE log = of_log FOR UPDATE;
	WITH new AS (SELECT * FROM immutable.read_log(of_log, after, 200)),
		written AS (INSERT INTO seen (consumer, stream, version, position)
			SELECT 'cursor of ' || of_log, stream, version, position FROM new ORDER BY position)
	SELECT max(position), count(*) INTO upto, n FROM new;
	UPDATE cursors SET position = upto WHERE log = of_log AND n > 0;
	RETURN n;
END $$;
-- each change of a row is counted beside it, in the same transaction
CREATE TABLE item (id integer PRIMARY KEY, n integer NOT NULL DEFAULT 0, filler text);
INSERT INTO item SELECT i FROM generate_series(1, 60) i;
SELECT immutable.add_versioning('item');
CREATE INDEX ON item_versions (row_position);
CREATE TABLE changes (id integer, kind text, changed integer);
CREATE TABLE versions_seen (nr bigserial, id integer, row_version bigint, row_position bigint PRIMARY KEY);
CREATE TABLE versions_cursor (position bigint NOT NULL);
INSERT INTO versions_cursor VALUES (0);
CREATE FUNCTION change(a integer, b integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	done integer;
BEGIN
	UPDATE item SET n = n + 1 WHERE id BETWEEN a AND b;
	GET DIAGNOSTICS done = ROW_COUNT;
	INSERT INTO changes VALUES (NULL, 'U', done);
END $$;
CREATE FUNCTION exchange(a integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	done integer;
BEGIN
	DELETE FROM item WHERE id = a;
	GET DIAGNOSTICS done = ROW_COUNT;
	INSERT INTO changes VALUES (a, 'D', done);
	INSERT INTO item VALUES (a) ON CONFLICT (id) DO UPDATE SET n = item.n + 1;
	INSERT INTO changes VALUES (a, 'X', 1);
	UPDATE item SET filler = filler WHERE id = a;	-- changes nothing
END $$;
CREATE FUNCTION read_versions() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	after bigint;
	upto bigint;
	n bigint;
BEGIN
	SELECT position INTO after FROM versions_cursor FOR UPDATE;
	upto := immutable.safe_position('item_versions');
	INSERT INTO versions_seen (id, row_version, row_position)
	SELECT id, row_version, row_position FROM item_versions WHERE row_position > after AND row_position <= upto ORDER BY row_position;
	GET DIAGNOSTICS n = ROW_COUNT;
	UPDATE versions_cursor SET position = greatest(position, upto);
	RETURN n;
END $$;
CREATE VIEW events AS SELECT 'plain'::regclass AS log, * FROM plain UNION ALL SELECT 'parted', * FROM parted;
SQL

my %scripts = (
	append => [ 8, q{
\set s random(1, 300)
SELECT immutable.append(log, 's' || :s, 'appended') FROM unnest('{plain,parted}'::regclass[]) log;
} ],
	hot => [ 2, q{
\set s random(1, 3)
BEGIN;
SELECT immutable.append('parted', 'hot' || :s, 'hot', expected_version => immutable.stream_version('parted', 'hot' || :s));
END;
} ],
	batch => [ 4, q{
\set s random(1, 300)
\set n random(1, 20)
BEGIN;
SELECT immutable.append_json('plain', 's' || :s, (SELECT jsonb_agg('{"type": "batch"}'::jsonb) FROM generate_series(1, :n)));
SAVEPOINT a;
SELECT immutable.append_json('parted', 's' || :s, (SELECT jsonb_agg('{"type": "undone"}'::jsonb) FROM generate_series(1, :n)));
ROLLBACK TO a;
SELECT immutable.append_json('parted', 's' || :s, (SELECT jsonb_agg('{"type": "batch"}'::jsonb) FROM generate_series(1, :n)));
END;
} ],
	command => [ 3, q{
\set s random(1, 100)
\set id random(1, 300)
SELECT immutable.handle('plain', 'c' || :s, '{}', 0::bigint, 'decides', 'counts', md5(:id || ' ' || :s)::uuid);
} ],
	fold => [ 3, q{
\set s random(1, 300)
SELECT 1 / (n = v)::integer FROM (SELECT immutable.replay('plain', 's' || :s, 0::bigint, 'counts') AS n, immutable.stream_version('plain', 's' || :s) AS v) f;
} ],
	poll => [ 2, "BEGIN;\nSELECT consume('whole');\nEND;\n" ],
	spread => [ 2, "BEGIN;\nSELECT consume('spread');\nEND;\n" ],
	version => [ 4, q{
\set a random(1, 60)
\set b random(1, 60)
BEGIN;
SELECT change(:a, :a);
SAVEPOINT s;
SELECT change(:b, :b + 2);
ROLLBACK TO s;
SELECT change(:b, :b);
END;
} ],
	exchange => [ 2, q{
\set a random(1, 60)
SELECT exchange(:a);
} ],
	as_of => [ 2, q{
\set a random(1, 60)
SELECT 1 / (count(*) <= 60 AND count(*) = count(DISTINCT id))::integer FROM item__as_of(clock_timestamp() - interval '1 ms' * :a);
} ],
	versions => [ 1, "BEGIN;\nSELECT read_versions();\nEND;\n" ],
	read => [ 2, "SELECT read_on('plain');\nSELECT read_on('parted');\n" ],
	refresh => [ 2, "SELECT immutable.refresh('by_type', 500);\n" ],
);
my @files;
for my $name (sort keys %scripts)
{
	my $file = $node->basedir . "/$name.sql";
	append_to_file($file, $scripts{$name}[1]);
	push @files, '-f', "$file\@$scripts{$name}[0]";
}
my ($out, $err) = ('', '');
my $ok = IPC::Run::run([ 'pgbench', '-n', '-c', $clients, '-j', 2, '-T', $seconds, '--max-tries', 0, '--random-seed', 20261123,
		@files, '-h', $node->host, '-p', $node->port, 'postgres' ], '>', \$out, '2>', \$err);
ok($ok, "$clients clients for $seconds seconds");
is(join("\n", grep { !/^(?:pgbench \(|pgbench: setting random seed)/ } split /\n/, $err), '', 'without an error');
my ($failed) = $out =~ /number of failed transactions: (\d+)/;
# who loses a race for a version tries again until the time is up: at most one a client is left then
cmp_ok($failed, '<=', $clients, 'nobody tries without end');
note $out =~ /(number of transactions actually processed.*)/, ", ", query('SELECT count(*) FROM events'), ' events';
cmp_ok(query('SELECT count(*) FROM events'), '>', 500, 'there were events');

# to the end
$node->safe_psql('postgres', q{CALL immutable.catch_up('by_type')});
for my $consumer ('whole', 'spread')
{
	1 while $node->safe_psql('postgres', "BEGIN; SELECT consume('$consumer'); COMMIT;") > 0;
}
for my $log ('plain', 'parted')
{
	1 while $node->safe_psql('postgres', "SELECT read_on('$log')") > 0;
	is(query("SELECT count(*) FROM immutable.check_log('$log')"), 0, "$log: check_log finds nothing");
}
is(query(q{SELECT count(*) FROM (SELECT *, row_number() OVER w AS number, lag(position) OVER w AS before FROM events
	WINDOW w AS (PARTITION BY log, stream ORDER BY version)) e WHERE version <> number OR position <= before}),
	0, 'versions without gaps, positions rise with them');
is(query('SELECT count(*) FROM (SELECT FROM events GROUP BY log, position HAVING count(*) > 1) e'), 0, 'no position twice');
for my $case ([ whole => 'plain' ], [ spread => 'parted' ], [ 'cursor of plain' => 'plain' ], [ 'cursor of parted' => 'parted' ])
{
	my ($consumer, $log) = @$case;
	is(query("SELECT count(*) FROM ((SELECT stream, version, position FROM $log EXCEPT ALL SELECT stream, version, position FROM seen WHERE consumer = '$consumer')
		UNION ALL (SELECT stream, version, position FROM seen WHERE consumer = '$consumer' EXCEPT ALL SELECT stream, version, position FROM $log)) d"),
		0, "$consumer: each event once");
	my $order = $consumer eq 'spread' ? 'PARTITION BY stream ORDER BY nr' : 'ORDER BY nr';
	is(query("SELECT count(*) FROM (SELECT position, lag(position) OVER ($order) AS before FROM seen WHERE consumer = '$consumer') s WHERE position <= before"),
		0, "$consumer: in order");
}
is(query("SELECT count(*) FROM immutable.verify_projection('$_')"), 0, "$_: a replay says the same") for 'by_stream', 'by_type';
is(query(q{SELECT count(*) FROM ((SELECT stream, count(*), max(version) FROM plain GROUP BY stream EXCEPT TABLE by_stream) UNION ALL
	(TABLE by_stream EXCEPT SELECT stream, count(*), max(version) FROM plain GROUP BY stream)) d}), 0, 'and a query, too');
is(query(q{SELECT count(*) FROM (SELECT stream FROM plain WHERE immutable.replay('plain', stream, 0::bigint, 'counts') <> immutable.stream_version('plain', stream)) s}),
	0, 'snapshots are right');
is(query('SELECT count(*) FROM plain_commands') > 0, 1, 'commands were recorded');

# versioned rows
1 while $node->safe_psql('postgres', 'SELECT read_versions()') > 0;
is(query("SELECT count(*) FROM immutable.verify_versions('item')"), 0, 'verify_versions finds nothing');
is(query(q{SELECT (SELECT count(*) FROM item_versions) = 60 + sum(changed) FROM changes}), 't', 'a version for each change, and none for what changed nothing');
cmp_ok(query('SELECT count(*) FROM changes WHERE changed > 0'), '>', 100, 'there were changes');
is(query(q{SELECT count(*) FROM (SELECT *, row_number() OVER w AS number, lag(row_start) OVER w AS before, lag(row_xact) OVER w AS same_xact,
		lag(row_position) OVER w AS position_before, lag(row_operation) OVER w AS was
	FROM item_versions WINDOW w AS (PARTITION BY id ORDER BY row_version)) v
	WHERE row_version <> number OR row_start < before OR (row_start = before AND row_xact <> same_xact)
		OR row_position <= position_before OR (row_operation = 'I') <> (before IS NULL OR was = 'D')}),
	0, 'versions of a row without gaps, in order of time, from an INSERT to a DELETE');
is(query(q{SELECT count(*) FROM ((TABLE item EXCEPT SELECT * FROM item__as_of('infinity')) UNION ALL (SELECT * FROM item__as_of('infinity') EXCEPT TABLE item)) d}), 0, 'AS OF now is the table');
is(query(q{SELECT count(*) FROM ((SELECT id, row_version, row_position FROM item_versions EXCEPT ALL SELECT id, row_version, row_position FROM versions_seen)
	UNION ALL (SELECT id, row_version, row_position FROM versions_seen EXCEPT ALL SELECT id, row_version, row_position FROM item_versions)) d}),
	0, 'a reader by safe_position had each version once');

$node->stop;
done_testing();

# One value.
sub query { return $node->safe_psql('postgres', $_[0]); }
