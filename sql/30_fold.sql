-- Fold: state from events, with one reducer f(state, item) RETURNS state.

CREATE FUNCTION immutable._fold_step(
	internal, initial anyelement, reducer regproc, VARIADIC items "any")
RETURNS internal
LANGUAGE C STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'ie_fold_step';
COMMENT ON FUNCTION immutable._fold_step(internal, anyelement, regproc, "any") IS
'transition function of immutable.fold';

CREATE FUNCTION immutable._fold_result(
	internal, initial anyelement, reducer regproc, VARIADIC items "any")
RETURNS anyelement
LANGUAGE C STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'ie_fold_result';
COMMENT ON FUNCTION immutable._fold_result(internal, anyelement, regproc, "any") IS
'final function of immutable.fold';

-- SSPACE: a group holds one state, not the 8 kB the planner assumes.
-- PARALLEL UNSAFE: a parallel scan would bring the events in any order.
CREATE AGGREGATE immutable.fold(initial anyelement, reducer regproc, VARIADIC items "any") (
	SFUNC = immutable._fold_step,
	STYPE = internal,
	SSPACE = 256,
	FINALFUNC = immutable._fold_result,
	FINALFUNC_EXTRA,
	FINALFUNC_MODIFY = READ_ONLY,
	PARALLEL = UNSAFE
);
COMMENT ON AGGREGATE immutable.fold(anyelement, regproc, "any") IS
'fold rows into a state with reducer(state, item ...), in the order of the aggregate''s ORDER BY; without one, events of a log must come in order of position; over a window, the state at every row; NULL for no rows (22004, 22023, 42501, 42804, 42883)';

CREATE FUNCTION immutable.replay(
	log regclass, stream text, initial anyelement, reducer regproc,
	upto_version bigint DEFAULT NULL, as_of timestamptz DEFAULT NULL)
RETURNS anyelement
LANGUAGE C STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'ie_replay';
COMMENT ON FUNCTION immutable.replay(regclass, text, anyelement, regproc, bigint, timestamptz) IS
'the state of one stream: initial folded with reducer(state, event), up to a version or to what was recorded at a time, both inclusive (22004, 22023, 42501, 42804, 42809, 42883, 55000)';

CREATE FUNCTION immutable.merge_patch(state jsonb, event immutable.event) RETURNS jsonb
LANGUAGE C IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ie_merge_patch';
COMMENT ON FUNCTION immutable.merge_patch(jsonb, immutable.event) IS
'ready-made reducer: the event''s data merged into a document as RFC 7396 says; null removes a key; state NULL: an empty document';

CREATE FUNCTION immutable.json_patch(state jsonb, event immutable.event) RETURNS jsonb
LANGUAGE C IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ie_json_patch';
COMMENT ON FUNCTION immutable.json_patch(jsonb, immutable.event) IS
'ready-made reducer: the operations of RFC 6902 under the key patch of the event''s data, applied to a document; 22023 when one does not fit';

CREATE FUNCTION immutable.explain_reducer(reducer regproc)
RETURNS TABLE (inlined boolean, problem text)
LANGUAGE C STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ie_explain_reducer';
COMMENT ON FUNCTION immutable.explain_reducer(regproc) IS
'does a reducer run without a function call for each event, and if not, why (22004, 42804, 42883)';
