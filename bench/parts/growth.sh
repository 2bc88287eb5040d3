# growth: does it stay as fast? One append a transaction, the read of a stream
# and the refresh of a read model, at 10 thousand, 100 thousand, 1 million
# events, and with GROWTH_MAX=10000000 at 10 million.

GROWTH_MAX=${GROWTH_MAX:-1000000}

# grow_sample WHAT SIZE MICROSECONDS
grow_sample() { printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$samples.growth"; }

# latency_of CALLS STREAMS FILE: the median, in microseconds, of transactions of
# pgbench: a connection's first call makes its caches
latency_of() {
	rm -f "$samples".log.*
	pgbench -n -M prepared -c 1 -t "$1" -D streams="$2" -l --log-prefix="$samples.log" -f "bench/growth/$3.pgbench" growth >/dev/null 2>&1
	cut -d' ' -f3 "$samples".log.* | median
}

growth() {
	local size i name
	createdb growth
	psql -XqAt -v ON_ERROR_STOP=1 -d growth -f bench/peers/common.sql -f bench/growth/growth.sql >/dev/null
	: >"$samples.growth"
	for size in 10000 100000 1000000 10000000; do
		[ "$size" -le "$GROWTH_MAX" ] || continue
		psql -XqAt -v ON_ERROR_STOP=1 -d growth -c "CALL bench.grow($size)" -c "VACUUM ANALYZE" -c CHECKPOINT >/dev/null
		for ((i = 1; i <= ROUNDS; i++)); do
			for name in append insert read select; do
				grow_sample "$name" "$size" "$(latency_of 1000 $((size / 100)) "$name")"
			done
			psql -XqAt -v ON_ERROR_STOP=1 -d growth -c "CALL immutable.catch_up('bench.balance')" -c "CALL bench.add(1000, $((size / 100)))"
			grow_sample refresh "$size" "$(latency_of 10 1 refresh)"
		done
	done
	growth_table
}

# growth_of NAME SIZE: the median of the rounds, in microseconds
growth_of() { awk -F '\t' -v w="$1" -v s="$2" '$1 == w && $2 == s { print $3 }' "$samples.growth" | median; }

growth_table() {
	local size line name
	{
		printf '\n## Growth: microseconds by the number of events\n\n'
		echo "| events | append | INSERT into a bare table | read_stream, 100 events | SELECT, 100 events | refresh, 100 events |"
		echo "|---|---|---|---|---|---|"
	} >>"$tables"
	: >"$samples.grown"
	for size in $(cut -f2 "$samples.growth" | sort -nu); do
		line="| $(number "$size") |"
		printf '%s' "$size" >>"$samples.grown"
		for name in append insert read select refresh; do
			line="$line $(number "$(growth_of $name "$size")") |"
			printf ' %s' "$(growth_of $name "$size")" >>"$samples.grown"
		done
		echo "$line" >>"$tables"
		echo >>"$samples.grown"
	done
	under "One client, prepared, one transaction a call, in a database that holds both tables; streams of 100 events whose events lie apart; a refresh folds 100 events of 100 streams into a read model that has a row for every stream."
}
