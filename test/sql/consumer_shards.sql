-- consumer_shards: several workers share a consumer, and no stream of it.
\set SHOW_CONTEXT never
CREATE ROLE regress_shards;
CREATE SCHEMA consumer_shards AUTHORIZATION regress_shards;
SET search_path = consumer_shards;
SET ROLE regress_shards;
SELECT immutable.create_log('ledger', 2);
SELECT count(immutable.append('ledger', 's' || n % 40, 't')) FROM generate_series(1, 200) n;
SELECT immutable.create_consumer('c', 'ledger', after_position => 0, shards => 4);
SELECT consumer, shard, position, lag_events FROM immutable.consumer_status ORDER BY shard;
-- each stream has one shard, and each shard some streams
SELECT shard, count(*) > 1 AS some FROM (SELECT DISTINCT stream, immutable._shard(stream, 4) AS shard FROM ledger) s GROUP BY shard ORDER BY shard;
SELECT immutable._shard('anything', 1), immutable._shard(NULL, 4);

-- a shard hands out its streams, in order, and all of them together everything once
CREATE TABLE handled (nr serial, shard integer, position bigint, stream text);
DO $$ BEGIN
	FOR shard IN REVERSE 3..0 LOOP
		FOR turn IN 1..20 LOOP
			INSERT INTO handled (shard, position, stream) SELECT shard, p.position, p.stream FROM immutable.poll('c', 7, shard => shard) p;
			EXIT WHEN NOT FOUND;
			PERFORM immutable.ack('c', (SELECT h.position FROM handled h ORDER BY nr DESC LIMIT 1));
		END LOOP;
	END LOOP;
END $$;
SELECT count(*), count(DISTINCT position), bool_and(shard = immutable._shard(stream, 4)) AS by_shard,
	bool_and(in_order) AS in_order FROM (SELECT *, position > lag(position, 1, 0::bigint) OVER (PARTITION BY shard ORDER BY nr) AS in_order FROM handled) h;
SELECT shard, position, lag_events FROM immutable.consumer_status ORDER BY shard;
-- any shard: the same
SELECT immutable.seek('c', 0);
TRUNCATE handled;
DO $$ BEGIN
	FOR turn IN 1..200 LOOP
		INSERT INTO handled (position, stream) SELECT p.position, p.stream FROM immutable.poll('c', 7) p;
		EXIT WHEN NOT FOUND;
		PERFORM immutable.ack('c', (SELECT h.position FROM handled h ORDER BY nr DESC LIMIT 1));
	END LOOP;
END $$;
SELECT count(*), count(DISTINCT position), bool_and(in_order) AS in_order
FROM (SELECT *, position > lag(position, 1, 0::bigint) OVER (PARTITION BY immutable._shard(stream, 4) ORDER BY nr) AS in_order FROM handled) h;

-- a worker in a transaction, here a prepared one, has its shard to itself
SELECT immutable.seek('c', 0);
BEGIN;
SELECT count(*) = (SELECT count(*) FROM ledger WHERE immutable._shard(stream, 4) = 1) AS all_of_it,
	bool_and(immutable._shard(stream, 4) = 1) AS by_shard FROM immutable.poll('c', 1000, shard => 1);
SELECT immutable.ack('c', max(position)) FROM ledger WHERE immutable._shard(stream, 4) = 1;
PREPARE TRANSACTION 'regress_shards';
SELECT count(*) FROM immutable.poll('c', shard => 1, lease => '1 hour');
BEGIN;
SELECT count(*) > 0 AS others FROM immutable.poll('c', shard => 0);
SELECT count(*) FROM immutable.poll('c', shard => 1);
SELECT bool_and(immutable._shard(stream, 4) <> 1) AS others FROM immutable.poll('c');
SELECT bool_and(immutable._shard(stream, 4) <> 1) AS others FROM immutable.poll('c');
SELECT bool_and(immutable._shard(stream, 4) <> 1) AS others FROM immutable.poll('c');
SELECT bool_and(immutable._shard(stream, 4) <> 1) AS others FROM immutable.poll('c');
ROLLBACK;
ROLLBACK PREPARED 'regress_shards';
SELECT shard, position FROM immutable.consumer_status ORDER BY shard;

-- leases: one for each shard, and nothing for the fifth worker
CREATE TABLE leased (shard integer, token text, last bigint);
CREATE FUNCTION take() RETURNS integer LANGUAGE sql AS $$
	WITH p AS (SELECT * FROM immutable.poll('c', 3, lease => '1 hour'))
	INSERT INTO leased SELECT min(immutable._shard(stream, 4)), NULL, max(position) FROM p HAVING count(DISTINCT immutable._shard(stream, 4)) = 1 RETURNING shard
