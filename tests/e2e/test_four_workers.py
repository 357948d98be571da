"""Four host processes share what they know of deployments: one quota, one breaker."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from infra.local.application import FunctionApp
from infra.local.environment import free_ports
from infra.local.stack import wait_serving
from shared.config import REGISTRY_DIRECTORY
from tests.e2e.fault_cases import deployment_entry, model_entry

QUOTA = 15
MINIMUM_CALLS = 10
AT_ONCE = 16
READY_S = 90.0
DEADLINE_S = 60.0
SHARED_AFTER_S = 0.5
"""Workers tell each other about deployments several times a second; until then each learns for itself."""


@pytest.fixture(scope="module")
def app(stack, tmp_path_factory):
    directory = tmp_path_factory.mktemp("four")
    registry = directory / "registry"
    registry.mkdir()
    limited = deployment_entry("limited", "gemini", "case-a1", 1) + f"requests_per_minute = {QUOTA}\n"
    entries = [
        model_entry("limited", 0.8),
        limited,
        model_entry("failing", 0.8),
        deployment_entry("failing", "gemini", "case-b1", 1),
        deployment_entry("failing", "gemini", "case-b2", 2),
    ]
    (registry / "models.toml").write_text("\n".join(entries))
    policy = (REGISTRY_DIRECTORY / "policy.toml").read_text()
    policy = policy.replace("minimum_calls = 20", f"minimum_calls = {MINIMUM_CALLS}")
    (registry / "policy.toml").write_text(policy.replace("open_s = 10 ", "open_s = 300 "))
    settings = {
        **stack.settings,
        "ROUTER_REGISTRY_DIR": str(registry),
        "ROUTER_JOURNAL_DIR": str(directory / "journal"),
        "REDIS_URL": f"{stack.settings['REDIS_URL'].rsplit('/', 1)[0]}/9",
    }
    (port,) = free_ports(1)
    app = FunctionApp(directory / "app", directory, port, settings, workers=4)
    app.start()
    try:
        is_ready, answer = wait_serving(port, READY_S)
        assert is_ready, f"{answer}\n{app.log_tail(40)}"
        yield app
    finally:
        app.stop()


def ask(app, model):
    body = {"model": model, "messages": [{"role": "user", "content": "Say hello."}]}
    return requests.post(f"{app.base_url}/api/v1/chat/completions", json=body, timeout=DEADLINE_S)


def ask_many(app, model, count):
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda _: ask(app, model), range(count)))


def calls(stack, region):
    found = requests.get(f"{stack.simulator.http_endpoint}/_sim/calls", timeout=5).json()["calls"]
    return sum(call["region"] == region for call in found)


@pytest.fixture(autouse=True)
def _counted(stack):
    requests.delete(f"{stack.simulator.http_endpoint}/_sim/calls", timeout=5)


def test_a_quota_holds_over_all_workers(app, stack):
    ask_many(app, "failing", 4 * AT_ONCE)  # every worker has its connections
    answers = ask_many(app, "limited", 4 * QUOTA)
    served = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(served) == calls(stack, "case-a1") >= QUOTA
    # A worker whose Redis did not answer in time goes by its share (docs/resilience.md): then up to twice as many.
    assert len(served) <= (2 * QUOTA if "health_store_away" in app.log_path.read_text() else QUOTA)
    assert {answer.status_code for answer in refused} == {429}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)


def test_a_breaker_that_opens_opens_for_all_workers(app, stack):
    stack.simulator.set_faults([{"match": {"region": "case-b1"}, "fault": "server_error"}])
    deadline = time.monotonic() + DEADLINE_S
    while True:
        # Whoever finds the deployment failing is served by the other one.
        assert {answer.status_code for answer in ask_many(app, "failing", AT_ONCE)} == {200}
        before = calls(stack, "case-b1")
        time.sleep(SHARED_AFTER_S)
        answers = ask_many(app, "failing", 4 * AT_ONCE)
        if calls(stack, "case-b1") == before:
            break
        assert time.monotonic() < deadline
    assert before >= MINIMUM_CALLS
    assert {answer.headers["x-router-attempts"] for answer in answers} == {"1"}
