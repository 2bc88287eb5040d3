# Every public function under conditions in which it cannot do its work: in a
# transaction that may only read, on a standby, while all it needs is locked
# (lock_timeout, statement_timeout), and called by roles with few rights or none,
# who wait for no lock.
# Each answers with the one SQLSTATE that says so, and nothing is half done.
# A function that is missing here fails the test.

use strict;
use warnings FATAL => 'all';
use File::Basename;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# the calls, each good in the database that populate.sql makes
my %call = (
	ack => "ack('free', 1) FROM (SELECT count(*) FROM immutable.poll('free', lease => '1 hour')) p",
	add_upcaster => "add_upcaster('ledger', 't1', 1, 'newer')",
	add_versioning => "add_versioning('bare')",
	backfill_versions => "backfill_versions('lazy_product')",
	drop_versioning => "drop_versioning('product')",
	import_versions => q(import_versions('old_product', 'SELECT 77 AS id, ''2020-01-01''::timestamptz AS row_start, ''2021-01-01''::timestamptz AS row_end')),
	revert_row => q(revert_row('product', '{"id": 1}', 1)),
	row_diff => q(row_diff('product', '{"id": 1}', 1, 2)),
	verify_versions => "verify_versions('product')",
	append => "append('ledger', 'new', 't')",
	append_batch => "append_batch('ledger', 'new', ARRAY[ROW('t', NULL, NULL, NULL, NULL)]::immutable.new_event[])",
	append_json => q(append_json('ledger', 'new', '[{"type": "t"}]')),
	catch_up => "catch_up('async_model')",
	check_log => "check_log('ledger')",
	create_consumer => "create_consumer('new', 'ledger')",
	create_log => "create_log('fz.new_log')",
	create_projection => "create_projection('bare', 'ledger', 'bare')",
	disable_snapshots => "disable_snapshots('snapped', 'counts')",
	drop_consumer => "drop_consumer('free')",
	drop_log => "drop_log('loose_free', true)",
	drop_projection => "drop_projection('inline_model')",
	drop_upcaster => "drop_upcaster('upcasted', 't1', 1)",
	enable_commands => "enable_commands('app_log')",
	enable_snapshots => "enable_snapshots('ledger', 'counts')",
	explain_reducer => "explain_reducer('counts')",
	fold => "fold(0::bigint, 'int8pl', 1::bigint)",
	guard_report => "guard_report('audit')",
	handle => "handle('ledger', 's1', '{}', 0::bigint, 'decides', 'counts')",
	horizon => "horizon('ledger')",
	json_patch => q(json_patch('{}', (1, now(), 1, NULL, 1, 's', 't', '{"patch": []}', '{}')::immutable.event)),
	merge_patch => q(merge_patch('{}', (1, now(), 1, NULL, 1, 's', 't', '{}', '{}')::immutable.event)),
	nack => "nack('free', 1, 'error') FROM (SELECT count(*) FROM immutable.poll('free', lease => '1 hour')) p",
	persist_safe_position => "persist_safe_position('ledger')",
	poll => "poll('free')",
	protect => "protect('plain')",
	read_log => "read_log('ledger')",
	read_stream => "read_stream('ledger', 's1')",
	rebuild => "rebuild('async_model')",
	refresh => "refresh('async_model')",
	renew => "renew('free', '1 hour') FROM (SELECT count(*) FROM immutable.poll('free', lease => '1 hour')) p",
	replay => "replay('ledger', 's1', 0::bigint, 'counts')",
	replay_all => "replay_all('ledger', 0::bigint, 'counts')",
	safe_position => "safe_position('ledger')",
	seal_ownership => "seal_ownership('audit')",
	seek => "seek('free', 5)",
	set_projection_mode => "set_projection_mode('async_model', 'inline')",
	skip_event => "skip_event('halted_model', 9, 'reason')",
	start_worker => "start_worker()",
	stop_worker => "stop_worker()",
	stream_version => "stream_version('ledger', 's1')",
	sync_position => "sync_position('ledger')",
	unpark => "unpark('parked', 's1')",
	unprotect => "unprotect('audit')",
	upcast => "upcast('upcasted', (SELECT ROW(1, now(), 1, NULL, 1, 's', 't1', '{}', '{}')::immutable.event))",
	verify_projection => "verify_projection('inline_model')",
	wait_for => "wait_for('async_model', 1)");

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', "fsync = off\nautovacuum = off\n");
$node->start;
$node->safe_psql('postgres', "CREATE ROLE $_") for qw(fuzz_owner fuzz_app fuzz_nobody);
$node->command_ok(
	[ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-f', dirname(__FILE__) . '/../fuzz/populate.sql' ],
	'a database with something of everything');
$node->safe_psql('postgres', q{
SET client_min_messages = error;
SELECT immutable.create_log('loose_free');
CREATE TABLE fz.old_product (id integer PRIMARY KEY);
SELECT immutable.add_versioning('fz.old_product', 'lazy');
CALL immutable.catch_up('behind_model');
CALL immutable.catch_up('typed_model');
SELECT immutable.persist_safe_position('ledger');
});
my %procedure = map { $_ => 1 } split /\n/,
  $node->safe_psql('postgres', q{SELECT proname FROM pg_proc WHERE pronamespace = 'immutable'::regnamespace AND prokind = 'p'});
my @names = split /\n/, $node->safe_psql('postgres', q{
	SELECT proname FROM pg_proc WHERE pronamespace = 'immutable'::regnamespace AND proname !~ '^_' ORDER BY proname COLLATE "C"});
is(join(' ', sort keys %call), "@names", 'every public function has its call');

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));

