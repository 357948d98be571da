"""Sensitive content in text: credentials, payment data, personal data. Findings hold places, never values.

All text is read, not a sample: content that nobody looked at must not pass as harmless. Every pattern is linear in the
text's length: repetitions are bounded or possessive, and rare patterns run only where their literal part occurs.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from shared.domain.security import Finding, SecurityLevel

MAX_FINDINGS_PER_KIND: Final = 20
"""Per text. The level does not depend on how many are kept."""
_BULK: Final = 10
"""Role addresses beside a personal one do not matter, but ten of them are somebody's address book."""

_RESTRICTED, _CONFIDENTIAL, _INTERNAL = SecurityLevel.RESTRICTED, SecurityLevel.CONFIDENTIAL, SecurityLevel.INTERNAL


@dataclass(frozen=True, slots=True)
class _Secret:
    """A credential: `needles` are literals, one of which every match contains."""

    kind: str
    needles: tuple[str, ...]
    pattern: re.Pattern[str]


_SECRETS: Final = (
    _Secret("private_key", ("PRIVATE KEY",), re.compile(
        r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----")),
    _Secret("jwt", ("eyJ",), re.compile(r"(?<![\w-])eyJ[\w-]{8,4096}+\.eyJ[\w-]{8,8192}+\.[\w-]{16,4096}+", re.ASCII)),
    _Secret("aws_access_key", ("AKIA", "ASIA"), re.compile(r"(?<![A-Z0-9])(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Z0-9])")),
    _Secret("aws_secret_key", ("secret_access_key", "SECRET_ACCESS_KEY", "SecretAccessKey"), re.compile(
        r"(?:secret_access_key|SECRET_ACCESS_KEY|SecretAccessKey)[\"'\s:=]{1,8}[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])")),
    _Secret("google_api_key", ("AIza",), re.compile(r"(?<![\w-])AIza[\w-]{35}(?![\w-])", re.ASCII)),
    _Secret("google_oauth_token", ("ya29.",), re.compile(r"(?<![\w-])ya29\.[\w-]{20,2048}", re.ASCII)),
    _Secret("azure_connection_string", ("AccountKey=", "SharedAccessKey="), re.compile(
        r"(?:AccountKey|SharedAccessKey)=[A-Za-z0-9+/]{43,88}={0,2}")),
    _Secret("azure_sas", ("sig=",), re.compile(r"[?&]sig=[A-Za-z0-9%+/]{40,100}")),
    _Secret("github_token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"), re.compile(
        r"(?<!\w)(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_\w{22,255})", re.ASCII)),
    _Secret("slack_token", ("xox",), re.compile(r"(?<!\w)xox[abeprs]-[A-Za-z0-9-]{10,255}")),
    _Secret("api_key", ("sk-", "sk_live_"), re.compile(r"(?<![\w-])(?:sk-[\w-]{20,255}|sk_live_\w{16,255})", re.ASCII)),
)  # fmt: skip
"""Formats as the issuers publish them."""

_DIGIT_RUN: Final = re.compile(r"[+(]?[0-9][0-9 ()./\u00a0+-]{6,}+")
_CARD: Final = re.compile(
    r"(?<![0-9])(?=([0-9]{13,19}(?![0-9])|[0-9]{4}([ -])[0-9]{4}\2[0-9]{4}\2[0-9]{1,7}(?![0-9])"
    r"|3[0-9]{3}([ -])[0-9]{6}\3[0-9]{4,5}(?![0-9])))"
)
"""Solid, in groups of four, or in the groups of American Express and Diners Club."""
_ISSUED: Final = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})|5[1-5][0-9]{14}|2[2-7][0-9]{14}|3[47][0-9]{13}|3[0689][0-9]{12}|35[0-9]{14}"
    r"|6[0-9]{15,18}"
)
"""Leading digits and lengths: Visa, Mastercard, American Express, Diners Club, JCB, Discover, UnionPay, Maestro."""
_PHONE: Final = re.compile(
    r"(?<![0-9])(?:\+[1-9](?:[ ()./-]{0,2}[0-9]){7,14}|\([2-9][0-9]{2}\) ?[2-9][0-9]{2}[ -][0-9]{4}"
    r"|[2-9][0-9]{2}([.-])[2-9][0-9]{2}\1[0-9]{4})(?![0-9])"
)
"""International numbers (E.164, at most fifteen digits) and North American ones in their usual writing."""
_LABELLED_PHONE: Final = re.compile(
    r"\b(?:phone|mobile|cell|fax|tel|telefon|mobil|handy|téléphone|teléfono)\b[^\d\n]{0,12}"
    r"(\(?[0-9](?:[ ()./-]{0,2}[0-9]){6,14})(?![0-9])",
    re.IGNORECASE,
)
_EMAIL_DOMAIN: Final = re.compile(r"@[A-Za-z0-9-]{1,63}+(?:\.[A-Za-z0-9-]{1,63}+){0,7}\.[A-Za-z]{2,24}(?![A-Za-z0-9])")
_EMAIL_LOCAL_CHARS: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._%+-"
_ROLES: Final = re.compile(
    r"abuse|admin|billing|contact|git|hello|help|hr|info|jobs|legal|mail|marketing|news|newsletter|no-?reply|office|orders"
    r"|postmaster|press|privacy|sales|security|service|support|team|webmaster",
    re.IGNORECASE,
)
"""Local parts that name a function and not a person."""
_IBAN: Final = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{1,4}+){3,9}")
_IBAN_LENGTHS: Final = dict(
    re.findall(
        "(..):(..)",
        "AD:24 AE:23 AL:28 AT:20 AZ:28 BA:20 BE:16 BG:22 BH:22 BR:29 BY:28 CH:21 CR:22 CY:28 CZ:24 DE:22 DK:18 DO:28 "
        "EE:20 EG:29 ES:24 FI:18 FO:18 FR:27 GB:22 GE:22 GI:23 GL:18 GR:27 GT:28 HR:21 HU:28 IE:22 IL:23 IQ:23 IS:26 "
        "IT:27 JO:30 KW:30 KZ:20 LB:28 LC:32 LI:21 LT:20 LU:20 LV:21 LY:25 MC:27 MD:24 ME:22 MK:19 MR:27 MT:31 MU:30 "
        "NL:18 NO:15 PK:24 PL:28 PS:29 PT:25 QA:29 RO:24 RS:22 SA:24 SC:31 SE:24 SI:19 SK:24 SM:27 ST:25 SV:28 TL:23 "
        "TN:24 TR:26 UA:29 VA:22 VG:24 XK:20",
    )
)
"""Length by country: SWIFT's IBAN registry (ISO 13616)."""

