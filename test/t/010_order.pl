# Proof of order. Writers append to a plain and to a partitioned log, single
# events and batches, in transactions of random size and length, with
# savepoints and transactions rolled back; prepared transactions are left open
# and resolved later; sessions are terminated, and in the middle one backend is
# killed with SIGKILL, so that the server recovers. Meanwhile readers follow
# each log: through read_log, through poll in one transaction and under a
# lease, and by a plain query up to safe_position, at each isolation level.
# Afterwards what each reader got must be the log in order of position, exactly.
# A naive reader in the same test does lose events, or the test would prove
# nothing. IE_ORDER_SECONDS is how long the writers write.

use strict;
use warnings FATAL => 'all';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $seconds = $ENV{IE_ORDER_SECONDS} || 40;
my @logs = ('plain', 'parted');
my @levels = ('read committed', 'repeatable read', 'serializable');
my @kinds = ('read_log', 'poll', 'lease', 'query');

my $node = PostgreSQL::Test::Cluster->new('order');
$node->init;
$node->append_conf('postgresql.conf', qq{
restart_after_crash = on
max_prepared_transactions = 8
max_connections = 60
max_pred_locks_per_transaction = 256
deadlock_timeout = 50ms
autovacuum_naptime = 1s
autovacuum_vacuum_insert_threshold = 200
log_statement = none
log_min_messages = error
});
$node->start;

$node->safe_psql('postgres', 'CREATE DATABASE elsewhere');
$node->safe_psql('elsewhere', 'CREATE TABLE unrelated (n integer)');
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION immutable_events;
SELECT immutable.create_log('plain');
SELECT immutable.create_log('parted', partitions => 4);
CREATE TABLE unrelated (n integer);

-- who got what, in the order in which it was got
CREATE TABLE seen (n bigserial PRIMARY KEY, reader text, position bigint);
CREATE INDEX ON seen (reader, position);
CREATE TABLE tally (what text);
CREATE TABLE control (done boolean);
INSERT INTO control VALUES (false);

-- one append, or a batch
CREATE FUNCTION write(log regclass) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	kind double precision := random();
	stream text := CASE WHEN random() < 0.2 THEN 'few-' || floor(random() * 4)
		ELSE 'many-' || floor(random() * 5000) END;
	many integer := 1 + floor(random() * random() * 30);
BEGIN
	IF kind < 0.6 THEN
		PERFORM immutable.append(log, stream, 'written');
		RETURN 'append';
	ELSIF kind < 0.8 THEN
		PERFORM immutable.append_batch(log, stream,
			ARRAY(SELECT ('written', NULL, NULL, NULL, NULL)::immutable.new_event FROM generate_series(1, many)));
		RETURN 'append_batch';
	ELSE
		PERFORM immutable.append_json(log, stream,
			(SELECT jsonb_agg('{"type": "written"}'::jsonb) FROM generate_series(1, many)));
		RETURN 'append_json';
	END IF;
END
$$;

-- transactions of random size and length, until the time is over
CREATE PROCEDURE work(until timestamptz)
LANGUAGE plpgsql AS $$
DECLARE
	what text[];
BEGIN
	WHILE clock_timestamp() < until LOOP
		what := '{}';
		FOR i IN 1 .. 1 + floor(random() * random() * 6) LOOP
			BEGIN
				what := what || write((ARRAY['plain', 'parted'])[1 + floor(random() * 2)]::regclass);
				PERFORM pg_sleep(random() * CASE WHEN random() < 0.02 THEN 0.3 ELSE 0.01 END);
				IF random() < 0.1 THEN
					RAISE EXCEPTION 'savepoint rolled back' USING ERRCODE = 'P0S00';
				END IF;
			EXCEPTION
				WHEN SQLSTATE 'P0S00' THEN
					what := what || '{savepoint}'::text[];
				WHEN deadlock_detected THEN
					what := what || '{deadlock}'::text[];
			END;
		END LOOP;
		IF random() < 0.1 THEN
			ROLLBACK;
			what := '{rollback}';
		END IF;
		INSERT INTO tally SELECT unnest(what);
		COMMIT;
		PERFORM pg_sleep(random() * 0.02);
		COMMIT;
	END LOOP;
END
$$;

-- follow a log until all is done and read; go on where the reader was
CREATE PROCEDURE read(reader text, kind text, log text)
LANGUAGE plpgsql AS $$
DECLARE
	last bigint;
	got bigint[];
	finished boolean;
	leased CONSTANT boolean := kind = 'lease';
