"""What a worker knows of deployments, and what it makes of it with and without the store."""

import asyncio
import contextlib
import random
from dataclasses import replace

import pytest

from shared.domain.errors import (
    DependencyUnavailable,
    ProviderError,
    ProviderRateLimited,
    ProviderRejected,
    ProviderUnavailable,
)
from shared.domain.health import BreakerState, HealthRules
from shared.scoring.snapshot import Signals
from shared.services.deployment_health import CallOutcome, DeploymentHealth, RefusalReason, soonest_return_s
from shared.stores.memory import ManualClock
from shared.stores.memory_health import MemoryHealthStore
from shared.telemetry import RecordingTelemetry
from tests.unit.routing_builders import deployment

RULES = HealthRules(window_s=10, minimum_calls=4, failure_rate=0.5, slow_rate=0.75, open_s=10, max_open_s=60)
D = deployment("d")
OTHER = deployment("e")
LIMITED = replace(D, requests_per_minute=4)
METERED = replace(D, tokens_per_minute=1000)
DOWN = ProviderUnavailable("down")


class Team:
    """Workers of one store."""

    def __init__(self, rules: HealthRules = RULES) -> None:
        self.clock = ManualClock()
        self.store = MemoryHealthStore(self.clock)
        self.telemetry = RecordingTelemetry()
        self.rules = rules

    def worker(self, name: str = "w1") -> DeploymentHealth:
        return DeploymentHealth(self.store, self.rules, self.clock, self.telemetry, random.Random(name), worker_id=name)

    def call(self, worker, *, error: ProviderError | None = None, duration_s=0.1, where=D, **outcome) -> None:
        given = {"succeeded": error is None, "duration_ms": 1000 * duration_s, "ttft_ms": None, "error": error}
        worker.started(where.id)
        self.clock.advance(duration_s)
        worker.ended(where.id, CallOutcome(**{**given, **outcome}))

    def open(self, worker) -> None:
        for _ in range(4):
            self.call(worker, error=DOWN)


@pytest.fixture
def team() -> Team:
    return Team()


async def test_a_closed_breaker_without_a_quota_asks_nobody(team: Team) -> None:
    team.store.away = True
    worker = team.worker()
    assert await worker.admit(D, tokens=100) is None
    assert not worker.is_degraded


async def test_signals_hold_calls_under_way_and_calls_that_ended(team: Team) -> None:
    worker = team.worker()
    assert worker.read() == {}
    worker.started(D.id)
    team.call(worker, ttft_ms=200.0)
    team.call(worker, ttft_ms=401.0)
    team.call(worker, error=DOWN)
    assert worker.read() == {D.id: Signals(success_rate=round(12 / 13, 3), in_flight=1, ttft_ms=300.0)}


async def test_what_was_read_never_changes(team: Team) -> None:
    worker = team.worker()
    worker.started(D.id)
    before = worker.read()
    copy = dict(before)
    worker.started(D.id)
    worker.started(OTHER.id)
    assert before == copy
    assert worker.read()[D.id].in_flight == 2
    assert worker.read() is worker.read()


async def test_workers_see_each_others_calls_and_load(team: Team) -> None:
    one, two = team.worker("w1"), team.worker("w2")
    team.call(one, error=DOWN, ttft_ms=300.0)
    one.started(D.id)
    two.started(D.id)
    for worker in (one, two, one):
        await worker.refresh()
    seen = Signals(success_rate=round(10 / 11, 3), in_flight=2, ttft_ms=300.0)
    assert one.read() == two.read() == {D.id: seen}
    two.ended(D.id, CallOutcome(succeeded=None, duration_ms=1, ttft_ms=None))
    assert two.read()[D.id].in_flight == 1
    await two.refresh()
    await one.refresh()
    assert one.read()[D.id].in_flight == 1


async def test_observations_are_forgotten_with_the_window_so_that_a_bad_spell_is_not_for_ever(team: Team) -> None:
    worker = team.worker()
    for _ in range(3):
        team.call(worker, error=DOWN, ttft_ms=5000.0)
    await worker.refresh()
    team.clock.advance(11)
    await worker.refresh()
    assert worker.read()[D.id] == Signals()


