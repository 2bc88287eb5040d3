# A preloaded library closes what event triggers cannot see: ALTER EVENT TRIGGER
# of ours, writes to the catalogs, and event triggers that somebody has silenced.
# Without preload all this is possible, and guard_report says so.

use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my @event_triggers = map { "immutable_guard_$_" } 'ddl_start', 'ddl_end', 'rewrite';
my @catalogs = map { "pg_$_" }
  qw(attrdef attribute class constraint depend enum event_trigger extension index inherits proc rewrite sequence trigger type);

# what a protected table must stand, whatever has become of the event triggers
my @refused = (
	'ALTER TABLE data.plain DISABLE TRIGGER ALL',
	'ALTER TABLE data.plain DISABLE TRIGGER USER',
	'ALTER TABLE data.plain DISABLE TRIGGER immutable_guard_row',
	'ALTER TABLE data.plain ENABLE REPLICA TRIGGER immutable_guard_statement',
	'ALTER TABLE data.parted_1 DISABLE TRIGGER immutable_guard_row',
	'DROP TRIGGER immutable_guard_row ON data.plain',
	'ALTER TRIGGER immutable_guard_row ON data.plain RENAME TO harmless',
	'CREATE OR REPLACE TRIGGER immutable_guard_row BEFORE UPDATE ON data.plain FOR EACH ROW EXECUTE FUNCTION data.noop()',
	'ALTER TABLE data.plain ADD COLUMN other text, DROP COLUMN what',
	"ALTER TABLE data.plain ALTER COLUMN what TYPE varchar USING 'forged'",
	"ALTER TABLE data.plain ADD COLUMN forged text DEFAULT 'forged'",
	'ALTER TABLE data.plain RENAME COLUMN what TO which',
	'ALTER TABLE data.plain SET UNLOGGED',
	'ALTER TABLE data.loose INHERIT data.plain',
	'CREATE TABLE data.child () INHERITS (data.plain)',
	'CREATE RULE swallow AS ON INSERT TO data.plain DO INSTEAD NOTHING',
	'ALTER TABLE data.parted DETACH PARTITION data.parted_1',
	'ALTER TYPE data.mood RENAME VALUE \'good\' TO \'forged\'',
	'ALTER TABLE data.ledger NOT OF',
	'ALTER TABLE data.ledger ALTER COLUMN position DROP DEFAULT',
	'ALTER TABLE data.ledger DROP CONSTRAINT ledger_stream_version_key',
	'ALTER SEQUENCE data.ledger_position_seq RESTART',
	'DROP SEQUENCE data.ledger_position_seq CASCADE',
	'DROP TABLE data.plain',
	'DROP TABLE data.parted_1',
	'DROP TABLE data.loose, data.ledger',
	'DROP TYPE data.mood CASCADE',
	'DROP SCHEMA data CASCADE',
	'DROP OWNED BY keeper CASCADE',
	'DROP EXTENSION immutable_events',
	'DROP EXTENSION immutable_events CASCADE',
	'ALTER EXTENSION immutable_events DROP FUNCTION immutable._guard()',
	'ALTER FUNCTION immutable._guard() SECURITY DEFINER',
	q{CREATE OR REPLACE FUNCTION immutable._guard() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'},
	'ALTER TYPE immutable.event RENAME ATTRIBUTE type TO kind',
	'ALTER SCHEMA immutable RENAME TO mutable',
	q{DO $$ BEGIN EXECUTE 'ALTER TABLE data.plain DISABLE TRIGGER ALL'; END $$},
	q{UPDATE data.plain SET what = 'bad'},
	'DELETE FROM data.parted_1',
	'TRUNCATE data.ledger');

my @allowed = (
	'ALTER TABLE data.plain ADD COLUMN IF NOT EXISTS other text',
	'CREATE INDEX ON data.plain (what)',
	'ALTER TABLE data.plain ALTER COLUMN id SET NOT NULL, ALTER COLUMN what SET STATISTICS 10',
	'GRANT SELECT ON data.plain TO PUBLIC',
	'ALTER TABLE data.plain RENAME TO renamed',
	'ALTER TABLE data.renamed RENAME TO plain',
	'VACUUM FULL data.plain',
	'ANALYZE data.plain',
	'REINDEX TABLE data.ledger',
	'CREATE TABLE data.unrelated (id serial, what text)',
	'ALTER TABLE data.unrelated ALTER COLUMN what TYPE varchar, DROP COLUMN id',
	'DROP TABLE data.unrelated',
	q{COMMENT ON TABLE data.plain IS 'kept'},
	q{SELECT immutable.append('data.ledger', 's', 'happened')},
	q{INSERT INTO data.plain VALUES (2, 'good')});

# the library in every session of a cluster
my $shared = new_node('shared', 'shared_preload_libraries = immutable_events');
my $major = $shared->safe_psql('postgres', "SELECT current_setting('server_version_num')::integer / 10000");
make_database($shared, 'kept');
is_closed($shared, 'kept', 'shared_preload_libraries');
comes_and_goes($shared, 'kept');
stands_in($shared, 'kept', 'shared_preload_libraries') if $major >= 17;
$shared->stop;

# the library in every session of a database
my $session = new_node('session', '');
make_database($session, 'kept');
$session->safe_psql('postgres', 'ALTER DATABASE kept SET session_preload_libraries = immutable_events');
is_closed($session, 'kept', 'session_preload_libraries');
comes_and_goes($session, 'kept');
stands_in($session, 'kept', 'session_preload_libraries') if $major >= 17;

# a session that comes without it is open, and its report says so
{
	local $ENV{PGOPTIONS} = '-c session_preload_libraries=';
	is($session->safe_psql('kept', preloaded()), '', 'a superuser may connect without the library');
	is(open_holes($session, 'kept'), 'catalog update, event triggers', 'such a session is told that it is open');
}

# not preloaded at all
make_database($session, 'ordinary');
is_open($session, 'ordinary');
{
	local $ENV{PGOPTIONS} = '-c session_preload_libraries=immutable_events';
	is(open_holes($session, 'ordinary'), '', 'a session may preload the library for itself');
}

# event triggers that were disabled before the library was preloaded
make_database($session, 'silenced');
$session->safe_psql('silenced', join '', map { "ALTER EVENT TRIGGER $_ DISABLE;" } @event_triggers);
$session->safe_psql('postgres', 'ALTER DATABASE silenced SET session_preload_libraries = immutable_events');
guards_without_event_triggers($session, 'silenced', 'session_preload_libraries, event triggers disabled');
$session->stop;

done_testing();

# A cluster with these settings.
sub new_node
{
	my ($name, $settings) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init;
	$node->append_conf('postgresql.conf', "fsync = off\n$settings\n");
	$node->start;
	$node->safe_psql('postgres', 'CREATE ROLE keeper');
	return $node;
}

# A database with one protected table of each kind.
sub make_database
{
	my ($node, $database) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, <<'SQL');
CREATE EXTENSION immutable_events;
CREATE SCHEMA data AUTHORIZATION keeper;
SET ROLE keeper;
CREATE TYPE data.mood AS ENUM ('good', 'bad');
CREATE TABLE data.plain (id integer, what data.mood);
INSERT INTO data.plain VALUES (1, 'good');
SELECT immutable.protect('data.plain');
CREATE TABLE data.parted (id integer, what text) PARTITION BY LIST (id);
CREATE TABLE data.parted_1 PARTITION OF data.parted FOR VALUES IN (1);
INSERT INTO data.parted VALUES (1, 'one');
SELECT immutable.protect('data.parted');
SELECT immutable.create_log('data.ledger');
SELECT immutable.append('data.ledger', 's', 'happened');
CREATE TABLE data.loose (id integer, what data.mood);
CREATE FUNCTION data.noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
RESET ROLE;
CREATE FUNCTION data.note() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER users_own ON ddl_command_start EXECUTE FUNCTION data.note();
CREATE VIEW data.triggers AS SELECT oid, tgname, tgrelid, tgenabled FROM pg_trigger;
SQL
}

