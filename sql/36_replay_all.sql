-- The state of every stream of a log.

CREATE FUNCTION immutable.replay_all(
	log regclass, initial anyelement, reducer regproc, types text[] DEFAULT NULL,
	stream_prefix text DEFAULT NULL, upto_position bigint DEFAULT NULL,
	as_of timestamptz DEFAULT NULL)
RETURNS TABLE (stream text, version bigint, state anyelement)
LANGUAGE C STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'ie_replay_all';
COMMENT ON FUNCTION immutable.replay_all(regclass, anyelement, regproc, text[], text, bigint, timestamptz) IS
'the state of every stream: initial folded with reducer(state, event) over its events of these types, up to a position and to what was recorded at a time, both inclusive; version of the last of them; streams without such an event are not listed (22004, 22023, 42501, 42804, 42809, 42883, 55000)';
