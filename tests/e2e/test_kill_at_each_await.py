"""A worker killed at every await of a request: whatever was admitted has one record, and the budget agrees with the ledger."""

import json
import shutil
import subprocess
import sys
import threading
import uuid

import psycopg
import pytest

from infra.local.environment import REPOSITORY

BUDGET = """
[[budgets]]
name = "kill-test"
per = "service"
period = "total"
hard_usd = "100"
"""
MOST_STEPS = 400
ANSWER_S = 60
CASES = {
    "plain": ("chat/completions", {"model": "auto", "messages": [{"role": "user", "content": "Say hello."}]}),
    "stream": (
        "chat/completions",
        {"model": "auto", "stream": True, "messages": [{"role": "user", "content": "Say hello."}]},
    ),
    "embeddings": ("embeddings", {"model": "auto", "input": ["one", "two"]}),
}


class Worker:
    """The process that forks mortal ones."""

    def __init__(self, environment, log):
        self._errors = log.open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.mortal_worker"],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._log = log

    def ask(self, path, body, *, request_id, kill_at, headers=()):
        order = {"path": path, "body": body, "request_id": request_id, "kill_at": kill_at, "headers": dict(headers)}
        self._process.stdin.write(f"{json.dumps(order)}\n")
        self._process.stdin.flush()
        watch = threading.Timer(ANSWER_S, self._process.kill)
        watch.start()
        line = self._process.stdout.readline()
        watch.cancel()
        assert line, self._log.read_text()[-3000:]
        answer = json.loads(line)
        assert "failed" not in answer, self._log.read_text()[-3000:]
        return answer

    def stop(self):
        with self._process:
            self._process.stdin.close()
            self._process.wait(ANSWER_S)
        self._errors.close()


@pytest.fixture
def settings(stack, tmp_path):
    """The stack's settings, with a journal of its own and a budget."""
    rules = tmp_path / "registry"
    rules.mkdir()
    shutil.copy(REPOSITORY / "shared/registry/policy.toml", rules)
    with (rules / "policy.toml").open("a") as policy:
        policy.write(BUDGET)
    directories = f"{stack.settings['ROUTER_REGISTRY_DIR']},{rules}"
    return stack.settings | {"ROUTER_REGISTRY_DIR": directories, "ROUTER_JOURNAL_DIR": str(tmp_path / "journal")}


@pytest.fixture
def worker(settings, tmp_path):
    worker = Worker({"PATH": "/usr/bin:/bin", **settings}, tmp_path / "worker.log")
    yield worker
    worker.stop()


def ledger(settings, service):
    """The service's records by id, and what its budget was charged with: micro-USD and requests."""
    with psycopg.connect(settings["POSTGRES_DSN"]) as connection:
        rows = connection.execute(
            "SELECT id, status, ceil(cost_exact * 1000000)::bigint FROM requests WHERE service_name = %s", (service,)
        ).fetchall()
        charged = connection.execute(
            "SELECT micro_usd::bigint, requests FROM budget_spend WHERE account = %s", (f"kill-test/total/{service}",)
        ).fetchone()
    return {str(key): (status, cost) for key, status, cost in rows}, charged


@pytest.mark.parametrize("case", CASES)
def test_every_admitted_request_has_one_record_and_its_money_is_booked_once(case, worker, settings):
    path, body = CASES[case]
    service = f"mortal-{uuid.uuid4().hex[:8]}"
    headers = {"x-router-service": service}
    asked, killed = [], 0
    for kill_at in range(1, MOST_STEPS):
        request_id = str(uuid.uuid4())
        outcome = worker.ask(path, body, request_id=request_id, kill_at=kill_at, headers=headers)
        asked.append(request_id)
        if not outcome.get("killed"):
            assert outcome["status"] == 200
            break
        killed += 1
    assert killed > 5
    # The next worker takes over what the dead left.
    heir = str(uuid.uuid4())
    assert worker.ask(path, body, request_id=heir, kill_at=0, headers=headers)["status"] == 200
    found, charged = ledger(settings, service)
    assert {asked[-1], heir} <= set(found)
    assert set(found) <= {*asked, heir}
    statuses = [found[request_id][0] for request_id in asked if request_id in found]
    # Killed before it was admitted: no record. From then on: one, abandoned or, once the end was noted, as it ended.
    first = next(n for n, request_id in enumerate(asked) if request_id in found)
    assert len(statuses) == len(asked) - first
    assert set(statuses) <= {"abandoned", "success"}
    assert "abandoned" in statuses
    assert found[heir][1] > 0
    assert charged == (sum(cost for _, cost in found.values()), len(found))
