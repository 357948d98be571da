"""Where the keys are that seal kept content: versions of a Key Vault secret in Azure, a file on a developer's machine.

A key is 32 random bytes in Base64. In the vault a new version of the secret is a new key: within `_FRESH_S` it seals
what comes, and older versions open what they sealed for as long as they exist. Purging the secret destroys what it
sealed.
"""

import asyncio
import base64
import binascii
import contextlib
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from azure.core.exceptions import AzureError, ResourceNotFoundError

from shared.domain.errors import DependencyUnavailable
from shared.domain.kept_content import ContentKey
from shared.ports import Clock
from shared.security.private_files import read_or_make

if TYPE_CHECKING:
    from azure.keyvault.secrets.aio import SecretClient  # 0.1 s of CPU at start, where no vault is used

_KEY_BYTES = 32
_FRESH_S = 300.0
_RETRY_S = 10.0
_DEADLINE_S = 5.0
_MOST_KNOWN = 32


class KeyVaultContentKeys:
    """`ContentKeys` in one Key Vault secret.

    Args:
        client: of the vault; needs Get.
        clock: ages what was read.
        name: of the secret.
    """

    def __init__(self, client: "SecretClient", clock: Clock, *, name: str = "router-content-key") -> None:
        self._client = client
        self._clock = clock
        self._name = name
        self._current: ContentKey | None = None
        self._read_s: float | None = None
        self._known: dict[str, ContentKey] = {}
        self._lock = asyncio.Lock()

    async def current(self) -> ContentKey:
        """The newest version; one read before seals on while the vault is away.

        Raises:
            DependencyUnavailable: none was ever read.
        """
        if self._is_due():
            async with self._lock:
                if self._is_due():
                    self._read_s = self._clock.monotonic()
                    with contextlib.suppress(DependencyUnavailable):
                        self._current = await self._read(None) or self._current
        if self._current is None:
            raise DependencyUnavailable("the key of kept content cannot be had", retry_after_s=_RETRY_S)
        return self._current

    async def by_id(self, key_id: str) -> ContentKey | None:
        """A version; None: it does not exist any more.

        Raises:
            DependencyUnavailable: the vault is away.
        """
        found = self._known.get(key_id)
        if found is None:
            found = await self._read(key_id)
            if found is not None:
                if len(self._known) >= _MOST_KNOWN:
                    self._known.clear()
                self._known[key_id] = found
        return found

    def _is_due(self) -> bool:
        fresh_s = _RETRY_S if self._current is None else _FRESH_S
        return self._read_s is None or self._clock.monotonic() - self._read_s > fresh_s

    async def _read(self, version: str | None) -> ContentKey | None:
        try:
            async with asyncio.timeout(_DEADLINE_S):
                secret = await self._client.get_secret(self._name, version)
        except ResourceNotFoundError:
            return None
        except (AzureError, TimeoutError):
            raise DependencyUnavailable("the key vault does not answer", retry_after_s=_RETRY_S) from None
        key = _key_of(secret.value or "")
        if key is None:
            raise DependencyUnavailable("the secret of kept content is no key: 32 bytes in Base64 are needed")
        return ContentKey(secret.properties.version or "", key)


class FileContentKeys:
    """`ContentKeys` in a file that only its owner may read, made by the first worker that asks: for local use.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key: ContentKey | None = None

    async def current(self) -> ContentKey:
        """The key.

        Raises:
            DependencyUnavailable: the file can be neither read nor made.
        """
        if self._key is None:
            try:
                self._key = await asyncio.to_thread(self._read_or_make)
            except OSError:
                raise DependencyUnavailable("the file of the key of kept content cannot be used") from None
        return self._key

    async def by_id(self, key_id: str) -> ContentKey | None:
        """The key, when it is that one.

        Raises:
            DependencyUnavailable: as `current`.
        """
        key = await self.current()
        return key if key.id == key_id else None

    def _read_or_make(self) -> ContentKey:
        key = _key_of(read_or_make(self._path, lambda: base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()))
        if key is None:
            raise DependencyUnavailable("the file of the key of kept content holds no key")
        return ContentKey("file", key)


def _key_of(text: str) -> bytes | None:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == _KEY_BYTES else None
