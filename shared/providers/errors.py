"""Vendor failures -> the router's error tree: one place for gRPC, HTTP and in-stream errors of every vendor.

The vendors' own sentences often quote the prompt ("... near 'my password is'"), so they are only looked at, never
repeated: a message here is our own sentence with the vendor's status or error code.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    import grpc.aio

_CONTEXT_WORDS = re.compile(
    r"prompt is too long"
    r"|exceeds? (?:the )?(?:context limit|context window|maximum (?:number of tokens|context length|input length))"
    r"|(?:maximum|max(?:imum)? model|model'?s) context (?:length|window)"
    r"|context[ _](?:length|window)[ _]exceeded"
    r"|input token count.{0,80}(?:exceeds|supports up to)"
    r"|longer than the (?:maximum )?(?:model|context) length"
    r"|`?inputs`?.{0,60}must (?:have less than|be <=)",
    re.IGNORECASE | re.DOTALL,
)
_CONTEXT_CODES = frozenset({"context_length_exceeded", "model_context_window_exceeded", "string_above_max_length"})
_BLOCKED_CODES = frozenset({"content_filter", "content_policy_violation", "content_filtered", "moderation_blocked"})
"""OpenAI-style codes of a prompt that a content filter refused, such as Azure's and OpenAI's own."""
_CODE_SHAPE = re.compile(r"[A-Za-z0-9_.\-]{1,64}\Z")
_MAX_LOOKED_AT = 64 * 1024
"""Characters of an error body that are searched; a vendor's error is a few hundred."""


# --- one table per vocabulary ----------------------------------------------------------------------------------------

_Make = Callable[[str, str, float | None], ProviderError]
"""(vendor, status, retry_after_s) -> error."""


def _kind(error: type[ProviderError], sentence: str, scope: RetryScope | None = None) -> _Make:
    def make(vendor: str, status: str, retry_after: float | None) -> ProviderError:
        return error(f"{vendor} {sentence} ({status})", vendor_status=status, retry_after_s=retry_after, scope=scope)

    return make


_REJECTED = _kind(ProviderRejected, "refused the request as malformed")
_PRECONDITION = _kind(ProviderRejected, "refused the request in this place", RetryScope.OTHER_DEPLOYMENT)
_TOO_LARGE = _kind(ProviderRejected, "refused the request as too large")
_CONTEXT = _kind(ContextWindowExceeded, "says the prompt is longer than the model takes")
_BLOCKED = _kind(ContentBlocked, "refused the request for its content")
_AUTH = _kind(ProviderAuthError, "refused the router's credentials or project")
_NOT_FOUND = _kind(ProviderNotFound, "does not know the deployment")
_TIMEOUT = _kind(ProviderTimeout, "did not answer in time")
_RATE_LIMITED = _kind(ProviderRateLimited, "has no quota left for now")
_UNAVAILABLE = _kind(ProviderUnavailable, "failed or is away")
_OVERLOADED = _kind(ProviderUnavailable, "is overloaded")
_UNIMPLEMENTED = _kind(ProviderUnavailable, "does not offer this call here", RetryScope.OTHER_DEPLOYMENT)
_UNREADABLE = _kind(ProviderBadResponse, "sent an answer over the size limit")

_BY_GRPC_STATUS: Mapping[str, _Make] = {
    "INVALID_ARGUMENT": _REJECTED,
    "OUT_OF_RANGE": _REJECTED,
    "FAILED_PRECONDITION": _PRECONDITION,
    "UNAUTHENTICATED": _AUTH,
    "PERMISSION_DENIED": _AUTH,
    "NOT_FOUND": _NOT_FOUND,
    "DEADLINE_EXCEEDED": _TIMEOUT,
    "RESOURCE_EXHAUSTED": _RATE_LIMITED,
    "UNIMPLEMENTED": _UNIMPLEMENTED,
}
"""https://grpc.io/docs/guides/status-codes/; every other status is the vendor's own failure."""

_BY_HTTP_STATUS: Mapping[int, _Make] = {
    401: _AUTH,
    402: _AUTH,
    403: _AUTH,
    404: _NOT_FOUND,
    405: _UNIMPLEMENTED,
    408: _TIMEOUT,
    409: _UNAVAILABLE,
    410: _NOT_FOUND,
    413: _TOO_LARGE,
    425: _UNAVAILABLE,
    429: _RATE_LIMITED,
    499: _UNAVAILABLE,
    501: _UNIMPLEMENTED,
    504: _TIMEOUT,
    529: _OVERLOADED,
}
"""Other 4xx are refusals, everything else the vendor's own failure."""

