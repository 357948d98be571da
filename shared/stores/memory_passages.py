"""Search in memory: the twin of `shared.stores.postgres.passages`, exact and slow."""

from collections.abc import Mapping, Sequence

import numpy as np

from shared.domain.documents import Calibration, Candidates, Chunk, Passage, SearchScope
from shared.domain.errors import InvalidRequest
from shared.rag.bm25 import K1, rarity, saturation
from shared.rag.terms import QUARTERS, length, text_terms
from shared.rag.vectors import as_halves
from shared.stores.memory_documents import Entry, MemoryDocumentStore


class MemoryPassageIndex:
    """`PassageIndex` over a `MemoryDocumentStore`: every chunk of the scope is scored."""

    def __init__(self, documents: MemoryDocumentStore) -> None:
        self._documents = documents
        self._calibrations: dict[tuple[str, str], Calibration] = {}

    async def search(
        self, scope: SearchScope, *, vector: bytes | None, terms: Mapping[str, float], model: str, candidates: int
    ) -> Candidates:
        """The best `candidates` of each leg, with their scores of each leg that they were found by."""
        seen = list(self._documents.visible(scope))
        counted = self._documents.counted(scope.tenant_id, scope.collection)
        weights = {
            term: weight * rarity(len(counted), sum(term in words for words in counted))
            for term, weight in terms.items()
        }
        dense = self._dense(seen, vector, model)
        lexical = self._lexical(seen, weights, sum(map(length, counted)) / max(len(counted), 1))
        nearest = sorted(dense, key=lambda place: -dense[place])[:candidates]
        rarest = sorted(lexical, key=lambda place: -lexical[place])[:candidates]
        if not counted:
            return Candidates()
        kept = list(dict.fromkeys((*nearest, *rarest)))
        return Candidates(
            tuple(
                _passage(
                    *seen[place][:2],
                    dense[place] if place in nearest else None,
                    lexical[place] if place in rarest else None,
                )
                for place in kept
            ),
            tuple(b"" if vector is None else seen[place][0].vector(model, seen[place][2]) for place in kept),
            sum(weights.values()) * (K1 + 1),
            len(counted),
            self._calibrations.get((scope.tenant_id, scope.collection)),
        )

    async def active_model(self) -> str | None:
        """The embedding model whose vectors are searched."""
        tables = self._documents.tables.values()
        return next((table.model for table in tables if table.status == "active"), None)

    async def calibrate(self, tenant_id: str, collection: str, calibration: Calibration) -> None:
        """Keep what was measured; nothing when there is no such collection."""
        if self._documents.counted(tenant_id, collection):
            self._calibrations[tenant_id, collection] = calibration

    async def uncalibrated(self, model: str, *, limit: int) -> Sequence[tuple[str, str]]:
        """Tenant and name of collections whose calibration is missing, by another model, or of other times."""
        found = []
        for place, chunks in sorted(self._documents.sizes().items()):
            known = self._calibrations.get(place)
            if known is None or known.model != model or not known.chunks // 2 <= chunks <= known.chunks * 2:
                found.append(place)
        return found[:limit]

    def _dense(self, seen: Sequence[tuple[Entry, Chunk, int]], vector: bytes | None, model: str) -> dict[int, float]:
        if vector is None:
            return {}
        try:
            query = as_halves([vector])[0].astype(np.float64)
        except ValueError as error:
            raise InvalidRequest(str(error), param="vector") from None
        table = self._documents.tables.get(model)
        if table is not None and table.dimensions != len(query):
            raise InvalidRequest("the vector is not as long as this model's", param="vector")
        found: dict[int, float] = {}
        for place, (entry, _, ordinal) in enumerate(seen):
            if stored := entry.vector(model, ordinal):
                known = np.frombuffer(stored, "<f4").astype(np.float64)
                found[place] = float(known @ query / np.linalg.norm(known) / np.linalg.norm(query))
        return found

    def _lexical(
        self, seen: Sequence[tuple[Entry, Chunk, int]], weights: Mapping[str, float], average: float
    ) -> dict[int, float]:
        found: dict[int, float] = {}
        for place, (_, chunk, _) in enumerate(seen):
            words = text_terms(chunk.text, chunk.prefix)
            if any(term in words for term in weights):
                found[place] = sum(
                    weight * saturation(words[term], length(words), average, unit=QUARTERS)
                    for term, weight in weights.items()
                    if term in words
                )
        return found


def _passage(entry: Entry, chunk: Chunk, dense: float | None, lexical: float | None) -> Passage:
    title = entry.live.title if entry.live else ""
    return Passage(entry.document.id, title, entry.document.source, chunk, 0.0, dense, lexical)
