"""The demo's requests, hour by hour. The same seed and window give the same requests, whatever ran before."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from uuid import UUID

import numpy as np

from infra.demo.calls import Calls, cost, cut_off, draw_choice, draw_usage, make_calls
from infra.demo.cast import SERVICES, DemoService
from infra.demo.choices import Choice, Choices, quality_of
from infra.demo.story import Story
from shared.domain.budgets import Budget, Period, accounts_for
from shared.domain.caching import CacheOutcome
from shared.domain.errors import ContentBlocked, NoEligibleModel
from shared.domain.features import Category, ComplexityLevel
from shared.domain.feedback import Feedback, FeedbackForm
from shared.domain.models import Registry
from shared.domain.records import RequestRecord, RequestStatus
from shared.domain.replies import FinishReason, Usage
from shared.domain.scopes import Per, Scope, Subject

DEMO_TAG = ("demo", "true")
"""On every request of the demo, and on no other: what has it can be removed."""
BUDGETS = (
    Budget("demo-team-month", Period.MONTH, Scope(Per.TEAM)),
    Budget("demo-service-day", Period.DAY, Scope(Per.SERVICE)),
)
_LEVELS = (ComplexityLevel.LOW, ComplexityLevel.MEDIUM, ComplexityLevel.HIGH)
_CONTENT = {Category.CODE_GENERATION: "code", Category.CODE_REVIEW: "code", Category.MATH: "math"}
_CANCELLED, _ABANDONED, _CRASHED = 0.012, 0.0002, 0.35
_BLOCKED, _NOBODY = 0.0012, 0.0004
_SEMANTIC = 0.25
"""Share of the cache's hits that are found by meaning."""
_THUMBS, _RATERS = 0.7, 40
_ONE_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Drawn:
    """A request, and what somebody said of its answer."""

    record: RequestRecord
    feedback: Feedback | None


