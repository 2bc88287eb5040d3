-- json_patch: JSON Patch (RFC 6902) as a reducer: its six operations, and what is refused.
\set SHOW_CONTEXT never
CREATE SCHEMA json_patch;
SET search_path = json_patch;
CREATE FUNCTION event(patch jsonb) RETURNS immutable.event LANGUAGE sql IMMUTABLE
RETURN ROW(NULL, NULL, NULL, NULL, NULL, NULL, NULL, CASE WHEN patch IS NOT NULL THEN jsonb_build_object('patch', patch) END, NULL)::immutable.event;
CREATE FUNCTION attempt(document jsonb, patch jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	RETURN immutable.json_patch(document, event(patch));
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN SQLSTATE || ' ' || SQLERRM || ': ' || detail;
END $$;

CREATE TABLE cases (n serial, document jsonb, patch jsonb);
INSERT INTO cases (document, patch) VALUES
-- add
('{"foo": "bar"}', '[{"op": "add", "path": "/baz", "value": "qux"}]'),
('{"foo": ["bar", "baz"]}', '[{"op": "add", "path": "/foo/1", "value": "qux"}]'),
('{"foo": "bar"}', '[{"op": "add", "path": "/child", "value": {"grandchild": {}}}]'),
('{"foo": ["bar"]}', '[{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}]'),
('{"foo": 1}', '[{"op": "add", "path": "/foo", "value": null}]'),
('{"foo": 1}', '[{"op": "add", "path": "", "value": [1]}]'),
('{}', '[{"op": "add", "path": "/", "value": 1}]'),
('[]', '[{"op": "add", "path": "/0", "value": "a"}, {"op": "add", "path": "/1", "value": "b"}]'),
-- remove, replace, move, copy, test
('{"baz": "qux", "foo": "bar"}', '[{"op": "remove", "path": "/baz"}]'),
('{"foo": ["bar", "qux", "baz"]}', '[{"op": "remove", "path": "/foo/1"}]'),
('{"baz": "qux"}', '[{"op": "replace", "path": "/baz", "value": "boo"}]'),
('[1, 2, 3]', '[{"op": "replace", "path": "/1", "value": {"a": 1}}]'),
('{"a": 1}', '[{"op": "replace", "path": "", "value": "all"}]'),
('{"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}}', '[{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}]'),
('{"foo": ["all", "grass", "cows", "eat"]}', '[{"op": "move", "from": "/foo/1", "path": "/foo/3"}]'),
('{"a": 1}', '[{"op": "move", "from": "/a", "path": "/a"}]'),
('{"a": {"b": [1, {"c": 2}]}}', '[{"op": "copy", "from": "/a/b", "path": "/d"}, {"op": "add", "path": "/d/-", "value": 3}]'),
('{"baz": "qux", "foo": ["a", 2, "c"]}', '[{"op": "test", "path": "/baz", "value": "qux"}, {"op": "test", "path": "/foo/1", "value": 2}]'),
('{"a": {"x": 1, "y": [null, true]}}', '[{"op": "test", "path": "/a", "value": {"y": [null, true], "x": 1.0}}]'),
('{"/": 9, "~1": 10}', '[{"op": "test", "path": "/~01", "value": 10}, {"op": "remove", "path": "/~1"}]'),
('{"foo": "bar"}', '[{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}]'),
('{"a": 1}', '[]'),
-- refused
('{"baz": "qux"}', '[{"op": "test", "path": "/baz", "value": "bar"}]'),
('{"foo": "bar"}', '[{"op": "add", "path": "/baz/bat", "value": "qux"}]'),
('{"foo": "bar"}', '[{"op": "add", "path": "/foo/bat", "value": "qux"}]'),
('{"foo": ["bar"]}', '[{"op": "add", "path": "/foo/2", "value": 1}]'),
('{"foo": ["bar"]}', '[{"op": "add", "path": "/foo/01", "value": 1}]'),
('{"foo": ["bar"]}', '[{"op": "add", "path": "/foo/x", "value": 1}]'),
('{"foo": ["bar"]}', '[{"op": "remove", "path": "/foo/-"}]'),
('{"foo": ["bar"]}', '[{"op": "remove", "path": "/foo/1"}]'),
('{"foo": ["bar"]}', '[{"op": "remove", "path": "/foo/99999999999999999999"}]'),
('{}', '[{"op": "remove", "path": "/a"}]'),
('{}', '[{"op": "replace", "path": "/a", "value": 1}]'),
('{}', '[{"op": "copy", "from": "/a", "path": "/b"}]'),
('{"a": {"b": 1}}', '[{"op": "move", "from": "/a", "path": "/a/b"}]'),
('{}', '[{"op": "add", "path": "/a"}]'),
('{}', '[{"op": "add", "value": 1}]'),
('{}', '[{"op": "add", "path": "a", "value": 1}]'),
('{}', '[{"op": "add", "path": "/a~2", "value": 1}]'),
('{}', '[{"op": "move", "path": "/a"}]'),
('{}', '[{"op": "spam", "path": "/a"}]'),
('{}', '[{"path": "/a"}]'),
('{}', '[3]'),
('{}', '{"op": "add"}'),
('{}', '[{"op": "add", "path": "/a", "value": 1}, {"op": "remove", "path": "/b"}]');
SELECT n, attempt(document, patch) FROM cases ORDER BY n;
SELECT immutable.json_patch(NULL, event('[{"op": "add", "path": "", "value": {}}]')), immutable.json_patch('[1]', NULL), immutable.json_patch('[1]', event(NULL));

-- over a log the state is a tree: the same result
SELECT immutable.create_log('documents');
SELECT count(*) FROM generate_series(1, 100) n, LATERAL immutable.append('documents', 's', 'changed', jsonb_build_object('patch', jsonb_build_array(
	jsonb_build_object('op', 'add', 'path', '/items/-', 'value', jsonb_build_object('n', n)),
	jsonb_build_object('op', CASE n WHEN 1 THEN 'add' ELSE 'replace' END, 'path', '/last', 'value', n))));
SELECT jsonb_array_length(state->'items'), state->'last', state->'items'->99 FROM (
	SELECT immutable.replay('documents', 's', '{"items": []}'::jsonb, 'immutable.json_patch') AS state) r;
SELECT immutable.append('documents', 's', 'broken', '{"patch": [{"op": "remove", "path": "/nothing"}]}') IS NOT NULL;
SELECT immutable.replay('documents', 's', '{"items": []}'::jsonb, 'immutable.json_patch');
\echo :SQLSTATE
SELECT immutable.drop_log('documents', force => true);
SET client_min_messages = warning;
DROP SCHEMA json_patch CASCADE;