async def test_a_breaker_opened_by_all_together_stops_all_and_is_told_once(team: Team) -> None:
    workers = [team.worker(f"w{number}") for number in range(4)]
    for worker in workers:
        team.call(worker, error=DOWN)
        await worker.refresh()
    for worker in workers:
        await worker.refresh()
        signals = worker.read()[D.id]
        assert (signals.cooling_down, signals.returns_in_s > 5) == (True, True)
        refusal = await worker.admit(D, tokens=0)
        assert refusal is not None
        assert refusal.reason is RefusalReason.BREAKER_OPEN
    assert team.telemetry.counted("breaker_changes", deployment=D.id, state="open") == 1
    (logged,) = team.telemetry.events()["breaker_changed"]
    assert (logged["reason"], logged["calls"], logged["failures"], logged["degraded"]) == ("failure_rate", 4, 4, False)
    assert [event.deployment_id for event in await workers[0].recent_events()] == [D.id]


async def test_the_worker_that_saw_it_obeys_before_anybody_was_told(team: Team) -> None:
    worker = team.worker()
    team.open(worker)
    assert worker.read()[D.id].cooling_down
    assert await worker.admit(D, tokens=0) is not None


@pytest.mark.parametrize("succeeded", [None, False])
async def test_the_callers_faults_open_nothing_and_leave_no_trace(team: Team, succeeded: bool | None) -> None:
    worker = team.worker()
    for _ in range(20):
        team.call(worker, succeeded=succeeded, error=ProviderRejected("bad request"))
    assert worker.read() == {D.id: Signals()}


async def test_one_worker_gets_the_probe_and_its_success_frees_all(team: Team) -> None:
    one, two = team.worker("w1"), team.worker("w2")
    team.open(one)
    await one.refresh()
    await two.refresh()
    team.clock.advance(10)
    assert not one.read()[D.id].cooling_down, "so that a request may choose it and become the probe"
    assert await one.admit(D, tokens=0) is None
    for worker in (one, two):
        refusal = await worker.admit(D, tokens=0)
        assert refusal is not None
        assert refusal.reason is RefusalReason.HALF_OPEN_BUSY
    team.call(one)
    assert await one.admit(D, tokens=0) is None
    await one.refresh()
    await two.refresh()
    assert await two.admit(D, tokens=0) is None
    assert [event.reason for event in reversed(await one.recent_events())] == [
        "failure_rate", "probe_started", "probe_succeeded",
    ]  # fmt: skip
    assert team.telemetry.counted("breaker_changes") == 3


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        ({"error": DOWN}, "probe_failed"),
        ({"duration_s": 130.0}, "probe_failed"),
        ({"succeeded": None}, "probe_undecided"),
        ({"error": ProviderRejected("bad request")}, "probe_undecided"),
    ],
)
async def test_a_probe_that_fails_is_slow_or_says_nothing(team: Team, outcome, reason: str) -> None:
    worker = team.worker()
    team.open(worker)
    await worker.refresh()
    team.clock.advance(10)
    assert await worker.admit(D, tokens=0) is None
    worker.started(D.id)
    for _ in range(int(outcome.get("duration_s", 0))):
        team.clock.advance(1)
        await worker.refresh()
    duration_ms = 1000.0 * outcome.get("duration_s", 0)
    given = {"succeeded": "error" not in outcome, "duration_ms": duration_ms, "ttft_ms": None} | outcome
    given.pop("duration_s", None)
    worker.ended(D.id, CallOutcome(**given))
    await worker.refresh()
    assert (await worker.recent_events())[0].reason == reason


async def test_a_call_from_before_the_opening_is_not_taken_for_the_probe(team: Team) -> None:
    worker = team.worker()
    worker.started(D.id)
    team.open(worker)
    await worker.refresh()
    team.clock.advance(10)
    assert await worker.admit(D, tokens=0) is None
    worker.started(D.id)
    worker.ended(D.id, CallOutcome(succeeded=True, duration_ms=10_400, ttft_ms=None))
    await worker.refresh()
    assert (await worker.recent_events())[0].reason == "probe_started"
    worker.ended(D.id, CallOutcome(succeeded=True, duration_ms=0.1, ttft_ms=None))
    await worker.refresh()
    assert (await worker.recent_events())[0].reason == "probe_succeeded"


