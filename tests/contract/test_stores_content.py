"""Kept content: what `ContentStore` promises, held by PostgreSQL and by its twin."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from shared.domain.kept_content import SealedContent
from shared.domain.privacy import DataSubject, SubjectKind
from shared.stores.memory_content import MemoryContent
from shared.stores.postgres.kept_content import PostgresContent
from shared.stores.postgres.pool import PostgresPool

NOW = datetime(2026, 11, 5, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
async def pool(postgres_dsn: str) -> AsyncIterator[PostgresPool]:
    pool = PostgresPool(postgres_dsn, max_size=2)
    yield pool
    await pool.aclose()


@pytest.fixture(params=["postgres", "memory"])
async def store(request: pytest.FixtureRequest, pool: PostgresPool) -> Any:
    if request.param == "memory":
        return MemoryContent()
    async with pool.connection(timeout_s=10) as connection:
        await connection.execute(b"TRUNCATE kept_content")
    return PostgresContent(pool)


def rid(number: int) -> str:
    return str(UUID(int=number))


def content(number: int, **changes: Any) -> SealedContent:
    made = SealedContent(
        tenant_id="t1",
        request_id=rid(number),
        service="app",
        principal_id="p1",
        tags=(("team", "search"), ("user", "4711")),
        started_at=NOW,
        expires_at=NOW + timedelta(days=7),
        key_id="v1",
        sealed=b"\x00sealed\xff",
    )
    return replace(made, **changes)


def subject(kind: SubjectKind, value: str, tag: str = "", tenant_id: str = "t1") -> DataSubject:
    return DataSubject(tenant_id, kind, value, tag)


async def test_content_comes_back_as_it_was_for_its_tenant_only(store: Any) -> None:
    await store.put([content(1), content(2, key_id="v2")])
    assert await store.get("t1", rid(1), NOW) == content(1)
    assert await store.get("t2", rid(1), NOW) is None
    assert await store.get("t1", rid(3), NOW) is None


async def test_what_is_there_stays_as_it_is(store: Any) -> None:
    await store.put([content(1)])
    await store.put([content(1, sealed=b"other"), content(2)])
    assert (await store.get("t1", rid(1), NOW)).sealed == content(1).sealed
    assert await store.get("t1", rid(2), NOW) is not None


async def test_nothing_is_given_out_once_it_has_expired_and_a_purge_deletes_it(store: Any) -> None:
    later = NOW + timedelta(days=7)
    await store.put([content(1), content(2, expires_at=later + timedelta(seconds=1))])
    assert await store.get("t1", rid(1), later) is None
    assert await store.of(subject(SubjectKind.SERVICE, "app"), rid(0), 10, later) == [
        content(2, expires_at=later + timedelta(seconds=1))
    ]
    assert await store.purge(later) == 1
    assert await store.purge(later) == 0
    assert await store.get("t1", rid(1), NOW) is None


@pytest.mark.parametrize(
    "whose",
    [
        subject(SubjectKind.PRINCIPAL, "p1"),
        subject(SubjectKind.SERVICE, "app"),
        subject(SubjectKind.TAG, "4711", "user"),
    ],
    ids=str,
)
async def test_a_persons_content_is_found_by_pages_and_forgotten(store: Any, whose: DataSubject) -> None:
    others = content(9, principal_id="p2", service="other", tags=(("user", "4712"),))
    elsewhere = content(1, tenant_id="t2")
    newer = content(8, started_at=NOW + timedelta(hours=1))
    await store.put([*(content(n) for n in (1, 2, 3)), newer, others, elsewhere])
    first = await store.of(whose, "", 2, NOW)
    second = await store.of(whose, first[-1].request_id, 2, NOW)
    assert [found.request_id for found in (*first, *second)] == [rid(1), rid(2), rid(3), rid(8)]
    await store.forget(whose, NOW)
    await store.forget(whose, NOW)
    assert await store.of(whose, "", 10, NOW) == [newer]
    assert await store.get("t1", rid(9), NOW) == others
    assert await store.get("t2", rid(1), NOW) == elsewhere
