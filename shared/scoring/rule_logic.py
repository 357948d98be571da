"""What can be said of conditions without any request: whether one implies another, and whether two exclude each other.

Both answers are safe, not complete: True is proven, False may mean "not known". The loader refuses a policy only for
what is proven.
"""

from itertools import product

from shared.domain.rules import (
    Between,
    Clause,
    Condition,
    During,
    EveryOf,
    Group,
    OnDates,
    OneOf,
    ServiceLike,
    SomeOf,
    Streamed,
    Tagged,
)

_MAX_TERMS = 1024
"""Conditions with more alternatives than this, multiplied out, are left undecided."""


def implies(narrow: Condition, wide: Condition) -> bool:
    """Whether `wide` holds for every request for which `narrow` does."""
    return all(_term_implies(term, narrow.none_of, wide) for term in _terms(narrow))


def exclude(one: Condition, other: Condition) -> bool:
    """Whether no request meets both."""
    if len(one.any_of or "-") * len(other.any_of or "-") > _MAX_TERMS:
        return False
    none_of = one.none_of + other.none_of
    return all(_impossible(left + right, none_of) for left, right in product(_terms(one), _terms(other)))


def never_holds(condition: Condition) -> bool:
    """Whether no request meets it."""
    return exclude(condition, Condition())


def _terms(condition: Condition) -> list[Group]:
    """The alternatives of a condition, each a conjunction."""
    return [condition.all_of + group for group in condition.any_of] or [condition.all_of]


def _term_implies(term: Group, none_of: tuple[Group, ...], wide: Condition) -> bool:
    if not _entails_all(term, wide.all_of):
        return False
    if wide.any_of and not any(_entails_all(term, group) for group in wide.any_of):
        return False
    return all(_impossible(term + group, none_of) for group in wide.none_of)


def _impossible(term: Group, none_of: tuple[Group, ...]) -> bool:
    if any(_entails_all(term, group) for group in none_of):
        return True
    return any(_clash(a, b) for index, a in enumerate(term) for b in term[index + 1 :])


def _entails_all(term: Group, wanted: Group) -> bool:
    return all(any(_entails(clause, want) for clause in term) for want in wanted)


def _entails(clause: Clause, want: Clause) -> bool:  # noqa: PLR0911 - one for each kind of clause
    """Whether `want` holds wherever `clause` does."""
    if clause == want:
        return True
    match clause, want:
        case (OneOf() as a, OneOf() as b) | (SomeOf() as a, SomeOf() as b):
            return a.fact == b.fact and a.values <= b.values
        case EveryOf() as a, EveryOf() as b:
            return a.fact == b.fact and b.values <= a.values
        case EveryOf() as a, SomeOf() as b:
            return a.fact == b.fact and not a.values.isdisjoint(b.values)
        case Between() as a, Between() as b:
            return a.fact == b.fact and b.minimum <= a.minimum and a.maximum <= b.maximum
        case Tagged() as a, Tagged() as b:
            return a.key == b.key and a.values <= b.values
        case ServiceLike() as a, ServiceLike() as b:
            patterns = all(pattern in b.patterns or "*" in b.patterns for pattern in a.patterns)
            return patterns and all(b.fits(name) for name in a.names)
        case During() as a, During() as b:
            same_hours = (a.start_minute, a.end_minute, a.zone) == (b.start_minute, b.end_minute, b.zone)
            return same_hours and a.days <= b.days
        case OnDates() as a, OnDates() as b:
            return a.zone == b.zone and b.first <= a.first and a.last <= b.last
        case _:
            return False


def _clash(one: Clause, other: Clause) -> bool:
    """Whether the two cannot hold together."""
    match one, other:
        case OneOf() as a, OneOf() as b:
            return a.fact == b.fact and a.values.isdisjoint(b.values)
        case Between() as a, Between() as b:
            return a.fact == b.fact and (a.maximum < b.minimum or b.maximum < a.minimum)
        case Tagged() as a, Tagged() as b:
            return a.key == b.key and a.values.isdisjoint(b.values)
        case Streamed() as a, Streamed() as b:
            return a.wanted is not b.wanted
        case ServiceLike() as a, ServiceLike() as b:
            return _no_common_name(a, b)
        case OnDates() as a, OnDates() as b:
            return a.zone == b.zone and (a.last < b.first or b.last < a.first)
        case During() as a, During() as b:
            return _never_together(a, b)
        case _:
            return False


def _no_common_name(a: ServiceLike, b: ServiceLike) -> bool:
    if a.patterns and b.patterns:
        return False
    listed, asked = (b, a) if a.patterns else (a, b)
    return not any(asked.fits(name) for name in listed.names)


def _never_together(a: During, b: During) -> bool:
    if a.zone != b.zone or a.start_minute >= a.end_minute or b.start_minute >= b.end_minute:
        return False
    return a.days.isdisjoint(b.days) or a.end_minute <= b.start_minute or b.end_minute <= a.start_minute
