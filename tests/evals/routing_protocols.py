"""How the predictor is put to the test: unseen questions, unseen benchmarks, unseen models.

Unseen questions: five folds by question; each is predicted by a fit on the other four, and the exchange rate of money
is chosen on those four's own cross-validated predictions. Unseen benchmarks: one is taken out of every set, the rest
is learned, and the rate comes from the rest. Unseen models: one model is taken out of every set that has it, and comes
back with a few labelled prompts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.training.item_fit import FAMILIAR_SHARE, Fit, fit
from infra.training.quality import ReadCorpus, encode
from infra.training.routing_sets import FOLDS, Corpus, LabelledSet, kinds_of
from shared.learning.item_response import Abilities, ItemModel, evidence, predict, success, update
from shared.scoring.utility import UtilityRule, utilities
from tests.evals.routing_metrics import best_single

Matrix = NDArray[np.float64]
Flags = NDArray[np.bool_]
Floats = NDArray[np.float32]

RATES = (0.0, *np.logspace(-2.5, 0.5, 151).tolist())
"""Quality that the reference model's mean cost may be worth: what is searched, and the operating points of a curve."""
TARGET = 0.985
"""Retention asked for where the rate is chosen: above the 0.98 aimed at, by what a choice on samples overrates."""
SUBJECT_GROUPS = 5
NEW_MODEL_LABELS = (0, 50, 200)


@dataclass(frozen=True, slots=True)
class Guard:
    """What keeps prompts with the reference.

    Attributes:
        caution: standard deviations that another model's quality is counted lower by.
        familiar_share: share of the training prompts that count as familiar.
    """

    caution: float
    familiar_share: float


GUARD = Guard(caution=1.0, familiar_share=FAMILIAR_SHARE)
"""As the router has it."""
GUARDS = tuple(Guard(caution, share) for share in (0.99, 0.82, 0.7, 0.5) for caution in (0.0, 1.0, 2.0, 3.0, 4.0))
"""From none to one that lets hardly any prompt go."""


@dataclass(frozen=True, slots=True)
class Predicted:
    """What was predicted for the rows of a set before its labels were seen.

    Attributes:
        reference: column of the best single model of the rows learned from, by row.
        costs: expected cost in units of the reference's mean cost.
        caution: of the guard that it was predicted under.
    """

    mean: Matrix
    std: Matrix
    familiarity: Matrix
    costs: Matrix
    reference: NDArray[np.intp]
    caution: float

    def choices(self, rate: float) -> NDArray[np.intp]:
        """The model chosen on each row at that exchange rate."""
        rule = UtilityRule(quality_per_cost=rate, caution=self.caution)
        chosen = np.zeros(len(self.mean), np.intp)
        for reference in np.unique(self.reference):
            own = self.reference == reference
            values = utilities(
                self.mean[own],
                self.std[own],
                self.costs[own],
                reference=int(reference),
                familiarity=self.familiarity[own],
                rule=rule,
            )
            chosen[own] = values.argmax(axis=1)
        return chosen


@dataclass(frozen=True, slots=True)
class Asked:
    """Rows of a set that were not learned from, and what is known of them and of the models that may serve them.

    Attributes:
        rows: which rows of the set.
        items, strangeness: one row or entry a row.
        costs: expected cost in units of the reference's mean cost.
        scales: what is familiar to each guard.
    """

    rows: Flags
    items: Floats
    strangeness: Floats
    costs: Matrix
    reference: int
    abilities: Abilities
    model: ItemModel
    prior_precision: Floats
    scales: dict[float, Floats]

    def predicted(self, guard: Guard) -> Predicted:
        """What the rows' quality is expected to be."""
        model = replace(self.model, distance_scale=self.scales[guard.familiar_share])
        shown = evidence(model, self.items, self.abilities, self.prior_precision)
        answer = predict(model, self.items, model.familiar(self.strangeness) * shown, self.abilities)
        return Predicted(
            answer.mean.astype(np.float64),
            answer.std.astype(np.float64),
            answer.familiarity.astype(np.float64),
            self.costs,
            np.full(len(self.items), self.reference),
            guard.caution,
        )


def expected_costs(lengths: Matrix, costs: Matrix, known: Flags) -> Matrix:
    """Cost of every row, linear in the prompt's length, from the known rows; never below a tenth of the mean."""
    design = np.stack([np.ones_like(lengths), lengths], axis=1)
    coefficients, *_ = np.linalg.lstsq(design[known], costs[known], rcond=None)
    usual: Matrix = np.maximum(design @ coefficients, 0.1 * costs[known].mean(axis=0))
    return usual


