"""Fitting the item model and the abilities of all models of the labelled sets: maximum a posteriori, numpy only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from infra.training.lbfgs import minimise
from infra.training.routing_sets import LabelledSet
from shared.learning.item_response import Abilities, ItemModel, demand_inputs, success, update

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

DEMANDS: Final = 4
_COVARIANCE_SHRINKAGE: Final = 0.3
_CENTRE_SHRINKAGE: Final = 3.0
"""Prompts' worth of the overall mean in a domain's mean."""
FAMILIAR_SHARE: Final = 0.82
"""Share of the training prompts whose strangeness is familiar."""
_FADING_SHARE: Final = 0.14
"""Share beyond it over which familiarity falls by a factor e."""
_DOMAIN_PROMPTS: Final = 40
_DEMAND_PENALTY: Final = 3000.0
_LOADING_PENALTY: Final = 30.0
_STEPS: Final = 120
LEVEL_PRECISION: Final = 0.5
LOADING_PRECISION: Final = 30.0
DOMAIN_PRECISION: Final = 5.0
FEATURE_PRECISION: Final = 3000.0


@dataclass(frozen=True, slots=True)
class Fit:
    """An item model, with the cross-fitted items of its training prompts.

    Attributes:
        items: by prompt of the corpus (also of prompts that were left out: for those, as at request time).
        strangeness: the same.
        known: which prompts were learned from.
        prior_mean, prior_precision: the belief about a model of which nothing is known.
    """

    model: ItemModel
    items: Floats
    strangeness: Floats
    known: NDArray[np.bool_]
    prior_mean: Floats
    prior_precision: Floats

    def guarded(self, familiar_share: float) -> ItemModel:
        """The item model with another idea of what is familiar.

        Args:
            familiar_share: share of the training prompts that count as such.
        """
        return replace(self.model, distance_scale=_distance_scale(self.strangeness[self.known], familiar_share))

    def abilities(self, labelled: LabelledSet) -> Abilities:
        """Ability of each model of a set from all its rows."""
        items = self.items[labelled.prompts]
        beliefs = [
            update(items, labelled.scores[:, model].astype(np.float32), self.prior_mean, self.prior_precision)
            for model in range(len(labelled.models))
        ]
        return Abilities(np.stack([mean for mean, _ in beliefs]), np.stack([variance for _, variance in beliefs]))


def fit(
    features: Floats,
    domains: NDArray[np.intp],
    folds: NDArray[np.intp],
    known: NDArray[np.bool_],
    sets: Sequence[LabelledSet],
) -> Fit:
    """Fit everything that does not belong to a single model.

    Args:
        features: one row a prompt of the corpus.
        domains: domain of each prompt; domains without a known prompt are left out of the model.
        folds: for cross-fitting the domain probabilities, so that training sees them as doubtful as they will be.
        known: the prompts that may be learned from; rows of `sets` are among them.
        sets: the labelled rows.
    """
    present, numbers = np.unique(domains[known], return_inverse=True)
    learned, inner = features[known], folds[known]
    discriminant = _discriminant(learned, numbers, len(present))
    probabilities = np.zeros((len(features), len(present)), np.float32)
    probabilities[~known] = discriminant.posterior(features[~known])
    crossed = np.zeros((len(learned), len(present)), np.float32)
    strangeness = np.zeros(len(features), np.float32)
    strangeness[~known] = discriminant.geometry(learned).strangeness(features[~known])
    places = np.flatnonzero(known)
    for fold in np.unique(inner):
        held = inner == fold
        other = _discriminant(learned[~held], numbers[~held], len(present))
        crossed[held] = other.posterior(learned[held])
        strangeness[places[held]] = other.geometry(learned[~held]).strangeness(learned[held])
    probabilities[known] = crossed
    model = replace(
        discriminant.geometry(learned),
        demands=_demands(demand_inputs(features, probabilities), sets).astype(np.float32),
        distance_scale=_distance_scale(strangeness[known], FAMILIAR_SHARE),
    )
    items = model.items(features, probabilities)
    fitted = Fit(model, items, strangeness, known, *_prior(model, sets))
    return replace(fitted, model=replace(model, domain_deviation=_domain_deviation(fitted, sets)))


def _distance_scale(strangeness: Floats, familiar_share: float) -> Floats:
    limit, far = np.quantile(strangeness, (familiar_share, min(familiar_share + _FADING_SHARE, 0.99)))
    return np.array([limit, max(far - limit, 1e-3)], np.float32)


@dataclass(frozen=True, slots=True)
class _Discriminant:
    """Linear discriminant analysis."""

    weights: Doubles
    biases: Doubles
    covariance: Doubles
    centres: Doubles

    def posterior(self, features: Floats) -> Doubles:
        """Probabilities of the domains, one row a prompt."""
        logits = features @ self.weights + self.biases
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        posterior: Doubles = chances / chances.sum(axis=1, keepdims=True)
        return posterior

    def geometry(self, features: Floats) -> ItemModel:
        """The item model's knowledge of where domains lie; it has no demands yet."""
        whitening = np.linalg.cholesky(np.linalg.inv(self.covariance))
        background = np.linalg.cholesky(np.linalg.inv(_shrunk(_covariance(features))))
        return ItemModel(
            domain_weights=self.weights.astype(np.float32),
            domain_biases=self.biases.astype(np.float32),
            demands=np.zeros((sum(self.weights.shape), 0), np.float32),
            whitening=whitening.astype(np.float32),
            domain_centres=(self.centres @ whitening).astype(np.float32),
            background_whitening=background.astype(np.float32),
            background_centre=(features.mean(axis=0) @ background).astype(np.float32),
            distance_scale=np.array([0.0, 1.0], np.float32),
            domain_deviation=0.0,
        )


