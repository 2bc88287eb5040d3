# Thousands of random commands, by the owner, against protected tables of every
# kind: whatever he tries, in transactions, functions and cascades, each original
# row stays as it was and each guard in force, and the server never stumbles.
# GUARD_FUZZ_SEED and GUARD_FUZZ_COMMANDS choose another run.

use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{GUARD_FUZZ_SEED} // 20261123;
my $commands = $ENV{GUARD_FUZZ_COMMANDS} // 4000;
my $batch = 400;		# commands between two looks at the tables
srand($seed);
note "seed $seed, $commands commands";

my $node = PostgreSQL::Test::Cluster->new('fuzz');
$node->init;
$node->append_conf('postgresql.conf', "fsync = off\nautovacuum = off\n");
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION immutable_events;
CREATE ROLE fuzz_other;
CREATE ROLE fuzz_owner LOGIN IN ROLE fuzz_other;
GRANT CREATE ON DATABASE postgres TO fuzz_owner;
GRANT SET ON PARAMETER session_replication_role TO fuzz_owner;
ALTER ROLE fuzz_owner SET search_path = vault, vault_x, annex, immutable;
ALTER ROLE fuzz_owner SET client_min_messages = error;
CREATE SCHEMA vault AUTHORIZATION fuzz_owner;
SQL
is(as_owner(<<'SQL'), '', 'the owner makes his tables');
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TYPE pair AS (a integer, b integer);
CREATE TYPE frame AS (id integer, word text);
CREATE DOMAIN num AS integer CHECK (VALUE > 0);
CREATE COLLATION coll FROM "C";
CREATE TABLE shape (a integer, b integer);
CREATE SEQUENCE word_seq;
CREATE FUNCTION twice(integer) RETURNS integer IMMUTABLE LANGUAGE sql RETURN $1 * 2;
CREATE TABLE plain (id integer PRIMARY KEY, word text COLLATE coll DEFAULT nextval('word_seq')::text, felt mood,
	duo pair, form shape, many num[], calc integer GENERATED ALWAYS AS (twice(id)) STORED);
