# Background workers keep asynchronous projections current. An append wakes them
# within milliseconds, what was prepared is found within a naptime; a projection
# that fails holds up no other; DDL on a database finds it free and the worker
# comes back; crash, restart and promotion lose nothing and repeat nothing.
# This test runs alone: it measures times.

use strict;
use warnings FATAL => 'all';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $schema = <<'SQL';
CREATE EXTENSION immutable_events;
SELECT immutable.create_log('ledger');
CREATE TABLE counts (stream text PRIMARY KEY, n bigint NOT NULL DEFAULT 0, last bigint);
CREATE TABLE sums (type text PRIMARY KEY, total bigint NOT NULL DEFAULT 0);
CREATE FUNCTION counted(r counts, e immutable.event) RETURNS counts
LANGUAGE sql STABLE AS 'SELECT r.stream, r.n + 1, e.position';
CREATE FUNCTION summed(r sums, e immutable.event) RETURNS sums
LANGUAGE sql STABLE AS $$SELECT r.type, r.total + (e.data->>'amount')::bigint$$;
SELECT immutable.create_projection('counts', 'ledger', 'counted', mode => 'async');
SELECT immutable.create_projection('sums', 'ledger', 'summed', key => '{type}', mode => 'async');
SQL
my $append = q{SELECT immutable.append('ledger', 'stream-' || n %% 7, 't', '{"amount": 1}') FROM generate_series(1, %d) n};
my $behind = q{SELECT count(*) FROM immutable.projection_positions WHERE position < (SELECT max(position) FROM ledger)};
# seconds until a worker is held to do nothing: far more than it needs
my $limit = 120;
# appends until its server is killed
my $endless = 'DO $$ BEGIN LOOP PERFORM' . substr(sprintf($append, 20), 6) . '; COMMIT; END LOOP; END $$;';
# rows that are not as the events say
my $wrong = q{
SELECT count(*) FROM (
	(SELECT stream, n, last FROM counts EXCEPT SELECT stream, count(*), max(position) FROM ledger GROUP BY 1)
	UNION ALL (SELECT stream, count(*), max(position) FROM ledger GROUP BY 1 EXCEPT SELECT stream, n, last FROM counts)) c};

my $plain = new_node('plain', 'max_worker_processes = 4', 'max_prepared_transactions = 2', q{immutable.naptime = '30s'});
rights($plain);
lag($plain);
failures($plain);
prepared($plain);
ends($plain);
ddl($plain, 0);
limits($plain);
restart($plain);
$plain->stop;

my $shared = new_node('shared', 'shared_preload_libraries = immutable_events', 'max_worker_processes = 12', 'restart_after_crash = on', 'immutable.batch_size = 10');
$shared->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($shared, 'base', has_streaming => 1);
$standby->start;
launches($shared);
ddl($shared, 1);
stays_stopped($shared);
restored($shared);
crash($shared);
promotion($shared, $standby);
$shared->stop;
$standby->stop;

done_testing();

# A cluster with a database that has projections, and one that has none.
sub new_node
{
	my ($name, @settings) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(allows_streaming => 1);
	$node->append_conf('postgresql.conf', join "\n", 'fsync = off', 'log_statement = none', @settings, '');
	$node->start;
	$node->safe_psql('postgres', $schema);
	return $node;
}

# Until a query says so; answers the seconds that it took.
sub seconds_until
{
	my ($node, $query, $expected, $database) = @_;
	my $begin = time;

	while (($node->psql($database || 'postgres', $query))[1] ne $expected)
	{
		return 1000 if time - $begin > $limit;
		usleep(10_000);
	}
	return time - $begin;
}

sub becomes
{
	my ($node, $query, $expected, $title, $database) = @_;

	cmp_ok(seconds_until($node, $query, $expected, $database), '<', $limit, $title);
}

# All projections come up to the last event, and are right.
sub catches_up
{
	my ($node, $title, $database) = @_;

	becomes($node, $behind, 0, "$title: up to date", $database);
	is($node->safe_psql($database || 'postgres', $wrong), 0, "$title: every event once", );
}

