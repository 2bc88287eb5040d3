# pg_upgrade, pg_dumpall and pg_restore: a cluster with protected tables comes
# out of them armed, with every row, and goes on; a restore over what is
# protected is refused and takes nothing away.

use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Cwd qw(abs_path);

my $guards = 'SELECT relation, armed, problem FROM immutable.protected_tables ORDER BY relation::text COLLATE "C"';
my $event_triggers = q{SELECT string_agg(evtname || ' ' || evtenabled::text, ', ' ORDER BY evtname) FROM pg_event_trigger};
my @rows = (
	'SELECT * FROM audit ORDER BY id',
	'SELECT * FROM loose ORDER BY note',
	'SELECT tableoid::regclass, * FROM measures ORDER BY at',
	'SELECT tableoid::regclass, * FROM family ORDER BY id',
	'SELECT * FROM typed',
	'SELECT * FROM ledger ORDER BY position',
	'SELECT tableoid::regclass, * FROM parted ORDER BY position',
	'SELECT * FROM "Odd ""Schema"."Odd ""Log" ORDER BY position',
	'SELECT * FROM immutable.guard_changes ORDER BY changed_at');
my @refused = (
	q{UPDATE audit SET what = 'changed'}, 'DELETE FROM audit', 'TRUNCATE audit', 'DELETE FROM loose',
	'UPDATE measures SET value = 0', 'DELETE FROM measures_2025', 'TRUNCATE measures_2026_1', 'DELETE FROM child',
	'TRUNCATE typed', 'DELETE FROM ledger', 'INSERT INTO ledger SELECT * FROM ledger', 'TRUNCATE parted_p0',
	'DELETE FROM "Odd ""Schema"."Odd ""Log"', 'DELETE FROM immutable.guard_changes',
	'ALTER TABLE audit DISABLE TRIGGER ALL', 'ALTER TABLE audit DROP COLUMN what', 'DROP TRIGGER immutable_guard_row ON audit',
	'ALTER TABLE measures DETACH PARTITION measures_2025', 'ALTER TYPE mood RENAME VALUE \'good\' TO \'bad\'',
	'ALTER TYPE pair DROP ATTRIBUTE b CASCADE', 'ALTER SEQUENCE ledger_position_seq RESTART', 'DROP TABLE measures_2025',
	'DROP OWNED BY keeper CASCADE', 'DROP EXTENSION immutable_events CASCADE',
	'CREATE TABLE another_child () INHERITS (family)');

my $old = new_node('old', '');
my $bindir = $old->config_data('--bindir');
$old->safe_psql('postgres', 'CREATE ROLE keeper LOGIN; CREATE ROLE reader; CREATE DATABASE history OWNER keeper; CREATE DATABASE "other one"');
$old->safe_psql('history', <<'SQL');
CREATE EXTENSION immutable_events;
GRANT CREATE ON SCHEMA public TO keeper;
SET ROLE keeper;
CREATE TYPE mood AS ENUM ('good', 'fair');
CREATE TYPE pair AS (a integer, b integer);
CREATE TABLE audit (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text, felt mood,
	twice integer GENERATED ALWAYS AS (length(what) * 2) STORED);
INSERT INTO audit (what, felt) VALUES ('first', 'good'), ('second', 'fair');
SELECT immutable.protect('audit');
ALTER TABLE audit ADD COLUMN later pair;
INSERT INTO audit (what, later) VALUES ('third', ROW(1, 2));
CREATE TABLE loose (note text);
INSERT INTO loose VALUES ('kept');
SELECT immutable.protect('loose');
GRANT SELECT ON audit TO reader;
CREATE TABLE measures (at date, value integer) PARTITION BY RANGE (at);
CREATE TABLE measures_2025 PARTITION OF measures FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
SELECT immutable.protect('measures');
CREATE TABLE measures_2026 PARTITION OF measures FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') PARTITION BY RANGE (at);
CREATE TABLE measures_2026_1 (value integer, dropped text, at date);
ALTER TABLE measures_2026_1 DROP COLUMN dropped;
ALTER TABLE measures_2026 ATTACH PARTITION measures_2026_1 FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
INSERT INTO measures VALUES ('2025-06-01', 1), ('2026-06-01', 2);
CREATE TABLE family (id integer);
CREATE TABLE child (more text) INHERITS (family);
INSERT INTO child VALUES (1, 'more');
SELECT immutable.protect('family');
CREATE TABLE typed OF pair;
INSERT INTO typed VALUES (1, 2);
SELECT immutable.protect('typed');
SELECT immutable.create_log('ledger');
SELECT immutable.create_log('parted', partitions => 2);
RESET ROLE;
CREATE SCHEMA "Odd ""Schema";
SELECT immutable.create_log('"Odd ""Schema"."Odd ""Log"', unique_ids => false);
SELECT immutable.append(log, 's' || n % 10, 'happened', jsonb_build_object('n', n))
FROM unnest(ARRAY['ledger', 'parted', '"Odd ""Schema"."Odd ""Log"']::regclass[]) log, generate_series(1, 100) n;
SELECT immutable.protect('loose');
CREATE TABLE was_protected (x integer);
INSERT INTO was_protected VALUES (1);
SELECT immutable.protect('was_protected');
SELECT immutable.unprotect('was_protected');
SELECT immutable.seal_ownership('loose');
SQL
# a second database where the extension is there and nothing is protected
$old->safe_psql('other one', 'CREATE EXTENSION immutable_events');
my %origin = map { $_ => $old->safe_psql('history', $_) } $guards, $event_triggers, @rows;
is(scalar(grep { /\|t\|$/ } split /\n/, $origin{$guards}), 16, 'all tables, their parts and the audit trail are armed before');
is($origin{$event_triggers}, 'immutable_guard_ddl_end A, immutable_guard_ddl_start A, immutable_guard_rewrite A',
	'the event triggers are ENABLE ALWAYS before');

