"""Ranking requests of Discovery Engine, as v1 of `projects.locations.rankingConfigs.rank` takes and answers them.

https://cloud.google.com/generative-ai-app-builder/docs/reference/rest/v1/projects.locations.rankingConfigs/rank
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.local.simulator.ask import CHARS_PER_TOKEN
from infra.local.simulator.embedding import Vectors
from infra.local.simulator.problems import invalid
from infra.local.simulator.profiles import Profile

_MAX_RECORDS = 200
_DIMENSIONS = 384
_LEAST_SCORE = 0.0001
"""What is closer to 0 is rounded to it: a 0 would be left out of the answer."""
_DETAILS = ("id", "title", "content")


@dataclass(frozen=True, slots=True)
class Ranking:
    """A request, read.

    Attributes:
        records: as they were sent.
        top: at most so many are answered.
        bare: answer ids and scores only.
    """

    query: str
    records: tuple[Mapping[str, str], ...]
    top: int
    bare: bool


def read(body: Any) -> Ranking:
    """Read ``{"model", "query", "records": [{"id", "title", "content"}], "topN", "ignoreRecordDetailsInResponse"}``.

    Raises:
        Problem: 400.
    """
    fields: Mapping[str, Any] = body if isinstance(body, Mapping) else {}
    query, records = fields.get("query", ""), fields.get("records", [])
    if not isinstance(query, str) or not isinstance(records, list):
        raise invalid("Invalid JSON payload received.")
    if not records or len(records) > _MAX_RECORDS:
        raise invalid(f"The number of records must be from 1 to {_MAX_RECORDS}, got {len(records)}.")
    for number, record in enumerate(records):
        values = [record.get(key, "") for key in _DETAILS] if isinstance(record, Mapping) else [None]
        if not all(isinstance(value, str) for value in values):
            raise invalid(f"records[{number}]: Invalid JSON payload received.")
        if not any(values[1:]):
            raise invalid(f"records[{number}]: at least one of title or content should be set.")
    top = fields.get("topN", 0)
    if not isinstance(top, int) or isinstance(top, bool):
        raise invalid("topN: Invalid JSON payload received.")
    return Ranking(query, tuple(records), top, fields.get("ignoreRecordDetailsInResponse") is True)


def compute(ranking: Ranking, profile: Profile, vectors: Vectors) -> dict[str, Any]:
    """The answer: records by their nearness to the query, the best first. May take long: call it in a thread."""
    most = profile.context_tokens * CHARS_PER_TOKEN
    texts = [" ".join(filter(None, (r.get("title"), r.get("content"))))[:most] for r in ranking.records]
    query, *found = vectors.of([ranking.query or " ", *texts], _DIMENSIONS)
    scores = [max(_LEAST_SCORE, round((1 + float(query @ vector)) / 2, 4)) for vector in found]
    order = sorted(range(len(texts)), key=lambda place: -scores[place])
    kept = order[: ranking.top] if ranking.top > 0 else order
    return {"records": [_record(ranking.records[place], scores[place], bare=ranking.bare) for place in kept]}


def _record(record: Mapping[str, str], score: float, *, bare: bool) -> dict[str, Any]:
    details = ("id",) if bare else _DETAILS
    return {key: record[key] for key in details if record.get(key)} | {"score": score}
