"""What this worker process sees of each deployment: attempts in flight, recent success, time to first token."""

from collections.abc import Mapping
from dataclasses import dataclass

from shared.scoring.snapshot import Signals

_MEMORY = 0.9
"""Weight of the past in each moving average: about the last ten attempts count."""


@dataclass(slots=True)
class _Seen:
    in_flight: int = 0
    success_rate: float = 1.0
    ttft_ms: float | None = None


class SignalBoard:
    """Moving averages per deployment, local to the process and forgotten with it.

    A deployment starts with the benefit of the doubt (success rate 1).
    """

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def started(self, deployment_id: str) -> None:
        """An attempt begins."""
        self._of(deployment_id).in_flight += 1

    def ended(self, deployment_id: str, *, succeeded: bool | None, ttft_ms: float | None) -> None:
        """An attempt ended; `succeeded` None (the caller went away) says nothing about the deployment."""
        seen = self._of(deployment_id)
        seen.in_flight -= 1
        if succeeded is not None:
            seen.success_rate = _MEMORY * seen.success_rate + (1.0 - _MEMORY) * float(succeeded)
        if ttft_ms is not None:
            past = ttft_ms if seen.ttft_ms is None else seen.ttft_ms
            seen.ttft_ms = _MEMORY * past + (1.0 - _MEMORY) * ttft_ms

    def read(self) -> Mapping[str, Signals]:
        """The signals of every deployment seen so far."""
        return {
            deployment_id: Signals(success_rate=s.success_rate, in_flight=s.in_flight, ttft_ms=s.ttft_ms)
            for deployment_id, s in self._seen.items()
        }

    def _of(self, deployment_id: str) -> _Seen:
        return self._seen.setdefault(deployment_id, _Seen())