async def test_a_probe_that_was_never_begun_is_given_up(team: Team) -> None:
    one, two = team.worker("w1"), team.worker("w2")
    team.open(one)
    await one.refresh()
    team.clock.advance(10)
    assert await one.admit(D, tokens=0) is None
    for _ in range(5):
        await one.refresh()
        await two.refresh()
        assert await two.admit(D, tokens=0) is not None
        team.clock.advance(1)
    assert await two.admit(D, tokens=0) is None


async def test_a_probe_that_never_ends_is_given_up_after_the_longest_request(team: Team) -> None:
    one, two = team.worker("w1"), team.worker("w2")
    team.open(one)
    await one.refresh()
    team.clock.advance(10)
    assert await one.admit(D, tokens=0) is None
    one.started(D.id)
    for _ in range(99):
        team.clock.advance(3)
        await one.refresh()
        await two.refresh()
        assert await two.admit(D, tokens=0) is not None
    for _ in range(3):
        team.clock.advance(3)
        await one.refresh()
    assert await two.admit(D, tokens=0) is None


@pytest.mark.parametrize("error", [DOWN, ProviderRateLimited("busy", retry_after_s=30)])
async def test_what_the_store_refuses_is_remembered_without_asking_again(team: Team, error: ProviderError) -> None:
    one, two = team.worker("w1"), team.worker("w2")
    for _ in range(4):
        team.call(one, error=error)
    await one.refresh()
    first = await two.admit(LIMITED, tokens=0)
    assert first is not None
    assert two.read()[D.id].cooling_down
    team.store.away = True
    assert await two.admit(LIMITED, tokens=0) == first
    assert not two.is_degraded


# --- cooldowns -------------------------------------------------------------------------------------------------------


async def test_retry_after_cools_one_deployment_here_at_once_and_elsewhere_after_the_exchange(team: Team) -> None:
    one, two = team.worker("w1"), team.worker("w2")
    team.call(one, error=ProviderRateLimited("slow down", retry_after_s=30))
    team.call(one, error=ProviderUnavailable("busy", retry_after_s=5))
    assert one.read()[D.id].returns_in_s == pytest.approx(29.9)
    assert not two.read()
    await one.refresh()
    await two.refresh()
    refusal = await two.admit(D, tokens=0)
    assert refusal is not None
    assert (refusal.reason, refusal.retry_after_s) == (RefusalReason.COOLDOWN, pytest.approx(29.9))
    assert await two.admit(OTHER, tokens=0) is None
    team.clock.advance(29.9)
    assert not two.read()[D.id].cooling_down
    assert await two.admit(D, tokens=0) is None


async def test_a_retry_after_of_a_year_is_believed_for_an_hour(team: Team) -> None:
    worker = team.worker()
    team.call(worker, error=ProviderRateLimited("never", retry_after_s=31_536_000))
    assert worker.read()[D.id].returns_in_s == RULES.max_cooldown_s


def test_the_soonest_return_is_that_of_the_first_suspended_one_that_counts() -> None:
    signals = {
        "a": Signals(cooling_down=True, returns_in_s=9.0),
        "b": Signals(cooling_down=True, returns_in_s=3.0),
        "c": Signals(),
    }
    assert soonest_return_s(signals) == 3.0
    assert soonest_return_s(signals, ["a", "c", "nobody"]) == 9.0
    assert soonest_return_s(signals, ["c"]) is None


# --- quotas ----------------------------------------------------------------------------------------------------------


async def test_a_quota_is_shared_and_its_refusal_is_remembered_without_asking(team: Team) -> None:
    one, two = team.worker("w1"), team.worker("w2")
    answers = [await worker.admit(LIMITED, tokens=0) for worker in (one, two) * 3]
    assert [answer is None for answer in answers] == [True] * 4 + [False] * 2
    team.store.away = True
    refusal = await one.admit(LIMITED, tokens=0)
    assert refusal is not None
    assert refusal.reason is RefusalReason.REQUESTS_QUOTA
    assert not one.is_degraded
    assert not one.read()[D.id].cooling_down


