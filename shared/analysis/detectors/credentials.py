"""Credentials that are known by their form: private keys, signed tokens, keys and tokens of issuers.

The forms are those that issuers publish; beside their own pages two public lists were read: GitHub's supported secret
scanning patterns (https://docs.github.com/en/code-security/secret-scanning) and the rules of gitleaks
(https://github.com/gitleaks/gitleaks, MIT licence). The expressions are written here, none is copied.
"""

import re
from collections.abc import Iterator
from typing import Final

from shared.analysis.detectors.detector import Detector, Hit, matches
from shared.domain.security import SecurityLevel

_RESTRICTED: Final = SecurityLevel.RESTRICTED

_KEY_HEAD: Final = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_KEY_BODY: Final = re.compile(r"(?:[A-Za-z0-9+/=\s:,\-]|\\[nrt\\])*+", re.ASCII)
"""The lines of a key with its headers; inside JSON their ends are written as escapes."""
_MAX_KEY_CHARS: Final = 16 * 1024
_KEY_FOOT: Final = re.compile(r"-----END (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----")


def _private_keys(text: str) -> Iterator[Hit]:
    """From a key's first line to its last, or as far as what follows can be part of it."""
    end = 0
    for head in _KEY_HEAD.finditer(text):
        if head.start() < end:
            continue
        limit = head.end() + _MAX_KEY_CHARS
        foot = _KEY_FOOT.search(text, head.end(), limit)
        body = _KEY_BODY.match(text, head.end(), limit)
        end = head.end() if body is None else head.end() + len(body[0].rstrip())
        if foot is not None:
            end = foot.end()
        yield head.start(), max(end, head.end()), _RESTRICTED, 1.0


_MIXED: Final = re.compile(r"\A(?=[^0-9]*+[0-9])(?=[^A-Z]*+[A-Z]|sk-[0-9a-f]{32}\Z)")


def _sk_keys(text: str) -> Iterator[Hit]:
    """Keys that begin with ``sk-``; so do class names, which are not drawn from upper case, lower case and digits."""
    for match in _SK.finditer(text):
        if _SK_OWNER.match(match[0]) or _MIXED.match(match[0]):
            yield match.start(), match.end(), _RESTRICTED, 1.0


_SK: Final = re.compile(r"(?<![\w-])sk-[\w-]{20,255}+", re.ASCII)
"""OpenAI, Anthropic (``sk-ant-``), DeepSeek, OpenRouter and whoever took over the prefix."""
_SK_OWNER: Final = re.compile(r"sk-(?:proj|svcacct|admin|ant-[a-z]{3,8}[0-9]{2}|or-v1|lf)-")


def _issued(kind: str, triggers: tuple[str, ...], pattern: str, group: int = 0) -> Detector:
    """A detector for a form; the hit is one of its groups, where a name stands before the secret."""
    found = matches(re.compile(pattern, re.ASCII), _RESTRICTED, group=group)
    return Detector(kind, triggers, found, is_structural=True)


