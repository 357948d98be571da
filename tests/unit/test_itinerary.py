"""Which deployment comes next: order, retries, waits, budgets and the last word, without a single call."""

import random
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.decisions import Candidate, Decision, FactorScores
from shared.domain.errors import (
    BudgetExceeded,
    ContentBlocked,
    ContextWindowExceeded,
    DeadlineExceeded,
    ProviderAuthError,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
    RetryScope,
)
from shared.domain.health import Refusal, RefusalReason
from shared.domain.resilience import RetryPolicy
from shared.domain.weights import Weights
from shared.services.itinerary import Itinerary, ShareBudget
from tests.unit.routing_builders import deployment, features, model

DEADLINE_S = 100.0


def candidate(model_id="a", region="europe-west4", *, window=100_000, expected_ms=2_000.0):
    return Candidate(
        deployment=deployment(model_id, region),
        profile=model(model_id, context_window_tokens=window),
        factors=FactorScores(0.5, 0.5, 0.5, 0.5, 0.5),
        score=0.5,
        propensity=1.0,
        expected_cost_usd=Decimal("0.001"),
        worst_case_cost_usd=Decimal("0.01"),
        expected_latency_ms=expected_ms,
        prompt_tokens=100,
        max_output_tokens=1_000,
    )


A1, A2, B, C = candidate("a"), candidate("a", "us-central1"), candidate("b"), candidate("c", window=500_000)


def itinerary(*candidates, attempts=5, rules=None, reserve=50, share=0.5, seed=1):
    chosen, *fallbacks = candidates or (A1, A2, B, C)
    decision = Decision(
        chosen=chosen,
        fallbacks=tuple(fallbacks),
        candidates=(chosen, *fallbacks),
        rejections=(),
        weights=Weights(1, 0, 0, 0, 0),
        features=features(),
        registry_version="r",
        policy_version="p",
    )
    budget = ShareBudget()
    budget.pay_in(share, reserve)
    return Itinerary(decision, attempts, rules or RetryPolicy(), budget, random.Random(seed), DEADLINE_S)


def walked(route, *errors, now_s=0.0):
    """The deployments that are called when each call fails with the next error; pauses are waited for."""
    called = []
    for error in (*errors, None):
        step = route.next(now_s)
        if step is None:
            break
        now_s += step.wait_s
        route.started(step.candidate)
        called.append(step.candidate)
        if error is None:
            break
        route.failed(step.candidate, error, now_s)
    return called


def away(**more):
    return ProviderUnavailable("away", **more)


def test_failures_lead_through_the_models_deployments_to_the_other_models():
    assert walked(itinerary(), away(), ProviderRateLimited("full"), ProviderAuthError("no")) == [A1, A2, B, C]


@pytest.mark.parametrize("error", [ProviderRejected("no"), ContextWindowExceeded("long")])
def test_what_one_model_refuses_is_not_brought_to_its_other_deployments(error):
    assert walked(itinerary(A1, A2, C), error) == [A1, C]


def test_a_prompt_too_long_goes_to_a_larger_window_only():
    assert walked(itinerary(), ContextWindowExceeded("long")) == [A1, C]
    route = itinerary(A1, A2, B)
    assert walked(route, ContextWindowExceeded("long")) == [A1]
    assert isinstance(route.final_error(1.0), ContextWindowExceeded)


def test_blocked_content_is_shown_to_nobody_else_unless_the_policy_says_so():
    assert walked(itinerary(), ContentBlocked("blocked")) == [A1]
    allowed = RetryPolicy(content_filter_fallback=True)
    assert walked(itinerary(rules=allowed), ContentBlocked("blocked")) == [A1, B]


def test_nobodys_fault_to_mend_ends_at_once():
    assert walked(itinerary(), ProviderRejected("no", scope=RetryScope.NEVER)) == [A1]


def test_the_same_deployments_come_round_again_in_turn_only_when_no_other_is_left():
    assert walked(itinerary(A1, A2), *[away() for _ in range(9)]) == [A1, A2, A1, A2, A1]
    assert walked(itinerary(A1), ProviderAuthError("no")) == [A1]
    assert walked(itinerary(A1, A2), ProviderAuthError("no"), away()) == [A1, A2, A2]


