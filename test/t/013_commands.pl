# Clients that handle commands on a few accounts, some seconds long: in every
# isolation level, in transactions of one to three commands that may be rolled
# back, beside plain appends, with each command id sent by several clients, and
# with clients that are killed. An account must never go below zero, each event
# must have been decided on the state just before it, and each command id must
# have one outcome. The oracle is plain SQL over the log and the answers.

use strict;
use warnings FATAL => 'all';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $seconds = 6;
my @levels = (('read committed') x 4, 'repeatable read', 'serializable');

my $node = PostgreSQL::Test::Cluster->new('commands');
$node->init;
$node->append_conf('postgresql.conf', qq{
deadlock_timeout = 20ms
synchronous_commit = off
log_statement = none
log_min_messages = fatal
max_connections = 30
});
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION immutable_events;
SELECT immutable.create_log('bank'), immutable.create_log('wide', partitions => 3);
SELECT immutable.enable_commands('bank'), immutable.enable_commands('wide');
CREATE TABLE answers (log text, command_id uuid, answer immutable.appended);
CREATE TABLE tally (what text, times bigint);

CREATE FUNCTION evolve(balance bigint, e immutable.event) RETURNS bigint
LANGUAGE sql IMMUTABLE RETURN balance + (e.data->>'amount')::bigint;
-- the event says what its decider has seen
CREATE FUNCTION decide(balance bigint, command jsonb) RETURNS immutable.new_event[] LANGUAGE plpgsql AS $$
BEGIN
	IF balance + (command->>'amount')::bigint < 0 THEN
		RAISE EXCEPTION 'only % left', balance USING ERRCODE = 'BA001';
	ELSIF random() < 0.05 THEN
		PERFORM pg_sleep(0.002);
	END IF;
	RETURN ARRAY[ROW('moved', command || jsonb_build_object('seen', balance), NULL, NULL, NULL)]::immutable.new_event[];
END $$;

-- one command, or an append; commands come from a pool that grows, so that most are sent more than once
CREATE FUNCTION act(OUT outcome text) LANGUAGE plpgsql AS $$
DECLARE
	log text := (ARRAY['bank', 'wide'])[1 + floor(random() * 2)];
	number bigint := extract(epoch FROM clock_timestamp()) * 300 - floor(random() * 200);
	kind double precision := random();
	id uuid := md5(log || number)::uuid;
	stream text := 'account-' || number % 4;
	command jsonb := jsonb_build_object('amount', hashint8(number) % 100 - 25, 'id', id);
	answer immutable.appended;
BEGIN
	IF kind < 0.1 THEN
		PERFORM immutable.append(log::regclass, stream, 'given', jsonb_build_object('amount', 1));
		outcome := 'append';
	ELSIF kind < 0.3 THEN
		PERFORM immutable.handle(log::regclass, stream, command - 'id', 0::bigint, 'decide', 'evolve');
		outcome := 'command';
	ELSE
		answer := immutable.handle(log::regclass, stream, command, 0::bigint, 'decide', 'evolve', id);
		INSERT INTO answers VALUES (log, id, answer);
		outcome := 'command with id';
	END IF;
	IF random() < 0.05 THEN
		RAISE EXCEPTION 'savepoint rolled back' USING ERRCODE = 'P0S00';
	END IF;
EXCEPTION
	WHEN SQLSTATE 'BA001' THEN
		outcome := 'rejected';
	WHEN SQLSTATE 'P0S00' THEN
		outcome := 'undone savepoint';
	WHEN deadlock_detected THEN
		outcome := 'deadlock';
	WHEN serialization_failure THEN
		outcome := 'conflict (' || current_setting('transaction_isolation') || ')';
END $$;
CREATE PROCEDURE work(until timestamptz) LANGUAGE plpgsql AS $$
DECLARE
	outcomes text[];
BEGIN
	WHILE clock_timestamp() < until LOOP
		outcomes := '{}';
		FOR i IN 1 .. 1 + floor(random() * 3) LOOP
			outcomes := outcomes || act();
		END LOOP;
		IF random() < 0.1 THEN
			ROLLBACK;
			outcomes := '{rollback}';
		END IF;
		INSERT INTO tally SELECT what, count(*) FROM unnest(outcomes) what GROUP BY what;
		COMMIT;
	END LOOP;
END $$;