my $before = fingerprint();
my %outcome;
$outcome{read_only} = sweep($node, 'SET default_transaction_read_only = on;');
$outcome{standby} = sweep($standby, '');
my $holder = $node->background_psql('postgres');
$holder->query_safe(q{BEGIN;
	SELECT format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', string_agg(c.oid::regclass::text, ', ')) FROM pg_class c
	WHERE relkind IN ('r', 'p') AND relnamespace IN ('fz'::regnamespace, 'immutable'::regnamespace) \gexec});
$outcome{lock_timeout} = sweep($node, 'SET lock_timeout = 20;');
$outcome{statement_timeout} = sweep($node, 'SET statement_timeout = 150;');
$holder->query_safe('ROLLBACK;');
$holder->quit;
$outcome{nobody} = sweep($node, 'SET ROLE fuzz_nobody;');
$outcome{app} = sweep($node, 'SET ROLE fuzz_app;');
# who has not the right queues for no lock, where others would wait behind him
$holder = $node->background_psql('postgres');
$holder->query_safe(q{BEGIN;
	SELECT format('LOCK TABLE %s IN SHARE UPDATE EXCLUSIVE MODE', string_agg(c.oid::regclass::text, ', ')) FROM pg_class c
	WHERE relkind IN ('r', 'p') AND relnamespace = 'fz'::regnamespace \gexec});
for my $role (qw(nobody app))
{
	my %known = map { $_ => $outcome{$role}{$_} } grep { !/_worker$/ } keys %{ $outcome{$role} };
	is_deeply(sweep($node, "SET ROLE fuzz_$role; SET lock_timeout = 1000;"), \%known, "$role waits for no lock");
}
$holder->query_safe('ROLLBACK;');
$holder->quit;
is(fingerprint(), $before, 'nothing was half done');
$outcome{superuser} = sweep($node, '');

