# Consumers at work. Workers share the shards of a consumer: each event exactly
# once when its effect is in the database, with transactions rolled back and
# workers lost in the middle; at least once and in the order of its stream under
# leases. A lease is taken over when it has expired, and the old holder's ack
# refused. A long poll wakes when the event is committed, and sleeps otherwise.
# One consumer that fails holds up no other. An import waits for those who poll.
# A standby reads up to what the primary has persisted, and goes on when it is
# promoted.
# This test runs alone: it measures times.

use strict;
use warnings FATAL => 'all';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = PostgreSQL::Test::Cluster->new('consumers');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', qq{
max_connections = 50
log_statement = none
log_min_messages = fatal
});
$node->start;
$node->backup('base');

$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION immutable_events;
SELECT immutable.create_log('ledger');
-- what the events have done, in the order in which it was done
CREATE TABLE effects (n bigserial PRIMARY KEY, consumer text, worker text, position bigint, stream text, version bigint);
CREATE TABLE control (done boolean);
INSERT INTO control VALUES (false);

-- append until the time is over, in transactions of random size
CREATE PROCEDURE produce(until timestamptz)
LANGUAGE plpgsql AS $$
BEGIN
	WHILE clock_timestamp() < until LOOP
		FOR i IN 1 .. 1 + floor(random() * 4) LOOP
			PERFORM immutable.append('ledger', 'stream-' || floor(random() * 40), (ARRAY['odd', 'even'])[1 + i % 2]);
			PERFORM pg_sleep(random() * 0.004);
		END LOOP;
		IF random() < 0.1 THEN
			ROLLBACK;
		END IF;
		COMMIT;
	END LOOP;
END
$$;

-- consume until all is done: in one transaction, or under a lease
CREATE PROCEDURE consume(consumer text, worker text, leased boolean)
LANGUAGE plpgsql AS $$
DECLARE
	got immutable.event[];
	last bigint;
	finished boolean;
	failed bigint;
BEGIN
	LOOP
		SELECT done INTO finished FROM control;
		SELECT array_agg(e ORDER BY e.position) INTO got
		FROM immutable.poll(consumer, 1 + (random() * 30)::integer, '20 ms',
			lease => CASE WHEN leased THEN interval '200 ms' END) e;
		IF leased THEN
			COMMIT;
		END IF;
		IF got IS NULL THEN
			EXIT WHEN finished AND NOT EXISTS (SELECT FROM immutable.consumer_status s
				WHERE s.consumer = consume.consumer AND s.position < s.safe_position);
			COMMIT;
			CONTINUE;
		END IF;
		-- now and then only the first part of a batch is done
		IF random() < 0.2 THEN
			got := got[1 : 1 + cardinality(got) / 2];
		END IF;
		last := got[cardinality(got)].position;
		INSERT INTO effects (consumer, worker, position, stream, version)
		SELECT consume.consumer, consume.worker, e.position, e.stream, e.version
		FROM unnest(got) WITH ORDINALITY e ORDER BY e.ordinality;
		IF leased THEN
			COMMIT;		-- the effect is elsewhere: no rollback takes it back
			PERFORM pg_sleep(CASE WHEN random() < 0.05 THEN 0.3 ELSE 0.001 END);
			BEGIN
				PERFORM immutable.ack(consumer, last);
			EXCEPTION WHEN object_not_in_prerequisite_state THEN
				NULL;	-- it took too long, and another has taken over
			END;
		ELSE
			PERFORM pg_sleep(random() * 0.005);
			PERFORM immutable.ack(consumer, last);
			IF random() < 0.1 THEN
				ROLLBACK;
			END IF;
		END IF;
		COMMIT;
	END LOOP;
	COMMIT;
END
$$;
SQL

# many workers, many shards
my @consumers = (['exact', 'false', 8], ['single', 'false', 1], ['leased', 'true', 8], ['one lease', 'true', 1]);
$node->safe_psql('postgres', "SELECT immutable.create_consumer('$_->[0]', 'ledger', after_position => 0, shards => $_->[2])")
  for @consumers;
