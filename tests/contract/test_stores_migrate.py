"""Migrations: each once, in order, by however many at a time, and never one that changed."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from infra.local.services import Postgres
from shared.stores.postgres.migrate import Migration, MigrationRefused, main, migrate, read_migrations

ROOT = Path(__file__).parents[2]
FIRST = Migration("0001_first.sql", "CREATE TABLE first (id int); CREATE TABLE also_first (id int);")
SECOND = Migration("0002_second.sql", "ALTER TABLE first ADD COLUMN note text")


def _tables(dsn: str) -> set[str]:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return {name for (name,) in rows}


def test_files_are_applied_in_order_and_once(empty_postgres_dsn: str) -> None:
    assert migrate(empty_postgres_dsn, migrations=[FIRST]) == ["0001_first.sql"]
    assert migrate(empty_postgres_dsn, migrations=[FIRST, SECOND]) == ["0002_second.sql"]
    assert migrate(empty_postgres_dsn, migrations=[FIRST, SECOND]) == []
    assert _tables(empty_postgres_dsn) == {"first", "also_first", "schema_migrations"}


def test_older_code_leaves_a_newer_database_alone(empty_postgres_dsn: str) -> None:
    migrate(empty_postgres_dsn, migrations=[FIRST, SECOND])

    assert migrate(empty_postgres_dsn, migrations=[FIRST]) == []


def test_a_file_that_changed_is_refused_before_anything_is_applied(empty_postgres_dsn: str) -> None:
    migrate(empty_postgres_dsn, migrations=[FIRST])

    with pytest.raises(MigrationRefused, match=r"0001_first\.sql has changed since it was applied"):
        migrate(empty_postgres_dsn, migrations=[Migration(FIRST.name, FIRST.sql + " "), SECOND])

    assert migrate(empty_postgres_dsn, migrations=[FIRST, SECOND]) == ["0002_second.sql"]


def test_a_file_that_fails_leaves_nothing_of_itself(empty_postgres_dsn: str) -> None:
    broken = Migration("0002_broken.sql", "CREATE TABLE second (id int); SELECT 1 / 0")

    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate(empty_postgres_dsn, migrations=[FIRST, broken])

    assert _tables(empty_postgres_dsn) == {"first", "also_first", "schema_migrations"}
    assert migrate(empty_postgres_dsn, migrations=[FIRST, SECOND]) == ["0002_second.sql"]


def test_many_at_once_apply_each_file_once(empty_postgres_dsn: str) -> None:
    with ThreadPoolExecutor(6) as threads:
        applied = list(threads.map(lambda _: migrate(empty_postgres_dsn), range(6)))

    assert sorted(applied, key=len) == [[]] * 5 + [[migration.name for migration in read_migrations()]]


def test_the_command_says_what_it_did(empty_postgres_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "shared.stores.postgres.migrate", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    monkeypatch.setenv("POSTGRES_DSN", empty_postgres_dsn)
    first = run()
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.startswith("applied 0001_requests.sql\n")

    monkeypatch.setenv("POSTGRES_DSN", "postgresql://nobody@127.0.0.1:1/nothing")
    again = run("--dsn", empty_postgres_dsn)
    assert (again.returncode, again.stdout) == (0, "nothing to apply\n")


def test_a_server_that_is_still_starting_is_waited_for(postgres_server: Postgres, empty_postgres_dsn: str) -> None:
    postgres_server.stop()
    with ThreadPoolExecutor(1) as threads:
        migrating = threads.submit(migrate, empty_postgres_dsn, wait_s=60, migrations=[FIRST])
        postgres_server.start()

        assert migrating.result(timeout=60) == ["0001_first.sql"]


def test_a_server_that_never_comes_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dsn", "postgresql://nobody@127.0.0.1:1/nothing", "--wait", "0"]) == 1
    assert capsys.readouterr().err.startswith("migrate: connection failed")


@pytest.mark.parametrize("arguments", [[], ["--dsn", "postgresql://user:hunter2@[::1"]])
def test_a_missing_or_unreadable_address_is_reported_without_quoting_it(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("POSTGRES_DSN", raising=False)

    with pytest.raises(SystemExit):
        main(arguments)

    assert "hunter2" not in capsys.readouterr().err


def test_the_repositorys_own_files_are_numbered_without_a_gap() -> None:
    numbers = [migration.number for migration in read_migrations()]

    assert numbers
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]


@pytest.mark.parametrize(
    "names", [("0002_a.sql",), ("0001_a.sql", "0001_b.sql"), ("0001_a.sql", "0003_b.sql"), ("1_a.sql",)]
)
def test_numbers_with_a_gap_or_a_double_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).write_text("SELECT 1")

    with pytest.raises(MigrationRefused, match="without gap or double"):
        read_migrations(tmp_path)


def test_line_endings_do_not_make_another_file(tmp_path: Path) -> None:
    (tmp_path / "0001_a.sql").write_bytes(b"SELECT 1;\nSELECT 2;\n")
    (unix,) = read_migrations(tmp_path)
    (tmp_path / "0001_a.sql").write_bytes(b"SELECT 1;\r\nSELECT 2;\r\n")

    assert read_migrations(tmp_path) == (unix,)