# The SQLSTATE that a statement ends with.
sub sqlstate
{
	my ($node, $sql) = @_;
	my ($status, $out, $error) = $node->psql('postgres', "\\set VERBOSITY sqlstate\n$sql");

	return $error =~ /(?:ERROR|FATAL):  (\w+)/ ? $1 : '00000';
}

# A session that goes on beside us.
sub session
{
	my ($node, $sql, $database) = @_;
	my $session = { in => "$sql\n\\q\n", out => '' };

	$session->{run} = IPC::Run::start([ 'psql', '-XAtqd', $node->connstr($database || 'postgres') ],
		'<', \$session->{in}, '>', \$session->{out}, '2>&1');
	$session->{run}->pump while length $session->{in};
	return $session;
}

# Who may start and stop a worker.
sub rights
{
	my ($node) = @_;

	$node->safe_psql('postgres', 'CREATE ROLE nobody; CREATE ROLE operator');
	for my $sql ('SELECT immutable.start_worker()', 'SELECT immutable.stop_worker()', 'SELECT * FROM immutable.workers')
	{
		is(sqlstate($node, "SET ROLE nobody; $sql"), '42501', "no right: $sql");
	}
	is($node->safe_psql('postgres', 'SELECT immutable._worker_pid() IS NULL'), 't', 'nobody serves at first');
	$node->safe_psql('postgres', 'SELECT immutable.stop_worker()');
	$node->safe_psql('postgres', q{
GRANT EXECUTE ON FUNCTION immutable.start_worker(), immutable.stop_worker() TO operator;
GRANT SELECT ON immutable.workers TO operator});
	is( $node->safe_psql('postgres', q{SET ROLE operator;
SELECT immutable.start_worker() = immutable.start_worker();
SELECT pid = immutable._worker_pid(), database, events FROM immutable.workers}),
		"t\nt|postgres|0", 'who was granted it starts a worker, once');
	is( $node->safe_psql('postgres', q{
SELECT datname, application_name FROM pg_stat_activity WHERE backend_type = 'immutable_events worker'}),
		'postgres|immutable_events worker', 'pg_stat_activity names it');
}

# Appends wake the worker: it naps for half a minute otherwise.
sub lag
{
	my ($node) = @_;
	my @lags;

	for my $i (1 .. 5)
	{
		$node->safe_psql('postgres', sprintf $append, 10);
		push @lags, seconds_until($node, $behind, 0);
	}
	cmp_ok((sort { $a <=> $b } @lags)[2], '<', 1, 'an append wakes the worker');
	note "lag: @lags";
	is($node->safe_psql('postgres', $wrong), 0, 'every event once');
	is($node->safe_psql('postgres', 'SELECT total FROM sums'), 50, 'every event once, by type');
	becomes($node, q{SELECT state || events FROM immutable.workers}, 'idle100', 'the view counts them');

	# an open transaction with a lower position holds back; its end wakes
	my $holder = session($node, sprintf("BEGIN; $append; SELECT pg_sleep(1.5); ROLLBACK", 1));
	becomes($node, q{SELECT count(*) FROM pg_stat_activity WHERE query ~ 'pg_sleep' AND pid <> pg_backend_pid() AND wait_event = 'PgSleep'}, 1, 'a transaction is open');
	$node->safe_psql('postgres', q{SELECT immutable.append('ledger', 'stream-2', 't', '{"amount": 1}')});
	usleep(200_000);
	is($node->safe_psql('postgres', $behind), 2, 'what is not decided is not folded');
	$holder->{run}->finish;
	cmp_ok(seconds_until($node, $behind, 0), '<', 1, 'a rollback wakes the worker');

	$node->safe_psql('postgres', 'SELECT pg_cancel_backend(immutable._worker_pid())');
	$node->safe_psql('postgres', sprintf $append, 1);
	catches_up($node, 'cancelled while idle');
}

