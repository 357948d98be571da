"""The one immutable view of the world that a decision is made from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from shared.domain.models import Registry
from shared.domain.policy import Policy


@dataclass(frozen=True, slots=True)
class Signals:
    """What was lately seen of a deployment; the defaults say that nothing was.

    Attributes:
        success_rate: share of successful attempts in [0, 1], recent ones counting more.
        in_flight: attempts under way.
        ttft_ms: observed time to first token, None until seen; then it replaces the registry's prior.
        cooling_down: whether calls are suspended for now.
    """

    success_rate: float = 1.0
    in_flight: int = 0
    ttft_ms: float | None = None
    cooling_down: bool = False


UNSEEN = Signals()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Registry, policy, signals and time, taken once for a request and never changed."""

    registry: Registry
    policy: Policy
    now: datetime
    signals: Mapping[str, Signals] = field(default_factory=dict)

    def signals_of(self, deployment_id: str) -> Signals:
        """What was seen of a deployment."""
        return self.signals.get(deployment_id, UNSEEN)
