"""The labelled routing sets: what several models answered to the same prompts, how well, and at what cost.

A set is a file ``<name>.dev.jsonl.gz`` with one object a line: ``{"id", "task", "prompt", "scores": {model: 0..1},
"cost": {model: USD}}``. Prompts of several sets may be the same question in other words; they share a fold.
"""

import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.domain.features import Category

SET_NAMES: Final = ("mixed4", "routellm", "mmlupro", "llmrouter9", "zeroeval")
FOLDS: Final = 5
_OPTIONS: Final = re.compile(r"\n\(?A[.):].*", re.DOTALL)
_NOISE: Final = re.compile(r"[^a-z0-9]+")
_CATEGORY_MARKS: Final = (
    ("logicgrid", Category.REASONING),
    ("commongen", Category.CREATIVE_WRITING),
    ("crux", Category.CODE_REVIEW),
    ("mathematics", Category.MATH),
    ("math", Category.MATH),
    ("algebra", Category.MATH),
    ("statistics", Category.MATH),
)


_SAME_QUESTIONS: Final = {"llmrouter9/math": "math_l5"}
"""Benchmarks whose questions come from one source, in other words or formats: one domain to the item model."""


class SetsMissing(Exception):
    """The folder holds none of the labelled sets."""


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """One pool of models on one list of prompts.

    Attributes:
        prompts: index of each row's prompt in the corpus.
        tasks: benchmark and subject of each row.
        scores, costs: [rows, models]; USD.
    """

    name: str
    models: tuple[str, ...]
    prompts: NDArray[np.intp]
    tasks: tuple[str, ...]
    scores: NDArray[np.float64]
    costs: NDArray[np.float64]

    def benchmarks(self) -> NDArray[np.str_]:
        """The part of each task before the subject."""
        return np.array([task.split("/")[0] for task in self.tasks])

    def rows(self, keep: NDArray[np.bool_]) -> "LabelledSet":
        """The same pool on some of its rows."""
        tasks = tuple(task for task, kept in zip(self.tasks, keep, strict=True) if kept)
        return LabelledSet(self.name, self.models, self.prompts[keep], tasks, self.scores[keep], self.costs[keep])

    def without(self, model: int) -> "LabelledSet":
        """The same prompts for a pool that lacks one model."""
        others = np.arange(len(self.models)) != model
        names = tuple(name for name, kept in zip(self.models, others, strict=True) if kept)
        return LabelledSet(self.name, names, self.prompts, self.tasks, self.scores[:, others], self.costs[:, others])


@dataclass(frozen=True, slots=True)
class Corpus:
    """All sets over one list of different prompts.

    Attributes:
        folds: 0..4 by prompt, equal for the same question.
        domains: index of the prompt's domain in `domain_names`.
    """

    prompts: tuple[str, ...]
    folds: NDArray[np.intp]
    domains: NDArray[np.intp]
    domain_names: tuple[str, ...]
    sets: tuple[LabelledSet, ...]


def read_corpus(folder: Path) -> Corpus:
    """Read every set of the folder.

    Raises:
        SetsMissing: when there is none.
    """
    index: dict[str, int] = {}
    domain_of: dict[int, str] = {}
    sets = []
    for name in SET_NAMES:
        path = folder / f"{name}.dev.jsonl.gz"
        if not path.is_file():
            continue
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        models = tuple(sorted(rows[0]["scores"]))
        places = [index.setdefault(row["prompt"], len(index)) for row in rows]
        for place, row in zip(places, rows, strict=True):
            # One set's benchmark of the same name has prompts of another form.
            domain_of[place] = row["task"] if "/" in row["task"] or name != "llmrouter9" else f"{name}/{row['task']}"
        sets.append(
            LabelledSet(
                name=name,
                models=models,
                prompts=np.array(places),
                tasks=tuple(row["task"] for row in rows),
                scores=np.array([[row["scores"][model] for model in models] for row in rows]),
                costs=np.array([[row["cost"][model] for model in models] for row in rows]),
            )
        )
    if not sets:
        raise SetsMissing(f"no *.dev.jsonl.gz of {', '.join(SET_NAMES)} in {folder}")
    names = tuple(sorted(set(domain_of.values())))
    number = {name: place for place, name in enumerate(names)}
    prompts = tuple(index)
    return Corpus(
        prompts=prompts,
        folds=np.array([fold_of(prompt) for prompt in prompts]),
        domains=np.array([number[domain_of[place]] for place in range(len(prompts))]),
        domain_names=names,
        sets=tuple(sets),
    )


def kinds_of(domain_names: Sequence[str]) -> NDArray[np.intp]:
    """Number of each domain, equal for those whose questions come from one source."""
    names = [_SAME_QUESTIONS.get(name, name) for name in domain_names]
    numbers = {name: number for number, name in enumerate(sorted(set(names)))}
    return np.array([numbers[name] for name in names])


def fold_of(prompt: str) -> int:
    """Fold of a question: the same whatever its answer options, letter case and punctuation."""
    stem = _NOISE.sub("", _OPTIONS.sub("", prompt).lower())
    return int(hashlib.sha256(stem.encode()).hexdigest(), 16) % FOLDS


def categories_of(domain_names: Iterable[str]) -> list[Category]:
    """The router's category of each domain: by its name, else question answering."""
    return [
        next((category for mark, category in _CATEGORY_MARKS if mark in name), Category.QUESTION_ANSWERING)
        for name in domain_names
    ]
