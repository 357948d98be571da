"""Numbers that states give to people. Formats and check digits: python-stdnum (https://arthurdejong.org/python-stdnum/).

Where check digits leave little to chance, or the writing is unmistakable, the number stands for itself; everywhere else
somebody must say what it is, a few words before it.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from stdnum.at import vnr
from stdnum.au import tfn
from stdnum.be import nn
from stdnum.br import cpf
from stdnum.ca import sin
from stdnum.ch import ssn as ahv
from stdnum.cz import rc
from stdnum.de import idnr
from stdnum.dk import cpr
from stdnum.es import dni, nie
from stdnum.fi import hetu
from stdnum.fr import nir
from stdnum.gr import amka
from stdnum.ie import pps
from stdnum.il import idnr as teudat_zehut
from stdnum.in_ import aadhaar, pan
from stdnum.it import codicefiscale
from stdnum.mx import curp
from stdnum.nl import bsn
from stdnum.no import fodselsnummer
from stdnum.pl import pesel
from stdnum.pt import nif
from stdnum.ro import cnp
from stdnum.se import personnummer
from stdnum.tr import tckimlik
from stdnum.us import itin, ssn
from stdnum.za import idnr as za_idnr

from shared.analysis.detectors.detector import Detector, Hit, words_around
from shared.domain.security import SecurityLevel

_Check = Callable[[str], bool]
_BEFORE_CHARS: Final = 48
_AFTER_CHARS: Final = 24


@dataclass(frozen=True, slots=True)
class _Id:
    """One country's number.

    Attributes:
        context: RE2 pattern of words, case-insensitive, of which one must stand near; empty where none is needed.
        pattern: the number as it is written.
        is_valid: what can be checked of it.
    """

    context: str
    pattern: str
    is_valid: _Check


def _nino(number: str) -> bool:
    """No check digit; prefixes that are never given out: https://www.gov.uk/hmrc-internal-manuals/ (NIM39110)."""
    return re.match(r"(?i)(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]", number) is not None


def _any(_number: str) -> bool:
    return True


