"""What stands in a chain in place of a body that was erased, so that the chain still holds.

A row's hash is taken of the hash before it and of its body's hash, not of the body itself:
``SHA-256(previous hash || SHA-256(body))``. So a body can be taken away and its hash left in its place: every link is
still computed, and what was erased is told apart from what was altered. A tombstone names the erasure; whether there
was one, its certificate says (`shared.domain.privacy`).
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

_KEY = "erased"
_MARK = f'"{_KEY}":{{'
_SHA256_BYTES = 32


@dataclass(frozen=True, slots=True)
class Tombstone:
    """Attributes: the erasure's id, and the SHA-256 of the body that was there."""

    erasure_id: str
    body_sha256: bytes

    def field(self) -> dict[str, Any]:
        """The field of the body that stands there now."""
        return {_KEY: {"body_sha256": self.body_sha256.hex(), "by": self.erasure_id}}


def tombstone_of(body: str) -> Tombstone | None:
    """The tombstone, or None for a body that says what it always said."""
    if _MARK not in body:
        return None
    try:
        values: Any = json.loads(body)
        stone = values[_KEY]
        digest, erasure_id = bytes.fromhex(stone["body_sha256"]), stone["by"]
    except (ValueError, KeyError, TypeError):
        return None
    is_whole = len(digest) == _SHA256_BYTES and isinstance(erasure_id, str) and len(stone) == 2  # noqa: PLR2004 - fields
    return Tombstone(erasure_id, digest) if is_whole else None


def body_digest(body: str) -> bytes:
    """The SHA-256 of a body, or, where it was erased, of the one that was there."""
    stone = tombstone_of(body)
    return hashlib.sha256(body.encode()).digest() if stone is None else stone.body_sha256


def link_hash(previous_hash: bytes, body: str) -> bytes:
    """A row's hash; the same before and after its body was erased."""
    return hashlib.sha256(previous_hash + body_digest(body)).digest()


def link_holds(previous_hash: bytes, body: str, own_hash: bytes) -> bool:
    """Whether a row's hash is that of its content.

    Rows of before there were tombstones hashed the body itself; they still hold, but cannot be erased without a trace.
    """
    return own_hash in (link_hash(previous_hash, body), hashlib.sha256(previous_hash + body.encode()).digest())
