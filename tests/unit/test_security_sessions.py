"""Session tokens, the keys behind them, and the chain of proofs."""

import asyncio
from datetime import timedelta

import jwt
import pytest
from aiohttp import web
from azure.keyvault.secrets.aio import SecretClient

from shared.domain.errors import DependencyUnavailable, Unauthenticated
from shared.domain.identity import Principal, Proof, RouterRole
from shared.domain.sessions import signing_key_at
from shared.security.chain import ChainAuthenticator
from shared.security.easy_auth import EasyAuthAuthenticator
from shared.security.session_tokens import ALGORITHM, ISSUER, LIFETIME_S, SessionTokens
from shared.security.signing_keys import FileSigningKeys, KeyVaultSigningKeys, from_json, new_key, rotated_keys, to_json
from shared.stores.memory import ManualClock
from shared.stores.system import SystemClock
from tests.azure_wire import LocalTransport, StaticCredential, serving
from tests.principals import TENANT, principal_header

CALLER = Principal("p-1", TENANT, "shop", frozenset({RouterRole.SERVICE, RouterRole.ANALYST}))
SESSION = "0123456789abcdef0123456789abcdef"


class Keys:
    """Signing keys in memory."""

    def __init__(self, *keys):
        self.keys = keys

    async def all(self):
        if not self.keys:
            raise DependencyUnavailable("no keys")
        return self.keys

    async def rotate(self):
        return False


@pytest.fixture
def clock():
    return ManualClock(SystemClock().now())


@pytest.fixture
def keys(clock):
    return Keys(new_key(clock.now() - timedelta(days=1)))


@pytest.fixture
def tokens(keys, clock):
    return SessionTokens(keys, clock)


async def signed(tokens, clock, **hours):
    return (await tokens.sign(CALLER, SESSION, ends=clock.now() + timedelta(**(hours or {"hours": 12}))))[0]


async def test_a_session_token_proves_what_it_was_signed_for(tokens, clock):
    token, expires_at = await tokens.sign(CALLER, SESSION, ends=clock.now() + timedelta(hours=12))
    found = await tokens.principal_of(token)
    assert (found.id, found.tenant_id, found.service, found.roles) == ("p-1", TENANT, "shop", CALLER.roles)
    assert (found.proof, found.session_id) == (Proof.SESSION_TOKEN, SESSION)
    assert found.expires_at == expires_at.replace(microsecond=0)
    assert (expires_at - clock.now()).total_seconds() == LIFETIME_S


async def test_no_token_outlives_its_session(tokens, clock):
    ends = clock.now() + timedelta(minutes=3)
    assert (await tokens.sign(CALLER, SESSION, ends=ends))[1] == ends


async def test_others_can_check_tokens_by_the_published_keys(tokens, clock):
    token = await signed(tokens, clock)
    (entry,) = (await tokens.public_keys())["keys"]
    assert "d" not in entry
    assert jwt.get_unverified_header(token)["kid"] == entry["kid"]
    assert jwt.decode(token, jwt.PyJWK(entry), algorithms=[ALGORITHM], audience=ISSUER)["sub"] == "p-1"


@pytest.mark.parametrize(
    "change",
    [{"iss": "another"}, {"aud": "another"}, {"sub": "a b"}, {"tid": ""}, {"svc": 3}, {"sid": None}, {"exp": 1}],
    ids=lambda change: next(iter(change)),
)
async def test_a_token_with_other_claims_is_refused(keys, tokens, clock, change):
    token = await signed(tokens, clock)
    claims = jwt.decode(token, options={"verify_signature": False}) | change
    forged = jwt.encode(claims, keys.keys[0].private_pem, algorithm=ALGORITHM, headers={"kid": keys.keys[0].id})
    with pytest.raises(Unauthenticated):
        await tokens.principal_of(forged)


async def test_a_token_of_a_strangers_key_is_refused(tokens, clock):
    stranger = new_key(clock.now() - timedelta(days=1))
    foreign = await signed(SessionTokens(Keys(stranger), clock), clock)
    with pytest.raises(Unauthenticated, match="not the router's"):
        await tokens.principal_of(foreign)
    with pytest.raises(Unauthenticated, match="too long"):
        await tokens.principal_of("x" * 5000)


