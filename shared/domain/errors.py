"""The error tree: every failure the router can tell a caller of.

RouterError
├── RequestRejected                 the caller can mend it
│   ├── InvalidRequest              a field is missing, of the wrong type or out of range
│   │   └── UnsupportedFeature      well formed, but the named model cannot take it
│   ├── RequestTooLarge             body, part or prompt over a limit
│   ├── UnsupportedMediaType        the body is not what its content type says, or not JSON
│   ├── NotFound
│   │   └── ModelNotFound
│   ├── MethodNotAllowed
│   ├── Conflict                    a key or version is used already, with other content
│   │   └── IdempotencyKeyReused    the key came with another body before
│   ├── ContentRefused              the policy does not let such content through
│   │   ├── SensitiveContent        it holds what no model of this service may see
│   │   └── InjectionSuspected      it looks like an attack
│   └── NoEligibleModel             every candidate was dropped; the message counts the reasons
│       └── ClearanceRefused        and what the request holds is one of the reasons
├── AccessRefused
│   ├── Unauthenticated             no proof of who calls, or one that does not hold
│   └── Forbidden                   known, but without the permission
├── LimitReached
│   ├── RateLimited                 too many requests or tokens; `retry_after_s` says when
│   └── BudgetExceeded              the money is spent or reserved
├── ProviderError                   the model's side failed; `scope` says where a retry makes sense
│   ├── ProviderRejected            it refused the request as malformed (its 400)
│   │   └── ContentBlocked          it refused the request for what it holds (its content policy)
│   ├── ContextWindowExceeded       the prompt is longer than the model takes
│   ├── ProviderAuthError           our credentials or quota project (its 401, 403)
│   ├── ProviderNotFound            the deployment is not there (its 404)
│   ├── ProviderRateLimited         its 429
│   ├── ProviderUnavailable         its 500, 503, a refused or cut connection
│   ├── ProviderTimeout             no answer, or no next token, before the deadline
│   └── ProviderBadResponse         an answer that cannot be read, or one that holds nothing
├── DependencyUnavailable           a store, queue or vault of ours is away
├── DeadlineExceeded                the request's own deadline passed before an attempt could be made
└── InternalError                   a defect; the message never says more than the request id
"""

from collections import Counter
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Self

_MAX_PLACES = 20
"""Of refused content that a message lists."""


class RetryScope(StrEnum):
    """Where another attempt can help after a provider failed. Decided once, where the error is mapped."""

    SAME = "same"
    """Another deployment now, or the same one after a pause (load, quota, a cut connection)."""
    OTHER_DEPLOYMENT = "other_deployment"
    """Only another deployment (credentials, a deployment that is not there, unreadable answers)."""
    OTHER_MODEL = "other_model"
    """Only another model (context window, content policy, a request that this one refuses)."""
    NEVER = "never"
    """Nowhere: the request itself is wrong."""


class RouterError(Exception):
    """Base of everything the router raises on purpose.

    Args:
        message: what went wrong in words for the caller; never content, secrets or internals.
        code: a stable machine-readable word; defaults to the class's own.
        param: the request field at fault, as a path such as ``messages[2].content[0].image_url``.
        retry_after_s: seconds after which trying again can succeed, when known.
    """

    code: str = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.param = param
        self.retry_after_s = retry_after_s


class RequestRejected(RouterError):
    """The caller can mend it."""

    code = "invalid_request"


class InvalidRequest(RequestRejected):
    """A field is missing, of the wrong type or out of range."""

    code = "invalid_request"


class UnsupportedFeature(InvalidRequest):
    """Well formed, but the model or endpoint cannot take it."""

    code = "unsupported_feature"


class RequestTooLarge(RequestRejected):
    """Body, part or prompt over a limit."""

    code = "request_too_large"


class UnsupportedMediaType(RequestRejected):
    """The body is not what its content type says, or not JSON at all."""

    code = "unsupported_media_type"


class NotFound(RequestRejected):
    """What was asked for does not exist, or not for this caller."""

    code = "not_found"


class ModelNotFound(NotFound):
    """No model of that id in the registry."""

    code = "model_not_found"


class MethodNotAllowed(RequestRejected):
    """The path exists, the method does not."""

    code = "method_not_allowed"


class Conflict(RequestRejected):
    """A key or version is used already, with other content."""

    code = "conflict"


class IdempotencyKeyReused(Conflict):
    """The idempotency key came with another body before."""

    code = "idempotency_key_reused"


