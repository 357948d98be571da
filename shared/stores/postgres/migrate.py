"""Applies the numbered SQL files beside this module, in order, each once: ``python -m shared.stores.postgres.migrate``.

Any number of these may run at once: an advisory lock lets one work, the others then find nothing left to do. Each file
runs in one transaction with the row that says it was applied. A file that changed after it was applied is refused,
because two databases of the same version would differ. Connect to the server itself: a transaction pooler in between
(PgBouncer) would take the lock away.
"""

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

MIGRATIONS = Path(__file__).parent / "migrations"

_LOCK = 7_003_715_215_926_321_001
"""Any number, the same in every version of this program."""
_LOCK_TIMEOUT_S = 300
_TABLE = """
    CREATE TABLE IF NOT EXISTS schema_migrations (
        name       text        PRIMARY KEY,
        checksum   text        NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    )
"""

_Connection = psycopg.Connection[TupleRow]


class MigrationRefused(Exception):
    """The files and the database contradict each other; the message says which file and how."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file. The checksum does not see line endings, which a checkout may change."""

    name: str
    sql: str

    @property
    def number(self) -> str:
        """What the file's name starts with."""
        return self.name.split("_", 1)[0]

    @property
    def checksum(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def read_migrations(folder: Path = MIGRATIONS) -> tuple[Migration, ...]:
    """The files of a folder in order of their numbers.

    Raises:
        MigrationRefused: the numbers do not count 0001, 0002, and so on without a gap or a double.
    """
    found = tuple(
        # Universal newlines: the text is the same on every platform.
        Migration(path.name, path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.sql"))
    )
    for expected, migration in enumerate(found, start=1):
        if migration.number != f"{expected:04d}":
            raise MigrationRefused(f"{migration.name}: its number should be {expected:04d}, without gap or double")
    return found


def migrate(dsn: str, *, wait_s: float = 30.0, migrations: Sequence[Migration] | None = None) -> list[str]:
    """Bring a database up to date; returns the names of the files applied now, in order.

    Args:
        dsn: libpq connection string or URL.
        wait_s: seconds to wait for a server that does not take connections yet.
        migrations: instead of those beside this module.

    Raises:
        MigrationRefused: an applied file has changed.
        psycopg.Error: no connection in time, or a file failed; files before it stay applied.
    """
    wanted = read_migrations() if migrations is None else migrations
    with _connect(dsn, wait_s) as connection:
        connection.execute(f"SET lock_timeout = '{_LOCK_TIMEOUT_S}s'".encode())
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        connection.execute(_TABLE)
        applied: dict[str, str] = dict(connection.execute("SELECT name, checksum FROM schema_migrations").fetchall())
        _refuse_changed(wanted, applied)
        missing = [migration for migration in wanted if migration.name not in applied]
        for migration in missing:
            _apply(connection, migration)
        return [migration.name for migration in missing]


def _connect(dsn: str, wait_s: float) -> _Connection:
    give_up_at = time.monotonic() + wait_s
    while True:
        try:
            return psycopg.connect(dsn, autocommit=True, connect_timeout=3, application_name="llm-router-migrate")
        except psycopg.OperationalError:
            if time.monotonic() >= give_up_at:
                raise
            time.sleep(0.25)


def _refuse_changed(wanted: Sequence[Migration], applied: dict[str, str]) -> None:
    for migration in wanted:
        if applied.get(migration.name, migration.checksum) != migration.checksum:
            raise MigrationRefused(
                f"{migration.name} has changed since it was applied to this database; "
                "restore the file and put the change into a new one"
            )


def _apply(connection: _Connection, migration: Migration) -> None:
    with connection.transaction():
        connection.execute(migration.sql.encode())
        connection.execute(
            "INSERT INTO schema_migrations (name, checksum) VALUES (%s, %s)", (migration.name, migration.checksum)
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m shared.stores.postgres.migrate", description=__doc__)
    parser.add_argument("--dsn", default=os.environ.get("POSTGRES_DSN"), help="instead of POSTGRES_DSN")
    parser.add_argument("--wait", type=float, default=30.0, metavar="SECONDS", help="for the server to come up")
    options = parser.parse_args(arguments)
    if not options.dsn:
        parser.error("set POSTGRES_DSN or pass --dsn")
    try:
        conninfo_to_dict(options.dsn)
    except psycopg.ProgrammingError:
        # Its own message quotes the string, password and all.
        parser.error("the connection string cannot be read")
    try:
        names = migrate(options.dsn, wait_s=options.wait)
    except (MigrationRefused, psycopg.Error) as error:
        sys.stderr.write(f"migrate: {error}\n")
        return 1
    sys.stdout.write("".join(f"applied {name}\n" for name in names) or "nothing to apply\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
