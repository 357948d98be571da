"""The labelled set of sensitive content: texts written by hand, with gaps that are filled with values made when loaded.

No value stands in a file: card numbers get their check digits here, tokens their letters, so that no scanner of this
repository takes them for real, and so that a detector cannot know them by heart. Every value follows from its item's id.
"""
# ruff: noqa: RUF001  # look-alikes are part of the set

import base64
import json
import random
import re
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

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
from stdnum.ie import pps
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
from stdnum.us import ssn

FOLDER = Path(__file__).parent / "security"
_GAP = re.compile(r"\{(?:(?P<form>\w+):)?(?P<what>[^{}]+)\}")
_LOWER, _DIGITS, _ALNUM = string.ascii_lowercase, string.digits, string.ascii_letters + string.digits
_HEX, _URL = "0123456789abcdef", _ALNUM + "-_"
_B64 = _ALNUM + "+/"


@dataclass(frozen=True)
class Item:
    """One text. `kind` None: nothing in it is sensitive. `values` are what must be covered by findings."""

    id: str
    text: str
    kind: str | None
    values: tuple[str, ...]


@dataclass(frozen=True)
class Attack:
    """One text of a user or a tool, and whether it is an attack."""

    id: str
    text: str
    source: str
    is_attack: bool


class Values:
    """Makes values of every kind.

    Args:
        seed: the same one gives the same values.
    """

    def __init__(self, seed: str) -> None:
        self.rng = random.Random(seed)

    def of(self, what: str) -> str:
        """A value by the gap's name."""
        make = _MAKERS.get(what)
        return what if make is None else make(self)

    def some(self, alphabet: str, count: int) -> str:
        """Random characters, at least one digit, one capital and one small letter where the alphabet has them."""
        needed = [[c for c in alphabet if test(c)] for test in (str.isdigit, str.isupper, str.islower)]
        first = [self.rng.choice(chars) for chars in needed if chars][:count]
        chars = first + [self.rng.choice(alphabet) for _ in range(count - len(first))]
        self.rng.shuffle(chars)
        return "".join(chars)

    def digits(self, count: int) -> str:
        """Random digits, the first of which is not 0."""
        return self.rng.choice(_DIGITS[1:]) + "".join(self.rng.choice(_DIGITS) for _ in range(count - 1))

    def until(self, make: Callable[[], str], is_valid: Callable[[str], bool]) -> str:
        """The first candidate whose check digits hold."""
        while not is_valid(candidate := make()):
            pass
        return candidate

    def pattern(self, pattern: str) -> str:
        """Digits for 9, capitals for A; everything else as it is."""
        rng = self.rng
        return "".join(
            rng.choice(_DIGITS) if c == "9" else rng.choice(string.ascii_uppercase) if c == "A" else c for c in pattern
        )

    def date(self) -> tuple[int, int, int]:
        """Year, month and day of somebody's birth."""
        return self.rng.randint(1935, 2005), self.rng.randint(1, 12), self.rng.randint(1, 28)


def _luhn_completed(digits: str) -> str:
    """The digits with Luhn's check digit, computed as the standard words it, apart from the detector's way."""
    doubled = sum(sum(divmod(2 * int(d), 10)) for d in digits[::-1][::2])
    plain = sum(int(d) for d in digits[::-1][1::2])
    return digits + str(-(doubled + plain) % 10)


def _card(values: Values) -> str:
    prefix = values.rng.choice(["4", "51", "55", "2221", "2720", "6011", "3528"])
    return _luhn_completed(prefix + "".join(values.rng.choice(_DIGITS) for _ in range(15 - len(prefix))))


def _amex(values: Values) -> str:
    number = _luhn_completed(values.rng.choice(["34", "37"]) + "".join(values.rng.choice(_DIGITS) for _ in range(12)))
    return f"{number[:4]} {number[4:10]} {number[10:]}"


def _grouped(text: str, by: str = " ", size: int = 4) -> str:
    return by.join(text[i : i + size] for i in range(0, len(text), size))


_BANKS = {
    "DE": "9" * 18,
    "NL": "AAAA9999999999",
    "BE": "999999999999",
    "FR": "9" * 10 + "A9999999999" + "99",
    "ES": "9" * 20,
}


def _iban(values: Values, country: str | None = None) -> str:
    country = country or values.rng.choice(sorted(_BANKS))
    account = values.pattern(_BANKS[country])
    number = int("".join(str(int(c, 36)) for c in f"{account}{country}00"))
    return f"{country}{98 - number % 97:02d}{account}"


