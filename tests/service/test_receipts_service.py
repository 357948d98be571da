"""Receipts from the request to their proof, with real services on in-memory stores."""

import asyncio
import json
import random
from dataclasses import replace
from typing import Any

import pytest

from shared.config import REGISTRY_DIRECTORY
from shared.domain.errors import DependencyUnavailable, NoEligibleModel, NotFound
from shared.domain.health import CallOutcome
from shared.domain.models import ProviderKind, Registry
from shared.domain.policy import Policy, RoutingConstraints
from shared.domain.receipts import ReceiptRow
from shared.domain.records import RequestStatus
from shared.domain.security import SecurityLevel
from shared.domain.tombstones import link_hash
from shared.scoring import receipt as receipts
from shared.scoring.receipt import ENGINE, digest_of
from shared.services.attempts import Attempts
from shared.services.configuration_keeping import ConfigurationKeeper
from shared.services.receipts import REACH, ReceiptService
from shared.services.recording import RecordWriter
from shared.services.routing import RoutingService
from shared.services.shelf import Shelf
from shared.stores.memory import ManualClock, MemoryJournal, MemoryMachine, MemoryRecordStore, MemorySpill
from shared.stores.memory_receipts import MemoryConfigurationArchive
from shared.stores.registry_files import load_policy, load_registry, parse_kept
from shared.telemetry import RecordingTelemetry
from tests.service.routing_doubles import PRINCIPAL, ScriptedProvider, healthy, order, rid
from tests.unit.routing_builders import NOW, deployment, model, policy, registry

SHIPPED = load_registry(REGISTRY_DIRECTORY)
RULES = load_policy(REGISTRY_DIRECTORY, registry=SHIPPED)
TENANT = PRINCIPAL.tenant_id
SECRET = "the launch code is 4711, write to jane.roe@acme.com"


class World:
    """A router with its ledger; `restarted` is the same ledger in a new process with another configuration."""

    def __init__(self, shelf: Registry = SHIPPED, rules: Policy = RULES, before: "World | None" = None) -> None:
        self.clock = ManualClock(NOW)
        self.store = before.store if before else MemoryRecordStore()
        self.archive = before.archive if before else MemoryConfigurationArchive()
        self.machine, self.spill = MemoryMachine(self.clock), MemorySpill()
        self.telemetry, self.provider = RecordingTelemetry(), ScriptedProvider()
        self.journal = MemoryJournal(self.machine)
        self.health = healthy(self.clock, self.telemetry)
        self.shelf = Shelf(shelf, rules, self.health, self.clock)
        self.writer = RecordWriter(self.store, self.spill, self.journal, self.telemetry)
        self.keeper = ConfigurationKeeper(self.archive, self.telemetry)
        providers, rng = dict.fromkeys(ProviderKind, self.provider), random.Random(3)
        attempts = Attempts(providers, self.health, self.clock, self.telemetry, rng)
        self.routing = RoutingService(
            self.shelf, attempts, providers, self.writer, self.clock, self.telemetry, rng, self.keeper
        )
        self.receipts = ReceiptService(
            self.store.receipts, self.archive, parse_kept, self.shelf, self.clock, self.telemetry
        )

    def order(self, number: int = 1, text: str = "What is the capital of France?", **changes: Any) -> Any:
        return order(text, clock=self.clock, request_id=rid(number), **changes)

    async def close(self) -> None:
        """Everything behind the answers is done."""
        self.writer.start()
        await self.writer.aclose()
        await self.keeper.aclose()

    async def served(self, count: int = 1, **changes: Any) -> None:
        for number in range(1, count + 1):
            await self.routing.answer(self.order(number, **changes))
        await self.close()

    @property
    def rows(self) -> list[ReceiptRow]:
        return next(iter(self.store.receipts.rows.values()))

    def tamper(self, sequence: int, **changes: Any) -> None:
        self.rows[sequence - 1] = replace(self.rows[sequence - 1], **changes)


