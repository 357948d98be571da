"""The policy's words for the guard: read whole, refused by name."""

import json

import pytest
from pydantic import ValidationError

from shared.config import REGISTRY_DIRECTORY
from shared.domain.security import AnswerAction, ContentAction, SecurityLevel, SignalAction
from shared.stores.guard_schema import DetectionTable, GuardTable, detection_problems, guard_problems
from shared.stores.registry_files import RegistryError, load_policy, load_registry, parse_kept


def guard(**fields) -> GuardTable:
    return GuardTable.model_validate_json(json.dumps(fields))


def detection(**fields) -> DetectionTable:
    return DetectionTable.model_validate_json(json.dumps(fields))


def pattern(name="case", text="CF-[0-9]{4}", level="internal"):
    return {"name": name, "pattern": text, "level": level}


def test_everything_that_can_be_said():
    rules = guard(
        levels={"confidential": "redact", "restricted": "block"},
        kinds={"email": "route"},
        injection="block",
        injection_from=0.9,
        answer_secrets="redact",
        answer_leaks="flag",
        media_hosts=["cdn.acme.example", "*.acme.example"],
    ).to_domain()
    assert rules.levels == {
        SecurityLevel.CONFIDENTIAL: ContentAction.REDACT,
        SecurityLevel.RESTRICTED: ContentAction.BLOCK,
    }
    assert (rules.kinds, rules.injection_from) == ({"email": ContentAction.ROUTE}, 0.9)
    assert (rules.injection, rules.answer_secrets) == (SignalAction.BLOCK, AnswerAction.REDACT)
    assert rules.redacts
    assert rules.allows_host("CDN.acme.example")
    assert not rules.allows_host("acme.example")


def test_nothing_said_is_the_usual():
    rules = GuardTable().to_domain()
    assert (rules.injection, rules.answer_secrets, rules.answer_leaks) == (
        SignalAction.FLAG,
        AnswerAction.FLAG,
        AnswerAction.OFF,
    )
    assert not rules.redacts
    assert not rules.allows_host("example.com")


@pytest.mark.parametrize(
    "fields",
    [
        {"levels": {"secret": "block"}},
        {"levels": {"restricted": "drop"}},
        {"kinds": {"E-Mail": "block"}},
        {"injection": "redact"},
        {"injection_from": 0},
        {"media_hosts": ["https://acme.example"]},
        {"media_hosts": ["*"]},
        {"media_hosts": ["localhost"]},
        {"redact": True},
    ],
)
def test_words_that_mean_nothing(fields):
    with pytest.raises(ValidationError):
        guard(**fields)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"patterns": [pattern(text="(a")]}, "detection.patterns[case].pattern: RE2 refuses it: missing )"),
        ({"patterns": [pattern(text="(?=a)b")]}, "RE2 refuses it"),
        ({"patterns": [pattern(text=r"(a)\1")]}, "RE2 refuses it"),
        ({"patterns": [pattern(text="a{1,2000}")]}, "RE2 refuses it"),
        ({"patterns": [pattern(text="x*")]}, "matches the empty text"),
        ({"patterns": [pattern("email")]}, "detection.patterns[email].name: is a kind that the router knows already"),
        ({"patterns": [pattern(), pattern()]}, "detection.patterns[case].name: is given more than once"),
        ({"levels": {"emial": "public"}}, "detection.levels: there is no kind 'emial'"),
    ],
)
def test_what_is_wrong_with_what_is_looked_for(fields, problem):
    assert any(problem in found for found in detection_problems(detection(**fields)))


def test_what_is_wrong_with_what_is_done():
    known = detection(patterns=[pattern()])
    assert list(detection_problems(known)) == []
    assert list(guard_problems(guard(kinds={"case": "redact", "iban": "block"}), known)) == []
    found = list(guard_problems(guard(kinds={"other": "block", "declared_label": "redact"}), known))
    assert found == [
        "kinds: there is no kind 'other'",
        "kinds.declared_label: a marking cannot be redacted; the text would only seem harmless",
    ]


def test_a_policy_file_says_it_and_a_kept_policy_repeats_it(tmp_path):
    for file in REGISTRY_DIRECTORY.glob("*.toml"):
        (tmp_path / file.name).write_text(file.read_text())
    with (tmp_path / "policy.toml").open("a") as policy_file:
        policy_file.write(
            '\n[services.desk.guard]\nlevels = { confidential = "redact" }\n'
            '[[detection.patterns]]\nname = "case"\npattern = \'CF-\\d{4}\'\nlevel = "internal"\n'
        )
    registry = load_registry(tmp_path)
    policy = load_policy(tmp_path, registry=registry)
    assert policy.for_service("desk").guard.redacts
    assert policy.detection.patterns[0].pattern == r"CF-\d{4}"
    _, kept = parse_kept(registry.document, policy.document)
    assert (kept.detection, kept.services) == (policy.detection, policy.services)
    broken = (tmp_path / "policy.toml").read_text().replace("CF-", "(CF-")
    (tmp_path / "policy.toml").write_text(broken)
    with pytest.raises(RegistryError, match=r"detection.patterns\[case\].pattern: RE2 refuses it"):
        load_policy(tmp_path, registry=registry)