async def test_tokens_of_the_old_key_hold_while_the_new_one_signs(clock):
    old = new_key(clock.now() - timedelta(days=31))
    tokens = SessionTokens(Keys(old), clock)
    before = await signed(tokens, clock)
    keys = rotated_keys((old,), clock.now())
    assert len(keys) == 2
    assert signing_key_at(keys, clock.now()) is old
    clock.advance(16 * 60)
    assert signing_key_at(keys, clock.now()) is keys[1]
    rotated = SessionTokens(Keys(*keys), clock)
    assert (await rotated.principal_of(before)).id == "p-1"
    assert jwt.get_unverified_header(await signed(rotated, clock))["kid"] == keys[1].id


def test_rotation_is_quiet_until_due_and_drops_only_what_no_token_needs(clock):
    (first,) = rotated_keys((), clock.now())
    assert first.not_before == clock.now()
    assert rotated_keys((first,), clock.now() + timedelta(days=29)) == (first,)
    both = rotated_keys((first,), clock.now() + timedelta(days=30))
    just_started = both[1].not_before + timedelta(hours=1)
    assert rotated_keys(both, just_started) == both
    assert rotated_keys(both, just_started + timedelta(hours=2)) == both[1:]


def test_a_key_document_is_read_back_and_anything_else_refused(clock):
    keys = (new_key(clock.now()), new_key(clock.now()))
    assert from_json(to_json(keys)) == keys
    for text in ("", "[]", '{"keys": [{}]}', '{"keys": 3}', '{"keys": [{"id": 1, "private_pem": 2, "not_before": 3}]}'):
        with pytest.raises(ValueError, match=r"^no document of signing keys$"):
            from_json(text)


async def test_workers_that_start_together_share_one_key_file(tmp_path, clock):
    path = tmp_path / "state" / "keys.json"
    found = await asyncio.gather(*(FileSigningKeys(path, clock).all() for _ in range(8)))
    assert len({keys[0].id for keys in found}) == 1
    assert path.stat().st_mode & 0o077 == 0
    assert list(path.parent.iterdir()) == [path]
    assert await FileSigningKeys(path, clock).rotate() is False


async def test_a_spoiled_key_file_is_an_unavailable_dependency(tmp_path, clock):
    path = tmp_path / "keys.json"
    path.write_text("spoiled")
    with pytest.raises(DependencyUnavailable):
        await FileSigningKeys(path, clock).all()


# --- Key Vault, at the wire ------------------------------------------------------------------------------------------


CHALLENGE = 'Bearer authorization="https://login.microsoftonline.com/t", resource="https://vault.azure.net"'


class Vault:
    """The secret of a vault."""

    def __init__(self):
        self.value = None
        self.away = False
        self.calls = 0

    async def serve(self, request):
        self.calls += 1
        if self.away:
            return web.Response(status=503)
        if "Authorization" not in request.headers:
            return web.json_response({}, status=401, headers={"www-authenticate": CHALLENGE})
        if request.method == "PUT":
            self.value = (await request.json())["value"]
        if self.value is None:
            return web.json_response({"error": {"code": "SecretNotFound", "message": "none"}}, status=404)
        return web.json_response({"value": self.value, "id": "https://v.vault.azure.net/secrets/router-signing-keys/1"})


@pytest.fixture
def vault():
    return Vault()


@pytest.fixture
async def vault_keys(vault, clock):
    async with (
        serving(vault.serve) as base,
        SecretClient(
            "https://v.vault.azure.net", StaticCredential(), transport=LocalTransport(base), retry_total=0
        ) as client,
    ):
        yield KeyVaultSigningKeys(client, clock)


async def test_the_vaults_keys_are_made_by_the_timer_and_read_every_five_minutes(vault, vault_keys, clock):
    with pytest.raises(DependencyUnavailable):
        await vault_keys.all()
    assert await vault_keys.rotate() is True
    assert await vault_keys.rotate() is False
    (key,) = await vault_keys.all()
    calls = vault.calls
    clock.advance(299)
    assert await vault_keys.all() == (key,)
    assert vault.calls == calls
    vault.value = to_json((key, new_key(clock.now())))
    clock.advance(2)
    assert len(await vault_keys.all()) == 2


