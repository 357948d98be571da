"""Vertex AI over plain HTTP, for what has no gRPC method: the OpenAI-compatible endpoints, shared and dedicated.

One aiohttp session serves the worker's life; it costs a third of the CPU of the generated REST client. Hosts are the
documented ones (https://cloud.google.com/vertex-ai/docs/general/locations): ``aiplatform.googleapis.com`` for
``global``, ``aiplatform.{us|eu}.rep.googleapis.com`` for the two multi-regions, ``{region}-aiplatform.googleapis.com``
else; a dedicated endpoint has a host of its own under ``prediction.vertexai.goog``.
"""

import asyncio
import io
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from aiohttp import (
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    DummyCookieJar,
    TCPConnector,
)
from yarl import URL

from shared.domain.errors import (
    DependencyUnavailable,
    InvalidRequest,
    ProviderBadResponse,
    ProviderError,
    ProviderUnavailable,
)
from shared.domain.models import Deployment, ProviderKind
from shared.ports import Clock, ProviderCall
from shared.providers.credentials import TokenSource
from shared.providers.errors import connection_failed, from_http, no_answer_in_time, unreadable

_MULTI_REGIONS: Final = frozenset({"us", "eu"})
_SEGMENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:-]{0,127}")
_HOST: Final = re.compile(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})+")
_WHOLE_BODY_BYTES: Final = 512 * 1024
_PASSED_ON: Final = ("traceparent", "tracestate")
_ERROR_BODY_BYTES: Final = 64 * 1024
_STATUS_OK: Final = range(200, 300)

GOOGLE_HOST_SUFFIXES: Final = (".googleapis.com", ".prediction.vertexai.goog")
"""Our bearer token is sent to hosts below these only: a mistyped or planted `dedicated_host` must not receive it."""


