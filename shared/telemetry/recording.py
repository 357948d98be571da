"""The in-memory twin of the telemetry port, for tests of what others report."""

from collections import defaultdict
from typing import NamedTuple

from shared.telemetry.fields import FieldValue
from shared.telemetry.spans import (
    ActiveSpan,
    AvailabilityResult,
    LogLine,
    SpanKind,
    Tracer,
    availability_result,
    log_line,
)


class Measurement(NamedTuple):
    """One call of `count` or `observe`."""

    name: str
    value: float
    dimensions: dict[str, str]


class RecordingTelemetry(Tracer):
    """Implements `shared.ports.Telemetry` by remembering everything, sampled or not.

    Attributes:
        spans: in the order in which they ended.
        closed: whether `aclose` was awaited.
    """

    def __init__(self, *, sampling: float = 1.0, honour_unsampled: bool = False) -> None:
        super().__init__(sampling=sampling, honour_unsampled=honour_unsampled)
        self.spans: list[ActiveSpan] = []
        self.counts: list[Measurement] = []
        self.observations: list[Measurement] = []
        self.logs: list[LogLine] = []
        self.availabilities: list[AvailabilityResult] = []
        self.closed = False

    @property
    def requests(self) -> list[ActiveSpan]:
        """Finished server spans."""
        return [span for span in self.spans if span.kind is SpanKind.REQUEST]

    @property
    def dependencies(self) -> list[ActiveSpan]:
        """Finished client spans."""
        return [span for span in self.spans if span.kind is SpanKind.DEPENDENCY]

    def counted(self, name: str, **dimensions: str) -> int:
        """Sum of a counter over the calls that had at least these dimensions."""
        return int(sum(_values(self.counts, name, dimensions)))

    def observed(self, name: str, **dimensions: str) -> list[float]:
        """Values of a measurement, likewise."""
        return _values(self.observations, name, dimensions)

    def events(self) -> dict[str, list[dict[str, FieldValue]]]:
        """Fields of the log lines by event."""
        by_event: dict[str, list[dict[str, FieldValue]]] = defaultdict(list)
        for line in self.logs:
            by_event[line.event].append(line.fields)
        return dict(by_event)

    def ended(self, span: ActiveSpan) -> None:
        """Remember a span."""
        self.spans.append(span)

    def count(self, name: str, value: int = 1, **dimensions: str) -> None:
        """Remember it."""
        self.counts.append(Measurement(name, value, dimensions))

    def observe(self, name: str, value: float, **dimensions: str) -> None:
        """Remember it."""
        self.observations.append(Measurement(name, value, dimensions))

    def log(self, level: int, event: str, **fields: FieldValue) -> None:
        """Remember it."""
        self.logs.append(log_line(level, event, fields))

    def availability(
        self, name: str, *, success: bool, duration_ms: float, message: str = "", **properties: FieldValue
    ) -> None:
        """Remember it."""
        self.availabilities.append(availability_result(name, duration_ms, message, properties, success=success))

    async def aclose(self) -> None:
        """Remember that it was closed."""
        self.closed = True


def _values(measurements: list[Measurement], name: str, dimensions: dict[str, str]) -> list[float]:
    return [one.value for one in measurements if one.name == name and dimensions.items() <= one.dimensions.items()]
