-- consumer_nack: an event that fails holds up its stream, and no other.
\set SHOW_CONTEXT never
CREATE ROLE regress_nack;
CREATE SCHEMA consumer_nack AUTHORIZATION regress_nack;
SET search_path = consumer_nack;
SET ROLE regress_nack;
SELECT immutable.create_log('ledger');
-- a: 1 4 7   b: 2 5 8   c: 3 6 9
SELECT count(immutable.append('ledger', (ARRAY['a', 'b', 'c'])[1 + n % 3], 't')) FROM generate_series(0, 8) n;
SELECT immutable.create_consumer('c', 'ledger', after_position => 0, max_deliveries => 3);
CREATE VIEW got AS SELECT string_agg(position || stream, ' ') AS got FROM immutable.poll('c', 4);
CREATE VIEW cursor AS SELECT position, lease_token IS NOT NULL AS leased FROM immutable.consumer_status WHERE consumer = 'c';

-- the failed event comes again once the cursor has passed it, in a batch of its own stream
BEGIN;
SELECT * FROM got;
SELECT immutable.ack('c', 1);
SELECT immutable.nack('c', 2, 'no such address');
SELECT immutable.ack('c', 4);
COMMIT;
SELECT * FROM cursor;
BEGIN;
SELECT * FROM got;
SELECT immutable.ack('c', 2);
COMMIT;
-- when nothing is left of it the stream goes with the others again
BEGIN;
SELECT * FROM got;
SELECT immutable.ack('c', 8);
SELECT * FROM got;
ROLLBACK;
SELECT count(*) FROM immutable.parked;

-- not yet: the others go on without it
BEGIN;
SELECT * FROM got;
SELECT immutable.nack('c', 5, 'later', '1 hour');
SELECT immutable.ack('c', 8);
COMMIT;
BEGIN;
SELECT * FROM got;
SELECT immutable.ack('c', 9);
COMMIT;
BEGIN;
SELECT * FROM got;
COMMIT;
SELECT position FROM immutable.append('ledger', 'b', 't');
SELECT position FROM immutable.append('ledger', 'a', 't');
BEGIN;
SELECT * FROM got;
SELECT immutable.ack('c', 11);
COMMIT;

-- seek takes everything back; three failures of the same event park its stream
SELECT immutable.seek('c', 0);
BEGIN;
SELECT * FROM got;
SELECT immutable.nack('c', 1, 'first');
SELECT immutable.ack('c', 4);
COMMIT;
TABLE immutable.parked;
BEGIN;
SELECT * FROM got;
SELECT immutable.nack('c', 1, 'second');
COMMIT;
TABLE immutable.parked;
BEGIN;
SELECT * FROM got;
SELECT immutable.nack('c', 1, 'third');
COMMIT;
TABLE immutable.parked;
-- its later events wait, also new ones
SELECT position FROM immutable.append('ledger', 'a', 't');
BEGIN;
SELECT string_agg(position || stream, ' ') AS got FROM immutable.poll('c');
SELECT immutable.ack('c', 10);
SELECT count(*) FROM immutable.poll('c');
COMMIT;
SELECT * FROM cursor;
-- unpark delivers it from its first event that is not done
SELECT immutable.unpark('c', 'a');
TABLE immutable.parked;
BEGIN;
SELECT * FROM got;
SELECT immutable.ack('c', 4);
SELECT * FROM got;
SELECT immutable.nack('c', 7, 'another');
COMMIT;
BEGIN;
SELECT * FROM got;
SELECT immutable.ack('c', 12);
SELECT count(*) FROM got WHERE got IS NOT NULL;
COMMIT;
SELECT count(*) FROM immutable.parked;

