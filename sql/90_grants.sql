-- Who may call what: trigger functions and administration are not for PUBLIC. But
-- immutable._version is: who adds a partition to a versioned table makes a trigger.

REVOKE EXECUTE ON FUNCTION immutable._guard() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION immutable._registry_changed() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION immutable._project() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION immutable._guard_read_model() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION immutable.unprotect(regclass, boolean) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION immutable.drop_log(regclass, boolean) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION immutable._version_truncate() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION immutable.drop_versioning(regclass) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION immutable.start_worker() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION immutable.stop_worker() FROM PUBLIC;
