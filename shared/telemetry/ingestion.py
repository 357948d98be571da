"""Sending envelopes: the transport and the file storage of opencensus-ext-azure, without its tracer and statistics.

Only `TransportMixin`, `LocalFileStorage` and `Options` are used. `AzureExporter` itself would also start "statsbeat",
which reports to a host of the vendor's and asks the instance metadata service where it runs; here neither is imported.
"""

import os
import time

from shared.telemetry.opencensus_azure import (
    Envelope,
    LocalFileStorage,
    Options,
    TransportMixin,
    TransportStatusCode,
    validate_instrumentation_key,
)

_VARIABLE = "APPLICATIONINSIGHTS_CONNECTION_STRING"
_MAX_BACKOFF_S = 60.0
_STORED_BATCHES_PER_PASS = 20


class Ingestion(TransportMixin):  # type: ignore[misc]  # opencensus ships no types
    """One ingestion endpoint, with files for what it does not take now. Used by one thread at a time.

    Args:
        connection_string: of the Application Insights resource.
        storage_path: folder of the waiting batches; by default the library's, below the temporary folder and named
            after the instrumentation key, which all processes of this machine share.
        timeout_s: for one request to the endpoint, connecting included.
        retry_interval_s: how long a batch waits in its file at least, and how often the files are looked through.
        first_backoff_s: pause after the first failure; doubled by each further one, up to a minute.

    Raises:
        ValueError: the connection string cannot be read.
    """

    def __init__(
        self,
        connection_string: str,
        *,
        storage_path: str | None = None,
        timeout_s: float = 5.0,
        retry_interval_s: float = 60.0,
        first_backoff_s: float = 1.0,
    ) -> None:
        # The library reads the variable by itself, whatever it is given, and takes no semicolon at its end.
        if _VARIABLE in os.environ:
            os.environ[_VARIABLE] = os.environ[_VARIABLE].strip().rstrip(";")
        self.options = Options(connection_string=connection_string.strip().rstrip(";"), storage_path=storage_path)
        validate_instrumentation_key(self.options.instrumentation_key)
        # The portal's connection strings end their endpoint with the slash that the transport adds again.
        self.options.endpoint = self.options.endpoint.rstrip("/")
        self.storage = LocalFileStorage(self.options.storage_path, source="llm_router")
        self._consecutive_redirects = 0  # the transport's own state
        self._timeout_s = timeout_s
        self._retry_interval_s = retry_interval_s
        self._first_backoff_s = first_backoff_s
        self._failures = 0
        self._silent_until_s = 0.0
        self._next_pass_s = 0.0

    @property
    def instrumentation_key(self) -> str:
        """Names the resource in every envelope."""
        return str(self.options.instrumentation_key)

    def _check_stats_collection(self) -> bool:
        """Say that statistics are collected, though nothing collects them.

        The transport (1.1.15) returns "retry" for a refused or timed out connection only on the branch that counts it;
        otherwise it goes on to read a response that is not there and drops the batch. Counting is one dictionary entry.
        """
        return True

    def send(self, envelopes: list[Envelope], *, timeout_s: float | None = None) -> int:
        """Send a batch, or keep it in a file when the endpoint is away or in its pause.

        Returns how many envelopes were lost: refused by the endpoint for good, or the files are full. Of a partly
        accepted batch all count as lost, since the transport does not say which were.
        """
        if time.monotonic() < self._silent_until_s:
            return self.keep(envelopes)
        status = self._post(envelopes, timeout_s)
        if status == TransportStatusCode.RETRY:
            return self.keep(envelopes)
        return 0 if status == TransportStatusCode.SUCCESS else len(envelopes)

    def keep(self, envelopes: list[Envelope]) -> int:
        """Put a batch into a file for later. Returns how many envelopes were lost."""
        if not envelopes:
            return 0
        return 0 if self.storage.put(envelopes, self._retry_interval_s) else len(envelopes)

    def resend_kept(self) -> None:
        """Send batches from files, also those of processes that are gone; a batch is leased while it is tried."""
        now_s = time.monotonic()
        if now_s < self._silent_until_s or now_s < self._next_pass_s:
            return
        self._next_pass_s = now_s + self._retry_interval_s
        for tried, blob in enumerate(self.storage.gets()):
            if tried >= _STORED_BATCHES_PER_PASS:
                return
            # The lease outlives the request, so that no other process sends the same file meanwhile.
            if not blob.lease(self._timeout_s + self._retry_interval_s):
                continue
            if self._post(blob.get() or (), None) == TransportStatusCode.RETRY:
                return
            blob.delete()

    def close(self) -> None:
        """Stop the storage's maintenance thread."""
        self.storage.close()

    def _post(self, envelopes: list[Envelope] | tuple[Envelope, ...], timeout_s: float | None) -> int:
        # requests applies its timeout to connecting and to each read: half for each keeps the sum.
        half_s = (self._timeout_s if timeout_s is None else min(timeout_s, self._timeout_s)) / 2
        self.options.timeout = (half_s, half_s)
        status = int(self._transmit(envelopes))
        if status == TransportStatusCode.RETRY:
            pause_s = min(self._first_backoff_s * 2**self._failures, _MAX_BACKOFF_S)
            self._failures = min(self._failures + 1, 16)
            self._silent_until_s = time.monotonic() + pause_s
        elif status == TransportStatusCode.SUCCESS:
            self._failures = 0
        return status
