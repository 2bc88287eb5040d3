# pg_dump and pg_restore in every format: rows, guards, sequences and the audit
# trail come back as they were, without repair and without an import; a dump of
# the schema alone gives empty logs that are armed, and its data goes in by an
# import.

use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
my $dumps = $node->basedir;

$node->safe_psql('postgres', 'CREATE DATABASE origin');
$node->safe_psql('origin', <<'SQL');
CREATE EXTENSION immutable_events;
CREATE SCHEMA "Odd ""Schema";
CREATE TABLE audit (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text);
INSERT INTO audit (what) VALUES ('first'), ('second');
SELECT immutable.protect('audit');
CREATE TABLE plain_table (id integer PRIMARY KEY REFERENCES audit);
INSERT INTO plain_table VALUES (1);
CREATE TABLE measures (at date, value integer) PARTITION BY RANGE (at);
CREATE TABLE measures_2025 PARTITION OF measures FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
INSERT INTO measures VALUES ('2025-06-01', 1);
SELECT immutable.protect('measures');
SELECT immutable.create_log('ledger');
SELECT immutable.create_log('parted', partitions => 4);
SELECT immutable.create_log('"Odd ""Schema"."Odd ""Log"', unique_ids => false);
CREATE FUNCTION add(total bigint, e immutable.event) RETURNS bigint
LANGUAGE sql IMMUTABLE RETURN total + (e.data->>'n')::bigint;
CREATE FUNCTION decide(total bigint, command jsonb) RETURNS immutable.new_event[]
LANGUAGE sql RETURN ARRAY[ROW('decided', command || jsonb_build_object('total', total), NULL, NULL, NULL)]::immutable.new_event[];
SELECT immutable.enable_commands('ledger'), immutable.enable_commands('"Odd ""Schema"."Odd ""Log"');
SELECT immutable.handle('ledger', 'c', '{"n": 7}', 0::bigint, 'decide', 'add', '018f0000-0000-7000-8000-000000000001');
CREATE FUNCTION newer(e immutable.event) RETURNS immutable.event LANGUAGE sql IMMUTABLE
RETURN ROW(e.position, e.recorded_at, e.version, e.id, 2, e.stream, e.type, e.data || '{"n": 1}', e.metadata)::immutable.event;
CREATE INDEX ON ledger USING gin (data);
SELECT immutable.enable_snapshots('ledger', 'add', 10, 7);
-- an event in two columns that a dump must not mix up, text that must be quoted
SELECT immutable.append(log, 's' || n % 10, E'it\'s "done"\t\\', jsonb_build_object('n', n), '{"by": "ä\\n"}')
FROM unnest(ARRAY['ledger', 'parted', '"Odd ""Schema"."Odd ""Log"']::regclass[]) log, generate_series(1, 200) n;
SELECT immutable.add_upcaster(log, E'it\'s "done"\t\\', 1, 'newer')
FROM unnest(ARRAY['parted', '"Odd ""Schema"."Odd ""Log"']::regclass[]) log;
-- positions with a gap, and one import
BEGIN;
SELECT immutable.append('ledger', 's1', 'undone');
ROLLBACK;
BEGIN;
SET LOCAL immutable.import = on;
INSERT INTO ledger VALUES (1000, '2030-01-01', 1, gen_random_uuid(), 1, 'imported', 'imported', '{"n": 0}', '{}');
COMMIT;
-- a snapshot that is wrong, so that its use can be seen
SELECT immutable.replay('ledger', 's1', 0::bigint, 'add');
UPDATE ledger_snapshots SET state = '1000000';
CREATE TABLE another (x integer);
SELECT immutable.protect('another');
SELECT immutable.unprotect('another');
SQL

