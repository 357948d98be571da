"""The shelf: hands out what a decision is made from: one immutable snapshot per request, and a forecast for it."""

from datetime import UTC

from shared.domain.chat import ChatRequest
from shared.domain.features import RequestFeatures
from shared.domain.forecasts import QualityForecast
from shared.domain.models import Registry
from shared.domain.policy import Policy, RoutingConstraints
from shared.ports import Clock
from shared.scoring.snapshot import Snapshot
from shared.scoring.table import CandidateTable
from shared.services.deployment_health import DeploymentHealth
from shared.services.forecasting import QualityForecaster


class Shelf:
    """Registry and policy in force, with the signals of this process.

    Args:
        registry: models and deployments.
        policy: the routing policy.
        board: health of deployments: who is suspended, how loaded and how fast.
        clock: what time it is.
        forecaster: the learned predictor of quality; None leaves quality to the registry's priors.
    """

    def __init__(
        self,
        registry: Registry,
        policy: Policy,
        board: DeploymentHealth,
        clock: Clock,
        forecaster: QualityForecaster | None = None,
    ) -> None:
        self._registry = registry
        self._policy = policy
        self._board = board
        self._clock = clock
        self._forecaster = forecaster
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

    def forecast(
        self, request: ChatRequest, features: RequestFeatures, wanted: RoutingConstraints, snapshot: Snapshot
    ) -> QualityForecast | None:
        """What quality to expect of the snapshot's models.

        None where the policy does not ask for it, and where it could decide nothing: the request names its model.
        """
        if self._forecaster is None or not snapshot.policy.quality.learned:
            return None
        if wanted.model is not None and not wanted.allow_fallback:
            return None
        return self._forecaster.forecast(request, features, snapshot.registry)
