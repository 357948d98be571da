"""The sign-in endpoints, and 10,000 sets of hostile headers at the door."""

import base64
import json
import random
from dataclasses import replace
from datetime import timedelta

import pytest
from aiohttp import web

from functions._headers import caller_address
from functions.http import ROUTES
from shared.container import Identity
from shared.security.chain import ChainAuthenticator
from shared.security.easy_auth import EasyAuthAuthenticator
from shared.security.entra import EntraTokenAuthenticator
from shared.security.entra_login import EntraCredentialCheck
from shared.security.jwks import JsonWebKeys
from shared.security.session_tokens import SessionTokens
from shared.security.signing_keys import new_key
from shared.services.sessions import SessionService
from shared.stores.login_guard import MemoryLoginGuard
from shared.stores.memory import ManualClock
from shared.stores.session_families import MemorySessionFamilies
from shared.stores.system import SystemClock
from tests.azure_wire import LocalTransport, serving
from tests.edge.edge_harness import Caller, Edge
from tests.principals import principal_header
from tests.token_issuer import APPLICATION, AUDIENCE, TENANT, Issuer

SECRET = "s3cret-of-the-application"
BY_NAME = {route.name: route for route in ROUTES}
JSON = {"content-type": "application/json"}


class Entra(Issuer):
    """Its token endpoint beside its keys."""

    status = 200

    async def serve(self, request):
        if not request.path.endswith("/token"):
            return await super().serve(request)
        form = await request.post()
        if self.status != 200:
            return web.json_response({"error": "temporarily_unavailable"}, status=self.status)
        if form["client_secret"] != SECRET:
            return web.json_response({"error": "invalid_client", "error_description": "AADSTS7000215"}, status=401)
        assert form["scope"] == f"{AUDIENCE}/.default"
        token = self.token(azp=form["client_id"], roles=["Router.Service", "Router.Analyst"])
        return web.json_response({"token_type": "Bearer", "expires_in": 3599, "access_token": token})


class Keys:
    def __init__(self, clock):
        self.keys = (new_key(clock.now() - timedelta(days=1)),)

    async def all(self):
        return self.keys


class SignedEdge(Edge):
    """An edge that accepts Entra tokens and gives sessions."""

    def __init__(self, entra, base):
        super().__init__()
        clock = ManualClock(SystemClock().now())
        tokens = SessionTokens(Keys(clock), clock)
        entra_tokens = EntraTokenAuthenticator(
            JsonWebKeys(f"{base}/keys", clock),
            clock,
            tenant_id=TENANT,
            audiences=[AUDIENCE],
            scopes=["access_as_user"],
            authority=entra.authority,
        )
        check = EntraCredentialCheck(
            entra_tokens,
            tenant_id=TENANT,
            audience=AUDIENCE,
            authority="https://login.microsoftonline.com",
            transport=LocalTransport(base),
        )
        sessions = SessionService(check, tokens, MemorySessionFamilies(), MemoryLoginGuard(), clock, self.telemetry)
        chain = ChainAuthenticator(entra=entra_tokens, sessions=tokens)
        self.container = replace(self.container, clock=clock, authenticator=chain, identity=Identity(tokens, sessions))


@pytest.fixture
async def entra():
    return Entra("https://login.microsoftonline.com")


@pytest.fixture
async def edge(entra, monkeypatch):
    async with serving(entra.serve) as base:
        signed = SignedEdge(entra, base)
        monkeypatch.setattr("shared.container._override", signed.container)
        yield signed


def credentials(**changes):
    return {"client_id": APPLICATION, "client_secret": SECRET} | changes


async def knock(edge, name, body=None, **headers):
    caller = None if body is None else Caller([json.dumps(body).encode()])
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return (
        await edge.knock(BY_NAME[name], caller, headers={**JSON, **sent})
        if caller
        else await edge.knock(BY_NAME[name], headers=sent)
    )


async def test_a_service_signs_in_refreshes_and_signs_out(edge):
    grant = (await knock(edge, "login", credentials())).json
    assert (grant["token_type"], grant["expires_in"]) == ("Bearer", 900)
    assert grant["principal"]["service"] == APPLICATION
    valid = (await knock(edge, "validate", authorization=f"Bearer {grant['access_token']}")).json
    assert (valid["active"], valid["proof"]) == (True, "session_token")
    assert valid["principal"] == grant["principal"]
    assert "router.invoke" in valid["principal"]["permissions"]
    again = (await knock(edge, "refresh", {"refresh_token": grant["refresh_token"]})).json
    assert again["refresh_token"] != grant["refresh_token"]
    ended = await knock(edge, "logout", {}, x_router_token=again["access_token"])
    assert ended.json == {"ended": True}
    gone = await knock(edge, "refresh", {"refresh_token": again["refresh_token"]})
    assert (gone.status, gone.error["code"]) == (401, "unauthenticated")


async def test_an_entra_token_signs_in_too(edge, entra):
    grant = await knock(edge, "login", {"grant_type": "entra_token", "token": entra.token()})
    assert grant.status == 200
    assert grant.headers["cache-control"] == "no-store"