my $seconds = 6;
my $until = query("SELECT clock_timestamp() + interval '$seconds s'");
my $end = time() + $seconds;
my @producers = map { start("CALL produce('$until')") } 1 .. 3;
my %workers;
for my $consumer (@consumers)
{
	$workers{"$consumer->[0] $_"} = start_worker($consumer, $_) for 1 .. 4;
}
my ($lost, $errors) = (0, '');
my $next_loss = time() + 0.5;
while (time() < $end)
{
	# workers whose connection ends in the middle of something
	if (time() > $next_loss)
	{
		$lost += query("SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity"
			  . " WHERE application_name LIKE 'worker %' ORDER BY random() LIMIT 2) w");
		$next_loss = time() + 0.5;
	}
	go_on();
	usleep(20_000);
}
finish($_) for @producers;
query('UPDATE control SET done = true');
my $patience = time() + $PostgreSQL::Test::Utils::timeout_default;
while (%workers && time() < $patience)
{
	go_on();
	usleep(20_000);
}
is(join(', ', sort keys %workers), '', 'every worker has come to the end');
$_->{run}->kill_kill for map { $_->{session} } values %workers;
is($errors, '', 'no error but lost connections');
cmp_ok($lost, '>', 5, 'workers were lost');
cmp_ok(query('SELECT count(*) FROM ledger'), '>', 500, 'there was something to do');
for my $consumer (@consumers)
{
	my ($name, $leased) = @$consumer;
	my $effects = "(SELECT * FROM effects WHERE consumer = '$name') f";

	is( query("SELECT count(*) FROM ledger e WHERE NOT EXISTS (SELECT FROM $effects WHERE f.position = e.position)"),
		0, "$name: nothing is lost");
	# the first time that each event was done
	is( query("SELECT count(*) FROM (SELECT version, lag(version) OVER (PARTITION BY stream ORDER BY n) AS before"
			  . " FROM (SELECT stream, version, min(n) AS n FROM $effects GROUP BY stream, version) g) h"
			  . " WHERE version <> coalesce(before, 0) + 1"),
		0, "$name: in the order of each stream");
	cmp_ok(query("SELECT count(DISTINCT worker) FROM $effects"), '>', 1, "$name: by several workers");
	next if $leased eq 'true';
	is( query("SELECT count(*), count(DISTINCT position) FROM $effects"),
		query('SELECT count(*), count(*) FROM ledger'), "$name: exactly once");
}
is(query("SELECT count(*) FROM immutable.consumer_status WHERE lag_events > 0 OR holder IS NOT NULL"),
	0, 'no consumer lags, and no shard is held');
is(query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), 0, 'no shard is locked');

# a lease is taken over when it has expired, and not before
query("SELECT immutable.create_consumer('lease', 'ledger')");
my $position = query("SELECT position FROM immutable.append('ledger', 'leased', 'first')");
my $old = $node->background_psql('postgres', on_error_stop => 0);
my $new = $node->background_psql('postgres', on_error_stop => 0);
$_->query_safe('\\set VERBOSITY sqlstate') for $old, $new;
is($old->query_safe("SELECT position FROM immutable.poll('lease', lease => '400 ms')"),
	$position, 'a worker takes a lease');
my $began = time();
is($new->query_safe("SELECT count(*) FROM immutable.poll('lease', lease => '1 min')"),
	0, 'another gets nothing');
is( $new->query_safe("SELECT position FROM immutable.poll('lease', timeout => '10 s', lease => '1 min')"),
	$position, 'the lease is taken over');
my $waited = time() - $began;
cmp_ok($waited, '>', 0.3, 'not before it has expired');
cmp_ok($waited, '<', 5, 'and soon after');
for my $call ("ack('lease', $position)", "nack('lease', $position, 'no')", "renew('lease', '1 min')")
{
	like(error($old, "SELECT immutable.$call"), qr/55000/, "the old holder is refused: $call");
}
is(error($new, "SELECT immutable.ack('lease', $position)"), '', 'the new one is not');
is(query("SELECT position FROM immutable.consumer_status WHERE consumer = 'lease'"), $position, 'it is done');

# behind a pooler the token says who holds it
$position = query("SELECT position FROM immutable.append('ledger', 'leased', 'second')");
$old->query_safe("SELECT FROM immutable.poll('lease', lease => '1 min')");
my $token = query("SELECT lease_token FROM immutable.consumer_status WHERE consumer = 'lease'");
like(error($new, "SELECT immutable.ack('lease', $position)"), qr/55000/, 'without the token: refused');
$new->query_safe("SET immutable.lease = '00000000-0000-0000-0000-000000000000'");
like(error($new, "SELECT immutable.ack('lease', $position)"), qr/55000/, 'with another token: refused');
$new->query_safe("SET immutable.lease = '$token'");
is(error($new, "SELECT immutable.ack('lease', $position)"), '', 'with the token: done');
like(error($old, "SELECT immutable.ack('lease', $position)"), qr/55000/, 'and over for all');
$new->query_safe('RESET immutable.lease');

