"""What the policy says about how documents are searched."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetrievalRules:
    """Models that take part in a search, where there are any; both are off by default (docs/rag.md).

    Attributes:
        reranker: ranking model that orders what was found; None: nobody does.
        reranked: at most so many of the best passages are shown to it.
        reranker_timeout_ms: for it, as long as the request's own deadline leaves as much.
        collections: in which it is asked; empty: in all.
        rewriter: model that completes a question from the turns before it; None: rules do (`shared.rag.rewriting`).
        rewriter_timeout_ms: for it, likewise.
    """

    reranker: str | None = None
    reranked: int = 40
    reranker_timeout_ms: int = 1_000
    collections: frozenset[str] = frozenset()
    rewriter: str | None = None
    rewriter_timeout_ms: int = 2_000

    def reranker_for(self, collection: str) -> str | None:
        """The ranking model for a collection."""
        return self.reranker if not self.collections or collection in self.collections else None