# Everything that preloading closes, is closed.
sub is_closed
{
	my ($node, $database, $setting) = @_;
	my $before = contents($node, $database);

	is($node->safe_psql($database, preloaded()), $setting, "$setting: preloaded");
	is(open_holes($node, $database), '', "$setting: guard_report knows no way around");
	is( $node->safe_psql($database, q{SELECT DISTINCT state || ': ' || detail FROM immutable.guard_report()
WHERE hole IN ('event triggers', 'catalog update')}),
		"closed: the library is in $setting", "$setting: guard_report says why");

	for my $name (@event_triggers)
	{
		answers($node, $database, 23001, map { "ALTER EVENT TRIGGER $name $_" }
			'DISABLE', 'ENABLE', 'ENABLE REPLICA', 'ENABLE ALWAYS', 'RENAME TO gone');
		answers($node, $database, '2BP01', "DROP EVENT TRIGGER $name", "DROP EVENT TRIGGER $name CASCADE");
	}
	answers($node, $database, 23001,
		q{DO $$ BEGIN ALTER EVENT TRIGGER immutable_guard_ddl_start DISABLE; END $$},
		'ALTER EXTENSION immutable_events DROP EVENT TRIGGER immutable_guard_ddl_start');
	answers($node, $database, '00000', map { "ALTER EVENT TRIGGER $_" }
		'users_own DISABLE', 'users_own ENABLE ALWAYS', 'users_own RENAME TO still_own', 'still_own RENAME TO users_own');
	answers($node, $database, '42704', 'ALTER EVENT TRIGGER nobodys DISABLE', 'ALTER EVENT TRIGGER nobodys RENAME TO gone');
	is( $node->safe_psql($database, "SELECT string_agg(evtname || evtenabled::text, ' ' ORDER BY evtname) FROM pg_event_trigger"),
		join(' ', map { "${_}A" } sort(@event_triggers, 'users_own')), "$setting: every event trigger is as it was");

	answers($node, $database, 23001, catalog_writes($node),
		q{UPDATE pg_trigger SET tgenabled = 'D' WHERE tgrelid = 'data.plain'::regclass},
		q{UPDATE data.triggers SET tgenabled = 'D'},
		q{WITH done AS (DELETE FROM pg_trigger RETURNING oid) SELECT count(*) FROM done},
		q{MERGE INTO pg_trigger t USING (VALUES (1)) v ON true WHEN MATCHED THEN DELETE},
		q{MERGE INTO pg_class c USING (VALUES (1)) v ON true WHEN MATCHED THEN UPDATE SET relhastriggers = false},
		q{PREPARE change AS UPDATE pg_class SET relhastriggers = false; EXECUTE change},
		q{DO $$ BEGIN DELETE FROM pg_depend; END $$},
		q{COPY pg_trigger FROM PROGRAM 'true'});
	answers($node, $database, '00000',
		q{COPY pg_trigger TO PROGRAM 'cat >/dev/null'}, in_vain(q{UPDATE pg_description SET description = ''}));
	# who is no superuser hears what he always has
	answers($node, $database, 42501, map { "SET ROLE keeper; $_" }
		'UPDATE pg_trigger SET tgenabled = \'D\'', 'ALTER EVENT TRIGGER users_own DISABLE');

	answers($node, $database, 23001, @refused);
	is(contents($node, $database), $before, "$setting: all rows are there, and all guards");
	answers($node, $database, '00000', @allowed);
}

