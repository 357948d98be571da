"""Spans: what is being done, in which trace, how it ended. A context variable carries them into awaits and tasks."""

import asyncio
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from enum import StrEnum
from traceback import walk_tb
from types import TracebackType
from typing import NamedTuple, Self

from shared.domain.errors import AccessRefused, InternalError, LimitReached, RequestRejected, RouterError
from shared.telemetry.fields import FieldValue
from shared.telemetry.trace_context import (
    format_traceparent,
    is_within_ratio,
    new_span_id,
    new_trace_id,
    parse_traceparent,
)

_ORPHANED_AFTER_S = 60.0
"""A loop that was first started inside a request inherits that request's span for good; work this long after the
request ended is the loop's own, and starts a trace of its own."""
_MAX_FRAMES = 30


class SpanKind(StrEnum):
    """Which side of a call a span is."""

    REQUEST = "request"
    DEPENDENCY = "dependency"


class Frame(NamedTuple):
    """A place in the code; no values."""

    function: str
    module: str
    line: int


class Fault(NamedTuple):
    """An exception that is not the caller's doing.

    Attributes:
        type_name: the exception's class. Its message is left out: it may quote content.
        frames: outermost first; only for defects, whose place in the code is not known from their class.
    """

    type_name: str
    frames: tuple[Frame, ...]


class ActiveSpan:
    """A span, and the context manager that times it. Implements `shared.ports.Span`.

    After its end it does not change any more, so the exporting thread reads it without a lock.

    Attributes:
        parent_id: the enclosing span's id, or the caller's; empty for the root of a trace.
        sample_percentage: share of like traces that are recorded, for those who extrapolate; 100 when all are.
        started_at_s: seconds since the epoch.
        duration_ms: from enter to exit; 0 before the end.
        error_code: empty as long as nothing failed.
    """

    __slots__ = (
        "_began_s",
        "_ended_s",
        "_owner",
        "_token",
        "attributes",
        "duration_ms",
        "error_code",
        "fault",
        "kind",
        "name",
        "parent_id",
        "request_id",
        "sample_percentage",
        "sampled",
        "span_id",
        "started_at_s",
        "system",
        "target",
        "trace_id",
    )

    def __init__(
        self,
        owner: "Tracer",
        kind: SpanKind,
        name: str,
        *,
        trace_id: str,
        parent_id: str,
        sampled: bool,
        sample_percentage: float,
        request_id: str,
        system: str = "",
        target: str = "",
    ) -> None:
        self._owner = owner
        self._token: Token[ActiveSpan | None] | None = None
        self._ended_s: float | None = None
        self.kind = kind
        self.name = name
        self.trace_id = trace_id
        self.span_id = new_span_id()
        self.parent_id = parent_id
        self.sampled = sampled
        self.sample_percentage = sample_percentage
        self.request_id = request_id
        self.system = system
        self.target = target
        self.attributes: dict[str, FieldValue] = {}
        self.error_code = ""
        self.fault: Fault | None = None
        self.duration_ms = 0.0
        self.started_at_s = time.time()
        self._began_s = time.perf_counter()

    @property
    def traceparent(self) -> str:
        """The W3C header to send on, naming this span as the parent."""
        return format_traceparent(self.trace_id, self.span_id, sampled=self.sampled)

    @property
    def success(self) -> bool:
        """False after `fail`, or when the status is an HTTP number from 400 on."""
        status = self.attributes.get("status")
        return not self.error_code and not (isinstance(status, int) and status >= 400)  # noqa: PLR2004 -- RFC 9110: 4xx and 5xx are errors

    @property
    def result_code(self) -> str:
        """The status when one was set, else the error code, else 0."""
        status = self.attributes.get("status")
        return str(status) if status is not None else self.error_code or "0"

    @property
    def is_orphaning(self) -> bool:
        """Whether it ended so long ago that new work cannot be part of it."""
        return self._ended_s is not None and time.perf_counter() - self._ended_s > _ORPHANED_AFTER_S

    def set(self, **attributes: FieldValue) -> None:
        """Attach facts; never content. Ignored after the end."""
        if self._ended_s is None:
            self.attributes.update(attributes)

    def fail(self, code: str, error: BaseException | None = None) -> None:
        """Mark as failed; of `error` only the class is kept, and for a defect the places in the code."""
        if self._ended_s is None:
            self.error_code = code
            self.fault = None if error is None else _fault(error)

    @contextmanager
    def activate(self) -> Iterator[None]:
        """Make this the current span in another task, such as the one that produces a streamed body."""
        token = _current.set(self)
        try:
            yield
        finally:
            _leave(token)

    def __enter__(self) -> Self:
        self._token = _current.set(self)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._token is not None:
            _leave(self._token)
            self._token = None
        if self._ended_s is not None:
            return
        if exc is not None and self.fault is None:
            self.fail(self.error_code or error_code_of(exc), exc)
        self._ended_s = time.perf_counter()
        self.duration_ms = (self._ended_s - self._began_s) * 1000
        self._owner.ended(self)


_current: ContextVar[ActiveSpan | None] = ContextVar("llm_router_span", default=None)


