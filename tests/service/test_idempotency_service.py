"""One piece of work for one key: duplicates wait, share, take over or are told to come back. The twin of the store."""

import asyncio

import pytest

from shared.domain.errors import Conflict, DependencyUnavailable, IdempotencyKeyReused
from shared.services.idempotency import MAX_RESULT_BYTES, IdempotencyService, Turn, idempotency_key
from shared.stores.memory import ManualClock
from shared.stores.memory_reuse import MemoryIdempotencyStore
from shared.stores.system import SystemClock
from shared.telemetry import RecordingTelemetry

KEY = idempotency_key("t", "s", "e", key="k", body=b"1")
OTHER = idempotency_key("t", "s", "e", key="k", body=b"2")


async def until(condition):
    async with asyncio.timeout(20):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)


class Desk:
    """Services of several processes on one store."""

    def __init__(self, **changes):
        self.clock = SystemClock()
        self.store = MemoryIdempotencyStore(self.clock)
        self.telemetry = RecordingTelemetry()
        self.service = IdempotencyService(self.store, self.clock, self.telemetry, **changes)

    async def begin(self, owner, key=KEY, patience_s=20.0):
        return await self.service.begin(key, owner, deadline_s=self.clock.monotonic() + patience_s)

    def counted_beats(self):
        """Every extension of a lease. The store's clock stands still, so that none ends by itself."""
        beats, extend = [], self.store.extend
        self.store._clock = ManualClock()

        async def counted(key, owner, lease_s):
            beats.append((owner, lease_s))
            return await extend(key, owner, lease_s)

        self.store.extend = counted
        return beats

    def outcomes(self):
        return [dimensions["outcome"] for name, _, dimensions in self.telemetry.counts if name == "idempotency_keys"]


async def test_duplicates_wait_for_the_first_and_share_its_result():
    desk = Desk()
    turn = await desk.begin("first")
    assert isinstance(turn, Turn)
    waiting = [asyncio.create_task(desk.begin(str(n))) for n in range(5)]
    await asyncio.sleep(0)
    assert await turn.finish(b"result")
    assert await asyncio.gather(*waiting) == [b"result"] * 5
    assert await desk.begin("late") == b"result"


async def test_when_the_first_gives_up_exactly_one_other_tries():
    desk = Desk()
    turn = await desk.begin("first")
    waiting = [asyncio.create_task(desk.begin(str(n))) for n in range(3)]
    await asyncio.sleep(0)
    await turn.give_up()
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    (second,) = done
    await second.result().finish(b"second try")
    results = [task for task in await asyncio.gather(*waiting) if isinstance(task, bytes)]
    assert results == [b"second try"] * 2


async def test_a_duplicate_waits_no_longer_than_its_deadline():
    desk = Desk()
    turn = await desk.begin("first")
    with pytest.raises(Conflict) as told:
        await desk.begin("second", patience_s=0.05)
    assert (told.value.code, told.value.retry_after_s) == ("idempotency_in_progress", 1.0)
    await turn.give_up()


async def test_another_body_under_the_key_is_refused():
    desk = Desk()
    turn = await desk.begin("first")
    with pytest.raises(IdempotencyKeyReused):
        await desk.begin("second", OTHER)
    await turn.finish(b"result")
    with pytest.raises(IdempotencyKeyReused):
        await desk.begin("third", OTHER)


async def test_the_lease_is_extended_as_long_as_the_work_takes_and_no_longer():
    desk = Desk(lease_s=0.05)
    beats = desk.counted_beats()
    turn = await desk.begin("first")
    await until(lambda: len(beats) > 3)
    assert set(beats) == {("first", 0.05)}
    assert await turn.finish(b"result")
    assert turn._beating.cancelled()


async def test_the_work_of_a_dead_process_is_taken_over():
    desk = Desk(lease_s=0.05)
    turn = await desk.begin("first")
    turn._beating.cancel()
    heir = await desk.begin("heir")
    assert isinstance(heir, Turn)
    assert not await turn.finish(b"late")
    await heir.finish(b"result")
    assert await desk.begin("third") == b"result"


async def test_an_owner_who_lost_the_key_stops_asking_for_it():
    desk = Desk(lease_s=0.05)
    turn = await desk.begin("first")
    desk.store._held.clear()
    async with asyncio.timeout(20):
        await turn._beating
    assert "lease_lost" in desk.outcomes()
    assert not await turn.finish(b"result")


async def test_an_absent_store_refuses_or_runs_without_as_the_setting_says():
    refusing, running = Desk(), Desk(refuses_without_store=False)
    for desk in (refusing, running):
        desk.store.away = True
    with pytest.raises(DependencyUnavailable) as told:
        await refusing.begin("first")
    assert told.value.retry_after_s >= 1
    assert await running.begin("first") is None
    assert refusing.outcomes() == running.outcomes() == ["unavailable"]


async def test_a_store_that_leaves_during_the_work_costs_the_result_not_the_answer():
    desk = Desk(lease_s=0.05)
    turn = await desk.begin("first")
    desk.store.away = True
    assert not await turn.finish(b"result")
    await turn.give_up()
    assert "not_kept" in desk.outcomes()


async def test_a_heartbeat_outlives_an_absence():
    desk = Desk(lease_s=0.05)
    beats = desk.counted_beats()
    turn = await desk.begin("first")
    desk.store.away = True
    await until(lambda: len(beats) > 1)
    desk.store.away = False
    assert not turn._beating.done()
    assert await turn.finish(b"result")


async def test_a_result_that_is_too_long_is_not_kept():
    desk = Desk()
    turn = await desk.begin("first")
    assert not await turn.finish(b"x" * (MAX_RESULT_BYTES + 1))
    assert desk.outcomes() == ["ours", "too_large"]


async def test_a_turn_ends_once():
    desk = Desk()
    turn = await desk.begin("first")
    assert await turn.finish(b"result")
    assert not await turn.finish(b"other")
    await turn.give_up()
    assert await desk.begin("second") == b"result"


def test_a_key_tells_nothing_of_what_it_was_made_of():
    assert "secret" not in repr(idempotency_key("t", key="secret", body=b"secret"))
