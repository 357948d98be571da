"""An issuer's signing keys (RFC 7517), fetched once and again when a token names one that is not known."""

import asyncio
import json
from typing import Any

import aiohttp
import jwt

from shared.domain.errors import DependencyUnavailable, Unauthenticated
from shared.ports import Clock

_FRESH_S = 24 * 3600.0
_RETRY_S = 30.0
"""An unknown key id leads to a fetch at most this often: callers choose key ids, and must not make us call Entra."""
_DEADLINE_S = 5.0
_MAX_BYTES = 256 * 1024
_KEY_TYPE = "RSA"


class JsonWebKeys:
    """The RSA keys at a JWKS address.

    Keys that were fetched serve on while the address is away; a key that the issuer withdrew is gone within a day.

    Args:
        url: of the key set.
        clock: ages keys.
    """

    def __init__(self, url: str, clock: Clock) -> None:
        self._url = url
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_s: float | None = None
        self._tried_s: float | None = None
        self._lock = asyncio.Lock()

    async def key(self, key_id: str) -> jwt.PyJWK:
        """The key of that id.

        Raises:
            Unauthenticated: the issuer has no such key.
            DependencyUnavailable: no key was ever had, and the address does not answer.
        """
        if key_id not in self._keys or self._is_older_than(self._fetched_s, _FRESH_S):
            async with self._lock:
                if self._is_older_than(self._tried_s, _RETRY_S):
                    await self._fetch()
        key = self._keys.get(key_id)
        if key is not None:
            return key
        if self._fetched_s is None:
            raise DependencyUnavailable("the issuer's signing keys cannot be had", retry_after_s=_RETRY_S)
        raise Unauthenticated("the token is signed with a key that its issuer does not have")

    def _is_older_than(self, instant_s: float | None, age_s: float) -> bool:
        return instant_s is None or self._clock.monotonic() - instant_s > age_s

    async def _fetch(self) -> None:
        self._tried_s = self._clock.monotonic()
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_DEADLINE_S)) as session,
                session.get(self._url, allow_redirects=False) as response,
            ):
                response.raise_for_status()
                keys = _signing_keys(json.loads(await _body(response)))
        except (aiohttp.ClientError, TimeoutError, ValueError, TypeError, AttributeError, LookupError, jwt.PyJWTError):
            return  # what is known serves on
        if keys:
            self._keys, self._fetched_s = keys, self._clock.monotonic()


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for chunk in response.content.iter_chunked(_MAX_BYTES):
        body += chunk
        if len(body) > _MAX_BYTES:
            raise ValueError("a key set of this size is none")
    return body


def _signing_keys(document: Any) -> dict[str, jwt.PyJWK]:
    keys: dict[str, jwt.PyJWK] = {}
    for entry in document["keys"]:
        if entry.get("kty") == _KEY_TYPE and entry.get("use", "sig") == "sig" and isinstance(entry.get("kid"), str):
            keys[entry["kid"]] = jwt.PyJWK(entry, algorithm="RS256")
    return keys
