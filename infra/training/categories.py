"""Train the category classifier: `python -m infra.training.categories`.

Multinomial logistic regression on hashed n-grams (`shared.analysis.ngrams`) and marks. Phrases are split by hash of
their text: on one part the temperature is set and the result printed, the committed weights are then fitted on all.
Writes shared/analysis/artefacts/categories_v1.py. The same code, data and numpy give the same weights.
"""

import argparse
import base64
import hashlib
import json
import math
import sys
import textwrap
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from infra.training.category_examples import FOLDER, Example, examples
from shared.analysis.category_evidence import MARKS, evidence_vector
from shared.analysis.ngrams import BUCKETS
from shared.domain.features import Category

Matrix = npt.NDArray[np.float32]
CLASSES: Final = tuple(Category)
VERSION: Final = 1
TARGET: Final = Path(__file__).parents[2] / "shared" / "analysis" / "artefacts" / f"categories_v{VERSION}.py"
_SEED: Final = 20261123
_COPIES: Final = {"en": 6, "cues": 2}
_DEFAULT_COPIES: Final = 8
_EPOCHS: Final = 8
_DRAWS: Final = 3
"""Of shapes, slots and materials around the same phrases; each gives a fit, and the weights are their mean."""
_BATCH: Final = 128
_RATE: Final = 0.02
_HELD_OUT_IN: Final = 6
_LEVELS: Final = 31
"""Of a weight, either side of zero: with 127 the file is half as large again and no better."""
_INPUTS: Final = BUCKETS + len(MARKS)


@dataclass(frozen=True, slots=True)
class Weights:
    """A linear model: one column a class, and a bias row."""

    matrix: Matrix
    bias: Matrix


@dataclass(frozen=True, slots=True)
class Rows:
    """Sparse inputs with their classes."""

    indices: list[npt.NDArray[np.int32]]
    values: list[Matrix]
    classes: npt.NDArray[np.intp]

    def compact(self, numbers: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.intp], Matrix]:
        """The inputs that these rows use, and the rows over those inputs alone."""
        columns = np.concatenate([self.indices[number] for number in numbers])
        used, places = np.unique(columns, return_inverse=True)
        owners = np.repeat(np.arange(len(numbers)), [len(self.indices[number]) for number in numbers])
        batch = np.zeros((len(numbers), len(used)), np.float32)
        batch[owners, places] = np.concatenate([self.values[number] for number in numbers])
        return used, batch


def rows_of(made: Sequence[Example]) -> Rows:
    """The examples as sparse vectors."""
    vectors = [evidence_vector(example.evidence) for example in made]
    classes = np.array([CLASSES.index(example.category) for example in made])
    return Rows([used.astype(np.int32) for used, _ in vectors], [values for _, values in vectors], classes)


def fit(rows: Rows, epochs: int = _EPOCHS) -> Weights:
    """Adam on the class-balanced cross entropy; only weights of inputs in the batch move; the step falls to zero."""
    rng = np.random.default_rng(_SEED)
    weights = np.zeros((_INPUTS, len(CLASSES)), np.float32)
    bias = np.zeros(len(CLASSES), np.float32)
    mean, square = np.zeros_like(weights), np.zeros_like(weights)
    counts = np.bincount(rows.classes, minlength=len(CLASSES))
    balance = np.sqrt(counts.mean() / np.maximum(counts, 1)).astype(np.float32)
    steps, step = epochs * math.ceil(len(rows.classes) / _BATCH), 0
    for _ in range(epochs):
        for chosen in _batches(rng.permutation(len(rows.classes))):
            step += 1
            rate = _RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
            used, batch = rows.compact(chosen)
            errors = _errors(batch @ weights[used] + bias, rows.classes[chosen], balance)
            gradient = batch.T @ errors
            mean[used] = 0.9 * mean[used] + 0.1 * gradient
            square[used] = 0.999 * square[used] + 0.001 * gradient * gradient
            corrected = mean[used] / (1 - 0.9**step)
            weights[used] -= rate * corrected / (np.sqrt(square[used] / (1 - 0.999**step)) + 1e-8)
            bias -= rate * errors.sum(axis=0)
    return Weights(weights, bias)


def fit_draws(draws: Sequence[Sequence[Example]]) -> Weights:
    """The mean of one fit a draw: a linear model's mean is the mean of its logits, steadier than each."""
    fitted = [fit(rows_of(made)) for made in draws]
    matrix = np.asarray(sum(weights.matrix for weights in fitted) / len(fitted), np.float32)
    return Weights(matrix, np.asarray(sum(weights.bias for weights in fitted) / len(fitted), np.float32))


def _batches(order: npt.NDArray[np.intp]) -> Iterator[npt.NDArray[np.intp]]:
    for start in range(0, len(order), _BATCH):
        yield order[start : start + _BATCH]


