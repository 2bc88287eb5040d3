# Four writers for some seconds on few and on many streams, of a plain log, a
# log without unique ids and a partitioned one, in transactions that span
# them: appends, stale and fresh expectations, retries by id, ids that stand
# elsewhere, savepoints and transactions rolled back, deadlocks; and writers
# that are killed. Each append leaves a row in an ordinary table in the same
# transaction. Afterwards both must tell the same story, and while it goes on
# no snapshot may show a gap.

use strict;
use warnings FATAL => 'all';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $seconds = 8;
my @levels = (
	'read committed', 'read committed',
	'repeatable read', 'serializable');

my $node = PostgreSQL::Test::Cluster->new('stress');
$node->init;
$node->append_conf('postgresql.conf', qq{
deadlock_timeout = 20ms
synchronous_commit = off
log_statement = none
log_min_messages = fatal
max_connections = 20
});
$node->start;

$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION immutable_events;
SELECT immutable.create_log('plain');
SELECT immutable.create_log('loose', unique_ids => false);
SELECT immutable.create_log('parted', partitions => 4);

-- what append answered, kept by the same transaction
CREATE TABLE answers (log text, stream text, version bigint, position bigint);
-- what happened, counted
CREATE TABLE tally (what text, times bigint);

-- one append into a random log and stream; the kind of append is random, too
CREATE FUNCTION write(OUT outcome text)
LANGUAGE plpgsql AS $$
DECLARE
	log text := (ARRAY['plain', 'loose', 'parted'])[1 + floor(random() * 3)];
	stream text := CASE WHEN random() < 0.5 THEN 'few-' || floor(random() * 4)
		ELSE 'many-' || floor(random() * 2000) END;
	kind double precision := random();
	expected bigint;
	given uuid;
	answer immutable.appended;
	violated text;
BEGIN
	IF kind < 0.3 THEN
		expected := immutable.stream_version(log::regclass, stream);
		PERFORM pg_sleep(0.0005);
	ELSIF kind < 0.4 THEN
		-- a few ids for each stream: most are retries
		given := md5(log || stream || floor(random() * 3))::uuid;
	ELSIF kind < 0.45 THEN
		-- a few ids for all streams: some stand elsewhere
		given := md5(floor(random() * 50)::text)::uuid;
	END IF;
	answer := immutable.append(log::regclass, stream, 'written', expected_version => expected, id => given);
	outcome := CASE answer.written WHEN 0 THEN 'retry' ELSE 'append' END;
	IF answer.written = 1 THEN
		INSERT INTO answers VALUES (log, stream, answer.version, answer.position);
	END IF;
	IF random() < 0.05 THEN
		RAISE EXCEPTION 'savepoint rolled back' USING ERRCODE = 'P0S00';
	END IF;
EXCEPTION
	WHEN serialization_failure THEN
		outcome := 'conflict';
	WHEN unique_violation THEN
		-- append's own refusal, or a race for the id; never one for a version
		GET STACKED DIAGNOSTICS violated = CONSTRAINT_NAME;
		IF given IS NULL OR violated NOT IN ('', 'plain_id_key') THEN
			RAISE;
		END IF;
		outcome := 'id elsewhere';
	WHEN deadlock_detected THEN
		outcome := 'deadlock';
	WHEN SQLSTATE 'P0S00' THEN
		outcome := 'undone savepoint';
END
$$;

-- transactions of one to four appends, until the time is over
CREATE PROCEDURE work(until timestamptz)
LANGUAGE plpgsql AS $$
DECLARE
	outcomes text[];
BEGIN
	WHILE clock_timestamp() < until LOOP
		outcomes := '{}';
		FOR i IN 1 .. 1 + floor(random() * 4) LOOP
			outcomes := outcomes || write();
		END LOOP;
		IF random() < 0.1 THEN
			ROLLBACK;
			outcomes := '{rollback}';
		END IF;
		INSERT INTO tally SELECT what, count(*) FROM unnest(outcomes) what GROUP BY what;
		COMMIT;
	END LOOP;
END
$$;

CREATE VIEW events AS
SELECT 'plain' AS log, e.* FROM plain e
UNION ALL SELECT 'loose', e.* FROM loose e
UNION ALL SELECT 'parted', e.* FROM parted e;

CREATE VIEW faults AS
SELECT log, stream, version
FROM (SELECT log, stream, version, position, recorded_at,
		row_number() OVER w AS number, lag(position) OVER w AS last_position,
		lag(recorded_at) OVER w AS last_time
	FROM events WINDOW w AS (PARTITION BY log, stream ORDER BY version)) e
