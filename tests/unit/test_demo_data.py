"""The demo's traffic: reproducible, priced as the registry prices it, and with the story that its guide tells."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import chain
from uuid import UUID

import pytest

from infra.demo.cast import SERVICES, TEAMS
from infra.demo.security import events_of
from infra.demo.story import CHANGED_MODEL, FORMER_PRICE_FACTOR, OUTAGE_ZONE, Story
from infra.demo.traffic import DEMO_TAG, Drawn, Traffic
from shared.config import REGISTRY_DIRECTORY
from shared.domain.pricing import cost_of
from shared.domain.records import RequestStatus
from shared.stores.registry_files import load_registry

REGISTRY = load_registry(REGISTRY_DIRECTORY)
STORY = Story(datetime(2026, 10, 23, 16, tzinfo=UTC), 31)
REQUESTS = 4_000


def traffic(seed: int = 1, requests: int = REQUESTS) -> list[Drawn]:
    made = Traffic(STORY, REGISTRY, requests=requests, seed=seed, tenant_id="t", policy_version="p")
    return list(chain.from_iterable(made.hours()))


@pytest.fixture(scope="module")
def drawn() -> list[Drawn]:
    return traffic()


def test_the_same_seed_makes_the_same_requests_and_another_one_others(drawn: list[Drawn]) -> None:
    assert traffic() == drawn
    assert not {d.record.id for d in traffic(2, 100)} & {d.record.id for d in drawn}


def test_there_are_as_many_requests_as_asked_for_by_time_and_with_ids_of_their_time(drawn: list[Drawn]) -> None:
    records = [d.record for d in drawn]
    assert len({record.id for record in records}) == REQUESTS
    times = [record.start_time for record in records]
    assert times == sorted(times)
    assert STORY.since <= times[0]
    assert times[-1] < STORY.until
    for record in records:
        assert UUID(record.id).version == 7
        assert UUID(record.id).int >> 80 == round(record.start_time.timestamp() * 1000)
        assert record.end_time >= record.start_time
        assert DEMO_TAG in record.tags


@pytest.mark.parametrize("requests", [1, 50])
def test_the_first_hour_has_a_request_however_few_there_are(requests: int) -> None:
    drawn = traffic(requests=requests)
    assert len(drawn) == requests
    assert drawn[0].record.start_time < STORY.since + timedelta(hours=1)


def test_costs_are_the_exact_prices_of_their_day(drawn: list[Drawn]) -> None:
    for record in (d.record for d in drawn):
        calls = sum((attempt.cost_usd for attempt in record.attempts), Decimal(0))
        assert record.cost_usd == calls or record.status is RequestStatus.ABANDONED
        for attempt in record.attempts:
            profile = STORY.priced(REGISTRY.models[attempt.model_id])
            day = attempt.started_at.date()
            assert attempt.cost_usd == cost_of(profile, attempt.usage, day=day, region=attempt.region).total_usd
            is_former = attempt.model_id == CHANGED_MODEL and day < STORY.price_change
            listed = cost_of(REGISTRY.models[attempt.model_id], attempt.usage, day=day, region=attempt.region).total_usd
            assert attempt.cost_usd == listed * (FORMER_PRICE_FACTOR if is_former else 1)
        if record.cache.endswith("hit"):
            assert record.cost_usd == 0 < record.saved_usd
            assert not record.attempts


def test_nothing_reaches_a_deployment_that_may_not_have_it(drawn: list[Drawn]) -> None:
    deployments = {deployment.id: deployment for deployment in REGISTRY.deployments}
    services = {service.name: service for service in SERVICES}
    for record in (d.record for d in drawn):
        service = services[record.service_name]
        for attempt in record.attempts:
            deployment = deployments[attempt.deployment_id]
            assert deployment.clearance >= service.level
            assert not service.zone or service.zone in deployment.residency
            assert REGISTRY.models[attempt.model_id].lifecycle.usable_on(record.start_time.date())


def test_the_outage_makes_european_calls_fail_and_others_take_over() -> None:
    made = Traffic(STORY, REGISTRY, requests=1, seed=1, tenant_id="t", policy_version="p")
    hour = made._hour(STORY.outage.since.replace(minute=0), [60] * len(SERVICES))
    requests = [d.record for d in hour if STORY.outage.holds(d.record.start_time)]
    deployments = {deployment.id: deployment for deployment in REGISTRY.deployments}
    bound = {service.name for service in SERVICES if service.zone == OUTAGE_ZONE}
    for attempt in (attempt for record in requests for attempt in record.attempts):
        if OUTAGE_ZONE in deployments[attempt.deployment_id].residency and STORY.outage.holds(attempt.started_at):
            assert attempt.outcome in {"provider_unavailable", "provider_timeout"}
    by_service = {
        is_bound: Counter(record.status for record in requests if (record.service_name in bound) is is_bound)
        for is_bound in (True, False)
    }
    assert by_service[True][RequestStatus.ERROR] > 0.9 * by_service[True].total() > 0
    assert by_service[False][RequestStatus.SUCCESS] > 0.9 * by_service[False].total() > 0
    assert any(len(record.attempts) > 1 and record.status is RequestStatus.SUCCESS for record in requests)


def test_the_rest_of_the_story_is_in_the_traffic(drawn: list[Drawn]) -> None:
    records = [d.record for d in drawn]
    assert {record.service_name for record in records} == {service.name for service in SERVICES}
    assert len(SERVICES) == 20
    assert len(TEAMS) == 6
    assert {record.status for record in records} == set(RequestStatus)
    assert not [r for r in records if r.start_time < STORY.cache_from and r.cache != "off"]
    cached = [r for r in records if r.start_time >= STORY.cache_from + timedelta(days=4) and r.cache != "off"]
    assert 0.2 < sum(r.cache.endswith("hit") for r in cached) / len(cached) < 0.5
    ratings = [d.feedback for d in drawn if d.feedback is not None]
    assert 0.02 < len(ratings) / REQUESTS < 0.1
    assert all(rating.given_at > STORY.since and 0 <= rating.score <= 1 for rating in ratings)
    office = [r for r in records if r.service_name == "code-assistant"]
    assert sum(r.start_time.weekday() < 5 for r in office) > 0.9 * len(office)


@pytest.mark.parametrize("days", [7, 31, 90])
def test_all_that_happens_is_within_the_window(days: int) -> None:
    for begin in range(24 * 7):
        story = Story(datetime(2026, 10, 23, tzinfo=UTC) + timedelta(hours=begin), days)
        for span in (story.outage, story.slow_hour, story.crash, story.guessing):
            assert story.since <= span.since < span.until <= story.until
        assert story.since <= story.cache_from < story.until
        assert story.since.date() < story.price_change <= story.until.date()


def test_a_window_before_the_registry_s_first_prices_has_prices_too() -> None:
    story = Story(datetime(2025, 1, 1, tzinfo=UTC), 31)
    for profile in REGISTRY.models.values():
        starts = [period.effective_from for period in story.priced(profile).prices]
        assert starts == sorted(starts)
        assert starts[0] <= date(2025, 1, 1)


def test_security_events_are_reproducible_and_within_the_window() -> None:
    events = events_of(STORY, seed=1, tenant_id="t")
    assert events == events_of(STORY, seed=1, tenant_id="t")
    assert all(STORY.since <= event.at < STORY.until for event in events)
    assert sum(STORY.guessing.holds(event.at) for event in events if event.kind == "login_failed") == 60
