"""What caution costs: how much of unseen benchmarks' quality each guard keeps, and what it saves on seen ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infra.training.routing_sets import Corpus
from tests.evals import routing_metrics as metrics
from tests.evals.routing_protocols import GUARDS, Crossed, Guard, LeftOut, Tried, joined, routed

Vector = NDArray[np.float64]

UNSEEN_AIM = 0.97
SAVING_SET, LEAST_SAVING = "mixed4", 0.40
"""A guard is only worth having when this much is still saved on that set's seen kinds of prompts."""
_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Kept:
    """Share of the incumbent's quality that was kept on an unseen benchmark, with its 95% bootstrap interval."""

    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Whether the aim was kept, and when not, whether that could be chance."""
        if self.ratio >= UNSEEN_AIM:
            return ""
        return "MISSED" if self.high < UNSEEN_AIM else "below, within noise"


def kept_of(chosen: Vector, incumbent: Vector) -> Kept:
    """Share and interval; both means of the ratio are drawn together.

    Args:
        chosen: score of the chosen model on each prompt.
        incumbent: score of the incumbent.
    """
    drawn = np.random.default_rng(0).integers(0, len(chosen), (_RESAMPLES, len(chosen)))
    ratios = chosen[drawn].mean(axis=1) / np.maximum(incumbent[drawn].mean(axis=1), 1e-9)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return Kept(float(chosen.mean() / incumbent.mean()), float(low), float(high))


def summary(kept: Sequence[Kept]) -> str:
    """One line on all cases."""
    met = sum(found.ratio >= UNSEEN_AIM for found in kept)
    noise = sum(found.ratio < UNSEEN_AIM <= found.high for found in kept)
    sure = sum(found.low >= UNSEEN_AIM for found in kept)
    return (
        f">= {UNSEEN_AIM} of the incumbent's quality on {met} of {len(kept)} (on {sure} the whole interval is);"
        f" {noise} below within noise, {len(kept) - met - noise} surely below; worst {min(found.ratio for found in kept):.3f}"
    )


@dataclass(frozen=True, slots=True)
class GuardResult:
    """One guard everywhere.

    Attributes:
        outcomes: on seen kinds of prompts, by set.
        kept: on each left-out benchmark.
        saved: saving there.
    """

    guard: Guard
    outcomes: dict[str, metrics.Outcome]
    kept: list[Kept]
    saved: list[float]


def measured(guard: Guard, corpus: Corpus, crossed: Crossed, cases: Sequence[LeftOut]) -> GuardResult:
    """A guard on seen kinds of prompts and on left-out benchmarks."""
    tried = {labelled.name: Tried.on(joined(crossed[labelled.name], guard), labelled) for labelled in corpus.sets}
    outcomes = {
        labelled.name: metrics.outcome(
            routed(tried[labelled.name], corpus.folds[labelled.prompts]), labelled.scores, labelled.costs
        )
        for labelled in corpus.sets
    }
    kept, saved = [], []
    for case in cases:
        choice = case.choice(tried[case.labelled.name], guard)
        rows, reference = np.arange(len(choice)), case.asked.reference
        kept.append(kept_of(case.labelled.scores[rows, choice], case.labelled.scores[:, reference]))
        usual = float(case.labelled.costs[:, reference].mean())
        saved.append(1 - float(case.labelled.costs[rows, choice].mean()) / usual)
    return GuardResult(guard, outcomes, kept, saved)


def chosen_without(results: Sequence[GuardResult], others: Sequence[int]) -> int:
    """The guard that keeps the aim on most of some benchmarks, among those that still save enough.

    Args:
        results: one a guard.
        others: positions of the benchmarks that may be looked at.
    """

    def worth(result: GuardResult) -> tuple[bool, int, float]:
        saving = result.outcomes[SAVING_SET].saving if SAVING_SET in result.outcomes else LEAST_SAVING
        met = sum(result.kept[place].ratio >= UNSEEN_AIM for place in others)
        return saving >= LEAST_SAVING, met, saving

    return max(range(len(results)), key=lambda number: worth(results[number]))


def print_guards(corpus: Corpus, crossed: Crossed, cases: Sequence[LeftOut]) -> None:
    """The table of guards, and what a guard chosen without looking at a benchmark keeps on it."""
    results = [measured(guard, corpus, crossed, cases) for guard in GUARDS]
    print(f"\nGuards: unseen benchmarks that keep {UNSEEN_AIM}, beside retention / saving on seen kinds of prompts")
    print(f"  caution  familiar  kept   surely below  worst  saved there  {'  '.join(name for name in crossed)}")
    for result in results:
        kept = [found.ratio for found in result.kept]
        seen = "  ".join(f"{found.retention:.3f}/{found.saving:.3f}" for found in result.outcomes.values())
        print(
            f"  {result.guard.caution:7.1f}  {result.guard.familiar_share:8.2f}"
            f"  {sum(ratio >= UNSEEN_AIM for ratio in kept):2} of {len(kept)}"
            f"  {sum(found.high < UNSEEN_AIM for found in result.kept):10}  {min(kept):.3f}"
            f"  {np.mean(result.saved):11.3f}  {seen}"
        )
    nested = []
    for place, case in enumerate(cases):
        others = [other for other, found in enumerate(cases) if found.benchmark != case.benchmark]
        nested.append(results[chosen_without(results, others)].kept[place])
    print(f"  chosen on the other benchmarks with saving >= {LEAST_SAVING} on {SAVING_SET}: {summary(nested)}")
