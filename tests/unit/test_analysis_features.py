"""The reading as a whole: tokens, language, kind, complexity, expected length, needs; and that it takes any text."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.analysis.complexity import level_of
from shared.analysis.features import analyse
from shared.analysis.text_kind import language_of, shape_of
from shared.domain.chat import (
    ChatRequest,
    FormatKind,
    MediaPart,
    Message,
    Modality,
    ReasoningEffort,
    ResponseFormat,
    Role,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
)
from shared.domain.features import ComplexityLevel
from shared.domain.security import SecurityLevel


def ask(*parts: str | MediaPart, **changes: object) -> ChatRequest:
    turn = Message(Role.USER, tuple(TextPart(p) if isinstance(p, str) else p for p in parts))
    return replace(ChatRequest((turn,)), **changes)  # type: ignore[arg-type]  # fields by name


# --- language and kind ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the capital of France and how many people live in it?", "en"),
        ("Wie funktioniert eine Wärmepumpe und was kostet sie?", "de"),
        ("Quelle est la capitale de la France et combien de personnes y vivent ?", "fr"),
        ("¿Cuál es la capital de España y qué se puede ver en la ciudad?", "es"),
        ("Qual è la capitale della Francia e che cosa si può vedere nel centro?", "it"),
        ("Qual é a capital do Brasil e o que você pode ver na cidade?", "pt"),
        ("Wat is de hoofdstad van Nederland en hoe kom ik er met de trein?", "nl"),
        ("Jaka jest stolica Francji i co można tam zobaczyć w centrum?", "pl"),
        ("Какая столица Франции?", "ru"),
        ("Яка столиця Франції і що її прикрашає?", "uk"),  # noqa: RUF001  # Ukrainian
        ("法国的首都是什么?", "zh"),
        ("フランスの首都はどこですか", "ja"),
        ("프랑스의 수도는 어디입니까?", "ko"),
        ("ما هي عاصمة فرنسا؟", "ar"),
        ("پایتخت فرانسه چیست؟", "fa"),
        ("מהי בירת צרפת?", "he"),
        ("Ποια είναι η πρωτεύουσα;", "el"),
        ("फ्रांस की राजधानी क्या है?", "hi"),
        ("เมืองหลวงของฝรั่งเศสคืออะไร", "th"),
        ("café", "und"),
        ("12345", "und"),
        ("", "und"),
    ],
)
def test_language(text: str, language: str):
    assert language_of(text) == language


PYTHON = "import os\n\ndef main(argv):\n    for name in argv:\n        print(name)\n    return 0\n"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("An ordinary sentence. And another one, a little longer than the first.", "prose"),
        (PYTHON, "code"),
        ("```\n" + PYTHON + "```", "code"),
        ("Fix:\n```python\n" + PYTHON * 2 + "```", "code"),
        ("#include <stdio.h>\nint main(void) {\n  return 0;\n}\n", "code"),
        ('{"name": "x", "items": [1, 2, 3]}', "data"),
        ("a,b,c\n1,2,3\n4,5,6\n7,8,9", "data"),
        ("<?xml version='1.0'?><a/>", "data"),
        (
            "2026-11-23 10:00:01 INFO started\n2026-11-23 10:00:02 ERROR failed\n2026-11-23 10:00:03 INFO stopped",
            "logs",
        ),
        (
            "Nov 23 10:00:01 host sshd[1]: ok\nNov 23 10:00:02 host sshd[1]: ok\nNov 23 10:00:03 host sshd[1]: bad",
            "logs",
        ),
        ("Show that $a^2 + b^2 = c^2$ and that \\frac{a}{b} is rational", "math"),
        ("", "prose"),
    ],
)
def test_content_type(text: str, kind: str):
    assert shape_of(text).content_type == kind


def test_an_attachment_sets_the_content_type():
    png = MediaPart(Modality.IMAGE, "image/png", b"\x89PNG\r\n\x1a\n")
    mp3 = MediaPart(Modality.AUDIO, "audio/mpeg", b"ID3")
    assert analyse(ask("What is this?", png)).content_type == "image"
    features = analyse(ask("What is this?", png, mp3))
    assert features.content_type == "audio"
    assert features.modalities == {Modality.TEXT, Modality.IMAGE, Modality.AUDIO}
    assert features.attachment_bytes == 11
    assert len(features.attachments) == 2


# --- complexity and length ------------------------------------------------------------------------------------------

HARD = (
    "Design a distributed rate limiter. It must be thread-safe and must not lose counts. Prove that it is correct step by "
    "step, discuss the trade-offs of at least three designs, optimize the hot path and ensure edge cases are covered:\n"
    "1. clock skew\n2. partitions\n3. restarts\n"
)


def test_complexity_orders_easy_and_hard_requests_and_says_why():
    easy, hard = analyse(ask("Hi!")), analyse(ask(HARD, reasoning_effort=ReasoningEffort.HIGH))
    assert easy.complexity_level is ComplexityLevel.LOW
    assert hard.complexity_level is ComplexityLevel.HIGH
    for features in (easy, hard):
        assert features.complexity == pytest.approx(min(1, max(0, sum(r.contribution for r in features.reasons))))
    assert {"themes", "instructions", "reasoning_effort"} <= {r.feature for r in hard.reasons}


@pytest.mark.parametrize(("score", "level"), [(0.0, "low"), (0.33, "low"), (0.34, "medium"), (0.59, "medium"), (0.6, "high"), (1.0, "high")])  # fmt: skip
def test_levels(score: float, level: str):
    assert level_of(score) == level


# --- needs ----------------------------------------------------------------------------------------------------------


def test_needs():
    plain = analyse(ask("hi"))
    assert not any(
        (
            plain.needs_tools,
            plain.needs_json_object,
            plain.needs_json_schema,
            plain.needs_media_uris,
            plain.needs_system,
        )
    )
    assert analyse(ask("hi", system="be kind")).needs_system
    assert analyse(ask("hi", tools=(Tool("f"),))).needs_tools
    assert analyse(ask("hi", response_format=ResponseFormat(FormatKind.JSON_OBJECT))).needs_json_object
    assert analyse(ask("hi", response_format=ResponseFormat(FormatKind.JSON_SCHEMA, schema={}))).needs_json_schema
    assert analyse(ask("hi", MediaPart(Modality.IMAGE, "image/png", uri="gs://b/x.png"))).needs_media_uris
    assert analyse(ask("hi", max_output_tokens=7)).max_output_tokens == 7
    used = ChatRequest((*ask("hi").messages, Message(Role.TOOL, (ToolResultPart("1", "f", "x"),))))
    assert analyse(used).needs_tools, "a model without tools cannot take their results either"


# --- laws -----------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.text(max_size=300) | st.text("0123456789+@.-eyJ {}[]|`\n$", max_size=300), min_size=1, max_size=4),
    st.text(max_size=100),
    st.none() | st.sampled_from(list(SecurityLevel)),
)
@settings(max_examples=200)
def test_any_text_can_be_read_and_is_read_alike_each_time(texts, system, label):
    request = ask(*texts, system=system)
    features = analyse(request, label=label)
    assert features == analyse(request, label=label)
    assert 0 <= features.complexity <= 1
    assert 0 < features.category_confidence <= 1
    assert 1 <= features.output_tokens_p10 <= features.expected_output_tokens <= features.output_tokens_p90
    assert features.prompt_tokens >= 1
    assert features.security_level >= (label or SecurityLevel.PUBLIC)


@given(st.binary(max_size=300), st.sampled_from(list(Modality)), st.text(max_size=40))
def test_any_attachment_can_be_read(data, modality, mime_type):
    features = analyse(ask("look", MediaPart(modality, mime_type, data)))
    assert features.attachments[0].size_bytes == len(data)
    assert features.prompt_tokens >= 1


def test_lone_surrogates_and_control_characters_are_read():
    assert analyse(ask("\ud800\x00\x1b[31m\u202e" * 50)).prompt_tokens > 50


def test_a_request_without_text_is_read():
    turn = Message(Role.ASSISTANT, (ToolCallPart("1", "f", "{}"),))
    features = analyse(ChatRequest((turn,)))
    assert features.language == "und"
    assert features.content_type == "prose"