my @conditions = qw(superuser read_only standby lock_timeout statement_timeout app nobody);
my %unknown = %call;
while (my $line = <DATA>)
{
	my ($name, @expected) = split ' ', $line;
	my @got = map { $outcome{$_}{$name} // 'none' } @conditions;
	is("@got", "@expected", $name);
	delete $unknown{$name};
}
# for whoever adds a function: the line to add, when it is as it should be
is(join('', map { my $name = $_; sprintf "%-22s %s\n", $name, join ' ', map { $outcome{$_}{$name} // 'none' } @conditions } sort keys %unknown),
	'', 'what each answers is known');

$standby->stop;
$node->stop;
done_testing();

# Call each function, undo what it has done, and note how it ended. A worker has
# waits of its own.
sub sweep
{
	my ($server, $settings) = @_;

	my $script = join '', map {
		$procedure{$_} ? "CALL immutable.$call{$_};\n\\echo == $_ :SQLSTATE\n"
		  : "BEGIN;\nSELECT immutable.$call{$_};\n\\echo == $_ :SQLSTATE\nROLLBACK;\n"
	} grep { !($settings =~ /timeout/ && /_worker$/) } sort keys %call;
	my ($in, $out, $err) = ("SET search_path = fz;\n$settings\n$script", '', '');
	IPC::Run::run([ 'psql', '-XAtq', '-d', $server->connstr('postgres') ], '<', \$in, '>', \$out, '2>', \$err);
	my %ended = $out =~ /^== (\w+) (\w+)$/mg;
	return \%ended;
}

# What stands in the database, but for times.
sub fingerprint
{
	my $tables = $node->safe_psql('postgres', q{
		SELECT format($q$SELECT %1$L || ' ' || md5(string_agg(r, '' ORDER BY r))
			FROM (SELECT (to_jsonb(whole_row) - '{failed_at,refreshed_at,polled_at}'::text[])::text AS r FROM %1$s whole_row) s$q$, c.oid::regclass)
		FROM pg_class c WHERE relkind IN ('r', 'p') AND relnamespace IN ('fz'::regnamespace, 'immutable'::regnamespace)
			AND c.oid <> 'immutable.safe_positions'::regclass	-- a worker writes it
		ORDER BY 1});
	return $node->safe_psql('postgres', ($tables =~ s/\) s$/) s;/gmr) . q{
		SELECT md5(string_agg(x, '|' ORDER BY x)) FROM (SELECT format('%s %s %s', tgrelid::regclass, tgname, tgenabled) AS x FROM pg_trigger
		UNION ALL SELECT format('%s %s', relname, relkind) FROM pg_class WHERE relnamespace = 'fz'::regnamespace
		UNION ALL SELECT rolname FROM pg_roles) f});
}

__DATA__
ack                    00000 25006 25006 55P03 57014 42501 42501
add_upcaster           00000 25006 25006 55P03 57014 42501 42501
append                 00000 25006 25006 55P03 57014 00000 42501
append_batch           00000 25006 25006 55P03 57014 00000 42501
append_json            00000 25006 25006 55P03 57014 00000 42501
catch_up               00000 25006 25006 55P03 57014 42501 42501
check_log              00000 00000 00000 55P03 57014 00000 42501
create_consumer        00000 25006 25006 55P03 57014 00000 42501
create_log             00000 25006 25006 55P03 57014 42501 42501
create_projection      00000 25006 25006 55P03 57014 42501 42501
disable_snapshots      00000 25006 25006 55P03 57014 42501 42501
drop_consumer          00000 25006 25006 55P03 57014 42501 42501
drop_log               00000 25006 25006 55P03 57014 42501 42501
drop_projection        00000 25006 25006 55P03 57014 42501 42501
drop_upcaster          00000 25006 25006 55P03 57014 42501 42501
enable_commands        00000 25006 25006 55P03 57014 42501 42501
enable_snapshots       00000 25006 25006 55P03 57014 42501 42501
explain_reducer        00000 00000 00000 00000 00000 00000 00000
fold                   00000 00000 00000 00000 00000 00000 00000
guard_report           00000 00000 00000 55P03 57014 00000 00000
handle                 00000 25006 25006 55P03 57014 00000 42501
horizon                00000 00000 00000 55P03 57014 00000 42501
json_patch             00000 00000 00000 00000 00000 00000 00000
merge_patch            00000 00000 00000 00000 00000 00000 00000
nack                   00000 25006 25006 55P03 57014 42501 42501
persist_safe_position  00000 25006 25006 55P03 57014 00000 42501
poll                   00000 25006 25006 55P03 57014 42501 42501
protect                00000 25006 25006 55P03 57014 42501 42501
read_log               00000 00000 00000 55P03 57014 00000 42501
read_stream            00000 00000 00000 55P03 57014 00000 42501
rebuild                00000 25006 25006 55P03 57014 42501 42501
refresh                00000 25006 25006 55P03 57014 42501 42501
renew                  00000 25006 25006 55P03 57014 42501 42501
replay                 00000 00000 00000 55P03 57014 00000 42501
replay_all             00000 00000 00000 55P03 57014 00000 42501
safe_position          00000 00000 00000 55P03 57014 00000 42501
seal_ownership         00000 25006 25006 55P03 57014 42501 42501
seek                   00000 25006 25006 55P03 57014 42501 42501
set_projection_mode    00000 25006 25006 55P03 57014 42501 42501
skip_event             00000 25006 25006 55P03 57014 42501 42501
start_worker           00000 00000 25006 none none 42501 42501
stop_worker            00000 00000 00000 none none 42501 42501
stream_version         00000 00000 00000 55P03 57014 00000 42501
sync_position          00000 25006 25006 55P03 57014 42501 42501
unpark                 00000 25006 25006 55P03 57014 42501 42501
unprotect              00000 25006 25006 55P03 57014 42501 42501
upcast                 00000 00000 00000 55P03 57014 00000 00000
verify_projection      00000 00000 00000 55P03 57014 42501 42501
wait_for               00000 00000 00000 55P03 57014 42501 42501
add_versioning         00000 25006 25006 55P03 57014 42501 42501
backfill_versions      00000 25006 25006 55P03 57014 42501 42501
drop_versioning        00000 25006 25006 55P03 57014 42501 42501
import_versions        00000 25006 25006 55P03 57014 42501 42501
revert_row             00000 25006 25006 55P03 57014 42501 42501
row_diff               00000 00000 00000 55P03 57014 42501 42501
verify_versions        00000 00000 00000 55P03 57014 42501 42501
