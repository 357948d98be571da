"""How the predictor is put to the test: unseen questions, unseen benchmarks, unseen models.

Unseen questions: five folds by question; each is predicted by a fit on the other four, and the exchange rate of money
is chosen on those four's own cross-validated predictions. Unseen benchmarks: one is taken out of every set, the rest
is learned, and the rate comes from the rest. Unseen models: one model is taken out of every set that has it, and comes
back with a few labelled prompts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.training.item_fit import Fit, fit
from infra.training.quality import EncodedCorpus
from infra.training.routing_sets import FOLDS, LabelledSet
from shared.learning.item_response import predict, success, update
from shared.scoring.utility import UtilityRule, utilities
from tests.evals.routing_metrics import best_single

Matrix = NDArray[np.float64]
Flags = NDArray[np.bool_]

RATES = (0.0, *np.logspace(-2.5, 0.5, 151).tolist())
"""Quality that the reference model's mean cost may be worth: what is searched, and the operating points of a curve."""
TARGET = 0.985
"""Retention asked for where the rate is chosen: above the 0.98 aimed at, by what a choice on samples overrates."""
CAUTION = 1.0
SUBJECT_GROUPS = 5
NEW_MODEL_LABELS = (0, 50, 200)


@dataclass(frozen=True, slots=True)
class Predicted:
    """What was predicted for the rows of a set before its labels were seen.

    Attributes:
        reference: column of the best single model of the rows learned from, by row.
        costs: expected cost in units of the reference's mean cost.
    """

    mean: Matrix
    std: Matrix
    familiarity: Matrix
    costs: Matrix
    reference: NDArray[np.intp]

    def rows(self, keep: Flags) -> "Predicted":
        """Some of the rows."""
        return Predicted(
            self.mean[keep], self.std[keep], self.familiarity[keep], self.costs[keep], self.reference[keep]
        )

    def choices(self, rate: float, caution: float = CAUTION) -> NDArray[np.intp]:
        """The model chosen on each row at that exchange rate."""
        rule = UtilityRule(quality_per_cost=rate, caution=caution)
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


def expected_costs(lengths: Matrix, costs: Matrix, known: Flags) -> Matrix:
    """Cost of every row, linear in the prompt's length, from the known rows; never below a tenth of the mean."""
    design = np.stack([np.ones_like(lengths), lengths], axis=1)
    coefficients, *_ = np.linalg.lstsq(design[known], costs[known], rcond=None)
    usual: Matrix = np.maximum(design @ coefficients, 0.1 * costs[known].mean(axis=0))
    return usual


def predicted(encoded: EncodedCorpus, fitted: Fit, labelled: LabelledSet, known: Flags) -> Predicted:
    """Predictions for the rows that are not known, from abilities learned on those that are."""
    abilities = fitted.abilities(labelled.rows(known))
    ask = labelled.prompts[~known]
    answer = predict(fitted.model, fitted.items[ask], fitted.model.familiarity(encoded.features[ask]), abilities)
    reference = best_single(labelled.scores[known])
    lengths = np.array([float(len(encoded.corpus.prompts[place])) for place in labelled.prompts])
    costs = expected_costs(lengths, labelled.costs, known) / labelled.costs[known, reference].mean()
    return Predicted(
        answer.mean.astype(np.float64),
        answer.std.astype(np.float64),
        answer.familiarity.astype(np.float64),
        costs[~known],
        np.full(len(ask), reference),
    )


def fitted_without(encoded: EncodedCorpus, left_out: Flags) -> Fit:
    """A fit on every prompt but the given ones."""
    corpus = encoded.corpus
    known = ~left_out
    sets = [labelled.rows(known[labelled.prompts]) for labelled in corpus.sets]
    return fit(encoded.features, corpus.domains, corpus.folds, known, [labelled for labelled in sets if labelled.tasks])


def cross_validated(encoded: EncodedCorpus) -> dict[str, Predicted]:
    """Predictions for every row of every set, each by a fit that did not see its question."""
    corpus = encoded.corpus
    parts: dict[str, list[tuple[Flags, Predicted]]] = {labelled.name: [] for labelled in corpus.sets}
    for fold in range(FOLDS):
        left_out = corpus.folds == fold
        fitted = fitted_without(encoded, left_out)
        for labelled in corpus.sets:
            asked = left_out[labelled.prompts]
            parts[labelled.name].append((asked, predicted(encoded, fitted, labelled, ~asked)))
    return {name: _joined(found) for name, found in parts.items()}


