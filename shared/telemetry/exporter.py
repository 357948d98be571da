"""The background thread between the request path and the ingestion endpoint."""

import atexit
import logging
import threading
import time
from collections import deque

from shared.telemetry.envelopes import EnvelopeFactory
from shared.telemetry.ingestion import Ingestion
from shared.telemetry.metrics import MetricAggregator
from shared.telemetry.opencensus_azure import Envelope
from shared.telemetry.spans import ActiveSpan, AvailabilityResult, LogLine

DROPPED_METRIC = "telemetry_dropped_items"
_SPILL_RESERVE_S = 0.5
_BUILD_SLICE = 50
_YIELD_S = 0.0002
_logger = logging.getLogger(__name__)

Item = ActiveSpan | LogLine | AvailabilityResult


class BackgroundExporter:
    """Takes finished items without waiting; builds and sends them on its own thread.

    Args:
        capacity: items that may wait; the oldest are dropped beyond it, and counted in the metric
            `telemetry_dropped_items` with its reason.
        batch_size: envelopes per request to the endpoint; a full batch is sent at once.
        flush_interval_s: longest wait of a batch that is not full.
        metrics_interval_s: how often metrics are sent.
    """

    def __init__(
        self,
        ingestion: Ingestion,
        envelopes: EnvelopeFactory,
        metrics: MetricAggregator,
        *,
        capacity: int = 8192,
        batch_size: int = 400,
        flush_interval_s: float = 5.0,
        metrics_interval_s: float = 60.0,
    ) -> None:
        self._ingestion = ingestion
        self._envelopes = envelopes
        self._metrics = metrics
        self._capacity = capacity
        self._batch_size = batch_size
        self._flush_interval_s = flush_interval_s
        self._metrics_interval_s = metrics_interval_s
        self._next_flush_s = time.monotonic() + flush_interval_s
        self._next_metrics_s = time.monotonic() + metrics_interval_s
        self._items: deque[Item] = deque()
        self._overflowed = 0
        self._in_flight: list[Envelope] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop_by_s: float | None = None
        self._thread = threading.Thread(target=self._run, name="telemetry-exporter", daemon=True)
        self._thread.start()
        # A worker that exits without closing still sends what it has.
        atexit.register(self.stop)

    def put(self, item: Item) -> None:
        """Take an item; never waits."""
        with self._lock:
            if len(self._items) >= self._capacity:
                self._items.popleft()
                self._overflowed += 1
            self._items.append(item)
            is_full_batch = len(self._items) == self._batch_size
        if is_full_batch:
            self._wake.set()

    def stop(self, within_s: float = 3.0) -> None:
        """Send what waits, keep in files what cannot be sent in time, and end the thread. Later calls do nothing."""
        with self._lock:
            if self._stop_by_s is not None:
                return
            self._stop_by_s = time.monotonic() + within_s - _SPILL_RESERVE_S
        atexit.unregister(self.stop)
        self._wake.set()
        self._thread.join(within_s - _SPILL_RESERVE_S)
        if self._thread.is_alive():
            # Stuck in a request to the endpoint. Its batch is kept too: twice is better than not at all.
            self._keep_all()
        self._ingestion.close()

    def _run(self) -> None:
        while self._stop_by_s is None:
            self._wake.wait(max(0.0, self._next_flush_s - time.monotonic()))
            self._wake.clear()
            self._export()
        # `stop` may have come between the export and the loop's test.
        self._export()

    def _export(self) -> None:
        try:
            self._send_due()
        except Exception as error:  # noqa: BLE001 -- e.g. the folder of the files is gone; the thread must outlive it
            _logger.warning("telemetry: an export was cut short: %s", type(error).__name__)

    def _send_due(self) -> None:
        is_stopping = self._stop_by_s is not None
        now_s = time.monotonic()
        if is_stopping or now_s >= self._next_metrics_s:
            self._next_metrics_s = now_s + self._metrics_interval_s
            self._send(self._metric_envelopes())
        is_due = is_stopping or now_s >= self._next_flush_s
        if is_due:
            self._next_flush_s = now_s + self._flush_interval_s
        # Between flushes only full batches go: requests to the endpoint are what costs most.
        while batch := self._take(at_least=1 if is_due else self._batch_size):
            self._send(self._build(batch))
        if not is_stopping:
            self._ingestion.resend_kept()

    def _take(self, at_least: int = 1) -> list[Item]:
        with self._lock:
            count = min(len(self._items), self._batch_size)
            return [self._items.popleft() for _ in range(count)] if count >= at_least else []

    def _build(self, items: list[Item]) -> list[Envelope]:
        built: list[Envelope] = []
        for position, item in enumerate(items, 1):
            try:
                built += self._envelopes.of(item)
            except Exception as error:  # noqa: BLE001 -- a defect costs the item at hand, never the thread
                # Only the class is logged, without a traceback: the message may quote the value that broke it.
                _logger.warning("telemetry: an item could not be built: %s", type(error).__name__)
                self._metrics.add(DROPPED_METRIC, 1, {"reason": "defect"})
            if position % _BUILD_SLICE == 0 and self._stop_by_s is None:
                # Give the interpreter lock back to the event loop, which would otherwise wait a whole switch interval.
                time.sleep(_YIELD_S)
        return built

    def _metric_envelopes(self) -> list[Envelope]:
        with self._lock:
            overflowed, self._overflowed = self._overflowed, 0
        if overflowed:
            self._metrics.add(DROPPED_METRIC, overflowed, {"reason": "queue_full"})
        at_s = time.time()
        return [self._envelopes.of_metric(metric, at_s) for metric in self._metrics.drain()]

    def _send(self, envelopes: list[Envelope]) -> None:
        for start in range(0, len(envelopes), self._batch_size):
            batch = envelopes[start : start + self._batch_size]
            self._in_flight = batch
            if self._stop_by_s is None:
                lost = self._ingestion.send(batch)
            elif (left_s := self._stop_by_s - time.monotonic()) > 0:
                lost = self._ingestion.send(batch, timeout_s=left_s)
            else:
                lost = self._ingestion.keep(batch)
            self._in_flight = []
            if lost:
                self._metrics.add(DROPPED_METRIC, lost, {"reason": "refused"})

    def _keep_all(self) -> None:
        self._ingestion.keep(self._in_flight)
        self._ingestion.keep(self._metric_envelopes())
        while batch := self._take():
            self._ingestion.keep(self._build(batch))
