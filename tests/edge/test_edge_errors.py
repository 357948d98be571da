"""Every failure gets its status, the envelope and what its status promises; none tells of the inside."""

import asyncio
import inspect
import logging

import pytest

from functions._edge import Reply, entry
from functions._failures import STATUSES, status_of
from functions._headers import SECURITY_HEADERS
from functions.http import ROUTES
from shared import container
from shared.config import SettingsError
from shared.domain import errors
from tests.edge.edge_harness import ENVIRON, PROVED, Caller, Edge

CANARY = "canary-4711"
ROUTE = next(route for route in ROUTES if route.name == "models")
ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.RouterError)]

EXPECTED = {
    errors.RouterError: (500, "server_error"),
    errors.RequestRejected: (400, "invalid_request_error"),
    errors.InvalidRequest: (400, "invalid_request_error"),
    errors.UnsupportedFeature: (400, "invalid_request_error"),
    errors.RequestTooLarge: (413, "invalid_request_error"),
    errors.UnsupportedMediaType: (415, "invalid_request_error"),
    errors.NotFound: (404, "not_found_error"),
    errors.ModelNotFound: (404, "not_found_error"),
    errors.MethodNotAllowed: (405, "invalid_request_error"),
    errors.Conflict: (409, "invalid_request_error"),
    errors.IdempotencyKeyReused: (422, "invalid_request_error"),
    errors.ContentRefused: (422, "invalid_request_error"),
    errors.SensitiveContent: (422, "invalid_request_error"),
    errors.InjectionSuspected: (422, "invalid_request_error"),
    errors.NoEligibleModel: (422, "invalid_request_error"),
    errors.ClearanceRefused: (422, "invalid_request_error"),
    errors.AccessRefused: (403, "permission_error"),
    errors.Unauthenticated: (401, "authentication_error"),
    errors.Forbidden: (403, "permission_error"),
    errors.LimitReached: (429, "rate_limit_error"),
    errors.RateLimited: (429, "rate_limit_error"),
    errors.BudgetExceeded: (402, "insufficient_quota"),
    errors.ProviderError: (502, "api_error"),
    errors.ProviderRejected: (400, "invalid_request_error"),
    errors.ContentBlocked: (400, "invalid_request_error"),
    errors.ContextWindowExceeded: (400, "invalid_request_error"),
    errors.ProviderAuthError: (502, "api_error"),
    errors.ProviderNotFound: (502, "api_error"),
    errors.ProviderRateLimited: (429, "rate_limit_error"),
    errors.ProviderUnavailable: (503, "api_error"),
    errors.ProviderTimeout: (504, "timeout_error"),
    errors.ProviderBadResponse: (502, "api_error"),
    errors.DependencyUnavailable: (503, "api_error"),
    errors.DeadlineExceeded: (504, "timeout_error"),
    errors.InternalError: (500, "server_error"),
}


def raising(error):
    async def handler(call):
        raise error

    return handler


async def failing(edge, error):
    return await edge.knock(ROUTE, headers=PROVED, handler=raising(error))


def test_every_error_class_has_a_known_status_and_none_is_forgotten():
    assert {kind: status_of(kind("x")) for kind in ALL} == EXPECTED
    assert set(STATUSES) <= set(ALL)


@pytest.mark.parametrize("kind", ALL)
async def test_an_error_leaves_in_the_envelope_with_what_its_status_promises(edge, kind):
    answer = await failing(edge, kind("in words", param="messages[0]"))
    status, error_type = EXPECTED[kind]
    assert answer.status == status
    assert answer.json == {
        "error": {
            "message": "in words",
            "type": error_type,
            "code": kind.code,
            "param": "messages[0]",
            "request_id": answer.headers["x-request-id"],
        }
    }
    assert answer.headers["content-type"] == "application/json"
    assert ("retry-after" in answer.headers) == (status in {429, 503})
    assert answer.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)
    assert answer.headers.items() >= SECURITY_HEADERS.items()
    (span,) = edge.telemetry.requests
    assert (span.error_code, span.result_code, span.success) == (kind.code, str(status), False)


async def test_a_code_of_its_own_goes_before_the_class_word(edge):
    assert (await failing(edge, errors.NotFound("x", code="no_such_document"))).error["code"] == "no_such_document"


