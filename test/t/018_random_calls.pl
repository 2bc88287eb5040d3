# Every function of schema immutable, called with values that nobody expects:
# NULLs, numbers at their ends, relations of every kind, arrays with holes and
# dimensions, deep and huge jsonb, names that are SQL. In transactions of every
# kind, by owners and by others. Whatever comes back is a result or an error of a
# class that a caller can cause: no internal error, no crash, and nothing of what
# names carried was run. The functions come from pg_proc: a new one is called,
# too. A batch depends on the seed and its number alone:
#
#   RANDOM_CALLS_SEED, RANDOM_CALLS_SECONDS (else a fixed number of batches),
#   RANDOM_CALLS_BATCH (only this one), RANDOM_CALLS_KEEP (a directory for the
#   statements of each batch), RANDOM_CALLS_GO_ON (past what is found)

use strict;
use warnings FATAL => 'all';
use File::Basename;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $seed = $ENV{RANDOM_CALLS_SEED} // 20261123;
my $seconds = $ENV{RANDOM_CALLS_SECONDS};
my $batches = 16;
my $calls = 400;		# in a batch
my $keep = $ENV{RANDOM_CALLS_KEEP};
note "seed $seed, ", $seconds ? "$seconds seconds" : "$batches batches";

my $node = PostgreSQL::Test::Cluster->new('random_calls');
$node->init;
# memory for a jsonb of 10,000 levels is no fault; time is
$node->append_conf('postgresql.conf', qq{
fsync = off
max_prepared_transactions = 4
statement_timeout = 20s
lock_timeout = 2s
log_min_messages = log
log_min_error_statement = panic
deadlock_timeout = 100ms
});
$node->start;
$node->safe_psql('postgres', "CREATE ROLE $_") for qw(fuzz_owner fuzz_app fuzz_nobody);
$node->safe_psql('postgres', 'CREATE DATABASE template_fz');
$node->command_ok(
	[ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('template_fz'), '-f', dirname(__FILE__) . '/../fuzz/populate.sql' ],
	'a database with something of everything');

# name, kind, whether it returns rows, names and types of its arguments
my @functions = map {
	my ($name, $kind, $rows, $names, $types) = split /\t/;
	my @names = split /\|/, $names;
	{ name => $name, kind => $kind, rows => $rows eq 't',
		args => [ map { { name => shift @names, type => $_ } } split /\|/, $types ] }
  } split /\n/, $node->safe_psql('template_fz', q{
	SELECT concat_ws(E'\t', proname, prokind, proretset, coalesce(array_to_string(proargnames[1:pronargs], '|', ''), ''),
		array_to_string(ARRAY(SELECT format_type(t, NULL) FROM unnest(proargtypes) WITH ORDINALITY a(t, n) ORDER BY n), '|'))
	FROM pg_proc WHERE pronamespace = 'immutable'::regnamespace AND NOT proargtypes::oid[] @> '{internal}'::regtype[]::oid[]
	ORDER BY proname});
cmp_ok(scalar @functions, '>', 60, 'functions were found');

# What may be given for an argument, by its name and else by its type.
my %relations = map { $_ => 1 } qw(
  ledger wide loose empty secured upcasted snapped app_log broken ledger_commands snapped_snapshots wide_p0
  bare inline_model async_model behind_model halted_model typed_model fan_model dropped_column
  audit audit_parts audit_part audit_rest audit_rest_0
  product lazy_product product_versions product__history
  plain parent child referencing no_columns same_columns typed typed_parts unlogged view matview sequence foreign_table
  pair ledger_pkey ledger_position_seq wide_pkey
  pg_class pg_proc pg_authid pg_database pg_class_oid_index pg_largeobject pg_statistic information_schema.tables
  immutable.event immutable.logs immutable.guard_changes immutable.projections immutable.consumers immutable.skipped_events
  immutable.safe_positions immutable.upcasters);