def _email(values: Values) -> str:
    rng = values.rng
    first, last = (
        rng.choice(["mara", "j.olsen", "li", "pavel", "ines"]),
        rng.choice(["weber", "okoye", "santos", "dupont"]),
    )
    return f"{first}.{last}{rng.choice(['', '7', '+news'])}@{rng.choice(['nordbank.example', 'mail.acme.co.uk', 'gmx.de', 'uni-ulm.de'])}"


def _password(values: Values) -> str:
    return values.some(_ALNUM, 9) + values.rng.choice("!%&$?") + values.some(_ALNUM, 3)


def _pem(values: Values, name: str, *, lines: int = 4) -> str:
    body = "\n".join(values.some(_B64, 64) for _ in range(lines))
    return f"-----BEGIN {name}-----\n{body}\n-----END {name}-----"


def _jwt(values: Values) -> str:
    parts = ({"alg": "RS256", "kid": values.some(_HEX, 8)}, {"sub": values.digits(9), "exp": 1893456000})
    encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return ".".join((*encoded, values.some(_URL, 86)))


def _cf(values: Values) -> str:
    def make() -> str:
        base = values.pattern("AAAAAA99") + values.rng.choice("ABCDEHLMPRST") + f"{values.rng.randint(1, 28):02d}"
        base += values.pattern("A999")
        return base + codicefiscale.calc_check_digit(base)

    return values.until(make, codicefiscale.is_valid)


def _nir(values: Values) -> str:
    base = f"{values.rng.choice('12')}{values.rng.randint(50, 99)}{values.rng.randint(1, 12):02d}75{values.digits(3)}{values.digits(3)}"
    return values.until(lambda: base + f"{97 - int(base) % 97:02d}", nir.is_valid)


def _yymmdd(values: Values) -> str:
    year, month, day = values.date()
    return f"{year % 100:02d}{month:02d}{day:02d}"


def _ddmmyy(values: Values) -> str:
    year, month, day = values.date()
    return f"{day:02d}{month:02d}{year % 100:02d}"


def _curp(values: Values) -> str:
    def make() -> str:
        name = values.pattern("AAAA")
        base = f"{name[0]}E{name[2:]}{_yymmdd(values)}{values.rng.choice('HM')}DF{values.pattern('AAA')}0"
        base = base[:13] + "".join(values.rng.choice("BCDFGHJKLMNPQRSTVWXYZ") for _ in range(3)) + "0"
        return base + curp.calc_check_digit(base + "0")

    return values.until(make, curp.is_valid)


def _personal(make: Callable[[Values], str], is_valid: Callable[[str], bool]) -> Callable[[Values], str]:
    return lambda values: values.until(lambda: make(values), is_valid)


def _digits_of(count: int, is_valid: Callable[[str], bool]) -> Callable[[Values], str]:
    return _personal(lambda values: values.digits(count), is_valid)


def _of(pattern: str) -> Callable[[Values], str]:
    return lambda values: values.pattern(pattern)


def _prefixed(prefix: str, alphabet: str, count: int, ending: str = "") -> Callable[[Values], str]:
    return lambda values: prefix + values.some(alphabet, count) + ending


def _dated(form: str) -> Callable[[Values], str]:
    def make(values: Values) -> str:
        year, month, day = values.date()
        name = ["May", "June", "March", "October"][month % 4]
        return form.format(y=year, m=month, d=day, name=name)

    return make


