# peers: the same work done by others, in the same run: see bench/peers/.

PEER_STREAMS=${PEER_STREAMS:-10000}	# streams in appends, one event each at first
PEER_LOOP=${PEER_LOOP:-20000}	# appends in one transaction
PEER_EVENTS=${PEER_EVENTS:-200000}	# events stored, read and folded
PEER_NODE=${PEER_NODE:-500}	# calls from node a round
export ROUNDS SECONDS_PGBENCH LATENCY_SECONDS PEER_STREAMS PEER_EVENTS PEER_NODE

. bench/peers/lib.sh
samples=$(mktemp)
stores=(immutable bare plpgsql messagedb emmett pgq)

# peers: every part below
peers() {
	peers_append
	peers_durable
	peers_loop
	peers_read
	peers_node
	peers_feed
	peers_versions
}

# load_samples: the measurements into bench.samples and bench.cannot
load_samples() {
	sql -c "SET client_min_messages = warning" -c "CREATE TABLE IF NOT EXISTS bench.samples (what text, round integer, contender text, value double precision)" \
		-c "CREATE TABLE IF NOT EXISTS bench.cannot (what text, contender text, why text)" \
		-c "TRUNCATE bench.samples, bench.cannot" \
		-c "\\copy bench.samples FROM '$samples'"
	[ ! -e "$samples.cannot" ] || sql -c "\\copy bench.cannot FROM '$samples.cannot'"
}

# of WHAT NAME AGAINST: the median of the rounds' ratios
of() {
	sql -c "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY a.value / b.value)
		FROM bench.samples a JOIN bench.samples b USING (what, round)
		WHERE what = '$1' AND a.contender = '$2' AND b.contender = '$3'"
}

# middle WHAT NAME: the median of the rounds' values
middle() {
	sql -c "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY value) FROM bench.samples WHERE what = '$1' AND contender = '$2'"
}

# cell WHAT NAME AGAINST: what stands in the table
cell() {
	local value why ratio
	value=$(middle "$1" "$2")
	ratio=$(of "$1" "$2" "$3")
	if [ -z "$value" ]; then
		why=$(sql -c "SELECT why FROM bench.cannot WHERE what = '$1' AND contender = '$2' LIMIT 1")
		echo "${why:-not run}"
	elif [ "$2" = "$3" ] || [ -z "$ratio" ]; then
		number "$value"
	else
		echo "$(number "$value") ($(printf %.2f "$ratio"))"
	fi
}

# number N: with three digits that count, or commas between thousands
number() {
	awk -v n="$1" 'BEGIN {
		if (n < 100) { printf "%.3g\n", n; exit }
		s = sprintf("%.0f", n)
		while (length(s) > 3) { t = "," substr(s, length(s) - 2) t; s = substr(s, 1, length(s) - 3) }
		print s t
	}'
}

# table TITLE AGAINST "NAME..." WHAT...: a table with a column a contender
table() {
	local c what line="| |" rule="|---|" against=$2 names=$3
	load_samples
	for c in $names; do
		what=title_$c
		line="$line ${!what} |"
		rule="$rule---|"
	done
	{ echo; echo "## $1"; echo; echo "$line"; echo "$rule"; } >>"$tables"
	for what in "${@:4}"; do
		line="| $what |"
		for c in $names; do line="$line $(cell "$what" "$c" "$against") |"; done
		echo "$line" >>"$tables"
	done
}
title_plain='no versions'
under() { { echo; echo "$@"; } >>"$tables"; }

peers_append() {
	setup_all "${stores[@]}"
	append_rounds ""
	table "Appends a second, one a transaction (ratio to the bare table)" bare "${stores[*]}" "append, 1 a transaction, "{"1 client","2 clients","8 clients"}
	under "synchronous_commit=off, fsync=off. Each peer's own server function, called by pgbench -M prepared; $PEER_STREAMS streams that have an event; the bare table gets versions and rising ids from pgbench. message-db locks the category, here all accounts, until the commit. Emmett's client sends BEGIN and COMMIT as well: see the calls from node."
}

peers_durable() {
	npm_packages || true
	.ci/with-cluster "${settings[@]}" -c fsync=on -c synchronous_commit=on bench/peers/durable "$samples"
	table "Durable appends a second, one a transaction (ratio to the bare table)" bare "${stores[*]}" "append, 1 a transaction, "{"1 client","2 clients","8 clients"}", durable"
	under "The same with synchronous_commit=on, fsync=on, in a cluster of its own: the disk decides."
}

# timed WHAT UNITS NAME ROUND STATEMENT: units a second
timed() { sample "$1" "$4" "$3" "$(awk -v n="$2" -v ms="$(milliseconds "$3" "$5")" 'BEGIN { print n * 1000 / ms }')"; }

