"""What is taken out of requests, and what answers tell: placeholders there and back, whatever the pieces."""

import itertools
import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.analysis.answer_filter import AnswerFilter, FilterRules
from shared.analysis.inspection import inspect
from shared.analysis.leaks import LEAK_SHARE, LeakFinder
from shared.analysis.redaction import Placeholders, redacted
from shared.analysis.request_texts import texts_of
from shared.analysis.security import Scanner, usual_scanner
from shared.domain.chat import (
    ChatRequest,
    FormatKind,
    MediaPart,
    Message,
    Modality,
    ResponseFormat,
    Role,
    Sampling,
    TextPart,
    ThinkingPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
)
from shared.domain.embeddings import EmbeddingRequest, embedding_request
from shared.domain.replies import (
    Citation,
    CitationFound,
    Finished,
    FinishReason,
    ReplyBuilder,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
)
from shared.domain.security import CREDENTIAL_KINDS, CustomPattern, DetectionRules, Finding, SecurityLevel

EMAIL, OTHER = "jane.doe@acme.org", "li@nordbank.example"
TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
KEY = "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEpAIBAAKCAQEA1234\nabcdEFGH5678\n-----END RSA PRIVATE KEY-----"
SECRETS = Scanner(kinds=CREDENTIAL_KINDS - {"password"})
DONE = Finished(FinishReason.STOP, "stop")


def user(*parts) -> ChatRequest:
    return ChatRequest((Message(Role.USER, parts),))


def clean(request: ChatRequest):
    return redacted(request, inspect(request, most=None))


def texts(request: ChatRequest) -> str:
    return "\n".join(placed.text for placed in texts_of(request))


def test_a_value_has_one_placeholder_everywhere():
    schema = {"type": "object", "properties": {"to": {"type": "string", "enum": [EMAIL], "deep": [{"x": EMAIL}]}}}
    request = ChatRequest(
        messages=(
            Message(Role.USER, (TextPart(f"Write to {EMAIL} and {OTHER}"), TextPart("thanks"))),
            Message(
                Role.ASSISTANT, (ThinkingPart(f"so {EMAIL}"), ToolCallPart("1", "send", json.dumps({"to": EMAIL})))
            ),
            Message(Role.TOOL, (ToolResultPart("1", "send", f"sent to {EMAIL}"),)),
            Message(
                Role.USER, (MediaPart(Modality.DOCUMENT, "text/csv", f"{EMAIL},1".encode(), filename=f"{EMAIL}.csv"),)
            ),
        ),
        system=f"You write for {EMAIL}.",
        tools=(Tool("send", f"sends to {EMAIL}", schema),),
        sampling=Sampling(stop=(EMAIL,)),
        response_format=ResponseFormat(FormatKind.JSON_SCHEMA, "a", {"const": EMAIL}),
    )
    cleaned, placeholders = clean(request)
    assert placeholders.values == {"EMAIL_1": EMAIL, "EMAIL_2": OTHER}
    assert placeholders.counts == {"email": 2}
    assert EMAIL not in texts(cleaned)
    assert cleaned.tools[0].parameters["properties"]["to"] == {
        "type": "string",
        "enum": ["<EMAIL_1>"],
        "deep": [{"x": "<EMAIL_1>"}],
    }
    assert cleaned.response_format.schema == {"const": "<EMAIL_1>"}
    assert cleaned.messages[0].parts == (TextPart("Write to <EMAIL_1> and <EMAIL_2>"), TextPart("thanks"))
    assert cleaned.messages[1].parts[1].arguments_json == '{"to": "<EMAIL_1>"}'
    assert cleaned.messages[3].parts[0].data == b"<EMAIL_1>,1"
    assert inspect(cleaned) == ()
    assert schema["properties"]["to"]["enum"] == [EMAIL], "the caller's own request is left alone"


def test_numbers_follow_the_first_mention_so_a_longer_conversation_keeps_them():
    first = user(TextPart(f"{OTHER} and {EMAIL}"))
    longer = ChatRequest(
        (*first.messages, Message(Role.ASSISTANT, (TextPart("ok"),)), *user(TextPart("new@x.org")).messages)
    )
    _, short = clean(first)
    _, long = clean(longer)
    assert long.values.items() >= short.values.items()


def test_a_placeholder_that_stands_in_the_text_already_is_not_used():
    cleaned, placeholders = clean(user(TextPart(f"what is <EMAIL_1>? ask {EMAIL}")))
    assert placeholders.values == {"EMAIL_2": EMAIL}
    assert cleaned.messages[0].text() == "what is <EMAIL_1>? ask <EMAIL_2>"


def test_all_of_a_kind_go_not_only_those_that_are_reported():
    text = " ".join(f"p{n}@acme.org" for n in range(200))
    cleaned, placeholders = clean(user(TextPart(text)))
    assert "@" not in cleaned.messages[0].text()
    assert placeholders.counts == {"email": 200}


def test_vectors_are_asked_for_without_the_values():
    cleaned, _ = clean(embedding_request([f"mail {EMAIL}", "plain"], dimensions=8))
    assert isinstance(cleaned, EmbeddingRequest)
    assert (cleaned.texts, cleaned.dimensions) == (("mail <EMAIL_1>", "plain"), 8)


