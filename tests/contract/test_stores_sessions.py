"""Sessions and failed sign-ins: what their ports promise, held by Azure Tables, by Redis and by their twins."""

import asyncio
import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from shared.domain.errors import Conflict, DependencyUnavailable
from shared.domain.identity import RouterRole
from shared.domain.sessions import SessionFamily
from shared.stores.login_guard import MemoryLoginGuard, RedisLoginGuard
from shared.stores.redis import connect_redis
from shared.stores.session_families import MemorySessionFamilies, TableSessionFamilies
from shared.stores.system import SystemClock
from shared.stores.tables import open_table

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def family(**changes):
    known = SessionFamily(
        id=uuid4().hex,
        tenant_id="tenant-1",
        principal_id="p-1",
        service="shop",
        roles=(RouterRole.ANALYST, RouterRole.SERVICE),
        current="a" * 64,
        rotated_at=NOW,
        expires_at=NOW + timedelta(hours=12),
    )
    return replace(known, **changes)


@pytest.fixture(params=["table", "memory"])
async def families(request):
    if request.param == "memory":
        yield MemorySessionFamilies()
        return
    azurite = request.getfixturevalue("azurite")
    table = open_table(f"sessions{uuid4().hex}", connection_string=azurite.connection_string)
    store = TableSessionFamilies(table)
    yield store
    await store.aclose()


async def test_a_session_is_read_back_as_it_was(families):
    kept = family(spent=tuple(f"{n:064x}" for n in range(200)))
    await families.create(kept)
    found, _ = await families.get(kept.id)
    assert found == kept
    assert await families.get(uuid4().hex) is None


async def test_only_the_version_that_was_read_is_replaced(families):
    kept = family()
    await families.create(kept)
    _, etag = await families.get(kept.id)
    await families.replace(replace(kept, current="b" * 64), etag)
    with pytest.raises(Conflict):
        await families.replace(replace(kept, current="c" * 64), etag)
    assert (await families.get(kept.id))[0].current == "b" * 64
    with pytest.raises(Conflict):
        await families.replace(family(), etag)


async def test_of_many_writers_one_wins(families):
    kept = family()
    await families.create(kept)
    _, etag = await families.get(kept.id)
    outcomes = await asyncio.gather(
        *(families.replace(replace(kept, current=f"{n:064x}"), etag) for n in range(8)), return_exceptions=True
    )
    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 7


async def test_ended_sessions_are_swept_and_others_stay(families):
    assert await families.sweep(NOW) == 0
    ended, running = family(expires_at=NOW - timedelta(seconds=1)), family()
    await families.create(ended)
    await families.create(running)
    assert await families.sweep(NOW) == 1
    assert await families.get(ended.id) is None
    assert await families.get(running.id) is not None


async def test_a_stopped_table_service_is_an_unavailable_dependency(azurite):
    store = TableSessionFamilies(
        open_table(f"sessions{uuid4().hex}", connection_string=azurite.connection_string), deadline_s=0.5
    )
    azurite.freeze()
    try:
        for call in (store.create(family()), store.get("ab"), store.replace(family(), "*")):
            with pytest.raises(DependencyUnavailable):
                await call
    finally:
        azurite.thaw()
        await store.aclose()


@pytest.mark.parametrize("options", [{}, {"account_name": "acc"}])
def test_a_table_needs_to_know_where_it_is(options):
    with pytest.raises(ValueError, match="connection string, or an account name"):
        open_table("sessions", **options)


@pytest.fixture(params=["redis", "memory"])
async def guard(request):
    if request.param == "memory":
        yield MemoryLoginGuard()
        return
    redis = connect_redis(request.getfixturevalue("redis_url"))
    yield RedisLoginGuard(redis, SystemClock())
    await redis.aclose()


def keys(address="203.0.113.7"):
    client = uuid4().hex
    return (f"client:{client}:{address}", f"address:{uuid4().hex}", f"client:{client}")


async def test_a_few_failures_are_free_and_then_each_locks_for_longer(guard):
    mine = keys()
    for _ in range(5):
        await guard.failed(mine)
        assert await guard.locked_s(mine) <= 0
    locks = []
    for _ in range(4):
        await guard.failed(mine)
        locks.append(await guard.locked_s(mine))
    assert 0 < locks[0] <= 1
    assert all(later > earlier for earlier, later in itertools.pairwise(locks))
    assert await guard.locked_s(mine[1:]) <= 0


async def test_no_lock_is_longer_than_a_quarter_of_an_hour(guard):
    mine = keys()
    for _ in range(40):
        await guard.failed(mine[:1])
    assert 800 < await guard.locked_s(mine) <= 900


async def test_a_success_forgets_the_particular_key_only(guard):
    mine = keys()
    for _ in range(21):
        await guard.failed(mine)
    await guard.succeeded(mine)
    assert await guard.locked_s(mine[:1]) <= 0
    assert await guard.locked_s(mine[1:2]) > 0


async def test_failures_count_for_all_workers(redis_url):
    one, other = connect_redis(redis_url), connect_redis(redis_url)
    mine = keys()
    for _ in range(3):
        await RedisLoginGuard(one, SystemClock()).failed(mine)
        await RedisLoginGuard(other, SystemClock()).failed(mine)
    assert await RedisLoginGuard(other, SystemClock()).locked_s(mine) > 0
    await one.aclose()
    await other.aclose()


async def test_while_redis_is_away_a_worker_counts_its_own(redis_server, redis_url):
    redis = connect_redis(redis_url, timeout_s=0.05)
    guard, mine = RedisLoginGuard(redis, SystemClock()), keys()
    redis_server.freeze()
    try:
        for _ in range(6):
            await guard.failed(mine)
        assert await guard.locked_s(mine) > 0
        await guard.succeeded(mine)
        assert await guard.locked_s(mine) <= 0
    finally:
        redis_server.thaw()
        await redis.aclose()
