"""Files made to hurt, and files that were hurt: each ends as a document or as a refusal, never as something else."""

import random
import zipfile

import pytest

from shared.domain.documents import DocumentUnreadable, ParsedDocument
from shared.providers.parsing import archives, books, draft, sheets, slides
from shared.providers.parsing.reader import read
from tests.unit import document_builders as build

HTML = (
    "<!doctype html><html><head><style>.a{display:none}</style></head><body><h1>T</h1>"
    "<table><tr><td>a</td><td>b</td></tr></table><ul><li>x<ul><li>y</li></ul></li></ul>"
    "<p class=a>h</p><p>text <b>bold</b> &amp; more</p></body></html>"
)
WHOLE = {
    "x.docx": build.docx(build.paragraph(build.run("Words and more words."), style="Heading1"), title="T", comments=["c"]),
    "x.pptx": build.pptx(lambda presentation: build.slide(presentation, "Title", ["one", "two"], notes="n")),
    "x.odt": build.odt("<text:h>Title</text:h><text:p>Words</text:p>"),
    "x.epub": build.epub(["<html><body><p>Words</p></body></html>"]),
    "x.html": HTML.encode(),
    "x.md": b"# Title\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\ncode\n```\n<!-- c -->\n- item [l](u)\n",
    "x.csv": b'a,b\n"1",2\n"x ""y""",z\n',
    "x.json": b'{"a": [1, {"b": "c"}], "d": null}',
    "x.jsonl": b'{"a": 1}\n[1, 2]\n"x"\n',
    "x.ipynb": b'{"cells": [{"cell_type": "code", "source": ["x"], "outputs": [{"data": {"text/plain": "2"}}]}]}',
    "x.eml": build.eml("Subject", "Text\n\nMore", html="<p>Text</p>", attachments=[("a.pdf", b"%PDF-1.4")]),
    "x.txt": "Text in Köln.\n\nMore.".encode("cp1252"),
}  # fmt: skip
"""By readers written in Python; those in C and Rust are hurt in `tests/contract/test_parsing_sandbox.py`."""


def end_of(content, name):
    try:
        return read(content, media_type="", name=name)
    except DocumentUnreadable as error:
        return error


