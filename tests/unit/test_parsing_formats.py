"""Every format from bytes to blocks: what stands in the document, where, and as what."""

import json

import pytest

from shared.domain.documents import BlockKind, DocumentUnreadable, NeedsOcr
from shared.providers.parsing import pdf
from shared.providers.parsing.reader import read
from tests.unit import document_builders as build

H, P, L, T, C, N = (
    BlockKind.HEADING, BlockKind.PARAGRAPH, BlockKind.LIST, BlockKind.TABLE, BlockKind.CODE, BlockKind.NOTE,
)  # fmt: skip


def parsed(content, name="", media_type=""):
    content = content.encode() if isinstance(content, str) else content
    document = read(content, media_type=media_type, name=name)
    for block in document.blocks:
        assert document.text[block.start : block.start + len(block.text)] == block.text
    return document


def shape(document):
    return [(block.kind, block.text) for block in document.blocks]


def refusal(content, name="", kind=DocumentUnreadable):
    with pytest.raises(kind) as refused:
        parsed(content, name)
    return refused.value.reason


def test_markdown():
    text = (
        "---\ntitle: Guide\n---\n# First\n\nSome *text* with a [link](https://example.com/(x)).\nSecond line.\n\n"
        "Under\n-----\n\n- one\n- two\n\n| a | b |\n|---|:-:|\n| 1 | 2\\|3 |\n\n```py\nx = 1\n\n\n# no heading\n```\nEnd."
    )
    document = parsed(text, "guide.md")
    assert document.title == "Guide"
    assert shape(document) == [
        (H, "First"),
        (P, "Some *text* with a link.\nSecond line."),
        (H, "Under"),
        (L, "- one\n- two"),
        (T, "| a | b |\n| 1 | 2/3 |"),
        (C, "x = 1\n\n# no heading"),
        (P, "End."),
    ]
    assert [block.level for block in document.blocks if block.kind is H] == [1, 2]


def test_markdown_without_front_matter_is_called_by_its_first_heading():
    assert parsed("# Fees\n\nText.", "fees.md").title == "Fees"
    assert parsed("```\nnever closed", "x.md").blocks[0].text == "never closed"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_text_in_every_unicode_encoding(encoding):
    text = "Grüße aus Köln: Rechnung 4711 ist überfällig.\r\n\r\nБез паники, друзья."  # noqa: RUF001 - Russian
    assert shape(parsed(text.encode(encoding), "note.txt")) == [
        (P, "Grüße aus Köln: Rechnung 4711 ist überfällig."),
        (P, "Без паники, друзья."),
    ]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "Die Grüße gehen an die Bürgermeisterin, die für Straßen und Plätze zuständig ist. " * 5),
        ("cp1251", "Съешь же ещё этих мягких французских булок, да выпей чаю. " * 5),
        ("gb18030", "检索增强生成需要真实的评测数据。" * 20),
        ("shift_jis", "請求書の支払期限は来月の末日です。お問い合わせください。" * 10),
        ("euc_kr", "청구서의 지불 기한은 다음 달 말일입니다. 문의해 주세요. " * 10),
    ],
)
def test_text_in_older_encodings(encoding, text):
    assert parsed(text.encode(encoding), "note.txt").text.strip() == text.strip()


def test_nearly_utf8_is_utf8_with_a_warning():
    document = parsed(b"good start \xff\xfe\xfa bad bytes then marker-5521", "note.txt")
    assert "marker-5521" in document.text
    assert "encoding" in document.warnings[0]


def test_bytes_that_are_no_text_are_refused():
    assert "neither text" in refusal(bytes(range(256)) * 20)


def test_html_in_reading_order_with_tables_lists_and_code():
    page = (
        "<html><head><title>Fees</title></head><body><nav>Menu</nav><h1>Fees</h1><p>All  fees\nare <b>due</b>.</p>"
        "<ul><li>one<ul><li>inner</li></ul></li><li>two</li></ul><ol><li>first</li></ol>"
        "<table><tr><th>Plan</th><th>Price</th></tr><tr><td>Gold</td><td>30|EUR</td></tr></table>"
        "<pre>a  = 1\n b</pre><img alt='A tall chart'><div>loose<p>nested</p>tail</div></body></html>"
    )
    document = parsed(page, "fees.html")
    assert document.title == "Fees"
    assert shape(document) == [
        (H, "Fees"),
        (P, "All fees are due."),
        (L, "- one\n  - inner\n- two"),
        (L, "1. first"),
        (T, "| Plan | Price |\n| Gold | 30/EUR |"),
        (C, "a  = 1\n b"),
        (P, "[A tall chart]"),
        (P, "loose"),
        (P, "nested"),
        (P, "tail"),
    ]


