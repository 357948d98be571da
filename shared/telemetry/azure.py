"""Telemetry to Application Insights. Imported only once a connection string is set."""

import asyncio
import logging

from shared.telemetry.envelopes import EnvelopeFactory
from shared.telemetry.exporter import BackgroundExporter
from shared.telemetry.fields import FieldValue
from shared.telemetry.ingestion import Ingestion
from shared.telemetry.metrics import MetricAggregator
from shared.telemetry.spans import ActiveSpan, Tracer, availability_result, log_line


class AzureTelemetry(Tracer):
    """Implements `shared.ports.Telemetry` on Application Insights.

    On the request path an item costs its own creation and an append; envelopes are built and sent by the exporter's
    thread. Spans, and log lines below WARNING, follow the sampling; metrics, warnings and tests of
    availability are always sent.

    Args:
        run_location: where tests of availability are run from; by default the role.
        flush_interval_s: longest wait of an item before it is sent.
        metrics_interval_s: how often aggregated metrics are sent.
        queue_capacity: items that may wait; the oldest go first.
    """

    def __init__(
        self,
        ingestion: Ingestion,
        *,
        role_name: str,
        run_location: str = "",
        sampling: float = 1.0,
        honour_unsampled: bool = False,
        flush_interval_s: float = 5.0,
        metrics_interval_s: float = 60.0,
        queue_capacity: int = 8192,
        batch_size: int = 400,
    ) -> None:
        super().__init__(sampling=sampling, honour_unsampled=honour_unsampled)
        self._metrics = MetricAggregator()
        self._exporter = BackgroundExporter(
            ingestion,
            EnvelopeFactory(ingestion.instrumentation_key, role_name, run_location or role_name),
            self._metrics,
            capacity=queue_capacity,
            batch_size=batch_size,
            flush_interval_s=flush_interval_s,
            metrics_interval_s=metrics_interval_s,
        )

    def ended(self, span: ActiveSpan) -> None:
        """Queue a sampled span."""
        if span.sampled:
            self._exporter.put(span)

    def count(self, name: str, value: int = 1, **dimensions: str) -> None:
        """Add to a counter."""
        self._metrics.add(name, value, dimensions)

    def observe(self, name: str, value: float, **dimensions: str) -> None:
        """Record a measurement; the unit is in the name."""
        self._metrics.add(name, value, dimensions)

    def log(self, level: int, event: str, **fields: FieldValue) -> None:
        """Queue a log line, unless its trace is not sampled and it is no warning."""
        line = log_line(level, event, fields)
        if line.span is None or line.span.sampled or level >= logging.WARNING:
            self._exporter.put(line)

    def availability(
        self, name: str, *, success: bool, duration_ms: float, message: str = "", **properties: FieldValue
    ) -> None:
        """Queue what a test of availability found, whatever the sampling says."""
        self._exporter.put(availability_result(name, duration_ms, message, properties, success=success))

    async def aclose(self) -> None:
        """Send what waits within 3 s; what cannot be sent by then is kept in files for the next process."""
        await asyncio.to_thread(self._exporter.stop)
