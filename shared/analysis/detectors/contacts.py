"""How a person is reached: e-mail addresses, telephone numbers, postal addresses."""
# ruff: noqa: RUF001  # the unusual characters are what is looked for

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from shared.analysis.detectors.detector import Detector, Hit, at_anchors, fast, words_around
from shared.domain.security import SecurityLevel

_INTERNAL, _CONFIDENTIAL = SecurityLevel.INTERNAL, SecurityLevel.CONFIDENTIAL

_BULK: Final = 10
"""Role addresses beside a personal one do not matter, but ten of them are somebody's address book."""
_EMAIL_DOMAIN: Final = re.compile(
    r"@[A-Za-z0-9-]{1,63}+(?:\.[A-Za-z0-9-]{1,63}+){0,7}\.(?P<top>[A-Za-z]{2,24})(?![A-Za-z0-9])"
)
_EMAIL_LOCAL_CHARS: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._%+-"
_FILE_ENDINGS: Final = frozenset(
    {"png", "jpg", "jpeg", "gif", "svg", "webp", "ico", "css", "js", "mjs", "ts", "json", "html", "xml", "yaml", "yml",
     "txt", "pdf", "md", "csv", "xlsx", "docx", "tgz", "gz", "whl", "jar"}
)  # fmt: skip
"""``logo@2x.png`` and ``left-pad@1.3.0.tgz`` are files."""
_ROLES: Final = re.compile(
    r"abuse|admin|billing|contact|git|hello|help|hr|info|jobs|legal|mail|marketing|news|newsletter"
    r"|no-?reply|office|orders"
    r"|postmaster|press|privacy|sales|security|service|support|team|webmaster",
    re.IGNORECASE,
)
"""Local parts that name a function and not a person (RFC 2142 has the oldest of them)."""


def _emails(text: str) -> Iterator[Hit]:
    seen: Counter[str] = Counter()
    for match in _EMAIL_DOMAIN.finditer(text):
        before = text[max(0, match.start() - 64) : match.start()]
        local = before[len(before.rstrip(_EMAIL_LOCAL_CHARS)) :].lstrip(".-")
        end = match.end() if match["top"].lower() not in _FILE_ENDINGS else _without_file_ending(match)
        if not local or end is None:
            continue
        role = _ROLES.fullmatch(local) is not None
        seen["role" if role else "person"] += 1
        level = _INTERNAL if role and seen["role"] < _BULK else _CONFIDENTIAL
        yield match.start() - len(local), end, level, 1.0


def _without_file_ending(match: re.Match[str]) -> int | None:
    """Where the address ends in ``jane@acme.org.csv``; None where the rest is none, as in ``logo@2x.png``."""
    rest = match[0].rpartition(".")[0]
    return match.start() + len(rest) if rest.rpartition(".")[2].isalpha() and "." in rest else None


_DIGITS: Final = re.compile(r"[0-9][0-9 ()./\u00a0+-]{6,}+")


def digit_runs(text: str) -> Iterator[tuple[int, str]]:
    """Where a number of some length may stand, with its sign or parenthesis; more exact patterns look there only."""
    for match in _DIGITS.finditer(text):
        start = match.start()
        signed = start - (start > 0 and text[start - 1] in "+(")
        yield signed, text[signed : match.end()]


