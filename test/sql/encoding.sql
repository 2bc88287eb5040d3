-- encoding: the install script fits every server encoding.
\set SHOW_CONTEXT never
SELECT current_database() AS test_database \gset
CREATE DATABASE regress_immutable_encoding TEMPLATE template0 ENCODING 'EUC_JP' LOCALE_PROVIDER libc LOCALE 'C';
\c regress_immutable_encoding
CREATE EXTENSION immutable_events;
SELECT count(*) FROM pg_extension WHERE extname = 'immutable_events';
\c :test_database
DROP DATABASE regress_immutable_encoding;
