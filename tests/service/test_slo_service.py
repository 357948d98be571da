"""How objectives stand, against a count of the requests themselves, one by one."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.records import RequestStatus
from shared.domain.slo import BUILT_IN
from shared.services.slos import Slos, SloState
from shared.stores.memory import ManualClock, MemoryRecordStore
from shared.stores.memory_analytics import MemoryAnalytics, MemoryFeedback
from tests.stores_builders import record

NOW = datetime(2026, 11, 23, 15, 42, 31, tzinfo=UTC)
T = "tenant-a"


def starts(as_of):
    """Of the windows; above an hour they begin with one."""
    hour = as_of.replace(minute=0)
    short = {timedelta(minutes=minutes): as_of - timedelta(minutes=minutes) for minutes in (5, 30, 60)}
    return short | {timedelta(hours=6): hour - timedelta(hours=6), timedelta(days=3): hour - timedelta(days=3)}


SINCE = datetime(2026, 10, 24, tzinfo=UTC)


class World:
    """Rollups over records."""

    def __init__(self, now=NOW):
        self.clock = ManualClock(now)
        self.ledger = MemoryRecordStore()
        self.store = MemoryAnalytics(self.ledger, MemoryFeedback(self.ledger), self.clock)
        self.slos = Slos(self.store, self.clock)

    async def had(self, ago, code=None, *, seconds=1.0, service="checkout", tenant=T, overhead_ms=1.0, end=None):
        status = end or (RequestStatus.SUCCESS if code is None else RequestStatus.ERROR)
        start = self.clock.now() - ago
        made = record(
            tenant_id=tenant, service_name=service, start_time=start, end_time=start + timedelta(seconds=seconds),
            status=status, error_code=code, overhead_ms=overhead_ms,
        )  # fmt: skip
        await self.ledger.insert([made])
        return made

    async def by_name(self, **more):
        report = await self.slos.report(T, **more)
        return report, {status.slo.name: status for status in report.total}


AGES = st.one_of(
    st.integers(31, 400).map(lambda s: timedelta(seconds=s)),
    st.integers(1, 32 * 24 * 60).map(lambda m: timedelta(minutes=m)),
)
CODES = st.sampled_from((None, None, "provider_timeout", "budget_exceeded", "context_window_exceeded"))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(AGES, CODES, st.sampled_from((0.5, 4.0, 9.0))), max_size=25),
    st.sampled_from((0, 1, 30, 42, 59)),
)
async def test_burn_rates_are_what_counting_in_each_window_gives(requests, minute):
    now = NOW.replace(minute=minute)
    as_of = now.replace(second=0)
    world = World(now)
    for ago, code, seconds in requests:
        await world.had(ago, code, seconds=seconds)
    report, found = await world.by_name()
    assert (report.as_of, report.since, report.is_stale) == (as_of, SINCE, False)

    def rate(since, is_bad, is_valid, allowed):
        inside = [one for one in requests if since <= now - one[0] < as_of]
        valid = [one for one in inside if is_valid(one[1])]
        return sum(is_bad(one) for one in valid) / (allowed * len(valid)) if valid else None

    for length, since in [*starts(as_of).items(), (None, SINCE)]:
        expected = {
            "availability": rate(since, lambda r: r[1] is not None, lambda c: c in {None, "provider_timeout"}, 0.001),
            "error-rate": rate(since, lambda r: r[1] is not None, lambda c: c != "budget_exceeded", 0.01),
            "p95-latency": rate(since, lambda r: r[2] > 5, lambda c: c is None, 0.05),
            "mean-latency": rate(since, lambda r: 1000 * r[2], lambda c: c is None, 2_000),
        }
        for name, value in expected.items():
            status = found[name]
            if length is not None:
                assert status.rates[length] == pytest.approx(value)
            elif value is None:
                assert (status.state, status.budget) == (SloState.NO_DATA, None)
            else:
                assert status.budget.left_share == pytest.approx(1 - value)
                assert status.state is (SloState.MET if value <= 1 + 1e-9 else SloState.MISSED)


async def test_each_service_is_reported_alone_and_other_tenants_not_at_all():
    world = World()
    for _ in range(3):
        await world.had(timedelta(hours=2), service="search")
    await world.had(timedelta(hours=2), "internal_error")
    await world.had(timedelta(hours=2), "internal_error", tenant="tenant-b")
    report, total = await world.by_name(by_service=True)
    assert total["availability"].value == pytest.approx(0.75)
    assert {service: [one.value for one in found if one.slo.name == "availability"] for service, found in report.services.items()} == {
        "checkout": [0.0],
        "search": [1.0],
    }  # fmt: skip
    assert "capacity" not in {one.slo.name for found in report.services.values() for one in found}
    assert len(total) == len(BUILT_IN)


async def test_abandoned_requests_are_the_routers_fault_and_cancelled_ones_nobodys():
    world = World()
    await world.had(timedelta(hours=2))
    await world.had(timedelta(hours=2), end=RequestStatus.CANCELLED)
    await world.had(timedelta(hours=2), end=RequestStatus.ABANDONED)
    _, found = await world.by_name()
    assert (found["availability"].events, found["availability"].value) == (2, 0.5)


async def test_an_outage_burns_in_its_windows_and_a_day_later_in_the_long_one_only():
    world = World()
    for number in range(40):
        await world.had(timedelta(minutes=number + 1), "provider_unavailable" if number % 2 else None)
    _, found = await world.by_name()
    assert len(found["availability"].burning) == 3
    later = World(NOW + timedelta(days=1))
    later.store.records = world.ledger
    for number in range(40):
        await world.had(timedelta(minutes=number + 1) - timedelta(days=1))
    _, found = await later.by_name()
    assert found["availability"].burning == ()
    assert found["availability"].rates[timedelta(days=3)] == pytest.approx(250)


async def test_capacity_says_what_was_served_and_claims_no_more():
    world = World()
    assert (await world.by_name())[1]["capacity"].state is SloState.NO_DATA
    for number in range(6):
        await world.had(timedelta(hours=3, seconds=number), "internal_error" if number == 0 else None)
    status = (await world.by_name())[1]["capacity"]
    assert status.state is SloState.NOT_SHOWN
    assert status.value == pytest.approx(5 / 60)
    assert status.peak.minute == datetime(2026, 11, 23, 12, 42, tzinfo=UTC)
    assert status.peak.fault_share == pytest.approx(1 / 6)


async def test_quantiles_stand_beside_shares():
    world = World()
    for number in range(100):
        await world.had(timedelta(hours=2), seconds=1.0 if number < 94 else 8.0, overhead_ms=2.0)
    _, found = await world.by_name()
    assert found["p95-latency"].quantile_ms == pytest.approx(8_000, rel=0.01)
    assert (found["p95-latency"].state, found["p95-latency"].value) == (SloState.MISSED, pytest.approx(0.94))
    assert found["overhead-p99"].quantile_ms == pytest.approx(2, rel=0.01)
    assert found["overhead-p99"].state is SloState.MET
