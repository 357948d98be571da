"""Decision receipts: what is needed to repeat a decision, and the digest of what came out. Pure.

A receipt holds the question, the time, the draw, the signals that were not at their defaults, what wire forms could not
carry, and the versions of registry and policy; not the outcome, which is larger and follows from these. The outcome's
digest shows whether it came out the same again. No content: findings are kinds and spans.

The limits of what is kept are applied to the question before the decision (`within_bounds`), so a receipt never holds
less than what was decided on.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from shared.domain.canonical import canonical
from shared.domain.dataclass_json import from_values, to_values
from shared.domain.decisions import Candidate, Decision, Rejection, RejectionReason
from shared.domain.features import AttachmentFeatures, RequestFeatures
from shared.domain.models import Deployment, ModelProfile, Registry
from shared.domain.policy import Policy
from shared.domain.record_bounds import receipt_fits
from shared.domain.security import Finding
from shared.scoring.eligibility import ProviderLimit
from shared.scoring.embedding_part import part_of
from shared.scoring.engine import NothingEligible, Question, decide
from shared.scoring.lazy import Columns, LazySequence
from shared.scoring.snapshot import Signals, Snapshot

ENGINE = "2"
"""The rules of deciding, this package's code. A new one for every change after which the same question may come out
otherwise; `tests/unit/test_receipt_golden.py` fails until it has one."""
_BEFORE_FORECASTS = "1"
"""The engine that knew neither forecasts and unknown tasks nor balancing. Receipts of its time still come out."""
FORMAT_VERSION = 1
TOO_LARGE = "too_large"

_MAX_FINDINGS_PER_KIND = 8
_MAX_ATTACHMENTS = 16
_MAX_MIME_TYPE_CHARS = 100
_REASONS_FROM_SIGNALS = frozenset({RejectionReason.COOLDOWN.value, RejectionReason.LATENCY_CAP.value})
_PICO_EXPONENT = 12

Dump = Callable[[Any], bytes]
"""Writes canonical JSON: `shared.domain.canonical.canonical`, or something faster that writes the same bytes."""


@dataclass(frozen=True, slots=True)
class Deliberation:
    """A decision, or the refusal of everything, with all that it came from.

    Attributes:
        limits: what wire forms cannot carry, by the deployment that was asked about.
        decision: None when nothing was eligible.
        rejections: who was dropped, and why.
    """

    question: Question
    snapshot: Snapshot
    draw: float
    limits: tuple[tuple[str, str], ...]
    decision: Decision | None
    rejections: Sequence[Rejection]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What is kept of a deliberation. `omitted` says why the question is missing, if it is.

    Attributes:
        at: time of the snapshot.
        registry, policy: versions.
        digest: SHA-256 of the canonical `explanation`, in hex.
        chosen: the deployment, None when nothing was eligible.
    """

    v: int
    engine: str = ""
    at: datetime | None = None
    draw: float = 0.0
    registry: str = ""
    policy: str = ""
    digest: str = ""
    chosen: str | None = None
    question: Question | None = None
    signals: tuple[tuple[str, Signals], ...] = ()
    limits: tuple[tuple[str, str], ...] = ()
    omitted: str | None = None


def deliberate(question: Question, snapshot: Snapshot, draw: float, provider_limit: ProviderLimit) -> Deliberation:
    """Decide, and keep what the decision came from. Arguments as `shared.scoring.engine.decide` takes them."""
    limits: dict[str, str] = {}

    def noted(profile: ModelProfile, deployment: Deployment) -> str | None:
        limit = provider_limit(profile, deployment)
        if limit is not None:
            limits[deployment.id] = limit
        return limit

    try:
        decision = decide(question, snapshot, draw, noted)
    except NothingEligible as refusal:
        return Deliberation(question, snapshot, draw, tuple(limits.items()), None, refusal.rejections)
    return Deliberation(question, snapshot, draw, tuple(limits.items()), decision, decision.rejections)