Hit = tuple[int, int, SecurityLevel, float]
"""Start, end, level, confidence."""


def scan(text: str, location: str) -> list[Finding]:
    """Findings of one text, in order of kind and place, at most `MAX_FINDINGS_PER_KIND` of each kind."""
    findings: list[Finding] = []
    for kind, hits in _detectors(text):
        kept: list[Finding] = []
        highest: Finding | None = None
        for start, end, level, confidence in hits:
            finding = Finding(kind, level, location, start, end, confidence)
            if len(kept) < MAX_FINDINGS_PER_KIND:
                kept.append(finding)
            if highest is None or level > highest.level:
                highest = finding
            if len(kept) == MAX_FINDINGS_PER_KIND and highest.level >= _CONFIDENTIAL:
                break  # what follows cannot change the level: where a kind has two, this is the higher
        if highest is not None and highest not in kept:
            kept[-1] = highest
        findings.extend(kept)
    return findings


def level_of(findings: Iterable[Finding], label: SecurityLevel | None) -> SecurityLevel:
    """The highest of findings and declared label; a label raises, it never lowers."""
    found = [finding.level for finding in findings]
    return max((*found, label or SecurityLevel.PUBLIC))


def _detectors(text: str) -> Iterator[tuple[str, Iterator[Hit]]]:
    for secret in _SECRETS:
        if any(needle in text for needle in secret.needles):
            yield secret.kind, _matches(secret.pattern, text, _RESTRICTED)
    if "@" in text:
        yield "email", _emails(text)
    runs = [(match.start(), match.group()) for match in _DIGIT_RUN.finditer(text)]
    if runs:
        yield "card_number", _in_runs(runs, _cards)
        yield "phone", _in_runs(runs, lambda run: _matches(_PHONE, run, _CONFIDENTIAL, 0.8))
        yield "phone", _labelled_phones(text, runs)
    yield "iban", _ibans(text)


