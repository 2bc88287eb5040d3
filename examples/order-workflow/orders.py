#!/usr/bin/python3
"""An application of orders.sql, with psycopg 3. It finds the server as psql does
(PGHOST, PGUSER, PGDATABASE …):

    apt install python3-psycopg && PGDATABASE=orders ./orders.py
"""
from threading import Thread
from uuid import uuid4

import psycopg
from psycopg.types.json import Jsonb


def handle(connection, order_id, command, command_id=None, **arguments):
    """Has a command handled; answers (version, position, written)."""
    return connection.execute(
        "SELECT * FROM handle_order(%s, %s, %s)",
        (order_id, Jsonb({"type": command, **arguments}), command_id or uuid4()),
    ).fetchone()


def ship_paid_orders(connection):
    """A process manager: what has been paid is shipped. Its effect is in this
    database, so poll, effect and ack are one transaction: exactly once."""
    shipped = 0
    while True:
        with connection.transaction():
            events = connection.execute(
                "SELECT position, stream FROM immutable.poll('shipping', max_events => 10)"
            ).fetchall()
            for position, stream in events:
                handle(connection, int(stream.removeprefix("order-")), "ShipOrder")
                connection.execute("SELECT immutable.ack('shipping', %s)", (position,))
                shipped += 1
        if not events:
            return shipped


def race(order_id, commands):
    """Sends commands for one order at the same time, each in its own session;
    answers what became of them."""
    outcomes = []

    def send(command):
        try:
            with psycopg.connect() as connection:
                handle(connection, order_id, command)
            outcomes.append("done")
        except psycopg.Error as error:
            outcomes.append(error.sqlstate)

    threads = [Thread(target=send, args=(command,)) for command in commands]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(outcomes)


def main():
    with psycopg.connect(autocommit=True) as connection:
        connection.execute("SET immutable.context = '{\"application\": \"orders.py\"}'")

        # the same command twice, as when the first answer was lost
        first = uuid4()
        answers = [handle(connection, 1, "PlaceOrder", first, amount=30) for _ in range(2)]
        print("placed:", answers[0][0], "the same answer:", answers[0] == answers[1])

        # a command that is not allowed leaves nothing behind
        try:
            handle(connection, 1, "ShipOrder")
        except psycopg.Error as error:
            print("refused:", error.sqlstate, error.diag.message_primary)

        # the caller reads his own write: the read model is current already
        handle(connection, 1, "PayOrder")
        print("paid:", connection.execute("SELECT status, amount FROM orders WHERE order_id = 'order-1'").fetchone())

        # whoever comes first wins, and the other one decides on what has happened
        for order_id in range(2, 12):
            handle(connection, order_id, "PlaceOrder", amount=order_id)
        races = [race(order_id, ["PayOrder", "CancelOrder"]) for order_id in range(2, 12)]
        print("races with one winner:", sum(outcome == ["OR001", "done"] for outcome in races))

        # every paid order is shipped, once, however often this runs
        paid = connection.execute("SELECT count(*) FROM orders WHERE status = 'paid'").fetchone()[0]
        print("shipped all that was paid:", ship_paid_orders(connection) == paid, ship_paid_orders(connection))

        history = connection.execute(
            "SELECT version, type, metadata->>'application' FROM immutable.read_stream('shop', 'order-1')"
        ).fetchall()
        for version, event_type, application in history:
            print(" ", version, event_type, application)
        wrong = connection.execute("SELECT * FROM immutable.verify_projection('orders')").fetchall()
        print("orders that differ from their events:", len(wrong))


main()
