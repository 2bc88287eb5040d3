# Big transactions and retries under concurrency. 200,000 streams in one
# transaction fit into a server with default lock settings, and whoever appends
# to the same or to other streams meanwhile waits or proceeds; nobody fails. The
# same command sent by eight connections at once writes once and gives all
# eight the same answer, single and batch, with and without expectation, on
# every kind of log. Opposite orders of streams deadlock only where they do.

use strict;
use warnings FATAL => 'all';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $streams = 200_000;
my $connections = 8;

my $node = PostgreSQL::Test::Cluster->new('batches');
$node->init;
# locks and lock table as they are by default
$node->append_conf('postgresql.conf', qq{
max_connections = 100
max_locks_per_transaction = 64
deadlock_timeout = 100ms
log_statement = none
});
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION immutable_events;
SELECT immutable.create_log('plain');
SELECT immutable.create_log('loose', unique_ids => false);
SELECT immutable.create_log('parted', partitions => 4);
SELECT immutable.create_log('retried');
CREATE VIEW faults AS
SELECT log, stream, version
FROM (SELECT log, stream, version, row_number() OVER w AS number,
		position, lag(position) OVER w AS last_position
	FROM (SELECT 'plain' AS log, e.* FROM plain e
		UNION ALL SELECT 'loose', e.* FROM loose e
		UNION ALL SELECT 'parted', e.* FROM parted e) e
	WINDOW w AS (PARTITION BY log, stream ORDER BY version)) e
WHERE version <> number OR position <= last_position;

-- another appender for as long as the big transaction runs
CREATE PROCEDURE others(log regclass, name text, same boolean, INOUT outcome text DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
	times integer := 0;
	stream text;
BEGIN
	WHILE NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND objsubid = 1) LOOP
		COMMIT;
	END LOOP;
	WHILE EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND objsubid = 1) LOOP
		stream := CASE WHEN same THEN 'stream-' || (floor(random() * 200000))
			ELSE name || '-' || times % 100 END;
		PERFORM immutable.append_json(log, stream, '[{"type": "other"}, {"type": "other"}]');
		times := times + 1;
		COMMIT;
	END LOOP;
	outcome := times;
END
$$;
SQL

# many streams in one transaction
for my $log ('plain', 'parted')
{
	my @others = map {
		start("CALL others('$log', 'other-$_', " . ($_ <= 2 ? 'true' : 'false') . ')')
	} 1 .. 4;
	my $big = start("BEGIN; SELECT pg_advisory_lock(1);"
		  . " SELECT count(*) FROM (SELECT immutable.append('$log', 'stream-' || i, 'big') FROM generate_series(0, $streams - 1) i OFFSET 0) a;"
		  . " SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory' AND objsubid = 7;"
		  . " COMMIT; SELECT pg_advisory_unlock(1)");

	is(finish($big), "\n$streams\n0\nt", "$log: $streams streams in one transaction, and not one lock on a stream is left");
	my @times = map { finish($_) } @others;
	like($times[$_], qr/^\d+$/, "$log: appender " . ($_ + 1) . " has not failed") for 0 .. 3;
	cmp_ok($times[2] + $times[3], '>', 20, "$log: appenders to other streams proceed");
	is(query("SELECT count(*) FROM $log WHERE type = 'big'"), $streams, "$log: all events are there");
	my $sum = 0;
	$sum += $_ for @times;
	is(query("SELECT count(*) FROM $log WHERE type = 'other'"), 2 * $sum, "$log: and all of the others");
	is( query("SELECT count(*) FROM immutable.read_log('$log')"),
		$streams + 2 * $sum, "$log: to be read in order");
	note("appends meanwhile: @times");
}

# a batch of many events, too
is( query("SELECT version, written FROM immutable.append_json('plain', 'long', (SELECT jsonb_agg('{\"type\": \"long\"}'::jsonb) FROM generate_series(1, $streams)))"),
	"$streams|$streams", "a batch of $streams events");

# the same command from eight connections at once
my $uuid = sub { sprintf "00000000-0000-7000-8000-%06d%06d", @_ };
my $case = 0;
for my $log ('retried', 'loose', 'parted')
{
	for my $expected ('NULL', '0', '3', '-4')
	{
		for my $kind ('append', 'append_batch', 'append_json', 'append_json, some ids')
		{
			my $stream = 's' . ++$case;
			my $count = $kind eq 'append' ? 1 : 5;
			my $before = $expected eq '3' ? 3 : $expected eq '-4' ? 1 : 0;
			my @ids = map { $uuid->($case, $_) } 1 .. $count;
			my $call =
			  $kind eq 'append'
			  ? "append('$log', '$stream', 'retried', expected_version => $expected, id => '$ids[0]')"
			  : $kind eq 'append_batch'
			  ? "append_batch('$log', '$stream', ARRAY["
			  . join(',', map { "('retried', NULL, NULL, '$_', NULL)" } @ids)
			  . "]::immutable.new_event[], $expected)"
			  : "append_json('$log', '$stream', '["
			  . join(',', map { $kind =~ /some/ && $_ eq $ids[0] ? '{"type": "retried"}' : "{\"type\": \"retried\", \"id\": \"$_\"}" } @ids)
			  . "]', $expected)";

			query("SELECT immutable.append('$log', '$stream', 'before')") for 1 .. $before;
			my @answers = at_once(("SELECT * FROM immutable.$call") x $connections);
			my $last = $before + $count;
			my $position = query("SELECT position FROM $log WHERE stream = '$stream' AND version = $last");

			is( join(' ', sort @answers),
				join(' ', ("$last|$position|0") x ($connections - 1), "$last|$position|$count"),
				"$log, $kind, expected $expected: written once, one answer");
			is( query("SELECT count(*), count(DISTINCT id), max(version) FROM $log WHERE stream = '$stream'"),
				"$last|$last|$last", "$log, $kind, expected $expected: no event more");
		}
	}
}

