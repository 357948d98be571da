"""The process that reads a document, without being one: what it is told, and what it answers."""

import io
import json
import resource
import signal

import pytest

from shared.domain.documents import Block, BlockKind, DocumentUnreadable, NeedsOcr, ParsedDocument
from shared.providers.parsing import worker
from shared.providers.parsing.worker import Limits, from_json, main, to_json
from tests.unit import document_builders as build


@pytest.fixture
def imposed(monkeypatch):
    """The limits that the process gave itself, instead of this one."""
    found = []

    def impose(limits):
        found.append(limits)

    monkeypatch.setattr(Limits, "impose", impose)
    return found


def answer(content, name):
    order = {"media_type": "", "name": name, "limits": {"memory_bytes": 1, "cpu_s": 2, "wall_s": 3.0}}
    sink = io.BytesIO()
    main(io.BytesIO(json.dumps(order).encode() + b"\n" + content), sink)
    return sink.getvalue()


def test_a_document_comes_back_with_its_limits_in_force(imposed):
    parsed = from_json(answer(b"# Title\n\nText\nof \xc3\xa4 lines.", "x.md"))
    assert parsed.title == "Title"
    assert [(b.kind, b.text, b.start, b.level) for b in parsed.blocks] == [
        (BlockKind.HEADING, "Title", 0, 1),
        (BlockKind.PARAGRAPH, "Text\nof ä lines.", 7, 0),
    ]
    assert imposed == [Limits(1, 2, 3.0)]


def test_refusals_come_back(imposed):
    with pytest.raises(DocumentUnreadable, match="empty"):
        from_json(answer(b"", "x.md"))
    with pytest.raises(NeedsOcr) as refused:
        from_json(answer(build.pdf("", "", picture_pages=(2,)), "x.pdf"))
    assert refused.value.pages == 2


def test_all_that_is_known_of_a_document_comes_back():
    blocks = (
        Block(BlockKind.HEADING, "A", 0, 1, 2),
        Block(BlockKind.TABLE, "| b |", 3, 2),
        Block(BlockKind.NOTE, "c", 10),
    )
    document = ParsedDocument(blocks, "Title", 2, 3, ("warning",))
    assert from_json(to_json(document)) == document


@pytest.mark.parametrize("nonsense", [b"", b"{}", b"[]", b'{"blocks": [["x"]]}', b'{"blocks": [["other", "t", 1, 0]]}'])
def test_what_is_no_answer_is_told_from_one(nonsense):
    with pytest.raises((ValueError, KeyError, TypeError)):
        from_json(nonsense)


def test_limits_are_set_also_where_the_system_refuses_some(monkeypatch):
    kept = {}

    def setrlimit(kind, limits):
        if kind == resource.RLIMIT_AS:
            raise ValueError("a lower limit is in force")
        kept[kind] = limits

    timers = []
    monkeypatch.setattr(worker.resource, "setrlimit", setrlimit)
    monkeypatch.setattr(worker.signal, "setitimer", lambda kind, seconds: timers.append((kind, seconds)))
    Limits(memory_bytes=10, cpu_s=20, wall_s=30.0).impose()
    assert kept[resource.RLIMIT_CPU] == (20, 20)
    assert kept[resource.RLIMIT_FSIZE] == (0, 0)
    assert timers == [(signal.ITIMER_REAL, 30.0)]
