"""The measures of `make eval-rag`, against values worked out by hand."""

import math

import pytest

from tests.evals.rag_metrics import covered, interval, judge, told
from tests.evals.rag_sets import located


def test_a_ranking_is_judged() -> None:
    judged = judge(["x", "b", "y", "a", "z", "w"], {"a": 1, "b": 2, "c": 1})
    gain = 2 / math.log2(3) + 1 / math.log2(5)
    ideal = 2 / math.log2(2) + 1 / math.log2(3) + 1 / math.log2(4)
    assert (judged.hit, judged.coverage, judged.recall_5, judged.reciprocal_rank) == (1.0, 2 / 3, 2 / 3, 0.5)
    assert judged.ndcg == pytest.approx(gain / ideal)


def test_coverage_is_of_what_ten_places_can_hold() -> None:
    many = {str(number): 1 for number in range(38)}
    assert judge([str(number) for number in range(10)], many).coverage == 1.0
    assert judge(["x"] * 10 + ["0"], many).hit == 0.0
    assert judge([], {"a": 1}).ndcg == 0.0


def test_evidence_is_covered_by_characters() -> None:
    spans = [("d", 0, 10), ("d", 20, 30)]
    assert covered(spans, [("d", 5, 25), ("d", 8, 12), ("e", 0, 100)]) == 0.5
    assert covered(spans, []) == 0.0


def test_excerpts_are_found_though_markup_is_gone() -> None:
    assert located("**The** refund,\n takes 14 days", "So: the The refund takes\n14 days.") == (8, 32)
    assert located("not there", "text") is None
    assert located("...", "text") is None


def test_means_come_with_an_interval() -> None:
    assert interval([1.0] * 20) == (1.0, 1.0)
    low, high = interval([0.0, 1.0] * 50)
    assert 0.35 < low < 0.45
    assert 0.55 < high < 0.65
    assert told([1.0, 0.0]).startswith("0.500 [")
    assert interval([]) == (0.0, 0.0)
