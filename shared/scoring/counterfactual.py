"""What would have had to be different: the smallest single changes after which another model wins. Pure.

Deployments of one model often stand equal, so that anything at all would turn the choice between them: they count as
rivals only when no other model is open to choice.

Looked at: the share of one weight, the runner-up's quality, cost or latency, the request's complexity and familiarity,
and whether its quality was forecast and its category known at all. The score is linear in weights and factors, so those
crossings are solved for; complexity and familiarity are searched by bisection, because what they do to a score is up to
the quality model. Changes of the request are proven by deciding again. Sizes compare across kinds: shares, quality,
complexity and familiarity are measured on their scale from 0 to 1, cost and latency as the share that would have to go,
and what is there or not there counts 1.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

from shared.domain.features import Category
from shared.domain.forecasts import FORECAST_SCALE
from shared.domain.policy import CallerLimits, Policy, UnknownTask, Weights
from shared.scoring.engine import Question
from shared.scoring.lazy import Columns
from shared.scoring.receipt import Deliberation, candidate_columns, deliberate

FACTORS = tuple(field.name for field in fields(Weights))
_NUDGE = 1e-9
"""How far beyond a crossing is surely on its other side; far below anything that is shown."""
_BISECTIONS = 24
_HALF = 0.5


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that, had it been different, would have turned the choice.

    Attributes:
        quantity: ``weight.<factor>`` (a share of all weights; the others keep their proportions), ``quality``,
            ``expected_cost_usd``, ``expected_latency_ms``, ``complexity``, ``familiarity``; from 1 to 0 ``forecast``
            (nothing was forecast); from 0 to 1 ``category`` (a known one, all else equal).
        deployment: whose quality, cost or latency; None for the request's own.
        was: its value in the decision.
        becomes: the value just beyond which the other wins.
        size: how large the change is, 0 to 1.
        winner: the deployment that wins then.
    """

    quantity: str
    deployment: str | None
    was: float
    becomes: float
    size: float
    winner: str


@dataclass(frozen=True, slots=True)
class _Standing:
    """The leader and, best first, its rivals, with chance left out.

    Attributes:
        peers: the deployments that are no rivals of the leader, itself included.
    """

    rows: Columns
    weights: Weights
    peers: frozenset[str]

    @property
    def leader(self) -> str:
        return str(self.rows["deployment"][0])

    def gaps(self, rival: int) -> dict[str, float]:
        """By factor, what the leader has over a rival."""
        return {factor: self.rows[factor][0] - self.rows[factor][rival] for factor in FACTORS}

    def margin(self, rival: int) -> float:
        return float(self.rows["score"][0] - self.rows["score"][rival])

    def is_linear(self, rival: int) -> bool:
        """Whether the margin is what weights and factors make of it, and nothing was added on top."""
        weighted: float = sum(getattr(self.weights, factor) * gap for factor, gap in self.gaps(rival).items())
        return abs(self.margin(rival) - weighted) <= _NUDGE


def turning_changes(made: Deliberation) -> tuple[Change, ...]:
    """For each quantity the smallest change that makes another model win, the smallest of all first.

    Where one model only is open to choice, another of its deployments counts. Empty when nothing was eligible, when
    chance (exploration, temperature) and not the score made the choice, or when no single change can turn it.
    """
    standing = _standing(made)
    if standing is None or made.decision is None or made.decision.chosen.deployment.id not in standing.peers:
        return ()
    considered = sorted([*_weight_changes(standing), *_rival_changes(made, standing)], key=lambda change: change.size)
    found: dict[str, Change] = {}
    for change in considered:
        if change.quantity not in found and (proven := _proven(made, standing, change)) is not None:
            found[change.quantity] = proven
    found |= {change.quantity: change for change in _request_changes(made, standing.peers)}
    return tuple(sorted(found.values(), key=lambda change: change.size))


def _standing(made: Deliberation) -> _Standing | None:
    """Decide again without chance: half exploration marks who is open to choice, the highest propensity leads."""
    again = _again(made, made.question, replace(_certain(made.snapshot.policy), exploration=_HALF))
    if again.decision is None:
        return None
    columns = candidate_columns(again.decision.candidates)
    ranked = [row for row, propensity in enumerate(columns["propensity"]) if propensity > 0.0]
    ranked.sort(key=lambda row: -columns["propensity"][row])
    models = {d.id: d.model_id for d in made.snapshot.registry.deployments}
    ids = columns["deployment"]
    peers = frozenset(d for d, model in models.items() if model == models[ids[ranked[0]]])
    if all(ids[row] in peers for row in ranked):
        peers = frozenset({ids[ranked[0]]})
    shown = [ranked[0], *(row for row in ranked if ids[row] not in peers)]
    rows = {name: [values[row] for row in shown] for name, values in columns.items()}
    return _Standing(rows, again.decision.weights, peers)


def _weight_changes(standing: _Standing) -> Iterator[Change]:
    """For each factor, the nearest crossings below and above its weight."""
    rivals = range(1, len(standing.rows["deployment"]))
    lines = [(standing.margin(rival), standing.gaps(rival)) for rival in rivals]
    for factor in FACTORS:
        was: float = getattr(standing.weights, factor)
        if was >= 1.0:
            continue  # a share of everything stays one, however its weight changes
        # margin + (w - was) * gap = 0
        crossings = [was - margin / gaps[factor] for margin, gaps in lines if gaps[factor]]
        below = max((w for w in crossings if 0.0 <= w <= was), default=None)
        above = min((w for w in crossings if w >= was), default=None)
        for crossing, step in ((below, -_NUDGE), (above, _NUDGE)):
            if crossing is not None:
                weight = max(0.0, crossing + step * max(1.0, crossing))
                share = weight / (1.0 - was + weight)
                yield Change(f"weight.{factor}", None, was, share, abs(share - was), "")


