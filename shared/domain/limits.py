"""Rate limits: the rules, the meters they put on a request, and the arithmetic of one process. Pure.

Requests and tokens are metered by the generic cell rate algorithm (GCRA, ITU-T I.371): a meter is one instant, the
theoretical arrival time (TAT) up to which what was admitted is paid for. An amount that costs ``c`` microseconds is
admitted when ``max(TAT, now) + c - now`` is at most the capacity, and moves the TAT by ``c``. So within any ``t``
seconds at most ``burst + limit * t / 60`` are admitted. Concurrent requests are leases, which end by themselves.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from shared.domain.scopes import Scope, Subject, key_part

_MINUTE_US = 60_000_000
_SLOT_RETRY_US = 1_000_000
"""Nobody knows when a concurrent request ends: ask again after a second."""
_BURST_S = 10
"""Seconds' worth of the rate that may come at once, where a rule does not say."""


class EndpointClass(StrEnum):
    """Endpoints that are limited together."""

    GENERATE = "generate"
    EMBED = "embed"
    RETRIEVE = "retrieve"
    ANALYZE = "analyze"
    READ = "read"
    ADMIN = "admin"

    @property
    def is_metered_inside(self) -> bool:
        """Whether the service behind the door admits, since only it knows the tokens and the tags."""
        return self in {EndpointClass.GENERATE, EndpointClass.EMBED}


class Priority(StrEnum):
    """Low gives way first: it may use only a share of each limit."""

    NORMAL = "normal"
    LOW = "low"


class WhenAway(StrEnum):
    """What a rule means while nobody can count for all processes."""

    OPEN = "open"
    """Nothing is limited."""
    CLOSED = "closed"
    """Everything is refused (503)."""
    LOCAL = "local"
    """Each process allows a share of the limit."""


