"""Delivery of notifications: where they wait, what sends them, and where the secrets for that are."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from shared.domain.channels import Channel
from shared.domain.deliveries import Delivery, DeliveryQuery, Outcome
from shared.domain.notifications import Notification


class DeliveryStore(Protocol):
    """Notifications and how far their delivery is.

    Of one tenant, channel and incident only the first that waits can be claimed. The number of an attempt is its
    lease: what an attempt reports after a later one has begun is not kept.
    """

    async def insert(self, notifications: Sequence[Notification]) -> None:
        """Write notifications in their order; those that are there stay.

        Raises:
            DependencyUnavailable: nothing was written, as far as can be known; writing again is safe.
        """
        ...

    async def due_channels(self, now: datetime) -> Sequence[tuple[str, str]]:
        """Tenant and channel of everything that is due.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def claim(
        self, tenant_id: str, channel: str, now: datetime, *, lease_s: float, limit: int
    ) -> Sequence[Delivery]:
        """Begin an attempt for what is due of a channel and keep others away from it for `lease_s` seconds.

        Raises:
            DependencyUnavailable: the store is away. What was taken nevertheless is due again after its lease.
        """
        ...

    async def sent(self, delivery: Delivery, now: datetime) -> bool:
        """Its receiver took it. Returns whether this was still the newest attempt.

        Raises:
            DependencyUnavailable: not kept, as far as can be known; it may be sent once more.
        """
        ...

    async def failed(self, delivery: Delivery, error: str, *, due_at: datetime) -> bool:
        """The attempt failed; the next may begin at `due_at`. Returns whether this was still the newest attempt.

        Raises:
            DependencyUnavailable: not kept, as far as can be known; it is due again after its lease.
        """
        ...

    async def died(self, delivery: Delivery, error: str, now: datetime) -> bool:
        """The last attempt failed. Returns whether this was still the newest attempt.

        Raises:
            DependencyUnavailable: not kept, as far as can be known; it is due again after its lease.
        """
        ...

    async def page(self, query: DeliveryQuery) -> Sequence[Delivery]:
        """The newest deliveries that a query takes, at most its limit.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def revive(self, notification_id: str, now: datetime, *, tenant_id: str) -> Delivery | None:
        """Have a dead one tried again from `now`; None: the tenant has no such notification.

        Raises:
            Conflict: it is not dead, or a later one of its incident and channel was tried meanwhile.
            DependencyUnavailable: not done, as far as can be known; again is safe.
        """
        ...


class ChannelSender(Protocol):
    """Sends by channels of one kind."""

    async def send(self, channel: Channel, delivery: Delivery) -> Outcome:
        """Make one attempt, within about ten seconds. What goes wrong at the receiver's is in the outcome.

        Raises:
            DependencyUnavailable: a secret or a token cannot be had now.
        """
        ...


class Secrets(Protocol):
    """Secrets by name."""

    async def get(self, name: str) -> str | None:
        """A secret's value; None: there is none of that name.

        Raises:
            DependencyUnavailable: the vault is away, and it was not asked for before.
        """
        ...