def test_pauses_double_with_full_jitter_and_are_bounded():
    rules = RetryPolicy(backoff_first_s=1.0, backoff_most_s=3.0)
    waits = []
    for seed in range(200):
        route, now_s = itinerary(A1, rules=rules, seed=seed), 0.0
        for _ in range(5):
            step = route.next(now_s)
            waits.append(step.wait_s)
            now_s += step.wait_s
            route.started(step.candidate)
            route.failed(step.candidate, away(), now_s)
    by_try = [waits[i::5] for i in range(5)]
    assert set(by_try[0]) == {0.0}
    for tried, most_s in zip(by_try[1:], (1.0, 2.0, 3.0, 3.0), strict=True):
        assert min(tried) < 0.1 * most_s
        assert 0.9 * most_s < max(tried) <= most_s


def test_retry_after_is_waited_for_when_it_fits():
    route = itinerary(A1)
    route.started(route.next(0.0).candidate)
    route.failed(A1, ProviderRateLimited("full", retry_after_s=4.0), 0.0)
    step = route.next(0.5)
    assert step.candidate is A1
    assert 3.5 < step.wait_s <= 3.5 + 0.2 + 0.02


def test_the_later_of_two_retry_afters_counts():
    route = itinerary(A1, rules=RetryPolicy(backoff_first_s=0.0))
    route.next(0.0)
    for retry_after_s, now_s in ((4.0, 0.0), (None, 1.0)):
        route.started(A1)
        route.failed(A1, ProviderRateLimited("full", retry_after_s=retry_after_s), now_s)
    assert route.next(1.0).wait_s == pytest.approx(3.02)


@pytest.mark.parametrize(("retry_after_s", "now_s"), [(5.1, 0.0), (4.0, 96.1)])
def test_a_wait_that_is_too_long_or_passes_the_deadline_is_told_and_not_waited(retry_after_s, now_s):
    route = itinerary(A1)
    route.started(route.next(0.0).candidate)
    route.failed(A1, ProviderRateLimited("full", retry_after_s=retry_after_s), now_s)
    assert route.next(now_s) is None
    error = route.final_error(now_s + 1.0)
    assert isinstance(error, ProviderRateLimited)
    assert error.retry_after_s == pytest.approx(retry_after_s - 1.0)


def test_no_retry_after_is_made_up_when_another_deployment_may_be_called_at_once():
    route = itinerary(A1, A2, attempts=2)
    walked(route, ProviderRateLimited("full", retry_after_s=60.0), away())
    error = route.final_error(1.0)
    assert isinstance(error, ProviderUnavailable)
    assert error.retry_after_s is None


def refusal(reason, retry_after_s):
    return Refusal(RefusalReason(reason), retry_after_s)


def test_a_refused_deployment_costs_no_attempt():
    route = itinerary(A1, A2, B, attempts=1)
    route.refused(route.next(0.0).candidate, refusal("breaker_open", 9.0), 0.0)
    assert route.next(0.0).candidate is A2


@pytest.mark.parametrize(
    ("reasons", "kind"),
    [
        (("requests_quota", "tokens_quota"), ProviderRateLimited),
        (("requests_quota", "cooldown"), ProviderUnavailable),
        (("breaker_open", "half_open_busy"), ProviderUnavailable),
    ],
)
def test_when_all_refuse_the_soonest_return_is_told(reasons, kind):
    route = itinerary(A1, A2)
    for reason, retry_after_s in zip(reasons, (30.0, 7.0), strict=True):
        route.refused(route.next(0.0).candidate, refusal(reason, retry_after_s), 0.0)
    assert route.next(0.0) is None
    error = route.final_error(2.0)
    assert type(error) is kind
    assert error.retry_after_s == 5.0


def test_a_dead_deployment_beside_suspended_ones_is_told_as_a_suspension():
    route = itinerary(A1, A2)
    route.started(route.next(0.0).candidate)
    route.failed(A1, ProviderAuthError("no"), 0.0)
    route.refused(route.next(0.0).candidate, refusal("breaker_open", 3.0), 0.0)
    assert route.next(0.0) is None
    error = route.final_error(0.0)
    assert (type(error), error.retry_after_s) == (ProviderUnavailable, 3.0)


