"""Where the keys for session tokens are kept: a Key Vault secret in Azure, a file on a developer's machine.

Both hold the same JSON: ``{"keys": [{"id", "private_pem", "not_before"}]}``. A new key is known for `_LEAD` before
tokens are signed with it, and an old one for longer than any token it signed lives, so that rotation refuses nobody.
"""

import asyncio
import contextlib
import itertools
import json
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from azure.core.exceptions import AzureError, ResourceNotFoundError
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from shared.domain.errors import DependencyUnavailable
from shared.domain.sessions import SigningKey
from shared.ports import Clock
from shared.security.private_files import read_or_make

if TYPE_CHECKING:
    from azure.keyvault.secrets.aio import SecretClient  # 0.1 s of CPU at start, where no vault is used

_LEAD = timedelta(minutes=15)
_OVERLAP = timedelta(hours=2)
_ROTATE_AFTER = timedelta(days=30)
_FRESH_S = 300.0
_RETRY_S = 10.0
_DEADLINE_S = 5.0


class KeyVaultSigningKeys:
    """`SigningKeys` in one Key Vault secret, read again every five minutes.

    Args:
        client: of the vault; needs Get, and Set for rotation.
        name: of the secret.
        clock: ages what was read.
    """

    def __init__(self, client: "SecretClient", clock: Clock, *, name: str = "router-signing-keys") -> None:
        self._client = client
        self._clock = clock
        self._name = name
        self._known: tuple[SigningKey, ...] = ()
        self._read_s: float | None = None
        self._lock = asyncio.Lock()

    async def all(self) -> Sequence[SigningKey]:
        """All keys; those read before serve on while the vault is away.

        Raises:
            DependencyUnavailable: none was ever read, or the secret holds none.
        """
        if self._is_due():
            async with self._lock:
                if self._is_due():
                    await self._read()
        if not self._known:
            raise DependencyUnavailable("the keys of session tokens cannot be had", retry_after_s=_RETRY_S)
        return self._known

    async def rotate(self) -> bool:
        """Add a key when the newest one has served its time (or there is none), drop what no token needs any more.

        One caller at a time: a singleton timer. Returns whether something changed.

        Raises:
            DependencyUnavailable: the vault is away.
        """
        try:
            async with asyncio.timeout(_DEADLINE_S):
                keys = await self._stored()
                rotated = rotated_keys(keys, self._clock.now())
                if rotated == keys:
                    return False
                await self._client.set_secret(self._name, to_json(rotated), content_type="application/json")
        except (AzureError, TimeoutError):
            raise DependencyUnavailable("the key vault does not answer") from None
        self._known, self._read_s = rotated, self._clock.monotonic()
        return True

    def _is_due(self) -> bool:
        fresh_s = _FRESH_S if self._known else _RETRY_S
        return self._read_s is None or self._clock.monotonic() - self._read_s > fresh_s

    async def _read(self) -> None:
        self._read_s = self._clock.monotonic()
        with contextlib.suppress(AzureError, TimeoutError, ValueError):
            async with asyncio.timeout(_DEADLINE_S):
                self._known = await self._stored() or self._known

    async def _stored(self) -> tuple[SigningKey, ...]:
        try:
            secret = await self._client.get_secret(self._name)
        except ResourceNotFoundError:
            return ()
        return from_json(secret.value or "")


class FileSigningKeys:
    """`SigningKeys` in a file that only its owner may read, made by the first worker that asks: for local use.

    Args:
        path: of the file.
        clock: time of making.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._known: tuple[SigningKey, ...] = ()

    async def all(self) -> Sequence[SigningKey]:
        """All keys.

        Raises:
            DependencyUnavailable: the file can be neither read nor made.
        """
        if not self._known:
            try:
                self._known = await asyncio.to_thread(self._read_or_make)
            except (OSError, ValueError):
                raise DependencyUnavailable("the file of signing keys cannot be used") from None
        return self._known

    async def rotate(self) -> bool:
        """A local key is kept until its file is deleted."""
        return False

    def _read_or_make(self) -> tuple[SigningKey, ...]:
        return from_json(read_or_make(self._path, lambda: to_json(rotated_keys((), self._clock.now()))))


def rotated_keys(keys: tuple[SigningKey, ...], now: datetime) -> tuple[SigningKey, ...]:
    """The keys as they should be now: the same when nothing is due."""
    newest = max((key.not_before for key in keys), default=None)
    if newest is not None and now - newest < _ROTATE_AFTER:
        # A key stops signing when its successor starts, and is needed until the last token it signed has expired.
        starts = sorted(key.not_before for key in keys)
        superseded = {start for start, following in itertools.pairwise(starts) if now - following > _OVERLAP}
        return tuple(key for key in keys if key.not_before not in superseded)
    return (*keys, new_key(now if newest is None else now + _LEAD))


def new_key(not_before: datetime) -> SigningKey:
    """A fresh key pair on P-256."""
    pem = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return SigningKey(secrets.token_hex(8), pem.decode(), not_before.astimezone(UTC))


def to_json(keys: Sequence[SigningKey]) -> str:
    """What the vault and the file hold."""
    entries = [{"id": k.id, "private_pem": k.private_pem, "not_before": k.not_before.isoformat()} for k in keys]
    return json.dumps({"keys": entries})


def from_json(text: str) -> tuple[SigningKey, ...]:
    """The keys of such a document.

    Raises:
        ValueError: it is no such document. The message quotes nothing.
    """
    try:
        entries = json.loads(text)["keys"]
        return tuple(
            SigningKey(str(e["id"]), str(e["private_pem"]), datetime.fromisoformat(e["not_before"])) for e in entries
        )
    except (ValueError, TypeError, LookupError):
        raise ValueError("no document of signing keys") from None
