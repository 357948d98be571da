"""The judge's daily money with several processes: never more than the cap, and nearly all of it is used."""

import asyncio
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from shared.domain.judging import JUDGE_SERVICE

ROOT = Path(__file__).parents[2]
CAP = Decimal("0.2")
_SPENT = "SELECT coalesce(sum(cost_exact), 0), count(*) FILTER (WHERE error_code = 'budget_exceeded') FROM requests WHERE service_name = %s"


def started(redis_url: str, dsn: str, journal: Path, seed: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.contract.judging_worker", redis_url, dsn, str(journal), str(CAP), str(seed)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@pytest.mark.timeout(200)
async def test_processes_together_never_spend_more_than_the_cap(
    redis_url: str, postgres_dsn: str, tmp_path: Path
) -> None:
    workers = [started(redis_url, postgres_dsn, tmp_path / "journal", seed) for seed in range(3)]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert await asyncio.to_thread(worker.stdout.readline) == b"ready\n"
        with psycopg.connect(postgres_dsn, autocommit=True) as connection:
            async with asyncio.timeout(90):
                while True:
                    spent, refused = connection.execute(_SPENT, (JUDGE_SERVICE,)).fetchone() or (Decimal(0), 0)
                    assert spent <= CAP
                    if refused >= 3:
                        break
                    await asyncio.sleep(0.05)
    finally:
        for worker in workers:
            worker.communicate(timeout=60)
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        spent, refused = connection.execute(_SPENT, (JUDGE_SERVICE,)).fetchone() or (Decimal(0), 0)
        verdicts = connection.execute("SELECT count(*) FROM quality_evidence WHERE kind = 'judge'").fetchone()
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert CAP * Decimal("0.9") < spent <= CAP
    assert verdicts is not None
    assert verdicts[0] > 0
