"""Evidence and scores on the twin and on PostgreSQL, messages on the twin and on Redis."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from shared.analysis.fingerprint import bands
from shared.domain.quality_signals import WAITING, Evidence, Sent, Sign
from shared.domain.records import RequestRecord
from shared.ports import SentMessages
from shared.stores.memory import ManualClock
from shared.stores.memory_quality import MemorySentMessages
from shared.stores.postgres.pool import PostgresPool
from shared.stores.postgres.quality import _CLAIM, _KNOWN, _UPDATE, PostgresQuality
from shared.stores.redis import connect_redis
from shared.stores.redis_sent import RedisSentMessages
from tests.rollup_world import RollupWorld, feedback
from tests.stores_builders import START, record

NOW = START + timedelta(days=1)
SIGNALS = {"quality_score": 0.5, "quality_source": "signals", "quality_signs": "truncated"}
PLAIN = {"quality_score": None, "quality_source": None, "quality_signs": ""}
WINDOW_S = 600.0


def found(one: RequestRecord, **said: Any) -> Evidence:
    return Evidence(one.tenant_id, one.id, one.start_time, NOW, **said)


def verdict(one: RequestRecord, score: float) -> Evidence:
    return found(one, score=score, judge_model="m9", judge_request_id=one.id, rubric="r")


@pytest.fixture(scope="module")
async def pool(postgres_dsn: str) -> AsyncIterator[PostgresPool]:
    pool = PostgresPool(postgres_dsn, max_size=4)
    yield pool
    await pool.aclose()


@pytest.fixture
async def world(pool: PostgresPool) -> RollupWorld:
    world = RollupWorld(pool, NOW)
    await world.clear()
    return world


async def scored(world: RollupWorld, one: RequestRecord) -> tuple[float | None, str | None, str]:
    """What the ledger says of a request's quality; the twin says the same."""
    await world.rollups.join_feedback(world.now)
    await world.settle()
    rows = [await ledger.get(one.id, tenant_id=one.tenant_id) for ledger in (world.ledger, world.twin_ledger)]
    said = [(row.quality_score, row.quality_source, row.quality_signs) for row in rows if row is not None]
    assert said[0] == said[1]
    return said[0]


async def test_the_strongest_source_is_the_score_in_whatever_order_they_come(world: RollupWorld) -> None:
    one = record(**SIGNALS)
    await world.arrive([one])
    assert await scored(world, one) == (0.5, "signals", "truncated")
    await world.rate(feedback(one, score=0.25))
    assert await scored(world, one) == (0.25, "feedback", "truncated")
    await world.find(verdict(one, 0.75))
    assert await scored(world, one) == (0.25, "feedback", "truncated")
    await world.rate(feedback(one, score=0.75, principal_id="q"))
    assert await scored(world, one) == (0.5, "feedback", "truncated")
    other = record(**SIGNALS)
    await world.arrive([other])
    await world.find(verdict(other, 0.75), found(other, sign=Sign.RETRIED))
    assert await scored(world, other) == (0.75, "judge", "retried,truncated")


async def test_evidence_may_come_before_its_record_and_twice(world: RollupWorld) -> None:
    one = record(**PLAIN)
    await world.find(verdict(one, 0.75), verdict(one, 0.25))
    await world.find(verdict(one, 1.0))
    assert await world.settle() == 0
    await world.arrive([one])
    assert await scored(world, one) == (0.75, "judge", "")
    assert await world.settle() == 0


async def test_weak_signs_make_no_score_and_a_score_from_elsewhere_stays(world: RollupWorld) -> None:
    one, other = record(**PLAIN), record(quality_score=0.9, quality_source=None, quality_signs="")
    await world.arrive([one, other])
    await world.find(found(one, sign=Sign.RETRIED), found(other, sign=Sign.RETRIED))
    assert await scored(world, one) == (None, None, "retried")
    assert await scored(world, other) == (0.9, None, "retried")


async def test_another_tenants_request_is_not_touched(world: RollupWorld) -> None:
    one = record(**PLAIN)
    await world.arrive([one])
    await world.find(replace(verdict(one, 0.0), tenant_id="tenant-b"))
    assert await scored(world, one) == (None, None, "")


async def test_what_waited_in_vain_is_forgotten(world: RollupWorld) -> None:
    await world.find(verdict(record(), 0.5))
    assert len(await world.rows_of("quality_pending")) == 1
    async with world.pool.connection(timeout_s=5) as connection:
        await connection.execute(b"UPDATE quality_pending SET noted_at = %s", (NOW - WAITING - timedelta(seconds=1),))
    assert await world.settle() == 0
    assert await world.rows_of("quality_pending") == []


