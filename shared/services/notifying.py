"""The dispatcher: takes notifications that are due, sends them, and keeps what came of it.

At least once: a process that dies between sending and keeping leaves a row whose lease ends, and it is sent again with
the same id. While leases hold, no row is sent by two processes.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from shared.domain.channels import Channel, ChannelKind
from shared.domain.deliveries import Delivery, DeliveryQuery, DeliveryRules, Outcome, OutcomeKind
from shared.domain.errors import DependencyUnavailable, NotFound
from shared.domain.policy import Policy
from shared.ports import ChannelSender, Clock, DeliveryStore, RandomSource, Telemetry


class Dispatcher:
    """Delivers what is due. Any number of processes may run it at once.

    Args:
        store: where notifications wait.
        senders: one for each kind of channel.
        policy: has the channels.
        clock: ages leases and pauses.
        telemetry: hears of what was delivered and of what was given up.
        rng: jitter of pauses.
        rules: how hard it tries.
    """

    def __init__(
        self,
        store: DeliveryStore,
        senders: Mapping[ChannelKind, ChannelSender],
        policy: Callable[[], Policy],
        clock: Clock,
        telemetry: Telemetry,
        rng: RandomSource,
        *,
        rules: DeliveryRules | None = None,
    ) -> None:
        self._store = store
        self._senders = senders
        self._policy = policy
        self._clock = clock
        self._telemetry = telemetry
        self._rng = rng
        self._rules = rules or DeliveryRules()

    async def run(self) -> None:
        """Serve every channel that something is due for, each for itself, until nothing is left or the turn is over.

        Raises:
            DependencyUnavailable: the store was away, for all channels or some; the others were served.
        """
        until_s = self._clock.monotonic() + self._rules.turn_s
        gate = asyncio.Semaphore(self._rules.channels_at_once)
        due = await self._store.due_channels(self._clock.now())
        served = await asyncio.gather(
            *(self._serve(tenant_id, channel, gate, until_s) for tenant_id, channel in due), return_exceptions=True
        )
        for failure in served:
            if failure is not None:
                raise failure

    async def _serve(self, tenant_id: str, name: str, gate: asyncio.Semaphore, until_s: float) -> None:
        """Send what is due of a channel, a few at once; the first failure ends its turn, so it holds up nobody long."""
        while self._clock.monotonic() < until_s:
            # A place first, then the rows: no lease runs while others are waited for.
            async with gate:
                claimed = await self._store.claim(
                    tenant_id, name, self._clock.now(), lease_s=self._rules.lease_s, limit=self._rules.at_once
                )
                if not claimed:
                    return
                outcomes = await asyncio.gather(*(self._deliver(one) for one in claimed))
            if any(outcome.kind is OutcomeKind.FAILED for outcome in outcomes):
                return

    async def _deliver(self, delivery: Delivery) -> Outcome:
        channel = self._channel(delivery)
        outcome = await self._sent(channel, delivery)
        kind = "unknown" if channel is None else channel.kind.value
        self._telemetry.count("notifications", outcome=outcome.kind.value, channel_kind=kind)
        with contextlib.suppress(DependencyUnavailable):
            await self._keep(delivery, outcome)
            return outcome
        # Its lease ends, and it is looked at again; what was taken is then sent a second time, with the same id.
        self._log(logging.ERROR, "notification_outcome_lost", delivery, outcome)
        return Outcome(OutcomeKind.FAILED, "store_away")

    def _channel(self, delivery: Delivery) -> Channel | None:
        channel = self._policy().channels.get(delivery.notification.channel)
        return channel if channel is not None and channel.serves(delivery.notification.tenant_id) else None

    async def _sent(self, channel: Channel | None, delivery: Delivery) -> Outcome:
        if channel is None:
            # Not an end: this process may not have the newest policy yet.
            return Outcome(OutcomeKind.FAILED, "channel_unknown")
        try:
            async with asyncio.timeout(self._rules.attempt_s):
                return await self._senders[channel.kind].send(channel, delivery)
        except TimeoutError:
            return Outcome(OutcomeKind.FAILED, "timeout")
        except DependencyUnavailable as error:
            return Outcome(OutcomeKind.FAILED, error.code, error.retry_after_s)
        except Exception as error:  # noqa: BLE001 - a defect of one adapter must not keep the others from their turn
            self._telemetry.log(logging.ERROR, "defect", job="deliver_notifications", error=type(error).__name__)
            return Outcome(OutcomeKind.FAILED, "defect")

    async def _keep(self, delivery: Delivery, outcome: Outcome) -> None:
        now = self._clock.now()
        if outcome.kind is OutcomeKind.TAKEN:
            is_newest = await self._store.sent(delivery, now)
        elif outcome.kind is OutcomeKind.REFUSED or self._rules.is_dead(delivery, now):
            is_newest = await self._store.died(delivery, outcome.code, now)
            if is_newest:
                self._telemetry.count("notifications_dead")
                self._log(logging.ERROR, "notification_dead", delivery, outcome)
        else:
            pause_s = self._rules.pause_s(delivery.tries, outcome.retry_after_s, self._rng)
            due_at = now + timedelta(seconds=pause_s)
            is_newest = await self._store.failed(delivery, outcome.code, due_at=due_at)
        if not is_newest:
            self._log(logging.WARNING, "notification_outrun", delivery, outcome)

    def _log(self, level: int, event: str, delivery: Delivery, outcome: Outcome) -> None:
        told = delivery.notification
        self._telemetry.log(
            level,
            event,
            notification_id=told.id,
            channel=told.channel,
            rule_id=told.rule_id,
            attempts=delivery.attempts,
            outcome=outcome.kind.value,
            error=outcome.code,
        )


class DeliveryDesk:
    """What admins see of deliveries and may do about them.

    Args:
        store: where notifications wait.
        clock: when a retry begins.
    """

    def __init__(self, store: DeliveryStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def page(self, query: DeliveryQuery) -> Sequence[Delivery]:
        """The newest deliveries that a query takes.

        Raises:
            DependencyUnavailable: the store is away.
        """
        return await self._store.page(query)

    async def retry(self, notification_id: str, *, tenant_id: str) -> Delivery:
        """Have a dead one tried again, with all its attempts.

        Raises:
            Conflict: it is not dead, or a later one of its incident was tried meanwhile.
            DependencyUnavailable: the store is away.
            NotFound: the tenant has no such notification.
        """
        revived = await self._store.revive(notification_id, self._clock.now(), tenant_id=tenant_id)
        if revived is None:
            raise NotFound("no such notification", param="notification_id")
        return revived


@dataclass(frozen=True, slots=True)
class Notifying:
    """Delivery: `dispatcher` sends, `desk` shows and retries."""

    dispatcher: Dispatcher
    desk: DeliveryDesk