# A write of each kind to each catalog that describes protected tables.
sub catalog_writes
{
	my ($node) = @_;
	my @writes;

	for my $catalog (@catalogs)
	{
		my $column = $node->safe_psql('postgres', "SELECT attname FROM pg_attribute WHERE attrelid = '$catalog'::regclass AND attnum = 1");
		push @writes, "UPDATE $catalog SET $column = $column WHERE false", "DELETE FROM $catalog WHERE false",
		  "INSERT INTO $catalog SELECT * FROM $catalog WHERE false", "COPY $catalog FROM '/dev/null'";
	}
	return @writes;
}

# With nothing protected, catalogs may be written to and the extension may go.
sub comes_and_goes
{
	my ($node, $database) = @_;

	$node->safe_psql('postgres', 'CREATE DATABASE scratch');
	$node->safe_psql('postgres', 'ALTER DATABASE scratch SET session_preload_libraries = immutable_events')
	  if $node->name eq 'session';
	answers($node, 'scratch', '00000', in_vain(catalog_writes($node)));
	$node->safe_psql('scratch', 'CREATE EXTENSION immutable_events; CREATE TABLE plain (id integer)');
	is($node->safe_psql('scratch', preloaded()), $node->name . '_preload_libraries', 'scratch: preloaded');
	answers($node, 'scratch', '00000', in_vain(catalog_writes($node)));
	$node->safe_psql('scratch', q{SELECT immutable.protect('plain')});
	answers($node, 'scratch', 23001, 'DELETE FROM pg_trigger', 'DROP EXTENSION immutable_events', 'DROP EXTENSION immutable_events CASCADE');
	$node->safe_psql('scratch', q{SELECT immutable.unprotect('plain')});
	answers($node, 'scratch', '00000', in_vain(catalog_writes($node)),
		'DROP EXTENSION immutable_events', in_vain(catalog_writes($node)),
		'CREATE EXTENSION immutable_events', q{SELECT immutable.protect('plain')});
	answers($node, 'scratch', 23001, 'TRUNCATE plain', 'DROP TABLE plain', 'DELETE FROM pg_depend');
	# another database knows nothing of it
	answers($node, 'postgres', '00000', in_vain('DELETE FROM pg_depend', 'UPDATE pg_trigger SET tgenabled = \'D\''));
	$node->safe_psql('postgres', 'DROP DATABASE scratch');
}