# restore over what is protected
my $dump = $old->basedir . '/history.dump';
runs($old, 'pg_dump', '-Fc', '-f', $dump, 'history');
is_untouched_by('pg_restore', '--exit-on-error', '--clean');
is_untouched_by('pg_restore', '--exit-on-error', '--clean', '--if-exists');
is_untouched_by('pg_restore', '--single-transaction', '--clean', '--if-exists');
is_untouched_by('pg_restore', '--exit-on-error', '--data-only', '--disable-triggers');
is_untouched_by('pg_restore', '--single-transaction', '--data-only', '--disable-triggers');
is_untouched_by('pg_restore', '--data-only', '--disable-triggers', '-t', 'ledger', '-t', 'parted_p0', '-t', 'parted_p1', '-t', 'audit');
is_untouched_by('pg_restore', '--clean', '-t', 'ledger');
# without --exit-on-error it goes on after what was refused
keeps_all('pg_restore', '--clean');
keeps_all('pg_restore', '--clean', '--if-exists', '-j2');
keeps_all('pg_restore', '--data-only', '--disable-triggers');

# another cluster, from a dump of all
my $all = $old->basedir . '/all.sql';
runs($old, 'pg_dumpall', '-f', $all);
my $restored = new_node('restored', '');
{
	my ($stdout, $stderr);
	$restored->psql('postgres', "\\i $all", stdout => \$stdout, stderr => \$stderr, on_error_stop => 0);
	my @errors = grep { /ERROR/ } split /\n/, $stderr;
	is(scalar(@errors), 1, 'pg_dumpall: one error') || diag $stderr;
	like($errors[0], qr/role "\w+" already exists/, 'pg_dumpall: of the superuser who runs it');
}
goes_on($restored, 'pg_dumpall');
$restored->stop;

# pg_upgrade, and once more with the library preloaded, in place
my $new = new_node('new', '', 'stopped');
upgrade($old, $new);
goes_on($new, 'pg_upgrade');
%origin = map { $_ => $new->safe_psql('history', $_) } $guards, $event_triggers, @rows;
my $newer = new_node('newer', 'shared_preload_libraries = immutable_events', 'stopped');
$new->append_conf('postgresql.conf', 'shared_preload_libraries = immutable_events');
upgrade($new, $newer, '--link');
is($newer->safe_psql('history', 'SELECT immutable._preloaded_by()'), 'shared_preload_libraries', 'pg_upgrade, preloaded: preloaded');
goes_on($newer, 'pg_upgrade, preloaded');
refused($newer, 'pg_upgrade, preloaded', q{UPDATE pg_trigger SET tgenabled = 'D'}, 'ALTER EVENT TRIGGER immutable_guard_ddl_start DISABLE');
$newer->stop;

done_testing();

# A cluster, running unless it is to be the target of an upgrade.
sub new_node
{
	my ($name, $settings, $stopped) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init;
	$node->append_conf('postgresql.conf', "fsync = off\n$settings\n");
	$node->start unless $stopped;
	return $node;
}

# pg_upgrade from a cluster to a new one: the check, and then the upgrade.
sub upgrade
{
	my ($from, $to, @options) = @_;
	# it leaves a script where it runs
	my @command = ('sh', '-c', 'cd "$1" && shift && exec "$@"', 'sh', abs_path($to->basedir),
		'pg_upgrade', '-b', $bindir, '-B', $bindir, '-s', $to->host, '-p', $from->port, '-P', $to->port,
		'-d', abs_path($from->data_dir), '-D', abs_path($to->data_dir), @options);
	my $name = join ' ', $from->name, 'to', $to->name, @options;

	$from->stop;
	command_ok([ @command, '--check' ], "pg_upgrade --check, $name");
	command_ok(\@command, "pg_upgrade, $name");
	$to->start;
}