# a long poll wakes within milliseconds of COMMIT, and costs next to nothing
query("SELECT immutable.create_consumer('awake', 'ledger', types => '{awake}')");
for my $case ('a lease', 'a transaction')
{
	my @latencies;
	for my $i (1 .. 21)
	{
		my $open = $case eq 'a lease' ? '' : 'BEGIN; ';
		my $lease = $case eq 'a lease' ? ", lease => '1 min'" : '';

		$new->query_safe("SET application_name = 'awake $case $i'");
		my $poll = poll_later($new, "${open}SELECT FROM immutable.poll('awake', timeout => '10 s'$lease);"
			  . " SELECT extract(epoch FROM clock_timestamp() - (data->>'at')::timestamptz) * 1000 FROM ledger ORDER BY position DESC LIMIT 1;"
			  . " SELECT immutable.ack('awake', max(position)) FROM ledger; " . ($open ? 'COMMIT' : ''),
			"awake $case $i");
		# the transaction is open for a while: the time of COMMIT counts
		query("BEGIN; SELECT FROM pg_sleep(0.02);"
			  . " SELECT FROM immutable.append('ledger', 'awake', 'awake', jsonb_build_object('at', clock_timestamp())); COMMIT");
		push @latencies, (grep { /^[\d.]+$/ } split /\n/, $poll->())[0];
	}
	my $median = (sort { $a <=> $b } @latencies)[10];
	cmp_ok($median, '<', 50, "a long poll with $case wakes at once");
	note("median $median ms");
}

# for two seconds: with nothing to do, with a shard that others hold, or lease
SKIP:
{
	skip 'no /proc here', 3 unless -r "/proc/$$/stat";
	my %holders = (
		'nothing to do' => [ 'SELECT 1', 'SELECT 1' ],
		'a shard that another transaction holds' =>
		  [ "BEGIN; SELECT FROM immutable.poll('awake')", 'COMMIT' ],
		'a shard under a lease' =>
		  [ "SELECT FROM immutable.poll('awake', lease => '10 s')", "SELECT immutable.ack('awake', max(position)) FROM ledger WHERE type = 'awake'" ]);
	for my $case ('nothing to do', 'a shard that another transaction holds', 'a shard under a lease')
	{
		query("SELECT immutable.append('ledger', 'awake', 'awake')") if $case ne 'nothing to do';
		$old->query_safe($holders{$case}[0]);
		my $pid = $new->query_safe('SELECT pg_backend_pid()');
		my $before = cpu($pid);
		is($new->query_safe("BEGIN; SELECT count(*) FROM immutable.poll('awake', timeout => '2 s'); COMMIT"),
			0, "$case: a long poll of two seconds");
		cmp_ok(cpu($pid) - $before, '<', 0.4, "$case: sleeps");
		$old->query_safe($holders{$case}[1]);
		query("SELECT immutable.seek('awake', immutable.safe_position('ledger'))");
	}
}

# two consumers, one of which fails: the other is not held up, nor are the
# streams that do not fail
query("SELECT immutable.create_consumer('failing', 'ledger', max_deliveries => 2), immutable.create_consumer('healthy', 'ledger')");
query("SELECT immutable.append('ledger', s, 'failing') FROM unnest(ARRAY['bad', 'good', 'bad', 'good']) s");
my ($bad, $last) = split /\|/, query("SELECT min(position), max(position) FROM ledger WHERE type = 'failing'");
for my $delivery (1, 2)
{
	is( $old->query_safe("BEGIN; SELECT string_agg(position - $bad || stream, ' ' ORDER BY position) FROM immutable.poll('failing');"),
		$delivery == 1 ? '0bad 1good 2bad 3good' : '0bad 2bad', "delivery $delivery");
	$old->query_safe("SELECT immutable.nack('failing', $bad, 'boom')");
	$old->query_safe("SELECT immutable.ack('failing', $last)") if $delivery == 1;
	$old->query_safe('COMMIT');
}
is(query("SELECT stream, position - $bad, deliveries, error FROM immutable.parked WHERE consumer = 'failing'"),
	'bad|0|2|boom', 'the stream is parked');
