-- What \d+ says of the columns of views, and of what users read in registries.

COMMENT ON COLUMN immutable.protected_tables.relation IS
'a table with guards, a table below one, or a log';
COMMENT ON COLUMN immutable.protected_tables.armed IS
'are its guards in place?';
COMMENT ON COLUMN immutable.protected_tables.problem IS
'what is wrong with them; NULL when nothing is';

COMMENT ON COLUMN immutable.logs.events IS
'an estimate, from ANALYZE';
COMMENT ON COLUMN immutable.logs.last_position IS
'the last one that was drawn; NULL where the caller may not read the log';
COMMENT ON COLUMN immutable.logs.safe_position IS
'up to here everything is decided; NULL where the caller may not read the log';
COMMENT ON COLUMN immutable.logs.size IS
'in bytes, with indexes and partitions';
COMMENT ON COLUMN immutable.logs.armed IS
'are its guards in place?';
COMMENT ON COLUMN immutable.logs.relation IS
'the log';

COMMENT ON COLUMN immutable.projection_status.state IS
'current; behind: it has still to fold readable events; halted: the event at error_position fails; denied: its owner may not read the log; stale: the reducer has changed since the rows were folded';
COMMENT ON COLUMN immutable.projection_status.position IS
'the read model has everything up to here';
COMMENT ON COLUMN immutable.projection_status.lag_events IS
'positions up to the safe one, of all streams and types';
COMMENT ON COLUMN immutable.projection_status.lag_seconds IS
'age of the first event that it has still to fold';
COMMENT ON COLUMN immutable.projection_status.refreshed_at IS
'when it last folded a batch';
COMMENT ON COLUMN immutable.projection_status.error_event IS
'id of the event at error_position';
COMMENT ON COLUMN immutable.projection_status.worker IS
'process id of the worker that serves this database; NULL when there is none';
COMMENT ON COLUMN immutable.projection_status.target IS
'the read model';
COMMENT ON COLUMN immutable.projection_status.log IS
'the log that it is folded from';
COMMENT ON COLUMN immutable.projection_status.mode IS
'inline or async';
COMMENT ON COLUMN immutable.projection_status.safe_position IS
'up to here the log may be read';
COMMENT ON COLUMN immutable.projection_status.error IS
'why it is halted; NULL when it is not';
COMMENT ON COLUMN immutable.projection_status.error_sqlstate IS
'the SQLSTATE of error';
COMMENT ON COLUMN immutable.projection_status.error_position IS
'the event that fails; NULL when the projection as a whole cannot run';

COMMENT ON COLUMN immutable.rebuild_progress.phase IS
'starting, folding, indexing, catching up, waiting for locks, applying the difference, exchanging storage';
COMMENT ON COLUMN immutable.rebuild_progress.events_total IS
'an estimate';
COMMENT ON COLUMN immutable.rebuild_progress.pid IS
'process id of the backend that runs the rebuild';
COMMENT ON COLUMN immutable.rebuild_progress.target IS
'the read model';
COMMENT ON COLUMN immutable.rebuild_progress.events_done IS
'events folded so far';
COMMENT ON COLUMN immutable.rebuild_progress.events_per_second IS
'since it began';
COMMENT ON COLUMN immutable.rebuild_progress.started_at IS
'when it began';

COMMENT ON COLUMN immutable.consumer_status.position IS
'done with everything up to here, but for streams that are set aside';
COMMENT ON COLUMN immutable.consumer_status.lag_events IS
'positions up to the safe one, of all streams and types';
COMMENT ON COLUMN immutable.consumer_status.lag_seconds IS
'age of the first event that is not done';
COMMENT ON COLUMN immutable.consumer_status.holder IS
'the role that has polled under the lease';
COMMENT ON COLUMN immutable.consumer_status.lease_token IS
'who sets immutable.lease to it may ack, nack and renew in another session';
COMMENT ON COLUMN immutable.consumer_status.consumer IS
'its name';
COMMENT ON COLUMN immutable.consumer_status.shard IS
'from 0';
COMMENT ON COLUMN immutable.consumer_status.safe_position IS
'up to here the log may be read';
COMMENT ON COLUMN immutable.consumer_status.holder_pid IS
'process id of the backend that has polled under the lease';
COMMENT ON COLUMN immutable.consumer_status.lease_until IS
'from then on another poll may take the shard over';
COMMENT ON COLUMN immutable.consumer_status.last_poll IS
'when it was last polled';

COMMENT ON COLUMN immutable.parked.position IS
'the event that has failed';
COMMENT ON COLUMN immutable.parked.deliveries IS
'how often it has failed';
COMMENT ON COLUMN immutable.parked.error IS
'what immutable.nack was told';
COMMENT ON COLUMN immutable.parked.consumer IS
'its name';
COMMENT ON COLUMN immutable.parked.stream IS
'later events of it wait, too';

COMMENT ON COLUMN immutable.workers.pid IS
'process id; NULL when none runs';
COMMENT ON COLUMN immutable.workers.database IS
'that it serves';
COMMENT ON COLUMN immutable.workers.started_at IS
'when the process started';

COMMENT ON COLUMN immutable.guard_changes.action IS
'protect, unprotect, drop, seal or import';
COMMENT ON COLUMN immutable.guard_changes.changed_at IS
'the time of the change';

COMMENT ON COLUMN immutable.projections.target IS
'the read model';
COMMENT ON COLUMN immutable.projections.key IS
'expressions over the event''s columns, one for each column of the primary key';
COMMENT ON COLUMN immutable.projections.types IS
'the types of events that it folds; NULL: all';
COMMENT ON COLUMN immutable.projections.stream_prefix IS
'of the streams whose events it folds; NULL: all';
COMMENT ON COLUMN immutable.projections.mode IS
'inline or async';
COMMENT ON COLUMN immutable.projections.commutative IS
'the owner says that the order of events does not matter';
COMMENT ON COLUMN immutable.projections.log IS
'the log that it is folded from';
COMMENT ON COLUMN immutable.projections.reducer IS
'the function, with its schema and arguments';
COMMENT ON COLUMN immutable.projections.created_at IS
'when the projection was made';

COMMENT ON COLUMN immutable.skipped_events.target IS
'the read model that goes without the event';
COMMENT ON COLUMN immutable.skipped_events.position IS
'of the event, in the log of the projection';
COMMENT ON COLUMN immutable.skipped_events.reason IS
'what immutable.skip_event was told';
COMMENT ON COLUMN immutable.skipped_events.skipped_at IS
'the time of the call';
COMMENT ON COLUMN immutable.skipped_events.role IS
'the role whose rights were used (current_user)';
COMMENT ON COLUMN immutable.skipped_events.session_role IS
'the role that was logged in (session_user)';

COMMENT ON COLUMN immutable.safe_positions.log IS
'a log or a version table';
COMMENT ON COLUMN immutable.safe_positions.persisted_at IS
'when it was recorded';

COMMENT ON COLUMN immutable.snapshots.log IS
'the log whose streams are replayed';

COMMENT ON COLUMN immutable.upcasters.log IS
'the log whose events it takes';
COMMENT ON COLUMN immutable.upcasters.type IS
'of the events that it takes';

COMMENT ON COLUMN immutable.command_tables.log IS
'the log whose commands are recorded';
COMMENT ON COLUMN immutable.command_tables.relation IS
'the protected table that they are recorded in, by id';

COMMENT ON COLUMN immutable.versioned_tables.relation IS
'the table whose rows are versioned';
