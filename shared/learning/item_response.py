"""Item response theory for prompts and models: how hard a prompt is, what a model can, and the chance of success.

P(good | model, prompt) = sigmoid(ability . item). The item vector is read off the prompt: a constant, a few latent
demands learned over all models of the training data (the first is easiness, a multidimensional two-parameter model:
Reckase, "Multidimensional Item Response Theory", 2009), the probabilities of the domains that the prompt may belong
to, and its features. A model's ability is a Gaussian over such vectors, shrunk toward a prior: with little evidence
only its level moves, with thousands of labels its strengths in domains and its reaction to single features do too.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Vector = NDArray[np.float64]

_DOMAIN_WEIGHT: Final = 10.0
"""Scale of the domains' share in the latent demands, against features of unit variance."""
_NEWTON_STEPS: Final = 40
_CURVATURE_STEPS: Final = 3
"""Steps that measure the curvature anew; later ones, near the mode, keep the last measure and cost a fraction."""
_CONVERGED: Final = 1e-3
_LOGIT_LIMIT: Final = 30.0
_ENOUGH_SHOWN: Final = 0.2
"""Share of the doubt about a model's strengths in a prompt's domains that labels must have removed."""


@dataclass(frozen=True, slots=True)
class ItemModel:
    """Prompt features to item vectors.

    Attributes:
        domain_weights, domain_biases: linear discriminant [features, domains], [domains].
        demands: latent demands [features + domains, k].
        whitening: triangular factor of the inverse covariance within domains [features, features].
        domain_centres: whitened means of the domains [domains, features].
        background_whitening, background_centre: the same for all training prompts together.
        distance_scale: strangeness that most known prompts stay below, and the width over which familiarity falls
            beyond it.
        domain_deviation: standard deviation, in logits, of a model's advantage from one domain to another: what is
            not known of a model on prompts that resemble no domain.
    """

    domain_weights: Floats
    domain_biases: Floats
    demands: Floats
    whitening: Floats
    domain_centres: Floats
    background_whitening: Floats
    background_centre: Floats
    distance_scale: Floats
    domain_deviation: float
    _centre_norms: Floats = field(init=False, repr=False)
    """Squared lengths of the domains' centres."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_centre_norms", (self.domain_centres * self.domain_centres).sum(axis=-1))

    @property
    def demand_count(self) -> int:
        """Latent demands, easiness included."""
        return int(self.demands.shape[1])

    @property
    def width(self) -> int:
        """Length of an item vector."""
        return 1 + self.demand_count + len(self.domain_biases) + int(self.domain_weights.shape[0])

    def domains(self, features: Floats) -> Floats:
        """Probabilities of the domains, one row a prompt."""
        logits = features @ self.domain_weights + self.domain_biases
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        probabilities: Floats = weights / weights.sum(axis=-1, keepdims=True)
        return probabilities

    def items(self, features: Floats, domains: Floats | None = None) -> Floats:
        """Item vectors of prompts.

        Args:
            features: one row a prompt.
            domains: probabilities to use instead of the discriminant's own (training passes cross-fitted ones).
        """
        probabilities = self.domains(features) if domains is None else domains
        demands = demand_inputs(features, probabilities) @ self.demands
        ones = np.ones((*features.shape[:-1], 1), np.float32)
        return np.concatenate((ones, demands, probabilities, features), axis=-1, dtype=np.float32)

    def strangeness(self, features: Floats) -> Floats:
        """Relative Mahalanobis distance: to the nearest domain, less that to all training prompts together.

        What lies far from every domain but not from their mixture is a kind of prompt that training did not have
        (Ren et al. 2021, arXiv 2106.09022).
        """
        whitened = features @ self.whitening
        squared = (
            (whitened * whitened).sum(axis=-1, keepdims=True)
            - 2 * whitened @ self.domain_centres.T
            + self._centre_norms
        )
        nearest = np.sqrt(np.maximum(squared.min(axis=-1), 0.0))
        overall = np.linalg.norm(features @ self.background_whitening - self.background_centre, axis=-1)
        strangeness: Floats = nearest - overall
        return strangeness

    def familiarity(self, features: Floats) -> Floats:
        """How much prompts resemble the training data, 1 (as its own prompts do) to 0 (like none of it)."""
        return self.familiar(self.strangeness(features))

    def familiar(self, strangeness: Floats) -> Floats:
        """Familiarity of prompts whose strangeness is known."""
        limit, width = self.distance_scale
        known: Floats = np.exp(-np.maximum(0.0, strangeness - limit) / width)
        return known


@dataclass(frozen=True, slots=True)
class Abilities:
    """What is believed of models: means and variances of independent Gaussians, [models, item width]."""

    mean: Floats
    variance: Floats

    def __len__(self) -> int:
        return len(self.mean)


@dataclass(frozen=True, slots=True)
class Prediction:
    """Expected quality in [0, 1] and its standard deviation, by prompt (when several) and model.

    Attributes:
        familiarity: how much each prompt resembles the training data, 0 to 1.
    """

    mean: Floats
    std: Floats
    familiarity: Floats


def demand_inputs(features: Floats, domains: Floats) -> Floats:
    """What the latent demands are linear in: features, and domains on a scale that spreads the unlikely ones."""
    joined: Floats = np.concatenate((features, _DOMAIN_WEIGHT * np.sqrt(domains)), axis=-1)
    return joined


def success(logits: Floats) -> Floats:
    """The logistic function, without overflow."""
    limited = np.minimum(np.maximum(logits, -_LOGIT_LIMIT), _LOGIT_LIMIT)
    return np.reciprocal(1.0 + np.exp(-limited)).astype(np.float32, copy=False)


def predict(model: ItemModel, items: Floats, familiarity: Floats, abilities: Abilities) -> Prediction:
    """Chances of success with their uncertainty (delta method).

    As far as an item is unfamiliar, a model's particular strengths do not count, and are doubted instead: what holds
    in known domains says little about others.

    Args:
        model: what made the items.
        items: one item vector, or one a row.
        familiarity: one value an item.
        abilities: of the models asked about.
    """
    general = 1 + model.demand_count
    known = np.asarray(familiarity, np.float32)[..., None]
    trusted = np.concatenate((items[..., :general], items[..., general:] * known), axis=-1)
    mean = success(trusted @ abilities.mean.T)
    strange = (1.0 - known) * model.domain_deviation**2
    variance = (items * items) @ abilities.variance.T + strange
    std: Floats = mean * (1 - mean) * np.sqrt(variance)
    return Prediction(mean, std, familiarity)


def evidence(model: ItemModel, items: Floats, abilities: Abilities, prior_precision: Floats) -> Floats:
    """How far the models have shown what they can where a prompt belongs, 0 to 1, one value an item.

    A prompt may be of a kind well known from some models' labels, of which others have none: it is familiar, and yet
    their strengths there are not known.

    Args:
        model: what made the items.
        items: one item vector, or one a row.
        abilities: of the models asked about.
        prior_precision: one over the variances of a model of which nothing is known.
    """
    domains = slice(1 + model.demand_count, 1 + model.demand_count + len(model.domain_biases))
    # The mean over models: answers that are nearly all wrong leave a model's variance large, and are evidence too.
    learned = (1.0 - abilities.variance[:, domains] * prior_precision[domains]).mean(axis=0)
    shown: Floats = np.minimum(items[..., domains] @ np.maximum(learned, 0.0) / _ENOUGH_SHOWN, 1.0)
    return shown


def update(
    items: Floats, scores: NDArray[np.floating], prior_mean: Floats, prior_precision: Floats
) -> tuple[Floats, Floats]:
    """Ability after evidence: the posterior mode and the diagonal of its Laplace approximation.

    Args:
        items: one row a labelled prompt.
        scores: quality in [0, 1] of the model's answer to each.
        prior_mean: Gaussian belief before, one entry a component.
        prior_precision: one over its variances.

    Returns:
        Mean and variance, one entry a component; the prior itself when there is no evidence.
    """
    mean = prior_mean.astype(np.float64)
    precision = prior_precision.astype(np.float64)
    wide = items.astype(np.float32)
    weights = np.zeros(len(items), np.float32)
    solve: Callable[[Vector], Vector] | None = None
    for step_number in range(_NEWTON_STEPS):
        chance = success(wide @ mean.astype(np.float32))
        weights = np.maximum(chance * (1 - chance), 1e-4).astype(np.float32)
        if solve is None or step_number < _CURVATURE_STEPS:
            solve = _solver(wide, weights, precision)
        step = solve(wide.T @ (scores - chance) - precision * (mean - prior_mean))
        mean += step
        if float(np.abs(step).max()) < _CONVERGED:
            break
    variance = 1.0 / (precision + weights @ (wide * wide))
    return mean.astype(np.float32), variance.astype(np.float32)


def _solver(items: Floats, weights: Floats, precision: Vector) -> Callable[[Vector], Vector]:
    """Newton's step from a gradient, through the smaller of the two equal systems (Woodbury identity)."""
    count, width = items.shape
    scaled = items * np.sqrt(weights)[:, None]
    if count >= width:
        hessian = (scaled.T @ scaled).astype(np.float64)
        hessian[np.diag_indices(width)] += precision
        inverse = np.linalg.inv(hessian)
        return lambda gradient: inverse @ gradient
    spread = scaled / precision
    inner = np.linalg.inv(np.eye(count) + spread @ scaled.T)
    return lambda gradient: gradient / precision - spread.T @ (inner @ (spread @ gradient))
