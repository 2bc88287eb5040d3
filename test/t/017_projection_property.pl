# Whatever happens, read models are what their logs say: random events go into
# a log while read models change their mode, are refreshed, rebuilt in both ways
# and by other reducers, and backends and the postmaster are killed. Then each
# row of each of them equals immutable.replay, or a fold in SQL, of its key.
# IE_PROPERTY_SEED and IE_PROPERTY_SECONDS repeat a run, or make it longer.

use strict;
use warnings FATAL => 'all';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $seconds = $ENV{IE_PROPERTY_SECONDS} // 25;
my $seed = $ENV{IE_PROPERTY_SEED} // int(rand(1_000_000_000));
srand($seed);
note("IE_PROPERTY_SEED=$seed");

my $node = PostgreSQL::Test::Cluster->new('property');
$node->init;
$node->append_conf('postgresql.conf', qq{
restart_after_crash = on
log_statement = none
deadlock_timeout = 100ms
});
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION immutable_events;
SELECT immutable.create_log('plain');
SELECT immutable.create_log('parted', partitions => 3);
-- an order-dependent state by stream, one by type, and one that fans out and deletes
CREATE TYPE state AS (n bigint, h bigint);
CREATE FUNCTION step(s state, e immutable.event, salt bigint) RETURNS state LANGUAGE sql IMMUTABLE AS
$$ SELECT ROW((s).n + 1, ((s).h * 31 + (e.data->>'x')::bigint + salt) % 1000000007)::state $$;
CREATE FUNCTION by_stream(s state, e immutable.event) RETURNS state LANGUAGE sql IMMUTABLE AS $$ SELECT step(s, e, 0) $$;
CREATE FUNCTION by_stream_2(s state, e immutable.event) RETURNS state LANGUAGE sql IMMUTABLE AS $$ SELECT step(s, e, 7) $$;
CREATE FUNCTION make(log text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	model text;
BEGIN
	FOREACH model IN ARRAY ARRAY[log || '_streams', log || '_types', log || '_tags'] LOOP
		EXECUTE format('CREATE TABLE %I (key text PRIMARY KEY, n bigint NOT NULL DEFAULT 0, h bigint NOT NULL DEFAULT 0, salt bigint)', model);
		EXECUTE format('CREATE INDEX ON %I (n)', model);
		FOR salt IN 0 .. 1 LOOP
			EXECUTE format($f$CREATE FUNCTION %1$s(r %2$I, e immutable.event) RETURNS %2$I LANGUAGE sql IMMUTABLE AS
				'SELECT CASE WHEN e.type = ''t0'' AND %4$s THEN NULL ELSE ROW(r.key, (step(ROW(r.n, r.h)::state, e, %3$s)).n, (step(ROW(r.n, r.h)::state, e, %3$s)).h, %3$s)::%2$I END'$f$,
				model || '_by_' || salt, model, salt * 7, (model LIKE '%tags')::text);
		END LOOP;
	END LOOP;
	PERFORM immutable.create_projection((log || '_streams')::regclass, log::regclass, (log || '_streams_by_0')::regproc);
	PERFORM immutable.create_projection((log || '_types')::regclass, log::regclass, (log || '_types_by_0')::regproc, '{type}', mode => 'async');
	PERFORM immutable.create_projection((log || '_tags')::regclass, log::regclass, (log || '_tags_by_0')::regproc,
		ARRAY[$k$string_to_array(data->>'tags', ',')$k$], mode => 'async');
END $$;
SELECT make('plain'), make('parted');
-- few rows that many write to, delete and make again: only sums, so that the
-- order does not matter, and no update is HOT
SELECT immutable.create_log('busy');
CREATE TABLE sums (key text PRIMARY KEY, n bigint NOT NULL DEFAULT 0, filler text);
CREATE INDEX ON sums (n);
CREATE INDEX ON sums ((n % 7)) WHERE n > 0;
CREATE FUNCTION add_up(r sums, e immutable.event) RETURNS sums LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN r.n + (e.data->>'d')::bigint <> 0 THEN ROW(r.key, r.n + (e.data->>'d')::bigint, repeat('x', 20))::sums END $$;
SELECT immutable.create_projection('sums', 'busy', 'add_up', ARRAY[$k$string_to_array(data->>'keys', ',')$k$], commutative => true);

CREATE FUNCTION differences(log text) RETURNS SETOF text LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
	reducer text;
BEGIN
	-- by the stream's own replay
	SELECT p.reducer INTO reducer FROM immutable.projections p WHERE p.target = (log || '_streams')::regclass;
	RETURN QUERY EXECUTE format($q$SELECT format('%%s %%s', %2$L, coalesce(m.key, l.stream)) FROM %2$I m
		FULL JOIN (SELECT stream, count(*) FROM %1$I GROUP BY stream) l ON l.stream = m.key
		WHERE (m.n, m.h) IS DISTINCT FROM (SELECT s FROM (SELECT (immutable.replay(%1$L, l.stream, ROW(0, 0)::state, %3$L)).*) s)
			OR m.n IS DISTINCT FROM l.count$q$, log, log || '_streams', CASE WHEN reducer LIKE '%\_by\_0%' THEN 'by_stream' ELSE 'by_stream_2' END);
	-- by a fold in order of position
	SELECT p.reducer INTO reducer FROM immutable.projections p WHERE p.target = (log || '_types')::regclass;
	RETURN QUERY EXECUTE format($q$SELECT format('%%s %%s', %2$L, coalesce(m.key, l.type)) FROM %2$I m
		FULL JOIN (SELECT type, immutable.fold(ROW(0, 0)::state, %3$L::regproc, e ORDER BY position) AS s FROM %1$I e GROUP BY type) l ON l.type = m.key
		WHERE ROW(m.n, m.h) IS DISTINCT FROM ROW((l.s).n, (l.s).h)$q$, log, log || '_types',
		CASE WHEN reducer LIKE '%\_by\_0%' THEN 'by_stream' ELSE 'by_stream_2' END);
	-- since the last event that has deleted the row
	SELECT p.reducer INTO reducer FROM immutable.projections p WHERE p.target = (log || '_tags')::regclass;
	RETURN QUERY EXECUTE format($q$WITH tagged AS (SELECT tag, position, e, max(position) FILTER (WHERE type = 't0') OVER (PARTITION BY tag) AS gone
			FROM %1$I e CROSS JOIN LATERAL (SELECT DISTINCT unnest(string_to_array(data->>'tags', ',')) AS tag) t),
		truth AS (SELECT tag, immutable.fold(ROW(0, 0)::state, %3$L::regproc, e ORDER BY position) AS s FROM tagged t
			WHERE position > coalesce(gone, 0) GROUP BY tag)
		SELECT format('%%s %%s', %2$L, coalesce(m.key, l.tag)) FROM %2$I m FULL JOIN truth l ON l.tag = m.key
		WHERE ROW(m.n, m.h) IS DISTINCT FROM ROW((l.s).n, (l.s).h)$q$, log, log || '_tags',
		CASE WHEN reducer LIKE '%\_by\_0%' THEN 'by_stream' ELSE 'by_stream_2' END);
END $$;
SQL

my @logs = ('plain', 'parted');
my @kinds = ('streams', 'types', 'tags');
my $append = $node->basedir . '/append.sql';
append_to_file($append, <<'SQL');
\set s random(1, 30)
\set t random(0, 20)
\set x random(0, 1000000)
\set many random(1, 8)
SELECT immutable.append(log, 's' || :s, 't' || least(:t, 4), jsonb_build_object('x', :x, 'tags', concat_ws(',', :t % 7, :x % 5))) FROM unnest('{plain,parted}'::regclass[]) log;
SELECT immutable.append_json('plain', 's' || :s, (SELECT jsonb_agg(jsonb_build_object('type', 't' || 1 + n % 4, 'data', jsonb_build_object('x', :x + n, 'tags', n % 3 || ',' || n % 2))) FROM generate_series(1, :many) n));
SQL

my $busy = $node->basedir . '/busy.sql';
append_to_file($busy, <<'SQL');
\set s random(1, 1000)
\set a random(1, 3)
\set b random(1, 4)
\set d random(0, 1) * 2 - 1
\set back random(0, 5)
BEGIN;
SELECT immutable.append('busy', 's' || :s, 't', jsonb_build_object('d', :d, 'keys', concat_ws(',', :a, :b)));
\if :back
COMMIT;
\else
SAVEPOINT a;
SELECT immutable.append('busy', 's' || :s, 't', jsonb_build_object('d', 1, 'keys', :a::text));
ROLLBACK TO a;
COMMIT;
\endif
SQL
$node->command_ok([ 'pgbench', '-n', '-c', 8, '-T', int($seconds / 5 + 1), '--max-tries=100', '--random-seed', int(rand 1e6), '-f', $busy,
	'-h', $node->host, '-p', $node->port, 'postgres' ], 'eight write to the same few rows');
is($node->safe_psql('postgres', <<'SQL'), '', "seed $seed: their sums are right");
SELECT key, s.n, l.n FROM sums s FULL JOIN
	(SELECT key, sum((data->>'d')::int) AS n FROM busy, LATERAL (SELECT DISTINCT unnest(string_to_array(data->>'keys', ',')) AS key) k GROUP BY key HAVING sum((data->>'d')::int) <> 0) l USING (key)
	WHERE s.n IS DISTINCT FROM l.n
SQL
is($node->safe_psql('postgres', "SELECT * FROM immutable.verify_projection('sums')"), '', 'and verify_projection says so');
# wherever an index leads, the row is one of them
is($node->safe_psql('postgres', 'SET enable_seqscan = off; SELECT count(*), sum(n) FROM sums WHERE n > -1000000000'),
	$node->safe_psql('postgres', 'SET enable_indexscan = off; SET enable_bitmapscan = off; SELECT count(*), sum(n) FROM sums'), 'indexes hold the same');

my ($end, $round, %done) = (time + $seconds, 0);
while (time < $end || $round < 3)
{
	$round++;
	my ($out, $ended) = ('', time + 2 + rand 2);
	my $run = IPC::Run::start([ 'pgbench', '-n', '-c', 3, '-T', 4, '--max-tries=100', '--random-seed', int(rand 1e6), '-f', $append,
		'-h', $node->host, '-p', $node->port, 'postgres' ], '<', \undef, '>', \$out, '2>', \$out);
	while (time < $ended)
	{
		my $model = $logs[ rand @logs ] . '_' . $kinds[ rand @kinds ];
		my $what = ('refresh', 'refresh', 'mode', 'rebuild', 'rebuild')[ rand 5 ];
		if ($what eq 'refresh') { call("SELECT immutable.refresh('$model', " . (1 + int rand 200) . ')') }
		elsif ($what eq 'mode')
		{
			my $mode = rand() < 0.5 || $model !~ /streams/ ? 'async' : 'inline';
			call("SELECT immutable.set_projection_mode('$model', '$mode')");
		}
		else
		{
			my $swap = rand() < 0.5 ? 'true' : 'false';
			my $by = rand() < 0.5 ? ", '${model}_by_" . int(rand 2) . "'" : '';
			call("CALL immutable.rebuild('$model'$by, swap => $swap)", rand() < 0.25);
		}
		$done{$what}++;
	}
	if ($round % 3 == 0)
	{
		$node->kill9;
		eval { $run->finish };
		unlink $node->data_dir . '/postmaster.pid';
		my $ok = 0;
		for (1 .. 50) { last if $ok = $node->start(fail_ok => 1); usleep(200_000); }
		ok($ok, "round $round: the postmaster was killed, and starts");
	}
	else
	{
		eval { $run->finish };
	}
	$node->poll_query_until('postgres', 'SELECT true') or die 'the server does not recover';
	$node->safe_psql('postgres', "CALL immutable.catch_up('$_')")
	  for split /\n/, $node->safe_psql('postgres', "SELECT target FROM immutable.projections WHERE mode = 'async'");
	is($node->safe_psql('postgres', "SELECT differences(l) FROM unnest('{plain,parted}'::text[]) l"), '', "round $round, seed $seed: every read model is what its log says");
	is($node->safe_psql('postgres', "SELECT p.target, v.* FROM immutable.projections p, immutable.verify_projection(p.target) v"), '', "round $round, seed $seed: and verify_projection says so");
}
note(join ', ', map { "$_ $done{$_}" } sort keys %done);
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM plain'), '>', 100, 'there were events');
is($node->safe_psql('postgres', "SELECT target, state FROM immutable.projection_status WHERE state <> 'current'"), '', 'all are current');
$node->stop;
done_testing();

# Call something that may be killed in the middle, now and then.
sub call
{
	my ($sql, $kill) = @_;
	my ($out, $err) = ('', '');
	my $h = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres') . ' application_name=victim', '-c', $sql ], '<', \undef, '>', \$out, '2>', \$err);

	if ($kill)
	{
		usleep(int rand 60_000);
		my ($rc, $pid) = $node->psql('postgres', "SELECT pid FROM pg_stat_activity WHERE application_name = 'victim' LIMIT 1");
		my $hard = rand() < 0.3;
		if ($pid && $hard)
		{
			my $offset = -s $node->logfile;
			if (kill 9, $pid)
			{
				$done{killed}++;
				# it may have been at its end, and nothing crashes
				for (1 .. 30) { last if slurp_file($node->logfile, $offset) =~ /by signal 9/; usleep(100_000); }
				$node->wait_for_log(qr/ready to accept connections/, $offset) if slurp_file($node->logfile, $offset) =~ /by signal 9/;
			}
		}
		elsif ($pid)
		{
			$done{terminated}++;
			$node->psql('postgres', "SELECT pg_terminate_backend($pid)");
		}
	}
	eval { $h->finish };
	ok(0, "seed $seed: $sql: $err") if !$kill && $err =~ /ERROR/ && $err !~ /deadlock|being rebuilt already|has changed while/;
	return;
}
