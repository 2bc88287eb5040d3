# Memory of one session: what appends, refused appends, replays and reads leave
# behind does not grow with their number, and what a fold or a long statement
# needs while it runs does not grow with the number of events.

use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $allowed = 200 * 1024;		# bytes, for what PostgreSQL itself keeps

my $node = PostgreSQL::Test::Cluster->new('memory');
$node->init;
# few buffers, so that their pages do not blur a process's memory
$node->append_conf('postgresql.conf', q{
shared_buffers = 2MB
synchronous_commit = off
log_statement = none
jit = off
});
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION immutable_events;
SELECT immutable.create_log('ledger');
SELECT immutable.create_log('loose', unique_ids => false);
SELECT immutable.create_log('parted', partitions => 2);
SELECT immutable.create_log('watched');
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER nothing AFTER INSERT ON watched
	REFERENCING NEW TABLE AS events FOR EACH STATEMENT EXECUTE FUNCTION nothing();
CREATE TYPE account AS (n bigint, last text);
CREATE FUNCTION add(total bigint, e immutable.event) RETURNS bigint
LANGUAGE sql IMMUTABLE RETURN total + (e.data->>'n')::bigint;
CREATE FUNCTION add_jsonb(state jsonb, e immutable.event) RETURNS jsonb
LANGUAGE sql STABLE RETURN jsonb_build_object('n', (state->>'n')::bigint + (e.data->>'n')::bigint);
CREATE FUNCTION add_account(a account, e immutable.event) RETURNS account
LANGUAGE sql IMMUTABLE RETURN ROW(a.n + (e.data->>'n')::bigint, e.type)::account;
CREATE FUNCTION add_plpgsql(state jsonb, e immutable.event) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	RETURN jsonb_build_object('n', (state->>'n')::bigint + (e.data->>'n')::bigint);
END
$$;
-- commands, rejected ones among them
CREATE FUNCTION decide(total bigint, command jsonb) RETURNS immutable.new_event[] LANGUAGE plpgsql AS $$
BEGIN
	IF command ? 'reject' THEN
		RAISE EXCEPTION 'rejected';
	END IF;
	RETURN ARRAY[ROW('decided', command, NULL, NULL, NULL)]::immutable.new_event[];
