"""Application Insights envelopes, in the classes of opencensus-ext-azure.

The fields are those of the ingestion service's schema (Breeze 2.1), named as in `opencensus.ext.azure.common.protocol`.
Imported only once a connection string is set (see `shared.telemetry.build_telemetry`).
"""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from shared.telemetry.fields import field_text, field_texts
from shared.telemetry.metrics import Aggregate
from shared.telemetry.opencensus_azure import (
    AvailabilityData,
    Data,
    DataPoint,
    Envelope,
    ExceptionData,
    Message,
    MetricData,
    RemoteDependency,
    Request,
    azure_monitor_context,
    microseconds_to_duration,
)
from shared.telemetry.spans import ActiveSpan, AvailabilityResult, Fault, LogLine, SpanKind
from shared.telemetry.trace_context import new_span_id

METRIC_NAMESPACE = "llm_router"
_ALL_SAMPLED = 100.0
_SEVERITIES = ((logging.CRITICAL, 4), (logging.ERROR, 3), (logging.WARNING, 2), (logging.INFO, 1))
_ERROR_SEVERITY = 3
# Blank forms to copy: the library's constructors look each default up by attribute, at ten times the cost of a copy.
_ENVELOPE, _DATA = Envelope(), Data()
_REQUEST, _DEPENDENCY, _MESSAGE, _AVAILABILITY = Request(), RemoteDependency(), Message(), AvailabilityData(ver=2)


