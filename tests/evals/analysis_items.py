"""The labelled requests of tests/evals/analysis, with the gaps of their templates filled.

A gap is `{{name}}` or `{{name:size}}`. Credentials and personal numbers are gaps, so that no scanner of this repository
takes one for real; each is made by rule (check digits hold) from the item's id, the same on every run.
"""

import hashlib
import json
import random
import re
import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from shared.analysis.detectors.payments import luhn
from shared.domain.chat import (
    ChatRequest,
    FormatKind,
    MediaPart,
    Message,
    Modality,
    ResponseFormat,
    Role,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolMode,
    ToolResultPart,
)

FOLDER = Path(__file__).parent / "analysis"
BLIND_FOLDER = Path(__file__).parent / "blind"
GAP = re.compile(r"\{\{(\w+)(?::(\d+))?\}\}")
_LETTERS, _UPPER, _DIGITS = string.ascii_letters, string.ascii_uppercase, string.digits
_SENTENCES = (
    "The surveyor came down to the harbour before the light was good.",
    "Nobody had told him that the cart would be late, and so he sat on a crate and counted gulls.",
    "In the afternoon a clerk brought the old plans, which smelled of tar and were torn along the folds.",
    "They agreed on little except that the east wall would have to go.",
    "He slept in the loft above the sail maker's shop, where it was dry.",
    "On the third day rain filled the trench, and the men went home unpaid.",
    "A letter arrived from the ministry; it praised the progress and asked for none of the figures.",
    "Greta Holm, who kept the books, refused to sign for timber that she had not seen.",
    "By the end of the month the quay had moved four inches toward the church.",
    "Some said that the stone was bad, others that the sea was only taking back what belonged to it.",
    "The surveyor wrote both opinions down and underlined neither.",
    "When the frost came, the work stopped by itself, and the town was quiet again.",
    "Children found the brass instrument in spring and sold it for sweets.",
    "Years later a plaque was fixed to the wrong house.",
)
_PYTHON = """def merge(left, right):
    out = []
    while left and right:
        if left[0] <= right[0]:
            out.append(left.pop(0))
        else:
            out.append(right.pop(0))
    return out + left + right
"""
_EVENTS = (
    "INFO  gateway accepted connection",
    "WARN  ledger slow write took 812 ms",
    "ERROR ledger commit refused: lock wait exceeded",
    "INFO  gateway retrying request",
    "DEBUG cache evicted 14 entries",
    "ERROR gateway upstream closed early",
)


@dataclass(frozen=True, slots=True)
class Item:
    """A labelled request. `labels` has only the facets that somebody decided."""

    id: str
    request: ChatRequest
    labels: dict[str, Any]
    hard: bool
    origin: str


@cache
def load_items() -> tuple[Item, ...]:
    """Every item of every file, in order."""
    return tuple(_item(raw) for raw in raw_items())


@cache
def load_blind_items() -> tuple[Item, ...]:
    """The items that were written before anything was read of the training phrases; see their README."""
    return tuple(_item(raw) for raw in raw_items(BLIND_FOLDER))


def raw_items(folder: Path = FOLDER) -> Iterable[dict[str, Any]]:
    """The lines as they are written."""
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


def _item(raw: dict[str, Any]) -> Item:
    rng = random.Random(hashlib.sha256(raw["id"].encode()).digest())
    text = fill(raw["template"], rng) if "template" in raw else raw.get("text", "")
    turns = raw.get("messages") or [["user", text]]
    messages = [_message(role, body) for role, body in turns]
    if "attachment" in raw:
        modality, mime_type, data, filename = raw["attachment"]
        part = MediaPart(Modality(modality), mime_type, bytes.fromhex(data), filename=filename)
        messages[-1] = Message(Role.USER, (*messages[-1].parts, part))
    request = ChatRequest(
        messages=tuple(messages),
        system=raw.get("system", ""),
        tools=tuple(Tool(name, f"{name} of the service") for name in raw.get("tools", ())),
        tool_choice=ToolChoice(ToolMode(raw.get("tool_choice", "auto"))),
        response_format=ResponseFormat(FormatKind.JSON_SCHEMA if raw.get("schema") else FormatKind.TEXT),
    )
    return Item(raw["id"], request, raw["labels"], raw["hard"], raw["origin"])


