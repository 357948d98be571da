"""What is said of conditions without a request must be true of every request."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.rules import (
    Between,
    Condition,
    During,
    EveryOf,
    Facts,
    OnDates,
    OneOf,
    ServiceLike,
    SomeOf,
    Streamed,
    Tagged,
)
from shared.scoring.rule_logic import exclude, implies, never_holds

MATH, CODE = OneOf("category", frozenset({"math"})), OneOf("category", frozenset({"code"}))
EITHER = OneOf("category", frozenset({"math", "code"}))
HARD, HARDER, EASY = Between("complexity", 0.5), Between("complexity", 0.8), Between("complexity", 0.0, 0.4)
ANYBODY, BATCH, A = (
    ServiceLike(patterns=("*",)),
    ServiceLike(patterns=("batch-*",)),
    ServiceLike(frozenset({"batch-a"})),
)
MORNING, NOON_ON = During(frozenset({0, 1}), 0, 720, UTC), During(frozenset({0, 1}), 720, 1440, UTC)
MONDAY_MORNING, NIGHT = During(frozenset({0}), 0, 720, UTC), During(frozenset({0}), 1320, 360, UTC)
MAY = OnDates(date(2026, 5, 1), date(2026, 5, 31), UTC)
MAY_DAY, JUNE = OnDates(date(2026, 5, 1), date(2026, 5, 1), UTC), OnDates(date(2026, 6, 1), date.max, UTC)
X, XY, Z = (Tagged("k", frozenset(values)) for values in ("x", "xy", "z"))
PICTURE, PICTURE_OR_SOUND = (
    EveryOf("modality", frozenset({"image"})),
    SomeOf("modality", frozenset({"image", "audio"})),
)
BOTH = EveryOf("modality", frozenset({"image", "audio"}))


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        (Condition((MATH,)), Condition()),
        (Condition((MATH,)), Condition((EITHER,))),
        (Condition((HARDER, MATH)), Condition((HARD,))),
        (Condition((A,)), Condition((BATCH,))),
        (Condition((BATCH,)), Condition((ANYBODY,))),
        (Condition((MONDAY_MORNING,)), Condition((MORNING,))),
        (Condition((MAY_DAY,)), Condition((MAY,))),
        (Condition((X,)), Condition((XY,))),
        (Condition((PICTURE,)), Condition((PICTURE_OR_SOUND,))),
        (Condition((BOTH,)), Condition((PICTURE,))),
        (Condition(any_of=((MATH,), (CODE,))), Condition((EITHER,))),
        (Condition((MATH,)), Condition(any_of=((CODE,), (MATH,)))),
        (Condition((MATH,)), Condition(none_of=((CODE,),))),
        (Condition(none_of=((EITHER,),)), Condition(none_of=((MATH, HARD),))),
    ],
)
def test_one_implies_the_other_but_not_the_reverse(narrow, wide):
    assert implies(narrow, wide)
    assert implies(narrow, narrow)
    if (narrow.any_of, wide.any_of) == ((), ()):
        assert not implies(wide, narrow)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Condition((MATH,)), Condition((CODE,))),
        (Condition((HARD,)), Condition((EASY, MATH))),
        (Condition((X,)), Condition((Z,))),
        (Condition((Streamed(wanted=True),)), Condition((Streamed(wanted=False),))),
        (Condition((A,)), Condition((ServiceLike(frozenset({"b"}), ("c-*",)),))),
        (Condition((ServiceLike(frozenset({"b"})),)), Condition((BATCH,))),
        (Condition((MORNING,)), Condition((NOON_ON,))),
        (Condition((MAY,)), Condition((JUNE,))),
        (Condition((MATH,)), Condition(none_of=((EITHER,),))),
        (Condition(any_of=((MATH,), (CODE, HARD))), Condition((EASY,), none_of=((MATH,),))),
    ],
)
def test_they_exclude_each_other(one, other):
    assert exclude(one, other)
    assert exclude(other, one)
    assert not exclude(one, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (MATH, HARD),
        (BATCH, ServiceLike(patterns=("*-a",))),
        (NIGHT, MORNING),
        (X, Tagged("l", frozenset({"z"}))),
        (PICTURE, EveryOf("modality", frozenset({"audio"}))),
    ],
)
def test_what_may_hold_together_does_not_exclude(one, other):
    assert not exclude(Condition((one,)), Condition((other,)))
    assert not implies(Condition((one,)), Condition((other,)))


def test_conditions_that_contradict_themselves():
    assert never_holds(Condition((MATH,), any_of=((CODE,), (CODE, HARD))))
    assert never_holds(Condition((HARDER,), none_of=((HARD,),)))
    assert not never_holds(Condition((MATH,), any_of=((CODE,), (HARD,))))
    assert not never_holds(Condition())


def test_what_would_take_too_long_is_left_undecided():
    wide = Condition(any_of=((MATH,),) * 40)
    other = Condition(any_of=((CODE,),) * 40)
    assert not exclude(wide, other)
    assert exclude(Condition(any_of=((MATH,),) * 30), Condition(any_of=((CODE,),) * 30))


words = st.frozensets(st.sampled_from(["a", "b", "c"]), min_size=1)
minutes = st.sampled_from([0, 360, 720, 1080])
days = st.frozensets(st.integers(0, 6), min_size=1)
dates = st.integers(0, 6).map(lambda n: date(2026, 11, 23) + timedelta(days=n))
numbers = st.sampled_from([0.0, 0.25, 0.5, 1.0])
services = st.frozensets(st.sampled_from(["a", "ab", "b"]))
patterns = st.lists(st.sampled_from(["*", "a*", "?b"]), max_size=1).map(tuple)
clauses = st.one_of(
    st.builds(OneOf, st.sampled_from(["category", "language"]), words),
    st.builds(Between, st.just("complexity"), numbers, numbers),
    st.builds(SomeOf, st.just("needs"), words),
    st.builds(EveryOf, st.just("needs"), words),
    st.builds(ServiceLike, services, patterns),
    st.builds(Tagged, st.sampled_from(["k", "l"]), words),
    st.builds(Streamed, st.booleans()),
    st.builds(During, days, minutes, minutes, st.just(UTC)).filter(lambda c: c.start_minute != c.end_minute),
    st.builds(OnDates, dates, dates, st.just(UTC)),
)
groups = st.lists(clauses, min_size=1, max_size=2).map(tuple)
conditions = st.builds(
    Condition,
    st.lists(clauses, max_size=2).map(tuple),
    st.lists(groups, max_size=2).map(tuple),
    st.lists(groups, max_size=2).map(tuple),
)
known = st.builds(
    Facts,
    words=st.fixed_dictionaries({"category": st.sampled_from("abc"), "language": st.sampled_from("abc")}),
    numbers=st.fixed_dictionaries({"complexity": numbers}),
    sets=st.fixed_dictionaries({"needs": st.frozensets(st.sampled_from("abc"))}),
    service=st.sampled_from(["a", "ab", "b", "bb"]),
    stream=st.booleans(),
    tags=st.dictionaries(st.sampled_from("kl"), st.sampled_from("abc")),
    now=st.integers(0, 7 * 24).map(lambda hour: datetime(2026, 11, 23, tzinfo=UTC) + timedelta(hours=hour)),
)


@given(one=conditions, other=conditions, requests=st.lists(known, min_size=10, max_size=10))
@settings(max_examples=250, deadline=None)
def test_what_is_proven_holds_for_every_request(one, other, requests):
    certain, apart, empty = implies(one, other), exclude(one, other), never_holds(one)
    for facts in requests:
        first, second = one.holds(facts), other.holds(facts)
        assert not (certain and first and not second)
        assert not (apart and first and second)
        assert not (empty and first)


@given(condition=conditions, more=clauses, requests=st.lists(known, min_size=10, max_size=10))
@settings(max_examples=100, deadline=None)
def test_one_more_clause_narrows_and_is_known_to(condition, more, requests):
    narrower = Condition((*condition.all_of, more), condition.any_of, condition.none_of)
    assert implies(narrower, Condition(condition.all_of))
    assert all(condition.holds(facts) for facts in requests if narrower.holds(facts))
