-- merge_patch: 10,000 events into a document of 5,000 keys, beside || in an
-- aggregate (about a minute). Run it alone:
--   .ci/with-cluster -c fsync=off -c jit=off psql -X -f bench/merge_patch.sql
CREATE EXTENSION immutable_events;
select immutable.create_log('l');
select count(immutable.append_batch('l','s',(select array_agg(row('t',jsonb_build_object('k'||((b*1000+i)*7919)%5000, jsonb_build_object('v',i)),null,null,null)::immutable.new_event) from generate_series(1,1000) i))) from generate_series(0,9) b;
create function cat(jsonb, immutable.event) returns jsonb language sql immutable as 'select $1 || $2.data';
create aggregate docs(immutable.event) (sfunc=cat, stype=jsonb, initcond='{}');
\timing on
select length(docs(e order by version)::text) from l e;
select length(immutable.fold('{}'::jsonb,'immutable.merge_patch', e)::text) from (select * from l order by position) e;
select length(immutable.replay('l','s','{}'::jsonb,'immutable.merge_patch')::text);