# A projection that fails holds up no other.
sub failures
{
	my ($node) = @_;
	my $log = $node->logfile;

	$node->safe_psql('postgres', q{SELECT immutable.append('ledger', 'stream-1', 't', '{"amount": "many"}')});
	becomes($node, 'SELECT error_sqlstate FROM immutable.projection_positions WHERE error IS NOT NULL', '22P02', 'a poison event halts its projection');
	$node->safe_psql('postgres', sprintf $append, 20);
	becomes($node, "$behind AND error IS NULL", 0, 'the other one goes on');
	is($node->safe_psql('postgres', $wrong), 0, 'the other one is right');
	is($node->safe_psql('postgres', 'SELECT total FROM sums'), 52, 'the halted one is left alone');
	$node->safe_psql('postgres', q{CREATE OR REPLACE FUNCTION summed(r sums, e immutable.event) RETURNS sums
LANGUAGE sql STABLE AS $$SELECT r.type, r.total + CASE e.data->>'amount' WHEN 'many' THEN 100 ELSE (e.data->>'amount')::bigint END$$;
SELECT immutable.refresh('sums', 1)});
	$node->safe_psql('postgres', sprintf $append, 1);
	catches_up($node, 'resumed');
	is($node->safe_psql('postgres', 'SELECT total FROM sums'), 173, 'the halted one is resumed');

	# not the events' fault: tried again
	$node->safe_psql('postgres', q{
CREATE ROLE clerk;
GRANT SELECT ON ledger TO clerk;
CREATE TABLE owned (LIKE counts INCLUDING ALL);
ALTER TABLE owned OWNER TO clerk;
CREATE FUNCTION own(r owned, e immutable.event) RETURNS owned LANGUAGE sql STABLE AS 'SELECT r.stream, r.n + 1, e.position';
SET ROLE clerk;
SELECT immutable.create_projection('owned', 'ledger', 'own', mode => 'async')});
	catches_up($node, 'another owner');
	my $offset = -s $log;
	$node->safe_psql('postgres', q{REVOKE SELECT ON ledger FROM clerk});
	$node->safe_psql('postgres', sprintf $append, 10);
	becomes($node, "$behind AND target <> 'owned'::regclass", 0, 'a projection without privilege holds up no other');
	becomes($node, "SELECT count(*) FROM owned WHERE last = (SELECT max(position) FROM ledger)", 0, 'and is behind');
	$node->safe_psql('postgres', q{GRANT SELECT ON ledger TO clerk});
	catches_up($node, 'failed');
	like(substr(slurp_file($log), $offset), qr/ERROR:  permission denied for table ledger\n.*STATEMENT:  refresh public.owned/s, 'the log says why');
	$node->safe_psql('postgres', q{SELECT immutable.drop_projection('owned')});

	# nor is a lock: the worker waits, and stop_worker does not wait for it
	is(sqlstate($node, sprintf "BEGIN; LOCK TABLE counts; $append; COMMIT", 1), '00000', 'a lock on the read model');
	catches_up($node, 'locked');
}

# What a prepared transaction has appended is found by polling.
sub prepared
{
	my ($node) = @_;

	$node->safe_psql('postgres', q{ALTER SYSTEM SET immutable.naptime = 50; SELECT pg_reload_conf()});
	$node->safe_psql('postgres', sprintf "BEGIN; $append; PREPARE TRANSACTION 'p'", 3);
	usleep(300_000);
	is($node->safe_psql('postgres', $wrong), 0, 'prepared: not seen');
	$node->safe_psql('postgres', q{COMMIT PREPARED 'p'});
	catches_up($node, 'prepared, committed');
}

