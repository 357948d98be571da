"""The ONE table that maps errors to statuses, and the answer made from it."""

import math
from collections.abc import Mapping

import orjson
from azurefunctions.extensions.http.fastapi import Response

from functions._wire.replies import error_body
from shared.domain import errors

STATUSES: dict[type[errors.RouterError], tuple[int, str]] = {
    errors.InvalidRequest: (400, "invalid_request_error"),
    errors.RequestTooLarge: (413, "invalid_request_error"),
    errors.UnsupportedMediaType: (415, "invalid_request_error"),
    errors.NotFound: (404, "not_found_error"),
    errors.MethodNotAllowed: (405, "invalid_request_error"),
    errors.Conflict: (409, "invalid_request_error"),
    errors.IdempotencyKeyReused: (422, "invalid_request_error"),
    errors.ContentRefused: (422, "invalid_request_error"),
    errors.NoEligibleModel: (422, "invalid_request_error"),
    errors.RequestRejected: (400, "invalid_request_error"),
    errors.Unauthenticated: (401, "authentication_error"),
    errors.Forbidden: (403, "permission_error"),
    errors.AccessRefused: (403, "permission_error"),
    errors.RateLimited: (429, "rate_limit_error"),
    errors.BudgetExceeded: (402, "insufficient_quota"),
    errors.LimitReached: (429, "rate_limit_error"),
    errors.ProviderRejected: (400, "invalid_request_error"),
    errors.ContextWindowExceeded: (400, "invalid_request_error"),
    errors.ProviderRateLimited: (429, "rate_limit_error"),
    errors.ProviderUnavailable: (503, "api_error"),
    errors.ProviderTimeout: (504, "timeout_error"),
    errors.ProviderError: (502, "api_error"),
    errors.DependencyUnavailable: (503, "api_error"),
    errors.DeadlineExceeded: (504, "timeout_error"),
    errors.InternalError: (500, "server_error"),
    errors.RouterError: (500, "server_error"),
}
"""Status and OpenAI error type of every error class; a class that is not listed takes its nearest parent's row."""

JSON = "application/json"

_RETRY_STATUSES = (429, 503)
_DEFAULT_RETRY_AFTER_S = 1


def status_of(error: errors.RouterError) -> tuple[int, str]:
    """The row of an error, by the nearest class in its line of descent."""
    for kind in type(error).__mro__:
        if kind in STATUSES:
            return STATUSES[kind]
    return 500, "server_error"


def failure(error: errors.RouterError, request_id: str, common: Mapping[str, str]) -> Response:
    """The answer that an error becomes, with `Retry-After` where trying again can help."""
    status, kind = status_of(error)
    headers = dict(common)
    if status in _RETRY_STATUSES or error.retry_after_s is not None:
        headers["retry-after"] = str(max(_DEFAULT_RETRY_AFTER_S, math.ceil(error.retry_after_s or 0)))
    if status == STATUSES[errors.Unauthenticated][0]:
        headers["www-authenticate"] = "Bearer"
    return Response(
        orjson.dumps(error_body(error, kind, request_id)), status_code=status, media_type=JSON, headers=headers
    )