INSERT INTO plain (id, word, felt, duo, form, many)
SELECT n, 'w' || n, 'good', ROW(n, n)::pair, ROW(n, n)::shape, ARRAY[n] FROM generate_series(1, 20) n;
CREATE TABLE master (id integer PRIMARY KEY);
INSERT INTO master SELECT generate_series(1, 5);
CREATE TABLE detail (id integer PRIMARY KEY, word text, master integer REFERENCES master ON DELETE CASCADE ON UPDATE CASCADE);
INSERT INTO detail SELECT n, 'd' || n, n FROM generate_series(1, 5) n;
CREATE TABLE kin (id integer, word text);
CREATE TABLE kid (more text) INHERITS (kin);
INSERT INTO kin VALUES (1, 'kin');
INSERT INTO kid VALUES (2, 'kid', 'more');
CREATE TABLE typed OF frame;
INSERT INTO typed VALUES (1, 'typed');
CREATE TABLE parted (id integer, word text) PARTITION BY LIST (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES IN (2) PARTITION BY LIST (word);
CREATE TABLE parted_2_a PARTITION OF parted_2 FOR VALUES IN ('a');
INSERT INTO parted VALUES (1, 'one'), (2, 'a');
SELECT immutable.protect(t) FROM unnest('{plain, detail, kin, typed, parted}'::regclass[]) t;
SELECT immutable.create_log('ledger'), immutable.create_log('streams', partitions => 2);
SELECT immutable.append(log, 'o' || n % 5, 'happened', jsonb_build_object('n', n))
FROM unnest('{ledger, streams}'::regclass[]) log, generate_series(1, 20) n;
SQL
$node->safe_psql('postgres', <<'SQL');
CREATE SCHEMA evidence;
-- original rows by what new rows cannot have; columns that are NULL do not count
CREATE TABLE evidence.tables AS
SELECT c.oid, relname, 'SELECT md5(string_agg(r, ''|'' ORDER BY r)) FROM (SELECT jsonb_strip_nulls(to_jsonb(t))::text r FROM %s t WHERE '
	|| CASE WHEN relname ~ 'ledger|streams' THEN 'stream ~ ''^o'' AND version <= 4) s' ELSE 'id < 1000) s' END AS query,
	NULL::text AS rows, (SELECT inhparent FROM pg_inherits WHERE inhrelid = c.oid) AS parent
FROM pg_class c WHERE c.oid IN (SELECT relation FROM immutable.protected_tables) AND relnamespace = 'vault'::regnamespace;
CREATE FUNCTION evidence.rows(query text, relid oid) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE format(query, relid::regclass) INTO result;
	RETURN coalesce(result, 'none');
END
$$;
UPDATE evidence.tables SET rows = evidence.rows(query, oid);
CREATE TABLE evidence.code AS SELECT p.*, md5(p::text) FROM pg_proc p WHERE pronamespace = 'immutable'::regnamespace;
-- what is wrong; no row when all is well
CREATE FUNCTION evidence.damage() RETURNS SETOF text LANGUAGE sql AS $$
SELECT relname || ' is gone' FROM evidence.tables WHERE oid NOT IN (SELECT oid FROM pg_class)
UNION ALL
SELECT relname || ' is not protected' FROM evidence.tables
WHERE oid NOT IN (SELECT relation FROM immutable.protected_tables)
UNION ALL
SELECT relname || ' has other rows' FROM evidence.tables
WHERE oid IN (SELECT oid FROM pg_class) AND rows <> evidence.rows(query, oid)
UNION ALL
SELECT relname || ' has another parent' FROM evidence.tables t
WHERE t.parent IS DISTINCT FROM (SELECT inhparent FROM pg_inherits WHERE inhrelid = t.oid AND NOT inhdetachpending)
UNION ALL
SELECT relation || ': ' || problem FROM immutable.protected_tables WHERE NOT armed
UNION ALL
SELECT inhrelid::regclass || ' is not guarded' FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
WHERE relkind IN ('r', 'p', 'f') AND inhparent IN (SELECT relation FROM immutable.protected_tables)
	AND immutable._guard_problem(inhrelid) IS NOT NULL
UNION ALL
SELECT relation || ' has rules' FROM immutable.protected_tables JOIN pg_rewrite ON ev_class = relation
UNION ALL
SELECT relation || ' may be lost' FROM immutable.protected_tables JOIN pg_class c ON c.oid = relation
WHERE relpersistence <> 'p'
UNION ALL
SELECT 'event triggers' WHERE (SELECT count(*) FROM pg_event_trigger
	WHERE evtenabled = 'A' AND evtname LIKE 'immutable_guard_%') <> 3
UNION ALL
SELECT 'function ' || proname FROM (SELECT oid, proname, md5 FROM evidence.code
	EXCEPT SELECT p.oid, p.proname, md5(p::text) FROM pg_proc p) f
$$;
SQL
is($node->safe_psql('postgres', 'SELECT count(*), count(*) FILTER (WHERE rows <> \'none\') FROM evidence.tables'),
	'13|13', 'thirteen tables, all with rows');
is(damage(), '', 'nothing is wrong before');

my (%seen, %answers);

# The grammar: how a kind of command ends at least once in a run, and how it is
# written; with "-" it may end as it likes. Words in brackets are drawn below.
my @forms = rules('ALTER TABLE <table> ', <<'GRAMMAR');
23001 DROP COLUMN <column>
23001 DROP COLUMN IF EXISTS <column> CASCADE
23001 ALTER COLUMN word TYPE varchar
23001 ALTER COLUMN word TYPE text USING 'forged'
23001 ALTER COLUMN id TYPE bigint
23001 ADD COLUMN <new> text DEFAULT 'forged'
23001 ADD COLUMN <new> double precision DEFAULT random()
23001 ADD COLUMN <new> serial
23001 ADD COLUMN <new> integer GENERATED ALWAYS AS (1) STORED
23001 ADD COLUMN <new> integer GENERATED BY DEFAULT AS IDENTITY
23001 ADD COLUMN <new> given
23001 DISABLE TRIGGER ALL
23001 DISABLE TRIGGER USER
23001 DISABLE TRIGGER <guard>
23001 ENABLE TRIGGER ALL
23001 ENABLE TRIGGER <guard>
23001 ENABLE REPLICA TRIGGER <guard>
23001 SET UNLOGGED
23001 SET ACCESS METHOD heap
23001 DISABLE RULE nothing
23001 NOT OF
23001 OF pair
23001 INHERIT <free>
23001 NO INHERIT <free>
00000 ADD COLUMN <new> integer
00000 ADD <new> mood
00000 ADD COLUMN IF NOT EXISTS <new> text COLLATE coll
00000 ALTER word SET STATISTICS 20
00000 ALTER word SET STORAGE EXTERNAL
00000 ALTER word SET (n_distinct = 5)
00000 ALTER word SET COMPRESSION pglz
00000 ALTER word SET DEFAULT 'w'
00000 ALTER word DROP DEFAULT
00000 ALTER word DROP NOT NULL
00000 ALTER id SET NOT NULL
00000 SET (autovacuum_enabled = off)
00000 RESET (fillfactor)
00000 REPLICA IDENTITY FULL
00000 ADD CONSTRAINT <new> CHECK (true) NOT VALID
00000 DROP CONSTRAINT IF EXISTS <new>
00000 ENABLE ROW LEVEL SECURITY
00000 DISABLE ROW LEVEL SECURITY
00000 FORCE ROW LEVEL SECURITY
00000 NO FORCE ROW LEVEL SECURITY
00000 OWNER TO fuzz_other
00000 OWNER TO fuzz_owner
00000 SET TABLESPACE pg_default
00000 SET WITHOUT CLUSTER
00000 SET LOGGED
00000 ENABLE ALWAYS TRIGGER <guard>
00000 ENABLE ALWAYS TRIGGER mine
- DISABLE TRIGGER mine
- VALIDATE CONSTRAINT <new>
GRAMMAR
my @commands = rules('', <<'GRAMMAR');
23001 UPDATE <rows> SET word = 'forged'
23001 UPDATE ONLY <rows> SET id = id + 1 WHERE id = 1
23001 UPDATE <log> SET data = '{}', version = version + 1
23001 DELETE FROM <rows>
23001 DELETE FROM ONLY <log> WHERE version = 1
23001 DELETE FROM <rows> USING master m WHERE m.id = 1
23001 TRUNCATE <rows>
23001 TRUNCATE <log> RESTART IDENTITY CASCADE
23001 TRUNCATE <free>, <rows> CASCADE
23001 TRUNCATE master CASCADE
23001 DELETE FROM master
23001 UPDATE master SET id = id + 10
23001 INSERT INTO plain (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET word = 'forged'
23001 MERGE INTO <rows> USING (VALUES (1)) v (n) ON id = n WHEN MATCHED THEN UPDATE SET word = 'forged'
23001 MERGE INTO <rows> USING (VALUES (1)) v (n) ON id = n WHEN MATCHED THEN DELETE
23001 WITH gone AS (DELETE FROM <rows> RETURNING id) INSERT INTO <free> (id) SELECT * FROM gone
23001 INSERT INTO ledger SELECT * FROM ledger
23001 INSERT INTO streams_p0 SELECT * FROM streams_p1
23001 DROP TABLE <table>
23001 DROP TABLE IF EXISTS nothing, <table> CASCADE
23001 DROP TABLE <free>, <table>
23001 DROP SCHEMA vault CASCADE
23001 DROP TYPE mood CASCADE
23001 DROP TYPE pair CASCADE
23001 DROP TYPE frame CASCADE
23001 DROP DOMAIN num CASCADE
23001 DROP COLLATION coll CASCADE
23001 DROP FUNCTION twice CASCADE
23001 DROP TABLE shape CASCADE
23001 DROP SEQUENCE ledger_position_seq CASCADE
23001 DROP OWNED BY fuzz_owner CASCADE
23001 DROP OWNED BY fuzz_other CASCADE
23001 DROP EXTENSION immutable_events CASCADE
23001 ALTER SEQUENCE ledger_position_seq RESTART
23001 ALTER SEQUENCE IF EXISTS streams_position_seq OWNED BY NONE
23001 ALTER SEQUENCE streams_position_seq INCREMENT BY -1
23001 ALTER SEQUENCE ledger_position_seq RENAME TO <new>
23001 ALTER TABLE streams_position_seq RENAME TO <new>
23001 ALTER TABLE <log> ALTER position DROP DEFAULT
23001 ALTER TABLE <log> ALTER position SET DEFAULT 1
23001 ALTER TABLE <log> ALTER data DROP NOT NULL
23001 ALTER TABLE ledger DROP CONSTRAINT ledger_pkey CASCADE
23001 ALTER TABLE <log> DROP CONSTRAINT IF EXISTS nothing
23001 ALTER TABLE <log> ADD COLUMN IF NOT EXISTS version bigint DEFAULT 1, DISABLE TRIGGER USER
23001 ALTER TABLE <table> RENAME COLUMN <column> TO <new>
23001 ALTER TABLE IF EXISTS ONLY <rows> RENAME word TO <new>
23001 ALTER TABLE <free> INHERIT <rows>
23001 ALTER TABLE kid NO INHERIT kin
23001 ALTER TABLE parted DETACH PARTITION parted_1
23001 ALTER TABLE parted DETACH PARTITION parted_2 CONCURRENTLY
23001 ALTER TABLE parted DETACH PARTITION parted_1 FINALIZE
23001 ALTER TABLE parted_2 DETACH PARTITION parted_2_a
23001 ALTER TABLE streams DETACH PARTITION streams_p0
23001 CREATE TABLE <t> () INHERITS (<rows>)
23001 CREATE TABLE IF NOT EXISTS <t> (more text) INHERITS (<free>, <rows>)
23001 CREATE SCHEMA <s> CREATE TABLE one () INHERITS (vault.plain)
23001 CREATE RULE <new> AS ON INSERT TO <table> DO INSTEAD NOTHING
23001 CREATE OR REPLACE RULE <new> AS ON DELETE TO <table> DO ALSO SELECT 1
23001 CREATE OR REPLACE TRIGGER <guard> BEFORE UPDATE ON <table> FOR EACH ROW EXECUTE FUNCTION noop()
23001 CREATE OR REPLACE TRIGGER <guard> AFTER UPDATE OR DELETE ON <table> EXECUTE FUNCTION _guard()
23001 DROP TRIGGER <guard> ON <table>
23001 DROP TRIGGER IF EXISTS <guard> ON <table> CASCADE
23001 ALTER TRIGGER <guard> ON <table> RENAME TO <new>
23001 ALTER TRIGGER <guard> ON <table> DEPENDS ON EXTENSION plpgsql
23001 ALTER TYPE mood RENAME VALUE 'good' TO 'forged'
23001 ALTER TYPE pair DROP ATTRIBUTE b
23001 ALTER TYPE pair RENAME ATTRIBUTE a TO z CASCADE
23001 ALTER TYPE pair ALTER ATTRIBUTE a TYPE text
23001 ALTER TYPE frame ADD ATTRIBUTE <new> text CASCADE, DROP ATTRIBUTE word CASCADE
23001 ALTER TYPE frame RENAME ATTRIBUTE word TO z CASCADE
23001 ALTER TABLE shape DROP COLUMN b
23001 ALTER TABLE shape ADD COLUMN <new> integer, DROP COLUMN a CASCADE
23001 ALTER TABLE shape RENAME a TO z
23001 ALTER TYPE immutable.event ADD ATTRIBUTE forged text CASCADE
23001 ALTER SCHEMA immutable RENAME TO mutable
23001 ALTER FUNCTION immutable._guard() SECURITY DEFINER
23001 ALTER EXTENSION immutable_events DROP FUNCTION immutable._guard()
23001 CREATE OR REPLACE FUNCTION immutable._guard() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'
23001 CREATE FUNCTION immutable.forged() RETURNS integer LANGUAGE sql RETURN 1
42939 CREATE TRIGGER <guard> BEFORE UPDATE ON <free> FOR EACH ROW EXECUTE FUNCTION noop()
42501 SELECT immutable.unprotect('<rows>', true)
42501 SELECT immutable.drop_log('<log>', true)
42501 UPDATE pg_trigger SET tgenabled = 'D'
42501 DELETE FROM pg_depend
42501 ALTER EVENT TRIGGER immutable_guard_ddl_start DISABLE
42501 INSERT INTO immutable.guard_changes (relation) VALUES ('forged')
42501 TRUNCATE immutable.guard_changes
00000 INSERT INTO <rows> (id, word) VALUES (<n>, 'new')
00000 INSERT INTO <rows> (id, word) SELECT <n>, 'a'
00000 SELECT immutable.append('<log>', 's' || <n>, 'went on')
00000 SELECT immutable.append('<log>', 'o1', 'went on')
00000 SELECT count(*) FROM <table>
00000 SELECT FROM <table> FOR UPDATE
00000 ALTER TABLE <renamed>
00000 ALTER TABLE <moved>
00000 ALTER SCHEMA <schema>
00000 CREATE TABLE <t> (id integer, word text)
00000 CREATE TABLE <t> PARTITION OF parted FOR VALUES IN (<n>)
00000 CREATE TABLE <t> PARTITION OF parted FOR VALUES IN (<n>) PARTITION BY LIST (word)
00000 CREATE TABLE <t> PARTITION OF parted_2 FOR VALUES IN ('<n>')
00000 ALTER TABLE parted ATTACH PARTITION fresh FOR VALUES IN (<n>)
- ALTER TABLE parted ATTACH PARTITION <t> FOR VALUES IN (<n>)
00000 CREATE SCHEMA <s> CREATE TABLE one PARTITION OF vault.parted FOR VALUES IN (<n>)
00000 CREATE SCHEMA <s> CREATE TABLE one (id integer) CREATE INDEX ON one (id) CREATE SEQUENCE two CREATE VIEW three AS SELECT 1 AS x
00000 CREATE TABLE <t> AS SELECT * FROM <rows>
00000 CREATE TABLE <t> (LIKE <rows> INCLUDING ALL)
00000 CREATE OR REPLACE VIEW v AS SELECT 1 AS x FROM <rows>
00000 CREATE TRIGGER mine AFTER INSERT OR UPDATE ON <rows> FOR EACH ROW EXECUTE FUNCTION noop()
00000 DROP TRIGGER IF EXISTS mine ON <rows>
00000 CREATE INDEX <new> ON <rows> (id)
00000 CREATE INDEX ON <log> (type)
00000 REINDEX TABLE <table>
00000 ANALYZE <rows>
00000 VACUUM FULL <rows>
00000 CLUSTER plain USING plain_pkey
00000 COMMENT ON TABLE <table> IS 'seen'
00000 CREATE POLICY <new> ON <table> USING (true)
00000 GRANT ALL ON <table> TO fuzz_other
00000 REVOKE ALL ON <table> FROM fuzz_other
00000 SELECT immutable.protect('<t>')
00000 SELECT setval('ledger_position_seq', <n>)
00000 ALTER TYPE mood ADD VALUE IF NOT EXISTS '<new>'
00000 ALTER TYPE pair ADD ATTRIBUTE <new> integer
00000 ALTER TYPE frame ADD ATTRIBUTE <new> integer CASCADE
00000 ALTER DOMAIN num SET DEFAULT 1
00000 ALTER DOMAIN num ADD CONSTRAINT <new> CHECK (VALUE < 1000000) NOT VALID
00000 CREATE OR REPLACE FUNCTION twice(integer) RETURNS integer IMMUTABLE LANGUAGE sql RETURN $1 * <n>
00000 REASSIGN OWNED BY fuzz_other TO fuzz_owner
00000 SET session_replication_role = replica
00000 SET session_replication_role = origin
00000 SET immutable.import = on
00000 SET immutable.import = off
00000 SET ROLE fuzz_other
00000 RESET ROLE
00000 RESET ROLE
- DROP TABLE <t> CASCADE
- DROP TABLE <free> CASCADE
- DROP SCHEMA <s> CASCADE
- DROP SCHEMA annex CASCADE
- DROP INDEX <new>
- DROP VIEW v CASCADE
- ALTER TABLE ONLY <free> DROP COLUMN word
- ALTER TABLE <free> ADD COLUMN <new> text DEFAULT 'x', ALTER word TYPE varchar
- ALTER TABLE <free> RENAME word TO <new>
- ALTER TABLE <t> INHERIT <free>
- ALTER TABLE <free> INHERIT <t>
- ALTER TABLE <t> NO INHERIT <free>
- CREATE TABLE <t> () INHERITS (<free>)
- CREATE TEMP TABLE detail (id integer, word text)
- ALTER TABLE <t> RENAME TO <free>
- CREATE TRIGGER mine BEFORE INSERT ON <rows> FOR EACH ROW EXECUTE FUNCTION noop()
- CREATE SCHEMA <s> CREATE TABLE one (id integer) CREATE TRIGGER <guard> BEFORE UPDATE ON one FOR EACH ROW EXECUTE FUNCTION vault.noop()
- CREATE SCHEMA <s> CREATE TABLE one PARTITION OF vault.parted FOR VALUES IN (<n>) CREATE TRIGGER <guard> BEFORE UPDATE ON one FOR EACH ROW EXECUTE FUNCTION vault.noop()
- SELECT immutable.seal_ownership('<rows>', 'fuzz_other')
GRAMMAR

my $number = 0;
while ($number < $commands)
{
	my $until = $number + $batch < $commands ? $number + $batch : $commands;
	my @written;
	make_ready();
	push @written, scene() while $number + @written < $until;
	my $problem = run(@written) || damage();
	is($problem, '', sprintf 'seed %s: nothing is wrong after %d commands', $seed, $number += @written)
	  or do { diag join ";\n", map { $_->{text} } @written; last };
}

# what did not come to pass by chance, is tried some more
my @unseen = Test::More->builder->is_passing ? grep { !$seen{ $_->{name} } } @forms, @commands : ();
for my $kind (@unseen)
{
	make_ready();
	my @written = (plain('ALTER TABLE detail OWNER TO fuzz_other'), map { written($kind) } 1 .. 60);
	is(run(@written) || damage(), '', "seed $seed: nothing is wrong after trying: $kind->{text}");
	ok($seen{ $kind->{name} }, "seed $seed: ends with $kind->{expected}: $kind->{text}");
}
note join ', ', map { "$_: $answers{$_}" } sort keys %answers;
is(join(' ', grep { /^XX/ } keys %answers), '', "seed $seed: no internal error");
finish();
$node->stop;
like(slurp_file($node->logfile), qr/\A(?!.*(?:PANIC|TRAP|terminated by signal))/s, 'the server has not stumbled');

done_testing();

# What a grammar says: a list of kinds of command. What may end as it likes,
# has been seen.
sub rules
{
	my ($begin, $grammar) = @_;
	my @kinds;

	for (split /\n/, $grammar)
	{
		my ($expected, $text) = split / /, $_, 2;
		push @kinds, { name => $_, expected => $expected, form => $text, text => $begin . $text };
		$seen{$_} = 1 if $expected eq '-';
	}
	return @kinds;
}

# One of several.
sub any
{
	return $_[ rand @_ ];
}

# One command, or several that belong together.
sub scene
{
	my $dice = rand;

	return command() if $dice < 0.7;
	return in_function(command()) if $dice < 0.8;
	return (plain('BEGIN'), command(), command(), plain(any('COMMIT', 'ROLLBACK'))) if $dice < 0.85;
	return (plain('BEGIN'), plain('SAVEPOINT a'), command(), plain(any('ROLLBACK TO a', 'RELEASE a')), command(),
		plain('ROLLBACK TO a'), command(), plain(any('COMMIT', 'ROLLBACK'))) if $dice < 0.93;
	# several commands that are one, in an implicit transaction
	return plain(join '\;', map { command()->{text} } 1 .. 3) if $dice < 0.96;
	return plain('DO $do$ BEGIN ' . join(' ', map { block(command()->{text}) } 1 .. 3) . ' END $do$');
}

# A random command.
sub command
{
	my $kind = any(rand() < 0.6 ? @commands : @forms);

	return written($kind) if $kind->{form} eq $kind->{text} || rand() < 0.6;
	# several forms in one command
	return written({ text => 'ALTER TABLE ' . any('', 'IF EXISTS ') . any('', '', 'ONLY ') . '<table> '
			. join(', ', map { any(@forms)->{form} } 1 .. any(1 .. 5)) });
}

# A command of which nothing is expected.
sub plain
{
	return { text => shift };
}

# The command in a DO block, where it can be.
sub in_function
{
	my ($command) = @_;

	return $command if $command->{text} =~ /^(VACUUM|CLUSTER|REINDEX)|CONCURRENTLY/;
	return { %$command, text => "DO \$do\$ BEGIN EXECUTE \$text\$$command->{text}\$text\$; END \$do\$" };
}

# A block that goes on after an error, unless it is an internal one.
sub block
{
	my ($text) = @_;
	return "BEGIN EXECUTE \$text\$$text\$text\$; EXCEPTION WHEN OTHERS THEN IF SQLSTATE LIKE 'XX%' THEN RAISE; END IF; END;";
}

# A kind of command with its words drawn.
sub written
{
	my ($kind) = @_;
	my @rows = qw(plain plain detail kin kid typed parted parted_1 parted_2 parted_2_a);
	my @logs = qw(ledger ledger streams streams_p0 streams_p1);
	my %draw = (
		rows => sub { name(any(@rows)) },
		log => sub { name(any(@logs)) },
		table => sub { name(any(@rows, @logs)) },
		renamed => sub { my $t = any(@rows, @logs); any("$t RENAME TO ${t}_x", "${t}_x RENAME TO $t") },
		moved => sub { my $t = any(@rows, @logs); any("$t SET SCHEMA annex", "annex.$t SET SCHEMA vault") },
		schema => sub { any('vault RENAME TO vault_x', 'vault_x RENAME TO vault', 'vault_x RENAME TO vault') },
		column => sub { any(qw(id word word felt duo form many calc data stream version)) },
		guard => sub { any('immutable_guard_row', 'immutable_guard_statement', 'immutable_guard_statement') },
		free => sub { 'free_' . any(1 .. 4) },
		new => sub { 'new_' . any(1 .. 40) },
		t => sub { 't_' . any(1 .. 60, 1 .. 300) },
		s => sub { 's_' . any(1 .. 60) },
		n => sub { any(1000 .. 3000) });
	my $text = $kind->{text};

	$text =~ s/<(\w+)>/$draw{$1}->()/ge;
	return { %$kind, text => $text };
}

# A table as it may be called at the moment.
sub name
{
	my ($table) = @_;
	return any(('') x 8, 'vault.', 'annex.') . $table . any(('') x 8, '_x');
}

# Every batch begins at home, with something to play with.
sub make_ready
{
	my @tables = split /\n/, $node->safe_psql('postgres', 'SELECT relname FROM evidence.tables');

	as_owner(join '', "CREATE SCHEMA annex;\nALTER SCHEMA vault_x RENAME TO vault;\nGRANT ALL ON SCHEMA vault, annex TO fuzz_other;\n",
		map({ "ALTER TABLE ${_}_x RENAME TO $_;\nALTER TABLE annex.$_ SET SCHEMA vault;\n" } @tables),
		map({ "CREATE TABLE vault.free_$_ (id integer, word text);\nINSERT INTO free_$_ VALUES (1, 'forged');\n" } 1 .. 4),
		"DROP TABLE fresh;\nALTER TABLE fresh RENAME TO fresh_$number;\nCREATE TABLE vault.fresh (LIKE vault.parted INCLUDING ALL);\n",
		"CREATE FUNCTION vault.noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';\n",
		"CREATE DOMAIN vault.given AS text DEFAULT 'forged';\n");
	# while rows of detail were hidden from their owner, master could change
	$node->safe_psql('postgres', join '', 'INSERT INTO vault.master SELECT generate_series(1, 5) ON CONFLICT DO NOTHING;',
		map { "ALTER TABLE $_ OWNER TO fuzz_owner, NO FORCE ROW LEVEL SECURITY; GRANT ALL ON $_ TO fuzz_owner;" }
			split /\n/, $node->safe_psql('postgres', 'SELECT oid::regclass FROM evidence.tables'));
}

# Run commands as the owner; answers what went wrong, by its nature.
sub run
{
	my (@written) = @_;
	my ($stdout, $stderr);
	my $script = "\\o /dev/null\n" . join '', map { "$written[$_]{text};\n\\echo $_ :SQLSTATE\n" } 0 .. $#written;
	my $status = $node->psql('postgres', $script, stdout => \$stdout, stderr => \$stderr, on_error_stop => 0,
		extra_params => [ '-U', 'fuzz_owner' ]);
	my $problem = $status == 0 ? '' : "psql ended with $status: " . substr($stderr, -1000);

	for (split /\n/, $stdout)
	{
		my ($i, $state) = split / /;
		my $kind = $written[$i];
		$answers{$state}++;
		$problem .= "$state: $kind->{text}\n" if $state =~ /^XX/;
		$seen{ $kind->{name} } = 1 if defined $kind->{name} && $state eq $kind->{expected};
	}
	return $problem;
}

# Run commands as the owner; answers the errors.
sub as_owner
{
	my ($script) = @_;
	my ($stdout, $stderr);

	$node->psql('postgres', $script, stdout => \$stdout, stderr => \$stderr, on_error_stop => 0,
		extra_params => [ '-U', 'fuzz_owner' ]);
	return $stderr;
}

# What is wrong with the tables.
sub damage
{
	return $node->safe_psql('postgres', 'SELECT * FROM evidence.damage()');
}

# In the end, each table refuses what it is protected from.
sub finish
{
	make_ready();
	is( $node->safe_psql('postgres', <<'SQL'), '', "seed $seed: each table refuses UPDATE, DELETE and TRUNCATE from a superuser, too");
SET session_replication_role = replica;
SET client_min_messages = error;
CREATE FUNCTION evidence.state(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE command;
	RETURN '00000';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END
$$;
SELECT command, evidence.state(command)
FROM immutable.protected_tables p JOIN pg_attribute a ON attrelid = relation AND attnum = 1,
	format('UPDATE %s SET %I = %2$I', relation, attname) u, format('DELETE FROM %s', relation) d, format('TRUNCATE %s CASCADE', relation) t,
	unnest(ARRAY[u, d, t]) command
WHERE evidence.state(command) <> '23001';
SQL
}
