"""What the audit trail, the sessions and the answer cache hold of a person, as `PersonalStore`s."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from shared.domain.audit import AuditRow, day_of, erased_row
from shared.domain.dataclass_json import to_values
from shared.domain.errors import Conflict, InvalidRequest
from shared.domain.privacy import DataSubject, ErasedStep, ErasureOrder, SubjectKind, told_without
from shared.domain.sessions import SessionFamily
from shared.domain.tombstones import tombstone_of
from shared.ports import AnswerCache, AuditStore, Clock, ExportPage, SessionFamilies
from shared.services.answer_keys import tenant_prefix

_DAY = timedelta(days=1)


class AuditOfPersons:
    """`PersonalStore`: the audit trail, a day a step.

    Args:
        trails: the trail.
        clock: where exports end.
    """

    name = "audit"
    kept = (
        "every deed, under the pseudonym and without network and user agent, for the tenant's security; the hash of "
        "what stood there"
    )

    def __init__(self, trails: AuditStore, clock: Clock) -> None:
        self._trails = trails
        self._clock = clock

    async def export(self, subject: DataSubject, cursor: str, limit: int) -> ExportPage:
        """The subject's deeds, the oldest day first, whole days at a time.

        Raises:
            DependencyUnavailable: the trail is away.
            InvalidRequest: the cursor is none of this store's.
        """
        day, rows = await self._day(subject, cursor), list[dict[str, object]]()
        until = self._clock.now()
        while day is not None and day <= until:
            found = await self._trails.rows_of(subject.tenant_id, day)
            rows += [
                {"deed": to_values(row.event)} for row in found if told_without(row.event, subject, "") is not None
            ]
            day += _DAY
            if len(rows) >= limit:
                return ExportPage(rows, day_of(day))
        return ExportPage(rows)

    async def erase(self, order: ErasureOrder, subject: DataSubject, cursor: str) -> ErasedStep:
        """Retell a day's deeds of the subject under the pseudonym.

        Raises:
            DependencyUnavailable: the trail is away; the step is to be taken again.
        """
        day = None if subject.kind is SubjectKind.TAG else await self._day(subject, cursor)
        if day is None or day > order.requested_at:
            return ErasedStep({})
        rows = [self._erased(row, order, subject) for row in await self._trails.rows_of(subject.tenant_id, day)]
        await self._trails.retell([new for old, new in rows if new is not old])
        # Whatever bears this erasure's name was erased by it, in this try or in one that was killed.
        stones = [(new, tombstone_of(new.body)) for _, new in rows]
        places = tuple(
            f"{row.chain}/{row.sequence} {stone.body_sha256.hex()}"
            for row, stone in stones
            if stone is not None and stone.erasure_id == order.id
        )
        return ErasedStep({"deeds": len(places)} if places else {}, places, day_of(day + _DAY))

    @staticmethod
    def _erased(row: AuditRow, order: ErasureOrder, subject: DataSubject) -> tuple[AuditRow, AuditRow]:
        event = row.event
        told = told_without(event, subject, order.pseudonym) if event.at <= order.requested_at else None
        return row, row if told is None else erased_row(row, order.id, told)

    async def _day(self, subject: DataSubject, cursor: str) -> datetime | None:
        if not cursor:
            return await self._trails.first_day(subject.tenant_id)
        try:
            return datetime.strptime(cursor, "%Y-%m-%d").replace(tzinfo=UTC)
        except ValueError:
            raise InvalidRequest("cursor: not one that this endpoint gave", param="cursor") from None


class SessionsOfPersons:
    """`PersonalStore`: router sessions. They last for hours, so all of them are one step.

    Args:
        families: the sessions.
    """

    name = "sessions"
    kept = "ended sessions under the pseudonym, without hashes of tokens, until the hour in which they would have ended"

    def __init__(self, families: SessionFamilies) -> None:
        self._families = families

    async def export(self, subject: DataSubject, cursor: str, limit: int) -> ExportPage:
        """The subject's sessions, without anything of their tokens.

        Raises:
            DependencyUnavailable: the store is away.
        """
        del cursor, limit
        found = [family for family, _ in await self._families.all_of(subject.tenant_id) if _is_of(family, subject)]
        return ExportPage([{"session": to_values(replace(family, current="", spent=()))} for family in found])

    async def erase(self, order: ErasureOrder, subject: DataSubject, cursor: str) -> ErasedStep:
        """End the subject's sessions and take the name out of them; the hourly sweep deletes them in time.

        Raises:
            DependencyUnavailable: the store is away; the step is to be taken again.
        """
        del cursor
        name, count = order.pseudonym, 0
        for family, etag in await self._families.all_of(subject.tenant_id):
            if not _is_of(family, subject):
                count += name in (family.principal_id, family.service)
                continue
            service = name if subject.kind is SubjectKind.SERVICE else family.service
            nobody = replace(family, principal_id=name, service=service, current="", spent=(), groups=(), revoked=True)
            try:
                await self._families.replace(nobody, etag)
            except Conflict:
                # It was refreshed at this instant: the same step again finds it.
                return await self.erase(order, subject, "")
            count += 1
        return ErasedStep({"sessions": count} if count else {})


class AnswersOfPersons:
    """`PersonalStore`: kept answers. They bear no names, so all of the tenant's go.

    Args:
        cache: the answers.
    """

    name = "answer_cache"
    kept = (
        "results under idempotency keys, sealed with what only the caller knows, for a day at most; counters of rate "
        "limits and failed sign-ins, for an hour at most"
    )

    def __init__(self, cache: AnswerCache) -> None:
        self._cache = cache

    async def export(self, subject: DataSubject, cursor: str, limit: int) -> ExportPage:
        """Nothing: a kept answer does not say for whom it was."""
        del subject, cursor, limit
        return ExportPage([])

    async def erase(self, order: ErasureOrder, subject: DataSubject, cursor: str) -> ErasedStep:
        """Delete all of the tenant's answers; they cost money to make again, and nothing else.

        Raises:
            DependencyUnavailable: the cache is away; the step is to be taken again.
        """
        del order, cursor
        await self._cache.forget(tenant_prefix(subject.tenant_id))
        return ErasedStep({"caches_emptied": 1})


def _is_of(family: SessionFamily, subject: DataSubject) -> bool:
    match subject.kind:
        case SubjectKind.PRINCIPAL:
            return family.principal_id == subject.value
        case SubjectKind.SERVICE:
            return family.service == subject.value
        case SubjectKind.TAG:
            return False
