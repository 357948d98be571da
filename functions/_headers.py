"""Headers that every answer carries."""

import ipaddress
import math
from collections.abc import Mapping

from azurefunctions.extensions.http.fastapi import Request

from shared.container import Container
from shared.domain.limits import MeterKind
from shared.services.limits import Ticket

_UNKNOWN = "unknown"
_IPV6_NETWORK_BITS = 64
"""What one subscriber usually has to himself."""

_EXPOSED_HEADERS = (
    "age, etag, idempotency-replayed, retry-after, x-ratelimit-limit-requests, x-ratelimit-limit-tokens, "
    "x-ratelimit-remaining-requests, x-ratelimit-remaining-tokens, x-ratelimit-reset-requests, "
    "x-ratelimit-reset-tokens, x-request-id, x-router-attempts, x-router-budget, x-router-cache, "
    "x-router-cache-reason, x-router-cache-similarity, x-router-cascade, x-router-cost-usd, x-router-deployment, "
    "x-router-development, x-router-fallbacks, x-router-idempotency, x-router-model, x-router-overhead-ms, "
    "x-router-saved-usd"
)
_LIMIT_NAMES = {MeterKind.REQUESTS: "requests", MeterKind.TOKENS: "tokens"}
SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "strict-transport-security": "max-age=31536000; includeSubDomains",
}


def common_headers(req: Request, container: Container, request_id: str) -> dict[str, str]:
    """What stands on every answer: security, the request id, CORS for the origins in the settings."""
    headers = {**SECURITY_HEADERS, "x-request-id": request_id, **_cors(req, container)}
    if container.settings.auth == "development":
        headers["x-router-development"] = "true"
    return headers


def _cors(req: Request, container: Container) -> dict[str, str]:
    origin = req.headers.get("origin")
    if origin is None or origin not in container.settings.cors_origins:
        return {}
    return {
        "access-control-allow-origin": origin,
        "access-control-allow-credentials": "true",
        "access-control-expose-headers": _EXPOSED_HEADERS,
        "vary": "Origin",
    }


def caller_address(headers: Mapping[str, str]) -> str:
    """Where a call comes from, for counting: what the platform appended last; callers can write what is before it."""
    text = headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return _UNKNOWN
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((address, _IPV6_NETWORK_BITS), strict=False).network_address)


def limit_headers(ticket: Ticket) -> dict[str, str]:
    """How the caller stands with its tightest limit of each kind, and whether a budget is past its soft limit.

    Names and forms are OpenAI's: https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers
    """
    headers = {}
    for kind, name in _LIMIT_NAMES.items():
        of_kind = [standing for standing in ticket.standing if standing.meter.kind is kind]
        if of_kind:
            tightest = min(of_kind, key=lambda standing: (standing.remaining, standing.limit))
            headers[f"x-ratelimit-limit-{name}"] = str(tightest.limit)
            headers[f"x-ratelimit-remaining-{name}"] = str(tightest.remaining)
            headers[f"x-ratelimit-reset-{name}"] = f"{math.ceil(tightest.reset_s * 1000)}ms"
    if ticket.soft_budgets:
        headers["x-router-budget"] = "soft_limit"
    return headers
