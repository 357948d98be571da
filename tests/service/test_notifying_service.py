"""The dispatcher: what becomes of notifications whose channels work, fail, hang or are not there."""

import asyncio
import random
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.domain.channels import ChannelKind
from shared.domain.deliveries import TAKEN, DeliveryQuery, DeliveryRules, DeliveryState, Outcome, OutcomeKind
from shared.domain.errors import DependencyUnavailable, NotFound
from shared.domain.notifications import Occasion
from shared.services.notifying import DeliveryDesk, Dispatcher
from shared.stores.memory import ManualClock
from shared.stores.memory_notifications import MemoryDeliveries
from shared.telemetry import RecordingTelemetry
from tests.notification_builders import NOW, channel, notification
from tests.unit.routing_builders import policy

FAILED = Outcome(OutcomeKind.FAILED, "http_500")
REFUSED = Outcome(OutcomeKind.REFUSED, "http_410")


class Sender:
    """Answers by notification id, then by channel; whatever is callable is awaited."""

    def __init__(self):
        self.by_id, self.by_channel, self.sent = {}, {}, []
        self.at_once = self.most_at_once = 0

    async def send(self, to, delivery):
        told = delivery.notification
        self.sent.append(told.id)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0)
            answer = self.by_id.get(told.id) or self.by_channel.get(to.name) or TAKEN
            return await answer() if callable(answer) else answer
        finally:
            self.at_once -= 1


class World:
    def __init__(self, *channels, **rules):
        known = {one.name: one for one in channels or (channel(), channel(name="mail"))}
        self.policy = replace(policy(), channels=known)
        self.store, self.sender = MemoryDeliveries(), Sender()
        self.clock, self.telemetry = ManualClock(NOW), RecordingTelemetry()
        senders = dict.fromkeys(ChannelKind, self.sender)
        self.dispatcher = Dispatcher(
            self.store,
            senders,
            lambda: self.policy,
            self.clock,
            self.telemetry,
            random.Random(1),
            rules=DeliveryRules(**rules),
        )

    async def tell(self, *notifications):
        await self.store.insert(notifications)
        await self.dispatcher.run()

    async def later(self, seconds):
        self.clock.advance(seconds)
        await self.dispatcher.run()

    def state(self, key="n-1"):
        return self.store.by_id[key].state

    def events(self):
        return [line.event for line in self.telemetry.logs]


async def test_what_is_due_is_delivered_once():
    world = World()
    await world.tell(*(notification(n) for n in range(10)))
    await world.dispatcher.run()
    assert sorted(world.sender.sent) == sorted(f"n-{n}" for n in range(10))
    assert {one.state for one in world.store.by_id.values()} == {DeliveryState.SENT}
    assert world.sender.most_at_once <= DeliveryRules().at_once


async def test_resolved_never_overtakes_firing():
    world = World()
    world.sender.by_id["n-1"] = FAILED
    await world.tell(notification(1), notification(1, id="n-2", occasion=Occasion.RESOLVED))
    for _ in range(5):
        await world.later(60)
    assert set(world.sender.sent) == {"n-1"}
    del world.sender.by_id["n-1"]
    await world.later(3600)
    assert world.sender.sent[-2:] == ["n-1", "n-2"]


async def test_pauses_grow_and_the_end_is_told():
    world = World(most_tries=4)
    world.sender.by_channel["ops"] = FAILED
    await world.tell(notification(1))
    waits = []
    while world.state() is DeliveryState.WAITING:
        kept = world.store.by_id["n-1"]
        waits.append((kept.due_at - world.clock.now()).total_seconds())
        await world.later(waits[-1])
    assert len(waits) == 3
    assert waits == sorted(waits)
    dead = world.store.by_id["n-1"]
    assert (dead.state, dead.attempts, dead.last_error) == (DeliveryState.DEAD, 4, "http_500")
    assert world.events() == ["notification_dead"]
    assert [count.name for count in world.telemetry.counts].count("notifications_dead") == 1


async def test_a_receiver_that_asks_for_time_gets_it():
    world = World()
    world.sender.by_channel["ops"] = Outcome(OutcomeKind.FAILED, "http_429", 600.0)
    await world.tell(notification(1))
    assert world.store.by_id["n-1"].due_at >= NOW + timedelta(seconds=600)


async def test_what_would_fail_again_is_dead_at_once():
    world = World()
    world.sender.by_id["n-1"] = REFUSED
    await world.tell(notification(1), notification(2))
    assert (world.state("n-1"), world.state("n-2")) == (DeliveryState.DEAD, DeliveryState.SENT)


async def test_old_news_is_given_up():
    world = World()
    world.sender.by_channel["ops"] = FAILED
    await world.tell(notification(1, created_at=NOW - timedelta(days=2)))
    assert world.state() is DeliveryState.DEAD


async def test_what_is_under_way_is_asked_about_and_does_not_end_the_turn():
    world = World(at_once=1)
    world.sender.by_id["n-1"] = Outcome(OutcomeKind.UNDER_WAY, "email_under_way", 5.0)
    await world.tell(notification(1), notification(2))
    assert (world.state("n-1"), world.state("n-2")) == (DeliveryState.WAITING, DeliveryState.SENT)
    world.sender.by_id["n-1"] = TAKEN
    await world.later(60)
    assert world.state("n-1") is DeliveryState.SENT


