# Memory of folds: 100,000 calls of replay need what one needs, with every kind
# of reducer, and leave nothing behind; replay_all keeps within its limit
# however many streams there are, read to the end or not.

use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $allowed = 200 * 1024;		# bytes, for what PostgreSQL itself keeps

my $node = PostgreSQL::Test::Cluster->new('fold_memory');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_buffers = 16MB
synchronous_commit = off
log_statement = none
jit = off
max_parallel_workers_per_gather = 0
});
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION immutable_events;
SELECT immutable.create_log('ledger'), immutable.create_log('wide', 2), immutable.create_log('many');
SELECT count(immutable.append(log, 's' || n % 10, 'written', jsonb_build_object('n', n,
	'patch', jsonb_build_array(jsonb_build_object('op', 'add', 'path', '/k' || n, 'value', n)))))
FROM generate_series(0, 49) n, unnest(ARRAY['ledger', 'wide']::regclass[]) log;
CREATE TYPE account AS (n bigint, last text);
CREATE FUNCTION by_value(total bigint, e immutable.event) RETURNS bigint
LANGUAGE sql IMMUTABLE RETURN total + (e.data->>'n')::bigint;
CREATE FUNCTION by_value_strict(total bigint, e immutable.event) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT RETURN total + (e.data->>'n')::bigint;
CREATE FUNCTION by_text(state text, e immutable.event) RETURNS text
LANGUAGE sql IMMUTABLE RETURN state || repeat(e.type, 20);
CREATE FUNCTION by_row(a account, e immutable.event) RETURNS account
LANGUAGE sql IMMUTABLE RETURN ROW(a.n + (e.data->>'n')::bigint, e.type)::account;
CREATE FUNCTION by_jsonb(state jsonb, e immutable.event) RETURNS jsonb
LANGUAGE sql STABLE RETURN state || jsonb_build_object('n', (state->>'n')::bigint + (e.data->>'n')::bigint);
-- SQL that is not inlined: it has a FROM
CREATE FUNCTION by_query(total numeric, e immutable.event) RETURNS numeric
LANGUAGE sql IMMUTABLE AS 'SELECT total + sum(x::numeric) FROM unnest(ARRAY[(e.data->>''n'')]) x';
CREATE FUNCTION by_plpgsql(total bigint, e immutable.event) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN total + (e.data->>''n'')::bigint; END';
CREATE FUNCTION by_plpgsql_row(a account, e immutable.event) RETURNS account
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	a.n := coalesce(a.n, 0) + (e.data->>'n')::bigint;
	a.last := repeat(e.type, 20);
	RETURN a;
END
$$;
CREATE FUNCTION by_plpgsql_array(a text[], e immutable.event) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE AS 'BEGIN a[e.version] := repeat(e.type, 20); RETURN a; END';
CREATE FUNCTION raises(total bigint, e immutable.event) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN total / (3 - e.version); END';
BEGIN;
SET LOCAL immutable.import = on;
INSERT INTO many SELECT i, now(), 1 + i / 40000, md5(i::text)::uuid, 1, 'stream ' || i % 40000, 't', '{"n": 1}', '{}'
FROM generate_series(1, 120000) i WHERE i % 40000 > 0;
COMMIT;
SQL

my $session = $node->background_psql('postgres');