async def test_tokens_not_used_are_given_back(team: Team) -> None:
    one, two = team.worker("w1"), team.worker("w2")
    assert await one.admit(METERED, tokens=900) is None
    refusal = await two.admit(METERED, tokens=200)
    assert refusal is not None
    assert refusal.reason is RefusalReason.TOKENS_QUOTA
    team.call(one, tokens=300, reserved_tokens=900)
    await one.refresh()
    assert await two.admit(METERED, tokens=701) is not None
    assert await two.admit(METERED, tokens=700) is None


async def test_tokens_used_beyond_the_reservation_are_charged(team: Team) -> None:
    worker = team.worker()
    assert await worker.admit(METERED, tokens=100) is None
    team.call(worker, tokens=950, reserved_tokens=100)
    await worker.refresh()
    assert await worker.admit(METERED, tokens=51) is not None
    assert await worker.admit(METERED, tokens=50) is None


# --- without the store -----------------------------------------------------------------------------------------------


async def test_without_the_store_breakers_and_probes_are_the_workers_own(team: Team) -> None:
    worker = team.worker()
    await worker.refresh()
    team.store.away = True
    assert not await worker.refresh()
    team.open(worker)
    assert worker.read()[D.id].cooling_down
    team.clock.advance(10)
    assert await worker.admit(D, tokens=0) is None
    assert await worker.admit(D, tokens=0) is not None
    team.call(worker)
    assert await worker.admit(D, tokens=0) is None
    changes = team.telemetry.events()["breaker_changed"]
    assert [(change["reason"], change["degraded"]) for change in changes] == [
        ("failure_rate", True), ("probe_started", True), ("probe_succeeded", True),
    ]  # fmt: skip


async def test_without_the_store_a_worker_keeps_to_its_share_of_the_quota(team: Team) -> None:
    one, two = team.worker("w1"), team.worker("w2")
    for worker in (one, two, one):
        await worker.refresh()
    assert await one.admit(LIMITED, tokens=0) is None
    team.store.away = True
    answers = [await worker.admit(LIMITED, tokens=0) for worker in (one, one, two, two, two)]
    assert [answer is None for answer in answers] == [True, False, True, True, False]
    assert one.is_degraded
    assert team.telemetry.counted("health_store_away") == 2
    team.store.away = False
    for worker in (one, two):
        assert await worker.refresh()
        assert not worker.is_degraded
    assert "health_store_back" in team.telemetry.events()
    assert await two.admit(LIMITED, tokens=0) is not None, "what was admitted meanwhile counts"


async def test_a_worker_that_never_met_the_store_takes_the_assumed_share(team: Team) -> None:
    worker = team.worker()
    team.store.away = True
    answers = [await worker.admit(replace(D, requests_per_minute=8), tokens=0) for _ in range(3)]
    assert [answer is None for answer in answers] == [True, True, False]


async def test_only_the_first_request_pays_for_a_store_that_is_away(team: Team) -> None:
    asked = []
    admit = team.store.admit

    async def counted(request):
        asked.append(request)
        return await admit(request)

    team.store.admit = counted
    team.store.away = True
    worker = team.worker()
    for _ in range(5):
        await worker.admit(replace(D, requests_per_minute=1000), tokens=0)
    assert len(asked) == 1


async def test_what_was_learnt_alone_is_told_on_return(team: Team) -> None:
    one, two = team.worker("w1"), team.worker("w2")
    await one.refresh()
    await two.refresh()
    team.store.away = True
    await one.refresh()
    team.open(one)
    team.call(one, error=ProviderRateLimited("busy", retry_after_s=20), where=OTHER)
    team.store.away = False
    await one.refresh()
    await two.refresh()
    assert {d for d, signals in two.read().items() if signals.cooling_down} == {D.id, OTHER.id}