def _message(role: str, body: str) -> Message:
    if role == "call":
        name, arguments = body.split(" ", 1)
        return Message(Role.ASSISTANT, (ToolCallPart("call-1", name, arguments),))
    if role == "tool":
        return Message(Role.TOOL, (ToolResultPart("call-1", "track", body),))
    return Message(Role(role), (TextPart(body),))


def fill(template: str, rng: random.Random) -> str:
    """The template with every gap filled.

    Raises:
        KeyError: a gap of a name that is not known.
    """
    return GAP.sub(lambda gap: _MAKERS[gap[1]](rng, int(gap[2] or 0)), template)


def _pick(rng: random.Random, alphabet: str, count: int) -> str:
    return "".join(rng.choices(alphabet, k=count))


def _token(prefix: str, alphabet: str, count: int) -> Callable[[random.Random, int], str]:
    return lambda rng, _: prefix + _pick(rng, alphabet, count)


def _card(prefix: str, length: int, separator: str = "") -> Callable[[random.Random, int], str]:
    def make(rng: random.Random, _: int) -> str:
        body = prefix + _pick(rng, _DIGITS, length - len(prefix) - 1)
        digits = next(body + check for check in _DIGITS if luhn(body + check))
        return separator.join(digits[i : i + 4] for i in range(0, length, 4)) if separator else digits

    return make


def _iban(country: str, bank: str, digits: int, *, spaced: bool = True) -> Callable[[random.Random, int], str]:
    def make(rng: random.Random, _: int) -> str:
        account = bank + _pick(rng, _DIGITS, digits)
        number = int("".join(str(int(char, 36)) for char in account + country + "00"))
        iban = f"{country}{98 - number % 97:02}{account}"
        return " ".join(iban[i : i + 4] for i in range(0, len(iban), 4)) if spaced else iban

    return make


def _email(rng: random.Random, _: int) -> str:
    names = ("nora.falk", "t.okonkwo", "lucia_mendez", "wei-chen", "jonas.b", "r.achterberg")
    return f"{rng.choice(names)}@{_domain(rng, 0)}"


def _domain(rng: random.Random, _: int) -> str:
    return rng.choice(("quarry-mail", "northlane", "fernwick", "blauhafen")) + "." + rng.choice(("com", "org", "de"))


def _dni(rng: random.Random, _: int) -> str:
    number = rng.randrange(10_000_000, 99_999_999)
    return f"{number}{'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23]}"


def _pesel(rng: random.Random, _: int) -> str:
    body = f"{rng.randrange(50, 99)}0{rng.randrange(1, 10)}{rng.randrange(10, 28)}{_pick(rng, _DIGITS, 4)}"
    check = -sum(int(d) * w for d, w in zip(body, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3), strict=True)) % 10
    return f"{body}{check}"


def _bsn(rng: random.Random, _: int) -> str:
    while True:
        body = "1" + _pick(rng, _DIGITS, 7)
        check = sum(int(d) * w for d, w in zip(body, range(9, 1, -1), strict=True)) % 11
        if check < 10:
            return f"{body}{check}"


_ODD = dict(
    zip(
        _DIGITS + _UPPER,
        (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16,
         10, 22, 25, 24, 23),
        strict=True,
    )
)  # fmt: skip


def _codice_fiscale(rng: random.Random, _: int) -> str:
    body = (
        f"{_pick(rng, 'BCDFGLMNPRST', 6)}{rng.randrange(40, 99)}{rng.choice('ABCDEHLMPRST')}{rng.randrange(10, 28)}H501"
    )
    total = sum(_ODD[c] if i % 2 == 0 else int(c, 36) - (10 if c.isalpha() else 0) for i, c in enumerate(body))
    return body + _UPPER[total % 26]


def _jwt(rng: random.Random, _: int) -> str:
    url = _LETTERS + _DIGITS + "-_"
    return f"eyJ{_pick(rng, url, 33)}.eyJ{_pick(rng, url, 60)}.{_pick(rng, url, 43)}"


def _private_key(kind: str) -> Callable[[random.Random, int], str]:
    def make(rng: random.Random, _: int) -> str:
        lines = "\n".join(_pick(rng, _LETTERS + _DIGITS + "+/", 64) for _ in range(4))
        return f"-----BEGIN {kind}-----\n{lines}\n-----END {kind}-----"

    return make


def _azure(rng: random.Random, _: int) -> str:
    key = _pick(rng, _LETTERS + _DIGITS + "+/", 86)
    return f"DefaultEndpointsProtocol=https;AccountName=fake{_pick(rng, _DIGITS, 3)};AccountKey={key}=="


