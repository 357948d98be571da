"""Redis, PostgreSQL and the queue service frozen (SIGSTOP): answers go on coming, readiness tells the truth, nothing is lost."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import requests

REQUESTS = 24
HANGS_S = 20
"""A call that takes so long hangs: the router's own patience with a store is well below a second."""
DEADLINE_S = 60
UNAVAILABLE = 503


def ask(stack, service):
    return requests.post(
        f"{stack.base_url}/api/v1/route",
        json={"model": "auto", "prompt": "Say hello."},
        headers={"x-router-service": service},
        timeout=HANGS_S,
    )


def ask_many(stack, service):
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda _: ask(stack, service), range(REQUESTS)))


def readiness(stack):
    return requests.get(f"{stack.base_url}/api/v1/health/ready", timeout=HANGS_S)


def until(check):
    """Poll until the check holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := check()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def recorded(stack, service):
    with psycopg.connect(stack.settings["POSTGRES_DSN"], autocommit=True) as connection:
        query = "SELECT id FROM requests WHERE service_name = %s"
        return {str(key) for (key,) in connection.execute(query, (service,)).fetchall()}


@pytest.fixture
def service():
    return f"frozen-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def frozen(stack):
    """Freezes services; thaws them at the end."""
    asleep = []

    def freeze(*services):
        for each in services:
            each.freeze()
            asleep.append(each)

    def thaw():
        while asleep:
            asleep.pop().thaw()

    freeze.thaw = thaw
    yield freeze
    thaw()
    until(lambda: readiness(stack).json()["status"] == "ready")


def test_with_redis_frozen_requests_are_answered_and_recorded(stack, service, frozen):
    frozen(stack.redis)
    answers = ask_many(stack, service)
    assert {answer.status_code for answer in answers} == {200}
    told = readiness(stack)
    assert (told.status_code, told.json()["status"]) == (200, "degraded")
    dependencies = told.json()["dependencies"]
    assert dependencies["redis"]["status"] == "unavailable"
    assert dependencies["postgres"]["status"] == "ok"
    frozen.thaw()
    sent = {answer.headers["x-request-id"] for answer in answers}
    until(lambda: recorded(stack, service) == sent)


def test_with_postgres_frozen_records_wait_and_arrive_once(stack, service, frozen):
    frozen(stack.postgres)
    answers = ask_many(stack, service)
    assert {answer.status_code for answer in answers} == {200}
    told = readiness(stack)
    assert (told.status_code, told.json()["status"]) == (200, "degraded")
    assert told.json()["dependencies"]["postgres"]["status"] == "unavailable"
    frozen.thaw()
    sent = {answer.headers["x-request-id"] for answer in answers}
    until(lambda: recorded(stack, service) == sent)


def test_with_ledger_and_queue_frozen_the_router_says_that_it_is_not_ready(stack, service, frozen):
    frozen(stack.postgres, stack.azurite)
    until(lambda: readiness(stack).status_code == UNAVAILABLE)
    told = readiness(stack)
    assert told.json()["status"] == "not_ready"
    assert told.headers["retry-after"]
    # What is asked nevertheless is answered and kept: in memory and in the journal.
    answer = ask(stack, service)
    assert answer.status_code == 200
    frozen.thaw()
    until(lambda: recorded(stack, service) == {answer.headers["x-request-id"]})
