"""Labelled retrieval sets, read from a folder that somebody names: their licences keep them out of the repository.

Two shapes: documents with judged passages (BEIR's files, gzipped), and long documents with marked evidence.
"""

import gzip
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class SetMissing(Exception):
    """A folder does not hold what a set needs."""


@dataclass(frozen=True)
class Question:
    """Attributes: relevant passages by id with their grade, or evidence as (document, start, end)."""

    id: str
    text: str
    relevant: Mapping[str, int]
    evidence: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True)
class LabelledSet:
    """Attributes: passages (id, title, text), or whole documents by name where the set is about cutting them."""

    name: str
    passages: tuple[tuple[str, str, str], ...]
    documents: Mapping[str, str]
    questions: tuple[Question, ...]


def read_set(folder: Path, name: str) -> LabelledSet:
    """Read one set.

    Raises:
        SetMissing: naming the folder.
    """
    path = folder / name
    if not path.is_dir():
        raise SetMissing(f"{path} is absent")
    if (path / "documents").is_dir():
        return _with_evidence(path, name)
    graded: dict[str, dict[str, int]] = defaultdict(dict)
    passages = tuple((row["id"], row["title"], row["text"]) for row in _rows(path / "corpus.jsonl.gz"))
    known = {passage for passage, _, _ in passages}
    with gzip.open(path / "qrels.tsv.gz", "rt", encoding="utf-8") as lines:
        next(lines)
        for line in lines:
            question, passage, grade = line.rstrip("\n").split("\t")
            if int(grade) > 0 and passage in known:
                graded[question][passage] = int(grade)
    questions = tuple(
        Question(row["id"], row["text"], graded[row["id"]])
        for row in _rows(path / "queries.jsonl.gz")
        if graded.get(row["id"])
    )
    return LabelledSet(name, passages, {}, questions)


def _with_evidence(path: Path, name: str) -> LabelledSet:
    documents = {
        file.name.removesuffix(".gz"): gzip.decompress(file.read_bytes()).decode("utf-8")
        for file in sorted((path / "documents").iterdir())
    }
    by_stem = {document.rpartition(".")[0]: document for document in documents}
    questions = tuple(
        Question(row["id"], row["text"], {}, tuple((by_stem[row["doc"]], start, end) for start, end in row["spans"]))
        for row in _rows(path / "questions.jsonl.gz")
        if row["doc"] in by_stem
    )
    return LabelledSet(name, (), documents, questions)


def located(evidence: str, text: str) -> tuple[int, int] | None:
    """Where the words of an excerpt stand in a text that was read from the same document: markup may be gone."""
    words = re.findall(r"\w+", evidence)
    found = re.search(r"\W+".join(map(re.escape, words)), text) if words else None
    return None if found is None else found.span()


def _rows(path: Path) -> Iterator[Any]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            yield from (json.loads(line) for line in lines if line.strip())
    except FileNotFoundError:
        raise SetMissing(f"{path} is absent") from None