def current_span() -> ActiveSpan | None:
    """The innermost open span of this task."""
    return _current.get()


def _leave(token: Token[ActiveSpan | None]) -> None:
    try:
        _current.reset(token)
    except ValueError:
        # Left in another context than it was entered in (a stream closed by the server's own task): that context
        # ends with its task, so nothing is left to undo here.
        return


def error_code_of(error: BaseException) -> str:
    """The stable word for an exception: our own code, or one of the few outcomes that have no error class of ours."""
    if isinstance(error, RouterError):
        return error.code
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return "cancelled"
    return InternalError.code


def _fault(error: BaseException) -> Fault | None:
    if isinstance(error, RequestRejected | AccessRefused | LimitReached | asyncio.CancelledError | GeneratorExit):
        return None
    name = type(error).__name__
    if isinstance(error, RouterError) and not isinstance(error, InternalError):
        return Fault(name, ())
    frames = [
        Frame(frame.f_code.co_qualname, frame.f_globals.get("__name__", "?"), line)
        for frame, line in walk_tb(error.__traceback__)
    ]
    return Fault(name, tuple(frames[-_MAX_FRAMES:]))


class Tracer(ABC):
    """Opens spans; what becomes of them is the subclass's.

    Args:
        sampling: share of traces to record, 0 to 1, decided by trace id.
        honour_unsampled: whether a caller's cleared sampled flag forbids recording. A set flag is always honoured.
            False by default because the Azure front end and the Functions host send a cleared flag for every request
            that came without one (open-telemetry/opentelemetry-js#3057): honouring it there records nothing at all.

    Raises:
        ValueError: `sampling` is out of range.
    """

    def __init__(self, *, sampling: float = 1.0, honour_unsampled: bool = False) -> None:
        if not 0.0 <= sampling <= 1.0:
            raise ValueError("sampling: must be between 0 and 1")
        self._sampling = sampling
        self._honour_unsampled = honour_unsampled

    @abstractmethod
    def ended(self, span: ActiveSpan) -> None:
        """Take a span that will not change any more. Must not block or raise."""

    def request(self, name: str, *, request_id: str, traceparent: str | None) -> ActiveSpan:
        """A server span: in the caller's trace when `traceparent` is valid, else in a new one."""
        caller = parse_traceparent(traceparent)
        trace_id = caller.trace_id if caller else new_trace_id()
        percentage = 100.0
        if caller and caller.sampled:
            sampled = True
        elif caller and self._honour_unsampled:
            sampled = False
        else:
            sampled = self._sampling >= 1.0 or is_within_ratio(trace_id, self._sampling)
            percentage = self._sampling * 100
        return ActiveSpan(
            self,
            SpanKind.REQUEST,
            name,
            trace_id=trace_id,
            parent_id=caller.span_id if caller else "",
            sampled=sampled,
            sample_percentage=percentage,
            request_id=request_id,
        )

    def dependency(self, name: str, *, kind: str, target: str) -> ActiveSpan:
        """A client span below the current span; the root of a new trace where there is none."""
        parent = _current.get()
        if parent is not None and not parent.is_orphaning:
            return ActiveSpan(
                self,
                SpanKind.DEPENDENCY,
                name,
                trace_id=parent.trace_id,
                parent_id=parent.span_id,
                sampled=parent.sampled,
                sample_percentage=parent.sample_percentage,
                request_id=parent.request_id,
                system=kind,
                target=target,
            )
        trace_id = new_trace_id()
        return ActiveSpan(
            self,
            SpanKind.DEPENDENCY,
            name,
            trace_id=trace_id,
            parent_id="",
            sampled=self._sampling >= 1.0 or is_within_ratio(trace_id, self._sampling),
            sample_percentage=self._sampling * 100,
            request_id="",
            system=kind,
            target=target,
        )


class LogLine(NamedTuple):
    """A structured log line, with its place in the trace.

    Attributes:
        level: a `logging` level.
        at_s: seconds since the epoch.
    """

    level: int
    event: str
    fields: dict[str, FieldValue]
    at_s: float
    span: ActiveSpan | None


def log_line(level: int, event: str, fields: dict[str, FieldValue]) -> LogLine:
    """A line that happened now, in the current span."""
    return LogLine(level, event, fields, time.time(), _current.get())


class AvailabilityResult(NamedTuple):
    """What a test of availability found, with its place in the trace.

    Attributes:
        at_s: when the test began, seconds since the epoch.
        duration_ms: how long it took; never negative.
    """

    name: str
    success: bool
    duration_ms: float
    message: str
    properties: dict[str, FieldValue]
    at_s: float
    span: ActiveSpan | None


def availability_result(
    name: str, duration_ms: float, message: str, properties: dict[str, FieldValue], *, success: bool
) -> AvailabilityResult:
    """A test that ended now, in the current span; a duration that is no number counts as none."""
    duration_ms = max(0.0, duration_ms) if math.isfinite(duration_ms) else 0.0
    began_s = time.time() - duration_ms / 1000
    return AvailabilityResult(name, success, duration_ms, message, properties, began_s, _current.get())
