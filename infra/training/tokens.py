"""Fit the weights of the token estimate: `python -m infra.training.tokens`.

Non-negative least squares on relative errors, one fit a tokenizer family, over own texts with their true counts
(data/tokens/texts.jsonl; infra/training/token_counts.py made the counts). The same data and numpy give the same
weights, which go to shared/analysis/artefacts/tokens_v1.py. How near they come: tests/evals/token_estimates.py.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shared.analysis.text_runs import FEATURES, run_counts
from shared.domain.features import TokenizerFamily

Vector = npt.NDArray[np.float64]
DATA: Final = Path(__file__).parent / "data" / "tokens" / "texts.jsonl"
TARGET: Final = Path(__file__).parents[2] / "shared" / "analysis" / "artefacts" / "tokens_v1.py"
_SHORT: Final = 10
"""Tokens below which a relative error matters less and less."""
_CAUTION: Final = 1.02
"""An estimate that is too low can send a prompt to a model that refuses it; one too high costs almost nothing."""
_RIDGE: Final = 1e-3
_MOST_ROUNDS: Final = 4000


def read_texts(path: Path) -> list[dict[str, Any]]:
    """The texts with their true counts."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def true_count(counts: Mapping[str, int], family: TokenizerFamily) -> float:
    """A text's tokens in a family; for the generic one the mean of the others but Claude's."""
    if family is TokenizerFamily.GENERIC:
        others = [count for name, count in counts.items() if name != TokenizerFamily.CLAUDE]
        return sum(others) / len(others)
    return float(counts[family])


def fit(inputs: npt.NDArray[np.float64], counts: Vector) -> Vector:
    """Weights, none negative: coordinate descent on the normal equations."""
    trust = 1 / (counts + _SHORT)
    scaled = inputs * trust[:, None]
    gram, target = scaled.T @ scaled, scaled.T @ (counts * trust)
    gram += _RIDGE * np.diag(np.diag(gram))
    weights = np.zeros(inputs.shape[1])
    for _ in range(_MOST_ROUNDS):
        before = weights.copy()
        for column in np.flatnonzero(np.diag(gram) > 1e-9):  # noqa: PLR2004  # a feature no text has stays at zero
            step = (target[column] - gram[column] @ weights) / gram[column, column]
            weights[column] = max(0.0, weights[column] + step)
        if np.abs(weights - before).max() < 1e-6:  # noqa: PLR2004  # converged far below the last digit written
            break
    return weights * _CAUTION


def data_digest() -> str:
    """SHA-256 of the texts and counts."""
    return hashlib.sha256(DATA.read_bytes()).hexdigest()


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit every family and write the artefact."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=TARGET, help="the artefact (default: %(default)s)")
    out = parser.parse_args(arguments).out
    texts = read_texts(DATA)
    inputs = np.array([run_counts(text["text"], text["language"]) for text in texts])
    columns: dict[TokenizerFamily, Vector] = {}
    for family in TokenizerFamily:
        counts = np.array([true_count(text["counts"], family) for text in texts])
        columns[family] = fit(inputs, counts)
        errors = np.abs(inputs @ columns[family] / counts - 1)
        sys.stdout.write(
            f"{family.value:10} mean error {errors.mean():.3f} over {len(texts)} texts (those of the fit)\n"
        )
    rows = "".join(
        f"    ({', '.join([json.dumps(name), *(f'{columns[family][number]:.4f}' for family in TokenizerFamily)])}),\n"
        for number, name in enumerate(FEATURES)
    )
    families = ", ".join(json.dumps(family.value) for family in TokenizerFamily)
    out.write_text(
        '"""Tokens per counted thing by tokenizer family, made by `python -m infra.training.tokens`."""\n\n'
        f'VERSION = 1\nDATA_SHA256 = "{data_digest()}"\nFAMILIES = ({families})\nWEIGHTS = (\n{rows})\n',
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
