# The workers of a rebuild: one that is terminated ends the rebuild with an
# error, one that is killed takes the server down as any backend would, and a
# leader who is cancelled or goes takes them with him. Whatever happens, the
# read model is as it was, nothing is left that stays, and the next rebuild
# works.

use strict;
use warnings FATAL => 'all';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('workers');
$node->init;
$node->append_conf('postgresql.conf', "restart_after_crash = on\nmax_worker_processes = 8\n");
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION immutable_events;
SELECT immutable.create_log('ledger');
CREATE TABLE counts (stream text PRIMARY KEY, n bigint DEFAULT 0);
CREATE FUNCTION add_one(r counts, e immutable.event) RETURNS counts LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN ROW(r.stream, r.n + 1)::counts;
CREATE FUNCTION add_ten(r counts, e immutable.event) RETURNS counts LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN ROW(r.stream, r.n + 10)::counts;
CREATE FUNCTION slowly(r counts, e immutable.event) RETURNS counts LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
	PERFORM pg_sleep(0.005);
	RETURN ROW(r.stream, r.n + 10)::counts;
END $$;
-- fails at once, in whatever process
CREATE FUNCTION badly(r counts, e immutable.event) RETURNS counts LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
	IF pg_backend_pid() <> current_setting('test.leader')::int THEN
		RAISE EXCEPTION 'no' USING ERRCODE = 'XX123', DETAIL = 'Not now.';
	END IF;
	PERFORM pg_sleep(0.005);
	RETURN r;
END $$;
SELECT sum((immutable.append_batch('ledger', 's' || s, ARRAY(SELECT ('t', '{}', NULL, NULL, 1)::immutable.new_event FROM generate_series(1, 100)))).written) FROM generate_series(1, 600) s;
SELECT immutable.create_projection('counts', 'ledger', 'add_one', mode => 'async');
CALL immutable.catch_up('counts');
SQL

my $rows = "SELECT count(*) || ' ' || sum(n) FROM counts";
my $workers = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'parallel worker' AND query = 'immutable.rebuild of counts: folding'";

# A rebuild that takes minutes, in the background, with two workers at it.
sub start
{
	my %run = (out => '', err => '');
	$run{h} = IPC::Run::start(
		[ 'psql', '-X', '-v', 'VERBOSITY=verbose', '-d', $node->connstr('postgres'),
			'-c', "CALL immutable.rebuild('counts', 'slowly')" ],
		'>', \$run{out}, '2>', \$run{err});
	$node->poll_query_until('postgres', "SELECT count(*) = 2 FROM ($workers) w")
	  or die "no workers: $run{err}";
	$run{leader} = $node->safe_psql('postgres', "SELECT pid FROM immutable.rebuild_progress WHERE phase = 'folding'");
	$run{workers} = [ split /\n/, $node->safe_psql('postgres', $workers) ];
	return \%run;
}

# It has failed, and nothing has changed. (A crash lets the log's sequence leap, and
# so the projection seem behind.)
sub failed
{
	my ($run, $error, $how) = @_;
	IPC::Run::finish($run->{h});
	like($run->{err}, $error, "$how: the error");
	ok($node->poll_query_until('postgres', 'SELECT 1', '1'), "$how: the server is there");
	ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'parallel worker'"), "$how: no worker survives");
	is($node->safe_psql('postgres', $rows), '600 60000', "$how: the rows");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM immutable.rebuild_progress'), '0', "$how: no progress");
	is($node->safe_psql('postgres', "SELECT state FROM immutable.projection_status"), $how eq 'worker killed' ? 'behind' : 'current', "$how: the state");
	is($node->safe_psql('postgres', "SELECT reducer FROM immutable.projections"), $node->safe_psql('postgres', "SELECT reducer FROM immutable.projections WHERE reducer LIKE '%add_one%'"), "$how: the reducer");
}

my $run = start();
# the events that all have folded, and not more than there are
ok($node->poll_query_until('postgres', 'SELECT events_done > 0 FROM immutable.rebuild_progress'), 'progress goes on');
is($node->safe_psql('postgres', 'SELECT events_done < events_total AND events_total = 60000 FROM immutable.rebuild_progress'), 't', 'progress is true');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($run->{workers}[1])");
failed($run, qr/ERROR:  57P01: terminating (?:background worker "parallel worker"|connection) due to administrator command/, 'worker terminated');

$run = start();
$node->safe_psql('postgres', "SELECT pg_cancel_backend($run->{leader})");
failed($run, qr/ERROR:  57014: canceling statement due to user request/, 'leader cancelled');

$run = start();
$node->safe_psql('postgres', "SELECT pg_terminate_backend($run->{leader})");
failed($run, qr/FATAL:  57P01: terminating connection due to administrator command/, 'leader terminated');

# the error of a worker has what the reducer said, and where
my ($ret, $out, $err) = $node->psql('postgres', <<'SQL');
\set VERBOSITY verbose
SELECT set_config('test.leader', pg_backend_pid()::text, false);
CALL immutable.rebuild('counts', 'badly');
SQL
like($err, qr/ERROR:  XX123: no\nDETAIL:  Not now\.\nCONTEXT:  PL\/pgSQL function badly\(counts,immutable\.event\) line 4 at RAISE\nprojection "counts", event at position \d+\nparallel worker/, 'what a worker fails with');

$run = start();
my $offset = -s $node->logfile;
kill 'KILL', $run->{workers}[0];
$node->wait_for_log(qr/ready to accept connections/, $offset);
failed($run, qr/server closed the connection unexpectedly|terminating connection because of crash/, 'worker killed');

# a shadow that a crash has left goes with the next rebuild
$node->safe_psql('postgres', "CALL immutable.rebuild('counts', 'add_ten')");
is($node->safe_psql('postgres', $rows), '600 600000', 'rebuilt in the end');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_class WHERE relname LIKE 'counts_rebuild%'"), '0', 'no shadow is left');
is($node->safe_psql('postgres', "SELECT count(*) FROM immutable.verify_projection('counts')"), '0', 'verified');

# workers that others have: fewer, or none, are good enough
$node->append_conf('postgresql.conf', "max_worker_processes = 1\n");
$node->restart;
$node->safe_psql('postgres', "CALL immutable.rebuild('counts', 'add_one')");
is($node->safe_psql('postgres', $rows), '600 60000', 'hardly any workers');
$node->stop;
done_testing();
