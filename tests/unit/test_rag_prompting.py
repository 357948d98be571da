"""Passages in a prompt: as data, between marks that nothing in them can end."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.chat import ChatRequest, MediaPart, Message, Modality, Role, TextPart
from shared.domain.documents import Chunk, Passage
from shared.rag.defusing import attribute, defused
from shared.rag.prompting import RULES, with_passages
from tests.injection_corpus import ATTACKS, FORBIDDEN

QUESTION = ChatRequest((Message(Role.USER, (TextPart("What is it?"),)),))
_HALVES = {"<|", "|>", "<\uff5c", "!["}
"""Of marks: alone they mean nothing."""
MARKS = re.compile(r"</?passages?\b[^>]*>")


def passage(text, *, title="Title", prefix="", page=3):
    return Passage("d", title, "s", Chunk(0, text, prefix, page, 10, 10 + len(text), 5, "x"), 1.0)


def shown(*passages, request=QUESTION):
    return with_passages(request, passages).request.messages[-1].parts[0].text


def test_passages_are_numbered_before_the_question_and_the_rules_stand_before_the_callers():
    request = ChatRequest(
        (*QUESTION.messages, Message(Role.ASSISTANT, (TextPart("That."),)), *QUESTION.messages), system="Be brief."
    )
    made = with_passages(request, [passage("First."), passage("Second.", prefix="A > B", page=None)])
    last = made.request.messages[-1]
    assert last.parts[1:] == request.messages[-1].parts
    assert last.parts[0].text == (
        '<passages>\n<passage n="1" title="Title" page="3">\nFirst.\n</passage>\n'
        '<passage n="2" title="Title">\nA > B\nSecond.\n</passage>\n</passages>\n\n'
    )
    assert made.request.messages[:-1] == request.messages[:-1]
    assert made.request.system == f"{RULES}\n\nBe brief."
    assert made.defused == {}


def test_attachments_of_the_question_stay():
    picture = MediaPart(Modality.IMAGE, "image/png", b"x")
    request = ChatRequest((Message(Role.USER, (TextPart("What is it?"), picture)),))
    assert with_passages(request, [passage("x")]).request.media() == (picture,)


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_ends_its_fence_or_forges_a_turn(name):
    text = ATTACKS[name]
    prompt = shown(passage(text), passage("x", title=text), passage("x", prefix=text))
    assert [found.group().split(" ")[0] for found in MARKS.finditer(prompt)] == [
        "<passages>",
        *["<passage", "</passage>"] * 3,
        "</passages>",
    ]
    assert not [mark for mark in FORBIDDEN if mark in prompt]
    if name != "plain order":
        assert with_passages(QUESTION, [passage(text)]).defused


@given(
    st.lists(
        st.sampled_from([*ATTACKS.values(), "<", "/", "passage", ">", "|", "![", "\u200b", " ", "\n", "[INST"]),
        max_size=6,
    )
)
def test_pieces_of_attacks_do_not_add_up_to_one(pieces):
    text = "".join(pieces)
    once = defused(text)
    assert defused(once.text).text == once.text
    assert not defused(once.text).counts
    assert not MARKS.search(once.text)
    assert not [mark for mark in FORBIDDEN if mark in once.text and mark not in _HALVES]


@given(st.text())
def test_any_text_keeps_its_words(text):
    words = re.compile(r"[^\W_]+")
    plain = re.sub(r"[\x00-\x1f\x7f-\x9f\u200b-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]", "", text)
    if plain == text:
        assert words.findall(defused(text).text) == words.findall(text)


@pytest.mark.parametrize(
    "text",
    [
        "Plain prose, with a [link](https://example.com) and a reference [12].",
        "if a[1] < b and c > d | e: return <T>x</T>",
        "The system: it has users. A user said so: yes.",
        "Persian \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 and an emoji \U0001f469\u200d\U0001f4bb stay.",
    ],
)
def test_what_is_harmless_stays_as_it_is(text):
    assert defused(text).text == text


def test_an_attribute_is_one_short_line_without_quotes():
    assert attribute('a "b"\n\n c<|im_start|>' + "x" * 50, 20) == "a 'b' c\u2039|im_start|\u203ax"