def _errors(logits: Matrix, classes: npt.NDArray[np.intp], balance: Matrix) -> Matrix:
    errors = softmax(np.asarray(logits, np.float32))
    errors[np.arange(len(classes)), classes] -= 1
    return np.asarray(errors * balance[classes][:, None] / len(classes), np.float32)


def softmax(logits: Matrix) -> Matrix:
    """Probabilities by row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def logits_of(rows: Rows, weights: Weights) -> Matrix:
    """The model's output before the temperature."""
    parts = []
    for part in _batches(np.arange(len(rows.classes))):
        used, batch = rows.compact(part)
        parts.append(batch @ weights.matrix[used])
    return np.asarray(np.vstack(parts) + weights.bias, np.float32)


def temperature_of(logits: Matrix, classes: npt.NDArray[np.intp]) -> float:
    """The divisor of the logits that makes the classes most likely (Guo et al. 2017, arXiv 1706.04599)."""

    def loss(temperature: float) -> float:
        likely = softmax(np.asarray(logits / temperature, np.float32))[np.arange(len(classes)), classes]
        return float(-np.log(np.maximum(likely, 1e-9)).mean())

    return min((round(0.2 + 0.02 * step, 2) for step in range(140)), key=loss)


def quantised(weights: Weights) -> tuple[npt.NDArray[np.int8], Matrix]:
    """Weights as signed bytes, with the scale of each class."""
    # The few largest weights are clipped, so that the many small ones keep their differences.
    scale = np.quantile(np.abs(weights.matrix), 0.9995, axis=0) / _LEVELS
    levels = np.clip(np.rint(weights.matrix / scale), -_LEVELS, _LEVELS).astype(np.int8)
    return levels, scale.astype(np.float32)


def written(weights: Weights, temperature: float, data_digest: str) -> str:
    """The source text of the artefact."""
    levels, scale = quantised(weights)
    packed = base64.b64encode(zlib.compress(levels.tobytes(), 9)).decode()
    lines = "\n".join(textwrap.wrap(packed, 116, break_on_hyphens=False))
    return (
        '"""Weights of the category classifier, made by `python -m infra.training.categories`; see MODEL_CARD.md.\n\n'
        "`WEIGHTS` is base64 of zlib of signed bytes: one row an input, one column a class in the order of `CLASSES`.\n"
        '"""\n\n'
        f'VERSION = {VERSION}\nDATA_SHA256 = "{data_digest}"\n'
        f"CLASSES = {_tuple(json.dumps(c.value) for c in CLASSES)}\n"
        f"TEMPERATURE = {temperature}\n"
        f"SCALE = {_tuple(f'{value:.6g}' for value in scale)}\n"
        f"BIAS = {_tuple(f'{value:.5f}' for value in weights.bias)}\n"
        f'WEIGHTS = """\n{lines}\n"""\n'
    )


def _tuple(values: Iterable[str]) -> str:
    return "(\n" + "".join(f"    {value},\n" for value in values) + ")"


def data_digest() -> str:
    """SHA-256 of the training data's files in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(FOLDER.glob("*.jsonl")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _held_out(example: Example) -> bool:
    return zlib.crc32(f"{example.language} {example.phrase}".encode()) % _HELD_OUT_IN == 0


def _report(logits: Matrix, rows: Rows, temperature: float) -> str:
    likely = softmax(np.asarray(logits / temperature, np.float32))
    chosen = likely.argmax(axis=1)
    lines = [
        f"held-out phrases: {len(chosen)} requests, accuracy {(chosen == rows.classes).mean():.3f}, T {temperature}"
    ]
    for number, category in enumerate(CLASSES):
        true, said = rows.classes == number, chosen == number
        both = (true & said).sum()
        lines.append(
            f"{category.value:20} precision {both / max(1, said.sum()):.3f} recall {both / max(1, true.sum()):.3f}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, judge on phrases kept apart, fit on all, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=TARGET, help="the artefact (default: %(default)s)")
    out = parser.parse_args(arguments).out
    draws = [list(examples(_COPIES, _DEFAULT_COPIES, _SEED + draw)) for draw in range(_DRAWS)]
    apart = rows_of([example for example in draws[0] if _held_out(example)])
    judged = fit_draws([[example for example in made if not _held_out(example)] for made in draws])
    logits = logits_of(apart, judged)
    temperature = temperature_of(logits, apart.classes)
    sys.stdout.write(f"{sum(map(len, draws))} requests made\n{_report(logits, apart, temperature)}\n")
    out.write_text(written(fit_draws(draws), temperature, data_digest()), encoding="utf-8")
    sys.stdout.write(f"{out.name}: {out.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
