"""Telemetry without Application Insights: one JSON line per event on the standard logger `llm_router`."""

import json
import logging
from datetime import UTC, datetime

from shared.telemetry.fields import FieldValue, json_fields
from shared.telemetry.spans import ActiveSpan, SpanKind, Tracer, availability_result, log_line

LOGGER_NAME = "llm_router"


class LoggingTelemetry(Tracer):
    """Implements `shared.ports.Telemetry` on `logging` alone; starts no thread.

    Requests are INFO, failed dependencies and failed tests of availability WARNING; dependencies and tests that went
    well and metrics are DEBUG. Sampling does not apply: levels and filters of `logging` do.
    """

    def __init__(self, *, role_name: str) -> None:
        super().__init__()
        self._role_name = role_name
        self._logger = logging.getLogger(LOGGER_NAME)

    def ended(self, span: ActiveSpan) -> None:
        """One line for a finished span."""
        level = _level_of(span)
        if not self._logger.isEnabledFor(level):
            return
        self._write(
            level,
            str(span.kind),
            span,
            span.started_at_s,
            {
                "name": span.name.partition("?")[0],
                "kind": span.system or None,
                "target": span.target or None,
                "duration_ms": round(span.duration_ms, 3),
                "success": span.success,
                "result": span.result_code,
                "code": span.error_code or None,
                "exception_type": span.fault.type_name if span.fault else None,
            },
            span.attributes,
        )

    def count(self, name: str, value: int = 1, **dimensions: str) -> None:
        """A DEBUG line."""
        self.observe(name, value, **dimensions)

    def observe(self, name: str, value: float, **dimensions: str) -> None:
        """A DEBUG line."""
        if self._logger.isEnabledFor(logging.DEBUG):
            line = log_line(logging.DEBUG, "metric", {})
            self._write(line.level, line.event, line.span, line.at_s, {"name": name, "value": value}, dimensions)

    def log(self, level: int, event: str, **fields: FieldValue) -> None:
        """One line of that level."""
        if self._logger.isEnabledFor(level):
            line = log_line(level, event, fields)
            self._write(level, event, line.span, line.at_s, {}, fields)

    def availability(
        self, name: str, *, success: bool, duration_ms: float, message: str = "", **properties: FieldValue
    ) -> None:
        """One line: DEBUG when the test went well, else WARNING."""
        level = logging.DEBUG if success else logging.WARNING
        if self._logger.isEnabledFor(level):
            found = availability_result(name, duration_ms, message, properties, success=success)
            own: dict[str, FieldValue] = {
                "name": name,
                "duration_ms": round(found.duration_ms, 3),
                "success": success,
                "message": message or None,
            }
            self._write(level, "availability", found.span, found.at_s, own, properties)

    async def aclose(self) -> None:
        """Nothing is buffered."""

    def _write(
        self,
        level: int,
        event: str,
        span: ActiveSpan | None,
        at_s: float,
        own_fields: dict[str, FieldValue],
        fields: dict[str, FieldValue] | dict[str, str],
    ) -> None:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds"),
            "level": logging.getLevelName(level),
            "role": self._role_name,
            "event": event,
        }
        if span is not None:
            line |= {"trace_id": span.trace_id, "span_id": span.span_id}
            line |= {"parent_id": span.parent_id} if span.parent_id else {}
            line |= {"request_id": span.request_id} if span.request_id else {}
        line |= json_fields(own_fields)
        if fields:
            line["fields"] = json_fields(fields)
        # The line is data, not a format string: it is passed as the only argument.
        self._logger.log(level, "%s", json.dumps(line, separators=(",", ":")))


def _level_of(span: ActiveSpan) -> int:
    if span.kind is SpanKind.REQUEST:
        return logging.INFO
    return logging.DEBUG if span.success else logging.WARNING