# All is as it was, refuses as before, and takes what is new.
sub goes_on
{
	my ($node, $title) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is($node->safe_psql('history', $_), $origin{$_}, "$title: $_") for $guards, $event_triggers, @rows;
	is( $node->safe_psql('history', q{SELECT string_agg(hole, ', ' ORDER BY hole) FROM immutable.guard_report('audit')
WHERE state = 'open' AND hole NOT IN ('catalog update', 'event triggers')}),
		'owner', "$title: guard_report is as before");
	refused($node, $title, @refused);
	is($node->safe_psql('history', $_), $origin{$_}, "$title, after what was refused: $_") for $guards, @rows;

	for my $log ('ledger', 'parted', '"Odd ""Schema"."Odd ""Log"')
	{
		is( $node->safe_psql('history', qq{
WITH before AS MATERIALIZED (SELECT max(position) AS position, max(version) FILTER (WHERE stream = 's1') AS version FROM $log)
SELECT a.version - before.version, a.position - before.position, a.written
FROM before, immutable.append('$log', 's1', 'went on', expected_version => before.version) a}),
			'1|1|1', "$title: an append to $log goes on");
	}
	is( $node->safe_psql('history', q{INSERT INTO audit (what) SELECT 'went on'; INSERT INTO measures VALUES ('2025-02-02', 3);
SELECT count(DISTINCT id) = count(*) AND max(id) = count(*) FROM audit}), 't', "$title: INSERTs go on");
	(my $part = $title) =~ s/\W+/_/g;
	my $from = { pg_dumpall => 2030, pg_upgrade => 2031 }->{$title} // 2032;
	$node->safe_psql('history', "SET ROLE keeper; CREATE TABLE $part PARTITION OF measures FOR VALUES FROM ('$from-01-01') TO ('$from-12-31')");
	$node->safe_psql('history', "INSERT INTO measures VALUES ('$from-06-01', 1)");
	refused($node, $title, "DELETE FROM $part", "TRUNCATE $part");
	is( $node->safe_psql('history', 'SELECT count(*), count(*) FILTER (WHERE armed) FROM immutable.protected_tables'),
		join('|', (1 + split /\n/, $origin{$guards}) x 2), "$title: a new partition is armed");

	# the extension works there as in a new database
	$node->safe_psql('other one', 'CREATE TABLE fresh (x integer); INSERT INTO fresh VALUES (1)');
	$node->safe_psql('other one', q{SELECT immutable.protect('fresh')});
	is($node->safe_psql('other one', $event_triggers), $origin{$event_triggers},
		"$title: event triggers of a database with nothing protected");
	$node->safe_psql('other one', q{SELECT immutable.unprotect('fresh'); DROP TABLE fresh;
DROP EXTENSION immutable_events; CREATE EXTENSION immutable_events});
}

# These statements are refused with 23001.
sub refused
{
	my ($node, $title, @statements) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($stdout, $stderr);

	$node->psql('history', join('', map { "$_;\n\\echo :SQLSTATE\n" } @statements),
		stdout => \$stdout, stderr => \$stderr, on_error_stop => 0);
	my @states = split /\n/, $stdout;
	is($states[$_] // 'none', 23001, "$title: refused: $statements[$_]") for 0 .. $#statements;
}

# A restore over the origin fails, and all is as it was.
sub is_untouched_by
{
	my (@command) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	local %ENV = (%ENV, PGHOST => $old->host, PGPORT => $old->port);

	command_fails_like([ @command, '-d', 'history', $dump ], qr/immutable|ledger/, "@command fails");
	is($old->safe_psql('history', $_), $origin{$_}, "@command: $_") for $guards, $event_triggers, @rows;
}

# A restore over a copy of the origin fails, and every row and guard is still
# there; that it adds rows to ordinary protected tables, an INSERT may.
sub keeps_all
{
	my (@command) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	local %ENV = (%ENV, PGHOST => $old->host, PGPORT => $old->port);

	$old->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE history');
	command_fails_like([ @command, '-d', 'copy', $dump ], qr/cannot alter immutable table "audit"/, "@command fails");
	is($old->safe_psql('copy', $_), $origin{$_}, "@command: $_")
	  for $guards, $event_triggers, grep { /position/ } @rows;
	for my $query (grep { !/position/ } @rows)
	{
		my %missing;
		$missing{$_}++ for split /\n/, $origin{$query};
		$missing{$_}-- for split /\n/, $old->safe_psql('copy', $query);
		is(join("\n", grep { $missing{$_} > 0 } sort keys %missing), '', "@command: nothing is missing: $query");
	}
	$old->safe_psql('postgres', 'DROP DATABASE copy');
}

# Run a client program against a node.
sub runs
{
	my ($node, @command) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port);

	command_ok(\@command, $command[0]);
}