def _discriminant(features: Floats, domains: NDArray[np.intp], count: int) -> _Discriminant:
    """With means shrunk to the overall one and the covariance to a sphere."""
    sizes = np.bincount(domains, minlength=count).astype(np.float64)
    sums = np.zeros((count, features.shape[1]))
    np.add.at(sums, domains, features)
    overall = features.mean(axis=0, dtype=np.float64)
    centres = (sums + _CENTRE_SHRINKAGE * overall) / (sizes + _CENTRE_SHRINKAGE)[:, None]
    rest = features - centres.astype(np.float32)[domains]
    covariance = _shrunk((rest.T @ rest / len(rest)).astype(np.float64))
    weights = np.linalg.solve(covariance, centres.T)
    biases = np.log(sizes / sizes.sum() + 1e-6) - 0.5 * (centres.T * weights).sum(axis=0)
    return _Discriminant(weights, biases, covariance, centres)


def _covariance(features: Floats) -> Doubles:
    rest = features - features.mean(axis=0)
    covariance: Doubles = (rest.T @ rest / len(rest)).astype(np.float64)
    return covariance


def _shrunk(covariance: Doubles) -> Doubles:
    sphere = np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    shrunk: Doubles = (1 - _COVARIANCE_SHRINKAGE) * covariance + _COVARIANCE_SHRINKAGE * sphere
    return shrunk


def _demands(inputs: Floats, sets: Sequence[LabelledSet]) -> Doubles:
    """Reduced-rank logistic regression over all models of all sets: what prompts ask for, in few dimensions.

    The first dimension's loadings are drawn to 1, the others' to 0: easiness first, then what splits models.
    """
    rng = np.random.default_rng(0)
    width, counts = inputs.shape[1], [len(labelled.models) for labelled in sets]
    starts = np.concatenate(([0], np.cumsum(counts)))
    blocks = [(inputs[labelled.prompts], labelled.scores) for labelled in sets]
    loadings = np.zeros((starts[-1], 1 + DEMANDS))
    for start, (_, scores) in zip(starts, blocks, strict=False):
        rate = scores.mean(axis=0)
        loadings[start : start + len(rate), 0] = np.log(rate / (1 - rate))
    loadings[:, 2:] = rng.normal(0, 0.3, (len(loadings), DEMANDS - 1))
    centre = np.zeros_like(loadings)
    loadings[:, 1] = centre[:, 1] = 1.0
    first = rng.normal(0, 0.05, (width, DEMANDS))

    def loss(point: Doubles) -> tuple[float, Doubles]:
        demands = point[: first.size].reshape(first.shape)
        abilities = point[first.size :].reshape(loadings.shape)
        apart = abilities - centre
        apart[:, 0] = 0.0
        value = 0.5 * _DEMAND_PENALTY * (demands**2).sum() + 0.5 * _LOADING_PENALTY * (apart**2).sum()
        slope_demands, slope_abilities = _DEMAND_PENALTY * demands, _LOADING_PENALTY * apart
        for start, (rows, scores) in zip(starts, blocks, strict=False):
            own = slice(start, start + scores.shape[1])
            asked = (rows @ demands.astype(np.float32)).astype(np.float64)
            logits = asked @ abilities[own, 1:].T + abilities[own, 0]
            value += (np.logaddexp(0, logits) - scores * logits).sum()
            error = 1 / (1 + np.exp(-logits)) - scores
            slope_abilities[own, 0] += error.sum(axis=0)
            slope_abilities[own, 1:] += error.T @ asked
            slope_demands += rows.T @ (error @ abilities[own, 1:]).astype(np.float32)
        return float(value), np.concatenate((slope_demands.ravel(), slope_abilities.ravel()))

    found = minimise(loss, np.concatenate((first.ravel(), loadings.ravel())), steps=_STEPS)
    return found[: first.size].reshape(first.shape)


def _prior(model: ItemModel, sets: Sequence[LabelledSet]) -> tuple[Floats, Floats]:
    """The belief about an unknown model: average level, loading 1 on easiness, nothing particular."""
    mean = np.zeros(model.width, np.float32)
    mean[1] = 1.0
    rates = np.concatenate([labelled.scores.mean(axis=0) for labelled in sets])
    mean[0] = np.log(rates / (1 - rates)).mean()
    domains, features = len(model.domain_biases), model.domain_weights.shape[0]
    precision = np.concatenate(
        (
            [LEVEL_PRECISION],
            np.full(model.demand_count, LOADING_PRECISION),
            np.full(domains, DOMAIN_PRECISION),
            np.full(features, FEATURE_PRECISION),
        )
    ).astype(np.float32)
    return mean, precision


def _domain_deviation(fitted: Fit, sets: Sequence[LabelledSet]) -> float:
    """Standard deviation, over domains and models, of what a model's level there differs from its general one.

    The general one is what level and latent demands say, without domains and features of the model's own.
    """
    general = 1 + fitted.model.demand_count
    deviations: list[float] = []
    for labelled in sets:
        items = fitted.items[labelled.prompts][:, :general]
        tasks = np.array(labelled.tasks)
        for scores in labelled.scores.T:
            mean, _ = update(items, scores, fitted.prior_mean[:general], fitted.prior_precision[:general])
            chance = success(items @ mean)
            for task in np.unique(tasks):
                here = tasks == task
                if int(here.sum()) >= _DOMAIN_PROMPTS:
                    seen, expected = (float(np.clip(part[here].mean(), 0.02, 0.98)) for part in (scores, chance))
                    deviations.append(math.log(seen / (1 - seen)) - math.log(expected / (1 - expected)))
    return float(np.std(deviations)) if deviations else 1.0