my @relations = (sort(keys %relations), '"we""ird; DROP TABLE public.canary; --"', '"we""ird model; DROP TABLE public.canary; --"');
my @logs = qw(ledger wide loose empty secured upcasted snapped app_log broken);
push @logs, '"we""ird; DROP TABLE public.canary; --"';
my @models = qw(bare inline_model async_model behind_model halted_model typed_model fan_model dropped_column);
push @models, '"we""ird model; DROP TABLE public.canary; --"';
my @reducers = qw(counts counts_strictly counts_slowly counts_few collects gathers writes pairs moods last_event forgets fails raises
  careless writes_too reads_too replays_too any_state any_event many other_type defaults variadics outs forbidden proceeds
  aggregates decides decides_badly decides_nothing decides_twice rejects newer no_newer null_newer fickle weird_model bare
  inline_model inline_model_2 async_model behind_model halted_model typed_model fan_model dropped_column
  int8pl textcat jsonb_concat array_append now pg_sleep count row_number generate_series int4in
  immutable.merge_patch immutable.json_patch immutable.append immutable._guard immutable._fold_step immutable.fold);
push @reducers, '"x""; DROP TABLE public.canary; --"';
my @evil = map { sql_string($_) } (
	'', ' ', '$', '$system', "'", '"', '\\', '--', ';', '%s%n%I', "\x{1}", "tab\there", "line\nbreak", "\xc3\xa9t\xc3\xa9",
	'x"; DROP TABLE public.canary; --', "x'; DROP TABLE public.canary; --", '$$; DROP TABLE public.canary; $$', '1); DROP TABLE public.canary; --',
	'x' x 62, 'x' x 63, 'x' x 64, 'x' x 300, ("\xc3\xa9" x 40), 'a.b.c.d', '.', 'fz.', '.x', 'fz."', '"fz"."x"', 'pg_catalog.x', 'pg_temp.x', 'pg_toast.x',
	'immutable.x', 'nowhere.x', 's1', 's3', 't1', 'free', 'leased', 'async', 'inline', 'now', '{}', 'NULL', 'stream', 'ledger', 'fz.new_log');
