"""Which deployment is called next, after what pause, and when to stop: the rules of retries and failover, no calls.

The order is that of the decision, whose candidates all went through the sieve: the chosen deployment, the other
deployments of its model, then the other models. Only when none of them is left to try does a deployment get a second
attempt, after a pause (exponential, with full jitter) or after the Retry-After it sent, when that fits the deadline.
"""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from shared.domain.decisions import Candidate, Decision
from shared.domain.errors import (
    BudgetExceeded,
    ContentBlocked,
    ContextWindowExceeded,
    DeadlineExceeded,
    ProviderError,
    ProviderRateLimited,
    ProviderUnavailable,
    RetryScope,
    RouterError,
)
from shared.domain.resilience import RetryPolicy
from shared.services.deployment_health import Refusal

_SLACK = 3.0
"""An attempt always gets this many times what it is expected to take: the share must not cut slow models off."""
_MARGIN_S = 0.02
"""Added to a Retry-After: clocks of workers and of the health store differ by milliseconds."""
_QUOTAS = frozenset({"requests_quota", "tokens_quota"})


class ShareBudget:
    """How often something may happen, as a share of the requests of this process.

    Every request pays a share in, every use takes one out; what is saved is bounded. So a failure of everything costs
    a bounded multiple of the traffic (https://sre.google/sre-book/handling-overload/, "client-side retry budget").
    """

    def __init__(self) -> None:
        self._saved: float | None = None

    def pay_in(self, share: float, reserve: int) -> None:
        """A request came; `reserve` bounds what is saved, and is there from the start."""
        saved = float(reserve) if self._saved is None else self._saved + share
        self._saved = min(float(reserve), saved)

    def take(self) -> bool:
        """Whether one more is covered; then it is spent."""
        if self._saved is None or self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True

    def give_back(self) -> None:
        """What was taken was not used."""
        self._saved = (self._saved or 0.0) + 1.0


@dataclass(frozen=True, slots=True)
class Step:
    """The deployment to call next, and the pause before it."""

    candidate: Candidate
    wait_s: float = 0.0


@dataclass(slots=True)
class _Again:
    """A deployment that may be tried once more, and from when on (monotonic seconds)."""

    candidate: Candidate
    tries: int
    ready_s: float


