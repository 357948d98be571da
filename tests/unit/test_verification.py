"""What can be told of an answer without knowing the right one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.chat import ChatRequest, FormatKind, Message, ResponseFormat, Role, TextPart, Tool
from shared.domain.replies import ChatReply, FinishReason, Usage
from shared.services.verification import agreement, fault_of

REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "I\u2019m really sorry, but I cannot assist with this request.",
    "Sorry, I am not able to do that.",
    "I cannot help with that.",
    "I won't write that for you.",
    "As an AI language model, I do not have opinions.",
    "Es tut mir leid, das kann ich nicht tun.",
    "Je suis d\u00e9sol\u00e9, je ne peux pas vous aider.",
    "Lo siento, no puedo ayudarte con eso.",
]
ANSWERS = [
    "I can't believe it's not butter is a brand of spread.",
    "Sorry is a card game from 1929 that up to four people play.",
    "The function cannot be inlined, because it is recursive.",
    "Mars has two moons. I cannot see them from here.",
    "Leider regnet es morgen im Norden.",
]


def reply(text, reason=FinishReason.STOP):
    return ChatReply((TextPart(text),), reason, reason.value, Usage())


def asked(**changes):
    return ChatRequest((Message(Role.USER, (TextPart("?"),)),), **changes)


def under(schema):
    return asked(response_format=ResponseFormat(FormatKind.JSON_SCHEMA, "answer", schema))


def fault(text, request=None, *, longer=False, reason=FinishReason.STOP):
    return fault_of(reply(text, reason), request or asked(), longer_is_possible=longer)


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals_are_known_by_how_they_begin(text):
    assert fault(text) == "refusal"
    assert fault(f"Here is the letter you asked for. {text * 3}") is None


@pytest.mark.parametrize("text", ANSWERS)
def test_answers_with_the_same_words_are_no_refusals(text):
    assert fault(text) is None


def test_being_cut_short_is_a_fault_only_where_more_is_possible():
    assert fault("and so", reason=FinishReason.LENGTH) is None
    assert fault("and so", reason=FinishReason.LENGTH, longer=True) == "truncated"


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"$ref": "file:///etc/hostname"},
        {"type": "no such type"},
        {"properties": {"a": {"pattern": "("}}},
    ],
)
def test_a_schema_that_is_none_or_lies_elsewhere_is_neither_fetched_nor_held_against_the_answer(schema):
    assert fault('{"a": "b"}', under(schema)) is None


def test_a_pattern_cannot_take_for_ever():
    # Exponential where patterns backtrack without a bound: 2^5000 steps.
    schema = {"properties": {"a": {"pattern": "^(?=(a+)+$)(a|a)+b"}}}
    assert fault('{"a": "' + "a" * 5_000 + '!"}', under(schema)) == "schema"


def test_references_within_the_schema_hold():
    tree = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["n"]}
    assert fault('{"n": 1, "next": {"n": 2}}', under(tree)) is None
    assert fault('{"n": 1, "next": {}}', under(tree)) == "schema"


def test_formats_without_a_schema_want_an_object():
    wanted = asked(response_format=ResponseFormat(FormatKind.JSON_OBJECT))
    assert fault('{"a": 1}', wanted) is None
    assert fault("[1]", wanted) == "schema"
    assert fault('```json\n{"a": 1}\n```', wanted) == "schema"


def test_tools_without_parameters_take_an_empty_object():
    assert fault("text beside", asked(tools=(Tool("now"),))) is None


@pytest.mark.parametrize(
    ("first", "second", "least", "most"),
    [
        ("The answer is 42.", "the answer is: 42", 1.0, 1.0),
        ("The answer is 42.", "The answer is 41.", 0.0, 0.0),
        ('{"a": 1, "b": 2}', '{"b":2,"a":1}', 1.0, 1.0),
        ('{"a": 1}', '{"a": 2}', 0.0, 0.0),
        ("Mars has two moons, Phobos and Deimos.", "The two moons of Mars are Phobos and Deimos.", 0.7, 1.0),
        ("Mars has two moons, Phobos and Deimos.", "Nobody knows how cheese is made in winter.", 0.0, 0.3),
        ("", "", 1.0, 1.0),
        ("", "words", 0.0, 0.0),
    ],
)
def test_agreement(first, second, least, most):
    assert least <= agreement([first, second]) <= most


@given(st.lists(st.text(max_size=200), min_size=1, max_size=4))
def test_agreement_is_a_share_and_its_order_does_not_matter(texts):
    found = agreement(texts)
    assert 0.0 <= found <= 1.0
    assert agreement(texts[::-1]) == pytest.approx(found)
    assert agreement(texts[:1] * 3) == pytest.approx(1.0)


@given(st.text(max_size=400), st.sampled_from(FinishReason))
def test_no_text_breaks_the_check(text, reason):
    assert fault(text, under({"type": "object"}), reason=reason) in {None, "refusal", "empty", "schema"}
