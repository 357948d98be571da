"""Incidents over any course of events: no state is skipped, nothing is told twice or of nothing."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from shared.analytics.alerting_defaults import built_in_rules
from shared.analytics.alerting_states import MOST_OPEN, Book, advance, book_of, close, tell
from shared.domain.alert_bounds import check
from shared.domain.alerts import Escalation, Finding, IncidentState, Silence
from shared.domain.notifications import Occasion
from tests.alert_world import NOON, TENANT, rule

MINUTE = timedelta(minutes=1)
GROUPS = [(("model", name),) for name in "abcdef"]
COURSES = st.lists(
    st.dictionaries(st.sampled_from(GROUPS), st.sampled_from([True, False, None]), max_size=6), max_size=40
)
RULES = st.builds(
    lambda for_, keep, repeat, escalates: rule(
        for_s=60 * for_,
        keep_firing_s=60 * keep,
        repeat_s=60 * repeat,
        escalation=Escalation(120, ("boss", "ops")) if escalates else None,
    ),
    st.integers(0, 4),
    st.integers(0, 4),
    st.sampled_from([0, 5]),
    st.booleans(),
)


def play(made, course, silences=(), channels=None):
    """Everything that was ever open or resolved by id, in its states in order, and what was told."""
    opened, history, told = Book(), {}, []
    for number, step in enumerate(course):
        at = NOON + number * MINUTE
        # A step begins with what the store has.
        book = book_of(opened.open.values())
        advance(book, made, [Finding(group, holds, 1.0) for group, holds in step.items()], at)
        told += tell(book, made, silences, channels, at)
        assert len({one.group for one in book.open.values()}) == len(book.open)
        for one in (*book.open.values(), *book.resolved):
            states = history.setdefault(one.id, [])
            if not states or states[-1][0] is not one.state:
                states.append((one.state, at, one))
        for gone in book.dropped:
            history.setdefault(gone, []).append(("dropped", at, None))
        opened = book
    return history, told


@given(RULES, COURSES)
def test_no_state_is_skipped_and_durations_are_kept(made, course):
    history, _ = play(made, course)
    for states in history.values():
        names = [state for state, _, _ in states]
        last = next(one for _, _, one in reversed(states) if one is not None) if names != ["dropped"] else None
        if "dropped" in names:
            assert set(names) <= {IncidentState.PENDING, "dropped"}
            continue
        assert names in (
            [IncidentState.PENDING],
            [IncidentState.PENDING, IncidentState.FIRING],
            [IncidentState.FIRING],
            [IncidentState.FIRING, IncidentState.RESOLVED],
            [IncidentState.PENDING, IncidentState.FIRING, IncidentState.RESOLVED],
        )
        assert (IncidentState.PENDING in names) is (made.for_s > 0 or last.state is IncidentState.PENDING)
        if last.fired_at is not None:
            assert last.fired_at - last.started_at >= timedelta(seconds=made.for_s)
        if last.resolved_at is not None:
            assert last.resolved_at - last.ended_at >= timedelta(seconds=made.keep_firing_s)
            assert last.ended_at > last.fired_at


@given(RULES, COURSES)
def test_each_incident_is_told_of_once_and_its_end_once_to_the_same_people(made, course):
    history, told = play(made, course)
    assert len({one.id for one in told}) == len(told)
    begun = Counter((one.incident_id, one.channel) for one in told if one.occasion is Occasion.FIRING)
    assert set(begun.values()) <= {1}
    fired = {one.thread for states in history.values() for _, _, one in states if one is not None and one.thread}
    assert fired == {thread for thread, _ in begun}
    first = {}
    for one in told:
        first.setdefault((one.incident_id, one.channel), one.occasion)
    assert set(first.values()) <= {Occasion.FIRING, Occasion.ESCALATION}
    informed = {(one.incident_id, one.channel) for one in told if one.occasion is not Occasion.RESOLVED}
    assert {(one.incident_id, one.channel) for one in told if one.occasion is Occasion.RESOLVED} <= informed


@given(RULES, COURSES)
def test_the_same_course_tells_the_same(made, course):
    assert [one.id for one in play(made, course)[1]] == [one.id for one in play(made, course)[1]]


@given(RULES, COURSES)
def test_without_channels_and_under_silences_incidents_are_the_same_and_nobody_is_told(made, course):
    history, told = play(made, course, channels=())
    silence = Silence("s", TENANT, NOON, NOON + timedelta(days=1), "me", "why")
    silent, quiet = play(made, course, silences=[silence])
    assert told == quiet == []
    assert history.keys() == silent.keys() == play(made, course)[0].keys()


def test_a_rule_has_only_so_many_open_incidents():
    book = Book()
    findings = [Finding((("service", str(n)),), holds=True, value=1.0) for n in range(MOST_OPEN + 50)]
    advance(book, rule(), findings, NOON)
    assert len(book.open) == MOST_OPEN
    assert len(tell(book, rule(), (), None, NOON)) == 1


def test_who_was_told_together_is_told_of_each_end_in_the_same_thread():
    book, made = Book(), rule()
    advance(book, made, [Finding(group, holds=True) for group in GROUPS], NOON)
    (first,) = tell(book, made, (), None, NOON)
    advance(book, made, [Finding(group, holds=True) for group in GROUPS[1:]], NOON + MINUTE)
    (second,) = tell(book, made, (), None, NOON + MINUTE)
    assert (second.occasion, second.incident_id) == (Occasion.RESOLVED, first.incident_id)
    assert second.group == {"model": "a"}


def test_closing_ends_what_fires_and_drops_what_is_pending():
    book, made = Book(), rule()
    advance(book, made, [Finding(GROUPS[0], holds=True)], NOON)
    advance(book, replace(made, for_s=600), [Finding(group, holds=True) for group in GROUPS[:2]], NOON + MINUTE)
    close(book, NOON + 2 * MINUTE)
    assert (book.open, [one.group for one in book.resolved], len(book.dropped)) == ({}, [GROUPS[0]], 1)


def test_built_in_rules_are_within_the_bounds():
    made = built_in_rules(TENANT)
    for one in made:
        check(one, tag_keys=())
    assert len({one.name for one in made}) == len({one.id for one in made}) == len(made)
    assert all(one.is_built_in for one in made)