class Itinerary:
    """The order of one request's attempts.

    Args:
        decision: the choice and its fallbacks.
        max_attempts: calls in all, the first included.
        rules: the policy of retries.
        budget: of retries, shared by the process.
        rng: jitter.
        deadline_s: of the request, on the monotonic clock.
    """

    def __init__(
        self,
        decision: Decision,
        max_attempts: int,
        rules: RetryPolicy,
        budget: ShareBudget,
        rng: random.Random,
        deadline_s: float,
    ) -> None:
        self._untried: Iterator[Candidate] = itertools.chain((decision.chosen,), decision.fallbacks)
        self._peeked: Candidate | None = None
        self._left = max_attempts
        self._rules = rules
        self._budget = budget
        self._rng = rng
        self._deadline_s = deadline_s
        self._again: dict[str, _Again] = {}
        self._failed_models: set[str] = set()
        self._least_window_tokens = 0
        self._refusals: list[tuple[Refusal, float]] = []
        self._calls = 0
        self._is_paid = False
        self._is_over = False
        self._failure: ProviderError | None = None
        self._is_unaffordable = False

    def next(self, now_s: float) -> Step | None:
        """The next deployment to call, or None when another attempt cannot help, fit or be afforded."""
        if self._is_over or self._left <= 0 or now_s >= self._deadline_s:
            return None
        ahead = self.untried()
        step = Step(ahead) if ahead is not None else self._once_more(now_s)
        if step is None or not self._paid():
            return None
        return step

    def untried(self) -> Candidate | None:
        """The first deployment in the order that was not tried yet and may help; looking does not move on."""
        if self._left <= 0:
            return None
        while self._peeked is None or not self._may_help(self._peeked):
            self._peeked = next(self._untried, None)
            if self._peeked is None:
                return None
        return self._peeked

    def passed_over(self, candidate: Candidate, *, unaffordable: bool = False) -> None:
        """The candidate is not called, now or later."""
        self._is_unaffordable = self._is_unaffordable or unaffordable
        self._forget(candidate)

    def refused(self, candidate: Candidate, refusal: Refusal, now_s: float) -> None:
        """The deployment takes no calls at the moment: the next one is up, and no attempt was made."""
        self._refusals.append((refusal, now_s + refusal.retry_after_s))
        self._forget(candidate)

    def started(self, candidate: Candidate) -> None:
        """The candidate is being called."""
        if self._peeked is candidate:
            self._peeked = None
        self._left -= 1
        self._calls += 1
        self._is_paid = False

    def failed(self, candidate: Candidate, error: ProviderError, now_s: float) -> None:
        """The call failed."""
        self._failure = error
        if error.scope is RetryScope.NEVER:
            self._is_over = True
        elif isinstance(error, ContentBlocked):
            self.blocked(candidate)
        elif error.scope is RetryScope.OTHER_MODEL:
            self._failed_models.add(candidate.profile.id)
        if isinstance(error, ContextWindowExceeded):
            # The estimate was too low; only a larger window can hold what this one could not.
            window = candidate.profile.context_window_tokens
            self._least_window_tokens = max(self._least_window_tokens, window + 1)
        deployment_id = candidate.deployment.id
        known = self._again.pop(deployment_id, None)
        if error.scope is RetryScope.SAME:
            ready_s = now_s + (error.retry_after_s or 0.0)
            self._again[deployment_id] = _Again(
                candidate,
                1 if known is None else known.tries + 1,
                max(ready_s, 0.0 if known is None else known.ready_s),
            )

    def blocked(self, candidate: Candidate) -> bool:
        """The vendor would not answer for what the request holds; whether another model may be asked."""
        if not self._rules.content_filter_fallback:
            self._is_over = True
            return False
        self._failed_models.add(candidate.profile.id)
        return self.untried() is not None

    def limit_s(self, candidate: Candidate, now_s: float) -> float:
        """Until when an attempt may last, so that a hanging one leaves time for the next deployment."""
        if self.untried() is None:
            return self._deadline_s
        left_s = self._deadline_s - now_s
        expected_s = candidate.expected_latency_ms / 1000.0
        return now_s + min(left_s, max(self._rules.attempt_share * left_s, _SLACK * expected_s))

    def final_error(self, now_s: float) -> RouterError:
        """Why no further attempt is made, with the time after which one can succeed where that is known."""
        if self._is_paid:  # for an attempt that nobody took
            self._is_paid = False
            self._budget.give_back()
        failure = self._failure
        if self._refusals and (failure is None or failure.scope is RetryScope.OTHER_DEPLOYMENT):
            return self._refusal(now_s)
        if failure is None:
            if self._is_unaffordable:
                return BudgetExceeded("no deployment that may take the request fits what it may cost")
            return DeadlineExceeded("the request's deadline passed before a model could be called")
        if failure.scope is RetryScope.SAME:
            failure.retry_after_s = self._soonest_s(now_s)
        return failure

    # --- pieces ---

    def _may_help(self, candidate: Candidate) -> bool:
        profile = candidate.profile
        return profile.id not in self._failed_models and profile.context_window_tokens >= self._least_window_tokens

    def _once_more(self, now_s: float) -> Step | None:
        waiting = [again for again in self._again.values() if self._may_help(again.candidate)]
        if not waiting:
            return None
        again = min(waiting, key=lambda a: (a.tries, a.ready_s))
        asked_s = again.ready_s - now_s + _MARGIN_S if again.ready_s > now_s else 0.0
        # Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        most_s = min(self._rules.backoff_most_s, self._rules.backoff_first_s * 2.0 ** (again.tries - 1))
        wait_s = asked_s + self._rng.uniform(0.0, most_s)
        begins_to_answer_s = now_s + wait_s + again.candidate.profile.ttft_ms / 1000.0
        if asked_s > self._rules.backoff_most_s + _MARGIN_S or begins_to_answer_s > self._deadline_s:
            return None
        return Step(again.candidate, wait_s)

    def _paid(self) -> bool:
        """Whether the process's budget covers the attempt; the first one is free."""
        if self._calls > 0 and not self._is_paid:
            self._is_paid = self._budget.take()
            return self._is_paid
        return True

    def _forget(self, candidate: Candidate) -> None:
        if self._peeked is candidate:
            self._peeked = None
        self._again.pop(candidate.deployment.id, None)

    def _soonest_s(self, now_s: float) -> float | None:
        """Seconds until the first deployment may take calls again; None when one may now."""
        ready = [again.ready_s for again in self._again.values()] + [ready_s for _, ready_s in self._refusals]
        wait_s = min(ready, default=0.0) - now_s
        return wait_s if wait_s > 0.0 else None

    def _refusal(self, now_s: float) -> ProviderError:
        retry_after_s = self._soonest_s(now_s)
        if all(refusal.reason in _QUOTAS for refusal, _ in self._refusals):
            return ProviderRateLimited(
                "every deployment that may take the request has used up its quota", retry_after_s=retry_after_s
            )
        return ProviderUnavailable(
            "every deployment that may take the request is suspended after failures", retry_after_s=retry_after_s
        )