def within_bounds(features: RequestFeatures) -> RequestFeatures:
    """The features as a receipt can hold them: the first findings of each kind, the first attachments.

    A request may have thousands of findings. Its security level, which is the highest of all of them, stays.
    """
    findings = _first_of_each_kind(features.findings)
    attachments = tuple(_short(attachment) for attachment in features.attachments[:_MAX_ATTACHMENTS])
    if len(findings) == len(features.findings) and attachments == features.attachments:
        return features
    return replace(features, findings=findings, attachments=attachments)


def explanation(made: Deliberation) -> dict[str, Any]:
    """The whole outcome as JSON values, by column; candidates best first. What the digest is taken of."""
    policy, registry = made.snapshot.policy, made.snapshot.registry
    values: dict[str, Any] = {
        "rejections": _columns(made.rejections, rejection_columns),
        "registry_version": registry.version,
        "policy_version": policy.version,
    }
    decision = made.decision
    if decision is None:
        return values | {"chosen": None}
    candidates = _columns(decision.candidates, candidate_columns)
    scores = candidates["score"]
    return values | {
        "candidates": candidates,
        "chosen": decision.chosen.deployment.id,
        "fallbacks": _columns(decision.fallbacks, _ids)["deployment"],
        "rules": list(decision.rules),
        "effort": None if decision.effort is None else decision.effort.value,
        "margin": scores[0] - scores[1] if len(scores) > 1 else 0.0,
        "weights": to_values(decision.weights),
    }


def digest_of(made: Deliberation, dump: Dump = canonical) -> str:
    """SHA-256 over the canonical explanation, in hex."""
    return hashlib.sha256(dump(explanation(made))).hexdigest()


def receipt_of(made: Deliberation, digest: str) -> Receipt:
    """What to keep."""
    snapshot = made.snapshot
    return Receipt(
        v=FORMAT_VERSION,
        engine=ENGINE,
        at=snapshot.now,
        draw=made.draw,
        registry=snapshot.registry.version,
        policy=snapshot.policy.version,
        digest=digest,
        chosen=None if made.decision is None else made.decision.chosen.deployment.id,
        question=made.question,
        signals=_signals_that_count(made),
        limits=made.limits,
    )


def receipt_text(made: Deliberation, dump: Dump = canonical) -> str:
    """The receipt as canonical JSON. One too large for the stores keeps its digest and loses its question.

    Raises:
        ValueError: a number that is not finite, or half of a surrogate pair; `dump` may raise TypeError instead.
    """
    receipt = receipt_of(made, digest_of(made, dump))
    text = dump(to_values(receipt)).decode()
    if receipt_fits(text):
        return text
    return dump(to_values(replace(receipt, question=None, signals=(), limits=(), omitted=TOO_LARGE))).decode()


def read_receipt(values: object) -> Receipt:
    """A receipt from its JSON values.

    Raises:
        ValueError: of an unknown version, or a field is missing, unknown or of the wrong type.
    """
    version = values.get("v") if isinstance(values, dict) else None
    if isinstance(version, bool) or version != FORMAT_VERSION:
        raise ValueError(f"v: receipt format {version!r} is unknown; this version reads {FORMAT_VERSION}")
    return from_values(Receipt, values)


def replay(receipt: Receipt, registry: Registry, policy: Policy) -> Deliberation:
    """Decide again from a receipt.

    Args:
        receipt: with its question.
        registry: of the receipt's version.
        policy: of the receipt's version.

    Raises:
        ValueError: the receipt has lost its question, or its time has no offset.
    """
    if receipt.question is None or receipt.at is None:
        raise ValueError("the receipt does not hold its question")
    if receipt.at.tzinfo is None:
        raise ValueError("at: an instant without an offset")
    limits = dict(receipt.limits)
    registry, policy = part_of(receipt.question.constraints.model, registry, policy)
    snapshot = Snapshot(registry, _as_then(policy, receipt.engine), receipt.at, dict(receipt.signals))
    return deliberate(receipt.question, snapshot, receipt.draw, lambda _profile, deployment: limits.get(deployment.id))


