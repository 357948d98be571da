"""The part that searches documents and answers from them."""

import random
from collections.abc import Mapping

from shared.container.documents import usual_model
from shared.domain.models import ProviderKind, Registry
from shared.domain.policy import Policy
from shared.ports import Clock, Ids, ModelProvider, Telemetry
from shared.scoring.embedding_part import ranking_part
from shared.services.attempts import Attempts
from shared.services.configuration_keeping import ConfigurationKeeper
from shared.services.deployment_health import DeploymentHealth
from shared.services.recording import RecordWriter
from shared.services.reranking import RerankingService
from shared.services.retrieval import RetrievalService
from shared.services.routing import RoutingService
from shared.services.shelf import Shelf
from shared.services.till import Till
from shared.stores.postgres.passages import PostgresPassageIndex
from shared.stores.postgres.pool import PostgresPool


def build_rankings(
    registry: Registry,
    policy: Policy,
    health: DeploymentHealth,
    attempts: Attempts,
    providers: Mapping[ProviderKind, ModelProvider],
    records: RecordWriter,
    keeper: ConfigurationKeeper,
    till: Till,
    rng: random.Random,
    clock: Clock,
    ids: Ids,
    telemetry: Telemetry,
) -> RerankingService:
    """The walk over the ranking models, and who asks for it."""
    shelf = Shelf(*ranking_part(registry, policy), health, clock)
    walk = RoutingService(shelf, attempts, providers, records, clock, telemetry, rng, keeper, till=till)
    return RerankingService(walk, shelf, clock, ids, telemetry)


def build_retrieval(
    pool: PostgresPool,
    embeddings: RoutingService,
    vectors: Shelf,
    reranking: RerankingService,
    clock: Clock,
    ids: Ids,
    telemetry: Telemetry,
) -> RetrievalService:
    """Search in PostgreSQL."""
    index = PostgresPassageIndex(pool)
    return RetrievalService(index, embeddings, lambda: usual_model(vectors.registry), clock, ids, telemetry, reranking)