class VertexHttp:
    """POSTs JSON to Vertex AI and hands back bytes, whole or as they come.

    Args:
        project: Google Cloud project of deployments that name none.
        tokens: bearer tokens; a source that yields None sends no Authorization header (a local endpoint).
        clock: the scale of `ProviderCall.deadline_s`.
        base_override: ``http://host:port`` that replaces every host, dedicated ones included.
        trusted_host_suffixes: domains a dedicated host must be in.
        max_response_bytes: the most one answer may hold, decompressed.
        connect_timeout_s: the most one TCP and TLS handshake may take.
        keepalive_s: how long an idle connection is kept; below the 60 s after which load balancers cut silently.
    """

    def __init__(
        self,
        project: str,
        tokens: TokenSource,
        clock: Clock,
        *,
        base_override: str | None = None,
        trusted_host_suffixes: tuple[str, ...] = GOOGLE_HOST_SUFFIXES,
        max_response_bytes: int = 32 * 1024 * 1024,
        connect_timeout_s: float = 5.0,
        keepalive_s: float = 50.0,
    ) -> None:
        self._project = project
        self._tokens = tokens
        self._clock = clock
        self._base_override = base_override.rstrip("/") if base_override else None
        self._trusted_host_suffixes = trusted_host_suffixes
        self._max_response_bytes = max_response_bytes
        self._connect_timeout_s = connect_timeout_s
        self._keepalive_s = keepalive_s
        self._open_session: ClientSession | None = None

    def url(self, deployment: Deployment, path: str) -> URL:
        """The address of `path` below the deployment's ``/v1/projects/{project}/locations/{region}/``.

        Raises:
            InvalidRequest: the deployment's project, region or dedicated host cannot be one.
        """
        project = path_segment(deployment, "project", deployment.project or self._project)
        region = path_segment(deployment, "region", deployment.region)
        base = self._base_override or f"https://{self._host(deployment)}"
        return URL(f"{base}/v1/projects/{project}/locations/{region}/{path}", encoded=True)

    async def post(self, call: ProviderCall, path: str, body: bytes, *, vendor: str) -> bytes:
        """One plain call; the whole answer.

        Raises:
            ProviderTimeout: no whole answer before the call's deadline.
            ProviderUnavailable: no connection, or a cut one.
            ProviderBadResponse: the answer is larger than `max_response_bytes`.
            ProviderError: what `from_http` makes of a status that is not 2xx; redirects are not followed.
        """
        timeout = ClientTimeout(total=None, sock_connect=self._connect_timeout_s)
        try:
            async with (
                asyncio.timeout(self._remaining_s(call, vendor)),
                self._session().post(
                    self.url(call.deployment, path),
                    data=_payload(body),
                    headers=await self._headers(call, vendor),
                    allow_redirects=False,
                    timeout=timeout,
                ) as response,
            ):
                if response.status not in _STATUS_OK:
                    raise await self._refusal(response, vendor)
                return await self._read(response, vendor)
        except ConnectionTimeoutError as error:
            raise connection_failed(vendor, type(error).__name__) from None
        except TimeoutError:
            raise no_answer_in_time(vendor, self._silence(call)) from None
        except ClientError as error:
            raise connection_failed(vendor, type(error).__name__) from None

    async def stream(self, call: ProviderCall, path: str, body: bytes, *, vendor: str) -> AsyncIterator[bytes]:
        """One streamed call; bytes as they come. Closing the iterator closes the connection.

        Raises:
            ProviderTimeout: the deadline passed, or nothing came for the call's `idle_timeout_s`.
            ProviderUnavailable: no connection, or a cut one.
            ProviderBadResponse: the answer is larger than `max_response_bytes`.
            ProviderError: what `from_http` makes of a status that is not 2xx; redirects are not followed.
        """
        remaining_s = self._remaining_s(call, vendor)
        timeout = ClientTimeout(
            total=remaining_s,
            sock_connect=self._connect_timeout_s,
            sock_read=call.idle_timeout_s,
            ceil_threshold=remaining_s + 1,  # aiohttp rounds longer timeouts up to whole seconds
        )
        received = 0
        try:
            async with asyncio.timeout(remaining_s):
                headers = await self._headers(call, vendor)
            headers["accept-encoding"] = "identity"  # compression would hold pieces back
            async with self._session().post(
                self.url(call.deployment, path),
                data=_payload(body),
                headers=headers,
                allow_redirects=False,
                timeout=timeout,
            ) as response:
                if response.status not in _STATUS_OK:
                    raise await self._refusal(response, vendor)
                async for chunk in response.content.iter_any():
                    received += len(chunk)
                    if received > self._max_response_bytes:
                        raise _too_large(vendor)
                    yield chunk
        except ConnectionTimeoutError as error:
            raise connection_failed(vendor, type(error).__name__) from None
        except TimeoutError:
            raise no_answer_in_time(vendor, self._silence(call)) from None
        except ClientError as error:
            raise connection_failed(vendor, type(error).__name__) from None

    async def warm(self) -> None:
        """Open the session and fetch a token ahead of the first call; a failure is left to that call."""
        self._session()
        with suppress(ProviderError, DependencyUnavailable):
            await self._tokens.token()

    async def aclose(self) -> None:
        """Close the session; the token source belongs to who made it."""
        if self._open_session is not None:
            await self._open_session.close()
            self._open_session = None

    def _session(self) -> ClientSession:
        # Made at first use: a session binds to the running loop, and the container is built before there is one.
        if self._open_session is None:
            self._open_session = ClientSession(
                connector=TCPConnector(limit=0, keepalive_timeout=self._keepalive_s),
                cookie_jar=DummyCookieJar(),
                trust_env=False,
            )
        return self._open_session

    def _host(self, deployment: Deployment) -> str:
        if deployment.dedicated_host:
            return trusted_host(deployment, self._trusted_host_suffixes)
        if deployment.provider is ProviderKind.RANKING:
            return _ranking_host(deployment.region)
        if deployment.region == "global":
            return "aiplatform.googleapis.com"
        if deployment.region in _MULTI_REGIONS:
            return f"aiplatform.{deployment.region}.rep.googleapis.com"
        return f"{deployment.region}-aiplatform.googleapis.com"

    async def _headers(self, call: ProviderCall, vendor: str) -> dict[str, str]:
        headers = {name: call.headers[name] for name in _PASSED_ON if name in call.headers}
        headers |= {"content-type": "application/json", "x-request-id": call.request_id}
        try:
            token = await self._tokens.token()
        except DependencyUnavailable:
            raise ProviderUnavailable(
                f"{vendor} could not be called without a token", code="credentials_unavailable", vendor_status="token"
            ) from None
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        return headers

    async def _read(self, response: ClientResponse, vendor: str) -> bytes:
        chunks, received = [], 0
        async for chunk in response.content.iter_any():
            received += len(chunk)
            if received > self._max_response_bytes:
                raise _too_large(vendor)
            chunks.append(chunk)
        return b"".join(chunks)

    def _remaining_s(self, call: ProviderCall, vendor: str) -> float:
        remaining_s = call.deadline_s - self._clock.monotonic()
        if remaining_s <= 0:
            raise no_answer_in_time(vendor, "deadline")
        return remaining_s

    def _silence(self, call: ProviderCall) -> str:
        return "deadline" if self._clock.monotonic() >= call.deadline_s else "idle"

    async def _refusal(self, response: ClientResponse, vendor: str) -> ProviderError:
        body = b""
        while len(body) < _ERROR_BODY_BYTES and (chunk := await response.content.read(_ERROR_BODY_BYTES - len(body))):
            body += chunk
        return from_http(response.status, body, response.headers, vendor=vendor, now=self._clock.now())


def path_segment(deployment: Deployment, key: str, segment: str) -> str:
    """`segment` of a resource name, shown to be one path segment and nothing else.

    Raises:
        InvalidRequest: naming deployment and key.
    """
    if not _SEGMENT.fullmatch(segment):
        raise InvalidRequest(
            f"deployment {deployment.id}: {key} is not a resource id", param=f"deployments.{deployment.id}.{key}"
        )
    return segment


def trusted_host(deployment: Deployment, suffixes: tuple[str, ...] = GOOGLE_HOST_SUFFIXES) -> str:
    """The deployment's dedicated host, shown to be a host name below one of `suffixes`.

    Raises:
        InvalidRequest: naming deployment and key.
    """
    host = (deployment.dedicated_host or "").lower()
    if not _HOST.fullmatch(host) or not host.endswith(suffixes):
        raise InvalidRequest(
            f"deployment {deployment.id}: dedicated_host must be a host below {' or '.join(suffixes)}",
            param=f"deployments.{deployment.id}.dedicated_host",
        )
    return host


def _ranking_host(region: str) -> str:
    """Discovery Engine's host (https://cloud.google.com/generative-ai-app-builder/docs/locations)."""
    return "discoveryengine.googleapis.com" if region == "global" else f"{region}-discoveryengine.googleapis.com"


def _payload(body: bytes) -> bytes | io.BytesIO:
    """Large bodies as a file: aiohttp writes those piece by piece, and bytes in one go that holds up everybody."""
    return body if len(body) <= _WHOLE_BODY_BYTES else io.BytesIO(body)


def _too_large(vendor: str) -> ProviderBadResponse:
    return unreadable(vendor, "an answer larger than the router takes")
