-- encoding: the install script fits every server encoding.
\set SHOW_CONTEXT never
SELECT current_database() AS test_database \gset
CREATE DATABASE regress_immutable_encoding TEMPLATE template0 ENCODING 'EUC_JP' LOCALE_PROVIDER libc LOCALE 'C';
\c regress_immutable_encoding
CREATE EXTENSION immutable_events;
SELECT count(*) FROM pg_extension WHERE extname = 'immutable_events';
\c :test_database
DROP DATABASE regress_immutable_encoding;

-- a server that knows no encoding keeps bytes as they are
CREATE DATABASE regress_immutable_ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C';
\c regress_immutable_ascii
CREATE EXTENSION immutable_events;
SELECT immutable.create_log('ledger');
-- bytes that are no characters go in and come out
SELECT immutable.append('ledger', E's\xff\xfe', E't\x80', '{}') \g /dev/null
SELECT encode(convert_to(stream, 'SQL_ASCII'), 'hex') AS stream, encode(convert_to(type, 'SQL_ASCII'), 'hex') AS type, version
FROM immutable.read_stream('ledger', E's\xff\xfe');
SELECT immutable.append_json('ledger', 's', E'[{"type": "\xff", "data": {"\xfe": "\xfd"}}]');
SELECT encode(convert_to(type, 'SQL_ASCII'), 'hex') FROM immutable.read_log('ledger', 1);
SELECT count(*) FROM immutable.check_log('ledger');
\c :test_database
DROP DATABASE regress_immutable_ascii;
-- and are refused where there are characters
SELECT immutable.stream_version(0, E's\xff');
\echo :SQLSTATE
