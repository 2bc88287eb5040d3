# A hot standby reads streams and folds them, and refuses to append; once it is
# promoted, appends go on above what the primary has written, and what was
# protected is protected.

use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->start;
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

$primary->safe_psql('postgres', q{
CREATE EXTENSION immutable_events;
CREATE FUNCTION decide(total bigint, command jsonb) RETURNS immutable.new_event[]
LANGUAGE sql RETURN NULL::immutable.new_event[];
CREATE FUNCTION add(total bigint, e immutable.event) RETURNS bigint
LANGUAGE sql IMMUTABLE RETURN total + (e.data->>'n')::bigint;
CREATE TABLE audit (what text);
INSERT INTO audit VALUES ('first');
SELECT immutable.protect('audit');
SELECT immutable.create_log('ledger');
SELECT immutable.create_log('parted', partitions => 3);
SELECT immutable.append(log, 's', 'added', jsonb_build_object('n', n))
FROM unnest(ARRAY['ledger', 'parted']::regclass[]) log, generate_series(1, 10) n;
});
$primary->wait_for_catchup($standby, 'replay');

# snapshots are read, and none is written; an unlogged table is of no use there
$primary->safe_psql('postgres', q{
SELECT immutable.create_log('kept');
SELECT immutable.append('kept', 's', 'added', jsonb_build_object('n', n)) FROM generate_series(1, 10) n;
SELECT immutable.enable_snapshots('kept', 'add', 1);
SELECT immutable.replay('kept', 's', 0::bigint, 'add');
UPDATE kept_snapshots SET state = '1000';
SELECT immutable.append('kept', 'other', 'added', '{"n": 1}');
});
$primary->wait_for_catchup($standby, 'replay');
is(standby("SELECT immutable.replay('kept', 's', 0::bigint, 'add')"),
	1000, 'replay from a snapshot on the standby');
is(standby("SELECT immutable.replay('kept', 'other', 0::bigint, 'add')"),
	1, 'replay without one on the standby');
is(standby('SELECT count(*) FROM kept_snapshots'), 1, 'it writes none');
$primary->safe_psql('postgres', 'ALTER TABLE kept_snapshots SET UNLOGGED');
$primary->wait_for_catchup($standby, 'replay');
is(standby("SELECT immutable.replay('kept', 's', 0::bigint, 'add')"),
	55, 'replay without an unlogged table on the standby');
$primary->safe_psql('postgres', "SELECT immutable.drop_log('kept', force => true)");
$primary->wait_for_catchup($standby, 'replay');

for my $log ('ledger', 'parted')
{
	is(standby("SELECT immutable.stream_version('$log', 's')"),
		10, "$log: stream_version on the standby");
	is( standby("SELECT string_agg(version || ':' || (data->>'n'), ' ' ORDER BY version)"
			  . " FROM immutable.read_stream('$log', 's', 8)"),
		'8:8 9:9 10:10',
		"$log: read_stream on the standby");
	is( standby("SELECT version FROM immutable.read_stream('$log', 's', max_events => 1, backward => true)"),
		10, "$log: read_stream backward on the standby");
	is(standby("SELECT immutable.replay('$log', 's', 0::bigint, 'add')"),
		55, "$log: replay on the standby");
	is(standby("SELECT stream, version, state FROM immutable.replay_all('$log', 0::bigint, 'add')"),
		's|10|55', "$log: replay_all on the standby");
	is( standby("SELECT immutable.fold(0::bigint, 'add', e ORDER BY version) FROM $log e"),
		55, "$log: fold on the standby");
	is(standby_error("SELECT immutable.append('$log', 's', 'added')"),
		'ERROR:  25006: cannot execute immutable.append() during recovery',
		"$log: append on the standby");
	is(standby_error("SELECT immutable.handle('$log', 's', '{}', 0::bigint, 'decide', 'add')"),
		'ERROR:  25006: cannot execute immutable.handle() during recovery',
		"$log: handle on the standby");
	is(standby_error("SELECT immutable.append('$log', 's', 'added', expected_version => 3)"),
		'ERROR:  25006: cannot execute immutable.append() during recovery',
		"$log: append with an expectation that does not hold");
	is( standby_error("SELECT immutable.stream_version('pg_class', 's')"),
		'ERROR:  42809: "pg_class" is not a log',
		'errors are the same on the standby');
}
is( standby("SELECT string_agg(relation::text, ' ' ORDER BY relation::text COLLATE \"C\"), bool_and(armed) FROM immutable.protected_tables"),
	'audit immutable.guard_changes immutable.skipped_events ledger parted parted_p0 parted_p1 parted_p2|t',
	'protected_tables on the standby');