END
$$;
CREATE FUNCTION decide_sql(total bigint, command jsonb) RETURNS immutable.new_event[]
LANGUAGE sql RETURN CASE WHEN total < 0 THEN NULL ELSE ARRAY[ROW('decided', command, NULL, NULL, NULL)]::immutable.new_event[] END;
SELECT immutable.enable_commands('ledger'), immutable.enable_commands('parted');
CREATE FUNCTION reject(number bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
	rejections bigint := 0;
BEGIN
	FOR n IN 1 .. number LOOP
		BEGIN
			PERFORM immutable.handle('ledger', 'h' || n, '{"reject": 1}', 0::bigint, 'decide', 'add', gen_random_uuid());
		EXCEPTION WHEN raise_exception THEN
			rejections := rejections + 1;
		END;
	END LOOP;
	RETURN rejections;
END
$$;
-- an append that is refused, and caught
CREATE FUNCTION refused(log regclass, n bigint) RETURNS integer
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM immutable.append(log, 's' || n % 100, 'written', expected_version => 1000000);
	RETURN 0;
EXCEPTION WHEN serialization_failure THEN
	RETURN 1;
END
$$;
CREATE FUNCTION refuse(log regclass, number bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
	refusals bigint := 0;
BEGIN
	FOR n IN 1 .. number LOOP
		refusals := refusals + refused(log, n);
	END LOOP;
	RETURN refusals;
END
$$;
SQL

my $session = $node->background_psql('postgres');
$session->query_safe(q{SET immutable.context = '{"user": "ann"}'});
my $pid = $session->query_safe('SELECT pg_backend_pid()');

# what is left behind: the same work three times, the first to warm up
my @left;
for my $round (1 .. 3)
{
	my $calls = $round == 1 ? 2_000 : 10_000;
	is($session->query_safe($_->[1] =~ s/CALLS/$calls/r),
		$calls, "round $round: $_->[0] $calls times")
	  for (
		[ 'append', written('ledger') ],
		[ 'append (2)', written('ledger') ],
		[ 'append (3)', written('ledger') ],
		[ 'append without unique ids', written('loose') ],
		[ 'append with a trigger', written('watched') ],
		[ 'append to a partitioned log', written('parted') ],
		[ 'retry', q{SELECT count(*) FILTER (WHERE (immutable.append('ledger', 'retried', 'written', id => '00000000-0000-4000-8000-000000000001', metadata => '{"a": 1}')).written >= 0) FROM generate_series(1, CALLS) n} ],
		[ 'refused append', q{SELECT refuse('ledger', CALLS)} ],
		[ 'refused append (partitioned)', q{SELECT refuse('parted', CALLS)} ],
		[ 'replay', q{SELECT count(immutable.replay('ledger', 's' || n % 100, 0::bigint, 'add', upto_version => 5)) FROM generate_series(1, CALLS) n} ],
		[ 'replay (jsonb)', q{SELECT count(immutable.replay('parted', 's' || n % 100, '{"n": 0}'::jsonb, 'add_jsonb', upto_version => 5)) FROM generate_series(1, CALLS) n} ],
		[ 'replay (rows)', q{SELECT count(immutable.replay('ledger', 's' || n % 100, NULL::account, 'add_account', upto_version => 5)) FROM generate_series(1, CALLS) n} ],
		[ 'handle', handled('ledger', 'decide', "'h' || n % 500 || '-$round'", 'NULL') ],
		[ 'handle (SQL)', handled('parted', 'decide_sql', "'h' || n % 500 || '-$round'", 'NULL') ],
		[ 'handle with an id', handled('ledger', 'decide_sql', "'i' || n % 500 || '-$round'", 'gen_random_uuid()') ],
		[ 'handle with a repeated id', handled('parted', 'decide', "'i'", "'018f0000-0000-7000-8000-000000000001'") ],
		[ 'rejected handle', 'SELECT reject(CALLS)' ],
		[ 'stream_version', q{SELECT count(immutable.stream_version('ledger', 's' || n % 100)) FROM generate_series(1, CALLS) n} ],
		[ 'read_stream', q{SELECT count(v.version) FROM generate_series(1, CALLS) n, immutable.read_stream('ledger', 's' || n % 100, n - n + 2, 1) v} ]);

	# and statement by statement, each in its own transaction
	$session->query_safe(
		"SELECT format('SELECT FROM immutable.append(%L, %L, %L); SELECT immutable.replay(%L, %L, 0::bigint, %L, 3); SELECT FROM immutable.handle(%L, %L, %L, 0::bigint, %L, %L);', 'ledger', 't' || n % 10, 'written', 'ledger', 't' || n % 10, 'add', 'ledger', 'u' || n, '{}', 'decide', 'add') FROM generate_series(1, 1000) n \\gexec");
	push @left, memory();
}
cmp_ok($left[2] - $left[1], '<', $allowed,
	"a round leaves nothing behind ($left[1], then $left[2] bytes)");

# many commands on short streams, in one statement
my $before_commands = memory();
is($session->query_safe(handled('ledger', 'decide', "'long-' || n % 20000", 'NULL') =~ s/CALLS/100000/r),
	100_000, 'handle 100,000 times');
cmp_ok(memory() - $before_commands, '<', $allowed, "100,000 commands leave nothing behind ($before_commands bytes before)");

# what is needed on the way: a fold over few and over many events
$session->query_safe(
	q{SELECT count(immutable.append('ledger', 'long', 'written', jsonb_build_object('n', 1))) FROM generate_series(1, 200000) n});
$session->query_safe('SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off');
for my $reducer (
	[ 'add', '0::bigint', 'r = %d' ],
	[ 'add_jsonb', q{'{"n": 0}'::jsonb}, q{(r->>'n')::bigint = %d} ],
	[ 'add_account', q{ROW(0, '')::account}, '(r).n = %d' ],
	[ 'add_plpgsql', q{'{"n": 0}'::jsonb}, q{(r->>'n')::bigint = %d} ])
{
	my ($function, $initial, $check) = @$reducer;
	my @peak;
	for my $events (20_000, 200_000)
	{
		# the memory of the backend, looked at ten times on the way
		my $correct = sprintf($check, $events);
		my ($ok, $peak) = split /\|/, $session->query_safe(qq{
SELECT $correct, peak FROM (
	SELECT immutable.fold($initial, '$function', e::immutable.event) AS r,
		max(CASE WHEN (e).version % ($events / 10) = 0
			THEN (SELECT sum(total_bytes) FROM pg_backend_memory_contexts WHERE (e).version > 0) END) AS peak
	FROM (SELECT e FROM ledger e WHERE stream = 'long' AND version <= $events ORDER BY version) s) f});
		is($ok, 't', "fold with $function over $events events is right");
		push @peak, $peak;
	}
	cmp_ok($peak[1] - $peak[0], '<', $allowed,
		"fold with $function: flat ($peak[0], then $peak[1] bytes)");
}

# the process as a whole, where the system tells: its peak must not follow
SKIP:
{
	skip 'no /proc', 4 unless -w "/proc/$pid/clear_refs";
	my %work = (
		fold => q{SELECT immutable.fold('{"n": 0}'::jsonb, 'add_jsonb', e) FROM (SELECT * FROM ledger WHERE stream = 'long' AND version <= CALLS ORDER BY version) e},
		replay => q{SELECT immutable.replay('ledger', 'long', '{"n": 0}'::jsonb, 'add_jsonb', upto_version => CALLS)},
		# a set in the SELECT list comes row by row, in FROM it would be stored
		append => q{SELECT count(a) FROM (SELECT immutable.append('ledger', 'huge', 'written') AS a, generate_series(1, CALLS)) s},
		window => q{SELECT max(v) FROM (SELECT immutable.fold(0::bigint, 'add', e) OVER (ORDER BY e.version) AS v FROM ledger e WHERE stream = 'long' AND version <= CALLS) w});
	for my $name (sort keys %work)
	{
		forget_high_water();
		$session->query_safe($work{$name} =~ s/CALLS/20000/r);
		my $before = high_water();
		$session->query_safe($work{$name} =~ s/CALLS/150000/r);
		my $after = high_water();
		cmp_ok($after - $before, '<', 1024,
			"$name: the process does not grow ($before, then $after kB)");
	}
}

# what a backend remembers of logs, consumers and leases does not grow either
$session->query_safe(<<'SQL');
SELECT immutable.create_log('feed'), immutable.create_log('feed_wide', 3);
SELECT immutable.create_consumer('c', 'feed', after_position => 0, shards => 2, types => '{t,u}'),
	immutable.create_consumer('d', 'feed_wide', after_position => 0);
CREATE PROCEDURE work(times integer) LANGUAGE plpgsql AS $$
DECLARE
	last bigint;
BEGIN
	FOR i IN 1 .. times LOOP
		PERFORM immutable.append('feed', 's' || i % 50, 't');
		PERFORM immutable.append_json('feed_wide', 's' || i % 50, '[{"type": "t"}, {"type": "u"}]');
		SELECT max(position) INTO last FROM immutable.poll('c', 10);
		IF last IS NOT NULL AND i % 7 = 0 THEN
			PERFORM immutable.nack('c', last, 'no');
		ELSIF last IS NOT NULL THEN
			PERFORM immutable.ack('c', last);
		END IF;
		SELECT max(position) INTO last FROM immutable.poll('d', 10, lease => '1s');
		PERFORM immutable.ack('d', last) WHERE last IS NOT NULL;
		PERFORM immutable.safe_position('feed_wide'), count(*) FROM immutable.read_log('feed', greatest(i - 5, 0), 5);
		COMMIT;
	END LOOP;
END
$$;
SQL
$session->query_safe('CALL work(200)');
my $remembered = memory();
$session->query_safe('CALL work(1500)');
cmp_ok(memory() - $remembered, '<', 65536,
	'reading, polling and leases: flat over 1,500 rounds');

# versions: of one transaction's many changes, and of many transactions, some of
# them with subtransactions that are rolled back; no row twice in one of them, of
# which PostgreSQL itself keeps something
$session->query_safe(<<'SQL');
CREATE TABLE product (id integer PRIMARY KEY, name text, quantity integer);
INSERT INTO product SELECT n, 'product ' || n, n FROM generate_series(1, 200000) n;
SELECT immutable.add_versioning('product');
CREATE PROCEDURE change(times integer, each boolean) LANGUAGE plpgsql AS $$
BEGIN
	FOR n IN 1 .. times LOOP
		UPDATE product SET quantity = quantity + 1 WHERE id = n;
		IF each AND n % 100 = 0 THEN
			BEGIN
				UPDATE product SET quantity = quantity + 1 WHERE id <= 50;
				RAISE division_by_zero;
			EXCEPTION WHEN division_by_zero THEN
				UPDATE product SET quantity = quantity + 1 WHERE id = n % 5000;
			END;
		END IF;
		IF each THEN
			COMMIT;
		END IF;
	END LOOP;
END
$$;
SQL
for my $case ([ 'one transaction', 'false', 200_000 ], [ 'many transactions', 'true', 2_000 ])
{
	my ($name, $each, $times) = @$case;
	my $few = $times / 10;
	$session->query_safe("CALL change($few, $each)");
	my $before = memory();
	forget_high_water() if -w "/proc/$pid/clear_refs";
	$session->query_safe("CALL change($few, $each)");
	my $high = -w "/proc/$pid/clear_refs" ? high_water() : 0;
	$session->query_safe("CALL change($times, $each)");
	cmp_ok(memory() - $before, '<', 65536, "versions in $name: nothing is left behind");
	# PostgreSQL keeps some bytes for each event of an AFTER trigger until the
	# transaction ends; one palloc a row more would pass 4 MB
	cmp_ok(($high ? high_water() : 0) - $high, '<', $each eq 'true' ? 1024 : 4096,
		"versions in $name: the process does not grow");
}
# each statement with its own transaction
$session->query_safe(q{SELECT format('UPDATE product SET quantity = quantity + 1 WHERE id = %s', 1 + n % 5000) FROM generate_series(1, 1000) n \\gexec});
my $changed = memory();
$session->query_safe(q{SELECT format('UPDATE product SET quantity = quantity + 1 WHERE id = %s', 1 + n % 5000) FROM generate_series(1, 20000) n \\gexec});
cmp_ok(memory() - $changed, '<', 65536, 'versions, statement by statement: nothing is left behind');

$session->quit;
$node->stop;
done_testing();

# Statements that append to a log.
sub written
{
	my ($log) = @_;
	return qq{SELECT sum((immutable.append('$log', 's' || n % 100, 'written', '{"n": 1}', metadata => '{"a": 1}')).written) FROM generate_series(1, CALLS) n};
}

# Statements that handle commands.
sub handled
{
	my ($log, $decide, $stream, $id) = @_;
	return qq{SELECT sum((immutable.handle('$log', $stream, '{"n": 1}', 0::bigint, '$decide', 'add', $id)).written) FROM generate_series(1, CALLS) n};
}

# All memory of the session's backend, in bytes.
sub memory
{
	return $session->query_safe('SELECT sum(total_bytes) FROM pg_backend_memory_contexts');
}

# The most memory the backend's process has had, in kB.
sub high_water
{
	my ($line) = slurp_file("/proc/$pid/status") =~ /^VmHWM:\s+(\d+) kB/m;
	return $line;
}

# Let the peak count from now on.
sub forget_high_water
{
	append_to_file("/proc/$pid/clear_refs", "5\n");
}
