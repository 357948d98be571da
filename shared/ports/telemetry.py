"""Traces, metrics and logs."""

from contextlib import AbstractContextManager
from typing import Protocol


class Span(Protocol):
    """A piece of work being traced. Ends with its context manager; what is set after that is ignored."""

    @property
    def trace_id(self) -> str:
        """32 hex digits."""
        ...

    @property
    def traceparent(self) -> str:
        """The W3C header to send on, naming this span as the parent."""
        ...

    def set(self, **attributes: str | float | bool | None) -> None:
        """Attach facts; never content.

        One name has a meaning of its own: `status`, the HTTP number or gRPC name, becomes the result code, and a number
        from 400 on means failure.
        """
        ...

    def fail(self, code: str, error: BaseException | None = None) -> None:
        """Mark as failed with an error code; of `error` only the class (for a defect: its place in the code) is kept.

        An exception that leaves the span's context manager does the same by itself.
        """
        ...

    def activate(self) -> AbstractContextManager[None]:
        """Make this the current span in another task, such as the one that produces a streamed body."""
        ...


class Telemetry(Protocol):
    """Traces, metrics, structured logs and tests of availability. No method blocks, raises, or takes content."""

    def request(self, name: str, *, request_id: str, traceparent: str | None) -> AbstractContextManager[Span]:
        """A server span, joined to the caller's trace when `traceparent` is valid.

        `name` is the method and the route's template, such as `POST /api/v1/route`, or a job's name.
        """
        ...

    def dependency(self, name: str, *, kind: str, target: str) -> AbstractContextManager[Span]:
        """A client span below the current span; the root of a new trace where there is none.

        Args:
            name: the operation: a verb and a constant, never a query or a body.
            kind: the system, as the application map shows it: `Redis`, `PostgreSQL`, `GRPC`, `HTTP`.
            target: host or deployment.
        """
        ...

    def count(self, name: str, value: int = 1, **dimensions: str) -> None:
        """Add to a counter."""
        ...

    def observe(self, name: str, value: float, **dimensions: str) -> None:
        """Record a measurement; the unit is in the name."""
        ...

    def log(self, level: int, event: str, **fields: str | float | bool | None) -> None:
        """A structured log line (`logging` levels); `event` is a constant, fields hold ids and codes only."""
        ...

    def availability(
        self,
        name: str,
        *,
        success: bool,
        duration_ms: float,
        message: str = "",
        **properties: str | float | bool | None,
    ) -> None:
        """What a test of availability found; it is never sampled.

        Args:
            name: what was tested; a constant.
            success: whether it is available.
            duration_ms: how long the test took, until now.
            message: why, as a constant or a code.
            **properties: ids and codes.
        """
        ...

    async def aclose(self) -> None:
        """Flush what is buffered, within a few seconds."""
        ...