def test_html_is_known_by_its_beginning_and_its_own_word_of_the_encoding():
    page = "<!DOCTYPE html><html><head><meta charset='windows-1251'></head><body>Привет, мир</body></html>"
    document = parsed(page.encode("cp1251"), "page.txt")
    assert document.text == "Привет, мир"
    assert "web page" in document.warnings[0]


def test_csv_by_its_own_delimiter():
    assert shape(parsed('name;note\ntea;"hot; black"\n', "x.csv")) == [(T, "| name | note |\n| tea | hot; black |")]
    assert shape(parsed("a\tb\n1\t2\n", media_type="text/tab-separated-values")) == [(T, "| a | b |\n| 1 | 2 |")]


def test_json_as_paths_and_values():
    value = {"name": "tea", "price": {"eur": 3.5, "old": [2, None]}, "tags": ["hot"], "sold": True}
    assert shape(parsed(json.dumps(value), "x.json")) == [
        (L, "name: tea"),
        (L, "price.eur: 3.5\nprice.old[0]: 2"),
        (L, "tags[0]: hot"),
        (L, "sold: true"),
    ]


def test_json_lines_are_a_block_each():
    assert shape(parsed('{"a": 1}\n\n{"a": {"b": "x"}}\n', "x.jsonl")) == [(L, "a: 1"), (L, "a.b: x")]
    assert "line 2" in refusal('{"a": 1}\n{"a": \n', "x.jsonl")


def test_notebooks_give_text_code_and_results():
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "Words."]},
        {"cell_type": "code", "source": "1 + 1", "outputs": [{"data": {"text/plain": ["2"]}}, {"text": "printed"}]},
    ]
    document = parsed(json.dumps({"cells": cells}), "x.ipynb")
    assert shape(document) == [(H, "Title"), (P, "Words."), (C, "1 + 1"), (C, "2"), (C, "printed")]
    assert "no cells" in refusal("{}", "x.ipynb")


def test_word_with_headings_tables_and_title():
    cell = "<w:tc>{}</w:tc>"
    row = (
        "<w:tr>"
        + cell.format(build.paragraph(build.run("a")))
        + cell.format(build.paragraph(build.run("b")))
        + "</w:tr>"
    )
    content = build.docx(
        build.paragraph(build.run("Fees"), style="Heading1"),
        build.paragraph(build.run("All fees "), build.run("are due.")),
        f"<w:tbl>{row}</w:tbl>",
        title="Handbook",
    )
    document = parsed(content, "fees.docx")
    assert document.title == "Handbook"
    assert shape(document) == [(H, "Fees"), (P, "All fees are due."), (T, "| a | b |")]


def test_presentations_slide_by_slide_with_notes_tables_and_alternative_texts():
    def fill(presentation):
        build.slide(presentation, "Plan", ["one", "two"], notes="Say it slowly.")
        made = build.slide(presentation, "Prices")
        table = made.shapes.add_table(2, 2, 0, 0, 914400, 914400).table
        for row, values in enumerate((("plan", "price"), ("gold", "30"))):
            for column, value in enumerate(values):
                table.cell(row, column).text = value
        box = build.text_box(made, "Box text")
        box._element.nvSpPr.cNvPr.set("descr", "A chart of prices")

    document = parsed(build.pptx(fill), "deck.pptx")
    assert document.pages == 2
    assert [(b.kind, b.text, b.page) for b in document.blocks] == [
        (H, "Plan", 1),
        (L, "one\ntwo", 1),
        (N, "Say it slowly.", 1),
        (H, "Prices", 2),
        (T, "| plan | price |\n| gold | 30 |", 2),
        (P, "Box text", 2),
        (N, "A chart of prices", 2),
    ]


def test_workbooks_sheet_by_sheet():
    document = parsed(build.xlsx({"Prices": [["plan", "price"], ["gold", 30], ["tin", 2.5]], "Empty": []}), "x.xlsx")
    assert [(b.kind, b.text, b.page) for b in document.blocks] == [
        (H, "Prices", 1),
        (T, "| plan | price |\n| gold | 30 |\n| tin | 2.5 |", 1),
    ]


def test_thirty_thousand_rows_are_read():
    document = parsed(build.xlsx({"Big": [[f"item {i}", i] for i in range(30_000)]}), "x.xlsx")
    assert document.blocks[1].text.count("\n") == 29_999


def test_pdf_pages_headings_and_paragraphs():
    content = build.pdf(
        f"{build.show('Annual report', size=24)} {build.show('Revenue grew by ten percent', at=(72, 650))} "
        f"{build.show('in every region.', at=(72, 636))} {build.show('Costs fell.', at=(72, 560))}",
        build.show("Second page text here."),
        title="Report 2026",
    )
    document = parsed(content, "report.pdf")
    assert (document.title, document.pages) == ("Report 2026", 2)
    assert [(b.kind, b.text, b.page) for b in document.blocks] == [
        (H, "Annual report", 1),
        (P, "Revenue grew by ten percent\nin every region.", 1),
        (P, "Costs fell.", 1),
        (P, "Second page text here.", 2),
    ]


