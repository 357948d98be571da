"""The shape of ``[retrieval]`` in the policy file. docs/rag.md says what each field does."""

from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import Field

from shared.domain.models import Registry
from shared.domain.retrieval_rules import RetrievalRules
from shared.stores.registry_fields import Alias, Table

_RULES = RetrievalRules()
_MOST_COLLECTIONS = 1_000
_TimeoutMs = Annotated[int, Field(ge=50, le=10_000)]


class RetrievalTable(Table):
    """``[retrieval]``; what is not given is as in the domain."""

    reranker: Alias | None = None
    reranked: Annotated[int, Field(ge=2, le=200)] = _RULES.reranked
    reranker_timeout_ms: _TimeoutMs = _RULES.reranker_timeout_ms
    collections: Annotated[
        list[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]],
        Field(max_length=_MOST_COLLECTIONS),
    ] = Field(default_factory=list)
    rewriter: Alias | None = None
    rewriter_timeout_ms: _TimeoutMs = _RULES.rewriter_timeout_ms

    def to_domain(self, canonical: Mapping[str, str]) -> RetrievalRules:
        """The domain's rules; model names become the registry's ids."""
        fields = self.model_dump()
        for key in ("reranker", "rewriter"):
            fields[key] = canonical.get(fields[key], fields[key])
        return RetrievalRules(**fields | {"collections": frozenset(self.collections)})


def retrieval_problems(rules: RetrievalRules, registry: Registry) -> Iterator[str]:
    """What is wrong with the rules against the registry."""
    ranking = None if registry.rankings is None else registry.rankings.models
    profile = (ranking or {}).get(rules.reranker or "")
    if rules.reranker is not None and profile is None:
        yield f"retrieval.reranker: no ranking model {rules.reranker!r} in the registry"
    if profile is not None and profile.ranking is not None and rules.reranked > profile.ranking.max_texts:
        yield f"retrieval.reranked: {profile.id} takes {profile.ranking.max_texts} texts at most"
    if rules.rewriter is not None and rules.rewriter not in registry.models:
        yield f"retrieval.rewriter: no model {rules.rewriter!r} in the registry"
