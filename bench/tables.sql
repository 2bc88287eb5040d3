-- Fresh tables for a round of pgbench.
\o /dev/null
SELECT bench.create_log('pgbench_log');
SELECT bench.create_base('pgbench_base');
CHECKPOINT;