my $guards = 'SELECT relation, armed, problem FROM immutable.protected_tables ORDER BY relation::text COLLATE "C"';
my @rows = (
	'SELECT * FROM audit ORDER BY id',
	'SELECT * FROM measures',
	'SELECT * FROM ledger ORDER BY position',
	'SELECT * FROM parted ORDER BY position',
	'SELECT * FROM "Odd ""Schema"."Odd ""Log" ORDER BY position',
	'SELECT * FROM ledger_commands',
	'SELECT * FROM immutable.command_tables ORDER BY relation::text COLLATE "C"',
	'SELECT * FROM immutable.upcasters ORDER BY log::text COLLATE "C"',
	'SELECT * FROM ledger_snapshots',
	'SELECT * FROM immutable.snapshots',
	'SELECT * FROM immutable.guard_changes ORDER BY changed_at');
my %origin = map { $_ => query('origin', $_) } $guards, @rows;
unlike($origin{$guards}, qr/\|f\|/, 'everything is armed before');
cmp_ok(scalar(split /\n/, $origin{$rows[-1]}),
	'>=', 8, 'the audit trail has rows before');

run_ok('pg_dump', '-f', "$dumps/plain.sql", 'origin');
restore('plain', 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', "$dumps/plain.sql", '-d');
run_ok('pg_dump', '--inserts', '-f', "$dumps/inserts.sql", 'origin');
restore('inserts', 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', "$dumps/inserts.sql", '-d');
run_ok('pg_dump', '-Fc', '-f', "$dumps/custom.dump", 'origin');
restore('custom', 'pg_restore', '--exit-on-error', "$dumps/custom.dump", '-d');
restore('custom_single', 'pg_restore', '--single-transaction', "$dumps/custom.dump", '-d');
run_ok('pg_dump', '-Fd', '-j2', '-f', "$dumps/directory", 'origin');
restore('directory', 'pg_restore', '--exit-on-error', '-j2', "$dumps/directory", '-d');
run_ok('pg_dump', '-Ft', '-f', "$dumps/dump.tar", 'origin');
restore('tar', 'pg_restore', '--exit-on-error', "$dumps/dump.tar", '-d');
# what was restored can be dumped and restored again
run_ok('pg_dump', '-Fc', '-f', "$dumps/again.dump", 'tar');
restore_only('again', 'pg_restore', '--exit-on-error', "$dumps/again.dump", '-d');
is(query('again', $_), query('tar', $_), "again: $_") for $guards, @rows;

# a snapshot of events that are not there, and one of a reducer that is another
restore_only('partly', 'pg_restore', '--exit-on-error', "$dumps/custom.dump", '-d');
$node->safe_psql('partly', "UPDATE ledger_snapshots SET stream = 's2'");
is(query('partly', "SELECT immutable.replay('ledger', 's2', 0::bigint, 'add')"),
	query('origin', "SELECT immutable.replay('ledger', 's2', 0::bigint, 'add')"),
	'a snapshot of other events does not count');
restore_only('other', 'pg_restore', '--exit-on-error', "$dumps/custom.dump", '-d');
$node->safe_psql('other', 'CREATE OR REPLACE FUNCTION add(total bigint, e immutable.event)'
	  . " RETURNS bigint LANGUAGE sql IMMUTABLE RETURN total + 2 * (e.data->>'n')::bigint");
is(query('other', "SELECT immutable.replay('ledger', 's1', 0::bigint, 'add')"),
	query('origin', "SELECT sum(2 * (data->>'n')::bigint) FROM ledger WHERE stream = 's1'"),
	'nor one of another reducer');

# the schema alone: empty logs, armed
run_ok('pg_dump', '--schema-only', '-f', "$dumps/schema.sql", 'origin');
restore_only('bare', 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', "$dumps/schema.sql", '-d');
is(query('bare', $guards), $origin{$guards}, 'schema only: the guards are in place');
is(query('bare', 'SELECT (SELECT count(*) FROM ledger), (SELECT count(*) FROM parted)'),
	'0|0', 'schema only: the logs are empty');
is(query('bare', "SELECT * FROM immutable.append('ledger', 's1', 'first')"),
	'1|1|1', 'schema only: an append works');
is(query('bare', "SELECT immutable.enable_commands('ledger')"),
	'ledger_commands', 'schema only: commands are enabled again');

# its data, by an import
restore_only('later', 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', "$dumps/schema.sql", '-d');
run_ok('pg_dump', '--data-only', '-Fc', '-f', "$dumps/data.dump", 'origin');
{
	local %ENV = environment();
	command_fails_like(
		[ 'pg_restore', '--exit-on-error', '-t', 'ledger', '-d', 'later', "$dumps/data.dump" ],
		qr/cannot insert into immutable table "ledger"/,
		'data only: refused when it is not an import');
	local $ENV{PGOPTIONS} = '-c immutable.import=on';
	command_ok([ 'pg_restore', '--exit-on-error', '-d', 'later', "$dumps/data.dump" ],
		'data only: loaded by an import');
}
is(query('later', $_), $origin{$_}, "data only: $_") for @rows[ 0 .. 5 ];
goes_on('later');
is( query('later',
		"SELECT string_agg(DISTINCT relation COLLATE \"C\", ' ' ORDER BY relation COLLATE \"C\")"
		  . " FROM immutable.guard_changes WHERE action = 'import'"
		  . ' AND changed_at > (SELECT max(changed_at) FROM immutable.guard_changes'
		  . " WHERE action = 'unprotect')"),
	'"Odd ""Schema"."Odd ""Log" public.ledger public.parted',
	'data only: the import is on record');

$node->stop;
done_testing();

# Restore into a new database, and compare with the origin.
sub restore
{
	my ($database, @command) = @_;

	restore_only($database, @command);
	is(query($database, $guards), $origin{$guards}, "$database: the guards are in place");
	is(query($database, $_), $origin{$_}, "$database: $_") for @rows;
	is(query($database, "SELECT immutable.replay('parted', 's3', 0::bigint, 'add')"),
		query('origin', "SELECT immutable.replay('parted', 's3', 0::bigint, 'add')"),
		"$database: replay");
	is(query($database, "SELECT immutable.replay('ledger', 's1', 0::bigint, 'add')"),
		1000000, "$database: replay from a snapshot");
	goes_on($database);
}

# Restore into a new database.
sub restore_only
{
	my ($database, @command) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	run_ok(@command, $database);
}

# Appends continue above what was dumped, and changes are refused.
sub goes_on
{
	my ($database) = @_;

	for my $log ('ledger', 'parted', '"Odd ""Schema"."Odd ""Log"')
	{
		is( query($database, qq{
WITH before AS MATERIALIZED (SELECT max(position) AS position FROM $log)
SELECT version, a.position > before.position, written
FROM before, immutable.append('$log', 's1', 'restored', expected_version => 20) a}),
			'21|t|1', "$database: an append to $log goes on");
		is( query($database, qq{
WITH before AS MATERIALIZED (SELECT max(position) AS position FROM $log)
SELECT version, a.position = before.position + 1
FROM before, immutable.append('$log', 'new', 'restored') a}),
			'1|t', "$database: a new stream of $log begins");
		is_refused($database, "UPDATE $log SET type = 'changed'");
		is_refused($database, "INSERT INTO $log SELECT * FROM $log");
	}
	is_refused($database, $_)
	  for ("UPDATE audit SET what = 'changed'", 'DELETE FROM measures_2025',
		'TRUNCATE measures', 'DELETE FROM immutable.guard_changes');
	$node->safe_psql($database, "INSERT INTO audit (what) VALUES ('third')");
	is(query($database, 'SELECT max(id) FROM audit'), 3, "$database: INSERTs go on");
}

# A statement that is refused with 23001.
sub is_refused
{
	my ($database, $statement) = @_;
	my $stderr;

	$node->psql($database, "\\set VERBOSITY sqlstate\n$statement", stderr => \$stderr);
	like($stderr, qr/ERROR:  23001$/, "$database: refused: $statement");
}

# Run a client program against the node.
sub run_ok
{
	my (@command) = @_;
	local %ENV = environment();
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	command_ok(\@command, join ' ', map { s/^\Q$dumps\E\///r } @command);
}

# The environment in which client programs find the node.
sub environment
{
	return (%ENV, PGHOST => $node->host, PGPORT => $node->port);
}

# What a database answers.
sub query
{
	my ($database, $sql) = @_;
	return $node->safe_psql($database, $sql);
}
