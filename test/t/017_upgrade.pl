# ALTER EXTENSION UPDATE, from every version that was released to the current
# one and on to one that does not exist yet: at each stop the extension is used,
# and its objects are those that a new database has. The installation is a copy
# that the test may add scripts to.

use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use File::Basename;
use File::Path qw(make_path);

# every member of the extension, and all that catalogs say of it
my $members = <<'SQL';
SET search_path = pg_catalog, pg_temp;
WITH extension AS (SELECT * FROM pg_extension WHERE extname = 'immutable_events'),
member AS (
	SELECT classid, objid, type, identity, type || ' ' || identity AS name
	FROM extension e, pg_depend, pg_identify_object(classid, objid, 0)
	WHERE refclassid = 'pg_extension'::regclass AND refobjid = e.oid AND deptype = 'e'),
relation AS (
	SELECT c.*, name FROM member JOIN pg_class c ON classid = 'pg_class'::regclass AND objid = c.oid
	UNION ALL
	SELECT c.*, name FROM member JOIN pg_type t ON classid = 'pg_type'::regclass AND objid = t.oid
	JOIN pg_class c ON typrelid = c.oid AND c.relkind = 'c'),
col AS (SELECT a.*, name FROM relation r JOIN pg_attribute a ON attrelid = r.oid AND attnum > 0 AND NOT attisdropped)
SELECT concat_ws(' : ', name, 'comment', obj_description(objid, classid::regclass::name)) AS line FROM member
UNION ALL
SELECT concat_ws(' : ', name, 'first privileges', objsubid, privtype, initprivs)
FROM member m JOIN pg_init_privs p ON p.classoid = m.classid AND p.objoid = m.objid
UNION ALL
SELECT concat_ws(' : ', name, prokind, pg_get_userbyid(proowner), proacl, prosupport, provariadic::regtype,
	CASE prokind WHEN 'a' THEN (SELECT to_jsonb(a) - 'aggfnoid' FROM pg_aggregate a WHERE aggfnoid = p.oid)::text
	ELSE pg_get_functiondef(p.oid) END)