async def test_a_receipt_shows_what_was_decided_by_deciding_again() -> None:
    world = World(rules=replace(RULES, exploration=0.5, temperature=0.2))
    for deployment_id in [d.id for d in SHIPPED.deployments][:9]:
        world.health.started(deployment_id)
        world.health.ended(deployment_id, CallOutcome(deployment_id.startswith("g"), 500.0, 123.4))
    answer = await world.routing.answer(world.order(tags=(("team", "x"),)))
    await world.close()

    again = await world.receipts.show(rid(1), tenant_id=TENANT)

    assert again.made is not None
    assert again.made.decision == answer.decision
    assert again.digest_matches is True
    assert again.reasons == ()
    assert again.outcome == {
        "attempts": [[answer.decision.chosen.deployment.id, "success", str(answer.cost_usd)]],
        "cost_usd": str(answer.cost_usd),
        "deployment": answer.decision.chosen.deployment.id,
        "status": "success",
    }
    assert (await world.receipts.verify(rid(1), tenant_id=TENANT)).valid


async def test_no_content_reaches_a_receipt() -> None:
    world = World()
    await world.served(text=SECRET)
    assert '"email"' in world.rows[0].body
    for word in ("launch", "4711", "jane", "acme"):
        assert word not in world.rows[0].body


async def test_a_receipt_is_its_own_tenants() -> None:
    world = World()
    await world.served()
    for call in (world.receipts.show, world.receipts.verify):
        with pytest.raises(NotFound):
            await call(rid(1), tenant_id="tenant-2")
        with pytest.raises(NotFound):
            await call(rid(2), tenant_id=TENANT)


async def test_a_refusal_has_a_receipt_too() -> None:
    world = World()
    nobody = RoutingConstraints(allow_models=frozenset({"nobody"}))
    with pytest.raises(NoEligibleModel):
        await world.routing.answer(world.order(constraints=nobody))
    await world.close()

    again = await world.receipts.show(rid(1), tenant_id=TENANT)

    assert again.receipt is not None
    assert again.receipt.chosen is None
    assert again.made is not None
    assert again.made.decision is None
    assert len(again.made.rejections) == len(SHIPPED.deployments)
    assert again.outcome is not None
    assert again.outcome["status"] == RequestStatus.ERROR
    assert (await world.receipts.verify(rid(1), tenant_id=TENANT)).valid


async def test_what_wire_forms_could_not_carry_is_repeated_without_asking_them() -> None:
    world = World()
    world.provider.refuses = "top_k"
    with pytest.raises(NoEligibleModel):
        await world.routing.answer(world.order())
    world.provider.refuses = None
    await world.close()

    again = await world.receipts.show(rid(1), tenant_id=TENANT)

    assert again.made is not None
    assert any(r.reason == "provider_limit" and "wire form" in r.detail for r in again.made.rejections)
    assert again.digest_matches


async def test_an_old_receipt_is_repeated_with_the_configuration_of_its_time() -> None:
    before = World()
    await before.served()
    cheap = load_policy(REGISTRY_DIRECTORY, registry=SHIPPED)
    now = World(rules=replace(cheap, version="next", default_preset="cost"), before=before)

    for _ in range(2):
        verification = await now.receipts.verify(rid(1), tenant_id=TENANT)
        assert (verification.valid, verification.reasons) == (True, ())
    assert set(before.archive.documents) == {("registry", SHIPPED.version), ("policy", RULES.version)}


async def test_without_the_configuration_of_its_time_a_receipt_is_not_proven() -> None:
    before = World()
    await before.served()
    now = World(rules=replace(RULES, version="next"), before=before)
    documents = before.archive.documents
    kept = documents.pop(("policy", RULES.version))

    verification = await now.receipts.verify(rid(1), tenant_id=TENANT)
    assert (verification.valid, verification.digest_matches, verification.chain.intact) == (False, None, True)
    assert verification.reasons == ("the configuration of that time is not in the archive",)

    documents["policy", RULES.version] = "{"
    assert "cannot be read" in (await now.receipts.verify(rid(1), tenant_id=TENANT)).reasons[0]
    documents["policy", RULES.version] = kept.replace('"max_attempts":5', '"max_attempts":4')
    assert "not the one" in (await now.receipts.verify(rid(1), tenant_id=TENANT)).reasons[0]


