"""A provider that plays a script, and a routing service around it with real services and in-memory stores."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from shared.domain.chat import ChatRequest, Message, Role, TextPart
from shared.domain.errors import ProviderError, UnsupportedFeature
from shared.domain.health import HealthRules
from shared.domain.identity import Principal, RouterRole
from shared.domain.models import Deployment, ModelProfile, ProviderKind
from shared.domain.policy import RoutingConstraints
from shared.domain.replies import Finished, FinishReason, StreamEvent, TextDelta, Usage, UsageUpdate
from shared.ports import ProviderCall
from shared.services.attempts import Attempts
from shared.services.deployment_health import DeploymentHealth
from shared.services.ledger_entry import Order
from shared.services.recording import RecordWriter
from shared.services.routing import RoutingService
from shared.services.shelf import Shelf
from shared.stores.memory_health import MemoryHealthStore

USAGE = Usage(input_tokens=10, output_tokens=4)
ANSWER: tuple[StreamEvent, ...] = (
    TextDelta("Hel"),
    TextDelta("lo"),
    UsageUpdate(USAGE),
    Finished(FinishReason.STOP, "stop"),
)
HANG = "hang"
Step = StreamEvent | ProviderError | Exception | str


@dataclass
class ScriptedProvider:
    """Plays the next script of the called deployment (or the default one) step by step; errors are raised in place."""

    scripts: dict[str, list[Sequence[Step]]] = field(default_factory=dict)
    calls: list[ProviderCall] = field(default_factory=list)
    refuses: str | None = None
    closed: int = 0
    called: asyncio.Event = field(default_factory=asyncio.Event)

    def check(self, request: ChatRequest, profile: ModelProfile, deployment: Deployment) -> None:
        if self.refuses is not None:
            raise UnsupportedFeature("not taken by this wire form", param=self.refuses)

    async def complete(self, call: ProviderCall) -> Sequence[StreamEvent]:
        return [event async for event in self.stream(call)]

    async def stream(self, call: ProviderCall) -> AsyncIterator[StreamEvent]:
        self.calls.append(call)
        self.called.set()
        waiting = self.scripts.get(call.deployment.id)
        script = waiting.pop(0) if waiting else ANSWER
        try:
            for step in script:
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, str):
                    await asyncio.Event().wait()
                else:
                    yield step
        finally:
            self.closed += 1

    async def warm(self) -> None:
        return None

    async def aclose(self) -> None:
        return None


def rid(number: int) -> str:
    """Request ids as the ledger takes them."""
    return f"019a0000-0000-7000-8000-{number:012d}"


R1 = rid(1)
PRINCIPAL = Principal("p-1", "tenant-1", "shop", frozenset({RouterRole.SERVICE}))


def order(text: str = "What is the capital of France?", *, clock, request_id=R1, **changes) -> Order:
    given = {
        "request": ChatRequest((Message(Role.USER, (TextPart(text),)),)),
        "constraints": RoutingConstraints(),
        "principal": PRINCIPAL,
        "request_id": request_id,
        "endpoint": "route",
        "requested_model": "auto",
        "stream": False,
        "started_s": clock.monotonic(),
        "timeout_s": 30.0,
    }
    return Order(**{**given, **changes})


def healthy(clock, telemetry, store=None, worker="worker-1"):
    """The health of deployments as one worker sees it, with a store in memory behind it."""
    store = store or MemoryHealthStore(clock)
    return DeploymentHealth(store, HealthRules(), clock, telemetry, random.Random(2), worker_id=worker)


def service(provider, registry, policy, *, clock, store, spill, journal, telemetry, forecaster=None):
    health = healthy(clock, telemetry)
    providers = dict.fromkeys(ProviderKind, provider)
    rng = random.Random(1)
    writer = RecordWriter(store, spill, journal, telemetry)
    attempts = Attempts(providers, health, clock, telemetry, rng)
    shelf = Shelf(registry, policy, health, clock, forecaster)
    return RoutingService(shelf, attempts, providers, writer, clock, telemetry, rng), writer