async def test_a_store_that_lost_its_memory_is_told_again(team: Team) -> None:
    one, two = team.worker("w1"), team.worker("w2")
    team.open(one)
    team.call(one, error=ProviderRateLimited("busy", retry_after_s=20), where=OTHER)
    for _ in range(3):
        assert await one.admit(replace(LIMITED, id="q"), tokens=0) is None
    one.started("q")
    for worker in (one, two, one):
        await worker.refresh()
    team.store.forget()
    for _ in range(2):
        await two.refresh()
    assert {d for d, s in one.read().items() if s.cooling_down} == {D.id, OTHER.id}
    team.call(one, where=deployment("new"))
    for worker in (one, one, two):
        await worker.refresh()
    assert len(team.telemetry.events()["health_store_forgot"]) == 2
    fresh = team.worker("w3")
    await fresh.refresh()
    for worker in (one, two, fresh):
        assert {d for d, s in worker.read().items() if s.cooling_down} == {D.id, OTHER.id}
        assert worker.read()["q"].in_flight == 1
        assert "new@europe-west4" in worker.read()
    answers = [await fresh.admit(replace(LIMITED, id="q"), tokens=0) for _ in range(2)]
    assert [answer is None for answer in answers] == [True, False]


async def test_calls_and_a_verdict_that_a_forgetful_store_did_not_take_are_told_again(team: Team) -> None:
    worker = team.worker()
    team.open(worker)
    await worker.refresh()
    team.clock.advance(10)
    assert await worker.admit(D, tokens=0) is None
    team.store.forget()
    team.call(worker)
    team.call(worker, where=OTHER, ttft_ms=100.0)
    for _ in range(2):
        await worker.refresh()
    assert await team.worker("w2").admit(D, tokens=0) is None
    shared = await team.store.exchange(replace(worker._report(()), epoch="", since=0))
    assert shared.breakers[OTHER.id].window().calls == 1


async def test_tokens_given_back_across_a_loss_of_memory_are_not_given_back_twice(team: Team) -> None:
    one, two = team.worker("w1"), team.worker("w2")
    await one.refresh()
    assert await one.admit(METERED, tokens=900) is None
    team.store.forget()
    team.call(one, tokens=300, reserved_tokens=900)
    await one.refresh()
    await one.refresh()
    assert await two.admit(METERED, tokens=701) is not None
    assert await two.admit(METERED, tokens=700) is None


# --- the background --------------------------------------------------------------------------------------------------


async def until(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


async def test_the_background_exchanges_survives_everything_and_says_good_bye(team: Team) -> None:
    one, two = team.worker("w1"), team.worker("w2")
    exchange = team.store.exchange
    defects = [RuntimeError("a defect"), DependencyUnavailable("away")]

    async def faulty(report):
        if defects:
            raise defects.pop(0)
        return await exchange(report)

    team.store.exchange = faulty
    one.start()
    two.start()
    try:
        one.started(D.id)
        await until(lambda: D.id in two.read() and two.read()[D.id].in_flight == 1)
        team.call(one, error=ProviderRateLimited("busy", retry_after_s=60), where=OTHER)
        await until(lambda: OTHER.id in two.read() and two.read()[OTHER.id].cooling_down)
        await one.aclose()
        await until(lambda: two.read()[D.id].in_flight == 0)
    finally:
        await one.aclose()
        await two.aclose()
    assert [line["error"] for line in team.telemetry.events()["health_exchange_failed"]] == ["RuntimeError"]


async def test_the_tail_of_latency_needs_enough_calls(team: Team) -> None:
    worker = team.worker()
    assert worker.tail_ms(D.id, to_first_content=True) is None
    for number in range(1, 101):
        team.call(worker, ttft_ms=float(number), duration_ms=10.0 * number)
    assert worker.tail_ms(D.id, to_first_content=True) == 96.0
    assert worker.tail_ms(D.id, to_first_content=False) == 960.0


async def test_breaker_state_is_not_shared_with_the_store_by_reference(team: Team) -> None:
    worker = team.worker()
    team.call(worker)
    await worker.refresh()
    team.open(worker)
    shared = await team.store.exchange(replace(worker._report(()), epoch="", since=0))
    assert shared.breakers[D.id].state is BreakerState.CLOSED


async def test_a_store_that_swallows_the_cancellation_does_not_keep_the_worker_from_closing(team: Team) -> None:
    connecting = asyncio.Event()

    class Swallowing(MemoryHealthStore):
        async def exchange(self, report):
            if not connecting.is_set():
                connecting.set()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
            return await super().exchange(report)

    worker = DeploymentHealth(
        Swallowing(team.clock), HealthRules(), team.clock, team.telemetry, random.Random(1), worker_id="w"
    )
    worker.start()
    await connecting.wait()
    async with asyncio.timeout(30):
        await worker.aclose()
