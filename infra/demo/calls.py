"""The calls that are made for a request of the demo: how long they take, what they use, which of them fail."""

from bisect import bisect
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random

from infra.demo.cast import DemoService
from infra.demo.choices import Choice, Shortlist
from infra.demo.story import OUTAGE_ZONE, SLOW_FACTOR, SLOW_PUBLISHER, Story
from shared.domain.errors import (
    ProviderBadResponse,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
)
from shared.domain.features import ComplexityLevel
from shared.domain.pricing import cost_of
from shared.domain.records import AttemptRecord
from shared.domain.replies import Usage

SUCCESS = "success"
_MOST_ATTEMPTS = 3
_FAULTS = (
    (0.0050, ProviderRateLimited.code, "429"),
    (0.0075, ProviderUnavailable.code, "503"),
    (0.0085, ProviderTimeout.code, None),
    (0.0090, ProviderBadResponse.code, "200"),
)
"""On any day: up to which share of the calls fail, and how."""
_UNNOTICED = timedelta(minutes=2)
"""How long it takes until breakers keep requests away from regions that are down."""
_PROBES = 0.04
"""Share of the requests that are let through then, to see whether a region is back."""
_CACHED_PROMPT_TOKENS = 2_048
"""Prompts from here on are partly read from the vendor's cache, now and then."""
_PROMPT_OF_LEVEL = {ComplexityLevel.LOW: 0.6, ComplexityLevel.MEDIUM: 1.0, ComplexityLevel.HIGH: 1.8}


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls of one request.

    Attributes:
        served: what answered; None: nothing did.
        waited_ms: from the first call's beginning to the last one's end.
        error_code: why nothing answered.
    """

    attempts: tuple[AttemptRecord, ...]
    served: Choice | None
    waited_ms: float
    error_code: str | None = None


def draw_usage(rng: Random, service: DemoService, level: ComplexityLevel, *, thinks: bool) -> Usage:
    """Tokens of a request: log-normal around the service's medians."""
    prompt = max(12, round(service.prompt_tokens * _PROMPT_OF_LEVEL[level] * rng.lognormvariate(0, 0.6)))
    answer = max(1, round(service.answer_tokens * rng.lognormvariate(0, 0.5)))
    cached = prompt // 2 if prompt > _CACHED_PROMPT_TOKENS and rng.random() < 0.4 else 0  # noqa: PLR2004 - a share
    thinking = round(answer * rng.lognormvariate(-0.7, 0.5)) if thinks and level is ComplexityLevel.HIGH else 0
    return Usage(input_tokens=prompt - cached, cache_read_tokens=cached, output_tokens=answer, thinking_tokens=thinking)


def draw_choice(rng: Random, shortlist: Shortlist) -> Choice:
    """One by its probability."""
    return shortlist.choices[min(bisect(shortlist.bounds, rng.random()), len(shortlist.choices) - 1)]


def make_calls(
    rng: Random, story: Story, service: DemoService, level: ComplexityLevel, shortlist: Shortlist, at: datetime
) -> Calls:
    """Calls deployments until one answers, the chosen one first, then what else may."""
    chosen = draw_choice(rng, shortlist)
    order = [chosen, *(choice for choice in shortlist.choices if choice is not chosen)]
    is_down = story.outage.holds(at)
    if is_down and at >= story.outage.since + _UNNOTICED and rng.random() >= _PROBES:
        order = [choice for choice in order if OUTAGE_ZONE not in choice.deployment.residency]
    if not order:
        return Calls((), None, 0.0, ProviderUnavailable.code)
    attempts = list[AttemptRecord]()
    now = at + timedelta(milliseconds=1)
    for number, choice in enumerate(order[:_MOST_ATTEMPTS], start=1):
        attempt = _attempt(rng, story, service, level, choice, number, now)
        attempts.append(attempt)
        now += timedelta(milliseconds=attempt.duration_ms)
        if attempt.outcome == SUCCESS:
            return Calls(tuple(attempts), choice, (now - at) / timedelta(milliseconds=1))
    return Calls(tuple(attempts), None, (now - at) / timedelta(milliseconds=1), attempts[-1].outcome)


def cut_off(calls: Calls, share: float) -> Calls:
    """The same when the caller leaves after a share of the answer: what was generated is billed."""
    last = calls.attempts[-1]
    assert calls.served is not None  # noqa: S101 - only answers are cut off
    usage = replace(last.usage, output_tokens=max(1, round(last.usage.output_tokens * share)), estimated=True)
    duration_ms = (last.ttft_ms or 0.0) + (last.duration_ms - (last.ttft_ms or 0.0)) * share
    cut = replace(last, usage=usage, duration_ms=duration_ms, cost_usd=cost(calls.served, usage, last.started_at))
    return replace(
        calls, attempts=(*calls.attempts[:-1], cut), waited_ms=calls.waited_ms - last.duration_ms + duration_ms
    )


def cost(choice: Choice, usage: Usage, at: datetime) -> Decimal:
    """The exact price of a call, by the story's prices of that day."""
    return cost_of(choice.profile, usage, day=at.date(), region=choice.deployment.region).total_usd


def _attempt(
    rng: Random,
    story: Story,
    service: DemoService,
    level: ComplexityLevel,
    choice: Choice,
    number: int,
    at: datetime,
) -> AttemptRecord:
    deployment, profile = choice.deployment, choice.profile
    known = AttemptRecord(
        number=number,
        deployment_id=deployment.id,
        model_id=profile.id,
        provider=deployment.provider.value,
        region=deployment.region,
        started_at=at,
        duration_ms=0.0,
        outcome=SUCCESS,
    )
    if story.outage.holds(at) and OUTAGE_ZONE in deployment.residency:
        if rng.random() < 0.3:  # noqa: PLR2004 - a share
            return replace(known, duration_ms=rng.uniform(8_000, 12_000), outcome=ProviderTimeout.code)
        return replace(known, duration_ms=rng.uniform(40, 300), outcome=ProviderUnavailable.code, vendor_status="503")
    luck = rng.random()
    for bound, code, status in _FAULTS:
        if luck < bound:
            duration_ms = rng.uniform(9_000, 15_000) if code == ProviderTimeout.code else rng.uniform(60, 900)
            return replace(known, duration_ms=duration_ms, outcome=code, vendor_status=status)
    usage = draw_usage(rng, service, level, thinks=profile.capabilities.thinking)
    slow = SLOW_FACTOR if profile.publisher == SLOW_PUBLISHER and story.slow_hour.holds(at) else 1.0
    ttft_ms = slow * profile.ttft_ms * rng.lognormvariate(0, 0.35) + usage.prompt_tokens * 0.03
    ttft_ms += usage.thinking_tokens * 1000 / profile.tokens_per_s
    duration_ms = ttft_ms + slow * usage.output_tokens * 1000 / profile.tokens_per_s * rng.lognormvariate(0, 0.2)
    return replace(
        known,
        duration_ms=duration_ms,
        vendor_status="OK" if deployment.provider.value == "gemini" else "200",
        ttft_ms=ttft_ms,
        usage=usage,
        cost_usd=cost(choice, usage, at),
    )