BEGIN
	SELECT coalesce(max(s.position), 0) INTO last FROM seen s WHERE s.reader = read.reader;
	COMMIT;
	LOOP
		-- under a fixed snapshot: this takes it, and others go on
		SELECT done INTO finished FROM control;
		PERFORM pg_sleep(random() * 0.02);
		CASE kind
			WHEN 'read_log' THEN
				SELECT array_agg(e.position ORDER BY e.ordinality) INTO got
				FROM immutable.read_log(log::regclass, last, CASE WHEN random() < 0.5 THEN 50 END)
					WITH ORDINALITY e;
			WHEN 'poll' THEN
				SELECT array_agg(e.position ORDER BY e.ordinality) INTO got
				FROM immutable.poll(reader, 100, '20 ms') WITH ORDINALITY e;
			WHEN 'lease' THEN
				SELECT array_agg(e.position ORDER BY e.ordinality) INTO got
				FROM immutable.poll(reader, 100, '20 ms', lease => '1 s') WITH ORDINALITY e;
			WHEN 'query' THEN
				EXECUTE format('SELECT array_agg(position) FROM (SELECT position FROM %I'
					' WHERE position > $1 AND position <= immutable.safe_position(%L)'
					' ORDER BY position LIMIT 100) e', log, log)
				INTO got USING last;
			WHEN 'slow query' THEN
				EXECUTE format('WITH waited AS MATERIALIZED (SELECT pg_sleep(0.02)),'
					' safe AS MATERIALIZED (SELECT immutable.safe_position(%L) AS safe FROM waited)'
					' SELECT array_agg(position ORDER BY position) FROM %I, safe'
					' WHERE position > $1 AND position <= safe', log, log)
				INTO got USING last;
			WHEN 'naive' THEN
				EXECUTE format('SELECT array_agg(position) FROM (SELECT position FROM %I'
					' WHERE position > $1 ORDER BY position LIMIT 100) e', log)
				INTO got USING last;
		END CASE;
		IF leased THEN
			COMMIT;
		END IF;
		IF got IS NOT NULL THEN
			INSERT INTO seen (reader, position) SELECT read.reader, unnest(got);
			IF kind IN ('poll', 'lease') THEN
				PERFORM immutable.ack(reader, got[cardinality(got)]);
			END IF;
			IF random() < 0.05 THEN
				ROLLBACK;
				CONTINUE;
			END IF;
			last := got[cardinality(got)];
		ELSIF finished AND (kind NOT IN ('poll', 'lease') OR EXISTS (
				SELECT FROM immutable.consumer_status s
				WHERE s.consumer = reader AND s.position = s.safe_position)) THEN
			EXIT;
		END IF;
		COMMIT;
	END LOOP;
	COMMIT;
END
$$;
SQL

# the readers
my %readers;
for my $log (@logs)
{
	for my $level (@levels)
	{
		$readers{"$_ $log $level"} = { kind => $_, log => $log, level => $level }
		  for @kinds;
	}
	$readers{"slow query $log"} =
	  { kind => 'slow query', log => $log, level => 'read committed' };
	$readers{"naive $log"} =
	  { kind => 'naive', log => $log, level => 'read committed' };
}
for my $name (grep { $readers{$_}{kind} =~ /poll|lease/ } keys %readers)
{
	$node->safe_psql('postgres',
		"SELECT immutable.create_consumer('$name', '$readers{$name}{log}', after_position => 0)");
}

my $until = $node->safe_psql('postgres',
	"SELECT clock_timestamp() + interval '$seconds s'");
my $start = time();
my $end = $start + $seconds;
my %sessions;
my $scripts = PostgreSQL::Test::Utils::tempdir;
my ($errors, $terminated, $killed) = ('', 0, 0);
my @prepared;	# left open: name, and when it is to be resolved
my $number = 0;

start_writer($_) for 1 .. 5;
start_reader($_) for sort keys %readers;

# the load: terminate somebody now and then, prepare transactions and resolve
# them, and kill one backend in the middle
my ($next_kill, $next_prepare) = ($start + 1, $start);
while (time() < $end)
{
	my $now = time();

	if (!$killed && $now > $start + $seconds / 2)
	{
		prepare();
		crash();
		$killed = 1;
	}
	elsif ($now > $next_kill)
	{
		my $whom = rand() < 0.5 ? 'writer' : 'reader';
		$terminated += query("SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity"
			  . " WHERE application_name = '$whom' ORDER BY random() LIMIT 1) s");
		$next_kill = $now + 0.7;
	}
	if ($now > $next_prepare)
	{
		prepare();
		$next_prepare = $now + 0.3;
	}
	resolve($now);
	restart_dead();
	usleep(20_000);
}

