"""Tokens that were checked a moment ago need not be checked again. Kept by hash: a dump of memory holds no token."""

import hashlib
from collections import OrderedDict

from shared.domain.identity import Principal

_MOST = 4096
_LONGEST_S = 300.0
"""A token is checked anew at least this often, so that a withdrawn signing key is noticed."""


class TokenCache:
    """Principals by token, the most recently used ones."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()

    def get(self, token: str, now: float) -> Principal | None:
        """The principal of a token that was checked, while that counts. `now` in Unix seconds."""
        key = _key(token)
        found = self._known.get(key)
        if found is None:
            return None
        principal, until = found
        if now >= until:
            del self._known[key]
            return None
        self._known.move_to_end(key)
        return principal

    def put(self, token: str, principal: Principal, expires_at: float, now: float) -> None:
        """Remember a checked token until it expires, at most five minutes. Instants in Unix seconds."""
        self._known[_key(token)] = (principal, min(expires_at, now + _LONGEST_S))
        while len(self._known) > _MOST:
            self._known.popitem(last=False)


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()