async def test_a_channel_that_hangs_holds_up_no_other():
    world = World(attempt_s=0.2)
    never = asyncio.Event()
    world.sender.by_channel["ops"] = never.wait
    await world.tell(*(notification(n) for n in range(8)), notification(9, channel="mail"))
    assert world.state("n-9") is DeliveryState.SENT
    # One round of the bad one, not all of it.
    assert len([key for key in world.sender.sent if key != "n-9"]) == DeliveryRules().at_once
    assert {one.last_error for one in world.store.by_id.values()} == {"", "timeout"}


async def test_no_more_channels_at_once_than_allowed_and_all_get_their_turn():
    channels = [channel(name=f"c-{n}") for n in range(12)]
    world = World(*channels, channels_at_once=2, at_once=3)
    await world.tell(*(notification(f"{n}-{m}", channel=f"c-{n}") for n in range(12) for m in range(5)))
    assert len(world.sender.sent) == 60
    assert world.sender.most_at_once <= 6


@pytest.mark.parametrize("changes", [{"name": "another"}, {"tenants": frozenset({"tenant-b"})}])
async def test_a_channel_that_is_not_there_or_not_the_tenants_gets_nothing(changes):
    world = World(channel(**changes))
    await world.tell(notification(1))
    assert world.sender.sent == []
    assert (world.state(), world.store.by_id["n-1"].last_error) == (DeliveryState.WAITING, "channel_unknown")
    world.policy = replace(world.policy, channels={"ops": channel()})
    await world.later(60)
    assert world.state() is DeliveryState.SENT


def failing(error):
    async def answer():
        raise error

    return answer


async def test_a_vault_that_is_away_and_a_defect_of_one_kind_leave_the_others_alone():
    world = World()
    world.sender.by_id["n-1"] = failing(DependencyUnavailable("the key vault does not answer", retry_after_s=10.0))
    world.sender.by_id["n-2"] = failing(KeyError("canary-4711"))
    await world.tell(notification(1), notification(2), notification(3), notification(4, channel="mail"))
    errors = {key: one.last_error for key, one in world.store.by_id.items()}
    assert errors == {"n-1": "dependency_unavailable", "n-2": "defect", "n-3": "", "n-4": ""}
    assert world.state("n-3") is world.state("n-4") is DeliveryState.SENT
    assert "defect" in world.events()
    assert "canary" not in str(world.telemetry.logs)


async def test_an_outcome_that_could_not_be_kept_is_repeated_with_the_same_id():
    world = World()

    async def lose():
        world.store.away = True
        return TAKEN

    world.sender.by_id["n-1"] = lose
    await world.tell(notification(1))
    assert world.events() == ["notification_outcome_lost"]
    world.store.away = False
    world.sender.by_id["n-1"] = TAKEN
    await world.later(DeliveryRules().lease_s)
    assert world.sender.sent == ["n-1", "n-1"]
    assert world.state() is DeliveryState.SENT


async def test_a_store_that_is_away_fails_the_run():
    world = World()
    world.store.away = True
    with pytest.raises(DependencyUnavailable):
        await world.dispatcher.run()


async def test_an_attempt_that_outlived_its_lease_does_not_undo_what_came_after_it():
    world = World()

    async def slow():
        world.clock.advance(120)
        (second,) = await world.store.claim("tenant-a", "ops", world.clock.now(), lease_s=60, limit=1)
        await world.store.sent(second, world.clock.now())
        return FAILED

    world.sender.by_id["n-1"] = slow
    await world.tell(notification(1))
    assert world.state() is DeliveryState.SENT
    assert world.events() == ["notification_outrun"]


async def test_a_run_takes_nothing_new_when_its_turn_is_over():
    world = World(turn_s=40.0, at_once=1)

    async def slow():
        world.clock.advance(30)
        return TAKEN

    world.sender.by_channel["ops"] = slow
    await world.tell(*(notification(n) for n in range(5)))
    assert len(world.sender.sent) == 2
    await world.dispatcher.run()
    assert len(world.sender.sent) == 4


async def test_logs_and_metrics_hold_neither_words_nor_addresses():
    world = World(channel(url="https://hooks.example/canary-4711"), most_tries=1)
    world.sender.by_channel["ops"] = FAILED
    await world.tell(notification(1, summary="canary-4711", group={"canary-4711": "x"}))
    assert "canary" not in str([world.telemetry.logs, world.telemetry.counts])


async def test_an_admin_sees_deliveries_and_has_dead_ones_tried_again():
    world = World()
    world.sender.by_id["n-1"] = REFUSED
    await world.tell(notification(1))
    desk = DeliveryDesk(world.store, world.clock)
    query = DeliveryQuery("tenant-a", NOW, NOW + timedelta(days=1))
    (shown,) = await desk.page(query)
    assert (shown.state, shown.last_error) == (DeliveryState.DEAD, "http_410")
    with pytest.raises(NotFound):
        await desk.retry("n-1", tenant_id="tenant-b")
    assert (await desk.retry("n-1", tenant_id="tenant-a")).state is DeliveryState.WAITING
    world.sender.by_id.clear()
    await world.dispatcher.run()
    assert world.state() is DeliveryState.SENT
