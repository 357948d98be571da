"""How somebody pays: card numbers and bank accounts, known by their check digits."""

import re
from collections.abc import Iterator
from typing import Final

from shared.analysis.detectors.contacts import digit_runs
from shared.analysis.detectors.detector import Detector, Hit
from shared.domain.security import SecurityLevel

_CARD: Final = re.compile(
    r"(?<![0-9])(?=([0-9]{13,19}(?![0-9])|[0-9]{4}([ \u00a0-])[0-9]{4}\2[0-9]{4}\2[0-9]{1,7}(?![0-9])"
    r"|3[0-9]{3}([ \u00a0-])[0-9]{6}\3[0-9]{4,5}(?![0-9])))"
)
"""Solid, in groups of four, or in the groups of American Express and Diners Club."""
_ISSUED: Final = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})|5[1-5][0-9]{14}|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)[0-9]{12}"
    r"|3[47][0-9]{13}|3(?:0[0-5]|[689][0-9])[0-9]{11}|35(?:2[89]|[3-8][0-9])[0-9]{12}|6[0-9]{15,18}"
)
"""Leading digits and lengths: Visa, Mastercard (51 to 55, 2221 to 2720), American Express, Diners Club, JCB, Discover,
UnionPay, Maestro (ISO/IEC 7812, https://en.wikipedia.org/wiki/Payment_card_number)."""
_IDENTIFIER_BEFORE: Final = re.compile(r"(?:[A-Za-z_]|\b(?:imei|isbn|ean|gtin|sku|tracking)\W{0,3})\Z", re.IGNORECASE)
"""A number that a letter touches is part of a longer name; some other numbers have Luhn's digit, too."""

_IBAN: Final = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}[0-9]{2}(?:[ \u00a0-]?[A-Z0-9]{1,4}+){3,9}")
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


def _cards(text: str) -> Iterator[Hit]:
    for offset, run in digit_runs(text):
        end = 0
        for match in _CARD.finditer(run):
            digits = match[1].replace(" ", "").replace("-", "").replace("\u00a0", "")
            if match.start() < end or not _ISSUED.fullmatch(digits) or len(set(digits)) <= 1 or not luhn(digits):
                continue
            start = offset + match.start()
            if _IDENTIFIER_BEFORE.search(text, max(0, start - 16), start):
                continue
            end = match.start() + len(match[1])
            yield start, offset + end, SecurityLevel.RESTRICTED, 0.95


def _ibans(text: str) -> Iterator[Hit]:
    for match in _IBAN.finditer(text):
        candidate = match.group()
        length = int(_IBAN_LENGTHS.get(candidate[:2], 0))
        compact = re.sub("[ \u00a0-]", "", candidate)
        if not length or len(compact) < length or not iban_checksum(compact[:length]):
            continue
        end = 0
        for _ in range(length):
            end += 1 + (candidate[end] in " \u00a0-")
        yield match.start(), match.start() + end, SecurityLevel.CONFIDENTIAL, 1.0


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


PAYMENTS: Final = (
    Detector("iban", (r"[A-Z]{2}[0-9]{2}[ -]?[A-Z0-9]{4}", "[A-Z]{2}[0-9]{2}\u00a0"), _ibans, is_structural=True),
    Detector("card_number", (r"[0-9][0-9 -]{11}[0-9]", "[0-9]\u00a0[0-9]"), _cards, is_structural=True),
)
