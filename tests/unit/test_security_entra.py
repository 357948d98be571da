"""Entra access tokens: what is accepted, and that nothing else is."""

import base64
import hashlib
import hmac
import json
import time

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.domain.errors import DependencyUnavailable, Unauthenticated
from shared.domain.identity import Proof, RouterRole
from shared.security.entra import EntraTokenAuthenticator
from shared.security.jwks import JsonWebKeys
from shared.stores.memory import ManualClock
from shared.stores.system import SystemClock
from tests.azure_wire import serving
from tests.token_issuer import APPLICATION, AUDIENCE, OBJECT, TENANT, Issuer

ISSUER = Issuer()


def authenticator(url, clock, **changes):
    options = {"tenant_id": TENANT, "audiences": [AUDIENCE], "scopes": ["access_as_user"]} | changes
    return EntraTokenAuthenticator(JsonWebKeys(url, clock), clock, authority=ISSUER.authority, **options)


@pytest.fixture
async def url():
    ISSUER.broken = False
    async with serving(ISSUER.serve) as url:
        yield url


@pytest.fixture
def clock():
    return ManualClock(SystemClock().now())


async def test_an_applications_own_token(url, clock):
    found = await authenticator(url, clock, service_names={APPLICATION: "shop"}).principal_of(ISSUER.token())
    assert (found.id, found.tenant_id, found.service) == (OBJECT, TENANT, "shop")
    assert found.roles == {RouterRole.SERVICE}
    assert found.proof is Proof.ENTRA_TOKEN
    assert found.expires_at is not None


async def test_a_version_1_token(url, clock):
    token = ISSUER.token(iss=f"https://sts.windows.net/{TENANT}/", azp=None, appid=APPLICATION)
    assert (await authenticator(url, clock).principal_of(token)).service == APPLICATION


async def test_a_token_that_acts_for_a_user_needs_a_scope_of_this_app(url, clock):
    here = authenticator(url, clock)
    assert (await here.principal_of(ISSUER.token(sub="pairwise", scp="openid access_as_user"))).id == OBJECT
    for claims in ({"sub": "pairwise"}, {"sub": "pairwise", "scp": "User.Read"}, {"scp": ["access_as_user"]}):
        with pytest.raises(Unauthenticated, match="scope"):
            await here.principal_of(ISSUER.token(**claims))


async def test_roles_of_other_applications_are_nothing(url, clock):
    found = await authenticator(url, clock).principal_of(ISSUER.token(roles=["Router.Admin ", "Owner"]))
    assert found.roles == frozenset()


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"aud": "api://another"}, "another audience"),
        ({"aud": ["api://another", "x"]}, "another audience"),
        ({"aud": None}, "lacks a claim"),
        ({"iss": "https://login.microsoftonline.com/other/v2.0"}, "another issuer"),
        ({"iss": None}, "another issuer|lacks a claim"),
        ({"tid": "5f1c0a9e-0000-4000-8000-000000000001"}, "another tenant"),
        ({"tid": 7}, "another tenant"),
        ({"exp": int(time.time()) - 120}, "expired"),
        ({"exp": None}, "lacks a claim"),
        ({"exp": "soon"}, "does not hold"),
        ({"nbf": int(time.time()) + 86_400}, "not valid yet"),
        ({"nbf": None}, "lacks a claim"),
        ({"azp": None}, "no application"),
        ({"azp": "a b"}, "no application"),
        ({"oid": None}, "no principal"),
        ({"oid": "x" * 200}, "no principal"),
        ({"roles": "Router.Admin"}, "no list"),
        ({"roles": [["Router.Admin"]]}, "no list"),
    ],
)
async def test_a_claim_that_does_not_fit(url, clock, claims, words):
    with pytest.raises(Unauthenticated, match=words):
        await authenticator(url, clock).principal_of(ISSUER.token(**claims))


async def test_a_minute_of_leeway(url, clock):
    token = ISSUER.token(exp=int(time.time()) - 30, nbf=int(time.time()) - 900)
    assert (await authenticator(url, clock).principal_of(token)).id == OBJECT


