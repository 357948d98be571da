"""The shelf: hands out one immutable snapshot per request."""

from datetime import UTC

from shared.domain.models import Registry
from shared.domain.policy import Policy
from shared.ports import Clock
from shared.scoring.snapshot import Snapshot
from shared.scoring.table import CandidateTable
from shared.services.signals import SignalBoard


class Shelf:
    """Registry and policy in force, with the signals of this process.

    Args:
        registry: models and deployments.
        policy: the routing policy.
        board: recent signals.
        clock: what time it is.
    """

    def __init__(self, registry: Registry, policy: Policy, board: SignalBoard, clock: Clock) -> None:
        self._registry = registry
        self._policy = policy
        self._board = board
        self._clock = clock
        self._columns: CandidateTable | None = None

    @property
    def registry(self) -> Registry:
        """The registry in force."""
        return self._registry

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._policy

    def take(self) -> Snapshot:
        """The world as it is now."""
        now = self._clock.now().astimezone(UTC)
        snapshot = Snapshot(self._registry, self._policy, now, self._board.read(), self._columns)
        self._columns = snapshot.columns
        return snapshot
