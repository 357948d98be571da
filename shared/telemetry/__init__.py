"""Traces, metrics and structured logs, behind the `Telemetry` and `Span` ports."""

from shared.ports import Telemetry
from shared.telemetry.recording import RecordingTelemetry
from shared.telemetry.structured_logs import LoggingTelemetry

__all__ = ["LoggingTelemetry", "RecordingTelemetry", "build_telemetry"]


def build_telemetry(
    connection_string: str | None,
    *,
    role_name: str,
    run_location: str = "",
    sampling: float = 1.0,
    honour_unsampled: bool = False,
    storage_path: str | None = None,
) -> Telemetry:
    """The telemetry that configuration asks for: Application Insights, or structured logs alone.

    Args:
        connection_string: of the Application Insights resource; None or empty for logs alone.
        role_name: what the application map calls this process.
        run_location: where this process tests its availability from; by default the role.
        sampling: share of traces to send, 0 to 1; metrics and warnings are always sent.
        honour_unsampled: whether a caller's cleared sampled flag forbids recording; leave it off behind the Azure front
            end, which clears the flag (see `shared.telemetry.spans.Tracer`).
        storage_path: folder for batches that wait for the endpoint; by default the library's, in the temporary folder.

    Raises:
        ValueError: the connection string cannot be read, or `sampling` is out of range.
    """
    if not connection_string:
        return LoggingTelemetry(role_name=role_name)
    from shared.telemetry.azure import AzureTelemetry  # noqa: PLC0415 -- costs 0.2 s of CPU, only where it is used
    from shared.telemetry.ingestion import Ingestion  # noqa: PLC0415 -- the same

    return AzureTelemetry(
        Ingestion(connection_string, storage_path=storage_path),
        role_name=role_name,
        run_location=run_location,
        sampling=sampling,
        honour_unsampled=honour_unsampled,
    )