async def test_a_wrong_secret_is_refused_without_a_word_about_which_part(edge):
    answer = await knock(edge, "login", credentials(client_secret="wrong-secret"))
    assert (answer.status, answer.error["code"]) == (401, "unauthenticated")
    assert "wrong-secret" not in json.dumps(answer.json)
    assert "AADSTS" not in json.dumps(answer.json)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_entras_own_trouble_is_503(edge, entra, status):
    entra.status = status
    answer = await knock(edge, "login", credentials())
    assert answer.status == 503
    assert answer.headers["retry-after"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"client_id": APPLICATION},
        {"client_id": "../../common", "client_secret": "x"},
        {"client_id": APPLICATION, "client_secret": "x" * 513},
        {"client_id": APPLICATION, "client_secret": SECRET, "token": "x"},
        {"grant_type": "entra_token"},
        {"grant_type": "password", "client_id": APPLICATION, "client_secret": SECRET},
        {"client_id": APPLICATION, "client_secret": SECRET, "tenant": "other"},
        [],
    ],
)
async def test_a_sign_in_that_is_not_well_formed_is_400_and_quotes_no_secret(edge, body):
    answer = await knock(edge, "login", body)
    assert answer.status == 400
    assert SECRET not in json.dumps(answer.json)


async def test_the_published_keys_are_public(edge):
    answer = await knock(edge, "jwks")
    (key,) = answer.json["keys"]
    assert (key["kty"], key["crv"], key["alg"]) == ("EC", "P-256", "ES256")
    assert "d" not in key
    assert "max-age" in answer.headers["cache-control"]


async def test_without_keys_there_are_no_sessions_and_it_is_said_so(edge, monkeypatch):
    monkeypatch.setattr("shared.container._override", replace(edge.container, identity=Identity()))
    for name, body in (("login", credentials()), ("refresh", {"refresh_token": "x"}), ("jwks", None)):
        answer = await knock(edge, name, body)
        assert (answer.status, answer.error["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        (None, "unknown"),
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:52311", "203.0.113.7"),
        ("10.0.0.1, 203.0.113.7:1", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("[2001:db8:1:2::9]:443", "2001:db8:1:2::"),
        ("evil\r\nx: y", "unknown"),
        ("", "unknown"),
    ],
)
def test_failures_are_counted_by_the_address_that_the_platform_saw(forwarded, address):
    assert caller_address({} if forwarded is None else {"x-forwarded-for": forwarded}) == address


# --- fuzz ------------------------------------------------------------------------------------------------------------

HEADERS = ("authorization", "x-ms-client-principal", "x-router-token", "x-ms-client-principal-id", "cookie")
PIECES = (
    "Bearer ",
    "bearer",
    "Basic ",
    "e30=",
    "eyJhbGciOiJub25lIn0",
    ".",
    "==",
    "\x00",
    "\u00e9",
    "null",
    "[]",
    "{}",
    " ",
)


def _value(rng, genuine):
    kind = rng.randrange(6)
    if kind == 0:
        return "".join(rng.choice(PIECES) for _ in range(rng.randrange(8)))
    if kind == 1:
        return base64.b64encode(rng.randbytes(rng.randrange(200))).decode()
    if kind == 2:
        return base64.b64encode(json.dumps(_document(rng, 4)).encode()).decode()
    if kind == 3:
        parts = [base64.urlsafe_b64encode(json.dumps(_document(rng, 2)).encode()).decode() for _ in range(3)]
        return "Bearer " + ".".join(parts)
    if kind == 4:
        return "Bearer " + _spoiled(rng, genuine)
    return "x" * rng.choice((0, 1, 5000, 70_000))


def _spoiled(rng, token):
    at = rng.randrange(len(token))
    changed = rng.choice([letter for letter in "ABCabc019_-." if letter != token[at]])
    # The last letter of a signature carries bits that no decoder reads: cut it off instead of changing it.
    return token[: at - 8] if at >= len(token) - 4 else token[:at] + changed + token[at + 1 :]


def _document(rng, depth):
    words = (
        "claims",
        "typ",
        "val",
        "auth_typ",
        "aad",
        "roles",
        "Router.Admin",
        "tid",
        TENANT,
        "alg",
        "none",
        "kid",
        "userRoles",
    )
    if depth == 0 or rng.random() < 0.3:
        return rng.choice((*words, None, True, 10**30, -1.5, ""))
    if rng.random() < 0.5:
        return [_document(rng, depth - 1) for _ in range(rng.randrange(4))]
    return {rng.choice(words): _document(rng, depth - 1) for _ in range(rng.randrange(5))}


async def test_ten_thousand_hostile_headers_are_refused_and_none_is_a_500(edge, entra):
    rng, genuine = random.Random(20261123), entra.token()
    assert (await knock(edge, "models", authorization=f"Bearer {genuine}")).status == 200
    platform = EasyAuthAuthenticator(enabled=True, tenant_id=TENANT, swa_enabled=True)
    here = edge.container.authenticator
    chains = (here, ChainAuthenticator(platform=platform, entra=here._entra, sessions=here._sessions))
    passed = []
    for n in range(10_000):
        headers = {name: _value(rng, genuine) for name in rng.sample(HEADERS, rng.randrange(1, 4))}
        try:
            passed.append((n, headers, await chains[n % 2].authenticate(headers)))
        except Exception as error:  # noqa: BLE001 - whatever comes is judged here
            assert getattr(error, "code", type(error).__name__) == "unauthenticated", (n, headers)
    assert passed == []
    assert (await chains[1].authenticate(principal_header())).service == "app-1"
