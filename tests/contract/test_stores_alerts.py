"""The alert stores: one set of laws for PostgreSQL and its twin."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.domain.alerts import (
    Escalation,
    Filter,
    Incident,
    IncidentQuery,
    IncidentState,
    RuleProgress,
    Silence,
    Standing,
    incident_id,
)
from shared.domain.analytics import Dimension
from shared.domain.errors import Conflict, DependencyUnavailable
from shared.domain.notifications import Notification, Occasion, Severity
from shared.stores.memory_alerts import MemoryAlerts
from shared.stores.postgres.alerts import PostgresAlerts
from shared.stores.postgres.pool import PostgresPool
from shared.stores.system import UuidIds
from tests.alert_world import NOON, TENANT, requests, rule
from tests.rollup_world import RollupWorld

IDS = UuidIds()


@pytest.fixture(scope="module")
async def pool(postgres_dsn):
    pool = PostgresPool(postgres_dsn, max_size=4)
    yield pool
    await pool.aclose()


@pytest.fixture(params=["memory", "postgres"])
async def store(request, pool):
    if request.param == "memory":
        return MemoryAlerts()
    async with pool.connection(timeout_s=10) as connection:
        await connection.execute(
            b"TRUNCATE alert_rules, alert_progress, alert_incidents, alert_silences, notifications"
        )
    return PostgresAlerts(pool)


def incident(group="a", *, at=NOON, **more):
    made = rule()
    whole = {"state": IncidentState.FIRING, "started_at": at, "fired_at": at, "words": "w"} | more
    groups = (("model", group),)
    key = incident_id(made, groups, at)
    return Incident(key, made.tenant_id, made.id, made.name, groups, **whole)


def notification(key="n-1"):
    return Notification(key, TENANT, "ops", Occasion.FIRING, Severity.WARNING, "rule-1", "Errors", "i", "s", NOON, NOON)


async def write(store, *incidents, dropped=(), progress=(), told=()):
    async with store.step(TENANT, NOON) as step:
        await step.write(progress=progress, incidents=incidents, dropped=dropped, notifications=told)


async def state(store):
    async with store.step(TENANT, NOON) as step:
        return step.state


async def test_a_rule_is_kept_as_it_is(store):
    full = rule(
        filters=(Filter(Dimension.MODEL, ("a", "b")),),
        group_by=(Dimension.SERVICE,),
        escalation=Escalation(600, ("boss",)),
        changed_at=NOON,
        changed_by="me",
    )
    assert await store.put_rule(full, most=9)
    assert list(await store.rules(TENANT)) == [full]
    assert list(await store.rules("another")) == []
    assert (await state(store)).rules == (full,)


async def test_a_version_replaces_the_one_before_and_no_other(store):
    first = rule(changed_at=NOON)
    assert await store.put_rule(first, most=9)
    assert not await store.put_rule(first, most=9)
    assert not await store.put_rule(replace(first, version=3), most=9)
    assert await store.put_rule(replace(first, version=2, threshold=0.5), most=9)
    assert [one.threshold for one in await store.rules(TENANT)] == [0.5]
    assert not await store.delete_rule(TENANT, first.id, 1)
    assert not await store.delete_rule("another", first.id, 2)
    assert await store.delete_rule(TENANT, first.id, 2)
    assert not await store.put_rule(replace(first, version=3), most=9)
    assert list(await store.rules(TENANT)) == []


async def test_of_several_who_change_a_version_one_does(store):
    await store.put_rule(rule(changed_at=NOON), most=9)
    changes = [store.put_rule(rule(version=2, threshold=n / 10, changed_at=NOON), most=9) for n in range(1, 6)]
    assert sorted(await asyncio.gather(*changes)) == [False, False, False, False, True]


async def test_names_are_taken_once_and_rules_are_counted(store):
    await store.put_rule(rule(changed_at=NOON), most=2)
    with pytest.raises(Conflict) as refused:
        await store.put_rule(rule(id="other", changed_at=NOON), most=2)
    assert refused.value.param == "name"
    await store.put_rule(rule(id="other", name="Other", changed_at=NOON), most=2)
    with pytest.raises(Conflict):
        await store.put_rule(rule(id="third", name="Third", changed_at=NOON), most=2)
    await store.put_rule(rule(id="third", name="Third", tenant_id="another", changed_at=NOON), most=2)


async def test_a_step_writes_everything_and_the_next_one_finds_it(store):
    pending = incident("b", state=IncidentState.PENDING, fired_at=None)
    progress = RuleProgress("rule-1", NOON, Standing.CURRENT, "")
    await write(store, incident(), pending, progress=[progress], told=[notification()])
    found = await state(store)
    assert sorted(found.incidents, key=lambda one: one.group) == [incident(), pending]
    assert found.progress == {"rule-1": progress}
    stale = RuleProgress("rule-1", NOON, Standing.STALE, "the rollups end")
    done = incident(state=IncidentState.RESOLVED, resolved_at=NOON + timedelta(minutes=5))
    await write(store, done, dropped=[pending.id], progress=[stale])
    found = await state(store)
    assert found.incidents == ()
    assert found.progress == {"rule-1": stale}
    assert list(await store.incidents(IncidentQuery(TENANT))) == [done]
    assert list(await store.progress(TENANT)) == [stale]


async def test_an_incident_may_end_and_the_next_of_its_group_begin_in_one_step(store):
    await write(store, incident())
    done = incident(state=IncidentState.RESOLVED, resolved_at=NOON + timedelta(minutes=5))
    following = incident(at=NOON + timedelta(minutes=5))
    await write(store, following, done)
    assert (await state(store)).incidents == (following,)


async def test_an_acknowledgement_outlives_the_steps(store):
    await write(store, incident())
    at = NOON + timedelta(minutes=1)
    found = await store.acknowledge(incident().id, tenant_id=TENANT, by="me", note="on it", at=at)
    assert (found.acknowledged_by, found.acknowledged_at, found.note) == ("me", at, "on it")
    await write(store, incident(words="later"))
    (one,) = (await state(store)).incidents
    assert (one.words, one.acknowledged_by) == ("later", "me")
    with pytest.raises(Conflict):
        await store.acknowledge(one.id, tenant_id=TENANT, by="you", note="", at=at)
    for key, tenant in ((one.id, "another"), (IDS.request_id(), TENANT), ("x", TENANT)):
        assert await store.acknowledge(key, tenant_id=tenant, by="me", note="", at=at) is None


async def test_what_is_resolved_is_not_acknowledged(store):
    await write(store, incident(state=IncidentState.RESOLVED, resolved_at=NOON))
    with pytest.raises(Conflict):
        await store.acknowledge(incident().id, tenant_id=TENANT, by="me", note="", at=NOON)


async def test_while_one_makes_a_step_nobody_else_does(store):
    async with store.step(TENANT, NOON) as first:
        assert first is not None
        async with store.step(TENANT, NOON) as second:
            assert second is None
        async with store.step("another", NOON) as other:
            assert other is not None
    async with store.step(TENANT, NOON) as again:
        assert again is not None


async def test_incidents_are_read_in_pages_and_by_state(store):
    made = [incident(str(n), at=NOON + timedelta(minutes=n)) for n in range(5)]
    done = [replace(one, state=IncidentState.RESOLVED, resolved_at=NOON) for one in made[:2]]
    await write(store, *made[2:], *done)
    found, before = [], None
    while page := await store.incidents(IncidentQuery(TENANT, before=before, limit=2)):
        found += page
        before = (page[-1].started_at, page[-1].id)
    assert [one.id for one in found] == [one.id for one in reversed(made)]
    firing = IncidentQuery(TENANT, rule_id="rule-1", states=(IncidentState.FIRING,))
    assert len(await store.incidents(firing)) == 3
    assert list(await store.incidents(IncidentQuery(TENANT, rule_id="other"))) == []
    assert list(await store.incidents(IncidentQuery("another"))) == []
    assert list(await store.standing(TENANT)) == [("rule-1", 0, 3, made[-1].fired_at)]


async def test_silences_are_kept_counted_and_ended(store):
    made = [
        Silence(
            IDS.request_id(),
            TENANT,
            NOON,
            NOON + timedelta(hours=n),
            "me",
            "why",
            severity=Severity.CRITICAL,
            labels=(("model", "a"),),
        )
        for n in (1, 2)
    ]
    for one in made:
        await store.put_silence(one, most=2, now=NOON)
    with pytest.raises(Conflict):
        await store.put_silence(replace(made[0], id=IDS.request_id()), most=2, now=NOON)
    assert list(await store.silences(TENANT, after=NOON)) == [made[1], made[0]]
    assert list(await store.silences(TENANT, after=NOON + timedelta(hours=1))) == [made[1]]
    assert (await state(store)).silences == (made[1], made[0])
    assert not await store.delete_silence("another", made[0].id)
    assert not await store.delete_silence(TENANT, "x")
    assert await store.delete_silence(TENANT, made[0].id)
    assert list(await store.silences(TENANT, after=NOON)) == [made[1]]


async def test_tenants_are_those_with_rules_and_open_incidents(store):
    assert list(await store.tenants(NOON)) == []
    await store.put_rule(rule(changed_at=NOON), most=9)
    await store.put_rule(rule(tenant_id="b", changed_at=NOON), most=9)
    await store.delete_rule("b", "rule-1", 1)
    assert list(await store.tenants(NOON)) == [TENANT]
    await write(store, incident())
    await store.delete_rule(TENANT, "rule-1", 1)
    assert list(await store.tenants(NOON)) == [TENANT]


# --- what only PostgreSQL has


async def notified(pool):
    async with pool.connection(timeout_s=10) as connection:
        return await (await connection.execute(b"SELECT id FROM notifications ORDER BY position")).fetchall()


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
async def test_a_step_that_fails_leaves_nothing_not_even_a_notification(store, pool):
    async def failing():
        async with store.step(TENANT, NOON) as step:
            await step.write(progress=[], incidents=[incident()], dropped=[], notifications=[notification()])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await failing()
    assert (await state(store)).incidents == ()
    assert await notified(pool) == []


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
async def test_a_notification_that_is_written_twice_is_there_once(store, pool):
    await write(store, told=[notification(), notification("n-2")])
    await store.notify([notification()])
    assert await notified(pool) == [("n-1",), ("n-2",)]


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
async def test_active_tenants_are_those_with_rollups_of_late(store, pool):
    world = RollupWorld(pool, NOON)
    await world.clear()
    await world.arrive(requests(NOON - timedelta(hours=1), tenant_id="busy"))
    await world.arrive(requests(NOON - timedelta(days=9), tenant_id="idle"))
    await world.roll_up()
    assert list(await store.tenants(NOON - timedelta(days=7))) == ["busy"]


async def test_a_pool_without_a_server_says_so():
    pool = PostgresPool("postgresql://nobody@127.0.0.1:1/none")
    store = PostgresAlerts(pool, deadline_s=0.5)
    with pytest.raises(DependencyUnavailable):
        await store.rules(TENANT)
    await pool.aclose()
