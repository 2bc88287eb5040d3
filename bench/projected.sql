-- Fresh tables for a round of pgbench with an inline projection.
\o /dev/null
SELECT bench.create_projected('stream', false);
SELECT bench.create_triggered();
SELECT bench.create_base('pgbench_base');
CHECKPOINT;