is( $new->query_safe("BEGIN; SELECT count(*) FROM immutable.poll('healthy'); SELECT FROM (SELECT immutable.ack('healthy', $last)) a; COMMIT"),
	4, 'the other consumer is not held up');
query("SELECT immutable.append('ledger', s, 'failing') FROM unnest(ARRAY['bad', 'good']) s");
is( $old->query_safe("BEGIN; SELECT string_agg(position - $bad || stream, ' ' ORDER BY position) FROM immutable.poll('failing'); SELECT FROM (SELECT immutable.ack('failing', $last + 2)) a; COMMIT"),
	'5good', 'nor are other streams');
query("SELECT immutable.unpark('failing', 'bad')");
is( $old->query_safe("BEGIN; SELECT string_agg(position - $bad || stream, ' ' ORDER BY position) FROM immutable.poll('failing'); SELECT FROM (SELECT immutable.ack('failing', $last + 1)) a; COMMIT"),
	'0bad 2bad 4bad', 'unparked, the stream goes on with what failed');
is( $old->query_safe("BEGIN; SELECT count(*) FROM immutable.poll('failing'); COMMIT"),
	0, 'and nothing is left');

# an import waits for who polls, and is refused what was shown
query("SELECT immutable.create_log('history'); SELECT setval('history_position_seq', 100);"
	  . " SELECT immutable.append('history', 's', 'appended'); SELECT immutable.create_consumer('historian', 'history', after_position => 0)");
is($old->query_safe("BEGIN; SELECT position FROM immutable.poll('historian')"), 101, 'a poll is open');
my $import = sub {
	my ($at) = @_;
	return start("BEGIN; SET LOCAL immutable.import = on;"
		  . " INSERT INTO history VALUES ($at, clock_timestamp(), 1, gen_random_uuid(), 1, 'stream-$at', 'imported', '{}', '{}'); COMMIT");
};
my $session = $import->(50);
ok( $node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT INTO history%'"),
	'an import waits for it');
$old->query_safe("SELECT immutable.ack('historian', 101)");
$old->query_safe('COMMIT');
is(finish($session), '22023', 'and is refused what was shown');
is(finish($import->(200)), '', 'above it is not');
is($old->query_safe("BEGIN; SELECT position FROM immutable.poll('historian')"), 200, 'what was imported is read');
$old->query_safe('ROLLBACK');
is(finish($import->(150)), '', 'what was not acknowledged may still have company');
is($old->query_safe("BEGIN; SELECT string_agg(position::text, ' ' ORDER BY position) FROM immutable.poll('historian')"),
	'150 200', 'and that is read, too');
$old->query_safe('ROLLBACK');
$_->quit for $old, $new;