_SEP: Final = r"[ .\u00a0-]?"
_IDS: Final = (
    _Id(
        r"\bssn\b|social security|\bitin\b|tax(?:payer)? id",
        r"[0-9]{3}[ -]?[0-9]{2}[ -]?[0-9]{4}",
        lambda n: ssn.is_valid(n) or itin.is_valid(n),
    ),
    _Id(r"\bnino?\b|national insurance", r"(?i:[A-Z]{2}) ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?(?i:[A-D])", _nino),
    _Id("", r"[A-Z]{2} [0-9]{2} [0-9]{2} [0-9]{2} [A-D]", _nino),
    _Id(
        r"steuer-?\s?id|steuerliche identifikation|steueridentifikation|\bidnr|tax id|\btin\b",
        r"[1-9][0-9] ?[0-9]{3} ?[0-9]{3} ?[0-9]{3}",
        idnr.is_valid,
    ),
    _Id(
        "",
        r"[12] ?[0-9]{2} ?(?:0[1-9]|1[0-2]|[2-9][0-9]) ?(?:[0-9]{2}|2[AB]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}",
        nir.is_valid,
    ),
    _Id(r"\bdni\b|\bnif\b|documento nacional|identidad|\bnie\b", r"[0-9]{8}[ -]?[A-Za-z]", dni.is_valid),
    _Id(r"\bnie\b|extranjero|identidad|\bnif\b|\bdni\b", r"[XYZxyz][ -]?[0-9]{7}[ -]?[A-Za-z]", nie.is_valid),
    _Id("", r"[A-Z]{6}[0-9LMNP-V]{2}[ABCDEHLMPRST][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z]", codicefiscale.is_valid),
    _Id(r"\bbsn\b|burgerservicenummer|sofinummer", r"[0-9]{4}[ .]?[0-9]{2}[ .]?[0-9]{3}|[0-9]{9}", bsn.is_valid),
    _Id(r"\bpesel\b", r"[0-9]{11}", pesel.is_valid),
    _Id(
        r"rijksregister|registre national|national number|\bnrn\b|\binsz\b|\bniss\b|nationaal nummer",
        r"[0-9]{2}[. ]?[0-9]{2}[. ]?[0-9]{2}[- ]?[0-9]{3}[. ]?[0-9]{2}",
        nn.is_valid,
    ),
    _Id(
        r"personnummer|personal identity|samordningsnummer",
        r"(?:[0-9]{2})?[0-9]{6}[-+]?[0-9]{4}",
        personnummer.is_valid,
    ),
    _Id("", r"[0-9]{6}[-+A-FU-Y][0-9]{3}[0-9A-FHJ-NPR-Y]", lambda n: n[6] != "+" and hetu.is_valid(n)),
    _Id(r"\bcpr\b|personnummer|cpr-nummer", r"[0-9]{6}[ -]?[0-9]{4}", cpr.is_valid),
    _Id(r"fødselsnummer|fodselsnummer|\bfnr\b|personnummer", r"[0-9]{6} ?[0-9]{5}", fodselsnummer.is_valid),
    _Id(r"\bpps\b|ppsn", r"[0-9]{7}[A-Wa-w][ABab]?", pps.is_valid),
    _Id(r"\bnif\b|contribuinte", r"[0-9]{3} ?[0-9]{3} ?[0-9]{3}", nif.is_valid),
    _Id(r"\bsvnr\b|sozialversicherungsnummer|versicherungsnummer", r"[0-9]{4} ?[0-9]{6}", vnr.is_valid),
    _Id("", r"756[. ]?[0-9]{4}[. ]?[0-9]{4}[. ]?[0-9]{2}", ahv.is_valid),
    _Id("", r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}", cpf.is_valid),
    _Id(r"\bcpf\b", r"[0-9]{11}", cpf.is_valid),
    _Id(r"aadhaar|aadhar|\buidai\b|आधार", r"[2-9][0-9]{3}[ -]?[0-9]{4}[ -]?[0-9]{4}", aadhaar.is_valid),
    _Id(r"\bpan\b|permanent account", r"[A-Z]{5}[0-9]{4}[A-Z]", lambda n: len(set(n[:5])) > 1 and pan.is_valid(n)),
    _Id(r"social insurance|\bsin\b", r"[0-9]{3}[ -]?[0-9]{3}[ -]?[0-9]{3}", sin.is_valid),
    _Id(r"tax file number|\btfn\b", r"[0-9]{3} ?[0-9]{3} ?[0-9]{2,3}", tfn.is_valid),
    _Id("", r"[A-Z]{4}[0-9]{6}[HMX][A-Z]{5}[A-Z0-9][0-9]", curp.is_valid),
    _Id(r"\bcnp\b|cod numeric personal", r"[1-9][0-9]{12}", cnp.is_valid),
    _Id(r"rodné číslo|rodne cislo|rč[ :]", r"[0-9]{6}/?[0-9]{3,4}", rc.is_valid),
    _Id(r"\bamka\b|αμκα", r"[0-9]{11}", amka.is_valid),
    _Id(r"teudat zehut|תעודת זהות|ת\.ז", r"[0-9]{9}", teudat_zehut.is_valid),
    _Id(r"\btckn\b|\btc kimlik|t\.c\. kimlik|kimlik no", r"[1-9][0-9]{10}", tckimlik.is_valid),
    _Id(r"\bid number\b|identity number|\bsa id\b", r"[0-9]{13}", za_idnr.is_valid),
    _Id(
        r"passport|reisepass|passeport|pasaporte|passaporto|paspoort|paszport",
        r"(?-i:[A-Z]{1,2}[0-9]{6,8}|[0-9]{9}|[CFGHJKLMNPRTVWXYZ][CFGHJKLMNPRTVWXYZ0-9]{8})",
        lambda n: sum(char.isdigit() for char in n) >= 5,  # noqa: PLR2004  # digits; words have fewer
    ),
    _Id(
        r"driver'?s? licen[sc]e|driving licen[sc]e|führerschein",
        r"(?-i:[A-Z][0-9]{7,12}|[A-Z]{5}[0-9]{6}[A-Z0-9]{5})",
        _any,
    ),
    _Id(r"personalausweis|ausweisnummer|ausweis-?nr", r"(?-i:[CFGHJKLMNPRTVWXYZ0-9]{9})(?:[0-9]D?)?", _any),
)


def _finder(of: _Id) -> Callable[[str], Iterator[Hit]]:
    pattern = re.compile(rf"(?<![\w+@#/.-])(?:{of.pattern})(?![\w]|[.,-][0-9])")
    context = re.compile(of.context.replace(r"(?i:", "(?:"), re.IGNORECASE) if of.context else None

    def find(text: str) -> Iterator[Hit]:
        for match in pattern.finditer(text):
            near = words_around(text, match.start(), match.end(), _BEFORE_CHARS, _AFTER_CHARS)
            if (context is None or context.search(near)) and of.is_valid(match[0]):
                yield match.start(), match.end(), SecurityLevel.CONFIDENTIAL, 0.95 if context is None else 0.9

    return find


def _trigger(of: _Id) -> str:
    """The words, or the form itself in the engine's own syntax."""
    return of.context or of.pattern


NATIONAL_IDS: Final = tuple(
    Detector("national_id", (_trigger(each),), _finder(each), is_structural=not each.context) for each in _IDS
)