class EnvelopeFactory:
    """Builds envelopes of one role.

    Args:
        instrumentation_key: names the Application Insights resource.
        role_name: what the application map calls this process (`cloud_RoleName`).
        run_location: where tests of availability are run from (`location`).
    """

    def __init__(self, instrumentation_key: str, role_name: str, run_location: str) -> None:
        self._key = instrumentation_key
        self._run_location = run_location
        # Of the library's default tags only those that tell instances and SDKs apart: the rest would double the size.
        self._tags = {
            "ai.cloud.role": role_name,
            "ai.cloud.roleInstance": azure_monitor_context["ai.cloud.roleInstance"],
            "ai.internal.sdkVersion": azure_monitor_context["ai.internal.sdkVersion"],
        }

    def of(self, item: ActiveSpan | LogLine | AvailabilityResult) -> list[Envelope]:
        """All that is sent of one item."""
        if isinstance(item, LogLine):
            return [self.of_log(item)]
        return [self.of_availability(item)] if isinstance(item, AvailabilityResult) else self.of_span(item)

    def of_span(self, span: ActiveSpan) -> list[Envelope]:
        """The span's own envelope, and for a failed request the exception below it."""
        if span.kind is SpanKind.DEPENDENCY:
            return [self._dependency(span)]
        request = self._request(span)
        return [request] if span.fault is None else [request, self._exception(span, span.fault)]

    def of_log(self, line: LogLine) -> Envelope:
        """A log line (a row of `traces`), below the span that it was written in."""
        span = line.span
        properties = field_texts(line.fields)
        if span is not None and span.request_id:
            properties.setdefault("request_id", span.request_id)
        message = _filled(
            _MESSAGE,
            message=field_text(line.event),
            severityLevel=_severity(line.level),
            properties=properties,
        )
        tags = self._operation_tags(span.trace_id, span.span_id) if span is not None else dict(self._tags)
        # Warnings are sent whatever the sampling says, so each stands for itself alone.
        percentage = span.sample_percentage if span is not None and line.level < logging.WARNING else _ALL_SAMPLED
        return self._envelope("Message", line.at_s, tags, message, percentage)

    def of_availability(self, result: AvailabilityResult) -> Envelope:
        """What a test of availability found (a row of `availabilityResults`), below the span that it was run in."""
        span = result.span
        availability = _filled(
            _AVAILABILITY,
            id=new_span_id(),
            name=field_text(result.name),
            duration=_duration(result.duration_ms),
            success=result.success,
            runLocation=field_text(self._run_location),
            message=field_text(result.message),
            properties=field_texts(result.properties),
        )
        tags = self._operation_tags(span.trace_id, span.span_id) if span is not None else dict(self._tags)
        return self._envelope("Availability", result.at_s, tags, availability, _ALL_SAMPLED)

    def of_metric(self, metric: Aggregate, at_s: float) -> Envelope:
        """One pre-aggregated series (a row of `customMetrics`)."""
        point = DataPoint(
            ns=METRIC_NAMESPACE,
            name=metric.name,
            kind="Aggregation",
            value=metric.total,
            count=metric.value_count,
            min=metric.minimum,
            max=metric.maximum,
            stdDev=metric.deviation,
        )
        return self._envelope(
            "Metric",
            at_s,
            dict(self._tags),
            MetricData(metrics=[point], properties=field_texts(metric.dimensions)),
            _ALL_SAMPLED,
        )

    def _request(self, span: ActiveSpan) -> Envelope:
        name = _without_query(span.name)
        properties = field_texts(span.attributes)
        properties["request_id"] = span.request_id
        request = _filled(
            _REQUEST,
            id=span.span_id,
            name=name,
            url=_path(name),
            duration=_duration(span.duration_ms),
            responseCode=span.result_code,
            success=span.success,
            properties=_with_code(properties, span),
        )
        tags = self._operation_tags(span.trace_id, span.parent_id)
        tags["ai.operation.name"] = name
        return self._envelope("Request", span.started_at_s, tags, request, span.sample_percentage)

    def _dependency(self, span: ActiveSpan) -> Envelope:
        dependency = _filled(
            _DEPENDENCY,
            id=span.span_id,
            name=_without_query(span.name),
            type=span.system,
            target=_without_query(span.target),
            duration=_duration(span.duration_ms),
            resultCode=span.result_code,
            success=span.success,
            properties=_with_code(field_texts(span.attributes), span),
        )
        tags = self._operation_tags(span.trace_id, span.parent_id)
        return self._envelope("RemoteDependency", span.started_at_s, tags, dependency, span.sample_percentage)

    def _exception(self, span: ActiveSpan, fault: Fault) -> Envelope:
        stack = [
            {"level": level, "method": f"{frame.module}.{frame.function}", "assembly": frame.module, "line": frame.line}
            for level, frame in enumerate(reversed(fault.frames))
        ]
        exception = ExceptionData(
            exceptions=[
                {
                    "id": 1,
                    "outerId": 0,
                    "typeName": fault.type_name,
                    # Our code stands in for the exception's message, which may quote what the caller sent.
                    "message": span.error_code,
                    "hasFullStack": bool(stack),
                    "parsedStack": stack,
                }
            ],
            severityLevel=_ERROR_SEVERITY,
            problemId=f"{fault.type_name} at {stack[0]['method']}" if stack else fault.type_name,
            properties={"code": span.error_code, "request_id": span.request_id},
        )
        tags = self._operation_tags(span.trace_id, span.span_id)
        at_s = span.started_at_s + span.duration_ms / 1000
        return self._envelope("Exception", at_s, tags, exception, span.sample_percentage)

    def _operation_tags(self, trace_id: str, parent_id: str) -> dict[str, str]:
        tags = {**self._tags, "ai.operation.id": trace_id}
        if parent_id:
            tags["ai.operation.parentId"] = parent_id
        return tags

    def _envelope(
        self, kind: str, at_s: float, tags: Mapping[str, str], base: object, sample_percentage: float
    ) -> Envelope:
        envelope = _filled(
            _ENVELOPE,
            iKey=self._key,
            name=f"Microsoft.ApplicationInsights.{kind}",
            time=datetime.fromtimestamp(at_s, UTC).isoformat(timespec="microseconds"),
            tags=tags,
            data=_filled(_DATA, baseData=base, baseType=f"{kind}Data"),
        )
        if sample_percentage < _ALL_SAMPLED:
            envelope.sampleRate = sample_percentage
        return envelope


def _filled(blank: Any, **fields: object) -> Any:
    form: Any = type(blank)
    made = form.__new__(form)
    made.update(blank, **fields)
    return made


def _severity(level: int) -> int:
    return next((severity for threshold, severity in _SEVERITIES if level >= threshold), 0)


def _with_code(properties: dict[str, str], span: ActiveSpan) -> dict[str, str]:
    if span.error_code:
        properties["code"] = span.error_code
    if span.fault is not None:
        properties["exception_type"] = span.fault.type_name
    return properties


def _duration(duration_ms: float) -> str:
    duration: str = microseconds_to_duration(int(duration_ms * 1000))
    return duration


def _without_query(name: str) -> str:
    return field_text(name.partition("?")[0])


def _path(name: str) -> str | None:
    """The path template of a name such as `POST /api/v1/route`; None for a job's."""
    _, _, path = name.partition(" ")
    return path if path.startswith("/") else None