def _matches(pattern: re.Pattern[str], text: str, level: SecurityLevel, confidence: float = 1.0) -> Iterator[Hit]:
    for match in pattern.finditer(text):
        yield match.start(), match.end(), level, confidence


def _in_runs(runs: list[tuple[int, str]], detector: Callable[[str], Iterator[Hit]]) -> Iterator[Hit]:
    for offset, run in runs:
        for start, end, level, confidence in detector(run):
            yield offset + start, offset + end, level, confidence


def _emails(text: str) -> Iterator[Hit]:
    seen: Counter[str] = Counter()
    for match in _EMAIL_DOMAIN.finditer(text):
        before = text[max(0, match.start() - 64) : match.start()]
        local = before[len(before.rstrip(_EMAIL_LOCAL_CHARS)) :].lstrip(".")
        if not local:
            continue
        role = _ROLES.fullmatch(local) is not None
        seen["role" if role else "person"] += 1
        level = _INTERNAL if role and seen["role"] < _BULK else _CONFIDENTIAL
        yield match.start() - len(local), match.end(), level, 1.0


def _cards(run: str) -> Iterator[Hit]:
    end = 0
    for match in _CARD.finditer(run):
        digits = match[1].replace(" ", "").replace("-", "")
        if match.start() >= end and _ISSUED.fullmatch(digits) and len(set(digits)) > 1 and luhn(digits):
            end = match.start() + len(match[1])
            yield match.start(), end, _RESTRICTED, 0.95


def _labelled_phones(text: str, runs: list[tuple[int, str]]) -> Iterator[Hit]:
    # Only the words just before a run of digits are looked at, so a long text costs what its numbers cost.
    for offset, run in runs:
        begin = max(0, offset - 24)
        match = _LABELLED_PHONE.search(text, begin, offset + min(len(run), 40))
        if match and not _PHONE.search(match[1]) and text[max(0, match.start(1) - 1)] != "+":
            yield match.start(1), match.end(1), _CONFIDENTIAL, 0.7


def _ibans(text: str) -> Iterator[Hit]:
    for match in _IBAN.finditer(text):
        candidate = match.group()
        length = int(_IBAN_LENGTHS.get(candidate[:2], 0))
        compact = candidate.replace(" ", "")
        if not length or len(compact) < length or not iban_checksum(compact[:length]):
            continue
        end = 0
        for _ in range(length):
            end += 1 + (candidate[end] == " ")
        yield match.start(), match.start() + end, _CONFIDENTIAL, 1.0


def luhn(digits: str) -> bool:
    """Whether the last digit is the Luhn check digit of the others (ISO/IEC 7812-1)."""
    total = 0
    for index, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + index % 2)
        total += value - 9 if value > 9 else value  # noqa: PLR2004  # the digit sum of a doubled digit
    return total % 10 == 0


def iban_checksum(compact: str) -> bool:
    """Whether the check digits hold: moved to the end, letters as 10 to 35, the rest modulo 97 is 1 (ISO 7064)."""
    rearranged = compact[4:] + compact[:4]
    return int("".join(str(int(char, 36)) for char in rearranged)) % 97 == 1
