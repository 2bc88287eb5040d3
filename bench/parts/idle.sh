# idle: what a background worker takes while nothing happens, with 100
# asynchronous projections: CPU in a minute, in clock ticks of the worker's process.

IDLE_SECONDS=${IDLE_SECONDS:-60}

# ticks PID: user and system time so far
ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }

idle() {
	local pid before after
	createdb idle
	pid=$(psql -XqAt -v ON_ERROR_STOP=1 -d idle <<'SQL' | tail -n 1
CREATE EXTENSION immutable_events;
\o /dev/null
SELECT immutable.create_log('log');
SELECT format('CREATE TABLE model_%s (stream text PRIMARY KEY, n bigint NOT NULL DEFAULT 0);
	CREATE FUNCTION apply_%1$s(r model_%1$s, e immutable.event) RETURNS model_%1$s LANGUAGE sql IMMUTABLE AS ''SELECT r.stream, r.n + 1'';
	SELECT immutable.create_projection(''model_%1$s'', ''log'', ''apply_%1$s'', mode => ''async'')', i)
FROM generate_series(1, 100) i \gexec
\o
SELECT immutable.start_worker();
SQL
	)
	psql -XqAt -d idle -c "SELECT immutable.append('log', 's', 't')" >/dev/null
	sleep 5
	before=$(ticks "$pid")
	sleep "$IDLE_SECONDS"
	after=$(ticks "$pid")
	note "idle worker with 100 projections, seconds of CPU a minute" \
		"$(awk -v t=$((after - before)) -v hz="$(getconf CLK_TCK)" -v s="$IDLE_SECONDS" 'BEGIN { print t / hz * 60 / s }')"
	psql -XqAt -d idle -c "SELECT immutable.stop_worker()" >/dev/null
}
