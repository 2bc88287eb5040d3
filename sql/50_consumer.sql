-- Consumers: cursors over a log, kept in the database.

CREATE TABLE immutable.consumers (
	consumer text PRIMARY KEY,
	log regclass NOT NULL,
	owner name NOT NULL,
	types text[],
	stream_prefix text,
	shards integer NOT NULL,
	max_deliveries integer NOT NULL,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
SELECT pg_catalog.pg_extension_config_dump('immutable.consumers', '');
COMMENT ON TABLE immutable.consumers IS
'registry of consumers; immutable.consumer_status shows how they stand';

CREATE TABLE immutable.consumer_shards (
	consumer text,
	shard integer,
	log regclass NOT NULL,
	position bigint NOT NULL,
	delivered bigint,
	scanned bigint,
	backlog text,
	lease_token text,
	lease_until timestamptz,
	holder name,
	holder_pid integer,
	polled_at timestamptz,
	PRIMARY KEY (consumer, shard)
);
CREATE INDEX consumer_shards_log_idx ON immutable.consumer_shards (log);
SELECT pg_catalog.pg_extension_config_dump('immutable.consumer_shards', '');
COMMENT ON TABLE immutable.consumer_shards IS
'the cursor of each shard of each consumer, and the batch it has handed out under a lease';
COMMENT ON COLUMN immutable.consumer_shards.position IS
'the consumer is done with everything up to here, but for streams that are set aside';
COMMENT ON COLUMN immutable.consumer_shards.delivered IS
'the last event that was handed out under the lease';
COMMENT ON COLUMN immutable.consumer_shards.scanned IS
'what was gone over for that';
COMMENT ON COLUMN immutable.consumer_shards.backlog IS
'the stream that the batch is of, when that had been set aside';

CREATE TABLE immutable.consumer_streams (
	consumer text,
	shard integer NOT NULL,
	stream text COLLATE "C",
	position bigint NOT NULL,
	from_position bigint NOT NULL,
	deliveries integer NOT NULL,
	error text NOT NULL,
	retry_at timestamptz,
	parked boolean NOT NULL,
	nacked boolean NOT NULL,
	PRIMARY KEY (consumer, stream)
);
SELECT pg_catalog.pg_extension_config_dump('immutable.consumer_streams', '');
COMMENT ON TABLE immutable.consumer_streams IS
'streams that are set aside because an event of theirs has failed';
COMMENT ON COLUMN immutable.consumer_streams.position IS
'the event that has failed';
COMMENT ON COLUMN immutable.consumer_streams.from_position IS
'the stream goes on from here';
COMMENT ON COLUMN immutable.consumer_streams.nacked IS
'it has failed in the batch that was handed out last';

CREATE FUNCTION immutable._shard(stream text, shards integer) RETURNS integer
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN ((hashtextextended(stream, 0) & 9223372036854775807) % shards)::integer;
COMMENT ON FUNCTION immutable._shard(text, integer) IS
'the shard that a stream belongs to';

CREATE FUNCTION immutable.create_consumer(
	consumer text, log regclass, types text[] DEFAULT NULL, stream_prefix text DEFAULT NULL,
	after_position bigint DEFAULT NULL, shards integer DEFAULT 1, max_deliveries integer DEFAULT 5)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_create_consumer';
COMMENT ON FUNCTION immutable.create_consumer(text, regclass, text[], text, bigint, integer, integer) IS
'create a consumer of a log, owned by the caller; after_position NULL: from now on, 0: everything; streams are spread over shards; a stream is parked after max_deliveries failures (22004, 22023, 42501, 42710, 42809)';

CREATE FUNCTION immutable.drop_consumer(consumer text) RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_drop_consumer';
COMMENT ON FUNCTION immutable.drop_consumer(text) IS
'drop a consumer (22004, 42501, 42704)';

CREATE FUNCTION immutable.poll(
	consumer text, max_events integer DEFAULT 100, timeout interval DEFAULT '0',
	lease interval DEFAULT NULL, shard integer DEFAULT NULL)
RETURNS SETOF immutable.event
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 100
AS 'MODULE_PATHNAME', 'ie_poll';
COMMENT ON FUNCTION immutable.poll(text, integer, interval, interval, integer) IS
'the next events of a consumer, in order of position; waits for one up to timeout; without a lease the shard is held to the end of the transaction, with one until it expires; shard NULL: one that has work (22004, 22023, 25006, 25P01, 42501, 42704)';

CREATE FUNCTION immutable.ack(consumer text, upto_position bigint) RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_ack';
COMMENT ON FUNCTION immutable.ack(text, bigint) IS
'the events that were polled are done, up to a position (22004, 22023, 42501, 42704, 55000)';

CREATE FUNCTION immutable.nack(
	consumer text, at_position bigint, error text, retry_after interval DEFAULT '0')
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_nack';
COMMENT ON FUNCTION immutable.nack(text, bigint, text, interval) IS
'an event that was polled has failed: its stream is set aside until retry_after has passed, or parked; events of other streams go on (22004, 22023, 42501, 42704, 55000)';

CREATE FUNCTION immutable.renew(consumer text, lease interval) RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_renew';
COMMENT ON FUNCTION immutable.renew(text, interval) IS
'hold the lease of the last poll for so long from now (22004, 22023, 42501, 42704, 55000)';

CREATE FUNCTION immutable.seek(consumer text, after_position bigint) RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_seek';
COMMENT ON FUNCTION immutable.seek(text, bigint) IS
'continue after another position; ends leases, and takes back the streams that are set aside (22004, 22023, 42501, 42704)';

CREATE FUNCTION immutable.unpark(consumer text, stream text) RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ie_unpark';
COMMENT ON FUNCTION immutable.unpark(text, text) IS
'deliver a parked stream again, from its first event that is not done (22004, 22023, 42501, 42704)';

CREATE VIEW immutable.consumer_status AS
SELECT s.consumer, s.shard, s.position, m.safe_position,
	CASE WHEN m.safe_position > s.position THEN m.safe_position - s.position
		WHEN m.safe_position IS NOT NULL THEN 0 END AS lag_events,
	EXTRACT(epoch FROM immutable._oldest_wait(s.log, s.position, m.safe_position))::double precision AS lag_seconds,
	s.holder, s.holder_pid, s.lease_token, s.lease_until, s.polled_at AS last_poll
FROM immutable.consumer_shards s
	JOIN immutable.consumers c USING (consumer)
	JOIN pg_catalog.pg_roles r ON r.rolname = c.owner
	CROSS JOIN LATERAL (SELECT immutable._safe_position(s.log) AS safe_position) m
WHERE pg_catalog.pg_has_role(r.oid, 'USAGE');
COMMENT ON VIEW immutable.consumer_status IS
'the shards of the caller''s consumers: lag_events counts positions that are readable and not done, of all streams and types; lag_seconds is the age of the oldest; the holder has it under a lease';
GRANT SELECT ON immutable.consumer_status TO PUBLIC;

CREATE VIEW immutable.parked AS
SELECT p.consumer, p.stream, p.position, p.deliveries, p.error
FROM immutable.consumer_streams p
	JOIN immutable.consumers c USING (consumer)
	JOIN pg_catalog.pg_roles r ON r.rolname = c.owner
WHERE p.parked AND pg_catalog.pg_has_role(r.oid, 'USAGE');
COMMENT ON VIEW immutable.parked IS
'streams that the caller''s consumers have parked: the event that has failed, how often, and why; immutable.unpark continues them';
GRANT SELECT ON immutable.parked TO PUBLIC;
