"""Rate limits: one ticket for each request, one round trip for all of its meters, nothing charged when one refuses."""

from collections.abc import Callable
from dataclasses import dataclass

from shared.domain.errors import DependencyUnavailable, RateLimited, RequestTooLarge
from shared.domain.identity import Principal
from shared.domain.limits import (
    Ended,
    EndpointClass,
    Meter,
    MeterKind,
    Meters,
    Priority,
    Verdict,
    WhenAway,
    meters_for,
)
from shared.domain.policy import Policy
from shared.domain.scopes import Per, Subject
from shared.ports import Clock, LimitStore, Telemetry
from shared.services.background import BackgroundWork

_LEASE_GRACE_S = 10.0
"""A slot outlives its request's deadline by so much: by then a living worker has freed it."""
_MOST_NOTED = 10_000
_AWAY_RETRY_S = 1.0
_MOST_TICKETS_A_BATCH = 200


@dataclass(frozen=True, slots=True)
class Standing:
    """How much of a meter is left.

    Attributes:
        limit: a minute, or at once for concurrent requests.
        remaining: requests, tokens or slots that could be had now.
        reset_s: until all of the burst is back, if nothing more comes; 0 for concurrent requests.
    """

    meter: Meter
    limit: int
    remaining: int
    reset_s: float


class Limits(BackgroundWork):
    """Admits requests.

    Args:
        store: counts for all processes.
        policy: the policy in force.
        clock: time, for what this process counts itself.
        telemetry: counts refusals and outages.
    """

    def __init__(self, store: LimitStore, policy: Callable[[], Policy], clock: Clock, telemetry: Telemetry) -> None:
        super().__init__("limit-settler")
        self._store = store
        self._policy = policy
        self._clock = clock
        self._telemetry = telemetry
        self._local = Meters()
        self._noted: dict[str, tuple[float, Meter]] = {}
        self._ended: list[Ended] = []

    def ticket(self, principal: Principal, endpoint: EndpointClass, request_id: str) -> "Ticket":
        """A ticket that is not admitted yet."""
        return Ticket(self, principal, endpoint, request_id)

    async def standing(self, principal: Principal) -> tuple[Standing, ...]:
        """How the caller stands with all limits of every class that hold it.

        Raises:
            DependencyUnavailable: nobody can tell.
        """
        policy = self._policy()
        subject = policy.subject_of(principal)
        found: dict[str, Meter] = {}
        for endpoint in EndpointClass:
            found |= {meter.key: meter for meter in meters_for(policy.rate_limits, subject, endpoint)}
        meters = tuple(found.values())
        if not meters:
            return ()
        verdict = await self._store.admit(meters, request_id="", lease_s=0.0, charge=False)
        return _standing(meters, verdict)

    async def admit(self, ticket: "Ticket", subject: Subject, tokens: int, priority: Priority, lease_s: float) -> None:
        """Charge the ticket; see `Ticket.admit`."""
        policy = self._policy()
        rules = policy.rate_limits
        if policy.for_service(subject.service).priority is Priority.LOW:
            priority = Priority.LOW
        meters = meters_for(rules, subject, ticket.endpoint, tokens=tokens, priority=priority)
        if not meters:
            return
        _refuse_impossible(meters)
        lease_s += _LEASE_GRACE_S
        try:
            verdict = await self._store.admit(meters, request_id=ticket.request_id, lease_s=lease_s)
        except DependencyUnavailable:
            local = tuple(rule for rule in rules if rule.when_away is WhenAway.LOCAL)
            ticket.is_local = True
            self._degrade(meters)
            meters = meters_for(local, subject, ticket.endpoint, tokens=tokens, priority=priority, local=True)
            verdict = self._local.admit(
                meters, request_id=ticket.request_id, now_us=self._now_us(), lease_us=int(lease_s * 1e6)
            )
        ticket.standing = _standing(meters, verdict)
        if verdict.refused is not None:
            raise self._refusal(meters[verdict.refused], verdict, priority)
        ticket.meters = meters

    def end(self, ticket: "Ticket", tokens: int) -> None:
        """Give back what the ticket holds, behind the response."""
        slots = tuple(meter.key for meter in ticket.meters if meter.kind is MeterKind.CONCURRENT)
        corrections = tuple(
            (meter.key, meter.cost_of(tokens) - meter.cost)
            for meter in ticket.meters
            if meter.kind is MeterKind.TOKENS and tokens != meter.amount
        )
        if not slots and not corrections:
            return
        ended = Ended(ticket.request_id, slots, corrections)
        if ticket.is_local:
            self._local.settle(ended, now_us=self._now_us())
        else:
            self._ended.append(ended)
            self._wake.set()

    def _degrade(self, meters: tuple[Meter, ...]) -> None:
        """Say so, and refuse where a rule wants that.

        Raises:
            DependencyUnavailable: a rule is closed.
        """
        self._telemetry.count("limits_degraded")
        closed = next((meter for meter in meters if meter.rule.when_away is WhenAway.CLOSED), None)
        if closed is not None:
            raise DependencyUnavailable(
                f"the limit {closed.rule.name} cannot be counted at the moment", retry_after_s=_AWAY_RETRY_S
            )

    def _refusal(self, meter: Meter, verdict: Verdict, priority: Priority) -> RateLimited:
        retry_s = verdict.retry_after_us / 1e6
        self._telemetry.count("limits_refused", rule=meter.rule.name, kind=meter.kind.value)
        # What a request of low priority was refused may still be had by others; a tag is the caller's own word.
        if meter.kind is MeterKind.REQUESTS and priority is Priority.NORMAL and meter.rule.scope.per is not Per.TAG:
            if len(self._noted) >= _MOST_NOTED:
                self._noted.clear()
            self._noted[meter.key] = (self._clock.monotonic() + retry_s, meter)
        return _rate_limited(meter, retry_s)

    def refuse_noted(self, ticket: "Ticket") -> None:
        """Refuse what cannot pass yet; see `Ticket.knock`."""
        if not self._noted:
            return
        policy = self._policy()
        now_s = self._clock.monotonic()
        for meter in meters_for(policy.rate_limits, policy.subject_of(ticket.principal), ticket.endpoint):
            until_s, refused = self._noted.get(meter.key, (0.0, meter))
            if now_s >= until_s:
                self._noted.pop(meter.key, None)
            elif refused.rule == meter.rule:
                self._telemetry.count("limits_refused", rule=meter.rule.name, kind=meter.kind.value)
                ticket.standing = (Standing(meter, meter.limit, 0, meter.capacity / 1e6),)
                raise _rate_limited(meter, until_s - now_s)

    async def _run(self) -> None:
        while self._ended or not self._closing:
            if not self._ended:
                self._wake.clear()
                await self._wake.wait()
                continue
            batch, self._ended = self._ended[:_MOST_TICKETS_A_BATCH], self._ended[_MOST_TICKETS_A_BATCH:]
            try:
                await self._store.settle(batch)
            except DependencyUnavailable:
                # Never twice: slots end by themselves, and an estimate that stays is mostly too high.
                self._telemetry.count("limits_unsettled", len(batch))

    def _now_us(self) -> int:
        return int(self._clock.monotonic() * 1e6)

    def subject(self, principal: Principal, tags: tuple[tuple[str, str], ...]) -> Subject:
        """Whose request it is, by the policy in force."""
        return self._policy().subject_of(principal, tags)


