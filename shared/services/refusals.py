"""What the caller is told when no model may take the request."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

from shared.domain.chat import ChatRequest, ResponseFormat, TextPart
from shared.domain.decisions import Rejection, RejectionReason
from shared.domain.errors import ClearanceRefused, NoEligibleModel, ProviderUnavailable, RouterError, UnsupportedFeature
from shared.domain.models import Deployment, ModelProfile, ProviderKind, Registry
from shared.ports import ModelProvider
from shared.scoring.eligibility import ProviderLimit
from shared.scoring.receipt import Deliberation, deliberate
from shared.services.deployment_health import soonest_return_s
from shared.services.ledger_entry import Order

Providers = Mapping[ProviderKind, ModelProvider]

_FREE_TEXT = ResponseFormat()
_MOST_SHAPES, _MOST_TURNS = 512, 16
"""What is kept of requests' shapes: a bound on memory, seldom reached."""

_CAPABILITY_FIELDS = {
    RejectionReason.MODALITY: "messages",
    RejectionReason.MEDIA_URI: "messages",
    RejectionReason.TOOLS: "tools",
    RejectionReason.JSON: "response_format",
    RejectionReason.SYSTEM: "messages",
    RejectionReason.STREAMING: "stream",
    RejectionReason.OUTPUT_LIMIT: "max_tokens",
    RejectionReason.CONTEXT_WINDOW: "messages",
    RejectionReason.PROVIDER_LIMIT: None,
}
"""What the caller can change about a request that a named model cannot serve."""


class WireForms:
    """Asks the adapters what they cannot carry of requests, once for requests that differ only in what their texts say.

    Args:
        providers: the adapters. Their `check` never looks into texts, so most requests are alike to it.
    """

    def __init__(self, providers: Providers) -> None:
        self._providers = providers
        self._known: dict[Hashable, dict[str, tuple[ModelProfile, Deployment, str | None]]] = {}

    def limits_of(self, request: ChatRequest) -> ProviderLimit:
        """What stands in the way of a request at a deployment, for the engine to ask."""
        shape = _shape_of(request)
        if shape is None:
            return lambda profile, deployment: self._ask(request, profile, deployment)
        if len(self._known) >= _MOST_SHAPES and shape not in self._known:
            self._known.clear()
        known = self._known.setdefault(shape, {})

        def limit(profile: ModelProfile, deployment: Deployment) -> str | None:
            found = known.get(deployment.id)
            # A new registry brings new objects under the old ids.
            if found is None or found[0] is not profile or found[1] is not deployment:
                found = known[deployment.id] = (profile, deployment, self._ask(request, profile, deployment))
            return found[2]

        return limit

    def _ask(self, request: ChatRequest, profile: ModelProfile, deployment: Deployment) -> str | None:
        try:
            self._providers[deployment.provider].check(request, profile, deployment)
        except UnsupportedFeature as error:
            return error.message
        return None


def _shape_of(request: ChatRequest) -> Hashable | None:
    """All of a request but its texts; None: it has more than texts, or is so long that hardly another is like it."""
    if type(request) is not ChatRequest:  # requests for vectors and rankings say more
        return None
    if request.tools or request.response_format != _FREE_TEXT or len(request.messages) > _MOST_TURNS:
        return None
    for message in request.messages:
        for part in message.parts:
            if not isinstance(part, TextPart):
                return None
    roles = tuple(message.role for message in request.messages)
    rest = (request.tool_choice, request.parallel_tool_calls, request.reasoning_effort, request.sampling)
    return (roles, bool(request.system), *rest)


def refusal(rejections: Sequence[Rejection], order: Order, registry: Registry, providers: Providers) -> RouterError:
    """The error that tells the caller what stood in the way, and of which field."""
    named = order.constraints.model
    relevant = [r for r in rejections if r.reason is not RejectionReason.NOT_REQUESTED]
    if named is not None and relevant and all(r.reason in _CAPABILITY_FIELDS for r in relevant):
        return _incapable(relevant[0], order, registry, providers)
    counts = Counter(r.reason.value for r in relevant)
    reasons = ", ".join(f"{count} by {reason}" for reason, count in counts.most_common())
    kind = ClearanceRefused if RejectionReason.CLEARANCE in (r.reason for r in relevant) else NoEligibleModel
    return kind(
        f"no model may take this request: of {len(relevant)} deployments, {reasons or 'none is enabled'}",
        param="model" if named is not None else None,
    )


def suspension(made: Deliberation, limit: ProviderLimit) -> RouterError | None:
    """The error for a request that only suspended deployments may take; None when something else stands in the way.

    What is suspended is not examined further, so the decision is made once more as if nothing were: a request that no
    model could take anyhow must not be told to come back.
    """
    if not any(rejection.reason is RejectionReason.COOLDOWN for rejection in made.rejections):
        return None
    signals = made.snapshot.signals
    free = {where: replace(seen, cooling_down=False, returns_in_s=0.0) for where, seen in signals.items()}
    again = deliberate(made.question, replace(made.snapshot, signals=free), made.draw, limit)
    if again.decision is None:
        return None
    return ProviderUnavailable(
        "every deployment that may take the request is suspended after failures",
        retry_after_s=soonest_return_s(signals, (c.deployment.id for c in again.decision.candidates)),
    )


def _incapable(rejection: Rejection, order: Order, registry: Registry, providers: Providers) -> RouterError:
    if rejection.reason is RejectionReason.PROVIDER_LIMIT:
        deployment = next(d for d in registry.deployments if d.id == rejection.deployment_id)
        try:  # asked once more, because only the adapter knows the field
            providers[deployment.provider].check(order.request, registry.models[rejection.model_id], deployment)
        except UnsupportedFeature as error:
            return error
    return UnsupportedFeature(
        f"model {rejection.model_id}: {rejection.detail}", param=_CAPABILITY_FIELDS[rejection.reason]
    )
