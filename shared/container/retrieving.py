"""The part that searches documents and answers from them."""

from shared.container.documents import usual_model
from shared.container.ground import Ground
from shared.container.models import Models
from shared.container.walking import Walk
from shared.services.grounded import GroundedService
from shared.services.reranking import RerankingService
from shared.services.retrieval import RetrievalService
from shared.services.rewriting import QuestionRewriter
from shared.stores.postgres.passages import PostgresPassageIndex


def build_retrieval(ground: Ground, models: Models, walk: Walk) -> RetrievalService:
    """Search in PostgreSQL, ordered anew by a ranking model where a request asks for it."""
    clock, ids, telemetry = ground.clock, ground.ids, ground.telemetry
    return RetrievalService(
        PostgresPassageIndex(ground.pool),
        walk.embeddings,
        lambda: usual_model(models.vectors.registry),
        clock,
        ids,
        telemetry,
        RerankingService(walk.rankings, models.rankings, clock, ids, telemetry),
    )


def build_grounded(ground: Ground, models: Models, walk: Walk, retrieval: RetrievalService) -> GroundedService:
    """Answers from what the search found."""
    rewriter = QuestionRewriter(walk.routing, models.shelf, ground.clock, ground.ids, ground.telemetry)
    return GroundedService(retrieval, walk.routing, models.shelf, ground.telemetry, models.encoder.encode, rewriter)
