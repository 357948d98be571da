"""One score of all that is known, what many come to, and what is seen of an answer."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.analysis.answer_signs import ends_in_loop, signs_of
from shared.analysis.fingerprint import bands, fingerprint, is_near, whose
from shared.analytics.quality import LEAST_SCORES, Scores, TargetState, combined, target_state
from shared.domain.chat import ChatRequest, FormatKind, Message, ResponseFormat, Role, TextPart, ToolCallPart
from shared.domain.quality_signals import SEVERITY, WEAK, QualitySource, Sign, read, written
from shared.domain.replies import ChatReply, FinishReason, Usage

shares = st.floats(0, 1)
signs = st.frozensets(st.sampled_from(Sign))
KEY = b"k" * 32


@given(st.none() | shares, st.none() | shares, signs)
def test_the_strongest_source_decides_alone(feedback, verdict, seen):
    made = combined(feedback, verdict, seen)
    if feedback is not None:
        assert (made.value, made.source) == (feedback, QualitySource.FEEDBACK)
    elif verdict is not None:
        assert (made.value, made.source) == (verdict, QualitySource.JUDGE)
    elif made is not None:
        assert made.source is QualitySource.SIGNALS
        assert seen - WEAK
    else:
        assert seen <= WEAK


@given(signs, signs)
def test_more_that_is_wrong_never_makes_a_score_better(seen, more):
    less, all_of_it = combined(None, None, seen), combined(None, None, seen | more)
    if less is not None:
        assert all_of_it.value <= less.value + 1e-12 or Sign.REFUSED in more


@given(st.lists(st.sampled_from(Sign)))
def test_order_and_repetition_of_signs_do_not_matter(seen):
    assert combined(None, None, seen) == combined(None, None, [*reversed(seen), *seen])
    assert read(written(frozenset(seen))) == frozenset(seen)


def test_words_of_a_later_version_are_left_out():
    assert read("empty,from_the_future") == {Sign.EMPTY}
    assert read("") == frozenset()


def test_weak_signs_count_beside_strong_ones_only():
    assert combined(None, None, {Sign.RETRIED, Sign.CUT_AT_LIMIT}) is None
    assert combined(None, None, {Sign.TRUNCATED, Sign.RETRIED}).value == pytest.approx(0.5 * 0.6)
    assert combined(None, None, {Sign.EMPTY}).value == 0.0
    assert combined(None, None, {Sign.REFUSED, Sign.REFUSAL_WORDING}) == combined(None, None, {Sign.REFUSED})
    assert set(SEVERITY) == set(Sign) - {Sign.FAILED}


def added(values):
    return Scores(len(values), math.fsum(values), math.fsum(v * v for v in values))


@given(st.lists(shares, max_size=80), st.lists(shares, max_size=80))
def test_scores_add_up_and_their_interval_holds_the_mean(one, other):
    both = added(one) + added(other)
    assert both.count == len(one) + len(other)
    if both.count:
        assert both.mean == pytest.approx(math.fsum([*one, *other]) / both.count)
        interval = both.interval()
        assert 0.0 <= interval.low <= both.mean + 1e-9
        assert both.mean - 1e-9 <= interval.high <= 1.0
    else:
        assert (both.mean, both.interval()) == (None, None)


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ([1.0] * (LEAST_SCORES - 1), TargetState.NOT_ENOUGH_DATA),
        ([1.0] * LEAST_SCORES, TargetState.NOT_ENOUGH_DATA),  # all the same: Wilson's low end is 0.89
        ([1.0] * 60, TargetState.MET),
        ([0.9] * 60, TargetState.NOT_ENOUGH_DATA),
        ([1.0, 0.75] * 80, TargetState.NOT_MET),
        ([1.0, 1.0, 1.0, 0.75] * 40, TargetState.MET),
        ([1.0, 0.0] * 40, TargetState.NOT_MET),
        ([1.0, 1.0, 1.0, 0.5] * 20, TargetState.NOT_ENOUGH_DATA),
        ([1.0, 1.0, 1.0, 1.0, 0.5] * 20, TargetState.NOT_ENOUGH_DATA),
    ],
)
def test_a_target_is_met_when_the_whole_interval_says_so(values, state):
    assert target_state(added(values)) is state


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    # Every sequence of ten of five equally likely points would be too many: a fixed grid of samples instead.
    points = (0.0, 0.25, 0.5, 0.75, 1.0)
    state, covered, runs = 12345, 0, 400
    for _ in range(runs):
        drawn = []
        for _ in range(60):
            state = (1103515245 * state + 12345) % 2**31
            drawn.append(points[(state >> 16) % 5])
        interval = added(drawn).interval()
        covered += interval.low <= 0.5 <= interval.high
    assert 0.92 <= covered / runs <= 0.98


def reply(text="fine", reason=FinishReason.STOP, parts=None):
    return ChatReply(parts or (TextPart(text),), reason, reason.value, Usage())


def asked(**changes):
    return ChatRequest((Message(Role.USER, (TextPart("?"),)),), **changes)


LOOP = "and then it goes on, " * 60
JSON = ResponseFormat(FormatKind.JSON_OBJECT)


@pytest.mark.parametrize(
    ("answer", "request_", "seen"),
    [
        (reply("Paris."), asked(), set()),
        (reply(" \n"), asked(), {Sign.EMPTY}),
        (reply(""), asked(), {Sign.EMPTY}),
        (reply("I'm sorry, I can't help with that."), asked(), {Sign.REFUSAL_WORDING}),
        (reply("I'm sorry, I can't help with that. " + "But here is what I can say. " * 30 + "Done."), asked(), set()),
        (reply("I can't help with that.", FinishReason.REFUSAL), asked(), {Sign.REFUSED}),
        (reply("", FinishReason.CONTENT_FILTER), asked(), {Sign.REFUSED}),
        (reply("and so", FinishReason.LENGTH), asked(), {Sign.TRUNCATED}),
        (reply("and so", FinishReason.LENGTH), asked(max_output_tokens=9), {Sign.CUT_AT_LIMIT}),
        (reply(LOOP, FinishReason.LENGTH), asked(), {Sign.TRUNCATED, Sign.REPETITION}),
        (reply(parts=(ToolCallPart("c", "f", "{}"),), reason=FinishReason.TOOL_CALLS), asked(), set()),
        (reply("Sorry, I cannot do that."), asked(response_format=JSON), set()),
    ],
)
def test_what_is_seen_of_an_answer(answer, request_, seen):
    assert signs_of(answer, request_) == seen


@pytest.mark.parametrize(
    "text",
    [
        "word " * 100,  # shorter than what is looked at
        "0, 0, 0, 0, " * 100,
        "-" * 2_000,
        " ".join(str(n) for n in range(400)),
        LOOP + "and then it ended, as everything does, when nobody was looking any more.",
    ],
)
def test_what_is_no_loop(text):
    assert not ends_in_loop(text)


@given(
    st.text(min_size=1, max_size=150).filter(lambda unit: sum(c.isalpha() for c in set(unit)) >= 3), st.integers(0, 149)
)
def test_every_loop_is_found_wherever_it_is_cut(unit, cut):
    text = unit * (800 // len(unit) + 2)
    assert ends_in_loop("It began well. " + text[: len(text) - cut % len(unit)])


def test_nearly_the_same_message_is_known_again_and_another_is_not():
    long = " ".join(f"word{n} and" for n in range(80))
    first = fingerprint(f"Please summarise this. {long} That is all.", KEY)
    assert is_near(first, fingerprint(f"please  summarise THIS: {long}; that is all!!", KEY))
    assert not is_near(first, fingerprint("What is the capital of France, and why is it Paris?", KEY))
    assert first != fingerprint(f"Please summarise this. {long} That is all.", b"another key 1234")


@pytest.mark.parametrize("text", ["", "yes", "go on please now", "weiter!", "????"])
def test_short_messages_are_not_known_again(text):
    assert fingerprint(text, KEY) is None


@given(st.integers(0, 2**64 - 1), st.sets(st.integers(0, 63), max_size=3))
def test_fingerprints_that_are_near_share_a_band(value, flipped):
    other = value
    for bit in flipped:
        other ^= 1 << bit
    assert is_near(value, other)
    assert set(bands(value)) & set(bands(other))


@given(st.text(max_size=3_000))
def test_no_text_breaks_a_fingerprint(text):
    value = fingerprint(text, KEY)
    assert value is None or 0 <= value < 2**64


def test_who_sent_it_is_told_apart_without_a_name():
    known = {whose(*pair, KEY) for pair in itertools.product(("a", "ab"), ("b", "bc", "c"))}
    assert len(known) == 6
    assert whose("a", "b", KEY) != whose("a", "b", b"another key 1234")
