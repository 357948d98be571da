"""Predicted quality: one trained artefact, and what the router asks of it.

Reading a prompt costs about as much as tokenising it; asking about 200 models is one matrix product. The artefact
holds no prompt: word-piece vectors, the item model, and what makes a registry's priors comparable with it.
"""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.domain.features import Category
from shared.domain.models import QualityPrior
from shared.learning.item_response import Abilities, ItemModel, Prediction, evidence, predict, success, update
from shared.learning.prompt_features import STRUCTURE_WIDTH, PromptEncoder, WordVectors
from shared.learning.term_projection import TermProjection
from shared.learning.wordpiece import WordPiece

Floats = NDArray[np.float32]

FORMAT: Final = 2
OVERALL: Final = "overall"
_HALVES: Final = ("whitening", "background_whitening", "domain_weights", "domain_centres")
"""The item model's large arrays, stored in half precision: three digits are more than their estimates have."""
_ITEM_ARRAYS: Final = tuple(
    field.name for field in fields(ItemModel) if field.init and field.name != "domain_deviation"
)
_BISECTIONS: Final = 40
_LEVEL_LIMIT: Final = 12.0
_CERTAIN: Final = 0.005
"""Priors of 0 and 1 mean levels of minus and plus infinity; nobody knows that much."""


class ArtefactInvalid(ValueError):
    """The bytes are no quality artefact that this code can read."""


@dataclass(frozen=True, slots=True)
class EncoderParts:
    """Arrays of the prompt encoder; see `PromptEncoder`."""

    vocabulary: Sequence[str]
    table: NDArray[np.int8]
    row_scales: Floats
    terms: TermProjection
    centre: Floats
    spread: Floats


@dataclass(frozen=True, slots=True)
class Calibration:
    """What ties registry priors and trained models to the item model.

    Attributes:
        prior_mean, prior_precision: belief about a model of which nothing is known, by item component.
        easiness: quantiles of the prompts' easiness, one row a category; the last row is over all prompts.
        categories: the categories of the rows but the last.
        models: names of the models that training had labels for, and their abilities.
    """

    prior_mean: Floats
    prior_precision: Floats
    easiness: Floats
    categories: Sequence[Category]
    models: Sequence[str]
    abilities: Abilities


