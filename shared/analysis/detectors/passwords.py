"""Credentials without a form of their own: what somebody calls a password, a secret or a key, and means.

A value counts only where it was assigned or told, and only when it looks drawn: words, placeholders, look-ups and
calls are left alone, so that talk about passwords and code that reads them from elsewhere stay harmless.
"""
# ruff: noqa: RUF001  # the unusual characters are what is looked for

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from shared.analysis.detectors.detector import Detector, Hit, at_anchors, fast
from shared.domain.security import SecurityLevel

_RESTRICTED: Final = SecurityLevel.RESTRICTED
_MAX_CHARS: Final = 256

_CALLED: Final = (
    r"password|passwd|passwort|kennwort|passphrase|mot de passe|contrase(?:ñ|n)a|wachtwoord|senha|has(?:ł|l)o"
    r"|parola|пароль|密码|パスワード|pwd|(?<![a-z])pw"
)
_TOLD: Final = (
    r"""(?:["'`]?+\]?+\s{0,4}+(?:=>|:=|={1,2}|:|：)\s{0,4}+"""
    r"""|\s{1,4}+(?:is(?:\s{1,4}+now)?|was|lautet|ist|est|es|è|é|jest|to|-)\s{0,2}:?\s{1,4}+|\s{1,4}+(?=["'`]))"""
)
"""How a value is given: assigned, or told in a sentence."""
_PASSWORD: Final = re.compile(
    rf"(?:{_CALLED})\w{{0,12}}+{_TOLD}"
    rf"""(?:(?P<quote>["'`])(?P<quoted>[^"'`\n]{{4,{_MAX_CHARS}}}+)(?P=quote)|(?P<bare>[^\s"'`<>;]{{4,{_MAX_CHARS}}}+))""",
    re.IGNORECASE,
)
_CALLED_ANCHOR: Final = fast(
    "password|passwd|passwort|kennwort|passphrase|mot de passe|contrase(?:ñ|n)a|wachtwoord|senha"
    "|has(?:ł|l)o|parola|пароль|密码"
    r"|パスワード|pwd|\bpw\b"
)
_LOGIN_URL: Final = re.compile(
    r"\b[a-z][a-z0-9+.-]{1,24}+://(?P<user>[^\s:/@\"'<>]{0,64}+):(?P<secret>[^\s/@\"'<>]{3,128}+(?:@[^\s/@\"'<>]{1,64}+)??)"
    r"@(?=[\w.\[-])",
    re.IGNORECASE,
)
"""``scheme://user:password@host`` (RFC 3986, section 3.2.1)."""
_AUTHORIZATION: Final = re.compile(
    r"\b(?:Basic\s++[A-Za-z0-9+/]{12,256}+={0,2}|Bearer\s++[\w.~+/-]{20,2048}+=*)", re.ASCII | re.IGNORECASE
)
_AUTHORIZATION_ANCHOR: Final = fast(r"\b(?:basic|bearer)\s+[\w.~+/-]{12}")

_KEY_NAMES: Final = (
    r"(?:api|app|access|secret|auth|encryption|signing|master|shared|account|subscription|private"
    r"|service|consumer|admin)"
    r"[ _-]?key|client[ _-]?secret|app[ _-]?secret|secret|(?:access|auth|bearer|api|refresh"
    r"|session|security|bot|deploy|"
    r"personal[ _-]access)[ _-]?token|token|credential|api[ _-]?schl(?:ü|ue)ssel"
)
_KEY: Final = re.compile(
    rf"(?P<name>{_KEY_NAMES})s?+(?:[_-](?:value|string|v?[0-9]))?+{_TOLD}"
    r"""["'`]?+(?P<value>[A-Za-z0-9_\-+/=.~]{16,512}+)(?![A-Za-z0-9_(\[])""",
    re.IGNORECASE,
)
_KEY_ANCHOR: Final = fast(
    r"(?:(?:api|app|access|secret|auth|encryption|signing|master|shared|account|subscription"
    r"|private|service|consumer|admin)[ _-]?key"
    r"|client[ _-]?secret|app[ _-]?secret|secret|token|credential|schl(?:ü"
    r"|ue)ssel)s?[\w-]{0,8}[\"'`\]]{0,2}(?:\s{0,4}[:=：]|\s{1,4}\w{2,7}\s|\s[\"'`])"
)
_NOT_A_SECRET_NAME: Final = re.compile(
    r"(?:page|next|prev|previous|continuation|cursor|csrf|xsrf|sync|cancellation|max|min|total"
    r"|count|pad|eos|bos|special"
    r"|public|primary|foreign|partition|sort|cache|idempotency|test|placeholder|example|dummy)[_. -]?$",
    re.IGNORECASE,
)
_PLACEHOLDER: Final = re.compile(
    r"^(?:\$|%|\{|<|\*|\[|@|#\{|&)|\*{3}|x{4}|X{4}|\.{3}|…|•|(?:your|my|the|change|example"
    r"|placeholder|redacted|dummy|insert"
    r"|process\.env|os\.environ|getenv|config\.|settings\.|secrets\.|vault[.:]|self\.|this\."
    r"|env[.:]|var\.|None|null|undefined)"
    r"|^[A-Z][A-Z0-9]*+_[A-Z0-9_]++$",
    re.IGNORECASE,
)
"""Something that stands for a value."""
_SHOUTED: Final = re.compile(r"\A[A-Z][A-Z0-9]*+_[A-Z0-9][A-Z0-9_]*+")
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_LETTERS: Final = re.compile(r"[^\W\d_]")
_LEAST_BITS: Final = 2.9
"""Per character: random hex has up to 4, names and words about 2.5 at these lengths."""
_LEAST_BITS_TOTAL: Final = 50.0