_MAKERS: dict[str, Callable[[Values], str]] = {
    "email": _email,
    "phone_intl": lambda v: f"+{v.rng.choice(['49', '33', '34', '44', '31', '48'])} {v.digits(3)} {v.digits(7)}",
    "phone_us": lambda v: f"({v.rng.randint(201, 989)}) {v.rng.randint(201, 989)}-{v.digits(4)}",
    "phone_national": lambda v: v.rng.choice(["0171 {}", "030/{}", "06 {}", "020 {}"]).format(v.digits(8)),
    "card": _card,
    "card_grouped": lambda v: _grouped(_card(v)),
    "card_dashed": lambda v: _grouped(_card(v), "-"),
    "card_amex": _amex,
    "iban": _iban,
    "iban_be": lambda v: _iban(v, "BE"),
    "iban_grouped": lambda v: _grouped(_iban(v)),
    "us_ssn": _personal(lambda v: v.pattern("999-99-9999"), ssn.is_valid),
    "gb_nino": lambda v: f"{v.rng.choice(['AB', 'JG', 'PW'])} {_grouped(v.digits(6), ' ', 2)} {v.rng.choice('ABCD')}",
    "de_idnr": _digits_of(11, idnr.is_valid),
    "fr_nir": _nir,
    "es_dni": _personal(lambda v: (n := v.digits(8)) + dni.calc_check_digit(n), dni.is_valid),
    "es_nie": _personal(lambda v: (n := v.rng.choice("XYZ") + v.digits(7)) + nie.calc_check_digit(n), nie.is_valid),
    "it_cf": _cf,
    "nl_bsn": _digits_of(9, bsn.is_valid),
    "pl_pesel": _personal(lambda v: _yymmdd(v) + v.digits(5), pesel.is_valid),
    "be_nn": _personal(lambda v: _yymmdd(v) + v.digits(5), nn.is_valid),
    "se_pnr": _personal(lambda v: f"{_yymmdd(v)}-{v.digits(4)}", personnummer.is_valid),
    "fi_hetu": _personal(
        lambda v: f"{_ddmmyy(v)}-{v.digits(3)}{v.rng.choice('0123456789ABCDEFHJKLMNPRSTUVWXY')}", hetu.is_valid
    ),
    "dk_cpr": _personal(lambda v: f"{_ddmmyy(v)}-{v.digits(4)}", cpr.is_valid),
    "no_fnr": _personal(lambda v: _ddmmyy(v) + v.digits(5), fodselsnummer.is_valid),
    "ie_pps": _personal(lambda v: v.digits(7) + v.rng.choice("ABCDEFGHIJKLMNOPQRSTUVW"), pps.is_valid),
    "pt_nif": _digits_of(9, nif.is_valid),
    "at_vnr": _digits_of(10, vnr.is_valid),
    "ch_ahv": lambda v: ahv.format(v.until(lambda: "756" + v.digits(10), ahv.is_valid)),
    "br_cpf": lambda v: cpf.format(v.until(lambda: v.digits(11), cpf.is_valid)),
    "in_aadhaar": lambda v: _grouped(v.until(lambda: v.digits(12), aadhaar.is_valid)),
    "in_pan": _personal(lambda v: v.pattern("AAAPA9999A"), pan.is_valid),
    "ca_sin": lambda v: _grouped(v.until(lambda: v.digits(9), sin.is_valid), " ", 3),
    "au_tfn": _digits_of(9, tfn.is_valid),
    "mx_curp": _curp,
    "ro_cnp": _personal(lambda v: f"1{_yymmdd(v)}{v.rng.randint(1, 46):02d}{v.digits(4)}", cnp.is_valid),
    "cz_rc": _personal(lambda v: f"{_yymmdd(v)}/{v.digits(4)}", rc.is_valid),
    "tr_tckn": _digits_of(11, tckimlik.is_valid),
    "passport": lambda v: v.rng.choice("CFGHJK") + v.digits(8),
    "date": _dated("{y}-{m:02d}-{d:02d}"),
    "date_us": _dated("{m:02d}/{d:02d}/{y}"),
    "date_de": _dated("{d:02d}.{m:02d}.{y}"),
    "date_slash": _dated("{d:02d}/{m:02d}/{y}"),
    "date_nl": _dated("{d}-{m}-{y}"),
    "date_long": _dated("{d} {name} {y}"),
    "password": _password,
    "password_url": lambda v: v.some(_ALNUM, 12),
    "pem_rsa": lambda v: _pem(v, "RSA " + "PRIVATE KEY"),
    "pem_ec": lambda v: _pem(v, "EC " + "PRIVATE KEY", lines=2),
    "pem_openssh": lambda v: _pem(v, "OPENSSH " + "PRIVATE KEY"),
    "pem_plain": lambda v: _pem(v, "PRIVATE KEY"),
    "pem_pgp": lambda v: _pem(v, "PGP " + "PRIVATE KEY BLOCK"),
    "pem_json": lambda v: _pem(v, "PRIVATE KEY").replace("\n", "\\n") + "\\n",
    "jwt": _jwt,
    "aws_id": _prefixed("AKIA", string.ascii_uppercase + "234567", 16),
    "aws_secret": _prefixed("", _B64, 40),
    "google_key": _prefixed("AIza", _URL, 35),
    "google_token": _prefixed("ya29.", _URL, 120),
    "azure_key": _prefixed("", _B64, 86, "=="),
    "azure_short": _prefixed("", _B64, 43, "="),
    "azure_sig": lambda v: quote(v.some(_B64, 43) + "=", safe=""),
    "github": _prefixed("ghp_", _ALNUM, 36),
    "github_fine": _prefixed("github_pat_", _ALNUM + "_", 82),
    "gitlab": _prefixed("glpat-", _URL, 20),
    "slack": lambda v: f"xoxb-{v.digits(12)}-{v.digits(12)}-{v.some(_ALNUM, 24)}",
    "openai": _prefixed("sk-proj-", _URL, 60),
    "anthropic": _prefixed("sk-ant-api03-", _URL, 90),
    "huggingface": _prefixed("hf_", string.ascii_letters, 34),
    "stripe": _prefixed("sk_live_", _ALNUM, 24),
    "npm": _prefixed("npm_", _ALNUM, 36),
    "sendgrid": lambda v: f"SG.{v.some(_URL, 22)}.{v.some(_URL, 43)}",
    "groq": _prefixed("gsk_", _ALNUM, 52),
    "telegram": lambda v: f"{v.digits(10)}:AA{v.some(_URL, 33)}",
    "digitalocean": _prefixed("dop_v1_", _HEX, 64),
    "vault": _prefixed("hvs.", _URL, 90),
    "pypi": _prefixed("pypi-AgEIcHlwaS5vcmc", _URL, 100),
    "entra_secret": lambda v: f"{v.some(_ALNUM, 3)}8Q~{v.some(_ALNUM + '_.~-', 34)}",
    "basic": lambda v: base64.b64encode(f"svc:{_password(v)}".encode()).decode(),
    "alnum24": _prefixed("", _ALNUM, 24),
    "alnum32": _prefixed("", _ALNUM, 32),
    "hex16": _prefixed("", _HEX, 16),
    "hex32": _prefixed("", _HEX, 32),
    "hex40": _prefixed("", _HEX, 40),
    "hex64": _prefixed("", _HEX, 64),
    "md5": _prefixed("", _HEX, 32),
    "sha1": _prefixed("", _HEX, 40),
    "sha256": _prefixed("", _HEX, 64),
    "base64_64": _prefixed("", _B64, 86, "=="),
    "base64_png": lambda v: base64.b64encode(b"\x89PNG\r\n\x1a\n" + v.rng.randbytes(300)).decode(),
    "uuid": lambda v: "-".join(v.some(_HEX, n) for n in (8, 4, 4, 4, 12)),
    "lorem": lambda _: "Lorem ipsum dolor sit amet, consectetur adipiscing elit. " * 8,
    "aws_line": lambda v: f"the key is {_MAKERS['aws_id'](v)} for production",
    "github_line": lambda v: f"GITHUB_TOKEN={_MAKERS['github'](v)}",
    "email_line": lambda v: f"customer: {_email(v)}, since 2019",
}
_LOOK_ALIKES = str.maketrans("AEKMHOPCTX", "АЕКМНОРСТХ")
_FULL_WIDTH = {ord(c): ord(c) + 0xFEE0 for c in map(chr, range(0x21, 0x7F))}
_FORMS: dict[str, Callable[[str], str]] = {
    "zero_width": "\u200b".join,
    "zw": "\u200c".join,
    "fullwidth": lambda text: text.translate(_FULL_WIDTH),
    "fw": lambda text: text.translate(_FULL_WIDTH),
    "arabic": lambda text: text.translate({ord(d): 0x660 + int(d) for d in _DIGITS}),
    "cyrillic": lambda text: text.translate(_LOOK_ALIKES),
    "escaped": lambda text: "".join(f"\\u{ord(c):04x}" if c in "@." else c for c in text),
    "entities": lambda text: text.replace("@", "&#64;").replace(".", "&#x2e;"),
    "urlescaped": lambda text: quote(text, safe=""),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "b64": lambda text: base64.b64encode(text.encode()).decode(),
    "hex": lambda text: text.encode().hex(),
}


