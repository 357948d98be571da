"""Keys of kept content in Key Vault, at the wire."""

import base64

import pytest
from aiohttp import web
from azure.keyvault.secrets.aio import SecretClient

from shared.domain.errors import DependencyUnavailable
from shared.security.content_keys import KeyVaultContentKeys
from shared.stores.memory import ManualClock
from tests.azure_wire import LocalTransport, StaticCredential, serving

CHALLENGE = 'Bearer authorization="https://login.microsoftonline.com/t", resource="https://vault.azure.net"'


class Vault:
    """A secret with versions, the newest last."""

    def __init__(self):
        self.versions = {}
        self.away = False
        self.calls = 0

    async def serve(self, request):
        self.calls += 1
        if self.away:
            return web.Response(status=503)
        if "Authorization" not in request.headers:
            return web.json_response({}, status=401, headers={"www-authenticate": CHALLENGE})
        name, _, version = request.path.removeprefix("/secrets/").strip("/").partition("/")
        assert name == "router-content-key"
        version = version or next(reversed(self.versions), "")
        if version not in self.versions:
            return web.json_response({"error": {"code": "SecretNotFound", "message": "none"}}, status=404)
        where = f"https://v.vault.azure.net/secrets/{name}/{version}"
        return web.json_response({"value": self.versions[version], "id": where})


def text_of(byte):
    return base64.b64encode(byte * 32).decode()


@pytest.fixture
def vault():
    return Vault()


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
async def keys(vault, clock):
    async with (
        serving(vault.serve) as base,
        SecretClient(
            "https://v.vault.azure.net", StaticCredential(), transport=LocalTransport(base), retry_total=0
        ) as client,
    ):
        yield KeyVaultContentKeys(client, clock)


async def test_a_new_version_seals_within_five_minutes_and_the_old_one_still_opens(vault, keys, clock):
    vault.versions["one"] = text_of(b"1")
    assert (await keys.current()).secret == b"1" * 32
    vault.versions["two"] = text_of(b"2")
    assert (await keys.current()).id == "one"
    clock.advance(301)
    assert (await keys.current()).id == "two"
    assert (await keys.by_id("one")).secret == b"1" * 32
    calls = vault.calls
    await keys.by_id("one")
    assert vault.calls == calls
    assert await keys.by_id("purged") is None


async def test_the_last_known_key_seals_on_while_the_vault_is_away(vault, keys, clock):
    vault.versions["one"] = text_of(b"1")
    known = await keys.current()
    vault.away = True
    clock.advance(3600)
    assert await keys.current() == known
    with pytest.raises(DependencyUnavailable):
        await keys.by_id("another")


@pytest.mark.parametrize("value", [None, "no Base64!", base64.b64encode(b"short").decode()])
async def test_without_a_key_nothing_is_sealed(vault, keys, value):
    if value is not None:
        vault.versions["one"] = value
    with pytest.raises(DependencyUnavailable):
        await keys.current()
