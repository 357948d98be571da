"""Google tokens from a token service of our own on a real port: exchange, refresh, stampede, failure, impersonation."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

import pytest
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError

from shared.domain.errors import DependencyUnavailable, ProviderAuthError
from shared.providers.credentials import (
    AnonymousTokens,
    GoogleTokens,
    adc_tokens,
    entra_federated_tokens,
)
from tests.contract.vertex_server import until

AUDIENCE = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/entra"


class SettableClock:
    """Starts now, so that expiries that google-auth computes from the real time fit; moves only when told."""

    def __init__(self) -> None:
        self._start = datetime.now(UTC)  # noqa: TID251 - google-auth itself reads the real time
        self.passed_s = 0.0

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.passed_s)

    def monotonic(self) -> float:
        return 5_000.0 + self.passed_s


@dataclass
class TokenService:
    """Google's STS and IAM Credentials as far as the exchange needs them."""

    status: int = 200
    expires_in_s: int = 3600
    requests: list[tuple[str, Any, dict[str, str]]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def answer(self, path: str) -> dict[str, Any]:
        if self.status != 200:
            return {"error": "invalid_grant", "error_description": "quotes the subject token"}
        if "generateAccessToken" in path:
            expiry = datetime.now(UTC) + timedelta(seconds=self.expires_in_s)  # noqa: TID251 - a server has a clock
            return {
                "accessToken": f"impersonated-{len(self.requests)}",
                "expireTime": expiry.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        return {
            "access_token": f"token-{len(self.requests)}",
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_type": "Bearer",
            "expires_in": self.expires_in_s,
        }


@pytest.fixture
def service() -> Iterator[TokenService]:
    fake = TokenService()
    fake.gate.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"])).decode()
            body = json.loads(raw) if raw.startswith("{") else {key: value[0] for key, value in parse_qs(raw).items()}
            fake.requests.append((self.path, body, dict(self.headers)))
            fake.gate.wait(20)
            payload = json.dumps(fake.answer(self.path)).encode()
            self.send_response(fake.status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_args: Any) -> None:
            """Tests need no access log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    yield fake
    fake.gate.set()
    server.shutdown()
    server.server_close()
    thread.join()


class Entra:
    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.scopes: list[str] = []
        self.threads: set[int] = set()

    def get_token(self, *scopes: str) -> Any:
        self.scopes.extend(scopes)
        self.threads.add(threading.get_ident())
        if self.failure is not None:
            raise self.failure
        return SimpleNamespace(token="entra-jwt", expires_on=0)


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@asynccontextmanager
async def tokens(
    service: TokenService, clock: SettableClock, entra: Entra | None = None, account: str | None = None
) -> AsyncIterator[GoogleTokens]:
    made = entra_federated_tokens(
        AUDIENCE,
        "api://gcp/.default",
        account,
        f"{service.url}/v1/token",
        entra or Entra(),
        clock=clock,
        impersonation_url=service.url + "/v1/projects/-/serviceAccounts/{service_account}:generateAccessToken",
    )
    yield made
    await made.aclose()


async def test_the_exchange(service: TokenService, clock: SettableClock):
    entra = Entra()
    async with tokens(service, clock, entra) as source:
        assert await source.token() == "token-1"
        assert await source.token() == "token-1"

    path, body, _ = service.requests[0]
    assert path == "/v1/token"
    assert body["audience"] == AUDIENCE
    assert body["subject_token"] == "entra-jwt"
    assert body["subject_token_type"] == "urn:ietf:params:oauth:token-type:jwt"
    assert body["grant_type"] == "urn:ietf:params:oauth:grant-type:token-exchange"
    assert body["scope"] == "https://www.googleapis.com/auth/cloud-platform"
    assert len(service.requests) == 1
    assert entra.scopes == ["api://gcp/.default"]
    assert threading.get_ident() not in entra.threads


async def test_impersonation(service: TokenService, clock: SettableClock):
    async with tokens(service, clock, account="router@p.iam.gserviceaccount.com") as source:
        assert await source.token() == "impersonated-2"
    (first, _, _), (second, body, headers) = service.requests
    assert first == "/v1/token"
    assert second == "/v1/projects/-/serviceAccounts/router@p.iam.gserviceaccount.com:generateAccessToken"
    assert body["scope"] == ["https://www.googleapis.com/auth/cloud-platform"]
    assert headers["authorization"] == "Bearer token-1"


async def test_two_hundred_cold_calls_make_one_exchange(service: TokenService, clock: SettableClock):
    service.gate.clear()
    async with tokens(service, clock) as source:
        calls = [asyncio.create_task(source.token()) for _ in range(200)]
        await until(lambda: bool(service.requests))
        service.gate.set()
        assert set(await asyncio.gather(*calls)) == {"token-1"}
    assert len(service.requests) == 1


async def test_an_ageing_token_is_replaced_behind_the_callers_back(service: TokenService, clock: SettableClock):
    async with tokens(service, clock) as source:
        await source.token()
        clock.passed_s = 3600 - 301
        await source.token()
        assert len(service.requests) == 1

        clock.passed_s = 3600 - 200
        service.gate.clear()
        assert {await source.token() for _ in range(50)} == {"token-1"}
        await until(lambda: len(service.requests) == 2)
        assert await source.token() == "token-1"
        service.gate.set()
        async with asyncio.timeout(10):
            while await source.token() != "token-2":  # noqa: ASYNC110 - the token is the only sign of it
                await asyncio.sleep(0.005)
    assert len(service.requests) == 2


async def test_an_expired_token_is_not_handed_out(service: TokenService, clock: SettableClock):
    async with tokens(service, clock) as source:
        await source.token()
        clock.passed_s = 3600 - 5
        assert await source.token() == "token-2"


async def test_a_failed_refresh_leaves_the_old_token_and_pauses(
    service: TokenService, clock: SettableClock, caplog: pytest.LogCaptureFixture
):
    async with tokens(service, clock) as source:
        await source.token()
        clock.passed_s = 3600 - 200
        service.status = 400
        assert await source.token() == "token-1"
        await until(lambda: bool(caplog.records))
        assert {await source.token() for _ in range(20)} == {"token-1"}
        assert len(service.requests) == 2
        service.status = 200
        clock.passed_s += 6
        await source.token()
        await until(lambda: len(service.requests) == 3)
    assert "token refresh failed: provider_auth_error" in caplog.text
    assert "quotes" not in caplog.text


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, ProviderAuthError),
        (401, ProviderAuthError),
        (403, ProviderAuthError),
        (429, DependencyUnavailable),
        (500, DependencyUnavailable),
        (503, DependencyUnavailable),
    ],
)
async def test_an_exchange_that_fails(
    service: TokenService, clock: SettableClock, status: int, expected: type[Exception]
):
    service.status = status
    async with tokens(service, clock) as source:
        with pytest.raises(expected) as caught:
            await source.token()
        assert "quotes" not in str(caught.value)
        service.status = 200
        assert await source.token() is not None


async def test_every_waiting_caller_hears_of_the_failure_once(service: TokenService, clock: SettableClock):
    service.gate.clear()
    service.status = 400
    async with tokens(service, clock) as source:
        calls = [asyncio.create_task(source.token()) for _ in range(20)]
        await until(lambda: bool(service.requests))
        service.gate.set()
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(result) for result in results} == {ProviderAuthError}
    assert len(service.requests) == 1


async def test_a_service_that_is_away(clock: SettableClock):
    nowhere = TokenService(url="http://127.0.0.1:1")
    async with tokens(nowhere, clock) as source:
        with pytest.raises(DependencyUnavailable):
            await source.token()


async def test_a_service_that_hangs(service: TokenService, clock: SettableClock):
    service.gate.clear()
    async with tokens(service, clock) as source:
        hurried = GoogleTokens(source._credentials, clock=clock, deadline_s=0.2)
        with pytest.raises(DependencyUnavailable):
            await hurried.token()


async def test_a_caller_who_leaves_takes_nothing_from_the_others(service: TokenService, clock: SettableClock):
    service.gate.clear()
    async with tokens(service, clock) as source:
        first, second = asyncio.create_task(source.token()), asyncio.create_task(source.token())
        await until(lambda: bool(service.requests))
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        service.gate.set()
        assert await second == "token-1"
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (ClientAuthenticationError(message="quotes"), ProviderAuthError),
        (ServiceRequestError(message="quotes"), DependencyUnavailable),
    ],
)
async def test_entra_failures(
    service: TokenService, clock: SettableClock, failure: Exception, expected: type[Exception]
):
    async with tokens(service, clock, Entra(failure)) as source:
        with pytest.raises(expected) as caught:
            await source.token()
    assert "quotes" not in str(caught.value)
    assert service.requests == []


async def test_closing_ends_a_refresh_in_flight(service: TokenService, clock: SettableClock):
    service.gate.clear()
    async with tokens(service, clock) as source:
        waiting = asyncio.create_task(source.token())
        await until(lambda: bool(service.requests))
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_token_without_an_end_is_kept(clock: SettableClock):
    class Endless:
        token: str | None = None
        expiry: datetime | None = None
        refreshed = 0

        def refresh(self, _request: Any) -> None:
            self.refreshed += 1
            self.token = "forever"

    credentials = Endless()
    source = GoogleTokens(credentials, clock=clock)
    assert await source.token() == "forever"
    clock.passed_s = 1e6
    assert await source.token() == "forever"
    assert credentials.refreshed == 1


async def test_anonymous_tokens():
    source = AnonymousTokens()
    assert await source.token() is None
    await source.aclose()


async def test_application_default_credentials(
    service: TokenService, clock: SettableClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    subject = tmp_path / "subject"
    subject.write_text("file-jwt")
    configuration = {
        "type": "external_account",
        "audience": AUDIENCE,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{service.url}/v1/token",
        "credential_source": {"file": str(subject)},
    }
    path = tmp_path / "adc.json"
    path.write_text(json.dumps(configuration))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")
    source = adc_tokens(clock=clock)
    assert await source.token() == "token-1"
    assert service.requests[0][1]["subject_token"] == "file-jwt"
    await source.aclose()


async def test_no_application_default_credentials(
    clock: SettableClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nothing.json"))
    source = adc_tokens(clock=clock)
    with pytest.raises(ProviderAuthError):
        await source.token()
