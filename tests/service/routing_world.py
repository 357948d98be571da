"""A router in memory: real services, twins of the stores, a provider that plays a script."""

from shared.stores.memory import ManualClock, MemoryJournal, MemoryMachine, MemoryRecordStore, MemorySpill
from shared.telemetry import RecordingTelemetry
from tests.service.routing_doubles import ScriptedProvider, order, service
from tests.unit.routing_builders import deployment, model, policy, registry

A_EU, A_US = deployment("a"), deployment("a", "us-central1", residency=frozenset({"us"}))
B_EU = deployment("b")
SHELF = registry(
    (model("a", quality=0.9), A_EU),
    (model("a", quality=0.9), A_US),
    (model("b", quality=0.5), B_EU),
    aliases={"a-latest": "a"},
)


class World:
    def __init__(self, provider=None, shelf=SHELF, *, forecaster=None, **rules):
        self.clock = ManualClock()
        self.store, self.spill = MemoryRecordStore(), MemorySpill()
        self.machine = MemoryMachine(self.clock)
        self.journal = MemoryJournal(self.machine)
        self.telemetry = RecordingTelemetry()
        self.provider = provider or ScriptedProvider()
        self.service, self.writer = service(
            self.provider,
            shelf,
            policy(**rules),
            clock=self.clock,
            store=self.store,
            spill=self.spill,
            journal=self.journal,
            telemetry=self.telemetry,
            forecaster=forecaster,
        )

    async def record(self):
        """The one record, written as the background writer writes it."""
        self.writer.start()
        await self.writer.aclose()
        assert len(self.store.by_id) == 1
        return next(iter(self.store.by_id.values()))

    def order(self, text="What is the capital of France?", **changes):
        return order(text, clock=self.clock, **changes)