def _encoded(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _public_pem():
    return ISSUER.keys["key-1"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _hs256_with_the_public_key():
    """The confusion of algorithms: the public key as the secret of a symmetric signature."""
    signed = f"{_encoded({'alg': 'HS256', 'typ': 'JWT', 'kid': 'key-1'})}.{_encoded(ISSUER.claims())}"
    mac = hmac.new(_public_pem(), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


FORGED = {
    "no algorithm": lambda: f"{_encoded({'alg': 'none', 'kid': 'key-1'})}.{_encoded(ISSUER.claims())}.",
    "none in capitals": lambda: f"{_encoded({'alg': 'NONE', 'kid': 'key-1'})}.{_encoded(ISSUER.claims())}.",
    "RS256 without a signature": lambda: f"{_encoded({'alg': 'RS256', 'kid': 'key-1'})}.{_encoded(ISSUER.claims())}.",
    "the public key as a secret": _hs256_with_the_public_key,
    "a stranger's key under the known id": lambda: Issuer().token(),
    "another RSA algorithm": lambda: ISSUER.token(algorithm="RS512"),
    "a key of its own": lambda: ISSUER.token(headers={"jwk": ISSUER.key_set["keys"][0]}),
    "an address of keys": lambda: ISSUER.token(headers={"jku": "https://evil.example/keys"}),
    "a certificate's address": lambda: ISSUER.token(headers={"x5u": "https://evil.example/cert"}),
    "a key id that is no word": lambda: f"{_encoded({'alg': 'RS256', 'kid': ['key-1']})}.{_encoded({})}.c2ln",
    "no key id": lambda: f"{_encoded({'alg': 'RS256'})}.{_encoded({})}.c2ln",
    "claims that are no object": lambda: f"{_encoded({'alg': 'RS256', 'kid': 'key-1'})}.{_encoded([1])}.c2ln",
    "a header that is no object": lambda: f"{_encoded([1])}.{_encoded({})}.c2ln",
    "deep nesting": lambda: base64.urlsafe_b64encode(b"[" * 9000).decode() + ".e30.c2ln",
    "nothing": lambda: "",
    "two parts": lambda: "a.b",
    "letters beyond ASCII": lambda: "\u00e9.\u00e9.\u00e9",
    "too long": lambda: ISSUER.token(pad="x" * 20_000),
}


@pytest.mark.parametrize("kind", FORGED)
async def test_a_forged_token_is_refused_and_not_quoted(url, clock, kind):
    token = FORGED[kind]()
    with pytest.raises(Unauthenticated) as refused:
        await authenticator(url, clock).principal_of(token)
    assert not token or token not in refused.value.message
    assert refused.value.__cause__ is None


async def test_a_changed_claim_breaks_the_signature(url, clock):
    header, _, signature = ISSUER.token().split(".")
    forged = f"{header}.{_encoded(ISSUER.claims(roles=['Router.Admin']))}.{signature}"
    with pytest.raises(Unauthenticated, match="signature"):
        await authenticator(url, clock).principal_of(forged)


async def test_a_checked_token_is_not_checked_again_until_it_expires(url, clock):
    here, token = authenticator(url, clock), ISSUER.token()
    first = await here.principal_of(token)
    assert await here.principal_of(token) is first


async def test_the_issuers_new_key_is_fetched_once_and_unknown_ids_rarely(clock):
    issuer = Issuer(ISSUER.authority)
    async with serving(issuer.serve) as url:
        here = authenticator(url, clock)
        await here.principal_of(issuer.token())
        issuer.rotate("key-2")
        for key_id in ("key-2", "key-3", "key-4"):
            with pytest.raises(Unauthenticated, match="issuer does not have"):
                await here.principal_of(issuer.token(key_id=key_id))
        assert issuer.calls == 1
        clock.advance(31)
        assert (await here.principal_of(issuer.token(key_id="key-2"))).id == OBJECT
        assert issuer.calls == 2
        with pytest.raises(Unauthenticated):
            await here.principal_of(ISSUER.token(oid="another"))


async def test_known_keys_serve_on_while_the_issuer_is_away(clock):
    issuer = Issuer(ISSUER.authority)
    async with serving(issuer.serve) as url:
        here = authenticator(url, clock)
        await here.principal_of(issuer.token())
        issuer.broken = True
        clock.advance(25 * 3600)
        assert (await here.principal_of(issuer.token(oid="later", sub="later"))).id == "later"
        assert issuer.calls == 2


async def test_without_any_key_the_answer_is_to_try_again(clock):
    issuer = Issuer(ISSUER.authority)
    issuer.broken = True
    async with serving(issuer.serve) as url:
        with pytest.raises(DependencyUnavailable) as away:
            await authenticator(url, clock).principal_of(issuer.token())
    assert away.value.retry_after_s


@pytest.mark.parametrize("document", [[], {}, {"keys": {}}, {"keys": [3]}, {"keys": [{"kty": "RSA", "kid": "key-1"}]}])
async def test_a_key_set_that_is_none_gives_no_key(clock, document):
    issuer = Issuer(ISSUER.authority)
    token = issuer.token()

    class Strange(Issuer):
        key_set = document

    strange = Strange(ISSUER.authority)
    async with serving(strange.serve) as url:
        with pytest.raises(DependencyUnavailable):
            await authenticator(url, clock).principal_of(token)


@pytest.mark.parametrize("options", [{"tenant_id": ""}, {"audiences": []}])
def test_without_tenant_or_audience_nothing_can_be_checked(clock, options):
    with pytest.raises(ValueError, match="tenant and an audience"):
        authenticator("http://127.0.0.1/keys", clock, **options)
