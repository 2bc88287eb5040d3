# No room for a table that grows. A limit on the size of files stands in for the
# full disk, which would need a file system of our own: the same call fails, in
# the same place. The error names the file, nothing of the batch is there, reads
# go on; and when there is room again, so does everything else.

use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'prlimit is missing' if system('prlimit --version >/dev/null 2>&1') != 0;

my $node = PostgreSQL::Test::Cluster->new('disk_full');
$node->init(extra => ['--wal-segsize=1']);
$node->append_conf('postgresql.conf', "fsync = off\nautovacuum = off\nwork_mem = 64kB\nmaintenance_work_mem = 1MB\n");
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION immutable_events;
SELECT immutable.create_log('ledger'), immutable.create_log('parted', partitions => 2);
CREATE TABLE inline (stream text PRIMARY KEY, n bigint NOT NULL DEFAULT 0);
CREATE TABLE wide (position bigint PRIMARY KEY, filler text);
ALTER TABLE wide ALTER filler SET STORAGE EXTERNAL;
CREATE FUNCTION inline(r inline, e immutable.event) RETURNS inline LANGUAGE sql IMMUTABLE RETURN ROW((r).stream, (r).n + 1)::inline;
CREATE FUNCTION wide(r wide, e immutable.event) RETURNS wide LANGUAGE sql IMMUTABLE RETURN ROW((r).position, (e.data->>'filler') || (e.data->>'filler'))::wide;
SELECT immutable.create_projection('inline', 'ledger', 'inline'), immutable.create_projection('wide', 'ledger', 'wide', '{position}', mode => 'async');
CREATE FUNCTION batch(log regclass) RETURNS immutable.appended LANGUAGE sql AS $$
	SELECT immutable.append_json(log, 's', jsonb_agg(jsonb_build_object('type', 't', 'data', jsonb_build_object('filler', f))))
	FROM (SELECT string_agg(md5(random()::text), '') AS f FROM generate_series(1, 4000) n GROUP BY n % 100) g
$$;
SQL
my ($pid) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;

limit(3 << 20);
my %batches;
for my $log ('ledger', 'parted')
{
	my $error = '';
	for (1 .. 100)
	{
		(my $ret, undef, $error) = $node->psql('postgres', "SELECT batch('$log')");
		last if $ret != 0;
		$batches{$log}++;
	}
	like($error, qr/ERROR:  could not extend file "base/, "$log: no room, and the error says so");
	cmp_ok($batches{$log}, '>', 3, "$log: $batches{$log} batches went in before");
	is(query("SELECT count(*), max(version), immutable.stream_version('$log', 's') FROM $log"), join('|', ($batches{$log} * 100) x 3), "$log: whole batches");
	is(query("SELECT count(*) FROM immutable.check_log('$log')"), 0, "$log: check_log finds nothing");
}
is(query('SELECT n FROM inline'), $batches{ledger} * 100, 'the inline read model has what the log has');
# the server's condition is no event's fault: nothing is halted, all of it is tried again
my ($ret, undef, $error) = $node->psql('postgres', "SELECT immutable.refresh('wide', 1000000)");
like($error, qr/ERROR:  could not extend file "base/, 'refresh: no room');
is(query(q{SELECT position = (SELECT coalesce(max(position), 0) FROM wide), state, error FROM immutable.projection_status WHERE target = 'wide'::regclass}),
	't|behind|', 'refresh: nothing is halted');
is(query(q{SELECT count(*) = coalesce(max(position), 0) FROM wide}), 't', 'refresh: with every row up to there');
($ret, undef, $error) = $node->psql('postgres', "CALL immutable.rebuild('wide')");
like($error, qr/could not extend file|could not write/, 'rebuild: no room');
is(query(q{SELECT count(*) FROM pg_class WHERE relname ~ 'rebuild' AND relnamespace = 'public'::regnamespace}), 0, 'rebuild: its table is gone');

limit('unlimited');
for my $log ('ledger', 'parted')
{
	is(query("SELECT (batch('$log')).version"), ($batches{$log} + 1) * 100, "$log: goes on with the next version");
	is(query("SELECT count(*) FROM immutable.check_log('$log')"), 0, "$log: check_log finds nothing");
}
$node->safe_psql('postgres', "CALL immutable.catch_up('wide'); CALL immutable.rebuild('wide');");
is(query("SELECT count(*) FROM immutable.verify_projection('$_')"), 0, "$_ is what its log says") for 'inline', 'wide';
$node->restart;
is(query('SELECT count(*), (SELECT n FROM inline), (SELECT count(*) FROM wide) FROM ledger'), join('|', (($batches{ledger} + 1) * 100) x 3), 'and after a restart');

$node->stop;
done_testing();

# Set how large a file may be, for sessions that begin now.
sub limit
{
	my ($size) = @_;
	system_or_bail('prlimit', '--pid', $pid, "--fsize=$size:");
	return;
}

# One row.
sub query { return $node->safe_psql('postgres', $_[0]); }
