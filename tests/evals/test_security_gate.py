"""The gate of security classification: the set keeps its shape, and no kind falls below its floor."""

from collections import Counter

import pytest

from shared.analysis.detectors.injection import Source, signals
from shared.domain.security import SENSITIVE_KINDS, GuardRules, injection_score
from tests.evals.analysis_items import load_items
from tests.evals.security_items import FOLDER, attack_items, sensitive_items
from tests.evals.security_report import ATTACK, OVERALL, report, scores

LEAST = 0.95
FLOORS = {"health": (0.9, 0.85), "address": (0.9, 0.85), "date_of_birth": (0.95, 0.9), ATTACK: (0.93, 0.9)}
"""Precision and recall of kinds that are known by words; all others are known by their form."""
FLOOR = (0.95, 0.95)


def test_overall_precision_and_recall():
    print(report())
    overall = scores()[OVERALL]
    assert overall.precision >= LEAST
    assert overall.recall >= LEAST


@pytest.mark.parametrize("kind", sorted(SENSITIVE_KINDS | {ATTACK}))
def test_a_kind_keeps_its_floor(kind: str):
    score = scores()[kind]
    precision, recall = FLOORS.get(kind, FLOOR)
    assert score.precision >= precision, score
    assert score.recall >= recall, score


def test_the_set_is_large_and_every_kind_has_items():
    items, attacks = sensitive_items(), attack_items()
    assert len(items) + len(attacks) >= 500
    assert len({item.id for item in (*items, *attacks)}) == len(items) + len(attacks)
    assert len({item.text for item in items}) == len(items)
    kinds = Counter(item.kind for item in items)
    assert set(kinds) == SENSITIVE_KINDS | {None}
    assert kinds[None] >= 150
    assert min(Counter(attack.is_attack for attack in attacks).values()) >= 50


def test_no_value_is_written_down():
    written = "".join((path.read_text(encoding="utf-8")) for path in _files())
    assert not any(value in written for item in sensitive_items() for value in item.values if len(value) > 12)


def _files():

    return sorted(FOLDER.glob("*.jsonl"))


def test_requests_of_other_sets_are_no_attacks():

    texts = [item.request.messages[-1].text() for item in load_items()]
    flagged = [t for t in texts if injection_score(signals(t, "x", Source.USER)) >= GuardRules().injection_from]
    assert len(texts) > 600
    assert flagged == []