def entropy_bits(text: str) -> float:
    """Shannon entropy of the characters' frequencies, in bits per character."""
    size = len(text)
    return -sum(count / size * math.log2(count / size) for count in Counter(text).values()) if size else 0.0


def _passwords(text: str) -> Iterator[Hit]:
    for match in at_anchors(_CALLED_ANCHOR, _PASSWORD, text):
        group = "quoted" if match["quoted"] is not None else "bare"
        start, value = match.start(group), match[group]
        if group == "bare":
            value = _without_sentence_end(value)
        if _is_password(value, quoted=group == "quoted"):
            yield start, start + len(value), _RESTRICTED, 0.9


def _without_sentence_end(value: str) -> str:
    """The value without what belongs to the sentence around it."""
    cut = value.rstrip(".,:?)]}\\")
    return cut.removesuffix("!") if len(cut) == len(value) and not _has_mixed_classes(value[:-1]) else cut


def _is_password(value: str, *, quoted: bool) -> bool:
    """Whether a value was chosen as a secret: it mixes letters with digits or signs, and stands for nothing else."""
    if _PLACEHOLDER.search(value) or "(" in value or "://" in value:
        return False
    if " " in value and not quoted:
        return False
    return len(value) >= 6 and value.count(" ") < 6 and _has_mixed_classes(value)  # noqa: PLR2004  # chars, words


def _has_mixed_classes(value: str) -> bool:
    digits = sum(char.isdigit() for char in value)
    letters = len(_LETTERS.findall(value))
    signs = len(value) - digits - letters - value.count(" ") - value.count("-") - value.count(".") - value.count("_")
    if not letters:
        return False
    return digits > 0 or (signs > 0 and any(c.isupper() for c in value) and any(c.islower() for c in value))


def _login_urls(text: str) -> Iterator[Hit]:
    for match in _LOGIN_URL.finditer(text):
        if not _PLACEHOLDER.search(match["secret"]) and match["secret"].lower() not in _NAMES_FOR_PASSWORDS:
            yield match.start("secret"), match.end("secret"), _RESTRICTED, 0.95


_NAMES_FOR_PASSWORDS: Final = frozenset({"password", "passwd", "pass", "pwd", "pw", "secret", "passwort", "postgres"})
"""What documentation writes in a password's place."""


def _authorization(text: str) -> Iterator[Hit]:
    for match in at_anchors(_AUTHORIZATION_ANCHOR, _AUTHORIZATION, text):
        secret = match[0].split(maxsplit=1)[1]
        if _is_drawn(secret, least_chars=12):
            yield match.end() - len(secret), match.end(), _RESTRICTED, 0.9


def _keys(text: str) -> Iterator[Hit]:
    for match in at_anchors(_KEY_ANCHOR, _KEY, text):
        value = match["value"].rstrip(".")
        before = text[max(0, match.start("name") - 16) : match.start("name")]
        if _NOT_A_SECRET_NAME.search(before) or _PLACEHOLDER.search(value):
            continue
        if _UUID.fullmatch(value) and "key" not in match["name"].lower():
            continue
        if _is_drawn(value, least_chars=16):
            yield match.start("value"), match.start("value") + len(value), _RESTRICTED, 0.85


def _is_drawn(value: str, *, least_chars: int) -> bool:
    """Whether characters follow each other as if drawn at random."""
    if len(value) < least_chars or not any(c.isdigit() for c in value) or not _LETTERS.search(value):
        return False
    if _SHOUTED.fullmatch(value):
        return False
    bits = entropy_bits(value)
    return bits >= _LEAST_BITS and bits * len(value) >= _LEAST_BITS_TOTAL and not _reads_as_words(value)


def _reads_as_words(value: str) -> bool:
    """Whether most of a value is words with separators, such as a path, a dotted name or a version."""
    words = re.findall(r"[A-Z]?[a-z]{3,}|[A-Z]{4,}(?![a-z])", value)
    return sum(map(len, words)) > 0.7 * len(value)


PASSWORDS: Final = (
    Detector("password", (r"[a-z]://[^\s/]{0,80}:[^\s/]{3,}@",), _login_urls, is_structural=True),
    Detector(
        "password",
        (
            "passw", "pwd", r"\bpw\b", "kennwort", "passphrase", "mot de passe", "contrase", "wachtwoord", "senha",
            "has[łl]o", "parola", "пароль", "密码", "パスワード",
        ),
        _passwords,
    ),
    Detector("api_key", (r"\b(?:basic|bearer)\s",), _authorization),
    Detector(
        "api_key",
        (
            r"key[\"'`\]]?\s{0,4}[:=]", r"(?:secret|token|credential)s?[\w\"'`\]-]{0,10}\s{0,4}[:=]",
            "(?:key|secret|token|credential) (?:is|to|lautet) ", "key_(?:value|v)", "schl(?:ü|ue)ssel",
        ),
        _keys,
    ),
)  # fmt: skip