async def test_known_keys_serve_on_while_the_vault_is_away(vault, vault_keys, clock):
    await vault_keys.rotate()
    known = await vault_keys.all()
    vault.away = True
    clock.advance(3600)
    assert await vault_keys.all() == known
    with pytest.raises(DependencyUnavailable):
        await vault_keys.rotate()


async def test_a_spoiled_secret_changes_nothing(vault, vault_keys, clock):
    await vault_keys.rotate()
    known = await vault_keys.all()
    vault.value = "spoiled"
    clock.advance(3600)
    assert await vault_keys.all() == known


# --- the chain -------------------------------------------------------------------------------------------------------


class Entra:
    """Says of every token that it is this principal's."""

    def __init__(self, principal):
        self.principal = principal

    async def principal_of(self, token):
        if token != "entra":
            raise Unauthenticated("no")
        return self.principal


PLATFORM = EasyAuthAuthenticator(enabled=True, tenant_id=TENANT)


async def test_without_any_proof_nobody_is_anybody(tokens):
    for chain in (ChainAuthenticator(), ChainAuthenticator(platform=PLATFORM, entra=Entra(CALLER), sessions=tokens)):
        for headers in ({}, {"authorization": ""}, {"x-router-token": ""}):
            with pytest.raises(Unauthenticated):
                await chain.authenticate(headers)


@pytest.mark.parametrize("authorization", ["Bearer", "Bearer ", "Basic dTpw", "entra", "Bearer other", "bearer  "])
async def test_other_words_than_bearer_and_a_token_are_refused(tokens, authorization):
    with pytest.raises(Unauthenticated):
        await ChainAuthenticator(entra=Entra(CALLER), sessions=tokens).authenticate({"authorization": authorization})


async def test_the_platforms_header_is_refused_while_the_platform_is_off(tokens):
    chain = ChainAuthenticator(entra=Entra(CALLER), sessions=tokens)
    with pytest.raises(Unauthenticated, match="is off"):
        await chain.authenticate({**principal_header(), "authorization": "Bearer entra"})


async def test_behind_the_platform_the_authorization_header_is_not_looked_at():
    chain = ChainAuthenticator(platform=PLATFORM, entra=Entra(CALLER))
    found = await chain.authenticate({**principal_header(), "authorization": "Bearer of-the-platform"})
    assert (found.proof, found.service) == (Proof.EASY_AUTH, "app-1")


async def test_a_session_token_comes_in_either_header(tokens, clock):
    chain, token = ChainAuthenticator(sessions=tokens), await signed(tokens, clock)
    for headers in ({"authorization": f"Bearer {token}"}, {"x-router-token": token}):
        assert (await chain.authenticate(headers)).session_id == SESSION
    with pytest.raises(Unauthenticated, match="not accepted"):
        await ChainAuthenticator(entra=Entra(CALLER)).authenticate({"x-router-token": token})
    with pytest.raises(Unauthenticated, match="not accepted"):
        await chain.authenticate({"authorization": "Bearer entra"})


async def test_two_proofs_must_name_one_caller_and_grant_what_both_grant(tokens, clock):
    token = await signed(tokens, clock)
    narrow = Principal("p-1", TENANT, "shop", frozenset({RouterRole.SERVICE, RouterRole.ADMIN}))
    headers = {"authorization": "Bearer entra", "x-router-token": token}
    found = await ChainAuthenticator(entra=Entra(narrow), sessions=tokens).authenticate(headers)
    assert found.roles == {RouterRole.SERVICE}
    assert found.session_id == SESSION
    for other in (
        Principal("p-2", TENANT, "shop", CALLER.roles),
        Principal("p-1", "another", "shop", CALLER.roles),
        Principal("p-1", TENANT, "another", CALLER.roles),
    ):
        with pytest.raises(Unauthenticated, match="different callers"):
            await ChainAuthenticator(entra=Entra(other), sessions=tokens).authenticate(headers)
