"""Task-routing rules at work: which of them match a request, and what is left for the sieve and the scales. Pure.

All matching rules count, the highest priority first. Restrictions add up: allowed models and zones intersect, denied
models unite, the lowest cost cap and level hold; so no rule can widen what the request, the service or another rule
narrowed. A setting (pin, weights, effort, a model's preference) is the first matching rule's that has it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from shared.domain import rules as facts
from shared.domain.chat import ReasoningEffort
from shared.domain.errors import InvalidRequest
from shared.domain.features import RequestFeatures
from shared.domain.policy import NOTHING, CallerLimits, RoutingConstraints
from shared.domain.rules import Facts, Need, Rule

if TYPE_CHECKING:
    from shared.scoring.engine import Question

_SHARE_TOLERANCE = 1e-9
"""Shares are quotients of floats: a weight of exactly the bound must not fail by its last bit."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What the rules make of a request.

    Attributes:
        constraints: the request's own, tightened; `preset` and `weights` are a rule's where the request has neither.
        prefer: what to add to the score of a model.
        effort: reasoning effort for a request that sets none.
        matched: names of the matching rules, in the order in which they were looked at.
        sources: (action, rule) for everything that a rule contributed.
        overruled: (action, rule) for every setting that an earlier rule, or the request, had made already.
    """

    constraints: RoutingConstraints
    prefer: Mapping[str, float] = field(default_factory=dict)
    effort: ReasoningEffort | None = None
    matched: tuple[str, ...] = ()
    sources: tuple[tuple[str, str], ...] = ()
    overruled: tuple[tuple[str, str], ...] = ()

    def score(self, base: float, model_id: str) -> float:
        """A score in [0, 1] with its preference added: the sum, over the largest that the sum could be.

        The divisor is the same for all candidates, so their order is that of the sums, and nobody's score depends on
        who else stands on the scales.
        """
        if not self.prefer:
            return base
        return (base + self.prefer.get(model_id, 0.0)) / (1.0 + max(self.prefer.values()))


def apply(rules: Sequence[Rule], question: "Question", now: datetime) -> Applied:
    """Apply the rules to a request.

    Args:
        rules: in the order of evaluation, as `Policy.rules` holds them.
        question: the request.
        now: the instant of the decision, aware.

    Raises:
        ValueError: there are rules, and `now` has no time zone.
    """
    matched = matching(rules, facts_of(question, now)) if rules else []
    if not matched:
        return Applied(question.constraints)
    outcome = _Outcome(question.constraints)
    for rule in matched:
        outcome.restrict(rule)
        outcome.settle(rule)
    return outcome.applied(tuple(rule.name for rule in matched))


def matching(rules: Iterable[Rule], known: Facts) -> list[Rule]:
    """The rules whose conditions hold, up to the first that says stop."""
    matched = []
    for rule in rules:
        if rule.when.holds(known):
            matched.append(rule)
            if rule.actions.stop:
                break
    return matched


def facts_of(question: "Question", now: datetime) -> Facts:
    """What conditions may look at.

    Raises:
        ValueError: `now` has no time zone.
    """
    if now.tzinfo is None:
        raise ValueError("the time of a decision needs a time zone")
    features = question.features
    return Facts(
        words={
            facts.CATEGORY: features.category.value,
            facts.COMPLEXITY_LEVEL: features.complexity_level.value,
            facts.LANGUAGE: features.language,
            facts.CONTENT_TYPE: features.content_type,
        },
        numbers={
            facts.COMPLEXITY: features.complexity,
            facts.SECURITY_LEVEL: int(features.security_level),
            facts.PROMPT_TOKENS: features.prompt_tokens,
        },
        sets={
            facts.MODALITY: frozenset(modality.value for modality in features.modalities),
            facts.NEEDS: frozenset(_needs(features)),
        },
        service=question.service,
        stream=question.stream,
        tags=dict(question.tags),
        now=now,
    )


def require_within_limits(constraints: RoutingConstraints, limits: CallerLimits) -> None:
    """Refuse what a request asks for beyond the policy's limits.

    Raises:
        InvalidRequest: code ``policy_limit``; `param` names the field.
    """
    if constraints.model is not None and not limits.pin:
        raise _beyond("naming a model is not allowed here; use auto", "model")
    if constraints.preset is not None and constraints.preset not in limits.presets:
        offered = ", ".join(sorted(limits.presets)) or "none"
        raise _beyond(f"preset {constraints.preset} is not offered here; offered: {offered}", "preset")
    if constraints.weights is not None:
        if not limits.weights:
            raise _beyond("weights of one's own are not allowed here", "weights")
        shares = constraints.weights.normalised()
        for factor, (least, most) in limits.weight_ranges.items():
            share: float = getattr(shares, factor)
            if not least - _SHARE_TOLERANCE <= share <= most + _SHARE_TOLERANCE:
                raise _beyond(
                    f"{factor} has a share of {share:.3f} of all weights, allowed is {least} to {most}",
                    f"weights.{factor}",
                )


class _Outcome:
    """The constraints as rule after rule tightens them."""

    def __init__(self, asked: RoutingConstraints) -> None:
        self._asked = asked
        self._allow, self._deny = asked.allow_models, set(asked.deny_models)
        self._residency, self._cap_usd, self._max_level = asked.residency, asked.max_cost_usd, asked.max_level
        self._preset, self._weights = asked.preset, asked.weights
        self._deployment = asked.deployment
        self._prefer: dict[str, float] = {}
        self._effort: ReasoningEffort | None = None
        self._pinned = False
        self._sources: list[tuple[str, str]] = []
        self._overruled: list[tuple[str, str]] = []

    def restrict(self, rule: Rule) -> None:
        """Take a rule's restrictions: each can only narrow."""
        do, did = rule.actions, self._sources.append
        if do.allow_models is not None:
            self._allow = _both(self._allow, do.allow_models)
            did(("allow_models", rule.name))
        if do.deny_models:
            self._deny |= do.deny_models
            did(("deny_models", rule.name))
        if do.residency is not None:
            self._residency = _both(self._residency, do.residency)
            did(("residency", rule.name))
        if do.cap_cost_usd is not None:
            self._cap_usd = do.cap_cost_usd if self._cap_usd is None else min(self._cap_usd, do.cap_cost_usd)
            did(("cap_cost_usd", rule.name))
        if do.max_level is not None:
            self._max_level = min(self._max_level, do.max_level)
            did(("max_level", rule.name))

    def settle(self, rule: Rule) -> None:
        """Take a rule's settings where none is made yet."""
        do = rule.actions
        if do.pins and self._is_first("pin", rule, taken=self._pinned):
            self._pinned, self._deployment = True, do.pin_deployment
            if do.pin_model is not None:
                self._allow = _both(self._allow, frozenset({do.pin_model}))
        if do.preset is not None or do.weights is not None:
            weighted = self._preset is not None or self._weights is not None
            if self._is_first("weights", rule, taken=weighted):
                self._preset, self._weights = do.preset, do.weights
        if do.effort is not None and self._is_first("effort", rule, taken=self._effort is not None):
            self._effort = do.effort
        for model_id, bonus in do.prefer.items():
            if self._is_first(f"prefer.{model_id}", rule, taken=model_id in self._prefer):
                self._prefer[model_id] = bonus

    def applied(self, matched: tuple[str, ...]) -> Applied:
        """All of it."""
        constraints = replace(
            self._asked,
            allow_models=self._allow,
            deny_models=frozenset(self._deny),
            residency=self._residency,
            max_cost_usd=self._cap_usd,
            max_level=self._max_level,
            preset=self._preset,
            weights=self._weights,
            deployment=self._deployment,
        )
        return Applied(constraints, self._prefer, self._effort, matched, tuple(self._sources), tuple(self._overruled))

    def _is_first(self, action: str, rule: Rule, *, taken: bool) -> bool:
        (self._overruled if taken else self._sources).append((action, rule.name))
        return not taken


def _both(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
    """What two restrictions leave; an empty `one` restricts nothing."""
    return (one & other or NOTHING) if one else other or NOTHING


def _needs(features: RequestFeatures) -> Iterable[str]:
    if features.needs_tools:
        yield Need.TOOLS.value
    if features.needs_json_object or features.needs_json_schema:
        yield Need.JSON.value
    if features.needs_json_schema:
        yield Need.JSON_SCHEMA.value
    if features.needs_media_uris:
        yield Need.MEDIA_URIS.value
    if features.needs_system:
        yield Need.SYSTEM.value


def _beyond(message: str, param: str) -> InvalidRequest:
    return InvalidRequest(message, code="policy_limit", param=param)