# the writers end, then what is prepared, and the readers catch up
finish($_) for grep { /^writer/ } keys %sessions;
resolve(time() + 3600);
query('UPDATE control SET done = true');
my $patience = time() + $PostgreSQL::Test::Utils::timeout_default;
while (%sessions && time() < $patience)
{
	restart_dead();
	usleep(20_000);
}
is(join(', ', sort keys %sessions), '', 'every reader has come to the end');
for my $name (keys %sessions)
{
	diag("$name: ", substr($sessions{$name}{out}, -1000));
	diag(query('SELECT pid, wait_event, state, query FROM pg_stat_activity WHERE application_name = \'reader\''));
	$sessions{$name}{run}->kill_kill;
}

is($errors, '', 'no error but those that were meant to be');

# the oracle
for my $name (sort keys %readers)
{
	my $log = $readers{$name}{log};

	next if $readers{$name}{kind} eq 'naive';
	is( query("SELECT count(*) FROM (SELECT row_number() OVER (ORDER BY n) AS n, position FROM seen WHERE reader = '$name') s"
			  . " FULL JOIN (SELECT row_number() OVER (ORDER BY position) AS n, position FROM $log) e USING (n, position)"
			  . " WHERE s.position IS NULL OR e.position IS NULL"),
		0,
		"$name: the log in order");
}
for my $log (@logs)
{
	my $events = query("SELECT count(*) FROM $log");

	is(query("SELECT count(*) FROM immutable.check_log('$log')"), 0,
		"$log: versions without gaps, positions rise");
	is( query("SELECT safe_position = last_position, holder_pid IS NULL AND holder_gid IS NULL FROM immutable.horizon('$log')"),
		't|t', "$log: all is decided, nobody holds it back");
	my $lost = query("SELECT count(*) FROM $log WHERE position NOT IN (SELECT position FROM seen WHERE reader = 'naive $log')");
	cmp_ok($lost, '>', 0, "$log: a naive reader loses events");
	note("$log: $events events, a naive reader loses $lost");
	cmp_ok($events, '>', 10 * $seconds, "$log: there was something to read");
}
is(query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"),
	0, 'no stream and no shard is locked');

# the test has tested something
for my $what ('append', 'append_batch', 'append_json', 'savepoint',
	'rollback', 'prepared committed', 'prepared rolled back')
{
	cmp_ok(query("SELECT count(*) FROM tally WHERE what = '$what'"),
		'>', 0, "there was: $what");
}
cmp_ok($terminated, '>', 0, 'sessions were terminated');
is($killed, 1, 'a backend was killed');
note("terminated $terminated");

# What has nothing to do with the log delays nothing: a long transaction on
# another table, one in another database, and CREATE INDEX CONCURRENTLY, whose
# lock is the one of VACUUM as well.
my $unrelated = $node->background_psql('postgres');
my $elsewhere = $node->background_psql('elsewhere');
my $reader = $node->background_psql('postgres');
my @building;

$unrelated->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; INSERT INTO unrelated VALUES (1)');
$elsewhere->query_safe('BEGIN; INSERT INTO unrelated VALUES (1)');
for my $case (['plain', 'plain'], ['parted', 'parted_p0'])
{
	my ($log, $table) = @$case;
	my $building = $node->background_psql('postgres', on_error_stop => 0);

	# it waits for the transaction on the other table
	$building->query_until(qr/started/,
		"\\echo started\nCREATE INDEX CONCURRENTLY ON $table (recorded_at);\n");
	ok( $node->poll_query_until('postgres',
			"SELECT count(*) = 1 FROM pg_stat_progress_create_index"
			  . " WHERE relid = '$table'::regclass AND phase = 'waiting for old snapshots'"),
		"$log: an index is being built");
	for my $stream (1 .. 8)
	{
		my $position = query("SELECT position FROM immutable.append('$log', 'stream-$stream', 'late')");

		is($reader->query_safe("SELECT immutable.safe_position('$log')"),
			$position, "$log: safe_position is not delayed");
		is($reader->query_safe("SELECT position FROM immutable.read_log('$log', $position - 1)"),
			$position, "$log: read_log is not delayed");
		is($reader->query_safe("SELECT max(position) FROM $log WHERE position <= immutable.safe_position('$log')"),
			$position, "$log: a query is not delayed");
		is( $reader->query_safe("BEGIN; SELECT string_agg(position::text, ' ') FROM immutable.poll('poll $log read committed');"
				  . " DO \$\$ BEGIN PERFORM immutable.ack('poll $log read committed', $position); END \$\$; COMMIT"),
			$position, "$log: poll is not delayed");
		is( $reader->query_safe("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT max(position) FROM immutable.read_log('$log'); COMMIT"),
			$position, "$log: REPEATABLE READ is not delayed");
	}
	is(query("SELECT count(*) FROM immutable.horizon('$log') WHERE holder_pid IS NOT NULL"),
		0, "$log: nobody is said to hold it back");
	is( query("SELECT count(*) FROM pg_stat_progress_create_index WHERE relid = '$table'::regclass"),
		1, "$log: and the index is still being built");
	push @building, $building;
}
$_->query_safe('COMMIT') for $unrelated, $elsewhere;
$_->quit for @building, $unrelated, $elsewhere, $reader;

