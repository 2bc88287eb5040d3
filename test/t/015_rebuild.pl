# Read models are rebuilt again and again, by reducers that change, while others
# append to their log, refresh them and read them, in all isolation levels. Each
# read compares the read model with the log, in one snapshot: a wrong one is an
# error that names it, and there must be none. What was shown once is shown from
# then on. Then backends are killed in the middle.

use strict;
use warnings FATAL => 'all';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $seconds = 8;
my $node = PostgreSQL::Test::Cluster->new('rebuild');
$node->init;
$node->append_conf('postgresql.conf', qq{
synchronous_commit = off
log_statement = none
max_connections = 40
});
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION immutable_events;
SELECT immutable.create_log('ledger');
-- a row says by which factor it counts
CREATE TABLE balance (stream text PRIMARY KEY, factor integer, n bigint DEFAULT 0, filler text);
CREATE INDEX ON balance (n);
CREATE UNIQUE INDEX ON balance (upper(stream));
CREATE TABLE counts (bucket integer PRIMARY KEY, factor integer, n bigint DEFAULT 0, last bigint);
CREATE FUNCTION count_1(r balance, e immutable.event) RETURNS balance LANGUAGE sql IMMUTABLE RETURN ROW(r.stream, 1, r.n + 1, repeat(r.stream, 100))::balance;
CREATE FUNCTION count_10(r balance, e immutable.event) RETURNS balance LANGUAGE sql IMMUTABLE RETURN ROW(r.stream, 10, r.n + 10, repeat(r.stream, 50))::balance;
CREATE FUNCTION bucket_1(r counts, e immutable.event) RETURNS counts LANGUAGE sql IMMUTABLE RETURN ROW(r.bucket, 1, r.n + 1, e.position)::counts;
CREATE FUNCTION bucket_10(r counts, e immutable.event) RETURNS counts LANGUAGE sql IMMUTABLE RETURN ROW(r.bucket, 10, r.n + 10, e.position)::counts;
SELECT count(immutable.append('ledger', 's' || i % 500, 't')) FROM generate_series(1, 5000) i;
SELECT immutable.create_projection('balance', 'ledger', 'count_1');
SELECT immutable.create_projection('counts', 'ledger', 'bucket_1', key => ARRAY['hashtext(stream) % 50'], mode => 'async');
-- where a read model is not what the log says, as far as the asynchronous one has come
CREATE VIEW wrong AS
SELECT 'balance' AS target, stream AS key FROM balance b FULL JOIN (SELECT stream, count(*) FROM ledger GROUP BY stream) l USING (stream)
	WHERE b.n IS DISTINCT FROM b.factor * l.count
UNION ALL
SELECT 'counts', bucket::text FROM counts c LEFT JOIN ledger l ON hashtext(l.stream) % 50 = c.bucket AND l.position <= c.last
	GROUP BY c.bucket HAVING c.n IS DISTINCT FROM c.factor * count(*)
UNION ALL
SELECT 'factors', 'balance' FROM balance HAVING count(DISTINCT factor) <> 1
UNION ALL
SELECT 'factors', 'counts' FROM counts HAVING count(DISTINCT factor) > 1;
SQL

my $dir = PostgreSQL::Test::Utils::tempdir();
my %scripts = (
	append => "\\set s random(1, 600)\nSELECT immutable.append('ledger', 's' || :s, 't');\n",
	several => "\\set s random(1, 600)\n\\set t random(1, 600)\nBEGIN;\nSELECT immutable.append('ledger', 's' || least(:s, :t), 't');\n\\sleep 2 ms\nSELECT immutable.append('ledger', 's' || greatest(:s, :t), 't');\nCOMMIT;\n\\sleep 5 ms\n",
	refresh => "SELECT immutable.refresh('counts');\n\\sleep 10 ms\n",
	read => "SELECT coalesce(string_agg(concat_ws(' ', target, key), ', '), '0')::integer FROM wrong;\n\\sleep 20 ms\n",
	advance => "SELECT position AS before FROM immutable.projection_positions WHERE target = 'counts'::regclass \\gset\n\\sleep 5 ms\nSELECT 1 / (position >= :before)::integer FROM immutable.projection_positions WHERE target = 'counts'::regclass;\n",
	repeat => "BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT coalesce(string_agg(concat_ws(' ', target, key), ', '), '0')::integer FROM wrong;\n\\sleep 40 ms\nSELECT coalesce(string_agg(concat_ws(' ', target, key), ', '), '0')::integer FROM wrong;\nCOMMIT;\n\\sleep 30 ms\n");
append_to_file("$dir/$_.sql", $scripts{$_}) for keys %scripts;

# Run clients in the background.
sub start
{
	my ($script, $clients) = @_;
	my %run = (script => $script, err => '', out => '');
	$run{h} = IPC::Run::start(
		[ 'pgbench', '-n', '-c', $clients, '-T', $seconds, '-f', "$dir/$script.sql",
			'-l', '--log-prefix', "$dir/log_$script", '--max-tries', $script eq 'several' ? 100 : 1,
			'-h', $node->host, '-p', $node->port, '-U', PostgreSQL::Test::Utils::get_user_or_undef(), 'postgres' ],
		'>', \$run{out}, '2>', \$run{err});
	return \%run;
}

