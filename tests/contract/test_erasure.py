"""Export and erasure on the real stores: nothing of a person is left, chains hold, and no kill changes what comes out."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from shared.domain.audit import AuditEvent, AuditOutcome, AuditQuery
from shared.domain.errors import DependencyUnavailable, InvalidRequest
from shared.domain.identity import Principal, RouterRole
from shared.domain.privacy import SETTLING, STANDING, DataSubject, ErasureState, SubjectKind
from shared.domain.receipts import check_section
from shared.domain.sessions import SessionFamily
from shared.services.answer_keys import tenant_prefix
from shared.services.audit import AuditTrail
from shared.services.erased_on_arrival import ErasedOnArrival
from shared.services.personal_stores import AnswersOfPersons, AuditOfPersons, SessionsOfPersons
from shared.services.privacy import ACTION, PrivacyService
from shared.stores.audit import TableAuditStore
from shared.stores.memory import ManualClock
from shared.stores.postgres.erasures import PostgresErasures
from shared.stores.postgres.personal import PostgresEventsOfPersons, PostgresLedgerOfPersons
from shared.stores.postgres.pool import PostgresPool
from shared.stores.postgres.receipts import PostgresReceiptStore
from shared.stores.postgres.records import PostgresRecordStore
from shared.stores.postgres.security_events import PostgresSecurityEvents
from shared.stores.postgres.threats import PostgresThreats
from shared.stores.redis import connect_redis
from shared.stores.redis_answers import RedisAnswerCache
from shared.stores.session_families import TableSessionFamilies
from shared.stores.tables import open_table
from shared.telemetry.recording import RecordingTelemetry
from tests.security_builders import NOON, erasure_of, event, sighting
from tests.security_builders import subject as subject_of
from tests.stores_builders import IDS, record

ADMIN = Principal("admin-1", "t", "console", frozenset({RouterRole.ADMIN}))
WHO, TAG_VALUE = "person-4711", "alice@example.test"
DAYS = (40, 3, 0)
RECEIPT = '{"digest":"00","note":"%s","v":1}'


@dataclass
class World:
    """Every store of the router, in a tenant that nobody else uses."""

    pool: PostgresPool
    trails: TableAuditStore
    families: TableSessionFamilies
    redis: Redis
    tenant: str
    writer: str

    def __post_init__(self) -> None:
        self.clock, self.telemetry = ManualClock(NOON), RecordingTelemetry()
        self.erasures = PostgresErasures(self.pool)
        self.records = ErasedOnArrival(
            PostgresRecordStore(self.pool, writer=self.writer), self.erasures, self.clock, self.telemetry
        )
        self.trail = AuditTrail(self.trails, self.clock, self.telemetry, writer=self.writer)
        self.cache = RedisAnswerCache(self.redis, self.clock)
        self.stores = [
            PostgresLedgerOfPersons(self.pool, self.clock),
            PostgresEventsOfPersons(self.pool),
            AuditOfPersons(self.trails, self.clock),
            SessionsOfPersons(self.families),
            AnswersOfPersons(self.cache),
        ]
        self.privacy = self.service(self.stores, self.erasures)

    def service(self, stores: Any, erasures: Any) -> PrivacyService:
        return PrivacyService(stores, erasures, self.trail, self.clock, IDS, self.telemetry)

    def subject(self, kind: SubjectKind = SubjectKind.PRINCIPAL) -> DataSubject:
        value, tag = {"principal": (WHO, ""), "tag": (TAG_VALUE, "user"), "service": ("shop-of-alice", "")}[kind]
        return subject_of(value, kind, tenant_id=self.tenant, tag=tag)

    def record(self, days: int = 0, *, theirs: bool = True, **changes: Any) -> Any:
        at = NOON - timedelta(days=days, seconds=30)
        values: dict[str, Any] = {
            "tenant_id": self.tenant,
            "principal_id": WHO if theirs else "p-2",
            "service_name": "shop-of-alice" if theirs else "other-shop",
            "tags": (("user", TAG_VALUE if theirs else "bob"), ("team", "x")),
            "start_time": at,
            "end_time": at,
            "error_message": f"failed for {WHO}" if theirs else None,
            "trace_id": "0af7651916cd43dd8448eb211c80319c",
            "receipt": RECEIPT % (TAG_VALUE if theirs else "bob"),
            "budget_accounts": (f"per-user/2026-11/{TAG_VALUE}",) if theirs else (),
        }
        return record(**values | changes)

    async def lived(self) -> None:
        """What a person leaves behind, and another one."""
        rows = [self.record(days, theirs=theirs) for days in DAYS for theirs in (True, False, True)]
        await self.records.insert(rows)
        events = [
            event(-60, tenant_id=self.tenant, actor=actor, service=service)
            for actor, service in ((WHO, "shop-of-alice"), ("p-2", "other-shop"))
        ]
        seen = [sighting(tenant_id=self.tenant, principal_id=WHO, service="shop-of-alice")]
        await PostgresSecurityEvents(self.pool).insert(events, seen)
        threats = PostgresThreats(self.pool)
        await threats.add_up(NOON)
        for days, actor in ((2, WHO), (0, WHO), (0, "p-2")):
            await self.deed(actor, NOON - timedelta(days=days, minutes=5))
        for number, owner in enumerate((WHO, WHO, "p-2")):
            await self.families.create(
                SessionFamily(
                    id=uuid4().hex,
                    tenant_id=self.tenant,
                    principal_id=owner,
                    service="shop-of-alice" if owner == WHO else "other-shop",
                    roles=(RouterRole.SERVICE,),
                    current="c" * 64,
                    spent=("s" * 64,) * number,
                    rotated_at=NOON,
                    expires_at=NOON + timedelta(hours=12),
                )
            )
        await self.cache.keep(f"{tenant_prefix(self.tenant)}one", f"for {WHO}".encode(), ttl_s=600)
        await self.cache.keep(f"{tenant_prefix('another')}one", b"another tenant's", ttl_s=600)

    async def deed(self, actor: str, at: datetime) -> None:
        service = "shop-of-alice" if actor == WHO else "other-shop"
        one = AuditEvent(
            IDS.request_id(), at, self.tenant, actor, service, "config.write", "policy", AuditOutcome.SUCCEEDED, "r",
            network="203.0.113.0/24", user_agent="0123456789abcdef",
        )  # fmt: skip
        self.clock, before = ManualClock(at), self.clock
        self.trail._clock = self.clock
        await self.trail.record(one)
        self.trail._clock = self.clock = before

    async def erased(self, subject: DataSubject) -> Any:
        order = await self.privacy.erase(subject, ADMIN)
        self.clock.advance(SETTLING.total_seconds())
        assert await self.privacy.work() == 1
        return (await self.privacy.show(order.id, tenant_id=self.tenant)).order

    async def everything(self) -> str:
        """All of the tenant that any store holds, as one text."""
        texts = []
        async with self.pool.connection(timeout_s=10) as connection:
            tables = await connection.execute(
                "SELECT table_name FROM information_schema.columns WHERE table_schema = 'public' "
                "AND column_name = 'tenant_id' AND table_name !~ '_[0-9]{4}_[0-9]{2}$|_default$'"
            )
            for (table,) in await tables.fetchall():
                rows = await connection.execute(
                    f"SELECT to_jsonb(t)::text FROM {table} AS t WHERE tenant_id = %s",  # noqa: S608 - from the catalogue
                    (self.tenant,),
                )
                texts += [f"{table} {text}" for (text,) in await rows.fetchall()]
        for table in (self.trails._table, self.families._table):
            texts += [str(dict(entity)) async for entity in table.list_entities()]
        async for key in self.redis.scan_iter(match=f"{tenant_prefix(self.tenant)}*"):
            texts.append(f"{key} {await self.redis.get(key)}")
        return "\n".join(texts)


@pytest.fixture
async def world(postgres_dsn: str, azurite: Any, redis_url: str) -> AsyncIterator[World]:
    pool = PostgresPool(postgres_dsn)
    tables = [open_table(f"t{uuid4().hex}", connection_string=azurite.connection_string) for _ in range(2)]
    redis = connect_redis(redis_url)
    made = World(
        pool, TableAuditStore(tables[0]), TableSessionFamilies(tables[1]), redis, IDS.request_id(), IDS.request_id()
    )
    yield made
    await made.trail.aclose()
    await made.trails.aclose()
    await made.families.aclose()
    await redis.aclose()
    await pool.aclose()


KINDS = {SubjectKind.PRINCIPAL: [WHO], SubjectKind.TAG: [TAG_VALUE], SubjectKind.SERVICE: ["shop-of-alice"]}


@pytest.mark.parametrize("kind", list(SubjectKind))
async def test_nothing_of_a_person_is_left_in_any_store(world: World, kind: SubjectKind) -> None:
    await world.lived()
    before = await world.everything()
    order = await world.erased(world.subject(kind))
    after = await world.everything()
    for word in KINDS[kind]:
        assert word in before
        left = [line for line in after.splitlines() if word in line]
        # Sums of budgets stay until their period and its retention are over: the certificate says so.
        assert [line for line in left if not line.startswith("budget_spend ")] == []
    assert order.state is ErasureState.COMPLETED
    assert order.subject is None


async def test_others_and_money_stay_as_they_were(world: World) -> None:
    await world.lived()
    totals = "SELECT count(*), sum(cost_exact), sum(token_count), sum(cost_exact) FILTER (WHERE principal_id = 'p-2') "
    async with world.pool.connection(timeout_s=5) as connection:
        query = f"{totals} FROM requests WHERE tenant_id = %s"
        before = await (await connection.execute(query, (world.tenant,))).fetchone()
    others = [line for line in (await world.everything()).splitlines() if "p-2" in line or "other-shop" in line]
    await world.erased(world.subject())
    async with world.pool.connection(timeout_s=5) as connection:
        assert await (await connection.execute(query, (world.tenant,))).fetchone() == before
        attempts = await connection.execute("SELECT count(*) FROM attempts WHERE tenant_id = %s", (world.tenant,))
        assert await attempts.fetchone() == (2 * 3 * len(DAYS),)
    after = (await world.everything()).splitlines()
    assert [line for line in others if line not in after and "0123456789abcdef" not in line] == []


async def test_receipts_say_erased_instead_of_broken_and_others_still_verify(world: World) -> None:
    await world.lived()
    mine, other = world.record(), world.record(theirs=False)
    await world.records.insert([mine, other])
    order = await world.erased(world.subject())
    store = PostgresReceiptStore(world.pool)
    for one, is_erased in ((mine, True), (other, False)):
        row = await store.receipt(one.id, tenant_id=world.tenant)
        assert row is not None
        section = await store.section(row.chain, first=1, last=100)
        check = check_section(row, section, first=1, last=100)
        assert (check.intact, check.reasons) == (True, ())
        assert (row.sequence in check.erased) is is_erased
        assert len(section.rows) == section.head.sequence  # type: ignore[union-attr] - a test
        assert (order.id in row.body) is is_erased


@pytest.mark.parametrize(
    "change",
    [
        "body = replace(body, 'body_sha256\":\"', 'body_sha256\":\"00') ",
        "body = jsonb_set(body::jsonb, '{erased,body_sha256}', to_jsonb(repeat('0', 64)))::text",
        "body = '{\"v\":1}'",
        "hash = sha256(hash)",
    ],
)
async def test_a_tombstone_that_was_altered_shows(world: World, change: str) -> None:
    mine = world.record()
    await world.records.insert([world.record(theirs=False), mine, world.record(theirs=False)])
    await world.erased(world.subject())
    async with world.pool.connection(timeout_s=5) as connection:
        await connection.execute(f"UPDATE receipts SET {change} WHERE request_id = %s".encode(), (mine.id,))  # noqa: S608 - the test's own
    store = PostgresReceiptStore(world.pool)
    row = await store.receipt(mine.id, tenant_id=world.tenant)
    assert row is not None
    check = check_section(row, await store.section(row.chain, first=1, last=9), first=1, last=9)
    assert not check.intact
    assert check.broken_at == row.sequence


async def test_the_trail_keeps_the_deed_and_loses_the_name_and_its_chain_holds(world: World) -> None:
    await world.lived()
    order = await world.erased(world.subject())
    query = AuditQuery(world.tenant, NOON - timedelta(days=9), NOON + timedelta(days=1))
    events = (await world.trail.page(query)).events
    deeds = [e for e in events if e.action == "config.write"]
    assert sorted(e.actor for e in deeds) == sorted([order.pseudonym, order.pseudonym, "p-2"])
    assert {(e.network, e.user_agent) for e in deeds if e.actor != "p-2"} == {("unknown", "")}
    verified = await world.trail.verify(query)
    assert (verified.intact, verified.erased) == (True, 2)


async def test_the_certificate_counts_what_was_erased_and_the_trail_vouches_for_it(world: World) -> None:
    await world.lived()
    order = await world.erased(world.subject())
    certificate = json.loads(order.certificate)
    erased = {store["store"]: store["erased"] for store in certificate["stores"]}
    assert erased == {
        "ledger": {"receipts": 6, "requests": 6},
        "security_events": {"events": 1, "findings": 0},
        "audit": {"deeds": 2},
        "sessions": {"sessions": 2},
        "answer_cache": {"caches_emptied": 1},
    }
    assert all(store["kept"] and len(store["sha256"]) == 64 for store in certificate["stores"])
    assert WHO not in order.certificate
    events = (await world.trail.page(AuditQuery(world.tenant, NOON, NOON + timedelta(days=1), action=ACTION))).events
    assert [(e.resource, e.after) for e in events] == [(order.id, sha256(order.certificate.encode()).hexdigest())]


async def test_a_certificate_that_was_altered_is_not_vouched_for(world: World) -> None:
    await world.lived()
    order = await world.erased(world.subject())
    assert (await world.privacy.show(order.id, tenant_id=world.tenant)).vouched is True
    async with world.pool.connection(timeout_s=5) as connection:
        await connection.execute(
            "UPDATE erasures SET certificate = replace(certificate, '\"requests\":6', '\"requests\":7') WHERE id = %s",
            (order.id,),
        )
    assert (await world.privacy.show(order.id, tenant_id=world.tenant)).vouched is False


async def test_whoever_ordered_an_erasure_can_be_erased_too(world: World) -> None:
    first = await world.erased(world.subject())
    await world.erased(subject_of(ADMIN.id, tenant_id=world.tenant))
    shown = (await world.privacy.show(first.id, tenant_id=world.tenant)).order
    assert shown.requested_by.startswith("erased-")


async def test_a_session_of_theirs_is_over(world: World) -> None:
    await world.lived()
    order = await world.erased(world.subject())
    families = [family for family, _ in await world.families.all_of(world.tenant)]
    theirs = [f for f in families if f.principal_id == order.pseudonym]
    assert [(f.revoked, f.current, f.spent) for f in theirs] == [(True, "", ())] * 2
    assert [f.revoked for f in families if f.principal_id == "p-2"] == [False]


# --- late records


async def test_a_record_that_arrives_after_the_erasure_is_erased_too(world: World) -> None:
    await world.lived()
    order = await world.erased(world.subject())
    late = world.record(1)
    assert await world.records.insert([late, late]) == 1
    stored = await world.records.get(late.id, tenant_id=world.tenant)
    assert stored is not None
    assert (stored.principal_id, stored.error_message, stored.trace_id) == (order.pseudonym, None, None)
    assert (stored.cost_usd, stored.usage, len(stored.attempts)) == (late.cost_usd, late.usage, 2)
    assert await PostgresReceiptStore(world.pool).receipt(late.id, tenant_id=world.tenant) is None


async def test_what_they_do_after_the_erasure_is_another_matter(world: World) -> None:
    await world.erased(world.subject())
    later = world.record(start_time=NOON + timedelta(hours=1), end_time=NOON + timedelta(hours=1))
    await world.records.insert([later])
    stored = await world.records.get(later.id, tenant_id=world.tenant)
    assert stored is not None
    assert stored.principal_id == WHO


async def test_an_insert_between_the_order_and_its_work_is_found_by_the_work(world: World) -> None:
    """A process that has not heard of the order yet writes as ever; the work begins when all have."""
    await world.records.insert([world.record(theirs=False)])  # knows of no erasure, for a minute
    order = await world.privacy.erase(world.subject(), ADMIN)
    unheard = world.record()
    await world.records.insert([unheard])
    assert await world.privacy.work() == 0
    world.clock.advance(SETTLING.total_seconds())
    assert await world.privacy.work() == 1
    stored = await world.records.get(unheard.id, tenant_id=world.tenant)
    assert stored is not None
    assert stored.principal_id == order.pseudonym


async def test_after_a_month_nobody_knows_whom_it_was_about(world: World) -> None:
    order = await world.erased(world.subject())
    assert [one.id for one in await world.erasures.standing(world.clock.now()) if one.tenant_id == world.tenant] == [
        order.id
    ]
    world.clock.advance(STANDING.total_seconds() + 1)
    assert await world.privacy.work() == 0
    shown = await world.erasures.get(order.id, tenant_id=world.tenant)
    assert shown is not None
    assert (shown.digest, shown.subject) == (None, None)
    assert shown.certificate == order.certificate


# --- orders


async def test_the_same_order_again_is_the_same_erasure_until_it_is_complete(world: World) -> None:
    orders = await asyncio.gather(*(world.privacy.erase(world.subject(), ADMIN) for _ in range(5)))
    assert len({order.id for order in orders}) == 1
    world.clock.advance(SETTLING.total_seconds())
    await world.privacy.work()
    assert (await world.privacy.erase(world.subject(), ADMIN)).id != orders[0].id


async def test_another_tenants_namesake_is_left_alone(world: World) -> None:
    theirs = world.record(tenant_id="another-tenant")
    await world.records.insert([theirs])
    await world.erased(world.subject())
    stored = await world.records.get(theirs.id, tenant_id="another-tenant")
    assert stored is not None
    assert stored.principal_id == WHO


# --- kills


class Killed(BaseException):
    """The worker is dead."""


class Fate:
    """Kills the worker at the n-th thing that it does, before or after it is done."""

    def __init__(self, at: int) -> None:
        self.left = at

    def touch(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed

    def wrap(self, inner: Any, *names: str) -> Any:
        fate = self

        class Mortal:
            def __getattr__(self, name: str) -> Any:
                found = getattr(inner, name)
                if name not in names:
                    return found

                async def call(*args: Any, **kwargs: Any) -> Any:
                    fate.touch()
                    result = await found(*args, **kwargs)
                    fate.touch()
                    return result

                return call

        return Mortal()


async def test_a_worker_that_is_killed_anywhere_changes_nothing_of_what_comes_out(world: World) -> None:
    await world.lived()
    order = await world.privacy.erase(world.subject(), ADMIN)
    kills, at = 0, 0
    world.clock.advance(SETTLING.total_seconds())
    while True:
        # Each life gets one thing further than the last one.
        fate = Fate(at)
        stores = [fate.wrap(store, "erase") for store in world.stores]
        erasures = fate.wrap(world.erasures, "claim", "save", "certify", "complete", "steps")
        try:
            await world.service(stores, erasures).work()
        except Killed:
            kills += 1
            at = at + 1 if at < 12 else at + 3
            world.clock.advance(121.0)  # its lease ends
            continue
        if (await world.privacy.show(order.id, tenant_id=world.tenant)).order.state is ErasureState.COMPLETED:
            break
    assert kills > 5
    done = (await world.privacy.show(order.id, tenant_id=world.tenant)).order
    erased = {store["store"]: store["erased"] for store in json.loads(done.certificate or "")["stores"]}
    assert erased["ledger"] == {"receipts": 6, "requests": 6}
    assert (erased["audit"], erased["sessions"]) == ({"deeds": 2}, {"sessions": 2})
    assert erased["security_events"] == {"events": 1, "findings": 0}
    query = AuditQuery(world.tenant, NOON - timedelta(days=9), NOON + timedelta(days=9))
    assert (await world.trail.verify(query)).intact
    vouched = {e.after for e in (await world.trail.page(replace(query, action=ACTION))).events}
    assert vouched == {done.certificate_sha256}


async def test_two_workers_at_once_come_to_one_certificate(world: World) -> None:
    await world.lived()
    order = await world.privacy.erase(world.subject(), ADMIN)
    world.clock.advance(SETTLING.total_seconds())
    workers = [world.service(world.stores, PostgresErasures(world.pool)) for _ in range(3)]
    assert sum(await asyncio.gather(*(worker.work() for worker in workers))) == 1
    certificate = (await world.privacy.show(order.id, tenant_id=world.tenant)).order.certificate
    assert json.loads(certificate or "")["stores"][0]["erased"] == {"receipts": 6, "requests": 6}


async def test_a_store_that_is_away_holds_the_erasure_up_and_loses_nothing(world: World) -> None:
    await world.lived()
    order = await world.privacy.erase(world.subject(), ADMIN)
    world.clock.advance(SETTLING.total_seconds())

    class Away:
        name, kept = "away", ""

        async def erase(self, *_: Any) -> Any:
            raise DependencyUnavailable("away")

    with pytest.raises(DependencyUnavailable):
        await world.service([*world.stores[:2], Away(), *world.stores[3:]], world.erasures).work()
    assert (await world.privacy.show(order.id, tenant_id=world.tenant)).order.state is ErasureState.RUNNING
    world.clock.advance(121.0)
    assert await world.privacy.work() == 1


# --- export


async def pages(world: World, subject: DataSubject, limit: int) -> list[dict[str, Any]]:
    rows, cursor = list[dict[str, Any]](), "0:"
    while cursor:
        page = await world.privacy.export(subject, cursor=cursor, limit=limit)
        rows += [json.loads(json.dumps(row, default=str)) for row in page.rows]
        cursor = page.cursor or ""
    return rows


@pytest.mark.parametrize("limit", [1, 2, 1_000])
async def test_an_export_holds_all_of_one_person_whatever_the_page(world: World, limit: int) -> None:
    await world.lived()
    rows = await pages(world, world.subject(), limit)
    counts = {name: sum(row["store"] == name for row in rows) for name in {row["store"] for row in rows}}
    assert counts == {"ledger": 6, "security_events": 2, "audit": 2, "sessions": 2}
    requests = [row["request"] for row in rows if row["store"] == "ledger"]
    assert len({one["id"] for one in requests}) == 6
    assert {one["principal_id"] for one in requests} == {WHO}
    assert all(len(row["attempts"]) == 2 and TAG_VALUE in row["receipt"] for row in rows if row["store"] == "ledger")
    assert "c" * 64 not in json.dumps(rows)


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "9:",
        "-1:",
        "0:nonsense",
        "0:2026-11-01T00:00:00 x",
        "1:x",
        "2:yesterday",
        "0:2026-01-01T00:00:00 " + "0" * 32,
    ],
)
async def test_a_cursor_that_no_export_gave_is_refused(world: World, cursor: str) -> None:
    with pytest.raises(InvalidRequest, match="cursor"):
        await world.privacy.export(world.subject(), cursor=cursor, limit=10)


async def test_money_of_the_erased_still_counts_for_budgets(world: World) -> None:
    await world.lived()
    await world.erased(world.subject(SubjectKind.TAG))
    async with world.pool.connection(timeout_s=5) as connection:
        accounts = await connection.execute(
            "SELECT DISTINCT budget_accounts ->> 0 FROM requests WHERE tenant_id = %s AND budget_accounts <> '[]'",
            (world.tenant,),
        )
        (account,) = (name for (name,) in await accounts.fetchall())
        spend = await connection.execute(
            "SELECT account, micro_usd FROM budget_spend WHERE tenant_id = %s", (world.tenant,)
        )
        found = await spend.fetchall()
    assert account.startswith("per-user/2026-11/erased-")
    assert found == [(f"per-user/2026-11/{TAG_VALUE}", Decimal(6 * 913))]


def test_orders_of_different_subjects_have_different_digests() -> None:
    digests = {
        erasure_of(subject_of(value, kind, tag=tag)).digest
        for value, kind, tag in (
            ("a", SubjectKind.PRINCIPAL, ""),
            ("a", SubjectKind.SERVICE, ""),
            ("a", SubjectKind.TAG, "k"),
            ("a", SubjectKind.TAG, "l"),
            ("b", SubjectKind.TAG, "k"),
        )
    }
    assert len(digests) == 5
