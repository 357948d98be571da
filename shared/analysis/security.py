"""Sensitive content in text: credentials, payment data, personal data, markings. Findings hold places, never values.

All text is read, not a sample: content that nobody looked at must not pass as harmless. One automaton reads it once and
says which detectors have to look closer (`shared.analysis.detectors`); each of those is linear in the text's length.
"""

import functools
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final

from shared.analysis.detectors.contacts import CONTACTS
from shared.analysis.detectors.credentials import CREDENTIALS
from shared.analysis.detectors.custom import detector_of
from shared.analysis.detectors.detector import Hit, Triggers, encodable
from shared.analysis.detectors.disguises import DISGUISE_TRIGGERS, WRAPPED_TRIGGER, undisguised, unwrapped
from shared.analysis.detectors.markings import MARKINGS
from shared.analysis.detectors.national_ids import NATIONAL_IDS
from shared.analysis.detectors.passwords import PASSWORDS
from shared.analysis.detectors.payments import PAYMENTS
from shared.analysis.detectors.persons import PERSONS
from shared.domain.security import DetectionRules, Finding, SecurityLevel

MAX_FINDINGS_PER_KIND: Final = 20
"""Per text. The level does not depend on how many are kept."""

_KNOWN: Final = (*CREDENTIALS, *PASSWORDS, *PAYMENTS, *NATIONAL_IDS, *CONTACTS, *PERSONS, *MARKINGS)
"""Where two overlap the first one wins: the surer, and the worse to lose."""

Found = tuple[str, Hit]
"""A kind, and where it was found."""


class Scanner:
    """Looks for what is known and for what a platform team adds.

    Args:
        rules: patterns and levels beside the usual ones; None: there are none.
        kinds: look for these only; None: for all.
    """

    def __init__(self, rules: DetectionRules | None = None, kinds: frozenset[str] | None = None) -> None:
        rules = rules or DetectionRules()
        custom = tuple(detector_of(pattern) for pattern in rules.patterns)
        self._detectors = tuple(d for d in (*custom, *_KNOWN) if kinds is None or d.kind in kinds)
        self._levels = rules.levels
        self._triggers = Triggers(
            [*(detector.triggers for detector in self._detectors), DISGUISE_TRIGGERS, (WRAPPED_TRIGGER,)]
        )
        self._disguise, self._wrapping = len(self._detectors), len(self._detectors) + 1
        self._structural = frozenset(i for i, d in enumerate(self._detectors) if d.is_structural)

    def scan(self, text: str, location: str, *, most: int | None = MAX_FINDINGS_PER_KIND) -> list[Finding]:
        """Findings of one text, at most `most` of each kind, the highest level among them."""
        kept: list[Finding] = []
        seen: Counter[str] = Counter()
        highest: dict[str, Finding] = {}
        for kind, (start, end, level, confidence) in self.hits(text):
            finding = Finding(kind, self._levels.get(kind, level), location, start, end, confidence)
            seen[kind] += 1
            if most is None or seen[kind] <= most:
                kept.append(finding)
            if kind not in highest or finding.level > highest[kind].level:
                highest[kind] = finding
        if most is not None:
            for kind in [kind for kind, count in seen.items() if count > most and highest[kind] not in kept]:
                last = max(index for index, finding in enumerate(kept) if finding.kind == kind)
                kept[last] = highest[kind]
        return kept

    def scan_joined(self, parts: list[tuple[str, str]]) -> list[Finding]:
        """Findings that lie across the seams of texts which a model reads as one: each part's share of them.

        Args:
            parts: location and text, in order.
        """
        findings: list[Finding] = []
        for (left_at, left), (right_at, right) in pairwise(parts):
            head, tail = left[-_SEAM_CHARS:], right[:_SEAM_CHARS]
            seam = len(head)
            for kind, (start, end, level, confidence) in self._structural_hits(encodable(head + tail)):
                if not start < seam < end:
                    continue
                level_ = self._levels.get(kind, level)
                offset = len(left) - seam
                findings.append(Finding(kind, level_, left_at, offset + start, len(left), confidence))
                findings.append(Finding(kind, level_, right_at, 0, end - seam, confidence))
        return findings

    def hits(self, text: str) -> list[Found]:
        """All hits of a text in order of kind and place, none overlapping another."""
        if not text:
            return []
        text = encodable(text)
        taken = _Taken()
        found: list[Found] = []
        for owner in self._triggers.fired(text):
            if owner < self._disguise:
                detector = self._detectors[owner]
                found += [(detector.kind, hit) for hit in detector.find(text) if taken.take(hit[0], hit[1])]
            elif owner == self._disguise:
                found += self._disguised_hits(text, taken)
            else:
                found += self._wrapped_hits(text, taken)
        return found

    def _disguised_hits(self, text: str, taken: "_Taken") -> Iterator[Found]:
        view = undisguised(text)
        for kind, (start, end, level, confidence) in [] if view is None else self._structural_hits(view.text):
            if view is not None and taken.take(*(place := view.span(start, end))):
                yield kind, (*place, level, confidence)

    def _wrapped_hits(self, text: str, taken: "_Taken") -> Iterator[Found]:
        for start, end, content in unwrapped(text):
            inside = self._structural_hits(content)
            if not inside or not taken.take(start, end):
                continue
            for kind, level, confidence in {kind: (kind, hit[2], hit[3]) for kind, hit in inside}.values():
                yield kind, (start, end, level, confidence)

    def certain(self, text: str) -> list[Found]:
        """Hits that need nothing around them to be known."""
        return self._structural_hits(encodable(text))

    def _structural_hits(self, text: str) -> list[Found]:
        taken = _Taken()
        return [
            (self._detectors[owner].kind, hit)
            for owner in self._triggers.fired(text)
            if owner in self._structural
            for hit in self._detectors[owner].find(text)
            if taken.take(hit[0], hit[1])
        ]


_SEAM_CHARS: Final = 256


class _Taken:
    """Places that belong to a hit already."""

    def __init__(self) -> None:
        self._starts: list[tuple[int, int]] = []

    def take(self, start: int, end: int) -> bool:
        """Whether the place was free; then it is not any more."""
        index = bisect_left(self._starts, (start, end))
        if index < len(self._starts) and self._starts[index][0] < end:
            return False
        if index > 0 and self._starts[index - 1][1] > start:
            return False
        self._starts.insert(index, (start, end))
        return True


@functools.lru_cache(maxsize=1)
def usual_scanner() -> Scanner:
    """The scanner without any policy."""
    return Scanner()


def scan(text: str, location: str) -> list[Finding]:
    """Findings of one text by the usual rules, at most `MAX_FINDINGS_PER_KIND` of each kind."""
    return usual_scanner().scan(text, location)


def level_of(findings: Iterable[Finding], label: SecurityLevel | None) -> SecurityLevel:
    """The highest of findings and declared label; a label raises, it never lowers."""
    found = [finding.level for finding in findings]
    return max((*found, label or SecurityLevel.PUBLIC))