def asked(prompts: ReadCorpus, fitted: Fit, labelled: LabelledSet, left_out: Flags) -> Asked:
    """The rows of a set whose prompts were left out, with abilities learned on the others."""
    rows = left_out[labelled.prompts]
    ask = labelled.prompts[rows]
    reference = best_single(labelled.scores[~rows])
    lengths = np.array([float(len(prompts.corpus.prompts[place])) for place in labelled.prompts])
    costs = expected_costs(lengths, labelled.costs, ~rows) / labelled.costs[~rows, reference].mean()
    return Asked(
        rows=rows,
        items=fitted.items[ask],
        strangeness=fitted.strangeness[ask],
        costs=costs[rows],
        reference=reference,
        abilities=fitted.abilities(labelled.rows(~rows)),
        model=fitted.model,
        prior_precision=fitted.prior_precision,
        scales={share: fitted.guarded(share).distance_scale for share in {guard.familiar_share for guard in GUARDS}},
    )


def fitted_without(prompts: ReadCorpus, left_out: Flags) -> Fit:
    """A fit on every prompt but the given ones; topics and scales of the features too are learned without them."""
    corpus, known = prompts.corpus, ~left_out
    sets = [labelled.rows(known[labelled.prompts]) for labelled in corpus.sets]
    features = encode(prompts, known).features
    kinds = kinds_of(corpus.domain_names)[corpus.domains]
    return fit(features, kinds, corpus.folds, known, [labelled for labelled in sets if labelled.tasks])


Crossed = dict[str, list[Asked]]
"""By set: every row of it, in parts that each were not learned from together."""


def cross_validated(prompts: ReadCorpus) -> Crossed:
    """Every row of every set, each with a fit that did not see its question."""
    corpus = prompts.corpus
    parts: Crossed = {labelled.name: [] for labelled in corpus.sets}
    for fold in range(FOLDS):
        left_out = corpus.folds == fold
        fitted = fitted_without(prompts, left_out)
        for labelled in corpus.sets:
            parts[labelled.name].append(asked(prompts, fitted, labelled, left_out))
    return parts