_PHONE: Final = re.compile(
    r"(?<![0-9])(?:\+[1-9](?:[ ()./\u00a0-]{0,2}[0-9]){7,14}|\([2-9][0-9]{2}\) ?[2-9][0-9]{2}[ -][0-9]{4}"
    r"|[2-9][0-9]{2}([.-])[2-9][0-9]{2}\1[0-9]{4})(?![0-9])"
)
"""International numbers (E.164, at most fifteen digits) and North American ones in their usual writing."""
_PHONE_WORD: Final = re.compile(
    r"(?:\b(?:phone|mobile|cell|fax|tel|telefon\w*+|mobil\w*+|handy\w*+|téléphone|portable|teléfono"
    r"|móvil|telefono|cellulare"
    r"|telefoon\w*+|mobiel|celular|telemóvel|komórka|rufnummer|durchwahl|whatsapp|ring me|call me"
    r"|reach me|text me|ruf mich)\b"
    r"|тел\b|телефон|电话|電話|手机|전화)[^\d\n]{0,20}\Z",
    re.IGNORECASE,
)
_LABELLED_PHONE: Final = re.compile(r"\(?[0-9](?:[ ()./\u00a0-]{0,2}[0-9]){6,14}(?![0-9])")
_NOT_A_PHONE: Final = re.compile(
    r"(?:order|invoice|ticket|tracking|serial|version|build|ref(?:erence)?|case|account|sku|isbn|id|no|nr|number)"
    r"[.:#\s]{0,3}\Z",
    re.IGNORECASE,
)
_DATE: Final = re.compile(
    r"(?:19|20)[0-9]{2}[-./][0-9]{1,2}[-./][0-9]{1,2}|[0-9]{1,2}[./-][0-9]{1,2}[./-](?:19|20)[0-9]{2}"
)


def _phones(text: str) -> Iterator[Hit]:
    for offset, run in digit_runs(text):
        before = text[max(0, offset - 32) : offset]
        found = False
        for match in _PHONE.finditer(run):
            if match.start() == 0 and not run.startswith(("+", "(")) and _NOT_A_PHONE.search(before):
                continue
            found = True
            yield offset + match.start(), offset + match.end(), _CONFIDENTIAL, 0.8
        if found or run.startswith("+") or not _PHONE_WORD.search(before):
            continue
        labelled = _LABELLED_PHONE.match(run)
        if labelled and not _DATE.match(labelled[0]):
            yield offset, offset + labelled.end(), _CONFIDENTIAL, 0.7


_HOUSE: Final = r"[0-9]{1,5}+(?:\s?+[a-zA-Z])?(?:[-/][0-9]{1,4}+)?"
_NAME: Final = r"[A-ZÀ-ÖØ-Þ][\w'’.-]{1,24}"
_NUMBER_FIRST: Final = fast(
    r"\b(?:Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive|Dr|Boulevard|Blvd|Court|Ct|Way|Place|Pl"
    r"|Terrace|Close|Crescent|Square|Sq"
    r"|Highway|Hwy|Parkway|Pkwy)\b",
    ignore_case=False,
)
_BEFORE_STREET: Final = re.compile(rf"(?<![\w-]){_HOUSE},? (?:[NSEW]\.? )?(?:{_NAME} ){{1,3}}\Z")
_AFTER_STREET: Final = re.compile(r"\.?(?:,? (?:Apt|Apartment|Suite|Unit|Flat|#)\.? ?\w{1,6})?")
_NAME_AS_ENDING: Final = fast(
    r"(?:straße|strasse|str\.|weg|platz|allee|gasse|ring|damm|ufer|straat|laan|plein|gracht|kade|singel) [0-9]"
)
_BEFORE_ENDING: Final = re.compile(rf"(?:{_NAME} ){{0,2}}[A-ZÄÖÜ][a-zäöüß-]{{2,24}}\Z")
_AFTER_ENDING: Final = re.compile(rf"\S{{1,80}}+ {_HOUSE}\b", re.IGNORECASE)
_STREET_FIRST_WORD: Final = fast(
    r"\b(?:rue|avenue|boulevard|place|chemin|impasse|quai|calle|avenida|avda\.|plaza|paseo|C/|via"
    r"|viale|piazza|corso|rua|ul\.) "
    r"|allée "
)
_STREET_FIRST: Final = re.compile(
    rf"(?:rue|avenue|boulevard|place|chemin|allée|impasse|quai)(?: (?:de|du|des|la|le|l'"
    rf"|d')){{0,4}}+ ?{_NAME}+(?: {_NAME}+){{0,3}}+"
    r"|(?:[Cc]alle|[Aa]venida|[Aa]vda\.|[Pp]laza|[Pp]aseo|C/|[Vv]ia|[Vv]iale|[Pp]iazza|[Cc]orso|[Rr]ua|ul\.)"
    rf"(?: (?:de|del|la|los|las|della|dei|do|da)){{0,4}}+ {_NAME}+(?: {_NAME}+){{0,3}}+"
    rf",?+ ?+(?:n[ºo°.]{{0,2}}+ ?+)?+{_HOUSE}\b"
)
_FRENCH_HOUSE: Final = re.compile(rf"(?<![\w-]){_HOUSE},? (?:bis |ter )?\Z")
_REACH: Final = 64
_POSTCODE: Final = re.compile(
    r"[,\s]{1,3}(?:(?:[A-Z][\w'’. -]{1,28},? )?(?:[A-Z]{2} )?[0-9]{5}(?:-[0-9]{4})?\b|(?:D-|F-|I-"
    r"|E-|A-|CH-)?[0-9]{4,5} [A-ZÀ-Þ]"
    r"|[0-9]{4} ?[A-Z]{2}\b|(?:[A-Z][\w'’. -]{1,28},? )?[A-Z]{1,2}[0-9][A-Z0-9]? ?[0-9][A-Z]{2}\b"
    r"|[0-9]{2}-[0-9]{3} [A-Z])"
)
_HOME: Final = re.compile(
    r"(?:address|lives? (?:at|in|on)|living (?:at|in)|resid(?:es|ing|ence|ent)"
    r"|ship(?:ped)? (?:it )?to|deliver(?:ed)? (?:it )?to|moved to"
    r"|send (?:it|them|this) to|home is|house (?:at|is)|wohnt|wohne|wohnhaft|anschrift|adresse"
    r"|habite|demeurant|domicili|vive en"
    r"|vivo en|dirección|direccion|indirizzo|abita|residente|woont|woon|adres|mora na|morada"
    r"|endereço|mieszka|zamieszka)",
    re.IGNORECASE,
)


