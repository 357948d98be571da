"""What was called: the last calls with sizes, tokens and fates, but no content."""

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from infra.local.simulator.faults import Fault
from infra.local.simulator.plan import Plan
from infra.local.simulator.problems import Problem


@dataclass(slots=True)
class Call:
    """One call, filled in as it goes on. Times are wall-clock seconds since the epoch."""

    number: int
    method: str
    model: str
    region: str
    endpoint: str
    stream: bool
    request_bytes: int
    traceparent: str | None = None
    started: float = field(default_factory=time.time)
    fault: Fault | None = None
    status: str = "in_flight"
    http_status: int | None = None
    plan: Plan | None = None
    content_sha256: str = ""
    chunks: int = 0
    ended: float | None = None

    def document(self) -> dict[str, Any]:
        """For the control API."""
        plan = self.plan
        ended = self.ended
        return {
            "number": self.number,
            "time": _iso(self.started),
            "method": self.method,
            "model": self.model,
            "region": self.region,
            "endpoint": self.endpoint,
            "stream": self.stream,
            "fault": self.fault.name if self.fault else None,
            "status": self.status,
            "http_status": self.http_status,
            "cancelled": self.status == "cancelled",
            "ended": _iso(ended) if ended is not None else None,
            "duration_ms": round((ended - self.started) * 1000, 3) if ended is not None else None,
            "request_bytes": self.request_bytes,
            "content_sha256": self.content_sha256,
            "chunks": self.chunks,
            "prompt_tokens": plan.prompt.total if plan else None,
            "cache_read_tokens": plan.cache.read_tokens if plan else None,
            "cache_write_tokens": plan.cache.write_tokens + plan.cache.write_long_tokens if plan else None,
            "output_tokens": plan.output_tokens if plan else None,
            "thinking_tokens": plan.thinking_tokens if plan else None,
            "good": plan.good if plan else None,
            "traceparent": self.traceparent,
        }


class CallLog:
    """The last calls, newest last.

    Args:
        kept: how many are kept.
    """

    def __init__(self, kept: int = 2_000) -> None:
        self._calls: deque[Call] = deque(maxlen=kept)
        self._count = 0

    @contextmanager
    def record(
        self,
        method: str,
        *,
        model: str,
        region: str,
        endpoint: str,
        stream: bool,
        request_bytes: int,
        traceparent: str | None,
    ) -> Iterator[Call]:
        """Record a call from here to the end of the block, however it ends."""
        self._count += 1
        call = Call(self._count, method, model, region, endpoint, stream, request_bytes, traceparent)
        self._calls.append(call)
        try:
            yield call
            if call.status == "in_flight":
                call.status, call.http_status = "ok", call.http_status or 200
        except asyncio.CancelledError:
            call.status = "cancelled"
            raise
        except Problem as problem:
            call.status, call.http_status = "error", problem.status
            raise
        except ConnectionError:
            call.status = "cancelled"
            raise
        except BaseException:
            if call.status == "in_flight":
                call.status = "cut"
            raise
        finally:
            call.ended = time.time()

    def documents(self, last: int) -> list[dict[str, Any]]:
        """The last `last` calls, oldest first."""
        calls = list(self._calls)
        return [call.document() for call in calls[max(0, len(calls) - last) :]]

    def clear(self) -> None:
        """Forget all calls."""
        self._calls.clear()


def _iso(instant: float) -> str:
    return datetime.fromtimestamp(instant, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
