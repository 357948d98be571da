"""Search in memory: the twin of `shared.stores.postgres.passages`, exact and slow."""

from collections.abc import Mapping, Sequence

import numpy as np

from shared.domain.documents import Chunk, Passage, SearchScope
from shared.domain.errors import InvalidRequest
from shared.rag.bm25 import rarity, saturation
from shared.rag.terms import QUARTERS, length, text_terms
from shared.rag.vectors import as_halves
from shared.stores.memory_documents import Entry, MemoryDocumentStore


class MemoryPassageIndex:
    """`PassageIndex` over a `MemoryDocumentStore`: every chunk of the scope is scored."""

    def __init__(self, documents: MemoryDocumentStore) -> None:
        self._documents = documents

    async def search(
        self, scope: SearchScope, *, vector: bytes | None, terms: Mapping[str, float], model: str, candidates: int
    ) -> Sequence[Passage]:
        """The best `candidates` of each leg, with their scores of each leg that they were found by."""
        seen = list(self._documents.visible(scope))
        dense = self._dense(seen, vector, model)
        lexical = self._lexical(scope, seen, terms)
        nearest = sorted(dense, key=lambda place: -dense[place])[:candidates]
        rarest = sorted(lexical, key=lambda place: -lexical[place])[:candidates]
        kept = dict.fromkeys((*nearest, *rarest))
        return [
            Passage(
                seen[place][0].document.id,
                live.title if (live := seen[place][0].live) else "",
                seen[place][0].document.source,
                seen[place][1],
                0.0,
                dense[place] if place in nearest else None,
                lexical[place] if place in rarest else None,
            )
            for place in kept
        ]

    def _dense(self, seen: Sequence[tuple[Entry, Chunk, int]], vector: bytes | None, model: str) -> dict[int, float]:
        if vector is None:
            return {}
        try:
            query = as_halves([vector])[0].astype(np.float64)
        except ValueError as error:
            raise InvalidRequest(str(error), param="vector") from None
        if self._documents.dimensions(model) not in {None, len(query)}:
            raise InvalidRequest("the vector is not as long as this model's", param="vector")
        found: dict[int, float] = {}
        for place, (entry, _, ordinal) in enumerate(seen):
            if model in entry.vectors:
                known = np.frombuffer(entry.vectors[model][ordinal], "<f4").astype(np.float64)
                found[place] = float(known @ query / np.linalg.norm(known) / np.linalg.norm(query))
        return found

    def _lexical(
        self, scope: SearchScope, seen: Sequence[tuple[Entry, Chunk, int]], terms: Mapping[str, float]
    ) -> dict[int, float]:
        counted = self._documents.counted(scope.tenant_id, scope.collection)
        average = sum(map(length, counted)) / max(len(counted), 1)
        weights = {
            term: weight * rarity(len(counted), sum(term in words for words in counted))
            for term, weight in terms.items()
        }
        found: dict[int, float] = {}
        for place, (_, chunk, _) in enumerate(seen):
            words = text_terms(chunk.text, chunk.prefix)
            if any(term in words for term in terms):
                found[place] = sum(
                    weight * saturation(words[term], length(words), average, unit=QUARTERS)
                    for term, weight in weights.items()
                    if term in words
                )
        return found
