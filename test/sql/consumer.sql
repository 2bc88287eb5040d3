-- consumer: poll, handle and ack, in one transaction or under a lease.
\set SHOW_CONTEXT never
CREATE ROLE regress_consumer;
CREATE ROLE regress_consumer_other;
CREATE SCHEMA consumer AUTHORIZATION regress_consumer;
GRANT USAGE ON SCHEMA consumer TO regress_consumer_other;
SET search_path = consumer;
SET ROLE regress_consumer;
SELECT immutable.create_log('ledger');
SELECT count(immutable.append('ledger', 's' || n % 3, (ARRAY['made', 'paid'])[1 + n % 2])) FROM generate_series(1, 6) n;
SELECT immutable.create_consumer('mail', 'ledger', after_position => 0), immutable.create_consumer('later', 'ledger');
CREATE VIEW status AS SELECT consumer, shard, position, safe_position, lag_events, lag_seconds >= 0 AS lags, holder,
	holder_pid = pg_backend_pid() AS mine, lease_token IS NOT NULL AS token, lease_until > clock_timestamp() AS leased, last_poll IS NOT NULL AS polled
FROM immutable.consumer_status ORDER BY consumer COLLATE "C", shard;
SELECT * FROM status;

-- in one transaction: exactly once
BEGIN;
SELECT position, version, stream, type FROM immutable.poll('mail', 2);
SELECT immutable.ack('mail', 2);
SELECT position FROM immutable.poll('mail', 2);
SELECT immutable.ack('mail', 4);
COMMIT;
SELECT * FROM status WHERE consumer = 'mail';
-- what is not acknowledged, or rolled back, comes again
BEGIN;
SELECT position FROM immutable.poll('mail');
SELECT position FROM immutable.poll('mail', 1);
SELECT immutable.ack('mail', 5);
ROLLBACK;
BEGIN;
SELECT position FROM immutable.poll('mail');
SAVEPOINT s;
SELECT immutable.ack('mail', 6);
ROLLBACK TO s;
SELECT immutable.ack('mail', 5);
COMMIT;
BEGIN;
SELECT position FROM immutable.poll('mail');
SELECT immutable.ack('mail', 6);
SELECT count(*) FROM immutable.poll('mail');
COMMIT;
-- the consumer that began later begins now
SELECT position FROM immutable.append('ledger', 's1', 'made');
BEGIN;
SELECT position FROM immutable.poll('later');
SELECT immutable.ack('later', 7);
COMMIT;
-- it reads what its own transaction has written
BEGIN;
SELECT position FROM immutable.append('ledger', 's1', 'made');
SELECT position FROM immutable.poll('later');
SELECT immutable.ack('later', 8);
COMMIT;
SELECT consumer, position, lag_events FROM status;

-- by type and stream: the cursor moves over the rest
SELECT immutable.create_consumer('paid', 'ledger', '{paid,unpaid}', 's1', 0), immutable.create_consumer('rare', 'ledger', '{never}', NULL, 0);
BEGIN;
SELECT position, stream, type FROM immutable.poll('paid');
SELECT immutable.ack('paid', 1);
SELECT position FROM immutable.poll('rare');
COMMIT;
SELECT consumer, position FROM status;

-- under a lease: at least once, by its holder
SELECT immutable.seek('mail', 2);
SELECT position FROM immutable.poll('mail', 3, lease => '1 hour');
SELECT * FROM status WHERE consumer = 'mail';
SELECT immutable.ack('mail', 3);
SELECT * FROM status WHERE consumer = 'mail';
SELECT immutable.renew('mail', '2 hours');
SELECT lease_until > clock_timestamp() + interval '1 hour' AS renewed FROM immutable.consumer_status WHERE consumer = 'mail';
SELECT immutable.ack('mail', 2);
\echo :SQLSTATE
SELECT immutable.ack('mail', 6);
\echo :SQLSTATE
SELECT immutable.ack('mail', 5);
SELECT * FROM status WHERE consumer = 'mail';
SELECT immutable.ack('mail', 5);
\echo :SQLSTATE
-- an expired lease counts until somebody takes over: here another session of the same role
SELECT position FROM immutable.poll('mail', 1, lease => '1 microsecond');
SELECT lease_token AS expired FROM immutable.consumer_status WHERE consumer = 'mail' \gset
\c -
SET search_path = consumer;
SET ROLE regress_consumer;
SELECT immutable.ack('mail', 6);
\echo :SQLSTATE
SET immutable.lease = :'expired';
SELECT immutable.renew('mail', '1 microsecond');
SELECT immutable.ack('mail', 6);
RESET immutable.lease;
SELECT position FROM immutable.poll('mail', 1, lease => '1 microsecond');
SELECT lease_token AS expired FROM immutable.consumer_status WHERE consumer = 'mail' \gset
\c -
SET search_path = consumer;
SET ROLE regress_consumer;
SELECT position FROM immutable.poll('mail', 1, lease => '1 hour');
SET immutable.lease = :'expired';
SELECT immutable.ack('mail', 7);
\echo :SQLSTATE
RESET immutable.lease;
SELECT immutable.ack('mail', 7);
-- while a lease runs nobody else gets anything
SELECT position FROM immutable.poll('mail', 1, lease => '1 hour');
\c -
SET search_path = consumer;
SET ROLE regress_consumer;
SELECT count(*) FROM immutable.poll('mail', lease => '1 hour');
SELECT count(*) FROM immutable.poll('mail', lease => '1 hour', shard => 0);
BEGIN;
SELECT count(*) FROM immutable.poll('mail');
SELECT immutable.ack('mail', 8);
\echo :SQLSTATE
ROLLBACK;
-- seek ends it
SELECT immutable.seek('mail', 6);
SELECT position FROM immutable.poll('mail', lease => '1 hour');
SELECT immutable.seek('mail', 0);
SELECT immutable.ack('mail', 7);
\echo :SQLSTATE
SELECT * FROM status WHERE consumer = 'mail';

