"""What a whole request holds: sensitive content in each of its texts and across them, and signs of an attack."""

from shared.analysis.detectors.injection import signals
from shared.analysis.request_texts import PlacedText, texts_of
from shared.analysis.security import MAX_FINDINGS_PER_KIND, Scanner, usual_scanner
from shared.domain.chat import ChatRequest
from shared.domain.security import Finding


def inspect(
    request: ChatRequest, scanner: Scanner | None = None, *, most: int | None = MAX_FINDINGS_PER_KIND
) -> tuple[Finding, ...]:
    """Findings of every text, in the order of the texts; after each the signs of an attack in it.

    Args:
        request: what is asked.
        scanner: what is looked for; None: what is usual.
        most: of each kind in one text; None: all.
    """
    scanner = scanner or usual_scanner()
    findings: list[Finding] = []
    joined: list[PlacedText] = []
    for placed in texts_of(request):
        findings += scanner.scan(placed.text, placed.location, most=most)
        if placed.source is not None:
            findings += signals(placed.text, placed.location, placed.source)
        if joined or placed.joins_next:
            joined.append(placed)
        if joined and not placed.joins_next:
            findings += _across(joined, scanner, findings)
            joined = []
    return tuple(findings)


def _across(joined: list[PlacedText], scanner: Scanner, known: list[Finding]) -> list[Finding]:
    """Findings across seams; where a part of one was found already, only that counts."""
    places = {(finding.location, finding.end) for finding in known} | {(f.location, f.start) for f in known}
    parts = [(placed.location, placed.text) for placed in joined]
    found = scanner.scan_joined(parts)
    pairs = zip(found[::2], found[1::2], strict=True)
    return [
        half
        for left, right in pairs
        if (left.location, left.end) not in places and (right.location, right.start) not in places
        for half in (left, right)
    ]