my %by_type = (
	bigint => [ qw(0 1 2 3 5 9 10 40 41 100 -1 -2 -4 -5 2147483647 2147483648 4294967296 9223372036854775807 9223372036854775806
	  -9223372036854775807), "'-9223372036854775808'" ],
	integer => [ qw(0 1 2 3 5 100 1000 -1 -2 32767 32768 65535 2147483647 -2147483647), "'-2147483648'" ],
	boolean => [qw(true false)],
	text => [ @evil, "repeat('x', 100000)", "repeat('x', 2800)" ],
	name => [ @evil ],
	uuid => [ qw('018f0000-0000-7000-8000-000000000001' '018f0000-0000-7000-8000-000000000017' '00000000-0000-0000-0000-000000000000'
	  'ffffffff-ffff-ffff-ffff-ffffffffffff' gen_random_uuid()) ],
	interval => [ "'0'", "'1 ms'", "'20 ms'", "'-1 s'", "'1 hour'", "'-178000000 years'", "'178000000 years'", "'1 month -30 days'", "'0.000001 s'", "'1000000000 days'" ],
	'timestamp with time zone' => [ "'infinity'", "'-infinity'", 'now()', "'4714-11-24 00:00:00 BC'", "'294276-12-31'", "'2000-01-01'", "now() + '1 day'" ],
	jsonb => [
		"'{}'", "'[]'", "'null'", "'1'", qq{'"text"'}, "'true'", q('{"n": 1}'), q('{"": {}}'), "'[[]]'", "'[null]'", "'[1]'", q('[{"type": "t"}]'),
		q('[{"type": "t", "data": {"n": 1}, "id": "018f0000-0000-7000-8000-000000000001"}]'), q('[{"type": "t"}, {"type": null}]'),
		q('[{"type": "t", "id": 1}]'), q('[{"type": "t", "schema_version": 1e400}]'), q('[{"type": "t", "schema_version": 2147483648}]'),
		q('[{"type": "t", "schema_version": "x"}]'), q('[{"type": {}, "more": 1}]'), q('[{"type": "t", "data": []}]'), q('[{"type": "t", "type": "u"}]'),
		q('[{"type": "t", "metadata": 7}]'), q('{"patch": [{"op": "add", "path": "/a/-", "value": 1}]}'),
		q('{"patch": [{"op": "move", "from": "/a", "path": "/a/b"}]}'), q('{"patch": [{"op": "remove", "path": ""}]}'),
		q('{"patch": [{"op": "replace", "path": "/~2", "value": null}]}'), q('{"patch": {"op": "test"}}'), q('{"a": [1, {"b": 2}]}'),
		q('{"n": 1e1000}'), q('{"n": -0.000000000000000000000000001}'), q('{"\u00e9": "\ud83d\ude00"}'),
		(map {; "(repeat('[', $_) || repeat(']', $_))::jsonb", qq{(repeat('{"a":', $_) || '1' || repeat('}', $_))::jsonb} } 100, 1000, 10000),
		"(SELECT jsonb_agg(jsonb_build_object('type', 't' || n % 3)) FROM generate_series(1, 300) n)",
		"(SELECT jsonb_object_agg('k' || n, n) FROM generate_series(1, 2000) n)",
		"jsonb_build_object('long', repeat('x', 500000))" ],
	'text[]' => [
		"'{}'", "'{NULL}'", "'{t0,t1}'", "'{t0,t0}'", "'{{t0,t1},{t2,t3}}'", "'[5:6]={t0,t1}'", "'[0:0]={t0}'", "'{\"\"}'", "'{stream}'",
		"'{stream,type}'", "'{\"stream);DROP TABLE public.canary;--\"}'", "'{\"(SELECT 1)\"}'", "'{\"1/0\"}'", "'{\"count(*)\"}'", "'{\"\$1\"}'",
		"'{\"generate_series(1,2)\"}'", "'{\"ARRAY[stream,type]\"}'", "'{\"NULL::text\"}'", "'{\"random()::text\"}'", "'{nothing}'", "'{\"*\"}'",
		"'{\"stream; SELECT 1\"}'", "'{\"a b\"}'", "array_fill('t'::text, '{3000}')", "ARRAY[repeat('x', 10000)]", "'{position}'", "'{\"data->>''n''\"}'",
		"'{\"(SELECT stream)\"}'", "'{\"stream || 1/0\"}'", "'{\"ARRAY[NULL,stream]\"}'" ],
	'name[]' => [ "'{}'", "'{NULL}'", "'{a,b}'", "'{{a}}'", "'{\"x\\\"; --\"}'" ],
	'immutable.event' => [
		'NULL::immutable.event', "(SELECT e FROM ledger e WHERE version = 1 LIMIT 1)", "(SELECT e FROM upcasted e WHERE type = 't1' LIMIT 1)",
		"ROW(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::immutable.event",
		q(ROW(1, 'infinity', -1, NULL, 2147483647, '', 't1', '{"patch": [{"op": "copy", "from": "/x", "path": "/y"}]}', '[]')::immutable.event),
		q(ROW(1, now(), 1, NULL, 1, 's', 't1', '[1]', NULL)::immutable.event), q(ROW(1, now(), 1, NULL, 1, 's', 't1', '{"patch": [1, null]}', NULL)::immutable.event) ],
	'immutable.new_event[]' => [
		"'{}'", "'{NULL}'", "ARRAY[ROW('t', NULL, NULL, NULL, NULL)]::immutable.new_event[]",
		q(ARRAY[ROW('t', '{"n": 1}', '{"m": 1}', '018f0000-0000-7000-8000-000000000001', 2)]::immutable.new_event[]),
		"ARRAY[[ROW('t', '{}', NULL, NULL, 1)], [ROW('t', '{}', NULL, NULL, 1)]]::immutable.new_event[]",
		"ARRAY[ROW('t', '[]', '1', NULL, 0), NULL, ROW('', NULL, NULL, NULL, -1)]::immutable.new_event[]",
		"ARRAY[ROW(NULL, NULL, NULL, NULL, NULL)]::immutable.new_event[]",
		q(ARRAY[ROW('t', '{}', NULL, '018f0000-0000-7000-8000-0000000000ff', 1), ROW('t', '{}', NULL, '018f0000-0000-7000-8000-0000000000ff', 1)]::immutable.new_event[]),
		"(SELECT array_agg(ROW('t' || n, '{}', NULL, NULL, 1)::immutable.new_event) FROM generate_series(1, 500) n)",
		"'[7:7]={\"(t,,,,)\"}'" ],
	anyelement => [
		'0::bigint', '9223372036854775807::bigint', 'NULL::bigint', "'{}'::jsonb", "'[]'::jsonb", 'NULL::jsonb', "'{}'::text[]", 'NULL::text[]', "'x'::text",
		"'x'", 'NULL', "ROW(1, 'x')::pair", 'NULL::pair', "ROW(1, 2)", "'calm'::mood", '0::counted', 'NULL::text::short', "'2000-01-01'::date", "'x'::unknown",
		'NULL::immutable.event', 'NULL::fz.bare', "'{1,2}'::int[]", "repeat('x', 100000)", "int4range(1, 2)", "'NaN'::float8", "'ledger'::regclass", '1::"char"',
		"NULL::fz.ledger", "NULL::event_domain", "ARRAY[ROW(1, 'x')::pair]" ],
	'"any"' => [ '1::bigint', 'NULL::bigint', 'NULL', "'x'", 'e', 'e', 'e', 'e.*', 'ROW(1)', "ROW(1, 2)", 'e.data', 'e.type', 'NULL::immutable.event', 'VARIADIC ARRAY[1, 2]::bigint[]', "'{}'::jsonb" ],
);
my %by_name = (
	log => [ map { quoted($_) } @logs ],
	target => [ map { quoted($_) } @models, @models, qw(product lazy_product product lazy_product audit audit_parts plain parent) ],
	initial => $by_type{anyelement},
	consumer => [ qw('free' 'leased' 'parked' 'sharded' 'new'), sql_string('x"; DROP TABLE public.canary; --') ],
	stream => [ qw('s0' 's1' 's2' 's3' 's4' 's6' 'new') ],
	type => [ qw('t0' 't1' 't2' 'bad') ],
	backfill => [ qw('now' 'lazy') ],
	batch => [ qw(1 100) ],
	query => [ "'SELECT 77 AS id, ''a''::text AS label, ''2020-01-01''::timestamptz AS row_start'", "'SELECT 1'", "'TABLE product'" ],
	'key jsonb' => [ (q('{"id": 1}'), q('{"id": 2}')) x 3, q('{"a": 3, "b": "b"}'), q('{"id": null}'), @{ $by_type{jsonb} } ],
	from_version => [ qw(1 2 3) ],
	to_version => [ qw(1 2 3) ],
	mode => [ qw('inline' 'async') ],
	error => [ qw('error') ],
	owner => [ qw('fuzz_owner' 'immutable_owner' 'fuzz_nobody' 'postgres' 'nobody' 'pg_monitor') ],
	name => [ "'fz.new_log'", "'new_log'", "'ledger'", "'fz.\"x''; --\"'" ],
	partitions => [ qw(0 1 2 5) ],
	schema_version => [ qw(1 1 2) ],
	every => [ qw(1 2 100) ],
	shards => [ qw(1 2 7) ],
	timeout => [ "'0'", "'5 ms'" ],
	lease => [ "'1 hour'", "'1 s'", "NULL" ],
	'events jsonb' => [ (q('[{"type": "t"}]'), q('[{"type": "t1", "data": {"n": 5}}, {"type": "t2", "metadata": {}}]')) x 2, @{ $by_type{jsonb} } ],
	'events immutable.new_event[]' => $by_type{'immutable.new_event[]'},
	data => $by_type{jsonb},
	'key text[]' => $by_type{'text[]'},
);
# slow, so seldom: what is near the limits of memory
my %huge = (
	text => [ "repeat('x', 268435455)", "repeat('x', 260000000)", "repeat('x', 1000000000)" ],
	jsonb => [ "to_jsonb(repeat('x', 200000000))", "jsonb_build_object('long', repeat('x', 268000000))", "jsonb_build_object('a', repeat('x', 130000000), 'b', repeat('y', 130000000))" ],
	'text[]' => [ "array_fill('t'::text, '{3000000}')", "ARRAY[repeat('x', 200000000)]" ],
	'immutable.new_event[]' => [ "ARRAY[ROW('t', jsonb_build_object('long', repeat('x', 200000000)), NULL, NULL, 1)]::immutable.new_event[]" ],
);

