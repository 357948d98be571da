"""Records for the tests of the stores."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from shared.domain.records import AttemptRecord, RequestRecord, RequestStatus
from shared.domain.replies import Usage
from shared.stores.system import UuidIds

START = datetime(2026, 11, 5, 1, 2, 3, 456789, tzinfo=UTC)
USAGE = Usage(
    input_tokens=100,
    input_audio_tokens=3,
    cache_read_tokens=20,
    cache_write_tokens=7,
    cache_write_long_tokens=5,
    output_tokens=300,
    thinking_tokens=50,
)
IDS = UuidIds()


def attempt(number: int, **fields: Any) -> AttemptRecord:
    values: dict[str, Any] = {
        "number": number,
        "deployment_id": "gemini-2.5-flash@europe-west4",
        "model_id": "gemini-2.5-flash",
        "provider": "gemini",
        "region": "europe-west4",
        "started_at": START + timedelta(milliseconds=number),
        "duration_ms": 1400.25,
        "outcome": "success",
        "ttft_ms": 312.5,
        "usage": USAGE,
        "cost_usd": Decimal("0.000912375001"),
    }
    return AttemptRecord(**values | fields)


def record(**fields: Any) -> RequestRecord:
    """A finished request with a failed and a good attempt, every field set."""
    values: dict[str, Any] = {
        "id": IDS.request_id(),
        "tenant_id": "tenant-a",
        "service_name": "checkout",
        "principal_id": "principal-1",
        "endpoint": "/api/v1/route",
        "request_type": "code",
        "content_type": "text",
        "attachment_size": 12_345,
        "complexity_level": "medium",
        "security_level": "internal",
        "start_time": START,
        "end_time": START + timedelta(seconds=1.5),
        "status": RequestStatus.SUCCESS,
        "stream": True,
        "requested_model": "auto:cost",
        "model_used": "gemini-2.5-flash",
        "deployment_used": "gemini-2.5-flash@europe-west4",
        "provider": "gemini",
        "region": "europe-west4",
        "usage": USAGE,
        "cost_usd": Decimal("0.000912375001"),
        "ttft_ms": 312.5,
        "overhead_ms": 1.125,
        "finish_reason": "stop",
        "error_code": None,
        "error_message": None,
        "quality_score": 0.75,
        "propensity": 0.91,
        "registry_version": "registry-17",
        "policy_version": "policy-3",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "tags": (("feature", "search"), ("team", "payments")),
        "attempts": (
            attempt(
                1,
                outcome="provider_rate_limited",
                vendor_status="429",
                ttft_ms=None,
                usage=Usage(),
                cost_usd=Decimal(0),
            ),
            attempt(2),
        ),
    }
    return RequestRecord(**values | fields)


def bare_record(**fields: Any) -> RequestRecord:
    """A request that was admitted and no more: every optional field at its default."""
    defaults = (
        "model_used", "deployment_used", "provider", "region", "usage", "cost_usd", "ttft_ms", "overhead_ms",
        "finish_reason", "quality_score", "propensity", "registry_version", "policy_version", "trace_id", "tags", "attempts",
    )  # fmt: skip
    full = record()
    values = {name: getattr(full, name) for name in full.__dataclass_fields__ if name not in defaults}
    return RequestRecord(**values | fields)


def batch(count: int, **fields: Any) -> list[RequestRecord]:
    return [record(**fields) for _ in range(count)]
