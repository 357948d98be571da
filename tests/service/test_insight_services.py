"""The rollups' run, the feedback desk and the analytics service, over twins and doubles."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from shared.domain.analytics import AnalyticsQuery, Dimension, Granularity
from shared.domain.errors import InvalidRequest, ModelNotFound
from shared.domain.feedback import FeedbackState
from shared.domain.judging import JUDGE_SERVICE
from shared.domain.replies import Usage
from shared.services.analytics import FORMER, Analytics
from shared.services.feedback import FeedbackDesk
from shared.services.rollups import Rollups
from shared.stores.memory import ManualClock, MemoryRecordStore
from shared.stores.memory_analytics import MemoryAnalytics, MemoryFeedback
from shared.telemetry.recording import RecordingTelemetry
from tests.rollup_world import feedback
from tests.stores_builders import record
from tests.unit.routing_builders import deployment, model, policy, registry

DAY = datetime(2026, 11, 5, tzinfo=UTC)
T = "tenant-a"
SHELF = registry(
    (model("dear", price="10", quality=0.95), deployment("dear")),
    (model("cheap", price="1", quality=0.5), deployment("cheap")),
)


class Backlog:
    """`RollupStore` with so many steps to do, each of which takes its time."""

    def __init__(self, clock, step_s, **due):
        self.clock, self.step_s, self.due, self.done = clock, step_s, due, []

    def _step(self, name):
        if not self.due.get(name, 0):
            return False
        self.due[name] -= 1
        self.done.append(name)
        self.clock.advance(self.step_s)
        return True

    async def fold(self, now, *, tiers):
        return self._step("minute")

    async def merge(self, granularity):
        return self._step(granularity.value)

    async def purge_minutes(self, now):
        self.done.append("purge")

    async def join_feedback(self, now):
        self.done.append("feedback")


async def run(step_s, **due):
    clock, telemetry = ManualClock(), RecordingTelemetry()
    store = Backlog(clock, step_s, **due)
    steps = await Rollups(store, lambda: SHELF, clock, telemetry).run()
    return store, steps, telemetry


async def test_a_run_does_all_there_is_in_the_order_of_what_builds_on_what():
    store, steps, telemetry = await run(0.1, minute=2, hour=1, day=1)
    assert store.done == ["feedback", "minute", "minute", "hour", "day", "purge"]
    assert steps == 4
    assert "rollups_behind" not in telemetry.events()


async def test_a_run_after_an_outage_ends_in_time_and_starves_nothing():
    store, _, telemetry = await run(5.0, minute=100, hour=100, day=100)
    assert [store.done.count(name) for name in ("minute", "hour", "day")] == [5, 2, 2]
    assert store.clock.monotonic() <= 50.0
    assert "rollups_behind" in telemetry.events()


async def test_every_run_goes_on_where_the_last_one_ended():
    clock = ManualClock()
    store = Backlog(clock, 5.0, minute=12)
    rollups = Rollups(store, lambda: SHELF, clock, RecordingTelemetry())
    while await rollups.run():
        pass
    assert store.due["minute"] == 0


@pytest.mark.parametrize(
    ("said", "kept", "kinds"),
    [
        ("write to alice@example.com or bob@example.com", "write to [email] or [email]", ("email",)),
        ("card 4111 1111 1111 1111, thanks", "card [card_number], thanks", ("card_number",)),
        ("fine", "fine", ()),
        ("", "", ()),
    ],
)
async def test_what_is_sensitive_in_a_comment_is_replaced_by_its_kind(said, kept, kinds):
    store = MemoryFeedback(MemoryRecordStore())
    desk = FeedbackDesk(store, policy, RecordingTelemetry())
    found, state = await desk.give(feedback(record(), comment=said, tags=("alice@example.com", "slow", "slow")))
    assert state is FeedbackState.WAITING
    assert (found.comment, found.tags) == (kept, ("[email]", "slow"))
    assert set(found.redacted) == {"email", *kinds}
    assert list(store.given.values()) == [found]


class World:
    """Analytics over a few records."""

    def __init__(self, former=()):
        self.ledger = MemoryRecordStore()
        self.feedback = MemoryFeedback(self.ledger)
        store = MemoryAnalytics(self.ledger, self.feedback, ManualClock(DAY))
        self.analytics = Analytics(store, lambda: SHELF, dict(former))

    async def had(self, count, *, hour=0, **fields):
        at = DAY + timedelta(hours=hour)
        values = {"usage": Usage(input_tokens=1_000_000), "cost_usd": Decimal(1), "model_used": "cheap", "cache": "off"}
        made = [record(start_time=at, end_time=at, **values | fields) for _ in range(count)]
        await self.ledger.insert(made)
        return made


HOURS = tuple(DAY + timedelta(hours=n) for n in range(5))


async def test_a_report_has_totals_over_all_pages():
    world = World()
    for hour in range(4):
        await world.had(hour + 1, hour=hour)
    report = await world.analytics.report(AnalyticsQuery(T, HOURS, limit=3))
    assert [row.count for row in report.rows] == [1, 2, 3]
    assert report.has_more
    assert report.total.count == 10
    assert report.freshness.pending == 0


async def test_a_report_of_nothing_says_so():
    report = await World().analytics.report(AnalyticsQuery(T, HOURS))
    assert (report.rows, report.has_more, report.total) == ([], False, None)


async def test_each_group_is_held_against_itself_in_the_period_before():
    world = World()
    await world.had(2, hour=0, service_name="old")
    await world.had(3, hour=1, service_name="both")
    await world.had(4, hour=2, service_name="both")
    await world.had(5, hour=3, service_name="new")
    query = AnalyticsQuery(T, HOURS[2:], group_by=(Dimension.SERVICE,))
    report = await world.analytics.report(query, previous=(HOURS[0], HOURS[2]))
    counts = {c.group[0]: (c.current and c.current.count, c.previous and c.previous.count) for c in report.changes}
    assert counts == {"old": (None, 2), "both": (4, 3), "new": (5, None)}


async def test_savings_are_those_against_the_best_single_model_by_default():
    world = World()
    await world.had(3)
    await world.had(1, model_used="dear", cost_usd=Decimal(10))
    await world.had(1, cache="hit", cost_usd=Decimal(0), saved_usd=Decimal(1))
    found = await world.analytics.savings(T, DAY, HOURS[-1], group_by=Dimension.MODEL)
    assert found.models == {"": "dear"}
    assert (found.total.baseline_usd, found.total.actual_usd, found.total.by_reuse_usd) == (50, 13, 10)
    assert {group: one.saved_usd for group, one in found.groups.items()} == {"cheap": 37, "dear": 0}


async def test_what_judging_costs_makes_savings_smaller_and_is_told_apart():
    world = World()
    await world.had(3)
    await world.had(2, service_name=JUDGE_SERVICE, cost_usd=Decimal("0.5"))
    found = await world.analytics.savings(T, DAY, HOURS[-1], group_by=Dimension.SERVICE)
    assert (found.total.requests, found.total.left_out) == (3, 0)
    assert (found.total.baseline_usd, found.total.actual_usd, found.total.own_usd) == (30, 4, 1)
    assert JUDGE_SERVICE not in found.groups


async def test_each_service_has_its_own_former_model():
    world = World({"shop": "dear", "mail": "gone"})
    await world.had(2, service_name="shop")
    await world.had(3, service_name="mail")
    found = await world.analytics.savings(T, DAY, HOURS[-1], baseline=FORMER, group_by=Dimension.SERVICE)
    assert found.models == {"shop": "dear"}
    assert (found.total.requests, found.total.left_out) == (2, 3)
    assert found.groups["mail"].share is None


async def test_long_spans_are_compared_by_day_and_short_ones_by_hour():
    world = World()
    for hour in range(24 * 15):
        await world.had(1, hour=hour)
    short = await world.analytics.savings(T, DAY, DAY + timedelta(days=13))
    long = await world.analytics.savings(T, DAY, DAY + timedelta(days=15))
    assert (short.total.periods, long.total.periods) == (13 * 24, 15)
    assert long.total.interval.low == pytest.approx(0.9)


async def test_a_baseline_that_nobody_has_is_refused():
    with pytest.raises(ModelNotFound):
        await World().analytics.savings(T, DAY, HOURS[-1], baseline="nobody")
    with pytest.raises(InvalidRequest, match="former"):
        await World().analytics.savings(T, DAY, HOURS[-1], baseline=FORMER)


async def test_vectors_are_no_answers():
    world = World()
    await world.had(1)
    vectors = registry((model("vector"), deployment("vector")))
    shelf = type(SHELF)(SHELF.version, SHELF.models, SHELF.deployments, embeddings=vectors)
    world.analytics = Analytics(world.analytics._store, lambda: shelf, {})
    await world.had(5, model_used="vector")
    found = await world.analytics.savings(T, DAY, HOURS[-1])
    assert (found.total.requests, found.total.left_out) == (1, 0)


def test_granularities_have_lengths():
    assert [g.length for g in Granularity] == [timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)]