def _as_then(policy: Policy, engine: str) -> Policy:
    """The policy without what an older engine did not know; its defaults would apply to what was decided before."""
    if engine != _BEFORE_FORECASTS:
        return policy
    plain = replace(policy.quality, learned=False, guarded=frozenset())
    return replace(policy, quality=plain, balancing=replace(policy.balancing, enabled=False))


def candidate_columns(candidates: Iterable[Candidate]) -> Columns:
    """Candidates by column. Money is integer pico-USD (1e-12 USD)."""
    rows = tuple(candidates)
    forecast: Columns = {}
    if rows and rows[0].quality_mean is not None:
        forecast = {"quality_mean": [c.quality_mean for c in rows], "quality_std": [c.quality_std for c in rows]}
    return forecast | {
        "deployment": [c.deployment.id for c in rows],
        "score": [c.score for c in rows],
        "propensity": [c.propensity for c in rows],
        "quality": [c.factors.quality for c in rows],
        "cost": [c.factors.cost for c in rows],
        "latency": [c.factors.latency for c in rows],
        "reliability": [c.factors.reliability for c in rows],
        "load": [c.factors.load for c in rows],
        "expected_cost_pico_usd": [_pico(c.expected_cost_usd) for c in rows],
        "worst_case_cost_pico_usd": [_pico(c.worst_case_cost_usd) for c in rows],
        "expected_latency_ms": [c.expected_latency_ms for c in rows],
        "prompt_tokens": [c.prompt_tokens for c in rows],
        "max_output_tokens": [c.max_output_tokens for c in rows],
    }


def _ids(candidates: Iterable[Candidate]) -> Columns:
    return {"deployment": [candidate.deployment.id for candidate in candidates]}


def rejection_columns(rejections: Iterable[Rejection]) -> Columns:
    """Rejections by column. Their details follow from the reasons and the question."""
    rows = tuple(rejections)
    return {"deployment": [r.deployment_id for r in rows], "reason": [r.reason.value for r in rows]}


def _columns(rows: Sequence[Any], take_apart: Callable[[Iterable[Any]], Columns]) -> Columns:
    return rows.columns() if isinstance(rows, LazySequence) else take_apart(rows)


def _pico(amount_usd: Decimal) -> int:
    return int(amount_usd.scaleb(_PICO_EXPONENT))


def _signals_that_count(made: Deliberation) -> tuple[tuple[str, Signals], ...]:
    """Signals that differ from the defaults, of deployments whose fate they had a part in."""
    if not made.snapshot.signals:
        return ()
    dropped = _columns(made.rejections, rejection_columns)
    indifferent = {
        deployment
        for deployment, reason in zip(dropped["deployment"], dropped["reason"], strict=True)
        if reason not in _REASONS_FROM_SIGNALS
    }
    default = Signals()
    return tuple(
        (deployment, signals)
        for deployment, signals in made.snapshot.signals.items()
        if signals != default and deployment not in indifferent
    )


def _first_of_each_kind(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    seen: Counter[str] = Counter()
    kept = []
    for finding in findings:
        seen[finding.kind] += 1
        if seen[finding.kind] <= _MAX_FINDINGS_PER_KIND:
            kept.append(finding)
    return tuple(kept)


def _short(attachment: AttachmentFeatures) -> AttachmentFeatures:
    """The declared type is the caller's own text, and nothing is decided on it."""
    declared = attachment.declared_mime_type
    if len(declared) <= _MAX_MIME_TYPE_CHARS:
        return attachment
    return replace(attachment, declared_mime_type=declared[:_MAX_MIME_TYPE_CHARS])