class ContentRefused(RequestRejected):
    """The policy does not let such content through.

    Attributes:
        places: kind and field of everything that stands in the way; never a value.
    """

    code = "content_refused"
    places: tuple[tuple[str, str], ...] = ()
    _WORDS = "the policy refuses this content"

    @classmethod
    def at(cls, places: Sequence[tuple[str, str]]) -> Self:
        """The refusal for what stands in these places; the first of them is its `param`."""
        counted = Counter(places)
        listed = [f"{kind} in {where}" + (f" ({n} times)" if n > 1 else "") for (kind, where), n in counted.items()]
        more = f", and {len(listed) - _MAX_PLACES} more places" if len(listed) > _MAX_PLACES else ""
        error = cls(f"{cls._WORDS}: {', '.join(listed[:_MAX_PLACES])}{more}", param=places[0][1])
        error.places = tuple(places)
        return error

    def named(self, field_of: Callable[[str], str]) -> Self:
        """The same refusal with the fields as the caller has them."""
        return type(self).at([(kind, field_of(where)) for kind, where in self.places]) if self.places else self


class SensitiveContent(ContentRefused):
    """It holds what no model of this service may see."""

    code = "sensitive_content"
    _WORDS = "the policy keeps such content from every model"


class InjectionSuspected(ContentRefused):
    """It looks like an attempt to take over the model."""

    code = "prompt_injection"
    _WORDS = "the request looks like an attempt to take over the model"


class NoEligibleModel(RequestRejected):
    """Every candidate was dropped by a hard constraint."""

    code = "no_eligible_model"


class ClearanceRefused(NoEligibleModel):
    """What the request holds is above the clearance of a candidate that was dropped."""

    code = "no_eligible_model"


class AccessRefused(RouterError):
    """Who calls, or what they may do, was not shown."""

    code = "access_refused"


class Unauthenticated(AccessRefused):
    """No proof of who calls, or one that does not hold."""

    code = "unauthenticated"


class Forbidden(AccessRefused):
    """Known, but without the permission."""

    code = "forbidden"


class LimitReached(RouterError):
    """A limit on rate or money stands in the way."""

    code = "limit_reached"


class RateLimited(LimitReached):
    """Too many requests or tokens."""

    code = "rate_limit_exceeded"


class BudgetExceeded(LimitReached):
    """The money is spent or reserved."""

    code = "budget_exceeded"


class ProviderError(RouterError):
    """The model's side failed.

    Args:
        message: safe for the caller; vendor texts that may quote content are left out.
        vendor_status: the vendor's own status (HTTP number or gRPC name), for records.
        scope: where another attempt can help; defaults to the class's own.
    """

    code = "provider_error"
    scope: RetryScope = RetryScope.OTHER_DEPLOYMENT

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
        vendor_status: str | None = None,
        scope: RetryScope | None = None,
    ) -> None:
        super().__init__(message, code=code, param=param, retry_after_s=retry_after_s)
        self.vendor_status = vendor_status
        self.scope = scope or type(self).scope


class ProviderRejected(ProviderError):
    """The vendor refused the request as malformed."""

    code = "provider_rejected"
    scope = RetryScope.OTHER_MODEL


class ContentBlocked(ProviderRejected):
    """The vendor's content policy refused the request; whether another model may see it is the policy's to say."""

    code = "content_blocked"


class ContextWindowExceeded(ProviderError):
    """The prompt is longer than the model takes."""

    code = "context_window_exceeded"
    scope = RetryScope.OTHER_MODEL


class ProviderAuthError(ProviderError):
    """Our credentials or quota project were refused."""

    code = "provider_auth_error"
    scope = RetryScope.OTHER_DEPLOYMENT


class ProviderNotFound(ProviderError):
    """The deployment is not there."""

    code = "provider_not_found"
    scope = RetryScope.OTHER_DEPLOYMENT


class ProviderRateLimited(ProviderError):
    """The vendor's quota is used up for now."""

    code = "provider_rate_limited"
    scope = RetryScope.SAME


class ProviderUnavailable(ProviderError):
    """The vendor failed, or the connection did."""

    code = "provider_unavailable"
    scope = RetryScope.SAME


class ProviderTimeout(ProviderError):
    """No answer, or no next token, before the deadline."""

    code = "provider_timeout"
    scope = RetryScope.SAME


class ProviderBadResponse(ProviderError):
    """An answer that cannot be read, or one that holds nothing."""

    code = "provider_bad_response"
    scope = RetryScope.OTHER_DEPLOYMENT


class DependencyUnavailable(RouterError):
    """A store, queue or vault of ours is away."""

    code = "dependency_unavailable"


class DeadlineExceeded(RouterError):
    """The request's own deadline passed before an attempt could be made."""

    code = "deadline_exceeded"


class InternalError(RouterError):
    """A defect of the router."""

    code = "internal_error"