async def test_many_that_settle_at_once_lose_nothing(world: RollupWorld) -> None:
    made = [record(**PLAIN) for _ in range(40)]
    await world.arrive(made)
    stores = [PostgresQuality(world.pool) for _ in range(3)]

    async def settle(store: PostgresQuality, notes: list[Evidence]) -> None:
        for note in notes:
            await store.note([note])
            await store.settle(NOW)

    notes = [found(one, sign=Sign.SCHEMA_INVALID) for one in made] + [verdict(one, 1.0) for one in made]
    await asyncio.gather(*(settle(store, notes[number::3]) for number, store in enumerate(stores)))
    while await stores[0].settle(NOW):
        pass
    rows = [await world.ledger.get(one.id, tenant_id=one.tenant_id) for one in made]
    assert {(r.quality_score, r.quality_source, r.quality_signs) for r in rows if r} == {
        (1.0, "judge", "schema_invalid")
    }


async def test_the_ledger_is_never_read_as_a_whole(world: RollupWorld) -> None:
    one = record(**PLAIN)
    await world.arrive([one])
    keys = ([one.id], [one.start_time], [one.tenant_id])
    async with world.pool.connection(timeout_s=5) as connection, connection.transaction():
        await connection.execute(b"SET LOCAL enable_seqscan = off")  # small tables would be read as a whole
        for statement, values in ((_CLAIM, (500,)), (_KNOWN, keys), (_UPDATE, (*keys[:2], [1.0], ["judge"], [""]))):
            plan = await (await connection.execute(b"EXPLAIN " + statement, values)).fetchall()
            lines = [line for (line,) in plan]
            assert any("on requests" in line for line in lines)
            assert not any("Seq Scan on requests" in line for line in lines), lines


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with connect_redis(redis_url) as client:
        await client.flushdb()
        yield client


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture(params=["memory", "redis"])
def messages(request: pytest.FixtureRequest, clock: ManualClock) -> SentMessages:
    if request.param == "memory":
        return MemorySentMessages(clock, window_s=WINDOW_S)
    return RedisSentMessages(request.getfixturevalue("redis"), clock, window_s=WINDOW_S, timeout_s=5)


def message(fingerprint: int, *, whose: str = "w", at_s: float = 0.0) -> Sent:
    one = record()
    start = START + timedelta(seconds=at_s)
    return Sent(whose, fingerprint, one.tenant_id, one.id, start, start + timedelta(seconds=1))


async def test_the_last_near_message_of_the_same_sender_is_found(messages: SentMessages) -> None:
    first, second, third = message(0xABCDEF), message(0xABCDEE, at_s=5), message(0xABCDEF, at_s=10)
    assert await messages.seen([first, message(0xABCDEF, whose="v")]) == [None, None]
    assert await messages.seen([second, message(0x123456789)]) == [first, None]
    assert await messages.seen([third]) == [second]


async def test_what_differs_by_more_bits_is_another_message(messages: SentMessages) -> None:
    assert await messages.seen([message(0)]) == [None]
    assert await messages.seen([message(0b1111)]) == [None]


async def test_messages_are_forgotten(messages: SentMessages, clock: ManualClock) -> None:
    await messages.seen([message(7)])
    clock.advance(2 * WINDOW_S)
    assert await messages.seen([message(7)]) == [None]


async def test_redis_is_told_nothing_but_hashes_and_forgets_them_by_itself(redis: Redis, clock: ManualClock) -> None:
    one = message(7)
    await RedisSentMessages(redis, clock, window_s=WINDOW_S, timeout_s=5).seen([one])
    (key,) = [key async for key in redis.scan_iter()]
    assert 0 < await redis.ttl(key) <= 2 * WINDOW_S + 1
    fields = await redis.hgetall(key)
    assert sorted(fields) == sorted(band.encode() for band in bands(7))
    assert {value.split()[1].decode() for value in fields.values()} == {one.request_id}


async def test_one_sender_takes_no_more_room_than_he_may(
    redis: Redis, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.stores.redis_sent.MOST_FIELDS", 8)
    store = RedisSentMessages(redis, clock, window_s=WINDOW_S, timeout_s=5)
    for number in range(1, 10):
        await store.seen([message(number * 0x1111_2222_3333_4444 & (2**64 - 1))])
    (key,) = [key async for key in redis.scan_iter()]
    assert await redis.hlen(key) <= 8 + 3
