# The server dies in the middle of appends, in three ways: an immediate stop,
# kill -9 of the postmaster, kill -9 of one backend. Every append that was
# acknowledged is there afterwards, nothing else is but what was in flight,
# versions have no gaps, appends go on above all that was, and the guards are
# armed.

use strict;
use warnings FATAL => 'all';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $writers = 4;

my $node = PostgreSQL::Test::Cluster->new('crash');
$node->init;
$node->append_conf('postgresql.conf', qq{
synchronous_commit = on
restart_after_crash = on
log_statement = none
});
$node->start;
$node->safe_psql('postgres', q{
CREATE EXTENSION immutable_events;
SELECT immutable.create_log('ledger');
SELECT immutable.create_log('parted', partitions => 3);
CREATE TABLE acknowledged (log text, stream text, version bigint, position bigint);
CREATE VIEW events AS
SELECT 'ledger' AS log, stream, version, position FROM ledger
UNION ALL SELECT 'parted', stream, version, position FROM parted;
CREATE VIEW faults AS
SELECT log, stream, version
FROM (SELECT *, row_number() OVER w AS number, lag(position) OVER w AS last_position
	FROM events WINDOW w AS (PARTITION BY log, stream ORDER BY version)) e
WHERE version <> number OR position <= last_position;
});

crash('immediate stop', sub { $node->stop('immediate'); start(); });
crash('kill -9 of the postmaster', sub { $node->kill9; start(); });
crash(
	'kill -9 of a backend',
	sub {
		my $pid = $node->safe_psql('postgres',
			"SELECT pid FROM pg_stat_activity WHERE application_name = 'writer' ORDER BY pid LIMIT 1");
		my $offset = -s $node->logfile;
		kill 9, $pid or die "cannot kill $pid: $!";
		# the others are thrown out and the server recovers by itself
		$node->wait_for_log(qr/database system is ready to accept connections/,
			$offset);
	});

$node->stop;
done_testing();

# Let writers append, end them in some way, and look at what is left.
sub crash
{
	my ($name, $kill) = @_;

	note($name);
	my @runs = map { start_writer($_) } 1 .. $writers;
	my $enough = 300;
	while (grep { lines($_) < $enough } @runs)
	{
		$_->{run}->pump_nb for @runs;
		usleep(10_000);
	}
	$kill->();
	eval { $_->{run}->finish } for @runs;

	# a line that was cut short was no acknowledgement
	my @answers = map { $_->{out} =~ /^(ack .*)\n/mg } @runs;
	my $values = join ",\n",
	  map { /^ack (\w+) (\S+) (\d+) (\d+)$/ or die $_; "('$1', '$2', $3, $4)" } @answers;
	$node->safe_psql('postgres', "INSERT INTO acknowledged VALUES $values");

	is( query('SELECT count(*) FROM (SELECT * FROM acknowledged EXCEPT ALL SELECT * FROM events) e'),
		0, "$name: every acknowledged append is there");
	my $more = query('SELECT count(*) FROM (SELECT * FROM events EXCEPT ALL SELECT * FROM acknowledged) e');
	cmp_ok($more, '<=', $writers, "$name: nothing else but what was in flight");
	is(query('SELECT count(*) FROM faults'), 0,
		"$name: versions without gaps, positions rise");
	is(query('SELECT count(*) FROM immutable.protected_tables WHERE NOT armed'),
		0, "$name: the guards are armed");
	for my $table ('ledger', 'parted')
	{
		my $stderr;
		$node->psql('postgres', "UPDATE $table SET version = 7", stderr => \$stderr);
		like($stderr, qr/ERROR:  cannot update immutable table "$table"/,
			"$name: $table cannot be changed");
		is( query("WITH before AS MATERIALIZED (SELECT immutable.stream_version('$table', 'shared') AS version,"
				  . " (SELECT max(position) FROM $table) AS position)"
				  . " SELECT a.version = before.version + 1, a.position > before.position"
				  . " FROM before, immutable.append('$table', 'shared', 'after the crash') a"),
			't|t', "$name: appends to $table go on");
	}
	# what was not acknowledged counts from now on
	$node->safe_psql('postgres',
		'INSERT INTO acknowledged SELECT * FROM events EXCEPT SELECT * FROM acknowledged');
}

# A session that appends without end, each append in its own transaction.
sub start_writer
{
	my ($number) = @_;
	my $writer = { out => '', in => <<"SQL" };
SELECT format('SELECT concat_ws('' '', ''ack'', %L, %L, version, position) FROM immutable.append(%L, %L, ''written'')',
	log, stream, log, stream)
FROM generate_series(1, 100000) i,
	LATERAL (SELECT (ARRAY['ledger', 'parted'])[1 + i % 2] AS log,
		(ARRAY['shared', 'own-$number', 'many-' || i])[1 + i % 3] AS stream) s
\\gexec
SQL

	local $ENV{PGAPPNAME} = 'writer';
	$writer->{run} = IPC::Run::start(
		[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres') ],
		'<', \$writer->{in}, '>', \$writer->{out}, '2>', \$writer->{err},
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	return $writer;
}

# How many appends a writer has been told of.
sub lines
{
	my ($writer) = @_;
	return $writer->{out} =~ tr/\n//;
}

# Start the server when the processes of the old one have gone.
sub start
{
	for (1 .. 100)
	{
		return if $node->start(fail_ok => 1);
		usleep(100_000);
		$node->stop('fast', fail_ok => 1);
	}
	die 'the server does not start again';
}

# One value.
sub query
{
	return $node->safe_psql('postgres', $_[0]);
}