is( standby_error("SELECT immutable.create_log('other')"),
	'ERROR:  25006: cannot execute CREATE SEQUENCE in a read-only transaction',
	'create_log on the standby');

# a read-only transaction on the primary is refused, too
is( error($primary, "BEGIN READ ONLY; SELECT immutable.append('ledger', 's', 'added')"),
	'ERROR:  25006: cannot execute immutable.append() in a read-only transaction',
	'append in a read-only transaction');

# what the primary commits shows on the standby, and what it rolls back does not
$primary->safe_psql('postgres', q{
SELECT immutable.append('ledger', 's', 'added', '{"n": 100}');
BEGIN;
SELECT immutable.append('ledger', 's', 'added', '{"n": 1000}');
ROLLBACK;
});
$primary->wait_for_catchup($standby, 'replay');
is(standby("SELECT immutable.replay('ledger', 's', 0::bigint, 'add')"),
	155, 'replay follows the primary');

# a session of the standby that knows of no upcaster hears of a new one
my ($answers, $errors) = ('', '');
my $reader = IPC::Run::start([
	'psql', '-XAtq', '-d', $standby->connstr('postgres'),
	'-c', "SELECT schema_version FROM immutable.read_stream('ledger', 's', 11)",
	'-c', q{DO $$ BEGIN
	FOR i IN 1..1800 LOOP
		EXIT WHEN EXISTS (SELECT FROM immutable.upcasters);
		PERFORM pg_sleep(0.1);
	END LOOP;
END $$},
	'-c', "SELECT schema_version FROM immutable.read_stream('ledger', 's', 11)" ],
	'<', \undef, '>', \$answers, '2>', \$errors);
ok( $standby->poll_query_until('postgres',
		q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'DO %'}),
	'a reader on the standby waits for an upcaster');
$primary->safe_psql('postgres', q{
CREATE FUNCTION newer(e immutable.event) RETURNS immutable.event LANGUAGE sql IMMUTABLE
RETURN ROW(e.position, e.recorded_at, e.version, e.id, e.schema_version + 1, e.stream, e.type, e.data, e.metadata)::immutable.event;
SELECT immutable.add_upcaster('ledger', 'added', 1, 'newer');
});
$reader->finish;
is($answers . $errors, "1\n2\n", 'upcasters follow the primary');
is( standby_error("SELECT immutable.add_upcaster('ledger', 'added', 2, 'newer')"),
	'ERROR:  25006: cannot execute immutable.add_upcaster() during recovery',
	'add_upcaster on the standby');

my $last = standby('SELECT max(position) FROM ledger');
$primary->stop;
$standby->promote;

is( standby("SELECT version, position > $last, written FROM immutable.append('ledger', 's', 'added', '{\"n\": 1}', expected_version => 11)"),
	'12|t|1', 'after promotion an append goes on top');
is( standby("SELECT version FROM immutable.append('ledger', 't', 'added', '{\"n\": 1}')"),
	1, 'after promotion a new stream begins');
is( standby("SELECT version, written FROM immutable.append('parted', 's', 'added', '{\"n\": 1}')"),
	'11|1', 'after promotion an append to a partitioned log');
is( standby('SELECT count(*) FROM (SELECT version, row_number() OVER w AS number,'
		  . ' position, lag(position) OVER w AS last_position'
		  . ' FROM ledger WINDOW w AS (PARTITION BY stream ORDER BY version)) e'
		  . ' WHERE version <> number OR position <= last_position'),
	0,
	'versions without gaps, positions rise');
is( standby_error("SELECT immutable.append('ledger', 's', 'added', expected_version => 11)"),
	'ERROR:  40001: cannot append to stream "s"',
	'after promotion a stale expectation is refused');
for my $statement (
	"UPDATE audit SET what = 'changed'",
	"DELETE FROM ledger", "TRUNCATE parted", "INSERT INTO ledger SELECT * FROM ledger")
{
	like(standby_error($statement),
		qr/^ERROR:  23001: cannot (update|delete from|truncate|insert into) immutable table "\w+"$/,
		"after promotion refused: $statement");
}
is(standby('SELECT * FROM audit'), 'first', 'the protected row is as it was');

$standby->stop;
done_testing();

# What the standby answers.
sub standby
{
	return $standby->safe_psql('postgres', $_[0]);
}

# The SQLSTATE and message the standby answers with.
sub standby_error
{
	return error($standby, $_[0]);
}

# The first line of an error, in which psql puts SQLSTATE and message.
sub error
{
	my ($node, $sql) = @_;

	my ($code, $stdout, $stderr) =
	  $node->psql('postgres', "\\set VERBOSITY verbose\n$sql");
	my ($error) = $stderr =~ /(ERROR:  .*)/ or return "no error: $stdout";
	return $error;
}
