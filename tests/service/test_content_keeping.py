"""Content of services that opted in: sealed, for a while, and only where the rules allow it."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.domain.chat import ChatRequest, MediaPart, Message, Modality, Role, TextPart, ToolCallPart
from shared.domain.errors import DependencyUnavailable, InvalidRequest, NotFound
from shared.domain.kept_content import MAX_CONTENT_BYTES, ContentKey, ContentRules, content_values
from shared.domain.policy import ServicePolicy
from shared.domain.privacy import DataSubject, SubjectKind
from shared.domain.replies import ChatReply, FinishReason, Usage
from shared.domain.security import SecurityLevel
from shared.security.content_keys import FileContentKeys
from shared.services.content_keeping import ContentKeeper
from shared.stores.memory import ManualClock
from shared.stores.memory_content import MemoryContent
from shared.stores.sealing import Seal
from shared.telemetry import RecordingTelemetry
from tests.stores_builders import record
from tests.unit.routing_builders import policy

SECRET = "the plan is called Bluebird"
REQUEST = ChatRequest((Message(Role.USER, (TextPart(SECRET),)),), system="You help.")
REPLY = ChatReply((TextPart("An answer about Bluebird."),), FinishReason.STOP, "STOP", Usage())
OPTED_IN = ServicePolicy(content=ContentRules(keep_days=7))


class Keys:
    """Versions of a key."""

    def __init__(self):
        self.versions = {"v1": b"1" * 32}
        self.newest = "v1"
        self.away = False

    async def current(self):
        if self.away:
            raise DependencyUnavailable("away")
        return ContentKey(self.newest, self.versions[self.newest])

    async def by_id(self, key_id):
        if self.away:
            raise DependencyUnavailable("away")
        secret = self.versions.get(key_id)
        return None if secret is None else ContentKey(key_id, secret)


class World:
    def __init__(self, service=OPTED_IN):
        self.clock, self.telemetry = ManualClock(), RecordingTelemetry()
        self.store, self.keys = MemoryContent(), Keys()
        rules = policy(services={"app": service})
        self.keeper = ContentKeeper(self.store, self.keys, Seal, lambda: rules, self.clock, self.telemetry)
        self.record = replace(
            record(), service_name="app", security_level="internal", start_time=self.clock.now(), tags=(("user", "1"),)
        )

    async def keep(self, request=REQUEST, reply=REPLY, **changes):
        """Keep and write, as at the end of the process."""
        kept = replace(self.record, **changes)
        self.keeper.keep(request, reply, kept)
        self.keeper.start()
        await self.keeper.aclose()
        return kept

    def count(self, name):
        return [tags for key, _, tags in self.telemetry.counts if key == name]


async def test_what_was_asked_and_answered_opens_for_the_tenant_and_lies_sealed():
    world = World()
    kept = await world.keep()
    (sealed,) = world.store.kept.values()
    assert b"Bluebird" not in sealed.sealed
    opened = await world.keeper.read(kept.tenant_id, kept.id)
    assert opened.values == content_values(REQUEST, REPLY)
    assert opened.values["messages"][0]["parts"] == [{"type": "text", "text": SECRET}]
    assert opened.content.expires_at == kept.start_time + timedelta(days=7)
    with pytest.raises(NotFound):
        await world.keeper.read("another tenant", kept.id)
    with pytest.raises(InvalidRequest, match="request_id"):
        await world.keeper.read(kept.tenant_id, "no id")


async def test_nothing_is_kept_by_default_or_above_the_level():
    for service, level in ((ServicePolicy(), "internal"), (OPTED_IN, "confidential"), (OPTED_IN, "restricted")):
        world = World(service)
        await world.keep(security_level=level)
        assert not world.store.kept
    allowed = World(ServicePolicy(content=ContentRules(1, SecurityLevel.CONFIDENTIAL)))
    await allowed.keep(security_level="confidential")
    assert allowed.store.kept


async def test_content_moved_to_another_request_does_not_open():
    world = World()
    kept = await world.keep()
    (key, sealed), other = next(iter(world.store.kept.items())), "0" * 8 + kept.id[8:]
    world.store.kept[(key[0], other)] = replace(sealed, request_id=other)
    assert (await world.keeper.read(kept.tenant_id, other)).values is None


async def test_a_new_version_of_the_key_seals_and_a_destroyed_one_takes_its_content_along():
    world = World()
    old = await world.keep()
    world.keys.versions["v2"], world.keys.newest = b"2" * 32, "v2"
    again = World()
    again.store, again.keys = world.store, world.keys
    again.keeper = ContentKeeper(
        world.store, world.keys, Seal, lambda: policy(services={"app": OPTED_IN}), world.clock, world.telemetry
    )
    new = await again.keep(id="0" * 8 + old.id[8:])
    del world.keys.versions["v1"]
    assert (await again.keeper.read(new.tenant_id, new.id)).values is not None
    assert (await again.keeper.read(old.tenant_id, old.id)).values is None


async def test_what_expired_is_gone():
    world = World()
    kept = await world.keep()
    world.clock.advance(7 * 24 * 3600 + 1)
    with pytest.raises(NotFound):
        await world.keeper.read(kept.tenant_id, kept.id)
    await world.keeper.purge()
    assert not world.store.kept


@pytest.mark.parametrize("part", ["store", "keys"])
async def test_content_is_dropped_and_counted_when_it_cannot_be_kept(part):
    world = World()
    getattr(world, part).away = True
    await world.keep()
    assert not world.store.kept
    assert {"reason": "away"} in [dict(tags) for tags in world.count("content_not_kept")]
    assert SECRET not in json.dumps(world.telemetry.events(), default=str)


async def test_hostile_sizes_and_texts_are_left_out_and_counted():
    for text, reason in (("x" * MAX_CONTENT_BYTES, "too_large"), ("\ud800", "unreadable")):
        world = World()
        await world.keep(ChatRequest((Message(Role.USER, (TextPart(text),)),)))
        assert not world.store.kept
        assert {"reason": reason} in [dict(tags) for tags in world.count("content_not_kept")]


async def test_memory_is_bounded_while_nothing_is_written():
    world = World()
    large = ChatRequest((Message(Role.USER, (TextPart("x" * (MAX_CONTENT_BYTES - 4096)),)),))
    for _ in range(40):
        world.keeper.keep(large, None, world.record)
    assert {"reason": "full"} in [dict(tags) for tags in world.count("content_not_kept")]
    assert world.keeper._pending_bytes <= 16 * 2**20


async def test_a_persons_content_is_exported_opened_and_erased():
    world = World()
    kept = await world.keep()
    whose = DataSubject(kept.tenant_id, SubjectKind.TAG, "1", "user")
    page = await world.keeper.export(whose, "", 10)
    assert [row["content"]["values"] for row in page.rows] == [content_values(REQUEST, REPLY)]
    assert page.cursor is None
    first = await world.keeper.export(whose, "", 1)
    assert (await world.keeper.export(whose, first.cursor, 1)).rows == []
    with pytest.raises(InvalidRequest, match="cursor"):
        await world.keeper.export(whose, "no cursor", 10)


def test_media_are_kept_by_kind_and_size_only():
    media = MediaPart(Modality.IMAGE, "image/png", data=b"12345")
    call = ToolCallPart("1", "look", '{"a": 1}')
    values = content_values(ChatRequest((Message(Role.USER, (media, call)),)), None)
    assert values["messages"][0]["parts"] == [
        {"type": "image", "mime_type": "image/png", "bytes": 5},
        {"type": "tool_call", "name": "look", "arguments": '{"a": 1}'},
    ]
    assert values["answer"] is None


async def test_workers_that_start_together_share_one_local_key(tmp_path):
    path = tmp_path / "new" / "content.key"
    keys = await asyncio.gather(*(FileContentKeys(path).current() for _ in range(8)))
    assert len(set(keys)) == 1
    assert path.stat().st_mode & 0o077 == 0
    path.write_text("no key")
    with pytest.raises(DependencyUnavailable):
        await FileContentKeys(path).current()
