# immutable_events: build with PGXS, and the two commands of the project:
#
#   make demo    what it is, shown on this machine's own package history
#   make test    every test, on a throw-away cluster
#
# and, for those who change it:
#
#   make lint             compilers, analyzers and the rules of the house
#   make test-matrix      the tests on the servers of other Debian releases
#   make test-upgrade     pg_upgrade of a database in use, 15 to 17 to 18
#   make test-ubsan       the tests with undefined behaviour made an error
#   make test-valgrind    under valgrind; SOURCE= a source tree of PostgreSQL
#   make coverage         what the tests reach; less than 90 % of lines fails
#   make dist, deb        build/: a PGXN archive, a Debian package
#   make test-dist        make test of the archive alone
#   make test-deb         install and remove the package: nothing is left
#   make bench            how fast it is
#
# They install what is missing (Debian packages), as root or with sudo.

EXTENSION = immutable_events
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" $(EXTENSION).control)

MODULE_big = $(EXTENSION)
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c)))
SQL_PARTS = $(sort $(wildcard sql/[0-9]*.sql))
INSTALL_SQL = build/$(EXTENSION)--$(EXTVERSION).sql
DATA_built = $(INSTALL_SQL)
# the scripts of released versions, and from one to the next; a version that
# was frozen is installed from its parts as long as it is the current one
DATA = $(filter-out sql/$(EXTENSION)--$(EXTVERSION).sql,$(wildcard sql/$(EXTENSION)--*.sql))
EXTRA_CLEAN = build

REGRESS = $(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))
REGRESS_OPTS = --inputdir=test --load-extension=$(EXTENSION)
ISOLATION = $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test --load-extension=$(EXTENSION)
TAP_TESTS = 1
PROVE_TESTS = test/t/*.pl

# PGXS comes with the server's headers; libpq-dev's pg_config has none.
PG_CONFIG ?= $(shell .ci/setup --pg-config)
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)

.PHONY: demo test bench lint test-matrix test-upgrade test-sqlsmith test-ubsan test-valgrind coverage dist deb test-dist test-deb
ifneq ($(wildcard $(PGXS)),)
include $(PGXS)

$(OBJS): $(wildcard src/*.h)

# what was computed by one version is not taken over by another
src/fingerprint.o src/fingerprint.bc: override CPPFLAGS += -DIE_LIBRARY='"$(EXTVERSION)"'
src/fingerprint.o: $(EXTENSION).control

$(INSTALL_SQL): $(SQL_PARTS) $(EXTENSION).control
	@mkdir -p $(@D)
	cat $(SQL_PARTS) > $@
else
all install:
	@echo "PostgreSQL's server headers are missing: install postgresql-server-dev-all, or run make test." >&2; exit 1
endif

demo:
	@.ci/setup
	@doc/demo/run

test:
	@.ci/setup
	@test/run

lint:
	@.ci/setup
	@test/run-lint

test-matrix:
	@test/matrix

test-upgrade:
	@test/matrix --upgrade

test-ubsan:
	@.ci/setup
	@test/instrumented ubsan $(PARTS)

coverage:
	@.ci/setup
	@.ci/setup --install gcovr
	@test/instrumented coverage $(PARTS)

test-valgrind:
	@.ci/setup
	@.ci/setup --install valgrind bison flex zlib1g-dev
	@test/valgrind/run $(SOURCE) $(TESTS)

dist:
	@.ci/dist

deb:
	@.ci/dist deb

test-dist:
	@.ci/dist test

test-deb:
	@.ci/setup
	@.ci/dist test-deb

bench:
	@.ci/setup --bench
	@bench/run

# by hand: random queries, for ten minutes unless SECONDS says otherwise
test-sqlsmith:
	@.ci/setup
	@KEEP_LOG=$${KEEP_LOG:-/tmp/sqlsmith.log} .ci/with-cluster -c fsync=off -c 'log_line_prefix=%e ' \
		sh -c 'SERVER_LOG=$$PGHOST/log exec test/fuzz/sqlsmith $(SECONDS) $(SEED)'
