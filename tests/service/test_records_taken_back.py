"""What becomes of records whose message the spill's queue gave up."""

import pytest

from shared.domain.errors import DependencyUnavailable, InternalError
from tests.service.routing_world import World
from tests.stores_builders import record


@pytest.fixture
def world():
    return World()


async def test_they_are_stored_once_the_ledger_is_there(world):
    left = [record(), record()]
    await world.writer.take_back(left)
    await world.writer.take_back(left)
    assert set(world.store.by_id) == {one.id for one in left}
    assert world.spill.messages == []


async def test_while_the_ledger_is_away_they_are_queued_again_and_lost_never(world):
    left = [record(), record()]
    world.store.away = True
    for _ in range(3):
        await world.writer.take_back(left)
        left = world.spill.take()
    world.store.away = False
    assert await world.writer.insert(left) == 2


async def test_what_neither_takes_stays_with_the_queue(world):
    world.store.away = world.spill.away = True
    with pytest.raises(DependencyUnavailable):
        await world.writer.take_back([record()])


async def test_one_that_the_ledger_refuses_keeps_none_of_the_others_out(world):
    good, bad, late = record(), record(), record()
    insert = world.store.insert

    async def refusing(records):
        if any(one.id == bad.id for one in records):
            raise InternalError("the database refused a value")
        return await insert(records)

    world.store.insert = refusing
    with pytest.raises(InternalError):
        await world.writer.take_back([good, bad, late])
    assert set(world.store.by_id) == {good.id, late.id}
    assert [line["request_id"] for line in world.telemetry.events()["record_refused"]] == [bad.id]
    assert world.spill.messages == []


async def test_a_ledger_that_goes_away_in_between_leaves_the_message_with_the_queue(world):
    good, bad = record(), record()
    insert = world.store.insert

    async def failing(records):
        if len(records) > 1:
            raise InternalError("the database refused a value")
        world.store.away = records[0].id == bad.id
        return await insert(records)

    world.store.insert = failing
    with pytest.raises(DependencyUnavailable):
        await world.writer.take_back([good, bad])
    assert set(world.store.by_id) == {good.id}