# What a caller can cause, by class and by state; all else fails the run.
my $expected = qr/^(?:0A|0L|0P|20|21|22|23|25|26|27|28|2B|2F|34|38|39|3B|3D|3F|40|42|44|53|54|55|P0|ZZ)\w{3}$|^57014$/;
my (%states, %succeeded, %told, $done, $bad);

my $end = time + ($seconds // 0);
my $number = $ENV{RANDOM_CALLS_BATCH} // 0;
do { batch($number++) } while ((!$bad || $ENV{RANDOM_CALLS_GO_ON}) && !defined $ENV{RANDOM_CALLS_BATCH} &&
	($seconds ? time < $end : $number < $batches || (never() && $number < 4 * $batches)));

ok(!$bad, "$done calls, of which nothing came that should not");
note join ', ', map { "$_ $states{$_}" } sort keys %states;
is(join(' ', never()), '', 'every public function succeeded at times') unless $seconds || defined $ENV{RANDOM_CALLS_BATCH} || $bad;
my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP|terminated by signal/, 'the server has not stumbled');
$node->stop('fast');
done_testing();

# Functions of which no call has got past the checks so far: they are tested little.
sub never
{
	return grep { !/^_/ && !$succeeded{$_} } map { $_->{name} } @functions;
}

# One session in a fresh copy of the database, and what it has answered.
sub batch
{
	my ($number) = @_;

	srand($seed * 1000003 + $number);
	my @statements = map { statement($_) } 1 .. $calls;
	my $script = join "\n", map { "\\echo @@ $_->{number} $_->{function}{name}\n$_->{sql}\n\\echo == :SQLSTATE" } @statements;
	my $database = "fz_$number";
	if ($keep)
	{
		open my $file, '>', "$keep/batch_$number.sql" or die "cannot write to $keep: $!";
		print $file $script;
		close $file;
	}
	$node->safe_psql('postgres', "CREATE DATABASE $database TEMPLATE template_fz");
	$node->safe_psql('postgres', "ALTER DATABASE $database SET search_path = fz, public");
	my ($out, $err) = ('', '');
	IPC::Run::run([ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-v', 'SHOW_CONTEXT=always', '-d', $node->connstr($database) ],
		'<', \$script, '>', \$out, '2>&1');

	for my $part (split /^@@ /m, $out)
	{
		my ($nr, $name) = $part =~ /^(\d+) (\w+)\n/ or next;
		my $statement = $statements[ $nr - 1 ];
		my @found = $part =~ /^(?:psql:\S+ )?(?:ERROR|FATAL|PANIC):  (\w{5}): /mg;
		my @reasons = map { "SQLSTATE $_" } grep { !/$expected/ } @found;
		push @reasons, 'lost connection' if $part =~ /server closed the connection|connection to server was lost|terminating connection/;
		# text that was pasted into a command, and not parsed
		push @reasons, 'bad SQL inside' if $part =~ /^(?:QUERY:|LINE \d+:.*\bcanary)/m && $part =~ /ERROR:  42601: (?!zero-length)/ && $statement->{sql} !~ /\bimmutable\.(?:create_projection|import_versions)\(/;	# they take SQL
		$states{$_}++ for @found ? @found : '00000';
		$succeeded{$name} = 1 unless @found;
		$done++;
		next unless @reasons;
		$bad = 1;
		my ($where) = $part =~ /^LOCATION:  (.*)/m;
		next if $told{ "@reasons " . ($where // $name) }++;
		diag("batch $number, call $nr: @reasons\n$statement->{sql}\n" . substr($part, 0, 3000));
	}
	my ($ret, $canary, $error) = $node->psql($database, 'SELECT count(*) FROM public.canary');
	if (($canary // '') ne '1')
	{
		$bad = 1;
		diag("batch $number: the canary is gone: " . ($canary // '') . " $error");
	}
	$node->safe_psql('postgres', "DROP DATABASE $database WITH (FORCE)");
	return;
}

# One call, and what stands around it.
sub statement
{
	my ($number) = @_;

	my $function = $functions[ rand @functions ];
	my $call = call($function);
	my $reset = 'RESET ROLE;';
	my $sql;
	if ($function->{kind} eq 'p')
	{
		$sql = chance(0.1) ? "DO \$do\$ BEGIN CALL $call; END \$do\$;" : "CALL $call;";
	}
	elsif ($function->{kind} eq 'a')
	{
		my $filter = pick('', '', 'FILTER (WHERE e.version > 1)', 'OVER (PARTITION BY e.stream ORDER BY e.version)', 'OVER (ORDER BY e.version ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)');
		$sql = 'SELECT ' . (chance(0.3) ? "e.stream, " : '') . "$call $filter FROM " . pick(@logs) . ' e';
		$sql .= ' GROUP BY e.stream' if $sql =~ /e\.stream, / && $filter !~ /OVER/;
		$sql .= ';';
	}
	else
	{
		$sql = pick(
			("SELECT $call;") x 6,
			"SELECT * FROM $call x;",
			"SELECT * FROM $call x LIMIT 1;",
			"SELECT $call FROM generate_series(1, 3) LIMIT 2;",
			"SELECT x FROM $call x ORDER BY 1 DESC;",
			"SELECT 1 WHERE EXISTS (SELECT $call);",
			"DO \$do\$ BEGIN PERFORM $call; EXCEPTION WHEN division_by_zero OR raise_exception THEN PERFORM 1; END \$do\$;",
			"DO \$do\$ BEGIN PERFORM $call; EXCEPTION WHEN OTHERS THEN IF sqlstate LIKE 'XX%' THEN RAISE; END IF; PERFORM $call; END \$do\$;",
			"WITH w AS MATERIALIZED (SELECT $call AS x) SELECT count(*), count(x) FROM w, generate_series(1, 2);",
			"CREATE TEMP TABLE temp_$number AS SELECT $call AS x;",
			"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) SELECT $call;",
			"COPY (SELECT $call) TO STDOUT;");
		$sql = "BEGIN; DECLARE c CURSOR FOR SELECT $call; FETCH 1 FROM c; FETCH 100 FROM c; MOVE BACKWARD 1 FROM c; COMMIT;" if chance(0.03);
		$sql = "PREPARE p_$number AS SELECT $call; EXECUTE p_$number; EXECUTE p_$number;" if chance(0.03);
	}
	# rolled back, mostly: the database lasts longer
	if ($function->{kind} ne 'p' && $sql !~ /^BEGIN/)
	{
		my $begin = pick(('BEGIN;') x 5, 'BEGIN ISOLATION LEVEL REPEATABLE READ;', 'BEGIN ISOLATION LEVEL SERIALIZABLE;', 'BEGIN READ ONLY;',
			'BEGIN; SAVEPOINT a;', 'BEGIN; SAVEPOINT a;', "BEGIN; SET LOCAL immutable.import = on;", 'BEGIN; SET LOCAL fz.bad = on;',
			q(BEGIN; SET LOCAL immutable.context = '{"who": "me"}';), q(BEGIN; SET LOCAL immutable.context = '[[';), 'BEGIN; SET CONSTRAINTS ALL DEFERRED;',
			'BEGIN; SET LOCAL session_replication_role = replica;', "BEGIN; SET LOCAL search_path = '';", 'BEGIN; SET LOCAL row_security = off;',
			"BEGIN; SELECT immutable.append('ledger', 's1', 't1') \\g /dev/null\n");
		my $finish = $begin =~ /SAVEPOINT/ ? pick('ROLLBACK TO a; COMMIT;', 'RELEASE a; COMMIT;') : pick(('ROLLBACK;') x 4, ('COMMIT;') x 3);
		my $again = chance(0.2) ? 'SELECT ' . call(pick(grep { $_->{kind} eq 'f' } @functions)) . ';' : '';
		$sql = "$begin $sql $again $finish" unless chance(0.2);
	}
	my $role = pick(('') x 6, 'SET ROLE fuzz_owner;', 'SET ROLE fuzz_owner;', 'SET ROLE fuzz_app;', 'SET ROLE fuzz_nobody;');
	$sql = "$role $sql $reset" if $role;
	$sql =~ s/;\s*$/;/;
	return { number => $number, function => $function, sql => $sql };
}

# name(arguments): by position, with the last ones left out at times
sub call
{
	my ($function) = @_;

	my $wild = pick(0, 0.05, 0.2, 0.6);
	my @args = map { value($_, $wild) } @{ $function->{args} };
	return "immutable.$function->{name}(" . join(', ', @args) . ')';
}

# A value for an argument: one that fits, or with some chance any one.
sub value
{
	my ($arg, $wild) = @_;
	my ($name, $type) = @$arg{qw(name type)};

	# what calls nobody: the type is all there is
	my $cast = $type =~ /^any|^"any"/ ? '' : "::$type";
	my $good = $by_name{$name} // $by_name{"$name $type"};
	if ($type eq 'regclass')
	{
		return 'NULL::regclass' if chance($wild / 3);
		return pick("0::regclass", "1::regclass", "4294967295::regclass", '(SELECT reltoastrelid::regclass FROM pg_class WHERE oid = \'ledger\'::regclass)') if chance($wild / 2);
		return quoted(pick(@relations)) . $cast if !$good || chance($wild);
		return pick(@$good) . $cast;
	}
	if ($type eq 'regproc')
	{
		return 'NULL::regproc' if chance($wild / 3);
		return pick('0::regproc', '1::regproc', "'fz.twofold(bigint, immutable.event)'::regprocedure::regproc") if chance($wild / 2);
		return quoted(pick($name eq 'decide' && !chance($wild) ? qw(decides decides decides_badly decides_nothing decides_twice rejects)
			: $name eq 'upcaster' && !chance($wild) ? qw(newer no_newer null_newer fickle)
			: chance(0.5) ? qw(counts counts_slowly bare inline_model async_model behind_model) : @reducers)) . $cast;
	}
	return "NULL$cast" if chance($name =~ /^(?:types|stream_prefix|expected_version|id|metadata|max_events|upto_\w+|as_of|lease|shard|command_id)$/ ? 0.5 : $wild / 3);
	my $huge = $huge{$type};
	return pick(@$huge) . $cast if $huge && chance($wild / ($seconds ? 100 : 500));
	my $pool = $by_type{$type} or return "NULL$cast";
	$pool = $good if $good && !chance($wild);
	my $value = pick(@$pool);
	return $value if $type eq '"any"';
	return $cast ? "($value)$cast" : $value;
}

sub chance { return rand() < $_[0]; }
sub pick { return $_[ rand @_ ]; }

# a string constant, with nothing in it that psql or SQL would take for theirs
sub sql_string
{
	my ($text) = @_;
	$text =~ s/(['\\])/$1$1/g;
	$text =~ s/\n/\\n/g;
	return "E'$text'";
}

sub quoted
{
	my ($text) = @_;
	$text =~ s/'/''/g;
	return "'$text'";
}