# event_triggers = off, which 17 brought, by all ways that there are.
sub stands_in
{
	my ($node, $database, $setting) = @_;
	my $before = contents($node, $database);

	for my $silence ('SET event_triggers = off', q{SELECT set_config('event_triggers', 'off', false)})
	{
		answers($node, $database, 23001, map { "$silence; $_" } @refused);
	}
	is(contents($node, $database), $before, "$setting, event_triggers = off: all rows are there, and all guards");
	local $ENV{PGOPTIONS} = '-c event_triggers=off';
	guards_without_event_triggers($node, $database, "$setting, event_triggers = off");
}

# The library does alone what it does with event triggers.
sub guards_without_event_triggers
{
	my ($node, $database, $title) = @_;
	my $before = contents($node, $database);

	answers($node, $database, 23001, @refused);
	is(contents($node, $database), $before, "$title: all rows are there, and all guards");
	is(open_holes($node, $database), '', "$title: guard_report knows no way around");
	is( $node->safe_psql($database, q{SELECT DISTINCT state || ': ' || detail FROM immutable.guard_report()
WHERE hole IN ('disable trigger', 'detach partition', 'drop')}),
		'closed: the preloaded library refuses it', "$title: guard_report says who refuses");
	answers($node, $database, '00000', @allowed,
		'CREATE TABLE data.parted_2 PARTITION OF data.parted FOR VALUES IN (2)',
		'CREATE TABLE data.parted_3 PARTITION OF data.parted FOR VALUES IN (3) PARTITION BY LIST (what)',
		q{CREATE TABLE data.parted_3_x PARTITION OF data.parted_3 FOR VALUES IN ('x')},
		'CREATE TABLE data.parted_4 (id integer, what text) PARTITION BY LIST (what)',
		q{CREATE TABLE data.parted_4_x PARTITION OF data.parted_4 FOR VALUES IN ('x')},
		'ALTER TABLE data.parted ATTACH PARTITION data.parted_4 FOR VALUES IN (4)',
		'CREATE SCHEMA more CREATE TABLE parted_5 PARTITION OF data.parted FOR VALUES IN (5)',
		q{DO $$ BEGIN CREATE TABLE data.parted_6 PARTITION OF data.parted FOR VALUES IN (6); END $$});
	answers($node, $database, '42809', 'CREATE UNLOGGED TABLE data.parted_7 PARTITION OF data.parted FOR VALUES IN (7)');
	$node->safe_psql($database, q{INSERT INTO data.parted SELECT n, 'x' FROM generate_series(2, 6) n});
	answers($node, $database, 23001, map { ("UPDATE $_ SET what = 'forged'", "DELETE FROM $_", "TRUNCATE $_") }
		map({ "data.parted_$_" } '2', '3', '3_x', '4', '4_x', '6'), 'more.parted_5');
	is( $node->safe_psql($database, 'SELECT count(*), count(*) FILTER (WHERE armed) FROM immutable.protected_tables'),
		'13|13', "$title: new partitions are armed");
}