def _prose(rng: random.Random, chars: int) -> str:
    text = ""
    while len(text) < chars:
        text += rng.choice(_SENTENCES) + " "
    return text.rstrip()


def _log(rng: random.Random, lines: int) -> str:
    return "\n".join(
        f"2031-05-{1 + n // 60:02} 10:{n % 60:02}:{rng.randrange(60):02} {rng.choice(_EVENTS)}" for n in range(lines)
    )


def _json(rng: random.Random, count: int) -> str:
    rows = [{"id": rng.randrange(900), "status": rng.choice(("open", "done")), "owner": "ops"} for _ in range(count)]
    return json.dumps(rows, indent=1)


def _csv(rng: random.Random, lines: int) -> str:
    rows = (f"2031-0{1 + n % 9}-01,{rng.randrange(90)},{rng.randrange(900)}" for n in range(lines))
    return "\n".join(("day,visits,revenue", *rows))


_KEY = "PRIVATE " + "KEY"
_MAKERS: dict[str, Callable[[random.Random, int], str]] = {
    "email": _email,
    "domain": _domain,
    "phone_e164": lambda rng, _: f"+44 20 79{rng.randrange(10, 99)} {rng.randrange(1000, 9999)}",
    "us_phone_tail": lambda rng, _: f"{rng.randrange(200, 999)}-{rng.randrange(1000, 9999)}",
    "local_phone": lambda rng, _: f"0{rng.randrange(151, 179)} {rng.randrange(1_000_000, 9_999_999)}",
    "iban_de": _iban("DE", "", 18),
    "iban_gb": _iban("GB", "NWBK", 14),
    "iban_fr": _iban("FR", "", 23),
    "iban_es": _iban("ES", "", 20, spaced=False),
    "iban_nl_compact": _iban("NL", "INGB", 10, spaced=False),
    "us_ssn": lambda rng, _: f"{rng.randrange(101, 600)}-{rng.randrange(11, 99)}-{rng.randrange(1000, 9999)}",
    "codice_fiscale": _codice_fiscale,
    "bsn": _bsn,
    "dni": _dni,
    "pesel": _pesel,
    "card_visa": _card("4", 16),
    "card_visa_spaced": _card("4", 16, " "),
    "card_mc_dashed": _card("53", 16, "-"),
    "card_mc_spaced": _card("52", 16, " "),
    "card_amex": _card("37", 15),
    "private_key_rsa": _private_key("RSA " + _KEY),
    "private_key_ec": _private_key("EC " + _KEY),
    "private_key_openssh": _private_key("OPENSSH " + _KEY),
    "private_key_pgp": _private_key("PGP " + _KEY + " BLOCK"),
    "jwt": _jwt,
    "aws_access_key": _token("AKIA", _UPPER + "234567", 16),
    "aws_secret_key": _token("", _LETTERS + _DIGITS + "/+", 40),
    "google_api_key": _token("AIza", _LETTERS + _DIGITS + "-_", 35),
    "google_oauth_token": _token("ya29.", _LETTERS + _DIGITS + "-_", 60),
    "azure_connection_string": _azure,
    "azure_key32": lambda rng, _: _pick(rng, _LETTERS + _DIGITS + "+/", 43) + "=",
    "sas_sig": lambda rng, _: _pick(rng, _LETTERS + _DIGITS, 42) + "%3D",
    "github_token": _token("ghp_", _LETTERS + _DIGITS, 36),
    "github_pat": lambda rng, _: (
        f"github_pat_{_pick(rng, _LETTERS + _DIGITS, 22)}_{_pick(rng, _LETTERS + _DIGITS, 59)}"
    ),
    "slack_token": lambda rng, _: (
        f"xoxb-{_pick(rng, _DIGITS, 12)}-{_pick(rng, _DIGITS, 12)}-{_pick(rng, _LETTERS, 24)}"
    ),
    "openai_key": _token("sk-proj-", _LETTERS + _DIGITS, 48),
    "stripe_key": _token("sk_live_", _LETTERS + _DIGITS, 24),
    "password": lambda rng, _: _pick(rng, _LETTERS, 6) + _pick(rng, _DIGITS, 3) + rng.choice("!%#") + "Zq",
    "hex40": _token("", _DIGITS + "abcdef", 40),
    "prose": _prose,
    "log": _log,
    "json": _json,
    "csv": _csv,
    "python": lambda _rng, _size: _PYTHON,
}
