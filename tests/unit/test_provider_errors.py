"""Vendor failures land on the right branch of the error tree, with the wait they ask for and without their text."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from shared.domain.errors import (
    ContentBlocked,
    ContextWindowExceeded,
    ProviderAuthError,
    ProviderBadResponse,
    ProviderError,
    ProviderNotFound,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
    RetryScope,
)
from shared.providers import errors

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
SECRET = "my password is hunter2"


def grpc_error(code: grpc.StatusCode, details: str = SECRET, trailing: tuple[tuple[str, Any], ...] = ()) -> Any:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details=details)


def status_details(*messages: Any) -> bytes:
    status = status_pb2.Status(code=8, message=SECRET)
    for message in messages:
        packed = AnyMessage()
        packed.Pack(message)
        status.details.append(packed)
    return status.SerializeToString()


@pytest.mark.parametrize(
    ("code", "expected", "scope"),
    [
        ("INVALID_ARGUMENT", ProviderRejected, RetryScope.OTHER_MODEL),
        ("OUT_OF_RANGE", ProviderRejected, RetryScope.OTHER_MODEL),
        ("FAILED_PRECONDITION", ProviderRejected, RetryScope.OTHER_DEPLOYMENT),
        ("UNAUTHENTICATED", ProviderAuthError, RetryScope.OTHER_DEPLOYMENT),
        ("PERMISSION_DENIED", ProviderAuthError, RetryScope.OTHER_DEPLOYMENT),
        ("NOT_FOUND", ProviderNotFound, RetryScope.OTHER_DEPLOYMENT),
        ("DEADLINE_EXCEEDED", ProviderTimeout, RetryScope.SAME),
        ("RESOURCE_EXHAUSTED", ProviderRateLimited, RetryScope.SAME),
        ("UNAVAILABLE", ProviderUnavailable, RetryScope.SAME),
        ("INTERNAL", ProviderUnavailable, RetryScope.SAME),
        ("UNKNOWN", ProviderUnavailable, RetryScope.SAME),
        ("CANCELLED", ProviderUnavailable, RetryScope.SAME),
        ("UNIMPLEMENTED", ProviderUnavailable, RetryScope.OTHER_DEPLOYMENT),
    ],
)
def test_every_grpc_status_has_its_class(code: str, expected: type[ProviderError], scope: RetryScope):
    error = errors.from_grpc(grpc_error(grpc.StatusCode[code]), vendor="Vertex AI")

    assert type(error) is expected
    assert error.scope is scope
    assert error.vendor_status == code
    assert SECRET not in error.message
    assert code in error.message


def test_all_grpc_statuses_are_mapped():
    for code in grpc.StatusCode:
        if code is not grpc.StatusCode.OK:
            assert isinstance(errors.from_grpc(grpc_error(code), vendor="v"), ProviderError)


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ("Received message larger than max (70000000 vs. 67108864)", ProviderBadResponse),
        ("CLIENT: Sent message larger than max (70000000 vs. 67108864)", ProviderRejected),
    ],
)
def test_message_size_is_not_a_quota(details: str, expected: type[ProviderError]):
    error = errors.from_grpc(grpc_error(grpc.StatusCode.RESOURCE_EXHAUSTED, details), vendor="v")
    assert type(error) is expected


def test_retry_info_comes_from_the_trailing_metadata():
    retry = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=2, nanos=500_000_000))
    cause = error_details_pb2.ErrorInfo(reason="RATE_LIMIT_EXCEEDED", domain="googleapis.com")
    trailing = (("grpc-status-details-bin", status_details(cause, retry)),)

    error = errors.from_grpc(grpc_error(grpc.StatusCode.RESOURCE_EXHAUSTED, trailing=trailing), vendor="v")

    assert error.retry_after_s == 2.5


RETRY_INFO_9_S = status_details(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=9)))


@pytest.mark.parametrize(
    ("trailing", "expected"),
    [
        ((), None),
        ((("grpc-status-details-bin", b"\xff\xff\xff"),), None),
        ((("grpc-status-details-bin", status_details()),), None),
        ((("retry-after", "7"),), 7.0),
        ((("grpc-status-details-bin", RETRY_INFO_9_S), ("retry-after", "7")), 9.0),
        ((("retry-after", "7"), ("grpc-status-details-bin", b"\xff\xff\xff")), 7.0),
    ],
)
def test_retry_info_is_optional(trailing: tuple[tuple[str, Any], ...], expected: float | None):
    error = errors.from_grpc(grpc_error(grpc.StatusCode.UNAVAILABLE, trailing=trailing), vendor="v")
    assert error.retry_after_s == expected


CONTEXT_TEXTS = [
    "The input token count (1048577) exceeds the maximum number of tokens allowed (1048576).",
    "Unable to submit request because the input token count is 40000 but model only supports up to 32768.",
    "prompt is too long: 205000 tokens > 200000 maximum",
    "input length and `max_tokens` exceed context limit: 199000 + 8000 > 200000",
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
    "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens",
    "Input validation error: `inputs` must have less than 4000 tokens. Given: 4500",
]


@pytest.mark.parametrize("text", CONTEXT_TEXTS)
def test_context_length_is_told_from_other_refusals(text: str):
    assert (
        type(errors.from_grpc(grpc_error(grpc.StatusCode.INVALID_ARGUMENT, text), vendor="v")) is ContextWindowExceeded
    )
    body = json.dumps({"error": {"code": 400, "message": text, "status": "INVALID_ARGUMENT"}}).encode()
    error = errors.from_http(400, body, {}, vendor="v")
    assert type(error) is ContextWindowExceeded
    assert error.scope is RetryScope.OTHER_MODEL
    assert text not in error.message


@pytest.mark.parametrize(
    "text",
    [
        "max_tokens: 200000 > 64000, which is the maximum allowed number of output tokens",
        "Request contains an invalid argument.",
        "temperature: range: 0..1",
    ],
)
def test_other_refusals_are_not_context_length(text: str):
    assert type(errors.from_grpc(grpc_error(grpc.StatusCode.INVALID_ARGUMENT, text), vendor="v")) is ProviderRejected


def test_an_overloaded_vendor_that_speaks_of_context_stays_overloaded():
    error = errors.from_grpc(grpc_error(grpc.StatusCode.UNAVAILABLE, CONTEXT_TEXTS[0]), vendor="v")
    assert type(error) is ProviderUnavailable


GOOGLE = {"error": {"code": 429, "message": SECRET, "status": "RESOURCE_EXHAUSTED"}}
OPENAI = {
    "error": {"message": SECRET, "type": "invalid_request_error", "code": "context_length_exceeded", "param": "x"}
}


@pytest.mark.parametrize(
    ("status", "body", "expected", "scope"),
    [
        (400, {"error": {"status": "INVALID_ARGUMENT"}}, ProviderRejected, RetryScope.OTHER_MODEL),
        (400, {"error": {"status": "FAILED_PRECONDITION"}}, ProviderRejected, RetryScope.OTHER_DEPLOYMENT),
        (400, OPENAI, ContextWindowExceeded, RetryScope.OTHER_MODEL),
        (400, {"error": {"code": "content_filter"}}, ContentBlocked, RetryScope.OTHER_MODEL),
        (400, {"error": {"type": "content_policy_violation", "code": 400}}, ContentBlocked, RetryScope.OTHER_MODEL),
        (400, {"error": {"code": ["content_filter"]}}, ProviderRejected, RetryScope.OTHER_MODEL),
        (503, {"error": {"code": "content_filter"}}, ProviderUnavailable, RetryScope.SAME),
        (400, {"object": "error", "message": "bad", "code": 40001}, ProviderRejected, RetryScope.OTHER_MODEL),
        (401, {}, ProviderAuthError, RetryScope.OTHER_DEPLOYMENT),
        (401, {"error": {"type": "invalid_request_error"}}, ProviderAuthError, RetryScope.OTHER_DEPLOYMENT),
        (402, {}, ProviderAuthError, RetryScope.OTHER_DEPLOYMENT),
        (403, [{"error": {"status": "PERMISSION_DENIED"}}], ProviderAuthError, RetryScope.OTHER_DEPLOYMENT),
        (404, {}, ProviderNotFound, RetryScope.OTHER_DEPLOYMENT),
        (408, {}, ProviderTimeout, RetryScope.SAME),
        (413, {"type": "error", "error": {"type": "request_too_large"}}, ProviderRejected, RetryScope.OTHER_MODEL),
        (
            422,
            {"error": "Input validation error", "error_type": "validation"},
            ProviderRejected,
            RetryScope.OTHER_MODEL,
        ),
        (424, {}, ProviderRejected, RetryScope.OTHER_MODEL),
        (429, GOOGLE, ProviderRateLimited, RetryScope.SAME),
        (499, {}, ProviderUnavailable, RetryScope.SAME),
        (500, {"type": "error", "error": {"type": "api_error"}}, ProviderUnavailable, RetryScope.SAME),
        (502, "<html>bad gateway</html>", ProviderUnavailable, RetryScope.SAME),
        (503, {}, ProviderUnavailable, RetryScope.SAME),
        (504, {}, ProviderTimeout, RetryScope.SAME),
        (529, {"error": {"type": "overloaded_error"}}, ProviderUnavailable, RetryScope.SAME),
        (503, {"error": {"type": "overloaded_error"}}, ProviderUnavailable, RetryScope.SAME),
    ],
)
def test_every_http_status_has_its_class(status: int, body: Any, expected: type[ProviderError], scope: RetryScope):
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    error = errors.from_http(status, raw, {}, vendor="v")

    assert type(error) is expected
    assert error.scope is scope
    assert error.vendor_status is not None
    assert error.vendor_status.startswith(str(status))
    assert SECRET not in error.message


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"null", b"[]", b'"text"', b"[" * 100_000, b'{"error": [1]}'])
def test_unreadable_error_bodies_still_map(body: bytes):
    assert type(errors.from_http(500, body, {}, vendor="v")) is ProviderUnavailable


def test_a_vendor_word_that_is_prose_is_not_repeated():
    body = json.dumps({"error": {"type": f"oops: {SECRET}", "status": SECRET}}).encode()
    error = errors.from_http(400, body, {}, vendor="v")
    assert error.vendor_status == "400"
    assert SECRET not in error.message


RETRY_BODY = json.dumps(
    {"error": {"code": 429, "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "12.5s"}]}}
).encode()


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({"Retry-After": "3"}, b"", 3.0),
        ({"retry-after": "0"}, b"", 0.0),
        ({"Retry-After": format_datetime(NOW + timedelta(seconds=90), usegmt=True)}, b"", 90.0),
        ({"Retry-After": format_datetime(NOW - timedelta(seconds=90), usegmt=True)}, b"", 0.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, b"", 1.5),
        ({"Retry-After": "soon"}, b"", None),
        ({}, RETRY_BODY, 12.5),
        ({"Retry-After": "3"}, RETRY_BODY, 12.5),
        ({"Retry-After": "30"}, RETRY_BODY, 30.0),
        ({}, b"{}", None),
    ],
)
def test_retry_after_is_read_from_headers_and_details(headers: dict[str, str], body: bytes, expected: float | None):
    assert errors.from_http(429, body, headers, vendor="v", now=NOW).retry_after_s == expected


def test_a_date_without_a_clock_is_ignored():
    headers = {"Retry-After": format_datetime(NOW, usegmt=True)}
    assert errors.from_http(429, b"", headers, vendor="v").retry_after_s is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("120", 120.0),
        (" 1.5 ", 1.5),
        ("-4", 0.0),
        ("nan", None),
        ("inf", None),
        ("", None),
        ("Mon, 23 Nov 2026 12:00:30 GMT", 30.0),
        ("Monday, 23-Nov-26 12:00:30 GMT", 30.0),
        ("Mon Nov 23 12:00:30 2026", 30.0),
        ("Mon, 99 Nov 2026 12:00:30 GMT", None),
    ],
)
def test_retry_after_forms_of_rfc_9110(value: str, expected: float | None):
    assert errors.retry_after_s(value, now=NOW) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"type": "overloaded_error", "message": SECRET}, ProviderUnavailable),
        ({"type": "rate_limit_error", "message": SECRET}, ProviderRateLimited),
        ({"type": "api_error", "message": SECRET}, ProviderUnavailable),
        ({"type": "timeout_error", "message": SECRET}, ProviderTimeout),
        ({"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}, ContextWindowExceeded),
        ({"type": "new_error", "message": SECRET}, ProviderUnavailable),
        ({"code": 429, "message": SECRET, "status": "RESOURCE_EXHAUSTED"}, ProviderRateLimited),
        ({"status": "NOT_FOUND"}, ProviderNotFound),
        ({}, ProviderUnavailable),
    ],
)
def test_errors_inside_a_stream(error: dict[str, Any], expected: type[ProviderError]):
    mapped = errors.from_error_object(error, vendor="v")
    assert type(mapped) is expected
    assert SECRET not in mapped.message