class Ticket:
    """One request's way through the limits. Cheap: where no rule holds it, it costs nothing."""

    __slots__ = ("_limits", "endpoint", "is_local", "meters", "principal", "request_id", "soft_budgets", "standing")

    def __init__(self, limits: Limits, principal: Principal, endpoint: EndpointClass, request_id: str) -> None:
        self._limits = limits
        self.principal = principal
        self.endpoint = endpoint
        self.request_id = request_id
        self.is_local = False
        self.meters: tuple[Meter, ...] = ()
        self.standing: tuple[Standing, ...] = ()
        """Of every meter, also of those of a refused request; empty until asked."""
        self.soft_budgets: tuple[str, ...] = ()
        """Budgets whose soft limit is reached."""

    def knock(self) -> None:
        """Be refused at once where a meter refused a moment ago and cannot let anything pass yet.

        Costs neither a round trip nor the reading of the body.

        Raises:
            RateLimited: as `admit`.
        """
        self._limits.refuse_noted(self)

    async def admit(
        self,
        *,
        lease_s: float,
        tokens: int = 0,
        tags: tuple[tuple[str, str], ...] = (),
        priority: Priority = Priority.NORMAL,
    ) -> None:
        """Charge all meters or none. A ticket that was admitted before is not charged again.

        Args:
            lease_s: until the request's deadline; a slot of a worker that dies is free soon after.
            tokens: estimate of what it will use; `close` corrects it.
            tags: the caller's labels.
            priority: low may use a share of each limit.

        Raises:
            RateLimited: `param` names the limit, `retry_after_s` says when it would let this pass.
            RequestTooLarge: more tokens than the limit ever lets pass at once.
            DependencyUnavailable: nobody can count, and a rule is closed then.
        """
        if not self.meters:
            await self._limits.admit(self, self._limits.subject(self.principal, tags), tokens, priority, lease_s)

    def close(self, tokens: int) -> None:
        """Free slots and correct the tokens to what was used; only the first call counts."""
        if self.meters:
            self._limits.end(self, tokens)
            self.meters = ()


def _standing(meters: tuple[Meter, ...], verdict: Verdict) -> tuple[Standing, ...]:
    return tuple(
        Standing(meter, meter.limit, meter.remaining(used), 0.0 if meter.kind is MeterKind.CONCURRENT else used / 1e6)
        for meter, used in zip(meters, verdict.used, strict=True)
    )


def _rate_limited(meter: Meter, retry_after_s: float) -> RateLimited:
    kind = meter.kind.value.replace("_", " ")
    return RateLimited(
        f"the limit {meter.rule.name!r} of {meter.limit} {kind} is reached",
        param=meter.name,
        retry_after_s=retry_after_s,
    )


def _refuse_impossible(meters: tuple[Meter, ...]) -> None:
    for meter in meters:
        if meter.cost > meter.capacity:
            most = meter.remaining(0)
            raise RequestTooLarge(
                f"the request may use {meter.amount} tokens; the limit {meter.rule.name!r} lets {most} pass at once",
                code="request_exceeds_limit",
                param=meter.name,
            )
