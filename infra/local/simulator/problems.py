"""What can go wrong, in each vendor's own words.

`Problem` is raised anywhere before an answer; the servers write it in the form of the wire the request came by.
"""

from collections.abc import Mapping
from typing import Any

import orjson

GOOGLE_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    413: "INVALID_ARGUMENT",
    422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}
"""google.rpc.Code names by HTTP status (google/rpc/code.proto); 529 is Anthropic's own and has no name there."""

ANTHROPIC_TYPE = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""Error types of the Messages API by HTTP status (docs.anthropic.com, "Errors")."""


class Problem(Exception):
    """An error answer.

    Attributes:
        status: HTTP status; gRPC gets the canonical code that belongs to it.
        message: the vendor's sentence.
        platform: whether Vertex itself refuses (always Google's form) or the model's server behind it (its own form).
        retry_after_s: seconds to wait, told as a header and as a RetryInfo detail.
        retry_after_date: the header's value when it is to be an HTTP-date (RFC 9110, 10.2.3).
        details: further entries of Google's ``details``.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        platform: bool = False,
        retry_after_s: float | None = None,
        retry_after_date: str | None = None,
        details: tuple[Mapping[str, Any], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.platform = platform
        self.retry_after_s = retry_after_s
        self.retry_after_date = retry_after_date
        self.details = details

    @property
    def code(self) -> str:
        """The canonical google.rpc name."""
        return GOOGLE_STATUS.get(self.status, "UNKNOWN")

    def google_details(self) -> list[Mapping[str, Any]]:
        """Google's ``details``, with RetryInfo when there is something to wait for."""
        details = list(self.details)
        if self.retry_after_s is not None:
            seconds = f"{self.retry_after_s:.3f}".rstrip("0").rstrip(".")
            details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{seconds}s"})
        return details

    def google(self) -> dict[str, Any]:
        """``{"error": {code, message, status, details?}}``."""
        error: dict[str, Any] = {"code": self.status, "message": self.message, "status": self.code}
        details = self.google_details()
        if details:
            error["details"] = details
        return {"error": error}

    def google_body(self) -> bytes:
        """Google's error as JSON."""
        return orjson.dumps(self.google())

    def google_list_body(self) -> bytes:
        """Google's error in an array, as OpenAI-style MaaS and unary-looking streams send it."""
        return orjson.dumps([self.google()])

    def anthropic_body(self) -> bytes:
        """``{"type": "error", "error": {type, message}}``, or Google's form when Vertex itself refuses."""
        if self.platform:
            return self.google_body()
        kind = ANTHROPIC_TYPE.get(self.status, "api_error")
        return orjson.dumps({"type": "error", "error": {"type": kind, "message": self.message}})

    def openai_body(self) -> bytes:
        """``{"error": {message, type, param, code}}``, as vLLM and Mistral's server answer behind Vertex."""
        if self.platform:
            return self.google_body()
        kind = {
            400: "BadRequestError",
            422: "UnprocessableEntityError",
            404: "NotFoundError",
            429: "RateLimitError",
        }.get(self.status, "InternalServerError")
        return orjson.dumps({"error": {"message": self.message, "type": kind, "param": None, "code": self.status}})

    def tgi_body(self) -> bytes:
        """``{"error", "error_type"}``, as text-generation-inference answers."""
        if self.platform:
            return self.google_body()
        kind = {400: "validation", 422: "validation", 429: "overloaded", 503: "overloaded"}.get(
            self.status, "generation"
        )
        return orjson.dumps({"error": self.message, "error_type": kind})

    def http_headers(self) -> dict[str, str]:
        """``Retry-After``, when there is something to wait for."""
        if self.retry_after_date is not None:
            return {"Retry-After": self.retry_after_date}
        if self.retry_after_s is not None:
            return {"Retry-After": str(max(0, -(-self.retry_after_s // 1)).__trunc__())}
        return {}


def invalid(message: str) -> Problem:
    """A 400 of the model's server."""
    return Problem(400, message)


def unknown_model(project: str, region: str, publisher: str, model: str) -> Problem:
    """The 404 of Vertex for a publisher model that is not there or not allowed."""
    name = f"projects/{project}/locations/{region}/publishers/{publisher}/models/{model}"
    return Problem(
        404,
        f"Publisher Model `{name}` was not found or your project does not have access to it. Please ensure you are "
        "using a valid model version. For more information, see: "
        "https://cloud.google.com/vertex-ai/generative-ai/docs/learn/model-versions",
        platform=True,
    )