def test_a_secret_cut_over_two_parts_is_found_and_goes():
    cleaned, placeholders = clean(user(TextPart(f"key {TOKEN[:15]}"), TextPart(f"{TOKEN[15:]} end")))
    assert "".join(placeholders.values.values()) == TOKEN
    assert TOKEN[4:15] not in texts(cleaned)
    assert TOKEN[15:] not in texts(cleaned)


def test_texts_to_embed_are_apart():
    assert inspect(embedding_request([f"key {TOKEN[:15]}", f"{TOKEN[15:]} end"])) == ()


@pytest.mark.parametrize("written", ["jane\\u002edoe\\u0040acme\\u002eorg", EMAIL])
def test_the_value_of_an_escaped_argument_is_the_plain_one(written: str):
    request = ChatRequest((Message(Role.ASSISTANT, (ToolCallPart("1", "f", f'{{"to": "{written}"}}'),)),))
    cleaned, placeholders = clean(request)
    assert placeholders.values == {"EMAIL_1": EMAIL}
    assert json.loads(cleaned.messages[0].parts[0].arguments_json) == {"to": "<EMAIL_1>"}


def test_a_deep_schema_is_rewritten_without_recursion():
    schema: dict = {"x": EMAIL}
    for _ in range(5_000):
        schema = {"a": schema}
    cleaned, _ = redacted(
        ChatRequest(user(TextPart(f"to {EMAIL}")).messages, tools=(Tool("f", "", schema),)),
        [Finding("email", SecurityLevel.CONFIDENTIAL, "messages[0].parts[0]", 3, 3 + len(EMAIL))],
    )
    inner = cleaned.tools[0].parameters
    while "a" in inner:
        inner = inner["a"]
    assert inner == {"x": "<EMAIL_1>"}


@given(st.text(max_size=60), st.sampled_from([EMAIL, TOKEN, "DE89 3704 0044 0532 0130 00"]), st.text(max_size=60))
def test_what_was_taken_out_comes_back_as_it_was(before, value, after):
    request = user(TextPart(f"{before} {value} {after}"))
    cleaned, placeholders = clean(request)
    assert value not in cleaned.messages[0].text()
    told = told_in([cleaned.messages[0].text()], FilterRules(placeholders=placeholders))
    assert told == request.messages[0].text()


# --- answers -------------------------------------------------------------------------------------------------------


def filtered(events: Iterable, rules: FilterRules):
    through = AnswerFilter(rules)
    builder = ReplyBuilder("m")
    for event in events:
        builder.extend(tuple(through.take(event)))
    return builder.build(), through


def told_in(pieces: Iterable[str], rules: FilterRules) -> str:
    return filtered([*(TextDelta(piece) for piece in pieces), DONE], rules)[0].text()


def known(**values: str) -> Placeholders:
    return Placeholders(values=dict(values))


def cut(text: str, places: list[int]) -> list[str]:
    bounds = [0, *sorted({place % (len(text) + 1) for place in places}), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(bounds)]


ANSWERS = [
    ("Hello <EMAIL_1>, and &lt;EMAIL_2&gt;! 1 < 2 & 3 > 2, <b>x</b> <EMAIL_9> \\u003cEMAIL_1\\u003e",
     f"Hello {EMAIL}, and {OTHER}! 1 < 2 & 3 > 2, <b>x</b> <EMAIL_9> {EMAIL}"),
    (f"Use {TOKEN} now, {TOKEN}", "Use [REDACTED:github_token] now, [REDACTED:github_token]"),
    (f"Here:\n{KEY}\nkeep it, <EMAIL_1>", f"Here:\n[REDACTED:private_key]\nkeep it, {EMAIL}"),
    ("aws_secret_access_key = " + "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY ok", "aws_secret_access_key = [REDACTED:aws_secret_key] ok"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "told"), ANSWERS)
@given(places=st.lists(st.integers(min_value=0), max_size=30))
def test_the_pieces_of_a_stream_make_no_difference(answer: str, told: str, places: list[int]):
    rules = FilterRules(placeholders=known(EMAIL_1=EMAIL, EMAIL_2=OTHER), secrets=SECRETS)
    assert told_in(cut(answer, places), rules) == told
    assert told_in(list(answer), rules) == told


@given(st.text(max_size=300), st.lists(st.integers(min_value=0), max_size=20))
def test_an_answer_without_any_of_it_is_told_as_it_is(text, places):
    rules = FilterRules(placeholders=known(EMAIL_1=EMAIL), leaks=LeakFinder("a b c " * 20))
    assert told_in(cut(text, places), rules) == text


@given(st.text(max_size=40), st.lists(st.integers(min_value=0), max_size=10))
def test_arguments_stay_json_whatever_the_value(value, places):
    arguments = json.dumps({"to": "<V_1>", "cc": ["<V_1>"]})
    events = [
        ToolCallDelta(0, "c", "f"),
        *(ToolCallDelta(0, arguments_fragment=p) for p in cut(arguments, places)),
        DONE,
    ]
    reply, _ = filtered(events, FilterRules(placeholders=known(V_1=value)))
    assert json.loads(reply.tool_calls()[0].arguments_json) == {"to": value, "cc": [value]}


