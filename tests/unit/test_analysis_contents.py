"""What each part is made of: kinds with their places, shares that add up, any text."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.analysis.contents import MOST_CHARS, contents_of, stretches_of
from shared.analysis.features import analyse
from shared.domain.chat import ChatRequest, MediaPart, Message, Modality, Role, TextPart, ToolCallPart, ToolResultPart

LOG = "2031-02-03 09:14:01 ERROR ledger a\n2031-02-03 09:14:02 INFO ledger b\n2031-02-03 09:14:03 INFO ledger c\n"
CSV = "name,team,score\nIda,red,14\nOle,blue,9\nUna,red,11\n"
CODE = "def total(rows):\n    # all of them\n    result = 0\n\n    for row in rows:\n        result += row\n    return result\n"
GO = "package mill\n\nfunc Add(a, b int) int {\n\treturn a + b\n}\n"
SQL = "SELECT a, b\nFROM readings\nWHERE c = 1\nORDER BY a;\n"
YAML = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: x\nspec:\n  containers:\n    - name: y\n      image: z\n"
XML = "<order id='3'><item>1</item><item>2</item></order>\n"
TABLE = "| a | b |\n|---|---|\n| 1 | 2 |\n"
JSON = json.dumps({"rows": [{"a": 1, "b": [2, 3]}]}, indent=2) + "\n"
MATHS = "Show that $a^2 + b^2 = c^2$ and that \\frac{a}{b} is rational.\n"
PROSE = "The ferry leaves at noon, and nobody was told.\n"

Kinds = list[tuple[str, str | None]]
CASES: list[tuple[str, str, Kinds]] = [
    ("prose", PROSE, [("prose", None)]),
    ("code", CODE, [("code", "python")]),
    ("go", GO, [("code", "go")]),
    ("sql", SQL, [("data", "sql")]),
    ("csv", CSV, [("data", "csv")]),
    ("yaml", YAML, [("data", "yaml")]),
    ("xml", XML, [("data", "xml")]),
    ("json", JSON, [("data", "json")]),
    ("table", TABLE, [("table", None)]),
    ("logs", LOG, [("logs", None)]),
    ("maths", MATHS, [("math", None)]),
    ("url", "https://example.org/a?b=c\n", [("url", None)]),
    ("a question about code", f"Why is it slow?\n\n{CODE}\nThank you.", [("prose", None), ("code", "python"), ("prose", None)]),
    ("a fence in between", f"Look:\n```go\n{GO}```\nand {PROSE}", [("prose", None), ("code", "go"), ("prose", None)]),
    ("a fence of data", f"```json\n{JSON}```", [("data", "json")]),
    ("a fence without a name", f"```\n{JSON}```\n", [("data", "json")]),
    ("a fence of logs", f"```\n{LOG}```\n", [("logs", None)]),
    ("a fence that never ends", f"Fix\n```rust\n{GO}", [("prose", None), ("code", "rust")]),
    ("tildes around backticks", "~~~python\nx = '```'\n~~~\n", [("code", "python")]),
    ("json on the next line", f"Parse this:\n{JSON}and tell me more.", [("prose", None), ("data", "json"), ("prose", None)]),
    ("csv under a heading", f"Sum by team:\n{CSV}", [("prose", None), ("data", "csv")]),
    ("a trace between log lines", LOG + 'Traceback (most recent call last):\n  File "x.py"\n' + LOG, [("logs", None)]),
    ("logs and a question", f"{LOG}\nWhat happened here?", [("logs", None), ("prose", None)]),
    ("two kinds of data", f"{TABLE}\n{CSV}", [("table", None), ("data", "csv")]),
    ("sources in brackets", "[1] The mill closed in 1974.\n[2] It opened again.\nSince when?", [("prose", None)]),
    ("keys of a letter", "Name: Bob\nAge: 3\nTown: Tartu\n", [("prose", None)]),
    ("one line that ends like code", "Stop it; now;\n", [("prose", None)]),
    ("an address in a sentence", "See https://example.org/a for more.\n", [("prose", None)]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kinds"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_stretches(text: str, kinds: Kinds):
    assert [(s.kind, s.language) for s in stretches_of(text)] == kinds


def test_places_point_into_the_text():
    text = f"Why is it slow?\n\n{CODE}\nThank you."
    code = stretches_of(text)[1]
    assert text[code.start : code.end].strip() == CODE.strip()


def test_parts_have_their_kind_and_shares_add_up():
    pdf = MediaPart(Modality.DOCUMENT, "application/pdf", b"%PDF-1.4\n<</Type/Pages/Count 2>>")
    docx = MediaPart(
        Modality.DOCUMENT, "application/vnd.openxmlformats-officedocument.wordprocessingml.document", b"PK\x03\x04"
    )
    notes = MediaPart(Modality.DOCUMENT, "text/plain", CSV.encode())
    image = MediaPart(Modality.IMAGE, "image/png", b"\x89PNG\r\n\x1a\n")
    request = ChatRequest(
        (
            Message(Role.USER, (TextPart(PROSE), image, pdf, notes, docx)),
            Message(Role.ASSISTANT, (ToolCallPart("1", "f", '{"a": 1}'),)),
            Message(Role.TOOL, (ToolResultPart("1", "f", LOG),)),
        ),
        system="Be brief.",
    )
    contents = contents_of(request, analyse(request).attachments)
    assert [(part.location, part.kind, part.language) for part in contents.parts] == [
        ("system", "prose", None),
        ("messages[0].parts[0]", "prose", None),
        ("messages[0].parts[1]", "image", None),
        ("messages[0].parts[2]", "pdf", None),
        ("messages[0].parts[3]", "data", "csv"),
        ("messages[0].parts[4]", "office", None),
        ("messages[1].parts[0]", "data", "json"),
        ("messages[2].parts[0]", "logs", None),
    ]
    assert sum(part.share for part in contents.parts) == pytest.approx(1)
    assert sum(contents.shares.values()) == pytest.approx(1)
    assert next(iter(contents.shares)) == "pdf"
    assert contents.parts[2].stretches == ()


def test_a_long_text_is_read_at_its_ends():
    middle = "The middle is not read.\n" * (MOST_CHARS // 8)
    text = f"{CODE}\n{middle}\n{LOG}"
    stretches = stretches_of(text)
    assert (stretches[0].kind, stretches[-1].kind) == ("code", "logs")
    assert stretches[-1].end == len(text)
    assert sum(s.end - s.start for s in stretches) <= MOST_CHARS


HOSTILE = {
    "nested brackets": "[" * 200_000,
    "a bracket a line": "[1,\n" * 50_000,
    "objects that never end": '{"a":\n' * 40_000,
    "keys": "a:\n" * 50_000,
    "fences": "```\n" * 50_000,
    "headings over data": "a:\nb,c,d\n" * 30_000,
    "bars": "|" * 200_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_texts_are_read(text: str):
    assert stretches_of(text)


@given(
    st.lists(
        st.sampled_from([LOG, CSV, CODE, SQL, YAML, TABLE, JSON, PROSE, "\n", "```\n", "{", "|", "\r", "\u2028"]),
        max_size=9,
    )
)
@settings(max_examples=150)
def test_stretches_cover_the_text_in_order(pieces: list[str]):
    text = "".join(pieces)
    stretches = stretches_of(text)
    at = 0
    for stretch in stretches:
        assert at <= stretch.start < stretch.end <= len(text)
        assert not text[at : stretch.start].strip()
        at = stretch.end
    assert not text[at:].strip()
