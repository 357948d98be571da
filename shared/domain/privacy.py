"""Whose data is exported or erased, and what an erasure leaves behind.

An erasure takes the person out and leaves the fact: a request record keeps its money and its tokens and loses who
asked, because the ledger must go on adding up (GDPR, article 17 (3) b); a receipt keeps its place in its chain and
loses its content; the audit trail keeps the deed (article 17 (3) e). In place of whom it was about stands the erasure's
pseudonym, which is made of nothing that was known of them. https://eur-lex.europa.eu/eli/reg/2016/679/oj
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from shared.domain.audit import UNKNOWN_NETWORK, AuditEvent
from shared.domain.canonical import canonical
from shared.domain.records import RequestRecord
from shared.domain.scopes import key_part

SETTLING = timedelta(minutes=2)
"""How long after it was asked for an erasure begins. Every process hears of it within `FRESH_S`, and erases what it
writes from then on; so when the work begins, nothing can be written any more that it would miss."""
FRESH_S = 60.0
STANDING = timedelta(days=30)
"""How long records that arrive late (queue, journals) are erased on arrival; after that the erasure does not even keep
a digest of whom it was about."""


class SubjectKind(StrEnum):
    """By what somebody is found."""

    PRINCIPAL = "principal"
    """The id at the identity provider."""
    TAG = "tag"
    """The value of a tag, such as ``user=4711``."""
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class DataSubject:
    """Whose data is meant, within a tenant. `tag` is the tag's key, for `SubjectKind.TAG`."""

    tenant_id: str
    kind: SubjectKind
    value: str = field(repr=False)
    tag: str = ""

    @property
    def digest(self) -> str:
        """What is kept of them for `STANDING`, in hex."""
        return hashlib.sha256(canonical([self.tenant_id, self.kind.value, self.tag, self.value])).hexdigest()


class ErasureState(StrEnum):
    """How far an erasure has got."""

    REQUESTED = "requested"
    RUNNING = "running"
    CERTIFIED = "certified"
    """Everything is erased and the certificate is written, but not in the audit trail yet."""
    COMPLETED = "completed"


@dataclass(frozen=True, slots=True)
class ErasureOrder:
    """An erasure. It takes in what began until `requested_at`; what the same person does later is another matter.

    Attributes:
        subject: whose data; None once it is completed, for then nobody is to know.
        digest: of the subject; None when the standing order is over.
        store, cursor: where the work goes on.
        certificate: its text, once everything is erased.
    """

    id: str
    tenant_id: str
    kind: SubjectKind
    tag: str
    digest: str | None
    requested_by: str
    requested_at: datetime
    state: ErasureState = ErasureState.REQUESTED
    subject: DataSubject | None = None
    store: int = 0
    cursor: str = ""
    certificate: str | None = None
    completed_at: datetime | None = None

    @property
    def pseudonym(self) -> str:
        """What stands in the place of the subject."""
        return f"erased-{self.id}"

    @property
    def certificate_sha256(self) -> str | None:
        """What the audit trail holds of the certificate, in hex."""
        return None if self.certificate is None else hashlib.sha256(self.certificate.encode()).hexdigest()

    def covers(self, record: RequestRecord) -> bool:
        """Whether a record is about the subject and of before the erasure."""
        return (
            record.tenant_id == self.tenant_id
            and record.start_time <= self.requested_at
            and any(subject.digest == self.digest for subject in self._subjects_of(record))
        )

    def _subjects_of(self, record: RequestRecord) -> Iterable[DataSubject]:
        match self.kind:
            case SubjectKind.PRINCIPAL:
                yield DataSubject(self.tenant_id, self.kind, record.principal_id)
            case SubjectKind.SERVICE:
                yield DataSubject(self.tenant_id, self.kind, record.service_name)
            case SubjectKind.TAG:
                yield from (DataSubject(self.tenant_id, self.kind, v, k) for k, v in record.tags if k == self.tag)


@dataclass(frozen=True, slots=True)
class ErasedStep:
    """What one step of an erasure found in a store. The same step again finds the same.

    Attributes:
        counts: rows by what they are.
        places: what was erased where rows are chained: ``place hash-of-what-was-there``.
        cursor: where the next step begins; None: the store is done.
    """

    counts: Mapping[str, int]
    places: tuple[str, ...] = ()
    cursor: str | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the places, in hex."""
        return hashlib.sha256("\n".join(sorted(self.places)).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class StoreErasure:
    """What of a store stands in a certificate.

    Attributes:
        digest: SHA-256 over the digests of all steps, in their order.
        kept: what stays, and why.
    """

    name: str
    counts: Mapping[str, int]
    digest: str
    kept: str


def pseudonymised(record: RequestRecord, order: ErasureOrder) -> RequestRecord:
    """A record without whom it was about: money, tokens and times stay."""
    name = order.pseudonym
    parts = {key_part(value) for value in _values(record, order)}
    return replace(
        record,
        principal_id=name if order.kind is SubjectKind.PRINCIPAL else record.principal_id,
        service_name=name if order.kind is SubjectKind.SERVICE else record.service_name,
        tags=tuple((k, name if order.kind is SubjectKind.TAG and k == order.tag else v) for k, v in record.tags),
        budget_accounts=tuple(_account(account, parts, name) for account in record.budget_accounts),
        error_message=None,
        trace_id=None,
        receipt=None,
    )


def told_without(event: AuditEvent, subject: DataSubject, pseudonym: str) -> AuditEvent | None:
    """An audit event without the subject; None when it is not about them."""
    match subject.kind:
        case SubjectKind.PRINCIPAL if event.actor == subject.value:
            return replace(event, actor=pseudonym, network=UNKNOWN_NETWORK, user_agent="")
        case SubjectKind.SERVICE if event.service == subject.value:
            return replace(event, actor=pseudonym, service=pseudonym, network=UNKNOWN_NETWORK, user_agent="")
        case _:
            return None


def certificate(
    order: ErasureOrder, erased: Iterable[StoreErasure], *, completed_at: datetime, elsewhere: Iterable[str]
) -> str:
    """What was erased, as canonical JSON. It does not say whose data it was: whoever asked knows.

    Args:
        order: the erasure.
        erased: by store.
        completed_at: when everything was.
        elsewhere: where the router cannot erase.
    """
    values = {
        "erasure": order.id,
        "tenant": order.tenant_id,
        "subject_kind": order.kind.value,
        "requested_by": order.requested_by,
        "requested_at": _instant(order.requested_at),
        "completed_at": _instant(completed_at),
        "pseudonym": order.pseudonym,
        "stores": [{"store": e.name, "erased": dict(e.counts), "sha256": e.digest, "kept": e.kept} for e in erased],
        "erased_on_arrival_until": _instant(completed_at + STANDING),
        "not_reached": list(elsewhere),
        "v": 1,
    }
    return canonical(values).decode()


def _values(record: RequestRecord, order: ErasureOrder) -> Iterable[str]:
    match order.kind:
        case SubjectKind.SERVICE:
            yield record.service_name
        case SubjectKind.TAG:
            yield from (value for key, value in record.tags if key == order.tag)


def _account(account: str, parts: set[str], name: str) -> str:
    budget, _, rest = account.partition("/")
    period, _, value = rest.partition("/")
    return f"{budget}/{period}/{name}" if value in parts else account


def _instant(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat()
