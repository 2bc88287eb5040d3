# What the benchmarks of peers share. Every contender has a database of its own
# (peer_NAME, message_store), made by the file of its name, with functions of
# the same names. A measurement is a line of $samples: what, round, contender,
# value; bench.cell makes medians and ratios of them.

here=bench/peers
title_immutable='immutable_events' title_bare='bare table' title_plpgsql='PL/pgSQL by hand'
title_messagedb='message-db' title_emmett='Emmett' title_pgq='PgQ' title_node='node application'
title_periods='periods' title_tablelog='table_log' title_audit='PL/pgSQL audit (jsonb)'

database_of() { if [ "$1" = messagedb ]; then echo message_store; else echo "peer_$1"; fi; }
peer() { psql -XqAt -v ON_ERROR_STOP=1 -d "$(database_of "$1")" "${@:2}"; }
sample() {
	if [ -n "$4" ]; then printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" >>"$samples"; else echo "bench: $3: no figure for $1" >&2; fi
}
cannot() { printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$samples.cannot"; }

# npm_packages: node's packages, in $modules; fails when they cannot be had
npm_packages() {
	[ -n "${modules:-}" ] || modules=$(mktemp -d)
	export modules NODE_PATH=$modules/node_modules
	[ -d "$NODE_PATH/@eventide" ] || [ -d "$NODE_PATH/@event-driven-io" ] ||
		npm install --silent --no-fund --no-audit --prefix "$modules" \
			pg pg-cursor @eventide/message-db @event-driven-io/emmett-postgresql >/dev/null 2>&1
}

has_extension() { [ "$(psql -XqAt -d postgres -c "SELECT count(*) FROM pg_available_extensions WHERE name = '$1'")" = 1 ]; }

# setup NAME: make the contender's database; fails, and says why in $why, when
# the peer cannot be had
setup() {
	[ -z "$(psql -XqAt -d postgres -c "SELECT 1 FROM pg_database WHERE datname = '$(database_of "$1")'")" ] || return 0
	why="not run: cannot be installed here"
	case $1 in
	messagedb)
		npm_packages || return 1
		bash "$NODE_PATH/@eventide/message-db/database/install.sh" >/dev/null 2>&1 || return 1 ;;
	emmett)
		npm_packages || return 1
		createdb peer_emmett && node $here/emmett_schema.js || return 1 ;;
	pgq)
		has_extension pgq || return 1
		createdb peer_pgq ;;
	*)	createdb "peer_$1" ;;
	esac
	peer "$1" -f $here/common.sql -f "$here/$1.sql" >/dev/null
}

# setup_all NAME...: those of them that can be had, in $ready
setup_all() {
	ready=()
	local c
	for c in "$@"; do
		if setup "$c"; then ready+=("$c"); else echo "bench: $c: $why" >&2; fi
	done
}

# turns ROUND: the contenders, forwards and backwards in turn
turns() {
	local i
	if (($1 % 2)); then echo "${ready[@]}"; else for ((i = ${#ready[@]} - 1; i >= 0; i--)); do echo "${ready[i]}"; done; fi
}

# clean NAME: what autovacuum does meanwhile on a server of one's own
clean() { peer "$1" -c "VACUUM ANALYZE"; }

# run_pgbench NAME FILE CLIENTS [option]...: transactions a second
run_pgbench() {
	pgbench -n -M prepared -c "$3" -j 2 -T "$SECONDS_PGBENCH" -D n="$(date +%s%N | cut -c6-15)" "${@:4}" -f "$2" "$(database_of "$1")" 2>/dev/null |
		sed -n 's/^tps = \([0-9.]*\).*/\1/p'
}

# milliseconds NAME STATEMENT
milliseconds() {
	peer "$1" -c '\timing on' -c "$2" | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p'
}

# append_rounds LABEL: one event a transaction at 1, 2 and 8 clients
append_rounds() {
	local i c clients
	for ((i = 1; i <= ROUNDS; i++)); do
		for c in "${ready[@]}"; do
			peer "$c" -c "CALL bench.reset($PEER_STREAMS)"
			clean "$c"
		done
		psql -Xq -d postgres -c CHECKPOINT
		for clients in 1 2 8; do
			for c in $(turns "$i"); do
				sample "append, 1 a transaction, $clients client$([ "$clients" = 1 ] || echo s)$1" "$i" "$c" "$(run_pgbench "$c" "$here/append/$c.pgbench" "$clients")"
				[ "$c" != emmett ] || peer emmett -c "VACUUM emt_streams"
			done
		done
	done
}
