# Read models under fire: clients append in several ways at once, others refresh
# and change modes, and the refreshing backend or the postmaster is killed at a
# random moment. Afterwards every read model equals a plain GROUP BY over the
# log: nothing was skipped, nothing folded twice, nothing out of order. A dump
# carries projections, positions, errors and skips, and the restored ones go on.
# A subscriber may not write into a read model, nor past one.

use strict;
use warnings FATAL => 'all';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = PostgreSQL::Test::Cluster->new('projections');
$node->init(allows_streaming => 'logical');
$node->append_conf('postgresql.conf', qq{
restart_after_crash = on
synchronous_commit = on
log_statement = none
});
$node->start;
srand($ENV{SEED} // 7);

# n counts, s tells the order of the events in a row, last is the last position
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION immutable_events;
SELECT immutable.create_log('plain');
SELECT immutable.create_log('parted', partitions => 3);
CREATE FUNCTION make(model text, log text, key text, mode text, commutative boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TABLE %1$I (key text PRIMARY KEY, n bigint NOT NULL DEFAULT 0, s numeric NOT NULL DEFAULT 0, last bigint NOT NULL DEFAULT 0)', model);
	EXECUTE format($f$CREATE FUNCTION %1$I(r %1$I, e immutable.event) RETURNS %1$I LANGUAGE sql IMMUTABLE AS
		'SELECT r.key, r.n + 1, r.s + %2$s * e.position, greatest(r.last, e.position)'$f$,
		model, CASE WHEN commutative THEN '1' ELSE '(r.n + 1)' END);
	PERFORM immutable.create_projection(model::regclass, log::regclass, model::regproc, ARRAY[key], mode => mode, commutative => commutative);
END $$;
SELECT make(log || '_' || kind || '_' || mode, log, kind, mode, kind = 'type')
FROM unnest('{plain,parted}'::text[]) log, unnest('{stream,type}'::text[]) kind, unnest('{inline,async}'::text[]) mode;
SELECT make(log || '_ordered', log, 'type', 'async', false) FROM unnest('{plain,parted}'::text[]) log;
-- the truth, by SQL alone; answers how many rows differ
CREATE FUNCTION differences(model text, log text, key text, commutative boolean) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	answer bigint;
BEGIN
	EXECUTE format('WITH truth AS (SELECT key, count(*), sum(CASE WHEN %4$L THEN 1 ELSE rank END * position), max(position)
		FROM (SELECT %3$I AS key, position, row_number() OVER (PARTITION BY %3$I ORDER BY position) AS rank FROM %2$I) e GROUP BY key)
		SELECT count(*) FROM ((TABLE truth EXCEPT TABLE %1$I) UNION ALL (TABLE %1$I EXCEPT TABLE truth)) d',
		model, log, key, commutative) INTO answer;
	RETURN answer;
END $$;
CREATE VIEW models AS
SELECT p.target::text AS model, p.log::text AS log, p.key[1] AS key, p.commutative FROM immutable.projections p;
SQL

my $append = $node->basedir . '/append.sql';
append_to_file($append, <<'SQL');
\set s random(1, 20)
\set t random(1, 4)
\set many random(1, 10)
SELECT immutable.append(log, 's' || :s, 't' || :t) FROM unnest('{plain,parted}'::regclass[]) log;
BEGIN;
SELECT immutable.append_json(log, 's' || :s, (SELECT jsonb_agg(jsonb_build_object('type', 't' || (n * :t) % 5)) FROM generate_series(1, :many) n))
FROM unnest('{plain,parted}'::regclass[]) log;
END;
SQL

for my $round (1 .. 6)
{
	my $out = '';
	my @pgbench = ('pgbench', '-n', '-c', '3', '-T', '2', '--max-tries=100', '-f', $append,
		'-h', $node->host, '-p', $node->port, 'postgres');
	my $run = IPC::Run::start(\@pgbench, '<', \undef, '>', \$out, '2>', \$out);
	my @loops = map { refresher($_) } 1 .. 2;

	usleep(300_000 + int rand 900_000);
	if ($round % 3 == 0)
	{
		$node->kill9;
		finish($run, @loops);
		unlink $node->data_dir . '/postmaster.pid';
		my $ok = 0;
		for (1 .. 50) { last if $ok = $node->start(fail_ok => 1); usleep(200_000); }
		ok($ok, "round $round: the postmaster was killed");
	}
	elsif ($round % 3 == 1)
	{
		my $pid = $node->safe_psql('postgres',
			"SELECT pid FROM pg_stat_activity WHERE application_name = 'refresher' LIMIT 1");
		my $offset = -s $node->logfile;
		kill 9, $pid if $pid;
		$node->wait_for_log(qr/database system is ready to accept connections/, $offset) if $pid;
		finish($run, @loops);
		ok($pid, "round $round: a refreshing backend was killed");
	}
	else
	{
		$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'refresher' LIMIT 1");
		for my $mode ('inline', 'async')
		{
			$node->safe_psql('postgres', "SELECT immutable.set_projection_mode('plain_stream_async', '$mode')");
			usleep(100_000);
		}
		finish($run, @loops);
		pass("round $round: a refreshing backend was terminated, a mode changed");
	}
	check_models($node, 'postgres', "round $round");
}
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM plain'), '>', 200, 'there were events');

# an event that halts, and one that is skipped, in a dump
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE strict_model (stream text PRIMARY KEY, n bigint NOT NULL DEFAULT 0);
CREATE FUNCTION strict_model(r strict_model, e immutable.event) RETURNS strict_model LANGUAGE sql IMMUTABLE AS
$$ SELECT r.stream, r.n + CASE WHEN e.type = 'poison' THEN 1 / (r.n - r.n) ELSE 1 END $$;
SELECT immutable.create_projection('strict_model', 'plain', 'strict_model', stream_prefix => 'x', mode => 'async');
SELECT immutable.append('plain', 'x', t) FROM unnest('{good,poison,good,poison,good}'::text[]) t;
SELECT immutable.refresh('strict_model', 1000000);
SELECT immutable.skip_event('strict_model', error_position, 'a test') FROM immutable.projection_status WHERE target = 'strict_model'::regclass;
SELECT immutable.refresh('strict_model', 1000000);
SQL
my $standing = q{SELECT target, mode, state, position, lag_events, error, error_sqlstate, error_position, error_event
	FROM immutable.projection_status ORDER BY target::text};
my $before = $node->safe_psql('postgres', $standing);
like($before, qr/^strict_model\|async\|halted\|\d+\|2\|division by zero\|22012\|/m, 'one is halted');
for my $format ('c', 'p')
{
	my $file = $node->basedir . "/dump.$format";
	my $db = "restored_$format";
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->command_ok(['pg_dump', '-F', $format, '-f', $file, 'postgres'], "pg_dump -F $format");
	$node->command_ok($format eq 'p' ? ['psql', '-qX', '-v', 'ON_ERROR_STOP=1', '-d', $db, '-f', $file]
		: ['pg_restore', '--exit-on-error', '-d', $db, $file], "restored from $format");
	is($node->safe_psql($db, $standing), $before, "$format: projections stand where they stood");
	is($node->safe_psql($db, q{SELECT count(*), min(reason) FROM immutable.skipped_events}), '1|a test', "$format: what was skipped is known");
	my ($ret, undef, $error) = $node->psql($db, 'UPDATE plain_stream_inline SET n = 0');
	like($error, qr/cannot change read model "plain_stream_inline"/, "$format: read models are guarded");
	$node->safe_psql($db, q{SELECT immutable.append('plain', 's1', 't1'), immutable.append('parted', 's1', 't1')});
	$node->safe_psql($db, q{SELECT immutable.skip_event('strict_model', error_position, 'another') FROM immutable.projection_status WHERE error IS NOT NULL});
	check_models($node, $db, "$format: they go on");
	is($node->safe_psql($db, 'TABLE strict_model'), 'x|3', "$format: past what was skipped");
	is($node->safe_psql($db, q{SELECT count(*) FROM immutable.projection_status WHERE state <> 'current'}), '0', "$format: all are current");
}

# a subscriber: read models are its own, and inline ones cannot follow a log that is replicated
my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');
$subscriber->init(allows_streaming => 'logical');
$subscriber->start;
$node->safe_psql('postgres', q{
	CREATE TABLE model (key text PRIMARY KEY, n bigint);
	SELECT immutable.create_log('source');
	CREATE PUBLICATION p FOR TABLE model, source;
});
$subscriber->safe_psql('postgres', q{
	CREATE EXTENSION immutable_events;
	SELECT immutable.create_log('other');
	SELECT immutable.create_log('source');
	CREATE TABLE model (key text PRIMARY KEY, n bigint DEFAULT 0);
	CREATE FUNCTION model(r model, e immutable.event) RETURNS model LANGUAGE sql IMMUTABLE AS 'SELECT r.key, r.n + 1';
	CREATE TABLE inline (key text PRIMARY KEY, n bigint DEFAULT 0);
	CREATE FUNCTION inline(r inline, e immutable.event) RETURNS inline LANGUAGE sql IMMUTABLE AS 'SELECT r.key, r.n + 1';
});
$subscriber->safe_psql('postgres', sprintf("CREATE SUBSCRIPTION sub CONNECTION 'host=%s port=%s dbname=postgres' PUBLICATION p", $node->host, $node->port));
$subscriber->wait_for_subscription_sync($node, 'sub');
$subscriber->safe_psql('postgres', q{SELECT immutable.create_projection('model', 'other', 'model')});
my $offset = -s $subscriber->logfile;
$node->safe_psql('postgres', q{INSERT INTO model VALUES ('a', 1)});
$subscriber->wait_for_log(qr/cannot change read model "model"/, $offset);
is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM model'), '0', 'a subscriber does not write into a read model');
$subscriber->safe_psql('postgres', q{SELECT immutable.drop_projection('model')});
$node->wait_for_catchup('sub');
is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM model'), '1', 'until it is none');
$subscriber->safe_psql('postgres', q{SELECT immutable.create_projection('inline', 'source', 'inline')});
$offset = -s $subscriber->logfile;
$node->safe_psql('postgres', q{SELECT immutable.append('source', 's', 't')});
$subscriber->wait_for_log(qr/cannot insert into "source" past the inline projections of its log/, $offset);
$subscriber->safe_psql('postgres', q{SELECT immutable.set_projection_mode('inline', 'async')});
$node->wait_for_catchup('sub');
is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM source'), '1', 'asynchronous ones follow a replicated log');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION sub');

$subscriber->stop;
$node->stop;
done_testing();

# A session that refreshes whatever there is, again and again.
sub refresher
{
	my $loop = 'SELECT immutable.refresh(target, 1 + (random() * 50)::int) FROM immutable.projections ORDER BY random() \watch 0.01' . "\n";
	my ($in, $out) = ($loop, '');
	return IPC::Run::start(['psql', '-XqAt', '-d', $node->connstr('postgres') . " application_name=refresher"],
		'<', \$in, '>', '/dev/null', '2>', '/dev/null');
}

# Wait for the clients, who may have been thrown out; loops are ended.
sub finish
{
	my ($run, @loops) = @_;

	eval { $run->finish };
	$_->kill_kill for @loops;
	return;
}

# Every read model is what a query over its log says.
sub check_models
{
	my ($server, $db, $name) = @_;

	$server->safe_psql($db, "CALL immutable.catch_up('$_')")
	  for split /\n/, $server->safe_psql($db, 'SELECT target FROM immutable.projections');
	is( $server->safe_psql($db, q{SELECT model, differences(model, log, key, commutative) FROM models
		WHERE model <> 'strict_model' AND differences(model, log, key, commutative) > 0}),
		'', "$name: read models equal their logs");
	return;
}
