"""In-memory twin of the notifications that wait for delivery; `away` makes every call fail."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from shared.domain.deliveries import Delivery, DeliveryQuery, DeliveryState
from shared.domain.errors import Conflict, DependencyUnavailable
from shared.domain.notifications import Notification


class MemoryDeliveries:
    """`DeliveryStore` in a dictionary, which keeps the order of writing."""

    def __init__(self) -> None:
        self.by_id: dict[str, Delivery] = {}
        self.away = False

    async def insert(self, notifications: Sequence[Notification]) -> None:
        """Keep them; those that are there stay."""
        self._answer()
        for one in notifications:
            fresh = Delivery(one, DeliveryState.WAITING, 0, 0, one.created_at, one.created_at)
            self.by_id.setdefault(one.id, fresh)

    async def due_channels(self, now: datetime) -> Sequence[tuple[str, str]]:
        """Tenant and channel of everything that is due."""
        self._answer()
        due = (one.notification for one in self.by_id.values() if _is_due(one, now))
        return list(dict.fromkeys((one.tenant_id, one.channel) for one in due))

    async def claim(
        self, tenant_id: str, channel: str, now: datetime, *, lease_s: float, limit: int
    ) -> Sequence[Delivery]:
        """Begin an attempt for what is due of a channel."""
        self._answer()
        heads = dict[str, Delivery]()
        for one in self.by_id.values():
            is_theirs = (one.notification.tenant_id, one.notification.channel) == (tenant_id, channel)
            if is_theirs and one.state is DeliveryState.WAITING:
                heads.setdefault(one.notification.incident_id, one)
        due = sorted((one for one in heads.values() if _is_due(one, now)), key=lambda one: one.due_at)[:limit]
        lease_until = now + timedelta(seconds=lease_s)
        return [self._kept(replace(one, attempts=one.attempts + 1, due_at=lease_until)) for one in due]

    async def sent(self, delivery: Delivery, now: datetime) -> bool:
        """Its receiver took it."""
        return self._report(delivery, state=DeliveryState.SENT, ended_at=now)

    async def failed(self, delivery: Delivery, error: str, *, due_at: datetime) -> bool:
        """The attempt failed."""
        return self._report(delivery, due_at=due_at, last_error=error)

    async def died(self, delivery: Delivery, error: str, now: datetime) -> bool:
        """The last attempt failed."""
        return self._report(delivery, state=DeliveryState.DEAD, ended_at=now, last_error=error)

    async def page(self, query: DeliveryQuery) -> Sequence[Delivery]:
        """The newest deliveries that a query takes."""
        self._answer()
        found = sorted(self.by_id.values(), key=_age, reverse=True)
        return [one for one in found if _takes(query, one)][: query.limit]

    async def revive(self, notification_id: str, now: datetime, *, tenant_id: str) -> Delivery | None:
        """Have a dead one tried again."""
        self._answer()
        one = self.by_id.get(notification_id)
        if one is None or one.notification.tenant_id != tenant_id:
            return None
        if one.state is not DeliveryState.DEAD:
            raise Conflict("only a dead delivery can be retried")
        order = list(self.by_id)
        for other in self.by_id.values():
            is_later = order.index(other.notification.id) > order.index(notification_id)
            if is_later and other.attempts and _incident(other) == _incident(one):
                raise Conflict("a later notification of this incident was tried: this one would contradict it")
        return self._kept(
            replace(
                one,
                state=DeliveryState.WAITING,
                due_at=now,
                queued_at=now,
                attempts_before=one.attempts,
                ended_at=None,
            )
        )

    def _report(self, delivery: Delivery, **changes: object) -> bool:
        self._answer()
        known = self.by_id[delivery.notification.id]
        if known.attempts != delivery.attempts or known.state is not DeliveryState.WAITING:
            return False
        self._kept(replace(known, **changes))  # type: ignore[arg-type]  # the three callers above name fields
        return True

    def _kept(self, delivery: Delivery) -> Delivery:
        self.by_id[delivery.notification.id] = delivery
        return delivery

    def _answer(self) -> None:
        if self.away:
            raise DependencyUnavailable("switched away")


def _is_due(one: Delivery, now: datetime) -> bool:
    return one.state is DeliveryState.WAITING and one.due_at <= now


def _age(one: Delivery) -> tuple[datetime, str]:
    return one.notification.created_at, one.notification.id


def _incident(one: Delivery) -> tuple[str, str, str]:
    return one.notification.tenant_id, one.notification.channel, one.notification.incident_id


def _takes(query: DeliveryQuery, one: Delivery) -> bool:
    told = one.notification
    return (
        told.tenant_id == query.tenant_id
        and query.since <= told.created_at < query.until
        and query.state in (None, one.state)
        and query.channel in (None, told.channel)
        and query.incident_id in (None, told.incident_id)
        and (query.before is None or _age(one) < query.before)
    )
