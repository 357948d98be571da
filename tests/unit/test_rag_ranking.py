"""From two lists of candidates to one ranking, and to the knowledge that nothing answers."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.documents import Candidates, Passage
from shared.rag.abstention import confidence, holds_every_word, threshold
from shared.rag.bm25 import K1, rarity, saturation
from shared.rag.fusion import Fusion, fuse
from shared.rag.off_topic import QUESTIONS
from shared.rag.refining import refine
from tests.retrieval_builders import chunk


def passage(number: int, dense: float | None = None, lexical: float | None = None, document: str = "d") -> Passage:
    return Passage(document, "t", "s", chunk(number, f"text {number}"), 0.0, dense, lexical)


def numbers(passages: list[Passage]) -> list[int]:
    return [found.chunk.ordinal for found in passages]


def unit(*values: float) -> bytes:
    length = sum(value * value for value in values) ** 0.5
    return struct.pack(f"<{len(values)}f", *(value / length for value in values))


FOUND = [passage(0, 0.9, 2.0), passage(1, 0.5, None), passage(2, 0.7, 10.0), passage(3, None, 8.0)]


def test_scores_are_spread_and_weighed() -> None:
    fused = fuse(FOUND, dense_weight=0.5)
    assert [(p.chunk.ordinal, p.score) for p in fused] == [
        (2, pytest.approx(0.75)),
        (0, pytest.approx(0.5)),
        (3, pytest.approx(0.375)),
        (1, pytest.approx(0.0)),
    ]


def test_ranks_alone_count_in_rrf() -> None:
    fused = fuse(FOUND, method=Fusion.RRF)
    assert numbers(fused) == [2, 0, 3, 1]
    assert fused[0].score == pytest.approx((61 / 61 + 61 / 62) / 2)


def test_one_leg_alone() -> None:
    assert numbers(fuse(FOUND, method=Fusion.DENSE)) == [0, 2, 1]
    assert numbers(fuse(FOUND, method=Fusion.LEXICAL)) == [2, 3, 0]


def test_without_a_leg_the_other_has_all_the_weight() -> None:
    words = [passage(0, None, 1.0), passage(1, None, 3.0)]
    vectors = [passage(0, 0.2), passage(1, 0.9)]
    assert [p.score for p in fuse(words)] == [p.score for p in fuse(vectors)] == [1.0, 0.0]
    assert fuse([]) == []
    assert [p.score for p in fuse([passage(0, 0.4, 1.0)])] == [1.0]


scores = st.none() | st.floats(-1, 1)
candidates = st.lists(st.tuples(scores, scores | st.floats(0, 40)), max_size=12).map(
    lambda pairs: [passage(n, d, w) for n, (d, w) in enumerate(pairs) if d is not None or w is not None]
)


@given(candidates, st.sampled_from(Fusion), st.floats(0, 1))
def test_every_fusion_keeps_scores_in_bounds_and_invents_nothing(
    found: list[Passage], method: Fusion, weight: float
) -> None:
    fused = fuse(found, method=method, dense_weight=weight)
    assert all(-1e-9 <= p.score <= 1 + 1e-9 for p in fused)
    assert len(set(numbers(fused))) == len(fused)
    if method in (Fusion.WEIGHTED, Fusion.RRF):
        assert sorted(numbers(fused)) == sorted(numbers(found))
    assert [p.score for p in fused] == sorted((p.score for p in fused), reverse=True)


@given(candidates.filter(lambda found: any(p.dense is not None for p in found)), st.integers(0, 2**32))
def test_a_second_look_keeps_everything_and_what_the_legs_said(found: list[Passage], seed: int) -> None:
    vectors = [unit(1.0, (seed >> n) % 7 - 3, (seed >> 2 * n) % 5 - 2) for n in range(len(found))]
    refined = refine(found, unit(1.0, 0.5, -0.5), vectors)
    assert sorted(numbers(refined)) == sorted(numbers(found))
    assert all(-1e-9 <= p.score <= 1 + 1e-9 for p in refined)
    assert {(p.chunk.ordinal, p.dense, p.lexical) for p in refined} == {
        (p.chunk.ordinal, p.dense, p.lexical) for p in found
    }


def test_what_resembles_the_best_comes_up() -> None:
    # The second document of a question in two steps: far from the question, near to the first answer.
    found = [passage(0, 0.95, 9.0), passage(1, 0.3, 1.0), passage(2, 0.32, 1.0), passage(3, 0.1, 0.5)]
    vectors = [unit(0.9, 0.1, 0.4), unit(0.3, 0.1, 0.95), unit(0.32, -0.95, 0.0), unit(0.1, -1, 0)]

    assert numbers(fuse(found))[1] == 2
    assert numbers(refine(found, unit(1, 0, 0), vectors))[1] == 1


def test_bm25_is_lucenes() -> None:
    assert rarity(10, 10) > 0
    assert rarity(1000, 1) > rarity(1000, 500)
    assert saturation(1, 100, 100) == pytest.approx(1.0)
    assert saturation(4, 400, 400, unit=4) == pytest.approx(saturation(1, 100, 100))
    assert saturation(1, 200, 100) < 1 < saturation(2, 100, 100) < saturation(1000, 100, 100) < K1 + 1


@pytest.mark.parametrize(
    ("question", "holds"),
    [
        ("turnips", True),
        ("What are turnips?", True),
        ("turnip roasting", True),
        ("turnips and parsnips", False),
        ("How are you?", False),
        ("", False),
    ],
)
def test_keywords_are_answered_where_one_passage_holds_them_all(question: str, holds: bool) -> None:
    best = Passage("d", "t", "s", chunk(0, "How you roast a turnip."), 0.0, None, 5.0)
    other = Passage("d", "t", "s", chunk(1, "Parsnips and turnips."), 0.0, 0.9, 1.0)
    near = Passage("d", "t", "s", chunk(2, "Parsnips and turnips."), 0.0, 0.9, None)
    assert holds_every_word(Candidates((near, other, best)), question) is holds
    assert not holds_every_word(Candidates((near,)), question)


def test_confidence_is_of_the_best_of_each_leg() -> None:
    found = Candidates((passage(0, 0.5, None), passage(1, 0.4, 6.0)), (b"", b""), most_lexical=12.0)
    assert confidence(found) == pytest.approx(0.7 * 0.5 + 0.3 * 0.5)
    assert confidence(Candidates()) == 0.0


def test_a_few_answered_questions_do_not_move_the_threshold() -> None:
    background = [0.2 + 0.001 * n for n in range(80)]
    low, high = threshold(background), threshold([*background, *[0.9] * 8])
    assert max(background) < low + 0.02
    assert high - low < 0.02


def test_the_questions_are_about_everything() -> None:
    assert len(set(QUESTIONS)) == len(QUESTIONS) > 80
    assert all(question.endswith("?") for question in QUESTIONS)
