"""The ledger's row of a request, which is written behind the response."""

import time

import psycopg

DEADLINE_S = 15


def row_of(stack, request_id):
    """The row as a dictionary, awaited with a deadline."""
    deadline = time.monotonic() + DEADLINE_S
    with psycopg.connect(stack.settings["POSTGRES_DSN"], autocommit=True) as connection:
        while True:
            cursor = connection.execute("SELECT * FROM requests WHERE id = %s", (request_id,))
            row = cursor.fetchone()
            if row is not None:
                return dict(zip((column.name for column in cursor.description), row, strict=True))
            assert time.monotonic() < deadline, f"no record of {request_id}"
            time.sleep(0.05)
