# immutable_events: build with PGXS, and the two commands of the project:
#
#   make demo    what it is, shown on this machine's own package history
#   make test    every test, on a throw-away cluster
#
# Both install what is missing (Debian packages), as root or with sudo.

EXTENSION = immutable_events
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" $(EXTENSION).control)

MODULE_big = $(EXTENSION)
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c)))
SQL_PARTS = $(sort $(wildcard sql/[0-9]*.sql))
INSTALL_SQL = build/$(EXTENSION)--$(EXTVERSION).sql
DATA_built = $(INSTALL_SQL)
DATA = $(wildcard sql/$(EXTENSION)--*.sql)
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

.PHONY: demo test bench
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

bench:
	@.ci/setup --bench
	@bench/run