def hurt(content, rng):
    """The content cut short, or with some bytes changed, taken out or repeated."""
    kind = rng.randrange(4)
    at = rng.randrange(len(content))
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content[:at] + content[at + rng.randint(1, 40) :]
    if kind == 2:
        return content[:at] + content[at : at + 30] * rng.randint(2, 5) + content[at:]
    changed = bytearray(content)
    for _ in range(rng.randint(1, 12)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


@pytest.mark.parametrize("name", WHOLE)
def test_hurt_files_end_as_documents_or_refusals(name):
    rng = random.Random(name)
    assert isinstance(end_of(WHOLE[name], name), ParsedDocument)
    for _ in range(60):
        end = end_of(hurt(WHOLE[name], rng), name)
        assert isinstance(end, ParsedDocument) or end.reason.endswith((".", ")"))


@pytest.mark.parametrize("name", ["x.docx", "x.pptx", "x.odt", "x.epub"])
def test_hurt_parts_inside_whole_archives_end_the_same(name):
    rng = random.Random(name)
    with archives.opened(WHOLE[name]) as archive:
        parts = {entry: archive.read(entry) for entry in archive.namelist()}
    for _ in range(40):
        chosen = rng.choice([entry for entry in parts if parts[entry] and entry != "mimetype"])
        end = end_of(build.zipped({**parts, chosen: hurt(parts[chosen], rng)}), name)
        assert isinstance(end, ParsedDocument) or end.reason.endswith((".", ")"))


def test_zip_bombs_are_not_unpacked(monkeypatch):
    monkeypatch.setattr(archives, "MAX_UNPACKED_BYTES", 10**6)
    bomb = build.zipped({"[Content_Types].xml": "x", "word/document.xml": bytes(2 * 10**6)})
    assert len(bomb) < 10_000
    assert "Unpacked" in end_of(bomb, "x.docx").reason


def test_archives_of_too_many_parts_are_not_opened(monkeypatch):
    monkeypatch.setattr(archives, "MAX_ENTRIES", 20)
    assert "parts" in end_of(build.zipped({f"word/{i}": "x" for i in range(21)}), "x.docx").reason


def test_archives_that_lie_about_their_size_are_cut_short():
    content = bytearray(build.zipped({"mimetype": "application/epub+zip", "a": bytes(10**6)}))
    at = content.rindex(b"PK\x01\x02")
    content[at + 24 : at + 28] = (100).to_bytes(4, "little")  # the uncompressed size in the directory
    assert isinstance(end_of(bytes(content), "x.epub"), DocumentUnreadable)


def test_parts_that_lie_over_each_other_are_refused():
    content = bytearray(build.zipped({"word/a": b"a" * 50, "word/b": b"b" * 50}, compression=zipfile.ZIP_STORED))
    first, second = content.index(b"PK\x01\x02"), content.rindex(b"PK\x01\x02")
    content[second + 42 : second + 46] = content[first + 42 : first + 46]
    assert "zip bombs" in end_of(bytes(content), "x.docx").reason


def test_encrypted_archives_are_named_so():
    content = bytearray(build.zipped({"word/document.xml": "x", "[Content_Types].xml": "x"}))
    at = content.index(b"PK\x01\x02")
    content[at + 8] |= 1
    assert "password" in end_of(bytes(content), "x.docx").reason


def test_entities_are_refused_in_every_office_format():
    laughs = '<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    word = build.docx(build.paragraph(build.run("x")), declaration=laughs)
    assert "entities" in end_of(word, "x.docx").reason
    with archives.opened(WHOLE["x.pptx"]) as archive:
        parts = {entry: archive.read(entry) for entry in archive.namelist()}
    xml = parts["ppt/slides/slide1.xml"].decode()
    parts["ppt/slides/slide1.xml"] = xml.replace("?>", f"?>{laughs}", 1)
    assert "entities" in end_of(build.zipped(parts), "x.pptx").reason
    book = {"mimetype": "application/epub+zip", "META-INF/container.xml": f"{laughs}<container/>"}
    assert "entities" in end_of(build.zipped(book), "x.epub").reason


def test_files_of_the_machine_are_out_of_reach():
    outside = '<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    end = end_of(build.docx(build.paragraph(build.run("&x;")), declaration=outside), "x.docx")
    assert "entities" in end.reason
    chapter = (
        "<html><body><p>Words</p><img src='file:///etc/passwd'><iframe src='file:///etc/passwd'></iframe></body></html>"
    )
    assert end_of(build.epub([chapter]), "x.epub").text == "Words"


@pytest.mark.parametrize("opening", ["<div>", "<b>", "<ul><li>", "<table><tr><td>", "<span style='color:red'>"])
def test_markup_of_any_depth_is_read(opening):
    end = end_of(f"<html><body><p>Start</p>{opening * 5000}Deep".encode(), "x.html")
    assert end.text.startswith("Start")


def test_json_of_any_depth_is_refused():
    for depth in (200, 100_000):
        assert "too deep" in end_of(b"[" * depth + b"1" + b"]" * depth, "x.json").reason
    assert isinstance(end_of(b"9" * 10_000, "x.json"), DocumentUnreadable)


def test_what_is_too_long_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.setattr(draft, "MAX_CHARS", 1000)
    assert "in parts" in end_of(b"Words. " * 200, "x.txt").reason
    monkeypatch.setattr(sheets, "MAX_CELLS", 100)
    for content, name in ((build.xlsx({"S": [[1] * 60] * 2}), "x.xlsx"), (b"1,2,3\n" * 40, "x.csv")):
        assert "cells" in end_of(content, name).reason
    monkeypatch.setattr(slides, "MAX_SLIDES", 0)
    assert "slides" in end_of(WHOLE["x.pptx"], "x.pptx").reason
    monkeypatch.setattr(books, "MAX_CHAPTERS", 1)
    assert end_of(build.epub(["<p>a</p>", "<p>b</p>"]), "x.epub").text == "a"


@pytest.mark.parametrize(
    "text",
    [
        "[" * 50_000,
        "|" + " " * 50_000 + "x\n|-",
        " " * 200_000 + "x",
        "\n" * 200_000,
        "<!--" * 50_000,
        "a|b\n" + "|-" * 500 + "x\n" + "|" * 50_000,
        "![](" * 20_000,
        "`" * 50_000,
        "#" * 50_000,
        "- " * 50_000,
    ],
)
def test_patterns_take_no_longer_for_text_made_against_them(text):
    # A pattern with a quadratic case would meet the test's time limit here, with a file of a few kilobytes.
    for name in ("x.md", "x.txt", "x.html", "x.csv"):
        end = end_of(text.encode(), name)
        assert isinstance(end, ParsedDocument | DocumentUnreadable)


def test_a_mail_of_many_parts_is_read_so_far():
    parts = "".join(f"--b\r\nContent-Type: text/plain\r\n\r\nPart {i}\r\n" for i in range(2000))
    mail = f"From: a@example.com\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n{parts}--b--\r\n"
    end = end_of(mail.encode(), "x.eml")
    assert "Part 100" in end.text
    assert "Part 1000" not in end.text
