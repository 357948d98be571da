"""HTTP to addresses that somebody else chose: guarded, without redirects, with bounds on time and size."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientSession,
    ClientSSLError,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
)
from yarl import URL

from shared.domain.deliveries import TAKEN, Outcome, OutcomeKind
from shared.ports import Clock
from shared.providers.errors import retry_after_s
from shared.providers.notifying.addresses import AddressGuard, ForbiddenAddressError

_CONNECT_S = 5.0
_ANSWER_BYTES = 64 * 1024
_OK = range(200, 300)
_NEVER_BETTER = frozenset({400, 410, 413, 422})
"""The payload itself is refused, or (410) the receiver is gone for good; all else may be mended meanwhile."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver answered: `body` is cut off where it is longer than anybody here reads."""

    status: int
    body: bytes
    outcome: Outcome


class Outbound:
    """Sends requests of notifications.

    Args:
        clock: turns a Retry-After date into seconds.
        guard: which addresses are permitted.
        permits_plain: whether ``http://`` is, for the local environment.
        total_s: after which a request is given up, connecting included.
    """

    def __init__(
        self, clock: Clock, guard: AddressGuard, *, permits_plain: bool = False, total_s: float = 10.0
    ) -> None:
        self._clock = clock
        self._guard = guard
        self._schemes = {"https", "http"} if permits_plain else {"https"}
        self._total_s = total_s
        self._open_session: ClientSession | None = None

    async def send(
        self, method: str, url: URL, *, headers: Mapping[str, str], body: bytes | None = None
    ) -> Answer | Outcome:
        """One request; an answer of any status, or why there is none.

        The URL is sent as it is written: signatures are over its text.
        """
        if url.scheme not in self._schemes or not url.host:
            return Outcome(OutcomeKind.REFUSED, "address_not_https")
        try:
            async with asyncio.timeout(self._total_s):
                return await self._exchange(method, url, headers, body)
        except TimeoutError:
            return Outcome(OutcomeKind.FAILED, "timeout")
        except ClientConnectorError as error:
            if isinstance(error.__cause__, ForbiddenAddressError):
                return Outcome(OutcomeKind.REFUSED, "address_forbidden")
            return Outcome(OutcomeKind.FAILED, "tls_failed" if isinstance(error, ClientSSLError) else "no_connection")
        except (ClientError, OSError, ValueError):
            # ValueError: a host name that cannot be one, found only when it is encoded.
            return Outcome(OutcomeKind.FAILED, "connection_broken")

    async def aclose(self) -> None:
        """Close the session."""
        if self._open_session is not None:
            await self._open_session.close()
            self._open_session = None

    async def _exchange(self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None) -> Answer:
        sent = {"user-agent": "llm-router", "accept-encoding": "identity", **headers}
        async with self._session().request(method, url, data=body, headers=sent, allow_redirects=False) as response:
            text = b""
            while len(text) < _ANSWER_BYTES and (part := await response.content.read(_ANSWER_BYTES - len(text))):
                text += part
            # An answer that goes on is cut: leaving the block closes its connection.
            waiting_s = retry_after_s(response.headers.get("retry-after", ""), now=self._clock.now())
            return Answer(response.status, text, outcome_of(response.status, waiting_s))

    def _session(self) -> ClientSession:
        # Made at first use: a session binds to the running loop, and the container is built before there is one.
        if self._open_session is None:
            self._open_session = ClientSession(
                # No connection is kept: a pause of minutes between messages would mostly find it cut.
                connector=TCPConnector(limit=0, force_close=True, socket_factory=self._guard.open_socket),
                cookie_jar=DummyCookieJar(),
                timeout=ClientTimeout(total=None, sock_connect=_CONNECT_S),
                auto_decompress=False,
                trust_env=False,
            )
        return self._open_session


def address(text: str) -> URL | None:
    """The address that a secret holds; None: it is none."""
    plain = text.strip()
    if not plain.isascii() or not plain.isprintable() or " " in plain:
        return None  # as it is written it goes into the request's first line
    try:
        return URL(plain, encoded=True)
    except ValueError:
        return None


def outcome_of(status: int, retry_after: float | None) -> Outcome:
    """What a status means, after the Standard Webhooks specification, "Delivery success and failure"."""
    if status in _OK:
        return TAKEN
    kind = OutcomeKind.REFUSED if status in _NEVER_BETTER else OutcomeKind.FAILED
    return Outcome(kind, f"http_{status}", retry_after)