_BY_ERROR_TYPE: Mapping[str, _Make] = {
    "invalid_request_error": _REJECTED,
    "request_too_large": _TOO_LARGE,
    "authentication_error": _AUTH,
    "billing_error": _AUTH,
    "permission_error": _AUTH,
    "not_found_error": _NOT_FOUND,
    "rate_limit_error": _RATE_LIMITED,
    "timeout_error": _TIMEOUT,
    "overloaded_error": _OVERLOADED,
    "api_error": _UNAVAILABLE,
}
"""https://platform.claude.com/docs/en/api/errors, also used by OpenAI-style servers for what they have in common."""

_REFUSALS = (_REJECTED, _PRECONDITION, _TOO_LARGE)


# --- entry points ----------------------------------------------------------------------------------------------------


def from_grpc(error: "grpc.aio.AioRpcError", *, vendor: str) -> ProviderError:
    """The router's error for a failed gRPC call.

    Args:
        error: what `grpc.aio` raised. Its details are searched for the context-length phrases, never repeated.
        vendor: how to call the vendor in the message.

    Returns:
        An error to raise `from None`: a chained vendor exception would carry the vendor's text into tracebacks.
    """
    status = error.code().name
    details = (error.details() or "")[:_MAX_LOOKED_AT]
    retry_after = _retry_info_s(error)
    if status == "RESOURCE_EXHAUSTED" and "larger than max" in details:
        # Raised by the local gRPC library about message size, and by no means a quota.
        return (_UNREADABLE if "received" in details.lower() else _TOO_LARGE)(vendor, status, None)
    make = _BY_GRPC_STATUS.get(status, _UNAVAILABLE)
    if make in _REFUSALS and _CONTEXT_WORDS.search(details):
        make = _CONTEXT
    return make(vendor, status, retry_after)


def from_http(
    status: int,
    body: bytes,
    headers: Mapping[str, str],
    *,
    vendor: str,
    now: datetime | None = None,
) -> ProviderError:
    """The router's error for an HTTP answer outside 2xx.

    Args:
        status: the HTTP status.
        body: a Google, Anthropic or OpenAI error body, or anything else. Looked at, never repeated.
        headers: of the answer, in any case; ``retry-after-ms`` and ``retry-after`` are read.
        vendor: how to call the vendor in the message.
        now: current instant, to turn a Retry-After date into seconds; without it dates are ignored.
    """
    error = _error_object(body)
    lowered = {name.lower(): value for name, value in headers.items()}
    retry_after = _header_retry_s(lowered, now)
    return from_error_object(error, vendor=vendor, status=status, text=_text(body), retry_after_s=retry_after)


def from_error_object(
    error: Mapping[str, Any],
    *,
    vendor: str,
    status: int | None = None,
    text: str = "",
    retry_after_s: float | None = None,
) -> ProviderError:
    """The router's error for a vendor's ``error`` object, such as one inside a stream.

    Args:
        error: the object below ``error``: Anthropic ``{type, message}``, OpenAI ``{type, code, message}`` or Google
            ``{code, status, message, details}``.
        vendor: how to call the vendor in the message.
        status: HTTP status, when there was one; else taken from a numeric ``code``.
        text: the whole body, searched for the context-length phrases besides the message.
        retry_after_s: what the headers said.
    """
    code = error.get("code")
    if status is None and isinstance(code, int) and not isinstance(code, bool):
        status = code
    make = _make_for(error, status)
    words = f"{error.get('message') or ''}\n{text}"[:_MAX_LOOKED_AT]
    if make in _REFUSALS and (str(code) in _CONTEXT_CODES or _CONTEXT_WORDS.search(words)):
        make = _CONTEXT
    elif make in _REFUSALS and not _BLOCKED_CODES.isdisjoint((str(code), str(error.get("type")))):
        make = _BLOCKED
    return make(vendor, _label(error, status), _longest_s(retry_after_s, _detail_retry_s(error)))


def connection_failed(vendor: str, kind: str) -> ProviderUnavailable:
    """The connection could not be made or broke; `kind` is an exception's class name, never its text."""
    return ProviderUnavailable(f"{vendor} could not be reached ({kind})", vendor_status=kind)


def stream_cut(vendor: str) -> ProviderUnavailable:
    """A stream ended before the vendor said that the answer is whole."""
    return ProviderUnavailable(
        f"{vendor} ended the stream before the answer was whole (cut)", code="provider_stream_cut", vendor_status="cut"
    )


