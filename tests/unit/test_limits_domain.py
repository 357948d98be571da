"""Rate limits: which meters a request must pass, and the arithmetic against a slow reference."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.limits import (
    Ended,
    EndpointClass,
    Meter,
    MeterKind,
    Meters,
    Priority,
    RateLimit,
    meters_for,
)
from shared.domain.scopes import Per, Scope, Subject, key_part

MINUTE_US = 60_000_000
laws = settings(deadline=None)  # how long an example takes says nothing about the code
SHOP = Subject("t-1", "shop", "commerce", (("project", "x"), ("team", "commerce")))
GENERATE = EndpointClass.GENERATE


def kinds(meters: tuple[Meter, ...]) -> list[str]:
    return [meter.name for meter in meters]


def test_every_level_of_the_hierarchy_has_its_meter() -> None:
    rules = [
        RateLimit("a", Scope(Per.SERVICE), requests_per_minute=6),
        RateLimit("b", Scope(Per.TEAM), tokens_per_minute=100),
        RateLimit("c", Scope(Per.TENANT), concurrent=3),
        RateLimit("d", Scope(Per.TAG, tag="project"), requests_per_minute=6),
    ]
    meters = meters_for(rules, SHOP, GENERATE, tokens=7)
    assert kinds(meters) == ["a.requests_per_minute", "b.tokens_per_minute", "c.concurrent", "d.requests_per_minute"]
    assert len({meter.key for meter in meters}) == 4
    assert all(meter.key.startswith("rate:{t-1}:") for meter in meters)


@pytest.mark.parametrize(
    ("rule", "held"),
    [
        (RateLimit("a", Scope(services=frozenset({"other"})), concurrent=1), False),
        (RateLimit("a", Scope(services=frozenset({"shop"})), concurrent=1), True),
        (RateLimit("a", Scope(tenants=frozenset({"t-2"})), concurrent=1), False),
        (RateLimit("a", Scope(Per.TAG, tag="absent"), concurrent=1), False),
        (RateLimit("a", Scope(Per.TAG, tag="project", values=frozenset({"y"})), concurrent=1), False),
        (RateLimit("a", Scope(Per.TEAM, values=frozenset({"commerce"})), concurrent=1), True),
        (RateLimit("a", classes=frozenset({EndpointClass.ADMIN}), concurrent=1), False),
        (RateLimit("a", classes=frozenset({GENERATE}), concurrent=1), True),
    ],
)
def test_a_rule_holds_whom_it_names(rule: RateLimit, held: bool) -> None:
    assert bool(meters_for([rule], SHOP, GENERATE)) is held


@laws
@given(st.lists(st.text(), min_size=2, max_size=2, unique=True))
def test_different_values_never_share_a_key_and_no_value_breaks_out_of_it(values: list[str]) -> None:
    first, second = map(key_part, values)
    assert first != second
    assert all(len(part) <= 64 and part.isascii() and not set(part) & set("{}:/,| \r\n") for part in (first, second))


def meter(limit: int, burst: int, kind: MeterKind = MeterKind.REQUESTS, amount: int = 1, share: float = 1.0) -> Meter:
    rule = RateLimit("r", **{kind.value: limit})
    capacity = limit if kind is MeterKind.CONCURRENT else burst * -(-MINUTE_US // limit)
    return Meter(rule, kind, "k", limit, capacity, amount, share)


@laws
@given(
    st.integers(1, 10_000),
    st.integers(1, 50),
    st.lists(st.integers(0, 20_000_000), min_size=1, max_size=200),
)
def test_admissions_follow_a_leaky_bucket_in_exact_fractions(limit: int, burst: int, gaps_us: list[int]) -> None:
    interval = Fraction(-(-MINUTE_US // limit))  # the rate as it is metered: whole microseconds
    meters, ask = Meters(), meter(limit, burst)
    level, last_us, now_us = Fraction(0), 0, 1_000_000
    for gap_us in gaps_us:
        now_us += gap_us
        level = max(Fraction(0), level - (now_us - last_us) / interval)
        last_us = now_us
        verdict = meters.admit([ask], request_id="r", now_us=now_us, lease_us=1)
        assert (verdict.refused is None) == (level + 1 <= burst)
        if verdict.refused is None:
            level += 1
        else:
            assert verdict.retry_after_us == (level + 1 - burst) * interval
        assert ask.remaining(verdict.used[0]) == int(burst - level)


@laws
@given(st.integers(1, 6_000), st.integers(1, 100), st.lists(st.integers(0, 3_000_000), max_size=300))
def test_no_window_holds_more_than_the_rate_and_the_burst(limit: int, burst: int, gaps_us: list[int]) -> None:
    meters, now_us, admitted = Meters(), 0, []
    for gap_us in gaps_us:
        now_us += gap_us
        if meters.admit([meter(limit, burst)], request_id="r", now_us=now_us, lease_us=1).refused is None:
            admitted.append(now_us)
    for first, start_us in enumerate(admitted):
        for last in range(first, len(admitted)):
            window_us = admitted[last] - start_us
            assert last - first + 1 <= burst + Fraction(limit * window_us, MINUTE_US)


@laws
@given(st.integers(1, 100_000), st.lists(st.tuples(st.integers(1, 5_000), st.integers(0, 5_000)), max_size=50))
def test_corrected_tokens_leave_the_meter_as_if_the_truth_had_been_known(
    limit: int, requests: list[tuple[int, int]]
) -> None:
    estimated, true = Meters(), Meters()
    for guess, used in requests:
        ask = meter(limit, 10**7, MeterKind.TOKENS, guess)
        truth = meter(limit, 10**7, MeterKind.TOKENS, used)
        assert estimated.admit([ask], request_id="r", now_us=5, lease_us=1).refused is None
        assert true.admit([truth], request_id="r", now_us=5, lease_us=1).refused is None
        estimated.settle(Ended("r", corrections=((ask.key, truth.cost - ask.cost),)), now_us=5)
    assert {k: v for k, v in true.arrival_us.items() if v > 5} == estimated.arrival_us


def test_nothing_is_charged_when_one_refuses() -> None:
    meters = Meters()
    wide, narrow = meter(600, 10), Meter(RateLimit("n"), MeterKind.CONCURRENT, "n", 1, 1, 1)
    assert meters.admit([wide, narrow], request_id="1", now_us=0, lease_us=MINUTE_US).refused is None
    refusal = meters.admit([wide, narrow], request_id="2", now_us=0, lease_us=MINUTE_US)
    assert (refusal.refused, refusal.retry_after_us) == (1, 1_000_000)
    assert wide.remaining(refusal.used[0]) == 9


def test_a_slot_comes_back_at_the_end_or_when_its_lease_is_over() -> None:
    meters, slot = Meters(), meter(1, 1, MeterKind.CONCURRENT)
    assert meters.admit([slot], request_id="1", now_us=0, lease_us=10).refused is None
    assert meters.admit([slot], request_id="2", now_us=9, lease_us=10).refused == 0
    assert meters.admit([slot], request_id="2", now_us=10, lease_us=10).refused is None
    meters.settle(Ended("2", slots=(slot.key,)), now_us=11)
    assert meters.admit([slot], request_id="3", now_us=11, lease_us=10).refused is None


def test_low_priority_gives_way_first_and_is_never_shut_out() -> None:
    meters = Meters()
    low, normal = meter(60, 10, share=0.5), meter(60, 10)
    for _ in range(5):
        assert meters.admit([low], request_id="r", now_us=0, lease_us=1).refused is None
    assert meters.admit([low], request_id="r", now_us=0, lease_us=1).refused == 0
    for _ in range(5):
        assert meters.admit([normal], request_id="r", now_us=0, lease_us=1).refused is None
    assert meters.admit([normal], request_id="r", now_us=0, lease_us=1).refused == 0
    tiny = Meters()
    assert tiny.admit([meter(1, 1, share=0.01)], request_id="r", now_us=0, lease_us=1).refused is None


def test_bursts_and_local_shares_have_defaults() -> None:
    rule = RateLimit("r", requests_per_minute=600, tokens_per_minute=1_000, concurrent=8)
    requests, tokens, slots = meters_for([rule], SHOP, GENERATE, tokens=10)
    assert [m.remaining(0) for m in (requests, tokens, slots)] == [100, 1_000, 8]
    requests, tokens, slots = meters_for([rule], SHOP, GENERATE, tokens=10, local=True)
    assert [m.remaining(0) for m in (requests, tokens, slots)] == [25, 250, 2]
    shares = meters_for([rule], SHOP, GENERATE, priority=Priority.LOW)
    assert {m.share for m in shares} == {0.8}