-- under a lease: the same, and what is done is not done again
SELECT immutable.seek('c', 0);
SELECT string_agg(position || stream, ' ') AS got FROM immutable.poll('c', 5, lease => '1 hour');
SELECT immutable.ack('c', 3);
SELECT immutable.nack('c', 4, 'failed');
SELECT immutable.ack('c', 5);
SELECT * FROM cursor;
SELECT string_agg(position || stream, ' ') AS got FROM immutable.poll('c', 5, lease => '1 hour');
SELECT immutable.ack('c', 4);
SELECT * FROM cursor;
SELECT immutable.ack('c', 5);
\echo :SQLSTATE

-- a batch of a stream that was set aside: nack and ack as in any other
SELECT immutable.seek('c', 0);
BEGIN;
SELECT string_agg(position || stream, ' ') AS got FROM immutable.poll('c', 100);
SELECT immutable.nack('c', 1, 'first');
SELECT immutable.ack('c', 12);
COMMIT;
BEGIN;
SELECT * FROM got;
SELECT immutable.ack('c', 1);
SELECT immutable.nack('c', 4, 'second');
SELECT immutable.ack('c', 11);
COMMIT;
BEGIN;
SELECT * FROM got;
ROLLBACK;
\set VERBOSITY sqlstate
SELECT immutable.seek('c', 0);
BEGIN;
SELECT count(*) FROM immutable.poll('c', 100);
SELECT immutable.nack('c', 1, 'first');
SELECT immutable.ack('c', 12);
SELECT * FROM got;
SELECT immutable.ack('c', 4);
-- what is done stays done
SELECT immutable.ack('c', 1);
ROLLBACK;
-- a stream that is set aside stays so, whatever is said of what was not handed out
BEGIN;
SELECT string_agg(position || stream, ' ') AS got FROM immutable.poll('c', 3);
SELECT immutable.nack('c', 1, 'first', '1 hour');
SELECT immutable.ack('c', 3);
SELECT string_agg(position || stream, ' ') AS got FROM immutable.poll('c', 3);
DO $$ BEGIN
	PERFORM immutable.nack('c', 4, 'of a stream that is set aside');
EXCEPTION WHEN invalid_parameter_value THEN NULL;
END $$;
SELECT immutable.ack('c', 8);
SELECT * FROM got;
ROLLBACK;
-- the first event that fails counts, whatever its stream's later ones do
BEGIN;
SELECT count(*) FROM immutable.poll('c', 100);
SELECT immutable.nack('c', 1, 'it fails'), immutable.nack('c', 4, 'and this cannot go first');
SELECT immutable.ack('c', 12);
SELECT * FROM got;
SELECT immutable.nack('c', 1, 'it fails'), immutable.nack('c', 4, 'and this cannot go first');
SELECT * FROM got;
SELECT immutable.nack('c', 1, 'it fails'), immutable.nack('c', 4, 'and this cannot go first');
SELECT stream, position, deliveries FROM immutable.parked;
ROLLBACK;

-- bad arguments
SELECT immutable.nack('c', 1, 'nothing is held');
BEGIN;
SELECT count(*) FROM immutable.poll('c', 3);
SAVEPOINT s;
SELECT immutable.nack('c', 4, 'not polled');
ROLLBACK TO s;
SELECT immutable.nack('c', 0, 'no position');
ROLLBACK TO s;
SELECT immutable.nack('c', NULL, 'error');
ROLLBACK TO s;
SELECT immutable.nack('c', 1, NULL);
ROLLBACK TO s;
SELECT immutable.nack('c', 1, 'error', NULL);
ROLLBACK TO s;
SELECT immutable.nack('c', 1, 'error', '-1 second');
ROLLBACK TO s;
SELECT immutable.ack('c', 1);
SELECT immutable.nack('c', 1, 'done already');
ROLLBACK;
SELECT immutable.unpark('c', 'a');
SELECT immutable.unpark('c', NULL);
SELECT immutable.unpark('nobody', 'a');
SELECT immutable.nack('nobody', 1, 'error');

RESET ROLE;
SELECT immutable.drop_log('ledger', force => true);
SELECT count(*) FROM immutable.consumer_streams;
SET client_min_messages = warning;
DROP SCHEMA consumer_nack CASCADE;
DROP ROLE regress_nack;
