-- merge_patch: JSON Merge Patch (RFC 7396) as a reducer; the cases of its appendix A.
\set SHOW_CONTEXT never
CREATE SCHEMA merge_patch;
SET search_path = merge_patch;
CREATE FUNCTION event(data jsonb) RETURNS immutable.event LANGUAGE sql IMMUTABLE
RETURN ROW(NULL, NULL, NULL, NULL, NULL, NULL, NULL, data, NULL)::immutable.event;

-- appendix A: original, patch, result
CREATE TABLE cases (n integer, original jsonb, patch jsonb, result jsonb);
INSERT INTO cases VALUES
(1, '{"a":"b"}', '{"a":"c"}', '{"a":"c"}'), (2, '{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
(3, '{"a":"b"}', '{"a":null}', '{}'), (4, '{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'),
(5, '{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'), (6, '{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
(7, '{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'), (8, '{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
(9, '["a","b"]', '["c","d"]', '["c","d"]'), (10, '{"a":"b"}', '["c"]', '["c"]'),
(11, '{"a":"foo"}', 'null', 'null'), (12, '{"a":"foo"}', '"bar"', '"bar"'),
(13, '{"e":null}', '{"a":1}', '{"e":null,"a":1}'), (14, '[1,2]', '{"a":"b","c":null}', '{"a":"b"}'),
(15, '{}', '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}');
SELECT n, immutable.merge_patch(original, event(patch)) AS result FROM cases
WHERE immutable.merge_patch(original, event(patch)) IS DISTINCT FROM result;
SELECT count(*) FROM cases;
-- the same through a fold, where the state is a tree
SELECT n, immutable.fold(original, 'immutable.merge_patch', event(patch)) FROM cases GROUP BY n, original, result
HAVING immutable.fold(original, 'immutable.merge_patch', event(patch)) IS DISTINCT FROM result;

-- NULLs: no document is an empty one, no event changes nothing
SELECT immutable.merge_patch(NULL, event('{"a": 1}')), immutable.merge_patch('{"a": 1}', NULL),
	immutable.merge_patch('{"a": 1}', event(NULL)), immutable.merge_patch(NULL, NULL) IS NULL;
SELECT immutable.fold(NULL::jsonb, 'immutable.merge_patch', event(NULL)) IS NULL;

-- over a log: fold, window, replay and a loop agree
SELECT immutable.create_log('documents');
SELECT count(*) FROM generate_series(1, 300) n, LATERAL immutable.append('documents', 's' || n % 3, 'changed',
	jsonb_build_object('k' || n % 7, CASE n % 5 WHEN 0 THEN NULL WHEN 1 THEN to_jsonb(n) WHEN 2 THEN jsonb_build_object('x', n, 'y' || n % 2, NULL)
		WHEN 3 THEN jsonb_build_array(n, 'two', NULL, true) ELSE '"text"' END, 'deep', jsonb_build_object('n' || n % 4, jsonb_build_object('v', n))));
CREATE FUNCTION by_hand(log_stream text, upto bigint) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	state jsonb := '{}';
	e immutable.event;
BEGIN
	FOR e IN SELECT * FROM immutable.read_stream('documents', log_stream) LOOP
		EXIT WHEN e.version > upto;
		state := immutable.merge_patch(state, e);
	END LOOP;
	RETURN state;
END $$;
SELECT stream, immutable.fold('{}'::jsonb, 'immutable.merge_patch', e ORDER BY e.version) = by_hand(stream, 1000) AS fold,
	immutable.replay('documents', stream, '{}'::jsonb, 'immutable.merge_patch') = by_hand(stream, 1000) AS replay
FROM documents e GROUP BY stream ORDER BY stream;
SELECT count(*), bool_and(state = by_hand('s1', version)) FROM (
	SELECT version, immutable.fold('{}'::jsonb, 'immutable.merge_patch', e) OVER (ORDER BY version) AS state
	FROM documents e WHERE stream = 's1') w;
SELECT immutable.replay('documents', 's2', '{"kept": 1}'::jsonb, 'immutable.merge_patch', upto_version => 1);
SELECT immutable.replay('documents', 'none', NULL::jsonb, 'immutable.merge_patch') IS NULL;

SELECT immutable.drop_log('documents', force => true);
SET client_min_messages = warning;
DROP SCHEMA merge_patch CASCADE;