# the standby
my $standby = PostgreSQL::Test::Cluster->new('consumers_standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
query("SELECT immutable.create_log('stream')");
query("SELECT immutable.append('stream', 's', 'event') FROM generate_series(1, 5)");
query("SELECT immutable.create_consumer('follower', 'stream', after_position => 0)");
$node->wait_for_catchup($standby, 'replay');
for my $call ("safe_position('stream')", "read_log('stream')")
{
	is(code($standby, "SELECT * FROM immutable.$call"), '55000', "nothing is persisted: $call on the standby");
}
is(query("SELECT immutable.persist_safe_position('stream')"), 5, 'persisted on the primary');
query("SELECT immutable.append('stream', 's', 'event')");
$node->wait_for_catchup($standby, 'replay');
is($standby->safe_psql('postgres', "SELECT immutable.safe_position('stream')"), 5, 'safe_position on the standby');
is($standby->safe_psql('postgres', "SELECT string_agg(position::text, ' ' ORDER BY ordinality) FROM immutable.read_log('stream', 2) WITH ORDINALITY"),
	'3 4 5', 'read_log on the standby');
is( $standby->safe_psql('postgres', "SELECT max(position) FROM stream WHERE position <= immutable.safe_position('stream')"),
	5, 'a query on the standby');
is( $standby->safe_psql('postgres', "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM immutable.read_log('stream'); COMMIT"),
	5, 'in REPEATABLE READ');
for my $call ("poll('follower')", "poll('follower', lease => '1 s')", "persist_safe_position('stream')", "sync_position('stream')")
{
	is(code($standby, "SELECT * FROM immutable.$call"), '25006', "on the standby: $call");
}
is($standby->safe_psql('postgres', "SELECT safe_position, last_position IS NOT NULL FROM immutable.logs WHERE relation = 'stream'::regclass"),
	'5|t', 'logs on the standby');
$node->stop;
$standby->promote;
is( $standby->safe_psql('postgres', "SELECT string_agg(position::text, ' ' ORDER BY position) FROM immutable.read_log('stream')"),
	'1 2 3 4 5 6', 'promoted, it reads on');
is( $standby->safe_psql('postgres', "BEGIN; SELECT count(*) FROM immutable.poll('follower'); DO \$\$ BEGIN PERFORM immutable.ack('follower', 6); END \$\$; COMMIT"),
	6, 'and polls');
my $next = $standby->safe_psql('postgres', "SELECT position FROM immutable.append('stream', 's', 'event')");
cmp_ok($next, '>', 6, 'appends go on above');
is( $standby->safe_psql('postgres', "BEGIN; SELECT position FROM immutable.poll('follower'); COMMIT"),
	$next, 'and are polled');
is($standby->safe_psql('postgres', "SELECT immutable.safe_position('stream')"), $next, 'nothing is held back');
$standby->stop;
done_testing();

# A worker of a consumer.
sub start_worker
{
	my ($consumer, $number) = @_;
	my ($name, $leased) = @$consumer;

	return {
		consumer => $consumer,
		number => $number,
		session => start("CALL consume('$name', '$number', $leased); \\echo ended", "worker $name")
	};
}

# Workers that were lost are replaced, until they come to their end.
sub go_on
{
	for my $name (keys %workers)
	{
		my $worker = $workers{$name};

		eval { $worker->{session}{run}->pump_nb };	# dies when it ends just now
		next if $worker->{session}{out} !~ /^ended/m && $worker->{session}{run}->pumpable;
		my $out = finish($worker->{session});
		delete $workers{$name};
		next if $out eq 'ended';
		$errors .= join '', map { "$name: $_\n" } grep {
			!/^57P01$|closed the connection|terminated abnormally|before or while|connection to server/
			  && !/^ended$|^$|^FATAL/
		} split /\n/, $out;
		$workers{$name} = start_worker($worker->{consumer}, $worker->{number});
	}
}

# Start a session that runs statements one by one.
sub start
{
	my ($sql, $name) = @_;
	my $session = {
		out => '',
		in => join("\n", '\\set VERBOSITY sqlstate', map { /^\\/ ? $_ : "$_;" } split /; ?/, $sql) . "\n\\q\n"
	};

	local $ENV{PGAPPNAME} = $name || '012_consumers.pl';
	$session->{run} = IPC::Run::start(
		[ 'psql', '-XAtqd', $node->connstr('postgres') ],
		'<', \$session->{in}, '>', \$session->{out}, '2>&1');
	$session->{run}->pump while length $session->{in};
	return $session;
}

# What a session said; of an error the SQLSTATE.
sub finish
{
	my ($session) = @_;

	eval { $session->{run}->finish };
	my $out = $session->{out};
	$out =~ s/^(?:ERROR|FATAL):  //mg;
	$out =~ s/^\n+|\n+$//g;
	return $out;
}

# Start a poll in a session, and wait until it sleeps; its result comes later.
sub poll_later
{
	my ($session, $sql, $name) = @_;

	$session->query_until(qr/polling/, "\\echo polling\n$sql\n;\n");
	$node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = '$name' AND wait_event = 'Extension'")
	  or die 'the poll does not sleep';
	return sub { return $session->query_safe('SELECT 1 WHERE false') };
}

# The seconds of processor time that a backend has used.
sub cpu
{
	my ($pid) = @_;
	my @fields = split / /, slurp_file("/proc/$pid/stat") =~ s/^.*\) //sr;

	return ($fields[11] + $fields[12]) / 100;
}

# The SQLSTATE with which a session's statement fails.
sub error
{
	my ($session, $sql) = @_;

	$session->query($sql);
	my $error = $session->{stderr};
	$session->{stderr} = '';
	return $error =~ /ERROR:  (\w+)/ ? $1 : '';
}

# The SQLSTATE with which a statement fails.
sub code
{
	my ($server, $sql) = @_;
	my ($status, $out, $err) = $server->psql('postgres', "\\set VERBOSITY sqlstate\n$sql");

	return $err =~ /ERROR:  (\w+)/ ? $1 : "no error: $out";
}

# One value, or lines.
sub query
{
	return $node->safe_psql('postgres', $_[0]);
}
