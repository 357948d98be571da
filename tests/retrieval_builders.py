"""Documents, chunks and vectors for tests."""

import hashlib
import itertools
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import numpy as np

from shared.domain.documents import Chunk, Document, DocumentSource
from shared.domain.security import SecurityLevel
from shared.ports import DocumentStore
from shared.rag.terms import text_terms

MODEL = "test-embedding"
DIMENSIONS = 32
_numbers = itertools.count(1)


def source(**fields: Any) -> DocumentSource:
    number = next(_numbers)
    values: dict[str, Any] = {
        "tenant_id": "tenant-a",
        "collection": "manuals",
        "source": f"file-{number}.txt",
        "media_type": "text/plain",
        "name": f"file-{number}.txt",
        "blob": f"blob-{number}",
        "sha": hashlib.sha256(str(number).encode()).hexdigest(),
        "size_bytes": 100,
        "title": f"File {number}",
        "service": "service-a",
    }
    return DocumentSource(**values | fields)


def chunk(ordinal: int, text: str, prefix: str = "", label: SecurityLevel = SecurityLevel.INTERNAL) -> Chunk:
    sha = hashlib.sha256(f"{prefix}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()
    return Chunk(ordinal, text, prefix, 1, ordinal * 100, ordinal * 100 + len(text), len(text.split()), sha, label)


def vector(text: str) -> bytes:
    """Texts that share words lie near each other: each word has a direction of its own."""
    total = np.full(DIMENSIONS, 1e-3, np.float32)
    for word, count in text_terms(text).items():
        seed = int.from_bytes(hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()[:4], "big")
        total += count * np.random.default_rng(seed).standard_normal(DIMENSIONS).astype(np.float32)
    return (total / np.linalg.norm(total)).astype("<f4").tobytes()


async def publish(
    store: DocumentStore, texts: Sequence[str], *, labels: Sequence[SecurityLevel] = (), **fields: Any
) -> Document:
    """A document that is ready."""
    registered, _ = await store.register(source(**fields), document_id=str(uuid4()))
    claimed = await store.claim(registered.tenant_id, registered.id, registered.version, worker="w", lease_s=60)
    assert claimed is not None
    chunks = [chunk(n, text, label=labels[n] if labels else claimed.label) for n, text in enumerate(texts)]
    assert await store.publish(claimed, chunks, [vector(text) for text in texts], model=MODEL, worker="w")
    ready = await store.get(claimed.tenant_id, claimed.id)
    assert ready is not None
    return ready
