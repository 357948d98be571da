"""A quota's sliding minute: what was admitted, by the second, and when the next request fits.

A window of whole seconds counts 61 of them, so that any 60 seconds lie within it: what is admitted never exceeds the
limit in any 60 seconds, and a request may wait up to one second longer than it had to. Unlike GCRA, which admits up to
its burst plus a whole limit in one window, this is exact, and its memory does not grow with the limit.
"""

from dataclasses import dataclass, field

from shared.domain.health import CLOCK_SLACK_MS, QUOTA_WINDOW_S, Quota, Refusal, RefusalReason

_MS_PER_S = 1000


@dataclass(slots=True)
class QuotaWindow:
    """What one deployment was asked for in the last 61 whole seconds; pure, instants as `shared.domain.health` says.

    Attributes:
        seconds: requests and tokens by second; negative tokens were given back.
    """

    seconds: dict[int, tuple[int, int]] = field(default_factory=dict)

    def tidy(self, now_ms: int) -> None:
        """Forget what left the window, and everything when the clock stepped back."""
        first = now_ms // _MS_PER_S - QUOTA_WINDOW_S
        if self.seconds and max(self.seconds) > (now_ms + CLOCK_SLACK_MS) // _MS_PER_S:
            self.seconds = {}
        elif self.seconds and min(self.seconds) < first:
            self.seconds = {second: used for second, used in self.seconds.items() if second >= first}

    def refusal(self, quota: Quota, tokens: int, now_ms: int) -> Refusal | None:
        """Why a request of that many tokens does not fit, and when it will."""
        self.tidy(now_ms)
        limits = (
            (RefusalReason.REQUESTS_QUOTA, quota.requests_per_minute, 0, 1),
            (RefusalReason.TOKENS_QUOTA, quota.tokens_per_minute, 1, tokens),
        )
        for reason, limit, column, wanted in limits:
            if limit is not None:
                wait_ms = self._wait_ms(limit, column, wanted, now_ms)
                if wait_ms > 0:
                    return Refusal(reason, wait_ms / _MS_PER_S)
        return None

    def charge(self, second: int, requests: int, tokens: int) -> None:
        """Count requests and tokens in a second; negative ones are given back."""
        was_requests, was_tokens = self.seconds.get(second, (0, 0))
        self.seconds[second] = (was_requests + requests, was_tokens + tokens)

    def _wait_ms(self, limit: int, column: int, wanted: int, now_ms: int) -> int:
        """Milliseconds until `wanted` more fit; a whole window for what never will."""
        over = sum(used[column] for used in self.seconds.values()) + wanted - limit
        if over <= 0:
            return 0
        for second in sorted(self.seconds):
            over -= self.seconds[second][column]
            if over <= 0:
                return (second + QUOTA_WINDOW_S + 1) * _MS_PER_S - now_ms
        return QUOTA_WINDOW_S * _MS_PER_S