class Traffic:
    """Makes the requests of a month.

    Args:
        story: what happens.
        registry: the models that serve.
        requests: how many in all.
        seed: two seeds have nothing in common.
        tenant_id: whose they are.
        policy_version: what records say of the policy.
    """

    def __init__(
        self, story: Story, registry: Registry, *, requests: int, seed: int, tenant_id: str, policy_version: str
    ) -> None:
        self._story = story
        self._choices = Choices(registry, story)
        self._requests = requests
        self._seed = seed
        self._tenant_id = tenant_id
        self._versions = (registry.version, policy_version)

    def hours(self) -> Iterator[list[Drawn]]:
        """The requests of each hour, by time."""
        hours = [self._story.since + timedelta(hours=n) for n in range(self._story.hours)]
        busy = [[s.share * self._story.traffic(s.rhythm, hour) for s in SERVICES] for hour in hours]
        # Each service has its share of the month, whatever its rhythm.
        weights = np.array(busy) / np.array(busy).sum(axis=0) * np.array([s.share for s in SERVICES])
        counts = np.random.default_rng(self._seed).multinomial(self._requests, (weights / weights.sum()).ravel())
        counts = counts.reshape(weights.shape)
        if not counts[0].any():
            # The first hour has a request, so that the window can be told from what is in the ledger.
            counts[np.unravel_index(counts.argmax(), counts.shape)] -= 1
            counts[0, 0] = 1
        for hour, row in zip(hours, counts.tolist(), strict=True):
            yield self._hour(hour, row)

    def _hour(self, hour: datetime, counts: Sequence[int]) -> list[Drawn]:
        rng = Random(f"{self._seed} {hour.isoformat()}")  # noqa: S311 - made-up traffic, no secret
        due = [
            (rng.randrange(_ONE_HOUR_MS), service)
            for service, count in zip(SERVICES, counts, strict=True)
            for _ in range(count)
        ]
        due.sort(key=lambda one: one[0])
        return [self._one(rng, service, hour + timedelta(milliseconds=at_ms)) for at_ms, service in due]

    def _one(self, rng: Random, service: DemoService, at: datetime) -> Drawn:
        (category,) = rng.choices(*zip(*service.categories, strict=True))
        (level,) = rng.choices(_LEVELS, (5, 4, 2))
        record = self._opening(rng, service, category, level, at)
        shortlist = self._choices.shortlist(service, category, level, at.date())
        luck = rng.random()
        if luck < _NOBODY:
            return Drawn(_refused(record, NoEligibleModel.code), None)
        if service.caches and at >= self._story.cache_from:
            if rng.random() < self._story.hit_share(at):
                choice = draw_choice(rng, shortlist)
                return self._rated(rng, service, _reused(rng, record, service, level, choice), choice, category)
            record = replace(record, cache=CacheOutcome.MISS.value)
        if rng.random() < (_CRASHED if self._story.crash.holds(at) else _ABANDONED):
            return Drawn(_abandoned(rng, record, service, level, draw_choice(rng, shortlist)), None)
        calls = make_calls(rng, self._story, service, level, shortlist, at)
        is_cancelled = record.stream and calls.served is not None and rng.random() < _CANCELLED
        if is_cancelled:
            calls = cut_off(calls, rng.uniform(0.05, 0.9))
        finished = _finished(rng, record, calls)
        if calls.served is None:
            return Drawn(finished, None)
        if is_cancelled:
            return Drawn(replace(finished, status=RequestStatus.CANCELLED, finish_reason=None), None)
        if luck > 1 - _BLOCKED:
            return Drawn(_blocked(finished), None)
        return self._rated(rng, service, finished, calls.served, category)

    def _opening(
        self, rng: Random, service: DemoService, category: Category, level: ComplexityLevel, at: datetime
    ) -> RequestRecord:
        tags = (
            DEMO_TAG,
            ("environment", "staging" if rng.random() < 0.08 else "production"),  # noqa: PLR2004 - a share
            ("feature", rng.choice(service.features)),
            ("team", service.team),
        )
        subject = Subject(self._tenant_id, service.name, service.team, tags)
        attaches = category in {Category.EXTRACTION, Category.SUMMARIZATION} and rng.random() < 0.25  # noqa: PLR2004 - a share
        registry_version, policy_version = self._versions
        return RequestRecord(
            id=str(UUID(int=uuid7(rng, at))),
            tenant_id=self._tenant_id,
            service_name=service.name,
            principal_id=f"demo:{service.name}",
            endpoint="chat/completions" if rng.random() < 0.85 else "route",  # noqa: PLR2004 - a share
            request_type=category.value,
            content_type="document" if attaches else _CONTENT.get(category, "prose"),
            attachment_size=round(rng.lognormvariate(12.3, 0.8)) if attaches else 0,
            complexity_level=level.value,
            security_level=service.level.label,
            start_time=at,
            end_time=at,
            status=RequestStatus.ABANDONED,
            stream=rng.random() < service.streamed,
            requested_model=service.asks,
            overhead_ms=rng.lognormvariate(0.0, 0.35),
            registry_version=registry_version,
            policy_version=policy_version,
            tags=tags,
            budget_accounts=tuple(account.id for account in accounts_for(BUDGETS, subject, at)),
        )

    def _rated(
        self, rng: Random, service: DemoService, record: RequestRecord, choice: Choice, category: Category
    ) -> Drawn:
        """The request with its rating, if somebody gave one: better models are rated better."""
        if rng.random() >= service.rated:
            return Drawn(record, None)
        expected = 1 - (1 - quality_of(choice.profile, category)) * 0.6
        is_thumbs = rng.random() < _THUMBS
        score = float(rng.random() < expected) if is_thumbs else min(1.0, max(0.0, rng.gauss(expected, 0.15)))
        given = Feedback(
            tenant_id=record.tenant_id,
            service=record.service_name,
            principal_id=f"demo:reader-{rng.randrange(_RATERS)}",
            request_id=record.id,
            score=round(score, 2),
            form=FeedbackForm.THUMBS if is_thumbs else FeedbackForm.SCORE,
            given_at=record.end_time + timedelta(seconds=rng.expovariate(1 / 120)),
            tags=("helpful",) if score > 0.5 else ("wrong" if rng.random() < 0.6 else "slow",),  # noqa: PLR2004 - shares
        )
        return Drawn(record, given)


