"""Secrets of others by name: in Key Vault in Azure, in a file on a developer's machine."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

from azure.core.exceptions import AzureError, ResourceNotFoundError

from shared.domain.errors import DependencyUnavailable
from shared.ports import Clock

if TYPE_CHECKING:
    from azure.keyvault.secrets.aio import SecretClient  # 0.1 s of CPU at start, where no vault is used

_FRESH_S = 300.0
_DEADLINE_S = 4.0
_RETRY_S = 10.0


class KeyVaultSecrets:
    """`Secrets` of one Key Vault, each read again after five minutes.

    Args:
        client: of the vault; needs Get.
        clock: ages what was read.
    """

    def __init__(self, client: "SecretClient", clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._known: dict[str, tuple[float, str]] = {}

    async def get(self, name: str) -> str | None:
        """A secret's current version; None: there is none. The last known one serves on while the vault is away.

        Raises:
            DependencyUnavailable: the vault is away, and the secret was not read before.
        """
        now_s = self._clock.monotonic()
        known = self._known.get(name)
        if known is not None and now_s - known[0] < _FRESH_S:
            return known[1]
        try:
            async with asyncio.timeout(_DEADLINE_S):
                value = (await self._client.get_secret(name)).value
        except ResourceNotFoundError:
            self._known.pop(name, None)
            return None
        except (AzureError, TimeoutError):
            if known is None:
                raise DependencyUnavailable("the key vault does not answer", retry_after_s=_RETRY_S) from None
            # Asked again soon, not by every caller.
            value, now_s = known[1], now_s - _FRESH_S + _RETRY_S
        if value is None:
            return None
        self._known[name] = (now_s, value)
        return value


class FileSecrets:
    """`Secrets` in a JSON object of texts, read anew for each: for local use.

    Args:
        path: of the file; None: there are no secrets.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    async def get(self, name: str) -> str | None:
        """A secret; None: there is none of that name.

        Raises:
            DependencyUnavailable: the file cannot be read.
        """
        if self._path is None:
            return None
        try:
            found = json.loads(await asyncio.to_thread(self._path.read_text))[name]
        except KeyError:
            return None
        except (OSError, ValueError, TypeError):
            raise DependencyUnavailable("the file of secrets cannot be used") from None
        return found if isinstance(found, str) else None
