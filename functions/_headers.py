"""Headers that every answer carries."""

from azurefunctions.extensions.http.fastapi import Request

from shared.container import Container

_EXPOSED_HEADERS = (
    "retry-after, x-request-id, x-router-attempts, x-router-cost-usd, x-router-deployment, x-router-development, "
    "x-router-model, x-router-overhead-ms"
)
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
