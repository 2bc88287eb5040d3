# Logical replication into immutable tables: the initial copy and every INSERT
# arrive, in a protected table and in logs, which accept rows from nobody else;
# an UPDATE, DELETE or TRUNCATE on the publisher, where the tables can be
# changed, is not applied: the apply worker fails until the operator skips the
# transaction.

use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $publisher = PostgreSQL::Test::Cluster->new('publisher');
$publisher->init(allows_streaming => 'logical');
$publisher->start;
my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');
$subscriber->init(allows_streaming => 'logical');
# a worker that fails comes back at once
$subscriber->append_conf('postgresql.conf', 'wal_retrieve_retry_interval = 100ms');
$subscriber->start;

for my $node ($publisher, $subscriber)
{
	$node->safe_psql('postgres', q{
CREATE EXTENSION immutable_events;
CREATE TABLE audit (id integer PRIMARY KEY, what text);
SELECT immutable.create_log('ledger');
SELECT immutable.create_log('parted', partitions => 3);
	});
}
$publisher->safe_psql('postgres', q{
INSERT INTO audit VALUES (1, 'first'), (2, 'second');
SELECT immutable.append(log, 's', 'written')
FROM unnest(ARRAY['ledger', 'parted']::regclass[]) log, generate_series(1, 3);
CREATE PUBLICATION changes FOR TABLE audit, ledger, parted WITH (publish_via_partition_root);
});
$subscriber->safe_psql('postgres', "SELECT immutable.protect('audit')");
my $connection = $publisher->connstr . ' dbname=postgres';
$subscriber->safe_psql('postgres',
	"CREATE SUBSCRIPTION changes CONNECTION '$connection' PUBLICATION changes");
$subscriber->wait_for_subscription_sync($publisher, 'changes');

my @tables = ('audit', 'ledger', 'parted');
is(content($subscriber, $_), content($publisher, $_), "$_: the initial copy arrived")
  for @tables;
is(subscriber('SELECT count(*) FROM audit'), 2, 'and it was not empty');

$publisher->safe_psql('postgres', q{
INSERT INTO audit VALUES (3, 'third');
SELECT immutable.append(log, stream, 'written')
FROM unnest(ARRAY['ledger', 'parted']::regclass[]) log, unnest(ARRAY['s', 't']) stream;
});
$publisher->wait_for_catchup('changes');
is(content($subscriber, $_), content($publisher, $_), "$_: an INSERT arrived")
  for @tables;
is(subscriber("SELECT immutable.stream_version(log, 's') FROM unnest(ARRAY['ledger', 'parted']::regclass[]) log"),
	"4\n4", 'streams can be read on the subscriber');

# what the publisher does to an ordinary table
is_refused('audit', 'update', "UPDATE audit SET what = 'changed' WHERE id = 1");
is_refused('audit', 'delete from', 'DELETE FROM audit WHERE id = 2');
is_refused('audit', 'truncate', 'TRUNCATE audit');
is(subscriber("SELECT string_agg(id || ' ' || what, ', ' ORDER BY id) FROM audit"),
	'1 first, 2 second, 3 third', 'the protected rows are as they were');

# what it does to a log that it has unprotected
$publisher->safe_psql('postgres', q{
SELECT immutable.unprotect('ledger', force => true);
SELECT immutable.unprotect('parted', force => true);
});
is_refused('ledger', 'update',
	"UPDATE ledger SET type = 'changed' WHERE version = 1");
is_refused('parted_p\d', 'delete from', 'DELETE FROM parted WHERE version = 1');
is_refused('ledger', 'truncate', 'TRUNCATE ledger');
$publisher->safe_psql('postgres', q{
SELECT immutable.protect('ledger');
SELECT immutable.protect('parted');
});

# what comes afterwards arrives
$publisher->safe_psql('postgres', q{
INSERT INTO audit VALUES (4, 'fourth');
SELECT immutable.append('parted', 's', 'written');
});
$publisher->wait_for_catchup('changes');
is(subscriber('SELECT count(*) FROM audit'), 4, 'audit: INSERTs go on');
is(subscriber("SELECT immutable.stream_version('parted', 's')"), 5, 'parted: appends go on');

# nobody but the apply worker
my $stderr;
$subscriber->psql('postgres',
	"SET session_replication_role = replica; INSERT INTO ledger SELECT * FROM ledger",
	stderr => \$stderr);
like($stderr, qr/ERROR:  cannot insert into immutable table "ledger"/,
	'a replica role alone inserts nothing');
is(subscriber('SELECT count(*) FROM immutable.protected_tables WHERE NOT armed'),
	0, 'every guard is in place');
is(subscriber("SELECT count(*) FROM immutable.guard_changes WHERE action = 'import'"),
	0, 'replication is no import');

# the subscriber takes over: its sequence is behind, and append says so
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION changes');
$subscriber->psql('postgres',
	"\\set VERBOSITY verbose\nSELECT immutable.append('ledger', 's', 'written')",
	stderr => \$stderr);
like($stderr, qr/ERROR:  55000: the sequence of log "ledger" was set back/,
	'a sequence that is behind is refused');
is( subscriber("SELECT setval(pg_get_serial_sequence('ledger', 'position'), (SELECT max(position) FROM ledger));"
		  . " SELECT version, position = (SELECT max(position) + 1 FROM ledger) FROM immutable.append('ledger', 's', 'written')")
	  =~ s/.*\n//sr,
	'5|t', 'with the sequence set, appends go on');

$subscriber->stop;
$publisher->stop;
done_testing();

# A change on the publisher must fail on the subscriber and leave it as it was.
# Then skip the transaction, as an operator would.
sub is_refused
{
	my ($table, $verb, $statement) = @_;

	my $before = join "\n", map { content($subscriber, $_) } @tables;
	my $offset = -s $subscriber->logfile;
	$publisher->safe_psql('postgres', $statement);
	$subscriber->wait_for_log(
		qr/finished at [0-9A-F]+\/[0-9A-F]+/, $offset);
	my $log = slurp_file($subscriber->logfile, $offset);
	my ($error) = $log =~ /ERROR:  (.*)/;
	like($error, qr/^cannot $verb immutable table "$table"$/, "refused: $statement");
	is(join("\n", map { content($subscriber, $_) } @tables),
		$before, 'the subscriber is as it was');

	my ($lsn) = $log =~ /finished at ([0-9A-F]+\/[0-9A-F]+)/;
	$subscriber->safe_psql('postgres', "ALTER SUBSCRIPTION changes SKIP (lsn = '$lsn')");
	$publisher->wait_for_catchup('changes');
	is(join("\n", map { content($subscriber, $_) } @tables),
		$before, 'and after it was skipped');
}

# All rows of a table.
sub content
{
	my ($node, $table) = @_;
	return $node->safe_psql('postgres', "SELECT t FROM $table t ORDER BY t");
}

# What the subscriber answers.
sub subscriber
{
	return $subscriber->safe_psql('postgres', $_[0]);
}
