"""The words that texts are found by, whatever script they are in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.rag.stemming import stem
from shared.rag.terms import MAX_COUNT, QUARTERS, length, query_terms, text_terms


@pytest.mark.parametrize(
    ("word", "expected"),
    # From Snowball's own sample vocabulary: https://snowballstem.org/algorithms/english/stemmer.html
    [
        ("consign", "consign"), ("consigned", "consign"), ("consigning", "consign"), ("consignment", "consign"),
        ("consistency", "consist"), ("consistently", "consist"), ("consolation", "consol"), ("consolatory", "consolatori"),
        ("conspicuously", "conspicu"), ("knackeries", "knackeri"), ("knaves", "knave"), ("kneeling", "kneel"),
        ("knitted", "knit"), ("knives", "knive"), ("skies", "sky"), ("dying", "die"), ("ties", "tie"), ("cries", "cri"),
        ("hopping", "hop"), ("hoping", "hope"), ("adding", "add"), ("luxuriated", "luxuri"), ("agreed", "agre"),
        ("generously", "generous"), ("generalization", "general"), ("only", "onli"), ("proceeds", "proceed"),
        ("gas", "gas"), ("gaps", "gap"), ("kiwis", "kiwi"), ("sayings", "say"), ("yes", "yes"), ("youth", "youth"),
        ("analogies", "analog"), ("relational", "relat"), ("formative", "format"), ("adoption", "adopt"),
        ("controlling", "control"), ("fluently", "fluentli"), ("at", "at"),
    ],
)  # fmt: skip
def test_english_endings_come_off(word: str, expected: str) -> None:
    assert stem(word) == expected


@given(st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=20))
def test_stems_are_no_longer_than_words_but_for_a_final_e(word: str) -> None:
    assert 0 < len(stem(word)) <= len(word) + 1


def test_forms_of_a_word_are_one_word() -> None:
    assert text_terms("connected connections connecting") == {"connect": 3 * QUARTERS}


def test_identifiers_count_whole_and_for_half_in_parts() -> None:
    terms = text_terms("CombinedExecutor read_timeout_ms HTTPServer")
    assert terms["combinedexecutor"] == terms["read_timeout_ms"] == terms["httpserver"] == QUARTERS
    for part in ("combin", "executor", "read", "timeout", "ms", "http", "server"):
        assert terms[part] == QUARTERS // 2
    assert text_terms("Plain words, IBM iPhone2") == {"plain": 4, "word": 4, "ibm": 4, "iphone2": 4, "phone": 2}


def test_questions_lose_the_words_that_only_ask() -> None:
    assert query_terms("What is the purpose of the DiffExecutor?").keys() == {
        "purpos",
        "diffexecutor",
        "diff",
        "executor",
    }
    assert query_terms("Wann wurde der Vertrag mit Köln geschlossen?").keys() == {"vertrag", "koln", "geschlossen"}
    assert query_terms("what is it").keys() == {"what"}
    assert query_terms("is it?!") == {}


@pytest.mark.parametrize(
    ("asked", "written"),
    [
        ("机器学习", "什么是机器学习模型"),
        ("東京タワー", "これは東京タワーです"),
        ("서울에서", "나는 서울에서 산다"),
        ("скорость поезда", "Скоростью поездов"),
        ("KÖLN STRASSE", "Straße in Köln"),
        ("café", "cafe\u0301"),
        ("\uff46\uff55\uff4c\uff4c", "full"),
        ("हिन्दी भाषा", "हिन्दी एक भाषा है"),
        ("شركة", "شَرِكَة"),
        ("ประเทศไทย", "ในประเทศไทยมี"),
    ],
)
def test_words_of_other_scripts_meet(asked: str, written: str) -> None:
    terms = query_terms(asked)
    assert terms
    assert terms.keys() <= text_terms(written).keys()


def test_chinese_beside_latin_is_taken_apart() -> None:
    assert query_terms("GPU加速器v2").keys() == {"gpu", "加速", "速器", "v2"}


def test_title_and_headings_are_searched_like_the_text() -> None:
    assert text_terms("revenue grew", "Annual report") == text_terms("revenue grew Annual report")


@given(st.text(max_size=400), st.text(max_size=50))
def test_any_text_has_counts_that_can_be_stored(text: str, prefix: str) -> None:
    terms = text_terms(text, prefix)
    assert all(0 < count <= MAX_COUNT and term for term, count in terms.items())
    assert 0 <= length(terms) <= MAX_COUNT
    assert query_terms(text).keys() <= text_terms(text).keys()


def test_a_word_without_end_costs_no_more_than_a_long_one() -> None:
    assert text_terms("a" * 300_000) == text_terms("a" * 64)
    assert text_terms("spam " * 100_000) == {"spam": MAX_COUNT}