WHERE version <> number OR position <= last_position OR recorded_at < last_time;
SQL

my $until = $node->safe_psql('postgres',
	"SELECT clock_timestamp() + interval '$seconds s'");
my $end = time() + $seconds;
my @writers = map { start_writer($_) } @levels;
my $control = $node->background_psql('postgres');
my ($kills, $snapshots, $faults, $errors) = (0, 0, 0, '');
my $next_kill = time() + 1;

# the writers at work: kill one now and then, look for gaps, replace the dead
while (time() < $end)
{
	$faults += $control->query_safe('SELECT count(*) FROM faults');
	$snapshots++;
	if (time() > $next_kill)
	{
		$kills += $control->query_safe(
			"SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity"
			  . " WHERE application_name = 'writer' ORDER BY random() LIMIT 1) w");
		$next_kill = time() + 0.5;
	}
	for my $i (0 .. $#writers)
	{
		eval { $writers[$i]->{run}->pump_nb };	# dies when it ends just now
		next if $writers[$i]->{run}->pumpable;
		$errors .= finish_writer($writers[$i]);
		$writers[$i] = start_writer($levels[$i]);
	}
	usleep(50_000);
}
$errors .= finish_writer($_) for @writers;
$control->quit;

is($errors, '', 'the writers met no error but their killer');

is($faults, 0, "no snapshot showed a gap");
is(query('SELECT count(*) FROM faults'), 0,
	'versions without gaps, positions and times rise in every stream');
is( query(
		'SELECT count(*) FROM (SELECT log, stream, version FROM events'
		  . ' GROUP BY 1, 2, 3 HAVING count(*) > 1) d'),
	0,
	'no version twice');
is( query(
		'SELECT count(*) FROM (SELECT log, position FROM events'
		  . ' GROUP BY 1, 2 HAVING count(*) > 1) d'),
	0,
	'no position twice');
is( query(
		'SELECT count(*) FROM (SELECT log, stream, version, position FROM events'
		  . ' EXCEPT ALL SELECT * FROM answers) d'),
	0,
	'no event without its answer');
is( query(
		'SELECT count(*) FROM (SELECT * FROM answers'
		  . ' EXCEPT ALL SELECT log, stream, version, position FROM events) d'),
	0,
	'no answer without its event');
is( query(
		"SELECT count(*) FROM (SELECT log, id, CASE log WHEN 'plain' THEN '' ELSE stream END"
		  . ' FROM events GROUP BY 1, 2, 3 HAVING count(*) > 1) d'),
	0,
	'no id twice: in the log, or in a stream of it');
is(query('SELECT count(*) FROM immutable.protected_tables WHERE NOT armed'),
	0, 'every guard is in place');
is( query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"),
	0, 'no stream is locked');

# the test has tested something
for my $what ('append', 'retry', 'conflict', 'id elsewhere',
	'undone savepoint', 'rollback')
{
	cmp_ok(query("SELECT coalesce(sum(times), 0) FROM tally WHERE what = '$what'"),
		'>', 0, "there was: $what");
}
cmp_ok($kills, '>', 0, 'writers were killed');
cmp_ok($snapshots, '>', 0, 'snapshots were looked at');
note("killed $kills, snapshots $snapshots");
note(query('SELECT what, sum(times) FROM tally GROUP BY what ORDER BY what'));

$node->stop;
done_testing();

# A session that works until the time is over, or until it is killed.
sub start_writer
{
	my ($level) = @_;
	my $writer = { in => "CALL work('$until');\n", out => '' };

	local $ENV{PGAPPNAME} = 'writer';
	local $ENV{PGOPTIONS} =
	  '-c default_transaction_isolation=' . $level =~ s/ /\\ /r;
	$writer->{run} = IPC::Run::start(
		[ 'psql', '-Xqd', $node->connstr('postgres') ],
		'<', \$writer->{in}, '>', \$writer->{out}, '2>&1',
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	return $writer;
}

# What a session said when it ended that being killed does not explain.
sub finish_writer
{
	my ($writer) = @_;

	eval { $writer->{run}->finish };
	return join "\n", grep {
		!/due to administrator command|server closed the connection/
		  && !/terminated abnormally|before or while processing/
		  && !/connection to server was lost|could not serialize access/
		  && !/^(CONTEXT|DETAIL|HINT):|^PL\/pgSQL function|^SQL /
	} split /\n/, $writer->{out};
}

# One value, or lines.
sub query
{
	return $node->safe_psql('postgres', $_[0]);
}
