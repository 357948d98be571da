"""Health of deployments, held by Redis and by its twin: the same answers to the same questions at the same instants.

Redis's script is given a clock that the test moves; that the script reads Redis's own is the one line that differs.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from shared.domain.breaker import SharedHealth
from shared.domain.errors import DependencyUnavailable
from shared.domain.health import (
    Admission,
    AdmissionRequest,
    BreakerState,
    Charge,
    DeploymentReport,
    HealthRules,
    ProbeVerdict,
    Quota,
    RefusalReason,
    Tally,
    WorkerReport,
)
from shared.ports import HealthStore
from shared.stores.memory import ManualClock
from shared.stores.memory_health import MemoryHealthStore
from shared.stores.redis import connect_redis
from shared.stores.redis_health import SCRIPT, RedisHealthStore

RULES = HealthRules(window_s=10, minimum_calls=4, failure_rate=0.5, slow_rate=0.75, open_s=10, max_open_s=60)
PATIENT = {"admit_timeout_s": 10.0, "timeout_s": 10.0}
"""What is tested is what they answer, on machines that may be busy."""
TIME_CALL = "redis.call('TIME')"
TEST_CLOCK = "test:clock"


@dataclass
class World:
    """A store, the hand on its clock, and workers that speak to it."""

    store: HealthStore
    clock: ManualClock
    redis: Redis | None = None

    async def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await self.set_clock()

    async def set_clock(self) -> None:
        if self.redis is not None:
            now_us = round(self.clock.now().timestamp() * 1_000_000)
            await self.redis.hset(TEST_CLOCK, mapping={"s": now_us // 1_000_000, "us": now_us % 1_000_000})

    async def forget(self) -> None:
        if self.redis is not None:
            await self.redis.flushdb()
            await self.set_clock()
        else:
            self.store.forget()

    async def admit(self, deployment="d", *, quota=None, tokens=0, token="t", rules=RULES) -> Admission:  # noqa: S107 - a name
        return await self.store.admit(AdmissionRequest(deployment, quota, tokens, token, rules))

    async def tell(self, *reports: DeploymentReport, worker="w", epoch="", since=0, load=None, **more) -> SharedHealth:
        return await self.store.exchange(WorkerReport(worker, epoch, since, load or {}, reports, RULES, **more))

    async def calls(self, calls: int, failures: int = 0, slow: int = 0, deployment="d", **more: Any) -> SharedHealth:
        return await self.tell(DeploymentReport(deployment, Tally(calls, failures, slow, calls, calls * 100), **more))

    async def open(self, draw: float = 0.0) -> int:
        """Opens the breaker of `d`; returns for how many ms."""
        shared = await self.calls(4, 4, draw=draw)
        return shared.events[-1].lasts_ms


async def redis_world(redis: Redis) -> World:
    await redis.flushdb()
    assert SCRIPT.count(TIME_CALL) == 1
    script = SCRIPT.replace(TIME_CALL, f"redis.call('HMGET', '{TEST_CLOCK}', 's', 'us')")
    world = World(RedisHealthStore(redis, script=script, **PATIENT), ManualClock(), redis)
    await world.set_clock()
    return world


def memory_world() -> World:
    clock = ManualClock()
    return World(MemoryHealthStore(clock), clock)


@pytest.fixture(params=["memory", "redis"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "memory":
        yield memory_world()
        return
    async with connect_redis(request.getfixturevalue("redis_url"), timeout_s=10) as redis:
        yield await redis_world(redis)


# --- breakers --------------------------------------------------------------------------------------------------------


async def test_failures_below_the_minimum_volume_open_nothing(world: World) -> None:
    shared = await world.calls(3, 3)
    assert shared.events == ()
    assert shared.breakers["d"].state is BreakerState.CLOSED
    assert (await world.admit()).refusal is None


@pytest.mark.parametrize(
    ("failures", "slow", "reason"), [(2, 0, "failure_rate"), (0, 3, "slow_rate"), (1, 2, None), (2, 4, "failure_rate")]
)
async def test_a_rate_over_the_window_opens_it(world: World, failures: int, slow: int, reason: str | None) -> None:
    await world.calls(1, failures=min(1, failures), slow=min(1, slow))
    await world.advance(2)
    shared = await world.calls(3, failures=max(0, failures - 1), slow=max(0, slow - 1))
    assert [event.reason for event in shared.events] == ([reason] if reason else [])
    refusal = (await world.admit()).refusal
    if reason is None:
        assert refusal is None
    else:
        assert refusal is not None
        assert (refusal.reason, refusal.retry_after_s) == (RefusalReason.BREAKER_OPEN, 10)
        event = shared.events[0]
        assert (event.deployment_id, event.state, event.calls, event.failures, event.slow, event.lasts_ms) == (
            "d", BreakerState.OPEN, 4, failures, slow, 10_000,
        )  # fmt: skip
        assert event.at == world.clock.now()
        assert await world.store.recent_events() == (event,)


async def test_what_left_the_window_counts_no_more(world: World) -> None:
    await world.calls(3, 3)
    await world.advance(10)
    shared = await world.calls(3, 3)
    assert shared.breakers["d"].state is BreakerState.CLOSED
    assert shared.breakers["d"].window() == Tally(3, 3, 0, 3, 300)


async def test_one_deployments_breaker_leaves_the_others_alone(world: World) -> None:
    await world.open()
    assert (await world.admit("e")).refusal is None


async def test_of_many_who_ask_at_once_one_gets_the_probe(world: World) -> None:
    await world.advance(await world.open() / 1000)
    answers = await asyncio.gather(*(world.admit(token=f"t{number}") for number in range(20)))
    assert sum(answer.refusal is None for answer in answers) == 1
    assert sum(answer.is_probe for answer in answers) == 1
    assert {a.refusal.reason for a in answers if a.refusal is not None} == {RefusalReason.HALF_OPEN_BUSY}
    assert [answer.event.reason for answer in answers if answer.event is not None] == ["probe_started"]
    assert (await world.store.recent_events())[0].state is BreakerState.HALF_OPEN


@pytest.mark.parametrize(
    ("verdict", "state", "reason"),
    [
        (ProbeVerdict.SUCCEEDED, BreakerState.CLOSED, "probe_succeeded"),
        (ProbeVerdict.FAILED, BreakerState.OPEN, "probe_failed"),
        (ProbeVerdict.UNDECIDED, BreakerState.OPEN, "probe_undecided"),
    ],
)
async def test_the_probe_decides(world: World, verdict: ProbeVerdict, state: BreakerState, reason: str) -> None:
    await world.advance(await world.open(draw=0.5) / 1000)
    await world.admit(token="mine")
    shared = await world.tell(DeploymentReport("d", probe=("mine", verdict)))
    assert [event.reason for event in shared.events] == [reason]
    assert shared.breakers["d"].state is state
    # A breaker that closes begins anew; until then it is known what opened it.
    assert shared.breakers["d"].window().calls == (0 if verdict is ProbeVerdict.SUCCEEDED else 4)
    refusal = (await world.admit(token="next")).refusal
    if verdict is ProbeVerdict.FAILED:
        assert refusal is not None
        assert refusal.retry_after_s == 20, "it opens for twice as long the second time"
    else:
        assert refusal is None


async def test_a_killed_prober_frees_its_probe_and_its_ghost_is_not_listened_to(world: World) -> None:
    await world.advance(await world.open() / 1000)
    await world.admit(token="first")
    for _ in range(3):
        await world.advance(4)
        await world.tell(DeploymentReport("d", probe=("first", ProbeVerdict.ALIVE)))
        assert (await world.admit(token="second")).refusal is not None
    await world.advance(5)
    second = await world.admit(token="second")
    assert second.is_probe
    assert second.event is None, "it was half-open already"
    shared = await world.tell(DeploymentReport("d", probe=("first", ProbeVerdict.SUCCEEDED)))
    assert shared.breakers["d"].state is BreakerState.HALF_OPEN


async def test_openings_grow_to_a_bound_with_jitter_and_are_forgiven_after_a_long_good_time(world: World) -> None:
    lasted = [await world.open()]
    for draw in (0.0, 0.5, 0.0, 0.0):
        await world.advance(lasted[-1] / 1000)
        await world.admit(token="p")
        shared = await world.tell(DeploymentReport("d", probe=("p", ProbeVerdict.FAILED), draw=draw))
        lasted.append(shared.events[-1].lasts_ms)
    assert lasted == [10_000, 20_000, 36_000, 60_000, 60_000]
    await world.advance(60)
    await world.admit(token="p")
    await world.tell(DeploymentReport("d", probe=("p", ProbeVerdict.SUCCEEDED)))
    await world.advance(61)
    assert await world.open() == 10_000


async def test_calls_that_end_after_the_opening_are_not_counted(world: World) -> None:
    await world.open()
    shared = await world.calls(50, 50)
    assert shared.events == ()
    assert shared.breakers["d"].window().calls == 4


async def test_a_store_that_forgot_takes_an_opening_from_who_remembers(world: World) -> None:
    first = await world.tell(DeploymentReport("d", reopen=(7_000, 3)))
    again = await world.tell(DeploymentReport("d", reopen=(9_000, 4)))
    assert [event.reason for event in (*first.events, *again.events)] == ["restored"]
    refusal = (await world.admit()).refusal
    assert refusal is not None
    assert refusal.retry_after_s == 7


# --- cooldowns -------------------------------------------------------------------------------------------------------


async def test_a_cooldown_lasts_until_the_latest_known_date_and_touches_nobody_else(world: World) -> None:
    await world.tell(DeploymentReport("d", cooldown_ms=30_000), worker="a")
    await world.tell(DeploymentReport("d", cooldown_ms=5_000), worker="b")
    refusal = (await world.admit()).refusal
    assert refusal is not None
    assert (refusal.reason, refusal.retry_after_s) == (RefusalReason.COOLDOWN, 30)
    assert (await world.admit("e")).refusal is None
    await world.advance(30)
    assert (await world.admit()).refusal is None


async def test_a_clock_that_stepped_back_shuts_nothing_for_long(world: World) -> None:
    await world.open()
    await world.tell(DeploymentReport("e", cooldown_ms=3_000_000))
    quota = Quota(requests_per_minute=1)
    await world.admit("q", quota=quota)
    await world.advance(-70)
    assert (await world.admit("q", quota=quota)).refusal is None
    await world.advance(-7200)
    assert (await world.admit("d")).refusal is None
    assert (await world.admit("e")).refusal is None
    assert (await world.admit("q", quota=quota)).refusal is None


# --- quotas ----------------------------------------------------------------------------------------------------------


async def test_requests_a_minute_are_counted_exactly_and_the_refusal_says_when(world: World) -> None:
    quota = Quota(requests_per_minute=3)
    for _ in range(3):
        assert (await world.admit(quota=quota)).refusal is None
        await world.advance(10)
    refusal = (await world.admit(quota=quota)).refusal
    assert refusal is not None
    assert (refusal.reason, refusal.retry_after_s) == (RefusalReason.REQUESTS_QUOTA, 31)
    await world.advance(30.999)
    assert (await world.admit(quota=quota)).refusal is not None
    await world.advance(0.001)
    assert (await world.admit(quota=quota)).refusal is None
    assert (await world.admit(quota=quota)).refusal is not None


async def test_tokens_a_minute_let_small_requests_pass_where_large_ones_wait(world: World) -> None:
    quota = Quota(tokens_per_minute=1000)
    assert (await world.admit(quota=quota, tokens=600)).refusal is None
    await world.advance(20)
    assert (await world.admit(quota=quota, tokens=300)).refusal is None
    refusals = [(await world.admit(quota=quota, tokens=tokens)).refusal for tokens in (101, 800, 1001)]
    assert [r and (r.reason, r.retry_after_s) for r in refusals] == [
        (RefusalReason.TOKENS_QUOTA, 41),
        (RefusalReason.TOKENS_QUOTA, 61),
        (RefusalReason.TOKENS_QUOTA, 60),
    ]
    assert (await world.admit(quota=quota, tokens=100)).refusal is None


async def test_a_refused_request_costs_no_quota(world: World) -> None:
    quota = Quota(requests_per_minute=10, tokens_per_minute=100)
    for _ in range(20):
        assert (await world.admit(quota=quota, tokens=101)).refusal is not None
    answers = [await world.admit(quota=quota, tokens=10) for _ in range(11)]
    assert [answer.refusal is None for answer in answers] == [True] * 10 + [False]


async def test_tokens_given_back_make_room_as_long_as_their_reservation_stands(world: World) -> None:
    quota = Quota(tokens_per_minute=100)
    await world.admit(quota=quota, tokens=100)
    await world.advance(5)
    await world.tell(DeploymentReport("d", charges=(Charge(7, 0, -60),)))
    assert (await world.admit(quota=quota, tokens=61)).refusal is not None
    assert (await world.admit(quota=quota, tokens=60)).refusal is None
    await world.advance(54)
    # What was given back is dated earlier than its reservation: it leaves first, never last.
    assert (await world.admit(quota=quota, tokens=1)).refusal is not None
    await world.advance(2)
    assert (await world.admit(quota=quota, tokens=40)).refusal is None


async def test_charges_from_before_the_window_are_dropped(world: World) -> None:
    await world.tell(DeploymentReport("d", charges=(Charge(61, 5, 0), Charge(60, 2, 0))))
    answers = [await world.admit(quota=Quota(requests_per_minute=3)) for _ in range(2)]
    assert [answer.refusal is None for answer in answers] == [True, False]


# --- workers ---------------------------------------------------------------------------------------------------------


async def test_attempts_in_flight_add_up_and_those_of_lost_workers_do_not(world: World) -> None:
    await world.tell(worker="a", load={"d": 2, "e": 1})
    shared = await world.tell(worker="b", load={"d": 3})
    assert (shared.in_flight, shared.workers) == ({"d": 5, "e": 1}, 2)
    await world.advance(3)
    await world.tell(worker="b", load={"d": 1})
    await world.advance(3)
    shared = await world.tell(worker="b", load={"d": 1})
    assert (shared.in_flight, shared.workers) == ({"d": 1, "e": 0}, 1)
    shared = await world.tell(worker="a", load={"d": 2})
    assert (shared.in_flight["d"], shared.workers) == (3, 2)
    shared = await world.tell(worker="a", leaves=True)
    assert (shared.in_flight["d"], shared.workers) == (1, 1)


async def test_a_worker_hears_only_what_is_new_to_it(world: World) -> None:
    first = await world.calls(1)
    await world.calls(1, deployment="e")
    second = await world.tell(epoch=first.epoch, since=first.version)
    assert set(second.breakers) == {"e"}
    third = await world.tell(epoch=first.epoch, since=second.version)
    assert (third.breakers, third.version) == ({}, second.version)


async def test_who_knows_another_memory_is_told_so_and_not_listened_to(world: World) -> None:
    known = await world.calls(1)
    await world.forget()
    report = DeploymentReport("d", Tally(4, 4), cooldown_ms=9000)
    told = await world.tell(report, epoch=known.epoch, since=known.version)
    assert told.epoch != known.epoch
    assert (told.breakers, told.events) == ({}, ())
    again = await world.tell(report, epoch=told.epoch)
    assert again.breakers["d"].state is BreakerState.OPEN


async def test_events_come_newest_first_and_no_more_than_asked_for(world: World) -> None:
    for number in range(5):
        await world.calls(4, 4, deployment=f"d{number}")
    assert [event.deployment_id for event in await world.store.recent_events(3)] == ["d4", "d3", "d2"]


# --- the two machines, step by step ----------------------------------------------------------------------------------

DEPLOYMENTS = st.sampled_from(["d", "d", "d", "e"])
TOKENS = st.sampled_from(["t1", "t1", "t2"])
TALLIES = st.builds(
    lambda calls, failures, slow: Tally(calls, min(calls, failures), min(calls, slow), calls, 7 * calls),
    *(st.integers(0, 6) for _ in range(3)),
)
REPORTS = st.builds(
    DeploymentReport,
    deployment_id=DEPLOYMENTS,
    tally=TALLIES,
    cooldown_ms=st.sampled_from([0, 0, 0, 0, 500, 20_000]),
    probe=st.none() | st.tuples(TOKENS, st.sampled_from(ProbeVerdict)),
    reopen=st.sampled_from([None, None, None, (1, 1), (3_000, 2), (500_000, 40)]),
    charges=st.lists(
        st.builds(Charge, st.sampled_from([0, 1, 5, 59, 60, 61, 70]), st.integers(0, 2), st.integers(-20, 20)),
        max_size=2,
    ).map(tuple),
    draw=st.floats(0, 0.999),
)
# Often the steps that lead on: an opening, its end, the probe and its verdict.
TRIPS = st.builds(lambda draw: DeploymentReport("d", Tally(6, 6), draw=draw), st.floats(0, 0.999))
VERDICTS = st.builds(
    lambda verdict, draw: DeploymentReport("d", probe=("t1", verdict), draw=draw),
    st.sampled_from(ProbeVerdict),
    st.floats(0, 0.999),
)
ASKS = st.tuples(st.just("admit"), st.just("d"), st.none(), st.just(0), st.just("t1"))
QUOTAS = st.sampled_from([None, Quota(3, None), Quota(None, 40), Quota(4, 60)])


def cycle(verdict: DeploymentReport, wait_s: float) -> tuple[tuple[Any, ...], ...]:
    """An opening, its end, the probe and its verdict, as steps."""
    trip, ask = DeploymentReport("d", Tally(6, 6), draw=0.9), ("admit", "d", None, 0, "t1")
    return (("tell", [trip], "a", 0), ("wait", wait_s), ask, ("tell", [verdict], "a", 0))


STEPS = st.one_of(
    ASKS,
    st.tuples(st.just("cycle"), VERDICTS, st.sampled_from([9.0, 60.0])),
    st.tuples(st.just("admit"), DEPLOYMENTS, QUOTAS, st.sampled_from([0, 7, 13, 20, 41]), TOKENS),
    st.tuples(st.just("tell"), st.lists(REPORTS, max_size=3), st.sampled_from(["a", "b"]), st.integers(0, 3)),
    st.tuples(st.just("tell"), st.lists(TRIPS | VERDICTS, min_size=1, max_size=1), st.just("a"), st.just(0)),
    st.tuples(st.just("wait"), st.sampled_from([0.001, 0.4, 1.0, 4.999, 5.0, 10.0, 20.0, 59.0, 61.5])),
    st.tuples(st.just("wait"), st.sampled_from([10.0, 62.0, 64.0, 400.0, -0.5, -30.0, -90.0])),
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=st.lists(STEPS, min_size=10, max_size=40))
async def test_redis_and_its_twin_come_to_the_same_at_every_step(redis_url: str, steps: list[tuple[Any, ...]]) -> None:
    async with connect_redis(redis_url, timeout_s=10) as redis:
        worlds = (memory_world(), await redis_world(redis))
        for step in [small for large in steps for small in (cycle(*large[1:]) if large[0] == "cycle" else (large,))]:
            outcomes = []
            for world in worlds:
                if step[0] == "wait":
                    await world.advance(step[1])
                elif step[0] == "admit":
                    outcomes.append(await world.admit(step[1], quota=step[2], tokens=step[3], token=step[4]))
                else:
                    told = await world.tell(*step[1], worker=step[2], load={"d": step[3]} if step[3] else {})
                    outcomes.append(replace(told, epoch="", version=0))
            assert len(outcomes) != 2 or outcomes[0] == outcomes[1]
        histories = [await world.store.recent_events() for world in worlds]
        assert histories[0] == histories[1]


# --- only Redis ------------------------------------------------------------------------------------------------------


async def test_the_clock_is_rediss_own(redis_url: str) -> None:
    async with connect_redis(redis_url, timeout_s=10) as redis:
        seconds, microseconds = await redis.time()
        admission = await RedisHealthStore(redis, **PATIENT).admit(AdmissionRequest("real", None, 0, "t", RULES))
        assert admission.now_ms >= seconds * 1000 + microseconds // 1000


async def test_all_keys_lie_in_one_slot_and_expire(redis_url: str) -> None:
    async with connect_redis(redis_url, timeout_s=10) as redis:
        world = await redis_world(redis)
        await world.admit(quota=Quota(5, 50), tokens=5)
        await world.open()
        await world.tell(load={"d": 1})
        names = [name.decode() async for name in redis.scan_iter("*") if name != TEST_CLOCK.encode()]
        assert len(names) == 8
        assert {name.partition("}")[0] for name in names} == {"router:{health"}
        assert min([await redis.ttl(name) for name in names]) > 0


async def test_the_memory_of_a_quota_does_not_grow_with_its_limit(redis_url: str) -> None:
    async with connect_redis(redis_url, timeout_s=10) as redis:
        world = await redis_world(redis)
        for _ in range(150):
            await world.admit(quota=Quota(1000, 100_000), tokens=5)
            await world.advance(1)
        assert await redis.hlen("router:{health}:quota:d") <= 2 * 61 + 4


async def test_a_script_that_redis_lost_is_loaded_again(redis_url: str) -> None:
    async with connect_redis(redis_url, timeout_s=10) as redis:
        world = await redis_world(redis)
        await world.admit()
        await redis.script_flush()
        assert (await world.admit()).refusal is None


async def test_a_redis_that_is_not_there_is_unavailable() -> None:
    async with connect_redis("redis://127.0.0.1:1/0") as redis:
        store = RedisHealthStore(redis)
        for asked in (
            store.admit(AdmissionRequest("d", None, 0, "t", RULES)),
            store.exchange(WorkerReport("w", "", 0, {}, (), RULES)),
            store.recent_events(),
        ):
            with pytest.raises(DependencyUnavailable):
                await asked


async def test_the_twin_can_be_switched_away() -> None:
    world = memory_world()
    assert isinstance(world.store, MemoryHealthStore)
    world.store.away = True
    with pytest.raises(DependencyUnavailable):
        await world.admit()
    assert world.clock.now() == datetime(2026, 1, 1, tzinfo=UTC)
