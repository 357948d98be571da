"""Health says what is, and readiness is a status that load balancers understand."""

import pytest

from shared.domain.errors import DependencyUnavailable
from shared.services.readiness import DependencyStatus, Readiness
from tests.principals import principal_header


class Probe:
    def __init__(self, name, *, required, ok):
        self.name, self.required, self._ok = name, required, ok

    async def check(self):
        if not self._ok:
            raise DependencyUnavailable("canary-4711")


@pytest.mark.parametrize(
    ("required_ok", "optional_ok", "status", "word"),
    [
        (True, True, 200, "ready"),
        (True, False, 200, "degraded"),
        (False, True, 503, "not_ready"),
        (False, False, 503, "not_ready"),
    ],
)
async def test_readiness_follows_what_is_required(build_edge, required_ok, optional_ok, status, word):
    probes = (Probe("store", required=True, ok=required_ok), Probe("cache", required=False, ok=optional_ok))
    edge = build_edge(probes=probes)
    assert (await edge.get("health/ready", {})).json == {"status": word}
    assert (await edge.get("health/ready", principal_header())).json == {"status": word}
    answer = await edge.get("health/ready", principal_header(roles=("Router.Operator",)))
    assert (answer.status, answer.json["status"]) == (status, word)
    dependencies = answer.json["dependencies"]
    assert dependencies["store"] == {
        "status": "ok" if required_ok else "unavailable",
        "required": True,
        "latency_ms": 0.0,
    }
    assert dependencies["cache"]["status"] == ("ok" if optional_ok else "unavailable")
    assert ("retry-after" in answer.headers) == (status == 503)
    assert b"canary" not in answer.body


async def test_liveness_asks_nobody(build_edge):
    edge = build_edge(probes=(Probe("store", required=True, ok=False),))
    answer = await edge.get("health", {})
    assert (answer.status, answer.json) == (200, {"status": "ok"})


@pytest.mark.parametrize(("ledger", "queue", "ready"), [(1, 1, True), (0, 1, True), (1, 0, True), (0, 0, False)])
def test_of_those_that_replace_each_other_one_must_answer(ledger, queue, ready):
    statuses = (
        DependencyStatus("ledger", ok=bool(ledger), required=False, latency_ms=1.0),
        DependencyStatus("queue", ok=bool(queue), required=False, latency_ms=1.0),
        DependencyStatus("cache", ok=True, required=False, latency_ms=1.0),
    )
    readiness = Readiness(statuses, frozenset({"ledger", "queue"}))
    assert readiness.ready is ready
    assert readiness.degraded is (ready and not (ledger and queue))
