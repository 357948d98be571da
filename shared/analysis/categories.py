"""What kind of task a request is: a trained classifier over words and marks, with honest doubt.

Logits of the instruction, raised by what its surroundings say (the system text's own reading, tools), become calibrated
probabilities. Where no category is likely enough, UNKNOWN takes the lead: routing then falls back to the best model.
Training: infra/training/categories.py. Quality: tests/evals/analysis/README.md.
"""

import base64
import zlib
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from shared.analysis.artefacts import categories_v1 as artefact
from shared.analysis.category_evidence import Evidence, evidence_vector
from shared.domain.features import Category

__all__ = ["Evidence", "Probabilities", "classify"]

Probabilities = tuple[tuple[Category, float], ...]
"""Every category with its probability, most probable first; they sum to 1."""

_CLASSES: Final = tuple(Category(name) for name in artefact.CLASSES)
_UNKNOWN: Final = _CLASSES.index(Category.UNKNOWN)
_AGENTIC: Final = _CLASSES.index(Category.AGENTIC)
_TASKS: Final = np.array(
    [c not in {Category.UNKNOWN, Category.CONVERSATION, Category.QUESTION_ANSWERING} for c in _CLASSES], np.float32
)
"""What a system text can ask for; a persona chats and answers, which says nothing."""
_SYSTEM_CHARS: Final = 2000
_SYSTEM_GAIN: Final = 6.0
_TOOLS_GAIN: Final = 7.0
_USED_TOOLS_GAIN: Final = 2.0
_LEAST_LIKELY: Final = 0.30
"""Below this, a category is not said: on the labelled set such guesses are wrong more often than right."""

_LEVELS: Final = np.frombuffer(zlib.decompress(base64.b64decode(artefact.WEIGHTS)), np.int8).reshape(-1, len(_CLASSES))
_SCALE: Final = np.array(artefact.SCALE, np.float32)
_BIAS: Final = np.array(artefact.BIAS, np.float32)


def classify(evidence: Evidence) -> Probabilities:
    """Probabilities over the taxonomy."""
    logits = _logits(evidence)
    if evidence.system.strip():
        logits = logits + _asked_by(evidence.system[:_SYSTEM_CHARS])
    if not evidence.instruction.strip():
        logits = logits * 0
        logits[_UNKNOWN] = _TOOLS_GAIN / 2
    logits[_AGENTIC] += _TOOLS_GAIN * evidence.offers_tools + _USED_TOOLS_GAIN * evidence.used_tools
    likely = _with_doubt(_softmax(logits))
    named = zip((-likely).tolist(), artefact.CLASSES, _CLASSES, strict=True)
    return tuple((category, -less) for less, _, category in sorted(named))


@lru_cache(maxsize=256)
def _asked_by(system: str) -> npt.NDArray[np.float64]:
    """What a system text adds to the logits. A service sends the same one with every request, so the last are kept."""
    return np.asarray(_SYSTEM_GAIN * _softmax(_logits(Evidence(system))) * _TASKS)


def _logits(evidence: Evidence) -> npt.NDArray[np.float64]:
    used, values = evidence_vector(evidence)
    sums = values @ _LEVELS.take(used, axis=0).astype(np.float32)
    return np.asarray((sums * _SCALE + _BIAS) / artefact.TEMPERATURE, np.float64)


def _softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum())


def _with_doubt(likely: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The same, or with as much of it moved to UNKNOWN as puts that first."""
    best = float(likely.max())
    if best >= _LEAST_LIKELY:
        return likely
    moved = (best - likely[_UNKNOWN]) / (1 + best - likely[_UNKNOWN]) + 1e-9
    doubtful = likely * (1 - moved)
    doubtful[_UNKNOWN] += moved
    return np.asarray(doubtful, np.float64)