def _forged(row: ReceiptRow, old: str, new: str) -> dict[str, Any]:
    """The changes of somebody who also makes the hash fit."""
    body = row.body.replace(old, new, 1)
    assert body != row.body
    return {"body": body, "hash": link_hash(row.previous_hash, body)}


async def test_another_question_comes_out_otherwise_even_when_its_hash_was_made_to_fit() -> None:
    world = World()
    await world.served()
    body = json.loads(world.rows[0].body)
    tokens = body["decision"]["question"]["features"]["expected_output_tokens"]
    world.tamper(1, **_forged(world.rows[0], f'"expected_output_tokens":{tokens}', '"expected_output_tokens":90000'))

    verification = await world.receipts.verify(rid(1), tenant_id=TENANT)

    assert (verification.valid, verification.digest_matches) == (False, False)
    assert verification.reasons[0] == "the decision comes out otherwise"
    assert not verification.chain.intact  # the head still knows


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"draw":', '"draft":', "cannot be read"),
        ('"v":1', '"v":9', "cannot be read"),
        ('"outcome":', '"outrage":', "cannot be read"),
        ('"at":"2026-11-23T12:00:00+00:00"', '"at":"2026-11-23T12:00:00"', "cannot be repeated"),
    ],
)
async def test_a_receipt_altered_beyond_reading_is_told_as_such(old: str, new: str, reason: str) -> None:
    world = World()
    await world.served()
    world.tamper(1, **_forged(world.rows[0], old, new))

    verification = await world.receipts.verify(rid(1), tenant_id=TENANT)

    assert (verification.valid, verification.digest_matches) == (False, None)
    assert reason in verification.reasons[0]
    shown = await world.receipts.show(rid(1), tenant_id=TENANT)
    assert (shown.made, shown.changes) == (None, ())


async def test_a_deleted_neighbour_shows_where_it_stood() -> None:
    world = World()
    await world.served(5)
    del world.rows[2]

    verification = await world.receipts.verify(rid(1), tenant_id=TENANT)

    assert (verification.valid, verification.digest_matches) == (False, True)
    assert (verification.chain.broken_at, verification.reasons) == (3, ("row 3: it is missing",))


async def test_a_long_chain_is_walked_within_reach() -> None:
    world = World()
    await world.served(2 * REACH + 20)
    middle = world.rows[REACH + 9]

    check = (await world.receipts.verify(middle.request_id, tenant_id=TENANT)).chain

    assert (check.intact, check.first, check.last) == (True, 10, 2 * REACH + 10)


async def test_another_engine_is_named_when_things_come_out_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    with monkeypatch.context() as older:
        older.setattr(receipts, "ENGINE", "0")
        older.setattr(receipts, "digest_of", lambda made, dump: digest_of(made, dump)[::-1])
        await world.served()

    verification = await world.receipts.verify(rid(1), tenant_id=TENANT)

    assert verification.reasons == (f"the decision comes out otherwise (it was made by engine 0, this is {ENGINE})",)


async def test_a_question_that_was_too_large_to_keep_is_said_to_be_so() -> None:
    world = World()
    await world.served(tags=tuple((f"{number:02}", "\x01" * 500) for number in range(30)))

    verification = await world.receipts.verify(rid(1), tenant_id=TENANT)

    assert (verification.valid, verification.chain.intact) == (False, True)
    assert "too_large" in verification.reasons[0]
    shown = await world.receipts.show(rid(1), tenant_id=TENANT)
    assert shown.receipt is not None
    assert shown.receipt.chosen == world.provider.calls[0].deployment.id


async def test_no_answer_fails_for_its_receipt() -> None:
    world = World()
    answer = await world.routing.answer(world.order(tags=(("half", "\ud800"),)))
    await world.close()
    assert answer.record.status is RequestStatus.SUCCESS
    assert world.store.receipts.rows == {}
    assert world.telemetry.counted("receipts_lost") == 1


