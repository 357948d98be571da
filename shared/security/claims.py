"""What claims have in common, whoever checked the token that they come from."""

import re
from collections.abc import Iterable, Mapping

from shared.domain.identity import RouterRole

IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""Ids of tenants, applications and principals."""
_ROUTER_ROLES: Mapping[str, RouterRole] = {role.value: role for role in RouterRole}


def router_roles(names: Iterable[str]) -> frozenset[RouterRole]:
    """The roles that the router knows; others are another application's."""
    return frozenset(_ROUTER_ROLES[name] for name in names if name in _ROUTER_ROLES)