# The longest time that one transaction of a script has taken, in milliseconds.
sub longest
{
	my ($script) = @_;
	my $longest = 0;
	for my $file (glob "$dir/log_$script.*")
	{
		for my $line (split /\n/, slurp_file($file))
		{
			my $taken = (split / /, $line)[2];
			$longest = $taken if $taken =~ /^\d+$/ && $taken > $longest;
		}
		unlink $file;
	}
	return $longest / 1000;
}

sub PostgreSQL::Test::Utils::get_user_or_undef { return (getpwuid($>))[0]; }

for my $swap ('false', 'true')
{
	# an exchange is not for older snapshots: nobody keeps one then
	my @runs = map { start(@$_) } ([ append => 3 ], [ several => 2 ], [ refresh => 1 ], [ read => 2 ], [ advance => 1 ], ($swap eq 'false' ? [ repeat => 2 ] : ()));
	my $end = time + $seconds - 1.5;
	my ($times, $slowest, $errors) = (0, 0, '');
	while (time < $end)
	{
		my $factor = $times % 2 ? 1 : 10;
		for my $call ("'balance', 'count_$factor'", "'counts', 'bucket_$factor'")
		{
			my $began = time;
			my ($rc, $out, $err) = $node->psql('postgres', "CALL immutable.rebuild($call, swap => $swap)");
			$errors .= $err if $rc;
			$slowest = time - $began if time - $began > $slowest;
			$times++ if $call =~ /counts/;
		}
	}
	$_->{h}->finish for @runs;
	is($errors, '', "every rebuild succeeds, swap $swap");
	cmp_ok($times, '>', 1, "$times rebuilds of each, the slowest took $slowest s");
	for my $run (@runs)
	{
		unlike($run->{err}, qr/ERROR|aborted|error:/, "$run->{script}: no error");
		my ($done) = $run->{out} =~ /number of transactions actually processed: (\d+)/;
		cmp_ok($done, '>', 5, "$run->{script}: $done transactions");
		note("swap $swap, $run->{script}: longest " . longest($run->{script}) . " ms");
	}
	$node->safe_psql('postgres', "SELECT immutable.refresh('counts', 1000000)");
	is($node->safe_psql('postgres', 'SELECT * FROM wrong'), '', 'read models are what the log says');
	is($node->safe_psql('postgres', "SELECT * FROM immutable.verify_projection('balance') UNION ALL SELECT * FROM immutable.verify_projection('counts')"), '', 'verify finds nothing');
}

# A backend that rebuilds is killed: while it folds, and while it waits at the end.
sub killed
{
	my ($swap, $phase, $reducer) = @_;
	my $holder = $node->background_psql('postgres', on_error_stop => 0);
	if ($phase eq 'waiting for locks')
	{
		$holder->query_safe("BEGIN; SELECT immutable.append('ledger', 'held', 't')") if $holder->can('query_safe');
	}
	my ($out, $err) = ('', '');
	my $h = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "CALL immutable.rebuild('balance', '$reducer', swap => $swap)" ], '>', \$out, '2>', \$err);
	my $pid = '';
	for (1 .. 2000)
	{
		$pid = $node->safe_psql('postgres', "SELECT pid FROM immutable.rebuild_progress WHERE phase = '$phase'");
		last if $pid ne '';
		usleep(5000);
	}
	isnt($pid, '', "a rebuild is at $phase, swap $swap");
	kill KILL => $pid if $pid ne '';
	eval { $h->finish };
	eval { $holder->{run}->kill_kill } if exists $holder->{run};
	# the server goes down with it
	for (1 .. 1000)
	{
		last unless -e $node->data_dir . '/postmaster.pid';
		usleep(20_000);
	}
	$node->_update_pid(0);
	$node->start;
	is($node->safe_psql('postgres', 'SELECT * FROM wrong WHERE target = \'balance\''), '', "nothing has changed: $phase, swap $swap");
	my $left = $node->safe_psql('postgres', "SELECT count(*) FROM pg_class WHERE relname LIKE 'balance\\_rebuild%' AND relkind = 'r'");
	note("left: $left");
	$node->safe_psql('postgres', "CALL immutable.rebuild('balance', '$reducer', swap => $swap)");
	is($node->safe_psql('postgres', 'SELECT * FROM wrong WHERE target = \'balance\''), '', 'rebuilt again');
	is($node->safe_psql('postgres', "SELECT count(*) FROM pg_class WHERE relname LIKE 'balance\\_rebuild%'"), '0', 'nothing is left');
}

# what follows a commit at once may be a crash: it must be on disk
$node->safe_psql('postgres', <<'SQL');
SET synchronous_commit = on;
CREATE FUNCTION slow(r balance, e immutable.event) RETURNS balance LANGUAGE plpgsql STABLE AS $$
BEGIN
	IF e.position % 100 = 0 THEN PERFORM pg_sleep(0.005); END IF;
	RETURN ROW(r.stream, 10, r.n + 10, 'slow')::balance;
END $$;
SQL
killed('false', 'folding', 'slow');
killed('true', 'folding', 'slow');
killed($_, 'waiting for locks', 'count_10') for 'false', 'true';

is($node->safe_psql('postgres', "SELECT * FROM immutable.verify_projection('balance')"), '', 'verify finds nothing at the end');
$node->stop;
done_testing();
