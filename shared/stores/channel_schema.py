"""The shape of ``[[channels]]`` in the policy file. docs/alerts.md says what each field means."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field

from shared.domain.channels import EVERY_TENANT, Channel, ChannelKind
from shared.stores.registry_fields import Table

MAX_CHANNELS = 100
_SecretName = Annotated[str, Field(pattern=r"^notify-[0-9a-zA-Z-]{1,120}$")]
"""Letters, digits and ``-`` are what Key Vault takes; the prefix keeps the policy away from all other secrets.

https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates
"""
_Tenant = Annotated[str, Field(pattern=r"^(\*|[A-Za-z0-9][A-Za-z0-9._-]{0,127})$")]
_Address = Annotated[str, Field(max_length=254, pattern=r"^[A-Za-z0-9._%+'-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$")]
_Url = Annotated[str, Field(max_length=2000, pattern=r"^https?://[^\s\x00-\x1f\x7f]+$")]
_FIELDS = {
    ChannelKind.WEBHOOK: {"url", "url_secret", "signing_secrets"},
    ChannelKind.TEAMS: {"url_secret"},
    ChannelKind.SLACK: {"url_secret"},
    ChannelKind.EMAIL: {"sender", "to", "connection_secret", "endpoint"},
}
"""Which fields each kind has, beside the common ones."""
_COMMON = {"name", "kind", "tenants"}
_EITHER = {
    ChannelKind.WEBHOOK: ("url", "url_secret"),
    ChannelKind.EMAIL: ("connection_secret", "endpoint"),
}
"""Fields of which a kind has exactly one."""
_NEEDED = {
    ChannelKind.WEBHOOK: ("signing_secrets",),
    ChannelKind.TEAMS: ("url_secret",),
    ChannelKind.SLACK: ("url_secret",),
    ChannelKind.EMAIL: ("sender", "to"),
}
_ENDPOINT = re.compile(r"https://[a-z0-9-]+(\.[a-z0-9-]+)+/?")


class ChannelTable(Table):
    """``[[channels]]``."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,47}$")]
    kind: ChannelKind
    tenants: Annotated[list[_Tenant], Field(min_length=1, max_length=100)]
    url: _Url | None = None
    url_secret: _SecretName | None = None
    signing_secrets: Annotated[list[_SecretName], Field(min_length=1, max_length=2)] | None = None
    sender: _Address | None = None
    to: Annotated[list[_Address], Field(min_length=1, max_length=50)] | None = None
    connection_secret: _SecretName | None = None
    endpoint: Annotated[str, Field(max_length=253)] | None = None

    def to_domain(self) -> Channel:
        """The domain's channel."""
        return Channel(
            name=self.name,
            kind=self.kind,
            tenants=frozenset(self.tenants),
            url=self.url or "",
            url_secret=self.url_secret or "",
            signing_secrets=tuple(self.signing_secrets or ()),
            sender=self.sender or "",
            to=tuple(self.to or ()),
            connection_secret=self.connection_secret or "",
            endpoint=(self.endpoint or "").rstrip("/"),
        )


def channel_problems(channels: Iterable[ChannelTable]) -> Iterator[str]:
    """What is wrong between the fields of each channel, and between their names."""
    tables = list(channels)
    for name, count in Counter(table.name for table in tables).items():
        if count > 1:
            yield f"channels[{name}].name: is given more than once"
    for table in tables:
        yield from (f"channels[{table.name}].{problem}" for problem in _problems(table))


def _problems(table: ChannelTable) -> Iterator[str]:
    for key in sorted(table.model_fields_set - _COMMON - _FIELDS[table.kind]):
        yield f"{key}: a {table.kind} channel has none"
    for key in _NEEDED[table.kind]:
        if getattr(table, key) is None:
            yield f"{key}: is missing"
    either = _EITHER.get(table.kind, ())
    if either and sum(getattr(table, key) is not None for key in either) != 1:
        yield f"{either[0]}: give either {either[0]} or {either[1]}"
    if table.url is not None and (problem := _url_problem(table.url)):
        yield f"url: {problem}"
    if table.endpoint is not None and not _ENDPOINT.fullmatch(table.endpoint):
        yield "endpoint: must be https:// and a host name, with nothing behind it"
    if EVERY_TENANT in table.tenants and len(table.tenants) > 1:
        yield f"tenants: {EVERY_TENANT!r} already means every tenant"


def _url_problem(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is no address"
    if not host:
        return "names no host"
    if parts.username is not None or parts.password is not None:
        return "holds credentials: give the address as url_secret"
    return None