def test_without_an_attempt_the_last_word_says_what_stood_in_the_way():
    late = itinerary()
    assert late.next(DEADLINE_S) is None
    assert isinstance(late.final_error(DEADLINE_S), DeadlineExceeded)
    dear = itinerary(A1)
    dear.passed_over(dear.next(0.0).candidate, unaffordable=True)
    assert dear.next(0.0) is None
    assert isinstance(dear.final_error(0.0), BudgetExceeded)


def test_a_hanging_attempt_leaves_time_for_the_next_deployment_but_not_less_than_it_needs():
    route = itinerary(A1, A2, rules=RetryPolicy(attempt_share=0.5))
    route.started(route.next(0.0).candidate)
    assert route.limit_s(A1, 0.0) == 50.0
    slow = candidate("a", expected_ms=30_000.0)
    assert route.limit_s(slow, 0.0) == 90.0
    assert route.limit_s(slow, 20.0) == DEADLINE_S
    route.started(route.next(50.0).candidate)
    assert route.limit_s(A2, 50.0) == DEADLINE_S


def test_retries_are_bounded_over_requests_and_not_the_first_attempts():
    budget = ShareBudget()
    calls = 0
    for _ in range(1_000):
        budget.pay_in(0.5, 20)
        route = Itinerary(
            Decision(
                A1, (A2, B, C), (A1, A2, B, C), (), Weights(1, 0, 0, 0, 0), features(), "r", "p"
            ),
            5,
            RetryPolicy(),
            budget,
            random.Random(1),
            DEADLINE_S,
        )  # fmt: skip
        calls += len(walked(route, *[away() for _ in range(9)]))
        route.final_error(0.0)
    # One for each request, half of one on average for retries, and the reserve once.
    assert 1_480 <= calls <= 1_000 + 500 + 20


def test_a_retry_that_nobody_took_is_given_back():
    budget = ShareBudget()
    budget.pay_in(0.5, 1)
    route = itinerary(A1, A2)
    route._budget = budget
    route.started(route.next(0.0).candidate)
    route.failed(A1, away(), 0.0)
    route.refused(route.next(0.0).candidate, refusal("cooldown", 99.0), 0.0)
    route._again.clear()
    assert route.next(0.0) is None
    route.final_error(0.0)
    assert budget.take()
    assert not budget.take()


ERRORS = st.sampled_from(
    [
        away(),
        ProviderTimeout("late"),
        ProviderAuthError("no"),
        ProviderRejected("no"),
        ContextWindowExceeded("long"),
        ContentBlocked("blocked"),
        ProviderRateLimited("full", retry_after_s=2.0),
        ProviderRateLimited("full", retry_after_s=2_000.0),
    ]
)


@given(
    failures=st.lists(st.one_of(ERRORS, st.just("refused")), max_size=12),
    attempts=st.integers(1, 6),
    allowed=st.booleans(),
    seed=st.integers(0, 99),
)
def test_whatever_fails_only_candidates_are_called_never_too_often_never_past_the_deadline(
    failures, attempts, allowed, seed
):
    route = itinerary(attempts=attempts, rules=RetryPolicy(content_filter_fallback=allowed), seed=seed)
    now_s, calls, given_up = 0.0, [], set()
    for failure in failures:
        step = route.next(now_s)
        if step is None:
            break
        now_s += step.wait_s
        assert now_s < DEADLINE_S
        assert step.candidate.deployment.id not in given_up
        if failure == "refused":
            given_up.add(step.candidate.deployment.id)
            route.refused(step.candidate, refusal("cooldown", 1.0), now_s)
            continue
        calls.append(step.candidate)
        route.started(step.candidate)
        route.failed(step.candidate, failure, now_s)
        if failure.scope is not RetryScope.SAME:
            given_up.add(step.candidate.deployment.id)
        now_s += 1.0
    assert len(calls) <= attempts
    assert {c.deployment.id for c in calls} <= {c.deployment.id for c in (A1, A2, B, C)}
    assert route.final_error(now_s).message
