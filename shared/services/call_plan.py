"""From a decision and the policy to what may be called: limits on time, attempts and money, hedging, the cascade."""

from collections.abc import Collection
from dataclasses import dataclass, field
from decimal import Decimal

from shared.domain.chat import ChatRequest
from shared.domain.decisions import Candidate, Decision
from shared.domain.policy import Policy
from shared.domain.resilience import CascadePolicy, HedgePolicy, RetryPolicy
from shared.domain.weights import Preset
from shared.services.attempt_log import AttemptLog
from shared.services.ledger_entry import Order
from shared.services.till import Hold


@dataclass(frozen=True, slots=True)
class CallPlan:
    """What is to be called for a request, in which order, until when.

    Attributes:
        deadline_s: on the monotonic clock; covers all attempts.
        retries: policy of retries and failover.
        hedging: policy of hedging, None where the request is not hedged.
        budget_usd: what all attempts together may cost at worst; None does not bound it. An attempt that might exceed
            it is not made, so whoever reserves this much never owes more.
        hold: money of the caller's budgets, which grows with what further attempts may cost; None where there are none.
    """

    request: ChatRequest
    decision: Decision
    request_id: str
    deadline_s: float
    max_attempts: int
    traceparent: str | None = None
    retries: RetryPolicy = field(default_factory=RetryPolicy)
    hedging: HedgePolicy | None = None
    budget_usd: Decimal | None = None
    hold: Hold | None = None

    async def affords(self, candidate: Candidate, log: AttemptLog) -> bool:
        """Whether the candidate's worst case fits beside what the other attempts may have cost; then it is committed.

        Whoever does not call the candidate after all takes it back (`waive`).
        """
        # At once, before anything is awaited: several attempts may ask at the same time.
        log.committed_usd += candidate.worst_case_cost_usd
        fits = self.budget_usd is None or log.committed_usd <= self.budget_usd
        if fits and (self.hold is None or await self.hold.cover(log.committed_usd)):
            return True
        self.waive(candidate, log)
        return False

    def waive(self, candidate: Candidate, log: AttemptLog) -> None:
        """The candidate is not called."""
        log.committed_usd -= candidate.worst_case_cost_usd


def plan_for(order: Order, decision: Decision, policy: Policy) -> CallPlan:
    """The plan of a request's calls."""
    hedging = policy.hedging
    is_hedged = order.principal.service in hedging.services or _decided_by(decision, hedging.presets, policy)
    return CallPlan(
        request=order.request,
        decision=decision,
        request_id=order.request_id,
        deadline_s=order.started_s + order.timeout_s,
        max_attempts=policy.max_attempts,
        traceparent=order.traceparent,
        retries=policy.retries,
        hedging=hedging if is_hedged else None,
        budget_usd=cost_cap(order, decision, policy),
    )


def cost_cap(order: Order, decision: Decision, policy: Policy) -> Decimal | None:
    """The least of what caller, service and matching rules allow the request to cost, all attempts together."""
    matched = set(decision.rules)
    caps = [rule.actions.cap_cost_usd for rule in policy.rules if matched and rule.name in matched]
    caps += [order.constraints.max_cost_usd, policy.for_service(order.principal.service).max_cost_usd]
    return min((cap for cap in caps if cap is not None), default=None)


def cascade_for(order: Order, decision: Decision, policy: Policy) -> CascadePolicy | None:
    """The cascade's policy where it applies to the request, else None.

    The caller's word counts where the policy lets callers say; a caller who names a model gets that model.
    """
    rules = policy.cascade
    if order.constraints.model is not None:
        return None
    if order.cascade is not None and rules.callers:
        return rules if order.cascade else None
    is_chosen = order.principal.service in rules.services or _decided_by(decision, rules.presets, policy)
    return rules if is_chosen else None


def _decided_by(decision: Decision, presets: Collection[Preset], policy: Policy) -> bool:
    """Whether the decision was made with the weights of one of these presets."""
    return any(policy.presets[preset].normalised() == decision.weights for preset in presets)