# what 100,000 calls need on the way, beside 10,000, and what they leave behind;
# a set in the SELECT list comes row by row, in FROM it would be stored
for my $reducer (
	[ 'by_value', '0::bigint' ], [ 'by_value_strict', '0::bigint' ],
	[ 'by_text', q{''::text} ], [ 'by_row', 'ROW(0, NULL)::account' ],
	[ 'by_jsonb', q{'{"n": 0}'::jsonb} ], [ 'by_query', '0::numeric' ],
	[ 'by_plpgsql', '0::bigint' ], [ 'by_plpgsql_row', 'NULL::account' ],
	[ 'by_plpgsql_array', q{'{}'::text[]} ],
	[ 'immutable.merge_patch', q{'{}'::jsonb} ],
	[ 'immutable.json_patch', q{'{}'::jsonb} ])
{
	my ($function, $initial) = @$reducer;
	for my $log ('ledger', 'wide')
	{
		my @left;
		my @peak;
		for my $calls (10_000, $log eq 'ledger' ? 100_000 : 20_000)
		{
			my ($count, $peak) = split /\|/, $session->query_safe(qq{
SELECT count(state), max(CASE WHEN n % ($calls / 10) = 0
	THEN (SELECT sum(total_bytes) FROM pg_backend_memory_contexts WHERE n > 0) END)
FROM (SELECT n, immutable.replay('$log', 's' || n % 10, $initial, '$function') AS state
	FROM (SELECT generate_series(1, $calls) AS n) g OFFSET 0) s});
			is($count, $calls, "$calls calls of replay with $function, $log");
			push @peak, $peak;
			push @left, memory();
		}
		cmp_ok($peak[1] - $peak[0], '<', $allowed,
			"$function, $log: flat ($peak[0], then $peak[1] bytes)");
		cmp_ok($left[1] - $left[0], '<', $allowed,
			"$function, $log: nothing left behind ($left[0], then $left[1] bytes)");
	}
}

# replay_all, in full, left early, and failing
$session->query_safe(<<'SQL');
CREATE FUNCTION early(calls integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	rows bigint := 0;
	r record;
BEGIN
	FOR i IN 1 .. calls LOOP
		FOR r IN SELECT immutable.replay_all('wide', ''::text, 'by_text') AS row LOOP
			rows := rows + 1;
			EXIT WHEN rows % 3 = 0;
		END LOOP;
	END LOOP;
	RETURN rows;
END
$$;
CREATE FUNCTION failing(calls integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	errors bigint := 0;
BEGIN
	FOR i IN 1 .. calls LOOP
		BEGIN
			PERFORM immutable.replay_all('ledger', 1::bigint, 'raises');
		EXCEPTION WHEN division_by_zero THEN
			errors := errors + 1;
		END;
	END LOOP;
	RETURN errors;
END
$$;
SQL
my @left;
for my $calls (500, 5_000)
{
	is($session->query_safe("SELECT sum((SELECT count(*) FROM immutable.replay_all(log, ''::text, 'by_text') WHERE n > 0)) FROM generate_series(1, $calls) n, unnest('{ledger,wide}'::regclass[]) log"),
		20 * $calls, "$calls calls of replay_all");
	is($session->query_safe("SELECT early($calls)"), 3 * $calls, "$calls calls that are left early");
	is($session->query_safe("SELECT failing($calls)"), $calls, "$calls calls that fail");
	push @left, memory();
}
cmp_ok($left[1] - $left[0], '<', $allowed,
	"replay_all: nothing left behind ($left[0], then $left[1] bytes)");

# and within its limit: 1 MB twice, whatever the way it reads
for my $cost (4, '1e6')
{
	for my $reducer ([ 'by_value', '0::bigint' ], [ 'by_text', q{''::text} ],
		[ 'immutable.merge_patch', 'NULL::jsonb' ])
	{
		my ($function, $initial) = @$reducer;
		my $before = memory();
		my ($count, $peak) = split /\|/, $session->query_safe(qq{
SET work_mem = '1MB';
SET hash_mem_multiplier = 2;
SET random_page_cost = $cost;
SELECT count(*), max(CASE WHEN n % 1000 = 0
	THEN (SELECT sum(total_bytes) FROM pg_backend_memory_contexts WHERE n > 0) END)
FROM (SELECT immutable.replay_all('many', $initial, '$function'), generate_series(1, 39999) AS n OFFSET 0) s;
RESET work_mem;
RESET random_page_cost});
		is($count, 39999, "$function over 39,999 streams, random_page_cost $cost");
		cmp_ok($peak - $before, '<', 2.5 * 1024 * 1024,
			"$function: within its limit ($before, then $peak bytes)");
	}
}

$session->quit;
$node->stop;
done_testing();

# All memory of the session's backend, in bytes.
sub memory
{
	return $session->query_safe('SELECT sum(total_bytes) FROM pg_backend_memory_contexts');
}
