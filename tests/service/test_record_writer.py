"""What becomes of records while the ledger, the queue or the worker is away."""

import asyncio
from dataclasses import replace

import pytest

from shared.domain.errors import (
    DependencyUnavailable,
    InternalError,
)
from shared.domain.records import RequestStatus
from shared.domain.replies import Usage
from tests.service.routing_doubles import HANG, R1, ScriptedProvider, rid
from tests.service.routing_world import A_EU, World


async def test_away_ledger_spills_and_the_consumer_stores_once():
    world = World()
    world.store.away = True
    await world.service.answer(world.order())
    world.writer.start()
    await world.writer.aclose()
    assert world.store.by_id == {}
    world.store.away = False
    spilled = world.spill.take()
    assert await world.writer.insert(spilled) == 1
    assert await world.writer.insert(spilled) == 0
    assert world.machine.pages[0].finished == {}


async def test_when_nothing_takes_a_record_the_journal_keeps_it_for_the_next_process():
    world = World()
    world.store.away = world.spill.away = True
    await world.service.answer(world.order())
    world.writer.start()
    await world.writer.aclose()
    world.journal.die()
    heir = World()
    heir.machine.pages = world.machine.pages
    assert await heir.writer.recover() == 1
    assert heir.store.by_id[R1].status is RequestStatus.SUCCESS
    assert await heir.writer.recover() == 0


async def test_a_worker_that_dies_in_the_call_leaves_an_abandoned_record():
    world = World(ScriptedProvider({A_EU.id: [[HANG]]}))
    task = asyncio.create_task(world.service.answer(world.order()))
    await world.provider.called.wait()
    world.journal.die()
    heir = World()
    heir.machine.pages = world.machine.pages
    await heir.writer.recover()
    left = heir.store.by_id[R1]
    assert left.status is RequestStatus.ABANDONED
    assert left.deployment_used == A_EU.id
    assert left.usage.estimated
    assert left.usage.input_tokens > 0
    assert left.cost_usd > 0
    assert await heir.store.receipts.receipt(R1, tenant_id=left.tenant_id) is not None
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_could_not_be_recorded_is_not_admitted(monkeypatch):
    monkeypatch.setattr("shared.services.recording._MOST_PENDING", 1)
    world = World()
    await world.service.answer(world.order())
    with pytest.raises(DependencyUnavailable):
        await world.service.answer(world.order(request_id=rid(2)))
    assert len(world.provider.calls) == 1


async def test_one_record_that_no_store_takes_does_not_stop_the_others():
    world = World()
    await world.service.answer(world.order(request_id=rid(11)))
    await world.service.answer(world.order(request_id=rid(12)))
    bad = replace(world.journal._own.finished[rid(11)], id=rid(13), usage=Usage())
    refuse = world.store.insert

    async def insert(records):
        if any(record.id == rid(13) for record in records):
            raise InternalError("the database refused a value")
        return await refuse(records)

    world.store.insert = insert
    world.spill.put = insert
    world.writer.finished(bad)
    world.writer.start()
    await world.writer.aclose()
    assert set(world.store.by_id) == {rid(11), rid(12)}
    assert set(world.machine.pages[0].finished) == {rid(13)}
