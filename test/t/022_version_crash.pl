# The server dies in the middle of versioned updates and of a lazy backfill:
# kill -9 of a backend, and of the postmaster. Afterwards each row is what its
# newest version says, versions have no gap, what was acknowledged is there, the
# backfill goes on where it was, and so does numbering.

use strict;
use warnings FATAL => 'all';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = PostgreSQL::Test::Cluster->new('version_crash');
$node->init;
$node->append_conf('postgresql.conf', "synchronous_commit = on\nrestart_after_crash = on\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION immutable_events');

for my $victim ('backend', 'postmaster')
{
	my $table = "of_$victim";
	$node->safe_psql('postgres', <<SQL);
CREATE TABLE $table (id integer PRIMARY KEY, n integer NOT NULL);
INSERT INTO $table SELECT i, 0 FROM generate_series(1, 20000) i;
SELECT immutable.add_versioning('$table', 'lazy');
SQL
	my @updates = map { "UPDATE $table SET n = n + 1 WHERE id <= 3 RETURNING 'ack ' || n;" } 1 .. 20000;
	# not by a pipe, which would break before all answers are read
	my $file = $node->basedir . "/$victim.sql";
	append_to_file($file, join("\n", @updates));
	my ($out, $err) = ('', '');
	local $ENV{PGAPPNAME} = 'writer';
	my $writer = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-f', $file, '-d', $node->connstr('postgres') ], '>', \$out, '2>', \$err);
	# the backfill does not end before a row that is locked
	my $holder = IPC::Run::start([ 'psql', '-XAtq', '-c', "SELECT FROM $table WHERE id = 20000 FOR UPDATE; SELECT pg_sleep(600)", $node->connstr('postgres') ], '>', \my $out3, '2>', \my $err3);
	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query ~ 'FOR UPDATE'") or die 'no row is locked';
	my $backfill = IPC::Run::start([ 'psql', '-XAtq', '-c', "CALL immutable.backfill_versions('$table', 50)", $node->connstr('postgres') ], '>', \my $out2, '2>', \my $err2);
	for (1 .. 3000)
	{
		last if ($out =~ tr/\n//) > 300 && $node->safe_psql('postgres', "SELECT count(*) > 500 FROM ${table}_versions WHERE id > 3") eq 't';
		$writer->pump_nb;
		usleep(10_000);
	}
	is(query("SELECT complete FROM immutable.versioned_tables WHERE relation = '$table'::regclass"), 'f', "$victim: in the middle of it");
	if ($victim eq 'backend')
	{
		my $offset = -s $node->logfile;
		kill 9, query("SELECT pid FROM pg_stat_activity WHERE application_name = 'writer' AND query LIKE 'UPDATE%' LIMIT 1");
		$node->wait_for_log(qr/database system is ready to accept connections/, $offset);
	}
	else
	{
		$node->kill9;
		for (1 .. 100)
		{
			last if $node->start(fail_ok => 1);
			usleep(100_000);
			$node->stop('fast', fail_ok => 1);
		}
	}
	eval { $_->finish } for $writer, $backfill, $holder;
	my ($told) = (sort { $b <=> $a } $out =~ /^ack (\d+)\n/mg);
	my $n = query("SELECT n FROM $table WHERE id = 1");
	ok($n == $told || $n == $told + 1, "$victim: what was acknowledged is there, and at most one more");
	is(query("SELECT count(*) FROM ${table}_versions v JOIN $table t USING (id) WHERE id <= 3 AND v.n = $n AND t.n = $n"), 3, "$victim: all rows of a statement or none");
	$node->safe_psql('postgres', "CALL immutable.backfill_versions('$table'); UPDATE $table SET n = n + 1 WHERE id IN (1, 20000)");
	is(query("SELECT string_agg(id || ':' || v, ' ' ORDER BY id) FROM (SELECT id, max(row_version) AS v FROM ${table}_versions WHERE id IN (1, 20000) GROUP BY id) m"),
		'1:' . ($n + 2) . ' 20000:2', "$victim: numbering goes on");
	is(query("SELECT count(*) FROM immutable.verify_versions('$table')"), 0, "$victim: every row is what its newest version says");
	is(query("SELECT count(*) FROM (SELECT id FROM ${table}_versions GROUP BY id HAVING count(*) <> max(row_version) OR min(row_version) <> 1) g"), 0, "$victim: versions have no gap");
	is(query("SELECT count(DISTINCT id) FROM ${table}_versions"), 20000, "$victim: every row has its versions");
}

$node->stop;
done_testing();

# One value.
sub query { return $node->safe_psql('postgres', $_[0]); }
