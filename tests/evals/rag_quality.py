"""Retrieval quality on labelled sets: ``make eval-rag DATA=folder``.

Everything runs on the real store: PostgreSQL with its row-level security and indexes, all-MiniLM-L6-v2's vectors behind
the provider port, the same services as in production. Beside the router's own ranking stand those that anybody has:
BM25, vectors alone, reciprocal rank fusion of the two. Vectors are kept in ``.local/eval-rag`` for the next run.
"""

import argparse
import asyncio
import hashlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from infra.local.simulator.minilm import installed
from shared.analysis.tokens import estimate_tokens
from shared.domain.documents import Chunk, DocumentSource, SearchScope
from shared.domain.identity import Principal
from shared.domain.security import SecurityLevel
from shared.learning.wordpiece import WordPiece
from shared.providers.parsing.reader import read
from shared.rag.chunking import cut
from shared.rag.fusion import Fusion
from shared.rag.outlining import Outline
from shared.rag.packing import pack
from shared.services.retrieval import Asker, Query
from tests.evals.rag_metrics import CUT, Judged, covered, judge, told
from tests.evals.rag_sets import LabelledSet, Question, SetMissing, located, read_set
from tests.evals.rag_world import MODEL, Encoder, World, database

SETS = ("codebase", "hotpot100", "rgb_en_fact", "chunkeval", "scifact", "nfcorpus")
MACRO = ("codebase", "hotpot100", "rgb_en_fact", "chunkeval")
BUDGETS_TOKENS = (1_000, 2_000)
COVERAGE_AIM, MACRO_AIM, ENOUGH = 0.95, 0.92, 0.95
NDCG_AIMS = {"scifact": 0.727, "nfcorpus": 0.354}
REFUSED_AIM, LOST_AIM = 0.95, 0.05
FIELDS = {"scifact": "medicine", "nfcorpus": "medicine"}
_OFF_TOPIC = 200
_TENANT = "eval"
_PASSAGES = 40
"""Looked at when a context is packed."""

WAYS: Mapping[str, dict[str, Any]] = {
    "BM25": {"fusion": Fusion.LEXICAL},
    "dense": {"fusion": Fusion.DENSE},
    "RRF": {"fusion": Fusion.RRF},
    "weighted": {"refine": False},
    "router": {},
}
ASKER = Asker(Principal("eval", _TENANT, "eval", frozenset()))