CREATE VIEW events AS
SELECT log, stream, version, position, type, data, row_number() OVER w AS number, lag(position) OVER w AS last_position,
	coalesce(sum((data->>'amount')::bigint) OVER (w ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before,
	sum((data->>'amount')::bigint) OVER w AS balance
FROM (SELECT 'bank' AS log, e.* FROM bank e UNION ALL SELECT 'wide', e.* FROM wide e) e
WINDOW w AS (PARTITION BY log, stream ORDER BY version);
CREATE VIEW commands AS
SELECT 'bank' AS log, c.* FROM bank_commands c UNION ALL SELECT 'wide', c.* FROM wide_commands c;
SQL

my $until = query("SELECT clock_timestamp() + interval '$seconds s'");
my $end = time() + $seconds;
my @clients = map { start_client($_) } @levels;
my ($kills, $errors) = (0, '');
my $next_kill = time() + 1;
while (time() < $end)
{
	if (time() > $next_kill)
	{
		$kills += query("SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity"
			  . " WHERE application_name = 'client' ORDER BY random() LIMIT 1) w");
		$next_kill = time() + 0.5;
	}
	for my $i (0 .. $#clients)
	{
		eval { $clients[$i]->{run}->pump_nb };	# dies when it ends just now
		next if $clients[$i]->{run}->pumpable;
		$errors .= finish_client($clients[$i]);
		$clients[$i] = start_client($levels[$i]);
	}
	usleep(50_000);
}
$errors .= finish_client($_) for @clients;
is($errors, '', 'the clients met no error but their killer');

is(query('SELECT count(*) FROM events WHERE version <> number OR position <= last_position'),
	0, 'versions without gaps, positions rise in every stream');
is(query('SELECT count(*) FROM events WHERE balance < 0'), 0, 'no account was ever below zero');
is(query(q{SELECT count(*) FROM events WHERE type = 'moved' AND (data->>'seen')::bigint <> before}),
	0, 'each event was decided on the state just before it');
is(query(q{SELECT count(*) FROM (SELECT log, data->>'id' FROM events WHERE data ? 'id' GROUP BY 1, 2 HAVING count(*) > 1) d}),
	0, 'no command id was handled twice');
is(query(q{SELECT count(*) FROM (SELECT log, stream, version, position, data->>'id' AS id FROM events WHERE data ? 'id') e
	FULL JOIN commands c ON c.log = e.log AND c.command_id = e.id::uuid
	WHERE (e.stream, e.version, e.position) IS DISTINCT FROM (c.stream, c.version, c.position) OR c.written <> 1}),
	0, 'the record has each of them, and no other');
is(query(q{SELECT count(*) FROM answers a LEFT JOIN commands c USING (log, command_id)
	WHERE a.answer IS DISTINCT FROM ROW(c.version, c.position, c.written)::immutable.appended}),
	0, 'everybody who sent a command got its outcome');
is(query(q{SELECT count(*) FROM tally WHERE what = 'conflict (read committed)'}),
	0, 'under READ COMMITTED no race is lost');
is(query(q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'}), 0, 'no lock is left');

my $tally = query(q{SELECT string_agg(what || ': ' || times, ', ' ORDER BY what) FROM (SELECT what, sum(times) AS times FROM tally GROUP BY what) t});
note("$tally; repeated: " . query('SELECT count(*) - count(DISTINCT (log, command_id)) FROM answers') . "; kills: $kills");
cmp_ok($kills, '>', 3, 'clients were killed');
cmp_ok(query('SELECT count(*) - count(DISTINCT (log, command_id)) FROM answers'), '>', 100, 'commands were sent again');
cmp_ok(query(qq{SELECT coalesce(sum(times), 0) FROM tally WHERE what = '$_'}), '>', 20, "$_: it happened")
  for 'command', 'command with id', 'rejected', 'append', 'conflict (repeatable read)', 'conflict (serializable)';

$node->stop;
done_testing();

# A client at work.
sub start_client
{
	my ($level) = @_;
	my $client = { out => '', err => '' };
	local $ENV{PGAPPNAME} = 'client';
	local $ENV{PGOPTIONS} = '-c default_transaction_isolation=' . $level =~ s/ /\\ /r;
	$client->{run} = IPC::Run::start(
		[ 'psql', '-XqAt', '-d', $node->connstr('postgres'), '-c', "CALL work('$until')" ],
		'<', \undef, '>', \$client->{out}, '2>', \$client->{err});
	return $client;
}

# What a client has to complain about, but for having been killed.
sub finish_client
{
	my ($client) = @_;
	$client->{run}->finish;
	return $client->{err} =~ /terminating connection|server closed the connection|Connection reset/ ? '' : $client->{err};
}

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}
