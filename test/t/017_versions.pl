# Versioned rows: a dump and a restore keep history and go on numbering; a big
# table is taken over lazily while writers go on.
# This test runs alone: it measures times.

use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 'logical');
$node->start;
my $dumps = $node->basedir;

# dump and restore
$node->safe_psql('postgres', 'CREATE DATABASE origin');
$node->safe_psql('origin', <<'SQL');
CREATE EXTENSION immutable_events;
CREATE SCHEMA "Odd ""Schema";
CREATE TABLE "Odd ""Schema"."Odd ""Table" ("Id ""x" integer PRIMARY KEY, gone text, "order" numeric, tags text[]);
INSERT INTO "Odd ""Schema"."Odd ""Table" VALUES (1, 'x', 1.50, '{a}'), (2, 'y', 2, NULL);
SELECT immutable.add_versioning('"Odd ""Schema"."Odd ""Table"');
ALTER TABLE "Odd ""Schema"."Odd ""Table" DROP COLUMN gone, ADD COLUMN "new ""one" timestamptz DEFAULT '2026-01-01';
UPDATE "Odd ""Schema"."Odd ""Table" SET "order" = 3 WHERE "Id ""x" = 1;
DELETE FROM "Odd ""Schema"."Odd ""Table" WHERE "Id ""x" = 2;
CREATE TABLE part (id integer, region text, n integer, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE part_a PARTITION OF part FOR VALUES IN ('a');
CREATE TABLE part_b PARTITION OF part FOR VALUES IN ('b');
SELECT immutable.add_versioning('part');
INSERT INTO part VALUES (1, 'a', 1), (2, 'b', 2);
UPDATE part SET region = 'b' WHERE id = 1;
CREATE TABLE lazy (id integer PRIMARY KEY, n integer);
INSERT INTO lazy VALUES (1, 1), (2, 2);
SELECT immutable.add_versioning('lazy', 'lazy');
UPDATE lazy SET n = 3 WHERE id = 1;
SQL
my @rows = (
	'SELECT * FROM "Odd ""Schema"."Odd ""Table_versions" ORDER BY row_position',
	'SELECT * FROM "Odd ""Schema"."Odd ""Table__history" ORDER BY row_position',
	q{SELECT * FROM "Odd ""Schema"."Odd ""Table__as_of"('infinity')},
	'SELECT * FROM part_versions ORDER BY row_position',
	'SELECT * FROM lazy_versions ORDER BY row_position',
	'SELECT * FROM immutable.versioned_tables ORDER BY relation::text',
	'SELECT relation, armed, problem FROM immutable.protected_tables ORDER BY relation::text');
my %before = map { $_ => $node->safe_psql('origin', $_) } @rows;
for my $format (qw(plain custom directory))
{
	my $database = "copy_$format";
	my $file = "$dumps/$format";
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	command_ok([ 'pg_dump', '-F', $format, '-f', $file, $node->connstr('origin') ], "pg_dump -F $format");
	command_ok($format eq 'plain'
		? [ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', $file, $node->connstr($database) ]
		: [ 'pg_restore', '--exit-on-error', '-d', $node->connstr($database), $file ], "restore it");
	is($node->safe_psql($database, $_), $before{$_}, "$format: $_") for @rows;
	$node->safe_psql($database, <<'SQL');
UPDATE "Odd ""Schema"."Odd ""Table" SET "order" = 4;
INSERT INTO "Odd ""Schema"."Odd ""Table" VALUES (2, 5, NULL, NULL);
ALTER TABLE "Odd ""Schema"."Odd ""Table" ADD COLUMN later integer DEFAULT 1;
UPDATE part SET n = 10;
CALL immutable.backfill_versions('lazy');
SQL
	is($node->safe_psql($database, 'SELECT "Id ""x", row_version, row_operation, "order", later FROM "Odd ""Schema"."Odd ""Table_versions" ORDER BY 1, 2'),
		"1|1|I|1.50|1\n1|2|U|3|1\n1|3|U|4|1\n2|1|I|2|1\n2|2|D|2|1\n2|3|I|5|1", "$format: numbering goes on");
	is($node->safe_psql($database, 'SELECT v.* FROM immutable.versioned_tables t, immutable.verify_versions(t.relation) v'), '', "$format: all is well");
	my (undef, undef, $stderr) = $node->psql($database, 'TRUNCATE part_a');
	like($stderr, qr/cannot truncate versioned table "part_a"/, "$format: partitions are watched");
	(undef, undef, $stderr) = $node->psql($database, 'DELETE FROM part_versions');
	like($stderr, qr/cannot delete from immutable table/, "$format: history is protected");
}

# logical replication: the subscriber keeps versions of what it applies
my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');
$subscriber->init(allows_streaming => 'logical');
$subscriber->start;
$node->safe_psql('postgres', 'CREATE TABLE item (id integer PRIMARY KEY, n integer); CREATE PUBLICATION p FOR TABLE item');
$subscriber->safe_psql('postgres', <<'SQL');
CREATE EXTENSION immutable_events;
CREATE TABLE item (id integer PRIMARY KEY, n integer);
SELECT immutable.add_versioning('item');
SQL
my $connection = $node->connstr . ' dbname=postgres';
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION s CONNECTION '$connection' PUBLICATION p");
$subscriber->wait_for_subscription_sync($node, 's');
$node->safe_psql('postgres', 'INSERT INTO item VALUES (1, 1), (2, 2); UPDATE item SET n = 10 WHERE id = 1; DELETE FROM item WHERE id = 2;');
$node->wait_for_catchup('s');
is($subscriber->safe_psql('postgres', 'SELECT id, row_version, row_operation, n FROM item_versions ORDER BY 1, 2'),
	"1|1|I|1\n1|2|U|10\n2|1|I|2\n2|2|D|2", 'what logical replication applies is recorded');
$subscriber->stop;

# whoever waits to take a table over makes no writer wait
$node->safe_psql('postgres', 'CREATE TABLE busy (id integer PRIMARY KEY, n integer); INSERT INTO busy VALUES (1, 1), (2, 2); CREATE EXTENSION immutable_events');
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; UPDATE busy SET n = 10 WHERE id = 1');
my $adder = IPC::Run::start([ 'psql', '-Xq', '-c', "SET application_name = 'adder'; SELECT immutable.add_versioning('busy')", $node->connstr('postgres') ],
	'>', \my $out0, '2>', \my $err0);
$node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'adder' AND query LIKE '%add_versioning%')");
sleep 0.5;
is($node->psql('postgres', "SET lock_timeout = '1s'; UPDATE busy SET n = n + 1 WHERE id = 2") // 1, 0, 'a writer passes who waits for the lock')
	for 1 .. 5;
$holder->query_safe('COMMIT');
$holder->quit;
$adder->finish;
is($err0, '', 'and he gets it in the end');
is($node->safe_psql('postgres', 'SELECT id, row_version, n FROM busy_versions ORDER BY 1, 2'), "1|1|10\n2|1|7", 'with all that was written before');

# a table is taken over while writers go on
my $size = $ENV{VERSION_ROWS} || 200_000;
$node->safe_psql('postgres', <<SQL);
CREATE TABLE big (id integer PRIMARY KEY, n integer NOT NULL, filler text);
INSERT INTO big SELECT i, 0, repeat('x', 50) FROM generate_series(1, $size) i;
CREATE TABLE truth AS SELECT id, 0 AS n FROM generate_series(1, 0) id;
SQL
my $script = "$dumps/writer.pgbench";
append_to_file($script, <<SQL);
\\set id random(1, $size)
\\set new random($size + 1, 2 * $size)
BEGIN;
UPDATE big SET n = n + 1 WHERE id = :id;
DELETE FROM big WHERE id = :id + 1 AND n = 0 AND id % 7 = 0;
INSERT INTO big VALUES (:new, 1) ON CONFLICT (id) DO UPDATE SET n = big.n + 1;
COMMIT;
SQL
my $log = "$dumps/latency";
my $writers = IPC::Run::start([ 'pgbench', '-n', '-c', '3', '-j', '1', '-T', '12', '--log', "--log-prefix=$log", '-f', $script, $node->connstr('postgres') ],
	'>', \my $out, '2>', \my $err);
sleep 1;
my $begun = time;
$node->safe_psql('postgres', "SELECT immutable.add_versioning('big', 'lazy')");
my $added = time - $begun;
cmp_ok($added, '<', 1, 'a big table is versioned lazily within a second');
my (undef, undef, $unknown) = $node->psql('postgres', q{SELECT count(*) FROM big__as_of('infinity')});
like($unknown, qr/not all known yet/, 'and is not known until it is backfilled');
# somebody keeps a row locked for a while
my $locker = IPC::Run::start([ 'psql', '-Xq', '-c', 'BEGIN; SELECT FROM big WHERE id = 100 FOR UPDATE; SELECT pg_sleep(4); COMMIT', $node->connstr('postgres') ],
	'>', \my $out1, '2>', \my $err1);
$node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'BEGIN; SELECT FROM big%' AND wait_event = 'PgSleep')");
my $backfill = IPC::Run::start([ 'psql', '-Xq', '-c', "CALL immutable.backfill_versions('big', 2000)", $node->connstr('postgres') ], '>', \my $out2, '2>', \my $err2);
$backfill->finish;
$locker->finish;
is($err2, '', 'backfilled under load');
my $known = $node->safe_psql('postgres', 'SELECT clock_timestamp()');
$writers->finish;
my $slowest = 0;
for my $file (glob "$log*")
{
	for my $line (split /\n/, slurp_file($file))
	{
		my $us = (split / /, $line)[2];
		$slowest = $us if $us =~ /^\d+$/ && $us > $slowest;
	}
}
# the backfill lasts for 4 s at least, for the row that is locked
cmp_ok($slowest, '<', 4_000_000, "no writer was stopped: the slowest transaction took $slowest us");
is($node->safe_psql('postgres', q{SELECT * FROM immutable.verify_versions('big') LIMIT 5}), '', 'every row is what its newest version says');
is($node->safe_psql('postgres', q{SELECT count(*) FROM immutable.versioned_tables t, big__as_of(t.began_at) b WHERE b.id <= } . $size . q{ AND t.relation = 'big'::regclass}),
	$node->safe_psql('postgres', qq{SELECT count(*) FROM (SELECT DISTINCT ON (id) * FROM big_versions ORDER BY id, row_version) f, immutable.versioned_tables t WHERE f.row_start <= t.began_at AND f.id <= $size AND t.relation = 'big'::regclass}),
	'the state at the beginning is that of the first versions');
is($node->safe_psql('postgres', q{SELECT count(*) FROM big_versions v WHERE row_version > 1 AND NOT EXISTS (SELECT FROM big_versions b WHERE b.id = v.id AND b.row_version = v.row_version - 1)}),
	'0', 'versions have no gap');

done_testing();