# A worker is terminated, stopped, started.
sub ends
{
	my ($node) = @_;
	my $pid = $node->safe_psql('postgres', 'SELECT immutable._worker_pid()');

	$node->safe_psql('postgres', 'SELECT pg_terminate_backend(immutable._worker_pid())');
	$node->safe_psql('postgres', sprintf $append, 5);
	becomes($node, "SELECT immutable._worker_pid() <> $pid", 't', 'terminated: it comes back');
	catches_up($node, 'terminated');
	$node->safe_psql('postgres', 'SELECT immutable.stop_worker()');
	is($node->safe_psql('postgres', 'SELECT immutable._worker_pid() IS NULL'), 't', 'stopped: nobody serves');
	is( $node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'immutable_events worker'}),
		0, 'stopped: no process');
	is($node->safe_psql('postgres', 'SELECT state FROM immutable.workers'), 'stopped', 'stopped: the view says so');
	$node->safe_psql('postgres', sprintf $append, 5);
	usleep(200_000);
	is($node->safe_psql('postgres', $behind), 2, 'stopped: nothing is folded');
	$node->safe_psql('postgres', 'SELECT immutable.start_worker()');
	catches_up($node, 'started again');

	# who holds a lock that the worker waits for can stop it
	$node->safe_psql('postgres', sprintf $append, 1);
	is(sqlstate($node, sprintf("BEGIN; LOCK TABLE immutable.projection_positions IN ACCESS EXCLUSIVE MODE;\n"
				. "SELECT pg_sleep(0.3); SELECT immutable.stop_worker(); COMMIT")), '00000', 'stopped by whom it waits for');
	$node->safe_psql('postgres', 'SELECT immutable.start_worker()');
	catches_up($node, 'started once more');
}

# DDL on a database finds it free, and its worker comes back.
sub ddl
{
	my ($node, $preloaded) = @_;
	my $log = $node->logfile;
	my $offset = -s $log;

	$node->safe_psql('postgres', 'CREATE DATABASE first TEMPLATE postgres');
	becomes($node, q{SELECT immutable._worker_pid() IS NOT NULL}, 't', 'CREATE DATABASE: the template is served again');
	$preloaded
	  ? becomes($node, q{SELECT state FROM immutable.workers WHERE database = 'first'}, 'idle', 'CREATE DATABASE: the copy is served')
	  : $node->safe_psql('first', 'SELECT immutable.start_worker()');
	$node->safe_psql('first', sprintf $append, 5);
	catches_up($node, 'CREATE DATABASE', 'first');
	$node->safe_psql('postgres', 'ALTER DATABASE first RENAME TO second');
	$node->safe_psql('second', sprintf $append, 5);
	catches_up($node, 'RENAME', 'second');
	is( $node->safe_psql('postgres', q{SELECT string_agg(database, ' ') FROM immutable.workers}),
		'postgres second', 'RENAME: both are served');
	$node->safe_psql('postgres', 'DROP DATABASE second');
	becomes($node, q{SELECT string_agg(database, ' ') FROM immutable.workers}, 'postgres', 'DROP DATABASE');

	$node->safe_psql('postgres', 'CREATE DATABASE third');
	$node->safe_psql('third', $schema);
	$node->safe_psql('third', 'SELECT immutable.start_worker()');
	$node->safe_psql('third', sprintf $append, 5);
	catches_up($node, 'another database', 'third');
	$node->safe_psql('third', 'SELECT immutable.drop_projection(r) FROM unnest(ARRAY[\'counts\', \'sums\']::regclass[]) r;'
		  . q{SELECT immutable.drop_log('ledger', force => true); DROP EXTENSION immutable_events CASCADE});
	becomes($node, q{SELECT string_agg(database, ' ') FROM immutable.workers}, 'postgres', 'DROP EXTENSION: the worker leaves');
	$node->safe_psql('postgres', 'DROP DATABASE third');
	$node->safe_psql('postgres', 'CREATE DATABASE fourth TEMPLATE postgres');
	$node->safe_psql('fourth', 'SELECT immutable.start_worker()');
	$node->safe_psql('postgres', 'DROP DATABASE fourth WITH (FORCE)');
	becomes($node, q{SELECT string_agg(database, ' ') FROM immutable.workers}, 'postgres', 'DROP DATABASE WITH (FORCE)');
	is($preloaded ? 0 : seconds_until($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'immutable_events launcher'}, 0) > 20,
		$preloaded ? 0 : '', 'no launcher is left over');
	unlike(substr(slurp_file($log), $offset), qr/PANIC|TRAP|does not exist/, 'without noise');
}

