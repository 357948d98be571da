"""How near token estimates come to real tokenizers: `python -m tests.evals.token_estimates` prints errors by kind.

The texts (tokens/texts.jsonl) were written or made by rule for this project and are not those of the fit; their true
counts were made by infra/training/token_counts.py, which names tokenizers and versions.
"""

import json
import sys
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from infra.training.tokens import true_count
from shared.analysis.features import analyse
from shared.analysis.tokens import FAMILIES, MESSAGE_TOKENS
from shared.domain.chat import ChatRequest, Message, Role, TextPart
from shared.domain.features import TokenizerFamily

FOLDER = Path(__file__).parent / "tokens"


@dataclass(frozen=True, slots=True)
class Counted:
    """A text with its true and its estimated tokens in one family."""

    id: str
    kind: str
    family: TokenizerFamily
    true: float
    estimated: int

    @property
    def error(self) -> float:
        """Relative; positive where the estimate is too high."""
        return self.estimated / self.true - 1


@cache
def counted() -> tuple[Counted, ...]:
    """Every text in every family, estimated as the whole analysis does: with its own guess of the language."""
    found = []
    for line in (FOLDER / "texts.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        request = ChatRequest((Message(Role.USER, (TextPart(row["text"]),)),))
        found += [
            Counted(row["id"], row["kind"], of.family, true_count(row["counts"], of.family), of.text - MESSAGE_TOKENS)
            for of in analyse(request).token_estimates
        ]
    return tuple(found)


def errors_by_kind(family: TokenizerFamily) -> dict[str, float]:
    """Relative error of all texts of a kind together."""
    true: defaultdict[str, float] = defaultdict(float)
    estimated: defaultdict[str, float] = defaultdict(float)
    for text in counted():
        if text.family is family:
            true[text.kind] += text.true
            estimated[text.kind] += text.estimated
    return {kind: estimated[kind] / true[kind] - 1 for kind in true}


def table() -> str:
    """Relative errors by kind and family; then mean absolute error and share within 15% over texts."""
    by_family = {family: errors_by_kind(family) for family in FAMILIES}
    lines = [f"{'':20}" + "".join(f"{family.value:>10}" for family in FAMILIES)]
    lines += [
        f"{kind:20}" + "".join(f"{by_family[family][kind]:+10.2f}" for family in FAMILIES)
        for kind in by_family[FAMILIES[0]]
    ]
    for name, figure in (("mean error", mean_error), ("within 15%", share_within)):
        lines.append(f"{name:20}" + "".join(f"{figure(family):10.3f}" for family in FAMILIES))
    return "\n".join(lines)


def mean_error(family: TokenizerFamily) -> float:
    """Mean absolute relative error over texts."""
    errors = [abs(text.error) for text in counted() if text.family is family]
    return sum(errors) / len(errors)


def share_within(family: TokenizerFamily, limit: float = 0.15) -> float:
    """Share of the texts whose estimate is off by at most `limit`."""
    near = [abs(text.error) <= limit for text in counted() if text.family is family]
    return sum(near) / len(near)


if __name__ == "__main__":
    sys.stdout.write(f"{table()}\n")
