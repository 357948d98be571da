"""Content that services chose to have kept, and the keys that seal it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from shared.domain.kept_content import ContentKey, SealedContent
from shared.domain.privacy import DataSubject


class ContentKeys(Protocol):
    """Keys that seal content. The store of the content never sees them."""

    async def current(self) -> ContentKey:
        """The key to seal with now.

        Raises:
            DependencyUnavailable: none can be had.
        """
        ...

    async def by_id(self, key_id: str) -> ContentKey | None:
        """The key that sealed something; None: it was destroyed, and what it sealed with it.

        Raises:
            DependencyUnavailable: it cannot be had at the moment.
        """
        ...


class Sealer(Protocol):
    """Seals and opens with one key."""

    def seal(self, plain: bytes, name: str) -> bytes:
        """The sealed value, to lie under `name`."""
        ...

    def open(self, sealed: bytes, name: str) -> bytes | None:
        """The value, or None when it was sealed with another key, for another name, or was altered."""
        ...


class ContentStore(Protocol):
    """Keeps sealed content until it expires."""

    async def put(self, contents: Sequence[SealedContent]) -> None:
        """Keep contents; what is there already stays as it is.

        Raises:
            DependencyUnavailable: none were kept, as far as can be known; putting again is safe.
        """
        ...

    async def get(self, tenant_id: str, request_id: str, now: datetime) -> SealedContent | None:
        """What was kept of a request, until it expires.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        ...

    async def purge(self, now: datetime) -> int:
        """Delete what has expired, some thousands a call; returns how many.

        Raises:
            DependencyUnavailable: no answer in time; doing it again is safe.
        """
        ...

    async def of(self, subject: DataSubject, after: str, limit: int, now: datetime) -> Sequence[SealedContent]:
        """A person's contents by request id, those after one.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        ...

    async def forget(self, subject: DataSubject, until: datetime) -> None:
        """Delete a person's contents of requests that began until then.

        Raises:
            DependencyUnavailable: some may be left; doing it again is safe.
        """
        ...
