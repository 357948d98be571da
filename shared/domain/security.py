"""Security levels and findings: what content is, and what a deployment is cleared for."""

from dataclasses import dataclass
from enum import IntEnum


class SecurityLevel(IntEnum):
    """Ordered: content of a level may only reach a deployment cleared for that level or above."""

    PUBLIC = 0
    INTERNAL = 1
    CONFIDENTIAL = 2
    RESTRICTED = 3

    @property
    def label(self) -> str:
        """The word used on the wire and in files."""
        return self.name.lower()

    @classmethod
    def from_label(cls, label: str) -> "SecurityLevel":
        """Read a wire word.

        Raises:
            KeyError: not one of public, internal, confidential, restricted.
        """
        return cls[label.upper()]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something sensitive at `start`..`end` (character offsets) of the text of `location`. Never holds the value."""

    kind: str
    level: SecurityLevel
    location: str
    start: int
    end: int
    confidence: float = 1.0
