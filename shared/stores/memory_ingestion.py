"""The twins of what ingestion needs: blobs and the queue of tasks."""

from collections.abc import Sequence

from shared.domain.documents import IngestionTask
from shared.domain.errors import DependencyUnavailable, NotFound, RequestTooLarge


class MemoryBlobStore:
    """`BlobStore` in a dictionary, `by_name`."""

    def __init__(self) -> None:
        self.by_name: dict[str, bytes] = {}
        self.away = False

    async def put(self, name: str, content: bytes) -> None:
        """Keep bytes under a name.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._answer()
        self.by_name[name] = content

    async def get(self, name: str, *, max_bytes: int) -> bytes:
        """The bytes under a name.

        Raises:
            NotFound: there are none.
            RequestTooLarge: there are more than `max_bytes`.
            DependencyUnavailable: while `away`.
        """
        self._answer()
        if name not in self.by_name:
            raise NotFound("there is no such blob")
        if len(self.by_name[name]) > max_bytes:
            raise RequestTooLarge(f"the blob is larger than {max_bytes} bytes")
        return self.by_name[name]

    async def delete(self, name: str) -> None:
        """Forget a name.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._answer()
        self.by_name.pop(name, None)

    def _answer(self) -> None:
        if self.away:
            raise DependencyUnavailable("the blob service does not answer")


class MemoryIngestionQueue:
    """`IngestionQueue` in a list of tasks with their delays, `waiting`."""

    def __init__(self) -> None:
        self.waiting: list[tuple[IngestionTask, int]] = []
        self.away = False

    async def put(self, tasks: Sequence[IngestionTask], *, delay_s: int = 0) -> None:
        """Enqueue tasks.

        Raises:
            DependencyUnavailable: while `away`.
        """
        if self.away:
            raise DependencyUnavailable("the queue service does not answer")
        self.waiting.extend((task, delay_s) for task in tasks)