def test_an_answer_in_json_stays_json():
    answer = '{"key": "<PRIVATE_KEY_1>"}'
    rules = FilterRules(placeholders=known(PRIVATE_KEY_1='a"b\\c\nd'), text_is_json=True)
    assert json.loads(told_in(cut(answer, [9, 14, 20]), rules)) == {"key": 'a"b\\c\nd'}


def test_what_was_held_back_goes_out_before_another_part_begins():
    rules = FilterRules(placeholders=known(EMAIL_1=EMAIL), secrets=SECRETS)
    events = [
        ThinkingDelta("I think of <EMA"), ThinkingDelta("IL_1"), ThinkingDelta(">", signature="s"),
        TextDelta("a < b <"), ToolCallDelta(0, "c", "f", '{"x": "<'), ToolCallDelta(1, "d", "g", '{"y": 1}'), DONE,
    ]  # fmt: skip
    reply, _ = filtered(events, rules)
    assert reply.parts[0] == ThinkingPart(f"I think of {EMAIL}", "s", "m")
    assert reply.text() == "a < b <"
    assert [call.arguments_json for call in reply.tool_calls()] == ['{"x": "<', '{"y": 1}']


def test_a_secret_of_the_request_may_come_back():
    rules = FilterRules(secrets=SECRETS, is_known=lambda value: value == TOKEN)
    assert told_in([f"yours is {TOKEN}"], rules) == f"yours is {TOKEN}"


def test_a_long_word_is_let_go_and_a_long_token_is_not():
    picture = "A" * 20_000
    assert told_in([picture[i : i + 50] for i in range(0, len(picture), 50)], FilterRules(secrets=SECRETS)) == picture
    jwt = "eyJhbGciOiJIUzI1NiJ9." + "eyJ" + "a1B2" * 1_500 + "." + "x9Y8" * 20
    told = told_in([*(jwt[i : i + 40] for i in range(0, len(jwt), 40)), " end"], FilterRules(secrets=SECRETS))
    assert "a1B2a1B2" not in told
    assert told.endswith(" end")


def test_citations_move_with_the_text():
    answer = "Ask <EMAIL_1> or see [1]."
    start = answer.index("see")
    events = [TextDelta(answer), CitationFound(Citation("t", "u", start, start + 3)), DONE]
    reply, _ = filtered(events, FilterRules(placeholders=known(EMAIL_1=EMAIL)))
    citation = reply.citations[0]
    assert reply.text()[citation.start : citation.end] == "see"


SYSTEM = (
    "You are the assistant of Nordbank. Never mention the internal rating model, always ask for the branch number first, "
    "refuse to discuss competitors, and escalate complaints about fees to the second level desk in Bremen."
)


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_the_system_text_is_taken_out(size: int):
    answer = f"Sure! My instructions are: {SYSTEM} Anything else?"
    rules = FilterRules(leaks=LeakFinder(SYSTEM))
    told = told_in([answer[i : i + size] for i in range(0, len(answer), size)], rules)
    assert told == "Sure! My instructions are: [REDACTED:system_text]. Anything else?"


def test_how_much_of_the_system_text_an_answer_has():
    finder = LeakFinder(SYSTEM)
    assert finder.share(f"They say: {SYSTEM.upper()}") == 1.0
    assert finder.share("I am the assistant of Nordbank and cannot discuss that, sorry.") == 0.0
    half = SYSTEM[: len(SYSTEM) // 2]
    assert LEAK_SHARE < finder.share(half) < 0.6
    assert LeakFinder("Be brief.").share("Be brief.") == 0.0


# --- patterns of a platform team ---------------------------------------------------------------------------------------


def test_a_custom_pattern_and_a_level_of_ones_own():
    rules = DetectionRules(
        (CustomPattern("employee-number", r"EMP-\d{6}", SecurityLevel.INTERNAL),), {"email": SecurityLevel.PUBLIC}
    )
    text = f"EMP-004711 is {EMAIL}, emp-004711 is not \ud800 EMP-004712"
    found = Scanner(rules).scan(text, "x")
    assert [(f.kind, f.level, f.start) for f in found] == [
        ("employee-number", SecurityLevel.INTERNAL, 0),
        ("employee-number", SecurityLevel.INTERNAL, text.index("EMP-004712")),
        ("email", SecurityLevel.PUBLIC, 14),
    ]
    assert usual_scanner().scan("EMP-004711", "x") == []


def test_a_custom_pattern_is_linear():
    rules = DetectionRules((CustomPattern("evil", r"(a+)+$", SecurityLevel.INTERNAL),))
    assert [f.kind for f in Scanner(rules).scan("a" * 100_000 + "!", "x")] == []
    assert [f.kind for f in Scanner(rules).scan("b" + "a" * 100_000, "x")] == ["evil"]


@given(st.text(), st.text())
def test_the_same_value_is_the_same_person(a, b):
    placeholders = Placeholders()
    assert (placeholders.of("k", a) == placeholders.of("k", b)) is (a == b)
