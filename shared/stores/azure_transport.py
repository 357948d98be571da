"""HTTP to Azure's stores, measured: blobs, queues, tables and the key vault."""

from typing import Any

from azure.core.exceptions import AzureError
from azure.core.pipeline.transport import AioHttpTransport

from shared.ports import Telemetry
from shared.stores.call_times import CallTimes, Outcome

_FIRST_FAULT = 500
_REFUSALS = frozenset({401, 403, 429})
_OK: Outcome = "ok"


class TimedTransport(AioHttpTransport):  # type: ignore[misc]  # it is exported lazily, so mypy does not see it
    """The libraries' own transport; tells how long each HTTP request took until its headers, and how it ended.

    A status that answers the question, such as 404 or 412, is `ok`.

    Args:
        telemetry: is told; None: nobody is.
        store: as the metric's dimension names it.
        **options: of the library's transport, such as `connection_timeout`.
    """

    def __init__(self, telemetry: Telemetry | None, store: str, **options: Any) -> None:
        super().__init__(**options)
        self._times = CallTimes(telemetry, store)

    async def send(self, request: Any, **options: Any) -> Any:
        """Send a request, and measure it."""
        began_s, outcome = self._times.start(), _OK
        try:
            response = await super().send(request, **options)
            outcome = _outcome_of(response.status_code)
            return response
        except AzureError:
            outcome = "away"
            raise
        except BaseException:
            outcome = "cut_short"
            raise
        finally:
            self._times.ended(began_s, outcome)


def _outcome_of(status: int) -> Outcome:
    if status >= _FIRST_FAULT:
        return "away"
    return "refused" if status in _REFUSALS else "ok"