FROM member JOIN pg_proc p ON classid = 'pg_proc'::regclass AND objid = p.oid
UNION ALL
SELECT concat_ws(' : ', name, nspacl, pg_get_userbyid(nspowner))
FROM member JOIN pg_namespace n ON classid = 'pg_namespace'::regclass AND objid = n.oid
UNION ALL
SELECT concat_ws(' : ', name, 'type', typtype, typlen, typbyval, typcategory, typalign, typstorage, typacl,
	typbasetype::regtype, typnotnull, typdefault, typcollation::regcollation,
	(SELECT string_agg(enumlabel, ',' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = t.oid))
FROM member JOIN pg_type t ON classid = 'pg_type'::regclass AND objid = t.oid
UNION ALL
SELECT concat_ws(' : ', name, relkind, relpersistence, relrowsecurity, relforcerowsecurity, relreplident, relacl,
	reloptions, pg_get_userbyid(relowner), CASE WHEN relkind = 'v' THEN pg_get_viewdef(oid) END)
FROM relation
UNION ALL
SELECT concat_ws(' : ', name, 'column', row_number() OVER (PARTITION BY attrelid ORDER BY attnum), attname,
	format_type(atttypid, atttypmod), attnotnull, attstorage, attcompression, attcollation::regcollation,
	attidentity, attgenerated, attacl,
	-- some servers keep a number of their own there
	(SELECT array_agg(o ORDER BY o) FROM unnest(attoptions) o WHERE o NOT LIKE 'pg\_attver=%'), col_description(attrelid, attnum), pg_get_expr(adbin, adrelid))
FROM col LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
UNION ALL
SELECT concat_ws(' : ', name, pg_get_indexdef(indexrelid), indisprimary, indisreplident, indimmediate)
FROM relation r JOIN pg_index ON indrelid = r.oid
UNION ALL
SELECT concat_ws(' : ', name, conname, pg_get_constraintdef(c.oid)) FROM relation r JOIN pg_constraint c ON conrelid = r.oid
UNION ALL
SELECT concat_ws(' : ', name, pg_get_triggerdef(t.oid), tgenabled) FROM relation r JOIN pg_trigger t ON tgrelid = r.oid
UNION ALL
SELECT concat_ws(' : ', name, polname, polcmd, pg_get_expr(polqual, polrelid)) FROM relation r JOIN pg_policy ON polrelid = r.oid
UNION ALL
SELECT concat_ws(' : ', name, rulename, ev_enabled) FROM relation r JOIN pg_rewrite ON ev_class = r.oid
UNION ALL
SELECT concat_ws(' : ', name, evtevent, evtenabled, evttags, evtfoid::regprocedure, pg_get_userbyid(evtowner))
FROM member JOIN pg_event_trigger t ON classid = 'pg_event_trigger'::regclass AND objid = t.oid
UNION ALL
SELECT concat_ws(' : ', name, oprcode, oprcom::regoperator, oprnegate::regoperator, oprrest, oprjoin, oprcanmerge, oprcanhash)
FROM member JOIN pg_operator o ON classid = 'pg_operator'::regclass AND objid = o.oid
UNION ALL
SELECT concat_ws(' : ', name, castfunc::regprocedure, castcontext, castmethod)
FROM member JOIN pg_cast c ON classid = 'pg_cast'::regclass AND objid = c.oid
UNION ALL
SELECT concat_ws(' : ', 'dumped', t.oid::regclass, t.condition) FROM extension, unnest(extconfig, extcondition) t(oid, condition)
UNION ALL
SELECT concat_ws(' : ', 'extension', extversion, extnamespace::regnamespace, extrelocatable) FROM extension
ORDER BY 1
SQL

my $node = PostgreSQL::Test::Cluster->new('source');
my ($scripts, $control, $current) = own_installation();
my $next = '999.0.0';
my @versions = versions();

$node = PostgreSQL::Test::Cluster->new('upgraded', install_path => dirname($node->{own}));
$node->init;
$node->append_conf('postgresql.conf', "fsync = off\n");
$node->start;
is($node->safe_psql('postgres', "SELECT setting FROM pg_config WHERE name = 'SHAREDIR'"), dirname($scripts), 'the installation is the copy');

# what the comparison is made of: it sees what a script forgets
write_next('COMMENT ON FUNCTION immutable.horizon(regclass) IS \'changed\';', '');
walk('forgetful', $current, $next, 0);
write_next('REVOKE SELECT ON immutable.logs FROM PUBLIC;', '');
walk('generous', $current, $next, 0);

# a version to come: what a real one does to registries, functions and rights
my $changes = <<'SQL';
ALTER TABLE immutable.consumers ADD COLUMN note text;
COMMENT ON COLUMN immutable.consumers.note IS 'A column that came later.';
CREATE FUNCTION immutable._later() RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS 'SELECT 999';
COMMENT ON FUNCTION immutable._later() IS 'A function that came later.';
REVOKE EXECUTE ON FUNCTION immutable._later() FROM PUBLIC;
CREATE TABLE immutable.later (relation regclass PRIMARY KEY);
SELECT pg_catalog.pg_extension_config_dump('immutable.later', '');
COMMENT ON TABLE immutable.later IS 'A registry that came later.';
CREATE OR REPLACE FUNCTION immutable.incarnation() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS 'SELECT ''later''::text';
SQL
write_next($changes, $changes);
walk("from $_", $_, $next, 1) for @versions;
is($node->safe_psql('from ' . $versions[0], 'SELECT immutable._later()'), 999, 'what came later works');

$node->stop;
done_testing();

# A copy of the server's files: programs find the others beside themselves.
sub own_installation
{
	my ($bin, $lib, $share) = map { $node->config_data($_) } '--bindir', '--pkglibdir', '--sharedir';
	my $own = PostgreSQL::Test::Utils::tempdir_short() . '/own';
	my $root = $bin;

	for my $path ($bin, $lib, $share)
	{
		make_path($own . dirname($path));
		system('cp', '-a', $path, $own . dirname($path)) == 0 or die "cannot copy $path";
	}
	$node->{own} = $own . $bin;
	my ($file) = "$own$share/extension/immutable_events.control";
	my ($version) = slurp_file($file) =~ /default_version\s*=\s*'(.*)'/;
	return ("$own$share/extension", $file, $version);
}

# The versions that have a whole script, the current one last.
sub versions
{
	my %found = map { /--([0-9.]+)\.sql$/ && !/--.*--/ ? ($1 => 1) : () } glob("$scripts/immutable_events--*.sql");

	delete $found{$current} or die "no script of $current";
	return ((sort { number($a) <=> number($b) } keys %found), $current);
}

sub number { my $n = 0; $n = $n * 1000 + $_ for split /\./, shift; return $n }

# The next version's scripts: the current one with $whole after it, and $update.
sub write_next
{
	my ($whole, $update) = @_;
	my $script = "$scripts/immutable_events--$next.sql";

	unlink $script, "$scripts/immutable_events--$current--$next.sql";
	append_to_file($script, slurp_file("$scripts/immutable_events--$current.sql") . "\n$whole\n");
	append_to_file("$scripts/immutable_events--$current--$next.sql", "$update\n");
}

# A database with the extension from one version to another, by each between.
sub walk
{
	my ($db, $from, $to, $same) = @_;
	my @stops = grep { number($_) > number($from) && number($_) < number($to) } @versions;

	$node->safe_psql('postgres', qq{CREATE DATABASE "$db"});
	$node->safe_psql($db, "CREATE EXTENSION immutable_events VERSION '$from'");
	begin($db);
	for my $version (@stops, $to)
	{
		$node->safe_psql($db, "ALTER EXTENSION immutable_events UPDATE TO '$version'");
		goes_on($db, "$db, at $version") if $same;
		my $fresh = "fresh $db $version";
		$node->safe_psql('postgres', qq{CREATE DATABASE "$fresh"});
		$node->safe_psql($fresh, "CREATE EXTENSION immutable_events VERSION '$version'");
		my ($upgraded, $new) = map { $node->safe_psql($_, $members) } $db, $fresh;
		cmp_ok(length($new), '>', 10000, "$fresh: there are members");
		if ($same) { is($upgraded, $new, "$db, at $version: the catalogs are those of a new database") }
		else { isnt($upgraded, $new, "$db: the catalogs differ") }
	}
}

# Something of each part, before an upgrade.
sub begin
{
	my ($db) = @_;

	$node->safe_psql($db, <<'SQL');
CREATE TABLE audit (what text);
INSERT INTO audit VALUES ('first');
SELECT immutable.protect('audit');
SELECT immutable.create_log('ledger');
SELECT immutable.append('ledger', 's', 'happened', '{"amount": 1}');
SELECT immutable.create_consumer('mailer', 'ledger');
CREATE FUNCTION total(state bigint, event immutable.event) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT state + (event.data->>'amount')::bigint $$;
SQL
}

# It holds what it held, refuses what it refused, and takes what is new.
sub goes_on
{
	my ($db, $title) = @_;
	my ($stdout, $stderr);

	is($node->safe_psql($db, 'SELECT count(*) FROM immutable.protected_tables WHERE armed'),
		$node->safe_psql($db, 'SELECT count(*) FROM immutable.protected_tables'), "$title: all guards are armed");
	$node->psql($db, "\\set VERBOSITY sqlstate\nDELETE FROM audit;\nDELETE FROM ledger;\nDROP TRIGGER immutable_guard_row ON audit;",
		stderr => \$stderr, on_error_stop => 0);
	is(scalar(() = $stderr =~ /ERROR:\s+23001/g), 3, "$title: guards refuse");
	my $version = $node->safe_psql($db, q{SELECT immutable.stream_version('ledger', 's')});
	is($node->safe_psql($db, qq{SELECT version FROM immutable.append('ledger', 's', 'happened', '{"amount": 1}', expected_version => $version)}),
		$version + 1, "$title: append goes on");
	is($node->safe_psql($db, q{SELECT immutable.replay('ledger', 's', 0::bigint, 'total')}), $version + 1, "$title: replay");
	is($node->safe_psql($db, q{BEGIN; SELECT max(version), immutable.ack('mailer', max(position)) FROM immutable.poll('mailer'); COMMIT}),
		($version + 1) . '|', "$title: poll and ack");
}
