"""Notifications that wait: what `DeliveryStore` promises, held by PostgreSQL and by its twin."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from shared.domain.deliveries import DeliveryQuery, DeliveryState
from shared.domain.errors import Conflict, DependencyUnavailable
from shared.domain.notifications import Occasion
from shared.domain.retention import RetentionClass
from shared.stores.memory_notifications import MemoryDeliveries
from shared.stores.postgres.notifications import PostgresDeliveries, insert_notifications
from shared.stores.postgres.pool import PostgresPool
from shared.stores.postgres.retention import PostgresRetention
from tests.notification_builders import NOW, notification

LATER = NOW + timedelta(minutes=1)


@pytest.fixture(scope="module")
async def pool(postgres_dsn):
    pool = PostgresPool(postgres_dsn, max_size=6)
    yield pool
    await pool.aclose()


@pytest.fixture(params=["postgres", "memory"])
async def store(request, pool):
    if request.param == "memory":
        return MemoryDeliveries()
    async with pool.connection(timeout_s=5) as connection:
        await connection.execute("DELETE FROM notifications")
    return PostgresDeliveries(pool)


async def claim(store, now=NOW, *, channel="ops", limit=10, lease_s=60.0):
    return await store.claim("tenant-a", channel, now, lease_s=lease_s, limit=limit)


def ids(deliveries):
    return [one.notification.id for one in deliveries]


def everything(tenant_id="tenant-a", **fields):
    return DeliveryQuery(tenant_id, NOW - timedelta(days=1), NOW + timedelta(days=1), **fields)


async def test_what_was_written_comes_back_whole(store):
    told = notification(value=None, threshold=None, group={}, resolved_at=LATER, occasion=Occasion.RESOLVED)
    await store.insert([notification(2), told])
    found = {one.notification.id: one.notification for one in await store.page(everything())}
    assert found == {"n-1": told, "n-2": notification(2)}


async def test_writing_again_changes_nothing(store):
    await store.insert([notification(1)])
    (one,) = await claim(store)
    await store.sent(one, NOW)
    await store.insert([notification(1, summary="another"), notification(2)])
    assert ids(await claim(store)) == ["n-2"]
    (first,) = await store.page(everything(state=DeliveryState.SENT))
    assert first.notification == notification(1)


async def test_nothing_is_due_before_it_was_decided_on(store):
    await store.insert([notification(1, created_at=LATER)])
    assert await store.due_channels(NOW) == []
    assert await claim(store) == []
    assert await store.due_channels(LATER) == [("tenant-a", "ops")]
    assert ids(await claim(store, LATER)) == ["n-1"]


async def test_a_lease_keeps_others_away_until_it_ends(store):
    await store.insert([notification(1)])
    (first,) = await claim(store)
    assert (first.attempts, first.due_at) == (1, NOW + timedelta(seconds=60))
    assert await claim(store, NOW + timedelta(seconds=59)) == []
    assert await store.due_channels(NOW + timedelta(seconds=59)) == []
    (second,) = await claim(store, NOW + timedelta(seconds=60))
    assert second.attempts == 2


async def test_only_the_newest_attempt_may_say_what_came_of_it(store):
    await store.insert([notification(1)])
    (first,) = await claim(store)
    (second,) = await claim(store, LATER)
    assert not await store.sent(first, LATER)
    assert not await store.failed(first, "timeout", due_at=LATER)
    assert not await store.died(first, "timeout", LATER)
    assert await store.sent(second, LATER)
    assert not await store.sent(second, LATER)
    (kept,) = await store.page(everything())
    assert (kept.state, kept.ended_at, kept.last_error) == (DeliveryState.SENT, LATER, "")


async def test_a_failed_attempt_is_due_again_when_it_was_said(store):
    await store.insert([notification(1)])
    (one,) = await claim(store)
    assert await store.failed(one, "http_500", due_at=LATER)
    (kept,) = await store.page(everything())
    assert (kept.state, kept.due_at, kept.last_error) == (DeliveryState.WAITING, LATER, "http_500")
    assert await claim(store, LATER - timedelta(seconds=1)) == []
    (again,) = await claim(store, LATER)
    assert await store.sent(again, LATER)
    (sent,) = await store.page(everything())
    assert sent.last_error == "http_500"


async def test_of_an_incident_the_next_waits_until_the_one_ahead_has_ended(store):
    firing, resolved = notification(1), notification(1, id="n-0", occasion=Occasion.RESOLVED)
    await store.insert([firing, resolved, notification(3)])
    claimed = await claim(store)
    assert set(ids(claimed)) == {"n-1", "n-3"}
    head = next(one for one in claimed if one.notification.id == "n-1")
    assert await claim(store) == []
    await store.failed(head, "http_500", due_at=LATER)
    assert await claim(store) == []
    again = await claim(store, LATER)
    head = next(one for one in again if one.notification.id == "n-1")
    await store.died(head, "http_500", LATER)
    assert ids(await claim(store, LATER)) == ["n-0"]


async def test_the_order_of_one_incident_is_kept_for_each_channel(store):
    await store.insert([notification(1), notification(1, id="b", channel="b"), notification(1, id="c", tenant_id="t")])
    assert ids(await claim(store)) == ["n-1"]
    assert ids(await claim(store, channel="b")) == ["b"]
    assert sorted(await store.due_channels(NOW)) == [("t", "ops")]


async def test_the_longest_waiting_go_first_and_no_more_than_asked_for(store):
    early = NOW - timedelta(minutes=5)
    await store.insert([notification(n) for n in range(1, 6)])
    await store.insert([notification(9, created_at=early)])
    assert ids(await claim(store, limit=1)) == ["n-9"]
    assert len(await claim(store, limit=3)) == 3
    assert len(await claim(store, limit=3)) == 2


async def dead(store, *numbers):
    for one in await claim(store):
        if one.notification.id in {f"n-{number}" for number in numbers}:
            await store.died(one, "http_410", NOW)


async def test_a_dead_one_lives_again_with_all_its_attempts(store):
    await store.insert([notification(1), notification(2)])
    await dead(store, 1)
    revived = await store.revive("n-1", LATER, tenant_id="tenant-a")
    assert (revived.state, revived.due_at, revived.queued_at) == (DeliveryState.WAITING, LATER, LATER)
    assert (revived.attempts, revived.tries, revived.ended_at) == (1, 0, None)
    (again,) = [one for one in await claim(store, LATER) if one.notification.id == "n-1"]
    assert (again.attempts, again.tries) == (2, 1)


async def test_only_a_dead_one_of_the_tenants_own_can_be_revived(store):
    await store.insert([notification(1), notification(2)])
    await dead(store, 1)
    assert await store.revive("n-1", NOW, tenant_id="tenant-b") is None
    assert await store.revive("n-7", NOW, tenant_id="tenant-a") is None
    with pytest.raises(Conflict, match="dead"):
        await store.revive("n-2", NOW, tenant_id="tenant-a")


async def test_a_dead_one_is_not_revived_once_a_later_one_was_tried(store):
    await store.insert([notification(1), notification(1, id="n-2", occasion=Occasion.RESOLVED)])
    await dead(store, 1)
    await store.revive("n-1", NOW, tenant_id="tenant-a")
    await dead(store, 1)
    assert ids(await claim(store)) == ["n-2"]
    with pytest.raises(Conflict, match="later"):
        await store.revive("n-1", NOW, tenant_id="tenant-a")


async def test_pages_are_of_one_tenant_newest_first_and_filtered(store):
    await store.insert([notification(n, created_at=NOW + timedelta(seconds=n)) for n in range(1, 6)])
    await store.insert([notification(8, tenant_id="tenant-b"), notification(9, channel="mail")])
    assert ids(await store.page(everything())) == ["n-5", "n-4", "n-3", "n-2", "n-1", "n-9"]
    first = await store.page(everything(limit=2))
    last = first[-1].notification
    assert ids(await store.page(everything(limit=2, before=(last.created_at, last.id)))) == ["n-3", "n-2"]
    assert ids(await store.page(everything(channel="mail"))) == ["n-9"]
    assert ids(await store.page(everything(incident_id="i-4"))) == ["n-4"]
    assert ids(await store.page(everything("tenant-b"))) == ["n-8"]
    assert ids(await store.page(everything(state=DeliveryState.DEAD))) == []
    assert ids(await store.page(replace(everything(), until=NOW + timedelta(seconds=1)))) == ["n-9"]


async def test_signs_that_the_database_does_not_hold_are_replaced(pool):
    store = PostgresDeliveries(pool)
    await store.insert([notification("x", summary="a\0b\ud800c", group={"mo\0del": "\0"})])
    (kept,) = await store.page(everything(incident_id="i-x"))
    assert kept.notification.summary == "a\ufffdb\ufffdc"
    assert kept.notification.group == {"mo\ufffddel": "\ufffd"}


async def test_notifications_are_written_with_what_they_tell_of_or_not_at_all(pool):
    async with pool.connection(timeout_s=5) as connection, connection.transaction(force_rollback=True):
        await insert_notifications(connection, [notification("gone")])
    async with pool.connection(timeout_s=5) as connection, connection.transaction():
        await insert_notifications(connection, [])
        await insert_notifications(connection, [notification("kept")])
    store = PostgresDeliveries(pool)
    assert ids(await store.page(everything(incident_id="i-gone"))) == []
    assert ids(await store.page(everything(incident_id="i-kept"))) == ["n-kept"]


async def test_claims_at_once_never_take_the_same_row(pool):
    store = PostgresDeliveries(pool)
    await store.insert([notification(f"race-{n}", channel="race") for n in range(200)])
    taken = []

    async def take():
        while claimed := await claim(store, channel="race", limit=7):
            taken.extend(ids(claimed))

    await asyncio.gather(*(take() for _ in range(6)))
    assert len(taken) == len(set(taken)) == 200


async def test_old_ones_that_have_ended_leave_with_the_other_events(pool):
    store = PostgresDeliveries(pool)
    old = NOW - timedelta(days=500)
    await store.insert([notification(f"old-{n}", channel="old", created_at=old) for n in (1, 2)])
    (one, _) = await claim(store, channel="old")
    await store.died(one, "http_410", NOW)
    query = DeliveryQuery("tenant-a", old, NOW, channel="old")
    assert len(await store.page(query)) == 2
    await PostgresRetention(pool).drop(RetentionClass.EVENTS, NOW - timedelta(days=400))
    assert [kept.state for kept in await store.page(query)] == [DeliveryState.WAITING]


async def test_a_claim_reads_by_an_index(pool, postgres_dsn):
    store = PostgresDeliveries(pool)
    sent = [notification(f"bulk-{n}", channel="bulk", created_at=NOW - timedelta(days=9)) for n in range(3000)]
    await store.insert(sent)
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("UPDATE notifications SET state = 'sent' WHERE channel = 'bulk'")
        connection.execute("ANALYZE notifications")
        plan = connection.execute(
            "EXPLAIN SELECT id FROM notifications AS mine WHERE tenant_id = 'tenant-a' AND channel = 'bulk' "
            "AND state = 'waiting' AND due_at <= now() ORDER BY due_at, position LIMIT 4"
        ).fetchall()
    assert "notifications_due" in str(plan)


async def test_a_database_that_is_away_says_so():
    pool = PostgresPool("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(DependencyUnavailable):
        await PostgresDeliveries(pool, deadline_s=1.0).due_channels(NOW)
    await pool.aclose()
    store = MemoryDeliveries()
    store.away = True
    with pytest.raises(DependencyUnavailable):
        await store.due_channels(NOW)