$node->stop;
done_testing();

# A session that writes until the time is over.
sub start_writer
{
	my ($i) = @_;

	start("writer $i", 'writer', $levels[0], "CALL work('$until');\n" x 3);
}

# A session that reads to the end; after an error it goes on where it was.
sub start_reader
{
	my ($name) = @_;
	my $reader = $readers{$name};

	start($name, 'reader', $reader->{level},
		"CALL read('$name', '$reader->{kind}', '$reader->{log}')");
}

# A session that calls a procedure, again when it ended in an error.
sub start
{
	my ($name, $application, $level, $call) = @_;
	my $script = "$scripts/" . $name =~ s/ /_/gr;
	my $session = { out => '' };

	append_to_file($script, "$call;\n\\if :ERROR\n\\else\n\\echo ended\n\\q\n\\endif\n" x 200)
	  unless -e $script;
	local $ENV{PGAPPNAME} = $application;
	local $ENV{PGOPTIONS} =
	  '-c default_transaction_isolation=' . $level =~ s/ /\\ /r;
	$session->{run} = IPC::Run::start(
		[ 'psql', '-Xqd', $node->connstr('postgres'), '-v', 'VERBOSITY=terse', '-f', $script ],
		'<', \undef, '>', \$session->{out}, '2>&1');
	$sessions{$name} = $session;
}

# Sessions that have ended are started again, if they were cut short.
sub restart_dead
{
	for my $name (keys %sessions)
	{
		my $session = $sessions{$name};

		# it dies when the session ends just now
		eval { $session->{run}->pump_nb };
		next if $session->{run}->pumpable;
		my $ended = finish($name);
		next if $ended;
		if ($name =~ /^writer (\d+)/) { start_writer($1) }
		else { start_reader($name) }
	}
}

# Take note of what a session said; true when it came to its end.
sub finish
{
	my ($name) = @_;
	my $session = delete $sessions{$name};

	eval { $session->{run}->finish };
	$errors .= join '', map { "$name: $_\n" } grep {
		!/due to administrator command|closed the connection|connection to (?:the )?server/
		  && !/terminated abnormally|before or while processing/
		  && !/terminating connection because of crash/
		  && !/could not serialize access|^(DETAIL|HINT|WARNING):/
		  && !/not yet accepting|starting up|in recovery mode|shutting down/
		  && !/Is the server running|Connection refused/
		  && !/^ended$|^$/
	} split /\n/, $session->{out};
	return $session->{out} =~ /^ended$/m;
}

# Leave a prepared transaction open for some time.
sub prepare
{
	my $log = $logs[ rand @logs ];
	my $name = 'order_' . ++$number;

	return if @prepared >= 6;
	# a stream that nobody else writes to, or they would wait for it
	query("BEGIN; SELECT immutable.append('$log', 'prepared-$number', 'written');"
		  . " SAVEPOINT a; SELECT immutable.append('$log', 'prepared-$number', 'undone'); ROLLBACK TO a;"
		  . " SELECT immutable.append_json('$log', 'prepared-$number', '[{\"type\": \"written\"}, {\"type\": \"written\"}]');"
		  . " PREPARE TRANSACTION '$name'");
	push @prepared, [ $name, time() + rand(1.5) ];
}

# Resolve the prepared transactions whose time has come.
sub resolve
{
	my ($now) = @_;

	for my $transaction (grep { $_->[1] <= $now } @prepared)
	{
		my ($what, $tally) =
		  rand() < 0.6 ? ('COMMIT', 'committed') : ('ROLLBACK', 'rolled back');

		query("$what PREPARED '$transaction->[0]'");
		query("INSERT INTO tally VALUES ('prepared $tally')");
	}
	@prepared = grep { $_->[1] > $now } @prepared;
}

# Kill a writer's backend as the kernel would; the server recovers.
sub crash
{
	my $offset = -s $node->logfile;

	# a writer may end before it is hit
	for (1 .. 100)
	{
		my $pid = query("SELECT pid FROM pg_stat_activity WHERE application_name = 'writer' ORDER BY random() LIMIT 1");
		last if $pid && kill 9, $pid;
		restart_dead();
		usleep(20_000);
	}
	$node->wait_for_log(qr/database system is ready to accept connections/, $offset);
}

# One value, or lines.
sub query
{
	return $node->safe_psql('postgres', $_[0]);
}