-- poll needs a transaction that lasts, or a lease
SELECT position FROM immutable.poll('mail');
\echo :SQLSTATE
PREPARE outside AS SELECT position FROM immutable.poll('mail');
\set VERBOSITY sqlstate
EXECUTE outside;
CREATE TABLE polled AS SELECT position FROM immutable.poll('mail');
DO $$ BEGIN PERFORM immutable.ack('mail', max(position)) FROM immutable.poll('mail', 2); END $$;
SELECT position FROM status WHERE consumer = 'mail';
BEGIN READ ONLY;
SELECT position FROM immutable.poll('mail');
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT position FROM immutable.poll('mail', 1);
ROLLBACK TO s;
SELECT immutable.ack('mail', 3);
ROLLBACK;

-- a consumer that was dropped is gone, also for who has polled it
BEGIN;
SELECT position FROM immutable.poll('mail', 1);
SELECT immutable.drop_consumer('mail');
SAVEPOINT s;
SELECT immutable.ack('mail', 3);
ROLLBACK TO s;
SELECT immutable.create_consumer('mail', 'ledger', after_position => 2);
SELECT immutable.ack('mail', 3);
ROLLBACK;

-- a consumer belongs to who has made it
SET ROLE regress_consumer_other;
SELECT position FROM immutable.poll('mail', lease => '1 hour');
SELECT immutable.ack('mail', 3);
SELECT immutable.nack('mail', 3, 'error');
SELECT immutable.renew('mail', '1 hour');
SELECT immutable.seek('mail', 0);
SELECT immutable.unpark('mail', 's1');
SELECT immutable.drop_consumer('mail');
SELECT immutable.create_consumer('mail', 'consumer.ledger');
SELECT count(*) FROM immutable.consumer_status;
TABLE immutable.consumers;
UPDATE immutable.consumer_shards SET position = 0;
DELETE FROM immutable.consumer_streams;
RESET ROLE;
GRANT SELECT ON consumer.ledger TO regress_consumer_other;
SET ROLE regress_consumer_other;
SELECT immutable.create_consumer('mail', 'consumer.ledger');
SELECT immutable.create_consumer('theirs', 'consumer.ledger');
SELECT consumer FROM immutable.consumer_status;
-- to its members, who need SELECT on the log, and to superusers
RESET ROLE;
GRANT regress_consumer TO regress_consumer_other;
SET ROLE regress_consumer_other;
SELECT position FROM immutable.poll('mail', 1, lease => '1 hour');
SELECT holder FROM immutable.consumer_status WHERE consumer = 'mail';
RESET ROLE;
REVOKE regress_consumer FROM regress_consumer_other;
REVOKE SELECT ON consumer.ledger FROM regress_consumer_other;
SET ROLE regress_consumer_other;
SELECT position FROM immutable.poll('theirs', lease => '1 hour');
SELECT immutable.seek('theirs', 0);
SELECT consumer, safe_position IS NULL AS unknown, lag_events, lag_seconds FROM immutable.consumer_status;
RESET ROLE;
SELECT immutable.drop_consumer('theirs');

-- they go with their log
SELECT count(*) FROM immutable.consumers WHERE log = 'ledger'::regclass;
SELECT immutable.drop_log('ledger', force => true);
SELECT (SELECT count(*) FROM immutable.consumers), (SELECT count(*) FROM immutable.consumer_shards);
SELECT immutable.ack('mail', 3);
SET client_min_messages = warning;
DROP SCHEMA consumer CASCADE;
DROP ROLE regress_consumer, regress_consumer_other;
