"""The gate of refusals by wording: few answers taken for refusals, most refusals found, in every language."""

from collections import Counter

import pytest

from shared.analysis.refusal_wording import is_refusal
from tests.evals.refusal_items import ANSWERS, REFUSALS, UNSEEN_ANSWERS, UNSEEN_REFUSALS


@pytest.mark.parametrize(
    ("name", "refusals", "answers", "least_recall", "least_precision"),
    [
        ("seen", REFUSALS, ANSWERS, 0.93, 0.97),
        # Written when the patterns were done, which were not changed for them.
        ("unseen", UNSEEN_REFUSALS, UNSEEN_ANSWERS, 0.7, 0.9),
    ],
)
def test_refusals_are_known_by_how_they_begin(name, refusals, answers, least_recall, least_precision):
    missed = [(language, text) for language, text in refusals if not is_refusal(text)]
    taken = [(language, text) for language, text in answers if is_refusal(text)]
    found = len(refusals) - len(missed)
    recall, precision = found / len(refusals), found / (found + len(taken))
    print(f"\n{name}: recall {recall:.3f} of {len(refusals)}, precision {precision:.3f} beside {len(answers)} answers")
    print("missed:", missed, "taken:", taken, sep="\n")
    assert recall >= least_recall
    assert precision >= least_precision


def test_no_language_is_missed_as_a_whole():
    found = Counter(language for language, text in REFUSALS if is_refusal(text))
    assert all(found[language] * 2 > count for language, count in Counter(lang for lang, _ in REFUSALS).items())