def _rival_changes(made: Deliberation, standing: _Standing) -> Iterator[Change]:
    """What the best rival alone would need."""
    rows, policy = standing.rows, made.snapshot.policy
    if len(rows["deployment"]) == 1 or not standing.is_linear(1):
        return
    rival, margin, weights = rows["deployment"][1], standing.margin(1), standing.weights
    if weights.quality > 0.0:
        was, becomes = rows["quality"][1], rows["quality"][1] + margin / weights.quality
        if becomes <= 1.0:
            yield Change("quality", rival, was, becomes, abs(becomes - was), rival)
    cost_usd = rows["expected_cost_pico_usd"][1] / 1e12
    for quantity, factor, was, reference in (
        ("expected_cost_usd", "cost", cost_usd, policy.cost_reference_usd),
        ("expected_latency_ms", "latency", rows["expected_latency_ms"][1], policy.latency_reference_ms),
    ):
        weight = getattr(weights, factor)
        if weight > 0.0 and was > 0.0:
            # The factor is reference / (reference + x).
            closeness = rows[factor][1] + margin / weight
            if closeness <= 1.0:
                becomes = max(0.0, reference / closeness - reference)
                yield Change(quantity, rival, was, becomes, abs(was - becomes) / was, rival)


def _proven(made: Deliberation, standing: _Standing, change: Change) -> Change | None:
    """The change if a rival really wins by it; what is the request's own is decided again."""
    if change.deployment is not None:
        return change
    winner = _leader(_again(made, _with_weight(made, standing, change), _certain(made.snapshot.policy)))
    return None if winner is None or winner in standing.peers else replace(change, winner=winner)


def _with_weight(made: Deliberation, standing: _Standing, change: Change) -> Question:
    factor = change.quantity.removeprefix("weight.")
    rest = (1.0 - change.becomes) / (1.0 - change.was)
    shares = {name: getattr(standing.weights, name) * rest for name in FACTORS} | {factor: change.becomes}
    question = made.question
    return replace(question, constraints=replace(question.constraints, weights=Weights(**shares)))


def _request_changes(made: Deliberation, peers: frozenset[str]) -> Iterator[Change]:
    """What, had it been read otherwise of the request, would have made a rival win."""
    question, forecast, policy = made.question, made.question.forecast, _certain(made.snapshot.policy)

    def at_complexity(complexity: float) -> str | None:
        features = replace(question.features, complexity=complexity)
        return _leader(_again(made, replace(question, features=features), policy))

    yield from _nearest("complexity", at_complexity, peers, question.features.complexity)
    if forecast is not None:

        def at_familiarity(familiarity: float) -> str | None:
            other = replace(forecast, familiarity=round(familiarity * FORECAST_SCALE))
            return _leader(_again(made, replace(question, forecast=other), policy))

        yield from _nearest("familiarity", at_familiarity, peers, forecast.familiarity / FORECAST_SCALE)
        winner = _leader(_again(made, replace(question, forecast=None), policy))
        if winner is not None and winner not in peers:
            yield Change("forecast", None, 1.0, 0.0, 1.0, winner)
    if question.features.category is Category.UNKNOWN:
        known = replace(policy.quality, unknown_by=policy.quality.unknown_by - {UnknownTask.CATEGORY})
        winner = _leader(_again(made, question, replace(policy, quality=known)))
        if winner is not None and winner not in peers:
            yield Change("category", None, 0.0, 1.0, 1.0, winner)


def _nearest(
    quantity: str, leader_at: Callable[[float], str | None], peers: frozenset[str], was: float
) -> Iterator[Change]:
    """The nearest value at which a rival leads, on a scale from 0 to 1."""
    found = [_turning_point(leader_at, peers, was, end) for end in (0.0, 1.0) if end != was]
    turns = [turn for turn in found if turn is not None]
    if turns:
        becomes, winner = min(turns, key=lambda turn: abs(turn[0] - was))
        yield Change(quantity, None, was, becomes, abs(becomes - was), winner)


def _turning_point(
    leader_at: Callable[[float], str | None], peers: frozenset[str], start: float, end: float
) -> tuple[float, str] | None:
    """Where a rival leads, as near to `start` as bisection finds; None when one of the `peers` leads at the end."""
    winner = leader_at(end)
    if winner is None or winner in peers:
        return None
    same, other = start, end
    for _ in range(_BISECTIONS):
        middle = (same + other) / 2.0
        leads = leader_at(middle)
        if leads is None or leads in peers:
            same = middle
        else:
            other, winner = middle, leads
    return other, winner


def _certain(policy: Policy) -> Policy:
    """The policy without chance, and without limits on callers: other weights are asked about, not asked for."""
    return replace(
        policy,
        temperature=0.0,
        exploration=0.0,
        balancing=replace(policy.balancing, enabled=False),
        limits=CallerLimits(),
        services={name: replace(service, limits=None) for name, service in policy.services.items()},
        default_service=replace(policy.default_service, limits=None),
    )


def _again(made: Deliberation, question: Question, policy: Policy) -> Deliberation:
    limits = dict(made.limits)
    snapshot = replace(made.snapshot, policy=policy)
    return deliberate(question, snapshot, 0.0, lambda _profile, deployment: limits.get(deployment.id))


def _leader(made: Deliberation) -> str | None:
    return None if made.decision is None else made.decision.chosen.deployment.id