# different commands for the same place: one is in time
for my $log ('retried', 'loose', 'parted')
{
	my @answers = at_once(map {
			my $id = $uuid->(900, $_);
			"SELECT written FROM immutable.append_json('$log', 'raced', '[{\"type\": \"raced\", \"id\": \"$id\"}, {\"type\": \"raced\"}]', 0)"
	} 1 .. $connections);

	is( join(' ', sort @answers), join(' ', '2', ('40001') x ($connections - 1)),
		"$log: one of $connections different batches for a new stream");
}

# batches of which two share an id: one of the two is refused
my @answers = at_once(map {
		my @ids = ($uuid->(901, int $_ / 2), $uuid->(902, $_));
		"SELECT written FROM immutable.append_json('loose', 'shared', '[{\"type\": \"shared\", \"id\": \"$ids[0]\"}, {\"type\": \"shared\", \"id\": \"$ids[1]\"}]')"
} 0 .. $connections - 1);
is(join(' ', sort @answers), join(' ', ('2') x ($connections / 2), ('23505') x ($connections / 2)),
	'of two batches that share an id one is written');
is(query("SELECT count(*), count(DISTINCT id) FROM loose WHERE stream = 'shared'"),
	join('|', ($connections) x 2), 'and no id twice');

# opposite orders of streams
for my $log ('plain', 'loose', 'parted')
{
	my @crossed = at_once(map {
			my ($first, $second) = @$_;
			"BEGIN; SELECT written FROM immutable.append('$log', '$first', 'crossed');"
			  . " SELECT FROM pg_sleep(0.5); SELECT written FROM immutable.append('$log', '$second', 'crossed'); COMMIT"
	} ['x', 'y'], ['y', 'x']);

	is(join(' ', sort map { s/\n+/,/gr } @crossed), '1,1 1,40P01',
		"$log: opposite orders of streams deadlock, for one of them");
	is( query("SELECT string_agg(stream || version, ' ' ORDER BY stream, version) FROM $log WHERE type = 'crossed'"),
		'x1 y1', "$log: the other has written");

	# the same order, and orders that cross at no moment, do not
	my @orders = (['u', 'v'], ['u', 'v'], ['v', 'w'], ['u', 'w']);
	my @outcomes = at_once(map {
			my ($first, $second) = @$_;
			"BEGIN; SELECT written FROM immutable.append('$log', '$first', 'same');"
			  . " SELECT FROM pg_sleep(0.2); SELECT written FROM immutable.append('$log', '$second', 'same'); COMMIT"
	} @orders);
	is(join(' ', map { s/\n+/,/gr } @outcomes), join(' ', ('1,1') x 4),
		"$log: the same order of streams does not");
}
is(query('SELECT count(*) FROM faults'), 0, 'versions without gaps, positions rise');
is(query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), 0, 'no stream is locked');

$node->stop;
done_testing();

# Run statements at the same moment, each in a session of its own: all wait for
# a lock that is released when all are there. Answers, or SQLSTATEs.
sub at_once
{
	my @statements = @_;
	my $gate = $node->background_psql('postgres');

	$gate->query_safe('SELECT pg_advisory_lock(2)');
	my @sessions = map {
		start("SELECT FROM pg_advisory_lock_shared(2); SELECT FROM pg_advisory_unlock_shared(2); $_")
	} @statements;
	$node->poll_query_until('postgres',
		"SELECT count(*) = " . @statements . " FROM pg_locks WHERE locktype = 'advisory' AND objid = 2 AND NOT granted")
	  or die 'the sessions are not ready';
	$gate->query_safe('SELECT pg_advisory_unlock(2)');
	$gate->quit;
	return map { my $out = finish($_); $out =~ s/^\s+|\s+$//g; $out } @sessions;
}

# Start a session that runs statements one by one.
sub start
{
	my ($sql) = @_;
	my $session = { out => '', in => join("\n", '\set VERBOSITY sqlstate', map { "$_;" } split /; ?/, $sql) . "\n" };

	$session->{run} = IPC::Run::start(
		[ 'psql', '-XAtqd', $node->connstr('postgres') ],
		'<', \$session->{in}, '>', \$session->{out}, '2>&1',
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	$session->{run}->pump while length $session->{in};
	return $session;
}

# What a session said; of an error the SQLSTATE.
sub finish
{
	my ($session) = @_;

	$session->{run}->finish;
	my $out = $session->{out};
	$out =~ s/^ERROR:  //mg;
	chomp $out;
	return $out;
}

# One value, or lines.
sub query
{
	return $node->safe_psql('postgres', $_[0]);
}