class QualityModel:
    """Quality of any model on any prompt, with its uncertainty. Immutable; safe to share between threads.

    Args:
        version: names the artefact in receipts.
        encoder: reads prompts.
        items: the item model.
        calibration: priors and trained abilities.
    """

    def __init__(self, version: str, encoder: PromptEncoder, items: ItemModel, calibration: Calibration) -> None:
        self.version = version
        self._encoder = encoder
        self._items = items
        self._calibration = calibration
        self.trained = {name: row for row, name in enumerate(calibration.models)}
        """Row of each model that training had labels for, in `trained_abilities`."""

    @property
    def trained_abilities(self) -> Abilities:
        """Abilities of the models in the training data."""
        return self._calibration.abilities

    @classmethod
    def from_bytes(cls, data: bytes) -> "QualityModel":
        """Read an artefact.

        Raises:
            ArtefactInvalid: not such a file, of another format, or with parts that do not fit each other.
        """
        try:
            parts = _arrays(data)
            about = json.loads(parts["about"].tobytes())
            if about["format"] != FORMAT:
                raise ArtefactInvalid(f"format {about['format']}, this code reads {FORMAT}")
            encoder = _encoder(_encoder_parts(parts))
            items = _item_model(parts)
            calibration = _calibration(parts, about)
            version = str(about["version"])
        except (KeyError, TypeError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise error if isinstance(error, ArtefactInvalid) else ArtefactInvalid(f"unreadable: {error}") from error
        _check(parts, items, calibration)
        return cls(version, encoder, items, calibration)

    @staticmethod
    def encoder_parts(data: bytes) -> EncoderParts:
        """The encoder's arrays of an artefact, for training another on them."""
        return _encoder_parts(_arrays(data))

    def embed(self, text: str) -> Floats:
        """Features of a prompt; of long ones the head, the middle and the tail are read."""
        return self._encoder.encode(text)

    def meaning(self, text: str) -> Floats:
        """A vector to compare texts by the cosine of their words; zero for a text without any known word."""
        return self._encoder.meaning(text)

    def predict(self, embedding: Floats, abilities: Abilities, *, labelled: bool = False) -> Prediction:
        """Expected quality of models on a prompt (or on several, one a row), with standard deviations.

        Args:
            embedding: features of the prompt.
            abilities: of the models asked about.
            labelled: whether the abilities come from labels, and not from priors alone. A prompt is then only as
                familiar as the models have shown what they can on its kind.
        """
        items, familiarity = self._items.items(embedding), self._items.familiarity(embedding)
        if labelled:
            familiarity = familiarity * evidence(self._items, items, abilities, self._calibration.prior_precision)
        return predict(self._items, items, familiarity, abilities)

    def abilities_from_priors(
        self, priors: Sequence[Mapping[str, QualityPrior]], category: Category = Category.UNKNOWN
    ) -> Abilities:
        """Abilities of registry models for prompts of a category.

        Each model's level is set so that its mean quality over the category's training prompts (over all prompts for
        a category that training did not have) is the prior's mean; the prior's weight says how sure that is.

        Args:
            priors: `ModelProfile.quality` of each model.
            category: of the prompt; without a prior of its own, ``overall`` counts.
        """
        known = self._calibration
        chosen = [quality.get(category.value) or quality[OVERALL] for quality in priors]
        wanted = np.clip([prior.mean for prior in chosen], _CERTAIN, 1 - _CERTAIN)
        row = known.categories.index(category) if category in known.categories else len(known.categories)
        mean = np.tile(known.prior_mean, (len(priors), 1))
        variance = np.tile(np.reciprocal(known.prior_precision), (len(priors), 1))
        mean[:, 0] = _level(wanted, known.easiness[row])
        weights = np.array([prior.weight for prior in chosen])
        variance[:, 0] = 1 / (wanted * (1 - wanted) * (weights + 1))
        return Abilities(mean, variance)

    def unknown_ability(self) -> Abilities:
        """The belief about one model of which nothing is known."""
        known = self._calibration
        return Abilities(known.prior_mean[None], np.reciprocal(known.prior_precision)[None])

    def fit_ability(self, embeddings: Floats, scores: Floats, prior: Abilities) -> Abilities:
        """One model's ability after labelled prompts; may be called again with its own result as the prior.

        Args:
            embeddings: features of the prompts, one row each.
            scores: quality in [0, 1] of the model's answers.
            prior: belief about that one model before.
        """
        mean, variance = update(self._items.items(embeddings), scores, prior.mean[0], np.reciprocal(prior.variance[0]))
        return Abilities(mean[None], variance[None])


def to_bytes(
    version: str, encoder: EncoderParts, items: ItemModel, calibration: Calibration, about: Mapping[str, object]
) -> bytes:
    """The artefact that `QualityModel.from_bytes` reads.

    Args:
        version: names it.
        encoder: the prompt encoder's arrays.
        items: the item model.
        calibration: priors and trained abilities.
        about: further facts for whoever opens it (sources, figures); JSON.
    """
    facts = {
        **about,
        "format": FORMAT,
        "version": version,
        "categories": [category.value for category in calibration.categories],
        "models": list(calibration.models),
        "domain_deviation": items.domain_deviation,
    }
    buffer = io.BytesIO()
    arrays = {name: getattr(items, name) for name in _ITEM_ARRAYS}
    arrays |= {name: arrays[name].astype(np.float16) for name in _HALVES}
    np.savez_compressed(
        buffer,
        about=_text(json.dumps(facts)),
        vocabulary=_text("\n".join(encoder.vocabulary)),
        table=encoder.table,
        row_scales=(encoder.row_scales / encoder.row_scales.max()).astype(np.float16),  # a direction needs proportions
        term_steps=np.diff(encoder.terms.keys, prepend=0),
        term_table=encoder.terms.table,
        term_scales=encoder.terms.scales.astype(np.float16),
        centre=encoder.centre,
        spread=encoder.spread,
        prior_mean=calibration.prior_mean,
        prior_precision=calibration.prior_precision,
        easiness=calibration.easiness,
        ability_mean=calibration.abilities.mean.astype(np.float16),
        ability_variance=calibration.abilities.variance.astype(np.float16),
        **arrays,
    )
    return buffer.getvalue()


def _text(value: str) -> NDArray[np.uint8]:
    return np.frombuffer(value.encode(), np.uint8)


def _arrays(data: bytes) -> dict[str, NDArray[np.generic]]:
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _encoder_parts(parts: Mapping[str, NDArray[np.generic]]) -> EncoderParts:
    vocabulary = parts["vocabulary"].tobytes().decode().split("\n")
    table = parts["table"].astype(np.int8, casting="equiv")
    if table.ndim != 2 or table.shape[0] != len(vocabulary):  # noqa: PLR2004 - a table has rows and columns
        raise ArtefactInvalid(f"{len(vocabulary)} word pieces, {table.shape[0]} vectors")
    terms = TermProjection(
        keys=np.cumsum(parts["term_steps"].astype(np.int64, casting="safe")),
        table=parts["term_table"].astype(np.int8, casting="equiv"),
        scales=_floats(parts["term_scales"]),
        pieces=len(vocabulary),
    )
    if terms.table.ndim != table.ndim or not 0 < len(terms.keys) == len(terms.table) == len(terms.scales):
        raise ArtefactInvalid(f"{len(terms.keys)} terms, {len(terms.table)} vectors, {len(terms.scales)} scales")
    return EncoderParts(
        vocabulary, table, _floats(parts["row_scales"]), terms, _floats(parts["centre"]), _floats(parts["spread"])
    )


def _encoder(parts: EncoderParts) -> PromptEncoder:
    words = WordVectors(WordPiece(parts.vocabulary), parts.table, parts.row_scales)
    return PromptEncoder(words, parts.terms, parts.centre, parts.spread)


def _item_model(parts: Mapping[str, NDArray[np.generic]]) -> ItemModel:
    about = json.loads(parts["about"].tobytes())
    arrays = {name: _floats(parts[name]) for name in _ITEM_ARRAYS}
    return ItemModel(**arrays, domain_deviation=float(about["domain_deviation"]))


def _calibration(parts: Mapping[str, NDArray[np.generic]], about: Mapping[str, list[str]]) -> Calibration:
    return Calibration(
        prior_mean=_floats(parts["prior_mean"]),
        prior_precision=_floats(parts["prior_precision"]),
        easiness=_floats(parts["easiness"]),
        categories=[Category(name) for name in about["categories"]],
        models=about["models"],
        abilities=Abilities(_floats(parts["ability_mean"]), _floats(parts["ability_variance"])),
    )


def _floats(array: NDArray[np.generic]) -> Floats:
    values = array.astype(np.float32)
    if not np.isfinite(values).all():
        raise ArtefactInvalid("a number is not finite")
    return values


def _check(parts: Mapping[str, NDArray[np.generic]], items: ItemModel, calibration: Calibration) -> None:
    width, domains = items.domain_weights.shape
    vector = parts["table"].shape[1] + parts["term_table"].shape[1] + STRUCTURE_WIDTH
    expected = {
        "centre": (vector,),
        "spread": (vector,),
        "domain_weights": (vector, domains),
        "domain_biases": (domains,),
        "demands": (width + domains, items.demand_count),
        "whitening": (width, width),
        "domain_centres": (domains, width),
        "background_whitening": (width, width),
        "background_centre": (width,),
        "distance_scale": (2,),
        "prior_mean": (items.width,),
        "prior_precision": (items.width,),
        "ability_mean": (len(calibration.models), items.width),
        "ability_variance": (len(calibration.models), items.width),
    }
    for name, shape in expected.items():
        if parts[name].shape != shape:
            raise ArtefactInvalid(f"{name} has shape {parts[name].shape}, expected {shape}")
    if len(calibration.easiness) != len(calibration.categories) + 1:
        raise ArtefactInvalid("easiness needs one row a category and one over all")


def _level(wanted: NDArray[np.float64], easiness: Floats) -> Floats:
    """Level at which the mean chance over prompts of that easiness is the wanted one, by bisection."""
    low = np.full(len(wanted), -_LEVEL_LIMIT)
    high = np.full(len(wanted), _LEVEL_LIMIT)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        below = success(middle[:, None] + easiness).mean(axis=1) < wanted
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    level: Floats = ((low + high) / 2).astype(np.float32)
    return level