def no_answer_in_time(vendor: str, kind: str) -> ProviderTimeout:
    """The deadline passed (`kind` ``deadline``), or a stream fell silent (``idle``)."""
    what = "sent nothing for too long" if kind == "idle" else "did not answer before the deadline"
    return ProviderTimeout(f"{vendor} {what}", vendor_status=kind)


def unreadable(vendor: str, what: str) -> ProviderBadResponse:
    """An answer that breaks the vendor's own format; `what` is our own words for how."""
    return ProviderBadResponse(f"{vendor} sent {what}", vendor_status="bad_response")


def retry_after_s(value: str, *, now: datetime) -> float | None:
    """Seconds in a Retry-After header (RFC 9110, section 10.2.3): delay-seconds or an HTTP-date.

    Args:
        value: the header's value.
        now: current instant, aware.

    Returns:
        Seconds from `now`, never negative, or None when the value is neither form.
    """
    seconds = _seconds(value)
    if seconds is not None:
        return seconds
    try:
        moment = parsedate_to_datetime(value.strip())
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


# --- pieces ----------------------------------------------------------------------------------------------------------


def _make_for(error: Mapping[str, Any], status: int | None) -> _Make:
    """The vendor's own type first (an Anthropic 400 may say overloaded_error), then the statuses."""
    by_type = _BY_ERROR_TYPE.get(str(error.get("type")))
    if by_type is not None and (status is None or by_type not in (_UNAVAILABLE, _REJECTED)):
        return by_type
    if status is not None:
        if status in _BY_HTTP_STATUS:
            return _BY_HTTP_STATUS[status]
        if 400 <= status < 500:  # noqa: PLR2004 - the 4xx class of RFC 9110
            return _PRECONDITION if error.get("status") == "FAILED_PRECONDITION" else _REJECTED
        return _UNAVAILABLE
    return _BY_GRPC_STATUS.get(str(error.get("status")), by_type or _UNAVAILABLE)


def _label(error: Mapping[str, Any], status: int | None) -> str:
    """What the vendor calls it: number and word, as long as the word looks like a code and not like prose."""
    for key in ("status", "type", "code"):
        word = error.get(key)
        if isinstance(word, str) and _CODE_SHAPE.match(word):
            return word if status is None else f"{status} {word}"
    return "error" if status is None else str(status)


def _error_object(body: bytes) -> Mapping[str, Any]:
    """The error object of a body: below ``error``, the first of a list (Google streams), or the body itself (vLLM)."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    if isinstance(parsed, list) and parsed:
        parsed = parsed[0]
    if not isinstance(parsed, dict):
        return {}
    inner = parsed.get("error", parsed)
    return inner if isinstance(inner, dict) else {}


def _text(body: bytes) -> str:
    return body[:_MAX_LOOKED_AT].decode("utf-8", "replace")


def _seconds(value: object) -> float | None:
    """A non-negative number of seconds, bare or as Google's Duration text (``"2.5s"``)."""
    if not isinstance(value, str):
        return None
    try:
        seconds = float(value.strip().removesuffix("s"))
    except ValueError:
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _header_retry_s(headers: Mapping[str, str], now: datetime | None) -> float | None:
    milliseconds = _seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    if value is None:
        return None
    return _seconds(value) if now is None else retry_after_s(value, now=now)


def _longest_s(*known: float | None) -> float | None:
    """A wait that was told twice, and differently, is the longer one: coming back too early earns another refusal."""
    return max((seconds for seconds in known if seconds is not None), default=None)


def _detail_retry_s(error: Mapping[str, Any]) -> float | None:
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and str(detail.get("@type", "")).endswith("google.rpc.RetryInfo"):
            return _seconds(detail.get("retryDelay"))
    return None


def _retry_info_s(error: "grpc.aio.AioRpcError") -> float | None:
    """RetryInfo of the google.rpc.Status that Google's servers put into the trailing metadata."""
    metadata: Iterable[tuple[str, Any]] = error.trailing_metadata() or ()
    known: float | None = None
    for key, value in metadata:
        if key == "grpc-status-details-bin":
            known = _longest_s(known, _retry_delay_s(value))
        if key == "retry-after":
            text = value if isinstance(value, str) else bytes(value).decode("ascii", "replace")
            known = _longest_s(known, _seconds(text))
    return known


def _retry_delay_s(serialised: bytes) -> float | None:
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - only failures need it
    from google.rpc import error_details_pb2, status_pb2  # noqa: PLC0415 - only failures need it

    try:
        status = status_pb2.Status.FromString(serialised)
        for detail in status.details:
            if detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
                delay = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
                return max(0.0, float(delay.seconds) + float(delay.nanos) / 1e9)
    except DecodeError:
        return None
    return None