peers_loop() {
	local i c loop="append, $PEER_LOOP in one transaction, 1,000 streams" batch="append, 50 batches of 1,000 events"
	setup_all "${stores[@]}"
	for ((i = 1; i <= ROUNDS; i++)); do
		for c in $(turns "$i"); do
			peer "$c" -c "CALL bench.reset(1000)"
			clean "$c"
			timed "$loop" "$PEER_LOOP" "$c" "$i" "SELECT bench.loop($PEER_LOOP, 1000)"
			case $c in immutable | bare | emmett) timed "$batch" 50000 "$c" "$i" "SELECT bench.batch(50, 1000)" ;; esac
		done
	done
	for c in plpgsql messagedb pgq; do cannot "$batch" $c "one event a call"; done
	table "Events a second inside one transaction (ratio to the bare table)" bare "${stores[*]}" "$loop" "$batch"
	under "Calls from a loop in PL/pgSQL; the bare table's batch is INSERT ... SELECT FROM unnest."
}

# fill_stores: the same events in every store, with what they take; once
fill_stores() {
	local c start
	[ -z "${filled:-}" ] || return 0
	filled=1
	for c in "${ready[@]}"; do
		peer "$c" -c "CALL bench.reset(0)"
		psql -Xq -d postgres -c CHECKPOINT
		start=$(peer "$c" -c "SELECT pg_current_wal_insert_lsn()")
		peer "$c" -c "CALL bench.fill($PEER_EVENTS, $((PEER_EVENTS / 100)))"
		sample "WAL" 1 "$c" "$(peer "$c" -c "SELECT bench.wal_since('$start')::numeric / $PEER_EVENTS")"
		clean "$c"
		sample "table" 1 "$c" "$(peer "$c" -c "SELECT bench.table_bytes()::numeric / $PEER_EVENTS")"
		sample "indexes" 1 "$c" "$(peer "$c" -c "SELECT bench.index_bytes()::numeric / $PEER_EVENTS")"
	done
}

peers_read() {
	local i c read="streams of 100 events read a second" fold="events folded a second, all balances"
	setup_all "${stores[@]}"
	fill_stores
	for ((i = 1; i <= ROUNDS; i++)); do
		for c in $(turns "$i"); do
			[ "$c" = pgq ] || sample "$read" "$i" "$c" "$(run_pgbench "$c" "$here/read/$c.pgbench" 1 -D streams=$((PEER_EVENTS / 100)))"
			case $c in immutable | bare | plpgsql) timed "$fold" "$PEER_EVENTS" "$c" "$i" "SELECT bench.fold()" ;; esac
		done
		if npm_packages; then node $here/fold.js "$i" "$fold" >>"$samples"; fi
	done
	cannot "$read" pgq "no streams"
	cannot "$read" node "see the calls from node"
	cannot "$fold" messagedb "client only"
	cannot "$fold" emmett "client only, a stream a call"
	cannot "$fold" pgq "no"
	table "Reads and folds (ratio to the bare table)" bare "${stores[*]} node" "$read" "$fold"
	under "Fold: replay_all; a hand-written GROUP BY over the bare table; an aggregate over a function in SQL; a node application that reads the three columns through a cursor of the bare table."
}

peers_node() {
	setup_all "${stores[@]}"
	fill_stores
	npm_packages || { under "Calls from node: not run, npm or node is not to be had"; return; }
	node $here/calls.js "$ROUNDS" "$PEER_NODE" >>"$samples"
	local c append="append, one a call" inline="append with an inline read model" small="state of a stream of 100 events" \
		long="state of a stream of 10,000 events" snapshot="the same with a snapshot at 9,990" async="async read model, events a second"
	cannot "$append" plpgsql "as the node application"
	for c in messagedb pgq; do cannot "$inline" $c "no"; done
	for c in "$small" "$long"; do cannot "$c" pgq "no streams"; done
	cannot "$snapshot" plpgsql "by hand"
	cannot "$snapshot" node "by hand"
	cannot "$snapshot" messagedb "no (Eventide's Ruby client)"
	cannot "$snapshot" emmett "no"
	cannot "$snapshot" pgq "no streams"
	table "Calls a second from node, one connection (ratio to the node application)" node "immutable node plpgsql messagedb emmett pgq" \
		"$append" "$inline" "$small" "$long" "$snapshot" "$async"
	under "node-postgres, prepared statements; Emmett through its own client, which prepares nothing. The node application writes to the bare table and folds outside the database. Async: refresh; INSERT ... SELECT ... GROUP BY ... ON CONFLICT by hand; batches of 1,000 read, folded and upserted by node from the bare table and from message-db; Emmett's consumer with a raw SQL projection over $(sql -c "SELECT least(2000, $PEER_EVENTS)") events; PgQ's batches into the upsert written by hand."
}

