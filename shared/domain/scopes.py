"""Whom a rate limit or a budget is kept for."""

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum

_PLAIN = re.compile(r"[A-Za-z0-9._@-]{1,64}")


class Per(StrEnum):
    """What has an allowance of its own: each service, each team, each value of a tag, or the tenant as a whole."""

    SERVICE = "service"
    TEAM = "team"
    TAG = "tag"
    TENANT = "tenant"


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose request it is.

    Attributes:
        team: from the policy's entry for the service, else the request's own tag ``team``, else None.
        tags: the caller's labels; nobody has proven them.
    """

    tenant_id: str
    service: str
    team: str | None = None
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose requests count, and which of them count together. Empty sets do not restrict.

    Attributes:
        tag: the tag's key, for `Per.TAG`.
        values: only these services, teams, tag values or tenants, whatever `per` says.
        services: only requests of these services.
        tenants: only requests of these tenants.
    """

    per: Per = Per.SERVICE
    tag: str | None = None
    values: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()
    tenants: frozenset[str] = frozenset()

    def value_of(self, subject: Subject) -> str | None:
        """Who shares the allowance with this subject, or None when the scope does not hold it."""
        if (self.services and subject.service not in self.services) or (
            self.tenants and subject.tenant_id not in self.tenants
        ):
            return None
        value = self._value(subject)
        return None if value is None or (self.values and value not in self.values) else value

    def _value(self, subject: Subject) -> str | None:
        match self.per:
            case Per.SERVICE:
                return subject.service
            case Per.TENANT:
                return subject.tenant_id
            case Per.TEAM:
                return subject.team
            case Per.TAG:
                return dict(subject.tags).get(self.tag or "")


def key_part(value: str) -> str:
    """A value as part of a key: itself when it is short and plain, else its SHA-256; never two values as one."""
    if _PLAIN.fullmatch(value):
        return value
    return "~" + hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:32]