def uuid7(rng: Random, at: datetime) -> int:
    """RFC 9562, section 5.7, with the bits that are random there taken from the seed."""
    milliseconds = round(at.timestamp() * 1000)
    return milliseconds << 80 | 0x7 << 76 | rng.getrandbits(12) << 64 | 0b10 << 62 | rng.getrandbits(62)


def _refused(record: RequestRecord, code: str) -> RequestRecord:
    end = record.start_time + timedelta(milliseconds=record.overhead_ms)
    return replace(record, end_time=end, status=RequestStatus.ERROR, error_code=code)


def _served_by(record: RequestRecord, choice: Choice) -> RequestRecord:
    return replace(
        record,
        model_used=choice.profile.id,
        deployment_used=choice.deployment.id,
        provider=choice.deployment.provider.value,
        region=choice.deployment.region,
        propensity=choice.propensity,
    )


def _finished(rng: Random, record: RequestRecord, calls: Calls) -> RequestRecord:
    """The record once all calls are made, as the router closes it: the last call's tokens, all calls' cost."""
    record = replace(
        record,
        end_time=record.start_time + timedelta(milliseconds=calls.waited_ms + record.overhead_ms),
        attempts=calls.attempts,
        cost_usd=sum((attempt.cost_usd for attempt in calls.attempts), Decimal(0)),
    )
    if calls.served is None:
        return replace(record, status=RequestStatus.ERROR, error_code=calls.error_code)
    last = calls.attempts[-1]
    reason = FinishReason.LENGTH if rng.random() < 0.01 else FinishReason.STOP  # noqa: PLR2004 - a share
    return replace(
        _served_by(record, calls.served),
        status=RequestStatus.SUCCESS,
        usage=last.usage,
        ttft_ms=None if last.ttft_ms is None else calls.waited_ms - last.duration_ms + last.ttft_ms,
        finish_reason=reason.value,
    )


def _blocked(record: RequestRecord) -> RequestRecord:
    """The model's vendor found something in the answer; the call is billed."""
    attempts = (*record.attempts[:-1], replace(record.attempts[-1], outcome=ContentBlocked.code))
    code = ContentBlocked.code
    return replace(record, status=RequestStatus.ERROR, error_code=code, finish_reason=None, attempts=attempts)


def _abandoned(
    rng: Random, record: RequestRecord, service: DemoService, level: ComplexityLevel, choice: Choice
) -> RequestRecord:
    """Its worker died: the prompt is booked, and nobody knows more."""
    prompt = draw_usage(rng, service, level, thinks=False).prompt_tokens
    usage = Usage(input_tokens=prompt, estimated=True)
    spent = cost(choice, usage, record.start_time)
    return replace(_served_by(record, choice), usage=usage, cost_usd=spent)


def _reused(
    rng: Random, record: RequestRecord, service: DemoService, level: ComplexityLevel, choice: Choice
) -> RequestRecord:
    """An answer that was given before: nothing is called, and what it cost then is saved."""
    usage = draw_usage(rng, service, level, thinks=choice.profile.capabilities.thinking)
    outcome = CacheOutcome.SEMANTIC_HIT if rng.random() < _SEMANTIC else CacheOutcome.HIT
    took_ms = record.overhead_ms + rng.lognormvariate(1.0, 0.4)
    return replace(
        _served_by(record, choice),
        end_time=record.start_time + timedelta(milliseconds=took_ms),
        overhead_ms=took_ms,
        status=RequestStatus.SUCCESS,
        cache=outcome.value,
        usage=usage,
        saved_usd=cost(choice, usage, record.start_time),
        finish_reason=FinishReason.STOP.value,
    )
