"""GET /health (liveness) and /health/ready (every dependency asked)."""

from functions._edge import Call, Reply
from shared.domain.identity import Permission
from shared.services.readiness import Readiness

_UNAVAILABLE = 503


async def health(call: Call) -> Reply:
    """Say that the process serves requests; asks nobody."""
    del call
    return Reply({"status": "ok"})


async def ready(call: Call) -> Reply:
    """Say whether requests are taken; to those who may read the administration, dependency by dependency."""
    readiness = await call.container.readiness.check()
    status = 200 if readiness.ready else _UNAVAILABLE
    headers = {} if readiness.ready else {"retry-after": "5"}
    detailed = call.principal is not None and call.principal.may(Permission.ADMIN_READ)
    return Reply(_body(readiness) if detailed else {"status": readiness.state}, status=status, headers=headers)


def _body(readiness: Readiness) -> dict[str, object]:
    return {
        "status": readiness.state,
        "dependencies": {
            d.name: {
                "status": "ok" if d.ok else "unavailable",
                "required": d.required,
                "latency_ms": round(d.latency_ms, 1),
            }
            for d in readiness.dependencies
        },
    }