# Without preload a superuser gets through, and guard_report says so.
sub is_open
{
	my ($node, $database) = @_;
	my $before = contents($node, $database);
	my @triggers = map { "ALTER EVENT TRIGGER $_" }
	  map { ("$_ DISABLE", "$_ RENAME TO gone", "gone RENAME TO $_", "$_ ENABLE ALWAYS") } @event_triggers;

	is($node->safe_psql($database, preloaded()), '', 'not preloaded');
	is(open_holes($node, $database), 'catalog update, event triggers', 'not preloaded: guard_report says what is open');
	answers($node, $database, 23001, @refused);
	answers($node, $database, '00000', @triggers, in_vain(catalog_writes($node), q{UPDATE pg_trigger SET tgenabled = 'D'}));
	is(contents($node, $database), $before, 'not preloaded: all is as it was');

	# event triggers that are off let DDL through; the row guards still refuse
	my $everything = 'catalog update, change of meaning, detach partition, disable trigger, drop, drop trigger,'
	  . ' event triggers, inheritance, replace trigger, rewrite, rule';
	$node->safe_psql($database, 'ALTER EVENT TRIGGER immutable_guard_ddl_start DISABLE');
	is(open_holes($node, $database), $everything, 'event trigger disabled: guard_report says what is open');
	answers($node, $database, 23001, 'DELETE FROM data.plain');
	$node->safe_psql($database, 'ALTER EVENT TRIGGER immutable_guard_ddl_start ENABLE ALWAYS');
	is(open_holes($node, $database), 'catalog update, event triggers', 'event trigger enabled: closed again');

	# a guard that is off is reported as such
	is( $node->safe_psql($database, q{BEGIN; UPDATE pg_trigger SET tgenabled = 'D' WHERE tgrelid = 'data.ledger'::regclass;
SELECT string_agg(hole, ', ' ORDER BY hole) FROM immutable.guard_report('data.ledger') WHERE state = 'open' AND hole <> 'owner'; ROLLBACK}),
		'catalog update, event triggers, forged row, guards, inheritance, logical replication,'
		  . ' on conflict, merge, cascade, session_replication_role, truncate, truncate a partition',
		'a guard is disabled: guard_report says what is open');
	return if $major < 17;
	is( $node->safe_psql($database, "SET event_triggers = off; " . holes()), $everything, 'event_triggers = off: guard_report says what is open');
}

# Each statement ends with this SQLSTATE.
sub answers
{
	my ($node, $database, $expected, @statements) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($stdout, $stderr);

	# a statement that stands behind another one counts for both; \o is for results
	$node->psql($database, join('', "\\o /dev/null\n", map { "$_;\n\\echo :SQLSTATE\nRESET ROLE;\n" } @statements),
		stdout => \$stdout, stderr => \$stderr, on_error_stop => 0);
	my @states = split /\n/, $stdout;
	is(scalar(@states), scalar(@statements), 'every statement is answered') || diag $stderr;
	is($states[$_] // 'none', $expected, $node->name . " $database: $statements[$_]") for 0 .. $#statements;
}

# These statements, and what undoes them.
sub in_vain
{
	return ('BEGIN', @_, 'ROLLBACK');
}

# The setting that preloads the library.
sub preloaded
{
	return 'SELECT immutable._preloaded_by()';
}

# What guard_report calls open, but for what an owner may do.
sub open_holes
{
	my ($node, $database) = @_;
	return $node->safe_psql($database, holes());
}

sub holes
{
	return q{SELECT coalesce(string_agg(DISTINCT hole, ', ' ORDER BY hole), '') FROM immutable.guard_report() WHERE state = 'open' AND hole <> 'owner'};
}

# The rows of all protected tables, the columns, and the state of the guards.
sub contents
{
	my ($node, $database) = @_;

	return $node->safe_psql($database, <<'SQL');
SELECT md5(string_agg(t::text, '|' ORDER BY t)) FROM data.plain t;
SELECT md5(string_agg(t::text, '|' ORDER BY t)) FROM data.parted t;
SELECT md5(string_agg(t::text, '|' ORDER BY t.position)) FROM data.ledger t;
SELECT md5(string_agg(t::text, '|' ORDER BY t)) FROM (SELECT tgrelid::regclass, tgname, tgtype, tgenabled, tgfoid FROM pg_trigger) t;
SELECT relation, armed FROM immutable.protected_tables ORDER BY relation;
SELECT count(*) FROM pg_class;
SQL
}
