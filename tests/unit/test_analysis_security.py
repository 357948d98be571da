"""Sensitive content: what is found, at which level, exactly where, and what is left alone."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.analysis.detectors.injection import Source, signals
from shared.analysis.detectors.payments import iban_checksum, luhn
from shared.analysis.features import analyse
from shared.analysis.security import MAX_FINDINGS_PER_KIND, level_of, scan
from shared.domain.chat import (
    ChatRequest,
    MediaPart,
    Message,
    Modality,
    Role,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
)
from shared.domain.security import Finding, SecurityLevel

PUBLIC, INTERNAL, CONFIDENTIAL, RESTRICTED = SecurityLevel

# Put together at run time, so that no scanner of this repository takes them for real.
AWS_KEY = "AKIA" + "IOSFODNN7EXAMPLE"
GOOGLE_KEY = "AIza" + "SyA1234567890abcdefghijklmnopqrstuv"
GITHUB_TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
JWT = "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0" + ".dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"
PRIVATE_KEY = "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----"
AZURE = "DefaultEndpointsProtocol=https;AccountName=x;AccountKey=" + "A" * 86 + "=="

FOUND: list[tuple[str, str, str, SecurityLevel]] = [
    ("Mail me at jane.doe@acme.org please", "email", "jane.doe@acme.org", CONFIDENTIAL),
    ("user+tag@mail.co.uk.", "email", "user+tag@mail.co.uk", CONFIDENTIAL),
    ("(bob_smith@example.com)", "email", "bob_smith@example.com", CONFIDENTIAL),
    ("Write to support@acme.org", "email", "support@acme.org", INTERNAL),
    ("Call +49 30 901820 tomorrow", "phone", "+49 30 901820", CONFIDENTIAL),
    ("Call +1 (415) 555-2671", "phone", "+1 (415) 555-2671", CONFIDENTIAL),
    ("or (415) 555-2671", "phone", "(415) 555-2671", CONFIDENTIAL),
    ("or 415-555-2671!", "phone", "415-555-2671", CONFIDENTIAL),
    ("Tel: 030 1234567", "phone", "030 1234567", CONFIDENTIAL),
    ("mobile 0170/1234567", "phone", "0170/1234567", CONFIDENTIAL),
    ("card 4111 1111 1111 1111 exp 12/28", "card_number", "4111 1111 1111 1111", RESTRICTED),
    ("card 5555-5555-5555-4444", "card_number", "5555-5555-5555-4444", RESTRICTED),
    ("amex 378282246310005", "card_number", "378282246310005", RESTRICTED),
    ("amex 3782 822463 10005", "card_number", "3782 822463 10005", RESTRICTED),
    ("order 1234 4111 1111 1111 1111", "card_number", "4111 1111 1111 1111", RESTRICTED),
    ("IBAN DE89 3704 0044 0532 0130 00, BIC X", "iban", "DE89 3704 0044 0532 0130 00", CONFIDENTIAL),
    ("GB82WEST12345698765432", "iban", "GB82WEST12345698765432", CONFIDENTIAL),
    ("ES91 2100 0418 4502 0005 1332 PLEASE", "iban", "ES91 2100 0418 4502 0005 1332", CONFIDENTIAL),
    ("NO9386011117947", "iban", "NO9386011117947", CONFIDENTIAL),
    (PRIVATE_KEY, "private_key", PRIVATE_KEY, RESTRICTED),
    ("-----BEGIN " + "PRIVATE KEY-----", "private_key", "-----BEGIN " + "PRIVATE KEY-----", RESTRICTED),
    (f"Authorization: Bearer {JWT}", "jwt", JWT, RESTRICTED),
    (f"key={AWS_KEY};", "aws_access_key", AWS_KEY, RESTRICTED),
    ("aws_secret_access_key = " + "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "aws_secret_key", None, RESTRICTED),
    (f"?key={GOOGLE_KEY}", "google_api_key", GOOGLE_KEY, RESTRICTED),
    (AZURE, "azure_connection_string", "A" * 86 + "==", RESTRICTED),
    ("https://x.blob.core.windows.net/c?sv=1&sig=" + "a%2B" * 12, "azure_sas", None, RESTRICTED),
    (f"token: {GITHUB_TOKEN}", "github_token", GITHUB_TOKEN, RESTRICTED),
    ("xoxb-" + "123456789012-abcdefGHIJKL", "slack_token", None, RESTRICTED),
    ("OPENAI_API_KEY=sk-" + "proj-abcdefghijklmnopqrstuvwx", "api_key", None, RESTRICTED),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "kind", "value", "level"), FOUND, ids=[f"{case[1]}-{i}" for i, case in enumerate(FOUND)]
)
def test_found_where_it_stands(text: str, kind: str, value: str | None, level: SecurityLevel):
    hits = [finding for finding in scan(text, "here") if finding.kind == kind]
    assert len(hits) == 1, hits
    assert hits[0].level is level
    assert hits[0].location == "here"
    if value is not None:
        assert text[hits[0].start : hits[0].end] == value


LEFT_ALONE = [
    "The meeting is on 2026-11-23 at 10:30.",
    "card 4111 1111 1111 1112",
    "tracking number 1234567890123456",
    "0000 0000 0000 0000",
    "DE89 3704 0044 0532 0130 01",
    "GB82 WEST 1234 5698 7654 33",
    "ZZ82 WEST 1234 5698 7654 32",
    "version 1.2.3.4 of 10.0.0.1",
    "pip install react@18.2.0 and model claude@20251001",
    "@app.get('/x')  @property",
    "a @ b",
    "UUID 123e4567-e89b-12d3-a456-426614174000",
    "1,234,567.89 EUR and 3.14159265358979",
    "the AKIA prefix alone",
    "eyJ is how a token begins",
    "-----BEGIN CERTIFICATE-----",
    "risk-averse task-force",
    "order 20261123103000123 shipped",
    "",
]


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_left_alone(text: str):
    assert scan(text, "here") == []


def test_ten_role_addresses_are_an_address_book():
    few = " ".join(f"info@firm{n}.org" for n in range(9))
    many = " ".join(f"info@firm{n}.org" for n in range(40))
    assert {finding.level for finding in scan(few, "x")} == {INTERNAL}
    assert max(finding.level for finding in scan(many, "x")) is CONFIDENTIAL


def test_the_level_survives_the_limit_on_findings():
    text = " ".join(["info@acme.org"] * 5) + " " + " ".join(f"p{n}@acme.org" for n in range(100))
    found = scan(text, "x")
    assert len(found) == MAX_FINDINGS_PER_KIND
    assert level_of(found, None) is CONFIDENTIAL


def test_a_secret_in_the_middle_of_a_megabyte_is_found():
    text = "word " * 100_000 + AWS_KEY + " word" * 100_000
    features = analyse(ChatRequest((Message(Role.USER, (TextPart(text),)),)))
    assert features.security_level is RESTRICTED
    assert [(f.kind, f.start) for f in features.findings] == [("aws_access_key", 500_000)]


def test_every_text_of_a_request_is_read():
    secret = f"key {AWS_KEY} "
    request = ChatRequest(
        messages=(
            Message(Role.USER, (TextPart("hi"), TextPart(secret))),
            Message(Role.ASSISTANT, (ToolCallPart("1", "f", f'{{"k": "{AWS_KEY}"}}'),)),
            Message(Role.TOOL, (ToolResultPart("1", "f", secret),)),
            Message(Role.USER, (MediaPart(Modality.DOCUMENT, "text/csv", secret.encode()),)),
        ),
        system=secret,
        tools=(Tool("f", secret),),
    )
    assert [finding.location for finding in analyse(request).findings] == [
        "system", "tools[0].description", "messages[0].parts[1]", "messages[1].parts[0].arguments", "messages[2].parts[0]",
        "messages[3].parts[0]",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "label", "level"),
    [
        ("hello", None, PUBLIC),
        ("hello", CONFIDENTIAL, CONFIDENTIAL),
        (AWS_KEY, None, RESTRICTED),
        (AWS_KEY, PUBLIC, RESTRICTED),
        ("jane@acme.org", RESTRICTED, RESTRICTED),
        ("jane@acme.org", INTERNAL, CONFIDENTIAL),
    ],
)
def test_a_label_raises_and_never_lowers(text: str, label: SecurityLevel | None, level: SecurityLevel):
    request = ChatRequest((Message(Role.USER, (TextPart(text),)),))
    assert analyse(request, label=label).security_level is level


@given(st.lists(st.sampled_from(list(SecurityLevel))), st.none() | st.sampled_from(list(SecurityLevel)))
def test_the_level_is_the_highest_of_all(levels, label):
    findings = [Finding("k", level, "x", 0, 1) for level in levels]
    assert level_of(findings, label) == max([*levels, label or PUBLIC])


@given(st.text(max_size=300), st.sampled_from([case[0] for case in FOUND]), st.text(max_size=300))
@settings(max_examples=200)
def test_spans_lie_within_the_text_and_hold_no_value(before, secret, after):
    text = f"{before} {secret} {after}"
    for finding in scan(text, "x"):
        assert 0 <= finding.start < finding.end <= len(text)
        assert text[finding.start : finding.end] not in f"{finding.kind}{finding.location}{finding.level.label}"


@given(st.from_regex(r"[0-9]{12,18}", fullmatch=True))
def test_exactly_one_check_digit_satisfies_luhn(digits):
    assert sum(luhn(digits + str(check)) for check in range(10)) == 1


@given(st.from_regex(r"[A-Z0-9]{11,30}", fullmatch=True))
def test_iban_check_digits_can_be_computed_and_no_other_pair_holds(account):
    valid = [check for check in range(2, 99) if iban_checksum(f"DE{check:02d}{account}")]
    assert len(valid) == 1


HOSTILE = [
    "7", "4 ", "4444 ", "a@a.aa", "@", "eyJ", ".eyJaaaaaaaa", "GB82 ", "+1 ", "tel 12345678 ", "-----BEGIN ", "ghp_",
    "password is ", "password is" + " " * 500, "password: a1", "secret_key=", "token: aB3", "Via AAAAAAAAAAAAAAAAAAAAAAAA ",
    "12 Aaaaa Bbbbb Ccccc Street, ", "rue de la ", "born ", "dob 1.1.", "diabetes ", "patient has ", "ICD-10 ", "ssn 1-",
    "CONFIDENTIAL\n", "Classification: ", "\\u00", "%40", "&#6", "\u200b", "\uff21", "\u04301", "SWdub3Jl", "00", "a://b:ccc@", "Bearer a1",
    "ignore all ", "system: you ", "do not tell ", "![x](https://a?",
]  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE)
def test_hostile_repetition_is_read_to_the_end(unit: str):
    """Patterns are linear: a fifth of a megabyte of near misses ends well within the test's time limit."""
    text = unit * (200_000 // len(unit)) + " " + AWS_KEY
    assert any(finding.kind == "aws_access_key" for finding in scan(text, "x"))
    assert all(finding.confidence <= 1 for finding in signals(text, "x", Source.TOOL))