def test_pages_without_text_are_named_and_without_any_ocr_is_needed():
    document = parsed(build.pdf(build.show("Words."), "", picture_pages=(2,)), "x.pdf")
    assert "Page 2 is without text" in document.warnings[0]
    with pytest.raises(NeedsOcr) as refused:
        parsed(build.pdf("", "", picture_pages=(1, 2)), "x.pdf")
    assert refused.value.pages == 2
    assert "OCR" in refused.value.reason


def test_what_pdfium_does_not_open_is_salvaged_where_it_can_be(monkeypatch):
    def refuse(content):
        raise pdf.pdfium.PdfiumError("Data format error")

    monkeypatch.setattr(pdf.pdfium, "PdfDocument", refuse)
    document = parsed(build.pdf(build.show("First page."), build.show("Second page.")), "x.pdf")
    assert [(b.text, b.page) for b in document.blocks] == [("First page.", 1), ("Second page.", 2)]
    assert document.pages == 2
    assert "damaged" in document.warnings[0]
    assert "damaged" in refusal(build.pdf(""), "x.pdf")


def test_mail_with_its_headers_and_its_attachments_listed():
    document = parsed(
        build.eml("Order 7", "It came.\n\nThanks.", html="<p>x</p>", attachments=[("a.pdf", b"%PDF")]), "m.eml"
    )
    assert document.title == "Order 7"
    assert shape(document) == [
        (H, "Order 7"),
        (L, "From: ann@example.com\nTo: bob@example.com\nDate: Mon, 02 Nov 2026 10:00:00 +0000"),
        (P, "It came."),
        (P, "Thanks."),
        (N, "Attachment: a.pdf (application/pdf)"),
    ]
    assert "1 attachments" in document.warnings[0]
    only_page = parsed(build.eml("Hi", None, html="<p>Seen</p><p style='display:none'>unseen</p>"), "m.eml")
    assert shape(only_page)[-1] == (P, "Seen")
    assert only_page.hidden == 1
    assert "no headers" in refusal("\nJust text", "m.eml")


def test_books_chapter_by_chapter():
    document = parsed(
        build.epub(["<html><body><h1>One</h1><p>a</p></body></html>", "<html><body><p>b</p></body></html>"])
    )
    assert (document.title, document.pages) == ("Book", 2)
    assert [(b.text, b.page) for b in document.blocks] == [("One", 1), ("a", 1), ("b", 2)]


def test_opendocument_texts():
    body = (
        '<text:h text:outline-level="2">Fees</text:h><text:p>All<text:s/>fees<text:line-break/>due.</text:p>'
        "<text:list><text:list-item><text:p>one</text:p></text:list-item></text:list>"
        "<table:table><table:table-row><table:table-cell><text:p>a</text:p></table:table-cell>"
        "<table:table-cell><text:p>b</text:p></table:table-cell></table:table-row></table:table>"
    )
    document = parsed(build.odt(body), "x.odt")
    assert shape(document) == [(H, "Fees"), (P, "All fees\ndue."), (L, "- one"), (T, "| a | b |")]


def test_what_it_is_decides_not_what_it_is_called():
    document = parsed(build.pdf(build.show("Words.")), "notes.txt", "text/plain")
    assert document.text == "Words."
    assert "It is called a text, but is a PDF" in document.warnings[0]
    assert "is none or is damaged" in refusal("just words", "report.pdf")


@pytest.mark.parametrize("start", ["MZ is a registration plate of Mainz.", "BM stands for many things."])
def test_text_may_begin_like_a_program_or_a_picture(start):
    assert parsed(start, "x.txt").text == start


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b" \n\t", "empty"),
        (build.ole("EncryptedPackage"), "password"),
        (build.ole("WordDocument"), "Word's old format"),
        (build.ole("PowerPoint Document"), "PowerPoint's old format"),
        (build.ole("__substg1.0_0037001F"), "Outlook"),
        (build.ole("Anything"), "old Office format"),
        (build.ole("Workbook"), "damaged"),
        (b"\x1f\x8b\x08\x00" + bytes(50), "archive"),
        (build.zipped({"a.txt": "x"}), "archive"),
        (b"{\\rtf1 hello}", "RTF"),
        (b"\x7fELF" + bytes(100), "program"),
        (b"\x1aE\xdf\xa3" + bytes(100), "sound or video"),
        (b"PK\x03\x04 truncated", "damaged"),
    ],
)
def test_what_is_not_read_is_refused_with_what_to_do(content, words):
    assert words in refusal(content)


def test_pictures_need_ocr():
    assert "picture" in refusal(b"\x89PNG\r\n\x1a\n" + bytes(20), kind=NeedsOcr)