class MeterKind(StrEnum):
    """What a meter counts."""

    REQUESTS = "requests_per_minute"
    TOKENS = "tokens_per_minute"
    CONCURRENT = "concurrent"


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One rule of the policy.

    Attributes:
        classes: endpoint classes that it limits; empty: all.
        request_burst: requests that may come at once; by default ten seconds' worth.
        token_burst: tokens that may come at once, so the largest request; by default a minute's worth.
        concurrent: requests under way at once.
        low_priority_share: in (0, 1]: of each limit, for requests of low priority.
        local_share: in (0, 1]: of each limit, for each process while Redis is away and `when_away` is local.
    """

    name: str
    scope: Scope = field(default_factory=Scope)
    classes: frozenset[EndpointClass] = frozenset()
    requests_per_minute: int | None = None
    request_burst: int | None = None
    tokens_per_minute: int | None = None
    token_burst: int | None = None
    concurrent: int | None = None
    low_priority_share: float = 0.8
    when_away: WhenAway = WhenAway.LOCAL
    local_share: float = 0.25


@dataclass(frozen=True, slots=True)
class Meter:
    """One count that a request must pass.

    Attributes:
        key: names the count; all keys of one tenant lie in one Redis Cluster slot.
        limit: a minute, or at once for concurrent requests.
        capacity: most that may be in use: microseconds ahead of now, or slots.
        amount: what the request would take: requests, tokens or slots.
        share: of the capacity that this request may use.
    """

    rule: RateLimit
    kind: MeterKind
    key: str
    limit: int
    capacity: int
    amount: int
    share: float = 1.0

    @property
    def cost(self) -> int:
        """The amount in the capacity's unit."""
        return self.cost_of(self.amount)

    @property
    def allowed(self) -> int:
        """Most that may be in use after this request. One that is alone may always use the whole capacity."""
        return min(self.capacity, max(self.cost, math.floor(self.capacity * self.share)))

    @property
    def name(self) -> str:
        """What errors call it."""
        return f"{self.rule.name}.{self.kind.value}"

    def cost_of(self, amount: int) -> int:
        """An amount in the capacity's unit, rounded up."""
        return amount if self.kind is MeterKind.CONCURRENT else -(-amount * _MINUTE_US // self.limit)

    def remaining(self, used: int) -> int:
        """How many requests, tokens or slots are left when so much is in use."""
        left = max(0, self.capacity - used)
        if self.kind is MeterKind.CONCURRENT:
            return left
        return left // self.cost_of(1) if self.kind is MeterKind.REQUESTS else left * self.limit // _MINUTE_US


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the meters said.

    Attributes:
        refused: index of the meter that refuses longest; None: admitted, and charged to all.
        retry_after_us: after which that meter would let the same request pass.
        used: of each meter, after the charge.
    """

    refused: int | None
    retry_after_us: int
    used: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """What a finished request gives back: its slots, and for token meters the difference in microseconds."""

    request_id: str
    slots: tuple[str, ...] = ()
    corrections: tuple[tuple[str, int], ...] = ()


def meters_for(
    rules: Sequence[RateLimit],
    subject: Subject,
    endpoint: EndpointClass,
    *,
    tokens: int = 0,
    priority: Priority = Priority.NORMAL,
    local: bool = False,
) -> tuple[Meter, ...]:
    """The meters of a request: all must let it pass.

    Args:
        rules: of the policy.
        subject: whose request it is.
        endpoint: what is called.
        tokens: estimate of what it will use.
        priority: low may use a share only.
        local: for one process's share, while Redis is away.
    """
    found: list[Meter] = []
    for rule in rules:
        value = rule.scope.value_of(subject)
        if value is None or (rule.classes and endpoint not in rule.classes):
            continue
        key = f"rate:{{{key_part(subject.tenant_id)}}}:{rule.name}:{key_part(value)}"
        share = rule.low_priority_share if priority is Priority.LOW else 1.0
        part = rule.local_share if local else 1.0
        found += _meters(rule, key, tokens, share, part)
    return tuple(found)


def _meters(rule: RateLimit, key: str, tokens: int, share: float, part: float) -> list[Meter]:
    found = []
    if rule.requests_per_minute is not None:
        limit = _part(rule.requests_per_minute, part)
        burst = rule.request_burst or max(1, rule.requests_per_minute * _BURST_S // 60)
        interval_us = -(-_MINUTE_US // limit)
        capacity = interval_us * _part(burst, part)
        found.append(Meter(rule, MeterKind.REQUESTS, f"{key}:r", limit, capacity, 1, share))
    if rule.tokens_per_minute is not None:
        limit = _part(rule.tokens_per_minute, part)
        burst = _part(rule.token_burst or rule.tokens_per_minute, part)
        capacity = -(-burst * _MINUTE_US // limit)
        found.append(Meter(rule, MeterKind.TOKENS, f"{key}:t", limit, capacity, tokens, share))
    if rule.concurrent is not None:
        limit = _part(rule.concurrent, part)
        found.append(Meter(rule, MeterKind.CONCURRENT, f"{key}:c", limit, limit, 1, share))
    return found


def _part(limit: int, part: float) -> int:
    return max(1, math.floor(limit * part))


@dataclass(slots=True)
class Meters:
    """The counts of one process. The same arithmetic as the script that counts for all of them."""

    arrival_us: dict[str, int] = field(default_factory=dict)
    leases: dict[str, dict[str, int]] = field(default_factory=dict)

    def admit(
        self, meters: Sequence[Meter], *, request_id: str, now_us: int, lease_us: int, charge: bool = True
    ) -> Verdict:
        """Charge all meters, or none when one refuses."""
        used = [self._used(meter, now_us) for meter in meters]
        waits = [self._wait_us(meter, in_use) for meter, in_use in zip(meters, used, strict=True)]
        longest = max(waits, default=0)
        if longest > 0:
            return Verdict(waits.index(longest), longest, tuple(used))
        if charge:
            for position, meter in enumerate(meters):
                used[position] += meter.cost
                if meter.kind is MeterKind.CONCURRENT:
                    self.leases.setdefault(meter.key, {})[request_id] = now_us + lease_us
                else:
                    self.arrival_us[meter.key] = now_us + used[position]
        return Verdict(None, 0, tuple(used))

    def settle(self, ended: Ended, *, now_us: int) -> None:
        """Free slots and correct token meters."""
        for key in ended.slots:
            self.leases.get(key, {}).pop(ended.request_id, None)
        for key, delta_us in ended.corrections:
            arrival_us = max(self.arrival_us.get(key, 0), now_us) + delta_us
            self.arrival_us[key] = arrival_us
            if arrival_us <= now_us:
                del self.arrival_us[key]

    def _used(self, meter: Meter, now_us: int) -> int:
        if meter.kind is not MeterKind.CONCURRENT:
            return max(0, self.arrival_us.get(meter.key, 0) - now_us)
        live = {who: until for who, until in self.leases.get(meter.key, {}).items() if until > now_us}
        self.leases[meter.key] = live
        return len(live)

    @staticmethod
    def _wait_us(meter: Meter, used: int) -> int:
        over = used + meter.cost - meter.allowed
        return over if over <= 0 or meter.kind is not MeterKind.CONCURRENT else _SLOT_RETRY_US
