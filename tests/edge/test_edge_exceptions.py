"""Defects and failures behind the real door, as they reach an ingestion endpoint: the class, never the message."""

import json
from dataclasses import replace

import azure.functions as func
import pytest

from functions import timers
from functions.http import ROUTES
from shared import container
from shared.domain.errors import DependencyUnavailable, InvalidRequest
from tests.contract.telemetry_endpoint import CANARY, endpoint, make
from tests.edge.edge_harness import PROVED

__all__ = ["endpoint", "make"]  # pytest finds fixtures by their names in the module

ROUTE = next(route for route in ROUTES if route.name == "models")


@pytest.fixture
def sent(edge, make):
    """Telemetry that is really sent, in place of the one that remembers."""
    telemetry = make()
    container.override(replace(edge.container, telemetry=telemetry))
    return telemetry


def failing(error):
    """What fails so, as a handler or a timer's work."""

    async def fail(_):
        raise error

    fail.__name__ = "fails"
    return fail


def arrived(endpoint):
    """The one exception's class, message and whether its place in the code is known; and the one request's outcome."""
    assert CANARY not in json.dumps(endpoint.posts)
    (data,) = endpoint.of("Exception")
    (exception,) = data["exceptions"]
    (request,) = endpoint.of("Request")
    return exception["typeName"], exception["message"], bool(exception["parsedStack"]), request["success"]


async def test_a_defect_of_a_route(edge, sent, endpoint):
    answer = await edge.knock(ROUTE, headers=PROVED, handler=failing(KeyError(CANARY)))
    await sent.aclose()
    assert answer.status == 500
    assert arrived(endpoint) == ("KeyError", "internal_error", True, False)
    (data,) = endpoint.of("Exception")
    assert data["exceptions"][0]["parsedStack"][0]["method"].endswith("fail")
    assert [data["message"] for data in endpoint.of("Message")] == ["defect"]


async def test_a_store_that_is_away_for_a_route(edge, sent, endpoint):
    error = DependencyUnavailable(CANARY)
    error.add_note(CANARY)
    answer = await edge.knock(ROUTE, headers=PROVED, handler=failing(error))
    await sent.aclose()
    assert answer.status == 503
    assert arrived(endpoint) == ("DependencyUnavailable", "dependency_unavailable", False, False)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ZeroDivisionError(CANARY), ("ZeroDivisionError", "ZeroDivisionError", True, False)),
        (DependencyUnavailable(CANARY), ("DependencyUnavailable", "dependency_unavailable", False, False)),
    ],
)
async def test_a_job_that_fails(sent, endpoint, error, told):
    with pytest.raises(type(error)):
        await timers.entry(failing(error))(timer=func.timer.TimerRequest())
    await sent.aclose()
    assert arrived(endpoint) == told
    (request,) = endpoint.of("Request")
    assert request["name"] == "fails"
    assert [data["message"] for data in endpoint.of("Message")] == ["job_failed"]


async def test_what_the_caller_can_mend_is_no_exception(edge, sent, endpoint):
    answer = await edge.knock(ROUTE, headers=PROVED, handler=failing(InvalidRequest("the caller's own doing")))
    await sent.aclose()
    assert answer.status == 400
    assert endpoint.of("Exception") == []
    assert [data["success"] for data in endpoint.of("Request")] == [False]
