import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.learning.wordpiece import HEAD_CHARS, MIDDLE_CHARS, TAIL_CHARS, WordPiece, sample

PIECES = [
    "[PAD]",
    "[UNK]",
    "route",
    "##r",
    "##s",
    "un",
    "##want",
    "##ed",
    ",",
    "runn",
    "##ing",
    "東",
    "京",
    "_",
    "cafe",
    "$",
]
WORDS = WordPiece(PIECES)


def pieces(text):
    return [PIECES[row] for row in WORDS.rows(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Route", ["route"]),
        ("unwanted,running", ["un", "##want", "##ed", ",", "runn", "##ing"]),
        ("routers", ["route", "##r", "##s"]),
        ("東京", ["東", "京"]),
        ("Café $", ["cafe", "$"]),
        ("route_route", ["route", "_", "route"]),
    ],
)
def test_the_longest_piece_comes_first(text, expected):
    assert pieces(text) == expected


def test_a_word_with_an_unknown_part_is_left_out_whole():
    assert pieces("routezz route") == ["route"]


def test_markers_are_not_text():
    assert pieces("[PAD] [UNK]") == []


def test_words_that_nobody_could_mean_cost_nothing():
    assert pieces("un" + "want" * 100) == []
    assert len(WORDS.rows("unwanted " * 1000)) == 3 * 150


def test_ascii_and_other_text_are_split_alike():
    assert pieces("unwanted , route_ é") == pieces("unwanted , route_ ")


def test_a_long_text_is_read_at_both_ends_and_in_the_middle():
    text = "a" * 5_000 + "b" * 5_000 + "c" * 5_000
    part = sample(text)
    assert len(part) == HEAD_CHARS + MIDDLE_CHARS + TAIL_CHARS + 2
    assert part.startswith("a")
    assert "b" * MIDDLE_CHARS in part
    assert part.endswith("c" * TAIL_CHARS)


def test_a_short_text_is_read_whole():
    assert sample("short") == "short"


@given(st.text(max_size=300))
def test_any_text_gives_rows_of_the_vocabulary(text):
    assert all(2 <= row < len(PIECES) for row in WORDS.rows(text))