# There are only so many background workers.
sub limits
{
	my ($node) = @_;

	$node->safe_psql('postgres', 'CREATE DATABASE first TEMPLATE postgres');
	$node->safe_psql('postgres', 'CREATE DATABASE second TEMPLATE first');
	becomes($node, q{SELECT immutable._worker_pid() IS NOT NULL}, 't', 'two copies are made');
	# one is the logical replication launcher
	becomes($node, 'SELECT immutable.start_worker() = immutable._worker_pid()', 't', 'the last but one', 'first');
	becomes($node, 'SELECT immutable.start_worker() = immutable._worker_pid()', 't', 'the last', 'second');
	$node->safe_psql('postgres', 'CREATE DATABASE third');
	$node->safe_psql('third', 'CREATE EXTENSION immutable_events');
	my ($status, $out, $error) = $node->psql('third', "\\set VERBOSITY verbose\nSELECT immutable.start_worker()");
	like($error, qr/ERROR:  53400: out of background worker slots/, 'too many workers');
	$node->safe_psql('postgres', 'DROP DATABASE first');
	$node->safe_psql('postgres', 'DROP DATABASE second');

	# a worker that cannot connect
	my $session = session($node, "\\set VERBOSITY verbose\nSELECT pg_sleep(1);\nSELECT immutable.start_worker();", 'third');
	becomes($node, q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'third'}, 1, 'a session');
	$node->safe_psql('postgres', 'ALTER DATABASE third ALLOW_CONNECTIONS false');
	$session->{run}->finish;
	like($session->{out}, qr/ERROR:  55000: the worker has ended/, 'no worker where nobody may connect');
	$node->safe_psql('postgres', 'DROP DATABASE third');
}

# Without preload a worker ends with the server.
sub restart
{
	my ($node) = @_;

	$node->restart;
	is($node->safe_psql('postgres', 'SELECT immutable._worker_pid() IS NULL'), 't', 'restart, not preloaded: nobody serves');
	$node->safe_psql('postgres', sprintf $append, 5);
	$node->safe_psql('postgres', 'SELECT immutable.start_worker()');
	catches_up($node, 'restart, started');
}

# The preloaded launcher serves who needs it, and nobody else.
sub launches
{
	my ($node) = @_;

	$node->safe_psql('postgres', 'CREATE DATABASE empty');
	$node->safe_psql('postgres', 'CREATE DATABASE other');
	$node->safe_psql('other', 'CREATE EXTENSION immutable_events');
	$node->safe_psql('postgres', sprintf $append, 10);
	catches_up($node, 'preloaded');
	$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE other');	# not kept busy
	$node->safe_psql('postgres', 'DROP DATABASE copy');
	$node->safe_psql('other', 'DROP EXTENSION immutable_events');
	$node->safe_psql('other', $schema);
	cmp_ok(seconds_until($node, q{SELECT state FROM immutable.workers WHERE database = 'other'}, 'idle'), '<', 2, 'a first projection starts a worker');
	$node->safe_psql('other', sprintf $append, 10);
	catches_up($node, 'two databases', 'other');
	is( $node->safe_psql('postgres', q{SELECT string_agg(database, ' ') FROM immutable.workers}),
		'other postgres', 'who has no projection has no worker');
	is( $node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'immutable_events launcher'}),
		1, 'the launcher stays');
	$node->safe_psql('other', q{SELECT immutable.set_projection_mode('counts', 'inline'); SELECT immutable.drop_projection('sums')});
	becomes($node, q{SELECT string_agg(database, ' ') FROM immutable.workers}, 'postgres', 'the last projection gone, the worker leaves');
	$node->safe_psql('other', q{SELECT immutable.set_projection_mode('counts', 'async')});
	becomes($node, q{SELECT string_agg(database, ' ') FROM immutable.workers}, 'other postgres', 'and comes back with the next');
	$node->safe_psql('postgres', 'DROP DATABASE other');
}

