#!/usr/bin/python3
"""An application of audit.sql, with psycopg 3. It finds the server as psql does
(PGHOST, PGUSER, PGDATABASE …):

    apt install python3-psycopg && PGDATABASE=audit ./audit.py
"""
from contextlib import contextmanager
import json

import psycopg


@contextmanager
def request(connection, user, why):
    """A request of a user: one transaction, whose changes all say who and why."""
    with connection.transaction():
        connection.execute("SET LOCAL ROLE clinic_app")  # or log in as it
        connection.execute(
            "SELECT set_config('immutable.context', %s, true)",
            (json.dumps({"user": user, "why": why}),),
        )
        yield


def refused(connection, statement):
    """The SQLSTATE with which a statement fails; None when it does not."""
    try:
        with connection.transaction():
            connection.execute(statement)
    except psycopg.Error as error:
        return error.sqlstate
    return None


def report(connection):
    """Carries new events into the report, each exactly once."""
    with connection.transaction():
        last = connection.execute(
            """
            WITH events AS MATERIALIZED (SELECT * FROM immutable.poll('supervisor', max_events => 1000)),
            written AS (
                INSERT INTO report
                SELECT position, format('%s %s by %s: %s', type, stream, metadata->>'user', metadata->>'why')
                FROM events)
            SELECT max(position) FROM events
            """
        ).fetchone()[0]
        if last is not None:
            connection.execute("SELECT immutable.ack('supervisor', %s)", (last,))
        return last is not None


def main():
    with psycopg.connect(autocommit=True) as connection:
        with request(connection, "nurse ann", "admission"):
            connection.execute("INSERT INTO patient VALUES (1, 'Smith', 'A'), (2, 'Jones', 'A')")
        with request(connection, "nurse bob", "moved: ward A is full"):
            connection.execute("UPDATE patient SET ward = 'B' WHERE id = 1")
        with request(connection, "dr cleo", "discharged"):
            connection.execute("DELETE FROM patient WHERE id = 1")

        print("the history of patient 1:")
        for row in connection.execute(
            """
            SELECT version, type, data->'old'->>'ward', data->'new'->>'ward', metadata->>'user', metadata->>'why'
            FROM immutable.read_stream('audit_trail', 'patient-1')
            """
        ):
            print(" ", *row)

        print("after version 1 he was in ward", connection.execute(
            """
            SELECT immutable.replay('audit_trail', 'patient-1', NULL::jsonb, 'row_image',
                upto_version => 1)->>'ward'
            """
        ).fetchone()[0])

        # nobody covers his tracks: the application lacks the right, a superuser
        # has it and is refused all the same
        with connection.transaction(force_rollback=True):
            connection.execute("SET LOCAL ROLE clinic_app")
            print("the application:", refused(connection, "DELETE FROM audit_trail"),
                  refused(connection, "SELECT immutable.append('audit_trail', 'patient-1', 'forged')"))
        for statement in (
            "UPDATE audit_trail SET metadata = '{}'",
            "TRUNCATE audit_trail",
            "ALTER TABLE audit_trail DISABLE TRIGGER ALL",
            "DROP TABLE audit_trail CASCADE",
        ):
            print("a superuser:", refused(connection, statement), statement)

        while report(connection):
            pass
        for (line,) in connection.execute("SELECT line FROM report ORDER BY position"):
            print(" ", line)

        faults = connection.execute("SELECT * FROM immutable.check_log('audit_trail')").fetchall()
        open_holes = connection.execute(
            """
            SELECT hole FROM immutable.guard_report('audit_trail')
            WHERE state = 'open' AND hole NOT IN ('event triggers', 'catalog update')
            """
        ).fetchall()
        print("faults:", len(faults), "holes:", len(open_holes))


main()
