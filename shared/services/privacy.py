"""Export and erasure of a person's data in all stores, with a certificate that the audit trail vouches for.

An erasure is a row, worked off by a timer in steps whose place is kept: a worker that is killed at any point leaves a
step that is taken again, to the same end. It begins `SETTLING` after it was asked for; from then on every process
erases what it writes (`shared.services.erased_on_arrival`), so nothing slips in behind the work.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256

from shared.domain.audit import AuditEvent, AuditOutcome, AuditQuery
from shared.domain.errors import DependencyUnavailable, InvalidRequest, NotFound
from shared.domain.identity import Principal
from shared.domain.privacy import (
    SETTLING,
    STANDING,
    DataSubject,
    ErasureOrder,
    ErasureState,
    StoreErasure,
    certificate,
)
from shared.ports import Clock, ErasureStore, ExportPage, Ids, PersonalStore, Telemetry
from shared.services.audit import AuditTrail

ACTION = "compliance.erased"
"""In the audit trail: an erasure is complete, and `after` is its certificate's hash."""
ACTOR = "router"
ELSEWHERE = (
    "backups of PostgreSQL and storage: they age out by the retention that the platform has for them",
    "telemetry (Application Insights): ids of requests and services, for the workspace's retention",
    "model providers: what was sent to them is subject to their terms",
    "exported files: deleted three days after they were ordered; who ordered them is kept for 30 days more",
    "records of before the erasure that wait in the queue or in journals: erased on arrival, until the date above",
)
"""Part of every certificate: where the router cannot reach."""
_DAY = timedelta(days=1)
_MOST_VOUCHED = 10_000
_LEASE_S = 120.0
_WORK_S = 60.0
"""How long one run of the timer works; the next one goes on."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """An erasure as it is shown.

    Attributes:
        found: what its steps found so far, by store.
        vouched: whether the audit trail holds the certificate's hash; None: not complete, or the trail is away.
    """

    order: ErasureOrder
    found: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    vouched: bool | None = None


class PrivacyService:
    """Exports and erases.

    Args:
        stores: all that hold something of persons, in the order in which they are gone through.
        erasures: orders and their progress.
        trail: vouches for certificates.
        clock: time.
        ids: of erasures.
        telemetry: hears of progress; of nobody's name.
    """

    def __init__(
        self,
        stores: Sequence[PersonalStore],
        erasures: ErasureStore,
        trail: AuditTrail,
        clock: Clock,
        ids: Ids,
        telemetry: Telemetry,
    ) -> None:
        self._stores = tuple(stores)
        self._erasures = erasures
        self._trail = trail
        self._clock = clock
        self._ids = ids
        self._telemetry = telemetry

    async def export(self, subject: DataSubject, *, cursor: str, limit: int) -> ExportPage:
        """About `limit` rows of a person, each with the name of its store, and where the next page begins.

        Raises:
            InvalidRequest: the cursor is none that an export gave.
            DependencyUnavailable: a store is away.
        """
        place, _, inner = cursor.partition(":")
        if not (place.isascii() and place.isdecimal() and int(place) < len(self._stores)):
            raise InvalidRequest("cursor: not one that this endpoint gave", param="cursor")
        number, rows = int(place), list[Mapping[str, object]]()
        while number < len(self._stores):
            store = self._stores[number]
            page = await store.export(subject, inner, limit - len(rows))
            rows += [{"store": store.name, **row} for row in page.rows]
            inner = page.cursor or ""
            number += page.cursor is None
            if len(rows) >= limit:
                break
        return ExportPage(rows, f"{number}:{inner}" if number < len(self._stores) else None)

    async def erase(self, subject: DataSubject, by: Principal) -> ErasureOrder:
        """Order an erasure; the one under way where there is one for the same subject.

        Raises:
            DependencyUnavailable: it was not ordered, as far as can be known; asking again is safe.
        """
        order = ErasureOrder(
            id=self._ids.request_id(),
            tenant_id=subject.tenant_id,
            kind=subject.kind,
            tag=subject.tag,
            digest=subject.digest,
            requested_by=by.id,
            requested_at=self._clock.now(),
            subject=subject,
        )
        return await self._erasures.order(order)

    async def show(self, erasure_id: str, *, tenant_id: str) -> Erasure:
        """An erasure and what was found so far.

        Raises:
            NotFound: the tenant has no such erasure.
            DependencyUnavailable: the store is away.
        """
        order = await self._erasures.get(erasure_id, tenant_id=tenant_id)
        if order is None:
            raise NotFound("there is no such erasure", param="erasure_id")
        return Erasure(order, {e.name: e.counts for e in await self._erased(order)}, await self._is_vouched(order))

    async def latest(self, tenant_id: str, *, limit: int) -> Sequence[ErasureOrder]:
        """The latest erasures of a tenant.

        Raises:
            DependencyUnavailable: the store is away.
        """
        return await self._erasures.latest(tenant_id, limit=limit)

    async def work(self) -> int:
        """Go on with erasures until none is left or the time is up; returns how many were completed.

        Raises:
            DependencyUnavailable: a store is away; the next run goes on from there.
        """
        until_s, done = self._clock.monotonic() + _WORK_S, 0
        while self._clock.monotonic() < until_s:
            now = self._clock.now()
            order = await self._erasures.claim(now, asked_before=now - SETTLING, lease_s=_LEASE_S)
            if order is None:
                break
            done += await self._advance(order, until_s)
        return done

    async def _advance(self, order: ErasureOrder, until_s: float) -> bool:
        """Take steps until the erasure is complete or the time is up; whether it is complete."""
        subject = order.subject
        while order.store < len(self._stores) and order.state is not ErasureState.CERTIFIED:
            if subject is None or self._clock.monotonic() >= until_s:
                return False
            step = await self._stores[order.store].erase(order, subject, order.cursor)
            lease_until = self._clock.now() + timedelta(seconds=_LEASE_S)
            order = await self._erasures.save(order, step, lease_until=lease_until)
        if order.state is not ErasureState.CERTIFIED:
            text = certificate(order, await self._erased(order), completed_at=self._clock.now(), elsewhere=ELSEWHERE)
            order = await self._erasures.certify(order, text)
        await self._vouch(order)
        now = self._clock.now()
        await self._erasures.complete(order, now, standing_until=now + STANDING)
        self._telemetry.count("erasures_completed")
        self._telemetry.log(logging.INFO, "erasure_completed", erasure=order.id, tenant=order.tenant_id)
        return True

    async def _vouch(self, order: ErasureOrder) -> None:
        """Chain the certificate's hash into the audit trail: whoever changes the certificate later cannot change that.

        A worker that is killed right after it leaves an event that the next one writes again; both say the same.
        """
        event = AuditEvent(
            id=self._ids.request_id(),
            at=self._clock.now(),
            tenant_id=order.tenant_id,
            actor=ACTOR,
            service=ACTOR,
            action=ACTION,
            resource=order.id,
            outcome=AuditOutcome.SUCCEEDED,
            request_id=order.id,
            after=order.certificate_sha256 or "",
        )
        await self._trail.record(event)

    async def _is_vouched(self, order: ErasureOrder) -> bool | None:
        if order.completed_at is None:
            return None
        since, until = order.completed_at - _DAY, order.completed_at + _DAY
        query = AuditQuery(order.tenant_id, since, until, actor=ACTOR, action=ACTION, limit=_MOST_VOUCHED)
        try:
            events = (await self._trail.page(query)).events
        except DependencyUnavailable:
            return None
        return (order.id, order.certificate_sha256) in {(event.resource, event.after) for event in events}

    async def _erased(self, order: ErasureOrder) -> list[StoreErasure]:
        counts = [Counter[str]() for _ in self._stores]
        digests = [sha256() for _ in self._stores]
        for number, found, digest in await self._erasures.steps(order.id):
            counts[number].update(found)
            digests[number].update(bytes.fromhex(digest))
        return [
            StoreErasure(store.name, dict(sorted(counts[n].items())), digests[n].hexdigest(), store.kept)
            for n, store in enumerate(self._stores)
        ]