peers_feed() {
	local c p50="p50, ms from commit to having the event" p99="p99, ms" lost="part of the events lost" rate="events a second at this load" names="immutable bare messagedb emmett pgq"
	setup_all $names
	for c in "${ready[@]}"; do
		sql -d "$(database_of "$c")" -f $here/feed.sql >/dev/null 2>&1
		pgbench -n -c 8 -j 2 -T $((LATENCY_SECONDS + 1)) -D n="$(date +%s%N | cut -c6-15)" -f "$here/writer/$c.pgbench" "$(database_of "$c")" >/dev/null 2>&1 &
		peer "$c" -c "CALL bench.reader($LATENCY_SECONDS, '$c')" >/dev/null
		wait
		peer "$c" -F ' ' -c "SELECT coalesce(p50, 0), coalesce(p99, 0), lost, events FROM bench.feed" >"$samples.feed"
		read -r a b l n <"$samples.feed"
		sample "$p50" 1 "$c" "$a"
		sample "$p99" 1 "$c" "$b"
		sample "$lost" 1 "$c" "$(ratio "$l" "$n")"
		sample "$rate" 1 "$c" "$(ratio "$n" "$LATENCY_SECONDS")"
	done
	table "A consumer at 8 writers whose transactions take 1 to 5 ms, one in twenty rolled back (ratio to the naive reader)" bare "$names" "$p50" "$p99" "$lost" "$rate"
	under "Each reader looks again 1 ms after its last look: read_log; position > last over the bare table; get_category_messages; Emmett's consumer query, which goes on from the last position it saw; PgQ's next batch, with a tick before each look (its daemon ticks once a second). message-db's writers wait for one another, which is why few of its events wait."
}

# versions_of TABLE KIND: the transaction that pgbench runs
versions_of() {
	case $2 in
	UPDATE) printf '\\set id random(1, 100000)\nUPDATE %s SET quantity = quantity + 1 WHERE id = :id;\n' "$1" ;;
	DELETE) printf "DELETE FROM %s WHERE id = (SELECT nextval('%s_id'));\n" "$1" "$1" ;;
	INSERT) printf "INSERT INTO %s (id, name, price, quantity) VALUES (100000 + nextval('%s_id'), 'a new product', 1.5, 1);\n" "$1" "$1" ;;
	esac
}

# ahead KIND: a row for each peer, with the target of being ahead of it
ahead() {
	local c title
	for c in periods tablelog audit; do
		title=title_$c
		[ -z "$(middle "$1" $c)" ] || [ -z "$(middle "$1" immutable)" ] ||
			row "$1 of one versioned row a transaction, rate over that with ${!title}" ">=" 1.00 "$(of "$1" immutable $c)"
	done
}

peers_versions() {
	local i c kind names="immutable plain periods tablelog audit" had
	createdb peer_versions
	had=$(psql -XqAt -v ON_ERROR_STOP=1 -d peer_versions -f $here/versions.sql)
	for kind in UPDATE DELETE INSERT "UPDATE of 100,000 rows in one statement"; do
		for c in immutable periods tablelog; do
			case " $had " in *" $c "*) ;; *) cannot "$kind" "$c" "cannot be installed here" ;; esac
		done
		for ((i = 1; i <= ROUNDS; i++)); do
			psql -Xq -d peer_versions -c "CALL bench.reset()" -c "VACUUM ANALYZE" -c CHECKPOINT
			ready=($had)
			for c in $(turns "$i"); do
				if [ "${kind% of *}" = "$kind" ]; then
					versions_of "$c" "$kind" >"$samples.pgbench"
					sample "$kind" "$i" "$c" "$(pgbench -n -M prepared -c 1 -T "$SECONDS_PGBENCH" -f "$samples.pgbench" peer_versions 2>/dev/null | sed -n 's/^tps = \([0-9.]*\).*/\1/p')"
				else
					sample "$kind" "$i" "$c" "$(psql -XqAt -d peer_versions -c '\timing on' -c "UPDATE $c SET quantity = quantity + 1" | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' | awk '{ print 100000000 / $1 }')"
				fi
			done
		done
	done
	table "Versioned rows: changes a second (ratio to the table without versions)" plain "$names" UPDATE DELETE INSERT "UPDATE of 100,000 rows in one statement"
	under "One client, one change a transaction, then a statement over all rows (rows a second). periods $(psql -XqAt -d peer_versions -c "SELECT extversion FROM pg_extension WHERE extname = 'periods'"): add_system_time_period and add_system_versioning; table_log $(psql -XqAt -d peer_versions -c "SELECT extversion FROM pg_extension WHERE extname = 'table_log'"): table_log_init(5, ...), its trigger with user and time; audit: a trigger in PL/pgSQL that writes to_jsonb(OLD) and to_jsonb(NEW). temporal_tables is not in Debian $(. /etc/os-release; echo "$VERSION_ID")."
	for kind in UPDATE DELETE INSERT; do ahead "$kind"; done
}
