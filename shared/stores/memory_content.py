"""In-memory twin of the store of kept content."""

from collections.abc import Sequence
from datetime import datetime

from shared.domain.errors import DependencyUnavailable
from shared.domain.kept_content import SealedContent
from shared.domain.privacy import DataSubject, SubjectKind


class MemoryContent:
    """`ContentStore` in a dictionary."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], SealedContent] = {}
        self.away = False

    async def put(self, contents: Sequence[SealedContent]) -> None:
        """Keep contents.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._answer()
        for content in contents:
            self.kept.setdefault((content.tenant_id, content.request_id), content)

    async def get(self, tenant_id: str, request_id: str, now: datetime) -> SealedContent | None:
        """What was kept of a request.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._answer()
        found = self.kept.get((tenant_id, request_id))
        return found if found is not None and found.expires_at > now else None

    async def purge(self, now: datetime) -> int:
        """Delete what has expired.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._answer()
        gone = [key for key, content in self.kept.items() if content.expires_at <= now]
        for key in gone:
            del self.kept[key]
        return len(gone)

    async def of(self, subject: DataSubject, after: str, limit: int, now: datetime) -> Sequence[SealedContent]:
        """A person's contents.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._answer()
        found = [c for c in self.kept.values() if _is_of(c, subject) and c.request_id > after and c.expires_at > now]
        return sorted(found, key=lambda content: content.request_id)[:limit]

    async def forget(self, subject: DataSubject, until: datetime) -> None:
        """Delete a person's contents.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._answer()
        self.kept = {k: c for k, c in self.kept.items() if not (_is_of(c, subject) and c.started_at <= until)}

    def _answer(self) -> None:
        if self.away:
            raise DependencyUnavailable("away")


def _is_of(content: SealedContent, subject: DataSubject) -> bool:
    if content.tenant_id != subject.tenant_id:
        return False
    match subject.kind:
        case SubjectKind.PRINCIPAL:
            return content.principal_id == subject.value
        case SubjectKind.SERVICE:
            return content.service == subject.value
        case SubjectKind.TAG:
            return (subject.tag, subject.value) in content.tags