def _streets(text: str) -> Iterator[tuple[int, int]]:
    """Streets with house numbers, in the orders of several countries."""
    for anchor in _NUMBER_FIRST.finditer(text):
        before = _BEFORE_STREET.search(text, max(0, anchor.start() - _REACH), anchor.start())
        after = _AFTER_STREET.match(text, anchor.end())
        if before is not None and after is not None:
            yield before.start(), after.end()
    for anchor in _NAME_AS_ENDING.finditer(text):
        before = _BEFORE_ENDING.search(text, max(0, anchor.start() - _REACH), anchor.start())
        after = _AFTER_ENDING.match(text, anchor.start())
        if before is not None and after is not None:
            yield before.start(), after.end()
    for match in at_anchors(_STREET_FIRST_WORD, _STREET_FIRST, text):
        before = _FRENCH_HOUSE.search(text, max(0, match.start() - _REACH), match.start())
        if before is not None or match[0][-1].isdigit():
            yield match.start() if before is None else before.start(), match.end()


def _addresses(text: str) -> Iterator[Hit]:
    for start, street_end in _streets(text):
        postcode = _POSTCODE.match(text, street_end)
        if postcode is not None:
            town = _TOWN.match(text, postcode.end() - 1) if postcode[0][-1].isalpha() else None
            yield start, postcode.end() if town is None else town.end(), _CONFIDENTIAL, 0.8
        elif _HOME.search(words_around(text, start, street_end, 48)):
            yield start, street_end, _CONFIDENTIAL, 0.8


_TOWN: Final = re.compile(r"[\w'’-]{1,32}")

_STREET_WORDS: Final = (
    r"\b(?:street|st|avenue|ave|road|rd|lane|ln|drive|dr|boulevard|blvd|court|ct|way|place|pl|terrace|close|crescent)\b",
    r"\b(?:square|sq|highway|hwy|parkway|pkwy|rue|chemin|impasse|quai|calle|avenida|plaza|paseo|via|viale|piazza)\b",
    r"(?:str\.|weg|platz|allee|gasse|ring|damm|ufer|straat|laan|plein|gracht|kade|singel) [0-9]",
    r"stra(?:ß|ss)e |allée|C/ |\b(?:corso|rua)\b|ul\. |avda\.",
)

CONTACTS: Final = (
    Detector("email", (r"@[a-z0-9-]+\.",), _emails, is_structural=True),
    Detector("phone", (r"[0-9][0-9 ()./+-]{6}", "[0-9][\u00a0]"), _phones, is_structural=True),
    Detector("address", _STREET_WORDS, _addresses),
)