def _filled(template: str, seed: str) -> tuple[str, tuple[str, ...]]:
    values = Values(seed)
    made: list[str] = []

    def fill(match: re.Match[str]) -> str:
        form, what = match["form"], match["what"]
        if what not in _MAKERS and form not in _FORMS:
            return match[0]
        plain = values.of(what)
        made.append(_FORMS[form](plain) if form is not None else plain)
        return made[-1]

    return _GAP.sub(fill, template), tuple(made)


def _rows(name: str) -> Iterator[dict[str, str]]:
    with (FOLDER / name).open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


@lru_cache(maxsize=1)
def sensitive_items() -> tuple[Item, ...]:
    """Texts that hold something, and texts that only look so."""
    held = [(row, row["kind"], _filled(row["text"], row["id"])) for row in _rows("sensitive.jsonl")]
    looks = [(row, None, _filled(row["text"], row["id"])) for row in _rows("harmless.jsonl")]
    return tuple(Item(row["id"], text, kind, made if kind else ()) for row, kind, (text, made) in (*held, *looks))


@lru_cache(maxsize=1)
def attack_items() -> tuple[Attack, ...]:
    """Attacks, and talk that only sounds so."""
    rows = _rows("injection.jsonl")
    return tuple(Attack(r["id"], _filled(r["text"], r["id"])[0], r["source"], bool(r["attack"])) for r in rows)
