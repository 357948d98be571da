"""What an answer cites, and how much of it stands there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.documents import Chunk, Passage
from shared.rag.citing import evidence_of, figures_of, sentences_of

TOWER = (
    "The Eiffel Tower was finished in 1889. It is 330 metres tall, and stands in Paris. Dr. Smith built nothing there."
)
ROSES = "Roses are pruned in late winter. Old wood is cut first."


def passage(text, *, document="d", start=100):
    return Passage(document, "Title", "s.pdf", Chunk(0, text, "Prefix", 3, start, start + len(text), 5, "x"), 1.0)


PASSAGES = (passage(TOWER), passage(ROSES, document="e", start=7))


def texts(answer):
    return [(sentence.text, sentence.cited) for sentence in sentences_of(answer)]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("One is so [1]. Two is so.[2] Three. [3]", [("One is so.", (1,)), ("Two is so.", (2,)), ("Three.", (3,))]),
        ("Both [1][2]. More [1, 3]. Range [2-4].", [("Both.", (1, 2)), ("More.", (1, 3)), ("Range.", (2, 3, 4))]),
        ("Here \u30102\u3011.", [("Here.", (2,))]),
        ("A is b. C is d [1].\n\nE is f.", [("A is b.", (1,)), ("C is d.", (1,)), ("E is f.", ())]),
        ("By Dr. Smith, e.g. in 3.5 cases [1].", [("By Dr. Smith, e.g. in 3.5 cases.", (1,))]),
        ("- First [1]\n- Second [2]", [("- First", (1,)), ("- Second", (2,))]),
        ("See [1](https://x.example) and `a[2]`.\n```\nb[3]\n```", [("See [1](https://x.example) and .", ())]),
        (
            "\u5de5\u5854\u5efa\u6210[1]\u3002\u5f88\u9ad8\u3002[2]",
            [("\u5de5\u5854\u5efa\u6210\u3002", (1,)), ("\u5f88\u9ad8\u3002", (2,))],
        ),
        ("", []),
    ],
)
def test_sentences_and_their_markers(answer, expected):
    assert texts(answer) == expected


def test_a_quote_stands_in_its_document_where_the_citation_says():
    evidence = evidence_of("It is 330 metres tall [1]. Old wood goes first [2].", PASSAGES)
    first, second = evidence.citations
    assert (first.quote, first.page, first.source) == ("It is 330 metres tall, and stands in Paris.", 3, "s.pdf")
    assert (second.quote, second.document_id) == ("Old wood is cut first.", "e")
    for citation, text, offset in ((first, TOWER, 100), (second, ROSES, 7)):
        assert text[citation.start - offset : citation.end - offset] == citation.quote


@pytest.mark.parametrize(
    ("answer", "groundedness"),
    [
        ("The Eiffel Tower was finished in 1889 [1].", 1.0),
        ("The Eiffel Tower was finished in 1890 [1].", 0.0),
        ("The Eiffel Tower was finished in 1889 [2].", 0.0),
        ("The Eiffel Tower was finished in 1889.", 0.0),
        ("The Eiffel Tower was finished in 1889 [9].", 0.0),
        ("The tower stands in Paris [1]. Bananas grow in warm countries [1].", 0.5),
        ("The tower stands in Paris [1]. Shall I go on?", 1.0),
        ("[drawn up by a machine]\n\nThe tower stands in Paris [1].\n\n(please check this)", 1.0),
        ("Yes [1].", None),
        ("", None),
    ],
)
def test_groundedness_is_the_share_of_sentences_that_what_they_cite_supports(answer, groundedness):
    assert evidence_of(answer, PASSAGES).groundedness == groundedness


def test_numbers_that_no_passage_has_are_told_apart():
    evidence = evidence_of("Yes [1]. The tower stands in Paris [3][0].", PASSAGES)
    assert [citation.marker for citation in evidence.citations] == ["[1]"]
    assert evidence.unknown_markers == (0, 3)


def test_meaning_counts_beside_words():
    def encode(text):
        return np.array([1.0, 0.0] if "tower" in text.lower() or "monument" in text else [0.0, 1.0], np.float32)

    answer = "The Paris monument opened its doors [1]."
    assert evidence_of(answer, PASSAGES).groundedness == 0.0
    assert evidence_of(answer, PASSAGES, encode).groundedness == 1.0
    assert evidence_of(answer, PASSAGES, lambda _: np.zeros(2, np.float32)).groundedness == 0.0


def test_separators_do_not_make_another_figure():
    assert figures_of("1,200 and 3.5 and 7 and 12\u00a0000") == {"1200", "35", "12000"}


MARKERS = st.sampled_from(["[1]", "[2]", "[3]", "[1-9]", "[2, 1]", "\u30101\u3011", "[999-1]"])
WORDS = st.sampled_from(
    ["The tower", "roses", "1889", ".", "! ", "?", "\n", "\n\n", " ", "`x`", "```", "e.g.", "\u3002"]
)


@given(st.lists(WORDS | MARKERS, max_size=30).map("".join))
def test_whatever_is_answered_quotes_are_exact_and_shares_are_shares(answer):
    evidence = evidence_of(answer, PASSAGES)
    for citation in evidence.citations:
        text, offset = (TOWER, 100) if citation.document_id == "d" else (ROSES, 7)
        assert citation.quote
        assert text[citation.start - offset : citation.end - offset] == citation.quote
    assert evidence.groundedness is None or 0 <= evidence.groundedness <= 1
    for sentence in evidence.sentences:
        assert 0 <= sentence.start < sentence.end <= len(answer)
        assert not sentence.supported or sentence.cited