@pytest.mark.parametrize(
    ("wait_s", "header"),
    [(None, "1"), (0.0, "1"), (0.2, "1"), (1.0, "1"), (1.2, "2"), (59.999, "60"), (3600.0, "3600")],
)
async def test_retry_after_is_whole_seconds_and_never_too_early(edge, wait_s, header):
    answer = await failing(edge, errors.RateLimited("x", retry_after_s=wait_s))
    assert answer.headers["retry-after"] == header


async def test_a_known_wait_is_told_whatever_the_status(edge):
    assert (await failing(edge, errors.BudgetExceeded("x", retry_after_s=90))).headers["retry-after"] == "90"


async def test_a_defect_is_a_500_without_internals_and_a_span_with_its_class_and_place(edge):
    answer = await failing(edge, KeyError(CANARY))
    assert answer.status == 500
    assert answer.error == {
        "message": "the router failed; quote the request id",
        "type": "server_error",
        "code": "internal_error",
        "param": None,
        "request_id": answer.headers["x-request-id"],
    }
    assert answer.headers.items() >= SECURITY_HEADERS.items()
    (span,) = edge.telemetry.requests
    assert (span.error_code, span.result_code) == ("internal_error", "500")
    assert span.fault.type_name == "KeyError"
    assert span.fault.frames[-1].function.endswith("handler")
    (fields,) = edge.telemetry.events()["defect"]
    assert fields == {"request_id": answer.error["request_id"], "route": "models", "error": "KeyError"}
    assert CANARY.encode() not in answer.body


async def test_an_answer_that_is_no_json_is_not_a_traceback(edge):
    async def handler(call):
        return Reply({"set": {1}})

    answer = await edge.knock(ROUTE, headers=PROVED, handler=handler)
    assert (answer.status, answer.error["code"]) == (500, "internal_error")


async def test_a_cancelled_call_stays_cancelled_and_its_span_says_so(edge):
    with pytest.raises(asyncio.CancelledError):
        await failing(edge, asyncio.CancelledError())
    (span,) = edge.telemetry.requests
    assert (span.error_code, span.fault) == ("cancelled", None)


# --- no container ----------------------------------------------------------------------------------------------------


@pytest.fixture
def unbuilt(monkeypatch):
    """The first build fails; the next one gives the container that the test puts here."""
    outcomes = [SettingsError(f"POSTGRES_DSN: {CANARY}")]

    async def build(settings):
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(container, "_building", None)
    monkeypatch.setattr(container, "_override", None)
    monkeypatch.setattr(container, "build", build)
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    return outcomes


async def test_a_container_that_cannot_be_built_is_a_503_and_the_next_call_tries_again(unbuilt, caplog):
    edge = Edge()
    with caplog.at_level(logging.ERROR, "llm_router"):
        answer = await edge.get("health")
    assert answer.status == 503
    assert answer.error["code"] == "dependency_unavailable"
    assert answer.error["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["retry-after"] == "1"
    assert answer.headers.items() >= SECURITY_HEADERS.items()
    assert CANARY.encode() not in answer.body
    assert "container_not_built: SettingsError" in caplog.text
    unbuilt.append(edge.container)
    assert (await edge.get("health")).status == 200


async def test_two_calls_without_a_container_have_two_request_ids(unbuilt):
    edge = Edge()
    unbuilt.append(SettingsError("again"))
    ids = {(await edge.get("health")).headers["x-request-id"] for _ in range(2)}
    assert len(ids) == 2


# --- what Azure asks of the entry ------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ROUTES, ids=[route.name for route in ROUTES])
def test_an_entry_has_the_signature_that_the_worker_accepts(route):
    function = entry(route)
    assert list(inspect.signature(function).parameters) == ["req"]
    assert function.__name__ == route.name
    assert function.__doc__ == route.summary
    assert not hasattr(function, "__wrapped__")


async def test_a_caller_who_goes_during_the_upload_is_no_defect(edge):
    caller = Caller([b'{"messages"'], vanishes=True)
    answer = await edge.send("POST", "chat/completions", caller, headers={**PROVED, "content-type": "application/json"})
    assert (answer.status, answer.error["code"]) == (400, "incomplete_body")
    assert "defect" not in edge.telemetry.events()
