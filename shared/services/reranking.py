"""Reranking: a model that reads question and passages together puts the best of them in order.

The call takes the walk of every other (`RoutingService` over the ranking models): clearance, residency, budgets, one
record with its cost. What the reranker may not see is not sent and keeps its place.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from shared.domain.documents import Passage
from shared.domain.errors import (
    AccessRefused,
    BudgetExceeded,
    ClearanceRefused,
    ContentRefused,
    DeadlineExceeded,
    NoEligibleModel,
    ProviderTimeout,
    RouterError,
)
from shared.domain.policy import Policy
from shared.domain.ranking import ranking_request
from shared.domain.security import SecurityLevel
from shared.ports import Clock, Ids, Telemetry
from shared.services.ledger_entry import Order
from shared.services.retrieval import RERANKING_OFF, Asker, Reranking
from shared.services.routing import RoutingService
from shared.services.shelf import Shelf

_NOT_CLEARED: Final = "not_cleared"
_AWAY: Final = "unavailable"
_REASONS: Final[tuple[tuple[type[RouterError], str], ...]] = (
    (ClearanceRefused, _NOT_CLEARED),
    (ContentRefused, _NOT_CLEARED),
    (NoEligibleModel, "not_eligible"),
    (BudgetExceeded, "budget"),
    (ProviderTimeout, "timeout"),
    (DeadlineExceeded, "timeout"),
    (AccessRefused, "refused"),
)
"""A word for the caller, the first that fits."""
_LEAST_TEXTS: Final = 2
"""One passage is in order."""
_MILLISECONDS: Final = 1_000


class RerankingService:
    """Reranks passages where the policy names a ranking model; `shared.services.retrieval.Reranker`.

    Args:
        rankings: the walk over the ranking models.
        shelf: the ranking models, and the policy in force.
        clock: time.
        ids: of the calls.
        telemetry: counts and logs.
    """

    def __init__(self, rankings: RoutingService, shelf: Shelf, clock: Clock, ids: Ids, telemetry: Telemetry) -> None:
        self._rankings = rankings
        self._shelf = shelf
        self._clock = clock
        self._ids = ids
        self._telemetry = telemetry

    async def rerank(self, collection: str, question: str, passages: Sequence[Passage], asker: Asker) -> Reranking:
        """The passages as the reranker orders the best of them that it may see.

        Those are the first `RetrievalRules.reranked` without the ones whose label is above what any of the model's
        deployments in the asker's zones is cleared for. Whatever fails leaves the order as it was and says why.
        """
        policy = self._shelf.policy
        model = policy.retrieval.reranker_for(collection)
        if model is None:
            return Reranking(tuple(passages), RERANKING_OFF)
        best = passages[: policy.retrieval.reranked]
        most = self._most_level(model, asker, policy)
        places = [place for place, one in enumerate(best) if most is not None and one.chunk.label <= most]
        left_out = len(best) - len(places)
        if len(places) < _LEAST_TEXTS:
            return self._kept(passages, _NOT_CLEARED if left_out else None, left_out)
        order = self._order(model, question, [best[place] for place in places], asker, policy)
        try:
            answer = await self._rankings.answer(order)
        except RouterError as error:
            self._telemetry.log(logging.WARNING, "retrieval_not_reranked", code=error.code)
            return self._kept(passages, _reason(error), left_out)
        self._telemetry.count("rerankings", outcome="done")
        ranked = _placed(passages, places, answer.reply.scores)
        return Reranking(ranked, None, left_out, order.request_id, answer.record.cost_usd)

    def _kept(self, passages: Sequence[Passage], reason: str | None, left_out: int) -> Reranking:
        self._telemetry.count("rerankings", outcome=reason or "nothing_to_do")
        return Reranking(tuple(passages), reason, left_out)

    def _most_level(self, model: str, asker: Asker, policy: Policy) -> SecurityLevel | None:
        """The highest label that some deployment may see; None where none may see anything.

        What is let through here is held against each deployment again by the walk.
        """
        service = policy.for_service(asker.principal.service)
        zones = [wanted for wanted in (service.residency, asker.constraints.residency) if wanted]
        return max(
            (
                min(deployment.clearance, service.max_level, asker.constraints.max_level)
                for deployment in self._shelf.registry.deployments_of(model)
                if deployment.enabled and all(deployment.residency & wanted for wanted in zones)
            ),
            default=None,
        )

    def _order(self, model: str, question: str, sent: Sequence[Passage], asker: Asker, policy: Policy) -> Order:
        label = max(passage.chunk.label for passage in sent)
        declared = asker.constraints.label
        return asker.order(
            ranking_request(question, [passage.chunk.full_text for passage in sent]),
            replace(asker.constraints, model=model, label=label if declared is None else max(label, declared)),
            request_id=self._ids.request_id(),
            now_s=self._clock.monotonic(),
            timeout_s=min(asker.timeout_s, policy.retrieval.reranker_timeout_ms / _MILLISECONDS),
        )


def _placed(passages: Sequence[Passage], places: Sequence[int], scores: Sequence[float]) -> tuple[Passage, ...]:
    """The passages at `places` in the order of their scores, within these places; all others where they were."""
    told = [replace(passages[place], score=score) for place, score in zip(places, scores, strict=True)]
    # A stable sort: passages that the reranker finds equal keep their order.
    told.sort(key=lambda passage: -passage.score)
    result = list(passages)
    for place, passage in zip(places, told, strict=True):
        result[place] = passage
    return tuple(result)


def _reason(error: RouterError) -> str:
    return next((word for kind, word in _REASONS if isinstance(error, kind)), _AWAY)