$$;
SELECT take() IS NOT NULL AS taken;
\c -
SET search_path = consumer_shards;
SET ROLE regress_shards;
SELECT take() IS NOT NULL AS taken;
\c -
SET search_path = consumer_shards;
SET ROLE regress_shards;
SELECT take() IS NOT NULL AS taken;
\c -
SET search_path = consumer_shards;
SET ROLE regress_shards;
SELECT take() IS NOT NULL AS taken;
\c -
SET search_path = consumer_shards;
SET ROLE regress_shards;
SELECT take() IS NOT NULL AS taken;
SELECT count(*), count(DISTINCT shard) FROM leased;
-- behind a pooler each is acknowledged by its token, and by no other
UPDATE leased l SET token = s.lease_token FROM immutable.consumer_status s WHERE s.shard = l.shard;
SELECT token AS token2, last AS last2 FROM leased WHERE shard = 2 \gset
SELECT token AS token3, last AS last3 FROM leased WHERE shard = 3 \gset
SET immutable.lease = :'token2';
SELECT immutable.ack('c', :last2);
SET immutable.lease = :'token3';
SELECT immutable.ack('c', :last3);
SET immutable.lease = :'token2';
SELECT immutable.ack('c', :last2);
\echo :SQLSTATE
RESET immutable.lease;
SELECT s.shard, s.position = CASE WHEN s.shard > 1 THEN l.last ELSE 0 END AS moved, s.lease_token = l.token AS same_lease
FROM immutable.consumer_status s JOIN leased l USING (shard) ORDER BY shard;
-- a session with two leases acknowledges the last; the other by its token
SELECT immutable.seek('c', 0);
SELECT max(position) AS last0 FROM immutable.poll('c', 3, shard => 0, lease => '1 hour') \gset
SELECT max(position) AS last1 FROM immutable.poll('c', 3, shard => 1, lease => '1 hour') \gset
SELECT immutable.ack('c', :last1);
SELECT lease_token AS token0 FROM immutable.consumer_status WHERE shard = 0 \gset
SELECT immutable.ack('c', :last1);
\echo :SQLSTATE
SET immutable.lease = :'token0';
SELECT immutable.ack('c', :last0);
RESET immutable.lease;
SELECT shard, position = CASE shard WHEN 0 THEN :last0 WHEN 1 THEN :last1 ELSE 0 END AS as_acknowledged FROM immutable.consumer_status ORDER BY shard;

-- a stream that is set aside holds up no other, of its shard or another
SELECT immutable.seek('c', 0);
BEGIN;
SELECT min(position) AS failed FROM immutable.poll('c', 1000, shard => 2) \gset
SELECT immutable.nack('c', :failed, 'failed', '1 hour');
SELECT immutable.ack('c', (SELECT max(position) FROM ledger WHERE immutable._shard(stream, 4) = 2));
COMMIT;
SELECT count(*) AS left_out FROM immutable.poll('c', 1000, shard => 2, lease => '1 hour');
SELECT count(*) = (SELECT count(*) FROM ledger WHERE immutable._shard(stream, 4) = 3) AS all_of_it FROM immutable.poll('c', 1000, shard => 3, lease => '1 hour');
\set VERBOSITY sqlstate
-- the event of another shard was not polled
BEGIN;
SELECT count(*) > 0 AS polled FROM immutable.poll('c', 1000, shard => 0);
SELECT immutable.nack('c', min(position), 'of another shard') FROM ledger
WHERE immutable._shard(stream, 4) = 1 AND position > (SELECT min(position) FROM ledger WHERE immutable._shard(stream, 4) = 0);
ROLLBACK;

-- bad arguments
SELECT immutable.poll('c', shard => 4, lease => '1 hour');
SELECT immutable.poll('c', shard => -1, lease => '1 hour');
SELECT immutable.create_consumer('x', 'ledger', shards => 0);
SELECT immutable.create_consumer('x', 'ledger', shards => 1025);
SELECT immutable.create_consumer('x', 'ledger', shards => NULL);
SELECT immutable.create_consumer('x', 'ledger', shards => 1024);
SELECT count(*), min(shard), max(shard) FROM immutable.consumer_status WHERE consumer = 'x';
SELECT immutable.drop_consumer('x');
SELECT count(*) FROM immutable.consumer_status WHERE consumer = 'x';

RESET ROLE;
SELECT immutable.drop_log('ledger', force => true);
SET client_min_messages = warning;
DROP SCHEMA consumer_shards CASCADE;
DROP ROLE regress_shards;
