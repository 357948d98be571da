"""The one immutable view of the world that a decision is made from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from shared.domain.models import Registry
from shared.domain.policy import Policy
from shared.scoring.table import CandidateTable, compile_table


@dataclass(frozen=True, slots=True)
class Signals:
    """What was lately seen of a deployment; the defaults say that nothing was.

    Attributes:
        success_rate: share of successful attempts in [0, 1], recent ones counting more.
        in_flight: attempts under way.
        ttft_ms: observed time to first token, None until seen; then it replaces the registry's prior.
        cooling_down: whether calls are suspended for now.
        returns_in_s: seconds until they no longer are, as far as is known; 0 when they are not.
    """

    success_rate: float = 1.0
    in_flight: int = 0
    ttft_ms: float | None = None
    cooling_down: bool = False
    returns_in_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Registry, policy, signals and time, taken once for a request and never changed.

    Attributes:
        now: aware, UTC.
        signals: by deployment id; a deployment that is not there was not seen.
        columns: the registry compiled for the day of `now`; compiled here when it is not given.
    """

    registry: Registry
    policy: Policy
    now: datetime
    signals: Mapping[str, Signals] = field(default_factory=dict)
    columns: CandidateTable | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.columns is None or self.columns.day != self.now.date():
            object.__setattr__(self, "columns", compile_table(self.registry, self.now.date()))

    @property
    def table(self) -> CandidateTable:
        """The registry's columns on the day of `now`."""
        if self.columns is None:
            raise AssertionError("set in __post_init__")
        return self.columns