def _joined(parts: Sequence[tuple[Flags, Predicted]]) -> Predicted:
    order = np.argsort(np.concatenate([np.flatnonzero(rows) for rows, _ in parts]))

    def column(read: Callable[[Predicted], NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([read(part) for _, part in parts])[order]

    return Predicted(
        column(lambda part: part.mean),
        column(lambda part: part.std),
        column(lambda part: part.familiarity),
        column(lambda part: part.costs),
        column(lambda part: part.reference),
    )


def chosen_rate(guess: Predicted, scores: Matrix, costs: Matrix, target: float = TARGET) -> float:
    """The rate whose choices cost least among those that keep the target share of the best single model's quality."""
    rows = np.arange(len(scores))
    wanted = target * scores[:, best_single(scores)].mean()
    best_rate, best_cost = 0.0, np.inf
    for rate in RATES:
        choice = guess.choices(rate)
        if scores[rows, choice].mean() >= wanted and costs[rows, choice].mean() < best_cost:
            best_rate, best_cost = rate, float(costs[rows, choice].mean())
    return best_rate


def routed(guess: Predicted, labelled: LabelledSet, folds: NDArray[np.intp]) -> NDArray[np.intp]:
    """The router's choices on a cross-validated set, the rate of each fold chosen on the others."""
    own_folds = folds[labelled.prompts]
    choice = np.zeros(len(labelled.tasks), np.intp)
    for fold in range(FOLDS):
        here = own_folds == fold
        rate = chosen_rate(guess.rows(~here), labelled.scores[~here], labelled.costs[~here])
        choice[here] = guess.rows(here).choices(rate)
    return choice


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A benchmark that was not learned from.

    Attributes:
        rows: its rows of the set.
        choice: the router's choices there.
        incumbent: the best single model of the rest.
    """

    benchmark: str
    labelled: LabelledSet
    guess: Predicted
    choice: NDArray[np.intp]
    incumbent: int


def left_out_benchmarks(encoded: EncodedCorpus, cross: dict[str, Predicted]) -> Iterator[LeftOut]:
    """Every benchmark (of the multiple choice sets: every subject, or a fifth of the subjects) in turn."""
    corpus = encoded.corpus
    for benchmark, domains, names in _benchmarks(encoded):
        left_out = np.isin(corpus.domains, [corpus.domain_names.index(domain) for domain in domains])
        fitted = fitted_without(encoded, left_out)
        for labelled in corpus.sets:
            asked = left_out[labelled.prompts]
            if labelled.name not in names or not asked.any() or asked.all():
                continue
            rest = labelled.rows(~asked)
            rate = chosen_rate(cross[labelled.name].rows(~asked), rest.scores, rest.costs)
            guess = predicted(encoded, fitted, labelled, ~asked)
            yield LeftOut(benchmark, labelled.rows(asked), guess, guess.choices(rate), int(guess.reference[0]))


def _benchmarks(encoded: EncodedCorpus) -> Iterator[tuple[str, list[str], set[str]]]:
    """Name, domains to leave out everywhere, and the sets to judge."""
    names = encoded.corpus.domain_names
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


def left_out_models(encoded: EncodedCorpus, models: Sequence[tuple[str, str]], seed: int = 0) -> Iterator[NewModel]:
    """Each named (set, model) in turn; its like-named versions in other sets are left out with it.

    Labels come from four folds, errors from the fifth, whose questions the item model has not seen either.
    """
    corpus = encoded.corpus
    held = corpus.folds == 0
    rng = np.random.default_rng(seed)
    for set_name, model in models:
        sets = [_without_family(labelled, model).rows(~held[labelled.prompts]) for labelled in corpus.sets]
        fitted = fit(encoded.features, corpus.domains, corpus.folds, ~held, sets)
        labelled = next(found for found in corpus.sets if found.name == set_name)
        scores = labelled.scores[:, labelled.models.index(model)]
        asked = held[labelled.prompts]
        pool = np.flatnonzero(~asked)
        tested, truth = fitted.items[labelled.prompts[asked]], scores[asked]
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