@dataclass
class Report:
    """What is printed and judged at the end.

    Attributes:
        coverage: K2 of the router by set.
        ndcg: of the router by set.
        refused: of off-topic questions by set.
        lost: of answerable ones by set.
    """

    coverage: dict[str, float] = field(default_factory=dict)
    ndcg: dict[str, float] = field(default_factory=dict)
    refused: dict[str, float] = field(default_factory=dict)
    lost: dict[str, float] = field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0 when all was measured, 2 when there is no data. Aims that were missed are said, not hidden."""
    parser = argparse.ArgumentParser(prog="make eval-rag DATA=folder", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with the labelled sets")
    parser.add_argument("--sets", nargs="+", default=SETS, metavar="SET")
    parser.add_argument("--limit", type=int, help="questions of each set")
    parser.add_argument("--vectors", type=Path, default=Path(".local/eval-rag/vectors.npz"), help="where they are kept")
    options = parser.parse_args(arguments)
    if options.data is None:
        parser.error("name the folder of the labelled retrieval sets: make eval-rag DATA=path/to/rag")
    try:
        sets = [read_set(options.data, name) for name in options.sets]
    except SetMissing as missing:
        sys.stderr.write(f"eval-rag needs the labelled retrieval sets: {missing}. See --data and --sets.\n")
        return 2
    with tempfile.TemporaryDirectory(prefix="eval-rag-") as folder, database(Path(folder)) as dsn:
        report = asyncio.run(_measure(dsn, Encoder(options.vectors), sets, options.limit))
    _judge(report)
    return 0


async def _measure(dsn: str, encoder: Encoder, sets: Sequence[LabelledSet], limit: int | None) -> Report:
    report = Report()
    async with World(dsn, encoder) as world:
        for labelled in sets:
            texts, questions = {}, labelled.questions[:limit]
            if labelled.documents:
                texts = await _ingest_documents(world, labelled)
                await _contexts(world, labelled, questions, texts, report)
            else:
                await _ingest_passages(world, labelled)
                await _rankings(world, labelled, questions, report)
            encoder.keep()
        for labelled in sets:
            await _abstentions(world, labelled, sets, limit, report)
    return report


async def _rankings(world: World, labelled: LabelledSet, questions: Sequence[Question], report: Report) -> None:
    """Prints the measures of all ways to rank."""
    print(f"\n{labelled.name}: {len(labelled.passages)} passages, {len(questions)} questions")
    print(f"  {'':9} {'K1 hit@10':22} {'K2 coverage@10':22} {'R@5':22} {'nDCG@10':22} MRR@10")
    for way, fields in WAYS.items():
        judged: list[Judged] = []
        for question in questions:
            query = Query(question.text, k=CUT, abstain=False, **fields)
            found = await world.retrieval.search(_scope(labelled), query, ASKER)
            ranking = [
                f"{p.source}#{p.chunk.ordinal}" if "#" in labelled.passages[0][0] else p.source for p in found.passages
            ]
            judged.append(judge(ranking, question.relevant))
        columns = [
            told([getattr(one, name) for one in judged])
            for name in ("hit", "coverage", "recall_5", "ndcg", "reciprocal_rank")
        ]
        print(f"  {way:9} " + " ".join(f"{column:22}" for column in columns), flush=True)
    report.coverage[labelled.name] = sum(one.coverage for one in judged) / len(judged)
    report.ndcg[labelled.name] = sum(one.ndcg for one in judged) / len(judged)


async def _contexts(
    world: World, labelled: LabelledSet, questions: Sequence[Question], texts: Mapping[str, str], report: Report
) -> None:
    """Prints how much of the evidence contexts of two sizes hold."""
    folder = installed()
    assert folder is not None
    pieces = WordPiece((folder / "vocab.txt").read_text(encoding="utf-8").splitlines())
    print(f"\n{labelled.name}: {len(texts)} documents, {len(questions)} questions")
    print(f"  {'':9} " + " ".join(f"{f'evidence in {b}':24} {f'95% of it in {b}':24}" for b in BUDGETS_TOKENS))
    spans = {question.id: _placed(question, labelled, texts) for question in questions}
    for way, fields in WAYS.items():
        shares: dict[int, list[float]] = {budget: [] for budget in BUDGETS_TOKENS}
        for question in questions:
            query = Query(question.text, k=_PASSAGES, abstain=False, **fields)
            found = await world.retrieval.search(_scope(labelled), query, ASKER)
            for budget in BUDGETS_TOKENS:
                packed = pack(found.passages, budget_tokens=budget, count_tokens=lambda text: len(pieces.rows(text)))
                context = [(p.source, p.chunk.start, p.chunk.end) for p in packed]
                shares[budget].append(covered(spans[question.id], context))
        columns = [
            f"{told(shares[budget]):24} {told([float(share >= ENOUGH) for share in shares[budget]]):24}"
            for budget in BUDGETS_TOKENS
        ]
        print(f"  {way:9} " + " ".join(columns), flush=True)
    report.coverage[labelled.name] = sum(shares[2_000]) / len(questions)


async def _abstentions(
    world: World, labelled: LabelledSet, sets: Sequence[LabelledSet], limit: int | None, report: Report
) -> None:
    """Prints how many questions of other sets are refused, and how many of the set's own are lost."""
    others = [other for other in sets if _field(other.name) != _field(labelled.name)]
    if not others:
        return
    calibration = await world.retrieval.calibrate(_TENANT, labelled.name)
    assert calibration is not None
    each = -(-_OFF_TOPIC // len(others))
    off_topic = [q.text for other in others for q in other.questions[:: max(1, len(other.questions) // each)][:each]]
    answered = [question.text for question in labelled.questions[:limit]]
    shares = []
    for texts in (off_topic, answered):
        refusals = []
        for text in texts:
            found = await world.retrieval.search(_scope(labelled), Query(text), ASKER)
            refusals.append(float(not found.is_answerable))
        shares.append(refusals)
    report.refused[labelled.name], report.lost[labelled.name] = (sum(share) / len(share) for share in shares)
    print(
        f"K3 {labelled.name:12} threshold {calibration.threshold:.3f}: refuses {told(shares[0])} of {len(shares[0])} "
        f"off-topic questions, loses {told(shares[1])} of {len(shares[1])} answerable ones",
        flush=True,
    )


def _field(name: str) -> str:
    """What a set is about, or its name: questions of the same field are not off topic."""
    return FIELDS.get(name, name.partition("_")[0])


def _judge(report: Report) -> None:
    print("\naims")
    if set(MACRO) <= report.coverage.keys():
        _say("macro K2", sum(report.coverage[name] for name in MACRO) / len(MACRO), MACRO_AIM)
    if "chunkeval" in report.coverage:
        _say("chunkeval, evidence within 2,000 tokens", report.coverage["chunkeval"], COVERAGE_AIM)
    for name, aim in NDCG_AIMS.items():
        if name in report.ndcg:
            _say(f"{name}, nDCG@10", report.ndcg[name], aim)
    if report.refused:
        _say(
            "off-topic questions refused, mean of sets", sum(report.refused.values()) / len(report.refused), REFUSED_AIM
        )
        _say("answerable questions kept, mean of sets", 1 - sum(report.lost.values()) / len(report.lost), 1 - LOST_AIM)


def _say(what: str, value: float, aim: float) -> None:
    print(f"  {'reached' if value >= aim else 'MISSED '} {what}: {value:.3f} (aim {aim:.3f})")


async def _ingest_passages(world: World, labelled: LabelledSet) -> None:
    """Every passage is a document, but those whose ids say that they are parts of one."""
    documents: dict[str, list[tuple[str, str]]] = {}
    for passage, title, text in labelled.passages:
        documents.setdefault(passage.partition("#")[0], []).append((title, text))
    for source, parts in documents.items():
        chunks, start = [], 0
        # As ingestion does it: these parts are cut already, and are looked at as one.
        outline = Outline("\n\n".join(text for _, text in parts))
        for ordinal, (title, text) in enumerate(parts):
            chunks.append(_chunk(ordinal, "\n".join(filter(None, (title, outline.at(start)))), text, start))
            start += len(text) + 2
        await _publish(world, labelled.name, source, parts[0][0], chunks)


async def _ingest_documents(world: World, labelled: LabelledSet) -> dict[str, str]:
    """Whole documents, read and cut as ingestion does it; returns their texts as they were read."""
    texts = {}
    for name, content in labelled.documents.items():
        parsed = read(content.encode(), media_type="text/markdown", name=name)
        await _publish(world, labelled.name, name, name, cut(parsed, title=parsed.title, count_tokens=estimate_tokens))
        texts[name] = parsed.text
    return texts


async def _publish(world: World, collection: str, source: str, title: str, chunks: Sequence[Chunk]) -> None:
    sent = DocumentSource(
        _TENANT, collection, source, "text/plain", source, "", "0" * 64, 0, title=title, label=SecurityLevel.PUBLIC
    )
    document, _ = await world.documents.register(sent, document_id=str(uuid4()))
    claimed = await world.documents.claim(_TENANT, document.id, document.version, worker="eval", lease_s=600)
    assert claimed is not None
    vectors = world.encoder.of([chunk.full_text for chunk in chunks])
    assert await world.documents.publish(claimed, chunks, vectors, model=MODEL, worker="eval")


def _chunk(ordinal: int, prefix: str, text: str, start: int) -> Chunk:
    digest = hashlib.sha256(f"{prefix}\0{text}".encode()).hexdigest()
    return Chunk(
        ordinal, text, prefix, None, start, start + len(text), estimate_tokens(text), digest, SecurityLevel.PUBLIC
    )


def _placed(question: Question, labelled: LabelledSet, texts: Mapping[str, str]) -> list[tuple[str, int, int]]:
    """Where the evidence stands in the documents as they were read; what reading lost counts as not found."""
    placed = []
    for document, start, end in question.evidence:
        found = located(labelled.documents[document][start:end], texts[document])
        placed.append((document, *found) if found else ("", 0, end - start))
    return placed


def _scope(labelled: LabelledSet) -> SearchScope:
    return SearchScope(_TENANT, labelled.name)


if __name__ == "__main__":
    sys.exit(main())