def joined(parts: Sequence[Asked], guard: Guard = GUARD) -> Predicted:
    """Predictions for the rows of all parts, in the set's order."""
    order = np.argsort(np.concatenate([np.flatnonzero(part.rows) for part in parts]))
    found = [part.predicted(guard) for part in parts]

    def column(read: Callable[[Predicted], NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([read(part) for part in found])[order]

    return Predicted(
        column(lambda part: part.mean),
        column(lambda part: part.std),
        column(lambda part: part.familiarity),
        column(lambda part: part.costs),
        column(lambda part: part.reference),
        guard.caution,
    )


@dataclass(frozen=True, slots=True)
class Tried:
    """What each rate chooses on a set's rows, and what came of it: [rates, rows]."""

    choices: NDArray[np.intp]
    scores: Matrix
    costs: Matrix
    alone: Matrix

    @classmethod
    def on(cls, guess: Predicted, labelled: LabelledSet) -> "Tried":
        """Every rate on every row."""
        rows = np.arange(len(labelled.scores))
        choices = np.stack([guess.choices(rate) for rate in RATES])
        return cls(choices, labelled.scores[rows, choices], labelled.costs[rows, choices], labelled.scores)

    def best(self, keep: Flags, target: float = TARGET) -> int:
        """The rate that costs least among those that keep the target share of the best single model's quality.

        Args:
            keep: the rows to look at.
            target: share; the first rate, at which money is worth nothing, when none keeps it.
        """
        wanted = target * self.alone[keep].mean(axis=0).max()
        costs = np.where(self.scores[:, keep].mean(axis=1) >= wanted, self.costs[:, keep].mean(axis=1), np.inf)
        return int(costs.argmin())


def routed(tried: Tried, folds: NDArray[np.intp]) -> NDArray[np.intp]:
    """The router's choices on a cross-validated set, the rate of each fold chosen on the others.

    Args:
        tried: all rates on the set.
        folds: of the set's rows.
    """
    choice = np.zeros(len(folds), np.intp)
    for fold in range(FOLDS):
        here = folds == fold
        choice[here] = tried.choices[tried.best(~here), here]
    return choice


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A benchmark that was not learned from.

    Attributes:
        labelled: its rows of the set.
        asked: what is known of its rows.
    """

    benchmark: str
    labelled: LabelledSet
    asked: Asked

    def choice(self, tried: Tried, guard: Guard = GUARD) -> NDArray[np.intp]:
        """The router's choices, at the rate that suits the set's other rows.

        Args:
            tried: all rates on the whole set, under the same guard.
            guard: what keeps prompts with the incumbent.
        """
        return self.asked.predicted(guard).choices(RATES[tried.best(~self.asked.rows)])


def left_out_benchmarks(prompts: ReadCorpus) -> Iterator[LeftOut]:
    """Every benchmark (of the multiple choice sets: every subject, or a fifth of the subjects) in turn."""
    corpus = prompts.corpus
    for benchmark, domains, names in _benchmarks(corpus):
        left_out = np.isin(corpus.domains, [corpus.domain_names.index(domain) for domain in domains])
        fitted = fitted_without(prompts, left_out)
        for labelled in corpus.sets:
            rows = left_out[labelled.prompts]
            if labelled.name in names and rows.any() and not rows.all():
                found = asked(prompts, fitted, labelled, left_out)
                yield LeftOut(benchmark, labelled.rows(rows), found)


def _benchmarks(corpus: Corpus) -> Iterator[tuple[str, list[str], set[str]]]:
    """Name, domains to leave out everywhere, and the sets to judge."""
    names = corpus.domain_names
    for whole in sorted({name.split("/")[0] for name in names} - {"llmrouter9", "mmlu"}):
        yield whole, [name for name in names if name.split("/")[0] == whole], {"mixed4", "zeroeval"}
    for name in names:
        if name.startswith("llmrouter9/"):
            yield name.split("/")[1], [name], {"llmrouter9"}
        elif name.startswith("mmlu_pro/"):
            yield name, [name], {"mixed4", "mmlupro"}
    subjects = [name for name in names if name.startswith("mmlu/")]
    for group in range(SUBJECT_GROUPS):
        yield f"mmlu, part {group + 1} of {SUBJECT_GROUPS}", subjects[group::SUBJECT_GROUPS], {"routellm"}


@dataclass(frozen=True, slots=True)
class NewModel:
    """A model that the item model has never seen, after some labelled prompts.

    Attributes:
        error: mean squared error of its predicted quality on other prompts (Brier score).
        baseline: the same of the mean of those labels, shrunk to the pool's, for every prompt.
        full: the same after all labels of the training folds.
    """

    set_name: str
    model: str
    labels: int
    error: float
    baseline: float
    full: float


def left_out_models(prompts: ReadCorpus, models: Sequence[tuple[str, str]], seed: int = 0) -> Iterator[NewModel]:
    """Each named (set, model) in turn; its like-named versions in other sets are left out with it.

    Labels come from four folds, errors from the fifth, whose questions the item model has not seen either.
    """
    corpus = prompts.corpus
    held = corpus.folds == 0
    features, kinds = encode(prompts, ~held).features, kinds_of(corpus.domain_names)[corpus.domains]
    rng = np.random.default_rng(seed)
    for set_name, model in models:
        sets = [_without_family(labelled, model).rows(~held[labelled.prompts]) for labelled in corpus.sets]
        fitted = fit(features, kinds, corpus.folds, ~held, sets)
        labelled = next(found for found in corpus.sets if found.name == set_name)
        scores = labelled.scores[:, labelled.models.index(model)]
        tests = held[labelled.prompts]
        pool = np.flatnonzero(~tests)
        tested, truth = fitted.items[labelled.prompts[tests]], scores[tests]
        usual = float(np.mean([found.scores.mean() for found in sets]))

        def error(picked: NDArray[np.intp]) -> float:
            items = fitted.items[labelled.prompts[picked]]  # noqa: B023 - called within the turn
            mean, _ = update(items, scores[picked], fitted.prior_mean, fitted.prior_precision)  # noqa: B023
            return float(((success(tested @ mean) - truth) ** 2).mean())  # noqa: B023

        full = error(pool)
        for count in NEW_MODEL_LABELS:
            picked = rng.choice(pool, count, replace=False)
            flat = (scores[picked].sum() + 2 * usual) / (count + 2)
            yield NewModel(set_name, model, count, error(picked), float(((flat - truth) ** 2).mean()), full)


def _without_family(labelled: LabelledSet, model: str) -> LabelledSet:
    family = _family(model)
    for column in reversed(range(len(labelled.models))):
        if _family(labelled.models[column]) == family and len(labelled.models) > 1:
            labelled = labelled.without(column)
    return labelled


def _family(model: str) -> str:
    """Model names of different sets on one form: no vendor, case, separators or release suffix."""
    plain = model.lower().split("/")[-1].split("@")[0].replace("meta-", "").replace("_", ".")
    return plain.removesuffix("-002").removesuffix("-instruct").replace("-exp-0827", "")