# stop_worker lasts until the next start of the server.
sub stays_stopped
{
	my ($node) = @_;

	$node->safe_psql('postgres', 'SELECT immutable.stop_worker()');
	$node->safe_psql('postgres', q{SELECT immutable.set_projection_mode('counts', 'inline'); SELECT immutable.set_projection_mode('counts', 'async')});
	usleep(300_000);
	is($node->safe_psql('postgres', 'SELECT immutable._worker_pid() IS NULL'), 't', 'stopped, it stays so');
	$node->safe_psql('postgres', sprintf $append, 10);
	$node->restart;
	catches_up($node, 'restart, preloaded');
}

# A dump of projections that are behind, restored under the launcher's eyes.
sub restored
{
	my ($node) = @_;
	my $dump = $node->basedir . '/dump';

	$node->safe_psql('postgres', 'SELECT immutable.stop_worker()');
	$node->safe_psql('postgres', sprintf $append, 500);
	$node->command_ok([ 'pg_dump', '-Fd', '-f', $dump, '-d', $node->connstr('postgres') ], 'dump');
	$node->safe_psql('postgres', 'SELECT immutable.start_worker()');
	for my $jobs (1, 3)
	{
		$node->safe_psql('postgres', 'CREATE DATABASE restored TEMPLATE template0');
		$node->command_ok([ 'pg_restore', '-e', '-j', $jobs, '-d', $node->connstr('restored'), $dump ], 'restore');
		becomes($node, q{SELECT state FROM immutable.workers WHERE database = 'restored'}, 'idle', 'restored: served');
		catches_up($node, 'restored', 'restored');
		is($node->safe_psql('restored', 'SELECT total = (SELECT count(*) FROM ledger) FROM sums'), 't', 'restored: every event once, by type');
		$node->safe_psql('postgres', 'DROP DATABASE restored');
	}
}

# A worker is killed while it works, and with it the server.
sub crash
{
	my ($node) = @_;

	for my $round (1 .. 2)
	{
		my $pid = $node->safe_psql('postgres', 'SELECT immutable._worker_pid()');
		my $load;

		$node->safe_psql('postgres', sprintf $append, 5000);
		$load = session($node, $endless);
		usleep(150_000 * $round);
		becomes($node, $behind =~ s/count\(\*\)/count(*) > 0/r, 't', 'it is killed at work');
		my $offset = -s $node->logfile;
		kill 'KILL', $pid;
		eval { $load->{run}->finish };
		$node->wait_for_log(qr/ready to accept connections/, $offset);
		becomes($node, "SELECT immutable._worker_pid() <> $pid", 't', 'crash: there is a worker again');
		$node->safe_psql('postgres', sprintf $append, 10);
		catches_up($node, 'crash');
		is($node->safe_psql('postgres', 'SELECT total = (SELECT count(*) FROM ledger) FROM sums'), 't', 'crash: every event once, by type');
	}
}

# On a standby nobody serves until it is promoted.
sub promotion
{
	my ($node, $standby) = @_;

	$node->safe_psql('postgres', 'SELECT immutable.stop_worker()');
	$node->safe_psql('postgres', sprintf $append, 10);
	$node->wait_for_catchup($standby, 'replay');
	is(sqlstate($standby, 'SELECT immutable.start_worker()'), '25006', 'no worker on a standby');
	is($standby->safe_psql('postgres', 'SELECT count(*) FROM immutable.workers'), 0, 'nor by itself');
	is($standby->safe_psql('postgres', $behind), 2, 'the standby is behind');
	like($standby->safe_psql('postgres', q{SELECT immutable.safe_position('ledger')}), qr/^[1-9]/, 'the worker has persisted the safe position');
	$standby->promote;
	catches_up($standby, 'promoted');
}