CREDENTIALS: Final = (
    Detector("private_key", ("-----BEGIN [A-Z0-9 ]*PRIVATE KEY",), _private_keys, is_structural=True),
    _issued("jwt", (r"eyJ[\w-]+\.eyJ",), r"(?<![\w-])eyJ[\w-]{8,4096}+\.eyJ[\w-]{8,8192}+\.[\w-]{16,4096}+"),
    _issued("aws_access_key", ("AKIA", "ASIA"), r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Za-z0-9])"),
    _issued(
        "aws_secret_key",
        ("secret_?access_?key",),
        r"(?:secret_access_key|SECRET_ACCESS_KEY|[sS]ecretAccessKey)[\"'\s:=>]{1,8}"
        r"([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+])",
        group=1,
    ),
    _issued("google_api_key", ("AIza", "GOCSPX-"), r"(?<![\w-])(?:AIza[\w-]{35}|GOCSPX-[\w-]{28})(?![\w-])"),
    _issued("google_oauth_token", (r"ya29\.",), r"(?<![\w-])ya29\.[\w-]{20,2048}+"),
    _issued(
        "azure_connection_string",
        ("AccountKey=", "SharedAccessKey="),
        r"(?:AccountKey|SharedAccessKey)=([A-Za-z0-9+/]{43,88}={0,2})",
        group=1,
    ),
    _issued("azure_sas", ("[?&]sig=",), r"[?&]sig=([A-Za-z0-9%+/]{40,100}(?:%3[dD]|=){0,2})", group=1),
    _issued(
        "github_token",
        ("gh[pousr]_[a-z0-9]", "github_pat_"),
        r"(?<!\w)(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_\w{22,255})",
    ),
    _issued(
        "gitlab_token",
        ("gl(?:pat|dt|rt|cbt|ptt|oas|soat|ft|imt|agent|ffct)-",),
        r"(?<![\w-])gl(?:pat|dt|rt|cbt|ptt|oas|soat|ft|imt|agent|ffct)-[\w-]{20,64}+",
    ),
    _issued(
        "slack_token",
        ("xox[abeprs]-", "xapp-", r"hooks\.slack\.com/services/"),
        r"(?<!\w)(?:xox[abeprs]-[A-Za-z0-9-]{10,255}|xapp-[0-9]-[A-Z0-9]{8,16}-[0-9]{8,16}-[a-f0-9]{32,128})"
        r"|hooks\.slack\.com/services/T[A-Z0-9]{6,14}/B[A-Z0-9]{6,14}/[A-Za-z0-9]{20,32}",
    ),
    Detector("api_key", (r"\bsk-[\w-]{20}",), _sk_keys, is_structural=True),
    _issued(
        "api_key",
        (
            "[sr]k_(?:live|test)_", "whsec_", "hf_[a-z]{30}", "gsk_", "npm_[a-z0-9]{30}", "pypi-AgE", r"SG\.[\w-]{20}",
            "dckr_pat_", "do[oprt]_v1_", "shp(?:at|ca|pa|ss)_", r"hvs\.", "gl(?:c|sa)_", "lin_api_", "figd_",
            "PMAK-", "NRAK-", "dapi[0-9a-f]{30}", "AGE-SECRET-KEY-1", "ATATT3", r"dp\.pt\.", "pul-[0-9a-f]{40}",
            "rubygems_[0-9a-f]{40}", "sntrys_", "sbp_[0-9a-f]{40}", "xai-[a-z0-9]{60}", "pplx-[a-z0-9]{40}",
            "r8_[a-z0-9]{36}", "ntn_[a-z0-9]{40}", r"[0-9]{8,10}:AA[\w-]{33}", r"[a-z0-9_~.]{3}[0-9]Q~",
            "AC[0-9a-f]{32}",
            "SK[0-9a-f]{32}",
        ),
        r"(?<![\w-])(?:[sr]k_(?:live|test)_[A-Za-z0-9]{16,255}"  # Stripe
        r"|whsec_[A-Za-z0-9+/]{24,64}=?"
        r"|hf_[A-Za-z]{30,40}"  # Hugging Face
        r"|gsk_[A-Za-z0-9]{48,60}|xai-[A-Za-z0-9]{60,90}|pplx-[A-Za-z0-9]{40,60}|r8_[A-Za-z0-9]{36,40}"
        r"|npm_[A-Za-z0-9]{36}|pypi-AgE[\w-]{50,255}|rubygems_[0-9a-f]{48}"
        r"|SG\.[\w-]{20,24}\.[\w-]{39,50}"  # SendGrid
        r"|(?:AC|SK)[0-9a-f]{32}"  # Twilio
        r"|dckr_pat_[\w-]{20,40}|do[oprt]_v1_[0-9a-f]{64}|dapi[0-9a-f]{32}(?:-[0-9])?"
        r"|shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}|hvs\.[\w-]{20,255}|gl(?:c|sa)_[\w+/=]{32,255}"
        r"|lin_api_[A-Za-z0-9]{40}|figd_[\w-]{36,64}|ntn_[A-Za-z0-9]{40,64}|PMAK-[0-9a-f]{24}-[0-9a-f]{34}"
        r"|NRAK-[A-Z0-9]{27}|AGE-SECRET-KEY-1[A-Z0-9]{58}|ATATT3[\w=-]{60,255}|dp\.pt\.[A-Za-z0-9]{40,44}"
        r"|pul-[0-9a-f]{40}|sntrys_[\w+/=-]{60,255}|sbp_[0-9a-f]{40}"
        r"|[0-9]{8,10}:AA[\w-]{33}"  # Telegram bots
        r"|[A-Za-z0-9_~.]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34})(?![\w-])",  # Entra client secrets
    ),
)  # fmt: skip
"""In the order in which they win where they overlap."""