async def test_a_stream_has_a_receipt() -> None:
    world = World()
    stream = await world.routing.open_stream(world.order(stream=True))
    assert [event async for event in stream.events()]
    await world.close()
    assert (await world.receipts.verify(rid(1), tenant_id=TENANT)).valid


async def test_a_preview_explains_and_leaves_nothing_behind() -> None:
    world = World()
    preview = await world.routing.preview(world.order())
    assert preview.decision.chosen.propensity == 1.0
    assert len(preview.digest) == 64
    assert preview.changes[0].size <= preview.changes[-1].size
    await world.close()
    assert (world.store.by_id, world.store.receipts.rows, world.provider.calls) == ({}, {}, [])
    with pytest.raises(NoEligibleModel):
        await world.routing.preview(world.order(constraints=RoutingConstraints(label=SecurityLevel.RESTRICTED)))


async def test_the_ledger_away_is_said_and_a_spilled_receipt_is_chained_later() -> None:
    world = World()
    world.store.away = world.store.receipts.away = True
    await world.served()
    with pytest.raises(DependencyUnavailable):
        await world.receipts.show(rid(1), tenant_id=TENANT)

    world.store.away = world.store.receipts.away = False
    assert await world.writer.insert(world.spill.take()) == 1
    assert (await world.receipts.verify(rid(1), tenant_id=TENANT)).valid


async def test_a_receipt_survives_its_process() -> None:
    world = World()
    await world.routing.answer(world.order())
    world.journal.die()
    heir = RecordWriter(world.store, world.spill, MemoryJournal(world.machine), world.telemetry)

    assert await heir.recover() == 1

    assert (await world.receipts.verify(rid(1), tenant_id=TENANT)).valid


async def test_the_heads_of_chains_are_logged_when_they_have_grown() -> None:
    world = World()
    await world.served(2)
    assert await world.receipts.note_heads() == 1
    assert await world.receipts.note_heads() == 0
    await world.routing.answer(world.order(3))
    await world.close()
    assert await world.receipts.note_heads() == 1
    assert world.telemetry.events()["receipt_chain_head"] == [
        {"chain": row.chain, "sequence": row.sequence, "hash": row.hash.hex()} for row in world.rows[1:]
    ]
    world.clock.advance(40 * 86_400)
    assert await world.receipts.note_heads() == 0


# The keeper


async def test_a_configuration_is_kept_once_whatever_is_decided_with_it() -> None:
    world = World()
    await world.served(3)
    assert len(world.archive.documents) == 2
    registry_document = world.archive.documents["registry", SHIPPED.version]
    assert parse_kept(registry_document, world.archive.documents["policy", RULES.version]) == (SHIPPED, RULES)


async def test_the_keeper_tries_until_the_archive_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.archive.away = True
    slept: list[float] = []
    sleep = asyncio.sleep

    async def pause(seconds: float) -> None:
        slept.append(seconds)
        world.archive.away = len(slept) < 3
        await sleep(0)

    monkeypatch.setattr("shared.services.configuration_keeping.asyncio.sleep", pause)
    world.keeper.start()
    world.keeper.note(SHIPPED, RULES)
    async with asyncio.timeout(10):
        while len(world.archive.documents) < 2:
            await sleep(0)
    await world.keeper.aclose()
    assert len(slept) == 3


async def test_a_document_that_no_archive_takes_holds_up_no_other() -> None:
    world = World()
    world.keeper.note(replace(SHIPPED, version="not its hash"), RULES)
    await world.keeper.aclose()
    assert set(world.archive.documents) == {("policy", RULES.version)}
    assert list(world.telemetry.events()) == ["configuration_refused"]


async def test_an_archive_that_stays_away_does_not_hold_up_the_end() -> None:
    world = World()
    world.archive.away = True
    world.keeper.start()
    world.keeper.note(SHIPPED, RULES)
    await world.keeper.aclose()
    assert world.archive.documents == {}


async def test_configurations_without_a_document_are_not_kept() -> None:
    world = World(shelf=registry((model(), deployment())), rules=policy())
    await world.served()
    assert world.archive.documents == {}
    assert (await world.receipts.verify(rid(1), tenant_id=TENANT)).valid
