"""How long the answer will be: what people ask for, schemas, limits, thinking, and that the three figures are ordered."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.analysis.answer_length import AnswerLength, answer_length
from shared.analysis.wording import wording_of
from shared.domain.chat import ChatRequest, FormatKind, Message, ReasoningEffort, ResponseFormat, Role, TextPart
from shared.domain.features import Category

QA = Category.QUESTION_ANSWERING


def length(text: str, category: Category = QA, prompt: int = 50, **changes: Any) -> AnswerLength:
    request = replace(ChatRequest((Message(Role.USER, (TextPart(text),)),)), **changes)
    return answer_length(request, category, prompt, wording_of(text))


@pytest.mark.parametrize(
    ("text", "category", "prompt", "low", "high"),
    [
        ("Answer in one sentence.", Category.REASONING, 20, 20, 40),
        ("Write 500 words about rain", Category.CREATIVE_WRITING, 20, 650, 700),
        ("Give me three bullet points", QA, 20, 80, 100),
        ("Write a paragraph on bees", Category.CREATIVE_WRITING, 20, 100, 120),
        ("An essay of 200-300 words", Category.CREATIVE_WRITING, 20, 320, 360),
        ("An essay of 200 to 300 words", Category.CREATIVE_WRITING, 20, 320, 360),
        ("Fasse es in drei Sätzen zusammen", Category.SUMMARIZATION, 400, 70, 100),
        ("Resume en 50 palabras", Category.SUMMARIZATION, 400, 60, 80),
        ("Напиши 200 слов", Category.CREATIVE_WRITING, 20, 250, 290),
        ("写一篇500字的文章", Category.CREATIVE_WRITING, 20, 330, 370),
        ("Sum it up in a word", Category.SUMMARIZATION, 400, 1, 10),
        ("Give me a list of 10 fruits", QA, 20, 200, 300),
        ("Suggest five names", Category.CREATIVE_WRITING, 20, 100, 150),
        ("Answer yes or no: is it blue?", QA, 20, 1, 10),
        ("Label this", Category.CLASSIFICATION, 500, 10, 30),
        ("Briefly: why?", QA, 20, 50, 120),
        ("Explain in detail", QA, 20, 300, 500),
        ("Translate", Category.TRANSLATION, 1000, 1000, 1200),
        ("Summarize", Category.SUMMARIZATION, 5000, 550, 650),
        ("Summarize", Category.SUMMARIZATION, 500_000, 1200, 1200),
    ],
)
def test_the_centre_follows_what_is_asked(text: str, category: Category, prompt: int, low: int, high: int):
    assert low <= length(text, category, prompt).p50 <= high


@pytest.mark.parametrize(
    "text",
    ["a word of advice, please", "I have 2 questions", "explain the 12 lines below", "it was 5 years ago", "top 3.5"],
)
def test_numbers_that_ask_for_no_length_change_nothing(text: str):
    assert length(text) == length("tell me")


def test_bounds_move_the_interval_and_not_only_its_centre():
    about, most, least = (length(f"write {how}100 words") for how in ("", "at most ", "at least "))
    assert most.p90 < about.p90 < least.p90
    assert least.p10 >= 130
    assert most.p50 < about.p50 < least.p50
    between = length("write 100-200 words")
    assert (between.p10, between.p90) == (135, 324)


def test_a_schema_says_how_much_there_is_to_fill():
    def of(schema: dict[str, Any]) -> AnswerLength:
        return length("x", response_format=ResponseFormat(FormatKind.JSON_SCHEMA, schema=schema))

    field = {"type": "string"}
    small = of({"properties": {"a": field}})
    wide = of({"properties": {str(n): field for n in range(20)}})
    rows = of({"properties": {"rows": {"items": {"properties": {"a": field, "b": field}}}}})
    choice = of({"anyOf": [{"properties": {"a": field}}, {"properties": {str(n): field for n in range(90)}}]})
    assert small.p50 < rows.p50 < wide.p50
    assert choice.p50 == small.p50


def test_hostile_schemas_cost_a_bounded_amount():
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"items": deep}
    wide: dict[str, Any] = {
        "properties": {str(n): {"properties": {str(m): {} for m in range(50)}} for n in range(2000)}
    }
    odd: dict[str, Any] = {"properties": [1], "items": "x", "anyOf": "abc"}
    for schema in (deep, wide, odd):
        found = length("x", response_format=ResponseFormat(FormatKind.JSON_SCHEMA, schema=schema))
        assert 1 <= found.p50 <= 1_000_000


def test_thinking_is_added_and_the_limit_cuts_all_three():
    plain = length("Label this", Category.CLASSIFICATION)
    thinking = length("Label this", Category.CLASSIFICATION, reasoning_effort=ReasoningEffort.HIGH)
    assert thinking.p50 - plain.p50 == 2500
    limited = length("Label this", Category.CLASSIFICATION, reasoning_effort=ReasoningEffort.HIGH, max_output_tokens=64)
    assert limited == AnswerLength(64, 64, 64)


@given(st.text(max_size=300), st.sampled_from(list(Category)), st.integers(0, 10**7), st.none() | st.integers(1, 10**7))
def test_the_figures_are_ordered_and_within_the_limit(text: str, category: Category, prompt: int, limit: int | None):
    found = length(text, category, prompt, max_output_tokens=limit)
    assert 1 <= found.p10 <= found.p50 <= found.p90
    assert limit is None or found.p90 <= limit


@given(
    st.lists(
        st.sampled_from(
            (
                "12",
                "1",
                "500",
                "three",
                "a",
                "in",
                "words",
                "sentence",
                "lines",
                "-",
                "to",
                "at",
                "most",
                "list of",
                "top",
                "字",
            )
        ),
        max_size=40,
    )
)
def test_words_of_length_in_any_order_are_read(words: list[str]):
    found = length(" ".join(words))
    assert 1 <= found.p10 <= found.p50 <= found.p90
