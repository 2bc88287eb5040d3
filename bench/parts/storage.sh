# storage: bytes that an event takes, in every store: $PEER_EVENTS events of
# about 150 bytes, each by a call of its own, 1,000 in a transaction.

storage() {
	local c names="${stores[*]}"
	setup_all "${stores[@]}"
	fill_stores
	load_samples
	for c in bare plpgsql messagedb emmett pgq; do
		sample "in all, on disk" 1 "$c" "$(sql -c "SELECT sum(value) FROM bench.samples WHERE contender = '$c' AND what IN ('table', 'indexes')")"
	done
	sample "in all, on disk" 1 immutable "$(sql -c "SELECT sum(value) FROM bench.samples WHERE contender = 'immutable' AND what IN ('table', 'indexes')")"
	table "Storage: bytes an event, $PEER_EVENTS events (ratio to the bare table)" bare "$names" table indexes "in all, on disk" WAL
	under "Events of $(peer bare -c "SELECT round(avg(pg_column_size(data))) FROM (SELECT data FROM log LIMIT 1000) d") bytes of jsonb in $((PEER_EVENTS / 100)) streams. WAL between two addresses, full_page_writes=$(sql -c "SHOW full_page_writes"), after a checkpoint; a thousand events share a commit record. Indexes: immutable_events, bare table and PL/pgSQL position, (stream, version), id; message-db the same and one by category; Emmett only (stream, version) and its table of streams (no index by position or id); PgQ one by transaction, and it drops events after its rotation period."
}
