"""Cutting documents: what every chunk keeps to, whatever the document."""

from hashlib import sha256
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.analysis.tokens import estimate_tokens
from shared.domain.documents import Block, BlockKind, DocumentUnreadable, ParsedDocument
from shared.rag.chunking import ChunkRules, cut


def words(text):
    return len(text.split())


def document(*blocks):
    """Blocks of (kind, text) or (kind, text, page or level), with their true offsets."""
    made, start = [], 0
    for kind, text, *more in blocks:
        number = more[0] if more else None
        level = (number or 1) if kind is BlockKind.HEADING else 0
        made.append(Block(kind, text, start, None if kind is BlockKind.HEADING else number, level))
        start += len(text) + 2
    return ParsedDocument(tuple(made))


def prose(count, word="word"):
    return " ".join(f"{word}{i}." if i % 10 == 9 else f"{word}{i}" for i in range(count))


P, H, T, C = BlockKind.PARAGRAPH, BlockKind.HEADING, BlockKind.TABLE, BlockKind.CODE

kinds = st.sampled_from(list(BlockKind))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=400) | st.integers(0, 900).map(prose)
documents = st.lists(st.tuples(kinds, texts), max_size=8).map(lambda blocks: document(*blocks))
rules = st.builds(
    ChunkRules,
    target_tokens=st.integers(20, 220),
    overlap_tokens=st.integers(0, 10),
    least_tokens=st.integers(0, 60),
    max_chars=st.integers(40, 2000),
)


@given(documents, rules)
def test_chunks_stand_where_they_say_and_nothing_is_left_out(parsed, sizes):
    chunks = cut(parsed, title="T", count_tokens=words, rules=sizes)
    text = parsed.text
    covered = [False] * len(text)
    for chunk in chunks:
        assert chunk.text == text[chunk.start : chunk.end]
        assert chunk.text.strip()
        covered[chunk.start : chunk.end] = [True] * (chunk.end - chunk.start)
    assert all(done or char.isspace() for done, char in zip(covered, text, strict=True))
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
    assert all(a.start < b.start and a.end < b.end for a, b in pairwise(chunks))


@given(documents, rules)
def test_no_chunk_is_longer_than_the_rules_say(parsed, sizes):
    for chunk in cut(parsed, title="", count_tokens=words, rules=sizes):
        assert words(chunk.text) <= sizes.target_tokens
        assert len(chunk.text) <= sizes.max_chars


@given(documents)
def test_the_same_document_makes_the_same_chunks(parsed):
    assert cut(parsed, title="T", count_tokens=words) == cut(parsed, title="T", count_tokens=words)


def test_neighbours_overlap_by_whole_sentences():
    chunks = cut(document((P, prose(600))), title="", count_tokens=words)
    assert len(chunks) > 3
    for one, other in pairwise(chunks):
        shared = one.end - other.start
        assert shared > 0
        assert words(one.text[-shared:]) <= 50
        assert one.text[-shared - 2] == "."


def test_a_section_that_is_long_enough_ends_its_chunk_and_short_ones_are_joined():
    parsed = document(
        (H, "One"), (P, prose(100)), (H, "Two"), (P, prose(20, "x")), (H, "Three"), (P, prose(30, "y")), (H, "Four"),
        (P, prose(90, "z")),
    )  # fmt: skip
    chunks = cut(parsed, title="Guide", count_tokens=words)
    assert [chunk.text.split()[0] for chunk in chunks] == ["One", "Two"]
    assert "Four" in chunks[1].text


def test_the_prefix_names_title_and_headings_above_and_not_those_inside():
    parsed = document((H, "Fees", 1), (H, "Refunds", 2), (P, prose(500)), (H, "Other", 1), (P, prose(150)))
    chunks = cut(parsed, title="Handbook", count_tokens=words)
    assert chunks[0].prefix == "Handbook"
    assert {chunk.prefix for chunk in chunks[1:-1]} == {"Handbook > Fees > Refunds"}
    assert chunks[-1].prefix == "Handbook"
    assert chunks[-1].text.startswith("Other")


def test_rows_of_a_long_table_carry_its_first_row():
    rows = "\n".join(f"| item {i} | {i} EUR |" for i in range(200))
    chunks = cut(document((T, "| name | price |\n" + rows)), title="Prices", count_tokens=words)
    assert len(chunks) > 3
    assert chunks[0].prefix == "Prices"
    assert all(chunk.prefix == "Prices\n| name | price |" for chunk in chunks[1:])
    assert all(chunk.text.startswith("|") and chunk.text.endswith("|") for chunk in chunks)


def test_a_word_of_300_000_letters_is_cut_by_characters():
    chunks = cut(document((P, "a" * 300_000)), title="", count_tokens=lambda text: 1)
    assert max(len(chunk.text) for chunk in chunks) <= 2000
    assert chunks[-1].end == 300_000


def test_chinese_is_cut_at_its_own_full_stops():
    text = "检索增强生成把文档切成小块。" * 60
    chunks = cut(document((P, text)), title="", count_tokens=estimate_tokens)
    assert len(chunks) > 2
    assert all(chunk.text.endswith("。") for chunk in chunks)


def test_pages_are_those_where_the_text_begins():
    chunks = cut(document((P, prose(150), 1), (P, prose(150, "x"), 2)), title="", count_tokens=words)
    assert [chunk.page for chunk in chunks] == [1, 1]  # the second begins with what it repeats


def test_the_digest_tells_prefix_and_text_apart():
    one, other = document((P, "a b")), document((P, "b"))
    digests = {cut(one, title="", count_tokens=words)[0].sha, cut(other, title="a ", count_tokens=words)[0].sha}
    assert len(digests) == 2
    assert digests != {sha256(b"a b").hexdigest()}


def test_a_document_of_too_many_chunks_is_refused_with_what_to_do():
    with pytest.raises(DocumentUnreadable, match="Send it in parts"):
        cut(document((P, prose(5000))), title="", count_tokens=words, rules=ChunkRules(max_chunks=3))


@pytest.mark.parametrize("parsed", [ParsedDocument(()), document((P, "")), document((H, " "), (P, "\n\n"))])
def test_nothing_makes_no_chunks(parsed):
    assert cut(parsed, title="Empty", count_tokens=words) == ()
